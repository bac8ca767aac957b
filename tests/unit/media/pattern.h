/*
 * pattern.h - pictures drawn by a formula, the one of tests/golden/pictures/record_kernels.py.
 */
#ifndef FLOTILLA_TESTS_UNIT_MEDIA_PATTERN_H
#define FLOTILLA_TESTS_UNIT_MEDIA_PATTERN_H

#include <stdint.h>
#include <string.h>

/* kind: "smooth", "noise", or "sharp" (0 and 255 alone). */
static inline uint8_t pattern_byte(const char *kind, uint32_t x, uint32_t y, uint32_t c,
                                   uint32_t frame)
{
    if (strcmp(kind, "smooth") == 0) {
        return (uint8_t)((x * 3 + y * 5 + c * 40 + frame * 60) / 2 % 256);
    }
    uint32_t mixed = x * 73856093u ^ y * 19349663u ^ c * 83492791u ^ frame * 2654435u;
    uint8_t noise = (uint8_t)(mixed * 2654435761u >> 24);
    return strcmp(kind, "noise") == 0 ? noise : noise > 127 ? 255 : 0;
}

static inline void pattern_fill(uint8_t *rgb, const char *kind, int32_t width, int32_t height,
                                int32_t frame)
{
    for (int32_t y = 0; y < height; y++) {
        for (int32_t x = 0; x < width; x++) {
            for (int32_t c = 0; c < 3; c++) {
                *rgb++ = pattern_byte(kind, (uint32_t)x, (uint32_t)y, (uint32_t)c, (uint32_t)frame);
            }
        }
    }
}

#endif

/*
 * fuzz_picture.c - any bytes as a picture: refused with a sentence that begins with its name, or as
 * many pixels as the headers said and the limit allows, which can be resized.
 *
 * A PNG's checksums are put right first, or nothing behind them would ever be reached.
 */
#include "common/check.h"
#include "coordinator/media/picture.h"
#include "coordinator/media/resize.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PIXELS_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void repair_checksums(uint8_t *png, size_t size)
{
    for (size_t at = 8; size >= 12 && at <= size - 12;) {
        size_t n = big_endian(png + at);
        if (n > size - 12 - at) {
            return;
        }
        uint32_t sum = (uint32_t)crc32(0, png + at + 4, (uInt)n + 4);
        for (int32_t i = 0; i < 4; i++) {
            png[at + 8 + n + (size_t)i] = (uint8_t)(sum >> (24 - 8 * i));
        }
        at += 12 + n;
    }
}

static void resize(const picture *p)
{
    int32_t width, height;
    flo_err err;
    resizer *r = NULL;
    if (resize_target(&width, &height, p->width, p->height, 32, 1024, 16384, &err) != FLO_OK) {
        return;
    }
    uint8_t *out = malloc((size_t)width * (size_t)height * 3);
    CHECK(out != NULL && width % 32 == 0 && height % 32 == 0);
    CHECK(resizer_new(&r, p->width, p->height, width, height, &err) == FLO_OK);
    resizer_run(r, out, p->rgb, (size_t)p->width * 3);
    resizer_free(r);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size + (size == 0)); /* the exact size: reading past it is seen */
    CHECK(bytes != NULL);
    memcpy(bytes, data, size);
    if (size > 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0) {
        repair_checksums(bytes, size);
    }
    picture p = {0};
    int32_t width = 0, height = 0;
    flo_err err = {""};
    flo_code sized = picture_size(&width, &height, bytes, size, "x", &err);
    flo_code code = picture_decode(&p, bytes, size, "x", PIXELS_MAX, &err);
    if (code == FLO_OK) {
        CHECK(sized == FLO_OK && p.width == width && p.height == height);
        CHECK((uint64_t)p.width * (uint64_t)p.height <= PIXELS_MAX);
        resize(&p);
    } else {
        CHECK(p.rgb == NULL && strncmp(err.text, "x: ", 3) == 0);
    }
    picture_free(&p);
    free(bytes);
    return 0;
}

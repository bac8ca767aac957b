/*
 * bf16.h - the upper half of an f32: the stored form of weights.
 */
#ifndef FLOTILLA_WORKER_KERNELS_BF16_H
#define FLOTILLA_WORKER_KERNELS_BF16_H

#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

/* Exact. */
static inline float bf16_to_f32(bf16 b)
{
    uint32_t bits = (uint32_t)b << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

#endif

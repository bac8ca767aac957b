/*
 * entrywise.h - kernels whose entries do not meet, written once (inside worker/kernels/ only).
 *
 * Each instruction set compiles these loops with its own flags and the compiler spreads them over
 * its registers; as nothing is summed across entries and nothing is fused but what fmaf says, all
 * give the bits of the plain ones.
 */
#ifndef FLOTILLA_WORKER_KERNELS_ENTRYWISE_H
#define FLOTILLA_WORKER_KERNELS_ENTRYWISE_H

#include "worker/kernels/bf16.h"

#include <math.h>

static inline void axpy_entries(float *restrict y, float a, const float *restrict x, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = fmaf(a, x[i], y[i]);
    }
}

static inline void add_entries(float *restrict y, const float *restrict x, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = y[i] + x[i];
    }
}

static inline void rope_entries(float *restrict low, float *restrict high,
                                const float *restrict cos, const float *restrict sin, int32_t half)
{
    for (int32_t i = 0; i < half; i++) {
        float a = low[i];
        float b = high[i];
        low[i] = a * cos[i] - b * sin[i];
        high[i] = b * cos[i] + a * sin[i];
    }
}

static inline void bf16_widen_entries(float *restrict out, const bf16 *restrict row, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        bf16 stored;
        memcpy(&stored, row + i, sizeof stored);
        out[i] = bf16_to_f32(stored);
    }
}

/* The four public functions of one instruction set. */
#define DEFINE_ENTRYWISE(suffix)                                                                   \
    void axpy_##suffix(float *y, float a, const float *x, int32_t n)                               \
    {                                                                                              \
        axpy_entries(y, a, x, n);                                                                  \
    }                                                                                              \
    void add_##suffix(float *y, const float *x, int32_t n)                                         \
    {                                                                                              \
        add_entries(y, x, n);                                                                      \
    }                                                                                              \
    void rope_rotate_##suffix(float *x, const float *cos, const float *sin, int32_t half)          \
    {                                                                                              \
        rope_entries(x, x + half, cos, sin, half);                                                 \
    }                                                                                              \
    void bf16_widen_##suffix(float *out, const bf16 *row, int32_t n)                               \
    {                                                                                              \
        bf16_widen_entries(out, row, n);                                                           \
    }

#endif

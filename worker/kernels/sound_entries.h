/*
 * sound_entries.h - those of the vocoder's kernels whose entries do not meet, written once (inside
 * worker/kernels/ only).
 *
 * As in entrywise.h: each instruction set compiles these loops with its own flags, and nothing is
 * fused but what fmaf says, so all give the bits of the plain ones.
 *
 * n may be off by a quarter where z is largest, as z / pi is rounded, so |r| reaches 1.82. The
 * polynomial's coefficients minimise the largest relative error of the sine up to there (reweighted
 * least squares in f64, each rounded before the next were fitted again): 8e-10, a seventieth of u.
 * pi is the sum of three f32, whose products with n are exact inside fmaf.
 */
#ifndef FLOTILLA_WORKER_KERNELS_SOUND_ENTRIES_H
#define FLOTILLA_WORKER_KERNELS_SOUND_ENTRIES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define SINE_END 0x1p+23f
#define SINE_PER_PI 0x1.45f306p-2f
#define SINE_ROUNDER 0x1.8p+23f /* adding it leaves a whole number in the low bits */
#define SINE_PI_HIGH 0x1.921fb6p+1f
#define SINE_PI_MIDDLE -0x1.777a5cp-24f
#define SINE_PI_LOW -0x1.ee59dap-49f
#define SINE_C3 -0x1.555556p-3f
#define SINE_C5 0x1.111126p-7f
#define SINE_C7 -0x1.a01c38p-13f
#define SINE_C9 0x1.71b520p-19f
#define SINE_C11 -0x1.9ca3e2p-26f

static inline float sine_squared_entry(float z)
{
    float n = fmaf(z, SINE_PER_PI, SINE_ROUNDER) - SINE_ROUNDER;
    float r = fmaf(n, -SINE_PI_HIGH, z);
    r = fmaf(n, -SINE_PI_MIDDLE, r);
    r = fmaf(n, -SINE_PI_LOW, r);
    float r2 = r * r;
    float p = fmaf(SINE_C11, r2, SINE_C9);
    p = fmaf(p, r2, SINE_C7);
    p = fmaf(p, r2, SINE_C5);
    p = fmaf(p, r2, SINE_C3);
    float s = fmaf(p * r2, r, r);
    return fabsf(z) >= SINE_END ? 0.0f : s * s;
}

static inline void snake_entries(float *out, const float *x, const float *restrict a,
                                 const float *restrict b, int32_t n)
{
#pragma GCC ivdep /* out is x or apart from it */
    for (int32_t i = 0; i < n; i++) {
        out[i] = fmaf(sine_squared_entry(x[i] * a[i]), b[i], x[i]);
    }
}

static inline void channel_taps_entries(float *restrict out, const float *restrict x,
                                        const float *restrict w, const float *restrict bias,
                                        int32_t n_taps, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        out[i] = bias[i];
    }
    for (int32_t j = 0; j < n_taps; j++) {
        const float *wj = w + (size_t)j * (size_t)n, *xj = x + (size_t)j * (size_t)n;
        for (int32_t i = 0; i < n; i++) {
            out[i] = fmaf(wj[i], xj[i], out[i]);
        }
    }
}

static inline void scaled_add_entries(float *restrict y, const float *restrict scale,
                                      const float *restrict x, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        y[i] = fmaf(scale[i], x[i], y[i]);
    }
}

static inline void clamp_entries(float *out, const float *x, int32_t n)
{
#pragma GCC ivdep /* out is x or apart from it */
    for (int32_t i = 0; i < n; i++) {
        float low = x[i] < -1.0f ? -1.0f : x[i];
        out[i] = low > 1.0f ? 1.0f : low;
    }
}

/* The public functions of one instruction set. */
#define DEFINE_SOUND_ENTRIES(suffix)                                                               \
    void snake_##suffix(float *out, const float *x, const float *a, const float *b, int32_t n)     \
    {                                                                                              \
        snake_entries(out, x, a, b, n);                                                            \
    }                                                                                              \
    void channel_taps_##suffix(float *out, const float *x, const float *w, const float *bias,      \
                               int32_t n_taps, int32_t n)                                          \
    {                                                                                              \
        channel_taps_entries(out, x, w, bias, n_taps, n);                                          \
    }                                                                                              \
    void scaled_add_##suffix(float *y, const float *scale, const float *x, int32_t n)              \
    {                                                                                              \
        scaled_add_entries(y, scale, x, n);                                                        \
    }                                                                                              \
    void clamp_##suffix(float *out, const float *x, int32_t n)                                     \
    {                                                                                              \
        clamp_entries(out, x, n);                                                                  \
    }

#endif

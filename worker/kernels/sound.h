/*
 * sound.h - kernels of the vocoder: a periodic activation, convolutions of single channels, the
 * last step to samples. The contract for all variants.
 *
 * All variants give the same bits (only the sign and payload of a NaN are open). n may be 0; no
 * alignment is asked for. Buffers overlap only where it is said.
 */
#ifndef FLOTILLA_WORKER_KERNELS_SOUND_H
#define FLOTILLA_WORKER_KERNELS_SOUND_H

#include <stddef.h>
#include <stdint.h>

/* sin(z)^2 in f32, the definition that every variant follows step by step: within 11 u of itself (u
 * = 2^-24) for an argument that is off by 2^-49 |z| at most. From 2^23 on neighbouring arguments
 * are a radian or more apart and say nothing about the place in a period: there it is 0, also at
 * infinity. NaN stays NaN.
 *
 * n is z / pi to the nearest whole number (ties to even), r = z - n pi in three fused steps, s = r
 * + r^3 (C3 + r^2 (C5 + ... r^2 C11)), fused from the inside out; the sign that n decides is lost
 * in the square. Constants: sound_entries.h. */
float sine_squared_f32(float z);

/* out[i] = x[i] + sin(x[i] a[i])^2 b[i], the last product and sum fused; out may be x. Source:
 * SnakeBeta, modeling_qwen3_omni_moe.py, with a = e^alpha and b = 1 / (e^beta + 1e-9). */
typedef void snake_fn(float *out, const float *x, const float *a, const float *b, int32_t n);

/* out[i] = bias[i], then fmaf(w[j][i], x[j][i], out[i]) for j = 0 .. n_taps - 1 in order: one time
 * step of n channels that do not meet. w and x [n_taps][n]. */
typedef void channel_taps_fn(float *out, const float *x, const float *w, const float *bias,
                             int32_t n_taps, int32_t n);

/* y[i] = fmaf(scale[i], x[i], y[i]). */
typedef void scaled_add_fn(float *y, const float *scale, const float *x, int32_t n);

/* out[m] = bias + x[m * stride + 0 .. n) . w, summed in 16 lanes as vector.h has it, for m in [0,
 * n_rows): rows may overlap. */
typedef void dot_rows_fn(float *out, const float *x, size_t stride, int32_t n_rows, const float *w,
                         int32_t n, float bias);

/* out[i] = x[i] held to [-1, 1]; NaN stays NaN. out may be x. */
typedef void clamp_fn(float *out, const float *x, int32_t n);

snake_fn snake_ref, snake_avx2, snake_avx512;
channel_taps_fn channel_taps_ref, channel_taps_avx2, channel_taps_avx512;
scaled_add_fn scaled_add_ref, scaled_add_avx2, scaled_add_avx512;
dot_rows_fn dot_rows_ref, dot_rows_avx2, dot_rows_avx512;
clamp_fn clamp_ref, clamp_avx2, clamp_avx512;

#endif

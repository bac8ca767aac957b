/*
 * vector.h - kernels on rows of f32: norm, activation, softmax, scaled sums. The contract for all variants.
 *
 * Sums over a row of n run in 16 lanes: lane j takes the entries k with k mod 16 = j in rising order
 * (fmaf for products), then lanes are added as a tree: j + (j + 8), then + 4, + 2, + 1. Every variant
 * follows this order and the same polynomial for exp, so all give the same bits.
 */
#ifndef FLOTILLA_WORKER_KERNELS_VECTOR_H
#define FLOTILLA_WORKER_KERNELS_VECTOR_H

#include <stddef.h>
#include <stdint.h>

/* exp(x) in f32, the definition that every variant follows step by step: within 2 ulp of the exact
 * value for x in [-87, 88], 0 below -103.97, +inf above 88.72; NaN stays NaN. */
float exp_f32(float x);

/* out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]; out may be x. */
typedef void rms_norm_fn(float *out, const float *x, const float *weight, int32_t n, float eps);

/* out[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + exp(-z)); out may be gate. */
typedef void silu_mul_fn(float *out, const float *gate, const float *up, int32_t n);

/* x[i] = exp(x[i] - max x) / sum; -inf entries give 0. n >= 1 and one entry finite. */
typedef void softmax_fn(float *x, int32_t n);

/* y[i] = fmaf(a, x[i], y[i]). */
typedef void axpy_fn(float *y, float a, const float *x, int32_t n);

rms_norm_fn rms_norm_ref, rms_norm_avx2, rms_norm_avx512;
silu_mul_fn silu_mul_ref, silu_mul_avx2, silu_mul_avx512;
softmax_fn softmax_ref, softmax_avx2, softmax_avx512;
axpy_fn axpy_ref, axpy_avx2, axpy_avx512;

#endif

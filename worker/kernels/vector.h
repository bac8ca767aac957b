/*
 * vector.h - kernels on rows of f32: norm, activation, softmax, scaled sums. The contract for all
 * variants.
 *
 * Sums over a row of n run in 16 lanes: lane j takes the entries k with k mod 16 = j in rising
 * order (fmaf for products), then lanes are added as a tree: j + (j + 8), then + 4, + 2, + 1. Every
 * variant follows this order and the same polynomial for exp, so all give the same bits (only the
 * sign and payload of a NaN are open). n may be 0 unless said otherwise; no alignment is asked for.
 * Buffers overlap only where it is said.
 */
#ifndef FLOTILLA_WORKER_KERNELS_VECTOR_H
#define FLOTILLA_WORKER_KERNELS_VECTOR_H

#include "worker/kernels/bf16.h"

#include <stdbool.h>
#include <stdint.h>

/* exp(x) in f32, the definition that every variant follows step by step: within 1 ulp of the exact
 * value for x in [-87, 88], 0 below -103.98, +inf above 88.73; NaN stays NaN.
 *
 * x is held to [-104, 89]; n is x / ln 2 to the nearest whole number (ties to even); r = x - n ln 2
 * in two fused steps; p = 1 + r (1 + r (C2 + r (C3 + ... r C6))), fused from the inside out; the
 * result is p * 2^n, rounded once where it is subnormal. Constants: exp.h. */
float exp_f32(float x);

/* out[i] = (x[i] * s) * weight[i] with s = 1 / sqrt(sum of x^2 / n + eps); out may be x. */
typedef void rms_norm_fn(float *out, const float *x, const float *weight, int32_t n, float eps);

/* out[i] = silu(gate[i]) * up[i], silu(z) = z / (1 + exp(-z)); out may be gate or up. */
typedef void silu_mul_fn(float *out, const float *gate, const float *up, int32_t n);

/* x[i] = exp(x[i] - max x) / sum; -inf entries give 0. n >= 1 and one entry finite. */
typedef void softmax_fn(float *x, int32_t n);

/* out[i] = ((x[i] - mean) * s) * weight[i] + bias[i], mean = sum of x / n, s = 1 / sqrt(sum of
 * (x - mean)^2 / n + eps), both sums in lanes, the last product and sum fused; out may be x. n is
 * at least 1. */
typedef void layer_norm_fn(float *out, const float *x, const float *weight, const float *bias,
                           int32_t n, float eps);

/* The GELUs of one finite number, the definitions that every variant follows step by step.
 *   erf:  x/2 (1 + erf(x / sqrt 2)), as h = x/2 erfc(|x| / sqrt 2) and x - h or h: within 1e-7 |x|
 *   tanh: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as x / (1 + exp(-2 sqrt(2/pi) (...))),
 *         which is the same
 * Constants: gelu.h. */
float gelu_erf_f32(float x);
float gelu_tanh_f32(float x);

/* x[i] = gelu(x[i] + bias[i]); bias may be NULL. */
typedef void gelu_fn(float *x, const float *bias, int32_t n);

/* y[i] = fmaf(a, x[i], y[i]). */
typedef void axpy_fn(float *y, float a, const float *x, int32_t n);

/* y[i] = y[i] + x[i]. */
typedef void add_fn(float *y, const float *x, int32_t n);

/* Turns one head of 2 * half entries in place, pairs (i, i + half):
 *     a = x[i], b = x[i + half];  x[i] = a cos[i] - b sin[i];  x[i + half] = b cos[i] + a sin[i]
 * The four products are rounded first, then each difference or sum: nothing is fused, which is what
 * the reference implementation computes, bit for bit. cos and sin have `half` entries each. */
typedef void rope_rotate_fn(float *x, const float *cos, const float *sin, int32_t half);

/* out[i] = the stored value, exact: an embedding row. row need not be aligned. */
typedef void bf16_widen_fn(float *out, const bf16 *row, int32_t n);

layer_norm_fn layer_norm_ref, layer_norm_avx2, layer_norm_avx512;
gelu_fn gelu_erf_ref, gelu_erf_avx2, gelu_erf_avx512;
gelu_fn gelu_tanh_ref, gelu_tanh_avx2, gelu_tanh_avx512;
rms_norm_fn rms_norm_ref, rms_norm_avx2, rms_norm_avx512;
silu_mul_fn silu_mul_ref, silu_mul_avx2, silu_mul_avx512;
softmax_fn softmax_ref, softmax_avx2, softmax_avx512;
axpy_fn axpy_ref, axpy_avx2, axpy_avx512;
add_fn add_ref, add_avx2, add_avx512;
rope_rotate_fn rope_rotate_ref, rope_rotate_avx2, rope_rotate_avx512;
bf16_widen_fn bf16_widen_ref, bf16_widen_avx2, bf16_widen_avx512;

/* The k largest of n probabilities, ties to the lower id, by falling probability into ids[k] and
 * weights[k]. normalise: each weight is divided by their sum, added in f32 in that order. 1 <= k <=
 * n. NaN probabilities come out as NaN weights; ids are k different ones in [0, n) whatever the
 * input. */
void router_top_k(float *weights, int32_t *ids, const float *probabilities, int32_t n, int32_t k,
                  bool normalise);

#endif

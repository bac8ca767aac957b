/*
 * vector_avx2.c - kernels on rows of f32 with 256-bit registers (AVX2, FMA).
 *
 * Two registers are the sixteen lanes of the definition. What is left at a row's end is done entry
 * by entry, as the definition does it.
 */
#include "worker/kernels/vector.h"

#include "worker/kernels/entrywise.h"
#include "worker/kernels/gelu.h"
#include "worker/kernels/lanes.h"
#include "worker/kernels/vector_avx2.h"

DEFINE_ENTRYWISE(avx2)

void rms_norm_avx2(float *out, const float *x, const float *weight, int32_t n, float eps)
{
    __m256 low = _mm256_setzero_ps();
    __m256 high = _mm256_setzero_ps();
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256 a = _mm256_loadu_ps(x + i);
        __m256 b = _mm256_loadu_ps(x + i + LANES8);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    float lanes[LANES];
    _mm256_storeu_ps(lanes, low);
    _mm256_storeu_ps(lanes + LANES8, high);
    for (; i < n; i++) {
        lanes[i % LANES] = fmaf(x[i], x[i], lanes[i % LANES]);
    }
    float scale = 1.0f / sqrtf(lanes_total(lanes) / (float)n + eps);
    for (i = 0; i + LANES8 <= n; i += LANES8) {
        __m256 entry = _mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(scale));
        _mm256_storeu_ps(out + i, _mm256_mul_ps(entry, _mm256_loadu_ps(weight + i)));
    }
    for (; i < n; i++) {
        out[i] = x[i] * scale * weight[i];
    }
}

/* The mean of a row. */
static float row_mean(const float *x, int32_t n)
{
    __m256 low = _mm256_setzero_ps();
    __m256 high = _mm256_setzero_ps();
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        low = _mm256_add_ps(low, _mm256_loadu_ps(x + i));
        high = _mm256_add_ps(high, _mm256_loadu_ps(x + i + LANES8));
    }
    float lanes[LANES];
    _mm256_storeu_ps(lanes, low);
    _mm256_storeu_ps(lanes + LANES8, high);
    for (; i < n; i++) {
        lanes[i % LANES] += x[i];
    }
    return lanes_total(lanes) / (float)n;
}

/* The sum of its squared distances from there. */
static float row_spread(const float *x, float mean, int32_t n)
{
    const __m256 middle = _mm256_set1_ps(mean);
    __m256 low = _mm256_setzero_ps();
    __m256 high = _mm256_setzero_ps();
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256 a = _mm256_sub_ps(_mm256_loadu_ps(x + i), middle);
        __m256 b = _mm256_sub_ps(_mm256_loadu_ps(x + i + LANES8), middle);
        low = _mm256_fmadd_ps(a, a, low);
        high = _mm256_fmadd_ps(b, b, high);
    }
    float lanes[LANES];
    _mm256_storeu_ps(lanes, low);
    _mm256_storeu_ps(lanes + LANES8, high);
    for (; i < n; i++) {
        float off = x[i] - mean;
        lanes[i % LANES] = fmaf(off, off, lanes[i % LANES]);
    }
    return lanes_total(lanes);
}

void layer_norm_avx2(float *out, const float *x, const float *weight, const float *bias, int32_t n,
                     float eps)
{
    float mean = row_mean(x, n);
    float scale = 1.0f / sqrtf(row_spread(x, mean, n) / (float)n + eps);
    int32_t i = 0;
    for (; i + LANES8 <= n; i += LANES8) {
        __m256 off = _mm256_sub_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(mean));
        __m256 y = _mm256_fmadd_ps(_mm256_mul_ps(off, _mm256_set1_ps(scale)),
                                   _mm256_loadu_ps(weight + i), _mm256_loadu_ps(bias + i));
        _mm256_storeu_ps(out + i, y);
    }
    for (; i < n; i++) {
        out[i] = fmaf((x[i] - mean) * scale, weight[i], bias[i]);
    }
}

static __m256 gelu_erf_lanes(__m256 x)
{
    const __m256 end = _mm256_set1_ps(GELU_ERF_END);
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 z = _mm256_mul_ps(_mm256_andnot_ps(sign, x), _mm256_set1_ps(GELU_SQRT_HALF));
    __m256 past = _mm256_cmp_ps(z, end, _CMP_GT_OQ);
    __m256 held = _mm256_blendv_ps(z, end, past);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(GELU_C7), held, _mm256_set1_ps(GELU_C6));
    p = _mm256_fmadd_ps(p, held, _mm256_set1_ps(GELU_C5));
    p = _mm256_fmadd_ps(p, held, _mm256_set1_ps(GELU_C4));
    p = _mm256_fmadd_ps(p, held, _mm256_set1_ps(GELU_C3));
    p = _mm256_fmadd_ps(p, held, _mm256_set1_ps(GELU_C2));
    p = _mm256_fmadd_ps(p, held, _mm256_set1_ps(GELU_C1));
    p = _mm256_fmadd_ps(p, held, _mm256_set1_ps(GELU_C0));
    __m256 e = _mm256_andnot_ps(past, exp_avx2(_mm256_xor_ps(_mm256_mul_ps(p, held), sign)));
    __m256 half = _mm256_mul_ps(_mm256_set1_ps(0.5f), x);
    __m256 above = _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ);
    return _mm256_blendv_ps(_mm256_mul_ps(half, e), _mm256_fnmadd_ps(half, e, x), above);
}

static __m256 gelu_tanh_lanes(__m256 x)
{
    __m256 inner = _mm256_fmadd_ps(_mm256_set1_ps(GELU_TANH_3), _mm256_mul_ps(x, x),
                                   _mm256_set1_ps(GELU_TANH_1));
    __m256 e = exp_avx2(_mm256_mul_ps(x, inner));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

static __m256 with_bias(const float *x, const float *bias)
{
    __m256 entry = _mm256_loadu_ps(x);
    return bias != NULL ? _mm256_add_ps(entry, _mm256_loadu_ps(bias)) : entry;
}

void gelu_erf_avx2(float *x, const float *bias, int32_t n)
{
    int32_t i = 0;
    for (; i + LANES8 <= n; i += LANES8) {
        __m256 entry = with_bias(x + i, bias != NULL ? bias + i : NULL);
        _mm256_storeu_ps(x + i, gelu_erf_lanes(entry));
    }
    gelu_erf_ref(x + i, bias != NULL ? bias + i : NULL, n - i);
}

void gelu_tanh_avx2(float *x, const float *bias, int32_t n)
{
    int32_t i = 0;
    for (; i + LANES8 <= n; i += LANES8) {
        __m256 entry = with_bias(x + i, bias != NULL ? bias + i : NULL);
        _mm256_storeu_ps(x + i, gelu_tanh_lanes(entry));
    }
    gelu_tanh_ref(x + i, bias != NULL ? bias + i : NULL, n - i);
}

void silu_mul_avx2(float *out, const float *gate, const float *up, int32_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 sign = _mm256_set1_ps(-0.0f);
    int32_t i = 0;
    for (; i + LANES8 <= n; i += LANES8) {
        __m256 z = _mm256_loadu_ps(gate + i);
        __m256 below = _mm256_add_ps(one, exp_avx2(_mm256_xor_ps(z, sign)));
        __m256 result = _mm256_mul_ps(_mm256_div_ps(z, below), _mm256_loadu_ps(up + i));
        _mm256_storeu_ps(out + i, result);
    }
    for (; i < n; i++) {
        out[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
    }
}

static float row_max(const float *x, int32_t n)
{
    __m256 lanes = _mm256_set1_ps(x[0]);
    int32_t i = 0;
    for (; i + LANES8 <= n; i += LANES8) {
        lanes = _mm256_max_ps(_mm256_loadu_ps(x + i), lanes);
    }
    float max = max_avx2(lanes);
    for (; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    return max;
}

/* x[i] = exp(x[i] - max); returns their sum. */
static float row_exp(float *x, int32_t n, float max)
{
    const __m256 top = _mm256_set1_ps(max);
    __m256 low = _mm256_setzero_ps();
    __m256 high = _mm256_setzero_ps();
    int32_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        __m256 a = exp_avx2(_mm256_sub_ps(_mm256_loadu_ps(x + i), top));
        __m256 b = exp_avx2(_mm256_sub_ps(_mm256_loadu_ps(x + i + LANES8), top));
        _mm256_storeu_ps(x + i, a);
        _mm256_storeu_ps(x + i + LANES8, b);
        low = _mm256_add_ps(low, a);
        high = _mm256_add_ps(high, b);
    }
    float lanes[LANES];
    _mm256_storeu_ps(lanes, low);
    _mm256_storeu_ps(lanes + LANES8, high);
    for (; i < n; i++) {
        x[i] = exp_f32(x[i] - max);
        lanes[i % LANES] += x[i];
    }
    return lanes_total(lanes);
}

void softmax_avx2(float *x, int32_t n)
{
    float sum = row_exp(x, n, row_max(x, n));
    int32_t i = 0;
    for (; i + LANES8 <= n; i += LANES8) {
        _mm256_storeu_ps(x + i, _mm256_div_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(sum)));
    }
    for (; i < n; i++) {
        x[i] = x[i] / sum;
    }
}

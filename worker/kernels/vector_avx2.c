/*
 * vector_avx2.c - kernels on rows of f32 with 256-bit registers (AVX2, FMA).
 *
 * Two registers are the sixteen lanes of the definition. What is left at a row's end is done entry
 * by entry, as the definition does it.
 */
#include "worker/kernels/vector.h"

#include "worker/kernels/entrywise.h"
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

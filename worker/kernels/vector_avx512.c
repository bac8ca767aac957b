/*
 * vector_avx512.c - kernels on rows of f32 with 512-bit registers (AVX-512 F, DQ).
 *
 * A register is the sixteen lanes of the definition; a short last step is masked, which leaves the
 * lanes past the end as they were.
 */
#include "worker/kernels/vector.h"

#include "worker/kernels/entrywise.h"
#include "worker/kernels/vector_avx512.h"

DEFINE_ENTRYWISE(avx512)

void rms_norm_avx512(float *out, const float *x, const float *weight, int32_t n, float eps)
{
    __m512 squares = _mm512_setzero_ps();
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        __m512 entry = _mm512_maskz_loadu_ps(there, x + i);
        squares = _mm512_mask3_fmadd_ps(entry, entry, squares, there);
    }
    float scale = 1.0f / sqrtf(total_avx512(squares) / (float)n + eps);
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        __m512 entry = _mm512_mul_ps(_mm512_maskz_loadu_ps(there, x + i), _mm512_set1_ps(scale));
        entry = _mm512_mul_ps(entry, _mm512_maskz_loadu_ps(there, weight + i));
        _mm512_mask_storeu_ps(out + i, there, entry);
    }
}

void silu_mul_avx512(float *out, const float *gate, const float *up, int32_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 sign = _mm512_set1_ps(-0.0f);
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        __m512 z = _mm512_maskz_loadu_ps(there, gate + i);
        __m512 below = _mm512_add_ps(one, exp_avx512(_mm512_xor_ps(z, sign)));
        __m512 result =
            _mm512_mul_ps(_mm512_div_ps(z, below), _mm512_maskz_loadu_ps(there, up + i));
        _mm512_mask_storeu_ps(out + i, there, result);
    }
}

void softmax_avx512(float *x, int32_t n)
{
    __m512 max = _mm512_set1_ps(x[0]);
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        max = _mm512_mask_max_ps(max, there, _mm512_maskz_loadu_ps(there, x + i), max);
    }
    const __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(max));
    __m512 sums = _mm512_setzero_ps();
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        __m512 e = exp_avx512(_mm512_sub_ps(_mm512_maskz_loadu_ps(there, x + i), top));
        sums = _mm512_mask_add_ps(sums, there, sums, e);
        _mm512_mask_storeu_ps(x + i, there, e);
    }
    const __m512 sum = _mm512_set1_ps(total_avx512(sums));
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        _mm512_mask_storeu_ps(x + i, there,
                              _mm512_div_ps(_mm512_maskz_loadu_ps(there, x + i), sum));
    }
}

/*
 * vector_avx512.c - kernels on rows of f32 with 512-bit registers (AVX-512 F, DQ).
 *
 * A register is the sixteen lanes of the definition; a short last step is masked, which leaves the
 * lanes past the end as they were.
 */
#include "worker/kernels/vector.h"

#include "worker/kernels/entrywise.h"
#include "worker/kernels/gelu.h"
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

void layer_norm_avx512(float *out, const float *x, const float *weight, const float *bias,
                       int32_t n, float eps)
{
    __m512 sums = _mm512_setzero_ps();
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        sums = _mm512_mask_add_ps(sums, there, sums, _mm512_maskz_loadu_ps(there, x + i));
    }
    const __m512 mean = _mm512_set1_ps(total_avx512(sums) / (float)n);
    __m512 squares = _mm512_setzero_ps();
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        __m512 off = _mm512_sub_ps(_mm512_maskz_loadu_ps(there, x + i), mean);
        squares = _mm512_mask3_fmadd_ps(off, off, squares, there);
    }
    const __m512 scale = _mm512_set1_ps(1.0f / sqrtf(total_avx512(squares) / (float)n + eps));
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        __m512 off = _mm512_sub_ps(_mm512_maskz_loadu_ps(there, x + i), mean);
        __m512 y =
            _mm512_fmadd_ps(_mm512_mul_ps(off, scale), _mm512_maskz_loadu_ps(there, weight + i),
                            _mm512_maskz_loadu_ps(there, bias + i));
        _mm512_mask_storeu_ps(out + i, there, y);
    }
}

static __m512 gelu_erf_lanes(__m512 x)
{
    const __m512 end = _mm512_set1_ps(GELU_ERF_END);
    __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(GELU_SQRT_HALF));
    __mmask16 past = _mm512_cmp_ps_mask(z, end, _CMP_GT_OQ);
    __m512 held = _mm512_mask_mov_ps(z, past, end);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(GELU_C7), held, _mm512_set1_ps(GELU_C6));
    p = _mm512_fmadd_ps(p, held, _mm512_set1_ps(GELU_C5));
    p = _mm512_fmadd_ps(p, held, _mm512_set1_ps(GELU_C4));
    p = _mm512_fmadd_ps(p, held, _mm512_set1_ps(GELU_C3));
    p = _mm512_fmadd_ps(p, held, _mm512_set1_ps(GELU_C2));
    p = _mm512_fmadd_ps(p, held, _mm512_set1_ps(GELU_C1));
    p = _mm512_fmadd_ps(p, held, _mm512_set1_ps(GELU_C0));
    __m512 e = exp_avx512(_mm512_xor_ps(_mm512_mul_ps(p, held), _mm512_set1_ps(-0.0f)));
    e = _mm512_mask_mov_ps(e, past, _mm512_setzero_ps());
    __m512 half = _mm512_mul_ps(_mm512_set1_ps(0.5f), x);
    __mmask16 above = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
    return _mm512_mask_mov_ps(_mm512_mul_ps(half, e), above, _mm512_fnmadd_ps(half, e, x));
}

static __m512 gelu_tanh_lanes(__m512 x)
{
    __m512 inner = _mm512_fmadd_ps(_mm512_set1_ps(GELU_TANH_3), _mm512_mul_ps(x, x),
                                   _mm512_set1_ps(GELU_TANH_1));
    __m512 e = exp_avx512(_mm512_mul_ps(x, inner));
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0f), e));
}

void gelu_erf_avx512(float *x, const float *bias, int32_t n)
{
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        __m512 entry = _mm512_maskz_loadu_ps(there, x + i);
        if (bias != NULL) {
            entry = _mm512_add_ps(entry, _mm512_maskz_loadu_ps(there, bias + i));
        }
        _mm512_mask_storeu_ps(x + i, there, gelu_erf_lanes(entry));
    }
}

void gelu_tanh_avx512(float *x, const float *bias, int32_t n)
{
    for (int32_t i = 0; i < n; i += LANES) {
        __mmask16 there = first_lanes(n - i);
        __m512 entry = _mm512_maskz_loadu_ps(there, x + i);
        if (bias != NULL) {
            entry = _mm512_add_ps(entry, _mm512_maskz_loadu_ps(there, bias + i));
        }
        _mm512_mask_storeu_ps(x + i, there, gelu_tanh_lanes(entry));
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

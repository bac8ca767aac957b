/*
 * vector_avx2.h - pieces that the AVX2 kernels share (inside worker/kernels/ only; for files
 * compiled with AVX2 and FMA).
 */
#ifndef FLOTILLA_WORKER_KERNELS_VECTOR_AVX2_H
#define FLOTILLA_WORKER_KERNELS_VECTOR_AVX2_H

#include "worker/kernels/exp.h"

#include <immintrin.h>

enum { LANES8 = 8 }; /* of one register; two of them are the sixteen lanes of a sum */

/* exp_f32 in each lane. max and min return their second operand where one is NaN. */
static inline __m256 exp_avx2(__m256 x)
{
    x = _mm256_max_ps(_mm256_set1_ps(EXP_LOWEST), x);
    x = _mm256_min_ps(_mm256_set1_ps(EXP_HIGHEST), x);
    const __m256 rounder = _mm256_set1_ps(EXP_ROUNDER);
    __m256 n = _mm256_sub_ps(_mm256_fmadd_ps(x, _mm256_set1_ps(EXP_LOG2E), rounder), rounder);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_HIGH), x);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-EXP_LN2_LOW), r);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(EXP_C6), r, _mm256_set1_ps(EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));
    /* 2^n in two factors, the first of which keeps p exact. */
    const __m256i bias = _mm256_set1_epi32(127);
    __m256i whole = _mm256_cvttps_epi32(n);
    __m256i half = _mm256_srai_epi32(whole, 1);
    __m256i rest = _mm256_sub_epi32(whole, half);
    __m256i first = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    __m256i second = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(first));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(second));
}

static inline float max_avx2(__m256 x)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

#endif

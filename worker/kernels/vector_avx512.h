/*
 * vector_avx512.h - pieces that the AVX-512 kernels share (inside worker/kernels/ only; for files
 * compiled with AVX-512 F and DQ).
 */
#ifndef FLOTILLA_WORKER_KERNELS_VECTOR_AVX512_H
#define FLOTILLA_WORKER_KERNELS_VECTOR_AVX512_H

#include "worker/kernels/exp.h"
#include "worker/kernels/lanes.h"

#include <immintrin.h>

/* The first n of 16 lanes, n clipped to [0, 16]. */
static inline __mmask16 first_lanes(int32_t n)
{
    if (n <= 0) {
        return 0;
    }
    return (__mmask16)(n >= LANES ? 0xffffu : (1u << n) - 1);
}

/* exp_f32 in each lane. max and min return their second operand where one is NaN. */
static inline __m512 exp_avx512(__m512 x)
{
    x = _mm512_max_ps(_mm512_set1_ps(EXP_LOWEST), x);
    x = _mm512_min_ps(_mm512_set1_ps(EXP_HIGHEST), x);
    const __m512 rounder = _mm512_set1_ps(EXP_ROUNDER);
    __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(EXP_LOG2E), rounder), rounder);
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-EXP_LN2_HIGH), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-EXP_LN2_LOW), r);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(EXP_C6), r, _mm512_set1_ps(EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, n);
}

/* lanes_total */
static inline float total_avx512(__m512 lanes)
{
    __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

#endif

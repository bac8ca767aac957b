/*
 * peak_avx2.c - twelve chains of 8 entries: more than two units with a latency of four or five
 * need.
 */
#include "worker/kernels/peak.h"

#include <immintrin.h>

enum { CHAINS = 12, WIDTH = 8 };

float fma_work_avx2(double *flops, int32_t rounds)
{
    volatile float factor = 0.999f;
    const __m256 f = _mm256_set1_ps(factor);
    __m256 chains[CHAINS];
    for (int32_t i = 0; i < CHAINS; i++) {
        chains[i] = _mm256_set1_ps((float)i);
    }
    for (int32_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int32_t i = 0; i < CHAINS; i++) {
            chains[i] = _mm256_fmadd_ps(chains[i], f, f);
        }
    }
    for (int32_t i = 1; i < CHAINS; i++) {
        chains[0] = _mm256_add_ps(chains[0], chains[i]);
    }
    float entries[WIDTH], sum = 0.0f;
    _mm256_storeu_ps(entries, chains[0]);
    for (int32_t i = 0; i < WIDTH; i++) {
        sum += entries[i];
    }
    *flops = 2.0 * CHAINS * WIDTH * rounds;
    return sum;
}

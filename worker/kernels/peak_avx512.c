/*
 * peak_avx512.c - twelve chains of 16 entries: more than two units with a latency of four or five
 * need.
 */
#include "worker/kernels/peak.h"

#include <immintrin.h>

enum { CHAINS = 12, WIDTH = 16 };

float fma_work_avx512(double *flops, int32_t rounds)
{
    volatile float factor = 0.999f;
    const __m512 f = _mm512_set1_ps(factor);
    __m512 chains[CHAINS];
    for (int32_t i = 0; i < CHAINS; i++) {
        chains[i] = _mm512_set1_ps((float)i);
    }
    for (int32_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int32_t i = 0; i < CHAINS; i++) {
            chains[i] = _mm512_fmadd_ps(chains[i], f, f);
        }
    }
    for (int32_t i = 1; i < CHAINS; i++) {
        chains[0] = _mm512_add_ps(chains[0], chains[i]);
    }
    float entries[WIDTH], sum = 0.0f;
    _mm512_storeu_ps(entries, chains[0]);
    for (int32_t i = 0; i < WIDTH; i++) {
        sum += entries[i];
    }
    *flops = 2.0 * CHAINS * WIDTH * rounds;
    return sum;
}

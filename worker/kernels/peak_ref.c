/*
 * peak_ref.c - plain C: a few chains, one entry each.
 */
#include "worker/kernels/peak.h"

#include <math.h>

enum { CHAINS = 16 };

float fma_work_ref(double *flops, int32_t rounds)
{
    float chains[CHAINS], sum = 0.0f;
    volatile float factor = 0.999f;
    float f = factor;
    for (int32_t i = 0; i < CHAINS; i++) {
        chains[i] = (float)i;
    }
    for (int32_t r = 0; r < rounds; r++) {
        for (int32_t i = 0; i < CHAINS; i++) {
            chains[i] = fmaf(chains[i], f, f);
        }
    }
    for (int32_t i = 0; i < CHAINS; i++) {
        sum += chains[i];
    }
    *flops = 2.0 * CHAINS * rounds;
    return sum;
}

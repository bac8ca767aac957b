/*
 * sound_avx512.c - kernels of the vocoder with 512-bit registers (AVX-512 F, DQ).
 */
#include "worker/kernels/sound.h"

#include "worker/kernels/sound_entries.h"
#include "worker/kernels/vector_avx512.h"

DEFINE_SOUND_ENTRIES(avx512)

void dot_rows_avx512(float *out, const float *x, size_t stride, int32_t n_rows, const float *w,
                     int32_t n, float bias)
{
    for (int32_t m = 0; m < n_rows; m++) {
        const float *row = x + (size_t)m * stride;
        __m512 sums = _mm512_setzero_ps();
        int32_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            sums = _mm512_fmadd_ps(_mm512_loadu_ps(row + i), _mm512_loadu_ps(w + i), sums);
        }
        __mmask16 there = first_lanes(n - i);
        sums = _mm512_mask3_fmadd_ps(_mm512_maskz_loadu_ps(there, row + i),
                                     _mm512_maskz_loadu_ps(there, w + i), sums, there);
        out[m] = total_avx512(sums) + bias;
    }
}

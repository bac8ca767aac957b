/*
 * sound_avx2.c - kernels of the vocoder with 256-bit registers (AVX2, FMA).
 */
#include "worker/kernels/sound.h"

#include "worker/kernels/lanes.h"
#include "worker/kernels/sound_entries.h"
#include "worker/kernels/vector_avx2.h"

DEFINE_SOUND_ENTRIES(avx2)

void dot_rows_avx2(float *out, const float *x, size_t stride, int32_t n_rows, const float *w,
                   int32_t n, float bias)
{
    for (int32_t m = 0; m < n_rows; m++) {
        const float *row = x + (size_t)m * stride;
        __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();
        int32_t i = 0;
        for (; i + LANES <= n; i += LANES) {
            low = _mm256_fmadd_ps(_mm256_loadu_ps(row + i), _mm256_loadu_ps(w + i), low);
            high = _mm256_fmadd_ps(_mm256_loadu_ps(row + i + LANES8),
                                   _mm256_loadu_ps(w + i + LANES8), high);
        }
        float lanes[LANES];
        _mm256_storeu_ps(lanes, low);
        _mm256_storeu_ps(lanes + LANES8, high);
        for (; i < n; i++) {
            lanes[i % LANES] = fmaf(row[i], w[i], lanes[i % LANES]);
        }
        out[m] = lanes_total(lanes) + bias;
    }
}

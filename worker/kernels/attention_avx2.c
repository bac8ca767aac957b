/*
 * attention_avx2.c - one block into a running softmax with 256-bit registers (AVX2, FMA).
 *
 * The block's 64 scores are eight registers, summed side by side while the keys stream past; values
 * are added to 64 entries of the head at a time. The few entries past a multiple of 8 are done one
 * by one.
 */
#include "worker/kernels/attention.h"

#include "worker/kernels/lanes.h"
#include "worker/kernels/vector.h"
#include "worker/kernels/vector_avx2.h"

#include <math.h>

enum { WIDE = 8 };

#define INLINE static inline __attribute__((always_inline))

/* score[p] = scale * (q . k_p) for n * 8 positions. */
INLINE void scores(float *score, const float *q, const float *k, int32_t head_dim, float scale,
                   int n)
{
    __m256 sum[WIDE];
#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        sum[j] = _mm256_setzero_ps();
    }
    for (int32_t d = 0; d < head_dim; d++) {
        __m256 entry = _mm256_broadcast_ss(q + d);
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) {
            sum[j] = _mm256_fmadd_ps(entry, _mm256_loadu_ps(k + d * KV_BLOCK + j * LANES8), sum[j]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        _mm256_storeu_ps(score + j * LANES8, _mm256_mul_ps(sum[j], _mm256_set1_ps(scale)));
    }
}

/* out[d] = out[d] * shrink + sum of weight[p] v[p][d] over n * 8 entries. */
INLINE void add_values(float *out, float shrink, const float *weight, const float *v,
                       int32_t n_valid, int32_t head_dim, int n)
{
    __m256 sum[WIDE];
#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        sum[j] = _mm256_mul_ps(_mm256_loadu_ps(out + j * LANES8), _mm256_set1_ps(shrink));
    }
    for (int32_t p = 0; p < n_valid; p++) {
        __m256 w = _mm256_broadcast_ss(weight + p);
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) {
            sum[j] = _mm256_fmadd_ps(w, _mm256_loadu_ps(v + p * head_dim + j * LANES8), sum[j]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        _mm256_storeu_ps(out + j * LANES8, sum[j]);
    }
}

static void block_scores(float score[KV_BLOCK], const float *q, const float *k, int32_t n_valid,
                         int32_t head_dim, float scale)
{
    if (n_valid > KV_BLOCK / 2) {
        scores(score, q, k, head_dim, scale, WIDE);
        return;
    }
    for (int32_t p = 0; p < n_valid; p += LANES) {
        scores(score + p, q, k + p, head_dim, scale, 2);
    }
}

/* score[p] becomes exp(score[p] - max) for the first n_valid; returns their sum. */
static float weigh(float score[KV_BLOCK], int32_t n_valid, float max)
{
    float lanes[LANES] = {0};
    for (int32_t p = 0; p < n_valid; p += LANES8) {
        __m256 w = exp_avx2(_mm256_sub_ps(_mm256_loadu_ps(score + p), _mm256_set1_ps(max)));
        _mm256_storeu_ps(score + p, w);
    }
    for (int32_t p = 0; p < n_valid; p++) {
        lanes[p % LANES] += score[p];
    }
    return lanes_total(lanes);
}

void attend_block_avx2(float *out, attend_state *state, const float *q, const float *k,
                       const float *v, int32_t n_valid, int32_t head_dim, float scale)
{
    float weight[KV_BLOCK];
    block_scores(weight, q, k, n_valid, head_dim, scale);
    float max = state->max;
    for (int32_t p = 0; p < n_valid; p++) {
        max = weight[p] > max ? weight[p] : max;
    }
    float shrink = exp_f32(state->max - max);
    state->sum = fmaf(state->sum, shrink, weigh(weight, n_valid, max));
    state->max = max;

    int32_t d = 0;
    for (; d + WIDE * LANES8 <= head_dim; d += WIDE * LANES8) {
        add_values(out + d, shrink, weight, v + d, n_valid, head_dim, WIDE);
    }
    for (; d + LANES8 <= head_dim; d += LANES8) {
        add_values(out + d, shrink, weight, v + d, n_valid, head_dim, 1);
    }
    for (; d < head_dim; d++) {
        float sum = out[d] * shrink;
        for (int32_t p = 0; p < n_valid; p++) {
            sum = fmaf(weight[p], v[p * head_dim + d], sum);
        }
        out[d] = sum;
    }
}

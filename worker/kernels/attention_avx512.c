/*
 * attention_avx512.c - one block into a running softmax with 512-bit registers (AVX-512 F, DQ).
 *
 * The block's 64 scores are four registers, summed side by side while the keys stream past; values
 * are added to up to 128 entries of the head at a time, eight registers that stay where they are.
 */
#include "worker/kernels/attention.h"

#include "worker/kernels/vector_avx512.h"

enum { BLOCK_GROUPS = KV_BLOCK / LANES, WIDE = 8 };

#define INLINE static inline __attribute__((always_inline))

/* score[g] = scale * (q . k) for the first n_groups * 16 positions. */
INLINE void scores(__m512 score[BLOCK_GROUPS], const float *q, const float *k, int32_t head_dim,
                   float scale, int n_groups)
{
    __m512 sum[BLOCK_GROUPS];
#pragma GCC unroll 4
    for (int g = 0; g < n_groups; g++) {
        sum[g] = _mm512_setzero_ps();
    }
    for (int32_t d = 0; d < head_dim; d++) {
        __m512 entry = _mm512_set1_ps(q[d]);
#pragma GCC unroll 4
        for (int g = 0; g < n_groups; g++) {
            sum[g] = _mm512_fmadd_ps(entry, _mm512_loadu_ps(k + d * KV_BLOCK + g * LANES), sum[g]);
        }
    }
#pragma GCC unroll 4
    for (int g = 0; g < n_groups; g++) {
        score[g] = _mm512_mul_ps(sum[g], _mm512_set1_ps(scale));
    }
}

/* out[d] = out[d] * shrink + sum of weight[p] v[p][d] over n * 16 entries; `there` cuts the
 * last 16. */
INLINE void add_values(float *out, float shrink, const float *weight, const float *v,
                       int32_t n_valid, int32_t head_dim, int n, __mmask16 there)
{
    __m512 sum[WIDE];
#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        __mmask16 mask = j == n - 1 ? there : (__mmask16)0xffff;
        sum[j] =
            _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, out + j * LANES), _mm512_set1_ps(shrink));
    }
    for (int32_t p = 0; p < n_valid; p++) {
        __m512 w = _mm512_set1_ps(weight[p]);
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) {
            __mmask16 mask = j == n - 1 ? there : (__mmask16)0xffff;
            const float *entries = v + p * head_dim + j * LANES;
            sum[j] = _mm512_fmadd_ps(w, _mm512_maskz_loadu_ps(mask, entries), sum[j]);
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < n; j++) {
        __mmask16 mask = j == n - 1 ? there : (__mmask16)0xffff;
        _mm512_mask_storeu_ps(out + j * LANES, mask, sum[j]);
    }
}

static void block_scores(__m512 score[BLOCK_GROUPS], const float *q, const float *k,
                         int32_t head_dim, float scale, int32_t n_groups)
{
    switch (n_groups) {
    case 1:
        scores(score, q, k, head_dim, scale, 1);
        break;
    case 2:
        scores(score, q, k, head_dim, scale, 2);
        break;
    case 3:
        scores(score, q, k, head_dim, scale, 3);
        break;
    default:
        scores(score, q, k, head_dim, scale, 4);
    }
}

/* Scores into weights and the new state; returns what earlier weights shrink by. */
static float take_scores(attend_state *state, float weight[KV_BLOCK],
                         const __m512 score[BLOCK_GROUPS], int32_t n_valid, int32_t n_groups)
{
    __m512 max = _mm512_set1_ps(state->max);
    for (int32_t g = 0; g < n_groups; g++) {
        max = _mm512_mask_max_ps(max, first_lanes(n_valid - g * LANES), score[g], max);
    }
    float top = _mm512_reduce_max_ps(max);
    /* The old maximum's exponential rides along in a register of its own. */
    float shrink = _mm512_cvtss_f32(exp_avx512(_mm512_set1_ps(state->max - top)));
    __m512 sums = _mm512_setzero_ps();
    for (int32_t g = 0; g < n_groups; g++) {
        __m512 w = exp_avx512(_mm512_sub_ps(score[g], _mm512_set1_ps(top)));
        sums = _mm512_mask_add_ps(sums, first_lanes(n_valid - g * LANES), sums, w);
        _mm512_storeu_ps(weight + g * LANES, w);
    }
    __m128 sum =
        _mm_fmadd_ss(_mm_set_ss(state->sum), _mm_set_ss(shrink), _mm_set_ss(total_avx512(sums)));
    state->sum = _mm_cvtss_f32(sum);
    state->max = top;
    return shrink;
}

void attend_block_avx512(float *out, attend_state *state, const float *q, const float *k,
                         const float *v, int32_t n_valid, int32_t head_dim, float scale)
{
    int32_t n_groups = (n_valid + LANES - 1) / LANES;
    __m512 score[BLOCK_GROUPS];
    float weight[KV_BLOCK];
    block_scores(score, q, k, head_dim, scale, n_groups);
    float shrink = take_scores(state, weight, score, n_valid, n_groups);

    int32_t d = 0;
    for (; d + WIDE * LANES <= head_dim; d += WIDE * LANES) {
        add_values(out + d, shrink, weight, v + d, n_valid, head_dim, WIDE, 0xffff);
    }
    for (; d + WIDE / 2 * LANES <= head_dim; d += WIDE / 2 * LANES) {
        add_values(out + d, shrink, weight, v + d, n_valid, head_dim, WIDE / 2, 0xffff);
    }
    for (; d < head_dim; d += LANES) {
        add_values(out + d, shrink, weight, v + d, n_valid, head_dim, 1, first_lanes(head_dim - d));
    }
}

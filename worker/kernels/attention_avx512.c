/*
 * attention_avx512.c - blocks into running softmaxes with 512-bit registers (AVX-512 F, DQ).
 *
 * Up to six queries x 64 columns are 24 sums; a row of the block costs four loads for all of them.
 */
#include "worker/kernels/attention.h"

#include "worker/kernels/attention_drive.h"
#include "worker/kernels/vector_avx512.h"

#include <math.h>

enum { GROUPS = 4 };

#define INLINE static inline __attribute__((always_inline))

/* n_rows x n_groups * 16 columns; `there` are the columns of the last group. */
INLINE void tile(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w,
                 size_t w_stride, int32_t n, bool restart, __mmask16 there, int n_rows,
                 int n_groups)
{
    __m512 sum[ATTEND_HEADS_MAX][GROUPS];
#pragma GCC unroll 6
    for (int m = 0; m < n_rows; m++) {
#pragma GCC unroll 4
        for (int g = 0; g < n_groups; g++) {
            __mmask16 mask = g == n_groups - 1 ? there : (__mmask16)0xffff;
            const float *begin = y + (size_t)m * y_stride + g * LANES;
            sum[m][g] = restart ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, begin);
        }
    }
    for (int32_t j = 0; j < n; j++, w += w_stride) {
        __m512 row[GROUPS];
#pragma GCC unroll 4
        for (int g = 0; g < n_groups; g++) {
            __mmask16 mask = g == n_groups - 1 ? there : (__mmask16)0xffff;
            row[g] = _mm512_maskz_loadu_ps(mask, w + g * LANES);
        }
#pragma GCC unroll 6
        for (int m = 0; m < n_rows; m++) {
            __m512 entry = _mm512_set1_ps(x[(size_t)m * x_stride + (size_t)j]);
#pragma GCC unroll 4
            for (int g = 0; g < n_groups; g++) {
                sum[m][g] = _mm512_fmadd_ps(entry, row[g], sum[m][g]);
            }
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < n_rows; m++) {
#pragma GCC unroll 4
        for (int g = 0; g < n_groups; g++) {
            __mmask16 mask = g == n_groups - 1 ? there : (__mmask16)0xffff;
            _mm512_mask_storeu_ps(y + (size_t)m * y_stride + g * LANES, mask, sum[m][g]);
        }
    }
}

INLINE void columns(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w,
                    size_t w_stride, int32_t n, int32_t n_columns, bool restart, int n_rows)
{
    int32_t c = 0;
    for (; c + GROUPS * LANES <= n_columns; c += GROUPS * LANES) {
        tile(y + c, y_stride, x, x_stride, w + c, w_stride, n, restart, 0xffff, n_rows, GROUPS);
    }
    for (; c < n_columns; c += LANES) {
        tile(y + c, y_stride, x, x_stride, w + c, w_stride, n, restart, first_lanes(n_columns - c),
             n_rows, 1);
    }
}

static void product(float *y, size_t y_stride, const float *x, size_t x_stride, int32_t n_rows,
                    const float *w, size_t w_stride, int32_t n, int32_t n_columns, bool restart)
{
    switch (n_rows) {
    case 1:
        columns(y, y_stride, x, x_stride, w, w_stride, n, n_columns, restart, 1);
        break;
    case 2:
        columns(y, y_stride, x, x_stride, w, w_stride, n, n_columns, restart, 2);
        break;
    case 3:
        columns(y, y_stride, x, x_stride, w, w_stride, n, n_columns, restart, 3);
        break;
    case 4:
        columns(y, y_stride, x, x_stride, w, w_stride, n, n_columns, restart, 4);
        break;
    case 5:
        columns(y, y_stride, x, x_stride, w, w_stride, n, n_columns, restart, 5);
        break;
    default:
        columns(y, y_stride, x, x_stride, w, w_stride, n, n_columns, restart, 6);
    }
}

static void weigh(float *score, attend_state *state, float *out, int32_t n_valid, int32_t head_dim,
                  float scale)
{
    __m512 max = _mm512_set1_ps(state->max);
    for (int32_t p = 0; p < n_valid; p += LANES) {
        __m512 s = _mm512_mul_ps(_mm512_loadu_ps(score + p), _mm512_set1_ps(scale));
        max = _mm512_mask_max_ps(max, first_lanes(n_valid - p), s, max);
        _mm512_storeu_ps(score + p, s);
    }
    float top = _mm512_reduce_max_ps(max);
    __m512 sums = _mm512_setzero_ps();
    for (int32_t p = 0; p < n_valid; p += LANES) {
        __m512 w = exp_avx512(_mm512_sub_ps(_mm512_loadu_ps(score + p), _mm512_set1_ps(top)));
        sums = _mm512_mask_add_ps(sums, first_lanes(n_valid - p), sums, w);
        _mm512_storeu_ps(score + p, w);
    }
    __m512 shrink = exp_avx512(_mm512_set1_ps(state->max - top));
    for (int32_t d = 0; d < head_dim; d += LANES) {
        __mmask16 there = first_lanes(head_dim - d);
        __m512 entry = _mm512_mul_ps(_mm512_maskz_loadu_ps(there, out + d), shrink);
        _mm512_mask_storeu_ps(out + d, there, entry);
    }
    state->sum = fmaf(state->sum, _mm512_cvtss_f32(shrink), total_avx512(sums));
    state->max = top;
}

void attend_heads_avx512(float *out, attend_state *states, const float *q, int32_t n_heads,
                         const float *k, const float *v, int32_t n_valid, int32_t head_dim,
                         float scale)
{
    drive_attention(product, weigh, out, states, q, n_heads, k, v, n_valid, head_dim, scale);
}

void attend_block_avx512(float *out, attend_state *state, const float *q, const float *k,
                         const float *v, int32_t n_valid, int32_t head_dim, float scale)
{
    attend_heads_avx512(out, state, q, 1, k, v, n_valid, head_dim, scale);
}

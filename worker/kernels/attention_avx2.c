/*
 * attention_avx2.c - blocks into running softmaxes with 256-bit registers (AVX2, FMA).
 *
 * Up to six queries x 16 columns are 12 sums; one query alone takes 64 columns, so that eight sums
 * hide the time of a multiply-add. The few columns past a multiple of 8 are done one by one.
 */
#include "worker/kernels/attention.h"

#include "worker/kernels/attention_drive.h"
#include "worker/kernels/lanes.h"
#include "worker/kernels/vector.h"
#include "worker/kernels/vector_avx2.h"

#include <math.h>

enum { HALVES_MAX = 8 };

#define INLINE static inline __attribute__((always_inline))

/* n_rows x n_halves * 8 columns. */
INLINE void tile(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w,
                 size_t w_stride, int32_t n, bool restart, int n_rows, int n_halves)
{
    __m256 sum[ATTEND_HEADS_MAX][HALVES_MAX];
#pragma GCC unroll 6
    for (int m = 0; m < n_rows; m++) {
#pragma GCC unroll 8
        for (int h = 0; h < n_halves; h++) {
            const float *begin = y + (size_t)m * y_stride + h * LANES8;
            sum[m][h] = restart ? _mm256_setzero_ps() : _mm256_loadu_ps(begin);
        }
    }
    for (int32_t j = 0; j < n; j++, w += w_stride) {
        __m256 row[HALVES_MAX];
#pragma GCC unroll 8
        for (int h = 0; h < n_halves; h++) {
            row[h] = _mm256_loadu_ps(w + h * LANES8);
        }
#pragma GCC unroll 6
        for (int m = 0; m < n_rows; m++) {
            __m256 entry = _mm256_broadcast_ss(x + (size_t)m * x_stride + j);
#pragma GCC unroll 8
            for (int h = 0; h < n_halves; h++) {
                sum[m][h] = _mm256_fmadd_ps(entry, row[h], sum[m][h]);
            }
        }
    }
#pragma GCC unroll 6
    for (int m = 0; m < n_rows; m++) {
#pragma GCC unroll 8
        for (int h = 0; h < n_halves; h++) {
            _mm256_storeu_ps(y + (size_t)m * y_stride + h * LANES8, sum[m][h]);
        }
    }
}

static void last_columns(float *y, size_t y_stride, const float *x, size_t x_stride, int32_t n_rows,
                         const float *w, size_t w_stride, int32_t n, int32_t n_columns,
                         bool restart)
{
    for (int32_t m = 0; m < n_rows; m++) {
        for (int32_t c = 0; c < n_columns; c++) {
            float *sum = y + (size_t)m * y_stride + c;
            *sum = restart ? 0.0f : *sum;
            for (int32_t j = 0; j < n; j++) {
                *sum = fmaf(x[(size_t)m * x_stride + (size_t)j],
                            w[(size_t)j * w_stride + (size_t)c], *sum);
            }
        }
    }
}

INLINE void columns(float *y, size_t y_stride, const float *x, size_t x_stride, const float *w,
                    size_t w_stride, int32_t n, int32_t n_columns, bool restart, int n_rows)
{
    const int wide = n_rows == 1 ? HALVES_MAX : 2;
    int32_t c = 0;
    for (; c + wide * LANES8 <= n_columns; c += wide * LANES8) {
        tile(y + c, y_stride, x, x_stride, w + c, w_stride, n, restart, n_rows, wide);
    }
    for (; c + LANES8 <= n_columns; c += LANES8) {
        tile(y + c, y_stride, x, x_stride, w + c, w_stride, n, restart, n_rows, 1);
    }
    last_columns(y + c, y_stride, x, x_stride, n_rows, w + c, w_stride, n, n_columns - c, restart);
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

/* The first n_valid scores are scaled; returns the largest of them and of `max`. */
static float scale_scores(float *score, int32_t n_valid, float scale, float max)
{
    __m256 largest = _mm256_set1_ps(max);
    int32_t p = 0;
    for (; p + LANES8 <= n_valid; p += LANES8) {
        __m256 s = _mm256_mul_ps(_mm256_loadu_ps(score + p), _mm256_set1_ps(scale));
        largest = _mm256_max_ps(s, largest); /* its second operand where one is NaN */
        _mm256_storeu_ps(score + p, s);
    }
    max = max_avx2(largest);
    for (; p < n_valid; p++) {
        score[p] = score[p] * scale;
        max = score[p] > max ? score[p] : max;
    }
    return max;
}

/* score[p] becomes exp(score[p] - max) for the first n_valid; returns their sum. */
static float exponentials(float *score, int32_t n_valid, float max)
{
    __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()}; /* lanes 0 to 7, 8 to 15 */
    int32_t whole = n_valid / LANES8 * LANES8;
    for (int32_t p = 0; p < n_valid; p += LANES8) {
        __m256 w = exp_avx2(_mm256_sub_ps(_mm256_loadu_ps(score + p), _mm256_set1_ps(max)));
        _mm256_storeu_ps(score + p, w);
        if (p < whole) {
            sums[p / LANES8 % 2] = _mm256_add_ps(sums[p / LANES8 % 2], w);
        }
    }
    float lanes[LANES];
    _mm256_storeu_ps(lanes, sums[0]);
    _mm256_storeu_ps(lanes + LANES8, sums[1]);
    for (int32_t p = whole; p < n_valid; p++) {
        lanes[p % LANES] += score[p];
    }
    return lanes_total(lanes);
}

static void multiply(float *x, __m256 factor, int32_t n)
{
    int32_t i = 0;
    for (; i + LANES8 <= n; i += LANES8) {
        _mm256_storeu_ps(x + i, _mm256_mul_ps(_mm256_loadu_ps(x + i), factor));
    }
    for (; i < n; i++) {
        x[i] = x[i] * _mm256_cvtss_f32(factor);
    }
}

static void weigh(float *score, attend_state *state, float *out, int32_t n_valid, int32_t head_dim,
                  float scale)
{
    float max = scale_scores(score, n_valid, scale, state->max);
    __m256 shrink = exp_avx2(_mm256_set1_ps(state->max - max));
    multiply(out, shrink, head_dim);
    state->sum = fmaf(state->sum, _mm256_cvtss_f32(shrink), exponentials(score, n_valid, max));
    state->max = max;
}

void attend_heads_avx2(float *out, attend_state *states, const float *q, int32_t n_heads,
                       const float *k, const float *v, int32_t n_valid, int32_t head_dim,
                       float scale)
{
    drive_attention(product, weigh, out, states, q, n_heads, k, v, n_valid, head_dim, scale);
}

void attend_block_avx2(float *out, attend_state *state, const float *q, const float *k,
                       const float *v, int32_t n_valid, int32_t head_dim, float scale)
{
    attend_heads_avx2(out, state, q, 1, k, v, n_valid, head_dim, scale);
}

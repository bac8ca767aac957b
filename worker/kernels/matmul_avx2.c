/*
 * matmul_avx2.c - y = x W^T with 256-bit registers (AVX2, FMA).
 *
 * Sixteen registers do not hold the sums of 64 outputs for more than one row. One row takes all 64
 * (8 sums) and reads the panel as one stream; more rows take 16 outputs at a time (12 sums of six
 * rows, two weights, one entry of x, one mask), in short runs of columns, so that the four passes
 * over a run's lines find them in the first-level cache.
 */
#include "worker/kernels/matmul.h"

#include "worker/kernels/matmul_drive.h"

#include <immintrin.h>

enum {
    LANES8 = 8,
    LINE = 32,         /* elements: 16 rows x 2 columns */
    PAIR_LINES = 4,    /* lines of a column pair in a panel */
    RUN_COLUMNS = 128, /* 16 KiB of a panel */
};

#define INLINE static inline __attribute__((always_inline))

/* Half h of the lines at hand: 8 outputs, of a pair the first or second (odd) column. */
INLINE __m256 weights(const bf16 *lines, int h, bool odd)
{
    const __m256i upper = _mm256_set1_epi32((int)0xffff0000u);
    __m256i pairs = _mm256_loadu_si256((const __m256i *)(const void *)(lines + h * LINE / 2));
    return _mm256_castsi256_ps(odd ? _mm256_and_si256(upper, pairs) : _mm256_slli_epi32(pairs, 16));
}

/* sum[m][h] += w[h] x[m][0]. One row takes its halves one after the other, several rows take
 * both of theirs at once: the order decides what fits in the registers. */
INLINE void column(__m256 sum[][8], const bf16 *lines, const float *x, size_t x_stride, int n_rows,
                   int n_halves, bool odd)
{
    if (n_rows == 1) {
        __m256 entry = _mm256_broadcast_ss(x);
#pragma GCC unroll 8
        for (int h = 0; h < n_halves; h++) {
            sum[0][h] = _mm256_fmadd_ps(entry, weights(lines, h, odd), sum[0][h]);
        }
        return;
    }
    __m256 w0 = weights(lines, 0, odd);
    __m256 w1 = weights(lines, 1, odd);
#pragma GCC unroll 6
    for (int m = 0; m < n_rows; m++) {
        __m256 entry = _mm256_broadcast_ss(x + (size_t)m * x_stride);
        sum[m][0] = _mm256_fmadd_ps(entry, w0, sum[m][0]);
        sum[m][1] = _mm256_fmadd_ps(entry, w1, sum[m][1]);
    }
}

/* One row x 64 outputs or several x 16 (n_halves * 8) over n columns that lie together; lines are
 * those of the first of these outputs. odd: over one column alone, the second of its pair. */
INLINE void block(float *y, size_t y_stride, const float *x, size_t x_stride, const bf16 *lines,
                  int32_t n, bool odd, bool restart, int n_rows, int n_halves, const bf16 *ahead)
{
    __m256 sum[STRIP_ROWS_MAX][8];
#pragma GCC unroll 6
    for (int m = 0; m < n_rows; m++) {
#pragma GCC unroll 8
        for (int h = 0; h < n_halves; h++) {
            sum[m][h] = restart ? _mm256_setzero_ps()
                                : _mm256_loadu_ps(y + (size_t)m * y_stride + h * LANES8);
        }
    }
    int32_t k = 0;
    if (odd) {
        column(sum, lines, x, x_stride, n_rows, n_halves, true);
        k = n;
    }
    for (; k + 1 < n; k += 2, lines += PAIR_LINES * LINE) {
        if (ahead != NULL) {
            _mm_prefetch((const char *)ahead + (size_t)k * sizeof(bf16) * LINE / 2, _MM_HINT_T0);
        }
        column(sum, lines, x + k, x_stride, n_rows, n_halves, false);
        column(sum, lines, x + k + 1, x_stride, n_rows, n_halves, true);
    }
    if (k < n) {
        column(sum, lines, x + k, x_stride, n_rows, n_halves, false);
    }
#pragma GCC unroll 6
    for (int m = 0; m < n_rows; m++) {
#pragma GCC unroll 8
        for (int h = 0; h < n_halves; h++) {
            _mm256_storeu_ps(y + (size_t)m * y_stride + h * LANES8, sum[m][h]);
        }
    }
}

/* All outputs over n columns that lie together. */
INLINE void run_columns(float *y, size_t y_stride, const float *x, size_t x_stride,
                        const bf16 *lines, int32_t n, bool odd, bool restart, int n_rows,
                        int n_groups)
{
    if (n_rows == 1) {
        block(y, y_stride, x, x_stride, lines, n, odd, restart, 1, 2 * n_groups, NULL);
        return;
    }
    for (int g = 0; g < n_groups; g++) {
        const bf16 *ahead = lines + RUN_COLUMNS * PANEL_ROWS + g * (RUN_COLUMNS / 2) * LINE;
        block(y + g * 2 * LANES8, y_stride, x, x_stride, lines + g * LINE, n, odd, restart, n_rows,
              2, ahead);
    }
}

INLINE void strip(float *y, size_t y_stride, const matmul_columns *columns, const bf16 *lines,
                  bool restart, int n_rows, int n_groups)
{
    matmul_columns left = *columns;
    bool odd = false; /* a run of odd length has ended in the middle of a pair */
    do {              /* once even where there are no columns, to write the zeros */
        const float *x = left.x.x;
        int32_t n = columns_next(&left, odd ? 1 : n_rows == 1 ? left.n : RUN_COLUMNS);
        if (odd) {
            run_columns(y, y_stride, x, left.x.stride, lines, 1, true, false, n_rows, n_groups);
        } else {
            run_columns(y, y_stride, x, left.x.stride, lines, n, false, restart, n_rows, n_groups);
        }
        lines += (size_t)((n + odd) / 2) * 2 * PANEL_ROWS;
        odd = (n + odd) % 2 != 0;
        restart = false;
    } while (left.n > 0);
}

#define STRIP(name, n_rows, n_groups)                                                              \
    static void name##_##n_rows(float *y, size_t y_stride, const matmul_columns *columns,          \
                                const bf16 *lines, bool restart)                                   \
    {                                                                                              \
        strip(y, y_stride, columns, lines, restart, n_rows, n_groups);                             \
    }

STRIP(whole, 1, PAIR_LINES)
STRIP(whole, 2, PAIR_LINES)
STRIP(whole, 3, PAIR_LINES)
STRIP(whole, 4, PAIR_LINES)
STRIP(whole, 5, PAIR_LINES)
STRIP(whole, 6, PAIR_LINES)
STRIP(narrow, 1, PAIR_LINES / 2)
STRIP(narrow, 2, PAIR_LINES / 2)
STRIP(narrow, 3, PAIR_LINES / 2)
STRIP(narrow, 4, PAIR_LINES / 2)
STRIP(narrow, 5, PAIR_LINES / 2)
STRIP(narrow, 6, PAIR_LINES / 2)

static const matmul_driver driver = {
    .whole = {{NULL, whole_1, whole_2, whole_3, whole_4, whole_5, whole_6}, 6},
    .narrow = {{NULL, narrow_1, narrow_2, narrow_3, narrow_4, narrow_5, narrow_6}, 6},
    .piece_columns = 1024,
};

void matmul_runs_bf16_avx2(float *y, size_t y_stride, const matmul_runs *x, int32_t n_rows,
                           const packed_matrix *w, int32_t first_panel, int32_t last_panel)
{
    drive_matmul(&driver, y, y_stride, x, n_rows, w, first_panel, last_panel);
}

void matmul_bf16_avx2(float *y, size_t y_stride, const float *x, size_t x_stride, int32_t n_rows,
                      const packed_matrix *w, int32_t first_panel, int32_t last_panel)
{
    matmul_runs rows = matmul_one_run(x, x_stride, w->columns);
    drive_matmul(&driver, y, y_stride, &rows, n_rows, w, first_panel, last_panel);
}

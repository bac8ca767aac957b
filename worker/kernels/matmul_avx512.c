/*
 * matmul_avx512.c - y = x W^T with 512-bit registers (AVX-512 F).
 *
 * A column of a panel is four registers of 16 weights. A line of stored pairs gives two columns:
 * shifted left its even ones, masked its odd ones, each straight from memory. Six rows of x hold 24
 * sums, four weights, one entry of x: 30 of 32 registers, 24 multiply-adds for 4 widenings and 6
 * loads. Half a panel has twelve rows for as many sums.
 */
#include "worker/kernels/matmul.h"

#include "worker/kernels/matmul_drive.h"

#include <immintrin.h>

enum { GROUPS = 4, GROUP_ROWS = 16, LINE = 2 * GROUP_ROWS };

#define INLINE static inline __attribute__((always_inline))

/* sum[m][g] += w[g] x[m][0] */
INLINE void column(__m512 sum[][GROUPS], const __m512 w[GROUPS], const float *x, size_t x_stride,
                   int n_rows, int n_groups)
{
#pragma GCC unroll 12
    for (int m = 0; m < n_rows; m++) {
        __m512 entry = _mm512_set1_ps(x[(size_t)m * x_stride]);
#pragma GCC unroll 4
        for (int g = 0; g < n_groups; g++) {
            sum[m][g] = _mm512_fmadd_ps(entry, w[g], sum[m][g]);
        }
    }
}

INLINE void even_column(__m512 w[GROUPS], const bf16 *lines, int n_groups)
{
#pragma GCC unroll 4
    for (int g = 0; g < n_groups; g++) {
        w[g] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(lines + g * LINE), 16));
    }
}

INLINE void odd_column(__m512 w[GROUPS], const bf16 *lines, int n_groups)
{
    const __m512i upper = _mm512_set1_epi32((int)0xffff0000u);
#pragma GCC unroll 4
    for (int g = 0; g < n_groups; g++) {
        w[g] = _mm512_castsi512_ps(_mm512_and_si512(upper, _mm512_loadu_si512(lines + g * LINE)));
    }
}

/* n columns that lie together; *odd: whether the first is the second of its pair, and then of what
 * comes after them. Returns the lines of that. */
INLINE const bf16 *run_columns(__m512 sum[][GROUPS], const bf16 *lines, const float *x,
                               size_t x_stride, int32_t n, bool *odd, int n_rows, int n_groups)
{
    __m512 w[GROUPS];
    int32_t k = 0;
    if (*odd && n > 0) {
        odd_column(w, lines, n_groups);
        column(sum, w, x, x_stride, n_rows, n_groups);
        k = 1;
        lines += GROUPS * LINE;
    }
    for (; k + 1 < n; k += 2, lines += GROUPS * LINE) {
        even_column(w, lines, n_groups);
        column(sum, w, x + k, x_stride, n_rows, n_groups);
        odd_column(w, lines, n_groups);
        column(sum, w, x + k + 1, x_stride, n_rows, n_groups);
    }
    *odd = k < n;
    if (k < n) {
        even_column(w, lines, n_groups);
        column(sum, w, x + k, x_stride, n_rows, n_groups);
    }
    return lines;
}

INLINE void strip(float *y, size_t y_stride, const matmul_columns *columns, const bf16 *lines,
                  bool restart, int n_rows, int n_groups)
{
    __m512 sum[NARROW_ROWS_MAX][GROUPS];
#pragma GCC unroll 12
    for (int m = 0; m < n_rows; m++) {
#pragma GCC unroll 4
        for (int g = 0; g < n_groups; g++) {
            sum[m][g] = restart ? _mm512_setzero_ps()
                                : _mm512_loadu_ps(y + (size_t)m * y_stride + g * GROUP_ROWS);
        }
    }
    matmul_columns left = *columns;
    bool odd = false;
    while (left.n > 0) {
        const float *x = left.x.x;
        int32_t n = columns_next(&left, left.n);
        lines = run_columns(sum, lines, x, left.x.stride, n, &odd, n_rows, n_groups);
    }
#pragma GCC unroll 12
    for (int m = 0; m < n_rows; m++) {
#pragma GCC unroll 4
        for (int g = 0; g < n_groups; g++) {
            _mm512_storeu_ps(y + (size_t)m * y_stride + g * GROUP_ROWS, sum[m][g]);
        }
    }
}

#define STRIP(name, n_rows, n_groups)                                                              \
    static void name##_##n_rows(float *y, size_t y_stride, const matmul_columns *columns,          \
                                const bf16 *lines, bool restart)                                   \
    {                                                                                              \
        strip(y, y_stride, columns, lines, restart, n_rows, n_groups);                             \
    }

STRIP(whole, 1, GROUPS)
STRIP(whole, 2, GROUPS)
STRIP(whole, 3, GROUPS)
STRIP(whole, 4, GROUPS)
STRIP(whole, 5, GROUPS)
STRIP(whole, 6, GROUPS)
STRIP(narrow, 1, GROUPS / 2)
STRIP(narrow, 2, GROUPS / 2)
STRIP(narrow, 3, GROUPS / 2)
STRIP(narrow, 4, GROUPS / 2)
STRIP(narrow, 5, GROUPS / 2)
STRIP(narrow, 6, GROUPS / 2)
STRIP(narrow, 7, GROUPS / 2)
STRIP(narrow, 8, GROUPS / 2)
STRIP(narrow, 9, GROUPS / 2)
STRIP(narrow, 10, GROUPS / 2)
STRIP(narrow, 11, GROUPS / 2)
STRIP(narrow, 12, GROUPS / 2)

static const matmul_driver driver = {
    .whole = {{NULL, whole_1, whole_2, whole_3, whole_4, whole_5, whole_6}, 6},
    .narrow = {{NULL, narrow_1, narrow_2, narrow_3, narrow_4, narrow_5, narrow_6, narrow_7,
                narrow_8, narrow_9, narrow_10, narrow_11, narrow_12},
               12},
    .piece_columns = 1024,
};

void matmul_runs_bf16_avx512(float *y, size_t y_stride, const matmul_runs *x, int32_t n_rows,
                             const packed_matrix *w, int32_t first_panel, int32_t last_panel)
{
    drive_matmul(&driver, y, y_stride, x, n_rows, w, first_panel, last_panel);
}

void matmul_bf16_avx512(float *y, size_t y_stride, const float *x, size_t x_stride, int32_t n_rows,
                        const packed_matrix *w, int32_t first_panel, int32_t last_panel)
{
    matmul_runs rows = matmul_one_run(x, x_stride, w->columns);
    drive_matmul(&driver, y, y_stride, &rows, n_rows, w, first_panel, last_panel);
}

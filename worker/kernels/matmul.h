/*
 * matmul.h - y = x W^T for packed bf16 weights: the contract for all variants.
 *
 * Layout. W [rows][columns] is cut into panels of 64 rows. A panel lies in memory as
 *     [columns / 2][4 groups][16 rows][2 columns]  bf16
 * so that one 64-byte line holds 16 rows x 2 columns, and a panel is one linear stream. Rows past
 * the last and an odd last column are stored as zeros. Decode streams a panel once; a prompt pass
 * keeps 64 outputs x several rows of x in registers over the same stream. A line's pairs are what
 * 16-bit dot products take as they are, and the lines of one group are 256 bytes apart, as a tile
 * load wants.
 *
 * Order. y[m][n] = fmaf(x[m][k], w[n][k], y) for k = 0, 1, ... starting from 0.0f, one rounding per
 * term, in every variant, for any number of rows m, panels or threads: results are equal bit for
 * bit (only the sign and payload of a NaN are open). Widening bf16 is exact, subnormals included.
 */
#ifndef FLOTILLA_WORKER_KERNELS_MATMUL_H
#define FLOTILLA_WORKER_KERNELS_MATMUL_H

#include "common/layout.h"
#include "worker/kernels/bf16.h"

#include <stddef.h>
#include <stdint.h>

typedef struct packed_matrix {
    const bf16 *data; /* 64-byte aligned */
    int32_t rows;     /* outputs */
    int32_t columns;  /* inputs */
} packed_matrix;

static inline int32_t packed_panels(int32_t rows)
{
    return (rows + PANEL_ROWS - 1) / PANEL_ROWS;
}

/* Elements (not bytes) of one panel, and of a whole matrix. */
static inline size_t packed_panel_elements(int32_t columns)
{
    return (size_t)((columns + 1) / 2) * 2 * PANEL_ROWS;
}

static inline size_t packed_matrix_elements(int32_t rows, int32_t columns)
{
    return (size_t)packed_panels(rows) * packed_panel_elements(columns);
}

/* Packs source rows [first_row, first_row + n_rows) of W, row-major with `columns` entries each,
 * into their places of the whole packed matrix; the padding of a panel is written with its last row
 * (and that of the last panel with row `rows - 1`). So a loader may hand over any slab of rows at a
 * time, and several threads may pack slabs that share no row. source need not be aligned. */
void matrix_pack_rows(bf16 *packed, int32_t rows, int32_t columns, const bf16 *source,
                      int32_t first_row, int32_t n_rows);

/* Row `row` of the matrix as f32 again (embedding look-up by tests; not fast). */
void matrix_unpack_row(float *out, const packed_matrix *w, int32_t row);

/* y[m * y_stride + n] for n in panels [first_panel, last_panel) of w and m in [0, n_rows).
 * Writes only the w->rows real outputs, so y need not be padded. x[m * x_stride + k]. y is
 * overwritten and must not overlap x. n_rows may be 0. Local; to divide work over threads give each
 * a range of panels. */
typedef void matmul_bf16_fn(float *y, size_t y_stride, const float *x, size_t x_stride,
                            int32_t n_rows, const packed_matrix *w, int32_t first_panel,
                            int32_t last_panel);

/* Rows whose columns lie in runs: column k of row m is x[m * stride + k / run * jump + k % run]. A
 * convolution over rows [time][channel] sees one run of `channels` for each of its taps, which are
 * jump = dilation * channels apart. */
typedef struct matmul_runs {
    const float *x;
    size_t stride;
    int32_t run; /* at least 1 */
    size_t jump;
} matmul_runs;

/* Rows in one piece. */
static inline matmul_runs matmul_one_run(const float *x, size_t stride, int32_t columns)
{
    return (matmul_runs){x, stride, columns > 0 ? columns : 1, 0};
}

/* The same for such rows. */
typedef void matmul_runs_bf16_fn(float *y, size_t y_stride, const matmul_runs *x, int32_t n_rows,
                                 const packed_matrix *w, int32_t first_panel, int32_t last_panel);

matmul_bf16_fn matmul_bf16_ref, matmul_bf16_avx2, matmul_bf16_avx512;
matmul_runs_bf16_fn matmul_runs_bf16_ref, matmul_runs_bf16_avx2, matmul_runs_bf16_avx512;

#endif

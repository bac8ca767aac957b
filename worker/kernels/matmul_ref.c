/*
 * matmul_ref.c - y = x W^T, the definition.
 */
#include "worker/kernels/matmul.h"

#include <math.h>

/* One output: row `place` of a panel against one row of x. */
static float dot(const bf16 *panel, int32_t place, const matmul_runs *x, size_t row,
                 int32_t columns)
{
    float sum = 0.0f;
    for (int32_t k = 0; k < columns; k++) {
        size_t pair = (size_t)(k / 2) * PANEL_ROWS + (size_t)place;
        float entry = x->x[row * x->stride + (size_t)(k / x->run) * x->jump + (size_t)(k % x->run)];
        sum = fmaf(entry, bf16_to_f32(panel[pair * 2 + (size_t)(k % 2)]), sum);
    }
    return sum;
}

void matmul_runs_bf16_ref(float *y, size_t y_stride, const matmul_runs *x, int32_t n_rows,
                          const packed_matrix *w, int32_t first_panel, int32_t last_panel)
{
    for (int32_t p = first_panel; p < last_panel; p++) {
        const bf16 *panel = w->data + (size_t)p * packed_panel_elements(w->columns);
        int32_t first = p * PANEL_ROWS;
        int32_t n = w->rows - first < PANEL_ROWS ? w->rows - first : PANEL_ROWS;
        for (int32_t m = 0; m < n_rows; m++) {
            for (int32_t i = 0; i < n; i++) {
                y[(size_t)m * y_stride + (size_t)(first + i)] =
                    dot(panel, i, x, (size_t)m, w->columns);
            }
        }
    }
}

void matmul_bf16_ref(float *y, size_t y_stride, const float *x, size_t x_stride, int32_t n_rows,
                     const packed_matrix *w, int32_t first_panel, int32_t last_panel)
{
    matmul_runs row = matmul_one_run(x, x_stride, w->columns);
    matmul_runs_bf16_ref(y, y_stride, &row, n_rows, w, first_panel, last_panel);
}

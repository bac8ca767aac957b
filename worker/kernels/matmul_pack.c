/*
 * matmul_pack.c - weight rows into panels and back.
 *
 * A panel is the transpose of 64 rows in units of two columns. The unit is moved in squares of one
 * cache line of source by 64 rows, so that the 4 KiB being written stay in the first-level cache:
 * each byte is read once and written once.
 */
#include "common/check.h"
#include "worker/kernels/matmul.h"

#include <string.h>

enum { PAIR = 2, PAIRS_AT_A_TIME = 16 };

/* Column pairs of one source row; an odd last column gets a zero beside it. */
static void pack_row_pairs(bf16 *panel, const bf16 *row, int32_t columns, int32_t place,
                           int32_t first_pair, int32_t last_pair)
{
    bf16 *out = panel + ((size_t)first_pair * PANEL_ROWS + (size_t)place) * PAIR;
    int32_t last_full = last_pair <= columns / 2 ? last_pair : columns / 2;
    int32_t pair = first_pair;
    for (; pair < last_full; pair++, out += PANEL_ROWS * PAIR) {
        memcpy(out, row + (size_t)pair * PAIR, PAIR * sizeof *out);
    }
    if (pair < last_pair) {
        memcpy(out, row + (size_t)pair * PAIR, sizeof *out);
        out[1] = 0;
    }
}

static void clear_row(bf16 *panel, int32_t n_pairs, int32_t place)
{
    for (int32_t pair = 0; pair < n_pairs; pair++) {
        memset(panel + ((size_t)pair * PANEL_ROWS + (size_t)place) * PAIR, 0, PAIR * sizeof *panel);
    }
}

/* n_rows rows into places [place, place + n_rows) of one panel. */
static void pack_panel(bf16 *panel, const bf16 *source, int32_t columns, int32_t place,
                       int32_t n_rows)
{
    int32_t n_pairs = columns / 2 + columns % 2;
    for (int32_t first = 0; first < n_pairs; first += PAIRS_AT_A_TIME) {
        int32_t last = n_pairs - first < PAIRS_AT_A_TIME ? n_pairs : first + PAIRS_AT_A_TIME;
        for (int32_t r = 0; r < n_rows; r++) {
            pack_row_pairs(panel, source + (size_t)r * (size_t)columns, columns, place + r, first,
                           last);
        }
    }
}

void matrix_pack_rows(bf16 *packed, int32_t rows, int32_t columns, const bf16 *source,
                      int32_t first_row, int32_t n_rows)
{
    CHECK(first_row >= 0 && n_rows >= 0 && n_rows <= rows - first_row && columns >= 0);
    for (int32_t done = 0; done < n_rows;) {
        int32_t row = first_row + done;
        int32_t place = row % PANEL_ROWS;
        int32_t n = PANEL_ROWS - place < n_rows - done ? PANEL_ROWS - place : n_rows - done;
        bf16 *panel = packed + (size_t)(row / PANEL_ROWS) * packed_panel_elements(columns);
        pack_panel(panel, source + (size_t)done * (size_t)columns, columns, place, n);
        if (row + n == rows) {
            for (int32_t rest = place + n; rest < PANEL_ROWS; rest++) {
                clear_row(panel, columns / 2 + columns % 2, rest);
            }
        }
        done += n;
    }
}

void matrix_unpack_row(float *out, const packed_matrix *w, int32_t row)
{
    CHECK(row >= 0 && row < w->rows);
    const bf16 *panel = w->data + (size_t)(row / PANEL_ROWS) * packed_panel_elements(w->columns);
    for (int32_t k = 0; k < w->columns; k++) {
        size_t line = (size_t)(k / PAIR) * PANEL_ROWS + (size_t)(row % PANEL_ROWS);
        out[k] = bf16_to_f32(panel[line * PAIR + (size_t)(k % PAIR)]);
    }
}

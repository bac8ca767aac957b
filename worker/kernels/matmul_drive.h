/*
 * matmul_drive.h - the loops around a strip kernel, the same for every instruction set (inside
 * worker/kernels/ only).
 *
 * A strip is one panel (64 outputs) x a few rows of x x a range of columns, whose sums stay in
 * registers. Few rows run through a panel in one go, so that decode is one linear stream over all
 * panels. With many rows the panel is cut along the columns into pieces that stay in the cache
 * while all rows pass over them; between pieces the sums wait in y, which changes neither their
 * order nor their bits. A last panel that is half empty or more has strips of its own, half as wide
 * and twice as high.
 */
#ifndef FLOTILLA_WORKER_KERNELS_MATMUL_DRIVE_H
#define FLOTILLA_WORKER_KERNELS_MATMUL_DRIVE_H

#include "worker/kernels/matmul.h"

#include <stdbool.h>
#include <string.h>

enum { STRIP_ROWS_MAX = 6, NARROW_ROWS_MAX = 12, NARROW_OUTPUTS = PANEL_ROWS / 2 };

/* Columns of x for a strip: x->x is where they begin, `left` of them before the first jump. */
typedef struct matmul_columns {
    matmul_runs x;
    int32_t left, n;
} matmul_columns;

/* y[m][0..63] (+)= x[m][0..n) times the lines at `lines`; `restart`: the sums begin at 0 and not at
 * what y holds. Only the last strip of a panel may have an odd n. */
typedef void matmul_strip(float *y, size_t y_stride, const matmul_columns *columns,
                          const bf16 *lines, bool restart);

/* The columns that lie together at the begin of c, at most `most`, are taken off it. Returns their
 * number. */
static inline int32_t columns_next(matmul_columns *c, int32_t most)
{
    int32_t n = c->left < c->n ? c->left : c->n;
    n = n < most ? n : most;
    c->n -= n;
    c->left -= n;
    c->x.x += n;
    if (c->left == 0) {
        c->x.x += c->x.jump - (size_t)c->x.run;
        c->left = c->x.run;
    }
    return n;
}

typedef struct matmul_strips {
    matmul_strip *of[NARROW_ROWS_MAX + 1]; /* by number of rows; [0] unused */
    int32_t rows_max;
} matmul_strips;

typedef struct matmul_driver {
    matmul_strips whole;
    matmul_strips narrow;  /* the first NARROW_OUTPUTS of a panel alone; the rest of y is left */
    int32_t piece_columns; /* even; of a panel that many rows pass over */
} matmul_driver;

typedef struct matmul_rows { /* rows of x and y that go together */
    float *y;
    size_t y_stride;
    matmul_runs x;
    int32_t n_rows;
} matmul_rows;

/* Columns [first, last) of rows from m on. */
static inline matmul_columns columns_of(const matmul_rows *r, int32_t m, int32_t first,
                                        int32_t last)
{
    matmul_columns c = {r->x, r->x.run - first % r->x.run, last - first};
    c.x.x += (size_t)m * r->x.stride + (size_t)(first / r->x.run) * r->x.jump +
             (size_t)(first % r->x.run);
    return c;
}

/* All rows over columns [first, last) of a panel, in strips of nearly equal height. */
static inline void drive_piece(const matmul_strips *strips, const matmul_rows *r, const bf16 *panel,
                               int32_t first, int32_t last)
{
    int32_t n_strips = (r->n_rows + strips->rows_max - 1) / strips->rows_max;
    for (int32_t s = 0, m = 0; s < n_strips; s++) {
        int32_t height = (r->n_rows - m) / (n_strips - s);
        matmul_columns columns = columns_of(r, m, first, last);
        strips->of[height](r->y + (size_t)m * r->y_stride, r->y_stride, &columns,
                           panel + (size_t)first * PANEL_ROWS, first == 0);
        m += height;
    }
}

static inline void drive_panel(const matmul_driver *d, const matmul_strips *strips,
                               const matmul_rows *r, const bf16 *panel, int32_t columns)
{
    int32_t piece = r->n_rows <= strips->rows_max ? columns : d->piece_columns;
    int32_t first = 0;
    do { /* once even where there are no columns, to write the zeros */
        int32_t last = columns - first < piece ? columns : first + piece;
        drive_piece(strips, r, panel, first, last);
        first = last;
    } while (first < columns);
}

/* A panel with padding: its outputs go by way of a buffer, a strip of rows at a time. */
static inline void drive_last_panel(const matmul_driver *d, const matmul_rows *all,
                                    const bf16 *panel, int32_t columns, int32_t n_outputs)
{
    float buffer[NARROW_ROWS_MAX][PANEL_ROWS];
    const matmul_strips *strips = n_outputs <= NARROW_OUTPUTS ? &d->narrow : &d->whole;
    int32_t n_strips = (all->n_rows + strips->rows_max - 1) / strips->rows_max;
    for (int32_t s = 0, m = 0; s < n_strips; s++) {
        matmul_rows r = {
            .y = buffer[0],
            .y_stride = PANEL_ROWS,
            .x = all->x,
            .n_rows = (all->n_rows - m) / (n_strips - s),
        };
        r.x.x += (size_t)m * all->x.stride;
        drive_panel(d, strips, &r, panel, columns);
        for (int32_t i = 0; i < r.n_rows; i++) {
            memcpy(all->y + (size_t)(m + i) * all->y_stride, buffer[i],
                   (size_t)n_outputs * sizeof(float));
        }
        m += r.n_rows;
    }
}

static inline void drive_matmul(const matmul_driver *d, float *y, size_t y_stride,
                                const matmul_runs *x, int32_t n_rows, const packed_matrix *w,
                                int32_t first_panel, int32_t last_panel)
{
    if (n_rows <= 0) {
        return;
    }
    for (int32_t p = first_panel; p < last_panel; p++) {
        const bf16 *panel = w->data + (size_t)p * packed_panel_elements(w->columns);
        int32_t n_outputs = w->rows - p * PANEL_ROWS;
        matmul_rows r = {y + (size_t)p * PANEL_ROWS, y_stride, *x, n_rows};
        if (n_outputs >= PANEL_ROWS) {
            drive_panel(d, &d->whole, &r, panel, w->columns);
        } else {
            drive_last_panel(d, &r, panel, w->columns, n_outputs);
        }
    }
}

#endif

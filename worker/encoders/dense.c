/*
 * dense.c - pieces of a product, each finished by the thread that computed it.
 */
#include "worker/encoders/dense.h"

#include "worker/kernels/kernels.h"

/* Pieces a thread, so that they end at nearly the same time; rows below which a panel is read for
 * too little. */
enum { PIECES_PER_THREAD = 4, PIECE_ROWS_MIN = 24 };

typedef struct product {
    const dense_rows *rows;
    const affine *a;
    int32_t first_panel;
    int32_t n_parts; /* of the rows */
    dense_after after;
} product;

static void finish_row(const product *p, int32_t m, int32_t first, int32_t n)
{
    const dense_rows *r = p->rows;
    float *y = r->y + (size_t)m * r->y_stride + first;
    const float *bias = p->a->bias != NULL ? p->a->bias + first : NULL;
    if (p->after == DENSE_GELU_ERF) {
        kernels()->gelu_erf(y, bias, n);
        return;
    }
    if (p->after == DENSE_GELU_TANH) {
        kernels()->gelu_tanh(y, bias, n);
        return;
    }
    if (bias != NULL) {
        kernels()->add(y, bias, n);
    }
    float *sum = r->sum != NULL ? r->sum + (size_t)m * r->sum_stride + first : NULL;
    if (p->after == DENSE_ADD || p->after == DENSE_ADD_SNAKE) {
        kernels()->add(sum, y, n);
    } else if (p->after == DENSE_ADD_SCALED) {
        kernels()->scaled_add(sum, r->scale + first, y, n);
    }
    if (p->after == DENSE_SNAKE || p->after == DENSE_ADD_SNAKE) {
        kernels()->snake(r->active + (size_t)m * r->active_stride + first,
                         p->after == DENSE_SNAKE ? y : sum, r->snake_a + first, r->snake_b + first,
                         n);
    }
}

static void compute_piece(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    const product *p = arg;
    const dense_rows *r = p->rows;
    int32_t panel = p->first_panel + item / p->n_parts;
    int32_t part = item % p->n_parts;
    int32_t begin = partition_begin(r->n_rows, part, p->n_parts);
    int32_t end = partition_begin(r->n_rows, part + 1, p->n_parts);
    matmul_runs x =
        matmul_one_run(r->x + (size_t)begin * r->x_stride, r->x_stride, p->a->w.columns);
    if (r->run > 0) {
        x.run = r->run;
        x.jump = r->jump;
    }
    kernels()->matmul_runs_bf16(r->y + (size_t)begin * r->y_stride, r->y_stride, &x, end - begin,
                                &p->a->w, panel, panel + 1);
    int32_t first = panel * PANEL_ROWS;
    int32_t left = p->a->w.rows - first;
    for (int32_t m = begin; m < end; m++) {
        finish_row(p, m, first, left < PANEL_ROWS ? left : PANEL_ROWS);
    }
}

void dense_panels(thread_pool *pool, const dense_rows *rows, const affine *a, int32_t first_panel,
                  int32_t last_panel, dense_after after)
{
    int32_t n_panels = last_panel - first_panel;
    if (n_panels <= 0 || rows->n_rows <= 0) {
        return;
    }
    int32_t wanted = (PIECES_PER_THREAD * thread_pool_size(pool) + n_panels - 1) / n_panels;
    int32_t most = (rows->n_rows + PIECE_ROWS_MIN - 1) / PIECE_ROWS_MIN;
    product p = {rows, a, first_panel, wanted < most ? wanted : most, after};
    thread_pool_each(pool, n_panels * p.n_parts, compute_piece, &p);
}

void dense_run(thread_pool *pool, const dense_rows *rows, const affine *a, dense_after after)
{
    dense_panels(pool, rows, a, 0, packed_panels(a->w.rows), after);
}

typedef struct norm_task {
    float *out;
    const float *x;
    const norm_weights *norm;
    int32_t n_rows, n;
    float eps;
} norm_task;

static void norm_rows(void *arg, int32_t thread, int32_t n_threads)
{
    const norm_task *t = arg;
    int32_t end = partition_begin(t->n_rows, thread + 1, n_threads);
    for (int32_t m = partition_begin(t->n_rows, thread, n_threads); m < end; m++) {
        size_t at = (size_t)m * (size_t)t->n;
        kernels()->layer_norm(t->out + at, t->x + at, t->norm->weight, t->norm->bias, t->n, t->eps);
    }
}

void dense_norm(thread_pool *pool, float *out, const float *x, const norm_weights *norm,
                int32_t n_rows, int32_t n, float eps)
{
    norm_task t = {out, x, norm, n_rows, n, eps};
    thread_pool_run(pool, norm_rows, &t);
}

/*
 * dense.h - y = W x + bias for many rows with all threads of a pool, and what follows at once while
 * the numbers are still in the cache.
 *
 * Work is cut into pieces of one panel (64 outputs) x some rows. A row's result depends on that row
 * alone, so neither the cut nor the number of threads change a bit.
 */
#ifndef FLOTILLA_WORKER_ENCODERS_DENSE_H
#define FLOTILLA_WORKER_ENCODERS_DENSE_H

#include "worker/encoders/encoder_weights.h"
#include "worker/thread_pool.h"

#include <stddef.h>
#include <stdint.h>

typedef enum dense_after {
    DENSE_PLAIN,      /* y = W x + bias */
    DENSE_GELU_ERF,   /* y = gelu(W x + bias) */
    DENSE_GELU_TANH,  /* the same with the tanh approximation */
    DENSE_ADD,        /* y = W x + bias, then sum += y: a residual connection */
    DENSE_ADD_SCALED, /* sum += scale[i] y[i] */
    DENSE_SNAKE,      /* y = W x + bias, then active = snake(y) */
    DENSE_ADD_SNAKE   /* sum += y, then active = snake(sum) */
} dense_after;

typedef struct dense_rows {
    float *y; /* [n_rows][y_stride] */
    size_t y_stride;
    const float *x; /* [n_rows][x_stride]; must not overlap y */
    size_t x_stride;
    int32_t n_rows;
    int32_t run; /* columns of x lie in runs (worker/kernels/matmul.h), 0: in one piece */
    size_t jump;
    float *sum; /* DENSE_ADD and its kin: [n_rows][sum_stride], updated */
    size_t sum_stride;
    const float *scale;             /* DENSE_ADD_SCALED: one for each output */
    const float *snake_a, *snake_b; /* of the snakes: likewise (worker/kernels/sound.h) */
    float *active;                  /* [n_rows][active_stride], written; may be y */
    size_t active_stride;
} dense_rows;

/* Outputs of panels [first_panel, last_panel) of a; bias may be NULL (none). */
void dense_panels(thread_pool *pool, const dense_rows *rows, const affine *a, int32_t first_panel,
                  int32_t last_panel, dense_after after);

/* All outputs. */
void dense_run(thread_pool *pool, const dense_rows *rows, const affine *a, dense_after after);

/* out[m] = LayerNorm(x[m]) for n_rows rows of n entries each, one after the other; out may be x. */
void dense_norm(thread_pool *pool, float *out, const float *x, const norm_weights *norm,
                int32_t n_rows, int32_t n, float eps);

#endif

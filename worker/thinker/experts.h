/*
 * experts.h - rows through their experts: grouping, the SwiGLU of each group, and the weighted sum.
 *
 * A pair is one (row, expert) choice. Pairs are grouped by expert, so that an expert's weights are
 * read once for all its rows; the groups of a layer are one list of tasks (expert, panel) for the
 * threads. A row's sum runs over its experts in rising order: y = fmaf(weight, expert(x), y) from
 * 0.
 */
#ifndef FLOTILLA_WORKER_THINKER_EXPERTS_H
#define FLOTILLA_WORKER_THINKER_EXPERTS_H

#include "common/arena.h"
#include "worker/kernels/kernels.h"
#include "worker/thinker/weights.h"
#include "worker/thread_pool.h"

#include <stdint.h>

typedef struct expert_choice { /* of one row: `n` experts in rising order */
    int32_t n;
    int32_t first; /* index of its first entry in the lists below */
} expert_choice;

typedef struct expert_batch {
    int32_t n_rows, n_pairs;
    const float *hidden;          /* [.][H], normed */
    const int32_t *row_index;     /* [n_rows] into hidden; NULL: row r is hidden's row r */
    const expert_choice *choices; /* [n_rows] */
    const int32_t *experts;       /* [n_pairs], counted from the worker's first expert */
    const float *weights;         /* [n_pairs] */
} expert_batch;

/* The input of the batch's row r. */
const float *expert_batch_row(const expert_batch *b, int32_t r, int32_t hidden_size);

typedef struct expert_shape {
    int32_t hidden_size, expert_size, n_experts; /* n_experts: of this worker */
} expert_shape;

/* Bytes of scratch that experts_forward takes from its arena for at most n_pairs pairs. */
size_t experts_scratch_bytes(const expert_shape *shape, int32_t n_pairs);

/* out [n_pairs][H]: expert(x) of each pair, in the order of the batch's lists, not weighted. */
void experts_forward(float *out, const expert_batch *batch, const swiglu_weights *experts,
                     const expert_shape *shape, thread_pool *pool, arena *scratch);

/* out [H] = the row's weighted sum over pair_out [n][H], continuing from what out holds. */
void experts_add(float *out, const float *pair_out, const float *weights, int32_t n,
                 int32_t hidden_size);

/* The dense form: out [n_rows][H] = down(silu(gate x) * up x). */
void swiglu_forward(float *out, const float *x, int32_t n_rows, const swiglu_weights *w,
                    const expert_shape *shape, thread_pool *pool, arena *scratch);

#endif

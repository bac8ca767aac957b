/*
 * head.h - logits of a worker's rows of the LM head, and what of them is worth sending.
 *
 * A shortlist has the K largest logits (with every logit that ties with the K-th), so greedy choice
 * and top-k sampling are exact without sending the vocabulary. A logit that is not a number (of
 * damaged weights) is the whole shortlist then, for the sampler to refuse. Sums of exponentials are
 * made for fixed grains of LM_HEAD_GRAIN rows of the vocabulary, so that the log-sum-exp has the
 * same bits however the head is divided.
 */
#ifndef FLOTILLA_WORKER_THINKER_HEAD_H
#define FLOTILLA_WORKER_THINKER_HEAD_H

#include "worker/thinker/stage.h"

#include <stdint.h>

typedef struct head_want { /* of one row */
    int32_t top;           /* K; 0: all logits in place of a shortlist */
    bool sums;             /* the grains' sums of exponentials too */
} head_want;

typedef struct head_row {
    const float *logits; /* [n_vocab_rows] of the worker */
    int32_t n_top;
    const int32_t *top_ids; /* vocabulary ids; by falling logit, ties by rising id */
    const float *top_logits;
    int32_t n_grains;
    const float *grain_max, *grain_sum; /* sum of exp(logit - grain_max) */
} head_row;

/* Bytes of the arena for HEAD_ROWS_MAX rows. */
size_t head_arena_bytes(const plan_worker *w);

/* hidden [n_rows][H] after the final norm, n_rows <= HEAD_ROWS_MAX; rows [n_rows] written, pointing
 * into the arena, good until its next reset. */
void head_forward(const stage *s, head_row *rows, const float *hidden, const head_want *wants,
                  int32_t n_rows, arena *memory);

/* out [n][H] = rms_norm(x) with the model's final norm. */
void head_final_norm(const stage *s, float *out, const float *x, int32_t n_rows);

#endif

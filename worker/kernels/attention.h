/*
 * attention.h - one block of keys and values against some query rows: the inner step of online
 * softmax.
 *
 * The KV cache keeps, for each layer and KV head, blocks of KV_BLOCK positions: keys with positions
 * innermost, values with head_dim innermost:
 *     k [head_dim][KV_BLOCK]  f32        v [KV_BLOCK][head_dim]  f32
 * Scores of 16 positions are summed side by side (over head_dim in rising order, fmaf, then times
 * scale), values are added position by position in rising order (fmaf): no sum crosses lanes but
 * the block's sum of exponentials, whose order vector.h states. A row sees the same blocks in the
 * same order whatever shares its step, so its bits do not depend on batch, chunking or threads.
 */
#ifndef FLOTILLA_WORKER_KERNELS_ATTENTION_H
#define FLOTILLA_WORKER_KERNELS_ATTENTION_H

#include "common/layout.h"

#include <stdint.h>

/* The running state of one (row, query head): everything so far is out / sum with weights e^(s -
 * max). */
typedef struct attend_state {
    float max; /* -inf at first */
    float sum; /* 0 at first */
} attend_state;

/* Takes the first n_valid positions (1..KV_BLOCK) of a block into the running state of one query:
 *     s_p = scale * (q . k_p);  m' = max(m, max s);  f = exp(m - m');  w_p = exp(s_p - m')
 *     sum = fmaf(sum, f, sum of w);  out = out * f, then out += w_p v_p for p = 0, 1, ...
 *   q   [head_dim]  normalised and rotated
 *   out [head_dim]  running, not yet divided by sum; all zero at first
 * Positions past n_valid are not read as numbers (they may hold anything, NaN too). At least one
 * score of the first block must be above -inf. head_dim is at most HEAD_DIM_MAX. out and q do not overlap.
 */
typedef void attend_block_fn(float *out, attend_state *state, const float *q, const float *k,
                             const float *v, int32_t n_valid, int32_t head_dim, float scale);

/* The same for n_heads queries that see the same positions of one KV head (those of its group in
 * one row), with the same bits: q and out [n_heads][head_dim], states[n_heads]. Each key and value
 * is loaded once for several queries, so this is the one to call where there are several. n_heads
 * may be 0. */
typedef void attend_heads_fn(float *out, attend_state *states, const float *q, int32_t n_heads,
                             const float *k, const float *v, int32_t n_valid, int32_t head_dim,
                             float scale);

attend_block_fn attend_block_ref, attend_block_avx2, attend_block_avx512;
attend_heads_fn attend_heads_ref, attend_heads_avx2, attend_heads_avx512;

#endif

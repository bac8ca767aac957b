/*
 * attention_drive.h - a block of keys and values against several queries, the same for every
 * instruction set (inside worker/kernels/ only).
 *
 * Both halves are small matrix products: scores [heads][positions] = q k with the keys as they lie,
 * and out [heads][head_dim] += weights v with the values as they lie. One kernel serves both: it
 * keeps the sums of a few heads x 64 columns in registers while the rows of the block stream past.
 */
#ifndef FLOTILLA_WORKER_KERNELS_ATTENTION_DRIVE_H
#define FLOTILLA_WORKER_KERNELS_ATTENTION_DRIVE_H

#include "common/check.h"
#include "worker/kernels/attention.h"

#include <stdbool.h>
#include <stddef.h>

enum { ATTEND_HEADS_MAX = 6 };

/* y[m][c] = (restart ? 0 : y[m][c]) then fmaf(x[m][j], w[j][c], .) for j = 0 .. n - 1 in order, for
 * n_rows (1..ATTEND_HEADS_MAX) rows and n_columns columns. */
typedef void attend_product(float *y, size_t y_stride, const float *x, size_t x_stride,
                            int32_t n_rows, const float *w, size_t w_stride, int32_t n,
                            int32_t n_columns, bool restart);

/* Sums q . k of n_valid positions into weights and the new state; shrinks out, whose earlier
 * weights were taken against the old maximum. */
typedef void attend_weigh(float *score, attend_state *state, float *out, int32_t n_valid,
                          int32_t head_dim, float scale);

static inline void drive_attention(attend_product *product, attend_weigh *weigh, float *out,
                                   attend_state *states, const float *q, int32_t n_heads,
                                   const float *k, const float *v, int32_t n_valid,
                                   int32_t head_dim, float scale)
{
    DCHECK(n_valid >= 1 && n_valid <= KV_BLOCK && head_dim <= HEAD_DIM_MAX);
    float score[ATTEND_HEADS_MAX][KV_BLOCK];
    /* Whole lines of positions: what lies past n_valid is computed and then left out. */
    int32_t n_positions = (n_valid + 15) / 16 * 16;
    int32_t n_turns = (n_heads + ATTEND_HEADS_MAX - 1) / ATTEND_HEADS_MAX;
    size_t dim = (size_t)head_dim;
    for (int32_t turn = 0, h = 0; turn < n_turns; turn++) {
        int32_t n = (n_heads - h) / (n_turns - turn);
        product(score[0], KV_BLOCK, q + (size_t)h * dim, dim, n, k, KV_BLOCK, head_dim, n_positions,
                true);
        for (int32_t i = 0; i < n; i++) {
            weigh(score[i], &states[h + i], out + (size_t)(h + i) * dim, n_valid, head_dim, scale);
        }
        product(out + (size_t)h * dim, dim, score[0], KV_BLOCK, n, v, dim, n_valid, head_dim,
                false);
        h += n;
    }
}

#endif

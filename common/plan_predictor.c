/*
 * plan_predictor.c - what the code predictor weighs, and what it computes in.
 *
 * Memory for all speakers at once: the first pass of a frame has two rows for each, and the keys
 * and values of one frame are kept. Nothing grows with the length of an answer.
 */
#include "common/plan_parts.h"

enum {
    ROWS_MAX = 2 * SPEAKERS_MAX, /* of a pass */
    CANDIDATE_BYTES = 32,        /* of the sampler, for each code */
    LISTS_BYTES = 64 << 10,      /* of rows and speakers, and what lines of 64 bytes leave over */
};

uint64_t plan_predictor_bytes(const model_config *m)
{
    if (!m->has_talker) {
        return 0;
    }
    const code_predictor_config *c = &m->code_predictor;
    text_config t;
    model_predictor_layers(&t, c);
    uint64_t group = plan_add(plan_matrix_bytes(c->vocab_size, c->hidden_size),
                              plan_array_bytes(c->vocab_size, c->hidden_size, sizeof(uint16_t)));
    uint64_t groups = plan_times(group, (uint64_t)(c->n_code_groups - 1));
    uint64_t norm = plan_array_bytes(1, c->hidden_size, sizeof(float));
    return plan_add(plan_layers_bytes(&t, 0, t.n_layers, true, 0), plan_add(norm, groups));
}

/* f32 [n][width] */
static uint64_t rows_bytes(int64_t n, int64_t width)
{
    return plan_array_bytes(n, width, sizeof(float));
}

/* What stage_forward works in (worker/thinker/stage.h). */
static uint64_t layer_bytes(const code_predictor_config *c)
{
    int64_t q = (int64_t)c->n_heads * c->head_dim, kv = (int64_t)c->n_kv_heads * c->head_dim;
    int64_t h = c->hidden_size, size = c->intermediate_size;
    int64_t padded = (size + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
    uint64_t attention = rows_bytes(ROWS_MAX, 2 * h + 2 * q + 2 * kv + c->head_dim);
    return plan_add(attention, rows_bytes(ROWS_MAX, 2 * h + 2 * padded + size));
}

/* Keys and values of a frame of every speaker, in whole blocks. */
static uint64_t frame_kv_bytes(const code_predictor_config *c)
{
    int64_t blocks = (c->n_code_groups + KV_BLOCK - 1) / KV_BLOCK;
    int64_t entries = (int64_t)c->n_kv_heads * c->head_dim * 2 * KV_BLOCK;
    return plan_times(rows_bytes(blocks * SPEAKERS_MAX, entries), (uint64_t)c->n_layers);
}

uint64_t plan_predictor_region_bytes(const code_predictor_config *c)
{
    int64_t h = c->hidden_size;
    uint64_t rows = rows_bytes(ROWS_MAX, h);
    uint64_t results = rows_bytes(SPEAKERS_MAX, 2 * h + c->vocab_size + c->n_code_groups);
    uint64_t candidates = plan_array_bytes(c->vocab_size, 1, CANDIDATE_BYTES);
    uint64_t all = plan_add(plan_add(rows, results), plan_add(candidates, LISTS_BYTES));
    return plan_add(all, plan_add(layer_bytes(c), frame_kv_bytes(c)));
}

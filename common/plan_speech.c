/*
 * plan_speech.c - bytes of the talker: its packed weights, its KV cache, and what its home computes
 * in.
 *
 * The weights are those of worker/speech/talker_weights.h, to the byte. The home's memory is at
 * least what worker/speech takes for steps of STEP_ROWS_MAX rows, however many owners the experts
 * have; a test holds it to that.
 */
#include "common/plan_parts.h"

enum {
    FRAMES = 4096,        /* behind a prompt, by default */
    SHARE_BYTES = 256,    /* of an owner's share of a step, beside its lists (stage.c) */
    GROUP_BYTES = 16,     /* of an expert in the lists of experts.c */
    LISTS_BYTES = 1 << 20 /* of sessions and spans, and what lines of 64 bytes leave over */
};

/* --- weights and cache -------------------------------------------------------------------------
 */

/* y = W x + bias */
static uint64_t affine_bytes(int64_t rows, int64_t columns)
{
    return plan_add(plan_matrix_bytes(rows, columns), plan_array_bytes(1, rows, sizeof(float)));
}

/* What stands in front of the layers and behind them: two projections, table, norm and head. */
static uint64_t ends_bytes(const talker_config *t)
{
    int64_t h = t->hidden_size, inner = t->projection_size;
    uint64_t projection =
        plan_add(affine_bytes(inner, t->thinker_hidden_size), affine_bytes(h, inner));
    uint64_t codes = plan_add(plan_array_bytes(t->vocab_size, h, sizeof(uint16_t)),
                              plan_matrix_bytes(t->vocab_size, h));
    return plan_add(plan_add(plan_times(2, projection), codes),
                    plan_array_bytes(1, h, sizeof(float)));
}

uint64_t plan_talker_bytes(const model_config *m, const plan_worker *w)
{
    if (!m->has_talker) {
        return 0;
    }
    text_config t;
    model_talker_layers(&t, &m->talker);
    uint64_t layers = plan_layers_bytes(&t, 0, t.n_layers, w->has_talker, w->n_talker_experts);
    return plan_add(layers, w->has_talker ? ends_bytes(&m->talker) : 0);
}

uint64_t plan_talker_kv_token_bytes(const model_config *m)
{
    const talker_config *t = &m->talker;
    uint64_t layer =
        plan_times(plan_times((uint64_t)t->n_kv_heads, (uint64_t)t->head_dim), 2 * sizeof(float));
    return m->has_talker ? plan_times(layer, (uint64_t)t->n_layers) : 0;
}

int64_t plan_talker_tokens(int64_t kv_tokens)
{
    return (kv_tokens + FRAMES + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK;
}

/* --- the home's memory -------------------------------------------------------------------------
 */

/* f32 [STEP_ROWS_MAX][width] */
static uint64_t rows_bytes(int64_t width)
{
    return plan_array_bytes(STEP_ROWS_MAX, width, sizeof(float));
}

/* n copies of each row through a SwiGLU of `size` inner entries: in, gate and up in whole panels,
 * their product, out. */
static uint64_t swiglu_rows_bytes(int64_t h, int64_t size, int64_t n)
{
    int64_t padded = (size + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
    uint64_t one = plan_add(plan_times(2, rows_bytes(h)),
                            plan_add(plan_times(2, rows_bytes(padded)), rows_bytes(size)));
    return plan_times(plan_add(one, rows_bytes(1)), (uint64_t)n);
}

/* Rows as they go to and come from the experts, where each may live on a worker of its own. */
static uint64_t routed_bytes(const talker_config *t)
{
    int64_t h = t->hidden_size, k = t->n_experts_per_token;
    int64_t owners = t->n_experts + 1 < PLAN_WORKERS_MAX ? t->n_experts + 1 : PLAN_WORKERS_MAX;
    uint64_t lists = plan_add(plan_add(rows_bytes(4), plan_times(2, rows_bytes(k))), SHARE_BYTES);
    uint64_t experts = plan_add(swiglu_rows_bytes(h, t->expert_size, k),
                                plan_times(GROUP_BYTES, (uint64_t)t->n_experts + 16));
    uint64_t shared = swiglu_rows_bytes(h, t->shared_expert_size, 1);
    uint64_t results = plan_times(2 * (uint64_t)k, rows_bytes(h)); /* own, and of others */
    return plan_add(plan_add(plan_times(lists, (uint64_t)owners), results),
                    experts > shared ? experts : shared);
}

/* A step in worker/thinker/stage.c. */
static uint64_t step_bytes(const talker_config *t)
{
    int64_t h = t->hidden_size, k = t->n_experts_per_token;
    int64_t q = (int64_t)t->n_heads * t->head_dim, kv = (int64_t)t->n_kv_heads * t->head_dim;
    uint64_t attention =
        plan_add(plan_add(rows_bytes(q + 2 * kv), rows_bytes(q)), rows_bytes(t->head_dim));
    uint64_t router = plan_add(rows_bytes(t->n_experts), plan_times(4, rows_bytes(k)));
    uint64_t rows = plan_add(plan_times(3, rows_bytes(h)), rows_bytes(1)); /* and shared expert's */
    return plan_add(plan_add(attention, router), plan_add(rows, routed_bytes(t)));
}

/* What worker/speech/talker_desk.c holds: input rows of all speakers with a note for each, and
 * their blocks; a speaker's frame and what was drawn for it; rows of a step on their way in. */
static uint64_t desk_bytes(const talker_config *t, int64_t talker_tokens)
{
    int64_t h = t->hidden_size, vocab = t->vocab_size;
    uint64_t note = 5 * sizeof(float), block = (SPEAKERS_MAX + 1) * sizeof(int32_t);
    uint64_t inputs = plan_add(plan_array_bytes(talker_tokens, h, sizeof(float)),
                               plan_add(plan_times(note, (uint64_t)talker_tokens),
                                        plan_times(block, (uint64_t)(talker_tokens / KV_BLOCK))));
    uint64_t frames = plan_array_bytes(SPEAKERS_MAX, 7 * h + 3 * vocab, sizeof(float));
    uint64_t choice =
        plan_array_bytes(12, vocab, sizeof(float)); /* candidates, and the sampler's */
    uint64_t step =
        plan_add(rows_bytes(2 * h + t->thinker_hidden_size), plan_times(5, rows_bytes(1)));
    return plan_add(plan_add(inputs, frames), plan_add(choice, step));
}

uint64_t plan_talker_region_bytes(const model_config *m, int64_t talker_tokens)
{
    const talker_config *t = &m->talker;
    if (!m->has_talker) {
        return 0;
    }
    uint64_t projected = plan_add(rows_bytes(t->projection_size),
                                  plan_array_bytes(1, t->projection_size, sizeof(float)));
    return plan_add(plan_add(step_bytes(t), projected),
                    plan_add(desk_bytes(t, talker_tokens), LISTS_BYTES));
}

/*
 * stage.h - a range of thinker layers: rows of hidden states in, rows of hidden states out.
 *
 * A layer:
 *     n = rms_norm(x);  q, k, v = Wqkv n;  q, k normed per head and rotated;  k, v into the KV
 * cache x += Wo softmax(q K^T / sqrt(d)) V n = rms_norm(x);  router: the k most likely experts of
 * softmax(Wr n);  x += sum_e w_e expert_e(n) x += deep-stack features, where the layer takes some
 * This runs on the stage's home. Experts of other workers are reached through hooks, so that the
 * layers know no messages. Source: modeling_qwen3_omni_moe.py, Qwen3OmniMoeThinkerTextDecoderLayer.
 */
#ifndef FLOTILLA_WORKER_THINKER_STAGE_H
#define FLOTILLA_WORKER_THINKER_STAGE_H

#include "common/arena.h"
#include "common/plan.h"
#include "worker/thinker/experts.h"
#include "worker/thinker/kv_cache.h"
#include "worker/thinker/rope.h"
#include "worker/thinker/step.h"
#include "worker/thinker/weights.h"

typedef struct stage_hooks {
    void *arg;
    /* Hands a layer's rows to the worker at `place` of the stage; *batch is read before it returns.
     */
    void (*expert_send)(void *arg, int32_t layer, int32_t place, const expert_batch *batch);
    /* Waits for all that was sent for this layer; results[place] takes the rows (or pairs) that
     * come back, n_floats[place] of them; NULL where nothing was sent. */
    void (*expert_gather)(void *arg, int32_t layer, int32_t n_places, float *const *results,
                          const size_t *n_floats);
    /* Tells a tensor of all rows [n_rows][columns], f32 or (is_ids) i32; NULL when nobody asks. */
    void (*dump)(void *arg, const char *name, const void *rows, int32_t columns, bool is_ids);
    /* Called between kernels so that messages move. */
    void (*progress)(void *arg);
} stage_hooks;

typedef struct stage {
    const model_config *model;
    const plan *plan;
    const plan_worker *worker;
    stage_weights weights;
    kv_cache *cache; /* home only */
    thread_pool *pool;
    rope rope;
    arena arena; /* of one step */
} stage;

/* Bytes of the step arena that a worker of this plan needs. */
size_t stage_arena_bytes(const model_config *m, const plan *p, const plan_worker *w);

/* KV cache shape of a home. */
kv_shape stage_kv_shape(const model_config *m, const plan *p, const plan_worker *w);

/* x [n_rows][H] through the stage's layers, in place; home only. The arena is reset first.
 * Positions of the rows must have been made room for in the cache. */
void stage_forward(stage *s, float *x, const step_rows *step, const stage_hooks *hooks);

/* A batch that came from the home: out is [n_rows][H] weighted sums, or with the plan's
 * deterministic flag [n_pairs][H]. The arena is reset first. */
void stage_experts(stage *s, int32_t layer, float *out, const expert_batch *batch);

/* x [n][H] = rows of the embedding table. ids must be in range. */
void stage_embed(const stage *s, float *x, const int32_t *ids, int32_t n);

#endif

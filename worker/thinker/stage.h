/*
 * stage.h - a range of a decoder's layers: rows of hidden states in, rows of hidden states out.
 *
 * A layer:
 *     n = rms_norm(x)
 *     q, k, v = Wqkv n;  q, k normed per head and rotated;  k, v into the KV cache
 *     x += Wo softmax(q K^T / sqrt(d)) V
 *     n = rms_norm(x)
 *     x += sum_e w_e expert_e(n), over the k most likely experts of softmax(Wr n)
 *          + sigmoid(g . n) shared(n), where the decoder has a shared expert
 *     x += deep-stack features, where the layer takes some
 * This runs on the stage's home. Experts of other workers are reached through hooks, so that the
 * layers know no messages. Thinker, talker and code predictor run on it, whatever they add in front
 * and behind. Source: modeling_qwen3_omni_moe.py, Qwen3OmniMoeThinkerTextDecoderLayer,
 * Qwen3OmniMoeTalkerDecoderLayer, Qwen3OmniMoeTalkerCodePredictorDecoderLayer.
 */
#ifndef FLOTILLA_WORKER_THINKER_STAGE_H
#define FLOTILLA_WORKER_THINKER_STAGE_H

#include "common/arena.h"
#include "common/plan.h"
#include "worker/thinker/decoder_part.h"
#include "worker/thinker/experts.h"
#include "worker/thinker/kv_cache.h"
#include "worker/thinker/rope.h"
#include "worker/thinker/step.h"
#include "worker/thinker/weights.h"

typedef struct stage_hooks { /* the first two may be NULL where no other worker owns experts */
    void *arg;
    /* Hands a layer's rows to the owner of experts at `place`; *batch is read before it returns. */
    void (*expert_send)(void *arg, int32_t layer, int32_t place, const expert_batch *batch);
    /* Waits for all that was sent for this layer; results[place] takes the rows (or pairs) that
     * come back, n_floats[place] of them; NULL where nothing was sent. */
    void (*expert_gather)(void *arg, int32_t layer, int32_t n_places, float *const *results,
                          const size_t *n_floats);
    /* Tells a tensor of all rows [n_rows][columns], f32 or (is_ids) i32; NULL when nobody asks. */
    void (*dump)(void *arg, const char *name, const void *rows, int32_t columns, bool is_ids);
    /* Tells the output rows [n_rows][H] of a layer (counted in the decoder), deep-stack features
     * not added yet; NULL when nobody asks. */
    void (*output)(void *arg, int32_t layer, const float *x);
    /* Called between kernels so that messages move; NULL where none are due. */
    void (*progress)(void *arg);
} stage_hooks;

typedef struct stage {
    decoder_part part;
    bool deterministic; /* other owners send one row an expert, and sums have one order */
    int32_t n_owners;   /* of the layers' experts: the home first */
    expert_range owners[PLAN_WORKERS_MAX]; /* by place; rising */
    rope rope;
    thread_pool *pool;
    stage_weights weights;
    kv_cache *cache; /* home only */
    arena arena;     /* of one step */
} stage;

/* Fills a stage whose home owns all experts; weights, cache and arena are the caller's to add. */
void stage_init(stage *s, const decoder_part *part, thread_pool *pool);

/* The same for the thinker's layers on w, whose stage's workers share the experts. */
void stage_init_thinker(stage *s, const model_config *m, const plan *p, const plan_worker *w,
                        thread_pool *pool);

/* Bytes of the step arena for a part and steps of at most rows_max rows; n_owners: workers that own
 * experts of its layers, the home included. */
size_t stage_arena_bytes(const decoder_part *part, int32_t n_owners, int32_t rows_max);

/* KV cache of a home, for n_tokens positions over all sequences. */
kv_shape stage_kv_shape(const decoder_part *part, int64_t n_tokens);

/* x [n_rows][H] through the stage's layers, in place; home only; at most the arena's rows. The
 * arena is reset first. Positions of the rows must have been made room for in the cache. */
void stage_forward(stage *s, float *x, const step_rows *step, const stage_hooks *hooks);

/* A batch that came from the home: out is [n_rows][H] weighted sums, or where the stage is
 * deterministic [n_pairs][H]. The arena is reset first. */
void stage_experts(stage *s, int32_t layer, float *out, const expert_batch *batch);

/* x [n][H] = rows of the embedding table. ids must be in range. */
void stage_embed(const stage *s, float *x, const int32_t *ids, int32_t n);

#endif

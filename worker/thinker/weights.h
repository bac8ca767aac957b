/*
 * weights.h - the tensors that one worker owns, laid out once in the order in which kernels read
 * them.
 *
 * One region of exactly the plan's bytes (plan_thinker_bytes): layer after layer its norms (f32),
 * attention, router and the worker's experts as packed bf16 panels, then LM-head rows, then the
 * embedding as plain rows. An expert's gate and up panels lie in turn (gate 0, up 0, gate 1, ...),
 * so that its SwiGLU is one linear read. Every tensor is found and its shape checked before the
 * first byte is read; a tensor that is not bf16 is taken if bf16 holds each of its values exactly,
 * and refused by name if not.
 */
#ifndef FLOTILLA_WORKER_THINKER_WEIGHTS_H
#define FLOTILLA_WORKER_THINKER_WEIGHTS_H

#include "common/checkpoint.h"
#include "common/model_config.h"
#include "common/plan.h"
#include "worker/kernels/matmul.h"
#include "worker/thread_pool.h"
#include "worker/weight_loader.h"

/* One SwiGLU: gate_up has 2 * packed_panels(size) panels, gate and up in turn; down is [H][size].
 */
typedef struct swiglu_weights {
    packed_matrix gate_up, down;
} swiglu_weights;

typedef struct layer_weights {
    bool sparse;
    /* at home only */
    const float *input_norm, *post_norm; /* [H] */
    const float *q_norm, *k_norm;        /* [head_dim] */
    packed_matrix qkv;                   /* [(n_heads + 2 n_kv_heads) * head_dim][H] */
    packed_matrix o;                     /* [H][n_heads * head_dim] */
    packed_matrix router;                /* [n_experts][H]; sparse layers */
    swiglu_weights dense;                /* dense layers */
    /* experts [first_expert, first_expert + n_experts) of a sparse layer */
    swiglu_weights *experts;
} layer_weights;

typedef struct stage_weights {
    const bf16 *embedding;   /* [vocab][H], plain rows; NULL elsewhere */
    const float *final_norm; /* [H]; NULL elsewhere */
    packed_matrix lm_head;   /* rows [first_vocab_row, + n_vocab_rows); 0 rows elsewhere */
    int32_t n_layers;
    layer_weights *layers; /* [n_layers] of the stage */
    void *region;
    uint64_t region_bytes;
} stage_weights;

/* Takes the region and finds every tensor (FLO_FAIL names the first that is missing or has another
 * shape), then reads them with the pool's threads. progress(arg, done, total) is called on the
 * calling thread now and then, in bytes of the checkpoint. */
flo_code stage_weights_load(stage_weights *w, const model_config *m, const plan_worker *p,
                            const weights_source *source, thread_pool *pool,
                            void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                            flo_err *err);
void stage_weights_free(stage_weights *w);

#endif

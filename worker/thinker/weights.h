/*
 * weights.h - the tensors that one worker owns, laid out once in the order in which kernels read
 * them.
 *
 * One region of exactly the plan's bytes (plan_thinker_bytes): layer after layer its norms (f32),
 * attention, router, shared expert and the worker's experts as packed bf16 panels, then LM-head
 * rows, then the embedding as plain rows. An expert's gate and up panels lie in turn (gate 0, up 0,
 * gate 1, ...), so that its SwiGLU is one linear read. Other decoders declare their layers with the
 * same call, beside whatever else they have. Every tensor is found and its shape checked before the
 * first byte is read; a tensor that is not bf16 is taken if bf16 holds each of its values exactly,
 * and refused by name if not.
 */
#ifndef FLOTILLA_WORKER_THINKER_WEIGHTS_H
#define FLOTILLA_WORKER_THINKER_WEIGHTS_H

#include "common/checkpoint.h"
#include "common/model_config.h"
#include "common/plan.h"
#include "worker/kernels/matmul.h"
#include "worker/thinker/decoder_part.h"
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
    swiglu_weights shared;               /* sparse layers of a decoder with a shared expert */
    packed_matrix shared_gate;           /* [1][H], with it */
    swiglu_weights dense;                /* dense layers */
    /* anywhere: the owned experts of a sparse layer */
    swiglu_weights *experts;
} layer_weights;

typedef struct stage_weights {
    const bf16 *embedding;   /* [vocab][H], plain rows; NULL elsewhere */
    const float *final_norm; /* [H]; NULL elsewhere */
    packed_matrix lm_head;   /* rows from first_vocab_row on; 0 rows elsewhere */
    int32_t first_vocab_row;
    int32_t n_layers;
    layer_weights *layers; /* [n_layers] of the stage */
    void *region;
    uint64_t region_bytes;
} stage_weights;

/* Declares the layers of a part, in a region that may hold more: plan_layers_bytes
 * (common/plan_parts.h) of it are theirs. Fills w->layers, which stage_weights_free frees; c NULL:
 * made-up weights. A fault is kept by the loader. */
void stage_layers_declare(stage_weights *w, const decoder_part *part, weight_loader *l,
                          const checkpoint *c);

/* The thinker's part of worker p. Takes the region and finds every tensor (FLO_FAIL names the first
 * that is missing or has another shape), then reads them with the pool's threads. progress(arg,
 * done, total) is called on the calling thread now and then, in bytes of the checkpoint. */
flo_code stage_weights_load(stage_weights *w, const model_config *m, const plan_worker *p,
                            const weights_source *source, thread_pool *pool,
                            void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                            flo_err *err);

/* The region (NULL is allowed) and the list of layers. */
void stage_weights_free(stage_weights *w);

#endif

/*
 * encoder_weights.h - the tensors of the audio and the vision encoder, packed.
 *
 * Convolutions work on [time][mel][channel] rows, so their weights' columns are put in the order
 * [time][mel][in channel] (what one output sees of a point in time then lies in one piece), and
 * conv_out's in the order [mel][channel]. Sizes: plan_audio_bytes and plan_vision_bytes
 * (common/plan_parts.h), which list the same in the same order.
 */
#ifndef FLOTILLA_WORKER_ENCODERS_ENCODER_WEIGHTS_H
#define FLOTILLA_WORKER_ENCODERS_ENCODER_WEIGHTS_H

#include "common/model_config.h"
#include "worker/weight_loader.h"

typedef struct affine { /* y = W x + bias; also a norm's weight and bias */
    packed_matrix w;
    const float *bias; /* NULL: none */
} affine;

typedef struct norm_weights {
    const float *weight, *bias;
} norm_weights;

typedef struct audio_layer_weights {
    norm_weights attention_norm, final_norm;
    affine qkv; /* [3 d_model][d_model]: q, k, v rows */
    affine out, fc1, fc2;
} audio_layer_weights;

typedef struct audio_weights {
    affine conv[3];  /* [c][9 * in]: in is 1, c, c */
    affine conv_out; /* [d_model][mel * c], no bias */
    audio_layer_weights *layers;
    norm_weights ln_post;
    affine proj1, proj2;
    void *region;
    uint64_t region_bytes;
} audio_weights;

typedef struct vision_block_weights {
    norm_weights norm1, norm2;
    affine qkv, proj, fc1, fc2;
} vision_block_weights;

typedef struct merger_weights {
    norm_weights norm; /* over hidden (the last merger) or merge^2 * hidden (deep-stack) */
    affine fc1, fc2;
} merger_weights;

typedef struct vision_weights {
    affine patch;          /* [hidden][channels * temporal * patch^2] */
    const bf16 *positions; /* [n_position_embeddings][hidden] */
    vision_block_weights *blocks;
    merger_weights merger;
    merger_weights *deepstack; /* [n_deepstack] */
    void *region;
    uint64_t region_bytes;
} vision_weights;

typedef struct load_watch { /* progress of a load, in bytes of the checkpoint */
    void (*tell)(void *arg, uint64_t done, uint64_t total);
    void *arg;
} load_watch;

flo_code audio_weights_load(audio_weights *w, const audio_config *a, const weights_source *source,
                            thread_pool *pool, const load_watch *watch, flo_err *err);
void audio_weights_free(audio_weights *w);

flo_code vision_weights_load(vision_weights *w, const vision_config *v,
                             const weights_source *source, thread_pool *pool,
                             const load_watch *watch, flo_err *err);
void vision_weights_free(vision_weights *w);

#endif

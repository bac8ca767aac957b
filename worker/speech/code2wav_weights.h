/*
 * code2wav_weights.h - the vocoder's tensors, packed.
 *
 * Activations are rows [time][channel], so what a convolution sees of seven neighbouring rows lies
 * in one piece: its weights' columns are put in the order [tap][in channel]. A transposed
 * convolution makes all outputs of a time step at once: rows [p][out channel] for its places p,
 * columns the one or two rows of inputs it sees, the earlier first. Sizes: plan_code2wav_bytes
 * (common/plan_code2wav.c), which lists the same.
 */
#ifndef FLOTILLA_WORKER_SPEECH_CODE2WAV_WEIGHTS_H
#define FLOTILLA_WORKER_SPEECH_CODE2WAV_WEIGHTS_H

#include "common/code2wav_shape.h"
#include "worker/encoders/encoder_weights.h"

typedef struct snake_weights { /* as the kernel takes them: e^alpha, 1 / (e^beta + 1e-9) */
    const float *a, *b;
} snake_weights;

typedef struct code2wav_layer_weights {
    const float *attention_norm, *attention_scale, *mlp_norm, *mlp_scale; /* [hidden] */
    affine qkv;                                                           /* q, k, v rows */
    affine out, gate_up, down; /* gate_up: gate rows, then up rows */
} code2wav_layer_weights;

typedef struct residual_unit_weights {
    snake_weights act1, act2;
    affine conv1, conv2; /* [c][KERNEL * c], [c][c] */
} residual_unit_weights;

typedef struct code2wav_stage_weights { /* what its kind has */
    snake_weights act;                  /* block, exit: in front */
    affine conv;                        /* all but exit; transposed in upsample and block */
    const float *taps;      /* [KERNEL][channels]: upsample (each channel by itself), exit */
    const float *taps_bias; /* [channels]; exit [1] */
    norm_weights norm;      /* upsample, and the next three */
    affine wide, narrow;
    const float *gamma;
    residual_unit_weights units[CODE2WAV_UNITS]; /* block */
} code2wav_stage_weights;

typedef struct code2wav_weights {
    const bf16 *codes; /* [n_quantizers * codebook_size][hidden] */
    code2wav_layer_weights *layers;
    const float *norm;
    code2wav_stage_weights stages[CODE2WAV_STAGES_MAX];
    void *region;
    uint64_t region_bytes;
} code2wav_weights;

flo_code code2wav_weights_load(code2wav_weights *w, const code2wav_config *c,
                               const weights_source *source, thread_pool *pool,
                               const load_watch *watch, flo_err *err);
void code2wav_weights_free(code2wav_weights *w);

#endif

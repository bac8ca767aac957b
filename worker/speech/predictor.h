/*
 * predictor.h - the code predictor: from a frame's first code to all of its codes.
 *
 * One frame is groups - 1 passes through five dense layers: the first takes the talker's state
 * (after its final norm) and the first code's embedding as two rows, each later one the embedding
 * of the code chosen before it; every pass has a head and a table of its own. Frames of several
 * speakers go through together, each as if it were alone. Costs a read of all layers a pass.
 * Source: Qwen3OmniMoeTalkerCodePredictor*; shared specification, section 4.
 */
#ifndef FLOTILLA_WORKER_SPEECH_PREDICTOR_H
#define FLOTILLA_WORKER_SPEECH_PREDICTOR_H

#include "common/error.h"
#include "common/layout.h"
#include "common/model_config.h"
#include "worker/encoders/encoder_weights.h"
#include "worker/thread_pool.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct predictor predictor;

typedef struct predictor_choice { /* how one speaker's codes are chosen */
    bool greedy;   /* else temperature 1, top-k 50, top-p 0.8, as the reference has them fixed */
    uint64_t seed; /* of the draws draw, draw + 1, ... (sampler_uniform) */
    uint64_t draw;
    uint64_t listener; /* the caller's: who is told the frame's logits; 0: nobody */
} predictor_choice;

/* Takes the memory of frames of SPEAKERS_MAX speakers, predictor_open_bytes of it (within
 * plan_predictor_region_bytes); pool is read until predictor_close. */
uint64_t predictor_open_bytes(const code_predictor_config *c);
flo_code predictor_open(predictor **out, const code_predictor_config *c, thread_pool *pool,
                        flo_err *err);

/* Reads the weights, plan_predictor_bytes of them; watch may be NULL. FLO_FAIL names the first
 * tensor that is missing or has another shape. */
flo_code predictor_load(predictor *p, const weights_source *source, const load_watch *watch,
                        flo_err *err);
void predictor_close(predictor *p); /* NULL is allowed */

/* Begins a frame of n speakers, 1 to SPEAKERS_MAX: hidden [n][H] and firsts [n][H] (the talker's
 * embedding of the first code), how [n]; all copied. Not while a frame is under way. */
void predictor_begin(predictor *p, const float *hidden, const float *firsts,
                     const predictor_choice *how, int32_t n);

/* Makes one pass. *done: the frame is finished. FLO_FAIL: logits that are not numbers. */
flo_code predictor_advance(predictor *p, bool *done, flo_err *err);

/* Of the pass that was made last, 0 to groups - 2: logits [vocab] of the speaker at `place`, where
 * it has a listener; NULL: it has none. */
const float *predictor_logits(const predictor *p, int32_t place, int32_t *pass, uint64_t *listener);

/* Of the finished frame, good until the next begins: codes [n][groups - 1]; sums [n][H], firsts +
 * embedding of each code in turn. */
const int32_t *predictor_codes(const predictor *p);
const float *predictor_sums(const predictor *p);

#endif

/*
 * decoder_part.h - which layers and experts of a decoder one worker has.
 *
 * The thinker, the talker and the code predictor are the same decoder with other numbers
 * (common/model_config.h, model_talker_layers, model_predictor_layers); what computes their layers
 * knows a decoder by this and nothing else.
 */
#ifndef FLOTILLA_WORKER_THINKER_DECODER_PART_H
#define FLOTILLA_WORKER_THINKER_DECODER_PART_H

#include "common/model_config.h"
#include "common/plan.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct expert_range { /* experts [first, first + n) of each sparse layer */
    int32_t first, n;
} expert_range;

typedef struct decoder_part {
    const text_config *text; /* of the whole decoder; borrowed */
    const char *prefix;      /* of its tensors' names: "thinker.model." */
    int32_t first_layer, n_layers;
    bool home;            /* attention, norms, routers, dense layers and shared experts too */
    expert_range experts; /* owned here */
} decoder_part;

/* What the plan gives w of the thinker's layers. */
decoder_part decoder_part_thinker(const model_config *m, const plan_worker *w);

/* A whole decoder on one worker. */
decoder_part decoder_part_whole(const text_config *t, const char *prefix);

#endif

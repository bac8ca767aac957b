/*
 * talker_weights.h - the tensors of the talker that one worker owns, packed.
 *
 * The layers, the table of codes (as embedding), the final norm and the codec head (as LM head)
 * stand where the thinker's do, in a stage's weights, and so the whole region does; beside them are
 * the two projections from the thinker's width. Size: plan_talker_bytes (common/plan_parts.h).
 */
#ifndef FLOTILLA_WORKER_SPEECH_TALKER_WEIGHTS_H
#define FLOTILLA_WORKER_SPEECH_TALKER_WEIGHTS_H

#include "worker/encoders/encoder_weights.h"
#include "worker/thinker/weights.h"

typedef struct talker_projection { /* y = fc2 silu(fc1 x + b1) + b2 */
    affine fc1;                    /* [projection_size][H of the thinker] */
    affine fc2;                    /* [H][projection_size] */
} talker_projection;

typedef struct talker_weights {
    stage_weights *stage;           /* the caller's; owns the region */
    talker_projection text, hidden; /* at home only */
} talker_weights;

/* Fills w and *w->stage for this part of the talker, n_bytes of it. *w->stage is to be freed with
 * stage_weights_free, which on failure is done. FLO_FAIL names the first tensor that is missing or
 * has another shape. */
flo_code talker_weights_load(talker_weights *w, const talker_config *c, const decoder_part *part,
                             uint64_t n_bytes, const weights_source *source, thread_pool *pool,
                             const load_watch *watch, flo_err *err);

#endif

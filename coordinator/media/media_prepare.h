/*
 * media_prepare.h - from references to encoder inputs: open, decode, resize, transform, cut.
 *
 * Sizes are found first and held against the room in the context, so that a video that could not
 * fit is refused before it is decoded.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_MEDIA_PREPARE_H
#define FLOTILLA_COORDINATOR_MEDIA_MEDIA_PREPARE_H

#include "common/error.h"
#include "common/model_config.h"
#include "coordinator/media/media_set.h"
#include "coordinator/media/preprocessor.h"
#include "coordinator/media/source.h"

typedef struct media_house { /* what all requests of a job share; borrowed, read only */
    const model_config *model;
    const preprocessor *preprocessor;
    int64_t tokens_max;  /* that a context holds */
    int64_t patches_max; /* that one job of the vision encoder has memory for */
    uint64_t pixels_max; /* of a stored picture or frame */
    int32_t n_threads;   /* for one decoding */
} media_house;

/* Fills in every item's layout and parts. rules: what this request may reach. The sentence names
 * the medium. FLO_INTERRUPTED: s->cancelled was set. Any thread, one at a time for each set. */
flo_code media_prepare(media_set *s, const media_house *h, const media_rules *rules, flo_err *err);

#endif

/*
 * step.h - one batch of token rows on its way through a stage.
 *
 * Rows of several sequences lie one after another, span by span. What a row becomes depends on its
 * own sequence alone; sharing a step changes no bit of it.
 */
#ifndef FLOTILLA_WORKER_THINKER_STEP_H
#define FLOTILLA_WORKER_THINKER_STEP_H

#include "common/layout.h"
#include "common/model_config.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct step_row {
    int32_t slot;     /* of its sequence in the KV cache */
    int32_t position; /* in the sequence: it sees positions 0..position */
} step_row;

typedef struct step_deep { /* deep-stack features: added to the output of thinker layers 0.. */
    int32_t n_layers;      /* features for layers 0 .. n_layers - 1 */
    int32_t n_rows;
    const uint32_t *rows; /* [n_rows] of the step, rising */
    const float
        *features[MODEL_DEEPSTACK_MAX]; /* by layer, [n_rows][H]; NULL where already added */
} step_deep;

typedef struct step_rows {
    int32_t n_rows;
    const step_row *rows;
    const float *axes[3]; /* [n_rows] each: time, height, width; f32, may be fractional */
    step_deep deep;
} step_rows;

#endif

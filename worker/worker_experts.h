/*
 * worker_experts.h - rows to the workers that hold their experts, of a stage of the thinker or of
 * the talker, and what comes back.
 *
 * Dispatches travel on LANE_EXPERTS, which is served wherever a worker waits (worker.h): the home
 * of one decoder may hold experts of the other.
 */
#ifndef FLOTILLA_WORKER_WORKER_EXPERTS_H
#define FLOTILLA_WORKER_WORKER_EXPERTS_H

#include "proto/transport.h"
#include "worker/thinker/experts.h"

#include <stdbool.h>

typedef struct worker worker;

/* A layer's rows from the home of this stage, or from the talker's. */
void worker_on_expert_dispatch(worker *w, const incoming *in);

/* The home's side of the same, for stage_hooks' expert_send and expert_gather. */
typedef struct expert_round { /* of one step */
    worker *w;
    uint64_t step;
    bool talker;    /* its layers, not the thinker's */
    int32_t n_sent; /* batches whose results are due */
} expert_round;

void worker_expert_send(expert_round *round, int32_t layer, int32_t place,
                        const expert_batch *batch);
void worker_expert_gather(expert_round *round, int32_t layer, int32_t n_places,
                          float *const *results, const size_t *n_floats);

#endif

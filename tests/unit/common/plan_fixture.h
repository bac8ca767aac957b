/*
 * plan_fixture.h - models, workers and requests that tests of the plan share, and what holds for
 * every plan that is made.
 */
#ifndef FLOTILLA_TESTS_PLAN_FIXTURE_H
#define FLOTILLA_TESTS_PLAN_FIXTURE_H

#include "common/model_tensors.h"
#include "common/plan.h"

extern plan_worker_facts facts[PLAN_WORKERS_MAX]; /* of the last request */
extern plan p, again;                             /* to make plans in */
extern plan_misfit misfit;
extern flo_err err;

/* A text model of a few hundred KiB, every layer sparse where there are experts. */
model_config small_model(int32_t n_layers, int32_t n_experts);

/* The shapes of the published 30B model, with all its parts. */
model_config published_model(void);

/* Workers h0, h1, .. of two threads with so much memory each (0: no limit); no encoders, no speech.
 */
plan_request equal_workers(const model_config *m, int32_t n_workers, int32_t n_stages,
                           uint64_t memory_bytes);
plan_request with_media(plan_request r);
plan_request with_speech(plan_request r);
plan_request with_all(plan_request r);

/* p, made for r, is valid; every worker is within its limit and holds the plan's terms. */
void check_within_limits(const plan_request *r);

/* Numbers in the tensors that a model's part asks for. */
uint64_t parameters_of(const model_config *m, model_component part);

/* Rank of a worker of p; 0 for NULL. */
int32_t rank_of(const plan_worker *w);

#endif

/*
 * rig.h - all workers of a plan in one process, for tests: the stages of a small model one after
 * another, their expert workers called where a job would send messages.
 */
#ifndef FLOTILLA_TESTS_UNIT_WORKER_THINKER_RIG_H
#define FLOTILLA_TESTS_UNIT_WORKER_THINKER_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/thinker/head.h"
#include "worker/thinker/stage.h"

enum { RIG_WORKERS_MAX = 16, RIG_SEQUENCES_MAX = 8 };

typedef struct rig_shape {
    int32_t n_workers, n_stages, n_threads;
    bool deterministic;
} rig_shape;

typedef struct rig {
    model_config model;
    plan plan;
    stage stages[RIG_WORKERS_MAX]; /* by rank - 1 */
    thread_pool *pool;
    float *results[RIG_WORKERS_MAX]; /* what an expert worker answered, by place */
    int32_t home;                    /* index of the home that computes */
    int32_t lengths[RIG_SEQUENCES_MAX];
    step_deep deep; /* given to the first stage that needs it, in the next step */
    void (*dump)(void *arg, const char *name, const void *rows, int32_t columns, bool is_ids);
    void (*output)(void *arg, int32_t layer, const float *x);
    void *dump_arg; /* for the test; both are called with the rig */
} rig;

/* A model of small, odd numbers; everything may be changed before rig_open. */
model_config rig_model(void);

/* Plans, loads (source->checkpoint NULL: made-up weights) and takes all memory; aborts the test
 * where that fails. */
void rig_open(rig *r, const model_config *m, const rig_shape *shape, const weights_source *source);
void rig_close(rig *r);

/* One step: n_rows[i] rows of sequence i continue it. x [all rows][H] goes through all stages. */
typedef struct rig_span {
    int32_t sequence, n_rows;
} rig_span;
void rig_step(rig *r, float *x, const rig_span *spans, int32_t n_spans);

/* Embeds ids [n] of sequence 0 from its beginning and computes them in chunks; x [n][H] written. */
void rig_prompt(rig *r, float *x, const int32_t *ids, int32_t n, int32_t chunk);

/* Forgets what the caches hold of a sequence. */
void rig_forget(rig *r, int32_t sequence);

/* out [n][vocab]: final norm and head, all workers of the last stage. */
void rig_logits(rig *r, float *out, const float *x, int32_t n);

uint64_t rig_random(uint64_t *seed);
int32_t rig_below(uint64_t *seed, int32_t n); /* [0, n) */

#endif

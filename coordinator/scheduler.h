/*
 * scheduler.h - many answers through one pipeline of stages.
 *
 * Keeps as many steps under way as there are stages. A step takes one row of every sequence that
 * decodes (a share of them where several steps are to be under way) and fills up with chunks of
 * prompts (continuous batching). What a sequence computes does not depend on what shares its steps,
 * so this module decides speed, never results.
 *
 * KV cache: a request is admitted when its prompt and answer fit beside those already admitted. The
 * sequences of finished answers stay, and a prompt that begins like one of them takes over what
 * they share; they go, oldest first, when room is needed.
 *
 * Memory: a record for each sequence and step. One thread.
 */
#ifndef FLOTILLA_COORDINATOR_SCHEDULER_H
#define FLOTILLA_COORDINATOR_SCHEDULER_H

#include "common/plan.h"
#include "coordinator/generation.h"
#include "proto/transport.h"

typedef struct scheduler scheduler;

flo_code scheduler_new(scheduler **out, transport *t, const plan *p, const model_config *m,
                       uint64_t epoch, flo_err *err);
void scheduler_free(scheduler *s);

/* Takes a request. FLO_USAGE: an empty prompt, an id out of range, a prompt over the KV capacity.
 */
flo_code scheduler_submit(scheduler *s, generation *g, flo_err *err);

/* Ends an answer with what it has; on_done follows, at the latest when its steps are back. */
void scheduler_cancel(scheduler *s, generation *g);

/* Sends the steps that can be sent. */
void scheduler_pump(scheduler *s);

/* Messages of the workers. FLO_FAIL: one that does not belong here. */
flo_code scheduler_on_logits(scheduler *s, const incoming *in, flo_err *err);
flo_code scheduler_on_dump(scheduler *s, const incoming *in, flo_err *err);

/* True while an answer is being made or waits. */
bool scheduler_busy(const scheduler *s);

#endif

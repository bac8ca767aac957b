/*
 * verify_answer.h - one greedy answer whose prompt pass is kept in memory, and several of them at
 * once.
 *
 * Holds every dumped tensor whole: n_prompt rows of hidden states for each layer and of the
 * vocabulary for logits, a few MB for the recorded cases.
 */
#ifndef FLOTILLA_COORDINATOR_VERIFY_ANSWER_H
#define FLOTILLA_COORDINATOR_VERIFY_ANSWER_H

#include "coordinator/job.h"
#include "coordinator/prompt.h"
#include "coordinator/row_store.h"

typedef struct answer_run { /* one answer */
    generation generation;
    dump_sink sink;
    bool last_logits; /* of the logits, only the prompt's last row is kept */
    row_store kept;   /* by position in the prompt */
    bool done;
} answer_run;

/* p, laid out and with its media's rows, is borrowed until answer_run_free. max_new tokens are made
 * greedily, with the n_top best alternatives of each; generation stops at the job's stop ids if
 * `stops`. */
void answer_run_init(answer_run *a, const job *j, const prompt *p, int32_t max_new, int32_t n_top,
                     bool stops);
void answer_run_free(answer_run *a);

/* Hands one to the scheduler; a refusal is in its state, and it is done then. It must stay where it
 * is until it is done. */
void answer_run_submit(job *j, answer_run *a);

/* Submits all, and serves the job until the last is done. A refused or failed generation is in its
 * state (FINISH_FAILED, code, err). FLO_FAIL: the job cannot go on. */
flo_code answer_run_all(job *j, answer_run *const *runs, size_t n, flo_err *err);

#endif

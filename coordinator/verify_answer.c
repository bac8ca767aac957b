/*
 * verify_answer.c - a dump sink into memory, and the loop that waits for answers.
 */
#include "coordinator/verify_answer.h"

#include <string.h>

/* --- the sink ----------------------------------------------------------------------------------
 */

static flo_code take_rows(void *arg, const char *name, int32_t first, int32_t n_rows,
                          int32_t columns, bool is_ids, const void *data, flo_err *err)
{
    answer_run *a = arg;
    if (a->last_logits && strcmp(name, "logits") == 0) {
        first -= a->generation.n_prompt - 1;
    }
    return row_store_take(&a->kept, name, first, n_rows, columns, is_ids, data, err);
}

/* --- one answer --------------------------------------------------------------------------------
 */

static void on_token(generation *g, int32_t id)
{
    (void)g;
    (void)id;
}

static void on_done(generation *g)
{
    answer_run *a = g->owner;
    a->done = true;
}

static void take_stop_ids(generation *g, const job *j)
{
    for (int32_t i = 0; i < j->defaults.n_stop && g->n_stop < STOP_IDS_MAX; i++) {
        g->stop_ids[g->n_stop++] = j->defaults.stop_ids[i];
    }
    if (j->model.tokens.im_end >= 0 && g->n_stop < STOP_IDS_MAX) {
        g->stop_ids[g->n_stop++] = j->model.tokens.im_end;
    }
}

void answer_run_init(answer_run *a, const job *j, const prompt *p, int32_t max_new, int32_t n_top,
                     bool stops)
{
    *a = (answer_run){.sink = {.logits = true, .rows = take_rows}};
    generation *g = &a->generation;
    prompt_give(p, g);
    g->max_new = max_new;
    g->sampling = (sampling){.top_p = 1, .repetition_penalty = 1};
    g->logprobs = n_top;
    g->on_token = on_token;
    g->on_done = on_done;
    if (stops) {
        take_stop_ids(g, j);
    }
}

void answer_run_free(answer_run *a)
{
    row_store_free(&a->kept);
    generation_clear(&a->generation);
    *a = (answer_run){0};
}

void answer_run_submit(job *j, answer_run *a)
{
    generation *g = &a->generation;
    /* The struct has its final address now, so what points into it is set here. */
    a->sink.arg = a;
    a->sink.logits = !a->last_logits;
    g->dump = &a->sink;
    g->owner = a;
    flo_code code = scheduler_submit(j->scheduler, g, &g->err);
    if (code != FLO_OK) {
        g->code = code;
        g->finish = FINISH_FAILED;
        a->done = true;
    }
}

static bool all_done(answer_run *const *runs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!runs[i]->done) {
            return false;
        }
    }
    return true;
}

flo_code answer_run_all(job *j, answer_run *const *runs, size_t n, flo_err *err)
{
    for (size_t i = 0; i < n; i++) {
        answer_run_submit(j, runs[i]);
    }
    while (!all_done(runs, n)) {
        bool busy;
        flo_code code = job_poll(j, &busy, err);
        if (code != FLO_OK) {
            return code;
        }
        transport_pause(j->transport, busy);
    }
    return FLO_OK;
}

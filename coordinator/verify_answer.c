/*
 * verify_answer.c - a dump sink into memory, and the loop that waits for answers.
 */
#include "coordinator/verify_answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the sink ----------------------------------------------------------------------------------
 */

static bool is_last_logits(const answer_run *a, const char *name)
{
    return a->last_logits && strcmp(name, "logits") == 0;
}

int32_t kept_rows(const answer_run *a, const kept_tensor *t)
{
    return is_last_logits(a, t->name) ? 1 : a->generation.n_prompt;
}

const kept_tensor *answer_run_find(const answer_run *a, const char *name)
{
    for (size_t i = 0; i < a->n_kept; i++) {
        if (strcmp(a->kept[i].name, name) == 0) {
            return &a->kept[i];
        }
    }
    return NULL;
}

static kept_tensor *add_tensor(answer_run *a, const char *name, int32_t columns, bool is_ids,
                               flo_err *err)
{
    kept_tensor *more = realloc(a->kept, (a->n_kept + 1) * sizeof *more);
    if (more == NULL) {
        flo_fail(err, FLO_FAIL, "out of memory for the tensors of a prompt pass");
        return NULL;
    }
    a->kept = more;
    kept_tensor *t = &more[a->n_kept];
    *t = (kept_tensor){.columns = columns, .is_ids = is_ids};
    snprintf(t->name, sizeof t->name, "%s", name);
    size_t n_bytes = (size_t)kept_rows(a, t) * (size_t)columns * sizeof(float);
    t->data = malloc(n_bytes + 1);
    if (t->data == NULL) {
        flo_fail(err, FLO_FAIL, "out of memory for %s of a prompt pass", name);
        return NULL;
    }
    memset(t->data, 0xff, n_bytes);
    a->n_kept++;
    return t;
}

static flo_code take_rows(void *arg, const char *name, int32_t first, int32_t n_rows,
                          int32_t columns, bool is_ids, const void *data, flo_err *err)
{
    answer_run *a = arg;
    kept_tensor *t = (kept_tensor *)answer_run_find(a, name);
    if (t == NULL) {
        t = add_tensor(a, name, columns, is_ids, err);
        if (t == NULL) {
            return FLO_FAIL;
        }
    }
    if (is_last_logits(a, name)) {
        first -= a->generation.n_prompt - 1;
    }
    if (t->columns != columns || t->is_ids != is_ids || first < 0 || n_rows < 0 ||
        n_rows > kept_rows(a, t) - first) {
        return flo_fail(err, FLO_FAIL, "rows of %s came with another shape than the first of them",
                        name);
    }
    size_t row_bytes = (size_t)columns * sizeof(float);
    memcpy((char *)t->data + (size_t)first * row_bytes, data, (size_t)n_rows * row_bytes);
    return FLO_OK;
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
    for (size_t i = 0; i < a->n_kept; i++) {
        free(a->kept[i].data);
    }
    free(a->kept);
    generation_clear(&a->generation);
    *a = (answer_run){0};
}

/* The struct has its final address now, so what points into it is set here. */
static void submit(job *j, answer_run *a)
{
    generation *g = &a->generation;
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
        submit(j, runs[i]);
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

/*
 * serve_gateway.c - requests over the socket, many at a time.
 *
 * One loop waits for two things, workers and gateway; it naps when neither has anything. A request
 * ends inside a call of the scheduler, so its answer is made one round later, when the loop is free
 * to ask the workers for their sizes.
 */
#include "coordinator/bench.h"
#include "coordinator/request.h"
#include "coordinator/serve.h"
#include "coordinator/verify.h"

#include "common/log.h"

#include <stdlib.h>
#include <string.h>

typedef struct door {
    job *job;
    request *running; /* list */
    request *ended;   /* list: answers to be made */
    bool stopped;
} door;

static void on_delta(void *arg, request *r, const char *text, size_t n_bytes)
{
    door *d = arg;
    gateway_link_delta(d->job->link, r->id, text, n_bytes);
}

static void on_sound(void *arg, request *r, const float *samples, int32_t n)
{
    door *d = arg;
    gateway_link_sound(d->job->link, r->id, samples, n);
}

static void on_stage(void *arg, request *r, const char *what, double share)
{
    door *d = arg;
    gateway_link_stage(d->job->link, r->id, what, share);
}

static void on_done(void *arg, request *r)
{
    door *d = arg;
    for (request **at = &d->running; *at != NULL; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            break;
        }
    }
    r->next = d->ended;
    d->ended = r;
}

static void answer_ended(door *d)
{
    while (d->ended != NULL) {
        request *r = d->ended;
        char *json = NULL;
        size_t n_bytes = 0;
        flo_err err = {""};
        d->ended = r->next;
        flo_code code = request_answer(r, &json, &n_bytes, &err);
        gateway_link_done(d->job->link, r->id, code, err.text, json, n_bytes);
        free(json);
        request_free(r);
    }
}

static void say_line(void *arg, const char *text, size_t n_bytes)
{
    const Flo__Submit *s = ((void **)arg)[0];
    job *j = ((void **)arg)[1];
    gateway_link_delta(j->link, s->request, text, n_bytes);
}

/* Verification runs by itself: its requests are its own, and the gateway waits. */
static void run_verify(door *d, const Flo__Submit *s)
{
    flo_err err = {""};
    void *arg[2] = {(void *)s, d->job};
    flo_code code =
        verify_run(d->job, (const char *)s->body.data, s->body.len, say_line, arg, &err);
    gateway_link_done(d->job->link, s->request, code, err.text, "", 0);
}

/* So does a measurement. */
static void run_bench(door *d, const Flo__Submit *s)
{
    flo_err err = {""};
    char *json = NULL;
    size_t n_bytes = 0;
    flo_code code =
        bench_run(d->job, (const char *)s->body.data, s->body.len, &json, &n_bytes, &err);
    gateway_link_done(d->job->link, s->request, code, err.text, json, n_bytes);
    free(json);
}

static void start_request(door *d, const Flo__Submit *s)
{
    flo_err err;
    request *r;
    request_ends ends = {
        .arg = d, .delta = on_delta, .done = on_done, .sound = on_sound, .stage = on_stage};
    request_from from = {.local_files = s->local_files, .dump_path = s->dump};
    if (strcmp(s->kind, "verify") == 0) {
        run_verify(d, s);
        return;
    }
    if (strcmp(s->kind, "bench") == 0) {
        run_bench(d, s);
        return;
    }
    flo_code code =
        strcmp(s->kind, "completion") == 0
            ? request_start(&r, d->job, s->request, (const char *)s->body.data, s->body.len, &from,
                            &ends, &err)
            : flo_fail(&err, FLO_USAGE, "the coordinator knows no request of kind \"%s\"", s->kind);
    if (code != FLO_OK) {
        gateway_link_done(d->job->link, s->request, code, err.text, "", 0);
        return;
    }
    r->next = d->running;
    d->running = r;
}

static void cancel_request(door *d, uint64_t id)
{
    for (request *r = d->running; r != NULL; r = r->next) {
        if (r->id == id) {
            request_cancel(r);
            return;
        }
    }
}

static flo_code take_from_gateway(door *d, bool *busy, flo_err *err)
{
    Flo__ToCoordinator *m;
    bool closed;
    flo_code code = gateway_link_take(d->job->link, &m, &closed, err);
    d->stopped = d->stopped || closed;
    *busy = m != NULL;
    if (code != FLO_OK || m == NULL) {
        return code;
    }
    switch (m->body_case) {
    case FLO__TO_COORDINATOR__BODY_SUBMIT:
        start_request(d, m->submit);
        break;
    case FLO__TO_COORDINATOR__BODY_CANCEL:
        cancel_request(d, m->cancel->request);
        break;
    case FLO__TO_COORDINATOR__BODY_STOP:
        d->stopped = true;
        break;
    default:
        log_warn("the gateway sent a message that this version does not know");
    }
    flo__to_coordinator__free_unpacked(m, NULL);
    return FLO_OK;
}

/* Answers that nobody waits for any more are cancelled; their steps come back first. */
static flo_code end_requests(door *d, flo_err *err)
{
    for (request *r = d->running, *next; r != NULL; r = next) {
        next = r->next; /* cancelling may move r to the other list */
        request_cancel(r);
    }
    flo_code code = job_settle(d->job, err);
    while (d->ended != NULL) {
        request *r = d->ended;
        d->ended = r->next;
        request_free(r);
    }
    return code;
}

flo_code serve_gateway(job *j, flo_err *err)
{
    door d = {.job = j};
    flo_code code = FLO_OK;
    while (code == FLO_OK && !d.stopped) {
        bool busy, asked = false;
        code = job_poll(j, &busy, err);
        if (code == FLO_OK) {
            code = take_from_gateway(&d, &asked, err);
        }
        if (code == FLO_OK) {
            answer_ended(&d);
        }
        transport_pause(j->transport, busy || asked);
    }
    return code == FLO_OK ? end_requests(&d, err) : code;
}

/*
 * front.h - what commands that need ranks have in common: the model's folder, the job, a display of
 * its progress, one request at a time, and standard output.
 */
#ifndef FLOTILLA_LAUNCH_FRONT_H
#define FLOTILLA_LAUNCH_FRONT_H

#include "common/buffer.h"
#include "common/error.h"
#include "common/options.h"
#include "common/progress.h"
#include "gateway/session.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct front {
    run_options options; /* model is the resolved folder */
    char model[PATH_MAX];
    run_hosts hosts;
    bool has_hosts;
    progress *progress;
    session *session;
    /* the request under way */
    uint64_t request; /* 0: none */
    bool answered;
    bool speaking; /* its text has begun */
    flo_code code; /* of the answer */
    flo_err cause;
    buffer result;      /* its JSON */
    buffer held;        /* log lines that would stand in the middle of the answer */
    flo_code text_code; /* what on_text returned, when that ended the request */
    flo_code (*on_text)(void *arg, const char *text, size_t n_bytes,
                        flo_err *err); /* may be NULL */
    void *arg;
} front;

/* Finds the model and the hosts, starts the job and returns when it is ready. On failure nothing is
 * left and front_close need not be called (but may). */
flo_code front_open(front *f, const run_options *options, flo_err *err);

/* Sends a request and returns; front_step carries it on until f->answered. */
flo_code front_submit(front *f, const char *kind, const buffer *body, const char *dump,
                      flo_err *err);

/* Waits for something to happen, as session_step does. FLO_INTERRUPTED: a signal; the job lives.
 * Any other failure: the job is lost, or on_text failed. */
flo_code front_step(front *f, int wait_ms, int other_fd, bool *other_ready, flo_err *err);

/* Submits and waits for the answer; its code and sentence are returned, its JSON is in f->result.
 */
flo_code front_ask(front *f, const char *kind, const buffer *body, const char *dump, flo_err *err);

/* Log lines that were held back while the answer was written; for after its last newline. */
void front_show_held(front *f);

/* Ends the job, quickly if it failed or a signal came. */
void front_close(front *f);

/* All of text to standard output; FLO_FAIL where it cannot be written (closed pipe, full disk),
 * FLO_INTERRUPTED where a signal came while the reader kept us waiting. */
flo_code output_write(const char *text, size_t n_bytes, flo_err *err);

/* A path made absolute, as ranks may run elsewhere; malloc'd. */
char *absolute_path(const char *path);

#endif

/*
 * session.h - one running MPI job and the requests that go through it.
 *
 * The session starts the job, waits for the coordinator to connect back with the token it was
 * given, and then carries requests to it and events from it. Everything happens on the caller's
 * thread inside session_step: events are handed to the callbacks from there. Several requests may
 * be under way.
 *
 * However the job ends unasked (a killed rank, a crash, a fault that a rank reported), the next
 * session_step says why in one sentence; a session that has failed answers every call with that.
 */
#ifndef FLOTILLA_GATEWAY_SESSION_H
#define FLOTILLA_GATEWAY_SESSION_H

#include "common/error.h"
#include "common/options.h"
#include "gateway/hosts.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct session session;

typedef struct session_handlers { /* any may be NULL; texts are good during the call */
    void *arg;
    void (*progress)(void *arg, int32_t rank, const char *host, uint64_t bytes_done,
                     uint64_t bytes_total);
    void (*ready)(void *arg, const char *plan_json, double load_s);
    void (*delta)(void *arg, uint64_t request, const char *text, size_t n_bytes);
    /* The next sound of a spoken answer: samples [n_samples] of 16 bits, signed, little-endian, one
     * channel. */
    void (*sound)(void *arg, uint64_t request, int32_t sample_rate, const unsigned char *samples,
                  size_t n_samples);
    /* What a request waits for before its first text, and how much of it (0 to 1) is done. */
    void (*stage)(void *arg, uint64_t request, const char *what, double share);
    /* The last event of a request. code 0: result is its JSON; else error is the sentence. */
    void (*done)(void *arg, uint64_t request, flo_code code, const char *error, const char *result,
                 size_t n_bytes);
    void (*log)(void *arg, const char *line); /* a log line of a rank, for standard error */
} session_handlers;

/* Starts the job and returns when it is ready for requests. options->model is the resolved folder.
 * FLO_INTERRUPTED: a signal came (interrupts.h). FLO_FAIL: what kept the job from starting; or what
 * the ranks found wrong, with their code. Nothing is left running then. */
flo_code session_open(session **out, const run_options *options, const run_hosts *hosts,
                      const session_handlers *handlers, flo_err *err);

/* Sends a request. kind: "completion", "verify". dump: file for the prompt pass's tensors, or NULL.
 * local_files: its media may be named by paths, as it comes from the person who started the job. */
flo_code session_submit(session *s, const char *kind, const char *body, size_t n_bytes,
                        const char *dump, bool local_files, uint64_t *request, flo_err *err);
flo_code session_cancel(session *s, uint64_t request, flo_err *err);

/* Waits for something to happen and handles it; at most wait_ms (-1: until something does).
 * other_fd
 * (-1: none) is watched too: *other_ready says that it can be read. FLO_INTERRUPTED: a signal came;
 * the session goes on. Otherwise a code that is not FLO_OK says why the job is lost. */
flo_code session_step(session *s, int wait_ms, int other_fd, bool *other_ready, flo_err *err);

/* Ends the job and everything that belongs to it. In peace the ranks may take END_MS to finish;
 * after a failure or a signal all is over within two seconds. NULL is allowed. */
void session_close(session *s);

/* Folder of the programs that run as ranks: FLOTILLA_PROGRAMS, else where this program lies. */
flo_code session_programs(char *out, size_t n_bytes, flo_err *err);

#endif

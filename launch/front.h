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
#include "launch/speech_file.h"
#include "launch/speech_given.h"

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
    buffer result;       /* its JSON */
    buffer held;         /* log lines that would stand in the middle of the answer */
    flo_code text_code;  /* what on_text returned, when that ended the request */
    flo_code sound_code; /* the same of the sound's file, with sound_cause */
    flo_err sound_cause;
    speech_file *sound; /* where the spoken answer goes; owned once it is set, NULL: nowhere */
    double sound_s;     /* length of what was kept last */
    int text_fd;        /* where on_text writes */
    flo_code (*on_text)(void *arg, const char *text, size_t n_bytes,
                        flo_err *err); /* may be NULL */
    void *arg;
} front;

/* Finds the model and the hosts, starts the job and returns when it is ready. speech: what the
 * model must be able to say, where its file is named; or NULL. On failure nothing is left and
 * front_close need not be called (but may). */
flo_code front_open(front *f, const run_options *options, const speech_given *speech, flo_err *err);

/* Whether this job can speak so: speech_model_check over its model. */
flo_code front_check_speech(const front *f, const speech_given *speech, flo_err *err);

/* Sends a request and returns; front_step carries it on until f->answered. */
flo_code front_submit(front *f, const char *kind, const buffer *body, const char *dump,
                      flo_err *err);

/* Waits for something to happen, as session_step does. FLO_INTERRUPTED: a signal; the job lives.
 * Any other failure: the job is lost, or text or sound could not be written. */
flo_code front_step(front *f, int wait_ms, int other_fd, bool *other_ready, flo_err *err);

/* Submits and waits for the answer; its code and sentence are returned, its JSON is in f->result.
 */
flo_code front_ask(front *f, const char *kind, const buffer *body, const char *dump, flo_err *err);

/* The answer's sound is whole: keeps its file. f->sound is NULL afterwards, whatever is returned;
 * where it was, there is nothing to do. */
flo_code front_keep_sound(front *f, flo_err *err);

/* One line about the sound that was kept last, under this name. */
void front_log_sound(const front *f, const char *path);

/* The answer's JSON to standard output, with the name of its sound's file (NULL: none) in it. */
flo_code front_show_document(const front *f, const char *sound_file, flo_err *err);

/* Log lines that were held back while the answer was written; for after its last newline. */
void front_show_held(front *f);

/* Ends the job, quickly if it failed or a signal came. Sound that was not kept is thrown away. */
void front_close(front *f);

/* A path made absolute, as ranks may run elsewhere; malloc'd. */
char *absolute_path(const char *path);

#endif

/*
 * job_output.h - what an MPI job says on its standard error, sorted: log lines of our ranks, and
 * the launcher's own talk.
 *
 * Log lines ("flotilla: ...") pass through by level. Error lines are kept back, as they usually say
 * why the job then ends: the first becomes the one sentence that the user sees. Everything else
 * (banners of mpirun, ssh, srun, libraries) goes into a ring of TALK_LINES lines and is only read
 * to find out what happened.
 */
#ifndef FLOTILLA_GATEWAY_JOB_OUTPUT_H
#define FLOTILLA_GATEWAY_JOB_OUTPUT_H

#include "common/error.h"
#include "common/log.h"

#include <stdbool.h>
#include <stddef.h>

enum { TALK_LINES = 128, TALK_LINE_BYTES = 512 };

typedef struct job_output {
    char line[2048]; /* the last, not yet ended */
    size_t line_bytes;
    char talk[TALK_LINES][TALK_LINE_BYTES];
    size_t n_talk;                             /* ever; line i lies at i % TALK_LINES */
    char first_error[FLO_ERR_BYTES];           /* of our ranks; "": none */
    bool sanitizer;                            /* a sanitizer's report is among the talk */
    bool verbose;                              /* show the talk as it comes */
    void (*show)(void *arg, const char *line); /* a line for the user, without newline */
    void *arg;
} job_output;

/* Bytes as they came from the pipe. */
void job_output_take(job_output *o, const char *bytes, size_t n_bytes);

/* The last line may lack its newline. */
void job_output_end(job_output *o);

/* Why the job ended, in one sentence, and the exit status that fits it. launcher is "mpirun" or
 * "srun"; wait_status as waitpid gave it. */
flo_code job_output_explain(const job_output *o, const char *launcher, int wait_status,
                            flo_err *err);

/* Shows all of the talk (reports of sanitizers must not get lost). */
void job_output_show_talk(const job_output *o);

#endif

/*
 * serve.h - where requests come from and where answers go: the gateway's socket, or a JSONL file.
 */
#ifndef FLOTILLA_COORDINATOR_SERVE_H
#define FLOTILLA_COORDINATOR_SERVE_H

#include "coordinator/job.h"

#include <stdio.h>

/* Serves the gateway until it says stop or goes away. FLO_FAIL: the job cannot go on. */
flo_code serve_gateway(job *j, flo_err *err);

typedef struct batch_files {
    int requests; /* a descriptor */
    FILE *output;
    const char *output_path; /* for sentences; borrowed */
} batch_files;

/* Opens both, before anything is loaded; - or no output_path: the standard ones. FLO_USAGE: a file
 * that cannot be opened or made. */
flo_code batch_files_open(batch_files *f, const char *requests_path, const char *output_path,
                          flo_err *err);

/* Answers each line of a JSONL file ({"custom_id": "a", "body": {...}}) with a line of the OpenAI
 * batch form, in the order in which answers are done, and closes the files. A line that is refused
 * gets an error in its place. FLO_FAIL: disk full, or the job cannot go on. */
flo_code serve_file(job *j, const batch_files *f, flo_err *err);

/* One body from the command line; text to standard output as it comes, or the whole answer as JSON.
 */
flo_code serve_one(job *j, const char *body, size_t n_bytes, bool json, flo_err *err);

#endif

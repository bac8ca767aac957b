/*
 * serve.h - where requests come from and where answers go: the gateway's socket, or a JSONL file.
 */
#ifndef FLOTILLA_COORDINATOR_SERVE_H
#define FLOTILLA_COORDINATOR_SERVE_H

#include "coordinator/job.h"

/* Serves the gateway until it says stop or goes away. FLO_FAIL: the job cannot go on. */
flo_code serve_gateway(job *j, flo_err *err);

/* Answers each line of a JSONL file ({"custom_id": "a", "body": {...}}) with a line of the OpenAI
 * batch form, in the order in which answers are done. A line that is refused gets an error in its
 * place. FLO_USAGE: no such file. FLO_FAIL: disk full, or the job cannot go on. */
flo_code serve_file(job *j, const char *requests_path, const char *output_path, flo_err *err);

/* One body from the command line; text to standard output as it comes, or the whole answer as JSON.
 */
flo_code serve_one(job *j, const char *body, size_t n_bytes, bool json, flo_err *err);

#endif

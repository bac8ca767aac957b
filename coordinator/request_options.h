/*
 * request_options.h - how an answer is to be made, from a request's JSON body.
 */
#ifndef FLOTILLA_COORDINATOR_REQUEST_OPTIONS_H
#define FLOTILLA_COORDINATOR_REQUEST_OPTIONS_H

#include "coordinator/generation.h"
#include "coordinator/job.h"

#include <cjson/cJSON.h>

/* Every key of a body must be known, or have the value that it has by itself. FLO_USAGE names it.
 */
flo_code request_keys_check(const cJSON *body, flo_err *err);

/* A number of the body, if it is there. FLO_USAGE: it is none, or out of range. */
flo_code request_number(const cJSON *body, const char *name, double min, double max, double *out,
                        flo_err *err);
flo_code request_integer(const cJSON *body, const char *name, int64_t min, int64_t max,
                         int64_t *out, flo_err *err);

/* Sampling, length, log-probabilities and stop ids; what the body leaves open is the checkpoint's.
 */
flo_code request_options_take(generation *g, const job *j, const cJSON *body, flo_err *err);

#endif

/*
 * verify.h - reference data held against what this job computes.
 */
#ifndef FLOTILLA_COORDINATOR_VERIFY_H
#define FLOTILLA_COORDINATOR_VERIFY_H

#include "coordinator/job.h"

/* Runs the cases that body ({"golden": DIR, "only": ["thinker", ...]}) names and says a line for
 * each compared tensor. FLO_DIFFERS: a tensor is over its tolerance, a file is missing, or a
 * section was not run. */
flo_code verify_run(job *j, const char *body, size_t n_bytes,
                    void (*say)(void *arg, const char *text, size_t n_bytes), void *arg,
                    flo_err *err);

#endif

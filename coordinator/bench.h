/*
 * bench.h - rates of this job's own workers, beside what their cores can do, measured in the same
 * run.
 */
#ifndef FLOTILLA_COORDINATOR_BENCH_H
#define FLOTILLA_COORDINATOR_BENCH_H

#include "coordinator/job.h"

/* body: {"repeat": 3, "image_width": 1024, "image_height": 1024, "audio_seconds": 40}. The document
 * of `flotilla bench --encoders --json` (the caller frees *json). FLO_USAGE: the job has no
 * encoders, or sizes that they do not take. */
flo_code bench_run(job *j, const char *body, size_t n_bytes, char **json, size_t *json_bytes,
                   flo_err *err);

#endif

/*
 * bench.h - rates of this job's own workers, beside what their cores can do, measured in the same
 * run.
 */
#ifndef FLOTILLA_COORDINATOR_BENCH_H
#define FLOTILLA_COORDINATOR_BENCH_H

#include "coordinator/job.h"

/* body: {"repeat": 3, "encoders": true, "image_width": 1024, "image_height": 1024, "audio_seconds":
 * 40, "speech": true, "frames": 64, "speakers": 1}; sizes may be left out. The document of
 * `flotilla bench --json` (the caller frees *json). FLO_USAGE: the job does not have the parts, or
 * they do not take the sizes. */
flo_code bench_run(job *j, const char *body, size_t n_bytes, char **json, size_t *json_bytes,
                   flo_err *err);

#endif

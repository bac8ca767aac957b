/*
 * bench_figures.h - quantities that are measured several times, and how they stand in the document.
 */
#ifndef FLOTILLA_COORDINATOR_BENCH_FIGURES_H
#define FLOTILLA_COORDINATOR_BENCH_FIGURES_H

#include "coordinator/job.h"

#include <cjson/cJSON.h>

enum { BENCH_REPEAT_MAX = 100 };

typedef struct series { /* of one quantity */
    double values[BENCH_REPEAT_MAX];
    int n;
} series;

void series_add(series *s, double value);

/* Sorts the values; 0 of none. */
double series_median(series *s);

/* "name": {"median": ..., "min": ..., "max": ...} */
void series_put(cJSON *to, const char *name, series *s);

/* The parts of the document, each on its own sizes. */
typedef struct bench_request {
    int64_t repeat;
    bool encoders, speech;
    int64_t image_width, image_height, audio_seconds;
    int64_t frames, speakers;
} bench_request;

/* "encoders": {...} and "speech": {...}. FLO_USAGE: this job does not have the parts, or they do
 * not take the sizes. */
flo_code bench_encoders(job *j, const bench_request *r, cJSON *root, flo_err *err);
flo_code bench_speech(job *j, const bench_request *r, cJSON *root, flo_err *err);

#endif

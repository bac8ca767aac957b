/*
 * peak.h - the multiply-add peak of a worker's threads.
 */
#ifndef FLOTILLA_WORKER_PEAK_H
#define FLOTILLA_WORKER_PEAK_H

#include "worker/thread_pool.h"

/* f32 GFLOP/s of all threads of the pool together, measured for about a fifth of a second. */
double fma_peak(thread_pool *pool);

#endif

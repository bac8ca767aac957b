/*
 * peak.h - what a worker's threads can do at best: multiply and add, and read memory.
 */
#ifndef FLOTILLA_WORKER_PEAK_H
#define FLOTILLA_WORKER_PEAK_H

#include "worker/thread_pool.h"

#include <stddef.h>

/* f32 GFLOP/s of all threads of the pool together, measured for about a fifth of a second. */
double fma_peak(thread_pool *pool);

/* GB/s of all threads together over `memory`, each its own share of it, measured for about a fifth
 * of a second. What fits the caches is read from there: give it a large piece. */
double read_peak(thread_pool *pool, const void *memory, size_t n_bytes);

#endif

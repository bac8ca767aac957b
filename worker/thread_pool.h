/*
 * thread_pool.h - the worker's compute threads: one per core of its share, pinned, made once.
 *
 * The calling (main) thread is thread 0 and computes too. Workers spin briefly for the next task, then
 * sleep, so an idle pool costs nothing.
 */
#ifndef FLOTILLA_WORKER_THREAD_POOL_H
#define FLOTILLA_WORKER_THREAD_POOL_H

#include "common/error.h"

#include <stdint.h>

typedef struct thread_pool thread_pool;

/* n_threads >= 1. cores[i] is the OS index of the core thread i is pinned to; NULL: not pinned.
 * A pin that fails is a warning. */
flo_code thread_pool_new(thread_pool **out, int32_t n_threads, const int32_t *cores, flo_err *err);
void thread_pool_free(thread_pool *pool);
int32_t thread_pool_size(const thread_pool *pool);

/* Calls task(arg, thread, n_threads) once on every thread and returns when all have returned. */
void thread_pool_run(thread_pool *pool, void (*task)(void *arg, int32_t thread, int32_t n_threads),
                     void *arg);

/* Calls task(arg, item, thread) for each item in [0, n_items), each once, handed out one by one as
 * threads become free: for items of uneven size. No result may depend on which thread takes what. */
void thread_pool_each(thread_pool *pool, int32_t n_items,
                      void (*task)(void *arg, int32_t item, int32_t thread), void *arg);

#endif

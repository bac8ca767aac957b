/*
 * thread_pool.h - the worker's compute threads: one per core of its share, pinned, made once.
 *
 * The calling (main) thread is thread 0 and computes too. Workers spin briefly for the next task,
 * then sleep, so an idle pool costs nothing. Tasks do not nest, and only the thread that made the
 * pool gives it work. What a task wrote is seen by every later task and by the caller.
 */
#ifndef FLOTILLA_WORKER_THREAD_POOL_H
#define FLOTILLA_WORKER_THREAD_POOL_H

#include "common/error.h"
#include "common/layout.h"

#include <stdint.h>

typedef struct thread_pool thread_pool;

enum { POOL_THREADS_MAX = WORKER_THREADS_MAX };

/* n_threads in [1, POOL_THREADS_MAX]. cores[i] is the OS index of the core thread i is pinned to,
 * the calling thread's among them; NULL: not pinned. A pin that fails is a warning. FLO_FAIL where
 * the system gives no thread or memory. */
flo_code thread_pool_new(thread_pool **out, int32_t n_threads, const int32_t *cores, flo_err *err);

/* The calling thread may run where it could before thread_pool_new. NULL is allowed. */
void thread_pool_free(thread_pool *pool);
int32_t thread_pool_size(const thread_pool *pool);

/* Calls task(arg, thread, n_threads) once on every thread and returns when all have returned. */
void thread_pool_run(thread_pool *pool, void (*task)(void *arg, int32_t thread, int32_t n_threads),
                     void *arg);

/* Calls task(arg, item, thread) for each item in [0, n_items), each once, handed out one by one as
 * threads become free: for items of uneven size. No result may depend on which thread takes what.
 */
void thread_pool_each(thread_pool *pool, int32_t n_items,
                      void (*task)(void *arg, int32_t item, int32_t thread), void *arg);

/* The first of n items that falls to `part` of n_parts; part p takes [begin(p), begin(p + 1)).
 * Sizes differ by one at most. */
static inline int32_t partition_begin(int32_t n, int32_t part, int32_t n_parts)
{
    return (int32_t)((int64_t)n * part / n_parts);
}

#endif

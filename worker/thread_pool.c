/*
 * thread_pool.c - threads that meet at a barrier before and after each task.
 *
 * The caller raises `round`; threads that watch it run the task, and each writes the round into a
 * line of its own when done, so that no line is fought over on the way out: the caller reads them
 * all. Who waits first spins with pauses, then offers its core to others between looks, then
 * sleeps on a futex; the one that makes it wait looks at a count of sleepers and only then pays for
 * a system call. Where there are more threads than cores spinning would keep the others from their
 * work, so waiting begins with the offer. Busy, a barrier costs the two transfers of a cache line;
 * idle, nothing.
 */
#include "worker/thread_pool.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    LINE_BYTES = 128, /* two lines: neighbours are prefetched together */
    SPIN_NS = 4000,   /* most barriers are over by then */
    YIELD_NS = 46000, /* longer than the pauses between the tasks of a step */
    OFFERS_WHEN_CROWDED = 8,
    PAUSES_PER_LOOK = 32, /* at the clock */
};

typedef void pool_task(void *arg, int32_t thread, int32_t n_threads);

typedef struct pool_thread {
    alignas(LINE_BYTES) _Atomic uint32_t done; /* last round finished; written by its thread */
    thread_pool *pool;
    pthread_t handle;
    int32_t index;
    int32_t core;  /* -1: not pinned */
    int pin_errno; /* written by its thread in the first round */
} pool_thread;

struct thread_pool {
    alignas(LINE_BYTES) _Atomic uint32_t round; /* raised by the caller; futex of the threads */
    pool_task *task; /* of this round; NULL: the pool ends. Written before it */
    void *arg;
    alignas(LINE_BYTES) _Atomic uint32_t n_sleepers; /* threads asleep on round, or about to be */
    alignas(LINE_BYTES) _Atomic uint32_t bell;       /* futex of the caller */
    _Atomic uint32_t caller_sleeps;
    alignas(LINE_BYTES) int32_t n_threads; /* from here on constant once made */
    bool crowded;                          /* more threads than cores */
    bool caller_was_pinned;
    cpu_set_t caller_cores; /* before the pin */
    pool_thread *threads;   /* [n_threads]; [0] is the caller */
};

static void futex_sleep(_Atomic uint32_t *word, uint32_t while_value)
{
    syscall(SYS_futex, (uint32_t *)word, FUTEX_WAIT_PRIVATE, while_value, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int n)
{
    syscall(SYS_futex, (uint32_t *)word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* One wait's patience: true while it is worth looking again, false when it is time to sleep. */
typedef struct patience {
    int64_t began_ns; /* 0: not looked at the clock yet */
    uint32_t looks;
} patience;

static bool keep_looking(patience *p, bool crowded)
{
    p->looks++;
    if (crowded) {
        sched_yield();
        return p->looks < OFFERS_WHEN_CROWDED;
    }
    pause_briefly();
    if (p->looks % PAUSES_PER_LOOK != 0) {
        return true;
    }
    int64_t now = clock_ns();
    if (p->began_ns == 0) {
        p->began_ns = now;
    }
    if (now - p->began_ns < SPIN_NS) {
        return true;
    }
    sched_yield();
    return now - p->began_ns < SPIN_NS + YIELD_NS;
}

/* Returns when the round is another than `seen`. */
static void wait_for_round(thread_pool *pool, uint32_t seen)
{
    patience p = {0};
    while (atomic_load_explicit(&pool->round, memory_order_acquire) == seen) {
        if (keep_looking(&p, pool->crowded)) {
            continue;
        }
        /* Counted before the kernel compares the word: either the caller sees the count, or the
         * word has changed already. */
        atomic_fetch_add(&pool->n_sleepers, 1);
        futex_sleep(&pool->round, seen);
        atomic_fetch_sub(&pool->n_sleepers, 1);
    }
}

static void report_done(pool_thread *self, uint32_t round)
{
    thread_pool *pool = self->pool;
    atomic_store(&self->done, round);
    if (atomic_load(&pool->caller_sleeps) != 0) {
        atomic_fetch_add(&pool->bell, 1);
        futex_wake(&pool->bell, 1);
    }
}

static void *thread_main(void *arg)
{
    pool_thread *self = arg;
    thread_pool *pool = self->pool;
    for (uint32_t round = 0;;) {
        wait_for_round(pool, round);
        round++;
        if (pool->task == NULL) {
            return NULL;
        }
        pool->task(pool->arg, self->index, pool->n_threads);
        report_done(self, round);
    }
}

static void begin_round(thread_pool *pool, pool_task *task, void *arg)
{
    pool->task = task;
    pool->arg = arg;
    atomic_fetch_add(&pool->round, 1);
    if (atomic_load(&pool->n_sleepers) != 0) {
        futex_wake(&pool->round, INT_MAX);
    }
}

static bool is_done(const pool_thread *t, uint32_t round)
{
    return atomic_load(&t->done) == round;
}

static void wait_for_thread(thread_pool *pool, const pool_thread *t, uint32_t round)
{
    patience p = {0};
    while (!is_done(t, round)) {
        if (keep_looking(&p, pool->crowded)) {
            continue;
        }
        uint32_t bell = atomic_load(&pool->bell);
        atomic_store(&pool->caller_sleeps, 1);
        if (!is_done(t, round)) {
            futex_sleep(&pool->bell, bell);
        }
        atomic_store(&pool->caller_sleeps, 0);
    }
}

void thread_pool_run(thread_pool *pool, pool_task *task, void *arg)
{
    if (pool->n_threads == 1) {
        task(arg, 0, 1);
        return;
    }
    begin_round(pool, task, arg);
    task(arg, 0, pool->n_threads);
    uint32_t round = atomic_load_explicit(&pool->round, memory_order_relaxed);
    for (int32_t i = 1; i < pool->n_threads; i++) {
        wait_for_thread(pool, &pool->threads[i], round);
    }
}

/* Items still to be handed out, in a line that only the threads of this task touch. */
typedef struct item_queue {
    alignas(LINE_BYTES) _Atomic int32_t next;
    alignas(LINE_BYTES) int32_t n_items;
    void (*task)(void *arg, int32_t item, int32_t thread);
    void *arg;
} item_queue;

static void take_items(void *arg, int32_t thread, int32_t n_threads)
{
    (void)n_threads;
    item_queue *queue = arg;
    for (;;) {
        int32_t item = atomic_fetch_add_explicit(&queue->next, 1, memory_order_relaxed);
        if (item >= queue->n_items) {
            return;
        }
        queue->task(queue->arg, item, thread);
    }
}

void thread_pool_each(thread_pool *pool, int32_t n_items,
                      void (*task)(void *arg, int32_t item, int32_t thread), void *arg)
{
    CHECK(n_items <= INT32_MAX - POOL_THREADS_MAX);
    if (n_items <= 0) {
        return;
    }
    item_queue queue = {.n_items = n_items, .task = task, .arg = arg};
    if (n_items == 1) {
        take_items(&queue, 0, 1);
        return;
    }
    thread_pool_run(pool, take_items, &queue);
}

int32_t thread_pool_size(const thread_pool *pool)
{
    return pool->n_threads;
}

/* The first round: every thread goes to its core. */
static void pin_thread(void *arg, int32_t thread, int32_t n_threads)
{
    (void)n_threads;
    pool_thread *self = &((thread_pool *)arg)->threads[thread];
    if (self->core < 0) {
        return;
    }
    if (self->core >= CPU_SETSIZE) {
        self->pin_errno = EINVAL;
        return;
    }
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET((size_t)self->core, &only);
    self->pin_errno = pthread_setaffinity_np(pthread_self(), sizeof only, &only);
}

static void pin_all(thread_pool *pool)
{
    pool->caller_was_pinned =
        pthread_getaffinity_np(pthread_self(), sizeof pool->caller_cores, &pool->caller_cores) == 0;
    thread_pool_run(pool, pin_thread, pool);
    for (int32_t i = 0; i < pool->n_threads; i++) {
        if (pool->threads[i].pin_errno != 0) {
            log_warn("could not pin compute thread %d to core %d (%s), going on unpinned", i,
                     pool->threads[i].core, strerror(pool->threads[i].pin_errno));
        }
    }
}

/* More threads than different cores given, or than the process may use. */
static bool is_crowded(int32_t n_threads, const int32_t *cores)
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (cores == NULL) {
        return sched_getaffinity(0, sizeof allowed, &allowed) == 0 &&
               n_threads > CPU_COUNT(&allowed);
    }
    for (int32_t i = 0; i < n_threads; i++) {
        if (cores[i] >= 0 && cores[i] < CPU_SETSIZE) {
            CPU_SET((size_t)cores[i], &allowed);
        }
    }
    return n_threads > CPU_COUNT(&allowed);
}

/* Ends threads [1, n_started). */
static void end_threads(thread_pool *pool, int32_t n_started)
{
    begin_round(pool, NULL, NULL);
    for (int32_t i = 1; i < n_started; i++) {
        pthread_join(pool->threads[i].handle, NULL);
    }
}

static flo_code start_threads(thread_pool *pool, flo_err *err)
{
    for (int32_t i = 1; i < pool->n_threads; i++) {
        int problem =
            pthread_create(&pool->threads[i].handle, NULL, thread_main, &pool->threads[i]);
        if (problem != 0) {
            end_threads(pool, i);
            return flo_fail(err, FLO_FAIL, "could not start compute thread %d of %d: %s", i + 1,
                            pool->n_threads, strerror(problem));
        }
    }
    return FLO_OK;
}

flo_code thread_pool_new(thread_pool **out, int32_t n_threads, const int32_t *cores, flo_err *err)
{
    CHECK(n_threads >= 1 && n_threads <= POOL_THREADS_MAX);
    thread_pool *pool = aligned_alloc(LINE_BYTES, sizeof *pool);
    pool_thread *threads = aligned_alloc(LINE_BYTES, (size_t)n_threads * sizeof *threads);
    if (pool == NULL || threads == NULL) {
        free(threads);
        free(pool);
        return flo_fail(err, FLO_FAIL, "no memory for a pool of %d threads", n_threads);
    }
    memset(pool, 0, sizeof *pool);
    memset(threads, 0, (size_t)n_threads * sizeof *threads);
    pool->n_threads = n_threads;
    pool->crowded = is_crowded(n_threads, cores);
    pool->threads = threads;
    for (int32_t i = 0; i < n_threads; i++) {
        threads[i].pool = pool;
        threads[i].index = i;
        threads[i].core = cores == NULL ? -1 : cores[i];
    }
    flo_code code = start_threads(pool, err);
    if (code != FLO_OK) {
        free(threads);
        free(pool);
        return code;
    }
    if (cores != NULL) {
        pin_all(pool);
    }
    *out = pool;
    return FLO_OK;
}

void thread_pool_free(thread_pool *pool)
{
    if (pool == NULL) {
        return;
    }
    end_threads(pool, pool->n_threads);
    if (pool->caller_was_pinned) {
        pthread_setaffinity_np(pthread_self(), sizeof pool->caller_cores, &pool->caller_cores);
    }
    free(pool->threads);
    free(pool);
}

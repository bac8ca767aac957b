/*
 * check_thread_pool.c - every thread runs every task once, every item is handed out once, and what
 * one task writes the next one reads, on 1 to 8 threads, pinned or not, busy or asleep in between.
 */
#include "worker/thread_pool.h"

#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

enum { THREADS_MAX = 8, ITEMS_MAX = 1000 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static thread_pool *pool_of(int32_t n_threads)
{
    thread_pool *pool = NULL;
    flo_err err = {""};
    assert_int_equal(thread_pool_new(&pool, n_threads, NULL, &err), FLO_OK);
    assert_int_equal(thread_pool_size(pool), n_threads);
    return pool;
}

/* Plain fields on purpose: the pool's barriers alone must order them (the thread sanitizer looks).
 */
typedef struct relay {
    int64_t count[THREADS_MAX];
    int64_t total;
} relay;

static void count_one(void *arg, int32_t thread, int32_t n_threads)
{
    relay *r = arg;
    assert_true(thread >= 0 && thread < n_threads);
    r->count[thread]++;
}

static void read_all(void *arg, int32_t thread, int32_t n_threads)
{
    relay *r = arg;
    int64_t total = 0;
    for (int32_t i = 0; i < n_threads; i++) {
        total += r->count[i];
    }
    if (thread == n_threads - 1) {
        r->total = total;
    }
}

static void every_thread_runs_every_task_once(void **state)
{
    (void)state;
    for (int32_t n_threads = 1; n_threads <= THREADS_MAX; n_threads++) {
        thread_pool *pool = pool_of(n_threads);
        relay r = {0};
        for (int64_t run = 1; run <= 500; run++) {
            thread_pool_run(pool, count_one, &r);
            thread_pool_run(pool, read_all, &r);
            assert_int_equal(r.total, run * n_threads);
        }
        for (int32_t i = 0; i < n_threads; i++) {
            assert_int_equal(r.count[i], 500);
        }
        thread_pool_free(pool);
    }
}

static void work_after_a_sleep_is_not_lost(void **state)
{
    (void)state;
    for (int32_t n_threads = 2; n_threads <= 4; n_threads++) {
        thread_pool *pool = pool_of(n_threads);
        relay r = {0};
        for (int32_t run = 0; run < 60; run++) {
            thread_pool_run(pool, count_one, &r);
            usleep((useconds_t)(run * 10)); /* around the moment at which threads fall asleep */
        }
        for (int32_t i = 0; i < n_threads; i++) {
            assert_int_equal(r.count[i], 60);
        }
        thread_pool_free(pool);
    }
}

static void sleep_in_last_thread(void *arg, int32_t thread, int32_t n_threads)
{
    count_one(arg, thread, n_threads);
    if (thread == n_threads - 1) {
        usleep(2000);
    }
}

static void a_caller_that_waits_long_is_woken(void **state)
{
    (void)state;
    thread_pool *pool = pool_of(3);
    relay r = {0};
    for (int32_t run = 0; run < 20; run++) {
        thread_pool_run(pool, sleep_in_last_thread, &r);
        assert_int_equal(r.count[2], run + 1);
    }
    thread_pool_free(pool);
}

typedef struct tally {
    int32_t taken[ITEMS_MAX]; /* one writer each, if the pool is right */
    _Atomic int32_t n_bad_threads;
    int32_t n_threads;
} tally;

static void take_uneven(void *arg, int32_t item, int32_t thread)
{
    tally *t = arg;
    if (thread < 0 || thread >= t->n_threads) {
        atomic_fetch_add(&t->n_bad_threads, 1);
    }
    volatile int32_t work = item % 17 == 0 ? 3000 : 1;
    while (work > 0) {
        work = work - 1;
    }
    t->taken[item]++;
}

static void every_item_is_handed_out_once(void **state)
{
    (void)state;
    static const int32_t sizes[] = {0, 1, 2, 3, 7, 64, ITEMS_MAX};
    for (int32_t n_threads = 1; n_threads <= THREADS_MAX; n_threads++) {
        thread_pool *pool = pool_of(n_threads);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            tally t = {.n_threads = n_threads};
            for (int32_t run = 0; run < 10; run++) {
                thread_pool_each(pool, sizes[s], take_uneven, &t);
            }
            for (int32_t i = 0; i < ITEMS_MAX; i++) {
                assert_int_equal(t.taken[i], i < sizes[s] ? 10 : 0);
            }
            assert_int_equal(t.n_bad_threads, 0);
        }
        thread_pool_free(pool);
    }
}

typedef struct places {
    int32_t n_cores[THREADS_MAX];
    int32_t core[THREADS_MAX];
} places;

static void note_affinity(void *arg, int32_t thread, int32_t n_threads)
{
    (void)n_threads;
    places *p = arg;
    cpu_set_t set;
    CPU_ZERO(&set);
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    p->n_cores[thread] = CPU_COUNT(&set);
    for (int32_t c = 0; c < CPU_SETSIZE; c++) {
        if (CPU_ISSET((size_t)c, &set)) {
            p->core[thread] = c;
            break;
        }
    }
}

static void threads_sit_on_their_cores_and_the_caller_gets_its_own_back(void **state)
{
    (void)state;
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    int32_t cores[4];
    int32_t n = 0;
    for (int32_t c = 0; c < CPU_SETSIZE && n < 4; c++) {
        if (CPU_ISSET((size_t)c, &before)) {
            cores[n++] = c;
        }
    }
    thread_pool *pool = NULL;
    flo_err err = {""};
    assert_int_equal(thread_pool_new(&pool, n, cores, &err), FLO_OK);
    places p = {0};
    thread_pool_run(pool, note_affinity, &p);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(p.n_cores[i], 1);
        assert_int_equal(p.core[i], cores[i]);
    }
    thread_pool_free(pool);
    cpu_set_t after;
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

static void a_core_that_is_not_there_is_only_a_warning(void **state)
{
    (void)state;
    const int32_t cores[2] = {1022, 100000};
    thread_pool *pool = NULL;
    flo_err err = {""};
    assert_int_equal(thread_pool_new(&pool, 2, cores, &err), FLO_OK);
    relay r = {0};
    thread_pool_run(pool, count_one, &r);
    assert_int_equal(r.count[0] + r.count[1], 2);
    thread_pool_free(pool);
}

static void an_idle_pool_uses_no_cpu(void **state)
{
    (void)state;
    thread_pool *pool = pool_of(4);
    relay r = {0};
    thread_pool_run(pool, count_one, &r);
    usleep(50000); /* all asleep by now */
    double before = cpu_s();
    usleep(300000);
    assert_true(cpu_s() - before < 0.009); /* 3 % of one core */
    thread_pool_free(pool);
}

static void a_partition_covers_everything_once(void **state)
{
    (void)state;
    for (int32_t n = 0; n < 70; n++) {
        for (int32_t parts = 1; parts < 20; parts++) {
            assert_int_equal(partition_begin(n, 0, parts), 0);
            assert_int_equal(partition_begin(n, parts, parts), n);
            for (int32_t p = 0; p < parts; p++) {
                int32_t size = partition_begin(n, p + 1, parts) - partition_begin(n, p, parts);
                assert_true(size == n / parts || size == n / parts + 1);
            }
        }
    }
    assert_int_equal(partition_begin(INT32_MAX, 1023, 1024), 2145386495);
}

static void timing_of_a_barrier(void **state)
{
    (void)state;
    if (getenv("FLOTILLA_BENCH") == NULL) {
        skip();
    }
    for (int32_t n_threads = 1; n_threads <= 4; n_threads++) {
        thread_pool *pool = pool_of(n_threads);
        relay r = {0};
        double best = 1e9;
        for (int32_t batch = 0; batch < 50; batch++) {
            double began = now_s();
            for (int32_t run = 0; run < 1000; run++) {
                thread_pool_run(pool, count_one, &r);
            }
            double took = (now_s() - began) / 1000;
            best = took < best ? took : best;
        }
        print_message("pool of %d: %.2f us a task of nothing (best of 50 x 1000)\n", n_threads,
                      1e6 * best);
        assert_int_equal(r.count[0], 50000);
        thread_pool_free(pool);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_runs_every_task_once),
        cmocka_unit_test(work_after_a_sleep_is_not_lost),
        cmocka_unit_test(a_caller_that_waits_long_is_woken),
        cmocka_unit_test(every_item_is_handed_out_once),
        cmocka_unit_test(threads_sit_on_their_cores_and_the_caller_gets_its_own_back),
        cmocka_unit_test(a_core_that_is_not_there_is_only_a_warning),
        cmocka_unit_test(an_idle_pool_uses_no_cpu),
        cmocka_unit_test(a_partition_covers_everything_once),
        cmocka_unit_test(timing_of_a_barrier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * peak.c - every thread multiplies and adds for the same number of rounds; the best of some tries.
 */
#include "worker/peak.h"

#include "common/clock.h"
#include "worker/kernels/kernels.h"

enum { ROUNDS_FIRST = 1 << 12, TRY_US = 20000, TRIES = 8 };

typedef struct peak_work {
    int32_t rounds;
    double flops;         /* of one thread; thread 0 writes it */
    volatile float spoil; /* keeps the compiler from seeing that nobody reads the sums */
} peak_work;

static void work(void *arg, int32_t thread, int32_t n_threads)
{
    peak_work *w = arg;
    double flops;
    float sum = kernels()->fma_work(&flops, w->rounds);
    (void)n_threads;
    if (thread == 0) {
        w->flops = flops;
        w->spoil = sum;
    }
}

double fma_peak(thread_pool *pool)
{
    peak_work w = {.rounds = ROUNDS_FIRST};
    double best = 0;
    for (int32_t tries = 0; tries < TRIES;) {
        int64_t start = clock_us();
        thread_pool_run(pool, work, &w);
        int64_t us = clock_us() - start;
        if (us < TRY_US && w.rounds < 1 << 28) {
            w.rounds *= 2; /* too short to be measured */
            continue;
        }
        double rate = w.flops * thread_pool_size(pool) / (double)us * 1e-3;
        best = rate > best ? rate : best;
        tries++;
    }
    return best;
}

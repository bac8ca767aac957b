/*
 * peak.c - every thread multiplies and adds, or reads, for a while; the best of some tries.
 */
#include "worker/peak.h"

#include "common/clock.h"
#include "worker/kernels/kernels.h"

enum { ROUNDS_FIRST = 1 << 12, TRY_US = 20000, TRIES = 8, PIECE_BYTES = 256 << 10 };

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

/* --- reading -----------------------------------------------------------------------------------
 */

typedef uint64_t read_words __attribute__((vector_size(64)));

typedef struct read_work {
    const read_words *words;
    size_t n_pieces; /* of PIECE_BYTES */
    int64_t start_us;
    int64_t n_read[POOL_THREADS_MAX]; /* pieces */
    volatile uint64_t spoil;
} read_work;

/* Four chains, so that additions do not wait for each other. */
static uint64_t piece_sum(const read_words *w)
{
    read_words a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i < PIECE_BYTES / sizeof *w; i += 4) {
        a += w[i];
        b += w[i + 1];
        c += w[i + 2];
        d += w[i + 3];
    }
    a = (a + b) + (c + d);
    return a[0] ^ a[7];
}

static void read_some(void *arg, int32_t thread, int32_t n_threads)
{
    read_work *w = arg;
    size_t first = w->n_pieces * (size_t)thread / (size_t)n_threads;
    size_t end = w->n_pieces * ((size_t)thread + 1) / (size_t)n_threads, at = first;
    int64_t n = 0;
    uint64_t sum = 0;
    while (first < end && clock_us() - w->start_us < TRY_US) {
        sum ^= piece_sum(w->words + at * (PIECE_BYTES / sizeof *w->words));
        at = at + 1 < end ? at + 1 : first;
        n++;
    }
    w->n_read[thread] = n;
    if (sum == 1) {
        w->spoil = sum;
    }
}

double read_peak(thread_pool *pool, const void *memory, size_t n_bytes)
{
    read_work w = {.n_pieces = n_bytes / PIECE_BYTES};
    uintptr_t aligned = ((uintptr_t)memory + sizeof(read_words) - 1) / sizeof(read_words);
    double best = 0;
    w.words = (const read_words *)(aligned * sizeof(read_words));
    w.n_pieces -= w.n_pieces > 0 && aligned * sizeof(read_words) != (uintptr_t)memory;
    for (int i = 0; i < TRIES && w.n_pieces > 0; i++) {
        int64_t pieces = 0;
        w.start_us = clock_us();
        thread_pool_run(pool, read_some, &w);
        int64_t us = clock_us() - w.start_us;
        for (int32_t t = 0; t < thread_pool_size(pool); t++) {
            pieces += w.n_read[t];
        }
        double rate = (double)pieces * PIECE_BYTES / (double)us * 1e-3;
        best = rate > best ? rate : best;
    }
    return best;
}

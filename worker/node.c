/*
 * node.c - choose, bind, measure.
 *
 * Memory is bound by the thread's policy (the process-wide call does not exist on Linux) and
 * softly: a node that is full lends from its neighbours, where a strict policy would have the
 * kernel end the job.
 */
#include "worker/node.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <hwloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Choosing */

/* "0-3, 8": the cores of a share, as ranges. */
static void cores_in_words(char *text, size_t n_bytes, const machine *m, const machine_share *s)
{
    size_t used = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < s->n_cores && used + 32 < n_bytes;) {
        int32_t first = machine_share_core(m, s, i);
        int32_t last = first;
        for (i++; i < s->n_cores && machine_share_core(m, s, i) == last + 1; i++) {
            last++;
        }
        used += (size_t)snprintf(text + used, n_bytes - used, "%s%d", used > 0 ? ", " : "", first);
        if (last > first) {
            used += (size_t)snprintf(text + used, n_bytes - used, "-%d", last);
        }
    }
}

flo_code node_choose(node_seat *seat, machine_share *share, const machine *m, const node_wish *wish,
                     flo_err *err)
{
    memset(seat, 0, sizeof *seat);
    flo_code code =
        machine_share_of(share, m, wish->numa, wish->place, wish->places, wish->n_threads, err);
    if (code != FLO_OK) {
        return code;
    }
    if (share->n_threads > NODE_THREADS_MAX) {
        return flo_fail(err, FLO_USAGE, "%d threads: at most %d", share->n_threads,
                        NODE_THREADS_MAX);
    }
    memcpy(seat->host, m->host, sizeof seat->host);
    seat->numa = m->nodes[share->node].numa;
    seat->n_nodes = m->n_nodes;
    seat->n_threads = share->n_threads;
    for (int32_t i = 0; i < share->n_threads; i++) {
        seat->cores[i] = machine_share_core(m, share, i);
    }
    seat->memory_bytes = wish->memory_bytes > 0 ? wish->memory_bytes : share->memory_bytes;
    seat->read_gb_per_s = wish->read_gb_per_s;
    return FLO_OK;
}

/* Binding */

static bool bind_cores(const machine *m, const machine_share *share, hwloc_topology_t t)
{
    hwloc_bitmap_t cpus = hwloc_bitmap_alloc();
    if (cpus == NULL) {
        return false;
    }
    for (int32_t i = 0; i < share->n_cores; i++) {
        hwloc_bitmap_set(cpus, (unsigned)machine_share_core(m, share, i));
    }
    bool bound = hwloc_set_cpubind(t, cpus, HWLOC_CPUBIND_THREAD) == 0;
    hwloc_bitmap_free(cpus);
    return bound;
}

static bool bind_memory(int32_t numa, hwloc_topology_t t)
{
    hwloc_bitmap_t nodes = hwloc_bitmap_alloc();
    if (nodes == NULL) {
        return false;
    }
    hwloc_bitmap_only(nodes, (unsigned)numa);
    bool bound = hwloc_set_membind(t, nodes, HWLOC_MEMBIND_BIND,
                                   HWLOC_MEMBIND_THREAD | HWLOC_MEMBIND_BYNODESET) == 0;
    hwloc_bitmap_free(nodes);
    return bound;
}

/* Appends to the words; a long list of cores may be cut. */
static void say(node_seat *seat, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(node_seat *seat, const char *format, ...)
{
    va_list args;
    size_t used = strlen(seat->binding);
    va_start(args, format);
    vsnprintf(seat->binding + used, sizeof seat->binding - used, format, args);
    va_end(args);
}

void node_bind(node_seat *seat, const machine *m, const machine_share *share,
               struct hwloc_topology *topology)
{
    char cores[96];
    cores_in_words(cores, sizeof cores, m, share);
    seat->binding[0] = '\0';
    say(seat, "NUMA node %d of %d, core%s %s", seat->numa, m->n_nodes,
        share->n_cores > 1 ? "s" : "", cores);
    if (share->n_sharers > 1) {
        say(seat, ", %d workers on the node", share->n_sharers);
    }
    seat->cores_bound = bind_cores(m, share, topology);
    if (!seat->cores_bound) {
        say(seat, ", cores not bound: %s", strerror(errno));
        log_warn("could not bind to core%s %s, going on unbound", share->n_cores > 1 ? "s" : "",
                 cores);
    }
    seat->memory_bound = bind_memory(seat->numa, topology);
    if (!seat->memory_bound) {
        say(seat, ", memory not bound: %s", strerror(errno));
        log_warn("could not bind memory to NUMA node %d, going on unbound", seat->numa);
    }
}

/* Measuring */

typedef uint64_t word2 __attribute__((vector_size(16))); /* a vector register of any machine */

enum { MEASURE_MS = 30, MEASURE_THREADS_MAX = 256, WORDS_AT_A_TIME = 16384 };

typedef struct start_line {
    _Atomic int32_t n_ready;
    _Atomic int32_t n_awaited; /* lowered to 0 where not all can come */
} start_line;

typedef struct reader {
    pthread_t thread;
    start_line *start;
    word2 *words; /* its slice of the buffer */
    size_t n_words;
    int32_t core;
    uint64_t n_read; /* bytes; written by the thread, as are the next two */
    double seconds;
    word2 sum; /* so that no reading can be left out */
} reader;

/* Four chains, so that additions do not wait for each other. */
static word2 sum_of(const word2 *words, size_t n)
{
    word2 a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i + 4 <= n; i += 4) {
        a += words[i];
        b += words[i + 1];
        c += words[i + 2];
        d += words[i + 3];
    }
    return (a + b) + (c + d);
}

static void *reader_main(void *arg)
{
    reader *r = arg;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)r->core, &cpus);
    pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus); /* refused: it reads where it is */
    memset(r->words, 1, r->n_words * sizeof *r->words);
    r->start->n_ready++;
    while (r->start->n_ready < r->start->n_awaited) {
        sched_yield();
    }

    double begin = clock_s();
    for (size_t i = 0; r->seconds < MEASURE_MS * 1e-3; r->seconds = clock_s() - begin) {
        size_t n = r->n_words - i < WORDS_AT_A_TIME ? r->n_words - i : WORDS_AT_A_TIME;
        r->sum += sum_of(r->words + i, n);
        r->n_read += n * sizeof *r->words;
        i = i + n < r->n_words ? i + n : 0;
    }
    return NULL;
}

/* Starts readers as far as threads can be had; returns their number. */
static int32_t start_readers(reader *readers, int32_t n, const int32_t *cores, word2 *words,
                             size_t n_words, start_line *start)
{
    for (int32_t i = 0; i < n; i++) {
        size_t first = n_words * (size_t)i / (size_t)n;
        size_t end = n_words * ((size_t)i + 1) / (size_t)n;
        readers[i] = (reader){
            .start = start, .words = words + first, .n_words = end - first, .core = cores[i]};
        if (pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]) != 0) {
            start->n_awaited = 0;
            return i;
        }
    }
    return n;
}

/* All readers over the buffer at once; bytes in a second, 0 where not all could be started. */
static double read_rate(word2 *words, size_t n_words, const int32_t *cores, int32_t n)
{
    start_line start = {.n_awaited = n};
    reader *readers = calloc((size_t)n, sizeof *readers);
    if (readers == NULL) {
        return 0.0;
    }
    int32_t n_started = start_readers(readers, n, cores, words, n_words, &start);
    double rate = 0.0;
    for (int32_t i = 0; i < n_started; i++) {
        pthread_join(readers[i].thread, NULL);
        rate += readers[i].seconds > 0.0 ? (double)readers[i].n_read / readers[i].seconds : 0.0;
    }
    free(readers);
    return n_started == n ? rate : 0.0;
}

double node_measure(const int32_t *cores, int32_t n_threads, uint64_t n_bytes)
{
    int32_t n = n_threads < MEASURE_THREADS_MAX ? n_threads : MEASURE_THREADS_MAX;
    size_t n_words = (size_t)n_bytes / sizeof(word2);
    size_t n_mapped = n_words * sizeof(word2);
    if (n < 1 || n_words < (size_t)n * 4) {
        return 0.0;
    }
    void *buffer = mmap(NULL, n_mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (buffer == MAP_FAILED) {
        return 0.0;
    }
    madvise(buffer, n_mapped, MADV_HUGEPAGE);
    double rate = read_rate(buffer, n_words, cores, n);
    munmap(buffer, n_mapped);
    return rate * 1e-9;
}

/* Twice what the node's caches hold, so that memory is what is read; within bounds. */
static uint64_t measure_bytes(const machine_node *n, const machine_share *share,
                              uint64_t memory_bytes)
{
    const uint64_t least = (uint64_t)64 << 20;
    const uint64_t most = (uint64_t)256 << 20;
    uint64_t bytes = 2 * n->cache_bytes / (uint64_t)share->n_sharers;
    bytes = bytes < least ? least : bytes > most ? most : bytes;
    return memory_bytes > 0 && bytes > memory_bytes / 4 ? memory_bytes / 4 : bytes;
}

/* The whole */

/* One reader on each core, not on each thread: more would only wait for each other. */
static void measure(node_seat *seat, const machine *m, const machine_share *share)
{
    int32_t n = share->n_cores < seat->n_threads ? share->n_cores : seat->n_threads;
    uint64_t n_bytes = measure_bytes(&m->nodes[share->node], share, seat->memory_bytes);
    seat->read_gb_per_s = node_measure(seat->cores, n, n_bytes);
}

flo_code node_sit_down(node_seat *seat, const node_wish *wish, flo_err *err)
{
    hwloc_topology_t t;
    machine m = {0};
    machine_share share;
    flo_code code = machine_topology(&t, err);
    if (code != FLO_OK) {
        return code;
    }
    code = machine_of_topology(&m, t, err);
    if (code == FLO_OK) {
        machine_host_name(m.host);
        m.free_bytes = machine_free_memory("");
        code = node_choose(seat, &share, &m, wish, err);
    }
    if (code == FLO_OK) {
        node_bind(seat, &m, &share, t);
        if (seat->read_gb_per_s <= 0.0) {
            measure(seat, &m, &share);
        }
    }
    machine_close(&m);
    hwloc_topology_destroy(t);
    return code;
}

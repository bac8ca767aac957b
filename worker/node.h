/*
 * node.h - a worker sits down: it takes its share of a NUMA node, binds itself to it and measures
 * it.
 *
 * Done once, on the main thread, before the thread pool and the weights: threads made later and
 * memory touched later inherit the binding. A binding that the kernel refuses is a warning; the
 * worker goes on unbound. Costs a few ms for the topology and about 50 ms for the measurement.
 */
#ifndef FLOTILLA_WORKER_NODE_H
#define FLOTILLA_WORKER_NODE_H

#include "common/error.h"
#include "common/layout.h"
#include "common/machine.h"

#include <stdbool.h>
#include <stdint.h>

enum { NODE_THREADS_MAX = WORKER_THREADS_MAX };

typedef struct node_wish { /* as in the message Setup */
    int32_t numa;          /* -1: by place */
    int32_t place,
        places;        /* among the workers of this host; with numa, among those that wish it too */
    int32_t n_threads; /* 0: the cores of the share */
    uint64_t memory_bytes; /* 0: 85 % of the free memory of the share */
    double read_gb_per_s;  /* 0: measure */
} node_wish;

typedef struct node_seat { /* as in the message NodeReport */
    char host[256];
    int32_t numa;    /* OS index */
    int32_t n_nodes; /* NUMA nodes of this machine */
    int32_t n_threads;
    int32_t cores[NODE_THREADS_MAX]; /* OS index of the core of each thread, for thread_pool_new */
    uint64_t memory_bytes;           /* 0: unknown */
    double read_gb_per_s;
    bool cores_bound, memory_bound;
    char binding[256]; /* in words */
} node_seat;

/* FLO_USAGE where the wished node does not exist or there are over NODE_THREADS_MAX threads;
 * FLO_FAIL where hwloc cannot read the machine. */
flo_code node_sit_down(node_seat *seat, const node_wish *wish, flo_err *err);

/* The steps of it, for tests: choose (no side effect), bind this thread and what it makes later
 * (warnings only), measure. */
flo_code node_choose(node_seat *seat, machine_share *share, const machine *m, const node_wish *wish,
                     flo_err *err);
void node_bind(node_seat *seat, const machine *m, const machine_share *share,
               struct hwloc_topology *topology);

/* GB (10^9 bytes) that the given cores read from memory in a second, one thread on each, over a
 * buffer of about n_bytes in all, for 30 ms. The buffer is gone afterwards. 0 where it cannot be
 * had. */
double node_measure(const int32_t *cores, int32_t n_threads, uint64_t n_bytes);

#endif

/*
 * machine.h - what this machine has: NUMA nodes, cores, free memory; and one worker's share of it.
 *
 * Nodes and cores are those that this process may use (hwloc, within the CPU affinity it was
 * started with); a node without a usable core is left out. Free memory is what the kernel calls
 * available, or less where a control group allows less; it is never the node's size. Both the
 * worker that sits down and `flotilla plan` divide a machine by machine_share_of, so they agree.
 */
#ifndef FLOTILLA_COMMON_MACHINE_H
#define FLOTILLA_COMMON_MACHINE_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { MACHINE_NODES_MAX = 256 };

struct hwloc_topology;

typedef struct machine_node {
    int32_t numa;    /* OS index */
    int32_t n_cores; /* >= 1 */
    int32_t *cores;  /* OS index of the first hardware thread of each core; owned by the machine */
    double memory_part;   /* of the machine's memory; all nodes add up to 1 */
    uint64_t cache_bytes; /* last-level caches of its cores together; 0: unknown */
} machine_node;

typedef struct machine {
    char host[256];
    int32_t n_nodes;
    machine_node nodes[MACHINE_NODES_MAX]; /* by rising OS index */
    uint64_t free_bytes;                   /* 0: unknown */
} machine;

/* Looks at this machine. FLO_FAIL where hwloc cannot. Takes a few ms. */
flo_code machine_open(machine *m, flo_err *err);

/* Nodes and cores of a loaded topology; host and free memory are not touched. */
flo_code machine_of_topology(machine *m, struct hwloc_topology *topology, flo_err *err);
void machine_close(machine *m);

/* This machine's name; "localhost" where it has none. */
void machine_host_name(char name[256]);

/* Loads the topology of this machine (hwloc's HWLOC_SYNTHETIC and HWLOC_XMLFILE hold), restricted
 * to the CPUs this process may run on. The caller destroys it. */
flo_code machine_topology(struct hwloc_topology **out, flo_err *err);

/* Bytes that a process may still take: MemAvailable of root/proc/meminfo, and room left in its
 * control groups (v1 and v2, all levels; reclaimable file cache counts as room). root is "" but in
 * tests. 0: unknown. */
uint64_t machine_free_memory(const char *root);

typedef struct machine_share {
    int32_t node;          /* index in machine.nodes */
    int32_t n_sharers;     /* workers on that node, this one included */
    int32_t first_core;    /* in the node's cores */
    int32_t n_cores;       /* >= 1; where workers outnumber cores, several have the same one */
    int32_t n_threads;     /* wished, else one for each core */
    uint64_t memory_bytes; /* 85 % of its part of the free memory; 0: unknown */
} machine_share;

/* The share of worker `place` of `places`. numa -1: workers are dealt evenly over the nodes,
 * neighbours in rank together. Else the node with that OS index, and place and places count those
 * workers only that wish it. Workers on a node divide its cores and memory. n_threads 0: one for
 * each core. FLO_USAGE where there is no such node. */
flo_code machine_share_of(machine_share *s, const machine *m, int32_t numa, int32_t place,
                          int32_t places, int32_t n_threads, flo_err *err);

/* OS index of the core of thread i of a share: cores go round where threads outnumber them. */
int32_t machine_share_core(const machine *m, const machine_share *s, int32_t i);

#endif

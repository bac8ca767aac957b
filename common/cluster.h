/*
 * cluster.h - which hosts there are, how many workers sit on each, and what they are told.
 *
 * From a cluster file (JSON, cluster-configs/schema.json), from `--hosts a:2,b:2`, from an MPI
 * hostfile, or this machine alone. Ranks follow the order of the hosts. Nothing here is trusted:
 * unknown or doubled keys, wrong types, numbers out of range, names that are no host names are
 * refused with the place in the file. Whether the hosts exist is found out by those who go there.
 *
 * `memory` is for each worker. `cores` and `read_gb_per_s` are the host's, shared by its workers.
 */
#ifndef FLOTILLA_COMMON_CLUSTER_H
#define FLOTILLA_COMMON_CLUSTER_H

#include "common/error.h"
#include "common/options.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CLUSTER_HOSTS_MAX = 1024,
    CLUSTER_WORKERS_MAX = 1024, /* = PLAN_WORKERS_MAX */
    CLUSTER_NUMA_MAX = 64,      /* entries of a host's numa list */
    CLUSTER_PINS_MAX = 64,
    CLUSTER_FILE_BYTES_MAX = 1 << 20,
};

typedef enum cluster_launcher { LAUNCHER_ANY, LAUNCHER_MPIRUN, LAUNCHER_SRUN } cluster_launcher;

typedef struct cluster_host {
    char name[256];
    int32_t n_workers;              /* 0: not said; once dealt: none sits here */
    int32_t n_numa;                 /* 0: not said */
    int32_t numa[CLUSTER_NUMA_MAX]; /* nodes for its workers, in turn */
    uint64_t memory_bytes;          /* for each worker; 0: not said */
    int32_t n_cores;                /* of the host; 0: not said */
    double read_gb_per_s;           /* of the host; 0: not said */
    char model[1024];               /* "": as everywhere */
} cluster_host;

typedef struct cluster_pin {
    char part[64];
    char host[256];
    int32_t n_workers; /* that divide the talker's experts; 0: as few as have room */
} cluster_pin;

typedef struct cluster {
    char name[256];        /* "" : none */
    int32_t weights;       /* weight_format */
    int32_t n_stages;      /* 0: not said */
    uint64_t memory_bytes; /* for each worker whose host says nothing; 0: not said */
    int32_t n_threads;     /* 0: the cores of the binding */
    char model[1024];      /* "": not said */
    char cache_dir[1024];
    char interface[64];
    cluster_launcher launcher;
    int32_t n_hosts;
    cluster_host *hosts; /* owned */
    int32_t n_pins;
    cluster_pin *pins; /* owned */
} cluster;

/* Reads a cluster file. FLO_USAGE names file, place and fault. */
flo_code cluster_read(cluster *c, const char *path, flo_err *err);

/* The same from text; faults are led by the place alone. For tests and fuzzers. */
flo_code cluster_parse(cluster *c, const char *text, size_t n_bytes, flo_err *err);

/* `--hosts`: the name of an MPI hostfile, if there is such a file, else "a:2,b" (a host without a
 * number has not said how many workers). FLO_USAGE. */
flo_code cluster_from_hosts(cluster *c, const char *hosts, flo_err *err);

/* The text of an MPI hostfile ("a slots=2", comments behind #); lines of one host add up. */
flo_code cluster_parse_hostfile(cluster *c, const char *text, size_t n_bytes, flo_err *err);

/* "localhost" alone, with nothing said about it. */
flo_code cluster_this_machine(cluster *c, flo_err *err);

/* What --cluster, --hosts, or neither of them names, with the command line's --model, --memory,
 * --threads, --stages and --interface in place of what it says, and --workers dealt (cluster_deal).
 * FLO_USAGE also for formats that a file may name but are not built yet. */
flo_code cluster_from_options(cluster *c, const run_options *o, int32_t local_nodes, flo_err *err);

void cluster_free(cluster *c);

/* Settles the number of workers on every host. n_workers 0: where a host has not said, one for each
 * entry of its numa list, else for each of local_nodes NUMA nodes on this machine, else one.
 * Otherwise n_workers are dealt in rounds, to each host at most what it said. FLO_USAGE where there
 * is no room for them, or there are more than CLUSTER_WORKERS_MAX. */
flo_code cluster_deal(cluster *c, int32_t n_workers, int32_t local_nodes, flo_err *err);

/* Where a rank sits, once workers are dealt. */
typedef struct cluster_seat {
    const cluster_host *host;
    int32_t numa; /* wished node, -1: by place */
    int32_t
        place; /* among the workers of its host; with a wished node, among those that wish it too */
    int32_t places;
    uint64_t memory_bytes; /* limit for this worker; 0: not said */
    int32_t n_cores;       /* its share of the host's cores; 0: not said */
    double read_gb_per_s;  /* its share of the host's bandwidth; 0: not said */
    const char *model;     /* "": not said */
} cluster_seat;

/* The pin of a part ("audio_encoder", "vision_encoder", "talker", "code_predictor", "code2wav");
 * NULL: none. */
const cluster_pin *cluster_pin_of(const cluster *c, const char *part);

int32_t cluster_workers(const cluster *c);
cluster_seat cluster_seat_of(const cluster *c, int32_t rank); /* 1..cluster_workers */

/* True for "localhost" and the names of this machine. */
bool cluster_host_is_local(const char *name);

/* True where text can be a host name: letters, digits, dots, dashes, underlines; a letter or digit
 * first. */
bool cluster_host_name_is_valid(const char *name);

#endif

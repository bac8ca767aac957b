/*
 * hosts.h - where a run's ranks go, and who puts them there: from the options, the cluster file,
 * this machine's NUMA nodes, or the Slurm allocation that we are in.
 */
#ifndef FLOTILLA_GATEWAY_HOSTS_H
#define FLOTILLA_GATEWAY_HOSTS_H

#include "common/cluster.h"
#include "common/error.h"
#include "common/options.h"

#include <stdbool.h>

typedef struct run_hosts {
    cluster cluster;      /* workers dealt */
    bool given;           /* by --cluster or --hosts */
    const char *launcher; /* "mpirun" or "srun" */
} run_hosts;

/* srun where the cluster file says so, or inside a Slurm allocation whose file does not say mpirun.
 * There, and without --workers, --cluster or --hosts, all tasks of the allocation but the
 * coordinator's become workers. FLO_USAGE: faulty hosts, no room for the workers. */
flo_code run_hosts_find(run_hosts *h, const run_options *options, flo_err *err);
void run_hosts_free(run_hosts *h);

#endif

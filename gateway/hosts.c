/*
 * hosts.c - the cluster of a run and its launcher.
 */
#include "gateway/hosts.h"

#include "common/machine.h"
#include "common/plan.h"

#include <stdlib.h>

/* A number from the environment within [1, max], else 0. */
static int64_t number_from(const char *name, int64_t max)
{
    const char *text = getenv(name);
    long long v = text != NULL ? strtoll(text, NULL, 10) : 0;
    return v >= 1 && v <= max ? v : 0;
}

/* SLURM_NTASKS counts the coordinator too; an allocation of nodes alone gets a worker for each
 * node. */
static int64_t workers_of_allocation(int32_t local_nodes)
{
    int64_t tasks = number_from("SLURM_NTASKS", PLAN_WORKERS_MAX + 1);
    int64_t nodes = number_from("SLURM_JOB_NUM_NODES", PLAN_WORKERS_MAX / local_nodes);
    return tasks > 1 ? tasks - 1 : nodes * local_nodes;
}

static flo_code local_nodes_of(int32_t *n, flo_err *err)
{
    machine *m = malloc(sizeof *m);
    if (m == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    flo_code code = machine_open(m, err);
    if (code == FLO_OK) {
        *n = m->n_nodes;
        machine_close(m);
    }
    free(m);
    return code;
}

flo_code run_hosts_find(run_hosts *h, const run_options *options, flo_err *err)
{
    *h = (run_hosts){.given = options->cluster != NULL || options->hosts != NULL};
    int32_t local_nodes = 1;
    flo_code code = local_nodes_of(&local_nodes, err);
    if (code != FLO_OK) {
        return code;
    }
    bool allocated = getenv("SLURM_JOB_ID") != NULL;
    run_options o = *options;
    if (allocated && !h->given && o.n_workers == 0) {
        o.n_workers = workers_of_allocation(local_nodes);
    }
    code = cluster_from_options(&h->cluster, &o, local_nodes, err);
    if (code != FLO_OK) {
        return code;
    }
    cluster_launcher wish = h->cluster.launcher;
    bool srun =
        wish == LAUNCHER_SRUN || (wish == LAUNCHER_ANY && allocated && options->hosts == NULL);
    h->launcher = srun ? "srun" : "mpirun";
    if (srun && allocated && getenv("SLURMD_NODENAME") == NULL) {
        run_hosts_free(h);
        return flo_fail(err, FLO_USAGE,
                        "this is not a node of the Slurm allocation; run flotilla inside the "
                        "batch script (launch/slurm/generate.sbatch) or in srun --pty bash");
    }
    return FLO_OK;
}

void run_hosts_free(run_hosts *h)
{
    cluster_free(&h->cluster);
}

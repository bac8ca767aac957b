/*
 * job_command.h - the words and the environment that start a job's ranks. Pure: nothing is run.
 *
 * mpirun: rank 0, the coordinator, on this machine; then the workers host by host, each host its
 * own part of the command, so ranks follow the order of the hosts. srun: one multi-prog file with
 * the coordinator as task 0. Ranks bind themselves, so the launcher binds nothing.
 */
#ifndef FLOTILLA_GATEWAY_JOB_COMMAND_H
#define FLOTILLA_GATEWAY_JOB_COMMAND_H

#include "common/arguments.h"
#include "common/cluster.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct job_request {
    const char *launcher;      /* "mpirun" or "srun" */
    const char *programs;      /* folder of flotilla-coordinator and flotilla-worker */
    const cluster *hosts;      /* workers dealt */
    bool hosts_given;          /* by the user: srun places tasks as they say */
    const word_list *options;  /* for the coordinator */
    const char *interface;     /* between hosts; NULL or "": the launcher's choice */
    const char *run_folder;    /* for the launcher's files */
    const char *memory_folder; /* for shared-memory files of one machine; "": the default place */
    const char *socket, *token;
} job_request;

typedef struct job_command {
    word_list words;
    word_list own_environment;     /* NAME=VALUE, set */
    word_list default_environment; /* NAME=VALUE, set unless the user has set it */
    char *multi_prog;              /* srun: text of RUN_FOLDER/ranks.conf; NULL: none */
    char *coordinator_script;      /* srun: text of RUN_FOLDER/coordinator.sh */
    char *host_list;               /* srun: text of RUN_FOLDER/hosts, one line a task; NULL: none */
} job_command;

void job_command_make(job_command *c, const job_request *r);
void job_command_free(job_command *c);

/* True where every worker sits on this machine. */
bool job_is_local(const cluster *hosts);

#endif

/*
 * job.h - the processes of one MPI job: started, watched, and none left behind.
 *
 * The launcher runs in a process group of its own, so Ctrl-C in a terminal reaches us first; it
 * gets TERM when we die, whatever the cause; and this process adopts whatever the launcher leaves
 * behind, so ranks that outlive a killed launcher are found and killed. (On other hosts the
 * launcher's daemons end their ranks when the connection to us is gone.)
 */
#ifndef FLOTILLA_GATEWAY_JOB_H
#define FLOTILLA_GATEWAY_JOB_H

#include "common/error.h"
#include "gateway/job_command.h"
#include "gateway/job_output.h"

#include <stdbool.h>

typedef struct job job;

/* Runs the command; its standard error and output go to *output, its input is empty. FLO_FAIL: the
 * launcher is not on the PATH (says what to install), or no process could be made. output must
 * outlive the job. */
flo_code job_start(job **out, const job_command *c, job_output *output, flo_err *err);

/* For poll(): readable when there is output to job_read, or when the launcher has ended. */
int job_output_fd(const job *j); /* -1 once closed */
int job_exit_fd(const job *j);

/* Takes what the pipe holds now; false at its end. */
bool job_read(job *j);

/* True once the launcher has ended; *wait_status as waitpid gave it. Does not wait. */
bool job_has_ended(job *j, int *wait_status);

/* True where every rank has been dead for a second and a half and the launcher does not notice: mpirun
 * (4.1) can hang so when a rank dies while the job is starting. Looks through /proc. */
bool job_is_stuck(job *j);

/* Waits at most wait_ms for the launcher to end by itself, reading its output; cut short by a
 * signal to us where `interruptible`. True: it has ended. */
bool job_wait(job *j, int wait_ms, bool interruptible);

/* Ends all that still runs: TERM to the launcher, after 0.7 s KILL to every process left. Takes
 * under a second. Then frees. *wait_status (may be NULL) as of waitpid. */
void job_end(job *j, int *wait_status);

#endif

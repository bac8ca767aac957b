/*
 * run_folder.h - a private place for one job: its socket, its launcher's files, its shared memory.
 *
 * A folder of mode 0700 under TMPDIR and one under /dev/shm, both removed with all that is in them
 * when the job has ended: a killed rank cannot leave anything behind elsewhere. Whoever is killed
 * itself leaves its folders to the next start, which removes those of the same user that nobody
 * holds a lock on any more.
 */
#ifndef FLOTILLA_GATEWAY_RUN_FOLDER_H
#define FLOTILLA_GATEWAY_RUN_FOLDER_H

#include "common/error.h"

enum { RUN_FOLDER_PATH_BYTES = 96 }; /* a socket's path has room for 108 */

typedef struct run_folder {
    char path[RUN_FOLDER_PATH_BYTES];
    char memory[RUN_FOLDER_PATH_BYTES]; /* "" where there is no /dev/shm */
    int lock, memory_lock;
} run_folder;

/* FLO_FAIL names the folder that could not be made. */
flo_code run_folder_open(run_folder *f, flo_err *err);
void run_folder_close(run_folder *f);

#endif

/*
 * defaults.h - generation_config.json: how a checkpoint wants to be sampled, and where it stops.
 */
#ifndef FLOTILLA_COORDINATOR_DEFAULTS_H
#define FLOTILLA_COORDINATOR_DEFAULTS_H

#include "coordinator/job.h"

/* A folder without the file says nothing. FLO_FAIL: a file that is not sound. */
flo_code sampling_defaults_read(sampling_defaults *d, const char *folder, flo_err *err);

#endif

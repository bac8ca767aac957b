/*
 * verify_media.h - the media of a reference case: prepared and encoded by this job, and compared.
 */
#ifndef FLOTILLA_COORDINATOR_VERIFY_MEDIA_H
#define FLOTILLA_COORDINATOR_VERIFY_MEDIA_H

#include "coordinator/job.h"
#include "coordinator/verify_case.h"

typedef struct case_media {
    job *job;
    media_order order; /* its set is NULL for a case without media */
    checkpoint *clip;  /* frames of a video */
    uint8_t *frames;
    bool done;
    flo_code code;
    flo_err err;
} case_media; /* all zero: none */

/* Reads the media that the case's inputs name, relative to folder, and prepares them; waits for it.
 * FLO_FAIL: a file is missing, or inputs are not understood. */
flo_code case_media_prepare(case_media *m, job *j, const verify_case *c, const char *folder,
                            flo_err *err);

/* Encodes them; waits for it. */
flo_code case_media_encode(case_media *m, flo_err *err);

void case_media_free(case_media *m);

/* Compares one of the case's tensors where media made it; *known is false where they did not. */
flo_code case_media_compare(verify_report *r, const verify_case *c, const case_media *m,
                            const char *tensor, bool *known, flo_err *err);

#endif

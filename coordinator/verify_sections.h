/*
 * verify_sections.h - the sections of the reference data, one function each.
 *
 * Each compares what its folder GOLDEN/<section> has and reports it. FLO_OK also where numbers
 * differ: the report counts. Any other code ends the whole verification (no memory, a lost worker).
 */
#ifndef FLOTILLA_COORDINATOR_VERIFY_SECTIONS_H
#define FLOTILLA_COORDINATOR_VERIFY_SECTIONS_H

#include "coordinator/job.h"
#include "coordinator/verify_case.h"
#include "coordinator/verify_report.h"

typedef struct verify {
    job *job; /* sections of texts use its tokenizer alone; the thinker's uses its workers */
    char golden[VERIFY_PATH_MAX];
    verify_report report;
} verify;

flo_code verify_tokenization(verify *v, flo_err *err);
flo_code verify_template(verify *v, flo_err *err);
flo_code verify_chat(verify *v, flo_err *err);
flo_code verify_thinker(verify *v, flo_err *err);
flo_code verify_audio(verify *v, flo_err *err);
flo_code verify_image(verify *v, flo_err *err);
flo_code verify_video(verify *v, flo_err *err);
flo_code verify_sampling(verify *v, flo_err *err);
flo_code verify_speech(verify *v, flo_err *err);
flo_code verify_code2wav(verify *v, flo_err *err);

#endif

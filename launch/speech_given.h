/*
 * speech_given.h - whether and how a command line wants answers spoken.
 *
 * What can be found wrong without weights is found here, before ranks are started: values, options
 * that do not go together, and (from config.json) a model without a talker or without that speaker.
 * Only options that were given are written; defaults are the coordinator's. But for the mode: a
 * file gets the reference's samples, a stream sound without gaps.
 */
#ifndef FLOTILLA_LAUNCH_SPEECH_GIVEN_H
#define FLOTILLA_LAUNCH_SPEECH_GIVEN_H

#include "common/arguments.h"
#include "common/buffer.h"
#include "common/error.h"
#include "common/model_config.h"
#include "common/options.h"

#include <stdbool.h>
#include <stdint.h>

enum { SPEECH_ARGUMENTS = 8 };

typedef struct speech_given {
    const char *file; /* of --speech, whose table entry is the command's; NULL: none was given */
    const char *speaker;
    double temperature, top_p, repetition_penalty;
    int64_t top_k, max_new_tokens;
    int mode; /* exact, seamless */
    bool greedy;
    bool given[SPEECH_ARGUMENTS]; /* in the order of the table */
} speech_given;

/* The table's entries but for --speech, pointing into *s, which is cleared first. */
void speech_arguments(speech_given *s, argument table[SPEECH_ARGUMENTS]);

/* All that was given, against each other and against the job's options. later: sound may be asked
 * for while the job runs (a chat). FLO_USAGE names the option. */
flo_code speech_given_check(const speech_given *s, const run_options *run, bool later,
                            flo_err *err);

/* Whether this model can speak, and has the speaker. FLO_USAGE; folder is what it is called. */
flo_code speech_model_check(const speech_given *s, const model_config *model, const char *folder,
                            flo_err *err);

/* `,"speech":{"mode":"exact",...}`. stream: the sound is listened to while it is made. */
void speech_put(buffer *body, const speech_given *s, bool stream);

/* Whether the answer's speech has come to the most frames that it may have. */
bool speech_was_cut(const buffer *answer);

/* The answer's JSON with `"file": file` at the end of its "speech" object; as it is where it has
 * none. */
void speech_answer_put(buffer *out, const buffer *answer, const char *file);

#endif

/*
 * request_voice.h - a request's speech: what is asked of it, its session, and what is kept of it.
 *
 * The body's key "speech" asks for it, with these defaults:
 *     {"speaker": "Ethan", "mode": "seamless" (or "exact"), "temperature": 0.9, "top_k": 50,
 *      "top_p": 1, "repetition_penalty": 1.05, "greedy": false, "max_new_tokens": 4096}
 * Draws of a seed are another stream than those of the text.
 */
#ifndef FLOTILLA_COORDINATOR_REQUEST_VOICE_H
#define FLOTILLA_COORDINATOR_REQUEST_VOICE_H

#include "coordinator/job.h"
#include "coordinator/row_store.h"

#include <cjson/cJSON.h>

typedef struct request_voice {
    bool wanted;
    bool is_open; /* the desk has the order; until on_done */
    bool over;    /* all sound has come, or none will */
    speech_how how;
    speech_prompt prompt;
    speech_order order;
    row_store rows; /* for a dump: the talker's input, its text, and "wav" */
    dump_sink sink;
    double done_s; /* CLOCK_MONOTONIC */
} request_voice;   /* all zero: not wanted */

/* Reads "speech". FLO_USAGE: an unknown key, speaker or mode, a number out of range, or a job that
 * does not speak. */
flo_code request_voice_take(request_voice *v, const job *j, const cJSON *body, uint64_t seed,
                            flo_err *err);

/* Makes the talker's prompt and hands the order in; its owner and calls must be set. with_dump:
 * what the talker tells is kept. */
flo_code request_voice_open(request_voice *v, job *j, const prompt *p, const media_set *media,
                            bool with_dump, flo_err *err);

/* Hands on what the answer has become. */
void request_voice_text(request_voice *v, job *j, const generation *g, bool done);

/* "speech": {...} of an answer, a comma in front. cancelled: the answer was. */
void request_voice_put(const request_voice *v, const job *j, bool cancelled, buffer *b);

void request_voice_free(request_voice *v);

#endif

/*
 * request_prompt.h - the prompt of a request's JSON body, up to its placeholders.
 */
#ifndef FLOTILLA_COORDINATOR_REQUEST_PROMPT_H
#define FLOTILLA_COORDINATOR_REQUEST_PROMPT_H

#include "coordinator/job.h"
#include "coordinator/prompt.h"

#include <cjson/cJSON.h>

/* Text (messages through the chat template, or a raw prompt) or ids into p. root is the body taken
 * apart; body [n_bytes] its text, in which numbers stand as they were written. FLO_USAGE: more or
 * less than one of messages, prompt and prompt_ids, or a faulty one. */
flo_code request_prompt_take(prompt *p, const job *j, const cJSON *root, const char *body,
                             size_t n_bytes, flo_err *err);

/* The same for "speak": the conversation that its text answers, as messages; without them a user
 * who asks for a text to be read aloud. FLO_USAGE: an empty text, one that is no string, media,
 * "speech" is not there, or a prompt in another form. */
flo_code request_prompt_take_spoken(prompt *p, const job *j, const cJSON *root, const char *body,
                                    size_t n_bytes, flo_err *err);

#endif

/*
 * request_body.h - the JSON body of a request, from options. Only keys that were given are written;
 * defaults are the coordinator's, who knows the checkpoint.
 */
#ifndef FLOTILLA_LAUNCH_REQUEST_BODY_H
#define FLOTILLA_LAUNCH_REQUEST_BODY_H

#include "common/arguments.h"
#include "common/buffer.h"
#include "common/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

enum { PROMPT_BYTES_MAX = 48 << 20, SAMPLING_ARGUMENTS = 9 };

#define SEED_MAX 9007199254740991.0 /* 2^53 - 1: what every JSON reader keeps */

typedef struct sampling_options {
    int64_t max_new_tokens, top_k, seed, logprobs;
    double temperature, top_p, min_p, repetition_penalty;
    bool ignore_eos;
    bool given[SAMPLING_ARGUMENTS]; /* in the order of the table */
} sampling_options;

/* The table's entries for these options, pointing into *s. */
void sampling_arguments(sampling_options *s, argument table[SAMPLING_ARGUMENTS]);

/* `,"max_tokens":5,"temperature":0.7` for what was given. */
void sampling_put(buffer *body, const sampling_options *s);

/* `"key":value` of a number or flag. */
void argument_put(buffer *body, const char *key, const argument *a);

/* "1, 2,3" as a JSON list. FLO_USAGE names the place; ids from 0 to 2^31 - 1, at least one. */
flo_code ids_put(buffer *body, const char *text, flo_err *err);

/* A number among an answer's members; 0 where there is none. */
double json_number(const cJSON *object, const char *key);

/* FLO_USAGE where text, called name, is empty or not UTF-8. */
flo_code prompt_check(const char *text, size_t n_bytes, const char *name, flo_err *err);

/* The same for what is no prompt but, say, a "text". */
flo_code text_check(const char *text, size_t n_bytes, const char *what, const char *name,
                    flo_err *err);

#endif

/*
 * request_body.c - numbers and strings into one JSON object.
 */
#include "launch/request_body.h"

#include "common/json.h"
#include "common/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const sampling_keys[SAMPLING_ARGUMENTS] = {
    "max_tokens",         "temperature", "top_k",      "top_p",   "min_p",
    "repetition_penalty", "seed",        "ignore_eos", "logprobs"};

void sampling_arguments(sampling_options *s, argument table[SAMPLING_ARGUMENTS])
{
    *s = (sampling_options){0};
    const argument all[SAMPLING_ARGUMENTS] = {
        {.name = "--max-new-tokens",
         .kind = ARGUMENT_INTEGER,
         .out = &s->max_new_tokens,
         .min = 1,
         .max = 1 << 30},
        {.name = "--temperature",
         .kind = ARGUMENT_NUMBER,
         .out = &s->temperature,
         .min = 0,
         .max = 1000},
        {.name = "--top-k", .kind = ARGUMENT_INTEGER, .out = &s->top_k, .min = 0, .max = 1 << 30},
        {.name = "--top-p", .kind = ARGUMENT_NUMBER, .out = &s->top_p, .min = 0, .max = 1},
        {.name = "--min-p", .kind = ARGUMENT_NUMBER, .out = &s->min_p, .min = 0, .max = 1},
        {.name = "--repetition-penalty",
         .kind = ARGUMENT_NUMBER,
         .out = &s->repetition_penalty,
         .min = 0.01,
         .max = 100},
        {.name = "--seed", .kind = ARGUMENT_INTEGER, .out = &s->seed, .min = 0, .max = SEED_MAX},
        {.name = "--ignore-eos", .kind = ARGUMENT_FLAG, .out = &s->ignore_eos},
        {.name = "--logprobs", .kind = ARGUMENT_INTEGER, .out = &s->logprobs, .min = 0, .max = 20},
    };
    for (int i = 0; i < SAMPLING_ARGUMENTS; i++) {
        table[i] = all[i];
        table[i].given = &s->given[i];
    }
}

void argument_put(buffer *body, const char *key, const argument *a)
{
    char text[96];
    if (a->kind == ARGUMENT_INTEGER) {
        snprintf(text, sizeof text, "\"%s\":%lld", key, (long long)*(int64_t *)a->out);
    } else if (a->kind == ARGUMENT_NUMBER) {
        snprintf(text, sizeof text, "\"%s\":%.17g", key, *(double *)a->out);
    } else {
        snprintf(text, sizeof text, "\"%s\":true", key);
    }
    buffer_append_text(body, text);
}

void sampling_put(buffer *body, const sampling_options *s)
{
    sampling_options copy = *s;
    argument table[SAMPLING_ARGUMENTS];
    sampling_arguments(&copy, table);
    copy = *s; /* the table points into the copy, its values are those of *s again */
    for (int i = 0; i < SAMPLING_ARGUMENTS; i++) {
        if (!s->given[i]) {
            continue;
        }
        buffer_append_byte(body, ',');
        argument_put(body, sampling_keys[i], &table[i]);
    }
}

flo_code ids_put(buffer *body, const char *text, flo_err *err)
{
    const char *p = text + strspn(text, " \t\n");
    if (*p == '\0') {
        return flo_fail(err, FLO_USAGE, "--prompt-ids: the prompt is empty");
    }
    buffer_append_byte(body, '[');
    for (bool more = true; more;) {
        char *end;
        errno = 0;
        long long id = strtoll(p, &end, 10);
        if (end == p || errno != 0 || id < 0 || id > INT32_MAX) {
            return flo_fail(err, FLO_USAGE, "--prompt-ids: \"%.24s\" at byte %zu is not a token id",
                            p, (size_t)(p - text));
        }
        json_put_integer(body, id);
        p = end + strspn(end, " \t\n");
        more = *p == ',';
        if (!more && *p != '\0') {
            return flo_fail(err, FLO_USAGE,
                            "--prompt-ids: a comma is expected at byte %zu, not \"%.24s\"",
                            (size_t)(p - text), p);
        }
        if (more) {
            buffer_append_byte(body, ',');
            p++;
        }
    }
    buffer_append_byte(body, ']');
    return FLO_OK;
}

flo_code prompt_check(const char *text, size_t n_bytes, const char *name, flo_err *err)
{
    return text_check(text, n_bytes, "prompt", name, err);
}

flo_code text_check(const char *text, size_t n_bytes, const char *what, const char *name,
                    flo_err *err)
{
    if (n_bytes == 0) {
        return flo_fail(err, FLO_USAGE, "%s: the %s is empty", name, what);
    }
    size_t good = utf8_good_bytes(text, n_bytes);
    if (good != n_bytes) {
        return flo_fail(err, FLO_USAGE, "%s: not UTF-8 text at byte %zu", name, good);
    }
    return FLO_OK;
}

double json_number(const cJSON *object, const char *key)
{
    const cJSON *item = object != NULL ? json_member(object, key) : NULL;
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

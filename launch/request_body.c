/*
 * request_body.c - numbers, strings and slices into one JSON object.
 *
 * The slicer walks text that the JSON reader has accepted, so it only counts brackets and skips
 * strings; it does not check again.
 */
#include "launch/request_body.h"

#include "common/json.h"
#include "common/utf8.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEED_MAX 9007199254740991.0 /* 2^53 - 1: what every JSON reader keeps */

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
        char text[96];
        if (table[i].kind == ARGUMENT_INTEGER) {
            snprintf(text, sizeof text, ",\"%s\":%lld", sampling_keys[i],
                     (long long)*(int64_t *)table[i].out);
        } else if (table[i].kind == ARGUMENT_NUMBER) {
            snprintf(text, sizeof text, ",\"%s\":%.17g", sampling_keys[i], *(double *)table[i].out);
        } else {
            snprintf(text, sizeof text, ",\"%s\":true", sampling_keys[i]);
        }
        buffer_append_text(body, text);
    }
}

static const char *skip_space(const char *p, const char *end)
{
    while (p < end && strchr(" \t\r\n", *p) != NULL && *p != '\0') {
        p++;
    }
    return p;
}

/* Behind the string that begins at p. */
static const char *skip_string(const char *p, const char *end)
{
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\') {
            p++;
        }
    }
    return p < end ? p + 1 : end;
}

/* Behind the value that begins at p. */
static const char *skip_value(const char *p, const char *end)
{
    int depth = 0;
    while (p < end) {
        if (*p == '"') {
            p = skip_string(p, end);
        } else if (*p == '[' || *p == '{') {
            depth++;
            p++;
        } else if (*p == ']' || *p == '}') {
            if (depth == 0) {
                return p;
            }
            depth--;
            p++;
        } else if (depth == 0 && strchr(", \t\r\n", *p) != NULL) {
            return p;
        } else {
            p++;
            continue; /* inside a number or a word */
        }
        if (depth == 0) {
            return p;
        }
    }
    return end;
}

/* Members of a valid object: "messages" to *messages, all others to options. */
static void slice_object(const char *text, size_t n_bytes, json_slice *messages, buffer *options)
{
    const char *end = text + n_bytes, *p = skip_space(text, end) + 1;
    bool first = true;
    buffer_append_byte(options, '{');
    for (p = skip_space(p, end); p < end && *p == '"';) {
        const char *key = p, *key_end = skip_string(p, end);
        const char *value = skip_space(skip_space(key_end, end) + 1, end); /* behind the colon */
        const char *value_end = skip_value(value, end);
        if ((size_t)(key_end - key) == 10 && memcmp(key, "\"messages\"", 10) == 0) {
            *messages = (json_slice){value, (size_t)(value_end - value)};
        } else {
            buffer_append_text(options, first ? "" : ",");
            buffer_append(options, key, (size_t)(key_end - key));
            buffer_append_byte(options, ':');
            buffer_append(options, value, (size_t)(value_end - value));
            first = false;
        }
        p = skip_space(value_end, end);
        p = p < end && *p == ',' ? skip_space(p + 1, end) : end;
    }
    buffer_append_byte(options, '}');
}

static flo_code check_messages(const cJSON *messages, const char *name, flo_err *err)
{
    if (!cJSON_IsArray(messages)) {
        return flo_fail(err, FLO_USAGE,
                        "%s: neither a list of messages nor an object with \"messages\"", name);
    }
    if (cJSON_GetArraySize(messages) == 0) {
        return flo_fail(err, FLO_USAGE, "%s: no message in it", name);
    }
    const cJSON *m;
    int i = 0;
    cJSON_ArrayForEach(m, messages)
    {
        if (!cJSON_IsObject(m) || !cJSON_IsString(json_member(m, "role"))) {
            return flo_fail(err, FLO_USAGE, "%s: message %d is not an object with a \"role\"", name,
                            i);
        }
        i++;
    }
    return FLO_OK;
}

flo_code messages_take(const char *text, size_t n_bytes, const char *name, json_slice *messages,
                       buffer *options, flo_err *err)
{
    cJSON *json;
    flo_code code = json_parse_request(&json, text, n_bytes, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", name);
        return code;
    }
    bool object = cJSON_IsObject(json);
    code = check_messages(object ? json_member(json, "messages") : json, name, err);
    cJSON_Delete(json);
    if (code != FLO_OK) {
        return code;
    }
    if (object) {
        slice_object(text, n_bytes, messages, options);
    } else {
        const char *first = skip_space(text, text + n_bytes);
        *messages = (json_slice){first, (size_t)(skip_value(first, text + n_bytes) - first)};
        buffer_append_text(options, "{}");
    }
    return FLO_OK;
}

void template_options_put(buffer *body, const buffer *options)
{
    if (options->n > 2) {
        buffer_append_text(body, ",\"template_options\":");
        buffer_append(body, options->at, options->n);
    }
}

void message_put(buffer *out, const char *role, const char *text, size_t n_bytes)
{
    buffer_append_text(out, "{\"role\":");
    json_put_string(out, role, strlen(role));
    buffer_append_text(out, ",\"content\":");
    json_put_string(out, text, n_bytes);
    buffer_append_byte(out, '}');
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
    if (n_bytes == 0) {
        return flo_fail(err, FLO_USAGE, "%s: the prompt is empty", name);
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

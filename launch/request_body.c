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
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

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

/* What is left of an object or list: after its bracket at first, then behind each entry. */
typedef struct json_rest {
    const char *at, *end;
} json_rest;

static json_rest rest_of(json_slice whole)
{
    const char *end = whole.at + whole.n;
    return (json_rest){skip_space(skip_space(whole.at, end) + 1, end), end};
}

/* The next value; false at the end. */
static bool next_element(json_rest *rest, json_slice *value)
{
    const char *p = rest->at, *end = rest->end;
    if (p >= end || *p == ']' || *p == '}') {
        return false;
    }
    const char *value_end = skip_value(p, end);
    *value = (json_slice){p, (size_t)(value_end - p)};
    p = skip_space(value_end, end);
    rest->at = p < end && *p == ',' ? skip_space(p + 1, end) : end;
    return true;
}

/* The next member, the key with its quotes; false at the end. */
static bool next_member(json_rest *rest, json_slice *key, json_slice *value)
{
    const char *p = rest->at, *end = rest->end;
    if (p >= end || *p != '"') {
        return false;
    }
    const char *key_end = skip_string(p, end);
    *key = (json_slice){p, (size_t)(key_end - p)};
    rest->at = skip_space(skip_space(key_end, end) + 1, end); /* behind the colon */
    return next_element(rest, value);
}

static bool is_key(json_slice key, const char *name)
{
    size_t n = strlen(name);
    return key.n == n + 2 && memcmp(key.at + 1, name, n) == 0;
}

/* Members of a valid object: "messages" to *messages, all others to options. */
static void slice_object(const char *text, size_t n_bytes, json_slice *messages, buffer *options)
{
    json_rest rest = rest_of((json_slice){text, n_bytes});
    json_slice key, value;
    bool first = true;
    buffer_append_byte(options, '{');
    while (next_member(&rest, &key, &value)) {
        if (is_key(key, "messages")) {
            *messages = value;
            continue;
        }
        buffer_append_text(options, first ? "" : ",");
        buffer_append(options, key.at, key.n);
        buffer_append_byte(options, ':');
        buffer_append(options, value.at, value.n);
        first = false;
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

/* -- media in messages ------------------------------------------------------------------------- */

bool medium_is_path(const char *reference, size_t n_bytes)
{
    static const char *const schemes[] = {"data:", "file:", "http:", "https:"};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t n = strlen(schemes[i]);
        if (n_bytes >= n && strncasecmp(reference, schemes[i], n) == 0) {
            return false;
        }
    }
    return true;
}

typedef struct rewriting {
    buffer *out;
    const char *copied; /* the source up to here is in out */
    const char *folder; /* as JSON, with a slash behind; "" to leave all as it is */
    bool any;
} rewriting;

/* A string that names a medium gets the folder in front where it is a relative path. (A slash may
 * be written with a backslash before it.) */
static void rewrite_name(rewriting *r, json_slice name)
{
    const char *first = name.at + 1;
    bool relative = name.n > 2 && first[0] != '/' && !(first[0] == '\\' && first[1] == '/') &&
                    medium_is_path(first, name.n - 2);
    if (relative) {
        buffer_append(r->out, r->copied, (size_t)(first - r->copied));
        buffer_append_text(r->out, r->folder);
        r->copied = first;
    }
}

static void rewrite_part(rewriting *r, json_slice part)
{
    static const char *const names[] = {"image",     "image_url",   "input_image", "audio",
                                        "audio_url", "input_audio", "video",       "video_url"};
    json_rest members = rest_of(part);
    json_slice key, value, inner_key, inner;
    while (next_member(&members, &key, &value)) {
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            json_rest within = rest_of(value);
            bool type = is_key(key, "type") && is_key(value, names[i]);
            r->any = r->any || type || is_key(key, names[i]);
            if (!is_key(key, names[i])) {
                continue;
            }
            if (*value.at == '"') {
                rewrite_name(r, value);
            }
            while (*value.at == '{' && next_member(&within, &inner_key, &inner)) {
                if (is_key(inner_key, "url") && *inner.at == '"') {
                    rewrite_name(r, inner);
                }
            }
        }
    }
}

static void rewrite_message(rewriting *r, json_slice message)
{
    json_rest members = rest_of(message);
    json_slice key, content, part;
    while (next_member(&members, &key, &content)) {
        json_rest parts = rest_of(content);
        while (is_key(key, "content") && *content.at == '[' && next_element(&parts, &part)) {
            if (*part.at == '{') {
                rewrite_part(r, part);
            }
        }
    }
}

/* This folder as the beginning of a JSON string's inside; empty where JSON cannot hold its name. */
static void put_folder(buffer *out)
{
    char here[PATH_MAX];
    if (getcwd(here, sizeof here - 1) != NULL &&
        utf8_good_bytes(here, strlen(here)) == strlen(here)) {
        strcat(here, here[1] != '\0' ? "/" : "");
        json_put_string(out, here, strlen(here));
        out->n -= out->n > 0;
    }
    buffer_append_byte(out, '\0');
}

bool messages_put(buffer *out, json_slice messages)
{
    buffer folder = {0};
    put_folder(&folder);
    const char *inside = !folder.failed && folder.at[0] == '"' ? folder.at + 1 : "";
    rewriting r = {.out = out, .copied = messages.at, .folder = inside};
    json_rest rest = rest_of(messages);
    json_slice message;
    while (next_element(&rest, &message)) {
        rewrite_message(&r, message);
    }
    buffer_append(out, r.copied, (size_t)(messages.at + messages.n - r.copied));
    buffer_free(&folder);
    return r.any;
}

void template_options_put(buffer *body, const buffer *options)
{
    if (options->n > 2) {
        buffer_append_text(body, ",\"template_options\":");
        buffer_append(body, options->at, options->n);
    }
}

void message_put(buffer *out, const char *role, const buffer *parts, const char *text,
                 size_t n_bytes)
{
    bool alone = parts == NULL || parts->n == 0;
    buffer_append_text(out, "{\"role\":");
    json_put_string(out, role, strlen(role));
    buffer_append_text(out, ",\"content\":");
    if (!alone) {
        buffer_append_byte(out, '[');
        buffer_append(out, parts->at, parts->n);
        buffer_append_text(out, ",{\"type\":\"text\",\"text\":");
    }
    json_put_string(out, text, n_bytes);
    buffer_append_text(out, alone ? "}" : "}]}");
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

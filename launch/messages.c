/*
 * messages.c - numbers and strings stay as people wrote them, so nothing is read and printed again:
 * slices are cut out of the text, and a path gets its folder put in front.
 */
#include "launch/messages.h"

#include "common/json.h"
#include "common/utf8.h"
#include "launch/media_given.h"

#include <limits.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* Members of a valid object: "messages" to *messages, all others to options. */
static void slice_object(const char *text, size_t n_bytes, json_slice *messages, buffer *options)
{
    json_rest rest = json_rest_of((json_slice){text, n_bytes});
    json_slice key, value;
    bool first = true;
    buffer_append_byte(options, '{');
    while (json_next_member(&rest, &key, &value)) {
        if (json_key_is(key, "messages")) {
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
        *messages = json_first_value((json_slice){text, n_bytes});
        buffer_append_text(options, "{}");
    }
    return FLO_OK;
}

/* -- media in messages ------------------------------------------------------------------------- */

typedef struct rewriting {
    buffer *out;
    const char *copied; /* the source up to here is in out */
    const char *folder; /* as JSON, with a slash behind; "" to leave all as it is */
    bool any;
} rewriting;

/* A string that names a medium gets the folder in front where it is a relative path. */
static void rewrite_name(rewriting *r, json_slice name)
{
    static const char *const slashes[] = {"/", "\\/", "\\u002f"};
    const char *first = name.at + 1;
    bool absolute = false;
    for (size_t i = 0; i < sizeof slashes / sizeof slashes[0]; i++) {
        size_t n = strlen(slashes[i]);
        absolute = absolute || (name.n - 2 >= n && strncasecmp(first, slashes[i], n) == 0);
    }
    bool relative = name.n > 2 && !absolute && medium_is_path(first, name.n - 2);
    if (relative) {
        buffer_append(r->out, r->copied, (size_t)(first - r->copied));
        buffer_append_text(r->out, r->folder);
        r->copied = first;
    }
}

/* What stands under a medium's key: its name, or an object that has it as "url". */
static void rewrite_value(rewriting *r, json_slice value)
{
    json_rest members = json_rest_of(value);
    json_slice key, inner;
    if (*value.at == '"') {
        rewrite_name(r, value);
    }
    while (*value.at == '{' && json_next_member(&members, &key, &inner)) {
        if (json_key_is(key, "url") && *inner.at == '"') {
            rewrite_name(r, inner);
        }
    }
}

/* The keys under which parts have media are the names of their types as well. */
static bool is_medium(json_slice word)
{
    static const char *const names[] = {"image",     "image_url",   "input_image", "audio",
                                        "audio_url", "input_audio", "video",       "video_url"};
    bool found = false;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        found = found || json_key_is(word, names[i]);
    }
    return found;
}

static void rewrite_part(rewriting *r, json_slice part)
{
    json_rest members = json_rest_of(part);
    json_slice key, value;
    while (json_next_member(&members, &key, &value)) {
        if (is_medium(key)) {
            r->any = true;
            rewrite_value(r, value);
        } else if (json_key_is(key, "type")) {
            r->any = r->any || is_medium(value);
        }
    }
}

static void rewrite_message(rewriting *r, json_slice message)
{
    json_rest members = json_rest_of(message);
    json_slice key, content, part;
    while (json_next_member(&members, &key, &content)) {
        json_rest parts = json_rest_of(content);
        while (json_key_is(key, "content") && *content.at == '[' &&
               json_next_element(&parts, &part)) {
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
    json_rest rest = json_rest_of(messages);
    json_slice message;
    while (json_next_element(&rest, &message)) {
        rewrite_message(&r, message);
    }
    buffer_append(out, r.copied, (size_t)(messages.at + messages.n - r.copied));
    buffer_free(&folder);
    return r.any;
}

/* -- what is made here ------------------------------------------------------------------------- */

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

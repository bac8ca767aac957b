/*
 * json_slice.c - brackets are counted and strings skipped; nothing is checked again.
 */
#include "launch/json_slice.h"

#include "common/json.h"

#include <string.h>

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

json_rest json_rest_of(json_slice whole)
{
    const char *end = whole.at + whole.n;
    return (json_rest){skip_space(skip_space(whole.at, end) + 1, end), end};
}

bool json_next_element(json_rest *rest, json_slice *value)
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

bool json_next_member(json_rest *rest, json_slice *key, json_slice *value)
{
    const char *p = rest->at, *end = rest->end;
    if (p >= end || *p != '"') {
        return false;
    }
    const char *key_end = skip_string(p, end);
    *key = (json_slice){p, (size_t)(key_end - p)};
    rest->at = skip_space(skip_space(key_end, end) + 1, end); /* behind the colon */
    return json_next_element(rest, value);
}

bool json_key_is(json_slice key, const char *name)
{
    size_t n = strlen(name);
    if (key.n < 2 || memchr(key.at, '\\', key.n) == NULL) {
        return key.n == n + 2 && memcmp(key.at + 1, name, n) == 0;
    }
    cJSON *json;
    flo_err unused;
    bool same = key.n <= 6 * n + 2 && json_parse_request(&json, key.at, key.n, &unused) == FLO_OK;
    if (same) {
        same = cJSON_IsString(json) && strcmp(json->valuestring, name) == 0;
        cJSON_Delete(json);
    }
    return same;
}

json_slice json_first_value(json_slice text)
{
    const char *end = text.at + text.n, *first = skip_space(text.at, end);
    return (json_slice){first, (size_t)(skip_value(first, end) - first)};
}

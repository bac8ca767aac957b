/*
 * json_numbers.c - the literals of a JSON text's numbers, given to the tree that was parsed from
 * it.
 *
 * cJSON keeps numbers as doubles. The tree has them in the text's order, so one walk over both
 * pairs them; no second parser is needed. Costs one pass and one small copy per number.
 */
#include "coordinator/text/chat_template.h"

#include <stdbool.h>
#include <string.h>

typedef struct literals {
    const char *s;
    size_t n, at;
} literals;

static bool is_number_char(char c)
{
    return (c >= '0' && c <= '9') || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E';
}

static void string_skip(literals *l)
{
    for (l->at++; l->at < l->n && l->s[l->at] != '"'; l->at++) {
        l->at += l->s[l->at] == '\\';
    }
    l->at++;
}

/* The next number outside of strings: its bytes, or NULL at the end. */
static const char *literal_next(literals *l, size_t *n)
{
    while (l->at < l->n) {
        char c = l->s[l->at];
        if (c == '"') {
            string_skip(l);
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            size_t first = l->at;
            while (l->at < l->n && is_number_char(l->s[l->at])) {
                l->at++;
            }
            *n = l->at - first;
            return l->s + first;
        } else { /* letters of true, false and null stand before no digit */
            l->at++;
        }
    }
    return NULL;
}

static size_t digits_skip(const char *s, size_t n, size_t at)
{
    while (at < n && s[at] >= '0' && s[at] <= '9') {
        at++;
    }
    return at;
}

/* -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)? */
static bool literal_is_json(const char *s, size_t n)
{
    size_t at = n > 0 && s[0] == '-';
    size_t end = digits_skip(s, n, at);
    if (end == at || (s[at] == '0' && end > at + 1)) {
        return false;
    }
    if (end < n && s[end] == '.') {
        at = end + 1;
        end = digits_skip(s, n, at);
        if (end == at) {
            return false;
        }
    }
    if (end < n && (s[end] == 'e' || s[end] == 'E')) {
        at = end + 1;
        at += at < n && (s[at] == '+' || s[at] == '-');
        end = digits_skip(s, n, at);
        if (end == at) {
            return false;
        }
    }
    return end == n;
}

static flo_code literal_keep(cJSON *item, literals *l, flo_err *err)
{
    size_t n = 0;
    const char *s = literal_next(l, &n);
    if (s == NULL) {
        return flo_fail(err, FLO_USAGE, "the JSON tree has more numbers than its text");
    }
    if (!literal_is_json(s, n)) {
        return flo_fail(err, FLO_USAGE, "no JSON number: %.*s", n > 40 ? 40 : (int)n, s);
    }
    char *copy = cJSON_malloc(n + 1);
    if (copy == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    memcpy(copy, s, n);
    copy[n] = '\0';
    item->type = (item->type & ~0xff) | cJSON_Raw;
    item->valuestring = copy;
    return FLO_OK;
}

static flo_code literals_keep(cJSON *item, literals *l, flo_err *err)
{
    flo_code code = cJSON_IsNumber(item) ? literal_keep(item, l, err) : FLO_OK;
    for (cJSON *child = item->child; child != NULL && code == FLO_OK; child = child->next) {
        code = literals_keep(child, l, err); /* cJSON limits the depth to CJSON_NESTING_LIMIT */
    }
    return code;
}

flo_code chat_template_numbers_keep(cJSON *tree, const char *json, size_t n_bytes, flo_err *err)
{
    literals l = {.s = json, .n = n_bytes};
    return literals_keep(tree, &l, err);
}

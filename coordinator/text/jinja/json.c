/*
 * json.c - values from cJSON trees, and json.dumps.
 */
#include "coordinator/text/jinja/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- from cJSON ---- */

/* C0 80 stands for U+0000, which cJSON's strings cannot hold. */
static text *json_text(sandbox *m, const char *s)
{
    size_t n = strlen(s), out = 0;
    char *bytes = sandbox_take(m, n);
    for (size_t i = 0; i < n; i++) {
        bool is_nul = (unsigned char)s[i] == 0xc0 && (unsigned char)s[i + 1] == 0x80;
        bytes[out++] = is_nul ? '\0' : s[i];
        i += is_nul;
    }
    if (!utf8_is_valid(bytes, out)) {
        template_fault(m, "a string of the context is not UTF-8");
    }
    sandbox_spend(m, n / 16);
    return text_borrow(m, bytes, out);
}

static value json_literal(sandbox *m, const char *s)
{
    size_t n = strlen(s);
    size_t sign = n > 0 && s[0] == '-';
    if (n > sign && strspn(s + sign, "0123456789") == n - sign) {
        return integer_parse(m, s, n);
    }
    char *end;
    double x = strtod(s, &end);
    if (n == 0 || *end != '\0' || strspn(s, "0123456789+-.eE") != n) {
        template_fault(m, "the context holds raw JSON that is no number: %.40s", s);
    }
    return FLOAT(x);
}

static value json_number(double x)
{
    bool whole = x == floor(x) && fabs(x) < 9007199254740992.0;
    return whole ? INT((int64_t)x) : FLOAT(x);
}

static value json_container(sandbox *m, const cJSON *json)
{
    if (cJSON_IsArray(json)) {
        list *l = list_new(m, 4);
        for (const cJSON *item = json->child; item != NULL; item = item->next) {
            list_add(m, l, json_to_value(m, item));
        }
        return list_value(l);
    }
    dict *d = dict_new(m);
    for (const cJSON *item = json->child; item != NULL; item = item->next) {
        dict_set(m, d, STRING(json_text(m, item->string)), json_to_value(m, item));
    }
    return dict_value(d);
}

value json_to_value(sandbox *m, const cJSON *json)
{
    sandbox_spend(m, 1);
    switch (json->type & 0xff) {
    case cJSON_NULL:
        return NONE;
    case cJSON_True:
    case cJSON_False:
        return BOOL(cJSON_IsTrue(json));
    case cJSON_Number:
        return json_number(json->valuedouble);
    case cJSON_Raw:
        return json_literal(m, json->valuestring);
    case cJSON_String:
        return STRING(json_text(m, json->valuestring));
    case cJSON_Array:
    case cJSON_Object: {
        sandbox_descend(m);
        value v = json_container(m, json);
        sandbox_ascend(m);
        return v;
    }
    default:
        template_fault(m, "the context holds an invalid JSON item");
    }
}

/* ---- json.dumps ---- */

static void build_unicode_escape(sandbox *m, builder *b, int32_t c)
{
    char out[16];
    if (c < 0x10000) {
        snprintf(out, sizeof out, "\\u%04x", (unsigned)c);
    } else {
        unsigned high = 0xd800u + ((unsigned)(c - 0x10000) >> 10);
        unsigned low = 0xdc00u + ((unsigned)(c - 0x10000) & 0x3ff);
        snprintf(out, sizeof out, "\\u%04x\\u%04x", high, low);
    }
    build_string(m, b, out);
}

static void build_json_string(sandbox *m, builder *b, const text *t, bool ascii)
{
    static const char short_of[] = "\"\\\n\r\t\f\b";
    static const char letters[] = "\"\\nrtfb";
    build_string(m, b, "\"");
    for (size_t i = 0; i < t->n;) {
        int32_t c = char_next(t->bytes, t->n, &i);
        const char *hit = c > 0 && c < 0x80 ? strchr(short_of, (int)c) : NULL;
        if (hit != NULL) {
            build_char(m, b, '\\');
            build_char(m, b, letters[hit - short_of]);
        } else if (c < 0x20 || (ascii && c > 0x7e)) {
            build_unicode_escape(m, b, c);
        } else {
            build_char(m, b, c);
        }
    }
    build_string(m, b, "\"");
    sandbox_spend(m, t->n / 8);
}

static void build_json_number(sandbox *m, builder *b, value v)
{
    if (v.kind == V_FLOAT && (isnan(v.real) || isinf(v.real))) {
        build_string(m, b, isnan(v.real) ? "NaN" : v.real > 0 ? "Infinity" : "-Infinity");
    } else {
        build_repr(m, b, v);
    }
}

static void build_json(sandbox *m, builder *b, value v, const json_style *s, int level);

static void build_json_line(sandbox *m, builder *b, const json_style *s, int level)
{
    if (s->indent != NULL) {
        build_string(m, b, "\n");
        for (int i = 0; i < level; i++) {
            build_text(m, b, s->indent);
        }
    }
}

static void build_json_list(sandbox *m, builder *b, const list *l, const json_style *s, int level)
{
    build_string(m, b, "[");
    for (size_t i = 0; i < l->n; i++) {
        if (i > 0) {
            build_text(m, b, s->item_separator);
        }
        build_json_line(m, b, s, level + 1);
        build_json(m, b, l->items[i], s, level + 1);
    }
    if (l->n > 0) {
        build_json_line(m, b, s, level);
    }
    build_string(m, b, "]");
}

static text *json_key(sandbox *m, value key)
{
    switch (key.kind) {
    case V_STRING:
        return key.string;
    case V_NONE:
        return text_of(m, "null");
    case V_BOOL:
        return text_of(m, key.truth ? "true" : "false");
    case V_INT:
    case V_BIG:
    case V_FLOAT: {
        builder b = {0};
        build_json_number(m, &b, key);
        return build_end(m, &b);
    }
    default:
        template_fault(m, "keys must be str, int, float, bool or None, not %s", type_name(key));
    }
}

static dict_entry *json_entries(sandbox *m, const dict *d, bool sorted)
{
    if (!sorted || d->n == 0) {
        return d->entries;
    }
    value *keys = TAKE(m, value, d->n), *order = TAKE(m, value, d->n);
    for (size_t i = 0; i < d->n; i++) {
        keys[i] = d->entries[i].key;
        order[i] = INT((int64_t)i);
    }
    values_sort(m, order, keys, d->n, false);
    dict_entry *entries = TAKE(m, dict_entry, d->n);
    for (size_t i = 0; i < d->n; i++) {
        entries[i] = d->entries[order[i].integer];
    }
    return entries;
}

static void build_json_dict(sandbox *m, builder *b, const dict *d, const json_style *s, int level)
{
    const dict_entry *entries = json_entries(m, d, s->sorted);
    build_string(m, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        if (i > 0) {
            build_text(m, b, s->item_separator);
        }
        build_json_line(m, b, s, level + 1);
        build_json_string(m, b, json_key(m, entries[i].key), s->ascii);
        build_text(m, b, s->key_separator);
        build_json(m, b, entries[i].content, s, level + 1);
    }
    if (d->n > 0) {
        build_json_line(m, b, s, level);
    }
    build_string(m, b, "}");
}

static void build_json(sandbox *m, builder *b, value v, const json_style *s, int level)
{
    sandbox_spend(m, 1);
    switch (v.kind) {
    case V_NONE:
        build_string(m, b, "null");
        return;
    case V_BOOL:
        build_string(m, b, v.truth ? "true" : "false");
        return;
    case V_INT:
    case V_BIG:
    case V_FLOAT:
        build_json_number(m, b, v);
        return;
    case V_STRING:
        build_json_string(m, b, v.string, s->ascii);
        return;
    case V_LIST:
    case V_TUPLE:
        sandbox_descend(m);
        build_json_list(m, b, v.list, s, level);
        sandbox_ascend(m);
        return;
    case V_DICT:
        sandbox_descend(m);
        build_json_dict(m, b, v.dict, s, level);
        sandbox_ascend(m);
        return;
    default:
        template_fault(m, "Object of type %s is not JSON serializable", type_name(v));
    }
}

text *value_to_json(sandbox *m, value v, const json_style *style)
{
    builder b = {0};
    build_json(m, &b, v, style, 0);
    return build_end(m, &b);
}

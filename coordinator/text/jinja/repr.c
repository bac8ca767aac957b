/*
 * repr.c - values as Python prints them: str() and repr().
 */
#include "coordinator/text/jinja/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *text_chars(sandbox *m, const text *t)
{
    char *s = sandbox_take(m, t->n + 1);
    for (size_t i = 0; i < t->n; i++) {
        s[i] = t->bytes[i] == '\0' ? ' ' : t->bytes[i];
    }
    s[t->n] = '\0';
    return s;
}

/* Digits of the shortest decimal that reads back as x (> 0, finite), and its exponent: 0.DIGITS e.
 */
static int shortest_digits(char digits[20], int *n_digits, double x)
{
    char out[FLOAT_CHARS];
    for (int precision = 0; precision < 17; precision++) {
        snprintf(out, sizeof out, "%.*e", precision, x);
        if (strtod(out, NULL) == x) {
            break;
        }
    }
    int n = 0;
    const char *p = out;
    for (; *p != 'e'; p++) {
        if (*p != '.') {
            digits[n++] = *p;
        }
    }
    while (n > 1 && digits[n - 1] == '0') {
        n--;
    }
    digits[n] = '\0';
    *n_digits = n;
    return atoi(p + 1) + 1;
}

void float_repr(char out[FLOAT_CHARS], double x)
{
    if (isnan(x) || isinf(x)) {
        snprintf(out, FLOAT_CHARS, "%s", isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
        return;
    }
    const char *sign = signbit(x) ? "-" : "";
    if (x == 0) {
        snprintf(out, FLOAT_CHARS, "%s0.0", sign);
        return;
    }
    char digits[20];
    int n;
    int point = shortest_digits(digits, &n, fabs(x));
    if (point > 16 || point < -3) {
        int exponent = point - 1;
        snprintf(out, FLOAT_CHARS, "%s%c%s%se%c%02d", sign, digits[0], n > 1 ? "." : "", digits + 1,
                 exponent < 0 ? '-' : '+', abs(exponent));
    } else if (point <= 0) {
        snprintf(out, FLOAT_CHARS, "%s0.%.*s%s", sign, -point, "0000", digits);
    } else if (n <= point) {
        snprintf(out, FLOAT_CHARS, "%s%s%.*s.0", sign, digits, point - n, "0000000000000000");
    } else {
        snprintf(out, FLOAT_CHARS, "%s%.*s.%s", sign, point, digits, digits + point);
    }
}

static void build_float(sandbox *m, builder *b, double x)
{
    char out[FLOAT_CHARS];
    float_repr(out, x);
    build_string(m, b, out);
}

static void build_integer(sandbox *m, builder *b, int64_t i)
{
    char out[32];
    snprintf(out, sizeof out, "%lld", (long long)i);
    build_string(m, b, out);
}

/* ---- strings ---- */

static void build_quoted_char(sandbox *m, builder *b, int32_t c, int32_t quote)
{
    char out[16];
    if (c == quote || c == '\\') {
        build_char(m, b, '\\');
        build_char(m, b, c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
        build_string(m, b, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
    } else if (c >= 0x20 && c < 0x7f) {
        build_char(m, b, c);
    } else if (c >= 0x7f && char_is_printable(c)) {
        build_char(m, b, c);
    } else {
        snprintf(out, sizeof out,
                 c < 0x100     ? "\\x%02x"
                 : c < 0x10000 ? "\\u%04x"
                               : "\\U%08x",
                 (unsigned)c);
        build_string(m, b, out);
    }
}

static void build_quoted(sandbox *m, builder *b, const text *t)
{
    bool single = t->n > 0 && memchr(t->bytes, '\'', t->n) != NULL;
    bool twofold = t->n > 0 && memchr(t->bytes, '"', t->n) != NULL;
    int32_t quote = single && !twofold ? '"' : '\'';
    build_string(m, b, t->safe ? "Markup(" : "");
    build_char(m, b, quote);
    for (size_t i = 0; i < t->n;) {
        build_quoted_char(m, b, char_next(t->bytes, t->n, &i), quote);
    }
    build_char(m, b, quote);
    build_string(m, b, t->safe ? ")" : "");
    sandbox_spend(m, t->n / 16);
}

/* ---- containers ---- */

static void build_items(sandbox *m, builder *b, const value *items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        build_string(m, b, i > 0 ? ", " : "");
        build_repr(m, b, items[i]);
    }
}

static void build_tuple(sandbox *m, builder *b, const list *l)
{
    build_string(m, b, "(");
    build_items(m, b, l->items, l->n);
    build_string(m, b, l->n == 1 ? ",)" : ")");
}

static void build_dict(sandbox *m, builder *b, const dict *d)
{
    build_string(m, b, "{");
    for (size_t i = 0; i < d->n; i++) {
        build_string(m, b, i > 0 ? ", " : "");
        build_repr(m, b, d->entries[i].key);
        build_string(m, b, ": ");
        build_repr(m, b, d->entries[i].content);
    }
    build_string(m, b, "}");
}

static void build_view(sandbox *m, builder *b, value v)
{
    static const char *const names[] = {"dict_keys", "dict_values", "dict_items"};
    build_string(m, b, names[v.view->kind]);
    build_string(m, b, "([");
    value *items;
    size_t n;
    value_items(m, v, &items, &n);
    build_items(m, b, items, n);
    build_string(m, b, "])");
}

static void build_range(sandbox *m, builder *b, const range *r)
{
    char out[96];
    if (r->step == 1) {
        snprintf(out, sizeof out, "range(%lld, %lld)", (long long)r->start, (long long)r->stop);
    } else {
        snprintf(out, sizeof out, "range(%lld, %lld, %lld)", (long long)r->start,
                 (long long)r->stop, (long long)r->step);
    }
    build_string(m, b, out);
}

static void build_container(sandbox *m, builder *b, value v)
{
    switch (v.kind) {
    case V_LIST:
        build_string(m, b, "[");
        build_items(m, b, v.list->items, v.list->n);
        build_string(m, b, "]");
        break;
    case V_TUPLE:
        build_tuple(m, b, v.list);
        break;
    case V_DICT:
        build_dict(m, b, v.dict);
        break;
    case V_VIEW:
        build_view(m, b, v);
        break;
    case V_NAMESPACE:
        build_string(m, b, "<Namespace ");
        build_dict(m, b, v.dict);
        build_string(m, b, ">");
        break;
    default: /* Python prints an address here, which no two runs share */
        build_string(m, b, "<");
        build_string(m, b, v.kind == V_ITERATOR ? v.iterator->type : type_name(v));
        build_string(m, b, " object>");
    }
}

void build_repr(sandbox *m, builder *b, value v)
{
    sandbox_spend(m, 1);
    switch (v.kind) {
    case V_UNDEFINED:
    case V_MISSING:
        build_string(m, b, "Undefined");
        return;
    case V_NONE:
        build_string(m, b, "None");
        return;
    case V_BOOL:
        build_string(m, b, v.truth ? "True" : "False");
        return;
    case V_INT:
        build_integer(m, b, v.integer);
        return;
    case V_BIG:
        build_text(m, b, v.string);
        return;
    case V_FLOAT:
        build_float(m, b, v.real);
        return;
    case V_STRING:
        build_quoted(m, b, v.string);
        return;
    case V_RANGE:
        build_range(m, b, v.range);
        return;
    default:
        sandbox_descend(m);
        build_container(m, b, v);
        sandbox_ascend(m);
    }
}

void build_str(sandbox *m, builder *b, value v)
{
    if (v.kind == V_STRING) {
        build_text(m, b, v.string);
    } else if (v.kind != V_UNDEFINED && v.kind != V_MISSING) {
        build_repr(m, b, v);
    }
}

text *value_str(sandbox *m, value v)
{
    if (v.kind == V_STRING) {
        return v.string;
    }
    builder b = {0};
    build_str(m, &b, v);
    return build_end(m, &b);
}

text *value_repr(sandbox *m, value v)
{
    builder b = {0};
    build_repr(m, &b, v);
    return build_end(m, &b);
}

const char *repr_chars(sandbox *m, value v)
{
    return text_chars(m, value_repr(m, v));
}

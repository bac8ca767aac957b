/*
 * filters_text.c - filters of texts and numbers.
 */
#include "coordinator/text/jinja/filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- texts ---- */

FILTER(filter_upper)
{
    UNUSED_ARGUMENTS;
    return marked_like(r, v, STRING(text_upper(&r->m, value_str(&r->m, v))));
}

FILTER(filter_lower)
{
    UNUSED_ARGUMENTS;
    return marked_like(r, v, STRING(text_lower(&r->m, value_str(&r->m, v))));
}

FILTER(filter_capitalize)
{
    UNUSED_ARGUMENTS;
    return marked_like(r, v, STRING(text_capitalize(&r->m, value_str(&r->m, v))));
}

static bool begins_word(int32_t c)
{
    return char_is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
}

/* A word's first character in upper case, the rest in lower case; not str.title. */
FILTER(filter_title)
{
    UNUSED_ARGUMENTS;
    const text *t = value_str(&r->m, v);
    builder b = {0};
    for (size_t i = 0; i < t->n;) {
        size_t first = i, last = i;
        bool separator = begins_word(char_next(t->bytes, t->n, &i));
        for (last = i; i < t->n && begins_word(char_next(t->bytes, t->n, &i)) == separator;) {
            last = i;
        }
        i = last;
        text *word = text_bytes_part(&r->m, t, first, last);
        size_t head = 0;
        (void)char_next(word->bytes, word->n, &head);
        build_text(&r->m, &b, text_upper(&r->m, text_bytes_part(&r->m, word, 0, head)));
        build_text(&r->m, &b, text_lower(&r->m, text_bytes_part(&r->m, word, head, word->n)));
    }
    return STRING(build_end(&r->m, &b));
}

FILTER(filter_trim)
{
    UNUSED_ALL;
    const text *chars =
        argument_given(a[0]) && a[0].kind != V_NONE ? argument_text(r, a[0], "strip arg") : NULL;
    return marked_like(r, v, STRING(text_strip(&r->m, value_str(&r->m, v), chars, STRIP_BOTH)));
}

FILTER(filter_replace)
{
    UNUSED_ALL;
    int64_t count =
        argument_given(a[2]) && a[2].kind != V_NONE ? argument_integer(r, a[2], "count") : -1;
    return STRING(text_replace(&r->m, value_str(&r->m, v), value_str(&r->m, a[0]),
                               value_str(&r->m, a[1]), count));
}

FILTER(filter_center)
{
    UNUSED_ALL;
    return marked_like(r, v,
                       STRING(text_pad(&r->m, value_str(&r->m, v),
                                       argument_integer_or(r, a[0], 80, "width"), ' ', 'c')));
}

FILTER(filter_string)
{
    UNUSED_ARGUMENTS;
    return STRING(value_str(&r->m, v));
}

static value escaped(renderer *r, const text *t)
{
    text *e = text_escape_html(&r->m, t);
    e->safe = true;
    return STRING(e);
}

FILTER(filter_escape)
{
    UNUSED_ARGUMENTS;
    return v.kind == V_STRING && v.string->safe ? v : escaped(r, value_str(&r->m, v));
}

FILTER(filter_forceescape)
{
    UNUSED_ARGUMENTS;
    return escaped(r, value_str(&r->m, v));
}

FILTER(filter_safe)
{
    UNUSED_ARGUMENTS;
    const text *t = value_str(&r->m, v);
    text *s = text_borrow(&r->m, t->bytes, t->n);
    s->safe = true;
    return STRING(s);
}

static list *lines_of(renderer *r, const text *t)
{
    list *l = list_new(&r->m, 8);
    for (size_t i = 0; i < t->n;) {
        size_t first = i, end = i;
        int32_t c = 0;
        while (i < t->n) {
            end = i;
            c = char_next(t->bytes, t->n, &i);
            if (char_is_line_end(c)) {
                break;
            }
            end = i;
        }
        i += c == '\r' && i < t->n && t->bytes[i] == '\n';
        list_add(&r->m, l, STRING(text_bytes_part(&r->m, t, first, end)));
    }
    sandbox_spend(&r->m, t->n / 8);
    return l;
}

FILTER(filter_indent)
{
    UNUSED_ALL;
    sandbox *m = &r->m;
    builder b = {0};
    build_repeated(m, &b, ' ',
                   argument_given(a[0]) && a[0].kind == V_STRING
                       ? 0
                       : argument_integer_or(r, a[0], 4, "width"));
    text *indent = argument_given(a[0]) && a[0].kind == V_STRING ? a[0].string : build_end(m, &b);
    const text newline = TEXT("\n");
    if (v.kind != V_STRING) {
        (void)values_operate(r, N_ADD, v,
                             STRING(text_of(m, "\n"))); /* the reference adds, and so faults */
    }
    list *lines = lines_of(r, text_join(m, argument_text(r, v, "indent's text"), &newline));
    builder out = {0};
    for (size_t i = 0; i < lines->n; i++) {
        const text *line = lines->items[i].string;
        bool indented = i == 0 ? argument_flag(r, a[1]) : line->n > 0 || argument_flag(r, a[2]);
        build_string(m, &out, i > 0 ? "\n" : "");
        if (indented) {
            build_text(m, &out, indent);
        }
        build_text(m, &out, line);
    }
    return marked_like(r, v, STRING(build_end(m, &out)));
}

FILTER(filter_truncate)
{
    UNUSED_ALL;
    sandbox *m = &r->m;
    text ellipsis = TEXT("...");
    text *end = argument_given(a[2]) ? (text *)argument_text(r, a[2], "end") : &ellipsis;
    int64_t length = argument_integer_or(r, a[0], 255, "length");
    int64_t leeway =
        argument_given(a[3]) && a[3].kind != V_NONE ? argument_integer(r, a[3], "leeway") : 5;
    text end_copy = *end;
    int64_t end_length = text_length(&end_copy);
    if (length < end_length || leeway < 0) {
        template_fault(m, "truncate: expected length >= %lld and leeway >= 0",
                       (long long)end_length);
    }
    if (value_length(m, v) < 0) {
        template_fault(m, "object of type '%s' has no len()", type_name(v));
    }
    if (value_length(m, v) <= length + leeway) {
        return v;
    }
    text *t = (text *)argument_text(r, v, "truncate's text");
    text *head = text_part(m, t, 0, length - end_length);
    text space = TEXT(" ");
    int64_t cut = argument_flag(r, a[1]) ? -1 : text_find_last(head, &space, 0, head->n);
    head = cut < 0 ? head : text_bytes_part(m, head, 0, (size_t)cut);
    return STRING(text_join(m, head, &end_copy));
}

FILTER(filter_wordcount)
{
    UNUSED_ARGUMENTS;
    const text *t = value_str(&r->m, v);
    int64_t n = 0;
    bool inside = false;
    for (size_t i = 0; i < t->n;) {
        bool word = char_is_word(char_next(t->bytes, t->n, &i));
        n += word && !inside;
        inside = word;
    }
    sandbox_spend(&r->m, t->n / 8);
    return INT(n);
}

/* White space runs as one blank, none at the ends. */
static text *spaces_collapsed(renderer *r, const text *t)
{
    builder b = {0};
    bool pending = false;
    for (size_t i = 0; i < t->n;) {
        int32_t c = char_next(t->bytes, t->n, &i);
        if (char_is_space(c)) {
            pending = build_size(&b) > 0;
            continue;
        }
        build_string(&r->m, &b, pending ? " " : "");
        build_char(&r->m, &b, c);
        pending = false;
    }
    return build_end(&r->m, &b);
}

static text *entities_resolved(renderer *r, const text *t)
{
    static const struct {
        const char *name;
        const char *character;
    } entities[] = {{"&lt;", "<"},   {"&gt;", ">"},  {"&amp;", "&"},  {"&quot;", "\""},
                    {"&#34;", "\""}, {"&#39;", "'"}, {"&apos;", "'"}, {"&nbsp;", "\xc2\xa0"}};
    builder b = {0};
    for (size_t i = 0; i < t->n;) {
        size_t k = 0, n = sizeof entities / sizeof entities[0];
        while (t->bytes[i] == '&' && k < n &&
               (t->n - i < strlen(entities[k].name) ||
                memcmp(t->bytes + i, entities[k].name, strlen(entities[k].name)) != 0)) {
            k++;
        }
        if (t->bytes[i] == '&' && k < n) {
            build_string(&r->m, &b, entities[k].character);
            i += strlen(entities[k].name);
        } else {
            build_bytes(&r->m, &b, t->bytes + i++, 1);
        }
    }
    return build_end(&r->m, &b);
}

FILTER(filter_striptags)
{
    UNUSED_ARGUMENTS;
    const text *t = value_str(&r->m, v);
    builder b = {0};
    size_t at = 0;
    while (at < t->n) {
        const char *open = memchr(t->bytes + at, '<', t->n - at);
        size_t start = open == NULL ? t->n : (size_t)(open - t->bytes);
        bool comment = t->n - start >= 4 && memcmp(t->bytes + start, "<!--", 4) == 0;
        text close = comment ? TEXT("-->") : TEXT(">");
        int64_t end = start == t->n ? -1 : text_find(t, &close, start + (comment ? 4 : 0), t->n);
        if (end < 0) {
            break;
        }
        build_bytes(&r->m, &b, t->bytes + at, start - at);
        at = (size_t)end + close.n;
    }
    build_bytes(&r->m, &b, t->bytes + at, t->n - at);
    sandbox_spend(&r->m, t->n / 8);
    text *plain = entities_resolved(r, spaces_collapsed(r, build_end(&r->m, &b)));
    plain->safe = false;
    return STRING(plain);
}

static void build_url(renderer *r, builder *b, const text *t, bool query)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~";
    for (size_t i = 0; i < t->n; i++) {
        char c = t->bytes[i];
        char hex[4];
        if ((c != '\0' && strchr(plain, c) != NULL) || (c == '/' && !query)) {
            build_bytes(&r->m, b, &c, 1);
        } else if (c == ' ' && query) {
            build_string(&r->m, b, "+");
        } else {
            snprintf(hex, sizeof hex, "%%%02X", (unsigned)(unsigned char)c);
            build_string(&r->m, b, hex);
        }
    }
}

FILTER(filter_urlencode)
{
    UNUSED_ARGUMENTS;
    builder b = {0};
    if (v.kind == V_STRING || !value_is_iterable(v)) {
        build_url(r, &b, value_str(&r->m, v), false);
        return STRING(build_end(&r->m, &b));
    }
    value pairs = v;
    view of = {.of = v.kind == V_DICT ? v.dict : NULL, .kind = VIEW_ITEMS};
    if (v.kind == V_DICT) {
        pairs = (value){.kind = V_VIEW, .view = &of};
    }
    items i = items_of(r, pairs);
    for (size_t k = 0; k < i.n; k++) {
        items pair = items_of(r, i.at[k]);
        if (pair.n != 2) {
            template_fault(&r->m, "urlencode needs pairs");
        }
        build_string(&r->m, &b, k > 0 ? "&" : "");
        build_url(r, &b, value_str(&r->m, pair.at[0]), true);
        build_string(&r->m, &b, "=");
        build_url(r, &b, value_str(&r->m, pair.at[1]), true);
    }
    return STRING(build_end(&r->m, &b));
}

FILTER(filter_xmlattr)
{
    UNUSED_ALL;
    if (v.kind != V_DICT) {
        template_fault(&r->m, "xmlattr needs a mapping, not %s", type_name(v));
    }
    bool autospace = !argument_given(a[0]) || value_truth(&r->m, a[0]);
    builder b = {0};
    for (size_t i = 0; i < v.dict->n; i++) {
        value content = v.dict->entries[i].content;
        if (content.kind == V_NONE || content.kind == V_UNDEFINED) {
            continue;
        }
        const text *key = value_str(&r->m, v.dict->entries[i].key);
        if (strcspn(text_chars(&r->m, key), " \t\n\r\f\v/>=") != key->n) {
            template_fault(&r->m, "Invalid character in attribute name: %s",
                           text_chars(&r->m, key));
        }
        build_string(&r->m, &b, build_size(&b) > 0 || autospace ? " " : "");
        build_text(&r->m, &b, text_escape_html(&r->m, key));
        build_string(&r->m, &b, "=\"");
        build_text(&r->m, &b, text_escape_html(&r->m, value_str(&r->m, content)));
        build_string(&r->m, &b, "\"");
    }
    return STRING(build_end(&r->m, &b));
}

FILTER(filter_format)
{
    (void)a;
    if (all->n > 0 && all->n_named > 0) {
        template_fault(&r->m, "can't handle positional and keyword arguments at the same time");
    }
    list *positional = list_new(&r->m, all->n);
    for (size_t i = 0; i < all->n; i++) {
        list_add(&r->m, positional, all->positional[i]);
    }
    value given_values = tuple_value(positional);
    if (all->n_named > 0) {
        dict *d = dict_new(&r->m);
        for (size_t i = 0; i < all->n_named; i++) {
            text *name = text_copy(&r->m, all->names[i]->bytes, all->names[i]->n);
            dict_set(&r->m, d, STRING(name), all->named[i]);
        }
        given_values = dict_value(d);
    }
    return format_percent(r, value_str(&r->m, v), given_values);
}

/* ---- numbers ---- */

FILTER(filter_abs)
{
    UNUSED_ARGUMENTS;
    if (v.kind == V_FLOAT) {
        return FLOAT(fabs(v.real));
    }
    if (v.kind == V_UNDEFINED || !value_is_number(v)) {
        template_fault(&r->m, "bad operand type for abs(): '%s'", type_name(v));
    }
    bool negative = v.kind == V_BIG ? v.string->bytes[0] == '-' : value_integer(v) < 0;
    return value_sign(r, negative ? N_NEGATE : N_PLUS, v);
}

FILTER(filter_int)
{
    UNUSED_ALL;
    sandbox *m = &r->m;
    value fallback = argument_given(a[0]) ? a[0] : INT(0);
    if (v.kind == V_UNDEFINED) {
        undefined_fault(m, v);
    }
    if (v.kind == V_STRING) {
        value whole = integer_from_text(m, v.string, argument_integer_or(r, a[1], 10, "base"));
        if (argument_given(whole)) {
            return whole;
        }
        value real = real_from_text(m, v.string); /* so that "42.23" gives 42 */
        return argument_given(real) && isfinite(real.real) ? integer_from_real(m, real.real)
                                                           : fallback;
    }
    if (v.kind == V_FLOAT) {
        if (isinf(v.real)) {
            template_fault(m, "cannot convert float infinity to integer");
        }
        return isnan(v.real) ? fallback : integer_from_real(m, v.real);
    }
    return value_is_number(v) ? value_sign(r, N_PLUS, v) : fallback;
}

FILTER(filter_float)
{
    UNUSED_ALL;
    if (v.kind == V_UNDEFINED) {
        undefined_fault(&r->m, v);
    }
    value real = v.kind == V_STRING   ? real_from_text(&r->m, v.string)
                 : value_is_number(v) ? FLOAT(value_real(&r->m, v))
                                      : MISSING;
    return argument_given(real) ? real : argument_given(a[0]) ? a[0] : FLOAT(0);
}

/* round(): the decimal nearest to the float's exact value, ties to even. */
static double real_round(double x, int64_t digits)
{
    char out[400];
    if (!isfinite(x) || digits > 320) {
        return x;
    }
    if (digits >= 0) {
        snprintf(out, sizeof out, "%.*f", (int)(digits > 60 ? 60 : digits), x);
        return digits > 60 ? x : strtod(out, NULL);
    }
    if (digits < -308) {
        return copysign(0.0, x);
    }
    double unit = pow(10, (double)-digits);
    return nearbyint(x / unit) * unit;
}

static value integer_round(renderer *r, value v, int64_t digits)
{
    if (v.kind == V_BIG) {
        template_fault(&r->m, "rounding an integer of more than 64 bits is not supported");
    }
    int64_t x = value_integer(v), unit = 1;
    for (int64_t i = 0; i < -digits; i++) {
        if (__builtin_mul_overflow(unit, 10, &unit)) {
            return INT(0);
        }
    }
    int64_t rest = x % unit, down = x - rest;
    int64_t size = rest < 0 ? -rest : rest, step = x < 0 ? -unit : unit;
    bool away = size > unit - size || (size == unit - size && size > 0 && (down / unit) % 2 != 0);
    return INT(away ? down + step : down);
}

FILTER(filter_round)
{
    UNUSED_ALL;
    int64_t digits = argument_integer_or(r, a[0], 0, "precision");
    const text common = TEXT("common");
    const text *how = argument_given(a[1]) ? argument_text(r, a[1], "method") : &common;
    bool is_ceil = text_is(how, "ceil"), is_floor = text_is(how, "floor");
    if (!is_ceil && !is_floor && !text_is(how, "common")) {
        template_fault(&r->m, "method must be common, ceil or floor");
    }
    if (!value_is_number(v)) {
        if (v.kind == V_UNDEFINED) {
            undefined_fault(&r->m, v);
        }
        template_fault(&r->m, "type %s doesn't define __round__ method", type_name(v));
    }
    if (!is_ceil && !is_floor) {
        return v.kind == V_FLOAT ? FLOAT(real_round(v.real, digits)) : integer_round(r, v, digits);
    }
    value unit = values_operate(r, N_POWER, INT(10), INT(digits));
    value scaled = values_operate(r, N_MULTIPLY, v, unit);
    if (scaled.kind == V_FLOAT) {
        scaled = integer_from_real(&r->m, is_ceil ? ceil(scaled.real) : floor(scaled.real));
    }
    return values_operate(r, N_DIVIDE, scaled, unit);
}

FILTER(filter_filesizeformat)
{
    UNUSED_ALL;
    static const char *const names[2][8] = {
        {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
        {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"},
    };
    value real = v.kind == V_STRING   ? real_from_text(&r->m, v.string)
                 : value_is_number(v) ? FLOAT(value_real(&r->m, v))
                                      : MISSING;
    if (!argument_given(real)) {
        template_fault(&r->m, "could not convert %s to float", type_name(v));
    }
    bool binary = argument_flag(r, a[0]);
    double base = binary ? 1024 : 1000, unit = base;
    char out[400];
    if (real.real == 1) {
        return STRING(text_of(&r->m, "1 Byte"));
    }
    if (real.real < base) {
        snprintf(out, sizeof out, "%lld Bytes", (long long)real.real);
        return STRING(text_of(&r->m, out));
    }
    int i = 0;
    for (unit = base * base; i < 7 && real.real >= unit; i++) {
        unit *= base;
    }
    snprintf(out, sizeof out, "%.1f %s", base * real.real / unit, names[binary][i]);
    return STRING(text_of(&r->m, out));
}

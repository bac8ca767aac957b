/*
 * filters.c - what stands behind the bar: the reference's filters, by name.
 *
 * A filter that is a generator in the reference gives an iterator here too, so that its result has
 * no length and can be read once; it is filled at once. urlize, pprint, random and wordwrap are
 * known and refused: no chat template needs them.
 */
#include "coordinator/text/jinja/renderer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILTER(name) static value name(renderer *r, value v, const value *a, const arguments *all)
#define UNUSED_ALL (void)all
#define UNUSED_ARGUMENTS (void)a, (void)all

static bool given(value v)
{
    return v.kind != V_MISSING;
}

static bool flag(renderer *r, value v)
{
    return given(v) && value_truth(&r->m, v);
}

static int64_t integer_or(renderer *r, value v, int64_t fallback, const char *what)
{
    return given(v) ? argument_integer(r, v, what) : fallback;
}

typedef struct items {
    value *at;
    size_t n;
} items;

static items items_of(renderer *r, value v)
{
    items i;
    value_items(&r->m, v, &i.at, &i.n);
    return i;
}

static value string_of(renderer *r, value v)
{
    return STRING(value_str(&r->m, v));
}

/* ---- attributes by "a.b.0" ---- */

static bool text_is_digits(const text *t)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->bytes[i] < '0' || t->bytes[i] > '9') {
            return false;
        }
    }
    return t->n > 0 && t->n < 18;
}

static value part_get(renderer *r, value v, const text *path, size_t first, size_t last)
{
    text *part = text_bytes_part(&r->m, path, first, last);
    bool digits = text_is_digits(part);
    value key = digits ? integer_parse(&r->m, part->bytes, part->n) : STRING(part);
    return item_get(r, v, key);
}

/* fallback (MISSING: none) takes the place of what is undefined on the way. */
static value path_get(renderer *r, value v, value path, value fallback)
{
    bool replace = given(fallback) && fallback.kind != V_NONE;
    if (!given(path) || path.kind == V_NONE) {
        return v;
    }
    if (path.kind != V_STRING) {
        v = item_get(r, v, path);
        return replace && v.kind == V_UNDEFINED ? fallback : v;
    }
    const text *t = path.string;
    for (size_t first = 0;;) {
        size_t last = first;
        while (last < t->n && t->bytes[last] != '.') {
            last++;
        }
        v = part_get(r, v, t, first, last);
        v = replace && v.kind == V_UNDEFINED ? fallback : v;
        if (last == t->n) {
            return v;
        }
        first = last + 1;
    }
}

static value case_folded(renderer *r, value v, bool case_sensitive)
{
    return !case_sensitive && v.kind == V_STRING ? STRING(text_lower(&r->m, v.string)) : v;
}

static value sort_key(renderer *r, value v, value path, bool case_sensitive)
{
    return case_folded(r, path_get(r, v, path, MISSING), case_sensitive);
}

/* ---- texts ---- */

FILTER(filter_upper)
{
    UNUSED_ARGUMENTS;
    return STRING(text_upper(&r->m, value_str(&r->m, v)));
}

FILTER(filter_lower)
{
    UNUSED_ARGUMENTS;
    return STRING(text_lower(&r->m, value_str(&r->m, v)));
}

FILTER(filter_capitalize)
{
    UNUSED_ARGUMENTS;
    return STRING(text_capitalize(&r->m, value_str(&r->m, v)));
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
        given(a[0]) && a[0].kind != V_NONE ? argument_text(r, a[0], "strip arg") : NULL;
    return STRING(text_strip(&r->m, value_str(&r->m, v), chars, STRIP_BOTH));
}

FILTER(filter_replace)
{
    UNUSED_ALL;
    int64_t count = given(a[2]) && a[2].kind != V_NONE ? argument_integer(r, a[2], "count") : -1;
    return STRING(text_replace(&r->m, value_str(&r->m, v), value_str(&r->m, a[0]),
                               value_str(&r->m, a[1]), count));
}

FILTER(filter_center)
{
    UNUSED_ALL;
    return STRING(text_pad(&r->m, value_str(&r->m, v), integer_or(r, a[0], 80, "width"), ' ', 'c'));
}

FILTER(filter_string)
{
    UNUSED_ARGUMENTS;
    return string_of(r, v);
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
    spend(&r->m, t->n / 8);
    return l;
}

FILTER(filter_indent)
{
    UNUSED_ALL;
    sandbox *m = &r->m;
    builder b = {0};
    build_repeated(m, &b, ' ',
                   given(a[0]) && a[0].kind == V_STRING ? 0 : integer_or(r, a[0], 4, "width"));
    text *indent = given(a[0]) && a[0].kind == V_STRING ? a[0].string : build_end(m, &b);
    const text newline = TEXT("\n");
    if (v.kind != V_STRING) {
        (void)operate(r, N_ADD, v,
                      STRING(text_of(m, "\n"))); /* the reference adds, and so faults */
    }
    list *lines = lines_of(r, text_join(m, argument_text(r, v, "indent's text"), &newline));
    builder out = {0};
    for (size_t i = 0; i < lines->n; i++) {
        const text *line = lines->items[i].string;
        bool indented = i == 0 ? flag(r, a[1]) : line->n > 0 || flag(r, a[2]);
        build_string(m, &out, i > 0 ? "\n" : "");
        if (indented) {
            build_text(m, &out, indent);
        }
        build_text(m, &out, line);
    }
    return STRING(build_end(m, &out));
}

FILTER(filter_truncate)
{
    UNUSED_ALL;
    sandbox *m = &r->m;
    text *t = value_str(m, v);
    text ellipsis = TEXT("...");
    text *end = given(a[2]) ? (text *)argument_text(r, a[2], "end") : &ellipsis;
    int64_t length = integer_or(r, a[0], 255, "length");
    int64_t leeway = given(a[3]) && a[3].kind != V_NONE ? argument_integer(r, a[3], "leeway") : 5;
    text end_copy = *end;
    int64_t end_length = text_length(&end_copy);
    if (length < end_length || leeway < 0) {
        fault(m, "truncate: expected length >= %lld and leeway >= 0", (long long)end_length);
    }
    if (text_length(t) <= length + leeway) {
        return STRING(t);
    }
    text *head = text_part(m, t, 0, length - end_length);
    text space = TEXT(" ");
    int64_t cut = flag(r, a[1]) ? -1 : text_find_last(head, &space, 0, head->n);
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
    spend(&r->m, t->n / 8);
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
    spend(&r->m, t->n / 8);
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
            fault(&r->m, "urlencode needs pairs");
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
        fault(&r->m, "xmlattr needs a mapping, not %s", type_name(v));
    }
    bool autospace = !given(a[0]) || value_truth(&r->m, a[0]);
    builder b = {0};
    for (size_t i = 0; i < v.dict->n; i++) {
        value content = v.dict->entries[i].content;
        if (content.kind == V_NONE || content.kind == V_UNDEFINED) {
            continue;
        }
        const text *key = value_str(&r->m, v.dict->entries[i].key);
        if (strcspn(text_chars(&r->m, key), " \t\n\r\f\v/>=") != key->n) {
            fault(&r->m, "Invalid character in attribute name: %s", text_chars(&r->m, key));
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
        fault(&r->m, "can't handle positional and keyword arguments at the same time");
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
        fault(&r->m, "bad operand type for abs(): '%s'", type_name(v));
    }
    bool negative = v.kind == V_BIG ? v.string->bytes[0] == '-' : value_integer(v) < 0;
    return operate_sign(r, negative ? N_NEGATE : N_PLUS, v);
}

FILTER(filter_int)
{
    UNUSED_ALL;
    sandbox *m = &r->m;
    value fallback = given(a[0]) ? a[0] : INT(0);
    if (v.kind == V_UNDEFINED) {
        undefined_fault(m, v);
    }
    if (v.kind == V_STRING) {
        value whole = integer_from_text(m, v.string, integer_or(r, a[1], 10, "base"));
        if (given(whole)) {
            return whole;
        }
        value real = real_from_text(m, v.string); /* so that "42.23" gives 42 */
        return given(real) && isfinite(real.real) ? integer_from_real(m, real.real) : fallback;
    }
    if (v.kind == V_FLOAT) {
        if (isinf(v.real)) {
            fault(m, "cannot convert float infinity to integer");
        }
        return isnan(v.real) ? fallback : integer_from_real(m, v.real);
    }
    return value_is_number(v) ? operate_sign(r, N_PLUS, v) : fallback;
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
    return given(real) ? real : given(a[0]) ? a[0] : FLOAT(0);
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
        fault(&r->m, "rounding an integer of more than 64 bits is not supported");
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
    int64_t digits = integer_or(r, a[0], 0, "precision");
    const text common = TEXT("common");
    const text *how = given(a[1]) ? argument_text(r, a[1], "method") : &common;
    bool is_ceil = text_is(how, "ceil"), is_floor = text_is(how, "floor");
    if (!is_ceil && !is_floor && !text_is(how, "common")) {
        fault(&r->m, "method must be common, ceil or floor");
    }
    if (!value_is_number(v)) {
        if (v.kind == V_UNDEFINED) {
            undefined_fault(&r->m, v);
        }
        fault(&r->m, "type %s doesn't define __round__ method", type_name(v));
    }
    if (!is_ceil && !is_floor) {
        return v.kind == V_FLOAT ? FLOAT(real_round(v.real, digits)) : integer_round(r, v, digits);
    }
    value unit = operate(r, N_POWER, INT(10), INT(digits));
    value scaled = operate(r, N_MULTIPLY, v, unit);
    if (scaled.kind == V_FLOAT) {
        scaled = integer_from_real(&r->m, is_ceil ? ceil(scaled.real) : floor(scaled.real));
    }
    return operate(r, N_DIVIDE, scaled, unit);
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
    if (!given(real)) {
        fault(&r->m, "could not convert %s to float", type_name(v));
    }
    bool binary = flag(r, a[0]);
    double base = binary ? 1024 : 1000, unit = base;
    char out[400];
    if (real.real == 1) {
        return STRING(text_of(&r->m, "1 Byte"));
    }
    if (real.real < base) {
        snprintf(out, sizeof out, "%lld Bytes",
                 (long long)integer_from_real(&r->m, real.real).integer);
        return STRING(text_of(&r->m, out));
    }
    int i = 0;
    for (unit = base * base; i < 7 && real.real >= unit; i++) {
        unit *= base;
    }
    snprintf(out, sizeof out, "%.1f %s", base * real.real / unit, names[binary][i]);
    return STRING(text_of(&r->m, out));
}

/* ---- sequences ---- */

FILTER(filter_length)
{
    UNUSED_ARGUMENTS;
    int64_t n = v.kind == V_LOOP ? loop_length(r, v.loop) : value_length(&r->m, v);
    if (n < 0) {
        fault(&r->m, "object of type '%s' has no len()", type_name(v));
    }
    return INT(n);
}

FILTER(filter_list)
{
    UNUSED_ARGUMENTS;
    items i = items_of(r, v);
    list *l = list_new(&r->m, i.n);
    for (size_t k = 0; k < i.n; k++) {
        list_add(&r->m, l, i.at[k]);
    }
    return list_value(l);
}

FILTER(filter_first)
{
    UNUSED_ARGUMENTS;
    if (v.kind == V_ITERATOR && v.iterator->next < v.iterator->n) {
        return v.iterator->items[v.iterator->next++];
    }
    items i = items_of(r, v);
    return i.n > 0 ? i.at[0] : undefined_because(&r->m, "No first item, sequence was empty.");
}

static void reversible_check(renderer *r, value v)
{
    if (v.kind == V_ITERATOR || !value_is_iterable(v)) {
        fault(&r->m, "'%s' object is not reversible", type_name(v));
    }
}

FILTER(filter_last)
{
    UNUSED_ARGUMENTS;
    reversible_check(r, v);
    if (v.kind == V_UNDEFINED) { /* reversed() asks it for __getitem__, which is a fault */
        return undefined_because(&r->m, "No last item, sequence was empty.");
    }
    items i = items_of(r, v);
    return i.n > 0 ? i.at[i.n - 1] : undefined_because(&r->m, "No last item, sequence was empty.");
}

FILTER(filter_reverse)
{
    UNUSED_ARGUMENTS;
    if (v.kind == V_STRING) {
        return STRING(text_reversed(&r->m, v.string));
    }
    if (!value_is_iterable(v)) {
        fault(&r->m, "argument must be iterable");
    }
    items i = items_of(r, v);
    list *l = list_new(&r->m, i.n);
    for (size_t k = i.n; k > 0; k--) {
        list_add(&r->m, l, i.at[k - 1]);
    }
    return v.kind == V_ITERATOR ? list_value(l) : iterator_value(&r->m, l, "list_reverseiterator");
}

FILTER(filter_join)
{
    UNUSED_ALL;
    text *separator = given(a[0]) ? value_str(&r->m, a[0]) : text_of(&r->m, "");
    items i = items_of(r, v);
    builder b = {0};
    for (size_t k = 0; k < i.n; k++) {
        value item =
            given(a[1]) && a[1].kind != V_NONE ? path_get(r, i.at[k], a[1], MISSING) : i.at[k];
        if (k > 0) {
            build_text(&r->m, &b, separator);
        }
        build_str(&r->m, &b, item);
    }
    return STRING(build_end(&r->m, &b));
}

FILTER(filter_default)
{
    UNUSED_ALL;
    bool replace = v.kind == V_UNDEFINED || (flag(r, a[1]) && !value_truth(&r->m, v));
    return !replace ? v : given(a[0]) ? a[0] : STRING(text_of(&r->m, ""));
}

FILTER(filter_items)
{
    UNUSED_ARGUMENTS;
    if (v.kind != V_DICT && v.kind != V_UNDEFINED) {
        fault(&r->m, "Can only get item pairs from a mapping.");
    }
    if (v.kind == V_UNDEFINED) {
        return iterator_value(&r->m, list_new(&r->m, 0), "generator");
    }
    view of = {.of = v.dict, .kind = VIEW_ITEMS};
    items i = items_of(r, (value){.kind = V_VIEW, .view = &of});
    list l = {.items = i.at, .n = i.n, .capacity = i.n};
    return iterator_value(&r->m, &l, "generator");
}

static value *keys_of(renderer *r, items i, value path, bool case_sensitive)
{
    value *keys = TAKE(&r->m, value, i.n);
    for (size_t k = 0; k < i.n; k++) {
        keys[k] = sort_key(r, i.at[k], path, case_sensitive);
    }
    return keys;
}

static list *list_of(renderer *r, items i)
{
    list *l = list_new(&r->m, i.n);
    for (size_t k = 0; k < i.n; k++) {
        list_add(&r->m, l, i.at[k]);
    }
    return l;
}

/* sort's attribute may name several, parted by commas: its keys are lists. */
static value sort_keys(renderer *r, value item, value path, bool case_sensitive)
{
    list *keys = list_new(&r->m, 2);
    if (!given(path) || path.kind != V_STRING) {
        list_add(&r->m, keys, sort_key(r, item, path, case_sensitive));
        return list_value(keys);
    }
    const text *t = path.string;
    for (size_t first = 0, last = 0; last <= t->n; last++) {
        if (last == t->n || t->bytes[last] == ',') {
            value part = STRING(text_bytes_part(&r->m, t, first, last));
            list_add(&r->m, keys, sort_key(r, item, part, case_sensitive));
            first = last + 1;
        }
    }
    return list_value(keys);
}

FILTER(filter_sort)
{
    UNUSED_ALL;
    list *l = list_of(r, items_of(r, v));
    value *keys = TAKE(&r->m, value, l->n);
    for (size_t i = 0; i < l->n; i++) {
        keys[i] = sort_keys(r, l->items[i], a[2], flag(r, a[1]));
    }
    values_sort(&r->m, l->items, keys, l->n, flag(r, a[0]));
    return list_value(l);
}

FILTER(filter_dictsort)
{
    UNUSED_ALL;
    if (v.kind != V_DICT) {
        if (v.kind == V_UNDEFINED) {
            undefined_fault(&r->m, v);
        }
        fault(&r->m, "'%s' object has no attribute 'items'", type_name(v));
    }
    const text by_key = TEXT("key");
    const text *by = given(a[1]) ? argument_text(r, a[1], "by") : &by_key;
    if (!text_is(by, "key") && !text_is(by, "value")) {
        fault(&r->m, "You can only sort by either \"key\" or \"value\"");
    }
    view of = {.of = v.dict, .kind = VIEW_ITEMS};
    items i = items_of(r, (value){.kind = V_VIEW, .view = &of});
    list *l = list_of(r, i);
    value *keys = keys_of(r, i, INT(text_is(by, "value") ? 1 : 0), flag(r, a[0]));
    values_sort(&r->m, l->items, keys, l->n, flag(r, a[2]));
    return list_value(l);
}

FILTER(filter_unique)
{
    UNUSED_ALL;
    items i = items_of(r, v);
    dict *seen = dict_new(&r->m);
    list *l = list_new(&r->m, 8);
    for (size_t k = 0; k < i.n; k++) {
        value key = sort_key(r, i.at[k], a[1], flag(r, a[0]));
        if (dict_find(&r->m, seen, key) == NULL) {
            dict_set(&r->m, seen, key, NONE);
            list_add(&r->m, l, i.at[k]);
        }
    }
    return iterator_value(&r->m, l, "generator");
}

static value extreme(renderer *r, value v, const value *a, bool largest)
{
    items i = items_of(r, v);
    if (i.n == 0) {
        return undefined_because(&r->m, "No aggregated item, sequence was empty.");
    }
    value *keys = keys_of(r, i, a[1], flag(r, a[0]));
    size_t best = 0;
    for (size_t k = 1; k < i.n; k++) {
        bool better = largest ? value_less(&r->m, keys[best], keys[k], ">")
                              : value_less(&r->m, keys[k], keys[best], "<");
        best = better ? k : best;
    }
    return i.at[best];
}

FILTER(filter_min)
{
    UNUSED_ALL;
    return extreme(r, v, a, false);
}

FILTER(filter_max)
{
    UNUSED_ALL;
    return extreme(r, v, a, true);
}

FILTER(filter_sum)
{
    UNUSED_ALL;
    items i = items_of(r, v);
    value sum = given(a[1]) ? a[1] : INT(0);
    if (sum.kind == V_STRING) {
        fault(&r->m, "sum() can't sum strings [use ''.join(seq) instead]");
    }
    for (size_t k = 0; k < i.n; k++) {
        sum = operate(r, N_ADD, sum, path_get(r, i.at[k], a[0], MISSING));
    }
    return sum;
}

static int64_t positive(renderer *r, value v, const char *what)
{
    int64_t n = argument_integer(r, v, what);
    if (n <= 0) {
        fault(&r->m, "%s must be over 0", what);
    }
    return n;
}

static void fill(renderer *r, list *l, value with, int64_t up_to)
{
    bool wanted = given(with) && with.kind != V_NONE;
    while (wanted && (int64_t)l->n < up_to) {
        list_add(&r->m, l, with);
    }
}

FILTER(filter_batch)
{
    UNUSED_ALL;
    items i = items_of(r, v);
    int64_t width = positive(r, a[0], "batch's line count");
    list *out = list_new(&r->m, 8), *line = NULL;
    for (size_t k = 0; k < i.n; k++) {
        if (line == NULL || (int64_t)line->n == width) {
            line = list_new(&r->m, 8);
            list_add(&r->m, out, list_value(line));
        }
        list_add(&r->m, line, i.at[k]);
    }
    if (line != NULL) {
        fill(r, line, a[1], width);
    }
    return iterator_value(&r->m, out, "generator");
}

FILTER(filter_slice)
{
    UNUSED_ALL;
    items i = items_of(r, v);
    int64_t slices = positive(r, a[0], "slice's count");
    int64_t each = (int64_t)i.n / slices, extra = (int64_t)i.n % slices;
    list *out = list_new(&r->m, 8);
    size_t at = 0;
    for (int64_t s = 0; s < slices; s++) {
        list *one = list_new(&r->m, 4);
        for (int64_t k = 0; k < each + (s < extra); k++) {
            list_add(&r->m, one, i.at[at++]);
        }
        if (s >= extra) {
            fill(r, one, a[1], (int64_t)one->n + 1);
        }
        list_add(&r->m, out, list_value(one));
    }
    return iterator_value(&r->m, out, "generator");
}

static value group_new(renderer *r, value key, list *members)
{
    value pair = pair_value(&r->m, key, list_value(members));
    pair.list->is_group = true;
    return pair;
}

FILTER(filter_groupby)
{
    UNUSED_ALL;
    sandbox *m = &r->m;
    bool case_sensitive = flag(r, a[2]);
    items i = items_of(r, v);
    list *sorted = list_of(r, i);
    value *keys = TAKE(m, value, i.n), *key_order = TAKE(m, value, i.n);
    for (size_t k = 0; k < i.n; k++) {
        keys[k] = case_folded(r, path_get(r, i.at[k], a[0], a[1]), case_sensitive);
        key_order[k] = keys[k];
    }
    values_sort(m, sorted->items, keys, i.n, false);
    values_sort(m, key_order, keys, i.n, false);
    list *groups = list_new(m, 8), *members = NULL;
    for (size_t k = 0; k < i.n; k++) {
        if (k == 0 || !value_equal(m, key_order[k - 1], key_order[k])) {
            members = list_new(m, 4);
            value real = case_sensitive ? key_order[k] : path_get(r, sorted->items[k], a[0], a[1]);
            list_add(m, groups, group_new(r, real, members));
        }
        list_add(m, members, sorted->items[k]);
    }
    return list_value(groups);
}

/* ---- map, select, reject ---- */

static const builtin *inner_find(renderer *r, value name, bool is_filter)
{
    const text *t = argument_text(r, name, is_filter ? "map's filter" : "the test's name");
    const builtin *b = is_filter ? filter_find(t) : test_find(t);
    if (b == NULL) {
        fault(&r->m, "No %s named '%s'.", is_filter ? "filter" : "test", text_chars(&r->m, t));
    }
    return b;
}

static value named_argument(const arguments *all, const char *name)
{
    for (size_t i = 0; i < all->n_named; i++) {
        if (text_is(all->names[i], name)) {
            return all->named[i];
        }
    }
    return MISSING;
}

static arguments arguments_behind(const arguments *all, size_t n_skipped)
{
    arguments rest = *all;
    rest.positional = all->positional == NULL ? NULL : all->positional + n_skipped;
    rest.n = all->n - n_skipped;
    return rest;
}

static void map_names_check(renderer *r, const arguments *all)
{
    for (size_t i = 0; i < all->n_named; i++) {
        if (!text_is(all->names[i], "attribute") && !text_is(all->names[i], "default")) {
            fault(&r->m, "Unexpected keyword argument '%s'", text_chars(&r->m, all->names[i]));
        }
    }
}

FILTER(filter_map)
{
    (void)a;
    list *out = list_new(&r->m, 8);
    if (!value_truth(&r->m, v)) { /* the reference's generator ends before it looks at anything */
        return iterator_value(&r->m, out, "generator");
    }
    value path = named_argument(all, "attribute"), fallback = named_argument(all, "default");
    bool by_path = all->n == 0 && given(path);
    if (!by_path && all->n == 0) {
        fault(&r->m, "map requires a filter argument");
    }
    if (by_path) {
        map_names_check(r, all);
    }
    const builtin *b = by_path ? NULL : inner_find(r, all->positional[0], true);
    arguments rest = by_path ? *all : arguments_behind(all, 1);
    items i = items_of(r, v);
    for (size_t k = 0; k < i.n; k++) {
        list_add(&r->m, out,
                 by_path ? path_get(r, i.at[k], path, fallback)
                         : builtin_call(r, b, i.at[k], &rest));
    }
    return iterator_value(&r->m, out, "generator");
}

static value selected(renderer *r, value v, const arguments *all, bool by_attribute, bool keep)
{
    list *out = list_new(&r->m, 8);
    if (!value_truth(&r->m, v)) {
        return iterator_value(&r->m, out, "generator");
    }
    if (by_attribute && all->n == 0) {
        fault(&r->m, "Missing parameter for attribute name");
    }
    size_t skipped = by_attribute ? 1 : 0;
    bool has_test = all->n > skipped;
    const builtin *test = has_test ? inner_find(r, all->positional[skipped], false) : NULL;
    arguments rest = arguments_behind(all, has_test ? skipped + 1 : skipped);
    items i = items_of(r, v);
    for (size_t k = 0; k < i.n; k++) {
        value subject = by_attribute ? path_get(r, i.at[k], all->positional[0], MISSING) : i.at[k];
        value result = has_test ? builtin_call(r, test, subject, &rest) : subject;
        if (value_truth(&r->m, result) == keep) {
            list_add(&r->m, out, i.at[k]);
        }
    }
    return iterator_value(&r->m, out, "generator");
}

FILTER(filter_select)
{
    (void)a;
    return selected(r, v, all, false, true);
}

FILTER(filter_reject)
{
    (void)a;
    return selected(r, v, all, false, false);
}

FILTER(filter_selectattr)
{
    (void)a;
    return selected(r, v, all, true, true);
}

FILTER(filter_rejectattr)
{
    (void)a;
    return selected(r, v, all, true, false);
}

FILTER(filter_attr)
{
    UNUSED_ALL;
    const text *name = argument_text(r, a[0], "attr's name");
    if (v.kind == V_DICT && method_find(r, v, name).kind == V_MISSING) {
        return undefined_in(&r->m, v, a[0]); /* attributes only, no keys */
    }
    return attribute_get(r, v, name);
}

/* ---- JSON ---- */

static const text *separator_of(renderer *r, value pair, size_t which)
{
    items i = items_of(r, pair);
    if (i.n != 2) {
        fault(&r->m, "tojson's separators must be two strings");
    }
    return argument_text(r, i.at[which], "a separator");
}

FILTER(filter_tojson)
{
    UNUSED_ALL;
    const text comma = TEXT(", "), bare_comma = TEXT(","), colon = TEXT(": ");
    json_style s = {.ascii = flag(r, a[0]), .sorted = flag(r, a[3]), .key_separator = &colon};
    builder spaces = {0};
    if (given(a[1]) && a[1].kind != V_NONE) {
        if (a[1].kind != V_STRING) {
            build_repeated(&r->m, &spaces, ' ', argument_integer(r, a[1], "indent"));
        }
        s.indent = a[1].kind == V_STRING ? a[1].string : build_end(&r->m, &spaces);
    }
    s.item_separator = s.indent != NULL ? &bare_comma : &comma;
    if (given(a[2]) && a[2].kind != V_NONE) {
        s.item_separator = separator_of(r, a[2], 0);
        s.key_separator = separator_of(r, a[2], 1);
    }
    return STRING(value_to_json(&r->m, v, &s));
}

FILTER(filter_refused)
{
    (void)v;
    UNUSED_ARGUMENTS;
    fault(&r->m, "the filters urlize, pprint, random and wordwrap are not supported");
}

/* ---- the table ---- */

static const builtin filters[] = {
    {"abs", "", filter_abs},
    {"attr", "name", filter_attr},
    {"batch", "linecount fill_with?", filter_batch},
    {"capitalize", "", filter_capitalize},
    {"center", "width?", filter_center},
    {"count", "", filter_length},
    {"d", "default_value? boolean?", filter_default},
    {"default", "default_value? boolean?", filter_default},
    {"dictsort", "case_sensitive? by? reverse?", filter_dictsort},
    {"e", "", filter_escape},
    {"escape", "", filter_escape},
    {"filesizeformat", "binary?", filter_filesizeformat},
    {"first", "", filter_first},
    {"float", "default?", filter_float},
    {"forceescape", "", filter_forceescape},
    {"format", "*", filter_format},
    {"groupby", "attribute default? case_sensitive?", filter_groupby},
    {"indent", "width? first? blank?", filter_indent},
    {"int", "default? base?", filter_int},
    {"items", "", filter_items},
    {"join", "d? attribute?", filter_join},
    {"last", "", filter_last},
    {"length", "", filter_length},
    {"list", "", filter_list},
    {"lower", "", filter_lower},
    {"map", "*", filter_map},
    {"max", "case_sensitive? attribute?", filter_max},
    {"min", "case_sensitive? attribute?", filter_min},
    {"pprint", "*", filter_refused},
    {"random", "*", filter_refused},
    {"reject", "*", filter_reject},
    {"rejectattr", "*", filter_rejectattr},
    {"replace", "old new count?", filter_replace},
    {"reverse", "", filter_reverse},
    {"round", "precision? method?", filter_round},
    {"safe", "", filter_safe},
    {"select", "*", filter_select},
    {"selectattr", "*", filter_selectattr},
    {"slice", "slices fill_with?", filter_slice},
    {"sort", "reverse? case_sensitive? attribute?", filter_sort},
    {"string", "", filter_string},
    {"striptags", "", filter_striptags},
    {"sum", "attribute? start?", filter_sum},
    {"title", "", filter_title},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", filter_tojson},
    {"trim", "chars?", filter_trim},
    {"truncate", "length? killwords? end? leeway?", filter_truncate},
    {"unique", "case_sensitive? attribute?", filter_unique},
    {"upper", "", filter_upper},
    {"urlencode", "", filter_urlencode},
    {"urlize", "*", filter_refused},
    {"wordcount", "", filter_wordcount},
    {"wordwrap", "*", filter_refused},
    {"xmlattr", "autospace?", filter_xmlattr},
};

const builtin *filter_find(const text *name)
{
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        if (text_is(name, filters[i].name)) {
            return &filters[i];
        }
    }
    return NULL;
}

/*
 * methods.c - the methods of strings, dicts, lists and the rest, as far as they change nothing.
 */
#include "coordinator/text/jinja/renderer.h"

#include <math.h>
#include <string.h>

#define METHOD(name) static value name(renderer *r, value v, const value *a, const arguments *all)
#define UNUSED_ALL (void)all
#define UNUSED_ARGUMENTS (void)a, (void)all
#define UNUSED_RENDERER (void)r

static bool given_some(value v)
{
    return v.kind != V_MISSING && v.kind != V_NONE;
}

/* ---- strings: case and stripping ---- */

METHOD(str_upper)
{
    UNUSED_ARGUMENTS;
    return STRING(text_upper(&r->m, v.string));
}

METHOD(str_lower)
{
    UNUSED_ARGUMENTS;
    return STRING(text_lower(&r->m, v.string));
}

METHOD(str_title)
{
    UNUSED_ARGUMENTS;
    return STRING(text_title(&r->m, v.string));
}

METHOD(str_capitalize)
{
    UNUSED_ARGUMENTS;
    return STRING(text_capitalize(&r->m, v.string));
}

METHOD(str_swapcase)
{
    UNUSED_ARGUMENTS;
    return STRING(text_swapcase(&r->m, v.string));
}

METHOD(str_casefold)
{
    UNUSED_ARGUMENTS;
    return STRING(text_casefold(&r->m, v.string));
}

static value strip(renderer *r, value v, value chars, strip_ends ends)
{
    const text *set = given_some(chars) ? argument_text(r, chars, "strip arg") : NULL;
    return STRING(text_strip(&r->m, v.string, set, ends));
}

METHOD(str_strip)
{
    UNUSED_ALL;
    return strip(r, v, a[0], STRIP_BOTH);
}

METHOD(str_lstrip)
{
    UNUSED_ALL;
    return strip(r, v, a[0], STRIP_LEFT);
}

METHOD(str_rstrip)
{
    UNUSED_ALL;
    return strip(r, v, a[0], STRIP_RIGHT);
}

static bool begins(const text *t, const text *with)
{
    return t->n >= with->n && (with->n == 0 || memcmp(t->bytes, with->bytes, with->n) == 0);
}

static bool finishes(const text *t, const text *with)
{
    return t->n >= with->n &&
           (with->n == 0 || memcmp(t->bytes + t->n - with->n, with->bytes, with->n) == 0);
}

METHOD(str_removeprefix)
{
    UNUSED_ALL;
    const text *with = argument_text(r, a[0], "removeprefix() argument");
    return begins(v.string, with) ? STRING(text_bytes_part(&r->m, v.string, with->n, v.string->n))
                                  : v;
}

METHOD(str_removesuffix)
{
    UNUSED_ALL;
    const text *with = argument_text(r, a[0], "removesuffix() argument");
    return finishes(v.string, with)
               ? STRING(text_bytes_part(&r->m, v.string, 0, v.string->n - with->n))
               : v;
}

/* ---- strings: searching ---- */

typedef struct span { /* bytes of a text */
    size_t first, last;
    bool valid; /* false where the start lies behind the end */
} span;

static int64_t bound_of(renderer *r, value v, int64_t length, int64_t fallback)
{
    int64_t i = given_some(v) ? argument_integer(r, v, "a slice index") : fallback;
    i = i < -length ? 0 : i < 0 ? i + length : i;
    return i;
}

static span span_of(renderer *r, text *t, value start, value end)
{
    int64_t length = text_length(t);
    int64_t first = bound_of(r, start, length, 0), last = bound_of(r, end, length, length);
    last = last > length ? length : last;
    if (first > last) {
        return (span){0};
    }
    return (span){text_offset(t, first), text_offset(t, last), true};
}

/* One of a tuple of strings, or a string, at an end of the span. */
static value matches_end(renderer *r, value v, const value *a, bool at_start)
{
    span s = span_of(r, v.string, a[1], a[2]);
    const text part = {.bytes = v.string->bytes + s.first, .n = s.last - s.first};
    value *with = (value[]){a[0]};
    size_t n = 1;
    if (a[0].kind == V_TUPLE) {
        with = a[0].list->items;
        n = a[0].list->n;
    }
    for (size_t i = 0; i < n; i++) {
        const text *one = argument_text(r, with[i], "startswith or endswith first arg");
        if (s.valid && (at_start ? begins(&part, one) : finishes(&part, one))) {
            return BOOL(true);
        }
    }
    return BOOL(false);
}

METHOD(str_startswith)
{
    UNUSED_ALL;
    return matches_end(r, v, a, true);
}

METHOD(str_endswith)
{
    UNUSED_ALL;
    return matches_end(r, v, a, false);
}

static int64_t find(renderer *r, value v, const value *a, bool last)
{
    const text *needle = argument_text(r, a[0], "the searched text");
    span s = span_of(r, v.string, a[1], a[2]);
    if (!s.valid) {
        return -1;
    }
    sandbox_spend(&r->m, (s.last - s.first) / 64);
    int64_t at = last ? text_find_last(v.string, needle, s.first, s.last)
                      : text_find(v.string, needle, s.first, s.last);
    return at < 0 ? -1 : text_chars_before(v.string, (size_t)at);
}

METHOD(str_find)
{
    UNUSED_ALL;
    return INT(find(r, v, a, false));
}

METHOD(str_rfind)
{
    UNUSED_ALL;
    return INT(find(r, v, a, true));
}

static value index_or_fault(renderer *r, int64_t i)
{
    if (i < 0) {
        template_fault(&r->m, "substring not found");
    }
    return INT(i);
}

METHOD(str_index)
{
    UNUSED_ALL;
    return index_or_fault(r, find(r, v, a, false));
}

METHOD(str_rindex)
{
    UNUSED_ALL;
    return index_or_fault(r, find(r, v, a, true));
}

METHOD(str_count)
{
    UNUSED_ALL;
    const text *needle = argument_text(r, a[0], "the counted text");
    span s = span_of(r, v.string, a[1], a[2]);
    if (!s.valid) {
        return INT(0);
    }
    if (needle->n == 0) {
        return INT(text_chars_before(v.string, s.last) - text_chars_before(v.string, s.first) + 1);
    }
    int64_t n = 0;
    for (int64_t at; (at = text_find(v.string, needle, s.first, s.last)) >= 0; n++) {
        s.first = (size_t)at + needle->n;
        sandbox_spend(&r->m, 1);
    }
    sandbox_spend(&r->m, v.string->n / 64);
    return INT(n);
}

METHOD(str_replace)
{
    UNUSED_ALL;
    int64_t count = argument_given(a[2]) ? argument_integer(r, a[2], "count") : -1;
    return STRING(text_replace(&r->m, v.string, argument_text(r, a[0], "replace() argument 1"),
                               argument_text(r, a[1], "replace() argument 2"), count));
}

/* ---- strings: splitting and joining ---- */

static void part_add(renderer *r, list *l, const text *t, size_t first, size_t last)
{
    list_add(&r->m, l, STRING(text_bytes_part(&r->m, t, first, last)));
}

static size_t space_skip(const text *t, size_t at)
{
    while (at < t->n) {
        size_t next = at;
        if (!char_is_space(char_next(t->bytes, t->n, &next))) {
            break;
        }
        at = next;
    }
    return at;
}

static size_t word_skip(const text *t, size_t at)
{
    while (at < t->n) {
        size_t next = at;
        if (char_is_space(char_next(t->bytes, t->n, &next))) {
            break;
        }
        at = next;
    }
    return at;
}

static list *split_words(renderer *r, text *t, int64_t most)
{
    list *l = list_new(&r->m, 8);
    sandbox_spend(&r->m, t->n / 8);
    for (size_t at = space_skip(t, 0); at < t->n;) {
        if (most-- == 0) {
            part_add(r, l, t, at, t->n);
            break;
        }
        size_t end = word_skip(t, at);
        part_add(r, l, t, at, end);
        at = space_skip(t, end);
    }
    return l;
}

static size_t space_skip_back(const text *t, size_t at)
{
    while (at > 0) {
        size_t before = at;
        if (!char_is_space(char_previous(t->bytes, &before))) {
            break;
        }
        at = before;
    }
    return at;
}

static size_t word_skip_back(const text *t, size_t at)
{
    while (at > 0) {
        size_t before = at;
        if (char_is_space(char_previous(t->bytes, &before))) {
            break;
        }
        at = before;
    }
    return at;
}

static void list_reverse(list *l)
{
    for (size_t i = 0, k = l->n; i + 1 < k; i++) {
        value swap = l->items[i];
        l->items[i] = l->items[--k];
        l->items[k] = swap;
    }
}

static list *split_words_last(renderer *r, text *t, int64_t most)
{
    list *l = list_new(&r->m, 8);
    sandbox_spend(&r->m, t->n / 8);
    for (size_t end = space_skip_back(t, t->n); end > 0;) {
        if (most-- == 0) {
            part_add(r, l, t, 0, end);
            break;
        }
        size_t first = word_skip_back(t, end);
        part_add(r, l, t, first, end);
        end = space_skip_back(t, first);
    }
    list_reverse(l);
    return l;
}

static const text *separator_of(renderer *r, value v)
{
    const text *separator = argument_text(r, v, "the separator");
    if (separator->n == 0) {
        template_fault(&r->m, "empty separator");
    }
    return separator;
}

METHOD(str_split)
{
    UNUSED_ALL;
    text *t = v.string;
    int64_t most = argument_given(a[1]) ? argument_integer(r, a[1], "maxsplit") : -1;
    if (!given_some(a[0])) {
        return list_value(split_words(r, t, most));
    }
    const text *separator = separator_of(r, a[0]);
    list *l = list_new(&r->m, 8);
    size_t at = 0;
    for (int64_t hit; most-- != 0 && (hit = text_find(t, separator, at, t->n)) >= 0;) {
        part_add(r, l, t, at, (size_t)hit);
        at = (size_t)hit + separator->n;
    }
    part_add(r, l, t, at, t->n);
    sandbox_spend(&r->m, t->n / 64);
    return list_value(l);
}

METHOD(str_rsplit)
{
    UNUSED_ALL;
    text *t = v.string;
    int64_t most = argument_given(a[1]) ? argument_integer(r, a[1], "maxsplit") : -1;
    if (!given_some(a[0])) {
        return list_value(split_words_last(r, t, most));
    }
    const text *separator = separator_of(r, a[0]);
    list *l = list_new(&r->m, 8);
    size_t end = t->n;
    for (int64_t hit; most-- != 0 && (hit = text_find_last(t, separator, 0, end)) >= 0;) {
        part_add(r, l, t, (size_t)hit + separator->n, end);
        end = (size_t)hit;
    }
    part_add(r, l, t, 0, end);
    list_reverse(l);
    sandbox_spend(&r->m, t->n / 16);
    return list_value(l);
}

METHOD(str_splitlines)
{
    UNUSED_ALL;
    const text *t = v.string;
    bool keep = argument_given(a[0]) && value_truth(&r->m, a[0]);
    list *l = list_new(&r->m, 8);
    for (size_t i = 0; i < t->n;) {
        size_t first = i, end = i;
        bool ended = false;
        while (i < t->n && !ended) {
            end = i;
            int32_t c = char_next(t->bytes, t->n, &i);
            ended = char_is_line_end(c);
            i += c == '\r' && i < t->n && t->bytes[i] == '\n';
        }
        part_add(r, l, t, first, keep || !ended ? i : end);
    }
    sandbox_spend(&r->m, t->n / 8);
    return list_value(l);
}

METHOD(str_join)
{
    UNUSED_ALL;
    value *items;
    size_t n;
    value_items(&r->m, a[0], &items, &n);
    builder b = {0};
    for (size_t i = 0; i < n; i++) {
        if (items[i].kind != V_STRING) {
            template_fault(&r->m, "sequence item %zu: expected str instance, %s found", i,
                           type_name(items[i]));
        }
        if (i > 0) {
            build_text(&r->m, &b, v.string);
        }
        const text *item = items[i].string;
        bool escape = v.string->safe && !item->safe;
        build_text(&r->m, &b, escape ? text_escape_html(&r->m, item) : item);
    }
    return STRING(build_end(&r->m, &b));
}

static value three(renderer *r, value x, value y, value z)
{
    list *l = list_new(&r->m, 3);
    list_add(&r->m, l, x);
    list_add(&r->m, l, y);
    list_add(&r->m, l, z);
    return tuple_value(l);
}

static value partition(renderer *r, value v, value by, bool last)
{
    const text *separator = separator_of(r, by);
    const text *t = v.string;
    int64_t at = last ? text_find_last(t, separator, 0, t->n) : text_find(t, separator, 0, t->n);
    value nothing = STRING(text_borrow(&r->m, "", 0));
    if (at < 0) {
        return last ? three(r, nothing, nothing, v) : three(r, v, nothing, nothing);
    }
    return three(r, STRING(text_bytes_part(&r->m, t, 0, (size_t)at)), by,
                 STRING(text_bytes_part(&r->m, t, (size_t)at + separator->n, t->n)));
}

METHOD(str_partition)
{
    UNUSED_ALL;
    return partition(r, v, a[0], false);
}

METHOD(str_rpartition)
{
    UNUSED_ALL;
    return partition(r, v, a[0], true);
}

/* ---- strings: padding ---- */

static value pad(renderer *r, value v, const value *a, char align)
{
    int32_t fill = ' ';
    if (argument_given(a[1])) {
        text copy = *argument_text(r, a[1], "The fill character");
        if (text_length(&copy) != 1) {
            template_fault(&r->m, "The fill character must be exactly one character long");
        }
        size_t at = 0;
        fill = char_next(copy.bytes, copy.n, &at);
    }
    return STRING(text_pad(&r->m, v.string, argument_integer(r, a[0], "width"), fill, align));
}

METHOD(str_center)
{
    UNUSED_ALL;
    return pad(r, v, a, 'c');
}

METHOD(str_ljust)
{
    UNUSED_ALL;
    return pad(r, v, a, '<');
}

METHOD(str_rjust)
{
    UNUSED_ALL;
    return pad(r, v, a, '>');
}

METHOD(str_zfill)
{
    UNUSED_ALL;
    text *t = v.string;
    int64_t missing = argument_integer(r, a[0], "width") - text_length(t);
    size_t sign = t->n > 0 && (t->bytes[0] == '-' || t->bytes[0] == '+');
    if (missing <= 0) {
        return v;
    }
    builder b = {0};
    build_bytes(&r->m, &b, t->bytes, sign);
    build_repeated(&r->m, &b, '0', missing);
    build_bytes(&r->m, &b, t->bytes + sign, t->n - sign);
    return STRING(build_end(&r->m, &b));
}

METHOD(str_expandtabs)
{
    UNUSED_ALL;
    int64_t size = argument_given(a[0]) ? argument_integer(r, a[0], "tabsize") : 8, column = 0;
    const text *t = v.string;
    builder b = {0};
    for (size_t i = 0; i < t->n;) {
        int32_t c = char_next(t->bytes, t->n, &i);
        if (c == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            build_repeated(&r->m, &b, ' ', n);
            column += n;
        } else {
            build_char(&r->m, &b, c);
            column = c == '\n' || c == '\r' ? 0 : column + 1;
        }
    }
    return STRING(build_end(&r->m, &b));
}

/* ---- strings: what they consist of ---- */

static bool char_is_digit(int32_t c)
{
    return char_is_decimal(c) || c == 0xb2 || c == 0xb3 || c == 0xb9 ||
           (c >= 0x2070 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) ||
           (c >= 0x2460 && c <= 0x2468);
}

static bool char_is_alnum(int32_t c)
{
    return c != '_' && char_is_word(c);
}

static bool char_is_numeric(int32_t c)
{
    return char_is_alnum(c) && !char_is_alpha(c);
}

static bool char_is_ascii(int32_t c)
{
    return c < 0x80;
}

static value all_are(renderer *r, const text *t, bool (*is)(int32_t c), bool when_empty)
{
    sandbox_spend(&r->m, t->n / 8);
    for (size_t i = 0; i < t->n;) {
        if (!is(char_next(t->bytes, t->n, &i))) {
            return BOOL(false);
        }
    }
    return BOOL(t->n > 0 || when_empty);
}

#define STR_IS(name, is, when_empty)                                                               \
    METHOD(name)                                                                                   \
    {                                                                                              \
        UNUSED_ARGUMENTS;                                                                          \
        return all_are(r, v.string, is, when_empty);                                               \
    }
STR_IS(str_isalpha, char_is_alpha, false)
STR_IS(str_isalnum, char_is_alnum, false)
STR_IS(str_isdigit, char_is_digit, false)
STR_IS(str_isdecimal, char_is_decimal, false)
STR_IS(str_isnumeric, char_is_numeric, false)
STR_IS(str_isspace, char_is_space, false)
STR_IS(str_isascii, char_is_ascii, true)
STR_IS(str_isprintable, char_is_printable, true)

static value test_of(renderer *r, const char *name, value v)
{
    text t = {.bytes = name, .n = strlen(name)};
    arguments none = {0};
    return builtin_call(r, test_find(&t), v, &none);
}

METHOD(str_islower)
{
    UNUSED_ARGUMENTS;
    return test_of(r, "lower", v);
}

METHOD(str_isupper)
{
    UNUSED_ARGUMENTS;
    return test_of(r, "upper", v);
}

METHOD(str_istitle)
{
    UNUSED_ARGUMENTS;
    bool some = false, inside = false;
    const text *t = v.string;
    for (size_t i = 0; i < t->n;) {
        int32_t c = char_next(t->bytes, t->n, &i);
        bool upper = char_is_upper(c) || char_is_title(c), lower = char_is_lower(c);
        if ((upper && inside) || (lower && !inside)) {
            return BOOL(false);
        }
        inside = upper || lower;
        some = some || inside;
    }
    sandbox_spend(&r->m, t->n / 8);
    return BOOL(some);
}

METHOD(str_isidentifier)
{
    UNUSED_ARGUMENTS;
    const text *t = v.string;
    bool starts_with_digit = t->n > 0 && t->bytes[0] >= '0' && t->bytes[0] <= '9';
    return starts_with_digit ? BOOL(false) : all_are(r, t, char_is_word, false);
}

METHOD(str_format)
{
    (void)a;
    return STRING(format_braces(r, v.string, all).string);
}

METHOD(str_format_map)
{
    UNUSED_ALL;
    if (a[0].kind != V_DICT) {
        template_fault(&r->m, "format_map() needs a mapping, not %s", type_name(a[0]));
    }
    arguments named = {0};
    named.n_named = a[0].dict->n;
    named.names = TAKE(&r->m, const text *, named.n_named);
    named.named = TAKE(&r->m, value, named.n_named);
    for (size_t i = 0; i < named.n_named; i++) {
        named.names[i] = value_str(&r->m, a[0].dict->entries[i].key);
        named.named[i] = a[0].dict->entries[i].content;
    }
    return format_braces(r, v.string, &named);
}

/* ---- dicts, lists, the rest ---- */

METHOD(dict_get)
{
    UNUSED_ALL;
    const value *found = dict_find(&r->m, v.dict, a[0]);
    return found != NULL ? *found : argument_given(a[1]) ? a[1] : NONE;
}

static value view_of(renderer *r, value v, view_kind kind)
{
    view *w = TAKE(&r->m, view, 1);
    *w = (view){.of = v.dict, .kind = kind};
    return (value){.kind = V_VIEW, .view = w};
}

METHOD(dict_keys)
{
    UNUSED_ARGUMENTS;
    return view_of(r, v, VIEW_KEYS);
}

METHOD(dict_values)
{
    UNUSED_ARGUMENTS;
    return view_of(r, v, VIEW_VALUES);
}

METHOD(dict_items)
{
    UNUSED_ARGUMENTS;
    return view_of(r, v, VIEW_ITEMS);
}

METHOD(container_copy) /* nothing changes, so the same will do */
{
    UNUSED_RENDERER;
    UNUSED_ARGUMENTS;
    return v;
}

METHOD(sequence_count)
{
    UNUSED_ALL;
    value *items;
    size_t n;
    int64_t count = 0;
    value_items(&r->m, v, &items, &n);
    for (size_t i = 0; i < n; i++) {
        count += value_equal(&r->m, items[i], a[0]);
    }
    return INT(count);
}

METHOD(sequence_index)
{
    UNUSED_ALL;
    value *items;
    size_t n;
    value_items(&r->m, v, &items, &n);
    int64_t length = (int64_t)n;
    int64_t first = bound_of(r, a[1], length, 0), last = bound_of(r, a[2], length, length);
    for (int64_t i = first; i < length && i < last; i++) {
        if (value_equal(&r->m, items[i], a[0])) {
            return INT(i);
        }
    }
    template_fault(&r->m, "%s is not in %s", repr_chars(&r->m, a[0]), type_name(v));
}

METHOD(number_is_integer)
{
    UNUSED_RENDERER;
    UNUSED_ARGUMENTS;
    return BOOL(v.kind != V_FLOAT || (isfinite(v.real) && v.real == floor(v.real)));
}

METHOD(int_bit_length)
{
    UNUSED_RENDERER;
    UNUSED_ARGUMENTS;
    int64_t i = value_integer(v), n = 0;
    for (uint64_t size = i < 0 ? 0 - (uint64_t)i : (uint64_t)i; size > 0; size >>= 1) {
        n++;
    }
    return INT(n);
}

METHOD(cycler_next)
{
    UNUSED_RENDERER;
    UNUSED_ARGUMENTS;
    cycler *c = v.cycler;
    value now = c->items.items[c->position];
    c->position = (c->position + 1) % c->items.n;
    return now;
}

METHOD(cycler_reset)
{
    UNUSED_RENDERER;
    UNUSED_ARGUMENTS;
    v.cycler->position = 0;
    return NONE;
}

METHOD(loop_cycle)
{
    (void)a;
    if (all->n == 0) {
        template_fault(&r->m, "no items for cycling given");
    }
    return all->positional[v.loop->index0 % (int64_t)all->n];
}

METHOD(loop_changed)
{
    (void)a;
    list *now = list_new(&r->m, all->n);
    for (size_t i = 0; i < all->n; i++) {
        list_add(&r->m, now, all->positional[i]);
    }
    loop_state *l = v.loop;
    bool changed = !l->has_changed || !value_equal(&r->m, l->changed, tuple_value(now));
    l->has_changed = true;
    l->changed = changed ? tuple_value(now) : l->changed;
    return BOOL(changed);
}

/* ---- tables ---- */

static const builtin str_methods[] = {
    {"capitalize", "", str_capitalize},
    {"casefold", "", str_casefold},
    {"center", "-width -fillchar?", str_center},
    {"count", "-sub -start? -end?", str_count},
    {"endswith", "-suffix -start? -end?", str_endswith},
    {"expandtabs", "tabsize?", str_expandtabs},
    {"find", "-sub -start? -end?", str_find},
    {"format", "*", str_format},
    {"format_map", "-map", str_format_map},
    {"index", "-sub -start? -end?", str_index},
    {"isalnum", "", str_isalnum},
    {"isalpha", "", str_isalpha},
    {"isascii", "", str_isascii},
    {"isdecimal", "", str_isdecimal},
    {"isdigit", "", str_isdigit},
    {"isidentifier", "", str_isidentifier},
    {"islower", "", str_islower},
    {"isnumeric", "", str_isnumeric},
    {"isprintable", "", str_isprintable},
    {"isspace", "", str_isspace},
    {"istitle", "", str_istitle},
    {"isupper", "", str_isupper},
    {"join", "-iterable", str_join},
    {"ljust", "-width -fillchar?", str_ljust},
    {"lower", "", str_lower},
    {"lstrip", "-chars?", str_lstrip},
    {"partition", "-sep", str_partition},
    {"removeprefix", "-prefix", str_removeprefix},
    {"removesuffix", "-suffix", str_removesuffix},
    {"replace", "-old -new -count?", str_replace},
    {"rfind", "-sub -start? -end?", str_rfind},
    {"rindex", "-sub -start? -end?", str_rindex},
    {"rjust", "-width -fillchar?", str_rjust},
    {"rpartition", "-sep", str_rpartition},
    {"rsplit", "sep? maxsplit?", str_rsplit},
    {"rstrip", "-chars?", str_rstrip},
    {"split", "sep? maxsplit?", str_split},
    {"splitlines", "keepends?", str_splitlines},
    {"startswith", "-prefix -start? -end?", str_startswith},
    {"strip", "-chars?", str_strip},
    {"swapcase", "", str_swapcase},
    {"title", "", str_title},
    {"upper", "", str_upper},
    {"zfill", "-width", str_zfill},
    {NULL, NULL, NULL},
};

static const builtin dict_methods[] = {
    {"copy", "", container_copy}, {"get", "-key -default?", dict_get}, {"items", "", dict_items},
    {"keys", "", dict_keys},      {"values", "", dict_values},         {NULL, NULL, NULL},
};

static const builtin list_methods[] = {
    {"copy", "", container_copy},
    {"count", "-value", sequence_count},
    {"index", "-value -start? -stop?", sequence_index},
    {NULL, NULL, NULL},
};

static const builtin tuple_methods[] = {
    {"count", "-value", sequence_count},
    {"index", "-value -start? -stop?", sequence_index},
    {NULL, NULL, NULL},
};

static const builtin int_methods[] = {
    {"bit_length", "", int_bit_length},
    {"conjugate", "", container_copy},
    {NULL, NULL, NULL},
};

static const builtin float_methods[] = {
    {"conjugate", "", container_copy},
    {"is_integer", "", number_is_integer},
    {NULL, NULL, NULL},
};

static const builtin cycler_methods[] = {
    {"next", "", cycler_next},
    {"reset", "", cycler_reset},
    {NULL, NULL, NULL},
};

static const builtin loop_methods[] = {
    {"changed", "*", loop_changed},
    {"cycle", "*", loop_cycle},
    {NULL, NULL, NULL},
};

static const builtin *methods_of(value_kind k)
{
    static const builtin none[] = {{NULL, NULL, NULL}};
    switch (k) {
    case V_STRING:
        return str_methods;
    case V_DICT:
        return dict_methods;
    case V_LIST:
        return list_methods;
    case V_TUPLE:
    case V_RANGE:
        return tuple_methods;
    case V_BOOL:
    case V_INT:
        return int_methods;
    case V_FLOAT:
        return float_methods;
    case V_CYCLER:
        return cycler_methods;
    case V_LOOP:
        return loop_methods;
    default:
        return none;
    }
}

/* Methods that change their object, and those that this program leaves out. */
static const struct {
    value_kind kind;
    const char *names; /* a blank before and after each */
    const char *why;
} refused[] = {
    {V_LIST, " append clear pop reverse insert sort extend remove ", "is unsafe"},
    {V_DICT, " clear pop popitem setdefault update ", "is unsafe"},
    {V_DICT, " fromkeys ", "is not supported"},
    {V_STRING, " encode maketrans translate ", "is not supported"},
    {V_INT, " to_bytes from_bytes bit_count as_integer_ratio ", "is not supported"},
    {V_FLOAT, " hex fromhex as_integer_ratio ", "is not supported"},
};

static bool is_refused(const char *names, const text *name)
{
    for (const char *s = names; (s = memmem(s, strlen(s), name->bytes, name->n)) != NULL; s++) {
        if (s > names && s[-1] == ' ' && s[name->n] == ' ') {
            return true;
        }
    }
    return false;
}

static value refusal_find(renderer *r, value self, const text *name)
{
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (refused[i].kind == self.kind && name->n > 0 &&
            memchr(name->bytes, ' ', name->n) == NULL && is_refused(refused[i].names, name)) {
            builder b = {0};
            build_string(&r->m, &b, "access to attribute '");
            build_text(&r->m, &b, name);
            build_string(&r->m, &b, "' of '");
            build_string(&r->m, &b, type_name(self));
            build_string(&r->m, &b, "' object ");
            build_string(&r->m, &b, refused[i].why);
            return undefined_because(&r->m, text_chars(&r->m, build_end(&r->m, &b)));
        }
    }
    return MISSING;
}

value method_find(renderer *r, value self, const text *name)
{
    for (const builtin *b = methods_of(self.kind); b->name != NULL; b++) {
        if (text_is(name, b->name)) {
            method *found = TAKE(&r->m, method, 1);
            *found = (method){.self = self, .code = b};
            return (value){.kind = V_METHOD, .method = found};
        }
    }
    return refusal_find(r, self, name);
}

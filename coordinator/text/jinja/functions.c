/*
 * functions.c - the global functions: range, dict, namespace, cycler, joiner, and the reference's
 * raise_exception and strftime_now.
 */
#include "coordinator/text/jinja/renderer.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define FUNCTION(name) static value name(renderer *r, value v, const value *a, const arguments *all)

static int64_t range_length(int64_t start, int64_t stop, int64_t step)
{
    if ((step > 0 && start >= stop) || (step < 0 && start <= stop)) {
        return 0;
    }
    uint64_t gap = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t by = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    uint64_t n = (gap - 1) / by + 1;
    return n > (uint64_t)INT64_MAX ? INT64_MAX : (int64_t)n;
}

FUNCTION(function_range)
{
    (void)v, (void)all;
    int64_t first = argument_integer(r, a[0], "range()");
    range *g = TAKE(&r->m, range, 1);
    *g = (range){.start = 0, .stop = first, .step = 1};
    if (a[1].kind != V_MISSING) {
        g->start = first;
        g->stop = argument_integer(r, a[1], "range()");
    }
    g->step = a[2].kind != V_MISSING ? argument_integer(r, a[2], "range()") : 1;
    if (g->step == 0) {
        template_fault(&r->m, "range() arg 3 must not be zero");
    }
    g->n = range_length(g->start, g->stop, g->step);
    if (g->n > SANDBOX_RANGE_MAX) {
        template_fault(&r->m,
                       "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).",
                       SANDBOX_RANGE_MAX);
    }
    return (value){.kind = V_RANGE, .range = g};
}

/* dict(mapping or pairs, name=value, ...) */
static dict *dict_made(renderer *r, const arguments *all, const char *what)
{
    dict *d = dict_new(&r->m);
    if (all->n > 1) {
        template_fault(&r->m, "%s expected at most 1 argument, got %zu", what, all->n);
    }
    if (all->n == 1 && all->positional[0].kind == V_DICT) {
        const dict *from = all->positional[0].dict;
        for (size_t i = 0; i < from->n; i++) {
            dict_set(&r->m, d, from->entries[i].key, from->entries[i].content);
        }
    } else if (all->n == 1) {
        value *pairs;
        size_t n;
        value_items(&r->m, all->positional[0], &pairs, &n);
        for (size_t i = 0; i < n; i++) {
            value *pair;
            size_t n_pair;
            value_items(&r->m, pairs[i], &pair, &n_pair);
            if (n_pair != 2) {
                template_fault(
                    &r->m, "dictionary update sequence element #%zu has length %zu; 2 is required",
                    i, n_pair);
            }
            dict_set(&r->m, d, pair[0], pair[1]);
        }
    }
    for (size_t i = 0; i < all->n_named; i++) {
        text *name = text_copy(&r->m, all->names[i]->bytes, all->names[i]->n);
        dict_set(&r->m, d, STRING(name), all->named[i]);
    }
    return d;
}

FUNCTION(function_dict)
{
    (void)v, (void)a;
    return dict_value(dict_made(r, all, "dict"));
}

FUNCTION(function_namespace)
{
    (void)v, (void)a;
    return (value){.kind = V_NAMESPACE, .dict = dict_made(r, all, "namespace")};
}

static cycler *cycler_new(renderer *r, value *items, size_t n)
{
    list *l = list_new(&r->m, n);
    for (size_t i = 0; i < n; i++) {
        list_add(&r->m, l, items[i]);
    }
    cycler *c = TAKE(&r->m, cycler, 1);
    *c = (cycler){.items = *l};
    return c;
}

FUNCTION(function_cycler)
{
    (void)v, (void)a;
    if (all->n == 0 || all->n_named > 0) {
        template_fault(&r->m, "cycler: at least one item has to be provided, by position");
    }
    return (value){.kind = V_CYCLER, .cycler = cycler_new(r, all->positional, all->n)};
}

FUNCTION(function_joiner)
{
    (void)v, (void)all;
    value separator = a[0].kind == V_MISSING ? STRING(text_of(&r->m, ", ")) : a[0];
    return (value){.kind = V_JOINER, .cycler = cycler_new(r, &separator, 1)};
}

FUNCTION(function_raise)
{
    (void)v, (void)all;
    template_fault(&r->m, "%s", text_chars(&r->m, value_str(&r->m, a[0])));
}

/* Python's %f, and %z and %Z of a time without a zone, written into a C format. */
static const char *format_adapted(renderer *r, const text *format, long microseconds)
{
    builder b = {0};
    char digits[8];
    snprintf(digits, sizeof digits, "%06ld", microseconds % 1000000);
    for (size_t i = 0; i < format->n; i++) {
        char c = i + 1 < format->n && format->bytes[i] == '%' ? format->bytes[i + 1] : '\0';
        if (c == 'f') {
            build_string(&r->m, &b, digits);
        } else if (c != 'z' && c != 'Z') {
            build_bytes(&r->m, &b, format->bytes + i, c != '\0' ? 2 : 1);
        }
        i += c != '\0';
    }
    return text_chars(&r->m, build_end(&r->m, &b));
}

FUNCTION(function_strftime_now)
{
    (void)v, (void)all;
    const text *format = argument_text(r, a[0], "strftime_now's format");
    struct timespec now;
    struct tm local;
    char out[1024];
    if (format->n > 200) {
        template_fault(&r->m, "strftime_now: the format is longer than 200 bytes");
    }
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &local);
    const char *adapted = format_adapted(r, format, now.tv_nsec / 1000);
    size_t n = *adapted == '\0' ? 0 : strftime(out, sizeof out, adapted, &local);
    if (!utf8_is_valid(out, n)) {
        template_fault(&r->m, "strftime_now: the result is not UTF-8");
    }
    return STRING(text_copy(&r->m, out, n));
}

FUNCTION(function_lipsum)
{
    (void)v, (void)a, (void)all;
    template_fault(&r->m, "lipsum is not supported");
}

static const struct {
    const char *name;
    function f;
} globals[] = {
    {"range", {{"range", "-start -stop? -step?", function_range}}},
    {"dict", {{"dict", "*", function_dict}}},
    {"namespace", {{"namespace", "*", function_namespace}}},
    {"cycler", {{"cycler", "*", function_cycler}}},
    {"joiner", {{"joiner", "sep?", function_joiner}}},
    {"lipsum", {{"lipsum", "*", function_lipsum}}},
    {"raise_exception", {{"raise_exception", "message", function_raise}}},
    {"strftime_now", {{"strftime_now", "format", function_strftime_now}}},
};

value global_find(renderer *r, const text *name)
{
    (void)r;
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++) {
        if (text_is(name, globals[i].name)) {
            return (value){.kind = V_FUNCTION, .function = &globals[i].f};
        }
    }
    return MISSING;
}

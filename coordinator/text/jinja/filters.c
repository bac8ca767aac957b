/*
 * filters.c - what stands behind the bar: the table of filters, and how they look into values.
 *
 * A filter that is a generator in the reference gives an iterator here too, so that its result has
 * no length and can be read once; it is filled at once. urlize, pprint, random and wordwrap are
 * known and refused: no chat template needs them.
 */
#include "coordinator/text/jinja/filters.h"

bool argument_flag(renderer *r, value v)
{
    return argument_given(v) && value_truth(&r->m, v);
}

int64_t argument_integer_or(renderer *r, value v, int64_t fallback, const char *what)
{
    return argument_given(v) ? argument_integer(r, v, what) : fallback;
}

items items_of(renderer *r, value v)
{
    items i;
    value_items(&r->m, v, &i.at, &i.n);
    return i;
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
value path_get(renderer *r, value v, value path, value fallback)
{
    bool replace = argument_given(fallback) && fallback.kind != V_NONE;
    if (!argument_given(path) || path.kind == V_NONE) {
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

value case_folded(renderer *r, value v, bool case_sensitive)
{
    return !case_sensitive && v.kind == V_STRING ? STRING(text_lower(&r->m, v.string)) : v;
}

/* ---- the table ---- */

static FILTER(filter_refused)
{
    (void)v;
    UNUSED_ARGUMENTS;
    template_fault(&r->m, "the filters urlize, pprint, random and wordwrap are not supported");
}

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

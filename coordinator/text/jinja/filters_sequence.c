/*
 * filters_sequence.c - filters of lists, dicts and whatever else can be iterated over, and tojson.
 */
#include "coordinator/text/jinja/filters.h"

static value sort_key(renderer *r, value v, value path, bool case_sensitive)
{
    return case_folded(r, path_get(r, v, path, MISSING), case_sensitive);
}

/* ---- sequences ---- */

FILTER(filter_length)
{
    UNUSED_ARGUMENTS;
    int64_t n = v.kind == V_LOOP ? loop_length(r, v.loop) : value_length(&r->m, v);
    if (n < 0) {
        template_fault(&r->m, "object of type '%s' has no len()", type_name(v));
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
        template_fault(&r->m, "'%s' object is not reversible", type_name(v));
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
        return marked_like(r, v, STRING(text_reversed(&r->m, v.string)));
    }
    if (!value_is_iterable(v)) {
        template_fault(&r->m, "argument must be iterable");
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
    text *separator = argument_given(a[0]) ? value_str(&r->m, a[0]) : text_of(&r->m, "");
    items i = items_of(r, v);
    builder b = {0};
    for (size_t k = 0; k < i.n; k++) {
        value item = argument_given(a[1]) && a[1].kind != V_NONE
                         ? path_get(r, i.at[k], a[1], MISSING)
                         : i.at[k];
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
    bool replace = v.kind == V_UNDEFINED || (argument_flag(r, a[1]) && !value_truth(&r->m, v));
    return !replace ? v : argument_given(a[0]) ? a[0] : STRING(text_of(&r->m, ""));
}

FILTER(filter_items)
{
    UNUSED_ARGUMENTS;
    if (v.kind != V_DICT && v.kind != V_UNDEFINED) {
        template_fault(&r->m, "Can only get item pairs from a mapping.");
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
    if (!argument_given(path) || path.kind != V_STRING) {
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
        keys[i] = sort_keys(r, l->items[i], a[2], argument_flag(r, a[1]));
    }
    values_sort(&r->m, l->items, keys, l->n, argument_flag(r, a[0]));
    return list_value(l);
}

FILTER(filter_dictsort)
{
    UNUSED_ALL;
    if (v.kind != V_DICT) {
        if (v.kind == V_UNDEFINED) {
            undefined_fault(&r->m, v);
        }
        template_fault(&r->m, "'%s' object has no attribute 'items'", type_name(v));
    }
    const text by_key = TEXT("key");
    const text *by = argument_given(a[1]) ? argument_text(r, a[1], "by") : &by_key;
    if (!text_is(by, "key") && !text_is(by, "value")) {
        template_fault(&r->m, "You can only sort by either \"key\" or \"value\"");
    }
    view of = {.of = v.dict, .kind = VIEW_ITEMS};
    items i = items_of(r, (value){.kind = V_VIEW, .view = &of});
    list *l = list_of(r, i);
    value *keys = keys_of(r, i, INT(text_is(by, "value") ? 1 : 0), argument_flag(r, a[0]));
    values_sort(&r->m, l->items, keys, l->n, argument_flag(r, a[2]));
    return list_value(l);
}

FILTER(filter_unique)
{
    UNUSED_ALL;
    items i = items_of(r, v);
    dict *seen = dict_new(&r->m);
    list *l = list_new(&r->m, 8);
    for (size_t k = 0; k < i.n; k++) {
        value key = sort_key(r, i.at[k], a[1], argument_flag(r, a[0]));
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
    value *keys = keys_of(r, i, a[1], argument_flag(r, a[0]));
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
    value sum = argument_given(a[1]) ? a[1] : INT(0);
    if (sum.kind == V_STRING) {
        template_fault(&r->m, "sum() can't sum strings [use ''.join(seq) instead]");
    }
    for (size_t k = 0; k < i.n; k++) {
        sum = values_operate(r, N_ADD, sum, path_get(r, i.at[k], a[0], MISSING));
    }
    return sum;
}

static int64_t positive(renderer *r, value v, const char *what)
{
    int64_t n = argument_integer(r, v, what);
    if (n <= 0) {
        template_fault(&r->m, "%s must be over 0", what);
    }
    return n;
}

static void fill(renderer *r, list *l, value with, int64_t up_to)
{
    bool wanted = argument_given(with) && with.kind != V_NONE;
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
    bool case_sensitive = argument_flag(r, a[2]);
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
        template_fault(&r->m, "No %s named '%s'.", is_filter ? "filter" : "test",
                       text_chars(&r->m, t));
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
            template_fault(&r->m, "Unexpected keyword argument '%s'",
                           text_chars(&r->m, all->names[i]));
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
    bool by_path = all->n == 0 && argument_given(path);
    if (!by_path && all->n == 0) {
        template_fault(&r->m, "map requires a filter argument");
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
        template_fault(&r->m, "Missing parameter for attribute name");
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
        template_fault(&r->m, "tojson's separators must be two strings");
    }
    return argument_text(r, i.at[which], "a separator");
}

FILTER(filter_tojson)
{
    UNUSED_ALL;
    const text comma = TEXT(", "), bare_comma = TEXT(","), colon = TEXT(": ");
    json_style s = {
        .ascii = argument_flag(r, a[0]), .sorted = argument_flag(r, a[3]), .key_separator = &colon};
    builder spaces = {0};
    if (argument_given(a[1]) && a[1].kind != V_NONE) {
        if (a[1].kind != V_STRING) {
            build_repeated(&r->m, &spaces, ' ', argument_integer(r, a[1], "indent"));
        }
        s.indent = a[1].kind == V_STRING ? a[1].string : build_end(&r->m, &spaces);
    }
    s.item_separator = s.indent != NULL ? &bare_comma : &comma;
    if (argument_given(a[2]) && a[2].kind != V_NONE) {
        s.item_separator = separator_of(r, a[2], 0);
        s.key_separator = separator_of(r, a[2], 1);
    }
    return STRING(value_to_json(&r->m, v, &s));
}

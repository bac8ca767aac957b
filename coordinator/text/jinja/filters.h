/*
 * filters.h - what the filters' files share. The table of names is in filters.c.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_JINJA_FILTERS_H
#define FLOTILLA_COORDINATOR_TEXT_JINJA_FILTERS_H

#include "coordinator/text/jinja/renderer.h"

#define FILTER(name) value name(renderer *r, value v, const value *a, const arguments *all)
#define UNUSED_ALL (void)all
#define UNUSED_ARGUMENTS (void)a, (void)all

typedef struct items {
    value *at;
    size_t n;
} items;

bool argument_flag(renderer *r, value v); /* it was there and is true */
int64_t argument_integer_or(renderer *r, value v, int64_t fallback, const char *what);
items items_of(renderer *r, value v);

/* v's "a.b.0", step by step; fallback (MISSING: none) takes the place of what is undefined. */
value path_get(renderer *r, value v, value path, value fallback);
value case_folded(renderer *r, value v, bool case_sensitive);

FILTER(filter_upper);
FILTER(filter_lower);
FILTER(filter_capitalize);
FILTER(filter_title);
FILTER(filter_trim);
FILTER(filter_replace);
FILTER(filter_center);
FILTER(filter_string);
FILTER(filter_escape);
FILTER(filter_forceescape);
FILTER(filter_safe);
FILTER(filter_indent);
FILTER(filter_truncate);
FILTER(filter_wordcount);
FILTER(filter_striptags);
FILTER(filter_urlencode);
FILTER(filter_xmlattr);
FILTER(filter_format);
FILTER(filter_abs);
FILTER(filter_int);
FILTER(filter_float);
FILTER(filter_round);
FILTER(filter_filesizeformat);
FILTER(filter_length);
FILTER(filter_list);
FILTER(filter_first);
FILTER(filter_last);
FILTER(filter_reverse);
FILTER(filter_join);
FILTER(filter_default);
FILTER(filter_items);
FILTER(filter_sort);
FILTER(filter_dictsort);
FILTER(filter_unique);
FILTER(filter_min);
FILTER(filter_max);
FILTER(filter_sum);
FILTER(filter_batch);
FILTER(filter_slice);
FILTER(filter_groupby);
FILTER(filter_map);
FILTER(filter_select);
FILTER(filter_reject);
FILTER(filter_selectattr);
FILTER(filter_rejectattr);
FILTER(filter_attr);
FILTER(filter_tojson);

#endif

/*
 * row_store.c - a list of growing matrices.
 */
#include "coordinator/row_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const named_rows *row_store_find(const row_store *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (strcmp(s->at[i].name, name) == 0) {
            return &s->at[i];
        }
    }
    return NULL;
}

static named_rows *add_name(row_store *s, const char *name, int32_t columns, bool is_ids)
{
    named_rows *more = realloc(s->at, (s->n + 1) * sizeof *more);
    if (more == NULL) {
        return NULL;
    }
    s->at = more;
    named_rows *r = &more[s->n++];
    *r = (named_rows){.columns = columns, .is_ids = is_ids};
    snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

static bool make_room(named_rows *r, int64_t n_rows)
{
    size_t row_bytes = (size_t)r->columns * sizeof(float);
    if (n_rows > r->room) {
        int64_t room = n_rows > 2 * r->room ? n_rows : 2 * r->room;
        void *data = realloc(r->data, (size_t)room * row_bytes);
        if (data == NULL) {
            return false;
        }
        memset((char *)data + (size_t)r->room * row_bytes, 0xff,
               (size_t)(room - r->room) * row_bytes);
        r->data = data;
        r->room = room;
    }
    r->n_rows = n_rows > r->n_rows ? n_rows : r->n_rows;
    return true;
}

flo_code row_store_take(row_store *s, const char *name, int64_t first, int64_t n_rows,
                        int32_t columns, bool is_ids, const void *data, flo_err *err)
{
    named_rows *r = (named_rows *)row_store_find(s, name);
    if (r == NULL) {
        r = add_name(s, name, columns, is_ids);
    } else if (r->columns != columns || r->is_ids != is_ids) {
        return flo_fail(err, FLO_FAIL, "rows of %s came with another shape than the first of them",
                        name);
    }
    if (first < 0 || n_rows < 0 || columns < 1 || first > INT32_MAX || n_rows > INT32_MAX) {
        return flo_fail(err, FLO_FAIL, "rows of %s came with numbers out of range", name);
    }
    if (r == NULL || !make_room(r, first + n_rows)) {
        return flo_fail(err, FLO_FAIL, "out of memory for %s", name);
    }
    size_t row_bytes = (size_t)columns * sizeof(float);
    if (n_rows > 0) {
        memcpy((char *)r->data + (size_t)first * row_bytes, data, (size_t)n_rows * row_bytes);
    }
    return FLO_OK;
}

flo_code row_store_append(row_store *s, const char *name, int64_t n, const float *data,
                          flo_err *err)
{
    const named_rows *r = row_store_find(s, name);
    return row_store_take(s, name, r != NULL ? r->n_rows : 0, n, 1, false, data, err);
}

static flo_code take_rows(void *arg, const char *name, int32_t first, int32_t n_rows,
                          int32_t columns, bool is_ids, const void *data, flo_err *err)
{
    return row_store_take(arg, name, first, n_rows, columns, is_ids, data, err);
}

dump_sink row_store_sink(row_store *s)
{
    return (dump_sink){.arg = s, .rows = take_rows};
}

void row_store_free(row_store *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->at[i].data);
    }
    free(s->at);
    *s = (row_store){0};
}

/*
 * row_store.h - tensors that come as rows, by name, kept in memory.
 */
#ifndef FLOTILLA_COORDINATOR_ROW_STORE_H
#define FLOTILLA_COORDINATOR_ROW_STORE_H

#include "coordinator/generation.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct named_rows {
    char name[48];
    int64_t n_rows, room; /* the last row that has come, plus one */
    int32_t columns;
    bool is_ids; /* i32, else f32 */
    void *data;  /* [n_rows][columns]; rows that have not come are NaN, or -1 */
} named_rows;

typedef struct row_store {
    named_rows *at;
    size_t n;
} row_store; /* all zero: empty */

/* FLO_FAIL: rows of another shape than the first of that name, or no memory. */
flo_code row_store_take(row_store *s, const char *name, int64_t first, int64_t n_rows,
                        int32_t columns, bool is_ids, const void *data, flo_err *err);

/* n numbers behind those that the tensor, of one column, has. */
flo_code row_store_append(row_store *s, const char *name, int64_t n, const float *data,
                          flo_err *err);

/* A sink into the store, which must stay where it is. */
dump_sink row_store_sink(row_store *s);

const named_rows *row_store_find(const row_store *s, const char *name); /* NULL: none */

void row_store_free(row_store *s);

#endif

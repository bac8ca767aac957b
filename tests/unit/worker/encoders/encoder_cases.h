/*
 * encoder_cases.h - what the tests of both encoders share: memory, pools, reference files.
 */
#ifndef FLOTILLA_TESTS_ENCODER_CASES_H
#define FLOTILLA_TESTS_ENCODER_CASES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/checkpoint.h"
#include "worker/thread_pool.h"

#include <stdio.h>
#include <stdlib.h>

static flo_err err;

static inline void *memory_of(size_t n_bytes)
{
    void *p = aligned_alloc(64, (n_bytes + 63) / 64 * 64 + 64);
    assert_non_null(p);
    return p;
}

static inline thread_pool *pool_of(int32_t n_threads)
{
    thread_pool *pool;
    assert_int_equal(thread_pool_new(&pool, n_threads, NULL, &err), FLO_OK);
    return pool;
}

static inline const char *golden_path(const char *rest)
{
    static char path[4096];
    const char *root = getenv("FLOTILLA_SOURCE_DIR");
    snprintf(path, sizeof path, "%s/tests/golden/%s", root != NULL ? root : ".", rest);
    return path;
}

static inline checkpoint *open_file(const char *path)
{
    checkpoint *c;
    if (checkpoint_open_file(&c, path, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return c;
}

/* The data of a tensor, NULL where there is none of that name. */
static inline void *tensor_data(const checkpoint *c, const char *name,
                                const checkpoint_tensor **tensor)
{
    const checkpoint_tensor *t = checkpoint_find(c, name);
    if (t == NULL) {
        return NULL;
    }
    void *data = memory_of(t->n_bytes);
    assert_int_equal(checkpoint_read(c, t, 0, data, t->n_bytes, &err), FLO_OK);
    *tensor = t;
    return data;
}

#endif

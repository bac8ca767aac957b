/*
 * encoder_cache.c - a list in the order of use, and buckets to find a key in it.
 *
 * Keys are spread evenly as they are, so their first bytes choose the bucket. Keeping and finding
 * cost a walk along one bucket, of one entry or none with the few thousand results that fit.
 */
#include "coordinator/media/encoder_cache.h"

#include "common/check.h"

#include <stdlib.h>
#include <string.h>

enum { N_BUCKETS = 4096 };

#define ENCODED_BYTES_MAX (UINT64_C(1) << 40)

struct encoder_cache {
    uint64_t bytes, bytes_max;
    encoded *newest, *oldest;
    encoded *buckets[N_BUCKETS];
};

/* ---- one result ---- */

/* a * b, or more than ENCODED_BYTES_MAX where that is more. */
static uint64_t times(uint64_t a, uint64_t b)
{
    return b > 0 && a > ENCODED_BYTES_MAX / b ? ENCODED_BYTES_MAX + 1 : a * b;
}

static uint64_t rows_bytes(int32_t n_rows, int32_t n_columns, int32_t n_deep)
{
    uint64_t n = times((uint64_t)n_rows, (uint64_t)n_columns);
    return times(times(n, 1 + (uint64_t)n_deep), sizeof(float));
}

encoded *encoded_new(const encoder_key *key, int32_t n_rows, int32_t n_columns, int32_t n_deep)
{
    CHECK(n_rows >= 1 && n_columns >= 1 && n_deep >= 0);
    uint64_t n_bytes = rows_bytes(n_rows, n_columns, n_deep);
    encoded *e = n_bytes <= ENCODED_BYTES_MAX ? calloc(1, sizeof *e) : NULL;
    if (e == NULL) {
        return NULL;
    }
    e->rows = malloc(n_bytes);
    if (e->rows == NULL) {
        free(e);
        return NULL;
    }
    e->key = *key;
    e->n_rows = n_rows;
    e->n_columns = n_columns;
    e->n_deep = n_deep;
    e->n_users = 1;
    return e;
}

uint64_t encoded_bytes(const encoded *e)
{
    return sizeof *e + rows_bytes(e->n_rows, e->n_columns, e->n_deep);
}

static void free_if_unused(encoded *e)
{
    if (e->n_users == 0 && e->cache == NULL) {
        free(e->rows);
        free(e);
    }
}

void encoded_release(encoded *e)
{
    if (e == NULL) {
        return;
    }
    CHECK(e->n_users > 0);
    e->n_users--;
    free_if_unused(e);
}

/* ---- the order of use ---- */

static void list_add_newest(encoder_cache *c, encoded *e)
{
    e->newer = NULL;
    e->older = c->newest;
    *(c->newest != NULL ? &c->newest->newer : &c->oldest) = e;
    c->newest = e;
}

static void list_remove(encoder_cache *c, encoded *e)
{
    *(e->newer != NULL ? &e->newer->older : &c->newest) = e->older;
    *(e->older != NULL ? &e->older->newer : &c->oldest) = e->newer;
}

/* ---- the cache ---- */

static encoded **bucket_of(encoder_cache *c, const encoder_key *key)
{
    return &c->buckets[((uint32_t)key->digest[0] << 8 | key->digest[1]) % N_BUCKETS];
}

static encoded *look_up(encoder_cache *c, const encoder_key *key)
{
    encoded *e = *bucket_of(c, key);
    while (e != NULL && memcmp(&e->key, key, sizeof *key) != 0) {
        e = e->next;
    }
    if (e != NULL) { /* asked for now */
        list_remove(c, e);
        list_add_newest(c, e);
    }
    return e;
}

static void forget(encoder_cache *c, encoded *e)
{
    encoded **at = bucket_of(c, &e->key);
    while (*at != e) {
        at = &(*at)->next;
    }
    *at = e->next;
    list_remove(c, e);
    c->bytes -= encoded_bytes(e);
    e->next = e->newer = e->older = NULL;
    e->cache = NULL;
    free_if_unused(e);
}

flo_code encoder_cache_new(encoder_cache **out, uint64_t bytes_max, flo_err *err)
{
    encoder_cache *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the encoder cache");
    }
    c->bytes_max = bytes_max;
    *out = c;
    return FLO_OK;
}

void encoder_cache_free(encoder_cache *c)
{
    while (c != NULL && c->oldest != NULL) {
        forget(c, c->oldest);
    }
    free(c);
}

encoded *encoder_cache_find(encoder_cache *c, const encoder_key *key)
{
    encoded *e = look_up(c, key);
    if (e != NULL) {
        e->n_users++;
    }
    return e;
}

void encoder_cache_keep(encoder_cache *c, encoded *e)
{
    CHECK(e->n_users > 0 && (e->cache == NULL || e->cache == c));
    uint64_t n_bytes = encoded_bytes(e);
    if (n_bytes > c->bytes_max || look_up(c, &e->key) != NULL) {
        return;
    }
    while (c->bytes > c->bytes_max - n_bytes) {
        forget(c, c->oldest);
    }
    encoded **bucket = bucket_of(c, &e->key);
    e->next = *bucket;
    *bucket = e;
    list_add_newest(c, e);
    e->cache = c;
    c->bytes += n_bytes;
}

uint64_t encoder_cache_bytes(const encoder_cache *c)
{
    return c->bytes;
}

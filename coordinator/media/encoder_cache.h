/*
 * encoder_cache.h - what the encoders made, kept by what it was made from.
 *
 * The same picture or sound again, in a later turn or another request, is not encoded again.
 * Results are counted by their users and bounded in bytes; the one that was asked for longest ago
 * goes first. A result that goes while somebody uses it lives until that use ends. One thread.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_ENCODER_CACHE_H
#define FLOTILLA_COORDINATOR_MEDIA_ENCODER_CACHE_H

#include "common/error.h"
#include "coordinator/media/encoder_key.h"

#include <stdint.h>

typedef struct encoder_cache encoder_cache;

typedef struct encoded { /* read it; made and freed here */
    encoder_key key;
    int32_t n_rows, n_columns, n_deep;
    float *rows; /* [1 + n_deep][n_rows][n_columns] */

    encoder_cache *cache;          /* the one that keeps it; NULL: none */
    int32_t n_users;               /* without the cache */
    struct encoded *newer, *older; /* in the cache's order of use */
    struct encoded *next;          /* with keys that begin alike */
} encoded;

/* A result to be filled in (before it is kept), with one user. n_rows, n_columns >= 1, n_deep >= 0.
 * NULL: no memory, or more than 2^40 bytes. */
encoded *encoded_new(const encoder_key *key, int32_t n_rows, int32_t n_columns, int32_t n_deep);

/* Ends one use. NULL is allowed. */
void encoded_release(encoded *e);

/* Bytes that e takes, its rows and itself. */
uint64_t encoded_bytes(const encoded *e);

/* FLO_FAIL: out of memory. With bytes_max 0 nothing is ever kept. */
flo_code encoder_cache_new(encoder_cache **out, uint64_t bytes_max, flo_err *err);

/* Forgets all; results in use live on until they are released. NULL is allowed. */
void encoder_cache_free(encoder_cache *c);

/* The result for a key, with one more user; NULL: not kept. */
encoded *encoder_cache_find(encoder_cache *c, const encoder_key *key);

/* Keeps e for later (the caller's use goes on), for which others may have to go. One that is larger
 * than the whole cache is not kept; one whose key is kept already is not kept twice, but counts as
 * asked for. */
void encoder_cache_keep(encoder_cache *c, encoded *e);

uint64_t encoder_cache_bytes(const encoder_cache *c); /* of all that is kept now; <= bytes_max */

#endif

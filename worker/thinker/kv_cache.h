/*
 * kv_cache.h - keys and values of the sequences of one stage, in fixed blocks with reference
 * counts.
 *
 * A block holds KV_BLOCK positions of all layers and KV heads of the stage, f32:
 *     [n_layers][n_kv_heads]{ k [head_dim][KV_BLOCK], v [KV_BLOCK][head_dim] }
 * (attention.h says why keys lie across). Sequences are lists of blocks; forked ones share blocks
 * until one of them writes. Every rank applies the same operations in the same order, so tables
 * agree without being sent. All memory is reserved at start; pages are touched when first written.
 */
#ifndef FLOTILLA_WORKER_THINKER_KV_CACHE_H
#define FLOTILLA_WORKER_THINKER_KV_CACHE_H

#include "common/error.h"

#include <stdint.h>

typedef struct kv_shape {
    int32_t n_layers, n_kv_heads, head_dim;
    int64_t n_tokens; /* capacity over all sequences, a multiple of KV_BLOCK */
} kv_shape;

typedef struct kv_cache kv_cache;

flo_code kv_cache_new(kv_cache **out, const kv_shape *shape, flo_err *err);
void kv_cache_free(kv_cache *c);
uint64_t kv_cache_bytes(const kv_shape *shape);

/* Makes room for positions [first, first + n) of a sequence, which must continue what it holds
 * (first is its length; 0 begins a new one). *slot is what the other calls take, good until the
 * sequence is released. FLO_FAIL: no block or no sequence left, or a gap. */
flo_code kv_cache_extend(kv_cache *c, uint64_t sequence, int32_t first, int32_t n, int32_t *slot,
                         flo_err *err);

/* Forgets a sequence; an unknown one is FLO_FAIL. */
flo_code kv_cache_release(kv_cache *c, uint64_t sequence, flo_err *err);

/* Keeps the first n positions (at most its length). */
flo_code kv_cache_truncate(kv_cache *c, uint64_t sequence, int32_t n, flo_err *err);

/* A new sequence that begins with the first n positions of source. */
flo_code kv_cache_fork(kv_cache *c, uint64_t sequence, uint64_t source, int32_t n, flo_err *err);

int32_t kv_cache_free_blocks(const kv_cache *c);

/* Writes one position of one layer: k, v [n_kv_heads][head_dim]. Different positions may be written
 * at the same time. */
void kv_cache_store(kv_cache *c, int32_t slot, int32_t layer, int32_t position, const float *k,
                    const float *v);

/* Block `block` (positions from block * KV_BLOCK) of one layer and head. */
const float *kv_cache_keys(const kv_cache *c, int32_t slot, int32_t layer, int32_t head,
                           int32_t block);
const float *kv_cache_values(const kv_cache *c, int32_t slot, int32_t layer, int32_t head,
                             int32_t block);

#endif

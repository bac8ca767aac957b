/*
 * kv_cache.c - a pool of blocks, a stack of free ones, and a table of block numbers for each
 * sequence.
 *
 * A block that is shared is copied by the first writer (kv_cache_extend does it for the one partial
 * block that a write can meet), so kv_cache_store never has to look.
 */
#include "worker/thinker/kv_cache.h"

#include "common/check.h"
#include "common/layout.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef struct kv_sequence {
    bool used;
    uint64_t id;
    int32_t length;
    int32_t n_blocks;
    int32_t *blocks; /* [capacity in blocks] */
} kv_sequence;

struct kv_cache {
    kv_shape shape;
    int32_t n_blocks;
    size_t block_floats, head_floats;
    float *pool;
    int32_t *free_stack;
    int32_t n_free;
    int32_t *references;
    kv_sequence sequences[SEQUENCES_MAX];
};

static size_t block_floats(const kv_shape *s)
{
    return (size_t)s->n_layers * (size_t)s->n_kv_heads * 2 * (size_t)s->head_dim * KV_BLOCK;
}

uint64_t kv_cache_bytes(const kv_shape *s)
{
    return (uint64_t)(s->n_tokens / KV_BLOCK) * block_floats(s) * sizeof(float);
}

flo_code kv_cache_new(kv_cache **out, const kv_shape *shape, flo_err *err)
{
    CHECK(shape->n_tokens > 0 && shape->n_tokens % KV_BLOCK == 0);
    kv_cache *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the KV cache");
    }
    c->shape = *shape;
    c->n_blocks = (int32_t)(shape->n_tokens / KV_BLOCK);
    c->block_floats = block_floats(shape);
    c->head_floats = 2 * (size_t)shape->head_dim * KV_BLOCK;
    c->free_stack = calloc((size_t)c->n_blocks, sizeof *c->free_stack);
    c->references = calloc((size_t)c->n_blocks, sizeof *c->references);
    void *pool = mmap(NULL, kv_cache_bytes(shape) + 1, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->free_stack == NULL || c->references == NULL || pool == MAP_FAILED) {
        if (pool != MAP_FAILED) {
            munmap(pool, kv_cache_bytes(shape) + 1);
        }
        free(c->free_stack);
        free(c->references);
        free(c);
        return flo_fail(err, FLO_FAIL,
                        "out of memory: could not reserve %llu bytes for the KV cache",
                        (unsigned long long)kv_cache_bytes(shape));
    }
    c->pool = pool;
    for (int32_t i = 0; i < c->n_blocks; i++) {
        c->free_stack[i] = c->n_blocks - 1 - i; /* block 0 is taken first */
    }
    c->n_free = c->n_blocks;
    *out = c;
    return FLO_OK;
}

void kv_cache_free(kv_cache *c)
{
    if (c == NULL) {
        return;
    }
    for (int i = 0; i < SEQUENCES_MAX; i++) {
        free(c->sequences[i].blocks);
    }
    munmap(c->pool, kv_cache_bytes(&c->shape) + 1);
    free(c->free_stack);
    free(c->references);
    free(c);
}

int32_t kv_cache_free_blocks(const kv_cache *c)
{
    return c->n_free;
}

/* --- blocks ------------------------------------------------------------------------------------
 */

static int32_t block_take(kv_cache *c)
{
    CHECK(c->n_free > 0);
    int32_t block = c->free_stack[--c->n_free];
    c->references[block] = 1;
    return block;
}

static void block_drop(kv_cache *c, int32_t block)
{
    CHECK(c->references[block] > 0);
    if (--c->references[block] == 0) {
        c->free_stack[c->n_free++] = block;
    }
}

static float *block_at(const kv_cache *c, int32_t block)
{
    return c->pool + (size_t)block * c->block_floats;
}

static int32_t blocks_for(int32_t n_tokens)
{
    return (n_tokens + KV_BLOCK - 1) / KV_BLOCK;
}

/* --- sequences ---------------------------------------------------------------------------------
 */

static kv_sequence *find(kv_cache *c, uint64_t id)
{
    for (int i = 0; i < SEQUENCES_MAX; i++) {
        if (c->sequences[i].used && c->sequences[i].id == id) {
            return &c->sequences[i];
        }
    }
    return NULL;
}

static flo_code begin(kv_cache *c, uint64_t id, kv_sequence **out, flo_err *err)
{
    for (int i = 0; i < SEQUENCES_MAX; i++) {
        kv_sequence *s = &c->sequences[i];
        if (s->used) {
            continue;
        }
        if (s->blocks == NULL) {
            s->blocks = calloc((size_t)c->n_blocks, sizeof *s->blocks);
            if (s->blocks == NULL) {
                return flo_fail(err, FLO_FAIL, "out of memory for a sequence's block table");
            }
        }
        s->used = true;
        s->id = id;
        s->length = 0;
        s->n_blocks = 0;
        *out = s;
        return FLO_OK;
    }
    return flo_fail(err, FLO_FAIL, "more than %d sequences in the KV cache", SEQUENCES_MAX);
}

static flo_code need(kv_cache *c, uint64_t id, kv_sequence **out, flo_err *err)
{
    *out = find(c, id);
    return *out != NULL ? FLO_OK
                        : flo_fail(err, FLO_FAIL, "sequence %llu is not in the KV cache",
                                   (unsigned long long)id);
}

static void drop_blocks_from(kv_cache *c, kv_sequence *s, int32_t first_block)
{
    while (s->n_blocks > first_block) {
        block_drop(c, s->blocks[--s->n_blocks]);
    }
}

flo_code kv_cache_extend(kv_cache *c, uint64_t sequence, int32_t first, int32_t n, int32_t *slot,
                         flo_err *err)
{
    kv_sequence *s = find(c, sequence);
    int32_t length = s != NULL ? s->length : 0;
    if (first != length || n < 1 || n > c->shape.n_tokens - first) {
        return flo_fail(
            err, FLO_FAIL,
            "sequence %llu holds %d positions, a span of %d from %d does not continue it",
            (unsigned long long)sequence, length, n, first);
    }
    bool copy_last = first % KV_BLOCK != 0 && c->references[s->blocks[s->n_blocks - 1]] > 1;
    int32_t fresh = blocks_for(first + n) - blocks_for(first) + (copy_last ? 1 : 0);
    if (fresh > c->n_free) {
        return flo_fail(err, FLO_FAIL,
                        "the KV cache is full: sequence %llu needs %d blocks, %d are free",
                        (unsigned long long)sequence, fresh, c->n_free);
    }
    if (s == NULL) {
        flo_code code = begin(c, sequence, &s, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    if (copy_last) {
        int32_t shared = s->blocks[s->n_blocks - 1];
        int32_t own = block_take(c);
        memcpy(block_at(c, own), block_at(c, shared), c->block_floats * sizeof(float));
        s->blocks[s->n_blocks - 1] = own;
        block_drop(c, shared);
    }
    while (s->n_blocks < blocks_for(first + n)) {
        s->blocks[s->n_blocks++] = block_take(c);
    }
    s->length = first + n;
    *slot = (int32_t)(s - c->sequences);
    return FLO_OK;
}

flo_code kv_cache_release(kv_cache *c, uint64_t sequence, flo_err *err)
{
    kv_sequence *s;
    flo_code code = need(c, sequence, &s, err);
    if (code == FLO_OK) {
        drop_blocks_from(c, s, 0);
        s->used = false;
    }
    return code;
}

flo_code kv_cache_truncate(kv_cache *c, uint64_t sequence, int32_t n, flo_err *err)
{
    kv_sequence *s;
    flo_code code = need(c, sequence, &s, err);
    if (code != FLO_OK) {
        return code;
    }
    if (n < 0 || n > s->length) {
        return flo_fail(err, FLO_FAIL, "sequence %llu holds %d positions, it cannot be cut to %d",
                        (unsigned long long)sequence, s->length, n);
    }
    drop_blocks_from(c, s, blocks_for(n));
    s->length = n;
    return FLO_OK;
}

flo_code kv_cache_fork(kv_cache *c, uint64_t sequence, uint64_t source, int32_t n, flo_err *err)
{
    kv_sequence *from, *s;
    flo_code code = need(c, source, &from, err);
    if (code != FLO_OK) {
        return code;
    }
    if (n < 0 || n > from->length || find(c, sequence) != NULL) {
        return flo_fail(err, FLO_FAIL, "sequence %llu cannot begin with %d positions of %llu",
                        (unsigned long long)sequence, n, (unsigned long long)source);
    }
    code = begin(c, sequence, &s, err);
    if (code != FLO_OK) {
        return code;
    }
    for (int32_t i = 0; i < blocks_for(n); i++) {
        s->blocks[i] = from->blocks[i];
        c->references[s->blocks[i]]++;
    }
    s->n_blocks = blocks_for(n);
    s->length = n;
    return FLO_OK;
}

/* --- numbers -----------------------------------------------------------------------------------
 */

static float *head_at(const kv_cache *c, int32_t slot, int32_t layer, int32_t head, int32_t block)
{
    const kv_sequence *s = &c->sequences[slot];
    DCHECK(s->used && block < s->n_blocks);
    size_t place = (size_t)layer * (size_t)c->shape.n_kv_heads + (size_t)head;
    return block_at(c, s->blocks[block]) + place * c->head_floats;
}

const float *kv_cache_keys(const kv_cache *c, int32_t slot, int32_t layer, int32_t head,
                           int32_t block)
{
    return head_at(c, slot, layer, head, block);
}

const float *kv_cache_values(const kv_cache *c, int32_t slot, int32_t layer, int32_t head,
                             int32_t block)
{
    return head_at(c, slot, layer, head, block) + (size_t)c->shape.head_dim * KV_BLOCK;
}

void kv_cache_store(kv_cache *c, int32_t slot, int32_t layer, int32_t position, const float *k,
                    const float *v)
{
    int32_t d = c->shape.head_dim;
    int32_t in_block = position % KV_BLOCK;
    for (int32_t h = 0; h < c->shape.n_kv_heads; h++) {
        float *keys = head_at(c, slot, layer, h, position / KV_BLOCK);
        float *values = keys + (size_t)d * KV_BLOCK;
        for (int32_t i = 0; i < d; i++) {
            keys[(size_t)i * KV_BLOCK + (size_t)in_block] = k[h * d + i];
        }
        memcpy(values + (size_t)in_block * (size_t)d, v + (size_t)h * (size_t)d,
               (size_t)d * sizeof(float));
    }
}

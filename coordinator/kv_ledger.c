/*
 * kv_ledger.c - a table of sequences, active and kept, and a list of operations due.
 */
#include "coordinator/kv_ledger.h"

#include "common/check.h"
#include "proto/flotilla.pb-c.h"

#include <stdlib.h>
#include <string.h>

typedef struct kv_entry {
    bool used, active;
    uint64_t sequence;
    int64_t blocks;
    uint64_t retired_at; /* of kept ones: the oldest goes first */
    int32_t n;           /* of kept ones: positions in the cache */
    uint64_t *keys;      /* [n] */
} kv_entry;

struct kv_ledger {
    int64_t n_blocks, n_reserved;
    uint64_t next_sequence, clock;
    int32_t n_active;
    kv_entry entries[SEQUENCES_MAX];
    kv_op ops[KV_OPS_MAX];
    int32_t n_ops;
};

flo_code kv_ledger_new(kv_ledger **out, int64_t kv_tokens, flo_err *err)
{
    kv_ledger *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the list of sequences");
    }
    l->n_blocks = kv_tokens / KV_BLOCK;
    l->next_sequence = 1;
    *out = l;
    return FLO_OK;
}

void kv_ledger_free(kv_ledger *l)
{
    for (int i = 0; l != NULL && i < SEQUENCES_MAX; i++) {
        free(l->entries[i].keys);
    }
    free(l);
}

static int64_t blocks_for(int64_t n_tokens)
{
    return (n_tokens + KV_BLOCK - 1) / KV_BLOCK;
}

static void add_op(kv_ledger *l, int kind, uint64_t sequence, uint64_t source, int32_t tokens)
{
    CHECK(l->n_ops < KV_OPS_MAX);
    l->ops[l->n_ops++] = (kv_op){kind, sequence, source, tokens};
}

static void drop(kv_ledger *l, kv_entry *e)
{
    l->n_reserved -= e->blocks;
    free(e->keys);
    *e = (kv_entry){0};
}

static void forget(kv_ledger *l, kv_entry *e)
{
    add_op(l, FLO__SEQUENCE_OP__KIND__RELEASE, e->sequence, 0, 0);
    drop(l, e);
}

static kv_entry *oldest_kept(kv_ledger *l, const kv_entry *spared)
{
    kv_entry *oldest = NULL;
    for (int i = 0; i < SEQUENCES_MAX; i++) {
        kv_entry *e = &l->entries[i];
        if (e->used && !e->active && e != spared &&
            (oldest == NULL || e->retired_at < oldest->retired_at)) {
            oldest = e;
        }
    }
    return oldest;
}

static kv_entry *unused_entry(kv_ledger *l)
{
    for (int i = 0; i < SEQUENCES_MAX; i++) {
        if (!l->entries[i].used) {
            return &l->entries[i];
        }
    }
    return NULL;
}

/* Makes room for `blocks` more and one more entry, at the cost of kept sequences but `spared`. */
static bool make_room(kv_ledger *l, int64_t blocks, const kv_entry *spared)
{
    int64_t kept = 0;
    for (int i = 0; i < SEQUENCES_MAX; i++) {
        const kv_entry *e = &l->entries[i];
        kept += e->used && !e->active && e != spared ? e->blocks : 0;
    }
    if (l->n_reserved - kept + blocks > l->n_blocks) {
        return false;
    }
    while (l->n_reserved + blocks > l->n_blocks || unused_entry(l) == NULL) {
        kv_entry *e = oldest_kept(l, spared);
        if (e == NULL) {
            return false;
        }
        forget(l, e);
    }
    return true;
}

/* The kept sequence that shares the longest beginning with the prompt. */
static kv_entry *best_kept(kv_ledger *l, const uint64_t *keys, int32_t n_prompt, int32_t *n_shared)
{
    kv_entry *best = NULL;
    *n_shared = 0;
    for (int i = 0; i < SEQUENCES_MAX; i++) {
        kv_entry *e = &l->entries[i];
        if (!e->used || e->active) {
            continue;
        }
        int32_t n = 0, end = e->n < n_prompt - 1 ? e->n : n_prompt - 1;
        while (n < end && e->keys[n] == keys[n]) {
            n++;
        }
        if (n > *n_shared) {
            *n_shared = n;
            best = e;
        }
    }
    return best;
}

static void take_over(kv_ledger *l, kv_entry *e, int64_t blocks, int32_t n_shared)
{
    if (n_shared < e->n) {
        add_op(l, FLO__SEQUENCE_OP__KIND__TRUNCATE, e->sequence, 0, n_shared);
    }
    l->n_reserved += blocks - e->blocks;
    e->blocks = blocks;
    e->active = true;
    free(e->keys);
    e->keys = NULL;
    e->n = 0;
}

bool kv_ledger_admit(kv_ledger *l, const uint64_t *keys, int32_t n_prompt, int64_t n_tokens_max,
                     int32_t reuse_max, uint64_t *sequence, int32_t *n_reused)
{
    /* Operations wait for the next step; while one is under way, cancelled answers may add to them.
     * Without an active answer none is under way, and this one's step takes them all. */
    if (l->n_active == KV_ACTIVE_MAX || (l->n_active > 0 && l->n_ops > KV_OPS_MAX / 2)) {
        return false;
    }
    int64_t blocks = blocks_for(n_tokens_max);
    int32_t n_alike = 0;
    kv_entry *kept = best_kept(l, keys, n_prompt, &n_alike);
    int32_t n_shared = n_alike < reuse_max ? n_alike : reuse_max;
    kept = n_shared > 0 ? kept : NULL;
    /* A conversation that goes on takes its sequence over, even where it must compute much of it
     * again; one that only begins alike shares it. */
    if (kept != NULL && kept->n - n_alike <= KV_FORK_MIN &&
        make_room(l, blocks > kept->blocks ? blocks - kept->blocks : 0, kept)) {
        take_over(l, kept, blocks, n_shared);
        l->n_active++;
        *sequence = kept->sequence;
        *n_reused = n_shared;
        return true;
    }
    if (n_shared < KV_FORK_MIN || !make_room(l, blocks, kept)) {
        kept = NULL;
        n_shared = 0;
        if (!make_room(l, blocks, NULL)) {
            return false;
        }
    }
    kv_entry *e = unused_entry(l);
    *e = (kv_entry){.used = true, .active = true, .sequence = l->next_sequence++, .blocks = blocks};
    if (kept != NULL) {
        add_op(l, FLO__SEQUENCE_OP__KIND__FORK, e->sequence, kept->sequence, n_shared);
    }
    l->n_reserved += blocks;
    l->n_active++;
    *sequence = e->sequence;
    *n_reused = n_shared;
    return true;
}

void kv_ledger_retire(kv_ledger *l, uint64_t sequence, const uint64_t *keys, int32_t n, bool keep)
{
    kv_entry *e = NULL;
    for (int i = 0; i < SEQUENCES_MAX; i++) {
        if (l->entries[i].used && l->entries[i].sequence == sequence) {
            e = &l->entries[i];
        }
    }
    CHECK(e != NULL && e->active);
    l->n_active--;
    e->active = false;
    if (n == 0) {
        drop(l, e);
        return;
    }
    e->keys = keep ? malloc((size_t)n * sizeof *e->keys) : NULL;
    if (e->keys == NULL) {
        forget(l, e);
        return;
    }
    memcpy(e->keys, keys, (size_t)n * sizeof *keys);
    e->n = n;
    e->retired_at = ++l->clock;
    l->n_reserved += blocks_for(n) - e->blocks;
    e->blocks = blocks_for(n);
}

int32_t kv_ledger_take_ops(kv_ledger *l, kv_op ops[KV_OPS_MAX])
{
    int32_t n = l->n_ops;
    memcpy(ops, l->ops, (size_t)n * sizeof *ops);
    l->n_ops = 0;
    return n;
}

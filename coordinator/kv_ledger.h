/*
 * kv_ledger.h - what the coordinator knows of the KV caches: who holds how many blocks, and which
 * finished sequences could serve as the beginning of a new one.
 *
 * All stages have room for the same tokens and apply the same operations in order, so one ledger
 * stands for all of them. Blocks are counted for each sequence as if none were shared: cautious,
 * never short.
 */
#ifndef FLOTILLA_COORDINATOR_KV_LEDGER_H
#define FLOTILLA_COORDINATOR_KV_LEDGER_H

#include "common/error.h"
#include "common/layout.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    KV_ACTIVE_MAX = SEQUENCES_MAX / 2, /* answers being made at a time */
    KV_OPS_MAX = 4 * SEQUENCES_MAX,
    KV_FORK_MIN = 64, /* a shared beginning shorter than this is computed again */
};

typedef struct kv_op { /* as Flo__SequenceOp */
    int kind;
    uint64_t sequence, source;
    int32_t tokens;
} kv_op;

typedef struct kv_ledger kv_ledger;

flo_code kv_ledger_new(kv_ledger **out, int64_t kv_tokens, flo_err *err);
void kv_ledger_free(kv_ledger *l);

/* Admits a prompt that may grow to n_tokens_max positions: *sequence is its id, *n_reused how many
 * of its first positions are there already (less than n_prompt). keys [n_prompt] tell positions
 * apart: equal keys in front mean equal keys and values in the caches (a token's id; for a row of a
 * medium what its content and place hash to). No more than reuse_max are taken over; the others are
 * to be computed here. False: no room now. */
bool kv_ledger_admit(kv_ledger *l, const uint64_t *keys, int32_t n_prompt, int64_t n_tokens_max,
                     int32_t reuse_max, uint64_t *sequence, int32_t *n_reused);

/* The sequence's answer is done; keys [n] are those of the positions that the caches hold. Keeps it
 * for later turns (copying keys), or forgets it. With n = 0 no step of it was ever sent: no cache
 * knows it, and none is told. */
void kv_ledger_retire(kv_ledger *l, uint64_t sequence, const uint64_t *keys, int32_t n, bool keep);

/* Operations that the next step must carry, in order; taken by the call. Returns their number. */
int32_t kv_ledger_take_ops(kv_ledger *l, kv_op ops[KV_OPS_MAX]);

#endif

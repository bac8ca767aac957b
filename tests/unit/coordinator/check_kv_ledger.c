/*
 * check_kv_ledger.c - what the ledger admits always fits: its operations, replayed on a real cache
 * in the order of the steps that would carry them, never fail, whatever requests come and go.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/kv_ledger.h"
#include "proto/flotilla.pb-c.h"
#include "worker/thinker/kv_cache.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 24, ACTIVE_MAX = 12, TOKENS_MAX = BLOCKS * KV_BLOCK };

static flo_err err;
static kv_ledger *ledger;
static kv_cache *cache;

static uint64_t random_number(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static int32_t below(uint64_t *seed, int32_t n)
{
    return (int32_t)(random_number(seed) % (uint64_t)n);
}

static void open_both(int32_t n_blocks)
{
    kv_shape shape = {1, 1, 2, (int64_t)n_blocks * KV_BLOCK};
    assert_int_equal(kv_ledger_new(&ledger, shape.n_tokens, &err), FLO_OK);
    assert_int_equal(kv_cache_new(&cache, &shape, &err), FLO_OK);
}

static void close_both(void)
{
    kv_ledger_free(ledger);
    kv_cache_free(cache);
}

static void must(flo_code code)
{
    if (code != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

/* What a worker does with the operations of a step. */
static int32_t replay(void)
{
    static kv_op ops[KV_OPS_MAX];
    int32_t n = kv_ledger_take_ops(ledger, ops);
    for (int32_t i = 0; i < n; i++) {
        const kv_op *o = &ops[i];
        switch (o->kind) {
        case FLO__SEQUENCE_OP__KIND__RELEASE:
            must(kv_cache_release(cache, o->sequence, &err));
            break;
        case FLO__SEQUENCE_OP__KIND__TRUNCATE:
            must(kv_cache_truncate(cache, o->sequence, o->tokens, &err));
            break;
        default:
            must(kv_cache_fork(cache, o->sequence, o->source, o->tokens, &err));
        }
    }
    return n;
}

static void extend(uint64_t sequence, int32_t first, int32_t n)
{
    int32_t slot;
    must(kv_cache_extend(cache, sequence, first, n, &slot, &err));
}

/* --- single stories ----------------------------------------------------------------------------
 */

static uint64_t counting[TOKENS_MAX];

static void a_conversation_that_goes_on_takes_its_sequence_over(void **state)
{
    (void)state;
    uint64_t first, second;
    int32_t reused;
    open_both(8);
    assert_true(kv_ledger_admit(ledger, counting, 100, 150, INT32_MAX, &first, &reused));
    assert_int_equal(reused, 0);
    assert_int_equal(replay(), 0);
    extend(first, 0, 120);
    kv_ledger_retire(ledger, first, counting, 120, true);
    assert_true(kv_ledger_admit(ledger, counting, 200, 300, INT32_MAX, &second, &reused));
    assert_int_equal(second, first);
    assert_int_equal(reused, 120);
    assert_int_equal(replay(), 0);
    extend(second, 120, 180);
    close_both();
}

static void the_last_token_of_a_prompt_is_always_computed(void **state)
{
    (void)state;
    uint64_t first, second;
    int32_t reused;
    open_both(8);
    assert_true(kv_ledger_admit(ledger, counting, 100, 150, INT32_MAX, &first, &reused));
    extend(first, 0, 120);
    kv_ledger_retire(ledger, first, counting, 120, true);
    assert_true(kv_ledger_admit(ledger, counting, 100, 150, INT32_MAX, &second, &reused));
    assert_int_equal(reused, 99); /* logits come from the 100th alone */
    assert_int_equal(second, first);
    assert_int_equal(replay(), 1);
    extend(second, 99, 1);
    close_both();
}

static void a_long_shared_beginning_is_forked_and_a_short_one_computed(void **state)
{
    (void)state;
    uint64_t first, second, third;
    int32_t reused;
    uint64_t other[200];
    open_both(16);
    assert_true(kv_ledger_admit(ledger, counting, 200, 200, INT32_MAX, &first, &reused));
    extend(first, 0, 200);
    kv_ledger_retire(ledger, first, counting, 200, true);
    memcpy(other, counting, sizeof other);
    for (int i = 100; i < 200; i++) {
        other[i] = 9000 + (uint64_t)i;
    }
    assert_true(kv_ledger_admit(ledger, other, 200, 250, INT32_MAX, &second, &reused));
    assert_int_not_equal(second, first);
    assert_int_equal(reused, 100);
    assert_int_equal(replay(), 1);
    extend(second, 100, 150);
    for (int i = KV_FORK_MIN - 1; i < 200; i++) {
        other[i] = 7000 + (uint64_t)i;
    }
    assert_true(kv_ledger_admit(ledger, other, 200, 200, INT32_MAX, &third, &reused));
    assert_int_equal(reused, 0);
    assert_true(kv_ledger_admit(ledger, counting, 200, 200, 0, &third, &reused));
    assert_int_equal(reused, 0); /* asked for afresh */
    close_both();
}

static void no_more_is_taken_over_than_may_be(void **state)
{
    (void)state;
    uint64_t first, second, third;
    int32_t reused;
    open_both(24);
    assert_true(kv_ledger_admit(ledger, counting, 400, 400, INT32_MAX, &first, &reused));
    extend(first, 0, 400);
    kv_ledger_retire(ledger, first, counting, 400, true);
    /* a conversation that goes on: its sequence, though most of it is computed again */
    assert_true(kv_ledger_admit(ledger, counting, 500, 500, 10, &second, &reused));
    assert_int_equal(second, first);
    assert_int_equal(reused, 10);
    assert_int_equal(replay(), 1);
    extend(second, 10, 490);
    kv_ledger_retire(ledger, second, counting, 500, true);
    /* one that only begins alike */
    assert_true(kv_ledger_admit(ledger, counting, 200, 300, 150, &third, &reused));
    assert_int_not_equal(third, first);
    assert_int_equal(reused, 150);
    assert_int_equal(replay(), 1);
    extend(third, 150, 150);
    kv_ledger_retire(ledger, third, counting, 300, true);
    assert_true(kv_ledger_admit(ledger, counting, 200, 300, KV_FORK_MIN - 1, &third, &reused));
    assert_int_equal(reused, 0);
    extend(third, 0, 200);
    close_both();
}

static void the_oldest_goes_when_room_is_needed(void **state)
{
    (void)state;
    uint64_t kept[3], next;
    int32_t reused;
    uint64_t prompt[3][64];
    open_both(3);
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 64; k++) {
            prompt[i][k] = (uint64_t)(1000 * i + k);
        }
        assert_true(kv_ledger_admit(ledger, prompt[i], 64, 64, INT32_MAX, &kept[i], &reused));
        replay();
        extend(kept[i], 0, 64);
        kv_ledger_retire(ledger, kept[i], prompt[i], 64, true);
    }
    assert_true(kv_ledger_admit(ledger, counting, 64, 65, 0, &next, &reused));
    assert_int_equal(replay(), 2); /* the two oldest */
    assert_int_equal(kv_cache_release(cache, kept[0], &err), FLO_FAIL);
    assert_int_equal(kv_cache_release(cache, kept[1], &err), FLO_FAIL);
    extend(next, 0, 65);
    close_both();
}

static void what_does_not_fit_waits(void **state)
{
    (void)state;
    uint64_t a, b;
    int32_t reused;
    open_both(4);
    assert_false(kv_ledger_admit(ledger, counting, 10, 257, INT32_MAX, &a, &reused));
    assert_true(kv_ledger_admit(ledger, counting, 10, 192, INT32_MAX, &a, &reused));
    assert_false(kv_ledger_admit(ledger, counting, 10, 65, INT32_MAX, &b, &reused));
    assert_true(kv_ledger_admit(ledger, counting, 10, 64, INT32_MAX, &b, &reused));
    replay();
    extend(a, 0, 10);
    kv_ledger_retire(ledger, a, counting, 10, false); /* failed: nothing of it is kept */
    assert_int_equal(replay(), 1);
    assert_true(kv_ledger_admit(ledger, counting, 20, 192, INT32_MAX, &a, &reused));
    assert_int_equal(reused, 0);
    close_both();
}

static void there_is_a_limit_of_answers_at_a_time(void **state)
{
    (void)state;
    uint64_t s[KV_ACTIVE_MAX], more;
    int32_t reused;
    open_both(KV_ACTIVE_MAX + 10);
    for (int i = 0; i < KV_ACTIVE_MAX; i++) {
        assert_true(kv_ledger_admit(ledger, counting, 5, 6, 0, &s[i], &reused));
    }
    assert_false(kv_ledger_admit(ledger, counting, 5, 6, 0, &more, &reused));
    extend(s[3], 0, 5);
    kv_ledger_retire(ledger, s[3], counting, 5, true);
    assert_true(kv_ledger_admit(ledger, counting, 5, 6, 0, &more, &reused));
    close_both();
}

/* A request cancelled before its first step: no cache has heard of its sequence. */
static void a_sequence_that_never_ran_is_not_released(void **state)
{
    (void)state;
    uint64_t sequence;
    int32_t reused;
    open_both(4);
    for (int i = 0; i < 2 * KV_OPS_MAX; i++) {
        assert_true(kv_ledger_admit(ledger, counting, 50, 60, INT32_MAX, &sequence, &reused));
        kv_ledger_retire(ledger, sequence, counting, 0, true);
    }
    assert_int_equal(replay(), 0);
    assert_true(kv_ledger_admit(ledger, counting, 50, 256, INT32_MAX, &sequence, &reused));
    replay();
    extend(sequence, 0, 256);
    close_both();
}

/* --- anything ----------------------------------------------------------------------------------
 */

typedef struct answer {
    bool used;
    uint64_t sequence;
    int32_t n_prompt, n_max, n_done; /* positions that the cache holds */
    uint64_t keys[TOKENS_MAX];
} answer;

static answer answers[ACTIVE_MAX];

/* Prompts of few beginnings, so that many are alike for a while. */
static void draw_prompt(answer *a, uint64_t *seed)
{
    a->n_prompt = 1 + below(seed, 300);
    int32_t same = below(seed, 300), family = below(seed, 3);
    for (int32_t i = 0; i < TOKENS_MAX; i++) {
        a->keys[i] = (uint64_t)(i < same ? family * 10000 + i : below(seed, 5000));
    }
    a->n_max = a->n_prompt + below(seed, 200);
}

static void begin_answer(answer *a, uint64_t *seed, int64_t *committed)
{
    int32_t reused;
    draw_prompt(a, seed);
    int32_t reuse_max = below(seed, 3) == 0 ? below(seed, 200) : INT32_MAX;
    reuse_max = below(seed, 8) == 0 ? 0 : reuse_max;
    if (!kv_ledger_admit(ledger, a->keys, a->n_prompt, a->n_max, reuse_max, &a->sequence,
                         &reused)) {
        return;
    }
    assert_in_range(reused, 0, a->n_prompt - 1 < reuse_max ? a->n_prompt - 1 : reuse_max);
    a->used = true;
    a->n_done = reused;
    *committed += (a->n_max + KV_BLOCK - 1) / KV_BLOCK;
    assert_true(*committed <= BLOCKS); /* never more than there is, shared or not */
}

static void end_answer(answer *a, uint64_t *seed, int64_t *committed)
{
    kv_ledger_retire(ledger, a->sequence, a->keys, a->n_done, below(seed, 6) != 0);
    a->used = false;
    *committed -= (a->n_max + KV_BLOCK - 1) / KV_BLOCK;
}

static void random_requests_never_overcommit(void **state)
{
    (void)state;
    for (uint64_t s = 1; s <= 5; s++) {
        uint64_t seed = s;
        int64_t committed = 0;
        open_both(BLOCKS);
        memset(answers, 0, sizeof answers);
        for (int32_t step = 0; step < 4000; step++) {
            answer *a = &answers[below(&seed, ACTIVE_MAX)];
            if (!a->used) {
                begin_answer(a, &seed, &committed);
            } else if (below(&seed, 5) == 0) {
                end_answer(a, &seed, &committed);
            }
            if (below(&seed, 3) != 0) {
                continue;
            }
            replay(); /* a step is made: operations first, then rows of some answers */
            for (int32_t i = 0; i < ACTIVE_MAX; i++) {
                answer *b = &answers[i];
                int32_t left = b->n_max - b->n_done;
                if (b->used && left > 0 && below(&seed, 2) == 0) {
                    int32_t n = 1 + below(&seed, left);
                    extend(b->sequence, b->n_done, n);
                    b->n_done += n;
                }
            }
        }
        for (int32_t i = 0; i < ACTIVE_MAX; i++) {
            if (answers[i].used) {
                kv_ledger_retire(ledger, answers[i].sequence, answers[i].keys, answers[i].n_done,
                                 false);
            }
        }
        replay();
        close_both();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_conversation_that_goes_on_takes_its_sequence_over),
        cmocka_unit_test(the_last_token_of_a_prompt_is_always_computed),
        cmocka_unit_test(a_long_shared_beginning_is_forked_and_a_short_one_computed),
        cmocka_unit_test(no_more_is_taken_over_than_may_be),
        cmocka_unit_test(the_oldest_goes_when_room_is_needed),
        cmocka_unit_test(what_does_not_fit_waits),
        cmocka_unit_test(there_is_a_limit_of_answers_at_a_time),
        cmocka_unit_test(a_sequence_that_never_ran_is_not_released),
        cmocka_unit_test(random_requests_never_overcommit),
    };
    for (int32_t i = 0; i < TOKENS_MAX; i++) {
        counting[i] = (uint64_t)i;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

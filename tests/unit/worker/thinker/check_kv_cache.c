/*
 * check_kv_cache.c - a cache holds for each sequence what was written to it and no more, whatever
 * is extended, cut, forked and released in between; blocks are counted right, and nothing is lost.
 *
 * The model is a plain list of numbers for each sequence; thousands of random operations are done
 * on both, with a pool small enough to be full often.
 */
#include "rig.h"

#include <stdlib.h>
#include <string.h>

enum { LAYERS = 2, HEADS = 3, DIM = 4, BLOCKS = 12, NAMES = 9, LENGTH_MAX = BLOCKS * KV_BLOCK };

static kv_cache *cache_of(int32_t n_blocks)
{
    kv_cache *c;
    flo_err err;
    kv_shape shape = {LAYERS, HEADS, DIM, (int64_t)n_blocks * KV_BLOCK};
    assert_int_equal(kv_cache_new(&c, &shape, &err), FLO_OK);
    assert_int_equal(kv_cache_bytes(&shape),
                     (uint64_t)n_blocks * KV_BLOCK * LAYERS * HEADS * DIM * 2 * sizeof(float));
    assert_int_equal(kv_cache_free_blocks(c), n_blocks);
    return c;
}

typedef struct sequence { /* the model: what each position was given */
    bool used;
    int32_t length, slot;
    int32_t stamps[LENGTH_MAX];
} sequence;

static sequence sequences[NAMES];
static flo_err err;

static float number_of(int32_t stamp, int32_t layer, int32_t i)
{
    return (float)stamp + 0.25f * (float)layer + 1e6f * (float)i;
}

static void write_position(kv_cache *c, sequence *s, int32_t position, int32_t stamp)
{
    float k[HEADS * DIM], v[HEADS * DIM];
    for (int32_t l = 0; l < LAYERS; l++) {
        for (int32_t i = 0; i < HEADS * DIM; i++) {
            k[i] = number_of(stamp, l, i);
            v[i] = -number_of(stamp, l, i);
        }
        kv_cache_store(c, s->slot, l, position, k, v);
    }
    s->stamps[position] = stamp;
}

static void check_position(const kv_cache *c, const sequence *s, int32_t position)
{
    int32_t block = position / KV_BLOCK, at = position % KV_BLOCK;
    for (int32_t l = 0; l < LAYERS; l++) {
        for (int32_t h = 0; h < HEADS; h++) {
            const float *k = kv_cache_keys(c, s->slot, l, h, block);
            const float *v = kv_cache_values(c, s->slot, l, h, block);
            for (int32_t d = 0; d < DIM; d++) {
                float want = number_of(s->stamps[position], l, h * DIM + d);
                assert_true(k[d * KV_BLOCK + at] == want);
                assert_true(v[at * DIM + d] == -want);
            }
        }
    }
}

static void check_all(const kv_cache *c)
{
    for (int32_t i = 0; i < NAMES; i++) {
        /* a sequence that was never extended has no slot yet */
        for (int32_t p = 0; sequences[i].used && sequences[i].slot >= 0 && p < sequences[i].length;
             p++) {
            check_position(c, &sequences[i], p);
        }
    }
}

static void extend(kv_cache *c, int32_t name, int32_t n, int32_t *stamp)
{
    sequence *s = &sequences[name];
    int32_t length = s->used ? s->length : 0, slot;
    int32_t free_before = kv_cache_free_blocks(c);
    flo_code code = kv_cache_extend(c, (uint64_t)name, length, n, &slot, &err);
    if (code != FLO_OK) {
        assert_int_equal(kv_cache_free_blocks(c), free_before);
        int32_t more = (length + n + KV_BLOCK - 1) / KV_BLOCK - (length + KV_BLOCK - 1) / KV_BLOCK;
        assert_true(more + 1 > free_before); /* one more where a shared block would be copied */
        return;
    }
    s->used = true;
    s->slot = slot;
    s->length = length + n;
    for (int32_t p = length; p < s->length; p++) {
        write_position(c, s, p, ++*stamp);
    }
}

static void fork_to(kv_cache *c, int32_t name, int32_t source, int32_t n)
{
    int32_t before = kv_cache_free_blocks(c);
    flo_code code = kv_cache_fork(c, (uint64_t)name, (uint64_t)source, n, &err);
    bool sound = sequences[source].used && n <= sequences[source].length && !sequences[name].used;
    assert_int_equal(code == FLO_OK, sound);
    assert_int_equal(kv_cache_free_blocks(c), before);
    if (sound) {
        sequences[name] = sequences[source];
        sequences[name].length = n;
        sequences[name].slot = -1;
    }
}

static void cut(kv_cache *c, int32_t name, int32_t n)
{
    bool sound = sequences[name].used && n <= sequences[name].length;
    assert_int_equal(kv_cache_truncate(c, (uint64_t)name, n, &err) == FLO_OK, sound);
    sequences[name].length = sound ? n : sequences[name].length;
}

static void release(kv_cache *c, int32_t name)
{
    assert_int_equal(kv_cache_release(c, (uint64_t)name, &err) == FLO_OK, sequences[name].used);
    sequences[name].used = false;
}

static void random_operations_keep_every_sequence(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        uint64_t random = seed;
        int32_t stamp = 0;
        memset(sequences, 0, sizeof sequences);
        kv_cache *c = cache_of(BLOCKS);
        for (int32_t step = 0; step < 1500; step++) {
            int32_t name = rig_below(&random, NAMES), other = rig_below(&random, NAMES);
            int32_t length = sequences[name].used ? sequences[name].length : 0;
            switch (rig_below(&random, 8)) {
            case 0:
                release(c, name);
                break;
            case 1:
                cut(c, name, rig_below(&random, length + 2));
                break;
            case 2:
            case 3:
                fork_to(c, name, other, rig_below(&random, sequences[other].length + 2));
                break;
            default:
                extend(c, name, 1 + rig_below(&random, 100), &stamp);
            }
            if (step % 10 == 0) {
                check_all(c);
            }
        }
        check_all(c);
        for (int32_t i = 0; i < NAMES; i++) {
            if (sequences[i].used) {
                release(c, i);
            }
        }
        assert_int_equal(kv_cache_free_blocks(c), BLOCKS);
        kv_cache_free(c);
    }
}

static void a_span_that_does_not_continue_is_refused(void **state)
{
    (void)state;
    int32_t slot;
    kv_cache *c = cache_of(3);
    assert_int_equal(kv_cache_extend(c, 7, 1, 4, &slot, &err), FLO_FAIL); /* begins at 1 */
    assert_int_equal(kv_cache_extend(c, 7, 0, 0, &slot, &err), FLO_FAIL);
    assert_int_equal(kv_cache_extend(c, 7, 0, -5, &slot, &err), FLO_FAIL);
    assert_int_equal(kv_cache_extend(c, 7, -1, 4, &slot, &err), FLO_FAIL);
    assert_int_equal(kv_cache_extend(c, 7, 0, INT32_MAX, &slot, &err), FLO_FAIL);
    assert_int_equal(kv_cache_extend(c, 7, 0, 70, &slot, &err), FLO_OK);
    assert_int_equal(kv_cache_extend(c, 7, 69, 1, &slot, &err), FLO_FAIL); /* overlaps */
    assert_non_null(strstr(err.text, "sequence 7 holds 70 positions"));
    assert_int_equal(kv_cache_extend(c, 7, 71, 1, &slot, &err), FLO_FAIL); /* a gap */
    assert_int_equal(kv_cache_free_blocks(c), 1);
    kv_cache_free(c);
}

static void a_full_cache_says_so_and_stays_whole(void **state)
{
    (void)state;
    int32_t slot;
    kv_cache *c = cache_of(3);
    assert_int_equal(kv_cache_extend(c, 1, 0, 100, &slot, &err), FLO_OK);
    assert_int_equal(kv_cache_extend(c, 2, 0, 65, &slot, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "full"));
    assert_int_equal(kv_cache_extend(c, 2, 0, 64, &slot, &err), FLO_OK);
    assert_int_equal(kv_cache_free_blocks(c), 0);
    assert_int_equal(kv_cache_extend(c, 1, 100, 28, &slot, &err), FLO_OK); /* its last block */
    assert_int_equal(kv_cache_extend(c, 1, 128, 1, &slot, &err), FLO_FAIL);
    assert_int_equal(kv_cache_release(c, 2, &err), FLO_OK);
    assert_int_equal(kv_cache_release(c, 2, &err), FLO_FAIL);
    assert_int_equal(kv_cache_extend(c, 1, 128, 1, &slot, &err), FLO_OK);
    kv_cache_free(c);
}

static void a_shared_block_is_copied_by_its_first_writer(void **state)
{
    (void)state;
    int32_t stamp = 0;
    memset(sequences, 0, sizeof sequences);
    kv_cache *c = cache_of(4);
    extend(c, 0, 100, &stamp);
    fork_to(c, 1, 0, 80);
    assert_int_equal(kv_cache_free_blocks(c), 2);
    extend(c, 1, 1, &stamp); /* position 80 lies in the block of 64 .. 127 */
    assert_int_equal(kv_cache_free_blocks(c), 1);
    extend(c, 0, 5, &stamp); /* alone in its block again: no copy */
    assert_int_equal(kv_cache_free_blocks(c), 1);
    check_all(c);
    fork_to(c, 2, 0, 64);
    extend(c, 2, 1, &stamp); /* begins a block: nothing to copy */
    assert_int_equal(kv_cache_free_blocks(c), 0);
    fork_to(c, 3, 0, 105);
    extend(c, 3, 1, &stamp); /* no block left for the copy */
    assert_int_equal(sequences[3].length, 105);
    check_all(c);
    kv_cache_free(c);
}

static void there_is_a_limit_of_sequences(void **state)
{
    (void)state;
    int32_t slot;
    kv_cache *c = cache_of(SEQUENCES_MAX + 2);
    for (uint64_t i = 0; i < SEQUENCES_MAX; i++) {
        assert_int_equal(kv_cache_extend(c, i, 0, 1, &slot, &err), FLO_OK);
    }
    assert_int_equal(kv_cache_extend(c, SEQUENCES_MAX, 0, 1, &slot, &err), FLO_FAIL);
    assert_int_equal(kv_cache_fork(c, SEQUENCES_MAX, 3, 1, &err), FLO_FAIL);
    assert_int_equal(kv_cache_free_blocks(c), 2);
    kv_cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_keep_every_sequence),
        cmocka_unit_test(a_span_that_does_not_continue_is_refused),
        cmocka_unit_test(a_full_cache_says_so_and_stays_whole),
        cmocka_unit_test(a_shared_block_is_copied_by_its_first_writer),
        cmocka_unit_test(there_is_a_limit_of_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

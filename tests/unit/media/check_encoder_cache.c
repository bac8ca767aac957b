/*
 * check_encoder_cache.c - what was asked for last is kept, never more than the bound, and nothing
 * goes away under its users: by hand, and against a plain model over many random steps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/media/encoder_cache.h"

#include <stdbool.h>
#include <string.h>

enum { COLUMNS = 4 };

static encoder_key key_of(uint32_t id)
{
    encoder_key key = {{0}};
    memcpy(key.digest + 28, &id, sizeof id); /* all in one bucket */
    return key;
}

/* A result whose every value tells its key. */
static encoded *make(uint32_t id, int32_t n_rows)
{
    encoder_key key = key_of(id);
    encoded *e = encoded_new(&key, n_rows, COLUMNS, 1);
    assert_non_null(e);
    for (int32_t i = 0; i < 2 * n_rows * COLUMNS; i++) {
        e->rows[i] = (float)id;
    }
    return e;
}

static void check_content(const encoded *e, uint32_t id)
{
    for (int32_t i = 0; i < 2 * e->n_rows * COLUMNS; i++) {
        assert_true(e->rows[i] == (float)id);
    }
}

static void keep(encoder_cache *c, uint32_t id, int32_t n_rows)
{
    encoded *e = make(id, n_rows);
    encoder_cache_keep(c, e);
    encoded_release(e);
}

static bool has(encoder_cache *c, uint32_t id)
{
    encoder_key key = key_of(id);
    encoded *e = encoder_cache_find(c, &key);
    if (e != NULL) {
        check_content(e, id);
    }
    encoded_release(e);
    return e != NULL;
}

static uint64_t bytes_of(int32_t n_rows)
{
    return sizeof(encoded) + 2 * (uint64_t)n_rows * COLUMNS * sizeof(float);
}

static encoder_cache *new_cache(uint64_t bytes_max)
{
    encoder_cache *c = NULL;
    flo_err err = {""};
    assert_int_equal(encoder_cache_new(&c, bytes_max, &err), FLO_OK);
    assert_int_equal(encoder_cache_bytes(c), 0);
    return c;
}

static void the_one_asked_for_longest_ago_goes_first(void **state)
{
    (void)state;
    encoder_cache *c = new_cache(3 * bytes_of(5));
    keep(c, 1, 5);
    keep(c, 2, 5);
    keep(c, 3, 5);
    assert_true(has(c, 1)); /* 2 is now the oldest */
    keep(c, 4, 5);
    assert_false(has(c, 2));
    assert_true(has(c, 3));
    keep(c, 1, 5); /* kept already: asked for again */
    keep(c, 5, 5); /* 4 goes */
    assert_false(has(c, 4));
    assert_true(has(c, 1) && has(c, 3) && has(c, 5));
    encoder_cache_free(c);
}

static void the_bound_holds_to_the_byte(void **state)
{
    (void)state;
    encoder_cache *c = new_cache(bytes_of(5) + bytes_of(7));
    keep(c, 1, 5);
    assert_int_equal(encoder_cache_bytes(c), bytes_of(5));
    keep(c, 2, 7);
    assert_int_equal(encoder_cache_bytes(c), bytes_of(5) + bytes_of(7));
    assert_true(has(c, 1) && has(c, 2));
    encoder_cache_free(c);
    c = new_cache(bytes_of(5) + bytes_of(7) - 1);
    keep(c, 1, 5);
    keep(c, 2, 7);
    assert_false(has(c, 1));
    assert_true(has(c, 2));
    assert_int_equal(encoder_cache_bytes(c), bytes_of(7));
    encoder_cache_free(c);
}

static void one_larger_than_the_cache_drives_nobody_out(void **state)
{
    (void)state;
    encoder_cache *c = new_cache(2 * bytes_of(5));
    keep(c, 1, 5);
    keep(c, 2, 20);
    assert_false(has(c, 2));
    assert_true(has(c, 1));
    encoder_cache_free(c);
    c = new_cache(0);
    keep(c, 1, 1);
    assert_false(has(c, 1));
    assert_int_equal(encoder_cache_bytes(c), 0);
    encoder_cache_free(c);
}

static void what_goes_while_in_use_lives_until_the_use_ends(void **state)
{
    (void)state;
    encoder_cache *c = new_cache(bytes_of(5));
    encoded *first = make(1, 5);
    encoder_cache_keep(c, first);
    encoder_key key = key_of(1);
    encoded *again = encoder_cache_find(c, &key);
    assert_ptr_equal(again, first);
    keep(c, 2, 5);
    assert_false(has(c, 1));
    check_content(first, 1);
    encoded_release(first);
    check_content(again, 1);
    encoder_cache_keep(c, again); /* it may come back */
    assert_false(has(c, 2));
    encoder_cache_free(c);
    check_content(again, 1);
    encoded_release(again);
    encoded_release(NULL);
    encoder_cache_free(NULL);
}

static void a_second_result_of_a_key_stays_its_makers_own(void **state)
{
    (void)state;
    encoder_cache *c = new_cache(4 * bytes_of(5));
    encoded *first = make(1, 5), *second = make(1, 5);
    encoder_cache_keep(c, first);
    encoder_cache_keep(c, second);
    encoder_cache_keep(c, first);
    assert_int_equal(encoder_cache_bytes(c), bytes_of(5));
    encoder_key key = key_of(1);
    encoded *found = encoder_cache_find(c, &key);
    assert_ptr_equal(found, first);
    encoded_release(found);
    encoded_release(second);
    encoded_release(first);
    encoder_cache_free(c);
}

static void absurd_sizes_have_no_result(void **state)
{
    (void)state;
    encoder_key key = key_of(1);
    assert_null(encoded_new(&key, INT32_MAX, INT32_MAX, INT32_MAX));
    assert_null(encoded_new(&key, 1 << 20, 1 << 19, 0)); /* 2^41 bytes */
    assert_null(encoded_new(&key, INT32_MAX, 1, INT32_MAX));
}

/* The same steps on a cache and on a list of ids by age. */
typedef struct model {
    uint32_t ids[64];
    int n;
} model;

static int model_find(const model *m, uint32_t id)
{
    for (int i = 0; i < m->n; i++) {
        if (m->ids[i] == id) {
            return i;
        }
    }
    return -1;
}

static void model_use(model *m, uint32_t id, int n_max)
{
    int at = model_find(m, id);
    if (at < 0 && m->n == n_max) {
        at = 0;
    }
    if (at >= 0) {
        memmove(m->ids + at, m->ids + at + 1, (size_t)(m->n - at - 1) * sizeof m->ids[0]);
        m->n--;
    }
    m->ids[m->n++] = id;
}

static void many_random_steps_keep_what_a_plain_list_keeps(void **state)
{
    (void)state;
    for (int n_max = 1; n_max <= 20; n_max++) {
        encoder_cache *c = new_cache((uint64_t)n_max * bytes_of(3) + (uint64_t)n_max % 3);
        model m = {.n = 0};
        uint32_t seed = (uint32_t)n_max;
        for (int step = 0; step < 2000; step++) {
            seed = seed * 1664525u + 1013904223u;
            uint32_t id = seed >> 16 & 31;
            bool kept = model_find(&m, id) >= 0;
            if (seed >> 31 != 0) {
                keep(c, id, 3);
                model_use(&m, id, n_max);
            } else {
                assert_int_equal(has(c, id), kept);
                if (kept) {
                    model_use(&m, id, n_max);
                }
            }
            assert_int_equal(encoder_cache_bytes(c), (uint64_t)m.n * bytes_of(3));
        }
        encoder_cache_free(c);
    }
}

/* ---- keys ---- */

static encoder_key made_of(const void *a, size_t n_a, const void *b, size_t n_b)
{
    encoder_key key = {{0}};
    encoder_key_part parts[] = {{a, n_a}, {b, n_b}};
    flo_err err = {""};
    assert_int_equal(encoder_key_make(&key, parts, 2, &err), FLO_OK);
    return key;
}

/* Recorded with: printf '\3\0\0\0\0\0\0\0abc\0\0\0\0\0\0\0\0' | sha256sum */
static void a_key_is_sha_256_of_lengths_and_bytes(void **state)
{
    (void)state;
    static const uint8_t digest[32] = {0x3e, 0x2f, 0x89, 0x40, 0xc3, 0xa0, 0xe0, 0xfd,
                                       0x6f, 0x6e, 0x07, 0xbb, 0xf0, 0x7f, 0x01, 0x5d,
                                       0xd7, 0xc1, 0x47, 0x43, 0x1e, 0x5f, 0xa1, 0x4b,
                                       0xf3, 0xf2, 0x25, 0xd7, 0x82, 0x64, 0x15, 0x40};
    encoder_key key = made_of("abc", 3, NULL, 0);
    assert_memory_equal(key.digest, digest, sizeof digest);
}

static void keys_differ_with_every_byte_and_with_where_parts_meet(void **state)
{
    (void)state;
    encoder_key keys[] = {made_of("ab", 2, "c", 1), made_of("a", 1, "bc", 2),
                          made_of("abc", 3, "", 0), made_of("", 0, "abc", 3),
                          made_of("ab", 2, "d", 1), made_of("ab", 2, "c\0", 2)};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(&keys[i], &keys[j], sizeof keys[i]);
        }
    }
    encoder_key same = made_of("ab", 2, "c", 1);
    assert_memory_equal(&same, &keys[0], sizeof same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_one_asked_for_longest_ago_goes_first),
        cmocka_unit_test(the_bound_holds_to_the_byte),
        cmocka_unit_test(one_larger_than_the_cache_drives_nobody_out),
        cmocka_unit_test(what_goes_while_in_use_lives_until_the_use_ends),
        cmocka_unit_test(a_second_result_of_a_key_stays_its_makers_own),
        cmocka_unit_test(absurd_sizes_have_no_result),
        cmocka_unit_test(many_random_steps_keep_what_a_plain_list_keeps),
        cmocka_unit_test(a_key_is_sha_256_of_lengths_and_bytes),
        cmocka_unit_test(keys_differ_with_every_byte_and_with_where_parts_meet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

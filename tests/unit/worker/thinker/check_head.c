/*
 * check_head.c - a shortlist is the K largest logits with all ties of the K-th, in one order;
 * grains have the same bits however the vocabulary is divided; a logit that is not a number is
 * never dropped in silence.
 *
 * Logits are set by the weights: the hidden row is (1, 0, ..), so a logit is the first entry of its
 * row of the head.
 */
#include "rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 5000, HIDDEN = 8 };

typedef struct bench { /* a head alone: [n] rows of the vocabulary from `first` on */
    model_config model;
    plan_worker worker;
    stage s;
    bf16 *plain, *packed;
    arena memory;
} bench;

static flo_err err;
static float logits[VOCAB];

static bf16 narrowed(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (bf16)(bits >> 16);
}

static void bench_open(bench *b, int32_t first, int32_t n, int32_t n_threads)
{
    memset(b, 0, sizeof *b);
    b->model = rig_model();
    b->model.text.hidden_size = HIDDEN;
    b->model.text.vocab_size = VOCAB;
    b->worker = (plan_worker){.first_vocab_row = first, .n_vocab_rows = n};
    b->s.part.text = &b->model.text;
    b->s.weights.first_vocab_row = first;
    b->plain = calloc((size_t)n * HIDDEN, sizeof *b->plain);
    b->packed = aligned_alloc(64, packed_matrix_elements(n, HIDDEN) * sizeof *b->packed);
    assert_non_null(b->plain);
    assert_non_null(b->packed);
    for (int32_t i = 0; i < n; i++) {
        b->plain[i * HIDDEN] = narrowed(logits[first + i]);
    }
    matrix_pack_rows(b->packed, n, HIDDEN, b->plain, 0, n);
    b->s.weights.lm_head = (packed_matrix){b->packed, n, HIDDEN};
    assert_int_equal(thread_pool_new(&b->s.pool, n_threads, NULL, &err), FLO_OK);
    assert_int_equal(arena_open(&b->memory, head_arena_bytes(&b->worker), &err), FLO_OK);
}

static void bench_close(bench *b)
{
    thread_pool_free(b->s.pool);
    arena_close(&b->memory);
    free(b->plain);
    free(b->packed);
}

static const float *hidden_rows(void)
{
    static float rows[HEAD_ROWS_MAX * HIDDEN];
    for (int32_t r = 0; r < HEAD_ROWS_MAX; r++) {
        rows[r * HIDDEN] = 1.0f;
    }
    return rows;
}

static head_row forward_one(bench *b, int32_t top, bool sums)
{
    head_row row;
    head_want want = {.top = top, .sums = sums};
    arena_reset(&b->memory);
    head_forward(&b->s, &row, hidden_rows(), &want, 1, &b->memory);
    return row;
}

/* Multiples of 1/8: ties are many, and bf16 holds them. */
static void draw_logits(uint64_t seed, int32_t values)
{
    for (int32_t i = 0; i < VOCAB; i++) {
        logits[i] = (float)rig_below(&seed, values) / 8.0f - 2.0f;
    }
}

static void hold_to_a_sort(const head_row *row, int32_t first, int32_t n, int32_t top)
{
    int32_t above = 0, reached = 0;
    int32_t k = top < n ? top : n;
    assert_true(row->n_top >= k);
    float threshold = row->top_logits[k - 1];
    for (int32_t i = 0; i < n; i++) {
        above += logits[first + i] > threshold;
        reached += logits[first + i] >= threshold;
    }
    assert_true(above < k);
    assert_int_equal(row->n_top, reached);
    for (int32_t i = 0; i < row->n_top; i++) {
        assert_true(row->top_logits[i] == logits[row->top_ids[i]]);
        assert_in_range(row->top_ids[i], first, first + n - 1);
        if (i > 0) {
            bool falls = row->top_logits[i] < row->top_logits[i - 1];
            bool ties = row->top_logits[i] == row->top_logits[i - 1];
            assert_true(falls || (ties && row->top_ids[i] > row->top_ids[i - 1]));
        }
    }
}

static void a_shortlist_has_the_largest_with_their_ties(void **state)
{
    (void)state;
    static const int32_t tops[] = {1, 2, 3, 50, 63, 1000, 1024, VOCAB, VOCAB + 7};
    static const int32_t sizes[] = {1, 2, 63, 64, 1025, VOCAB};
    for (int32_t i = 0; i < 9; i++) {
        for (int32_t k = 0; k < 6; k++) {
            int32_t n = sizes[k], first = VOCAB - n;
            bench b;
            draw_logits((uint64_t)(i * 10 + k), k % 2 == 0 ? 128 : 3);
            bench_open(&b, first, n, 2);
            head_row row = forward_one(&b, tops[i], false);
            hold_to_a_sort(&row, first, n, tops[i]);
            assert_int_equal(row.n_grains, 0);
            bench_close(&b);
        }
    }
}

static void all_rows_may_tie_in_every_row_of_a_batch(void **state)
{
    (void)state;
    bench b;
    head_row rows[HEAD_ROWS_MAX];
    head_want wants[HEAD_ROWS_MAX];
    draw_logits(1, 1);
    for (int32_t r = 0; r < HEAD_ROWS_MAX; r++) {
        wants[r] = (head_want){.top = 1 + r * 300, .sums = r % 2 == 0};
    }
    bench_open(&b, 0, VOCAB, 2);
    head_forward(&b.s, rows, hidden_rows(), wants, HEAD_ROWS_MAX, &b.memory);
    for (int32_t r = 0; r < HEAD_ROWS_MAX; r++) {
        assert_int_equal(rows[r].n_top, VOCAB);
        assert_int_equal(rows[r].top_ids[VOCAB - 1], VOCAB - 1);
        assert_int_equal(rows[r].n_grains, wants[r].sums ? 5 : 0);
    }
    assert_true(b.memory.peak <= head_arena_bytes(&b.worker));
    bench_close(&b);
}

static void grains_have_the_same_bits_for_every_split(void **state)
{
    (void)state;
    enum { GRAINS = (VOCAB + LM_HEAD_GRAIN - 1) / LM_HEAD_GRAIN };
    float max[GRAINS], sum[GRAINS];
    bench b;
    draw_logits(2, 97);
    bench_open(&b, 0, VOCAB, 1);
    head_row whole = forward_one(&b, 1, true);
    assert_int_equal(whole.n_grains, GRAINS);
    memcpy(max, whole.grain_max, sizeof max);
    memcpy(sum, whole.grain_sum, sizeof sum);
    bench_close(&b);
    double exact = 0, told = 0;
    for (int32_t i = 0; i < VOCAB; i++) {
        exact += exp((double)logits[i]);
    }
    for (int32_t g = 0; g < GRAINS; g++) {
        told += (double)sum[g] * exp((double)max[g]);
    }
    /* 1,024 additions and one exponential each: 2 * 1024 * 2^-24, and exp_f32's few units */
    assert_true(fabs(told / exact - 1) < 2e-4);

    for (int32_t cut = 1; cut < GRAINS; cut++) { /* plans cut at whole grains */
        for (int32_t half = 0; half < 2; half++) {
            int32_t first = half == 0 ? 0 : cut * LM_HEAD_GRAIN;
            int32_t n = half == 0 ? cut * LM_HEAD_GRAIN : VOCAB - first;
            int32_t at = first / LM_HEAD_GRAIN;
            bench_open(&b, first, n, 1 + cut % 3);
            head_row part = forward_one(&b, 0, true);
            assert_int_equal(part.n_top, 0);
            assert_memory_equal(part.grain_max, max + at, (size_t)part.n_grains * sizeof *max);
            assert_memory_equal(part.grain_sum, sum + at, (size_t)part.n_grains * sizeof *sum);
            bench_close(&b);
        }
    }
}

/* Whatever place it takes among the others, somebody behind the head must see it. */
static void a_logit_that_is_no_number_is_in_every_shortlist(void **state)
{
    (void)state;
    static const int32_t places[] = {0, 1, 2, 7, 100, 4999};
    static const int32_t tops[] = {1, 2, 5, 50};
    for (int32_t i = 0; i < 6; i++) {
        for (int32_t k = 0; k < 4; k++) {
            bench b;
            draw_logits((uint64_t)i, 97);
            logits[places[i]] = NAN;
            bench_open(&b, 0, VOCAB, 1);
            head_row row = forward_one(&b, tops[k], true);
            bool seen = false;
            for (int32_t t = 0; t < row.n_top; t++) {
                seen = seen || isnan(row.top_logits[t]);
            }
            assert_true(seen);
            bench_close(&b);
        }
    }
    for (int32_t i = 0; i < VOCAB; i++) {
        logits[i] = NAN;
    }
    bench b;
    bench_open(&b, 0, VOCAB, 1);
    head_row row = forward_one(&b, 3, true);
    assert_true(row.n_top >= 1 && isnan(row.top_logits[0]));
    bench_close(&b);
}

static void infinite_logits_come_first_and_last(void **state)
{
    (void)state;
    bench b;
    draw_logits(3, 97);
    logits[77] = INFINITY;
    logits[78] = -INFINITY;
    bench_open(&b, 0, VOCAB, 1);
    head_row row = forward_one(&b, VOCAB, true);
    assert_int_equal(row.top_ids[0], 77);
    assert_int_equal(row.top_ids[row.n_top - 1], 78);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shortlist_has_the_largest_with_their_ties),
        cmocka_unit_test(all_rows_may_tie_in_every_row_of_a_batch),
        cmocka_unit_test(grains_have_the_same_bits_for_every_split),
        cmocka_unit_test(a_logit_that_is_no_number_is_in_every_shortlist),
        cmocka_unit_test(infinite_logits_come_first_and_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

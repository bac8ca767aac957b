/*
 * check_experts.c - grouping by expert changes no bit: a batch gives what each pair gives alone, on
 * any number of threads, for any subset of rows and choices; and a SwiGLU is what its formula says.
 *
 * Bound of the formula in f64: each product row is off by n u sum |w x| (see check_matmul.c), silu
 * by a few u; 1e-4 of the largest entry is well above both for inner sizes of 100.
 */
#include "rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HIDDEN = 50, SIZE = 70, EXPERTS = 6, ROWS = 40 };

static swiglu_weights experts[EXPERTS];
static float hidden[ROWS * HIDDEN];
static const expert_shape shape = {HIDDEN, SIZE, EXPERTS};
static flo_err err;

static float drawn(uint64_t *seed)
{
    return ((float)rig_below(seed, 255) - 127.0f) / 512.0f;
}

static packed_matrix random_matrix(int32_t rows, int32_t columns, uint64_t *seed)
{
    size_t n = (size_t)rows * (size_t)columns;
    bf16 *plain = malloc(n * sizeof *plain);
    bf16 *packed = aligned_alloc(64, packed_matrix_elements(rows, columns) * sizeof *packed);
    assert_non_null(plain);
    assert_non_null(packed);
    for (size_t i = 0; i < n; i++) {
        float f = drawn(seed);
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        plain[i] = (bf16)(bits >> 16);
    }
    matrix_pack_rows(packed, rows, columns, plain, 0, rows);
    free(plain);
    return (packed_matrix){packed, rows, columns};
}

static int make_experts(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int32_t e = 0; e < EXPERTS; e++) {
        experts[e].gate_up = random_matrix(2 * 2 * PANEL_ROWS, HIDDEN, &seed);
        experts[e].down = random_matrix(HIDDEN, SIZE, &seed);
    }
    for (int32_t i = 0; i < ROWS * HIDDEN; i++) {
        hidden[i] = 4.0f * drawn(&seed);
    }
    return 0;
}

static int free_experts(void **state)
{
    (void)state;
    for (int32_t e = 0; e < EXPERTS; e++) {
        free((void *)experts[e].gate_up.data);
        free((void *)experts[e].down.data);
    }
    return 0;
}

typedef struct batch_lists {
    expert_batch batch;
    int32_t row_index[ROWS], ids[ROWS * EXPERTS];
    expert_choice choices[ROWS];
    float weights[ROWS * EXPERTS];
} batch_lists;

/* Some rows of `hidden`, each with some experts in rising order; none, for some. */
static void draw_batch(batch_lists *l, uint64_t *seed)
{
    memset(l, 0, sizeof *l);
    l->batch = (expert_batch){.hidden = hidden,
                              .row_index = l->row_index,
                              .choices = l->choices,
                              .experts = l->ids,
                              .weights = l->weights};
    for (int32_t r = 0; r < ROWS; r++) {
        if (rig_below(seed, 3) == 0) {
            continue;
        }
        expert_choice *c = &l->choices[l->batch.n_rows];
        l->row_index[l->batch.n_rows++] = r;
        c->first = l->batch.n_pairs;
        for (int32_t e = 0; e < EXPERTS; e++) {
            if (rig_below(seed, 2) == 0) {
                l->weights[l->batch.n_pairs] = drawn(seed);
                l->ids[l->batch.n_pairs++] = e;
                c->n++;
            }
        }
    }
}

static void run_batch(float *out, const expert_batch *b, int32_t n_threads)
{
    thread_pool *pool;
    arena scratch;
    assert_int_equal(thread_pool_new(&pool, n_threads, NULL, &err), FLO_OK);
    assert_int_equal(arena_open(&scratch, experts_scratch_bytes(&shape, b->n_pairs), &err), FLO_OK);
    experts_forward(out, b, experts, &shape, pool, &scratch);
    assert_int_equal(scratch.used, 0);
    thread_pool_free(pool);
    arena_close(&scratch);
}

static void a_batch_gives_what_each_pair_gives_alone(void **state)
{
    (void)state;
    uint64_t seed = 2;
    static batch_lists l;
    static float together[ROWS * EXPERTS * HIDDEN], alone[HIDDEN];
    for (int32_t again = 0; again < 12; again++) {
        draw_batch(&l, &seed);
        run_batch(together, &l.batch, 1 + again % 4);
        for (int32_t r = 0; r < l.batch.n_rows; r++) {
            const expert_choice *c = &l.choices[r];
            for (int32_t j = c->first; j < c->first + c->n; j++) {
                expert_choice only = {1, 0};
                expert_batch one = {.n_rows = 1,
                                    .n_pairs = 1,
                                    .hidden = hidden + l.row_index[r] * HIDDEN,
                                    .choices = &only,
                                    .experts = &l.ids[j],
                                    .weights = &l.weights[j]};
                run_batch(alone, &one, 1);
                assert_memory_equal(alone, together + j * HIDDEN, sizeof alone);
            }
        }
    }
}

static void an_empty_batch_is_nothing(void **state)
{
    (void)state;
    expert_batch none = {.hidden = hidden};
    run_batch(NULL, &none, 2);
}

static void hold_to_formula(const float *got, const float *x, const swiglu_weights *w)
{
    double inner[SIZE], out[HIDDEN], largest = 0;
    float row[HIDDEN > SIZE ? HIDDEN : SIZE];
    for (int32_t i = 0; i < SIZE; i++) {
        double gate = 0, up = 0;
        int32_t panel = i / PANEL_ROWS * 2 * PANEL_ROWS + i % PANEL_ROWS;
        matrix_unpack_row(row, &w->gate_up, panel);
        for (int32_t k = 0; k < HIDDEN; k++) {
            gate += (double)row[k] * (double)x[k];
        }
        matrix_unpack_row(row, &w->gate_up, panel + PANEL_ROWS);
        for (int32_t k = 0; k < HIDDEN; k++) {
            up += (double)row[k] * (double)x[k];
        }
        inner[i] = gate / (1 + exp(-gate)) * up;
    }
    for (int32_t i = 0; i < HIDDEN; i++) {
        matrix_unpack_row(row, &w->down, i);
        out[i] = 0;
        for (int32_t k = 0; k < SIZE; k++) {
            out[i] += (double)row[k] * inner[k];
        }
        largest = fmax(largest, fabs(out[i]));
    }
    for (int32_t i = 0; i < HIDDEN; i++) {
        assert_true(fabs((double)got[i] - out[i]) <= 1e-4 * largest);
    }
}

static void a_swiglu_is_its_formula(void **state)
{
    (void)state;
    static float out[ROWS * HIDDEN];
    thread_pool *pool;
    arena scratch;
    expert_shape dense = {HIDDEN, SIZE, 1};
    assert_int_equal(thread_pool_new(&pool, 3, NULL, &err), FLO_OK);
    assert_int_equal(arena_open(&scratch, experts_scratch_bytes(&dense, ROWS), &err), FLO_OK);
    for (int32_t n = 1; n <= ROWS; n += 13) {
        swiglu_forward(out, hidden, n, &experts[n % EXPERTS], &dense, pool, &scratch);
        for (int32_t r = 0; r < n; r++) {
            hold_to_formula(out + r * HIDDEN, hidden + r * HIDDEN, &experts[n % EXPERTS]);
        }
    }
    thread_pool_free(pool);
    arena_close(&scratch);
}

static void sums_run_over_rising_experts(void **state)
{
    (void)state;
    float pairs[3 * HIDDEN], weights[3] = {0.1f, 0.7f, 0.2f}, got[HIDDEN], want;
    uint64_t seed = 3;
    for (int32_t i = 0; i < 3 * HIDDEN; i++) {
        pairs[i] = drawn(&seed) * 1e3f;
    }
    memset(got, 0, sizeof got);
    experts_add(got, pairs, weights, 3, HIDDEN);
    for (int32_t i = 0; i < HIDDEN; i++) {
        want = fmaf(weights[0], pairs[i], 0.0f);
        want = fmaf(weights[1], pairs[HIDDEN + i], want);
        want = fmaf(weights[2], pairs[2 * HIDDEN + i], want);
        assert_true(got[i] == want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_batch_gives_what_each_pair_gives_alone),
        cmocka_unit_test(an_empty_batch_is_nothing),
        cmocka_unit_test(a_swiglu_is_its_formula),
        cmocka_unit_test(sums_run_over_rising_experts),
    };
    return cmocka_run_group_tests(tests, make_experts, free_experts);
}

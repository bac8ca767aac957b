/*
 * check_attention.c - blocks taken one after the other give the attention of all positions at once,
 * within a derived bound; every variant gives the definition's bits at every number of positions
 * and any head_dim; what lies past n_valid is never a number.
 */
#include "cases.h"

typedef struct head_case {
    int32_t head_dim, n_positions, n_blocks;
    float *q, *k,
        *v; /* k [block][head_dim][KV_BLOCK], v [block][KV_BLOCK][head_dim]; NaN past the end */
} head_case;

static head_case head_new(int32_t head_dim, int32_t n_positions, float spread, uint64_t *seed)
{
    head_case h = {.head_dim = head_dim, .n_positions = n_positions};
    h.n_blocks = (n_positions + KV_BLOCK - 1) / KV_BLOCK;
    int32_t block = head_dim * KV_BLOCK;
    h.q = case_uniforms(head_dim, seed);
    h.k = case_uniforms(h.n_blocks * block, seed);
    h.v = case_uniforms(h.n_blocks * block, seed);
    for (int32_t d = 0; d < head_dim; d++) {
        h.q[d] *= spread;
    }
    for (int32_t p = n_positions; p < h.n_blocks * KV_BLOCK; p++) {
        int32_t b = p / KV_BLOCK;
        for (int32_t d = 0; d < head_dim; d++) {
            h.k[b * block + d * KV_BLOCK + p % KV_BLOCK] = NAN;
            h.v[b * block + p % KV_BLOCK * head_dim + d] = NAN;
        }
    }
    return h;
}

static void head_free(head_case *h)
{
    free(h->q);
    free(h->k);
    free(h->v);
}

/* All blocks in order; out is not divided by the sum. */
static attend_state attend_all(attend_block_fn *attend, const head_case *h, float *out, float scale)
{
    attend_state s = {.max = -INFINITY, .sum = 0.0f};
    memset(out, 0, (size_t)h->head_dim * sizeof *out);
    for (int32_t b = 0; b < h->n_blocks; b++) {
        int32_t left = h->n_positions - b * KV_BLOCK;
        int32_t block = h->head_dim * KV_BLOCK;
        attend(out, &s, h->q, h->k + b * block, h->v + b * block, left < KV_BLOCK ? left : KV_BLOCK,
               h->head_dim, scale);
    }
    return s;
}

static void hold_variants_to_the_definition(const head_case *h, float scale)
{
    float *want = case_floats(h->head_dim);
    float *got = case_floats(h->head_dim);
    attend_state s = attend_all(attend_block_ref, h, want, scale);
    for (int32_t d = 0; d < h->head_dim; d++) {
        assert_true(isfinite(want[d]));
    }
    for (int32_t v = 1; v < CASE_ISAS; v++) {
        const kernel_table *t = kernels_variant(case_isas[v]);
        if (t == NULL) {
            continue;
        }
        attend_state again = attend_all(t->attend_block, h, got, scale);
        case_same_bits("out", t->isa, got, want, h->head_dim);
        case_same_bits("max", t->isa, &again.max, &s.max, 1);
        case_same_bits("sum", t->isa, &again.sum, &s.sum, 1);
    }
    free(got);
    free(want);
}

static void every_variant_gives_the_bits_of_the_definition(void **state)
{
    (void)state;
    uint64_t seed = 21;
    static const int32_t dims[] = {2, 6, 8, 16, 24, 34, 64, 80, 128, 130, 200, 512};
    for (int32_t i = 0; i < 12; i++) {
        for (int32_t n = 1; n <= KV_BLOCK; n += i < 8 ? 1 : 7) {
            head_case h = head_new(dims[i], n, 1.0f, &seed);
            hold_variants_to_the_definition(&h, 0.3f);
            head_free(&h);
        }
        head_case h = head_new(dims[i], 5 * KV_BLOCK + 17, 40.0f, &seed); /* maxima that move */
        hold_variants_to_the_definition(&h, 0.7f);
        head_free(&h);
    }
}

/* Attention in f64; bound[d] is what the definition may be off by, see below. */
static void exact_attention(const head_case *h, float scale, double *out, double *bound)
{
    int32_t dim = h->head_dim;
    int32_t n = h->n_positions;
    double *score = malloc((size_t)n * sizeof *score);
    assert_non_null(score);
    double max = -1e300;
    double blur = 0.0;
    for (int32_t p = 0; p < n; p++) {
        const float *k = h->k + p / KV_BLOCK * dim * KV_BLOCK + p % KV_BLOCK;
        double dot = 0.0;
        double magnitude = 0.0;
        for (int32_t d = 0; d < dim; d++) {
            double term = (double)h->q[d] * (double)k[d * KV_BLOCK];
            dot += term;
            magnitude += fabs(term);
        }
        score[p] = dot * (double)scale;
        max = score[p] > max ? score[p] : max;
        double off = (dim + 4.0) * case_u * magnitude * (double)scale;
        blur = off > blur ? off : blur;
    }
    double sum = 0.0;
    for (int32_t d = 0; d < dim; d++) {
        out[d] = 0.0;
        bound[d] = 0.0;
    }
    for (int32_t p = 0; p < n; p++) {
        double w = exp(score[p] - max);
        sum += w;
        const float *v = h->v + p / KV_BLOCK * dim * KV_BLOCK + p % KV_BLOCK * dim;
        for (int32_t d = 0; d < dim; d++) {
            out[d] += w * (double)v[d];
            bound[d] += w * fabs((double)v[d]);
        }
    }
    /* A score is off by at most `blur`, a weight relatively by 2 blur (its own and the maximum's)
     * and 4 u of exp for each block that shrank it; the sums by one rounding a position. Numerator
     * and denominator alike: twice, and twice again for the higher orders. */
    double relative = 2.0 * blur + (6.0 * h->n_blocks + n) * case_u;
    for (int32_t d = 0; d < dim; d++) {
        out[d] /= sum;
        bound[d] = 4.0 * relative * bound[d] / sum;
    }
    free(score);
}

static void blocks_in_order_give_the_attention_of_all_positions(void **state)
{
    (void)state;
    uint64_t seed = 22;
    static const int32_t positions[] = {1, 2, 63, 64, 65, 128, 300, 1000};
    for (int32_t i = 0; i < 8; i++) {
        head_case h = head_new(128, positions[i], 2.0f, &seed);
        float out[128];
        double exact[128];
        double bound[128];
        float scale = 0.088388346f;
        attend_state s = attend_all(attend_block_ref, &h, out, scale);
        exact_attention(&h, scale, exact, bound);
        for (int32_t d = 0; d < 128; d++) {
            assert_true(fabs((double)(out[d] / s.sum) - exact[d]) <= bound[d]);
        }
        head_free(&h);
    }
}

static void one_position_returns_its_value(void **state)
{
    (void)state;
    uint64_t seed = 23;
    for (int32_t v = 0; v < CASE_ISAS; v++) {
        const kernel_table *t = kernels_variant(case_isas[v]);
        if (t == NULL) {
            continue;
        }
        head_case h = head_new(64, 1, 1.0f, &seed);
        float out[64];
        attend_state s = attend_all(t->attend_block, &h, out, 0.125f);
        assert_true(s.sum == 1.0f);
        assert_memory_equal(out, h.v, sizeof out);
        head_free(&h);
    }
}

/* All blocks of h in order for n_heads queries at once, and for each query alone. */
static void hold_heads_to_single_ones(const kernel_table *t, const head_case *h, int32_t n_heads,
                                      uint64_t *seed)
{
    int32_t dim = h->head_dim;
    int32_t block = dim * KV_BLOCK;
    float *q = case_uniforms(n_heads * dim, seed);
    float *together = case_floats(n_heads * dim);
    float *alone = case_floats(n_heads * dim);
    attend_state states[20];
    memset(together, 0, (size_t)(n_heads * dim) * sizeof *together);
    for (int32_t i = 0; i < n_heads; i++) {
        states[i] = (attend_state){.max = -INFINITY, .sum = 0.0f};
        head_case one = *h;
        one.q = q + i * dim;
        attend_all(attend_block_ref, &one, alone + i * dim, 0.4f);
    }
    for (int32_t b = 0; b < h->n_blocks; b++) {
        int32_t left = h->n_positions - b * KV_BLOCK;
        t->attend_heads(together, states, q, n_heads, h->k + b * block, h->v + b * block,
                        left < KV_BLOCK ? left : KV_BLOCK, dim, 0.4f);
    }
    case_same_bits("heads together", t->isa, together, alone, n_heads * dim);
    free(alone);
    free(together);
    free(q);
}

static void heads_together_give_the_bits_of_each_alone(void **state)
{
    (void)state;
    uint64_t seed = 25;
    static const int32_t dims[] = {6, 16, 34, 64, 128, 200};
    static const int32_t positions[] = {1, 15, 16, 33, 64, 150};
    for (int32_t v = 0; v < CASE_ISAS; v++) {
        const kernel_table *t = kernels_variant(case_isas[v]);
        for (int32_t n_heads = 0; t != NULL && n_heads <= 16; n_heads++) {
            for (int32_t i = 0; i < 6; i++) {
                head_case h = head_new(dims[(i + n_heads) % 6], positions[i], 1.0f, &seed);
                hold_heads_to_single_ones(t, &h, n_heads, &seed);
                head_free(&h);
            }
        }
    }
}

static void rates(void **state)
{
    (void)state;
    if (getenv("FLOTILLA_BENCH") == NULL) {
        skip();
    }
    enum { HEADS = 8, DIM = 128, POSITIONS = 1024, BLOCK = DIM * KV_BLOCK };
    uint64_t seed = 24;
    head_case h = head_new(DIM, POSITIONS, 1.0f, &seed); /* 1 MiB: second-level cache */
    float *q = case_uniforms(HEADS * DIM, &seed);
    float *out = case_uniforms(HEADS * DIM, &seed);
    static const int32_t n_heads[] = {1, HEADS};
    for (int32_t i = 0; i < 2 * CASE_ISAS; i++) {
        const kernel_table *t = kernels_variant(case_isas[i / 2]);
        int32_t n = n_heads[i % 2];
        double best = 1e9;
        for (int32_t again = 0; t != NULL && again < 50; again++) {
            double began = case_now_s();
            attend_state states[HEADS] = {{0}};
            for (int32_t b = 0; b < h.n_blocks; b++) {
                t->attend_heads(out, states, q, n, h.k + b * BLOCK, h.v + b * BLOCK, KV_BLOCK, DIM,
                                0.1f);
            }
            double took = case_now_s() - began;
            best = took < best ? took : best;
        }
        print_message("  %-6s %d heads over 1,024 positions of 128: %.1f GFLOP/s\n",
                      case_isas[i / 2], n, 4e-9 * POSITIONS * DIM * n / best);
    }
    free(out);
    free(q);
    head_free(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant_gives_the_bits_of_the_definition),
        cmocka_unit_test(blocks_in_order_give_the_attention_of_all_positions),
        cmocka_unit_test(one_position_returns_its_value),
        cmocka_unit_test(heads_together_give_the_bits_of_each_alone),
        cmocka_unit_test(rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

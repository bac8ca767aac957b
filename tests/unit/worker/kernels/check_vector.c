/*
 * check_vector.c - exp_f32 is within 1 ulp; norm, activation, softmax and the small ones agree with
 * f64 within derived bounds; every variant gives the definition's bits at every length; top-k
 * chooses as it says.
 *
 * u is the unit roundoff of f32. Sums of n terms in 16 lanes take n / 16 + 4 roundings each.
 */
#include "cases.h"

static const int32_t lengths[] = {0,  1,  2,  3,  7,  8,  9,   15,  16,  17,  24,
                                  31, 32, 33, 47, 63, 64, 100, 128, 255, 768, 2048};
enum { N_LENGTHS = 22 };

static double ulp_of(double exact)
{
    int e = 0;
    frexp(exact, &e);
    return ldexp(1.0, (e < -125 ? -125 : e) - 24);
}

static void exp_is_within_one_ulp(void **state)
{
    (void)state;
    double worst = 0.0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 641) {
        uint32_t b = (uint32_t)bits;
        float x;
        memcpy(&x, &b, sizeof x);
        if (!(x >= -87.0f && x <= 88.0f)) {
            continue;
        }
        double exact = exp((double)x);
        double off = fabs((double)exp_f32(x) - exact) / ulp_of(exact);
        worst = off > worst ? off : worst;
    }
    print_message("exp_f32: worst of 5 million arguments %.3f ulp\n", worst);
    assert_true(worst <= 1.0);
}

/* erfc is off by 9e-8 at most, so x/2 erfc by half of that times |x|, and a rounding or two of u
 * |x| come on top; of the tanh form exp is within 1 ulp, its argument within some u (|inner| <= 20
 * where the result is not yet x or 0), all of it relative to a result of at most |x|. */
static void gelus_are_what_they_say(void **state)
{
    (void)state;
    double worst_erf = 0.0, worst_tanh = 0.0;
    for (int32_t i = -1200000; i <= 1200000; i++) {
        float x = (float)i * 1e-5f;
        double v = (double)x, size = fabs(v) > 1e-30 ? fabs(v) : 1e-30;
        double erf_form = 0.5 * v * erfc(-v / sqrt(2.0));
        double tanh_form = 0.5 * v * (1.0 + tanh(sqrt(2.0 / M_PI) * (v + 0.044715 * v * v * v)));
        double off = fabs((double)gelu_erf_f32(x) - erf_form) / size;
        worst_erf = off > worst_erf ? off : worst_erf;
        off = fabs((double)gelu_tanh_f32(x) - tanh_form) / size;
        worst_tanh = off > worst_tanh ? off : worst_tanh;
    }
    print_message("gelu: worst error over |x|: erf %.3g, tanh %.3g\n", worst_erf, worst_tanh);
    assert_true(worst_erf <= 0.5 * 9e-8 + 2 * case_u);
    assert_true(worst_tanh <= 8 * case_u);
    assert_true(gelu_erf_f32(0.0f) == 0.0f && gelu_tanh_f32(0.0f) == 0.0f);
    assert_true(gelu_erf_f32(30.0f) == 30.0f && gelu_tanh_f32(30.0f) == 30.0f);
    assert_true(gelu_erf_f32(-1e30f) == 0.0f && gelu_tanh_f32(-1e30f) == 0.0f);
    assert_true(isnan(gelu_erf_f32(NAN)) && isnan(gelu_tanh_f32(NAN)));
}

static void exp_keeps_its_ends(void **state)
{
    (void)state;
    assert_true(exp_f32(0.0f) == 1.0f && exp_f32(-0.0f) == 1.0f);
    assert_true(exp_f32(-INFINITY) == 0.0f && exp_f32(-103.98f) == 0.0f);
    assert_true(exp_f32(-1e30f) == 0.0f);
    assert_true(isinf(exp_f32(INFINITY)) && isinf(exp_f32(88.73f)) && isinf(exp_f32(3e38f)));
    assert_true(isfinite(exp_f32(88.722f)));
    assert_true(isnan(exp_f32(NAN)));
    /* Subnormal results: within one step of the exact one. */
    for (float x = -103.9f; x < -87.3f; x += 0.001f) {
        assert_true(fabs((double)exp_f32(x) - exp((double)x)) <= 0x1p-149);
    }
}

typedef void row_case(const kernel_table *t, const kernel_table *ref, int32_t n, uint64_t *seed);

static void for_each_variant_and_length(row_case *hold)
{
    uint64_t seed = 11;
    for (int32_t v = 1; v < CASE_ISAS; v++) {
        const kernel_table *t = kernels_variant(case_isas[v]);
        for (int32_t i = 0; t != NULL && i < N_LENGTHS; i++) {
            for (int32_t again = 0; again < 4; again++) {
                hold(t, kernels_variant("ref"), lengths[i], &seed);
            }
        }
    }
}

static void hold_rms_norm(const kernel_table *t, const kernel_table *ref, int32_t n, uint64_t *seed)
{
    float *x = case_uniforms(n, seed);
    float *weight = case_uniforms(n, seed);
    float *want = case_floats(n);
    ref->rms_norm(want, x, weight, n, 1e-6f);
    t->rms_norm(x, x, weight, n, 1e-6f); /* in place */
    case_same_bits("rms_norm", t->isa, x, want, n);
    free(want);
    free(weight);
    free(x);
}

static void hold_silu_mul(const kernel_table *t, const kernel_table *ref, int32_t n, uint64_t *seed)
{
    float *gate = case_uniforms(n, seed);
    float *up = case_uniforms(n, seed);
    float *want = case_floats(n);
    for (int32_t i = 0; i < n; i++) {
        gate[i] = gate[i] * 120.0f; /* exp(-gate) from 0 to inf */
    }
    ref->silu_mul(want, gate, up, n);
    t->silu_mul(gate, gate, up, n);
    case_same_bits("silu_mul", t->isa, gate, want, n);
    free(want);
    free(up);
    free(gate);
}

static void hold_layer_norm(const kernel_table *t, const kernel_table *ref, int32_t n,
                            uint64_t *seed)
{
    if (n == 0) {
        return;
    }
    float *x = case_uniforms(n, seed);
    float *weight = case_uniforms(n, seed);
    float *bias = case_uniforms(n, seed);
    float *want = case_floats(n);
    ref->layer_norm(want, x, weight, bias, n, 1e-5f);
    t->layer_norm(x, x, weight, bias, n, 1e-5f); /* in place */
    case_same_bits("layer_norm", t->isa, x, want, n);
    free(want);
    free(bias);
    free(weight);
    free(x);
}

static void hold_gelus(const kernel_table *t, const kernel_table *ref, int32_t n, uint64_t *seed)
{
    float *x = case_uniforms(n, seed);
    float *bias = case_uniforms(n, seed);
    for (int32_t i = 0; i < n; i++) {
        x[i] = x[i] * 12.0f; /* past both ends of the curve */
    }
    for (int32_t with_bias = 0; with_bias < 2; with_bias++) {
        float *want = case_copy(x, n), *got = case_copy(x, n);
        ref->gelu_erf(want, with_bias ? bias : NULL, n);
        t->gelu_erf(got, with_bias ? bias : NULL, n);
        case_same_bits("gelu_erf", t->isa, got, want, n);
        ref->gelu_tanh(want, with_bias ? bias : NULL, n);
        t->gelu_tanh(got, with_bias ? bias : NULL, n);
        case_same_bits("gelu_tanh", t->isa, got, want, n);
        free(want);
        free(got);
    }
    free(bias);
    free(x);
}

static void hold_softmax(const kernel_table *t, const kernel_table *ref, int32_t n, uint64_t *seed)
{
    if (n == 0) {
        return;
    }
    float *x = case_uniforms(n, seed);
    float scale = (float)(case_next(seed) % 120);
    for (int32_t i = 0; i < n; i++) {
        x[i] = i > 0 && case_next(seed) % 9 == 0 ? -INFINITY : x[i] * scale;
    }
    float *want = case_copy(x, n);
    ref->softmax(want, n);
    t->softmax(x, n);
    case_same_bits("softmax", t->isa, x, want, n);
    free(want);
    free(x);
}

static void hold_axpy_and_add(const kernel_table *t, const kernel_table *ref, int32_t n,
                              uint64_t *seed)
{
    float *x = case_floats(n);
    float *y = case_floats(n);
    for (int32_t i = 0; i < n; i++) {
        x[i] = case_wild(seed);
        y[i] = case_wild(seed);
    }
    float *want = case_copy(y, n);
    ref->axpy(want, 0.7f, x, n);
    t->axpy(y, 0.7f, x, n);
    case_same_bits("axpy", t->isa, y, want, n);
    ref->add(want, x, n);
    t->add(y, x, n);
    case_same_bits("add", t->isa, y, want, n);
    free(want);
    free(y);
    free(x);
}

static void hold_rope(const kernel_table *t, const kernel_table *ref, int32_t half, uint64_t *seed)
{
    float *x = case_uniforms(2 * half, seed);
    float *cosines = case_uniforms(half, seed);
    float *sines = case_uniforms(half, seed);
    float *want = case_copy(x, 2 * half);
    ref->rope_rotate(want, cosines, sines, half);
    t->rope_rotate(x, cosines, sines, half);
    case_same_bits("rope_rotate", t->isa, x, want, 2 * half);
    free(want);
    free(sines);
    free(cosines);
    free(x);
}

static void hold_bf16_widen(const kernel_table *t, const kernel_table *ref, int32_t n,
                            uint64_t *seed)
{
    char *raw = malloc((size_t)n * sizeof(bf16) + 1); /* rows at odd addresses */
    assert_non_null(raw);
    const void *row = raw + 1;
    for (int32_t i = 0; i < 2 * n; i++) {
        raw[1 + i] = (char)case_next(seed);
    }
    float *want = case_floats(n);
    float *got = case_floats(n);
    ref->bf16_widen(want, row, n);
    t->bf16_widen(got, row, n);
    assert_memory_equal(got, want, (size_t)n * sizeof(float)); /* NaN payloads too */
    free(got);
    free(want);
    free(raw);
}

static void every_variant_gives_the_bits_of_the_definition(void **state)
{
    (void)state;
    for_each_variant_and_length(hold_rms_norm);
    for_each_variant_and_length(hold_layer_norm);
    for_each_variant_and_length(hold_gelus);
    for_each_variant_and_length(hold_silu_mul);
    for_each_variant_and_length(hold_softmax);
    for_each_variant_and_length(hold_axpy_and_add);
    for_each_variant_and_length(hold_rope);
    for_each_variant_and_length(hold_bf16_widen);
}

/* Rows of 4,095 arguments through softmax, whose largest is 0: their exponentials over one sum. */
static void variants_follow_exp_over_its_whole_range(void **state)
{
    (void)state;
    enum { ROW = 4096 };
    const kernel_table *ref = kernels_variant("ref");
    float *want = case_floats(ROW);
    float *got = case_floats(ROW);
    float *ones = case_floats(ROW);
    for (int32_t v = 1; v < CASE_ISAS; v++) {
        const kernel_table *t = kernels_variant(case_isas[v]);
        for (uint64_t bits = 0; t != NULL && bits <= UINT32_MAX; bits += (uint64_t)ROW * 1543) {
            for (int32_t i = 0; i < ROW; i++) {
                uint32_t b = (uint32_t)(bits + (uint64_t)i * 1543);
                memcpy(&got[i], &b, sizeof b);
                ones[i] = 1.0f;
            }
            ref->silu_mul(want, got, ones, ROW);
            t->silu_mul(ones, got, ones, ROW);
            case_same_bits("silu_mul", t->isa, ones, want, ROW);
            for (int32_t i = 0; i < ROW; i++) {
                got[i] = isnan(got[i]) ? 0.0f : -fabsf(got[i]);
            }
            got[ROW / 2] = 0.0f;
            memcpy(want, got, ROW * sizeof *want);
            ref->softmax(want, ROW);
            t->softmax(got, ROW);
            case_same_bits("softmax", t->isa, got, want, ROW);
        }
    }
    free(ones);
    free(got);
    free(want);
}

/* s has relative error (n / 16 + 4) u from the sum (all terms positive), halved by the root, then 4
 * roundings; the two products add 2: (n / 32 + 8) u is above it. */
static void rms_norm_is_within_its_bound(void **state)
{
    (void)state;
    uint64_t seed = 12;
    for (int32_t i = 1; i < N_LENGTHS; i++) {
        int32_t n = lengths[i];
        float *x = case_uniforms(n, &seed);
        float *weight = case_uniforms(n, &seed);
        float *out = case_floats(n);
        rms_norm_ref(out, x, weight, n, 1e-6f);
        double squares = 0.0;
        for (int32_t k = 0; k < n; k++) {
            squares += (double)x[k] * (double)x[k];
        }
        double scale = 1.0 / sqrt(squares / n + (double)1e-6f);
        for (int32_t k = 0; k < n; k++) {
            double exact = (double)x[k] * scale * (double)weight[k];
            assert_true(fabs((double)out[k] - exact) <= (n / 32.0 + 8.0) * case_u * fabs(exact));
        }
        free(out);
        free(weight);
        free(x);
    }
}

/* exp within 1 ulp = 2 u, three more roundings: 8 u is above it. */
/* The mean and the spread are sums of n terms in lanes; what is off in the mean counts against the
 * mean size of x. */
static void layer_norm_is_within_its_bound(void **state)
{
    (void)state;
    uint64_t seed = 14;
    for (int32_t i = 1; i < N_LENGTHS; i++) {
        int32_t n = lengths[i];
        float *x = case_uniforms(n, &seed);
        float *weight = case_uniforms(n, &seed);
        float *bias = case_uniforms(n, &seed);
        float *out = case_floats(n);
        layer_norm_ref(out, x, weight, bias, n, 1e-6f);
        double sum = 0.0, size = 0.0, squares = 0.0;
        for (int32_t k = 0; k < n; k++) {
            sum += (double)x[k];
            size += fabs((double)x[k]) / n;
        }
        for (int32_t k = 0; k < n; k++) {
            squares += ((double)x[k] - sum / n) * ((double)x[k] - sum / n);
        }
        double scale = 1.0 / sqrt(squares / n + (double)1e-6f);
        for (int32_t k = 0; k < n; k++) {
            double off = (double)x[k] - sum / n, w = (double)weight[k] * scale;
            double room = (n / 16.0 + 16.0) * case_u *
                          (fabs(off * w) + size * fabs(w) + fabs((double)bias[k]));
            assert_true(fabs((double)out[k] - (off * w + (double)bias[k])) <= room);
        }
        free(out);
        free(bias);
        free(weight);
        free(x);
    }
}

static void silu_is_within_its_bound(void **state)
{
    (void)state;
    uint64_t seed = 13;
    for (int32_t i = 0; i < 20000; i++) {
        float gate = case_uniform(&seed) * 30.0f;
        float up = case_uniform(&seed);
        float out;
        silu_mul_ref(&out, &gate, &up, 1);
        double exact = (double)gate / (1.0 + exp(-(double)gate)) * (double)up;
        assert_true(fabs((double)out - exact) <= 8.0 * case_u * fabs(exact));
    }
}

/* The difference x - max is rounded: u |x - max| in the exponent; exp adds 4 u at most; the sum all
 * that and n / 16 + 4; the quotient 1. */
static void softmax_is_within_its_bound_and_sums_to_one(void **state)
{
    (void)state;
    uint64_t seed = 14;
    for (int32_t i = 1; i < N_LENGTHS; i++) {
        int32_t n = lengths[i];
        float *x = case_uniforms(n, &seed);
        float *out = case_floats(n);
        for (int32_t k = 0; k < n; k++) {
            x[k] = x[k] * 20.0f;
            out[k] = x[k];
        }
        softmax_ref(out, n);
        double sum = 0.0;
        double total = 0.0;
        for (int32_t k = 0; k < n; k++) {
            sum += exp((double)x[k]);
            total += (double)out[k];
        }
        double bound = (2 * (40.0 + 4.0) + n / 16.0 + 5.0) * case_u;
        for (int32_t k = 0; k < n; k++) {
            double exact = exp((double)x[k]) / sum;
            assert_true(fabs((double)out[k] - exact) <= bound * exact);
        }
        assert_true(fabs(total - 1.0) <= bound);
        free(out);
        free(x);
    }
}

/* Each product rounded, then their sum: what plain f32 code gives, two roundings in f64 emulate it.
 */
static void rope_rounds_each_product_then_the_sum(void **state)
{
    (void)state;
    uint64_t seed = 15;
    for (int32_t i = 0; i < 5000; i++) {
        float a = case_uniform(&seed);
        float b = case_uniform(&seed);
        float c = case_uniform(&seed);
        float s = case_uniform(&seed);
        float x[2] = {a, b};
        rope_rotate_ref(x, &c, &s, 1);
        float ac = (float)((double)a * (double)c);
        float bs = (float)((double)b * (double)s);
        float bc = (float)((double)b * (double)c);
        float as = (float)((double)a * (double)s);
        assert_true(x[0] == (float)((double)ac - (double)bs));
        assert_true(x[1] == (float)((double)bc + (double)as));
    }
}

/* The definition by exhaustive search: count who stands before whom. */
static void hold_top_k(const float *p, int32_t n, int32_t k)
{
    float weights[64];
    int32_t ids[64];
    router_top_k(weights, ids, p, n, k, false);
    for (int32_t id = 0; id < n; id++) {
        int32_t before = 0;
        for (int32_t other = 0; other < n; other++) {
            before += p[other] > p[id] || (p[other] == p[id] && other < id);
        }
        if (before < k) {
            assert_int_equal(ids[before], id);
            assert_true(weights[before] == p[id]);
        }
    }
    float normalised[64];
    router_top_k(normalised, ids, p, n, k, true);
    float sum = 0.0f;
    for (int32_t i = 0; i < k; i++) {
        sum += weights[i];
    }
    for (int32_t i = 0; i < k; i++) {
        assert_true(normalised[i] == weights[i] / sum);
    }
}

static void top_k_takes_the_largest_and_of_equals_the_first(void **state)
{
    (void)state;
    uint64_t seed = 16;
    float p[300];
    for (int32_t again = 0; again < 2000; again++) {
        int32_t n = 1 + (int32_t)(case_next(&seed) % 150);
        int32_t k = 1 + (int32_t)(case_next(&seed) % (uint64_t)(n < 64 ? n : 64));
        int32_t levels = again % 2 == 0 ? 5 : 1000000; /* many ties, or hardly any */
        for (int32_t i = 0; i < n; i++) {
            p[i] = (float)(1 + case_next(&seed) % (uint64_t)levels) / (float)levels;
        }
        hold_top_k(p, n, k);
    }
}

static void top_k_gives_different_ids_even_for_nan(void **state)
{
    (void)state;
    float p[16];
    for (int32_t i = 0; i < 16; i++) {
        p[i] = i % 3 == 0 ? 0.5f : NAN;
    }
    float weights[8];
    int32_t ids[8];
    router_top_k(weights, ids, p, 16, 8, true);
    for (int32_t i = 0; i < 8; i++) {
        assert_true(ids[i] >= 0 && ids[i] < 16);
        for (int32_t j = 0; j < i; j++) {
            assert_int_not_equal(ids[i], ids[j]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exp_is_within_one_ulp),
        cmocka_unit_test(exp_keeps_its_ends),
        cmocka_unit_test(every_variant_gives_the_bits_of_the_definition),
        cmocka_unit_test(variants_follow_exp_over_its_whole_range),
        cmocka_unit_test(rms_norm_is_within_its_bound),
        cmocka_unit_test(layer_norm_is_within_its_bound),
        cmocka_unit_test(gelus_are_what_they_say),
        cmocka_unit_test(silu_is_within_its_bound),
        cmocka_unit_test(softmax_is_within_its_bound_and_sums_to_one),
        cmocka_unit_test(rope_rounds_each_product_then_the_sum),
        cmocka_unit_test(top_k_takes_the_largest_and_of_equals_the_first),
        cmocka_unit_test(top_k_gives_different_ids_even_for_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * check_sound.c - the square of the sine is what it says from zero to far beyond any activation;
 * the vocoder's other kernels agree with f64 within derived bounds; every variant gives the
 * definition's bits at every length, in place too.
 *
 * u is the unit roundoff of f32.
 */
#include "cases.h"

static const int32_t lengths[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 96, 100, 255, 672};
enum { N_LENGTHS = 17, TAPS = 7 };

/* Each of the three steps of r leaves a rounding of r, the first also one of n times pi's middle
 * part, which is e or less; the polynomial is off by a seventieth of u, its evaluation by less than
 * 2 u. The square has twice all that and a rounding of its own. */
static void hold_sine(float z)
{
    double sine = sin((double)z), exact = sine * sine, e = case_u * fabs((double)z) * 0x1p-25;
    double off = fabs((double)sine_squared_f32(z) - exact);
    double room = 11 * case_u * exact + 2 * fabs(sine) * e + e * e + 0x1p-149;
    if (!(off <= room)) {
        fail_msg("sine_squared_f32(%a) is off by %g, allowed are %g", (double)z, off, room);
    }
}

static void the_sine_is_within_its_bound_up_to_large_arguments(void **state)
{
    (void)state;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 1283) {
        uint32_t b = (uint32_t)bits;
        float z;
        memcpy(&z, &b, sizeof z);
        if (fabsf(z) < 0x1p+23f) {
            hold_sine(z);
        }
    }
    for (int32_t n = -1000000; n <= 1000000; n += 7) { /* near its zeros and tops */
        hold_sine((float)(n * (M_PI / 2)));
    }
}

static void the_sine_keeps_its_ends(void **state)
{
    (void)state;
    assert_true(sine_squared_f32(0.0f) == 0.0f && sine_squared_f32(-0.0f) == 0.0f);
    assert_true(sine_squared_f32(0x1p+23f) == 0.0f && sine_squared_f32(-3e38f) == 0.0f);
    assert_true(sine_squared_f32(INFINITY) == 0.0f && sine_squared_f32(-INFINITY) == 0.0f);
    assert_true(isnan(sine_squared_f32(NAN)));
    hold_sine(nextafterf(0x1p+23f, 0.0f));
    hold_sine(-nextafterf(0x1p+23f, 0.0f));
}

static float *wild(int32_t n, uint64_t *seed)
{
    static const float ends[] = {INFINITY, -INFINITY, NAN, 3e38f, 0x1p+23f, -0.0f, 1e6f, -1.0f};
    float *x = case_floats(n);
    for (int32_t i = 0; i < n; i++) {
        uint64_t kind = case_next(seed) % 40;
        x[i] = kind < 8 ? ends[kind] : case_wild(seed);
    }
    return x;
}

static void hold_snake(const kernel_table *t, const kernel_table *ref, int32_t n, uint64_t *seed)
{
    float *x = wild(n, seed), *a = case_uniforms(n, seed), *b = case_uniforms(n, seed);
    float *want = case_floats(n), *got = case_floats(n);
    ref->snake(want, x, a, b, n);
    t->snake(got, x, a, b, n);
    case_same_bits("snake", t->isa, got, want, n);
    memcpy(got, x, (size_t)n * sizeof *x);
    t->snake(got, got, a, b, n);
    case_same_bits("snake in place", t->isa, got, want, n);
    free(got);
    free(want);
    free(b);
    free(a);
    free(x);
}

static void hold_channel_taps(const kernel_table *t, const kernel_table *ref, int32_t n,
                              uint64_t *seed)
{
    float *x = wild(TAPS * n, seed), *w = case_uniforms(TAPS * n, seed);
    float *bias = case_uniforms(n, seed), *want = case_floats(n), *got = case_floats(n);
    ref->channel_taps(want, x, w, bias, TAPS, n);
    t->channel_taps(got, x, w, bias, TAPS, n);
    case_same_bits("channel_taps", t->isa, got, want, n);
    free(got);
    free(want);
    free(bias);
    free(w);
    free(x);
}

static void hold_scaled_add_and_clamp(const kernel_table *t, const kernel_table *ref, int32_t n,
                                      uint64_t *seed)
{
    float *x = wild(n, seed), *scale = case_uniforms(n, seed);
    float *want = case_uniforms(n, seed), *got = case_copy(want, n);
    ref->scaled_add(want, scale, x, n);
    t->scaled_add(got, scale, x, n);
    case_same_bits("scaled_add", t->isa, got, want, n);
    ref->clamp(want, x, n);
    t->clamp(got, x, n);
    case_same_bits("clamp", t->isa, got, want, n);
    t->clamp(x, x, n);
    case_same_bits("clamp in place", t->isa, x, want, n);
    free(got);
    free(want);
    free(scale);
    free(x);
}

/* Rows that overlap, as the last convolution has them. */
static void hold_dot_rows(const kernel_table *t, const kernel_table *ref, int32_t n, uint64_t *seed)
{
    enum { ROWS = 11, STRIDE = 5 };
    float *x = case_uniforms(n + (ROWS - 1) * STRIDE, seed), *w = case_uniforms(n, seed);
    float want[ROWS], got[ROWS];
    ref->dot_rows(want, x, STRIDE, ROWS, w, n, 0.3f);
    t->dot_rows(got, x, STRIDE, ROWS, w, n, 0.3f);
    case_same_bits("dot_rows", t->isa, got, want, ROWS);
    t->dot_rows(got, x, STRIDE, 0, w, n, 0.7f); /* writes nothing */
    case_same_bits("dot_rows", t->isa, got, want, ROWS);
    free(w);
    free(x);
}

static void every_variant_gives_the_bits_of_the_definition(void **state)
{
    (void)state;
    const kernel_table *ref = kernels_variant("ref");
    uint64_t seed = 21;
    for (int32_t v = 1; v < CASE_ISAS; v++) {
        const kernel_table *t = kernels_variant(case_isas[v]);
        for (int32_t i = 0; t != NULL && i < N_LENGTHS; i++) {
            for (int32_t again = 0; again < 4; again++) {
                hold_snake(t, ref, lengths[i], &seed);
                hold_channel_taps(t, ref, lengths[i], &seed);
                hold_scaled_add_and_clamp(t, ref, lengths[i], &seed);
                hold_dot_rows(t, ref, lengths[i], &seed);
            }
        }
    }
}

/* A product's rounding is u of the argument, which the sine passes on with slope 2 at most. */
static void snake_is_within_its_bound(void **state)
{
    (void)state;
    uint64_t seed = 22;
    for (int32_t i = 0; i < 200000; i++) {
        float x = case_uniform(&seed) * 30.0f, a = case_uniform(&seed) * 20.0f;
        float b = case_uniform(&seed) * 3.0f, out;
        snake_ref(&out, &x, &a, &b, 1);
        double z = (double)x * (double)a, sine = sin(z),
               exact = (double)x + sine * sine * (double)b;
        double room = case_u * (fabs(exact) + fabs((double)b) * (2 * fabs(z) + 8));
        assert_true(fabs((double)out - exact) <= room);
    }
}

/* n terms with one rounding each, in 16 lanes of n / 16 + 4. */
static void dot_and_taps_are_within_their_bounds(void **state)
{
    (void)state;
    uint64_t seed = 23;
    for (int32_t i = 0; i < N_LENGTHS; i++) {
        int32_t n = lengths[i];
        float *x = case_uniforms(TAPS * n, &seed), *w = case_uniforms(TAPS * n, &seed);
        float *out = case_floats(n), bias = case_uniform(&seed), dot;
        dot_rows_ref(&dot, x, 1, 1, w, n, bias);
        double exact = (double)bias, size = fabs((double)bias);
        for (int32_t k = 0; k < n; k++) {
            exact += (double)x[k] * (double)w[k];
            size += fabs((double)x[k] * (double)w[k]);
        }
        assert_true(fabs((double)dot - exact) <= (n / 16.0 + 6) * case_u * size);
        channel_taps_ref(out, x, w, w, TAPS, n);
        for (int32_t k = 0; k < n; k++) {
            exact = (double)w[k];
            size = fabs(exact);
            for (int32_t j = 0; j < TAPS; j++) {
                double term = (double)x[j * n + k] * (double)w[j * n + k];
                exact += term;
                size += fabs(term);
            }
            assert_true(fabs((double)out[k] - exact) <= TAPS * case_u * size);
        }
        free(out);
        free(w);
        free(x);
    }
}

static void clamp_holds_to_one_and_keeps_what_is_no_number(void **state)
{
    (void)state;
    float x[] = {-2.0f, -1.0f, -0.5f, 0.0f, 1.0f, 1.0000001f, INFINITY, -INFINITY, NAN};
    clamp_ref(x, x, 9);
    const float want[] = {-1, -1, -0.5f, 0, 1, 1, 1, -1};
    assert_memory_equal(x, want, sizeof want);
    assert_true(isnan(x[8]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_sine_is_within_its_bound_up_to_large_arguments),
        cmocka_unit_test(the_sine_keeps_its_ends),
        cmocka_unit_test(every_variant_gives_the_bits_of_the_definition),
        cmocka_unit_test(snake_is_within_its_bound),
        cmocka_unit_test(dot_and_taps_are_within_their_bounds),
        cmocka_unit_test(clamp_holds_to_one_and_keeps_what_is_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * check_verify_compare.c - a comparison lets pass what is within |got - want| <= atol + rtol |want|
 * and nothing else: no NaN, no other shape, no integer that is nearly right.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/verify_compare.h"

#include <math.h>

static void assert_near(double got, double want, double within)
{
    if (!(fabs(got - want) <= within)) {
        fail_msg("%g, expected %g", got, want);
    }
}

static tensor_view reals(const float *data, int64_t rows, int64_t columns)
{
    return (tensor_view){.dtype = DTYPE_F32, .n_dims = 2, .shape = {rows, columns}, .data = data};
}

static tensor_view integers(const int32_t *data, int64_t n)
{
    return (tensor_view){.dtype = DTYPE_I32, .n_dims = 1, .shape = {n}, .data = data};
}

static comparison compare_reals(const float *got, const float *want, int64_t n, double atol,
                                double rtol)
{
    comparison c;
    tensor_view a = reals(got, 1, n), b = reals(want, 1, n);
    tensor_compare(&c, &a, &b, atol, rtol);
    return c;
}

static void equal_numbers_use_nothing_of_the_allowance(void **state)
{
    (void)state;
    const float x[] = {0.0f, -1.5f, 3e30f};
    comparison c = compare_reals(x, x, 3, 0, 0);
    assert_true(c.comparable && !c.exact && !c.over);
    assert_true(c.largest == 0 && c.relative == 0 && c.used == 0 && c.n_over == 0);
}

static void an_error_is_held_against_atol_and_rtol_together(void **state)
{
    (void)state;
    const float want[] = {100.0f, 0.0f}, near[] = {100.19f, 0.09f}, far[] = {100.25f, 0.09f};
    comparison c = compare_reals(near, want, 2, 0.1, 0.001); /* 0.2 and 0.1 are allowed */
    assert_false(c.over);
    assert_near(c.used, 0.95, 1e-3);
    c = compare_reals(far, want, 2, 0.1, 0.001);
    assert_true(c.over);
    assert_int_equal(c.n_over, 1);
    assert_int_equal(c.worst, 0);
    assert_near(c.want_at, 100, 0);
}

static void the_largest_and_the_worst_error_may_be_at_different_places(void **state)
{
    (void)state;
    const float want[] = {1000.0f, 0.0f}, got[] = {1000.5f, 0.02f};
    comparison c = compare_reals(got, want, 2, 0.01, 0.001);
    assert_near(c.largest, 0.5, 1e-3);
    assert_near(c.relative, 0.5 / (1000 / sqrt(2)), 1e-6);
    assert_near(c.used, 2, 1e-3);
    assert_int_equal(c.worst, 1);
}

static void a_nan_on_either_side_is_over(void **state)
{
    (void)state;
    const float number[] = {1.0f, 2.0f}, bad[] = {1.0f, NAN};
    assert_true(compare_reals(bad, number, 2, 1e9, 1e9).over);
    assert_true(compare_reals(number, bad, 2, 1e9, 1e9).over);
    comparison c = compare_reals(bad, bad, 2, 1e9, 1e9);
    assert_true(c.over && c.n_over == 1 && isinf(c.largest));
    assert_int_equal(c.worst, 1);
}

static void an_infinity_is_over_unless_it_is_the_same(void **state)
{
    (void)state;
    const float number[] = {1.0f}, plus[] = {INFINITY}, minus[] = {-INFINITY};
    assert_true(compare_reals(plus, number, 1, 1e9, 1e9).over);
    assert_true(compare_reals(number, plus, 1, 1e9, 1e9).over);
    assert_true(compare_reals(minus, plus, 1, 1e9, 1e9).over);
    assert_false(compare_reals(plus, plus, 1, 0, 0).over);
}

static void without_tolerance_any_error_is_over(void **state)
{
    (void)state;
    const float want[] = {1.0f}, got[] = {1.0000001f};
    comparison c = compare_reals(got, want, 1, 0, 0);
    assert_true(c.over && isinf(c.used));
}

static void other_shapes_are_not_comparable(void **state)
{
    (void)state;
    const float x[6] = {0};
    comparison c;
    tensor_view a = reals(x, 2, 3), b = reals(x, 3, 2), flat = reals(x, 1, 6);
    flat.n_dims = 1;
    flat.shape[0] = 6;
    tensor_compare(&c, &a, &b, 1, 1);
    assert_true(c.over && !c.comparable);
    tensor_compare(&c, &a, &flat, 1, 1);
    assert_true(c.over && !c.comparable);
}

static void integers_are_exact_whatever_is_allowed(void **state)
{
    (void)state;
    const int32_t want[] = {5, 6, 7}, got[] = {5, 9, 7};
    comparison c;
    tensor_view a = integers(got, 3), b = integers(want, 3);
    tensor_compare(&c, &a, &b, 1e9, 1e9);
    assert_true(c.exact && c.over && c.n_over == 1);
    assert_near(c.largest, 3, 0);
    assert_int_equal(c.worst, 1);
    assert_near(c.got_at, 9, 0);
    tensor_compare(&c, &b, &b, 0, 0);
    assert_true(c.exact && !c.over);
}

static void integers_of_different_width_are_compared_by_value(void **state)
{
    (void)state;
    const int32_t narrow[] = {-1, 200};
    const int64_t wide[] = {-1, 200}, large[] = {-1, INT64_C(200) + (INT64_C(1) << 32)};
    const uint8_t bytes[] = {255, 200};
    comparison c;
    tensor_view a = integers(narrow, 2), b = a;
    b.dtype = DTYPE_I64;
    b.data = wide;
    tensor_compare(&c, &a, &b, 0, 0);
    assert_false(c.over);
    b.data = large;
    tensor_compare(&c, &a, &b, 0, 0);
    assert_int_equal(c.n_over, 1);
    b.dtype = DTYPE_U8;
    b.data = bytes;
    tensor_compare(&c, &a, &b, 0, 0);
    assert_int_equal(c.n_over, 1);
    assert_int_equal(c.worst, 0);
}

static void real_numbers_do_not_pass_for_integers(void **state)
{
    (void)state;
    const float x[] = {1.0f};
    const int32_t i[] = {1};
    comparison c;
    tensor_view a = {.dtype = DTYPE_F32, .n_dims = 1, .shape = {1}, .data = x};
    tensor_view b = integers(i, 1);
    tensor_compare(&c, &a, &b, 1, 1);
    assert_true(c.over && !c.comparable);
    tensor_compare(&c, &b, &a, 1, 1);
    assert_true(c.over && !c.comparable);
}

static void nothing_equals_nothing(void **state)
{
    (void)state;
    comparison c = compare_reals(NULL, NULL, 0, 0, 0);
    assert_true(c.comparable && !c.over && c.n_elements == 0);
}

static void a_place_is_printed_by_row_and_column(void **state)
{
    (void)state;
    char text[SHAPE_TEXT_MAX];
    tensor_view t = {.dtype = DTYPE_F32, .n_dims = 3, .shape = {2, 3, 4}};
    assert_string_equal(tensor_shape_print(text, &t), "[2, 3, 4]");
    assert_string_equal(tensor_place_print(text, &t, 0), "[0, 0, 0]");
    assert_string_equal(tensor_place_print(text, &t, 23), "[1, 2, 3]");
    assert_string_equal(tensor_place_print(text, &t, 14), "[1, 0, 2]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equal_numbers_use_nothing_of_the_allowance),
        cmocka_unit_test(an_error_is_held_against_atol_and_rtol_together),
        cmocka_unit_test(the_largest_and_the_worst_error_may_be_at_different_places),
        cmocka_unit_test(a_nan_on_either_side_is_over),
        cmocka_unit_test(an_infinity_is_over_unless_it_is_the_same),
        cmocka_unit_test(without_tolerance_any_error_is_over),
        cmocka_unit_test(other_shapes_are_not_comparable),
        cmocka_unit_test(integers_are_exact_whatever_is_allowed),
        cmocka_unit_test(integers_of_different_width_are_compared_by_value),
        cmocka_unit_test(real_numbers_do_not_pass_for_integers),
        cmocka_unit_test(nothing_equals_nothing),
        cmocka_unit_test(a_place_is_printed_by_row_and_column),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

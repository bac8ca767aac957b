/*
 * check_kernels.c - the table offers what the CPU has, and FLOTILLA_ISA caps it or is refused.
 */
#include "cases.h"

static void the_definitions_are_always_there(void **state)
{
    (void)state;
    const kernel_table *ref = kernels_variant("ref");
    assert_non_null(ref);
    assert_string_equal(ref->isa, "ref");
    assert_null(kernels_variant("neon"));
    assert_null(kernels_variant(""));
}

static void every_rung_is_complete(void **state)
{
    (void)state;
    for (int32_t i = 0; i < CASE_ISAS; i++) {
        const kernel_table *t = kernels_variant(case_isas[i]);
        if (t == NULL) {
            continue;
        }
        assert_string_equal(t->isa, case_isas[i]);
        assert_true(t->matmul_bf16 && t->rms_norm && t->silu_mul && t->softmax && t->axpy &&
                    t->add);
        assert_true(t->rope_rotate && t->bf16_widen && t->attend_block && t->attend_heads);
    }
}

static void the_highest_rung_is_chosen_unless_capped(void **state)
{
    (void)state;
    flo_err err = {""};
    const char *highest = "ref";
    for (int32_t i = 0; i < CASE_ISAS; i++) {
        if (kernels_variant(case_isas[i]) == NULL) {
            continue;
        }
        highest = case_isas[i];
        setenv("FLOTILLA_ISA", case_isas[i], 1);
        assert_int_equal(kernels_init(&err), FLO_OK);
        assert_string_equal(kernels()->isa, case_isas[i]);
    }
    setenv("FLOTILLA_ISA", "", 1);
    assert_int_equal(kernels_init(&err), FLO_OK);
    assert_string_equal(kernels()->isa, highest);
    unsetenv("FLOTILLA_ISA");
    assert_int_equal(kernels_init(&err), FLO_OK);
    assert_string_equal(kernels()->isa, highest);
}

static void an_unknown_isa_is_refused(void **state)
{
    (void)state;
    flo_err err = {""};
    setenv("FLOTILLA_ISA", "sse9", 1);
    assert_int_equal(kernels_init(&err), FLO_USAGE);
    assert_non_null(strstr(err.text, "sse9"));
    unsetenv("FLOTILLA_ISA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_definitions_are_always_there),
        cmocka_unit_test(every_rung_is_complete),
        cmocka_unit_test(the_highest_rung_is_chosen_unless_capped),
        cmocka_unit_test(an_unknown_isa_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

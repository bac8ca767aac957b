/*
 * check_request_body.c - a body has what was given, and nothing else.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/request_body.h"

#include <string.h>

static void only_given_options_are_written(void **state)
{
    (void)state;
    sampling_options s;
    argument table[SAMPLING_ARGUMENTS];
    buffer b = {0};
    flo_err err = {""};
    char *argv[] = {"--seed",       "9007199254740991", "--temperature=0.1",
                    "--ignore-eos", "--logprobs",       "0"};
    sampling_arguments(&s, table);
    for (int i = 0; i < 6;) {
        bool taken;
        assert_int_equal(arguments_take(table, SAMPLING_ARGUMENTS, 6, argv, &i, &taken, &err),
                         FLO_OK);
        assert_true(taken);
    }
    sampling_put(&b, &s);
    buffer_append_byte(&b, '\0');
    assert_string_equal(
        b.at, ",\"temperature\":0.10000000000000001,\"seed\":9007199254740991,\"ignore_eos\":true,"
              "\"logprobs\":0");
    buffer_free(&b);
}

static void ids_are_a_list_of_whole_numbers(void **state)
{
    (void)state;
    buffer b = {0};
    flo_err err = {""};
    assert_int_equal(ids_put(&b, " 1, 2,2147483647\n", &err), FLO_OK);
    buffer_append_byte(&b, '\0');
    assert_string_equal(b.at, "[1,2,2147483647]");
    static const char *const bad[] = {"", " ", "1,", ",1", "1 2", "-1", "2147483648", "1.5", "0x1"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(ids_put(&b, bad[i], &err), FLO_USAGE);
    }
    buffer_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_given_options_are_written),
        cmocka_unit_test(ids_are_a_list_of_whole_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * check_request_body.c - people's JSON goes through as it was written; the slices are what a JSON
 * reader sees in their place.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/request_body.h"

#include <string.h>

static void check(const char *text, const char *messages, const char *options)
{
    buffer o = {0};
    json_slice m = {0};
    flo_err err = {""};
    assert_int_equal(messages_take(text, strlen(text), "F", &m, &o, &err), FLO_OK);
    assert_int_equal(m.n, strlen(messages));
    assert_memory_equal(m.at, messages, m.n);
    assert_int_equal(o.n, strlen(options));
    assert_memory_equal(o.at, options, o.n);
    buffer_free(&o);
}

static void messages_and_their_options_are_cut_apart(void **state)
{
    (void)state;
    check(" [ {\"role\":\"user\"} ]\n", "[ {\"role\":\"user\"} ]", "{}");
    check("{\"messages\":[{\"role\":\"a\"}]}", "[{\"role\":\"a\"}]", "{}");
    check("{ \"a\" : 1.0 , \"messages\" : [{\"role\":\"]}\\\"[{\"}], \"b\":[{}, "
          "\"x,}\"],\"c\":-1e5 }",
          "[{\"role\":\"]}\\\"[{\"}]", "{\"a\":1.0,\"b\":[{}, \"x,}\"],\"c\":-1e5}");
    check("{\"t\":true,\"n\":null,\"s\":\"\\\\\",\"messages\":[{\"role\":\"\\u0000\"}]}",
          "[{\"role\":\"\\u0000\"}]", "{\"t\":true,\"n\":null,\"s\":\"\\\\\"}");
}

static void what_is_no_conversation_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",    "[]",    "{}",         "3",     "[1]",           "[{}]", "{\"messages\":{}}",
        "[{]", "\"x\"", "{\"a\":[]}", "nulls", "[{\"role\":1}]"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        buffer o = {0};
        json_slice m = {0};
        flo_err err = {""};
        assert_int_equal(messages_take(bad[i], strlen(bad[i]), "F", &m, &o, &err), FLO_USAGE);
        assert_int_equal(strncmp(err.text, "F", 1), 0);
        buffer_free(&o);
    }
}

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_and_their_options_are_cut_apart),
        cmocka_unit_test(what_is_no_conversation_is_refused),
        cmocka_unit_test(only_given_options_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_json.c - JSON is read as the standard says and no further, U+0000 survives in people's
 * texts, and what is written reads back the same.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json.h"

#include <stdlib.h>
#include <string.h>

static void assert_reads(const char *text)
{
    cJSON *root = NULL;
    flo_err err = {""};
    if (json_parse(&root, text, strlen(text), &err) != FLO_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    cJSON_Delete(root);
}

static void assert_refused(const char *text, size_t n, const char *part)
{
    cJSON *root = NULL;
    flo_err err = {""};
    if (json_parse(&root, text, n, &err) != FLO_FAIL || strstr(err.text, part) == NULL) {
        fail_msg("'%s': '%s', expected '%s'", text, err.text, part);
    }
    assert_int_equal(json_parse_request(&root, text, n, &err), FLO_USAGE);
}

static void well_formed_values_are_read(void **state)
{
    (void)state;
    static const char *const good[] = {
        "0",
        "-0",
        "1.5e-3",
        "1E+5",
        "true",
        "null",
        "\"\"",
        "[]",
        "{}",
        " [1, -2.0 ,\t\"a\\n\\u00e9\\\"\" ]\r\n",
        "{\"a\": {\"b\": [false]}}",
        "\"\\ud83d\\ude00\"",
        "\"\xf0\x9f\x98\x80\x7f\"",
        "\"\\/\"",
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_reads(good[i]);
    }
}

static void what_lenient_readers_take_is_refused(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"01", "begins with 0"},
        {"-01", "begins with 0"},
        {"1.", "number"},
        {".5", "cannot stand"},
        {"+1", "cannot stand"},
        {"1e", "number"},
        {"-", "number"},
        {"0x10", "cannot stand"},
        {"NaN", "cannot stand"},
        {"'a'", "cannot stand"},
        {"[1,]", "not valid"},
        {"{\"a\":1,}", "not valid"},
        {"{a:1}", "not valid"},
        {"[1 2]", "not valid"},
        {"1 2", "behind"},
        {"[] x", "cannot stand"},
        {"", "not valid"},
        {"[", "too early"},
        {"\"a", "without its end"},
        {"\"a\nb\"", "control"},
        {"\"a\tb\"", "control"},
        {"\"\\x41\"", "escape"},
        {"\"\\u12G4\"", "four hex"},
        {"\"\\u12", "four hex"},
        {"\"\\ud800\"", "not valid"},
        {"\"\\udc00\"", "not valid"},
        {"\"\\ud800\\u0041\"", "not valid"},
        {"\"\xff\"", "UTF-8"},
        {"\"\xc0\x80\"", "UTF-8"},
        {"\"\xed\xa0\x80\"", "UTF-8"},
        {"\xef\xbb\xbf{}", "cannot"},
        {"truex", "cannot"},
        {"tru", "not valid"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_refused(bad[i][0], strlen(bad[i][0]), bad[i][1]);
    }
    assert_refused("[1\0]", 4, "cannot stand");
    assert_refused("\"\0\"", 3, "control");
}

static void a_fault_names_its_line(void **state)
{
    (void)state;
    assert_refused("{\n\"a\": 1,\n\"b\": 01}", 18, "line 3");
    assert_refused("{\n\"a\": 1,\n\"b\" 1}", 16, "line 3");
}

static void depth_is_limited(void **state)
{
    (void)state;
    enum { N = 100000 };
    char *text = malloc(N);
    memset(text, '[', N);
    cJSON *root = NULL;
    flo_err err = {""};
    assert_int_equal(json_parse(&root, text, N, &err), FLO_FAIL);
    free(text);
}

static void nul_is_refused_in_files_and_kept_in_requests(void **state)
{
    (void)state;
    static const char text[] = "{\"a\\u0000b\": \"\\u0000x\\u0000\"}";
    cJSON *root = NULL;
    flo_err err = {""};
    assert_int_equal(json_parse(&root, text, strlen(text), &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "NUL"));
    assert_int_equal(json_parse_request(&root, text, strlen(text), &err), FLO_OK);
    assert_string_equal(root->child->string, "a\xc0\x80"
                                             "b");
    size_t n;
    char *value = json_string_copy(root->child, &n);
    assert_int_equal(n, 3);
    assert_memory_equal(value, "\0x\0", 4);
    free(value);
    cJSON_Delete(root);
}

static void an_escaped_backslash_is_no_nul(void **state)
{
    (void)state;
    cJSON *root = NULL;
    flo_err err = {""};
    assert_int_equal(json_parse(&root, "\"\\\\u0000\"", 9, &err), FLO_OK);
    assert_string_equal(root->valuestring, "\\u0000");
    cJSON_Delete(root);
}

static void written_strings_read_back(void **state)
{
    (void)state;
    char text[300];
    size_t n = 0;
    for (int c = 0; c < 128; c++) {
        text[n++] = (char)c;
    }
    memcpy(text + n, "\xc3\xa9\xf0\x9f\x98\x80\xe2\x80\xa8", 9);
    n += 9;
    buffer out = {0};
    json_put_string(&out, text, n);
    assert_false(out.failed);
    for (size_t i = 0; i < out.n; i++) {
        assert_true((unsigned char)out.at[i] >= 0x20 && out.at[i] != 0x7f);
    }
    cJSON *root = NULL;
    flo_err err = {""};
    assert_int_equal(json_parse_request(&root, out.at, out.n, &err), FLO_OK);
    size_t n_back;
    char *back = json_string_copy(root, &n_back);
    assert_int_equal(n_back, n);
    assert_memory_equal(back, text, n);
    free(back);
    cJSON_Delete(root);
    buffer_free(&out);
}

static void ill_formed_parts_are_written_as_replacements(void **state)
{
    (void)state;
    buffer out = {0};
    json_put_string(&out,
                    "a\xf0\x9f"
                    "b\xff",
                    5);
    buffer_append_byte(&out, '\0');
    assert_string_equal(out.at, "\"a\xef\xbf\xbd"
                                "b\xef\xbf\xbd\"");
    buffer_free(&out);
}

static void whole_numbers_are_told_from_others(void **state)
{
    (void)state;
    cJSON *root = NULL;
    flo_err err = {""};
    int64_t v = 0;
    static const char text[] = "[7, -1, 1.5, 1e300, \"7\", 9007199254740993, 2147483648]";
    assert_int_equal(json_parse(&root, text, strlen(text), &err), FLO_OK);
    const bool wanted[] = {true, false, false, false, false, false, false};
    size_t i = 0;
    for (const cJSON *item = root->child; item != NULL; item = item->next, i++) {
        assert_int_equal(json_integer(item, 0, INT32_MAX, &v), wanted[i]);
    }
    assert_int_equal(v, 7);
    assert_false(json_integer(NULL, 0, 1, &v));
    cJSON_Delete(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_values_are_read),
        cmocka_unit_test(what_lenient_readers_take_is_refused),
        cmocka_unit_test(a_fault_names_its_line),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(nul_is_refused_in_files_and_kept_in_requests),
        cmocka_unit_test(an_escaped_backslash_is_no_nul),
        cmocka_unit_test(written_strings_read_back),
        cmocka_unit_test(ill_formed_parts_are_written_as_replacements),
        cmocka_unit_test(whole_numbers_are_told_from_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

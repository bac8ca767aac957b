/*
 * check_bytes.c - sizes are read exactly or refused, and printed in three digits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/bytes.h"

#include <string.h>

static void sizes_are_powers_of_1024(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t n_bytes;
    } cases[] = {
        {"0", 0},
        {"4096", 4096},
        {"1K", 1024},
        {"512M", (uint64_t)512 << 20},
        {"24G", (uint64_t)24 << 30},
        {"2t", (uint64_t)2 << 40},
        {"1.5G", (uint64_t)3 << 29},
        {"0.5k", 512},
        {"9007199254740993", 9007199254740993u}, /* not a double */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        flo_err err;
        uint64_t n_bytes = 1;
        assert_int_equal(bytes_parse(&n_bytes, cases[i].text, &err), FLO_OK);
        assert_true(n_bytes == cases[i].n_bytes);
    }
}

static void what_is_no_size_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const cases[] = {"",         "G",       "-1", "+1",   "1GB",
                                        "1 G",      "0x10",    "1.", ".5G",  "1.5.",
                                        "nan",      "1e9",     " 1", "24Gi", "99999999999999999999",
                                        "9999999T", "8388608T"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        flo_err err = {""};
        uint64_t n_bytes = 77;
        assert_int_equal(bytes_parse(&n_bytes, cases[i], &err), FLO_USAGE);
        assert_non_null(strstr(err.text, cases[i]));
        assert_int_equal(n_bytes, 77);
    }
}

static void sizes_are_printed_in_three_digits(void **state)
{
    (void)state;
    static const struct {
        uint64_t n_bytes;
        const char *text;
    } cases[] = {
        {0, "0"},
        {999, "999"},
        {1000, "0.98K"},
        {1024, "1.00K"},
        {(uint64_t)1536 << 20, "1.50G"},
        {(uint64_t)24 << 30, "24.0G"},
        {(uint64_t)512 << 20, "512M"},
        {UINT64_MAX, "16777216T"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[BYTES_TEXT_MAX];
        assert_string_equal(bytes_print(text, cases[i].n_bytes), cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_powers_of_1024),
        cmocka_unit_test(what_is_no_size_is_refused_by_name),
        cmocka_unit_test(sizes_are_printed_in_three_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

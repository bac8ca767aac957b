/*
 * test_utf8.c - UTF-8 is told from what is not, exhaustively over code points and over all
 * sequences of two bytes behind every lead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/utf8.h"

#include <string.h>

static void every_code_point_reads_back(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xd800 && c < 0xe000) {
            continue;
        }
        char text[4];
        size_t n = utf8_put(text, c);
        utf8_part part = utf8_next(text, n);
        if (part.kind != UTF8_GOOD || part.n_bytes != n || part.code_point != c) {
            fail_msg("U+%04X", (unsigned)c);
        }
        for (size_t k = 1; k < n; k++) {
            part = utf8_next(text, k);
            assert_true(part.kind == UTF8_CUT && part.n_bytes == k);
        }
    }
}

/* What is called good is what utf8_put writes: nothing overlong, no surrogate, nothing over
 * U+10FFFF. */
static void nothing_else_is_good(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 1u << 24; bits++) {
        char text[4] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits, (char)0xbf};
        utf8_part part = utf8_next(text, sizeof text);
        assert_true(part.n_bytes >= 1 && part.n_bytes <= 4);
        if (part.kind == UTF8_GOOD) {
            char again[4];
            assert_false(part.code_point >= 0xd800 && part.code_point < 0xe000);
            if (utf8_put(again, part.code_point) != part.n_bytes ||
                memcmp(again, text, part.n_bytes) != 0) {
                fail_msg("%06x", (unsigned)bits);
            }
        }
    }
}

static void ill_formed_text_is_cut_into_maximal_parts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t n_first;
    } cases[] = {{"\xf0\x9f\x98"
                  "a",
                  3},
                 {"\xe2\x82"
                  "a",
                  2},
                 {"\xf0\x80\x80\x80", 1},
                 {"\xed\xa0\x80", 1},
                 {"\x80\x80", 1},
                 {"\xc2"
                  "a",
                  1},
                 {"\xff", 1},
                 {"\xf4\x90", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        utf8_part part = utf8_next(cases[i].text, strlen(cases[i].text));
        assert_int_equal(part.kind, UTF8_BAD);
        assert_int_equal(part.n_bytes, cases[i].n_first);
    }
}

static void the_good_beginning_is_found_at_every_place(void **state)
{
    (void)state;
    char text[40];
    for (size_t at = 0; at < sizeof text; at++) {
        memset(text, 'a', sizeof text);
        assert_int_equal(utf8_good_bytes(text, sizeof text), sizeof text);
        text[at] = (char)0x80;
        assert_int_equal(utf8_good_bytes(text, sizeof text), at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_reads_back),
        cmocka_unit_test(nothing_else_is_good),
        cmocka_unit_test(ill_formed_text_is_cut_into_maximal_parts),
        cmocka_unit_test(the_good_beginning_is_found_at_every_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

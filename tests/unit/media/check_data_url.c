/*
 * check_data_url.c - base64 is decoded exactly or refused, whatever its line breaks and its length;
 * data: URLs are read as browsers read them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/media/data_url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* The definition, digit by digit from bit to bit; returns the length, without padding. */
static size_t encode(char *out, const uint8_t *bytes, size_t n_bytes)
{
    size_t n = 0;
    for (size_t bit = 0; bit < 8 * n_bytes; bit += 6) {
        unsigned digit = 0;
        for (size_t i = bit; i < bit + 6; i++) {
            unsigned one = i < 8 * n_bytes ? (unsigned)bytes[i / 8] >> (7 - i % 8) & 1u : 0;
            digit = digit << 1 | one;
        }
        out[n++] = DIGITS[digit];
    }
    return n;
}

static void fill(uint8_t *bytes, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(seed >> 24);
    }
}

enum { LONGEST = 200, TEXT_MAX = 1024 };

static void check_decodes(const char *text, size_t n_text, const uint8_t *bytes, size_t n_bytes)
{
    uint8_t *out = malloc(n_text / 4 * 3 + 3); /* as little room as the contract asks for */
    size_t n = SIZE_MAX;
    flo_err err = {""};
    assert_non_null(out);
    assert_int_equal(base64_decode(out, &n, text, n_text, &err), FLO_OK);
    assert_int_equal(n, n_bytes);
    assert_memory_equal(out, bytes, n_bytes);
    free(out);
}

/* Every length, line breaks after every number of digits, with padding, without, half of it. */
static void what_was_encoded_is_decoded_however_it_is_broken_into_lines(void **state)
{
    (void)state;
    uint8_t bytes[LONGEST];
    char digits[TEXT_MAX], text[TEXT_MAX];
    for (size_t n_bytes = 0; n_bytes <= LONGEST; n_bytes++) {
        fill(bytes, n_bytes, (uint32_t)n_bytes);
        size_t n_digits = encode(digits, bytes, n_bytes);
        size_t n_padding = (4 - n_digits % 4) % 4;
        for (size_t padding = 0; padding <= n_padding; padding++) {
            memset(digits + n_digits, '=', padding);
            for (size_t width = 1; width <= 80; width++) {
                size_t n = 0;
                for (size_t i = 0; i < n_digits + padding; i++) {
                    if (i > 0 && i % width == 0) {
                        text[n++] = " \t\r\n\f"[i % 5];
                    }
                    text[n++] = digits[i];
                }
                check_decodes(text, n, bytes, n_bytes);
            }
        }
    }
}

static void every_byte_that_is_no_digit_is_refused_with_its_place(void **state)
{
    (void)state;
    for (int c = 0; c < 256; c++) {
        if (c != 0 && (strchr(DIGITS, c) != NULL || strchr(" \t\r\n\f", c) != NULL)) {
            continue;
        }
        for (size_t at = 0; at < 11; at++) {
            char text[] = "QUJDREVGR0hJ";
            uint8_t out[12];
            size_t n;
            flo_err err = {""};
            text[at] = (char)c;
            assert_int_equal(base64_decode(out, &n, text, 12, &err), FLO_USAGE);
            assert_non_null(strstr(err.text, "base64"));
            if (c != '=') {
                char place[32];
                snprintf(place, sizeof place, "offset %zu", at);
                assert_non_null(strstr(err.text, place));
            }
        }
    }
}

static void padding_that_does_not_fit_and_lone_digits_are_refused(void **state)
{
    (void)state;
    static const char *const cases[] = {"A",     "QUJDR", "QUJD=",    "QUJD====", "=",
                                        "QUI==", "QQ===", "QQ==QQ==", "Q=Q=",     "QUJD\nQ"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t out[16];
        size_t n;
        flo_err err = {""};
        assert_int_equal(base64_decode(out, &n, cases[i], strlen(cases[i]), &err), FLO_USAGE);
        assert_non_null(strstr(err.text, "not base64"));
    }
}

typedef struct url_case {
    const char *url, *bytes; /* bytes NULL: refused */
} url_case;

static void data_urls_are_read_as_browsers_read_them(void **state)
{
    (void)state;
    static const url_case cases[] = {
        {"data:,hello", "hello"},
        {"DATA:,", ""},
        {"data:text/plain,a%20b%2Cc", "a b,c"},
        {"data:text/plain;charset=utf-8,a,b", "a,b"},
        {"data:image/png;base64,QUJD", "ABC"},
        {"data:image/png;charset=x;BASE64,QUJD", "ABC"},
        {"data:;base64,QUI=", "AB"},
        {"data:;base64,QUI%3D", "AB"},
        {"data:;base64,QU%49", "AB"},
        {"data:; base64 ,QUI", "AB"},
        {"data:;base64,QU I=\n", "AB"},
        {"data:;base64,QUI=#fragment", "AB"},
        {"data:,a#b", "a"},
        {"data:base64,QUI", "QUI"}, /* a media type of that name, no encoding */
        {"data:;base64;x=y,QUI", "QUI"},
        {"data:", NULL},
        {"data:image/png;base64", NULL},
        {"data:;base64,Q", NULL},
        {"data:;base64,QU*I", NULL},
        {"data:,%", NULL},
        {"data:,%4", NULL},
        {"data:,%4g", NULL},
        {"data:;base64,%zz", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *out = NULL;
        size_t n = SIZE_MAX;
        flo_err err = {""};
        flo_code code = data_url_decode(&out, &n, cases[i].url, strlen(cases[i].url), &err);
        if (cases[i].bytes == NULL) {
            assert_int_equal(code, FLO_USAGE);
            assert_null(out);
            assert_int_not_equal(err.text[0], '\0');
            continue;
        }
        assert_int_equal(code, FLO_OK);
        assert_int_equal(n, strlen(cases[i].bytes));
        assert_memory_equal(out, cases[i].bytes, n);
        free(out);
    }
}

static void percent_encoding_gives_every_byte(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        char text[2][8];
        snprintf(text[0], sizeof text[0], "x%%%02x", c);
        snprintf(text[1], sizeof text[1], "x%%%02X", c);
        for (int i = 0; i < 2; i++) {
            size_t n = 0;
            flo_err err = {""};
            assert_int_equal(percent_decode((uint8_t *)text[i], &n, text[i], 4, &err), FLO_OK);
            assert_int_equal(n, 2);
            assert_int_equal((uint8_t)text[i][1], c);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_encoded_is_decoded_however_it_is_broken_into_lines),
        cmocka_unit_test(every_byte_that_is_no_digit_is_refused_with_its_place),
        cmocka_unit_test(padding_that_does_not_fit_and_lone_digits_are_refused),
        cmocka_unit_test(data_urls_are_read_as_browsers_read_them),
        cmocka_unit_test(percent_encoding_gives_every_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

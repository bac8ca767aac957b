/*
 * test_tokenizer_texts.c - what holds for every text: decoding gives its NFC back, time grows with
 * its length, added tokens are cut out on the raw text, and what is no text is refused.
 */
#include "text_test.h"

#include "common/utf8.h"
#include "coordinator/text/nfc.h"

#include <time.h>

static tokenizer *real;

static int open_real(void **state)
{
    (void)state;
    real = open_tokenizer(real_folder());
    return 0;
}

static int close_real(void **state)
{
    (void)state;
    tokenizer_close(real);
    return 0;
}

static size_t encode(const char *text, size_t n, bool plain, int32_t **ids)
{
    size_t n_ids = 0;
    flo_err err = {""};
    if (tokenizer_encode(real, text, n, plain, ids, &n_ids, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return n_ids;
}

static void assert_round_trip(const char *text, size_t n)
{
    int32_t *ids;
    char *back;
    const char *nfc;
    size_t n_back, n_nfc;
    flo_err err = {""};
    nfc_work w = {0};
    size_t n_ids = encode(text, n, true, &ids);
    assert_int_equal(tokenizer_decode(real, ids, n_ids, false, &back, &n_back, &err), FLO_OK);
    assert_int_equal(nfc_normalise(&w, text, n, &nfc, &n_nfc, &err), FLO_OK);
    assert_int_equal(n_back, n_nfc);
    assert_memory_equal(back, nfc, n_nfc);
    nfc_work_free(&w);
    free(back);
    free(ids);
}

static uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

/* A character of a random kind: all planes, but the crowded ones more often. */
static uint32_t random_point(uint64_t *state)
{
    static const struct {
        uint32_t first, count;
    } kinds[] = {{0, 0x80},          {'a', 26},        {0xa0, 0x2f60},   {0x300, 0x70},
                 {0x1100, 0x100},    {0xac00, 0x2ba4}, {0x2000, 0x70},   {0x4e00, 0x5000},
                 {0x10000, 0xfffff}, {0x1f300, 0x400}, {0xe000, 0x2000}, {' ', 1}};
    uint32_t k = next_random(state) % (sizeof kinds / sizeof *kinds);
    return kinds[k].first + next_random(state) % kinds[k].count;
}

static void decoding_gives_the_nfc_of_any_text_back(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (int round = 0; round < 3000; round++) {
        char text[4 * 64];
        size_t n = 0;
        for (uint32_t k = next_random(&seed) % 64; k > 0; k--) {
            n += utf8_put(text + n, random_point(&seed));
        }
        assert_round_trip(text, n);
    }
}

static void long_texts_come_back_too(void **state)
{
    (void)state;
    static const char *const units[] = {"a",   " ",        "\n",        " \n",
                                        "ab ", "\xc3\xa9", "<|im_star", "e\xcc\x81"};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        buffer text = {0};
        for (int i = 0; i < 20000; i++) {
            buffer_append_text(&text, units[u]);
        }
        assert_round_trip(text.at, text.n);
        buffer_free(&text);
    }
}

static double seconds_for(const char *unit, size_t n_times, const char *end)
{
    buffer text = {0};
    for (size_t i = 0; i < n_times; i++) {
        buffer_append_text(&text, unit);
    }
    buffer_append_text(&text, end);
    double best = 1e9;
    for (int round = 0; round < 3; round++) {
        struct timespec a, b;
        int32_t *ids;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        encode(text.at, text.n, false, &ids);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        double s = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
        best = s < best ? s : best;
        free(ids);
    }
    buffer_free(&text);
    return best;
}

/* Eight times the text may cost 8 times the time, and a logarithm and caches on top; a quadratic
 * step would cost 64 times. 20 lies between. */
static void time_grows_with_the_length_alone(void **state)
{
    (void)state;
    static const char *const units[][2] = {
        {"a", ""},
        {" ", "x"},
        {" ", ""},
        {"\n", "x"},
        {" \n", "x"},
        {"\t", "1"},
        {"<", ""},
        {"'", ""},
        {"<|im_start|", ""},
        {"\xcc\x81\xcc\xa3", ""},
        {"\xe1\x85\xa1", ""},
        {"the fox ", ""},
        {"\r", "a"},
        {"1", ""},
        {"\xf0\x9f\x98\x80", ""},
    };
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        double small = seconds_for(units[u][0], 16 << 10, units[u][1]);
        double large = seconds_for(units[u][0], 128 << 10, units[u][1]);
        if (large > 20 * small + 0.005) {
            fail_msg("'%s': %g s, then %g s for eight times the text", units[u][0], small, large);
        }
    }
}

static void a_megabyte_of_one_letter_takes_seconds_at_most(void **state)
{
    (void)state;
    assert_true(seconds_for("a", 1 << 20, "") < 10);
    assert_true(seconds_for(" ", 1 << 20, "a") < 10);
}

static void added_tokens_are_cut_out_of_the_raw_text(void **state)
{
    (void)state;
    static const char text[] = "a<|im_start|><think>b<|im_end|";
    int32_t *ids;
    size_t n = encode(text, strlen(text), false, &ids);
    assert_true(n > 4);
    assert_int_equal(ids[1], tokenizer_id(real, "<|im_start|>"));
    assert_int_equal(ids[2], tokenizer_id(real, "<think>"));
    assert_true(tokenizer_is_special(real, ids[1]));
    assert_false(tokenizer_is_special(real, ids[2]));
    for (size_t i = 3; i < n; i++) {
        assert_true(ids[i] < 151643);
    }
    free(ids);
}

static void plain_text_has_no_added_tokens(void **state)
{
    (void)state;
    static const char text[] = "<|im_start|><think>";
    int32_t *ids;
    size_t n = encode(text, strlen(text), true, &ids);
    assert_true(n > 2);
    for (size_t i = 0; i < n; i++) {
        assert_true(ids[i] < 151643);
    }
    free(ids);
}

static void an_added_token_parts_what_would_compose(void **state)
{
    (void)state;
    int32_t *ids;
    size_t n = encode("e<|im_end|>\xcc\x81", strlen("e<|im_end|>\xcc\x81"), false, &ids);
    assert_true(n >= 3);
    assert_int_equal(ids[0], 68); /* "e" alone */
    assert_int_equal(ids[1], tokenizer_id(real, "<|im_end|>"));
    free(ids);
}

static void nul_bytes_are_text(void **state)
{
    (void)state;
    assert_round_trip("a\0b\0\0", 5);
    assert_round_trip("\0", 1);
}

static void the_empty_text_has_no_ids(void **state)
{
    (void)state;
    int32_t *ids = NULL;
    assert_int_equal(encode("", 0, false, &ids), 0);
    free(ids);
}

static void text_that_is_not_utf8_is_refused_with_the_byte(void **state)
{
    (void)state;
    static const char *const bad[] = {"abc\xff",     "abc\xc0\x80",         "abc\xed\xa0\x80",
                                      "abc\xe2\x82", "abc\xf4\x90\x80\x80", "abc\x80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int32_t *ids;
        size_t n;
        flo_err err = {""};
        assert_int_equal(tokenizer_encode(real, bad[i], strlen(bad[i]), false, &ids, &n, &err),
                         FLO_USAGE);
        assert_non_null(strstr(err.text, "byte 3"));
    }
}

static void an_id_that_is_no_token_is_refused(void **state)
{
    (void)state;
    const int32_t bad[] = {-1, 151676, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *text;
        size_t n;
        flo_err err = {""};
        assert_int_equal(tokenizer_decode(real, &bad[i], 1, false, &text, &n, &err), FLO_USAGE);
        assert_non_null(strstr(err.text, "no token"));
        assert_null(tokenizer_piece(real, bad[i]));
        assert_false(tokenizer_is_special(real, bad[i]));
    }
}

static void pieces_are_spelled_as_in_the_vocabulary(void **state)
{
    (void)state;
    assert_int_equal(tokenizer_size(real), 151676);
    assert_string_equal(tokenizer_piece(real, 279), "\xc4\xa0the");
    assert_int_equal(tokenizer_id(real, "the"), -1);
    assert_int_equal(tokenizer_id(real, "<|im_end|>"), 151645);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoding_gives_the_nfc_of_any_text_back),
        cmocka_unit_test(long_texts_come_back_too),
        cmocka_unit_test(time_grows_with_the_length_alone),
        cmocka_unit_test(a_megabyte_of_one_letter_takes_seconds_at_most),
        cmocka_unit_test(added_tokens_are_cut_out_of_the_raw_text),
        cmocka_unit_test(plain_text_has_no_added_tokens),
        cmocka_unit_test(an_added_token_parts_what_would_compose),
        cmocka_unit_test(nul_bytes_are_text),
        cmocka_unit_test(the_empty_text_has_no_ids),
        cmocka_unit_test(text_that_is_not_utf8_is_refused_with_the_byte),
        cmocka_unit_test(an_id_that_is_no_token_is_refused),
        cmocka_unit_test(pieces_are_spelled_as_in_the_vocabulary),
    };
    return cmocka_run_group_tests(tests, open_real, close_real);
}

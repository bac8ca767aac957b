/*
 * test_word_split.c - words are the reference's, also where PCRE2 and Oniguruma differ; a pattern
 * that the two might read differently is refused; normalisation is the reference's too.
 */
#include "text_test.h"

#include "coordinator/text/nfc.h"
#include "coordinator/text/word_split.h"

/* Words of text, each followed by a bar. */
static void assert_words(const char *pattern, const char *text, const char *wanted)
{
    word_split *s = NULL;
    word_walk w;
    flo_err err = {""};
    buffer got = {0};
    if (word_split_new(&s, pattern, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(word_walk_init(&w, s, &err), FLO_OK);
    word_walk_start(&w, text, strlen(text));
    for (;;) {
        const char *word;
        size_t n;
        assert_int_equal(word_walk_next(&w, &word, &n, &err), FLO_OK);
        if (n == 0) {
            break;
        }
        buffer_append(&got, word, n);
        buffer_append_byte(&got, '|');
    }
    buffer_append_byte(&got, '\0');
    assert_string_equal(got.at, wanted);
    buffer_free(&got);
    word_walk_free(&w);
    word_split_free(s);
}

static void assert_default_words(const char *text, const char *wanted)
{
    assert_words(word_split_default_pattern, text, wanted);
}

static void the_default_pattern_splits_as_the_table_says(void **state)
{
    (void)state;
    assert_default_words("", "");
    assert_default_words("Hello, world", "Hello|,| world|");
    assert_default_words("it's IT'S we'Ll 'dx", "it|'s| IT|'S| we|'Ll| '|dx|");
    assert_default_words("12 3", "1|2| |3|");
    assert_default_words("a  b   1", "a| | b|  | |1|");
    assert_default_words("x \n\r\n  y", "x| \n\r\n| | y|");
    assert_default_words("  ", "  |");
    assert_default_words("!?\n\nz", "!?\n\n|z|");
}

static void white_space_and_letters_are_the_reference_ones(void **state)
{
    (void)state;
    assert_default_words("a\xe1\xa0\x8e b", "a|\xe1\xa0\x8e| b|");          /* U+180E is none */
    assert_default_words("a\xc2\x85\xc2\x85 1", "a|\xc2\x85\xc2\x85| |1|"); /* U+0085 is */
    assert_default_words("\xef\xbb\xbf"
                         "a",
                         "\xef\xbb\xbf"
                         "a|");                                            /* U+FEFF is not */
    assert_default_words("x\xe1\xb2\x89y", "x\xe1\xb2\x89y|");             /* U+1C89, a letter */
    assert_default_words("a\xf0\x96\xb5\xb0 b", "a|\xf0\x96\xb5\xb0| b|"); /* U+16D70, a number */
}

static void what_lies_between_matches_is_a_word(void **state)
{
    (void)state;
    assert_words("\\p{N}+", "ab12cd3", "ab|12|cd|3|");
}

static void foreign_elements_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const bad[] = {"\\h+",    "[[:alpha:]]+", "a(?<=b)", "^a",    "a$",
                                      "[a&&b]",  "(?<n>a)",      "\\Aa",    "[\\S]", "\\p{Greek}",
                                      "a{1,2}+", "(*FAIL)",      "x*"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        word_split *s = NULL;
        flo_err err = {""};
        assert_int_equal(word_split_new(&s, bad[i], &err), FLO_FAIL);
        assert_non_null(strstr(err.text, "not known here"));
    }
}

static void faulty_patterns_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"(a", "[a", "a)", "*", "\\"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        word_split *s = NULL;
        flo_err err = {""};
        assert_int_equal(word_split_new(&s, bad[i], &err), FLO_FAIL);
        assert_true(strlen(err.text) > 0);
    }
}

static void assert_nfc(const char *text, const char *wanted)
{
    nfc_work w = {0};
    const char *got;
    size_t n;
    flo_err err = {""};
    assert_int_equal(nfc_normalise(&w, text, strlen(text), &got, &n, &err), FLO_OK);
    assert_int_equal(n, strlen(wanted));
    assert_memory_equal(got, wanted, n);
    nfc_work_free(&w);
}

static void nfc_is_the_reference_one(void **state)
{
    (void)state;
    assert_nfc("plain \xc3\xa9", "plain \xc3\xa9");
    assert_nfc("e\xcc\x81", "\xc3\xa9");
    assert_nfc("q\xcc\x87\xcc\xa3", "q\xcc\xa3\xcc\x87");               /* marks are ordered */
    assert_nfc("a\xcc\xa3\xcc\x82", "\xe1\xba\xad");                    /* and compose in turn */
    assert_nfc("\xe2\x84\xab", "\xc3\x85");                             /* angstrom sign */
    assert_nfc("\xe1\x84\x80\xe1\x85\xa1\xe1\x86\xa8", "\xea\xb0\x81"); /* Hangul */
    assert_nfc("\xea\xb0\x80\xe1\x86\xa7", "\xea\xb0\x80\xe1\x86\xa7"); /* U+11A7 is no final */
    assert_nfc("\xe0\xa5\x98", "\xe0\xa4\x95\xe0\xa4\xbc");             /* composition exclusion */
    assert_nfc("a\xcc\x82\xe1\xb7\xb6", "\xc3\xa2\xe1\xb7\xb6");
    assert_nfc("a\xcc\x80\xe1\xb7\xb7\xcc\xa3",
               "\xc3\xa0\xe1\xb7\xb7\xcc\xa3"); /* a younger mark */
    assert_nfc("\xf0\x91\xa4\xb5\xf0\x91\xa4\xb0", "\xf0\x91\xa4\xb5\xf0\x91\xa4\xb0");
    assert_nfc("\xf0\x91\xa4\xb8", "\xf0\x91\xa4\xb8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_default_pattern_splits_as_the_table_says),
        cmocka_unit_test(white_space_and_letters_are_the_reference_ones),
        cmocka_unit_test(what_lies_between_matches_is_a_word),
        cmocka_unit_test(foreign_elements_are_refused_by_name),
        cmocka_unit_test(faulty_patterns_are_refused),
        cmocka_unit_test(nfc_is_the_reference_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * check_options.c - options that are read, written and read again are the same; each bad one is
 * named.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/options.h"

#include <string.h>

static flo_code read_all(run_options *o, int argc, char **argv, flo_err *err)
{
    options_init(o);
    for (int i = 0; i < argc;) {
        bool taken;
        flo_code code = options_take(o, argc, argv, &i, &taken, err);
        if (code != FLO_OK) {
            return code;
        }
        if (!taken) {
            return options_unknown(argv[i], NULL, 0, err);
        }
    }
    return options_check(o, err);
}

static void options_survive_being_handed_on(void **state)
{
    (void)state;
    char *argv[] = {"--model",
                    "a folder",
                    "--workers=3",
                    "--stages",
                    "2",
                    "--threads=4",
                    "--memory",
                    "1.5G",
                    "--kv-tokens",
                    "8192",
                    "--no-speech",
                    "--no-media",
                    "--quiet",
                    "--deterministic",
                    "--json",
                    "--hosts",
                    "a:2,b:2",
                    "--load-format",
                    "dummy",
                    "--interface=eth0",
                    "--max-media-pixels=5000",
                    "--allow-media-urls"};
    run_options o, again;
    flo_err err = {""};
    assert_int_equal(read_all(&o, sizeof argv / sizeof argv[0], argv, &err), FLO_OK);
    assert_int_equal(o.memory_bytes, 3ull << 29);
    assert_int_equal(o.load_format, LOAD_DUMMY);
    word_list words = {0};
    options_to_words(&o, &words);
    assert_int_equal(read_all(&again, (int)words.n, words.words, &err), FLO_OK);
    assert_string_equal(again.model, "a folder");
    assert_string_equal(again.hosts, "a:2,b:2");
    assert_string_equal(again.interface, "eth0");
    assert_int_equal(again.n_workers, 3);
    assert_int_equal(again.n_stages, 2);
    assert_int_equal(again.n_threads, 4);
    assert_int_equal(again.kv_tokens, 8192);
    assert_int_equal(again.memory_bytes, o.memory_bytes);
    assert_int_equal(again.load_format, LOAD_DUMMY);
    assert_true(again.no_speech && again.no_media && again.quiet && again.deterministic &&
                again.json);
    assert_int_equal(again.max_media_pixels, 5000);
    assert_true(again.allow_media_urls);
    assert_false(again.verbose);
    assert_null(again.cluster);
    word_list_free(&words);
}

static void a_bad_option_is_named_with_its_value(void **state)
{
    (void)state;
    static const struct {
        const char *words[4];
        const char *sentence;
    } cases[] = {
        {{"--workers", "0"}, "--workers 0: must be from 1 to 1024"},
        {{"--workers", "two"}, "--workers two: not a whole number"},
        {{"--workers=99999999999999999999"},
         "--workers 99999999999999999999: must be from 1 to 1024"},
        {{"--workers="}, "--workers : not a whole number"},
        {{"--workers"}, "--workers needs a value"},
        {{"--memory", "-1G"}, "--memory: \"-1G\" is not a size"},
        {{"--memory", "12Q"}, "--memory: \"12Q\" is not a size"},
        {{"--memory", "1e30"}, "--memory: \"1e30\""},
        {{"--weights", "q8"}, "--weights q8: not built yet"},
        {{"--weights", "q5"}, "--weights q5: must be one of bf16, q8, q4"},
        {{"--activations", "bf16"}, "--activations bf16: not built yet"},
        {{"--max-media-pixels", "0"}, "--max-media-pixels 0: must be from 1 to 2147483647"},
        {{"--quiet=yes"}, "--quiet takes no value"},
        {{"--stages", "3", "--workers", "2"}, "--stages 3: more stages than the 2 workers"},
        {{"--cluster", "f", "--hosts", "a"}, "give one of them"},
        {{"--quiet", "--verbose"}, "contradict"},
        {{"--wrokers", "2"}, "did you mean --workers?"},
        {{"--frobnicate-everything"}, "unknown option --frobnicate-everything; --help"},
        {{"hello"}, "unexpected argument 'hello'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *argv[4];
        int argc = 0;
        while (argc < 4 && cases[i].words[argc] != NULL) {
            argv[argc] = (char *)(uintptr_t)cases[i].words[argc];
            argc++;
        }
        run_options o;
        flo_err err = {""};
        assert_int_equal(read_all(&o, argc, argv, &err), FLO_USAGE);
        if (strstr(err.text, cases[i].sentence) == NULL) {
            fail_msg("'%s' does not say '%s'", err.text, cases[i].sentence);
        }
    }
}

static void a_value_may_be_left_out_where_it_says_so(void **state)
{
    (void)state;
    static const struct {
        const char *words[3];
        const char *value; /* of --speech */
        int n_left;        /* words behind it */
    } cases[] = {{{"--speech"}, "", 0},
                 {{"--speech", "--quiet"}, "", 1},
                 {{"--speech="}, "", 0},
                 {{"--speech=a"}, "a", 0},
                 {{"--speech", "a", "--quiet"}, "a", 1},
                 {{"--speech", "-"}, "-", 0}};
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const char *value = NULL;
        bool given = false, taken;
        const argument table = {
            .name = "--speech", .kind = ARGUMENT_TEXT_OR_NOT, .out = &value, .given = &given};
        int argc = 0, i = 0;
        flo_err err = {""};
        while (argc < 3 && cases[k].words[argc] != NULL) {
            argc++;
        }
        char **argv = (char **)(uintptr_t)cases[k].words;
        assert_int_equal(arguments_take(&table, 1, argc, argv, &i, &taken, &err), FLO_OK);
        assert_true(taken && given);
        assert_string_equal(value, cases[k].value);
        assert_int_equal(argc - i, cases[k].n_left);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_survive_being_handed_on),
        cmocka_unit_test(a_bad_option_is_named_with_its_value),
        cmocka_unit_test(a_value_may_be_left_out_where_it_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

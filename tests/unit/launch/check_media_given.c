/*
 * check_media_given.c - media keep their order across kinds, only what was given is written, and
 * what cannot be is refused without a look into the file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/media_given.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static media_given given;
static flo_err err;

/* Takes words as a command does. */
static flo_code take(int argc, const char *const *words)
{
    argument table[MEDIA_ARGUMENTS];
    flo_code code = FLO_OK;
    media_given_free(&given);
    media_arguments(&given, table);
    for (int i = 0; i < argc && code == FLO_OK;) {
        bool taken;
        code = arguments_take(table, MEDIA_ARGUMENTS, argc, (char **)(uintptr_t)words, &i, &taken,
                              &err);
        assert_true(code != FLO_OK || taken);
    }
    return code;
}

#define TAKE(...)                                                                                  \
    take((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                            \
         (const char *[]){__VA_ARGS__})

static void check_parts(const char *wanted)
{
    buffer parts = {0};
    media_parts_put(&parts, &given);
    buffer_append_byte(&parts, '\0');
    assert_string_equal(parts.at, wanted);
    buffer_free(&parts);
}

static void check_options(const char *sound_padding, const char *wanted)
{
    buffer body = {0};
    buffer_append_byte(&body, 'x');
    media_options_put(&body, &given, sound_padding);
    buffer_append_byte(&body, '\0');
    assert_string_equal(body.at + 1, wanted);
    buffer_free(&body);
}

static void the_order_is_kept_across_kinds(void **state)
{
    (void)state;
    assert_int_equal(TAKE("--audio", "/b", "--image=/a", "--audio", "/b", "--video", "/c"), FLO_OK);
    check_parts("{\"type\":\"audio\",\"audio\":\"/b\"},{\"type\":\"image\",\"image\":\"/a\"},"
                "{\"type\":\"audio\",\"audio\":\"/b\"},{\"type\":\"video\",\"video\":\"/c\"}");
    assert_int_equal(TAKE("--image", "data:image/png;base64,AA"), FLO_OK);
    check_parts("{\"type\":\"image\",\"image\":\"data:image/png;base64,AA\"}");
    assert_int_equal(TAKE("--video-fps", "1"), FLO_OK);
    check_parts("");
}

static void a_relative_path_becomes_absolute(void **state)
{
    (void)state;
    assert_int_equal(chdir("/tmp"), 0);
    assert_int_equal(TAKE("--image", "a \"b\".png"), FLO_OK);
    check_parts("{\"type\":\"image\",\"image\":\"/tmp/a \\\"b\\\".png\"}");
}

static void only_given_options_are_written(void **state)
{
    (void)state;
    assert_int_equal(TAKE("--image", "/a"), FLO_OK);
    check_options(NULL, "");
    check_options("turn", ",\"media_options\":{\"sound_padding\":\"turn\"}");
    assert_int_equal(TAKE("--video-fps=1.5", "--use-audio-in-video", "--image-min-pixels", "7"),
                     FLO_OK);
    check_options(NULL, ",\"media_options\":{\"image_min_pixels\":7,\"video_fps\":1.5,"
                        "\"use_audio_in_video\":true}");
    check_options("turn", ",\"media_options\":{\"image_min_pixels\":7,\"video_fps\":1.5,"
                          "\"use_audio_in_video\":true,\"sound_padding\":\"turn\"}");
}

static void bounds_must_not_cross(void **state)
{
    (void)state;
    const run_options run = {0};
    assert_int_equal(TAKE("--image-min-pixels", "4", "--image-max-pixels", "4"), FLO_OK);
    assert_int_equal(media_given_check(&given, &run, false, &err), FLO_OK);
    assert_int_equal(TAKE("--image-min-pixels", "5", "--video-max-pixels", "4"), FLO_OK);
    assert_int_equal(media_given_check(&given, &run, false, &err), FLO_OK);
    assert_int_equal(TAKE("--video-min-pixels", "5", "--video-max-pixels", "4"), FLO_OK);
    assert_int_equal(media_given_check(&given, &run, false, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "--video-min-pixels 5"));
    assert_int_equal(TAKE("--recorded-fps", "0"), FLO_OK);
    assert_int_equal(media_given_check(&given, &run, false, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "--recorded-fps 0"));
    assert_int_equal(TAKE("--video-fps", "nan"), FLO_USAGE);
    assert_int_equal(TAKE("--image-max-pixels", "1099511627777"), FLO_USAGE);
}

static void options_that_contradict_are_refused(void **state)
{
    (void)state;
    const run_options without = {.no_media = true}, with = {0};
    assert_int_equal(TAKE("--video-all-frames"), FLO_OK);
    assert_int_equal(media_given_check(&given, &without, false, &err), FLO_USAGE);
    assert_int_equal(media_given_check(&given, &with, false, &err), FLO_OK);
    assert_int_equal(TAKE("--use-audio-in-video"), FLO_OK);
    assert_int_equal(media_given_check(&given, &with, false, &err), FLO_USAGE);
    assert_int_equal(media_given_check(&given, &with, true, &err), FLO_OK);
    assert_int_equal(TAKE("--use-audio-in-video", "--video", "/"), FLO_OK);
    assert_int_equal(media_given_check(&given, &with, false, &err), FLO_OK);
}

static void media_are_files_or_allowed_urls(void **state)
{
    (void)state;
    static const char *const kinds[] = {"--image", "--audio", "--video", "/image", "/video"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        bool video = strstr(kinds[i], "video") != NULL;
        assert_int_equal(medium_check(kinds[i], "/proc/self/exe", false, &err), FLO_OK);
        assert_int_equal(medium_check(kinds[i], "/tmp", false, &err), video ? FLO_OK : FLO_USAGE);
        assert_int_equal(medium_check(kinds[i], "/dev/null", false, &err), FLO_USAGE);
        assert_int_equal(medium_check(kinds[i], "/no/such", false, &err), FLO_USAGE);
        assert_int_equal(strncmp(err.text, kinds[i], strlen(kinds[i])), 0);
        assert_int_equal(medium_check(kinds[i], "", true, &err), FLO_USAGE);
        assert_int_equal(medium_check(kinds[i], "-", true, &err), FLO_USAGE);
        assert_int_equal(medium_check(kinds[i], "http://a.example/b", false, &err), FLO_USAGE);
        assert_int_equal(medium_check(kinds[i], "http://a.example/b", true, &err), FLO_OK);
        assert_int_equal(medium_check(kinds[i], "data:,x", false, &err), FLO_OK);
    }
}

static void a_name_for_sentences_is_short_and_harmless(void **state)
{
    (void)state;
    static const struct {
        const char *reference, *name;
    } cases[] = {{"/home/me/a b.png", "a b.png"},
                 {"a.png", "a.png"},
                 {"/home/clip/", "clip"},
                 {"https://example.org/x/y.jpg", "y.jpg"},
                 {"data:image/png;base64,AAAA/BB", "a data: URL"},
                 {"a\033[2Jb", "a [2Jb"}};
    char name[64], longest[201];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        medium_name(name, cases[i].reference);
        assert_string_equal(name, cases[i].name);
    }
    memset(longest, 0, sizeof longest);
    for (size_t i = 0; i < 200; i += 2) {
        memcpy(longest + i, "\xc3\xa9", 2);
    }
    medium_name(name, longest);
    assert_int_equal(strlen(name), 62); /* whole characters */
}

static int end(void **state)
{
    (void)state;
    media_given_free(&given);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_is_kept_across_kinds),
        cmocka_unit_test(a_relative_path_becomes_absolute),
        cmocka_unit_test(only_given_options_are_written),
        cmocka_unit_test(bounds_must_not_cross),
        cmocka_unit_test(options_that_contradict_are_refused),
        cmocka_unit_test(media_are_files_or_allowed_urls),
        cmocka_unit_test(a_name_for_sentences_is_short_and_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}

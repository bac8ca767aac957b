/*
 * check_source.c - a medium comes whole from where its reference points, or one sentence says why
 * not; nothing is opened that the rules do not allow.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/media/source.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];
static const media_rules LOCAL = {.files = true};
static const media_rules CLIENT = {.urls = true};

static int make_folder(void **state)
{
    (void)state;
    temp_folder_make(folder);
    temp_file_write(folder, "three", "abc", 3);
    temp_file_write(folder, "a b%c#d?e", "odd", 3);
    temp_file_write(folder, "empty", "", 0);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

static void check_opens(const char *reference, const media_rules *rules, const char *bytes)
{
    media_source s;
    flo_err err = {""};
    if (media_source_open(&s, reference, strlen(reference), rules, NULL, &err) != FLO_OK) {
        fail_msg("%s: %s", reference, err.text);
    }
    assert_int_equal(s.n_bytes, strlen(bytes));
    assert_memory_equal(s.bytes, bytes, s.n_bytes);
    assert_string_equal(s.folder, "");
    assert_int_not_equal(s.name[0], '\0');
    media_source_close(&s);
    media_source_close(&s);
    assert_null(s.bytes);
}

/* Refused, with a sentence that has `says` in it; returns the sentence. */
static const char *check_refused(const char *reference, size_t n, const media_rules *rules,
                                 const char *says)
{
    static flo_err err;
    media_source s;
    err.text[0] = '\0';
    assert_int_equal(media_source_open(&s, reference, n, rules, NULL, &err), FLO_USAGE);
    if (strstr(err.text, says) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, says);
    }
    assert_null(s.bytes);
    assert_null(s.owned);
    assert_string_equal(s.folder, "");
    media_source_close(&s);
    return err.text;
}

static const char *join(const char *before, const char *after)
{
    static char text[2 * PATH_MAX];
    snprintf(text, sizeof text, "%s%s", before, after);
    return text;
}

static void a_file_is_read_whole_by_path_and_by_url(void **state)
{
    (void)state;
    const char *path = temp_path(folder, "three");
    check_opens(path, &LOCAL, "abc");
    check_opens(join("file://", path), &LOCAL, "abc");
    check_opens(join("FILE:", path), &LOCAL, "abc");
    check_opens(join("file://localhost", path), &LOCAL, "abc");
    check_opens(temp_path(folder, "a b%c#d?e"), &LOCAL, "odd");
    check_opens(join("file://", temp_path(folder, "a%20b%25c%23d%3fe")), &LOCAL, "odd");
    check_opens(join("file://", temp_path(folder, "a b%25c#d?e")), &LOCAL, "odd");
}

static void a_relative_path_is_taken_from_the_working_folder(void **state)
{
    (void)state;
    char before[PATH_MAX];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(folder), 0);
    check_opens("three", &LOCAL, "abc");
    check_opens("./three", &LOCAL, "abc");
    assert_int_equal(chdir(before), 0);
}

static void a_reference_ends_where_its_length_says(void **state)
{
    (void)state;
    media_source s;
    flo_err err = {""};
    const char *path = temp_path(folder, "three");
    const char *longer = join(path, "and more");
    assert_int_equal(media_source_open(&s, longer, strlen(path), &LOCAL, NULL, &err), FLO_OK);
    assert_int_equal(s.n_bytes, 3);
    media_source_close(&s);
}

static void a_folder_is_named_absolutely_and_not_read(void **state)
{
    (void)state;
    media_source s;
    flo_err err = {""};
    char whole[PATH_MAX];
    const char *path = join(folder, "/../");
    assert_non_null(realpath(path, whole));
    assert_int_equal(media_source_open(&s, path, strlen(path), &LOCAL, NULL, &err), FLO_OK);
    assert_null(s.bytes);
    assert_int_equal(s.n_bytes, 0);
    assert_string_equal(s.folder, whole);
    media_source_close(&s);
}

static void what_is_no_medium_is_refused(void **state)
{
    (void)state;
    check_refused("", 0, &LOCAL, "empty");
    const char *path = temp_path(folder, "empty");
    check_refused(path, strlen(path), &LOCAL, "is empty");
    path = temp_path(folder, "none");
    check_refused(path, strlen(path), &LOCAL, "none: No such file");
    check_refused("data:;base64,", 13, &LOCAL, "data: URL: is empty");
    check_refused("/tmp\0/x", 7, &LOCAL, "NUL");
    check_refused("file:///tmp%00/x", 16, &LOCAL, "NUL");
    check_refused("file:///tmp%0", 13, &LOCAL, "file: URL");
    check_refused("file://elsewhere/tmp/x", 22, &LOCAL, "file:///PATH");
    check_refused("file://localhost", 16, &LOCAL, "file:///PATH");
    check_refused("file:x", 6, &LOCAL, "file:///PATH");
    check_refused("ftp://host/x", 12, &LOCAL, "scheme");
    check_refused("x-y+z.1://host", 14, &LOCAL, "scheme");
}

static void devices_and_pipes_are_refused_without_waiting(void **state)
{
    (void)state;
    const char *pipe = temp_path(folder, "pipe");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    check_refused(pipe, strlen(pipe), &LOCAL, "neither a file nor a folder");
    check_refused("/dev/zero", 9, &LOCAL, "neither a file nor a folder");
    check_refused("/dev/tty", 8, &LOCAL, "/dev/tty");
}

static void a_file_over_the_limit_is_refused_before_it_is_read(void **state)
{
    (void)state;
    const char *path = temp_path(folder, "sparse");
    temp_file_write(folder, "sparse", "x", 1);
    assert_int_equal(truncate(path, (off_t)1 << 42), 0); /* 4 TiB that no memory could take */
    check_refused(path, strlen(path), &LOCAL, "4.00T");
    media_rules small = {.files = true, .bytes_max = 2};
    path = temp_path(folder, "three");
    check_refused(path, strlen(path), &small, "has 3 bytes, more than 2");
    check_refused("data:,abc", 9, &small, "more than 2");
    small.bytes_max = 3;
    check_opens(path, &small, "abc");
    check_opens("data:,abc", &small, "abc");
}

static void a_set_cancel_ends_the_reading(void **state)
{
    (void)state;
    media_source s;
    flo_err err = {""};
    const volatile bool cancel = true;
    const char *path = temp_path(folder, "three");
    assert_int_equal(media_source_open(&s, path, strlen(path), &LOCAL, &cancel, &err),
                     FLO_INTERRUPTED);
    assert_null(s.owned);
}

static void what_the_rules_do_not_allow_is_not_touched(void **state)
{
    (void)state;
    const char *path = temp_path(folder, "three");
    const char *sentence = check_refused(path, strlen(path), &CLIENT, "file of the server");
    assert_non_null(strstr(sentence, "data: URL"));
    assert_non_null(strstr(sentence, "http(s)"));
    assert_non_null(strstr(sentence, "three"));
    path = join("file://", path);
    check_refused(path, strlen(path), &CLIENT, "file of the server");
    sentence = check_refused("http://127.0.0.1/", 17, &LOCAL, "--allow-media-urls");
    assert_non_null(strstr(sentence, "a file"));
    check_opens("data:,x", &CLIENT, "x");
}

static void a_long_reference_is_never_quoted(void **state)
{
    (void)state;
    size_t n = (size_t)32 << 20;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'Q', n);
    assert_true(strlen(check_refused(text, n, &LOCAL, "longer than any path")) < 200);
    assert_true(strlen(check_refused(text, n, &CLIENT, "file of the server")) < 200);
    memcpy(text, "data:;base64,", 13);
    text[n - 1] = '!';
    assert_true(strlen(check_refused(text, n, &CLIENT, "not base64")) < 200);
    memcpy(text, "https://hostname/", 17);
    assert_true(strlen(check_refused(text, n, &CLIENT, "URL")) < 200);
    memcpy(text, "ftps://hostname//", 17);
    assert_true(strlen(check_refused(text, n, &CLIENT, "scheme")) < 200);
    free(text);
}

static void names_are_short_and_safe_to_print(void **state)
{
    (void)state;
    char path[3000];
    memset(path, 'd', sizeof path);
    for (size_t i = 0; i < sizeof path; i += 100) {
        path[i] = '/';
    }
    memcpy(path + sizeof path - 20, "/\x1b[2J\xff\xc2\x9b.png", 12);
    path[sizeof path - 8] = '\0';
    const char *sentence = check_refused(path, strlen(path), &LOCAL, "?[2J??.png: No such file");
    assert_true(strlen(sentence) < 250);
    assert_memory_equal(sentence, ".../", 4);
}

static void base64_of_a_request_is_taken_with_its_name(void **state)
{
    (void)state;
    media_source s;
    flo_err err = {""};
    assert_int_equal(media_source_from_base64(&s, "QU JD", 5, "input_audio", &CLIENT, &err),
                     FLO_OK);
    assert_int_equal(s.n_bytes, 3);
    assert_memory_equal(s.bytes, "ABC", 3);
    assert_string_equal(s.name, "input_audio");
    media_source_close(&s);
    assert_int_equal(media_source_from_base64(&s, "data:;base64,QUJD", 17, "x", &CLIENT, &err),
                     FLO_OK);
    assert_memory_equal(s.bytes, "ABC", 3);
    media_source_close(&s);
    assert_int_equal(media_source_from_base64(&s, "Q?", 2, "input_audio", &CLIENT, &err),
                     FLO_USAGE);
    assert_memory_equal(err.text, "input_audio: not base64", 23);
    assert_int_equal(media_source_from_base64(&s, "", 0, "input_audio", &CLIENT, &err), FLO_USAGE);
    assert_string_equal(err.text, "input_audio: is empty");
}

static void urls_are_told_from_paths(void **state)
{
    (void)state;
    static const char *const urls[] = {"data:,",   "DATA:x",  "file:/x",
                                       "http://x", "HTTPS:x", "s3://bucket/key"};
    static const char *const paths[] = {"",       "x",    "/x",      "./http://x", "data",
                                        "3d://x", "://x", "a_b://x", "notes: x"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        assert_true(media_reference_is_url(urls[i], strlen(urls[i])));
    }
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        assert_false(media_reference_is_url(paths[i], strlen(paths[i])));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_whole_by_path_and_by_url),
        cmocka_unit_test(a_relative_path_is_taken_from_the_working_folder),
        cmocka_unit_test(a_reference_ends_where_its_length_says),
        cmocka_unit_test(a_folder_is_named_absolutely_and_not_read),
        cmocka_unit_test(what_is_no_medium_is_refused),
        cmocka_unit_test(devices_and_pipes_are_refused_without_waiting),
        cmocka_unit_test(a_file_over_the_limit_is_refused_before_it_is_read),
        cmocka_unit_test(a_set_cancel_ends_the_reading),
        cmocka_unit_test(what_the_rules_do_not_allow_is_not_touched),
        cmocka_unit_test(a_long_reference_is_never_quoted),
        cmocka_unit_test(names_are_short_and_safe_to_print),
        cmocka_unit_test(base64_of_a_request_is_taken_with_its_name),
        cmocka_unit_test(urls_are_told_from_paths),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/*
 * check_spoken_answers.c - files of spoken answers lie where they were asked for, and none takes
 * the place of another.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/spoken_answers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];
static flo_err err;

static int enter_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/flotilla-check-XXXXXX");
    return mkdtemp(folder) != NULL && chdir(folder) == 0 && mkdir("talks", 0700) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    (void)state;
    return rmdir("talks") == 0 && chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static void check_next(const char *where, const char *wanted)
{
    char *stem;
    assert_int_equal(spoken_answers_find(&stem, where, &err), FLO_OK);
    char *name = spoken_answers_next(stem);
    assert_string_equal(name, wanted);
    free(name);
    free(stem);
}

static void names_begin_as_was_said(void **state)
{
    (void)state;
    check_next("", "answer-1.wav");
    check_next("talks", "talks/answer-1.wav");
    check_next("talks/", "talks/answer-1.wav");
    check_next("talk", "talk-1.wav");
    check_next("talks/monday", "talks/monday-1.wav");
    check_next("talk.wav", "talk-1.wav");
    check_next(".wav", ".wav-1.wav");
    check_next("talks/.wav", "talks/.wav-1.wav");
}

static void numbers_that_are_taken_are_left_out(void **state)
{
    (void)state;
    close(open("answer-1.wav", O_CREAT | O_WRONLY, 0600));
    assert_int_equal(symlink("/no/such/place", "answer-2.wav"), 0);
    close(open("answer-4.wav", O_CREAT | O_WRONLY, 0600));
    check_next("", "answer-3.wav");
    unlink("answer-1.wav");
    unlink("answer-2.wav");
    unlink("answer-4.wav");
}

static void where_no_file_can_be_made_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"no/", "no/such", "/no/such/"};
    char *stem;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(spoken_answers_find(&stem, bad[i], &err), FLO_USAGE);
        assert_non_null(strstr(err.text, "cannot be made: No such file or directory"));
    }
    assert_int_equal(spoken_answers_find(&stem, "-", &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "writes each answer to a file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_begin_as_was_said),
        cmocka_unit_test(numbers_that_are_taken_are_left_out),
        cmocka_unit_test(where_no_file_can_be_made_is_refused),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}

/*
 * check_typed_path.c - a file is found by its own name however odd that is, and by the name that a
 * shell or a file manager gives it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/typed_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64];

static int enter_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/flotilla-check-XXXXXX");
    return mkdtemp(folder) != NULL && chdir(folder) == 0 && setenv("HOME", folder, 1) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    (void)state;
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static void check(const char *typed, const char *wanted)
{
    char *path = typed_path(typed);
    assert_string_equal(path, wanted);
    free(path);
}

/* The same with a file of that name in the folder. */
static void check_existing(const char *typed, const char *wanted)
{
    FILE *f = fopen(wanted, "w");
    assert_non_null(f);
    fclose(f);
    check(typed, wanted);
    assert_int_equal(unlink(wanted), 0);
}

static void a_name_without_quotes_is_itself(void **state)
{
    (void)state;
    check("photo.png", "photo.png");
    check("  my photo.png \t", "my photo.png");
    check("", "");
    check(" \t ", "");
    check("https://example.org/a.png", "https://example.org/a.png");
}

static void the_home_folder_is_known(void **state)
{
    (void)state;
    char whole[128];
    snprintf(whole, sizeof whole, "%s/a b.png", folder);
    check("~/a b.png", whole);
    check("~/a\\ b.png", whole);
    check("~", folder);
    check("~other/a.png", "~other/a.png");
    check("'~/a.png'", "~/a.png"); /* as in a shell */
}

static void quotes_and_backslashes_are_those_of_a_shell(void **state)
{
    (void)state;
    check("'a b.png'", "a b.png");
    check("\"a b.png\" ", "a b.png");
    check("a\\ b.png", "a b.png");
    check("'it'\\''s.png'", "it's.png");
    check("\"a\\\"b\\c.png\"", "a\"b\\c.png");
    check("'a\\b.png'", "a\\b.png");
    check("''", "");
}

static void what_is_not_closed_stays(void **state)
{
    (void)state;
    check("it's.png", "it's.png");
    check("\"a.png", "\"a.png");
    check("a\\", "a\\");
}

static void a_file_that_is_there_under_this_very_name_goes_first(void **state)
{
    (void)state;
    check_existing("'a.png'", "'a.png'");
    check_existing("a\\ b.png", "a\\ b.png");
    check_existing("'a b.png'", "a b.png");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_without_quotes_is_itself),
        cmocka_unit_test(the_home_folder_is_known),
        cmocka_unit_test(quotes_and_backslashes_are_those_of_a_shell),
        cmocka_unit_test(what_is_not_closed_stays),
        cmocka_unit_test(a_file_that_is_there_under_this_very_name_goes_first),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}

/*
 * check_progress.c - a bar says how much, how fast and how long, and never more than the line is
 * wide.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/progress.h"
#include "common/utf8.h"

#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

static void a_bar_says_bytes_rate_and_time_left(void **state)
{
    (void)state;
    char out[PROGRESS_WIDTH_MAX];
    progress_bar(out, 120, "worker 2 on b", 1ull << 30, 4ull << 30, 2.0);
    assert_string_equal(
        out, "worker 2 on b  [#####---------------]   25 %  1.00G of 4.00G  512M/s  6 s left");
    progress_bar(out, 120, "worker 2 on b", 4ull << 30, 4ull << 30, 2.0);
    assert_string_equal(out,
                        "worker 2 on b  [####################]  100 %  4.00G of 4.00G  2.00G/s");
}

static void odd_numbers_do_no_harm(void **state)
{
    (void)state;
    char out[PROGRESS_WIDTH_MAX];
    progress_bar(out, 120, "w", 0, 0, 0);
    assert_non_null(strstr(out, "0 %"));
    progress_bar(out, 120, "w", UINT64_MAX, 1, 1e9);
    assert_non_null(strstr(out, "100 %"));
}

static void every_width_is_kept(void **state)
{
    (void)state;
    for (size_t width = 0; width < 400; width++) {
        char out[PROGRESS_WIDTH_MAX];
        progress_bar(out, width, "worker 1000 on a-long-host-name.example", 123456789, 987654321,
                     12.3);
        assert_true(strlen(out) <= width);
        assert_true(strlen(out) < PROGRESS_WIDTH_MAX);
    }
}

static void a_stage_says_its_share_and_time_left(void **state)
{
    (void)state;
    char out[PROGRESS_WIDTH_MAX];
    progress_stage_bar(out, 120, "encoding a.png", 0.25, 2.0);
    assert_string_equal(out, "encoding a.png  [#####---------------]   25 %  6 s left");
    progress_stage_bar(out, 120, "encoding a.png", 0, 2.0);
    assert_string_equal(out, "encoding a.png  [--------------------]    0 %");
    progress_stage_bar(out, 120, "encoding a.png", 0.999, 2.0);
    assert_string_equal(out, "encoding a.png  [###################-]   99 %  1 s left");
    progress_stage_bar(out, 120, "encoding a.png", 0.02, 600);
    assert_non_null(strstr(out, " 490 min left"));
}

static void odd_shares_and_names_do_no_harm(void **state)
{
    (void)state;
    static const double shares[] = {-1, 2, NAN, INFINITY, -INFINITY, 1e-300};
    char out[PROGRESS_WIDTH_MAX], name[301];
    for (size_t i = 0; i < 300; i += 3) {
        memcpy(name + i, "\xe2\x82\xac", 3);
    }
    name[300] = '\0';
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        progress_stage_bar(out, 100, "w", shares[i], 1);
        assert_non_null(strstr(out, shares[i] > 1 ? " 100 %" : "   0 %"));
    }
    for (size_t width = 0; width < 400; width++) {
        progress_stage_bar(out, width, name, 0.5, 10);
        assert_true(strlen(out) <= width);
        assert_int_equal(utf8_good_bytes(out, strlen(out)), strlen(out));
    }
}

static void a_stage_is_silent_for_a_second(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    progress *p = progress_new(ends[1], false);
    progress_stage(p, "encoding a.png", 0);
    assert_true(progress_has_stage(p));
    progress_stage(p, "encoding a.png", 0.5);
    progress_stage_draw(p);
    progress_stage(p, "encoding a.png", 1);
    assert_false(progress_has_stage(p));
    progress_free(p);
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), -1);
    close(ends[0]);
    close(ends[1]);
}

/* A file of log lines gets one now and then; text that goes there is not interrupted. */
static void sound_is_not_told_at_once_without_a_terminal(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    progress *p = progress_new(ends[1], false);
    progress_sound(p, 0.5, false);
    progress_sound(p, 1.5, true);
    progress_stage_end(p);
    progress_free(p);
    char byte;
    assert_int_equal(read(ends[0], &byte, 1), -1);
    close(ends[0]);
    close(ends[1]);
}

static void a_pipe_gets_no_bars_and_quiet_gets_nothing(void **state)
{
    (void)state;
    int ends[2];
    char text[256] = "";
    assert_int_equal(pipe(ends), 0);
    progress *p = progress_new(ends[1], false);
    progress_update(p, 1, "a", 1, 2); /* too early for the first line */
    progress_update(p, 2, "b", 2, 4);
    progress_log(p, "a log line");
    assert_int_equal(progress_end(p), 3);
    progress_free(p);
    p = progress_new(ends[1], true);
    progress_update(p, 1, "a", 1, 2);
    progress_free(p);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    assert_true(n > 0);
    assert_string_equal(text, "a log line\n");
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bar_says_bytes_rate_and_time_left),
        cmocka_unit_test(odd_numbers_do_no_harm),
        cmocka_unit_test(every_width_is_kept),
        cmocka_unit_test(a_stage_says_its_share_and_time_left),
        cmocka_unit_test(odd_shares_and_names_do_no_harm),
        cmocka_unit_test(a_stage_is_silent_for_a_second),
        cmocka_unit_test(sound_is_not_told_at_once_without_a_terminal),
        cmocka_unit_test(a_pipe_gets_no_bars_and_quiet_gets_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

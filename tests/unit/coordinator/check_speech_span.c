/*
 * check_speech_span.c - however a prompt is cut into steps, every row that the talker takes is
 * named once, in order, where it lies in its step; and none is taken over from an earlier turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/layout.h"
#include "coordinator/speech/speech_span.h"

#include <string.h>

enum { N_PROMPT = 3000, N_ROWS = 700, SESSION = 77 };

static int32_t rows[N_ROWS];

static int make_rows(void **state)
{
    (void)state;
    for (int32_t k = 0; k < N_ROWS; k++) {
        rows[k] = k < 200 ? 40 + k : k < 201 ? 600 : 1000 + 3 * (k - 201);
    }
    return 0;
}

static generation spoken(void)
{
    return (generation){
        .n_prompt = N_PROMPT, .speech = SESSION, .speech_rows = rows, .n_speech_rows = N_ROWS};
}

/* A step with `before` rows of others in front of n of g's. Returns how many are named. */
static int32_t expect_span(const generation *g, int32_t first, int32_t n, uint32_t before,
                           int32_t n_told)
{
    uint32_t named[STEP_ROWS_MAX + 1] = {0};
    size_t n_named = 1; /* of another sequence */
    Flo__Span span = FLO__SPAN__INIT;
    span.first = (uint32_t)first;
    span.rows = (uint32_t)n;
    speech_span_name_rows(&span, named, &n_named, before, g);
    assert_int_equal(named[0], 0);
    assert_int_equal(span.speech, n_named > 1 ? SESSION : 0);
    assert_int_equal(span.speech_first, n_named > 1 ? n_told : 0);
    for (size_t i = 1; i < n_named; i++) {
        assert_int_equal((int32_t)(named[i] - before) + first, rows[n_told + (int32_t)i - 1]);
        assert_true(named[i] < before + (uint32_t)n);
    }
    return (int32_t)n_named - 1;
}

static void every_row_is_named_once_whatever_the_steps(void **state)
{
    (void)state;
    generation g = spoken();
    for (int32_t chunk = 1; chunk <= STEP_ROWS_MAX; chunk += chunk < 20 ? 1 : 61) {
        int32_t n_told = 0;
        for (int32_t first = 0; first < N_PROMPT; first += chunk) {
            int32_t n = N_PROMPT - first < chunk ? N_PROMPT - first : chunk;
            n_told += expect_span(&g, first, n, (uint32_t)(STEP_ROWS_MAX - n), n_told);
        }
        assert_int_equal(n_told, N_ROWS);
    }
}

static void rows_of_the_answer_are_not_named(void **state)
{
    (void)state;
    generation g = spoken();
    assert_int_equal(expect_span(&g, N_PROMPT, 1, 3, N_ROWS), 0);
}

static void nothing_is_named_where_nobody_listens(void **state)
{
    (void)state;
    generation silent = spoken(), of_text = spoken();
    silent.speech = 0;
    of_text.n_speech_rows = 0;
    assert_int_equal(expect_span(&silent, 0, 500, 0, 0), 0);
    assert_int_equal(expect_span(&of_text, 0, 500, 0, 0), 0);
}

static void reuse_ends_before_the_first_row_that_the_talker_takes(void **state)
{
    (void)state;
    generation g = spoken();
    assert_int_equal(speech_reuse_max(&g), 40);
    g.speech = 0;
    assert_int_equal(speech_reuse_max(&g), N_PROMPT);
    g = spoken();
    g.n_speech_rows = 0; /* text alone: nothing is waited for */
    assert_int_equal(speech_reuse_max(&g), N_PROMPT);
}

static void rows_rise_and_lie_in_the_prompt(void **state)
{
    (void)state;
    generation g = spoken();
    assert_true(speech_rows_are_valid(&g));
    const int32_t bad[][2] = {{3, 3}, {4, 3}, {-1, 3}, {3, N_PROMPT}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        g.speech_rows = bad[i];
        g.n_speech_rows = 2;
        assert_false(speech_rows_are_valid(&g));
    }
    g.n_speech_rows = 0;
    assert_true(speech_rows_are_valid(&g));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_named_once_whatever_the_steps),
        cmocka_unit_test(rows_of_the_answer_are_not_named),
        cmocka_unit_test(nothing_is_named_where_nobody_listens),
        cmocka_unit_test(reuse_ends_before_the_first_row_that_the_talker_takes),
        cmocka_unit_test(rows_rise_and_lie_in_the_prompt),
    };
    return cmocka_run_group_tests(tests, make_rows, NULL);
}

/*
 * check_limits.c - a hostile template ends in one sentence with its line: never a crash, a hang, or
 * a number that is silently wrong.
 */
#include "tests/unit/template/template_case.h"

#include "coordinator/text/chat_template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* before, then middle n times, then after */
static char *repeated(const char *before, const char *middle, size_t n, const char *after)
{
    size_t n_before = strlen(before), n_middle = strlen(middle);
    char *s = malloc(n_before + n * n_middle + strlen(after) + 1);
    assert_non_null(s);
    memcpy(s, before, n_before);
    for (size_t i = 0; i < n; i++) {
        memcpy(s + n_before + i * n_middle, middle, n_middle);
    }
    strcpy(s + n_before + n * n_middle, after);
    return s;
}

static void assert_deep_faults(const char *before, const char *middle, const char *after)
{
    char *source = repeated(before, middle, 100000, after);
    assert_faults(source, "{}", "line 1: ");
    free(source);
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    assert_deep_faults("{{ ", "(", "1");
    assert_deep_faults("{{ ", "[", "1");
    assert_deep_faults("{{ ", "{'a':", "1");
    assert_deep_faults("{{ ", "not ", "1 }}");
    assert_deep_faults("{{ ", "-", "1 }}");
    assert_deep_faults("{{ 1", " if 1 else 1", " }}");
    assert_deep_faults("{{ 1", " + 1", " }}");
    assert_deep_faults("{{ 1", " and 1", " }}");
    assert_deep_faults("{{ 1", ".a", " }}");
    assert_deep_faults("{{ 1", "|string", " }}");
    assert_deep_faults("{{ 1", " is defined", " }}");
    assert_deep_faults("", "{% if 1 %}", "");
    assert_deep_faults("", "{% for a in b %}", "");
    assert_deep_faults("{% if 1 %}", "{% elif 1 %}", "{% endif %}");
    assert_deep_faults("", "{% macro a() %}", "");
    assert_deep_faults("{% set ", "(", "a");
}

static void endless_recursion_is_refused(void **state)
{
    (void)state;
    assert_faults("a\n{% macro f() %}{{ f() }}{% endmacro %}\n{{ f() }}", "{}",
                  "line 2: nested more than");
    assert_faults(
        "{% macro f() %}{% call f() %}{{ caller }}{% endcall %}{{ caller }}{% endmacro %}{{ f() }}",
        "{}", "nested more than");
    assert_faults("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", "{}",
                  "nested more than");
    assert_faults(
        "{% set n = namespace(a=[]) %}{% for x in range(5000) %}{% set n.a = [n.a] %}{% endfor %}"
        "{{ n.a }}",
        "{}", "nested more than");
    assert_faults(
        "{% set n = namespace(a=[], b=[]) %}{% for x in range(5000) %}{% set n.a = [n.a] %}"
        "{% set n.b = [n.b] %}{% endfor %}{{ n.a == n.b }}",
        "{}", "nested more than");
    assert_faults(
        "{% set n = namespace(a=[]) %}{% for x in range(5000) %}{% set n.a = [n.a] %}{% endfor %}"
        "{{ n.a | tojson }}",
        "{}", "nested more than");
}

static void endless_work_is_refused(void **state)
{
    (void)state;
    assert_faults("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
                  "{}", "steps");
    assert_faults("{% set n = namespace(l=[1]) %}{% for a in range(99) %}{% set n.l = n.l + n.l %}"
                  "{% endfor %}",
                  "{}", "the template ");
    assert_faults("{{ [1] * 10 ** 12 }}", "{}", "the template ");
    assert_faults("{{ range(10 ** 9) }}", "{}", "Range too big");
}

static void large_output_and_texts_are_refused(void **state)
{
    (void)state;
    assert_faults("{{ 'a' * 10 ** 10 }}", "{}", "too large");
    assert_faults(
        "{% set n = namespace(s='abcdefgh') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}"
        "{% endfor %}",
        "{}", "MiB");
    assert_faults("{% set s = 'abcdefgh' * 10 ** 6 %}{% for a in range(99) %}{{ s }}{% endfor %}",
                  "{}", "the output grows over");
    assert_faults("{{ 'a'.center(10 ** 12) }}", "{}", "MiB");
    assert_faults("{{ '%999999999d' % 1 }}", "{}", "a width over");
    assert_faults("{{ '{:999999999}'.format(1) }}", "{}", "a number over");
    assert_faults("{{ 'aaaa'.replace('', 'b' * 10 ** 8) * 9 }}", "{}", "");
}

static void numbers_beyond_64_bits_are_exact_or_refused(void **state)
{
    (void)state;
    assert_renders("{{ a }} {{ a | tojson }} {{ [a] }} {{ -a }} {{ a == a }}",
                   "{\"a\": 18446744073709551616}",
                   "18446744073709551616 18446744073709551616 [18446744073709551616] "
                   "-18446744073709551616 True");
    assert_renders("{{ 9223372036854775807 }} {{ -9223372036854775808 }}", "{}",
                   "9223372036854775807 -9223372036854775808");
    assert_faults("\n{{ 9223372036854775807 + 1 }}", "{}",
                  "line 2: an integer of more than 64 bits");
    assert_faults("{{ 2 ** 64 }}", "{}", "64 bits");
    assert_faults("{{ 4611686018427387904 * -3 }}", "{}", "64 bits");
    assert_faults("{{ a + 1 }}", "{\"a\": 18446744073709551616}", "64 bits");
    assert_faults("{{ a < 1 }}", "{\"a\": 18446744073709551616}", "64 bits");
}

static void numbers_keep_their_kind(void **state)
{
    (void)state;
    assert_renders(
        "{{ a }} {{ b }} {{ c }} {{ d }} {{ e }} {{ l }}",
        "{\"a\": 1, \"b\": 1.0, \"c\": 1e3, \"d\": -0.0, \"e\": 12345678901234567, \"l\": [2, 2.0, "
        "\"3.0\", {\"k\": 4.50}]}",
        "1 1.0 1000.0 -0.0 12345678901234567 [2, 2.0, '3.0', {'k': 4.5}]");
}

static void a_zero_character_is_a_character(void **state)
{
    (void)state;
    assert_renders("{{ s | length }} {{ [s] }} {{ s | tojson }}", "{\"s\": \"a\\u0000b\"}",
                   "3 ['a\\x00b'] \"a\\u0000b\"");
}

static void faults_name_their_line(void **state)
{
    (void)state;
    assert_faults("a\n\n{{ x.y.z }}", "{}", "t.jinja line 3: 'x' is undefined");
    assert_faults("{% for a in [1] %}\n{{ a }}\n{{ raise_exception('no ' ~ a) }}\n{% endfor %}",
                  "{}", "t.jinja line 3: no 1");
    assert_faults("{{ 1\n+\n'a' }}", "{}", "line 1: unsupported operand");
    assert_faults("\n\n{{ 'a }}", "{}", "line 3: ");
    assert_faults("{# x\n", "{}", "line 1: Missing end of comment tag");
    assert_faults("a\n{% include 'b' %}", "{}", "line 2: the tag 'include' is not supported");
    assert_faults("a\n{% import 'b' as c %}", "{}", "line 2: the tag 'import' is not supported");
    assert_faults("{% extends 'b' %}", "{}", "the tag 'extends' is not supported");
    assert_faults("\n{{ x | nofilter }}", "{}", "line 2: No filter named 'nofilter'");
    assert_faults("\r\n\r{{ x( }}", "{}", "line 3: ");
}

static void what_is_given_cannot_be_changed_or_left(void **state)
{
    (void)state;
    assert_faults("{{ l.append(1) }}", "{\"l\": []}", "is unsafe");
    assert_faults("{{ d.update({}) }}", "{\"d\": {}}", "is unsafe");
    assert_faults("{{ d.pop('a') }}", "{\"d\": {}}", "is unsafe");
    assert_renders("{{ ''.__class__ }}{{ x.__globals__ }}|", "{\"x\": []}", "|");
    assert_faults("{{ ''.__class__.__mro__.x }}", "{}", "");
    assert_faults("{% set d.x = 1 %}", "{\"d\": {}}", "non-namespace");
}

static void a_context_that_is_no_object_is_wrong_use(void **state)
{
    (void)state;
    flo_err err = {0};
    char *text = NULL;
    cJSON *list = cJSON_CreateArray();
    assert_int_equal(render("a", list, &text, &err), FLO_USAGE);
    cJSON_Delete(list);
}

static void bytes_that_are_no_text_are_refused(void **state)
{
    (void)state;
    flo_err err = {0};
    chat_template *t = NULL;
    assert_int_equal(chat_template_parse(&t, "a\xff", 2, "t", &err), FLO_FAIL);
    cJSON *context = cJSON_CreateObject();
    cJSON_AddStringToObject(context, "s", "\xe4");
    char *text = NULL;
    assert_int_equal(render("a", context, &text, &err), FLO_FAIL);
    cJSON_Delete(context);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(endless_recursion_is_refused),
        cmocka_unit_test(endless_work_is_refused),
        cmocka_unit_test(large_output_and_texts_are_refused),
        cmocka_unit_test(numbers_beyond_64_bits_are_exact_or_refused),
        cmocka_unit_test(numbers_keep_their_kind),
        cmocka_unit_test(a_zero_character_is_a_character),
        cmocka_unit_test(faults_name_their_line),
        cmocka_unit_test(what_is_given_cannot_be_changed_or_left),
        cmocka_unit_test(a_context_that_is_no_object_is_wrong_use),
        cmocka_unit_test(bytes_that_are_no_text_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

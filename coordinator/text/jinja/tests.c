/*
 * tests.c - what stands behind `is`.
 */
#include "coordinator/text/jinja/renderer.h"

#include <string.h>

#define TEST_OF(name) static value name(renderer *r, value v, const value *a, const arguments *all)

TEST_OF(is_defined)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind != V_UNDEFINED);
}

TEST_OF(is_undefined)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_UNDEFINED);
}

TEST_OF(is_none)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_NONE);
}

TEST_OF(is_boolean)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_BOOL);
}

TEST_OF(is_true)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_BOOL && v.truth);
}

TEST_OF(is_false)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_BOOL && !v.truth);
}

TEST_OF(is_integer)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_INT || v.kind == V_BIG);
}

TEST_OF(is_float)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_FLOAT);
}

TEST_OF(is_number)
{
    (void)r, (void)a, (void)all;
    return BOOL(value_is_number(v));
}

TEST_OF(is_string)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_STRING);
}

TEST_OF(is_mapping)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_DICT);
}

/* What has a length and can be subscribed; an undefined value has both, a dict too. */
TEST_OF(is_sequence)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_STRING || v.kind == V_LIST || v.kind == V_TUPLE || v.kind == V_DICT ||
                v.kind == V_RANGE || v.kind == V_UNDEFINED);
}

TEST_OF(is_iterable)
{
    (void)r, (void)a, (void)all;
    return BOOL(value_is_iterable(v) || v.kind == V_LOOP);
}

TEST_OF(is_callable)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_MACRO || v.kind == V_FUNCTION || v.kind == V_METHOD ||
                v.kind == V_LOOP || v.kind == V_JOINER || v.kind == V_UNDEFINED);
}

TEST_OF(is_escaped)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_STRING && v.string->safe);
}

TEST_OF(is_odd)
{
    (void)a, (void)all;
    return BOOL(value_equal(&r->m, values_operate(r, N_REMAINDER, v, INT(2)), INT(1)));
}

TEST_OF(is_even)
{
    (void)a, (void)all;
    return BOOL(value_equal(&r->m, values_operate(r, N_REMAINDER, v, INT(2)), INT(0)));
}

TEST_OF(is_divisible)
{
    (void)all;
    return BOOL(value_equal(&r->m, values_operate(r, N_REMAINDER, v, a[0]), INT(0)));
}

TEST_OF(is_same)
{
    (void)r, (void)all;
    return BOOL(value_same(v, a[0]));
}

TEST_OF(is_in)
{
    (void)all;
    return BOOL(value_contains(&r->m, a[0], v));
}

TEST_OF(is_eq)
{
    (void)all;
    return BOOL(values_compare(r, OP_EQ, v, a[0]));
}

TEST_OF(is_ne)
{
    (void)all;
    return BOOL(values_compare(r, OP_NE, v, a[0]));
}

TEST_OF(is_lt)
{
    (void)all;
    return BOOL(values_compare(r, OP_LT, v, a[0]));
}

TEST_OF(is_le)
{
    (void)all;
    return BOOL(values_compare(r, OP_LE, v, a[0]));
}

TEST_OF(is_gt)
{
    (void)all;
    return BOOL(values_compare(r, OP_GT, v, a[0]));
}

TEST_OF(is_ge)
{
    (void)all;
    return BOOL(values_compare(r, OP_GE, v, a[0]));
}

/* str.islower and str.isupper: some cased letter, and none of the other case. */
static bool is_all_case(renderer *r, value v, bool upper)
{
    const text *t = value_str(&r->m, v);
    bool some = false;
    sandbox_spend(&r->m, t->n / 8);
    for (size_t i = 0; i < t->n;) {
        int32_t c = char_next(t->bytes, t->n, &i);
        if (char_is_title(c) || (upper ? char_is_lower(c) : char_is_upper(c))) {
            return false;
        }
        some = some || (upper ? char_is_upper(c) : char_is_lower(c));
    }
    return some;
}

TEST_OF(is_lower)
{
    (void)a, (void)all;
    return BOOL(is_all_case(r, v, false));
}

TEST_OF(is_upper)
{
    (void)a, (void)all;
    return BOOL(is_all_case(r, v, true));
}

TEST_OF(is_filter)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_STRING && filter_find(v.string) != NULL);
}

TEST_OF(is_test)
{
    (void)r, (void)a, (void)all;
    return BOOL(v.kind == V_STRING && test_find(v.string) != NULL);
}

static const builtin tests[] = {
    {"defined", "", is_defined},
    {"undefined", "", is_undefined},
    {"none", "", is_none},
    {"boolean", "", is_boolean},
    {"true", "", is_true},
    {"false", "", is_false},
    {"integer", "", is_integer},
    {"float", "", is_float},
    {"number", "", is_number},
    {"string", "", is_string},
    {"mapping", "", is_mapping},
    {"sequence", "", is_sequence},
    {"iterable", "", is_iterable},
    {"callable", "", is_callable},
    {"escaped", "", is_escaped},
    {"odd", "", is_odd},
    {"even", "", is_even},
    {"divisibleby", "num", is_divisible},
    {"sameas", "other", is_same},
    {"in", "seq", is_in},
    {"eq", "-b", is_eq},
    {"equalto", "-b", is_eq},
    {"==", "-b", is_eq},
    {"ne", "-b", is_ne},
    {"!=", "-b", is_ne},
    {"lt", "-b", is_lt},
    {"lessthan", "-b", is_lt},
    {"<", "-b", is_lt},
    {"le", "-b", is_le},
    {"<=", "-b", is_le},
    {"gt", "-b", is_gt},
    {"greaterthan", "-b", is_gt},
    {">", "-b", is_gt},
    {"ge", "-b", is_ge},
    {">=", "-b", is_ge},
    {"lower", "", is_lower},
    {"upper", "", is_upper},
    {"filter", "", is_filter},
    {"test", "", is_test},
};

const builtin *test_find(const text *name)
{
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++) {
        if (text_is(name, tests[i].name)) {
            return &tests[i];
        }
    }
    return NULL;
}

/*
 * operators.c - arithmetic and comparison by Python's rules: floor division and remainder round
 * down, / always gives a float, integers never overflow silently.
 */
#include "coordinator/text/jinja/renderer.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *op_spelling(node_kind op)
{
    switch (op) {
    case N_ADD:
        return "+";
    case N_SUBTRACT:
        return "-";
    case N_MULTIPLY:
        return "*";
    case N_DIVIDE:
        return "/";
    case N_FLOOR_DIVIDE:
        return "//";
    case N_REMAINDER:
        return "%";
    default:
        return "** or pow()";
    }
}

static _Noreturn void no_operation(renderer *r, node_kind op, value a, value b)
{
    if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED) {
        undefined_fault(&r->m, a.kind == V_UNDEFINED ? a : b);
    }
    if (op == N_ADD && (a.kind == V_STRING || a.kind == V_LIST || a.kind == V_TUPLE)) {
        template_fault(&r->m, "can only concatenate %s (not \"%s\") to %s", type_name(a),
                       type_name(b), type_name(a));
    }
    template_fault(&r->m, "unsupported operand type(s) for %s: '%s' and '%s'", op_spelling(op),
                   type_name(a), type_name(b));
}

static _Noreturn void too_large(renderer *r)
{
    template_fault(&r->m,
                   "an integer of more than 64 bits: arithmetic of this size is not supported");
}

/* ---- integers ---- */

static int64_t floor_divide(int64_t a, int64_t b)
{
    int64_t q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

static value integer_power(renderer *r, int64_t base, int64_t exponent)
{
    if (exponent < 0) {
        if (base == 0) {
            template_fault(&r->m, "0.0 cannot be raised to a negative power");
        }
        return FLOAT(pow((double)base, (double)exponent));
    }
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) {
            too_large(r);
        }
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) {
            too_large(r);
        }
    }
    return INT(result);
}

static value integers_operate(renderer *r, node_kind op, int64_t a, int64_t b)
{
    int64_t c = 0;
    bool overflow = false;
    if (b == 0 && (op == N_FLOOR_DIVIDE || op == N_REMAINDER)) {
        template_fault(&r->m, "integer division or modulo by zero");
    }
    if (b == 0 && op == N_DIVIDE) {
        template_fault(&r->m, "division by zero");
    }
    switch (op) {
    case N_ADD:
        overflow = __builtin_add_overflow(a, b, &c);
        break;
    case N_SUBTRACT:
        overflow = __builtin_sub_overflow(a, b, &c);
        break;
    case N_MULTIPLY:
        overflow = __builtin_mul_overflow(a, b, &c);
        break;
    case N_DIVIDE: /* through long double: one rounding where both fit its 64-bit mantissa */
        return FLOAT((double)((long double)a / (long double)b));
    case N_FLOOR_DIVIDE:
        overflow = a == INT64_MIN && b == -1;
        c = overflow ? 0 : floor_divide(a, b);
        break;
    case N_REMAINDER:
        c = b == -1 ? 0 : a - floor_divide(a, b) * b;
        break;
    default:
        return integer_power(r, a, b);
    }
    if (overflow) {
        too_large(r);
    }
    return INT(c);
}

/* ---- floats ---- */

static double real_remainder(double a, double b)
{
    double rest = fmod(a, b);
    if (rest != 0 && (rest < 0) != (b < 0)) {
        return rest + b;
    }
    return rest != 0 ? rest : copysign(0.0, b);
}

static double real_floor_divide(double a, double b)
{
    double rest = fmod(a, b);
    double quotient = (a - rest) / b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        quotient -= 1;
    }
    if (quotient == 0) {
        return copysign(0.0, a / b);
    }
    double whole = floor(quotient);
    return quotient - whole > 0.5 ? whole + 1 : whole;
}

static value real_power(renderer *r, double a, double b)
{
    if (a == 0 && b < 0) {
        template_fault(&r->m, "0.0 cannot be raised to a negative power");
    }
    if (a < 0 && isfinite(a) && isfinite(b) && b != floor(b)) {
        template_fault(&r->m, "a negative number to a fractional power is complex: not supported");
    }
    double x = pow(a, b);
    if (isinf(x) && isfinite(a) && isfinite(b)) {
        template_fault(&r->m, "(34, 'Numerical result out of range')");
    }
    return FLOAT(x);
}

static value reals_operate(renderer *r, node_kind op, double a, double b)
{
    if (b == 0 && (op == N_DIVIDE || op == N_FLOOR_DIVIDE || op == N_REMAINDER)) {
        template_fault(&r->m, op == N_REMAINDER      ? "float modulo"
                              : op == N_FLOOR_DIVIDE ? "float floor division by zero"
                                                     : "float division by zero");
    }
    switch (op) {
    case N_ADD:
        return FLOAT(a + b);
    case N_SUBTRACT:
        return FLOAT(a - b);
    case N_MULTIPLY:
        return FLOAT(a * b);
    case N_DIVIDE:
        return FLOAT(a / b);
    case N_FLOOR_DIVIDE:
        return FLOAT(real_floor_divide(a, b));
    case N_REMAINDER:
        return FLOAT(real_remainder(a, b));
    default:
        return real_power(r, a, b);
    }
}

static value numbers_operate(renderer *r, node_kind op, value a, value b)
{
    if (a.kind == V_BIG || b.kind == V_BIG) {
        too_large(r);
    }
    if (a.kind == V_FLOAT || b.kind == V_FLOAT) {
        return reals_operate(r, op, value_real(&r->m, a), value_real(&r->m, b));
    }
    return integers_operate(r, op, value_integer(a), value_integer(b));
}

/* ---- sequences ---- */

static bool is_list_like(value v)
{
    return v.kind == V_LIST || v.kind == V_TUPLE;
}

static value lists_join(renderer *r, value a, value b)
{
    list *l = list_new(&r->m, a.list->n + b.list->n);
    for (size_t i = 0; i < a.list->n; i++) {
        list_add(&r->m, l, a.list->items[i]);
    }
    for (size_t i = 0; i < b.list->n; i++) {
        list_add(&r->m, l, b.list->items[i]);
    }
    return (value){.kind = a.kind, .list = l};
}

static value texts_join(renderer *r, value a, value b)
{
    text *left = a.string, *right = b.string;
    bool safe = left->safe || right->safe;
    if (safe) { /* Markup escapes what is not marked safe */
        left = left->safe ? left : text_escape_html(&r->m, left);
        right = right->safe ? right : text_escape_html(&r->m, right);
    }
    text *t = text_join(&r->m, left, right);
    t->safe = safe;
    return STRING(t);
}

static value sequence_repeat(renderer *r, value v, int64_t times)
{
    if (v.kind == V_STRING) {
        text *t = text_repeat(&r->m, v.string, times);
        t->safe = v.string->safe;
        return STRING(t);
    }
    list *l = list_new(&r->m, 0);
    for (int64_t i = 0; i < times && v.list->n > 0; i++) {
        for (size_t k = 0; k < v.list->n; k++) {
            list_add(&r->m, l, v.list->items[k]);
        }
    }
    return (value){.kind = v.kind, .list = l};
}

value values_operate(renderer *r, node_kind op, value a, value b)
{
    if (value_is_number(a) && value_is_number(b)) {
        return numbers_operate(r, op, a, b);
    }
    if (a.kind == V_STRING && op == N_REMAINDER) {
        return format_percent(r, a.string, b);
    }
    if (op == N_ADD && a.kind == V_STRING && b.kind == V_STRING) {
        return texts_join(r, a, b);
    }
    if (op == N_ADD && is_list_like(a) && a.kind == b.kind) {
        return lists_join(r, a, b);
    }
    bool a_repeats = a.kind == V_STRING || is_list_like(a);
    bool b_repeats = b.kind == V_STRING || is_list_like(b);
    if (op == N_MULTIPLY && a_repeats && value_is_integral(b)) {
        return sequence_repeat(r, a, value_integer(b));
    }
    if (op == N_MULTIPLY && b_repeats && value_is_integral(a)) {
        return sequence_repeat(r, b, value_integer(a));
    }
    no_operation(r, op, a, b);
}

value value_sign(renderer *r, node_kind op, value a)
{
    if (a.kind == V_UNDEFINED) {
        undefined_fault(&r->m, a);
    }
    if (!value_is_number(a)) {
        template_fault(&r->m, "bad operand type for unary %s: '%s'", op == N_NEGATE ? "-" : "+",
                       type_name(a));
    }
    if (a.kind == V_FLOAT) {
        return FLOAT(op == N_NEGATE ? -a.real : a.real);
    }
    if (op == N_PLUS) {
        return a.kind == V_BIG ? a : INT(value_integer(a));
    }
    if (a.kind == V_BIG) {
        const text *t = a.string;
        text *negated = t->bytes[0] == '-' ? text_bytes_part(&r->m, t, 1, t->n)
                                           : text_join(&r->m, text_of(&r->m, "-"), t);
        return integer_parse(&r->m, negated->bytes, negated->n);
    }
    if (value_integer(a) == INT64_MIN) {
        return integer_parse(&r->m, "9223372036854775808", 19);
    }
    return INT(-value_integer(a));
}

bool values_compare(renderer *r, compare_op op, value a, value b)
{
    sandbox *m = &r->m;
    switch (op) {
    case OP_EQ:
        return value_equal(m, a, b);
    case OP_NE:
        return !value_equal(m, a, b);
    case OP_LT:
        return value_less(m, a, b, "<");
    case OP_LE:
        return value_less_equal(m, a, b, "<=");
    case OP_GT:
        return value_less(m, b, a, ">");
    case OP_GE:
        return value_less_equal(m, b, a, ">=");
    case OP_IN:
        return value_contains(m, b, a);
    default:
        return !value_contains(m, b, a);
    }
}

/* ---- numbers from texts ---- */

/* The text without white space around and underscores between digits; NULL where these stand wrong.
 */
static const char *number_chars(sandbox *m, const text *t)
{
    text copy = *t;
    text *s = text_strip(m, &copy, NULL, STRIP_BOTH);
    char *out = sandbox_take(m, s->n + 1);
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) {
        bool between = i > 0 && i + 1 < s->n && isalnum((unsigned char)s->bytes[i - 1]) &&
                       isalnum((unsigned char)s->bytes[i + 1]);
        if ((s->bytes[i] == '_' && !between) || s->bytes[i] == '\0' || (s->bytes[i] & 0x80)) {
            return NULL;
        }
        if (s->bytes[i] != '_') {
            out[n++] = s->bytes[i];
        }
    }
    out[n] = '\0';
    return n > 0 ? out : NULL;
}

value integer_from_real(sandbox *m, double x)
{
    if (isnan(x)) {
        template_fault(m, "cannot convert float NaN to integer");
    }
    if (isinf(x)) {
        template_fault(m, "cannot convert float infinity to integer");
    }
    if (x >= 9223372036854775808.0 || x < -9223372036854775808.0) {
        char digits[400]; /* exact: printf writes all digits of a double */
        int n = snprintf(digits, sizeof digits, "%.0f", x);
        return integer_parse(m, text_of(m, digits)->bytes, (size_t)n);
    }
    return INT((int64_t)x);
}

/* 0x, 0o, 0b in front go with their base, or choose it where the base is 0. */
static const char *base_skip(const char *s, int64_t *base)
{
    int64_t named = 0;
    if (s[0] == '0' && s[1] != '\0') {
        char c = (char)(s[1] | 0x20);
        named = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
    }
    if (named != 0 && (*base == 0 || *base == named)) {
        *base = named;
        return s + 2;
    }
    *base = *base == 0 ? 10 : *base;
    return s;
}

value integer_from_text(sandbox *m, const text *t, int64_t base)
{
    if (base != 0 && (base < 2 || base > 36)) {
        template_fault(m, "int() base must be >= 2 and <= 36, or 0");
    }
    const char *s = number_chars(m, t);
    if (s == NULL) {
        return MISSING;
    }
    bool negative = *s == '-';
    s += *s == '-' || *s == '+';
    s = base_skip(s, &base);
    if (base == 10 && *s != '\0' && strspn(s, "0123456789") == strlen(s)) {
        const char *digits =
            negative ? text_chars(m, text_join(m, text_of(m, "-"), text_of(m, s))) : s;
        return integer_parse(m, digits, strlen(digits));
    }
    uint64_t sum = 0;
    if (*s == '\0') {
        return MISSING;
    }
    for (; *s != '\0'; s++) {
        int digit = isdigit((unsigned char)*s)   ? *s - '0'
                    : isalpha((unsigned char)*s) ? (*s | 0x20) - 'a' + 10
                                                 : 99;
        if (digit >= base) {
            return MISSING;
        }
        if (sum > ((uint64_t)INT64_MAX - (uint64_t)digit) / (uint64_t)base) {
            template_fault(m, "an integer of more than 64 bits in base %d is not supported",
                           (int)base);
        }
        sum = sum * (uint64_t)base + (uint64_t)digit;
    }
    return INT(negative ? -(int64_t)sum : (int64_t)sum);
}

value real_from_text(sandbox *m, const text *t)
{
    const char *s = number_chars(m, t);
    if (s == NULL) {
        return MISSING;
    }
    const char *body = s + (*s == '-' || *s == '+');
    bool is_word = strcasecmp(body, "inf") == 0 || strcasecmp(body, "infinity") == 0 ||
                   strcasecmp(body, "nan") == 0;
    if (!is_word && (strspn(body, "0123456789.eE+-") != strlen(body) || *body == '\0')) {
        return MISSING;
    }
    char *end;
    double x = strtod(s, &end);
    return *end == '\0' ? FLOAT(x) : MISSING;
}

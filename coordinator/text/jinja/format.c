/*
 * format.c - '%s' % x and '{}'.format(x): Python's two ways of writing values into a text.
 */
#include "coordinator/text/jinja/renderer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT_WIDTH_MAX = 1 << 20, FORMAT_PRECISION_MAX = 400 };

typedef struct spec {  /* of one value; the union of both languages */
    int32_t fill;      /* 0: none given */
    char align;        /* '<' '>' '^' '=' or 0 */
    char sign;         /* '+' ' ' or 0 */
    bool alternate;    /* # */
    char grouping;     /* ',' '_' or 0 */
    int64_t width;     /* 0: none */
    int64_t precision; /* -1: none */
    char type;         /* 0: none */
} spec;

/* ---- numbers ---- */

static text *grouped(sandbox *m, const char *digits, size_t n, char by)
{
    builder b = {0};
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) {
            build_bytes(m, &b, &by, 1);
        }
        build_bytes(m, &b, digits + i, 1);
    }
    return build_end(m, &b);
}

/* Sign and digits joined and padded; '=' pads between them. */
static text *number_padded(sandbox *m, const char *sign, text *digits, const spec *s)
{
    text *whole = text_join(m, text_of(m, sign), digits);
    int32_t fill = s->fill != 0 ? s->fill : ' ';
    if (s->align != '=') {
        return text_pad(m, whole, s->width, fill, s->align != 0 ? s->align : '>');
    }
    builder b = {0};
    build_string(m, &b, sign);
    build_repeated(m, &b, fill, s->width - text_length(whole));
    build_text(m, &b, digits);
    return build_end(m, &b);
}

static const char *sign_of(bool negative, const spec *s)
{
    return negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "";
}

static text *format_integer(sandbox *m, value v, const spec *s)
{
    char out[80], prefix[8] = "";
    bool negative;
    text *digits;
    if (v.kind == V_BIG) {
        if (s->type != 'd' && s->type != 0) {
            template_fault(m, "formatting an integer of more than 64 bits as %c is not supported",
                           s->type);
        }
        negative = v.string->bytes[0] == '-';
        digits = text_bytes_part(m, v.string, negative, v.string->n);
    } else {
        int64_t i = value_integer(v);
        negative = i < 0;
        uint64_t size = negative ? 0 - (uint64_t)i : (uint64_t)i;
        size_t n = 0;
        unsigned base = s->type == 'x' || s->type == 'X' ? 16
                        : s->type == 'o'                 ? 8
                        : s->type == 'b'                 ? 2
                                                         : 10;
        char reversed[72];
        do {
            reversed[n++] = (s->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef")[size % base];
            size /= base;
        } while (size > 0);
        for (size_t k = 0; k < n; k++) {
            out[k] = reversed[n - 1 - k];
        }
        digits = text_copy(m, out, n);
        if (s->alternate && base != 10) {
            snprintf(prefix, sizeof prefix, "0%c", s->type);
        }
    }
    digits = s->grouping != 0 ? grouped(m, digits->bytes, digits->n, s->grouping) : digits;
    char sign[16];
    snprintf(sign, sizeof sign, "%s%s", sign_of(negative, s), prefix);
    return number_padded(m, sign, digits, s);
}

/* Digits of |x| in the form that the type asks for. */
static text *real_digits(sandbox *m, double x, const spec *s)
{
    char out[800];
    char type = s->type == 'n' ? 'g' : s->type;
    if (!isfinite(x)) {
        bool upper = type == 'F' || type == 'E' || type == 'G';
        return text_of(m, isnan(x) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf"));
    }
    if (s->precision > FORMAT_PRECISION_MAX) {
        template_fault(m, "a precision over %d", FORMAT_PRECISION_MAX);
    }
    int precision = s->precision < 0 ? 6 : (int)s->precision;
    if (type == 0 && s->precision < 0) {
        float_repr(out, x);
        return text_of(m, out);
    }
    if (type == '%') {
        snprintf(out, sizeof out, "%.*f%%", precision, x * 100);
    } else if (type == 0) { /* like g, but with one digit behind the point at least */
        snprintf(out, sizeof out, "%.*g", precision, x);
        if (strpbrk(out, ".e") == NULL) {
            strcat(out, ".0");
        }
    } else {
        const char *format = type == 'e'   ? (s->alternate ? "%#.*e" : "%.*e")
                             : type == 'E' ? (s->alternate ? "%#.*E" : "%.*E")
                             : type == 'g' ? (s->alternate ? "%#.*g" : "%.*g")
                             : type == 'G' ? (s->alternate ? "%#.*G" : "%.*G")
                                           : (s->alternate ? "%#.*f" : "%.*f");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(out, sizeof out, format, precision, x);
#pragma GCC diagnostic pop
    }
    return text_of(m, out);
}

static text *format_real(sandbox *m, double x, const spec *s)
{
    text *digits = real_digits(m, fabs(x), s);
    if (s->grouping != 0) {
        size_t whole = 0;
        while (whole < digits->n && digits->bytes[whole] >= '0' && digits->bytes[whole] <= '9') {
            whole++;
        }
        text *head = grouped(m, digits->bytes, whole, s->grouping);
        digits = text_join(m, head, text_bytes_part(m, digits, whole, digits->n));
    }
    return number_padded(m, sign_of(signbit(x) && !isnan(x), s), digits, s);
}

static text *format_string(sandbox *m, text *t, const spec *s)
{
    text *cut = s->precision >= 0 ? text_part(m, t, 0, s->precision) : t;
    return text_pad(m, cut, s->width, s->fill != 0 ? s->fill : ' ', s->align != 0 ? s->align : '<');
}

/* ---- % ---- */

typedef struct percent {
    renderer *r;
    const text *format;
    size_t at;
    value given;   /* what stands behind % */
    size_t n_used; /* of a tuple */
} percent;

static value percent_next(percent *p)
{
    if (p->given.kind == V_TUPLE) {
        if (p->n_used == p->given.list->n) {
            template_fault(&p->r->m, "not enough arguments for format string");
        }
        return p->given.list->items[p->n_used++];
    }
    if (p->n_used++ > 0) {
        template_fault(&p->r->m, "not enough arguments for format string");
    }
    return p->given;
}

static char percent_char(percent *p)
{
    if (p->at >= p->format->n) {
        template_fault(&p->r->m, "incomplete format");
    }
    return p->format->bytes[p->at];
}

static value percent_named(percent *p)
{
    size_t first = ++p->at;
    for (int depth = 1; depth > 0; p->at++) {
        char c = percent_char(p);
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    }
    if (p->given.kind != V_DICT) {
        template_fault(&p->r->m, "format requires a mapping");
    }
    text *name = text_bytes_part(&p->r->m, p->format, first, p->at - 1);
    const value *found = dict_find(&p->r->m, p->given.dict, STRING(name));
    if (found == NULL) {
        template_fault(&p->r->m, "no key '%s' for the format", text_chars(&p->r->m, name));
    }
    return *found;
}

static int64_t percent_number(percent *p)
{
    int64_t n = 0;
    if (percent_char(p) == '*') {
        p->at++;
        return argument_integer(p->r, percent_next(p), "* wants int");
    }
    for (char c; (c = percent_char(p)) >= '0' && c <= '9'; p->at++) {
        n = n * 10 + (c - '0');
        if (n > FORMAT_WIDTH_MAX) {
            template_fault(&p->r->m, "a width over %d in a format", FORMAT_WIDTH_MAX);
        }
    }
    return n;
}

static void percent_flags(percent *p, spec *s)
{
    for (;; p->at++) {
        switch (percent_char(p)) {
        case '-':
            s->align = '<';
            break;
        case '0':
            s->fill = '0';
            break;
        case '+':
            s->sign = '+';
            break;
        case ' ':
            s->sign = s->sign != 0 ? s->sign : ' ';
            break;
        case '#':
            s->alternate = true;
            break;
        default:
            return;
        }
    }
}

static void width_fix(percent *p, spec *s)
{
    if (s->width < 0) {
        s->align = '<';
        s->width = -s->width;
    }
    if (s->width > FORMAT_WIDTH_MAX) {
        template_fault(&p->r->m, "a width over %d in a format", FORMAT_WIDTH_MAX);
    }
}

static value percent_integer(percent *p, value v, char type)
{
    sandbox *m = &p->r->m;
    if (v.kind == V_UNDEFINED) {
        undefined_fault(m, v);
    }
    if (v.kind == V_FLOAT && type != 'x' && type != 'X' && type != 'o') {
        return integer_from_real(m, v.real);
    }
    if (!value_is_number(v) || v.kind == V_FLOAT) {
        template_fault(m, "%%%c format: a number is required, not %s", type, type_name(v));
    }
    return v;
}

static text *percent_character(percent *p, value v)
{
    sandbox *m = &p->r->m;
    if (value_is_integral(v)) {
        int64_t c = value_integer(v);
        if (c < 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
            template_fault(m, "%%c arg not in range(0x110000)");
        }
        builder b = {0};
        build_char(m, &b, (int32_t)c);
        return build_end(m, &b);
    }
    if (v.kind != V_STRING || text_length(v.string) != 1) {
        template_fault(m, "%%c requires int or char");
    }
    return v.string;
}

static text *percent_real(percent *p, value v, spec *s)
{
    sandbox *m = &p->r->m;
    if (v.kind == V_UNDEFINED) {
        undefined_fault(m, v);
    }
    if (!value_is_number(v)) {
        template_fault(m, "must be real number, not %s", type_name(v));
    }
    s->align = s->align != 0 ? s->align : s->fill == '0' ? '=' : '>';
    s->fill = s->align == '<' ? 0 : s->fill;
    return format_real(m, value_real(m, v), s);
}

/* The text of one conversion; p->at stands behind the %. */
static text *percent_convert(percent *p)
{
    sandbox *m = &p->r->m;
    spec s = {.precision = -1};
    value named = percent_char(p) == '(' ? percent_named(p) : MISSING;
    percent_flags(p, &s);
    s.width = percent_number(p);
    width_fix(p, &s);
    if (percent_char(p) == '.') {
        p->at++;
        s.precision = percent_number(p);
        s.precision = s.precision < 0 ? 0 : s.precision;
    }
    while (strchr("hlL", percent_char(p)) != NULL && percent_char(p) != '\0') {
        p->at++;
    }
    s.type = percent_char(p);
    p->at++;
    if (s.type == '%') {
        return text_of(m, "%");
    }
    if (strchr("sradiuoxXeEfFgGc", s.type) == NULL || s.type == '\0') {
        template_fault(m, "unsupported format character '%c'", s.type);
    }
    value v = named.kind != V_MISSING ? named : percent_next(p);
    if (s.type == 's' || s.type == 'r' || s.type == 'a' || s.type == 'c') {
        text *t = s.type == 's'   ? value_str(m, v)
                  : s.type == 'c' ? percent_character(p, v)
                                  : value_repr(m, v);
        bool escape = p->format->safe && s.type != 'c' && !(v.kind == V_STRING && v.string->safe);
        t = escape ? text_escape_html(m, t) : t;
        s.align = s.align != 0 ? s.align : '>';
        s.fill = 0;
        return format_string(m, t, &s);
    }
    if (strchr("eEfFgG", s.type) != NULL) {
        return percent_real(p, v, &s);
    }
    v = percent_integer(p, v, s.type);
    s.type = s.type == 'i' || s.type == 'u' ? 'd' : s.type;
    s.align = s.align != 0 ? s.align : s.fill == '0' ? '=' : '>';
    s.fill = s.align == '<' ? 0 : s.fill;
    if (s.precision > 0 && v.kind != V_BIG) { /* at least that many digits */
        spec digits = {.width = s.precision,
                       .fill = '0',
                       .align = '=',
                       .precision = -1,
                       .type = s.type,
                       .alternate = s.alternate,
                       .sign = s.sign};
        int64_t extra = value_integer(v) < 0 || s.sign != 0;
        digits.width += extra + (s.alternate && s.type != 'd' ? 2 : 0);
        return format_string(
            m, format_integer(m, v, &digits),
            &(spec){.width = s.width, .align = s.align == '=' ? '>' : s.align, .precision = -1});
    }
    return format_integer(m, v, &s);
}

value format_percent(renderer *r, const text *format, value given)
{
    percent p = {.r = r, .format = format, .given = given};
    builder b = {0};
    while (p.at < format->n) {
        const char *hit = memchr(format->bytes + p.at, '%', format->n - p.at);
        size_t end = hit == NULL ? format->n : (size_t)(hit - format->bytes);
        build_bytes(&r->m, &b, format->bytes + p.at, end - p.at);
        p.at = end;
        if (hit != NULL) {
            p.at++;
            build_text(&r->m, &b, percent_convert(&p));
        }
    }
    size_t n_given = given.kind == V_TUPLE ? given.list->n : 1;
    /* What can be subscribed might have been meant as a mapping: then Python lets leftovers pass.
     */
    bool leftover_allowed = given.kind == V_DICT || given.kind == V_LIST || given.kind == V_RANGE ||
                            given.kind == V_UNDEFINED;
    if (p.n_used < n_given && !leftover_allowed) {
        template_fault(&r->m, "not all arguments converted during string formatting");
    }
    text copy = *format;
    return marked_like(r, STRING(&copy), STRING(build_end(&r->m, &b)));
}

/* ---- {} ---- */

typedef struct braces {
    renderer *r;
    const arguments *all;
    int64_t n_auto; /* next automatic number, -1 after a manual one */
    bool manual;
    bool escape; /* the format is marked safe: values are escaped */
    int depth;
} braces;

static int64_t digits_read(sandbox *m, const text *t, size_t *at)
{
    int64_t n = 0;
    for (; *at < t->n && t->bytes[*at] >= '0' && t->bytes[*at] <= '9'; ++*at) {
        n = n * 10 + (t->bytes[*at] - '0');
        if (n > FORMAT_WIDTH_MAX) {
            template_fault(m, "a number over %d in a format", FORMAT_WIDTH_MAX);
        }
    }
    return n;
}

static bool is_align(char c)
{
    return c == '<' || c == '>' || c == '^' || c == '=';
}

static spec spec_read(sandbox *m, const text *t)
{
    spec s = {.precision = -1};
    size_t at = 0, behind = 0;
    if (t->n > 0) {
        int32_t first = char_next(t->bytes, t->n, &behind);
        if (behind < t->n && is_align(t->bytes[behind])) {
            s.fill = first;
            s.align = t->bytes[behind];
            at = behind + 1;
        } else if (is_align(t->bytes[0])) {
            s.align = t->bytes[0];
            at = 1;
        }
    }
    if (at < t->n && (t->bytes[at] == '+' || t->bytes[at] == '-' || t->bytes[at] == ' ')) {
        s.sign = t->bytes[at] == '-' ? 0 : t->bytes[at];
        at++;
    }
    if (at < t->n && t->bytes[at] == '#') {
        s.alternate = true;
        at++;
    }
    if (at < t->n && t->bytes[at] == '0') {
        s.fill = s.fill != 0 ? s.fill : '0';
        s.align = s.align != 0 ? s.align : '=';
        at++;
    }
    s.width = digits_read(m, t, &at);
    if (at < t->n && (t->bytes[at] == ',' || t->bytes[at] == '_')) {
        s.grouping = t->bytes[at++];
    }
    if (at < t->n && t->bytes[at] == '.') {
        at++;
        size_t first = at;
        s.precision = digits_read(m, t, &at);
        if (at == first) {
            template_fault(m, "Format specifier missing precision");
        }
    }
    s.type = at < t->n ? t->bytes[at++] : 0;
    if (at < t->n) {
        template_fault(m, "Invalid format specifier '%s'", text_chars(m, t));
    }
    return s;
}

static text *format_value(renderer *r, value v, const text *format)
{
    sandbox *m = &r->m;
    if (format->n == 0) {
        return value_str(m, v);
    }
    spec s = spec_read(m, format);
    if (v.kind == V_STRING && (s.type == 0 || s.type == 's') && s.align != '=' && s.sign == 0) {
        return format_string(m, v.string, &s);
    }
    bool real_type = s.type != 0 && strchr("eEfFgGn%", s.type) != NULL;
    if (v.kind == V_FLOAT || (value_is_number(v) && real_type)) {
        if (s.type != 0 && !real_type) {
            template_fault(m, "Unknown format code '%c' for object of type 'float'", s.type);
        }
        return format_real(m, value_real(m, v), &s);
    }
    if (value_is_number(v) && s.type == 'c') {
        percent p = {.r = r};
        return format_string(m, percent_character(&p, v), &s);
    }
    if (value_is_number(v) && s.precision < 0 && (s.type == 0 || strchr("dxXob", s.type) != NULL)) {
        return format_integer(m, v, &s);
    }
    template_fault(m, "the format '%s' does not suit an object of type '%s'", text_chars(m, format),
                   type_name(v));
}

static value field_first(braces *f, const text *name)
{
    sandbox *m = &f->r->m;
    size_t at = 0;
    int64_t index = digits_read(m, name, &at);
    bool is_number = name->n > 0 && at == name->n;
    if (name->n == 0 || is_number) {
        if ((is_number && f->n_auto > 0) || (!is_number && f->manual)) {
            template_fault(
                m,
                "cannot switch between manual field specification and automatic field numbering");
        }
        f->manual = f->manual || is_number;
        index = is_number ? index : f->n_auto++;
        if ((size_t)index >= f->all->n) {
            template_fault(m, "Replacement index %lld out of range for positional args tuple",
                           (long long)index);
        }
        return f->all->positional[index];
    }
    for (size_t i = 0; i < f->all->n_named; i++) {
        if (text_equal(f->all->names[i], name)) {
            return f->all->named[i];
        }
    }
    template_fault(m, "no argument '%s' for the format", text_chars(m, name));
}

/* name, then .attribute and [index] parts */
static value field_value(braces *f, const text *field)
{
    sandbox *m = &f->r->m;
    size_t at = 0;
    while (at < field->n && field->bytes[at] != '.' && field->bytes[at] != '[') {
        at++;
    }
    value v = field_first(f, text_bytes_part(m, field, 0, at));
    while (at < field->n) {
        bool dot = field->bytes[at] == '.';
        size_t first = ++at;
        while (at < field->n && (dot ? field->bytes[at] != '.' && field->bytes[at] != '['
                                     : field->bytes[at] != ']')) {
            at++;
        }
        text *part = text_bytes_part(m, field, first, at);
        if (part->n == 0 || (!dot && at == field->n)) {
            template_fault(m, "Empty attribute in format string");
        }
        size_t behind = 0;
        int64_t index = dot ? 0 : digits_read(m, part, &behind);
        v = dot                 ? attribute_get(f->r, v, part)
            : behind == part->n ? item_get(f->r, v, INT(index))
                                : item_get(f->r, v, STRING(part));
        at += !dot;
    }
    return v;
}

static text *braces_expand(braces *f, const text *format);

/* One field, the text between its braces. */
static text *field_format(braces *f, const text *field)
{
    sandbox *m = &f->r->m;
    size_t end = 0;
    for (int depth = 0; end < field->n; end++) {
        char c = field->bytes[end];
        depth += c == '[' ? 1 : c == ']' ? -1 : 0;
        if ((c == '!' || c == ':') && depth <= 0) {
            break;
        }
    }
    value v = field_value(f, text_bytes_part(m, field, 0, end));
    if (end < field->n && field->bytes[end] == '!') {
        char c = end + 1 < field->n ? field->bytes[end + 1] : '\0';
        if ((c != 'r' && c != 's' && c != 'a') ||
            (end + 2 < field->n && field->bytes[end + 2] != ':')) {
            template_fault(m, "expected ':' after conversion specifier");
        }
        v = STRING(c == 's' ? value_str(m, v) : value_repr(m, v));
        end += 2;
    }
    size_t format = end < field->n ? end + 1 : field->n;
    text *spec_text = text_bytes_part(m, field, format, field->n);
    text *t = format_value(f->r, v, braces_expand(f, spec_text));
    bool is_safe = v.kind == V_STRING && v.string->safe;
    return f->escape && f->depth == 1 && !is_safe ? text_escape_html(m, t) : t;
}

static size_t field_end(sandbox *m, const text *t, size_t at)
{
    for (int depth = 1; at < t->n; at++) {
        depth += t->bytes[at] == '{' ? 1 : t->bytes[at] == '}' ? -1 : 0;
        if (depth == 0) {
            return at;
        }
    }
    template_fault(m, "expected '}' before end of string");
}

static text *braces_expand(braces *f, const text *format)
{
    sandbox *m = &f->r->m;
    builder b = {0};
    if (++f->depth > 2) {
        template_fault(m, "Max string recursion exceeded");
    }
    for (size_t at = 0; at < format->n;) {
        char c = format->bytes[at];
        bool doubled = at + 1 < format->n && format->bytes[at + 1] == c;
        if ((c == '{' || c == '}') && doubled && f->depth == 1) {
            build_bytes(m, &b, &c, 1);
            at += 2;
        } else if (c == '}') {
            template_fault(m, "Single '}' encountered in format string");
        } else if (c == '{') {
            size_t end = field_end(m, format, at + 1);
            build_text(m, &b, field_format(f, text_bytes_part(m, format, at + 1, end)));
            at = end + 1;
        } else {
            build_bytes(m, &b, &c, 1);
            at++;
        }
    }
    f->depth--;
    return build_end(m, &b);
}

value format_braces(renderer *r, text *format, const arguments *all)
{
    braces f = {.r = r, .all = all, .escape = format->safe};
    return STRING(braces_expand(&f, format));
}

/*
 * lexer.c - source to tokens, by the reference's rules for white space around tags.
 *
 * trim_blocks: one line end behind %} or #} goes. lstrip_blocks: blanks between the start of a line
 * and {% or {# go. A minus inside a tag takes all white space on its side, a plus switches both
 * rules off. Inside brackets an end tag is not recognised, so that {{ {'a': {}} }} works. One pass.
 */
#include "coordinator/text/jinja/lexer.h"

#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    sandbox *m;
    const char *s; /* source with \n line ends */
    size_t n, at;
    int line;
    token *tokens;
    size_t n_tokens, capacity;
    char brackets[256]; /* closing ones that are awaited */
    int n_brackets;
} lexer;

/* ---- small things ---- */

static void line_set(lexer *x, int line)
{
    x->line = line;
    x->m->line = line;
}

static void token_add(lexer *x, token t)
{
    if (x->n_tokens == x->capacity) {
        size_t capacity = x->capacity == 0 ? 64 : x->capacity * 2;
        token *tokens = TAKE(x->m, token, capacity);
        if (x->n_tokens > 0) {
            memcpy(tokens, x->tokens, x->n_tokens * sizeof *tokens);
        }
        x->tokens = tokens;
        x->capacity = capacity;
    }
    t.line = x->line;
    x->tokens[x->n_tokens++] = t;
}

static bool looks_at(const lexer *x, size_t at, const char *what)
{
    size_t n = strlen(what);
    return x->n - at >= n && memcmp(x->s + at, what, n) == 0;
}

/* Moves to `to`, counting lines. */
static void advance(lexer *x, size_t to)
{
    int line = x->line;
    for (; x->at < to; x->at++) {
        line += x->s[x->at] == '\n';
    }
    line_set(x, line);
}

static size_t space_end(const lexer *x, size_t at)
{
    while (at < x->n) {
        size_t next = at;
        if (!char_is_space(char_next(x->s, x->n, &next))) {
            break;
        }
        at = next;
    }
    return at;
}

/* Start of the white space that ends at `end`. */
static size_t space_start(const lexer *x, size_t begin, size_t end)
{
    while (end > begin) {
        size_t before = end;
        if (!char_is_space(char_previous(x->s, &before)) || before < begin) {
            break;
        }
        end = before;
    }
    return end;
}

/* Source with \r\n and \r as \n, without one line end at the very end. */
static void source_normalise(lexer *x, const char *source, size_t n)
{
    char *s = sandbox_take(x->m, n + 1);
    size_t out = 0;
    for (size_t i = 0; i < n; i++) {
        bool is_return = source[i] == '\r';
        s[out++] = is_return ? '\n' : source[i];
        i += is_return && i + 1 < n && source[i + 1] == '\n';
    }
    out -= out > 0 && s[out - 1] == '\n';
    s[out] = '\0';
    x->s = s;
    x->n = out;
}

/* ---- data between tags ---- */

static void data_add(lexer *x, size_t begin, size_t end)
{
    if (end > begin) {
        token_add(
            x, (token){.kind = T_DATA, .spelling = text_borrow(x->m, x->s + begin, end - begin)});
    }
}

/* End of the data [begin, tag) after the rules for its right edge. */
static size_t data_end(const lexer *x, size_t begin, size_t tag, char sign, bool is_print,
                       bool line_starting)
{
    if (sign == '-') {
        return space_start(x, begin, tag);
    }
    if (sign == '+' || is_print) {
        return tag;
    }
    size_t line = tag;
    while (line > begin && x->s[line - 1] != '\n') {
        line--;
    }
    bool is_line_start = line > begin || line_starting;
    return is_line_start && line < tag && space_end(x, line) >= tag ? line : tag;
}

static char sign_at(const lexer *x, size_t at)
{
    char c = at < x->n ? x->s[at] : '\0';
    return c == '-' || c == '+' ? c : '\0';
}

/* Behind an end tag whose two characters lie at `at`: with sign '-' all space goes, without a sign
 * (where trim) one line end. */
static size_t behind_end(const lexer *x, size_t at, char sign, bool trim)
{
    size_t behind = at + 2;
    if (sign == '-') {
        return space_end(x, behind);
    }
    return behind + (trim && sign == '\0' && behind < x->n && x->s[behind] == '\n');
}

static void comment_skip(lexer *x, size_t from)
{
    for (size_t i = from; i + 1 < x->n; i++) {
        if (x->s[i] == '#' && x->s[i + 1] == '}') {
            char sign = i > from ? sign_at(x, i - 1) : '\0';
            advance(x, behind_end(x, i, sign, true));
            return;
        }
    }
    template_fault(x->m, "Missing end of comment tag");
}

/* Position behind `raw` and its end tag, or 0 where the block tag at `at` (behind its sign) is
 * none. */
static size_t raw_begin_end(const lexer *x, size_t at)
{
    at = space_end(x, at);
    if (!looks_at(x, at, "raw")) {
        return 0;
    }
    at = space_end(x, at + 3);
    if (looks_at(x, at, "-%}")) {
        return space_end(x, at + 3);
    }
    return looks_at(x, at, "%}") ? at + 2 : 0;
}

/* Position behind an endraw tag that begins at `at`, or 0. */
static size_t raw_end_end(const lexer *x, size_t at)
{
    size_t i = at + 2;
    i += sign_at(x, i) != '\0';
    i = space_end(x, i);
    if (!looks_at(x, i, "endraw")) {
        return 0;
    }
    i = space_end(x, i + 6);
    char sign = sign_at(x, i);
    i += sign != '\0';
    return looks_at(x, i, "%}") ? behind_end(x, i, sign, true) : 0;
}

static void raw_read(lexer *x, size_t from)
{
    advance(x, from);
    bool line_starting = from > 0 && x->s[from - 1] == '\n';
    for (size_t i = from; i + 1 < x->n; i++) {
        size_t behind = x->s[i] == '{' && x->s[i + 1] == '%' ? raw_end_end(x, i) : 0;
        if (behind > 0) {
            data_add(x, from, data_end(x, from, i, sign_at(x, i + 2), false, line_starting));
            advance(x, behind);
            return;
        }
    }
    template_fault(x->m, "Missing end of raw directive");
}

/* ---- inside tags ---- */

static int digit_of(char c, int base)
{
    int d = c >= '0' && c <= '9'   ? c - '0'
            : c >= 'a' && c <= 'f' ? c - 'a' + 10
            : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                   : 99;
    return d < base ? d : -1;
}

/* Copies digits that single underscores may part; position behind them. */
static size_t digits_read(const lexer *x, size_t at, int base, builder *b)
{
    while (at < x->n) {
        bool parted = x->s[at] == '_' && at + 1 < x->n && digit_of(x->s[at + 1], base) >= 0;
        if (digit_of(x->s[at + parted], base) < 0) {
            break;
        }
        build_bytes(x->m, b, x->s + at + parted, 1);
        at += 1 + (size_t)parted;
    }
    return at;
}

static void based_integer_read(lexer *x, int base)
{
    builder digits = {0};
    size_t behind = digits_read(x, x->at + 2, base, &digits);
    text *t = build_end(x->m, &digits);
    uint64_t sum = 0;
    for (size_t i = 0; i < t->n; i++) {
        uint64_t d = (uint64_t)digit_of(t->bytes[i], base);
        if (sum > ((uint64_t)INT64_MAX - d) / (uint64_t)base) {
            template_fault(x->m, "an integer of more than 64 bits must be written in decimal");
        }
        sum = sum * (uint64_t)base + d;
    }
    token_add(x, (token){.kind = T_INTEGER, .number = INT((int64_t)sum)});
    x->at = behind;
}

static int base_at(const lexer *x)
{
    if (x->s[x->at] != '0' || x->at + 2 >= x->n) {
        return 10;
    }
    char c = (char)(x->s[x->at + 1] | 0x20);
    int base = c == 'b' ? 2 : c == 'o' ? 8 : c == 'x' ? 16 : 10;
    size_t first = x->at + 2;
    first += x->s[first] == '_';
    return base != 10 && first < x->n && digit_of(x->s[first], base) >= 0 ? base : 10;
}

static bool digit_at(const lexer *x, size_t at)
{
    return at < x->n && digit_of(x->s[at], 10) >= 0;
}

/* .DIGITS and eDIGITS behind an integer; false where there is neither. */
static bool fraction_read(const lexer *x, size_t *at, builder *b)
{
    size_t i = *at;
    bool found = false;
    if (i < x->n && x->s[i] == '.' && digit_at(x, i + 1)) {
        build_string(x->m, b, ".");
        i = digits_read(x, i + 1, 10, b);
        found = true;
    }
    if (i < x->n && (x->s[i] | 0x20) == 'e') {
        size_t sign = i + 1 < x->n && (x->s[i + 1] == '+' || x->s[i + 1] == '-');
        if (digit_at(x, i + 1 + sign)) {
            build_bytes(x->m, b, x->s + i, 1 + sign);
            i = digits_read(x, i + 1 + sign, 10, b);
            found = true;
        }
    }
    *at = i;
    return found;
}

static void number_read(lexer *x)
{
    int base = base_at(x);
    if (base != 10) {
        based_integer_read(x, base);
        return;
    }
    builder digits = {0};
    size_t behind = digits_read(x, x->at, 10, &digits);
    size_t whole_end = behind;
    bool after_dot = x->at > 0 && x->s[x->at - 1] == '.';
    if (!after_dot && fraction_read(x, &behind, &digits)) {
        const char *s = text_chars(x->m, build_end(x->m, &digits));
        token_add(x, (token){.kind = T_FLOAT, .number = FLOAT(strtod(s, NULL))});
        x->at = behind;
        return;
    }
    text *t = build_end(x->m, &digits);
    if (t->n > 1 && t->bytes[0] == '0') { /* 007 is a 0 and then a 7, which the parser refuses */
        bool zeros = strspn(text_chars(x->m, t), "0") == t->n;
        t = zeros ? t : text_borrow(x->m, "0", 1);
        whole_end = zeros ? whole_end : x->at + 1;
    }
    token_add(x, (token){.kind = T_INTEGER, .number = integer_parse(x->m, t->bytes, t->n)});
    x->at = whole_end;
}

static int32_t hex_escape_read(lexer *x, size_t *at, size_t end, int n_digits)
{
    int32_t c = 0;
    for (int i = 0; i < n_digits; i++, (*at)++) {
        int d = *at < end ? digit_of(x->s[*at], 16) : -1;
        if (d < 0 || c > 0x10ffff) {
            template_fault(x->m, "truncated escape in a string");
        }
        c = c * 16 + d;
    }
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
        template_fault(x->m, "an escape in a string is no character");
    }
    return c;
}

/* One backslash sequence; *at stands behind the backslash. */
static void escape_read(lexer *x, builder *b, size_t *at, size_t end)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char c = x->s[*at];
    const char *hit = c != '\0' ? strchr(from, c) : NULL;
    if (c == '\n') {
        *at += 1;
    } else if (hit != NULL) {
        build_bytes(x->m, b, &to[hit - from], 1);
        *at += 1;
    } else if (c == 'x' || c == 'u' || c == 'U') {
        *at += 1;
        build_char(x->m, b, hex_escape_read(x, at, end, c == 'x' ? 2 : c == 'u' ? 4 : 8));
    } else if (c >= '0' && c <= '7') {
        int32_t code = 0;
        for (int i = 0; i < 3 && *at < end && x->s[*at] >= '0' && x->s[*at] <= '7'; i++, (*at)++) {
            code = code * 8 + (x->s[*at] - '0');
        }
        build_char(x->m, b, code);
    } else if (c == 'N') {
        template_fault(x->m, "\\N{...} in a string is not supported");
    } else if ((unsigned char)c >= 0x80) {
        template_fault(x->m, "a backslash before a character that is not ASCII");
    } else {
        build_string(x->m, b, "\\");
    }
}

static void string_read(lexer *x)
{
    char quote = x->s[x->at];
    size_t end = x->at + 1;
    while (end < x->n && x->s[end] != quote) {
        end += x->s[end] == '\\' ? 2 : 1;
    }
    if (end >= x->n) {
        template_fault(x->m, "unexpected char %s: the string has no end",
                       quote == '"' ? "'\"'" : "\"'\"");
    }
    builder b = {0};
    for (size_t i = x->at + 1; i < end;) {
        if (x->s[i] == '\\') {
            i++;
            escape_read(x, &b, &i, end);
        } else {
            build_bytes(x->m, &b, x->s + i++, 1);
        }
    }
    token_add(x, (token){.kind = T_STRING, .spelling = build_end(x->m, &b)});
    advance(x, end + 1);
}

static void name_read(lexer *x)
{
    size_t end = x->at;
    while (end < x->n) {
        size_t next = end;
        int32_t c = char_next(x->s, x->n, &next);
        if (!char_is_word(c)) {
            break;
        }
        end = next;
    }
    token_add(x, (token){.kind = T_NAME, .spelling = text_borrow(x->m, x->s + x->at, end - x->at)});
    x->at = end;
}

static const struct {
    char spelling[3];
    token_kind kind;
} operators[] = {
    {"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {">=", T_GE},
    {"<=", T_LE},       {"+", T_ADD},    {"-", T_SUB},      {"/", T_DIV},      {"*", T_MUL},
    {"%", T_MOD},       {"~", T_TILDE},  {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN},
    {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},   {">", T_GT},       {"<", T_LT},
    {"=", T_ASSIGN},    {".", T_DOT},    {":", T_COLON},    {"|", T_PIPE},     {",", T_COMMA},
    {";", T_SEMICOLON},
};

static void bracket_count(lexer *x, char c)
{
    if (c == '(' || c == '[' || c == '{') {
        if (x->n_brackets == (int)sizeof x->brackets) {
            template_fault(x->m, "more than %d brackets inside each other", x->n_brackets);
        }
        x->brackets[x->n_brackets++] = (char)(c == '(' ? ')' : c == '[' ? ']' : '}');
    } else if (c == ')' || c == ']' || c == '}') {
        if (x->n_brackets == 0) {
            template_fault(x->m, "unexpected '%c'", c);
        }
        char expected = x->brackets[--x->n_brackets];
        if (expected != c) {
            template_fault(x->m, "unexpected '%c', expected '%c'", c, expected);
        }
    }
}

static void operator_read(lexer *x)
{
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (looks_at(x, x->at, operators[i].spelling)) {
            bracket_count(x, x->s[x->at]);
            token_add(x, (token){.kind = operators[i].kind});
            x->at += strlen(operators[i].spelling);
            return;
        }
    }
    size_t next = x->at;
    (void)char_next(x->s, x->n, &next);
    template_fault(x->m, "unexpected char '%.*s'", (int)(next - x->at), x->s + x->at);
}

/* Where the tag ends at x->at: consumes its end. */
static bool tag_end_read(lexer *x, bool is_print)
{
    if (x->n_brackets > 0) {
        return false;
    }
    char sign = sign_at(x, x->at);
    size_t end = x->at + (sign != '\0');
    if ((is_print && sign == '+') || !looks_at(x, end, is_print ? "}}" : "%}")) {
        return false;
    }
    token_add(x, (token){.kind = is_print ? T_PRINT_END : T_BLOCK_END});
    advance(x, behind_end(x, end, sign, !is_print));
    return true;
}

static void tag_read(lexer *x, bool is_print)
{
    token_add(x, (token){.kind = is_print ? T_PRINT_BEGIN : T_BLOCK_BEGIN});
    for (;;) {
        if (x->at >= x->n) {
            token_add(x, (token){.kind = T_EOF});
            return;
        }
        if (tag_end_read(x, is_print)) {
            return;
        }
        size_t next = x->at;
        int32_t c = char_next(x->s, x->n, &next);
        if (char_is_space(c)) {
            advance(x, space_end(x, x->at));
        } else if (c >= '0' && c <= '9') {
            number_read(x);
        } else if (char_is_word(c)) {
            name_read(x);
        } else if (c == '"' || c == '\'') {
            string_read(x);
        } else {
            operator_read(x);
        }
        sandbox_spend(x->m, 1);
    }
}

/* Position of the next tag begin from `at`, or n. */
static size_t tag_find(const lexer *x, size_t at)
{
    for (; at + 1 < x->n; at++) {
        if (x->s[at] == '{' &&
            (x->s[at + 1] == '{' || x->s[at + 1] == '%' || x->s[at + 1] == '#')) {
            return at;
        }
    }
    return x->n;
}

static void tag_or_data_read(lexer *x)
{
    bool line_starting = x->at == 0 || x->s[x->at - 1] == '\n';
    size_t tag = tag_find(x, x->at);
    if (tag == x->n) {
        data_add(x, x->at, x->n);
        advance(x, x->n);
        return;
    }
    char kind = x->s[tag + 1];
    char sign = sign_at(x, tag + 2);
    data_add(x, x->at, data_end(x, x->at, tag, sign, kind == '{', line_starting));
    advance(x, tag);
    size_t inside = tag + 2 + (sign != '\0');
    size_t raw = kind == '%' ? raw_begin_end(x, inside) : 0;
    if (kind == '#') {
        comment_skip(x, inside);
    } else if (raw > 0) {
        raw_read(x, raw);
    } else {
        x->at = inside;
        tag_read(x, kind == '{');
    }
}

token *tokens_of(sandbox *m, const char *source, size_t n_bytes, size_t *n_tokens)
{
    lexer x = {.m = m};
    source_normalise(&x, source, n_bytes);
    line_set(&x, 1);
    while (x.at < x.n) {
        tag_or_data_read(&x);
    }
    token_add(&x, (token){.kind = T_EOF});
    *n_tokens = x.n_tokens;
    return x.tokens;
}

const char *token_kind_name(token_kind k)
{
    static const char *const names[] = {
        [T_EOF] = "end of template",
        [T_DATA] = "template data / text",
        [T_BLOCK_BEGIN] = "begin of statement block",
        [T_BLOCK_END] = "end of statement block",
        [T_PRINT_BEGIN] = "begin of print statement",
        [T_PRINT_END] = "end of print statement",
        [T_NAME] = "name",
        [T_STRING] = "string",
        [T_INTEGER] = "integer",
        [T_FLOAT] = "float",
    };
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++) {
        if (operators[i].kind == k) {
            return operators[i].spelling;
        }
    }
    return names[k];
}

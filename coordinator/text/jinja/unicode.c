/*
 * unicode.c - what Python's str methods know about characters: white space, case, letters.
 *
 * Properties and simple case mappings are utf8proc's; the mappings to several characters come from
 * a generated table; Python's one rule that looks at neighbours (the final sigma) stands here.
 */
#include "coordinator/text/jinja/text.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

bool char_is_space(int32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

bool char_is_line_end(int32_t c)
{
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

bool char_is_alpha(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool char_is_decimal(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_ND;
}

bool char_is_word(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return c == '_' || char_is_alpha(c) || (k >= UTF8PROC_CATEGORY_ND && k <= UTF8PROC_CATEGORY_NO);
}

bool char_is_upper(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_LU || (c >= 0x2160 && c <= 0x216f) ||
           (c >= 0x24b6 && c <= 0x24cf) || (c >= 0x1f130 && c <= 0x1f149) ||
           (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
}

bool char_is_lower(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_LL ||
           (utf8proc_islower(c) && utf8proc_category(c) != UTF8PROC_CATEGORY_LT) || c == 0xaa ||
           c == 0xba;
}

bool char_is_title(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_LT;
}

bool char_is_printable(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return c == ' ';
    default:
        return true;
    }
}

/* ---- stripping ---- */

static bool char_in(int32_t c, const text *set)
{
    for (size_t i = 0; i < set->n;) {
        if (char_next(set->bytes, set->n, &i) == c) {
            return true;
        }
    }
    return false;
}

static bool char_goes(int32_t c, const text *chars)
{
    return chars == NULL ? char_is_space(c) : char_in(c, chars);
}

text *text_strip(sandbox *m, text *t, const text *chars, strip_ends ends)
{
    size_t first = 0, last = t->n;
    while ((ends & STRIP_LEFT) && first < last) {
        size_t next = first;
        if (!char_goes(char_next(t->bytes, last, &next), chars)) {
            break;
        }
        first = next;
        sandbox_spend(m, 1);
    }
    while ((ends & STRIP_RIGHT) && last > first) {
        size_t before = last;
        if (!char_goes(char_previous(t->bytes, &before), chars)) {
            break;
        }
        last = before;
        sandbox_spend(m, 1);
    }
    text *part = text_bytes_part(m, t, first, last);
    if (last == t->n && first == 0) {
        part->n_chars = t->n_chars;
        part->room = t->room;
    }
    return part;
}

/* ---- case ---- */

struct special {
    int32_t c, upper[3], title[3];
};
static const struct special specials[] = {
#include "coordinator/text/jinja/special_casing.inc"
};

static const struct special *special_of(int32_t c)
{
    for (size_t i = 0; c >= 0xdf && i < sizeof specials / sizeof specials[0]; i++) {
        if (specials[i].c == c) {
            return &specials[i];
        }
    }
    return NULL;
}

static void build_case(sandbox *m, builder *b, const int32_t c[3])
{
    for (int i = 0; i < 3 && c[i] != 0; i++) {
        build_char(m, b, c[i]);
    }
}

static void build_upper(sandbox *m, builder *b, int32_t c)
{
    const struct special *s = special_of(c);
    if (s != NULL) {
        build_case(m, b, s->upper);
    } else {
        build_char(m, b, utf8proc_toupper(c));
    }
}

static void build_titled(sandbox *m, builder *b, int32_t c)
{
    const struct special *s = special_of(c);
    if (s != NULL) {
        build_case(m, b, s->title);
    } else {
        build_char(m, b, utf8proc_totitle(c));
    }
}

static bool char_is_cased(int32_t c)
{
    return char_is_upper(c) || char_is_lower(c) || char_is_title(c);
}

static bool char_is_ignored_in_case(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
        return true;
    default:
        return c == '\'' || c == '.' || c == ':' || c == 0xb7 || c == 0x2018 || c == 0x2019 ||
               c == 0x2024 || c == 0x2027;
    }
}

/* A capital sigma that ends a word becomes the final form. */
static bool sigma_is_final(const text *t, size_t at, size_t behind)
{
    bool cased_before = false;
    while (at > 0) {
        int32_t c = char_previous(t->bytes, &at);
        if (!char_is_ignored_in_case(c)) {
            cased_before = char_is_cased(c);
            break;
        }
    }
    while (cased_before && behind < t->n) {
        int32_t c = char_next(t->bytes, t->n, &behind);
        if (!char_is_ignored_in_case(c)) {
            return !char_is_cased(c);
        }
    }
    return cased_before;
}

static void build_lower(sandbox *m, builder *b, const text *t, size_t at, size_t behind, int32_t c)
{
    if (c == 0x3a3) {
        build_char(m, b, sigma_is_final(t, at, behind) ? 0x3c2 : 0x3c3);
    } else if (c == 0x130) {
        build_char(m, b, 'i');
        build_char(m, b, 0x307);
    } else {
        build_char(m, b, utf8proc_tolower(c));
    }
}

text *text_upper(sandbox *m, const text *t)
{
    builder b = {0};
    sandbox_spend(m, t->n / 8);
    for (size_t i = 0; i < t->n;) {
        build_upper(m, &b, char_next(t->bytes, t->n, &i));
    }
    return build_end(m, &b);
}

text *text_lower(sandbox *m, const text *t)
{
    builder b = {0};
    sandbox_spend(m, t->n / 8);
    for (size_t i = 0; i < t->n;) {
        size_t at = i;
        int32_t c = char_next(t->bytes, t->n, &i);
        build_lower(m, &b, t, at, i, c);
    }
    return build_end(m, &b);
}

text *text_casefold(sandbox *m, const text *t)
{
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)t->bytes, (utf8proc_ssize_t)t->n,
                                      &folded, UTF8PROC_CASEFOLD);
    if (n < 0) {
        template_fault(m, "casefold: %s", utf8proc_errmsg(n));
    }
    /* The copy may leave by longjmp, so the library's block must not wait for the free behind it.
     */
    char *bytes = NULL;
    if (n <= SANDBOX_MEMORY_MAX / 4 && m->memory_bytes < SANDBOX_MEMORY_MAX / 2) {
        bytes = sandbox_take(m, (size_t)n);
        memcpy(bytes, folded, (size_t)n);
    }
    free(folded);
    if (bytes == NULL) {
        template_fault(m, "casefold: the text is too large");
    }
    return text_borrow(m, bytes, (size_t)n);
}

text *text_capitalize(sandbox *m, const text *t)
{
    builder b = {0};
    for (size_t i = 0; i < t->n;) {
        size_t at = i;
        int32_t c = char_next(t->bytes, t->n, &i);
        if (at == 0) {
            build_titled(m, &b, c);
        } else {
            build_lower(m, &b, t, at, i, c);
        }
    }
    sandbox_spend(m, t->n / 8);
    return build_end(m, &b);
}

text *text_title(sandbox *m, const text *t)
{
    builder b = {0};
    bool inside = false;
    for (size_t i = 0; i < t->n;) {
        size_t at = i;
        int32_t c = char_next(t->bytes, t->n, &i);
        if (inside) {
            build_lower(m, &b, t, at, i, c);
        } else {
            build_titled(m, &b, c);
        }
        inside = char_is_cased(c);
    }
    sandbox_spend(m, t->n / 8);
    return build_end(m, &b);
}

text *text_swapcase(sandbox *m, const text *t)
{
    builder b = {0};
    for (size_t i = 0; i < t->n;) {
        size_t at = i;
        int32_t c = char_next(t->bytes, t->n, &i);
        if (char_is_upper(c)) {
            build_lower(m, &b, t, at, i, c);
        } else if (char_is_lower(c)) {
            build_upper(m, &b, c);
        } else {
            build_char(m, &b, c);
        }
    }
    sandbox_spend(m, t->n / 8);
    return build_end(m, &b);
}

/* ---- the rest ---- */

text *text_escape_html(sandbox *m, const text *t)
{
    builder b = {0};
    for (size_t i = 0; i < t->n; i++) {
        switch (t->bytes[i]) {
        case '&':
            build_string(m, &b, "&amp;");
            break;
        case '<':
            build_string(m, &b, "&lt;");
            break;
        case '>':
            build_string(m, &b, "&gt;");
            break;
        case '"':
            build_string(m, &b, "&#34;");
            break;
        case '\'':
            build_string(m, &b, "&#39;");
            break;
        default:
            build_bytes(m, &b, t->bytes + i, 1);
        }
    }
    sandbox_spend(m, t->n / 8);
    return build_end(m, &b);
}

text *text_pad(sandbox *m, text *t, int64_t width, int32_t fill, char align)
{
    int64_t missing = width - text_length(t);
    if (missing <= 0) {
        return t;
    }
    int64_t left = align == '>'   ? missing
                   : align == '<' ? 0
                   : align == '^' ? missing / 2
                                  : missing / 2 + (missing & width & 1); /* str.center's rounding */
    builder b = {0};
    build_repeated(m, &b, fill, left);
    build_text(m, &b, t);
    build_repeated(m, &b, fill, missing - left);
    return build_end(m, &b);
}

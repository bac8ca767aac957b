/*
 * word_split.c - text into the words that byte-level BPE works on, by a regular expression.
 *
 * PCRE2 compiles the pattern to machine code once; walking costs one call a word. Two things keep
 * it equal to the reference, whose engine follows Unicode 16:
 * - \s is written out: PCRE2 counts U+180E as a space, Unicode no longer does;
 * - \p{L} and \p{N} get what Unicode 15 to 16 added, because Debian's PCRE2 knows Unicode 14.
 * The default pattern needs no backtracking stack: each of its repeats is over one class, so the
 * longest run costs one pass forward and at most one back, once for the alternative that asks for a
 * line end and once for the one that takes the run.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "coordinator/text/word_split.h"

#include "common/buffer.h"

#include <pcre2.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const char word_split_default_pattern[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|"
    " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* White_Space of the Unicode character database, and what was added to the classes L and N after
 * Unicode 14 (measured on every code point against tokenizers 0.23.3). As elements of a class. */
static const char white_space[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}"
                                  "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
static const char all_letters[] =
    "\\p{L}"
    "\\x{1c89}\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}"
    "\\x{10d4a}-\\x{10d65}\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}\\x{11240}"
    "\\x{11380}-\\x{11389}\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}"
    "\\x{11bc0}-\\x{11be0}\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}"
    "\\x{13441}-\\x{13446}\\x{13460}-\\x{143fa}\\x{16100}-\\x{1611d}\\x{16d40}-\\x{16d6c}\\x{18cff}"
    "\\x{1b132}\\x{1b155}\\x{1df25}-\\x{1df2a}\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}"
    "\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}";
static const char all_numbers[] =
    "\\p{N}"
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}"
    "\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}"
    "\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}";

struct word_split {
    pcre2_code *code;
};

typedef struct escape {
    const char *from;
    const char *class; /* elements of a class */
    bool negated;
} escape;

static const escape escapes[] = {
    {"\\s", white_space, false},   {"\\S", white_space, true},     {"\\p{L}", all_letters, false},
    {"\\P{L}", all_letters, true}, {"\\p{N}", all_numbers, false}, {"\\P{N}", all_numbers, true},
};

/* Where both engines agree, up to the version of Unicode. */
static const char *const known_escapes[] = {
    "\\r",     "\\n",     "\\t",     "\\p{M}",  "\\p{P}",   "\\p{S}",  "\\p{Lu}",
    "\\p{Ll}", "\\p{Lt}", "\\p{Lm}", "\\p{Lo}", "\\p{Han}", "\\p{Nd}", "\\\\",
    "\\.",     "\\-",     "\\/",     "\\[",     "\\]",      "\\(",     "\\)",
    "\\{",     "\\}",     "\\+",     "\\*",     "\\?",      "\\|",     "\\^",
    "\\$",     "\\'",     "\\\"",    "\\!",     "\\#",      "\\&",     "\\,",
};
static const char *const known_groups[] = {"(?i:", "(?:", "(?=", "(?!"};

static bool begins_with(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

static const char *known_prefix(const char *text, const char *const *known, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (begins_with(text, known[i])) {
            return known[i];
        }
    }
    return NULL;
}

/* Rewrites the escape at p; returns what follows it, NULL where it is unknown. */
static const char *rewrite_escape(buffer *out, const char *p, bool in_class)
{
    for (size_t i = 0; i < sizeof escapes / sizeof *escapes; i++) {
        const escape *e = &escapes[i];
        if (begins_with(p, e->from)) {
            if (in_class && e->negated) {
                return NULL;
            }
            buffer_append_text(out, in_class ? "" : e->negated ? "[^" : "[");
            buffer_append_text(out, e->class);
            buffer_append_text(out, in_class ? "" : "]");
            return p + strlen(e->from);
        }
    }
    const char *known =
        known_prefix(p, known_escapes, sizeof known_escapes / sizeof *known_escapes);
    if (known == NULL) {
        return NULL;
    }
    buffer_append_text(out, known);
    return p + strlen(known);
}

/* True where the engines may read the element at p, outside escapes, differently. */
static bool is_foreign(const char *p, bool in_class)
{
    if (in_class) {
        return *p == '[' || begins_with(p, "&&");
    }
    if (begins_with(p, "(?")) {
        return known_prefix(p, known_groups, sizeof known_groups / sizeof *known_groups) == NULL;
    }
    return *p == '^' || *p == '$' || begins_with(p, "(*") || begins_with(p, "}+");
}

static flo_code rewrite(buffer *out, const char *pattern, flo_err *err)
{
    bool in_class = false;
    for (const char *p = pattern; *p != '\0';) {
        if (*p == '\\') {
            const char *next = rewrite_escape(out, p, in_class);
            if (next == NULL) {
                return flo_fail(
                    err, FLO_FAIL,
                    "the split pattern has an element that is not known here: \"%.10s\"", p);
            }
            p = next;
            continue;
        }
        if (is_foreign(p, in_class)) {
            return flo_fail(err, FLO_FAIL,
                            "the split pattern has an element that is not known here: \"%.10s\"",
                            p);
        }
        if (*p == '[') {
            in_class = true;
            buffer_append_byte(out, *p++);
            if (*p == '^') {
                buffer_append_byte(out, *p++);
            }
            continue;
        }
        if (*p == ']') {
            in_class = false;
        }
        buffer_append_byte(out, *p++);
    }
    buffer_append_byte(out, '\0');
    return out->failed ? flo_fail(err, FLO_FAIL, "out of memory for the split pattern") : FLO_OK;
}

static flo_code compile(pcre2_code **out, const char *pattern, flo_err *err)
{
    int fault;
    PCRE2_SIZE at;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &fault, &at, NULL);
    if (code == NULL) {
        char text[128] = "";
        pcre2_get_error_message(fault, (PCRE2_UCHAR *)text, sizeof text);
        return flo_fail(err, FLO_FAIL, "the split pattern has a fault: %s", text);
    }
    uint32_t matches_nothing =
        0; /* the reference parts the text there, PCRE2 would be asked not to */
    pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &matches_nothing);
    if (matches_nothing != 0) {
        pcre2_code_free(code);
        return flo_fail(err, FLO_FAIL,
                        "the split pattern matches the empty text, which is not known here");
    }
    /* Where there is no JIT the interpreter does the same, slower. */
    (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    *out = code;
    return FLO_OK;
}

flo_code word_split_new(word_split **out, const char *pattern, flo_err *err)
{
    buffer rewritten = {0};
    word_split *s = calloc(1, sizeof *s);
    flo_code code = s != NULL ? rewrite(&rewritten, pattern, err)
                              : flo_fail(err, FLO_FAIL, "out of memory for the split pattern");
    if (code == FLO_OK) {
        code = compile(&s->code, rewritten.at, err);
    }
    buffer_free(&rewritten);
    if (code != FLO_OK) {
        free(s);
        return code;
    }
    *out = s;
    return FLO_OK;
}

void word_split_free(word_split *s)
{
    if (s != NULL) {
        pcre2_code_free(s->code);
        free(s);
    }
}

flo_code word_walk_init(word_walk *w, const word_split *split, flo_err *err)
{
    *w = (word_walk){.split = split, .m = pcre2_match_data_create(1, NULL)};
    return w->m != NULL ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory for matching");
}

void word_walk_start(word_walk *w, const char *text, size_t n_bytes)
{
    w->text = text;
    w->n_bytes = n_bytes;
    w->at = w->match_begin = w->match_end = 0;
}

void word_walk_free(word_walk *w)
{
    pcre2_match_data_free(w->m);
    w->m = NULL;
}

/* Finds the first match that is not empty, from `at` on; an empty range at the end where there is
 * none. */
static flo_code find_match(word_walk *w, flo_err *err)
{
    PCRE2_SPTR text = (PCRE2_SPTR)w->text;
    uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int n = pcre2_match(w->split->code, text, w->n_bytes, w->at, options, w->m, NULL);
    if (n == PCRE2_ERROR_JIT_STACKLIMIT) { /* the interpreter has its stack on the heap */
        n = pcre2_match(w->split->code, text, w->n_bytes, w->at, options | PCRE2_NO_JIT, w->m,
                        NULL);
    }
    if (n == PCRE2_ERROR_NOMATCH) {
        w->match_begin = w->match_end = w->n_bytes;
        return FLO_OK;
    }
    if (n < 0) {
        char text_of_fault[128] = "";
        pcre2_get_error_message(n, (PCRE2_UCHAR *)text_of_fault, sizeof text_of_fault);
        return flo_fail(err, FLO_FAIL, "splitting text into words failed at byte %zu: %s", w->at,
                        text_of_fault);
    }
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(w->m);
    w->match_begin = range[0];
    w->match_end = range[1];
    return FLO_OK;
}

flo_code word_walk_next(word_walk *w, const char **word, size_t *n_word, flo_err *err)
{
    if (w->at >= w->match_end && w->at < w->n_bytes) {
        flo_code code = find_match(w, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    size_t end = w->at < w->match_begin ? w->match_begin : w->match_end;
    *word = w->text + w->at;
    *n_word = end - w->at;
    w->at = end;
    return FLO_OK;
}

/*
 * arguments.c - reading options by a table; nearest names for typing errors.
 */
#include "common/arguments.h"

#include "common/bytes.h"
#include "common/check.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES_MAX = 64 };

void word_list_add(word_list *l, const char *word)
{
    l->words = realloc(l->words, (l->n + 2) * sizeof *l->words);
    CHECK(l->words != NULL);
    l->words[l->n] = strdup(word);
    CHECK(l->words[l->n] != NULL);
    l->words[++l->n] = NULL;
}

void word_list_addf(word_list *l, const char *format, ...)
{
    char *word = NULL;
    va_list args;
    va_start(args, format);
    CHECK(vasprintf(&word, format, args) >= 0);
    va_end(args);
    word_list_add(l, word);
    free(word);
}

void word_list_free(word_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->words[i]);
    }
    free(l->words);
    *l = (word_list){0};
}

static flo_code take_integer(const argument *a, const char *value, flo_err *err)
{
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end != '\0') {
        return flo_fail(err, FLO_USAGE, "%s %s: not a whole number", a->name, value);
    }
    if (errno == ERANGE || (double)v < a->min || (double)v > a->max) {
        return flo_fail(err, FLO_USAGE, "%s %s: must be from %.0f to %.0f", a->name, value, a->min,
                        a->max);
    }
    *(int64_t *)a->out = v;
    return FLO_OK;
}

static flo_code take_number(const argument *a, const char *value, flo_err *err)
{
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end != '\0' || !isfinite(v)) {
        return flo_fail(err, FLO_USAGE, "%s %s: not a number", a->name, value);
    }
    if (v < a->min || v > a->max) {
        return flo_fail(err, FLO_USAGE, "%s %s: must be from %g to %g", a->name, value, a->min,
                        a->max);
    }
    *(double *)a->out = v;
    return FLO_OK;
}

static flo_code take_bytes(const argument *a, const char *value, flo_err *err)
{
    uint64_t v;
    flo_code code = bytes_parse(&v, value, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", a->name);
        return code;
    }
    if ((double)v < a->min) {
        return flo_fail(err, FLO_USAGE, "%s %s: must be at least %.0f bytes", a->name, value,
                        a->min);
    }
    *(uint64_t *)a->out = v;
    return FLO_OK;
}

static flo_code take_choice(const argument *a, const char *value, flo_err *err)
{
    char all[256] = "";
    for (int i = 0; a->choices[i] != NULL; i++) {
        if (strcmp(value, a->choices[i]) == 0) {
            *(int *)a->out = i;
            return FLO_OK;
        }
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%s", i > 0 ? ", " : "", a->choices[i]);
    }
    return flo_fail(err, FLO_USAGE, "%s %s: must be one of %s", a->name, value, all);
}

static flo_code take_value(const argument *a, const char *value, flo_err *err)
{
    switch (a->kind) {
    case ARGUMENT_TEXT:
    case ARGUMENT_TEXT_OR_NOT:
        *(const char **)a->out = value;
        return FLO_OK;
    case ARGUMENT_TEXTS:
        word_list_add(a->out, value);
        return FLO_OK;
    case ARGUMENT_NAMED_TEXTS:
        word_list_add(a->out, a->name);
        word_list_add(a->out, value);
        return FLO_OK;
    case ARGUMENT_INTEGER:
        return take_integer(a, value, err);
    case ARGUMENT_NUMBER:
        return take_number(a, value, err);
    case ARGUMENT_BYTES:
        return take_bytes(a, value, err);
    case ARGUMENT_CHOICE:
        return take_choice(a, value, err);
    case ARGUMENT_FLAG:
    case ARGUMENT_REFUSED:
    default:
        CHECK(!"a kind without a value");
        return FLO_USAGE;
    }
}

/* The entry whose name is word up to its end or its '='. */
static const argument *find(const argument *table, size_t n, const char *word)
{
    size_t length = strcspn(word, "=");
    for (size_t i = 0; i < n; i++) {
        if (strlen(table[i].name) == length && strncmp(table[i].name, word, length) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

flo_code arguments_take(const argument *table, size_t n, int argc, char **argv, int *i, bool *taken,
                        flo_err *err)
{
    const char *word = argv[*i];
    const argument *a = strncmp(word, "--", 2) == 0 ? find(table, n, word) : NULL;
    *taken = a != NULL;
    if (a == NULL) {
        return FLO_OK;
    }
    if (a->kind == ARGUMENT_REFUSED) {
        return flo_fail(err, FLO_USAGE, "%s: %s", a->name, a->note);
    }
    const char *value = strchr(word, '=');
    if (a->kind == ARGUMENT_TEXT_OR_NOT && value == NULL &&
        (*i + 1 >= argc || strncmp(argv[*i + 1], "--", 2) == 0)) {
        *(const char **)a->out = "";
        (*i)++;
    } else if (a->kind == ARGUMENT_FLAG) {
        if (value != NULL) {
            return flo_fail(err, FLO_USAGE, "%s takes no value", a->name);
        }
        *(bool *)a->out = true;
        (*i)++;
    } else {
        if (value == NULL && *i + 1 >= argc) {
            return flo_fail(err, FLO_USAGE, "%s needs a value", a->name);
        }
        const char *text = value != NULL ? value + 1 : argv[*i + 1];
        flo_code code = take_value(a, text, err);
        if (code != FLO_OK) {
            return code;
        }
        *i += value != NULL ? 1 : 2;
    }
    if (a->given != NULL) {
        *a->given = true;
    }
    return FLO_OK;
}

/* Edits (insert, drop, replace) between two names of at most NAME_BYTES_MAX bytes. */
static size_t edits_between(const char *a, const char *b)
{
    size_t n = strlen(b), row[NAME_BYTES_MAX + 1];
    if (strlen(a) > NAME_BYTES_MAX || n > NAME_BYTES_MAX) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            best = row[j] + 1 < best ? row[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

const char *nearest_name(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t best_edits = 1 + strlen(word) / 3;
    for (size_t i = 0; i < n; i++) {
        size_t edits = edits_between(word, names[i]);
        if (edits < best_edits || (edits == best_edits && best == NULL)) {
            best = names[i];
            best_edits = edits;
        }
    }
    return best;
}

flo_code arguments_unknown(const char *word, const argument *const *tables, const size_t *n,
                           size_t n_tables, flo_err *err)
{
    if (strncmp(word, "-", 1) != 0) {
        return flo_fail(err, FLO_USAGE, "unexpected argument '%s'; --help shows what can be given",
                        word);
    }
    char name[NAME_BYTES_MAX + 1];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(word, "="), word);
    const char *names[256];
    size_t n_names = 0;
    for (size_t t = 0; t < n_tables; t++) {
        for (size_t i = 0; tables[t] != NULL && i < n[t] && n_names < 256; i++) {
            names[n_names++] = tables[t][i].name;
        }
    }
    const char *near = nearest_name(name, names, n_names);
    if (near != NULL) {
        return flo_fail(err, FLO_USAGE, "unknown option %s; did you mean %s?", name, near);
    }
    return flo_fail(err, FLO_USAGE, "unknown option %s; --help shows all", name);
}

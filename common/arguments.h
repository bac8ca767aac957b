/*
 * arguments.h - options of a command line, described by a table.
 *
 * An option is `--name value` or `--name=value`; a flag is `--name`. Given twice, the last one
 * holds. Faults name the option and the value.
 */
#ifndef FLOTILLA_COMMON_ARGUMENTS_H
#define FLOTILLA_COMMON_ARGUMENTS_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Words of a command that is being put together; owns its copies, always ended by a NULL. */
typedef struct word_list {
    char **words; /* NULL while empty */
    size_t n;
} word_list;

void word_list_add(word_list *l, const char *word);
void word_list_addf(word_list *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
void word_list_free(word_list *l);

typedef enum argument_kind {
    ARGUMENT_FLAG,        /* out: bool */
    ARGUMENT_TEXT,        /* out: const char *, borrowed from argv */
    ARGUMENT_TEXT_OR_NOT, /* the same; "" where no value follows: another option, or the end */
    ARGUMENT_TEXTS,       /* out: word_list, one more each time */
    ARGUMENT_NAMED_TEXTS, /* out: word_list, the option's name and the value each time */
    ARGUMENT_INTEGER,     /* out: int64_t in [min, max] */
    ARGUMENT_NUMBER,      /* out: double in [min, max] */
    ARGUMENT_BYTES,       /* out: uint64_t >= min; 24G, 1.5M, 4096 */
    ARGUMENT_CHOICE,      /* out: int, index in choices */
    ARGUMENT_REFUSED,     /* known, takes a value, not built yet: always fails with `note` */
} argument_kind;

typedef struct argument {
    const char *name; /* "--memory" */
    argument_kind kind;
    void *out;
    double min, max;
    const char *const *choices; /* ended by NULL */
    bool *given;                /* set when the option was there; may be NULL */
    const char *note;           /* ARGUMENT_REFUSED: "pictures are not built yet" */
} argument;

/* Looks at argv[*i]: an option of the table is stored, *taken set and *i moved behind it (and its
 * value); anything else leaves *i and clears *taken. FLO_USAGE on a missing or bad value. */
flo_code arguments_take(const argument *table, size_t n, int argc, char **argv, int *i, bool *taken,
                        flo_err *err);

/* The sentence for an argument that nobody took; proposes the nearest name of the tables (NULL
 * tables are skipped). Returns FLO_USAGE. */
flo_code arguments_unknown(const char *word, const argument *const *tables, const size_t *n,
                           size_t n_tables, flo_err *err);

/* The nearest of n names within a few typing errors of word, or NULL. */
const char *nearest_name(const char *word, const char *const *names, size_t n);

#endif

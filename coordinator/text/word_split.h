/*
 * word_split.h - text into the words that byte-level BPE works on, by a regular expression.
 *
 * Each match is a word, and so is what lies between two matches: nothing is lost. The pattern is
 * written for the reference's engine (Oniguruma); what would mean something else to PCRE2 is
 * rewritten or refused.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_WORD_SPLIT_H
#define FLOTILLA_COORDINATOR_TEXT_WORD_SPLIT_H

#include "common/error.h"

#include <stddef.h>

/* Of the published checkpoints. Source: PRETOKENIZE_REGEX, tokenization_qwen2.py. */
extern const char word_split_default_pattern[];

typedef struct word_split word_split; /* constant after it is made; may be used by many threads */

/* FLO_FAIL: the pattern has a fault or an element not known here (the sentence names it). */
flo_code word_split_new(word_split **out, const char *pattern, flo_err *err);
void word_split_free(word_split *s);

/* One walk over one text; holds what matching needs and is used by one thread. */
typedef struct word_walk {
    const word_split *split;
    const char *text; /* well-formed UTF-8, borrowed */
    size_t n_bytes;
    size_t at;                         /* first byte not handed out yet */
    size_t match_begin, match_end;     /* a match found beyond `at`; empty where there is none */
    struct pcre2_real_match_data_8 *m; /* kept from text to text */
} word_walk;

flo_code word_walk_init(word_walk *w, const word_split *split, flo_err *err);
void word_walk_start(word_walk *w, const char *text, size_t n_bytes);
void word_walk_free(word_walk *w);

/* The next word; *n_word is 0 at the end. FLO_FAIL: matching ran into a limit of PCRE2. */
flo_code word_walk_next(word_walk *w, const char **word, size_t *n_word, flo_err *err);

#endif

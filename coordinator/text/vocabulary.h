/*
 * vocabulary.h - tokens by id, ids by spelling, and the ranked merges between them.
 *
 * A base token is spelled in the byte alphabet of byte-level BPE: one character for each byte, the
 * printable bytes as themselves, the other 68 as U+0100 and up ("Ġ" is the space). An added token
 * is spelled as its text. Built once by vocabulary_load, constant afterwards: about 16 MB for
 * 151,643 tokens and as many merges.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_VOCABULARY_H
#define FLOTILLA_COORDINATOR_TEXT_VOCABULARY_H

#include "common/buffer.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VOCABULARY_TOKENS_MAX = 1 << 22 };

typedef struct token {
    uint32_t text, n_text; /* where the spelling is in vocabulary.texts; a NUL follows */
    uint32_t raw, n_raw;   /* what it decodes to, in vocabulary.raws */
    bool exists;           /* ids may have gaps */
    bool is_added, is_special;
    bool is_made; /* some merge makes it */
} token;

typedef struct merge {
    uint64_t pair; /* left id << 32 | right id */
    uint32_t rank; /* lower goes first */
    int32_t id;    /* what they become; -1: an empty slot */
} merge;

typedef struct vocabulary {
    buffer texts, raws;
    token *tokens;    /* [n_tokens] */
    int32_t n_tokens; /* largest id + 1 */
    int32_t tokens_capacity;
    int32_t *spellings; /* hash table of ids, -1: empty; [n_spelling_slots], a power of two */
    size_t n_spelling_slots, n_spellings;
    merge *merges; /* hash table, [n_merge_slots], a power of two */
    size_t n_merge_slots;
    uint32_t n_merges;
    int32_t byte_ids[256]; /* the token of each single byte; -1: none yet */
} vocabulary;

flo_code vocabulary_init(vocabulary *v, flo_err *err);
void vocabulary_free(vocabulary *v);

/* FLO_FAIL: the id is out of range or taken, the spelling is empty or taken, no memory. */
flo_code vocabulary_add_base(vocabulary *v, const char *text, int32_t id, flo_err *err);

/* An added token; where the same spelling has the same id already it becomes an added token. */
flo_code vocabulary_add_added(vocabulary *v, const char *text, int32_t id, bool special,
                              flo_err *err);

/* The next merge in rank. FLO_FAIL: one of the three spellings is no token, or the pair came
 * before. */
flo_code vocabulary_add_merge(vocabulary *v, const char *left, size_t n_left, const char *right,
                              size_t n_right, flo_err *err);

/* To be called once, after everything was added. FLO_FAIL: a byte has no token, or a base token of
 * several bytes is made by no merge (the mark of a truncated merge list). */
flo_code vocabulary_check(const vocabulary *v, flo_err *err);

int32_t vocabulary_find(const vocabulary *v, const char *text, size_t n_text); /* -1: none */

/* NULL: the two do not merge. Slot of an open hash table; one cache miss most of the time. */
const merge *vocabulary_merge(const vocabulary *v, int32_t left, int32_t right);

/* NULL: no token has this id. */
const token *vocabulary_token(const vocabulary *v, int32_t id);

#endif

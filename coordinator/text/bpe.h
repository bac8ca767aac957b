/*
 * bpe.h - the bytes of one word into tokens, by ranked merges.
 *
 * The pair with the lowest rank merges first, of equal ones the leftmost, until no pair is listed.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_BPE_H
#define FLOTILLA_COORDINATOR_TEXT_BPE_H

#include "common/error.h"
#include "coordinator/text/vocabulary.h"

#include <stddef.h>
#include <stdint.h>

typedef struct id_list {
    int32_t *at; /* malloc'd; NULL while empty */
    size_t n, capacity;
} id_list; /* all zero: empty */

flo_code id_list_append(id_list *l, int32_t id, flo_err *err);

/* Appends the tokens of n_bytes >= 1 bytes. O(n) for short words, O(n log n) for long ones, which
 * take 36 bytes of working memory a byte while the call lasts. FLO_FAIL: no memory. */
flo_code bpe_encode(const vocabulary *v, const char *word, size_t n_bytes, id_list *out,
                    flo_err *err);

#endif

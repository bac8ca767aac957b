/*
 * added_tokens.h - tokens that are cut out of text as they are written: leftmost, then longest.
 *
 * A trie over their bytes. Finding costs one table look-up for each byte of ordinary text, and at
 * most the longest token's length where one may begin.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_ADDED_TOKENS_H
#define FLOTILLA_COORDINATOR_TEXT_ADDED_TOKENS_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct added_node {
    uint32_t child, sibling; /* 0: none; the root is node 0 */
    int32_t id;              /* -1: no token ends here */
    unsigned char byte;
} added_node;

typedef struct added_tokens {
    added_node *nodes; /* [n_nodes]; NULL: no tokens */
    uint32_t n_nodes, capacity;
    bool begins[256]; /* some token begins with this byte */
} added_tokens;       /* all zero: empty */

/* FLO_FAIL: no memory. A text that is there already gets the new id. */
flo_code added_tokens_add(added_tokens *a, const char *text, size_t n_text, int32_t id,
                          flo_err *err);
void added_tokens_free(added_tokens *a);

/* The first token at or after `from`: *at, *n_found and *id; false where there is none. */
bool added_tokens_find(const added_tokens *a, const char *text, size_t n_bytes, size_t from,
                       size_t *at, size_t *n_found, int32_t *id);

#endif

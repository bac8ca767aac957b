/*
 * added_tokens.c - tokens that are cut out of text as they are written: leftmost, then longest.
 */
#include "coordinator/text/added_tokens.h"

#include <stdlib.h>

static uint32_t child_of(const added_tokens *a, uint32_t node, unsigned char byte)
{
    uint32_t i = a->nodes[node].child;
    while (i != 0 && a->nodes[i].byte != byte) {
        i = a->nodes[i].sibling;
    }
    return i;
}

static bool nodes_reserve(added_tokens *a, size_t more)
{
    if (more > UINT32_MAX / 4 || a->n_nodes > UINT32_MAX / 4) {
        return false;
    }
    uint32_t need = a->n_nodes + (uint32_t)more;
    if (need <= a->capacity) {
        return true;
    }
    uint32_t capacity = 2 * need;
    added_node *nodes = realloc(a->nodes, capacity * sizeof *nodes);
    if (nodes == NULL) {
        return false;
    }
    a->nodes = nodes;
    a->capacity = capacity;
    return true;
}

flo_code added_tokens_add(added_tokens *a, const char *text, size_t n_text, int32_t id,
                          flo_err *err)
{
    if (!nodes_reserve(a, n_text + 1)) {
        return flo_fail(err, FLO_FAIL, "out of memory for added tokens");
    }
    if (a->n_nodes == 0) {
        a->nodes[a->n_nodes++] = (added_node){.id = -1};
    }
    uint32_t node = 0;
    for (size_t i = 0; i < n_text; i++) {
        unsigned char byte = (unsigned char)text[i];
        uint32_t child = child_of(a, node, byte);
        if (child == 0) {
            child = a->n_nodes++;
            a->nodes[child] = (added_node){0, a->nodes[node].child, -1, byte};
            a->nodes[node].child = child;
        }
        node = child;
    }
    a->nodes[node].id = id;
    a->begins[(unsigned char)text[0]] = true;
    return FLO_OK;
}

void added_tokens_free(added_tokens *a)
{
    free(a->nodes);
    *a = (added_tokens){0};
}

/* Length of the longest token at the beginning of text; 0: none. */
static size_t longest(const added_tokens *a, const char *text, size_t n_bytes, int32_t *id)
{
    size_t n = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        node = child_of(a, node, (unsigned char)text[i]);
        if (node == 0) {
            break;
        }
        if (a->nodes[node].id >= 0) {
            n = i + 1;
            *id = a->nodes[node].id;
        }
    }
    return n;
}

bool added_tokens_find(const added_tokens *a, const char *text, size_t n_bytes, size_t from,
                       size_t *at, size_t *n_found, int32_t *id)
{
    if (a->n_nodes == 0) {
        return false;
    }
    for (size_t i = from; i < n_bytes; i++) {
        if (!a->begins[(unsigned char)text[i]]) {
            continue;
        }
        size_t n = longest(a, text + i, n_bytes - i, id);
        if (n > 0) {
            *at = i;
            *n_found = n;
            return true;
        }
    }
    return false;
}

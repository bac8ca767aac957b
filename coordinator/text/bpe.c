/*
 * bpe.c - the bytes of one word into tokens, by ranked merges.
 *
 * Nearly all words are a few bytes long: for them an array of ranks is searched again after each
 * merge, all of it in two cache lines. A long word (a run of one letter, text without spaces) would
 * make that quadratic; it goes through a heap of candidate pairs over a linked list of symbols. A
 * candidate whose symbols have changed since is recognised when it comes up, and dropped. Both do
 * the same merges in the same order.
 */
#include "coordinator/text/bpe.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SHORT_WORD = 48 };
static const uint32_t no_rank = UINT32_MAX;

static flo_code no_memory(flo_err *err)
{
    return flo_fail(err, FLO_FAIL, "out of memory for token ids");
}

static bool id_list_reserve(id_list *l, size_t more)
{
    if (l->capacity - l->n >= more) {
        return true;
    }
    size_t capacity = l->capacity > 0 ? l->capacity : 64;
    while (capacity - l->n < more) {
        capacity *= 2;
    }
    int32_t *at = realloc(l->at, capacity * sizeof *at);
    if (at == NULL) {
        return false;
    }
    l->at = at;
    l->capacity = capacity;
    return true;
}

flo_code id_list_append(id_list *l, int32_t id, flo_err *err)
{
    if (!id_list_reserve(l, 1)) {
        return no_memory(err);
    }
    l->at[l->n++] = id;
    return FLO_OK;
}

/* What the symbols at i and i + 1 become, and when. */
typedef struct candidate {
    uint32_t rank; /* no_rank: they do not merge */
    int32_t id;
} candidate;

static candidate candidate_of(const vocabulary *v, int32_t left, int32_t right)
{
    const merge *m = vocabulary_merge(v, left, right);
    return m != NULL ? (candidate){m->rank, m->id} : (candidate){no_rank, -1};
}

static size_t lowest(const candidate *c, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        if (c[i].rank < c[best].rank) {
            best = i;
        }
    }
    return best;
}

/* ids [n] in, the merged ones out in the same place; returns their number. 2 <= n <= SHORT_WORD. */
static size_t merge_short(const vocabulary *v, int32_t *ids, size_t n)
{
    candidate c[SHORT_WORD]; /* c[i]: ids[i] with ids[i + 1] */
    for (size_t i = 0; i + 1 < n; i++) {
        c[i] = candidate_of(v, ids[i], ids[i + 1]);
    }
    while (n > 1) {
        size_t i = lowest(c, n - 1);
        if (c[i].rank == no_rank) {
            break;
        }
        ids[i] = c[i].id;
        memmove(ids + i + 1, ids + i + 2, (n - i - 2) * sizeof *ids);
        n--;
        if (i + 1 < n) {
            memmove(c + i + 1, c + i + 2, (n - i - 2) * sizeof *c);
            c[i] = candidate_of(v, ids[i], ids[i + 1]);
        }
        if (i > 0) {
            c[i - 1] = candidate_of(v, ids[i - 1], ids[i]);
        }
    }
    return n;
}

/* Symbols are named by the position of their first byte; a merged one keeps its left part's name.
 */
typedef struct symbol {
    int32_t id; /* -1: merged into the one before */
    uint32_t previous, next;
} symbol;

typedef struct heap_entry {
    uint32_t rank, at; /* order: rank, then position */
    int32_t id;        /* what the pair at `at` becomes, if it is still the same pair */
} heap_entry;

typedef struct long_word {
    const vocabulary *v;
    symbol *symbols; /* [n] */
    uint32_t n;
    heap_entry *heap; /* every merge takes one entry and adds at most two: 2 n are enough */
    size_t n_heap;
} long_word;

static bool goes_before(heap_entry a, heap_entry b)
{
    return a.rank != b.rank ? a.rank < b.rank : a.at < b.at;
}

static void heap_sink(heap_entry *heap, size_t n, size_t i)
{
    heap_entry e = heap[i];
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) {
            break;
        }
        if (child + 1 < n && goes_before(heap[child + 1], heap[child])) {
            child++;
        }
        if (!goes_before(heap[child], e)) {
            break;
        }
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = e;
}

static void heap_put(long_word *w, heap_entry e)
{
    size_t i = w->n_heap++;
    while (i > 0 && goes_before(e, w->heap[(i - 1) / 2])) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = e;
}

static heap_entry heap_take(long_word *w)
{
    heap_entry first = w->heap[0];
    w->heap[0] = w->heap[--w->n_heap];
    if (w->n_heap > 0) {
        heap_sink(w->heap, w->n_heap, 0);
    }
    return first;
}

/* The pair that begins at symbol `at`; rank no_rank where it does not merge or is at the end. */
static heap_entry pair_at(const long_word *w, uint32_t at)
{
    uint32_t next = w->symbols[at].next;
    if (w->symbols[at].id < 0 || next >= w->n) {
        return (heap_entry){no_rank, at, -1};
    }
    candidate c = candidate_of(w->v, w->symbols[at].id, w->symbols[next].id);
    return (heap_entry){c.rank, at, c.id};
}

static void long_word_begin(long_word *w, const char *word)
{
    for (uint32_t i = 0; i < w->n; i++) {
        w->symbols[i] = (symbol){w->v->byte_ids[(unsigned char)word[i]], i - 1, i + 1};
    }
    for (uint32_t i = 0; i < w->n; i++) {
        heap_entry e = pair_at(w, i);
        if (e.rank != no_rank) {
            w->heap[w->n_heap++] = e;
        }
    }
    for (size_t i = w->n_heap / 2; i-- > 0;) {
        heap_sink(w->heap, w->n_heap, i);
    }
}

static void long_word_join(long_word *w, heap_entry e)
{
    symbol *s = &w->symbols[e.at];
    symbol *gone = &w->symbols[s->next];
    s->id = e.id;
    s->next = gone->next;
    gone->id = -1;
    if (s->next < w->n) {
        w->symbols[s->next].previous = e.at;
    }
    heap_entry after = pair_at(w, e.at);
    if (after.rank != no_rank) {
        heap_put(w, after);
    }
    if (e.at > 0) {
        heap_entry before = pair_at(w, s->previous);
        if (before.rank != no_rank) {
            heap_put(w, before);
        }
    }
}

static flo_code encode_long(const vocabulary *v, const char *word, size_t n, id_list *out,
                            flo_err *err)
{
    long_word w = {.v = v, .n = (uint32_t)n};
    w.symbols = malloc(n * sizeof *w.symbols);
    w.heap = malloc(2 * n * sizeof *w.heap);
    flo_code code = w.symbols != NULL && w.heap != NULL ? FLO_OK : no_memory(err);
    if (code == FLO_OK) {
        long_word_begin(&w, word);
        while (w.n_heap > 0) {
            heap_entry e = heap_take(&w);
            heap_entry now = pair_at(&w, e.at);
            if (now.rank == e.rank && now.id == e.id) {
                long_word_join(&w, e);
            }
        }
    }
    for (uint32_t i = 0; code == FLO_OK && i < w.n; i = w.symbols[i].next) {
        code = id_list_append(out, w.symbols[i].id, err);
    }
    free(w.heap);
    free(w.symbols);
    return code;
}

flo_code bpe_encode(const vocabulary *v, const char *word, size_t n_bytes, id_list *out,
                    flo_err *err)
{
    if (n_bytes > SHORT_WORD) {
        return n_bytes < UINT32_MAX
                   ? encode_long(v, word, n_bytes, out, err)
                   : flo_fail(err, FLO_USAGE, "a word of %zu bytes is too long", n_bytes);
    }
    if (!id_list_reserve(out, n_bytes)) {
        return no_memory(err);
    }
    int32_t *ids = out->at + out->n; /* worked on in place */
    for (size_t i = 0; i < n_bytes; i++) {
        ids[i] = v->byte_ids[(unsigned char)word[i]];
    }
    out->n += n_bytes > 1 ? merge_short(v, ids, n_bytes) : 1;
    return FLO_OK;
}

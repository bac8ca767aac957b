/*
 * vocabulary.c - tokens by id, ids by spelling, and the ranked merges between them.
 *
 * Two open hash tables at most two thirds full. Spellings and decoded bytes lie in two pools, so
 * that 150,000 tokens are a handful of allocations and a load takes a fraction of a second.
 */
#include "coordinator/text/vocabulary.h"

#include "common/hash.h"
#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_SLOTS = 1 << 10, TEXT_BYTES_MAX = 1 << 16 };

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= 0xd6e8feb86659fd93u;
    return h ^ h >> 32;
}

static uint64_t text_hash(const char *text, size_t n)
{
    return mix(hash_bytes(HASH_START ^ n, text, n));
}

/* The byte that a character of the byte alphabet stands for; -1: not in the alphabet. */
static int byte_of(uint32_t c)
{
    if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff)) {
        return (int)c;
    }
    if (c >= 0x100 && c <= 0x120) {
        return (int)(c - 0x100);
    }
    if (c >= 0x121 && c <= 0x142) {
        return (int)(c - 0x121 + 0x7f);
    }
    return c == 0x143 ? 0xad : -1;
}

/* Appends the bytes that a base token's spelling stands for; false where a character is outside the
 * alphabet. */
static bool append_raw(buffer *raws, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        utf8_part part = utf8_next(text + i, n - i);
        int byte = part.kind == UTF8_GOOD ? byte_of(part.code_point) : -1;
        if (byte < 0) {
            return false;
        }
        buffer_append_byte(raws, (char)byte);
        i += part.n_bytes;
    }
    return true;
}

static flo_code no_memory(flo_err *err)
{
    return flo_fail(err, FLO_FAIL, "out of memory for the vocabulary");
}

static int32_t *new_spellings(size_t n)
{
    int32_t *slots = malloc(n * sizeof *slots);
    for (size_t i = 0; slots != NULL && i < n; i++) {
        slots[i] = -1;
    }
    return slots;
}

static merge *new_merges(size_t n)
{
    merge *slots = malloc(n * sizeof *slots);
    for (size_t i = 0; slots != NULL && i < n; i++) {
        slots[i] = (merge){.id = -1};
    }
    return slots;
}

flo_code vocabulary_init(vocabulary *v, flo_err *err)
{
    *v = (vocabulary){.n_spelling_slots = FIRST_SLOTS, .n_merge_slots = FIRST_SLOTS};
    for (int i = 0; i < 256; i++) {
        v->byte_ids[i] = -1;
    }
    v->spellings = new_spellings(FIRST_SLOTS);
    v->merges = new_merges(FIRST_SLOTS);
    if (v->spellings == NULL || v->merges == NULL) {
        vocabulary_free(v);
        return no_memory(err);
    }
    return FLO_OK;
}

void vocabulary_free(vocabulary *v)
{
    buffer_free(&v->texts);
    buffer_free(&v->raws);
    free(v->tokens);
    free(v->spellings);
    free(v->merges);
    *v = (vocabulary){0};
}

/* The slot that holds the spelling, or the empty one where it belongs. */
static size_t spelling_slot(const vocabulary *v, const char *text, size_t n)
{
    size_t i = text_hash(text, n) & (v->n_spelling_slots - 1);
    while (v->spellings[i] >= 0) {
        const token *t = &v->tokens[v->spellings[i]];
        if (t->n_text == n && memcmp(v->texts.at + t->text, text, n) == 0) {
            break;
        }
        i = (i + 1) & (v->n_spelling_slots - 1);
    }
    return i;
}

static bool spellings_grow(vocabulary *v)
{
    int32_t *old = v->spellings;
    size_t n_old = v->n_spelling_slots;
    int32_t *slots = new_spellings(2 * n_old);
    if (slots == NULL) {
        return false;
    }
    v->spellings = slots;
    v->n_spelling_slots = 2 * n_old;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i] >= 0) {
            const token *t = &v->tokens[old[i]];
            v->spellings[spelling_slot(v, v->texts.at + t->text, t->n_text)] = old[i];
        }
    }
    free(old);
    return true;
}

static bool tokens_reach(vocabulary *v, int32_t id)
{
    if (id >= v->tokens_capacity) {
        int32_t capacity = v->tokens_capacity > 0 ? v->tokens_capacity : 1024;
        while (capacity <= id) {
            capacity *= 2;
        }
        token *tokens = realloc(v->tokens, (size_t)capacity * sizeof *tokens);
        if (tokens == NULL) {
            return false;
        }
        memset(tokens + v->tokens_capacity, 0,
               (size_t)(capacity - v->tokens_capacity) * sizeof *tokens);
        v->tokens = tokens;
        v->tokens_capacity = capacity;
    }
    v->n_tokens = id >= v->n_tokens ? id + 1 : v->n_tokens;
    return true;
}

static flo_code check_new(const vocabulary *v, const char *text, size_t n, int32_t id, flo_err *err)
{
    if (id < 0 || id >= VOCABULARY_TOKENS_MAX) {
        return flo_fail(err, FLO_FAIL, "the token \"%.60s\" has the id %d, which is not in 0..%d",
                        text, id, VOCABULARY_TOKENS_MAX - 1);
    }
    if (n == 0 || n > TEXT_BYTES_MAX) {
        return flo_fail(err, FLO_FAIL, "the token with id %d has a text of %zu bytes, not 1..%d",
                        id, n, TEXT_BYTES_MAX);
    }
    if (id < v->n_tokens && v->tokens[id].exists) {
        return flo_fail(err, FLO_FAIL, "the id %d is given to \"%.60s\" and to \"%.60s\"", id,
                        v->texts.at + v->tokens[id].text, text);
    }
    int32_t other = v->spellings[spelling_slot(v, text, n)];
    if (other >= 0) {
        return flo_fail(err, FLO_FAIL, "the token \"%.60s\" has two ids, %d and %d", text, other,
                        id);
    }
    return FLO_OK;
}

/* raw_at: the token's bytes were appended to v->raws from there on. */
static flo_code add(vocabulary *v, const char *text, size_t n, int32_t id, size_t raw_at,
                    token **out, flo_err *err)
{
    if (v->raws.failed || !tokens_reach(v, id)) {
        return no_memory(err);
    }
    if (3 * (v->n_spellings + 1) > 2 * v->n_spelling_slots && !spellings_grow(v)) {
        return no_memory(err);
    }
    size_t text_at = v->texts.n;
    buffer_append(&v->texts, text, n + 1);
    if (v->texts.failed || v->texts.n > UINT32_MAX || v->raws.n > UINT32_MAX) {
        return no_memory(err);
    }
    v->spellings[spelling_slot(v, text, n)] = id;
    v->n_spellings++;
    v->tokens[id] = (token){.text = (uint32_t)text_at,
                            .n_text = (uint32_t)n,
                            .raw = (uint32_t)raw_at,
                            .n_raw = (uint32_t)(v->raws.n - raw_at),
                            .exists = true};
    *out = &v->tokens[id];
    return FLO_OK;
}

flo_code vocabulary_add_base(vocabulary *v, const char *text, int32_t id, flo_err *err)
{
    size_t n = strlen(text);
    flo_code code = check_new(v, text, n, id, err);
    if (code != FLO_OK) {
        return code;
    }
    /* A spelling outside the byte alphabet stands for itself, as in the reference. */
    size_t raw_at = v->raws.n;
    bool in_alphabet = append_raw(&v->raws, text, n);
    if (!in_alphabet) {
        v->raws.n = raw_at;
        buffer_append(&v->raws, text, n);
    }
    token *t;
    code = add(v, text, n, id, raw_at, &t, err);
    if (code == FLO_OK && in_alphabet && t->n_raw == 1) {
        v->byte_ids[(unsigned char)v->raws.at[t->raw]] = id;
    }
    return code;
}

flo_code vocabulary_add_added(vocabulary *v, const char *text, int32_t id, bool special,
                              flo_err *err)
{
    size_t n = strlen(text);
    int32_t known = vocabulary_find(v, text, n);
    token *t;
    if (known >= 0 && known == id) {
        t = &v->tokens[id];
    } else {
        flo_code code = check_new(v, text, n, id, err);
        if (code != FLO_OK) {
            return code;
        }
        size_t raw_at = v->raws.n;
        buffer_append(&v->raws, text, n);
        code = add(v, text, n, id, raw_at, &t, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    t->is_added = true;
    t->is_special = special;
    return FLO_OK;
}

static merge *merge_slot(const vocabulary *v, uint64_t pair)
{
    size_t i = mix(pair) & (v->n_merge_slots - 1);
    while (v->merges[i].id >= 0 && v->merges[i].pair != pair) {
        i = (i + 1) & (v->n_merge_slots - 1);
    }
    return &v->merges[i];
}

static bool merges_grow(vocabulary *v)
{
    merge *old = v->merges;
    size_t n_old = v->n_merge_slots;
    merge *slots = new_merges(2 * n_old);
    if (slots == NULL) {
        return false;
    }
    v->merges = slots;
    v->n_merge_slots = 2 * n_old;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].id >= 0) {
            *merge_slot(v, old[i].pair) = old[i];
        }
    }
    free(old);
    return true;
}

static uint64_t pair_of(int32_t left, int32_t right)
{
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

static flo_code find_part(const vocabulary *v, const char *text, size_t n, int32_t *id,
                          flo_err *err)
{
    *id = n > 0 ? vocabulary_find(v, text, n) : -1;
    if (*id < 0) {
        return flo_fail(err, FLO_FAIL, "\"%.*s\" is not in the vocabulary", n < 60 ? (int)n : 60,
                        text);
    }
    return FLO_OK;
}

flo_code vocabulary_add_merge(vocabulary *v, const char *left, size_t n_left, const char *right,
                              size_t n_right, flo_err *err)
{
    int32_t left_id = -1, right_id = -1, id = -1;
    flo_code code = find_part(v, left, n_left, &left_id, err);
    if (code == FLO_OK) {
        code = find_part(v, right, n_right, &right_id, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    char both[512];
    if (n_left + n_right <= sizeof both) {
        memcpy(both, left, n_left);
        memcpy(both + n_left, right, n_right);
        code = find_part(v, both, n_left + n_right, &id, err);
    } else {
        code = flo_fail(err, FLO_FAIL, "it is longer than %zu bytes", sizeof both);
    }
    if (code != FLO_OK) {
        flo_context(err, "the result");
        return code;
    }
    if (3 * ((size_t)v->n_merges + 1) > 2 * v->n_merge_slots && !merges_grow(v)) {
        return no_memory(err);
    }
    merge *slot = merge_slot(v, pair_of(left_id, right_id));
    if (slot->id >= 0) {
        return flo_fail(err, FLO_FAIL, "the same pair came before");
    }
    *slot = (merge){pair_of(left_id, right_id), v->n_merges++, id};
    v->tokens[id].is_made = true;
    return FLO_OK;
}

flo_code vocabulary_check(const vocabulary *v, flo_err *err)
{
    for (int i = 0; i < 256; i++) {
        if (v->byte_ids[i] < 0) {
            return flo_fail(err, FLO_FAIL, "the vocabulary has no token for the byte 0x%02x",
                            (unsigned)i);
        }
    }
    int32_t n_lost = 0, first_lost = -1;
    for (int32_t id = 0; id < v->n_tokens; id++) {
        const token *t = &v->tokens[id];
        if (t->exists && !t->is_added && !t->is_made && t->n_raw > 1) {
            first_lost = n_lost++ == 0 ? id : first_lost;
        }
    }
    if (n_lost > 0) {
        return flo_fail(
            err, FLO_FAIL,
            "%d tokens of the vocabulary are made by no merge, the first is \"%.60s\" (%d): "
            "is the list of merges truncated?",
            n_lost, v->texts.at + v->tokens[first_lost].text, first_lost);
    }
    return FLO_OK;
}

int32_t vocabulary_find(const vocabulary *v, const char *text, size_t n_text)
{
    return v->spellings[spelling_slot(v, text, n_text)];
}

const merge *vocabulary_merge(const vocabulary *v, int32_t left, int32_t right)
{
    const merge *slot = merge_slot(v, pair_of(left, right));
    return slot->id >= 0 ? slot : NULL;
}

const token *vocabulary_token(const vocabulary *v, int32_t id)
{
    return id >= 0 && id < v->n_tokens && v->tokens[id].exists ? &v->tokens[id] : NULL;
}

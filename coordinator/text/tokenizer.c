/*
 * tokenizer.c - text into token ids and back.
 *
 * Encoding goes down one funnel: added tokens are cut out of the text, each piece between them is
 * normalised, cut into words, and each word into tokens. Everything is linear in the text but the
 * merges of a very long word (n log n). Apart from the ids themselves it takes memory for one
 * normalised piece.
 */
#include "coordinator/text/tokenizer.h"

#include "common/buffer.h"
#include "common/utf8.h"
#include "coordinator/text/bpe.h"
#include "coordinator/text/nfc.h"
#include "coordinator/text/tokenizer_load.h"

#include <stdlib.h>
#include <string.h>

flo_code tokenizer_open(tokenizer **out, const char *folder, flo_err *err)
{
    tokenizer *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the tokenizer");
    }
    flo_code code = tokenizer_load(t, folder, err);
    if (code != FLO_OK) {
        tokenizer_close(t);
        return code;
    }
    *out = t;
    return FLO_OK;
}

void tokenizer_close(tokenizer *t)
{
    if (t != NULL) {
        vocabulary_free(&t->words);
        added_tokens_free(&t->raw);
        added_tokens_free(&t->normalised);
        word_split_free(t->split);
        free(t);
    }
}

/* What one call of tokenizer_encode works with. */
typedef struct encoding {
    const tokenizer *t;
    bool plain;
    nfc_work nfc;
    word_walk walk;
    id_list ids;
} encoding;

static flo_code encode_words(encoding *e, const char *text, size_t n_bytes, flo_err *err)
{
    word_walk_start(&e->walk, text, n_bytes);
    for (;;) {
        const char *word;
        size_t n_word;
        flo_code code = word_walk_next(&e->walk, &word, &n_word, err);
        if (code != FLO_OK || n_word == 0) {
            return code;
        }
        code = bpe_encode(&e->t->words, word, n_word, &e->ids, err);
        if (code != FLO_OK) {
            return code;
        }
    }
}

typedef flo_code (*encode_piece)(encoding *e, const char *text, size_t n_bytes, flo_err *err);

/* Cuts text at the tokens of `added`; what lies between goes to piece(). */
static flo_code encode_around(encoding *e, const added_tokens *added, encode_piece piece,
                              const char *text, size_t n_bytes, flo_err *err)
{
    size_t from = 0, at, n_found;
    int32_t id;
    flo_code code = FLO_OK;
    while (code == FLO_OK && !e->plain &&
           added_tokens_find(added, text, n_bytes, from, &at, &n_found, &id)) {
        code = piece(e, text + from, at - from, err);
        if (code == FLO_OK) {
            code = id_list_append(&e->ids, id, err);
        }
        from = at + n_found;
    }
    return code == FLO_OK ? piece(e, text + from, n_bytes - from, err) : code;
}

static flo_code encode_raw_piece(encoding *e, const char *text, size_t n_bytes, flo_err *err)
{
    const char *normalised;
    size_t n;
    flo_code code = nfc_normalise(&e->nfc, text, n_bytes, &normalised, &n, err);
    return code == FLO_OK ? encode_around(e, &e->t->normalised, encode_words, normalised, n, err)
                          : code;
}

flo_code tokenizer_encode(const tokenizer *t, const char *text, size_t n_bytes, bool plain,
                          int32_t **ids, size_t *n_ids, flo_err *err)
{
    size_t n_good = utf8_good_bytes(text, n_bytes);
    if (n_good != n_bytes) {
        return flo_fail(err, FLO_USAGE, "the text is not UTF-8: byte %zu is 0x%02x there", n_good,
                        (unsigned)(unsigned char)text[n_good]);
    }
    encoding e = {.t = t, .plain = plain};
    flo_code code = word_walk_init(&e.walk, t->split, err);
    if (code == FLO_OK) {
        code = encode_around(&e, &t->raw, encode_raw_piece, text, n_bytes, err);
        word_walk_free(&e.walk);
    }
    nfc_work_free(&e.nfc);
    if (code == FLO_OK && e.ids.at == NULL && (e.ids.at = malloc(sizeof *e.ids.at)) == NULL) {
        code = flo_fail(err, FLO_FAIL, "out of memory for token ids");
    }
    if (code != FLO_OK) {
        free(e.ids.at);
        return code;
    }
    *ids = e.ids.at;
    *n_ids = e.ids.n;
    return FLO_OK;
}

flo_code tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special,
                          char **text, size_t *n_bytes, flo_err *err)
{
    detokenizer *d = NULL;
    buffer out = {0};
    const char *piece;
    size_t n;
    flo_code code = detokenizer_new(&d, t, skip_special, err);
    for (size_t i = 0; i < n_ids && code == FLO_OK; i++) {
        code = detokenizer_push(d, ids[i], &piece, &n, err);
        if (code == FLO_OK) {
            buffer_append(&out, piece, n);
        }
    }
    if (code == FLO_OK) {
        code = detokenizer_flush(d, &piece, &n, err);
    }
    if (code == FLO_OK) {
        buffer_append(&out, piece, n);
        *text = buffer_take(&out, n_bytes);
        code = *text != NULL ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory for decoded text");
    }
    buffer_free(&out);
    detokenizer_free(d);
    return code;
}

int32_t tokenizer_size(const tokenizer *t)
{
    return t->words.n_tokens;
}

int32_t tokenizer_id(const tokenizer *t, const char *text)
{
    int32_t id = vocabulary_find(&t->words, text, strlen(text));
    return id >= 0 && t->words.tokens[id].is_added ? id : -1;
}

bool tokenizer_is_special(const tokenizer *t, int32_t id)
{
    const token *found = vocabulary_token(&t->words, id);
    return found != NULL && found->is_special;
}

const char *tokenizer_piece(const tokenizer *t, int32_t id)
{
    const token *found = vocabulary_token(&t->words, id);
    return found != NULL ? t->words.texts.at + found->text : NULL;
}

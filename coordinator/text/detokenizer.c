/*
 * detokenizer.c - ids one by one into text that never ends in half a character.
 *
 * Text is handed out as soon as what has been decoded does not end in U+FFFD, be it half a
 * character, an ill-formed part, or a true U+FFFD (more bytes may follow that belong to it: the
 * reference streams so). What is held back lies decoded in `held`, and the last one to three bytes
 * undecoded in `fresh`, so a push costs the bytes of its token, however long the text has grown.
 */
#include "common/buffer.h"
#include "common/utf8.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/tokenizer_load.h"

#include <stdlib.h>
#include <string.h>

enum { REPLACEMENT = 0xfffd };

struct detokenizer {
    const tokenizer *t;
    bool skip_special;
    buffer fresh;    /* undecoded: what was cut at the last push, then the new token's buffer */
    buffer held;     /* decoded, not handed out yet */
    bool ends_badly; /* held ends in U+FFFD */
    bool handed_out; /* held was given to the caller at the last call */
};

flo_code detokenizer_new(detokenizer **out, const tokenizer *t, bool skip_special, flo_err *err)
{
    detokenizer *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for decoding");
    }
    d->t = t;
    d->skip_special = skip_special;
    *out = d;
    return FLO_OK;
}

void detokenizer_free(detokenizer *d)
{
    if (d != NULL) {
        buffer_free(&d->fresh);
        buffer_free(&d->held);
        free(d);
    }
}

static void decode_part(detokenizer *d, utf8_part part, const char *text)
{
    if (part.kind == UTF8_GOOD) {
        buffer_append(&d->held, text, part.n_bytes);
    } else {
        buffer_append_text(&d->held, "\xef\xbf\xbd");
    }
    d->ends_badly = part.kind != UTF8_GOOD || part.code_point == REPLACEMENT;
}

/* Decodes `fresh`; a character that its end cuts stays there, unless the text ends with it. */
static void decode_fresh(detokenizer *d, bool at_end)
{
    size_t i = 0;
    while (i < d->fresh.n) {
        utf8_part part = utf8_next(d->fresh.at + i, d->fresh.n - i);
        if (part.kind == UTF8_CUT && !at_end) {
            break;
        }
        decode_part(d, part, d->fresh.at + i);
        i += part.n_bytes;
    }
    if (i > 0) {
        memmove(d->fresh.at, d->fresh.at + i, d->fresh.n - i);
        d->fresh.n -= i;
    }
}

static void forget_handed_out(detokenizer *d)
{
    if (d->handed_out) {
        d->held.n = 0;
        d->handed_out = false;
    }
}

static flo_code hand_out(detokenizer *d, bool ready, const char **text, size_t *n_bytes,
                         flo_err *err)
{
    if (d->fresh.failed || d->held.failed) {
        return flo_fail(err, FLO_FAIL, "out of memory for decoded text");
    }
    *text = ready && d->held.n > 0 ? d->held.at : "";
    *n_bytes = ready ? d->held.n : 0;
    d->handed_out = ready;
    return FLO_OK;
}

flo_code detokenizer_push(detokenizer *d, int32_t id, const char **text, size_t *n_bytes,
                          flo_err *err)
{
    const token *t = vocabulary_token(&d->t->words, id);
    if (t == NULL) {
        return flo_fail(err, FLO_USAGE,
                        "the id %d is no token of this tokenizer (its ids are 0..%d)", id,
                        tokenizer_size(d->t) - 1);
    }
    forget_handed_out(d);
    if (!(d->skip_special && t->is_special)) {
        buffer_append(&d->fresh, d->t->words.raws.at + t->raw, t->n_raw);
        decode_fresh(d, false);
    }
    return hand_out(d, d->fresh.n == 0 && !d->ends_badly, text, n_bytes, err);
}

flo_code detokenizer_flush(detokenizer *d, const char **text, size_t *n_bytes, flo_err *err)
{
    forget_handed_out(d);
    decode_fresh(d, true);
    d->ends_badly = false;
    return hand_out(d, true, text, n_bytes, err);
}

/*
 * tokenizer.h - text into token ids and back, equal to the reference on every string.
 *
 * Byte-level BPE from vocab.json + merges.txt + tokenizer_config.json, or from tokenizer.json
 * alone. Source: shared spec, section 7.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_TOKENIZER_H
#define FLOTILLA_COORDINATOR_TEXT_TOKENIZER_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tokenizer tokenizer;

flo_code tokenizer_open(tokenizer **out, const char *folder, flo_err *err);
void tokenizer_close(tokenizer *t);

/* Ids of UTF-8 text; added tokens inside it are recognised unless `plain`. *ids is malloc'd, the
 * caller frees it. FLO_USAGE on ill-formed UTF-8 (the byte offset is named). */
flo_code tokenizer_encode(const tokenizer *t, const char *text, size_t n_bytes, bool plain,
                          int32_t **ids, size_t *n_ids, flo_err *err);

/* Text of ids; U+FFFD for ill-formed parts. *text is malloc'd and NUL-terminated (n_bytes without
 * it). FLO_USAGE on an id that is no token. */
flo_code tokenizer_decode(const tokenizer *t, const int32_t *ids, size_t n_ids, bool skip_special,
                          char **text, size_t *n_bytes, flo_err *err);

int32_t tokenizer_size(const tokenizer *t); /* largest id + 1 */
int32_t tokenizer_id(const tokenizer *t,
                     const char *token); /* of an added token's text; -1: none */
bool tokenizer_is_special(const tokenizer *t, int32_t id);
/* The token as the vocabulary spells it ("Ġcap"); NULL where the id is no token. */
const char *tokenizer_piece(const tokenizer *t, int32_t id);

/* Ids one by one into text that never ends in half a character. */
typedef struct detokenizer detokenizer;
flo_code detokenizer_new(detokenizer **out, const tokenizer *t, bool skip_special, flo_err *err);
void detokenizer_free(detokenizer *d);
/* Appends what id makes readable to *text (borrowed until the next call; *n_bytes may be 0). */
flo_code detokenizer_push(detokenizer *d, int32_t id, const char **text, size_t *n_bytes,
                          flo_err *err);
/* What is left at the end: held-back bytes as U+FFFD. */
flo_code detokenizer_flush(detokenizer *d, const char **text, size_t *n_bytes, flo_err *err);

#endif

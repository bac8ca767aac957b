/*
 * tokenizer_load.h - a tokenizer's files, checked, as the structures that encoding works on.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_TOKENIZER_LOAD_H
#define FLOTILLA_COORDINATOR_TEXT_TOKENIZER_LOAD_H

#include "coordinator/text/added_tokens.h"
#include "coordinator/text/vocabulary.h"
#include "coordinator/text/word_split.h"

#include <cjson/cJSON.h>

struct tokenizer {
    vocabulary words;
    added_tokens raw;        /* cut out of the text as it comes */
    added_tokens normalised; /* cut out after NFC (flag "normalized") */
    word_split *split;
};

/* Fills *t (to be all zero) from a folder: from tokenizer.json where there is one, as the reference
 * does, else from vocab.json and merges.txt; added tokens from tokenizer_config.json too.
 * FLO_USAGE: no such folder. FLO_FAIL: a file is missing, damaged, or asks for what is not known
 * here. On failure *t is to be freed all the same. */
flo_code tokenizer_load(struct tokenizer *t, const char *folder, flo_err *err);

/* The same from parsed files alone; for fuzzers. config may be NULL. */
flo_code tokenizer_load_json(struct tokenizer *t, const cJSON *tokenizer_json, const cJSON *config,
                             flo_err *err);

#endif

/*
 * fuzz_tokenizer_json.c - any bytes as a tokenizer.json (and, behind a zero byte, as a
 * tokenizer_config.json): refused with a sentence, or a tokenizer that stands.
 */
#include "common/check.h"
#include "common/json.h"
#include "coordinator/text/tokenizer.h"
#include "coordinator/text/tokenizer_load.h"

#include <stdlib.h>
#include <string.h>

/* A pattern may ask for more than matching allows; everything else succeeds. */
static void encode_sample(const struct tokenizer *t)
{
    static const char text[] = "The cap,  it's 12\n \xc3\xa9\xe1\x84\x80 <|im_start|>";
    int32_t *ids;
    size_t n_ids;
    flo_err err = {""};
    if (tokenizer_encode(t, text, sizeof text - 1, false, &ids, &n_ids, &err) == FLO_OK) {
        CHECK(n_ids > 0);
        free(ids);
    } else {
        CHECK(err.text[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *text = (const char *)data;
    const char *zero = n > 0 ? memchr(text, '\0', n) : NULL;
    size_t n_first = zero != NULL ? (size_t)(zero - text) : n;
    cJSON *root = NULL, *config = NULL;
    flo_err err = {""};
    if (json_parse(&root, text, n_first, &err) != FLO_OK) {
        return 0;
    }
    if (zero != NULL && json_parse(&config, zero + 1, n - n_first - 1, &err) != FLO_OK) {
        cJSON_Delete(root);
        return 0;
    }
    struct tokenizer t = {0};
    err.text[0] = '\0';
    flo_code code = tokenizer_load_json(&t, root, config, &err);
    CHECK(code == FLO_OK || err.text[0] != '\0');
    if (code == FLO_OK) {
        encode_sample(&t);
    }
    vocabulary_free(&t.words);
    added_tokens_free(&t.raw);
    added_tokens_free(&t.normalised);
    word_split_free(t.split);
    cJSON_Delete(root);
    cJSON_Delete(config);
    return 0;
}

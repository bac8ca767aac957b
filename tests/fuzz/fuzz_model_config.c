/*
 * fuzz_model_config.c - any text as config.json: refused with a sentence, or a configuration whose
 * tensors can be listed.
 */
#include "common/check.h"
#include "common/model_tensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void visit(void *arg, const expected_tensor *t)
{
    uint64_t *n = arg;
    CHECK(t->n_dims >= 1 && t->n_dims <= TENSOR_DIMS_MAX);
    for (int32_t i = 0; i < t->n_dims; i++) {
        CHECK(t->shape[i] > 0);
    }
    (*n)++;
}

static void hold_to_promises(const model_config *c)
{
    const text_config *t = &c->text;
    CHECK(t->n_heads > 0 && t->n_kv_heads > 0 && t->n_heads % t->n_kv_heads == 0);
    CHECK(t->head_dim > 0 && t->head_dim % 2 == 0);
    CHECK(t->n_layers > 0 && t->n_layers <= MODEL_LAYERS_MAX);
    CHECK(t->n_experts_per_token <= t->n_experts);
    CHECK(t->rms_norm_eps > 0 && t->rope_theta > 0);
    CHECK(t->mrope_section[0] + t->mrope_section[1] + t->mrope_section[2] <= t->head_dim / 2);
    CHECK(c->tokens.audio < t->vocab_size);
}

/* Listing half a million names each time would be a fuzzer of snprintf. */
static int is_small(const model_config *c)
{
    return (int64_t)c->text.n_layers * c->text.n_experts < 1000 &&
           (int64_t)c->talker.n_layers * c->talker.n_experts < 1000;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static model_config config;
    char *text = malloc(size + 1);
    CHECK(text != NULL);
    memcpy(text, data, size);
    text[size] = '\0';
    flo_err err = {{0}};
    flo_code code = model_config_parse(&config, text, "config.json", &err);
    CHECK(code == FLO_OK || err.text[0] != '\0');
    if (code == FLO_OK) {
        hold_to_promises(&config);
        if (is_small(&config)) {
            uint64_t n = 0;
            model_tensors_each(&config, NULL, visit, &n);
            CHECK(n > 0);
        }
    }
    free(text);
    return 0;
}

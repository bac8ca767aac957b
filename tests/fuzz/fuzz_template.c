/*
 * fuzz_template.c - any bytes as a chat template, rendered with a fixed context: text or one
 * sentence.
 */
#include "common/check.h"
#include "common/utf8.h"
#include "coordinator/text/chat_template.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const char context_text[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \" Be brief. \"}, {\"role\": \"user\", "
    "\"content\": [{\"type\": \"image\"}, {\"type\": \"text\", \"text\": \"Gr\xc3\xbc\xc3\x9f\x65 "
    "<b>\"}]}, "
    "{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{\"function\": {\"name\": "
    "\"f\", "
    "\"arguments\": {\"a\": 1, \"b\": [1.5, null, true]}}}]}], \"tools\": [{\"name\": \"f\"}], "
    "\"n\": 7, "
    "\"f\": -2.5, \"s\": \"a,b,,c\", \"d\": {\"k\": 1, \"z\": \"y\"}, \"l\": [3, 1, 2], \"t\": "
    "true, "
    "\"big\": 123456789012345678901234567890, \"add_generation_prompt\": true}";

static cJSON *context_make(void)
{
    flo_err err = {0};
    cJSON *context = cJSON_Parse(context_text);
    CHECK(context != NULL);
    CHECK(chat_template_numbers_keep(context, context_text, sizeof context_text - 1, &err) ==
          FLO_OK);
    return context;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static cJSON *context;
    if (context == NULL) {
        context = context_make();
    }
    flo_err err = {0};
    chat_template *t = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    flo_code code = chat_template_parse(&t, (const char *)data, size, "t", &err);
    if (code == FLO_OK) {
        code = chat_template_render(t, context, &text, &n_bytes, &err);
        chat_template_free(t);
    }
    if (code == FLO_OK) {
        CHECK(text[n_bytes] == '\0' && utf8_good_bytes(text, n_bytes) == n_bytes);
    } else {
        CHECK(text == NULL && strncmp(err.text, "t line ", 7) == 0);
    }
    free(text);
    return 0;
}

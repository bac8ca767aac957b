/*
 * fuzz_messages.c - any bytes as a file of messages: refused, or cut apart into what JSON readers
 * take; and paths that are absolute stay as they are.
 */
#include "common/check.h"
#include "common/json.h"
#include "launch/messages.h"

#include <stdlib.h>
#include <string.h>

static cJSON *parse(const char *text, size_t n)
{
    cJSON *json = NULL;
    flo_err err;
    CHECK(json_parse_request(&json, text, n, &err) == FLO_OK);
    return json;
}

static void check_messages(json_slice messages, const buffer *options)
{
    buffer once = {0}, twice = {0};
    bool media = messages_put(&once, messages);
    CHECK(messages_put(&twice, (json_slice){once.at, once.n}) == media);
    CHECK(once.n == twice.n && memcmp(once.at, twice.at, once.n) == 0);
    CHECK(once.n >= messages.n);
    cJSON *list = parse(once.at, once.n), *others = parse(options->at, options->n);
    CHECK(cJSON_IsArray(list) && cJSON_GetArraySize(list) > 0);
    CHECK(cJSON_IsObject(others) && json_member(others, "messages") == NULL);
    cJSON_Delete(list);
    cJSON_Delete(others);
    buffer_free(&once);
    buffer_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    flo_err err = {""};
    buffer options = {0};
    json_slice messages = {0};
    char *text = malloc(n > 0 ? n : 1); /* of the exact size, so that reading past it is seen */
    memcpy(text, data, n);
    flo_code code = messages_take(text, n, "F", &messages, &options, &err);
    CHECK(code == FLO_OK || (code == FLO_USAGE && err.text[0] != '\0'));
    if (code == FLO_OK) {
        check_messages(messages, &options);
    }
    buffer_free(&options);
    free(text);
    return 0;
}

/*
 * fuzz_json.c - any bytes as JSON: refused or read, and what was read can be written and read
 * again.
 */
#include "common/check.h"
#include "common/json.h"
#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>

static void check_string(const cJSON *item)
{
    size_t n, n_again;
    char *text = json_string_copy(item, &n);
    buffer out = {0};
    cJSON *again = NULL;
    flo_err err;
    CHECK(utf8_good_bytes(text, n) == n);
    json_put_string(&out, text, n);
    CHECK(json_parse_request(&again, out.at, out.n, &err) == FLO_OK);
    char *same = json_string_copy(again, &n_again);
    CHECK(n_again == n && memcmp(same, text, n) == 0);
    free(same);
    cJSON_Delete(again);
    buffer_free(&out);
    free(text);
}

static void check_strings(const cJSON *item)
{
    for (; item != NULL; item = item->next) {
        if (cJSON_IsString(item)) {
            check_string(item);
        }
        check_strings(item->child);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    cJSON *strict = NULL, *request = NULL;
    flo_err err = {""};
    char *text = malloc(n > 0 ? n : 1); /* of the exact size, so that reading past it is seen */
    memcpy(text, data, n);
    flo_code code = json_parse(&strict, text, n, &err);
    CHECK(code == FLO_OK || err.text[0] != '\0');
    flo_code code_request = json_parse_request(&request, text, n, &err);
    CHECK(code != FLO_OK || code_request == FLO_OK);
    if (code_request == FLO_OK) {
        check_strings(request);
    }
    cJSON_Delete(strict);
    cJSON_Delete(request);
    free(text);
    return 0;
}

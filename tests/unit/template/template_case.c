#include "tests/unit/template/template_case.h"

#include "common/json.h"
#include "coordinator/text/chat_template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

char *golden_text(const char *path, size_t *n_bytes)
{
    char full[4096];
    char *text = NULL;
    flo_err err = {0};
    snprintf(full, sizeof full, "%s/%s", getenv("FLOTILLA_SOURCE_DIR"), path);
    if (file_read_text(&text, n_bytes, full, 64 << 20, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return text;
}

static cJSON *json_of(const char *text, size_t n_bytes)
{
    cJSON *json = NULL;
    flo_err err = {0};
    if (json_parse_request(&json, text, n_bytes, &err) != FLO_OK ||
        chat_template_numbers_keep(json, text, n_bytes, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return json;
}

cJSON *golden_json(const char *path)
{
    size_t n_bytes = 0;
    char *text = golden_text(path, &n_bytes);
    cJSON *json = json_of(text, n_bytes);
    free(text);
    return json;
}

flo_code render(const char *source, const cJSON *context, char **text, flo_err *err)
{
    chat_template *t = NULL;
    size_t n_bytes = 0;
    *text = NULL;
    flo_code code = chat_template_parse(&t, source, strlen(source), "t.jinja", err);
    if (code == FLO_OK) {
        code = chat_template_render(t, context, text, &n_bytes, err);
        chat_template_free(t);
    }
    return code;
}

void assert_renders(const char *source, const char *context, const char *expected)
{
    flo_err err = {0};
    char *text = NULL;
    cJSON *json = json_of(context, strlen(context));
    if (render(source, json, &text, &err) != FLO_OK) {
        fail_msg("%s: %s", source, err.text);
    }
    assert_string_equal(text, expected);
    free(text);
    cJSON_Delete(json);
}

void assert_faults(const char *source, const char *context, const char *words)
{
    flo_err err = {0};
    char *text = NULL;
    cJSON *json = json_of(context, strlen(context));
    assert_int_equal(render(source, json, &text, &err), FLO_FAIL);
    assert_null(text);
    if (strstr(err.text, words) == NULL) {
        fail_msg("\"%s\" is not in: %s", words, err.text);
    }
    cJSON_Delete(json);
}

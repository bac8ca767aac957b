/*
 * check_golden.c - templates render byte for byte as the reference renders them.
 *
 * The recorded cases are in tests/golden/template (small templates, one context), tests/golden/chat
 * (the adapted chat template of tests/golden/tokenizer-qwen3-omni) and tests/golden/template/
 * differential.json (made by tests/differential/jinja.py --record).
 */
#include "tests/unit/template/template_case.h"

#include "common/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *string_of(const cJSON *object, const char *name)
{
    const cJSON *s = json_member(object, name);
    return cJSON_IsString(s) ? s->valuestring : NULL;
}

/* One case: {"template", "output"} or {"template", "error"}. Returns whether it holds. */
static bool case_holds(const cJSON *one, const cJSON *context)
{
    flo_err err = {0};
    char *text = NULL;
    const char *source = string_of(one, "template"), *output = string_of(one, "output");
    flo_code code = render(source, context, &text, &err);
    bool holds = output == NULL ? code == FLO_FAIL : code == FLO_OK && strcmp(text, output) == 0;
    if (!holds) {
        print_error("%s\n  template: %s\n  expected: %s\n  rendered: %s\n", string_of(one, "name"),
                    source, output != NULL ? output : string_of(one, "error"),
                    code == FLO_OK ? text : err.text);
    }
    free(text);
    return holds;
}

static void file_holds(const char *path, int n_least)
{
    cJSON *json = golden_json(path);
    const cJSON *shared = json_member(json, "context"), *one;
    int n = 0, n_wrong = 0;
    cJSON_ArrayForEach(one, json_member(json, "cases"))
    {
        const cJSON *own = json_member(one, "context");
        n_wrong += !case_holds(one, own != NULL ? own : shared);
        n++;
    }
    cJSON_Delete(json);
    assert_int_equal(n_wrong, 0);
    assert_true(n >= n_least);
}

static void small_templates_render_as_recorded(void **state)
{
    (void)state;
    file_holds("tests/golden/template/cases.json", 53);
}

/* messages and options together, as the reference hands them to a template */
static cJSON *chat_context(const cJSON *one, const cJSON *with_prompt)
{
    cJSON *context = cJSON_Duplicate(json_member(one, "options"), true);
    cJSON_AddItemToObject(context, "messages", cJSON_Duplicate(json_member(one, "messages"), true));
    cJSON_AddItemToObject(context, "add_generation_prompt", cJSON_Duplicate(with_prompt, true));
    return context;
}

static void chats_render_as_recorded(void **state)
{
    (void)state;
    size_t n_bytes;
    char *source = golden_text("tests/golden/tokenizer-qwen3-omni/chat_template.jinja", &n_bytes);
    cJSON *cases = golden_json("tests/golden/chat/cases.json");
    const cJSON *one, *r;
    int n = 0;
    cJSON_ArrayForEach(one, cases)
    {
        cJSON_ArrayForEach(r, json_member(one, "renders"))
        {
            flo_err err = {0};
            char *text = NULL;
            cJSON *context = chat_context(one, json_member(r, "add_generation_prompt"));
            if (render(source, context, &text, &err) != FLO_OK) {
                fail_msg("%s: %s", string_of(one, "name"), err.text);
            }
            assert_string_equal(text, string_of(r, "text"));
            free(text);
            cJSON_Delete(context);
            n++;
        }
    }
    cJSON_Delete(cases);
    free(source);
    assert_int_equal(n, 60);
}

static void random_templates_render_as_recorded(void **state)
{
    (void)state;
    file_holds("tests/golden/template/differential.json", 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_templates_render_as_recorded),
        cmocka_unit_test(chats_render_as_recorded),
        cmocka_unit_test(random_templates_render_as_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

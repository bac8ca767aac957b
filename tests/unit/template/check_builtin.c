/*
 * check_builtin.c - a checkpoint without a template is prompted as the published variants are.
 *
 * The expected texts are the examples of the model's chat format: no default system turn, media as
 * placeholders, tools in the system turn, reasoning only behind the last query.
 */
#include "tests/unit/template/template_case.h"

#include "common/json.h"
#include "coordinator/text/chat_template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define USER "<|im_start|>user\n"
#define ASSISTANT "<|im_start|>assistant\n"
#define END "<|im_end|>\n"
#define IMAGE "<|vision_start|><|image_pad|><|vision_end|>"
#define VIDEO "<|vision_start|><|video_pad|><|vision_end|>"
#define AUDIO "<|audio_start|><|audio_pad|><|audio_end|>"

static char folder[] = "/tmp/flotilla-template-XXXXXX";

static void file_write(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void file_remove(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

static int folder_make(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int folder_remove(void **state)
{
    (void)state;
    return rmdir(folder);
}

/* Renders the folder's template with a context in JSON. */
static flo_code folder_render(const char *context, char **text, flo_err *err)
{
    cJSON *json = NULL;
    chat_template *t = NULL;
    size_t n_bytes = 0;
    *text = NULL;
    assert_int_equal(json_parse_request(&json, context, strlen(context), err), FLO_OK);
    assert_int_equal(chat_template_numbers_keep(json, context, strlen(context), err), FLO_OK);
    flo_code code = chat_template_open(&t, folder, err);
    if (code == FLO_OK) {
        code = chat_template_render(t, json, text, &n_bytes, err);
        chat_template_free(t);
    }
    cJSON_Delete(json);
    return code;
}

static void assert_folder_renders(const char *context, const char *expected)
{
    flo_err err = {0};
    char *text = NULL;
    if (folder_render(context, &text, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    assert_string_equal(text, expected);
    free(text);
}

#define MESSAGES(list) "{\"add_generation_prompt\": true, \"messages\": [" list "]}"
#define ENDED(list) "{\"messages\": [" list "]}"

static void a_user_message_gets_no_system_turn(void **state)
{
    (void)state;
    assert_folder_renders(MESSAGES("{\"role\": \"user\", \"content\": \"Hello\"}"),
                          USER "Hello" END ASSISTANT);
}

static void media_become_placeholders_in_order(void **state)
{
    (void)state;
    assert_folder_renders(
        MESSAGES("{\"role\": \"system\", \"content\": \"Be brief.\"},"
                 "{\"role\": \"user\", \"content\": [{\"type\": \"audio\", \"audio\": \"a\"},"
                 "{\"type\": \"image\"}, {\"type\": \"text\", \"text\": \"What is this?\"}]}"),
        "<|im_start|>system\nBe brief." END USER AUDIO IMAGE "What is this?" END ASSISTANT);
    assert_folder_renders(
        MESSAGES(
            "{\"role\": \"user\", \"content\": [{\"image_url\": {\"url\": \"u\"}}, {\"audio_url\": "
            "{\"url\": \"u\"}}, {\"video\": \"v\"}, {\"type\": \"video\"}, {\"type\": \"what\"}]}"),
        USER IMAGE AUDIO VIDEO VIDEO END ASSISTANT);
    assert_folder_renders(
        MESSAGES("{\"role\": \"user\", \"content\": [{\"type\": \"image\"}, {\"type\": \"text\", "
                 "\"text\": \"A\"}]}, {\"role\": \"assistant\", \"content\": [{\"type\": \"text\", "
                 "\"text\": \"B\"}]}, {\"role\": \"user\", \"content\": [{\"type\": \"audio\"}, "
                 "{\"type\": \"text\", \"text\": \"C\"}]}"),
        USER IMAGE "A" END ASSISTANT "B" END USER AUDIO "C" END ASSISTANT);
}

static void thinking_that_is_switched_off_gives_an_empty_block(void **state)
{
    (void)state;
    assert_folder_renders("{\"add_generation_prompt\": true, \"enable_thinking\": false, "
                          "\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}",
                          USER "Hi" END ASSISTANT "<think>\n\n</think>\n\n");
    assert_folder_renders("{\"add_generation_prompt\": true, \"enable_thinking\": true, "
                          "\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}",
                          USER "Hi" END ASSISTANT);
}

static const char tools_block[] =
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
    "{\"type\": \"function\", \"function\": {\"name\": \"wetter\", \"description\": \"Für "
    "<Orte>\", "
    "\"n\": 1.0}}\n</tools>\n\nFor each function call, return a json object with function name and "
    "arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, "
    "\"arguments\": <args-json-object>}\n</tool_call>";

#define TOOLS                                                                                      \
    "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"wetter\", \"description\": "  \
    "\"Für <Orte>\", \"n\": 1.0}}]"

static void tools_stand_in_the_system_turn(void **state)
{
    (void)state;
    char expected[2048];
    snprintf(expected, sizeof expected,
             "<|im_start|>system\nbe helpful\n\n%s" END USER "weather?" END, tools_block);
    assert_folder_renders("{" TOOLS ", \"messages\": [{\"role\": \"system\", \"content\": \"be "
                          "helpful\"}, {\"role\": \"user\", \"content\": \"weather?\"}]}",
                          expected);
    snprintf(expected, sizeof expected, "<|im_start|>system\n%s" END USER "weather?" END,
             tools_block);
    assert_folder_renders(
        "{" TOOLS ", \"messages\": [{\"role\": \"user\", \"content\": \"weather?\"}]}", expected);
}

static void reasoning_is_shown_behind_the_last_query_only(void **state)
{
    (void)state;
    assert_folder_renders(
        ENDED("{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", "
              "\"content\": \"A\", \"reasoning_content\": \"R\"}"),
        USER "Q" END ASSISTANT "<think>\nR\n</think>\n\nA" END);
    assert_folder_renders(
        ENDED("{\"role\": \"user\", \"content\": \"Q\"}, {\"role\": \"assistant\", \"content\": "
              "\"<think>\\nR\\n</think>\\n\\nA\"}, {\"role\": \"user\", \"content\": \"Q2\"}"),
        USER "Q" END ASSISTANT "A" END USER "Q2" END);
    /* With media there is no query in plain text, so no reasoning is shown at all. */
    assert_folder_renders(
        ENDED("{\"role\": \"user\", \"content\": [{\"type\": \"audio\"}, {\"type\": \"text\", "
              "\"text\": "
              "\"Q\"}]}, {\"role\": \"assistant\", \"content\": [{\"type\": \"text\", \"text\": "
              "\"<think>\\nR\\n</think>\\n\\nA\"}]}"),
        USER AUDIO "Q" END ASSISTANT "A" END);
}

static void tool_calls_and_their_answers_make_a_round(void **state)
{
    (void)state;
#define CALL(name, arguments)                                                                      \
    "{\"type\": \"function\", \"function\": {\"name\": \"" name "\", \"arguments\": " arguments "}}"
    assert_folder_renders(
        MESSAGES(
            "{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": "
            "\"\", "
            "\"tool_calls\": [" CALL("f", "{\"a\": 1}") "]}, {\"role\": \"tool\", \"content\": "
                                                        "\"42\"}"),
        USER "q" END ASSISTANT
             "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>" END
             "<|im_start|>user\n<tool_response>\n42\n</tool_response>" END ASSISTANT);
    assert_folder_renders(
        ENDED(
            "{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", \"content\": \"I "
            "see\", \"tool_calls\": [" CALL("f", "{}") ", " CALL(
                "g", "\"raw\"") "]}, {\"role\": "
                                "\"tool\", \"content\": \"1\"}, {\"role\": \"tool\", \"content\": "
                                "\"2\"}, {\"role\": "
                                "\"system\", \"content\": \"later\"}"),
        USER "q" END ASSISTANT
             "I see\n<tool_call>\n{\"name\": \"f\", \"arguments\": {}}\n</tool_call>\n"
             "<tool_call>\n{\"name\": \"g\", \"arguments\": raw}\n</tool_call>" END
             "<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</"
             "tool_response>" END "<|im_start|>system\nlater" END);
}

/* ---- where a folder's template comes from ---- */

static void a_folders_own_template_goes_before_the_built_in_one(void **state)
{
    (void)state;
    file_write("tokenizer_config.json",
               "{\"chat_template\": \"config {{ bos_token }}{{ tools is none }}\", "
               "\"bos_token\": {\"content\": \"<s>\"}}");
    assert_folder_renders("{}", "config <s>True");
    file_write("chat_template.json", "{\"chat_template\": \"json {{ eos_token }}\"}");
    assert_folder_renders("{\"eos_token\": \"given\"}", "json given");
    file_write("chat_template.jinja", "jinja {{ bos_token }}\n");
    assert_folder_renders("{}", "jinja <s>");
    file_remove("chat_template.jinja");
    file_remove("chat_template.json");
    file_remove("tokenizer_config.json");
}

static void a_list_of_templates_is_chosen_from_by_tools(void **state)
{
    (void)state;
    file_write("tokenizer_config.json",
               "{\"chat_template\": [{\"name\": \"default\", \"template\": \"plain\"}, {\"name\": "
               "\"tool_use\", \"template\": \"with {{ tools | length }}\"}]}");
    assert_folder_renders("{}", "plain");
    assert_folder_renders("{\"tools\": [1, 2]}", "with 2");
    file_remove("tokenizer_config.json");
}

static void a_faulty_file_is_refused_by_name_and_line(void **state)
{
    (void)state;
    flo_err err = {0};
    char *text;
    file_write("chat_template.jinja", "a\n\n{% if x %}\n");
    assert_int_equal(folder_render("{}", &text, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "chat_template.jinja line 3: Unexpected end of template"));
    file_remove("chat_template.jinja");
    file_write("chat_template.json", "{\"chat_template\": 5}");
    assert_int_equal(folder_render("{}", &text, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "chat_template.json: chat_template is no text"));
    file_write("chat_template.json", "{");
    assert_int_equal(folder_render("{}", &text, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "chat_template.json"));
    file_remove("chat_template.json");
}

static void a_folder_that_is_missing_is_wrong_use(void **state)
{
    (void)state;
    flo_err err = {0};
    chat_template *t = NULL;
    assert_int_equal(chat_template_open(&t, "/tmp/no/such/folder", &err), FLO_USAGE);
    assert_null(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_user_message_gets_no_system_turn),
        cmocka_unit_test(media_become_placeholders_in_order),
        cmocka_unit_test(thinking_that_is_switched_off_gives_an_empty_block),
        cmocka_unit_test(tools_stand_in_the_system_turn),
        cmocka_unit_test(reasoning_is_shown_behind_the_last_query_only),
        cmocka_unit_test(tool_calls_and_their_answers_make_a_round),
        cmocka_unit_test(a_folders_own_template_goes_before_the_built_in_one),
        cmocka_unit_test(a_list_of_templates_is_chosen_from_by_tools),
        cmocka_unit_test(a_faulty_file_is_refused_by_name_and_line),
        cmocka_unit_test(a_folder_that_is_missing_is_wrong_use),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}

/*
 * check_speech_given.c - only what was given travels, what cannot be is refused before a rank
 * starts, and an answer gets its file's name without any other change.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/speech_given.h"

#include <stdlib.h>
#include <string.h>

static speech_given given;
static flo_err err;

/* Takes words as a command does. */
static flo_code take(int argc, const char *const *words)
{
    argument table[SPEECH_ARGUMENTS + 1];
    flo_code code = FLO_OK;
    speech_arguments(&given, table);
    table[SPEECH_ARGUMENTS] =
        (argument){.name = "--speech", .kind = ARGUMENT_TEXT, .out = &given.file};
    for (int i = 0; i < argc && code == FLO_OK;) {
        bool taken;
        code = arguments_take(table, SPEECH_ARGUMENTS + 1, argc, (char **)(uintptr_t)words, &i,
                              &taken, &err);
        assert_true(code != FLO_OK || taken);
    }
    return code;
}

#define TAKE(...)                                                                                  \
    take((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)),                            \
         (const char *[]){__VA_ARGS__})

static void check_body(bool stream, const char *wanted)
{
    buffer body = {0};
    speech_put(&body, &given, stream);
    buffer_append_byte(&body, '\0');
    assert_string_equal(body.at, wanted);
    buffer_free(&body);
}

static void only_given_options_are_written(void **state)
{
    (void)state;
    assert_int_equal(TAKE("--speech", "a.wav"), FLO_OK);
    check_body(false, ",\"speech\":{\"mode\":\"exact\"}");
    check_body(true, ",\"speech\":{\"mode\":\"seamless\"}");
    assert_int_equal(TAKE("--speech=a.wav", "--speaker", "a \"b\"", "--talker-temperature=0",
                          "--talker-top-k", "0", "--talker-top-p=1", "--talker-repetition-penalty",
                          "1.5", "--talker-greedy", "--talker-max-new-tokens", "1", "--speech-mode",
                          "seamless"),
                     FLO_OK);
    check_body(false, ",\"speech\":{\"mode\":\"seamless\",\"speaker\":\"a \\\"b\\\"\","
                      "\"temperature\":0,\"top_k\":0,\"top_p\":1,\"repetition_penalty\":1.5,"
                      "\"greedy\":true,\"max_new_tokens\":1}");
    assert_int_equal(TAKE("--speech-mode", "exact"), FLO_OK);
    check_body(true, ",\"speech\":{\"mode\":\"exact\"}");
}

static void values_out_of_range_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"--talker-temperature=-1",
                                      "--talker-temperature=nan",
                                      "--talker-temperature=1001",
                                      "--talker-top-k=-1",
                                      "--talker-top-k=1.5",
                                      "--talker-top-p=1.01",
                                      "--talker-top-p=-0.1",
                                      "--talker-repetition-penalty=0",
                                      "--talker-repetition-penalty=x",
                                      "--talker-max-new-tokens=0",
                                      "--talker-max-new-tokens=999999999999",
                                      "--talker-greedy=yes",
                                      "--speech-mode=fast",
                                      "--speech-mode="};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(TAKE(bad[i]), FLO_USAGE);
        assert_int_equal(strncmp(err.text, bad[i], strcspn(bad[i], "=")), 0);
    }
}

static void check_refused(const run_options *run, bool later, const char *sentence)
{
    assert_int_equal(speech_given_check(&given, run, later, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, sentence));
}

static void options_that_contradict_are_refused(void **state)
{
    (void)state;
    const run_options plain = {0}, silent = {.no_speech = true}, json = {.json = true};
    assert_int_equal(TAKE("--talker-top-k", "5"), FLO_OK);
    check_refused(&plain, false, "--talker-top-k says how to speak, and nothing is to be spoken");
    check_refused(&silent, true, "--talker-top-k: --no-speech leaves the talker out");
    assert_int_equal(speech_given_check(&given, &plain, true, &err), FLO_OK);
    assert_int_equal(TAKE("--speech", "a.wav", "--speaker=x"), FLO_OK);
    assert_int_equal(speech_given_check(&given, &plain, false, &err), FLO_OK);
    assert_int_equal(speech_given_check(&given, &json, false, &err), FLO_OK);
    check_refused(&silent, false, "--speech: --no-speech leaves the talker out");
    assert_int_equal(TAKE("--speech", "-"), FLO_OK);
    assert_int_equal(speech_given_check(&given, &plain, false, &err), FLO_OK);
    check_refused(&json, false, "both write to standard output");
    assert_int_equal(TAKE("--speech", ""), FLO_OK);
    check_refused(&plain, false, "the name of the file is empty");
}

static void the_model_must_have_the_speaker(void **state)
{
    (void)state;
    model_config *model = calloc(1, sizeof *model);
    assert_non_null(model);
    assert_int_equal(TAKE("--speech", "a.wav"), FLO_OK);
    model->variant = MODEL_THINKING;
    assert_int_equal(speech_model_check(&given, model, "folder", &err), FLO_USAGE);
    assert_string_equal(err.text, "folder: this model (thinking) has no talker; speech needs an "
                                  "Instruct checkpoint");
    model->has_talker = model->has_code2wav = true;
    assert_int_equal(speech_model_check(&given, model, "folder", &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "no speakers"));
    model->n_speakers = 3;
    strcpy(model->speakers[0].name, "aiden");
    strcpy(model->speakers[1].name, "chelsie");
    strcpy(model->speakers[2].name, "ethan");
    assert_int_equal(speech_model_check(&given, model, "folder", &err), FLO_OK);
    assert_int_equal(TAKE("--speech", "a.wav", "--speaker", "AIDEN"), FLO_OK);
    assert_int_equal(speech_model_check(&given, model, "folder", &err), FLO_OK);
    assert_int_equal(TAKE("--speech", "a.wav", "--speaker", "aide"), FLO_OK);
    assert_int_equal(speech_model_check(&given, model, "folder", &err), FLO_USAGE);
    assert_string_equal(
        err.text, "--speaker aide: unknown; this model's speakers are aiden, chelsie and ethan");
    free(model);
}

static void any_number_of_speakers_fits_a_sentence(void **state)
{
    (void)state;
    model_config *model = calloc(1, sizeof *model);
    assert_non_null(model);
    model->has_talker = model->has_code2wav = true;
    model->n_speakers = MODEL_SPEAKERS_MAX;
    for (int i = 0; i < MODEL_SPEAKERS_MAX; i++) {
        memset(model->speakers[i].name, 'a', sizeof model->speakers[i].name - 1);
    }
    assert_int_equal(TAKE("--speech", "a.wav"), FLO_OK);
    assert_int_equal(speech_model_check(&given, model, "folder", &err), FLO_USAGE);
    assert_true(strlen(err.text) < FLO_ERR_BYTES);
    free(model);
}

static void check_answer(const char *json, const char *wanted)
{
    buffer out = {0}, answer = {0};
    buffer_append_text(&answer, json);
    speech_answer_put(&out, &answer, "a \"b\".wav");
    buffer_append_byte(&out, '\0');
    assert_string_equal(out.at, wanted);
    buffer_free(&answer);
    buffer_free(&out);
}

static bool was_cut(const char *json)
{
    buffer answer = {0};
    buffer_append_text(&answer, json);
    bool cut = speech_was_cut(&answer);
    buffer_free(&answer);
    return cut;
}

static void speech_is_cut_where_its_own_end_says_so(void **state)
{
    (void)state;
    assert_true(
        was_cut("{\"speech\": {\"frames\": 3, \"finish_reason\": \"length\", \"codes\": []}}"));
    assert_false(was_cut("{\"speech\": {\"finish_reason\": \"stop\"}, \"x\": \"length\"}"));
    assert_false(was_cut("{\"finish_reason\": \"length\", \"speech\": {\"frames\": 3}}"));
    assert_false(was_cut("{\"finish_reason\": \"length\"}"));
    assert_false(was_cut(""));
}

static void an_answer_gets_the_name_and_nothing_else(void **state)
{
    (void)state;
    check_answer("{\"a\": 1.0, \"speech\": {\"codes\": [[1, 2], []], \"n\": 1e2\n}, \"b\": \"}\"}",
                 "{\"a\": 1.0, \"speech\": {\"codes\": [[1, 2], []], \"n\": 1e2, \"file\": "
                 "\"a \\\"b\\\".wav\"\n}, \"b\": \"}\"}");
    check_answer("{\"speech\":{}}", "{\"speech\":{\"file\": \"a \\\"b\\\".wav\"}}");
    static const char *const others[] = {"",
                                         "{",
                                         "{}",
                                         "[]",
                                         "{\"speech\": null}",
                                         "{\"text\": \"\\\"speech\\\": {}\"}",
                                         "{\"a\": {\"speech\": {}}}",
                                         "{\"speech\"",
                                         "{\"speech\": \"\\"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        check_answer(others[i], others[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_given_options_are_written),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(options_that_contradict_are_refused),
        cmocka_unit_test(the_model_must_have_the_speaker),
        cmocka_unit_test(any_number_of_speakers_fits_a_sentence),
        cmocka_unit_test(speech_is_cut_where_its_own_end_says_so),
        cmocka_unit_test(an_answer_gets_the_name_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * check_request.c - a body becomes the generation it asks for, and one that asks for nothing sound
 * is refused with the name of what is wrong; so are the defaults of a checkpoint.
 *
 * The job has a real tokenizer, template and scheduler of the tiny checkpoint; no step is sent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/defaults.h"
#include "coordinator/request.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static job the_job;
static flo_err err;
static int n_done;

static void on_done(void *arg, request *r)
{
    (void)arg;
    n_done++;
    request_free(r);
}

static int open_job(void **state)
{
    (void)state;
    job *j = &the_job;
    snprintf(j->model_folder, sizeof j->model_folder, "%s", source_path("tests/golden/tiny-omni"));
    j->plan.n_stages = 1;
    j->plan.n_workers = 1;
    j->plan.kv_tokens = 1024;
    j->plan.talker_tokens = 8192;
    j->plan.workers[0] = (plan_worker){.rank = 1,
                                       .has_talker = true,
                                       .n_talker_experts = 8,
                                       .has_code_predictor = true,
                                       .has_code2wav = true};
    j->defaults = (sampling_defaults){
        .temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1, .top_k = -1};
    bool sound = model_config_read(&j->model, j->model_folder, &err) == FLO_OK &&
                 tokenizer_open(&j->tokenizer, j->model_folder, &err) == FLO_OK &&
                 chat_template_open(&j->chat_template, j->model_folder, &err) == FLO_OK &&
                 scheduler_new(&j->scheduler, NULL, &j->plan, &j->model, 1, &err) == FLO_OK &&
                 speech_desk_new(&j->speech_desk, NULL, &j->plan, &j->model, 1, &err) == FLO_OK;
    if (!sound) {
        print_error("%s\n", err.text);
    }
    return sound ? 0 : 1;
}

static int close_job(void **state)
{
    (void)state;
    speech_desk_free(the_job.speech_desk);
    scheduler_free(the_job.scheduler);
    chat_template_free(the_job.chat_template);
    tokenizer_close(the_job.tokenizer);
    return 0;
}

static request *start(const char *body)
{
    request *r;
    request_ends ends = {.done = on_done};
    request_from from = {0};
    if (request_start(&r, &the_job, 1, body, strlen(body), &from, &ends, &err) != FLO_OK) {
        fail_msg("%s\n  refused: %s", body, err.text);
    }
    return r;
}

static void stop(request *r)
{
    int before = n_done;
    scheduler_cancel(the_job.scheduler, &r->generation);
    assert_int_equal(n_done, before + 1);
}

/* A spoken one waits for its talker, who is not there. */
static void stop_spoken(request *r)
{
    int before = n_done;
    bool busy;
    request_cancel(r);
    speech_desk_pump(the_job.speech_desk, &busy);
    assert_int_equal(n_done, before + 1);
    assert_false(speech_desk_busy(the_job.speech_desk));
}

static void refused(const char *body, const char *name)
{
    request *r;
    request_ends ends = {.done = on_done};
    request_from from = {0};
    flo_code code = request_start(&r, &the_job, 1, body, strlen(body), &from, &ends, &err);
    if (code == FLO_OK) {
        stop(r);
        fail_msg("%s is taken", body);
    }
    assert_int_equal(code, FLO_USAGE);
    if (strstr(err.text, name) == NULL) {
        fail_msg("%s: no \"%s\" in: %s", body, name, err.text);
    }
}

/* A body with prompt_ids and this beside it. */
static const char *beside(const char *rest)
{
    static char body[4096];
    snprintf(body, sizeof body, "{\"prompt_ids\": [1, 2, 3], %s}", rest);
    return body;
}

static void settings_arrive(void **state)
{
    (void)state;
    request *r = start(beside("\"max_tokens\": 7, \"temperature\": 0.5, \"top_k\": 9, "
                              "\"top_p\": 0.25, \"min_p\": 0.125, \"repetition_penalty\": 1.5, "
                              "\"seed\": 42, \"logprobs\": 3"));
    const generation *g = &r->generation;
    assert_int_equal(g->n_prompt, 3);
    assert_int_equal(g->prompt[2], 3);
    assert_int_equal(g->max_new, 7);
    assert_true(g->sampling.temperature == 0.5 && g->sampling.top_p == 0.25);
    assert_true(g->sampling.min_p == 0.125 && g->sampling.repetition_penalty == 1.5);
    assert_int_equal(g->sampling.top_k, 9);
    assert_int_equal(g->sampling.seed, 42);
    assert_int_equal(g->logprobs, 3);
    assert_int_equal(g->n_stop, 1);
    assert_int_equal(g->stop_ids[0], the_job.model.tokens.im_end);
    stop(r);
}

static void what_is_left_out_is_greedy_to_the_end(void **state)
{
    (void)state;
    request *r = start("{\"prompt_ids\": [5], \"temperature\": null, \"stop\": null, "
                       "\"messages\": null, \"stream\": false, \"n\": 1, \"model\": \"x\"}");
    assert_true(r->generation.sampling.temperature == 0);
    assert_int_equal(r->generation.sampling.top_k, 50);
    assert_int_equal(r->generation.max_new, 1024);
    assert_int_equal(r->generation.logprobs, -1);
    stop(r);
    r = start(beside("\"max_completion_tokens\": 5, \"ignore_eos\": true, \"logprobs\": true, "
                     "\"top_logprobs\": 4"));
    assert_int_equal(r->generation.max_new, 5);
    assert_int_equal(r->generation.n_stop, 0);
    assert_int_equal(r->generation.logprobs, 4);
    stop(r);
}

static void an_answer_is_cut_to_what_the_cache_holds(void **state)
{
    (void)state;
    request *r = start(beside("\"max_tokens\": 2147483647"));
    assert_int_equal(r->generation.max_new, 1024 - 3 + 1);
    stop(r);
}

static void seeds_may_use_64_bits_as_strings(void **state)
{
    (void)state;
    request *r = start(beside("\"seed\": \"18446744073709551615\""));
    assert_true(r->generation.sampling.seed == UINT64_MAX);
    stop(r);
    r = start(beside("\"seed\": 9007199254740992"));
    assert_true(r->generation.sampling.seed == (uint64_t)1 << 53);
    stop(r);
    static const char *const bad[] = {"\"\"",    "\"-1\"", "\"1x\"", "\"18446744073709551616\"",
                                      "\" 1\"",  "-1",     "1.5",    "true",
                                      "\"1 \"",  "[1]",    "1e300",  "\"0x10\"",
                                      "\"1e3\"", "{}",     "\"+1\""};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char rest[64];
        snprintf(rest, sizeof rest, "\"seed\": %s", bad[i]);
        refused(beside(rest), "seed");
    }
}

static void messages_go_through_the_template(void **state)
{
    (void)state;
    request *r = start("{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}");
    int32_t n = r->generation.n_prompt;
    assert_true(n > 5);
    assert_int_equal(r->generation.prompt[0], the_job.model.tokens.im_start);
    request *parts = start("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": "
                           "\"text\", \"text\": \"Hi\"}]}]}");
    assert_int_equal(parts->generation.n_prompt, n);
    assert_memory_equal(parts->generation.prompt, r->generation.prompt, (size_t)n * 4);
    stop(parts);
    stop(r);
    r = start("{\"prompt\": \"Hi\", \"raw\": true}");
    assert_true(r->generation.n_prompt < n);
    stop(r);
}

/* A template tells 1 from 1.0, as the reference does. */
static void numbers_of_tools_are_told_as_written(void **state)
{
    (void)state;
    request *r =
        start("{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], \"max_tokens\": 5, "
              "\"tools\": [{\"type\": \"function\", \"function\": {\"name\": \"f\", "
              "\"low\": 1.0, \"high\": 36893488147419103232}}]}");
    char *text;
    size_t n;
    detokenizer *d;
    buffer all = {0};
    assert_int_equal(detokenizer_new(&d, the_job.tokenizer, false, &err), FLO_OK);
    for (int32_t i = 0; i < r->generation.n_prompt; i++) {
        const char *piece;
        assert_int_equal(detokenizer_push(d, r->generation.prompt[i], &piece, &n, &err), FLO_OK);
        buffer_append(&all, piece, n);
    }
    text = buffer_take(&all, &n);
    assert_non_null(text);
    if (strstr(text, "\"low\": 1.0, \"high\": 36893488147419103232") == NULL) {
        fail_msg("%s", text);
    }
    free(text);
    detokenizer_free(d);
    assert_int_equal(r->generation.max_new, 5);
    stop(r);
}

static void keys_of_the_wrong_type_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const numbers[] = {"temperature", "top_p",
                                          "min_p",       "top_k",
                                          "max_tokens",  "max_completion_tokens",
                                          "logprobs",    "repetition_penalty"};
    static const char *const bad[] = {"\"1\"", "[]", "{}", "-1", "1e400", "-1e-9", "1e18"};
    for (size_t i = 0; i < 8; i++) {
        for (size_t k = 0; k < 7; k++) {
            char rest[128];
            snprintf(rest, sizeof rest, "\"%s\": %s", numbers[i], bad[k]);
            refused(beside(rest), numbers[i]);
        }
    }
    refused(beside("\"top_k\": 1.5"), "top_k");
    refused(beside("\"max_tokens\": 0"), "max_tokens");
    refused(beside("\"top_p\": 1.5"), "top_p");
    refused(beside("\"logprobs\": 21"), "logprobs");
    refused(beside("\"logprobs\": true, \"top_logprobs\": 21"), "top_logprobs");
    refused(beside("\"top_logprobs\": 5"), "top_logprobs");
    refused(beside("\"ignore_eos\": 1"), "ignore_eos");
    refused(beside("\"ignore_eos\": \"yes\""), "ignore_eos");
    refused(beside("\"tools\": {}"), "tools");
    refused(beside("\"template_options\": []"), "template_options");
}

static void what_is_not_built_is_refused_by_name(void **state)
{
    (void)state;
    refused(beside("\"stream\": true"), "stream");
    refused(beside("\"n\": 2"), "\"n\"");
    refused(beside("\"stop\": [\"x\"]"), "stop");
    refused(beside("\"Temperature\": 1"), "Temperature");
    refused(beside("\"\": 1"), "\"\"");
    the_job.options.no_media = true;
    refused("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", "
            "\"image_url\": {\"url\": \"x\"}}]}]}",
            "--no-media");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": [{\"image\": \"x\"}]}]}",
            "--no-media");
    the_job.options.no_media = false;
    refused("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"smell\"}]}]}",
            "smell");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": "
            "5}]}]}",
            "without text");
    refused("{\"prompt\": \"see <|image_pad|>\", \"raw\": true}", "<|image_pad|>");
}

static void bodies_without_one_sound_prompt_are_refused(void **state)
{
    (void)state;
    refused("", "request");
    refused("[]", "object");
    refused("5", "object");
    refused("{\"prompt_ids\": [1]", "request");
    refused("{\"prompt_ids\": [1]} x", "request");
    refused("{}", "exactly one");
    refused("{\"max_tokens\": 3}", "exactly one");
    refused("{\"prompt_ids\": null}", "exactly one");
    refused("{\"prompt_ids\": [1], \"prompt\": \"x\", \"raw\": true}", "exactly one");
    refused("{\"prompt_ids\": [1], \"messages\": []}", "exactly one");
    refused("{\"messages\": []}", "messages");
    refused("{\"messages\": {}}", "messages");
    refused("{\"messages\": \"hi\"}", "messages");
    refused("{\"messages\": [1]}", "role");
    refused("{\"messages\": [{}]}", "role");
    refused("{\"messages\": [{\"role\": 1, \"content\": \"x\"}]}", "role");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": 5}]}", "content");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": {}}]}", "content");
    refused("{\"prompt\": \"x\"}", "raw");
    refused("{\"prompt\": 5, \"raw\": true}", "prompt");
    refused("{\"prompt\": \"\", \"raw\": true}", "empty");
    refused("{\"prompt_ids\": 5}", "prompt_ids");
    refused("{\"prompt_ids\": []}", "empty");
    refused("{\"prompt_ids\": [1, -1]}", "prompt_ids[1]");
    refused("{\"prompt_ids\": [1.5]}", "prompt_ids[0]");
    refused("{\"prompt_ids\": [\"1\"]}", "prompt_ids[0]");
    refused("{\"prompt_ids\": [1, 2, 3904]}", "prompt_ids[2]");
    refused("{\"prompt_ids\": [1e99]}", "prompt_ids[0]");
}

static void a_prompt_over_the_cache_is_refused_in_numbers(void **state)
{
    (void)state;
    char *body = malloc(8192);
    assert_non_null(body);
    size_t n = (size_t)sprintf(body, "{\"prompt_ids\": [1");
    for (int i = 0; i < 1024; i++) {
        n += (size_t)sprintf(body + n, ",2");
    }
    sprintf(body + n, "]}");
    refused(body, "1025 tokens");
    free(body);
}

/* --- generation_config.json --------------------------------------------------------------------
 */

static sampling_defaults defaults;

static flo_code read_defaults(const char *text)
{
    char folder[PATH_MAX];
    temp_folder_make(folder);
    if (text != NULL) {
        temp_file_write(folder, "generation_config.json", text, strlen(text));
    }
    flo_code code = sampling_defaults_read(&defaults, folder, &err);
    temp_folder_remove(folder);
    return code;
}

static void a_checkpoints_wishes_are_read(void **state)
{
    (void)state;
    assert_int_equal(read_defaults(NULL), FLO_OK);
    assert_false(defaults.do_sample);
    assert_true(defaults.temperature < 0 && defaults.top_k < 0 && defaults.n_stop == 0);
    assert_int_equal(read_defaults("{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": 20, "
                                   "\"top_p\": 0.95, \"repetition_penalty\": 1.05, "
                                   "\"eos_token_id\": [3, 7], \"talker_top_k\": 50}"),
                     FLO_OK);
    assert_true(defaults.do_sample && defaults.temperature == 0.6 && defaults.top_p == 0.95);
    assert_true(defaults.top_k == 20 && defaults.min_p < 0);
    assert_true(defaults.n_stop == 2 && defaults.stop_ids[1] == 7);
    assert_int_equal(read_defaults("{\"eos_token_id\": 5, \"top_p\": null}"), FLO_OK);
    assert_true(defaults.n_stop == 1 && defaults.stop_ids[0] == 5 && defaults.top_p < 0);
}

static void unsound_wishes_are_refused_by_name(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"[]", "object"},
        {"{", "generation_config.json"},
        {"{\"temperature\": \"1\"}", "temperature"},
        {"{\"temperature\": -1}", "temperature"},
        {"{\"top_p\": 1.5}", "top_p"},
        {"{\"min_p\": []}", "min_p"},
        {"{\"top_k\": 1e12}", "top_k"},
        {"{\"top_k\": 1.5}", "top_k"},
        {"{\"repetition_penalty\": 0}", "repetition_penalty"},
        {"{\"do_sample\": \"true\"}", "do_sample"},
        {"{\"eos_token_id\": \"x\"}", "eos_token_id"},
        {"{\"eos_token_id\": 1.5}", "eos_token_id"},
        {"{\"eos_token_id\": [1, -2]}", "eos_token_id"},
        {"{\"eos_token_id\": [[1]]}", "eos_token_id"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(read_defaults(bad[i][0]), FLO_FAIL);
        if (strstr(err.text, bad[i][1]) == NULL ||
            strstr(err.text, "generation_config.json") == NULL) {
            fail_msg("%s: %s", bad[i][0], err.text);
        }
    }
    char many[512] = "{\"eos_token_id\": [0";
    for (int i = 1; i < STOP_IDS_MAX; i++) {
        strcat(many, ",1");
    }
    strcat(many, "]}");
    assert_int_equal(read_defaults(many), FLO_FAIL);
}

static void speech_has_the_defaults_of_the_reference(void **state)
{
    (void)state;
    request *r =
        start("{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"speech\": {}}");
    const speech_how *how = &r->voice.how;
    assert_true(r->voice.wanted && r->voice.is_open);
    assert_int_equal(how->speaker_code, model_speaker(&the_job.model, "ethan")->id);
    assert_true(how->temperature == 0.9 && how->top_p == 1 && how->repetition_penalty == 1.05);
    assert_int_equal(how->top_k, 50);
    assert_int_equal(how->max_new_tokens, 4096);
    assert_false(how->exact || how->greedy);
    stop_spoken(r);
    r = start(beside("\"speech\": null"));
    assert_false(r->voice.wanted);
    stop(r);
}

static void speech_is_as_asked(void **state)
{
    (void)state;
    request *r =
        start("{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"seed\": 9, \"speech\": "
              "{\"speaker\": \"CHELSIE\", \"mode\": \"exact\", \"temperature\": 0.5, \"top_k\": 3, "
              "\"top_p\": 0.25, \"repetition_penalty\": 2, \"greedy\": true, "
              "\"max_new_tokens\": 17}}");
    const speech_how *how = &r->voice.how;
    assert_int_equal(how->speaker_code, model_speaker(&the_job.model, "chelsie")->id);
    assert_true(how->exact && how->greedy);
    assert_true(how->temperature == 0.5 && how->top_p == 0.25 && how->repetition_penalty == 2);
    assert_int_equal(how->top_k, 3);
    assert_int_equal(how->max_new_tokens, 17);
    assert_true(how->seed != 9); /* the text draws from that */
    stop_spoken(r);
}

static void speech_that_cannot_be_is_refused(void **state)
{
    (void)state;
    refused(beside("\"speech\": 3"), "speech");
    refused(beside("\"speech\": {\"volume\": 11}"), "volume");
    refused(beside("\"speech\": {\"speaker\": \"Bob\"}"), "aiden, chelsie, ethan");
    refused(beside("\"speech\": {\"speaker\": 3}"), "speaker");
    refused(beside("\"speech\": {\"mode\": \"loud\"}"), "mode");
    refused(beside("\"speech\": {\"greedy\": 1}"), "greedy");
    refused(beside("\"speech\": {\"temperature\": -1}"), "\"speech\": temperature");
    refused(beside("\"speech\": {\"top_k\": 1.5}"), "top_k");
    refused(beside("\"speech\": {\"max_new_tokens\": 0}"), "max_new_tokens");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], "
            "\"speech\": {\"max_new_tokens\": 8192}}",
            "--talker-max-new-tokens");
    the_job.plan.workers[0].has_talker = false;
    refused(beside("\"speech\": {}"), "--no-speech");
    the_job.plan.workers[0].has_talker = true;
    the_job.model.has_talker = false;
    refused(beside("\"speech\": {}"), "talker");
    the_job.model.has_talker = true;
}

static void a_given_text_is_an_answer_that_is_over(void **state)
{
    (void)state;
    request *r = start("{\"speak\": \"Hello <|im_end|> there\", \"speech\": {}}");
    const generation *g = &r->generation;
    assert_true(r->text_over && r->voice.is_open);
    assert_int_equal(g->ids[g->n_ids - 1], the_job.model.tokens.im_end);
    for (int32_t i = 0; i + 1 < g->n_ids; i++) {
        assert_true(g->ids[i] != the_job.model.tokens.im_end); /* as text, not as a token */
    }
    assert_int_equal(r->text.n, strlen("Hello <|im_end|> there"));
    assert_false(r->voice.prompt.silent);
    stop_spoken(r);
    r = start("{\"speak\": \"Hi\", \"speech\": {}, \"messages\": [{\"role\": \"user\", "
              "\"content\": \"Greet me\"}]}");
    stop_spoken(r);
}

static void a_given_text_that_cannot_be_spoken_is_refused(void **state)
{
    (void)state;
    refused("{\"speak\": \"\", \"speech\": {}}", "speak");
    refused("{\"speak\": 3, \"speech\": {}}", "speak");
    refused("{\"speak\": \"x\"}", "speech");
    refused(beside("\"speak\": \"x\", \"speech\": {}"), "messages");
    refused("{\"speak\": \"x\", \"speech\": {}, \"messages\": [{\"role\": \"user\", \"content\": "
            "[{\"type\": \"image\", \"image\": \"a.png\"}]}]}",
            "media");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_arrive),
        cmocka_unit_test(what_is_left_out_is_greedy_to_the_end),
        cmocka_unit_test(an_answer_is_cut_to_what_the_cache_holds),
        cmocka_unit_test(seeds_may_use_64_bits_as_strings),
        cmocka_unit_test(messages_go_through_the_template),
        cmocka_unit_test(numbers_of_tools_are_told_as_written),
        cmocka_unit_test(keys_of_the_wrong_type_are_refused_by_name),
        cmocka_unit_test(what_is_not_built_is_refused_by_name),
        cmocka_unit_test(bodies_without_one_sound_prompt_are_refused),
        cmocka_unit_test(a_prompt_over_the_cache_is_refused_in_numbers),
        cmocka_unit_test(a_checkpoints_wishes_are_read),
        cmocka_unit_test(unsound_wishes_are_refused_by_name),
        cmocka_unit_test(speech_has_the_defaults_of_the_reference),
        cmocka_unit_test(speech_is_as_asked),
        cmocka_unit_test(speech_that_cannot_be_is_refused),
        cmocka_unit_test(a_given_text_is_an_answer_that_is_over),
        cmocka_unit_test(a_given_text_that_cannot_be_spoken_is_refused),
    };
    return cmocka_run_group_tests(tests, open_job, close_job);
}

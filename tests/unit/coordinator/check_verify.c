/*
 * check_verify.c - verification without a job: what needs no workers is computed and compared, a
 * changed number is found and named, and what is missing, damaged or cannot be run never passes.
 *
 * Each test makes a folder of reference data: links to the recorded sections, and copies of those
 * that it spoils.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/buffer.h"
#include "common/file.h"
#include "coordinator/verify.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct scene {
    char golden[PATH_MAX];
    buffer said;
    flo_err err;
} scene;

static scene *scene_of(void **state)
{
    return *state;
}

static int set_up(void **state)
{
    scene *s = calloc(1, sizeof *s);
    temp_folder_make(s->golden);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    scene *s = *state;
    temp_folder_remove(s->golden);
    buffer_free(&s->said);
    free(s);
    return 0;
}

static void link_to(scene *s, const char *name, const char *target)
{
    assert_int_equal(symlink(target, temp_path(s->golden, name)), 0);
}

static void link_section(scene *s, const char *name)
{
    char below[64];
    snprintf(below, sizeof below, "tests/golden/%s", name);
    link_to(s, name, source_path(below));
}

static void make_folder(scene *s, const char *name)
{
    assert_int_equal(mkdir(temp_path(s->golden, name), 0700), 0);
}

/* Both files of a recorded case as copies, for spoiling. */
static void copy_file(scene *s, const char *name)
{
    char below[128];
    buffer b = {0};
    flo_err err;
    snprintf(below, sizeof below, "tests/golden/%s", name);
    assert_int_equal(file_read(&b, source_path(below), 1 << 24, &err), FLO_OK);
    temp_file_write(s->golden, name, b.at, b.n);
    buffer_free(&b);
}

static void copy_sampling_case(scene *s)
{
    make_folder(s, "sampling");
    make_folder(s, "sampling/case-0");
    copy_file(s, "sampling/case-0/case.json");
    copy_file(s, "sampling/case-0/tensors.safetensors");
}

/* Replaces the only occurrence of a text in a file by one of any length. */
static void edit(scene *s, const char *name, const char *old, const char *new)
{
    char *text = read_text(temp_path(s->golden, name));
    char *at = strstr(text, old);
    buffer b = {0};
    assert_non_null(at);
    buffer_append(&b, text, (size_t)(at - text));
    buffer_append_text(&b, new);
    buffer_append_text(&b, at + strlen(old));
    temp_file_write(s->golden, name, b.at, b.n);
    buffer_free(&b);
    free(text);
}

static void take(void *arg, const char *text, size_t n_bytes)
{
    scene *s = arg;
    assert_true(n_bytes > 0 && text[n_bytes - 1] == '\n');
    assert_null(memchr(text, '\n', n_bytes - 1));
    buffer_append(&s->said, text, n_bytes);
}

/* only: "a\", \"b" inside the quotes, or NULL. */
static flo_code run_with(scene *s, tokenizer *t, const char *only)
{
    char body[PATH_MAX + 256];
    job *j = calloc(1, sizeof *j);
    int n = only != NULL ? snprintf(body, sizeof body, "{\"golden\": \"%s\", \"only\": [\"%s\"]}",
                                    s->golden, only)
                         : snprintf(body, sizeof body, "{\"golden\": \"%s\"}", s->golden);
    j->tokenizer = t;
    s->said.n = 0;
    s->err.text[0] = '\0';
    flo_code code = verify_run(j, body, (size_t)n, take, s, &s->err);
    buffer_append_byte(&s->said, '\0');
    free(j);
    return code;
}

static flo_code run(scene *s, const char *only)
{
    return run_with(s, NULL, only);
}

static void assert_said(const scene *s, const char *part)
{
    if (strstr(s->said.at, part) == NULL) {
        fail_msg("'%s' is not in:\n%s", part, s->said.at);
    }
}

static void assert_sentence(const scene *s, const char *part)
{
    if (strstr(s->err.text, part) == NULL) {
        fail_msg("'%s' is not in: %s", part, s->err.text);
    }
}

/* --- what is recorded --------------------------------------------------------------------------
 */

static void every_recorded_sampling_step_is_met(void **state)
{
    scene *s = scene_of(state);
    link_section(s, "sampling");
    assert_int_equal(run(s, "sampling"), FLO_OK);
    assert_said(s, "in all: 7 cases, 21 tensors compared, 0 over, 0 missing or damaged; "
                   "0 without a counterpart; 0 sections not run");
}

static void every_recorded_text_is_met(void **state)
{
    scene *s = scene_of(state);
    tokenizer *t;
    flo_err err;
    link_section(s, "tokenization");
    link_section(s, "template");
    link_section(s, "chat");
    link_to(s, "tokenizer-qwen3-omni", getenv("FLOTILLA_TOKENIZER_DIR"));
    assert_int_equal(tokenizer_open(&t, source_path("tests/golden/tiny-omni"), &err), FLO_OK);
    assert_int_equal(run_with(s, t, NULL), FLO_OK);
    assert_said(s, "in tokenization: 511 cases, 2173 texts compared, 0 over");
    assert_said(s, "in template: 53 cases, 53 texts compared, 0 over");
    assert_said(s, "in chat: 30 cases, 96 texts compared, 0 over");
    assert_said(s, "24 without a counterpart here: ids with media");
    assert_said(s, "folders without cases: tokenizer-qwen3-omni");
    tokenizer_close(t);
}

/* --- what differs ------------------------------------------------------------------------------
 */

static void a_changed_probability_is_over_and_named(void **state)
{
    scene *s = scene_of(state);
    copy_sampling_case(s);
    edit(s, "sampling/case-0/case.json", "\"temperature\": 0.7", "\"temperature\": 0.71");
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_sentence(s, "1 over their tolerance and 0 missing or damaged");
    assert_sentence(s, "sampling/case-0 probs");
    assert_said(s, "OVER: 6 of 50, worst at [");
}

static void a_changed_greedy_choice_is_over_and_named(void **state)
{
    scene *s = scene_of(state);
    copy_sampling_case(s);
    edit(s, "sampling/case-0/case.json", "\"greedy_after_penalty\": 10",
         "\"greedy_after_penalty\": 11");
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_sentence(s, "sampling/case-0 greedy_after_penalty");
    assert_said(s, "OVER: 1 of 1, worst at [0]: 10, expected 11");
}

static void a_changed_text_is_over_and_its_case_named(void **state)
{
    scene *s = scene_of(state);
    make_folder(s, "template");
    copy_file(s, "template/cases.json");
    edit(s, "template/cases.json", "\"output\": \"plain text, no tags\"",
         "\"output\": \"plain text, no tugs\"");
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_said(s, "OVER: 'text-only': at byte 16 got 'ags', expected 'ugs'");
    assert_said(s, "1 over");
}

static void a_template_that_should_be_refused_and_renders_is_over(void **state)
{
    scene *s = scene_of(state);
    const char text[] = "{\"context\": {\"a\": 1}, \"cases\": [{\"name\": \"fine\", \"template\": "
                        "\"{{ a }}\", \"error\": \"TemplateError: x\"}]}";
    make_folder(s, "template");
    temp_file_write(s->golden, "template/cases.json", text, sizeof text - 1);
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_said(s, "OVER: 'fine': rendered, expected an error");
}

static void other_ids_are_over_and_their_text_named(void **state)
{
    scene *s = scene_of(state);
    tokenizer *t;
    flo_err err;
    make_folder(s, "tokenization");
    const char text[] = "[{\"text\": \"Hello, world!\", \"ids\": [39, 301, 385, 12, 1879, 0]}]";
    temp_file_write(s->golden, "tokenization/tiny-omni.json", text, sizeof text - 1);
    assert_int_equal(tokenizer_open(&t, source_path("tests/golden/tiny-omni"), &err), FLO_OK);
    assert_int_equal(run_with(s, t, NULL), FLO_DIFFERS);
    assert_said(s, "OVER: 'Hello, world!': id 3 is 11, expected 12");
    tokenizer_close(t);
}

/* --- what is missing or damaged ----------------------------------------------------------------
 */

static void a_case_without_its_tensors_is_a_difference(void **state)
{
    scene *s = scene_of(state);
    copy_sampling_case(s);
    unlink(temp_path(s->golden, "sampling/case-0/tensors.safetensors"));
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_sentence(s, "0 over their tolerance and 1 missing or damaged");
    assert_said(s, "case-0             FAULT: ");
    assert_said(s, "tensors.safetensors");
}

static void a_folder_without_case_json_is_a_difference(void **state)
{
    scene *s = scene_of(state);
    copy_sampling_case(s);
    make_folder(s, "sampling/case-9");
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_said(s, "case-9             FAULT: ");
    assert_said(s, "2 cases, 3 tensors compared, 0 over, 1 missing or damaged");
}

static void a_section_without_cases_is_a_difference(void **state)
{
    scene *s = scene_of(state);
    make_folder(s, "sampling");
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_said(s, "the folder has no cases");
}

static void tensors_and_case_json_must_agree(void **state)
{
    static const struct {
        const char *old, *new, *sentence;
    } edits[] = {
        {"\"probs\": {", "\"prubs\": {", "case.json lists the tensor prubs"},
        {"50\n   ],\n   \"meaning\": \"1 where", "51\n   ],\n   \"meaning\": \"1 where",
         "the shape of kept"},
        {"\"atol\": 1e-06", "\"atol\": -1", "no proper tolerance for probs"},
        {"\"atol\": 1e-06", "\"atol\": \"1\"", "no proper tolerance for probs"},
        {"\"tensors\":", "\"tonsors\":", "no object with the key tensors"},
        {"{\n \"section\"", "[\n \"section\"", "case.json"},
    };
    scene *s = scene_of(state);
    copy_sampling_case(s);
    for (size_t i = 0; i < sizeof edits / sizeof edits[0]; i++) {
        copy_file(s, "sampling/case-0/case.json");
        edit(s, "sampling/case-0/case.json", edits[i].old, edits[i].new);
        assert_int_equal(run(s, NULL), FLO_DIFFERS);
        assert_said(s, edits[i].sentence);
        assert_said(s, "1 missing or damaged");
    }
}

static void a_file_cut_at_any_length_is_a_difference(void **state)
{
    scene *s = scene_of(state);
    buffer b = {0};
    copy_sampling_case(s);
    assert_int_equal(file_read(&b, temp_path(s->golden, "sampling/case-0/tensors.safetensors"),
                               1 << 20, &s->err),
                     FLO_OK);
    for (size_t n = 0; n < b.n; n += n < 16 ? 1 : 37) {
        temp_file_write(s->golden, "sampling/case-0/tensors.safetensors", b.at, n);
        assert_int_equal(run(s, NULL), FLO_DIFFERS);
        assert_said(s, "1 missing or damaged");
    }
    buffer_free(&b);
}

static void texts_of_the_wrong_kind_are_a_difference(void **state)
{
    static const char *const files[] = {
        "",
        "{}",
        "[]",
        "[1]",
        "[{\"text\": \"a\"}]",
        "[{\"text\": \"a\", \"ids\": [1.5]}]",
        "[{\"text\": 5, \"ids\": []}]",
        "[{\"text\": \"a\", \"ids\": [64], \"decoded\": 7}]",
        "[{\"text\": \"a\", \"ids\": [64], \"decoded\": \"b\"}]",
        "[{\"text\": \"a\", \"ids\": [999999999], \"decoded\": \"a\"}]",
    };
    scene *s = scene_of(state);
    tokenizer *t;
    flo_err err;
    make_folder(s, "tokenization");
    assert_int_equal(tokenizer_open(&t, source_path("tests/golden/tiny-omni"), &err), FLO_OK);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        temp_file_write(s->golden, "tokenization/tiny.json", files[i], strlen(files[i]));
        assert_int_equal(run_with(s, t, NULL), FLO_DIFFERS);
    }
    tokenizer_close(t);
}

static void a_history_outside_the_row_is_a_difference(void **state)
{
    scene *s = scene_of(state);
    copy_sampling_case(s);
    const char *path = temp_path(s->golden, "sampling/case-0/tensors.safetensors");
    buffer b = {0};
    assert_int_equal(file_read(&b, path, 1 << 20, &s->err), FLO_OK);
    uint64_t n_header;
    memcpy(&n_header, b.at, 8);
    char *at = strstr(b.at + 8, "\"history\"");
    assert_non_null(at);
    at = strstr(at, "\"data_offsets\"");
    assert_non_null(at);
    size_t offset = strtoul(strchr(at, '[') + 1, NULL, 10);
    int32_t bad = 50;
    memcpy(b.at + 8 + n_header + offset, &bad, sizeof bad);
    temp_file_write(s->golden, "sampling/case-0/tensors.safetensors", b.at, b.n);
    buffer_free(&b);
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_said(s, "history[0] is 50, the row has 50 ids");
}

/* --- what is not run ---------------------------------------------------------------------------
 */

static void a_packed_tokenizer_counts_as_not_run(void **state)
{
    scene *s = scene_of(state);
    link_section(s, "tokenization");
    link_section(s, "chat");
    link_section(s, "tokenizer-qwen3-omni");
    assert_int_equal(run(s, "chat\", \"tokenization"), FLO_DIFFERS);
    assert_said(s, "xz -dk");
    assert_said(s, "in chat: 30 cases, 60 texts compared, 0 over");
    assert_sentence(s, "no difference, but not all was run: tokenization, chat");
}

static void a_section_that_the_job_has_no_part_for_counts_as_not_run(void **state)
{
    scene *s = scene_of(state);
    link_section(s, "sampling");
    make_folder(s, "speech");
    make_folder(s, "speech/short");
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_said(s,
                "not run: this job does not speak: --no-speech, or a checkpoint without a talker");
    assert_sentence(s, "no difference, but not all was run: speech");
    assert_int_equal(run(s, "sampling"), FLO_OK);
}

static void a_folder_of_cases_that_is_no_section_counts_as_not_run(void **state)
{
    scene *s = scene_of(state);
    link_section(s, "sampling");
    make_folder(s, "smell");
    make_folder(s, "smell/rose");
    temp_file_write(s->golden, "smell/rose/case.json", "{}", 2);
    make_folder(s, "notes");
    assert_int_equal(run(s, NULL), FLO_DIFFERS);
    assert_sentence(s, "not all was run: smell");
    assert_said(s, "folders without cases: notes");
}

static void a_tensor_without_counterpart_is_counted_and_named(void **state)
{
    scene *s = scene_of(state);
    make_folder(s, "sampling");
    make_folder(s, "sampling/new");
    const char meta[] =
        "{\"inputs\": {}, \"tensors\": {\"logits\": {\"shape\": [2]}, \"flavour\": {\"shape\": "
        "[1]}}}";
    temp_file_write(s->golden, "sampling/new/case.json", meta, sizeof meta - 1);
    temp_tensors_write(s->golden, "sampling/new/tensors.safetensors",
                       "{\"logits\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                       "\"flavour\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[8,12]}}",
                       12);
    assert_int_equal(run(s, NULL), FLO_OK);
    assert_said(s, "1 without a counterpart here: flavour");
}

/* --- wrong use ---------------------------------------------------------------------------------
 */

static void wrong_use_is_told_apart(void **state)
{
    scene *s = scene_of(state);
    assert_int_equal(run(s, NULL), FLO_USAGE);
    assert_sentence(s, "has none of the sections");
    assert_int_equal(run(s, "sampling"), FLO_USAGE);
    assert_sentence(s, "has no such folder");
    assert_int_equal(run(s, "tinker"), FLO_USAGE);
    assert_sentence(s, "--only tinker: no such section; there are tokenization, ");
    snprintf(s->golden + strlen(s->golden), 8, "-no");
    assert_int_equal(run(s, NULL), FLO_USAGE);
    assert_sentence(s, "no such folder");
    s->golden[strlen(s->golden) - 3] = '\0';
}

static void a_body_that_is_no_request_is_wrong_use(void **state)
{
    static const char *const bodies[] = {"",
                                         "[]",
                                         "{}",
                                         "{\"golden\": 5}",
                                         "{\"golden\": \"\"}",
                                         "{\"golden\": \"/\", \"only\": \"audio\"}",
                                         "{\"golden\": \"/\", \"only\": [3]}"};
    scene *s = scene_of(state);
    job *j = calloc(1, sizeof *j);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        s->err.text[0] = '\0';
        assert_int_equal(verify_run(j, bodies[i], strlen(bodies[i]), take, s, &s->err), FLO_USAGE);
        assert_true(s->err.text[0] != '\0');
    }
    free(j);
}

#define scene_test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        scene_test(every_recorded_sampling_step_is_met),
        scene_test(every_recorded_text_is_met),
        scene_test(a_changed_probability_is_over_and_named),
        scene_test(a_changed_greedy_choice_is_over_and_named),
        scene_test(a_changed_text_is_over_and_its_case_named),
        scene_test(a_template_that_should_be_refused_and_renders_is_over),
        scene_test(other_ids_are_over_and_their_text_named),
        scene_test(a_case_without_its_tensors_is_a_difference),
        scene_test(a_folder_without_case_json_is_a_difference),
        scene_test(a_section_without_cases_is_a_difference),
        scene_test(tensors_and_case_json_must_agree),
        scene_test(a_file_cut_at_any_length_is_a_difference),
        scene_test(texts_of_the_wrong_kind_are_a_difference),
        scene_test(a_history_outside_the_row_is_a_difference),
        scene_test(a_packed_tokenizer_counts_as_not_run),
        scene_test(a_section_that_the_job_has_no_part_for_counts_as_not_run),
        scene_test(a_folder_of_cases_that_is_no_section_counts_as_not_run),
        scene_test(a_tensor_without_counterpart_is_counted_and_named),
        scene_test(wrong_use_is_told_apart),
        scene_test(a_body_that_is_no_request_is_wrong_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

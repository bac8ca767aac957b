/*
 * check_command_plan.c - `flotilla plan` answers with the keys and the exit status that its
 * interface names, for what fits, for what does not and for wrong use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/commands.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static flo_err err;
static char answer[1 << 16]; /* standard output of the last run */

/* Runs with words separated by spaces; MODEL and SOURCE stand for folders. */
static flo_code run(const char *words)
{
    char text[8192] = "plan ";
    char *argv[64];
    const char *source = getenv("FLOTILLA_SOURCE_DIR");
    assert_non_null(source);
    for (const char *p = words; *p != '\0';) {
        size_t used = strlen(text);
        if (strncmp(p, "SOURCE", 6) == 0) {
            snprintf(text + used, sizeof text - used, "%s", source);
            p += 6;
        } else if (strncmp(p, "MODEL", 5) == 0) {
            snprintf(text + used, sizeof text - used, "%s/tests/golden/published-config", source);
            p += 5;
        } else {
            snprintf(text + used, sizeof text - used, "%c", *p++);
        }
    }
    int argc = 0;
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    argv[argc] = NULL;

    FILE *out = tmpfile();
    assert_non_null(out);
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    dup2(fileno(out), STDOUT_FILENO);
    err.text[0] = '\0';
    flo_code code = command_plan(argc, argv, &err);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    rewind(out);
    size_t n = fread(answer, 1, sizeof answer - 1, out);
    answer[n] = '\0';
    fclose(out);
    return code;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static void check_range(const cJSON *object, const char *name, int first, int last)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    assert_int_equal(cJSON_GetArraySize(item), 2);
    assert_int_equal(cJSON_GetArrayItem(item, 0)->valueint, first);
    assert_int_equal(cJSON_GetArrayItem(item, 1)->valueint, last);
}

static bool holds(const cJSON *worker, const char *part)
{
    const cJSON *held;
    cJSON_ArrayForEach(held, cJSON_GetObjectItemCaseSensitive(worker, "parts"))
    {
        if (strcmp(held->valuestring, part) == 0) {
            return true;
        }
    }
    return false;
}

/* Workers that hold a part. */
static int count_of(const cJSON *workers, const char *part)
{
    int n = 0;
    const cJSON *w;
    cJSON_ArrayForEach(w, workers)
    {
        n += holds(w, part);
    }
    return n;
}

static void a_plan_has_the_keys_of_its_interface(void **state)
{
    (void)state;
    assert_int_equal(run("--model MODEL --hosts a:2,b:1 --stages 2 --memory 48G --json"), FLO_OK);
    cJSON *json = cJSON_Parse(answer);
    assert_non_null(json);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(json, "fits")));
    assert_int_equal(number(json, "kv_tokens"), 65536);
    assert_non_null(cJSON_GetObjectItemCaseSensitive(json, "coordinator"));
    const cJSON *workers = cJSON_GetObjectItemCaseSensitive(json, "workers");
    assert_int_equal(cJSON_GetArraySize(workers), 3);
    double shares = 0.0;
    for (int i = 0; i < 3; i++) {
        const cJSON *w = cJSON_GetArrayItem(workers, i);
        assert_int_equal(number(w, "rank"), i + 1);
        assert_string_equal(cJSON_GetObjectItemCaseSensitive(w, "host")->valuestring,
                            i < 2 ? "a" : "b");
        assert_int_equal(number(w, "numa"), -1);
        assert_int_equal(number(w, "stage"), i == 2);
        double bytes = number(w, "weight_bytes") + number(w, "kv_bytes") + number(w, "work_bytes");
        assert_true(bytes > 0 && bytes <= number(w, "memory_bytes"));
        assert_true(number(w, "memory_bytes") == 48.0 * (1 << 30));
        shares += number(w, "time_share");
    }
    assert_true(shares > 0.999 && shares < 1.001);
    check_range(cJSON_GetArrayItem(workers, 0), "experts", 0, 63);
    check_range(cJSON_GetArrayItem(workers, 1), "experts", 64, 127);
    check_range(cJSON_GetArrayItem(workers, 0), "kv_heads", 0, 3);
    check_range(cJSON_GetArrayItem(workers, 2), "lm_head_rows", 0, 152063);
    const cJSON *home_layers =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(workers, 0), "layers");
    int last = cJSON_GetArrayItem(home_layers, 1)->valueint;
    check_range(cJSON_GetArrayItem(workers, 2), "layers", last + 1, 47);
    const cJSON *parts = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(workers, 0), "parts");
    assert_string_equal(cJSON_GetArrayItem(parts, 0)->valuestring, "embedding");
    assert_int_equal(count_of(workers, "audio_encoder"), 1);
    assert_int_equal(count_of(workers, "vision_encoder"), 1);
    const cJSON *none =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(workers, 1), "kv_heads");
    assert_int_equal(cJSON_GetArraySize(none), 0);
    cJSON_Delete(json);
}

static void what_does_not_fit_ends_with_3_and_says_where(void **state)
{
    (void)state;
    assert_int_equal(run("--model MODEL --hosts a:2 --memory 20G --json"), FLO_DIFFERS);
    cJSON *json = cJSON_Parse(answer);
    assert_non_null(json);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(json, "fits")));
    double missing = number(json, "missing_bytes");
    assert_true(missing > 12e9 && missing < 18e9);
    assert_true(number(json, "rank") >= 1);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(json, "host")->valuestring, "a");
    assert_non_null(
        strstr(cJSON_GetObjectItemCaseSensitive(json, "advice")->valuestring, "memory"));
    cJSON_Delete(json);
    assert_non_null(strstr(err.text, "are missing"));
    assert_int_equal(run("--model MODEL --hosts a:2 --memory 20G"), FLO_DIFFERS);
    assert_string_equal(answer, "");
}

static void people_get_a_line_and_a_bar_for_each_worker(void **state)
{
    (void)state;
    assert_int_equal(run("--model MODEL --cluster SOURCE/cluster-configs/four-nodes.json"), FLO_OK);
    assert_non_null(strstr(answer, "5 workers in 4 stages"));
    int bars = 0;
    for (const char *p = answer; (p = strstr(p, "[#")) != NULL; p++) {
        bars++;
    }
    assert_int_equal(bars, 5);
    assert_non_null(strstr(answer, "node4"));
    assert_non_null(strstr(answer, "LM head 0-152063"));
}

/* The plan of hosts a, b, c with these pins. */
static flo_code run_pinned(const char *pins, const char *options)
{
    char path[] = "/tmp/flotilla-plan-XXXXXX", words[256], text[512];
    int file = mkstemp(path);
    int n = snprintf(text, sizeof text,
                     "{\"hosts\": [{\"host\": \"a\"}, {\"host\": \"b\"}, {\"host\": \"c\"}], "
                     "\"pins\": [%s]}",
                     pins);
    assert_true(file >= 0 && n > 0 && write(file, text, (size_t)n) == n);
    close(file);
    snprintf(words, sizeof words, "--model MODEL --cluster %s %s", path, options);
    flo_code code = run(words);
    unlink(path);
    return code;
}

static const cJSON *worker_of(const cJSON *json, int rank)
{
    return cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, "workers"), rank - 1);
}

static void encoders_can_be_left_out_and_pinned(void **state)
{
    (void)state;
    assert_int_equal(run("--model MODEL --hosts a:2 --no-media --json"), FLO_OK);
    cJSON *json = cJSON_Parse(answer);
    const cJSON *workers = cJSON_GetObjectItemCaseSensitive(json, "workers");
    assert_int_equal(count_of(workers, "audio_encoder") + count_of(workers, "vision_encoder"), 0);
    cJSON_Delete(json);
    assert_int_equal(run("--model MODEL --hosts a:2"), FLO_OK);
    assert_non_null(strstr(answer, "audio encoder"));
    assert_non_null(strstr(answer, "vision encoder"));

    static const char pin[] = "{\"part\": \"vision_encoder\", \"host\": \"c\"}";
    assert_int_equal(run_pinned(pin, "--json"), FLO_OK);
    json = cJSON_Parse(answer);
    workers = cJSON_GetObjectItemCaseSensitive(json, "workers");
    assert_true(holds(cJSON_GetArrayItem(workers, 2), "vision_encoder"));
    cJSON_Delete(json);
    assert_int_equal(run_pinned(pin, "--workers 2"), FLO_USAGE);
    assert_non_null(strstr(err.text, "\"c\""));
}

static void parts_of_speech_can_be_pinned_and_the_talker_divided(void **state)
{
    (void)state;
    assert_int_equal(run_pinned("{\"part\": \"talker\", \"host\": \"b\", \"workers\": 2},"
                                "{\"part\": \"code_predictor\", \"host\": \"c\"},"
                                "{\"part\": \"code2wav\", \"host\": \"b\"}",
                                "--json"),
                     FLO_OK);
    cJSON *json = cJSON_Parse(answer);
    assert_true(holds(worker_of(json, 2), "talker") && holds(worker_of(json, 2), "code2wav"));
    assert_true(holds(worker_of(json, 3), "code_predictor"));
    check_range(worker_of(json, 2), "talker_experts", 0, 63);
    int n_owners = 0;
    for (int rank = 1; rank <= 3; rank++) {
        n_owners += cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(worker_of(json, rank),
                                                                        "talker_experts")) == 2;
    }
    assert_int_equal(n_owners, 2);
    assert_int_equal(number(json, "talker_tokens"), 65536 + 4096);
    assert_null(cJSON_GetObjectItemCaseSensitive(json, "saved_bytes"));
    cJSON_Delete(json);
    assert_int_equal(run_pinned("{\"part\": \"talker\", \"host\": \"b\", \"workers\": 2}", ""),
                     FLO_OK);
    assert_non_null(strstr(answer, "talker (experts 0-63)"));
    assert_non_null(strstr(answer, "talker experts 64-127"));
    assert_int_equal(run_pinned("{\"part\": \"talker\", \"host\": \"b\", \"workers\": 4}", ""),
                     FLO_USAGE);
    assert_non_null(strstr(err.text, "4 workers, of 3"));
    assert_int_equal(run_pinned("{\"part\": \"code2wav\", \"host\": \"b\"}", "--workers 1"),
                     FLO_USAGE);
    assert_non_null(strstr(err.text, "code2wav"));
}

static void what_is_left_out_is_said_in_bytes(void **state)
{
    (void)state;
    assert_int_equal(run("--model MODEL --hosts a:2 --no-speech --json"), FLO_OK);
    cJSON *json = cJSON_Parse(answer);
    const cJSON *workers = cJSON_GetObjectItemCaseSensitive(json, "workers");
    assert_int_equal(count_of(workers, "talker") + count_of(workers, "code_predictor") +
                         count_of(workers, "code2wav"),
                     0);
    assert_int_equal(number(json, "talker_tokens"), 0);
    const cJSON *saved = cJSON_GetObjectItemCaseSensitive(json, "saved_bytes");
    double speech = number(saved, "speech"); /* 3,540,613,057 parameters in bf16 and padding */
    assert_true(speech > 2 * 3540613057.0 && speech < 2 * 3540613057.0 * 1.1);
    assert_null(cJSON_GetObjectItemCaseSensitive(saved, "media"));
    cJSON_Delete(json);
    assert_int_equal(run("--model MODEL --hosts a:2 --no-speech --no-media"), FLO_OK);
    assert_non_null(strstr(answer, "without speech: 7."));
    assert_non_null(strstr(answer, "without encoders: 2.4 GB less"));
    assert_int_equal(run("--model MODEL --hosts a:2"), FLO_OK);
    assert_null(strstr(answer, "without"));
    assert_non_null(strstr(answer, "talker"));
    assert_non_null(strstr(answer, "vocoder"));
}

static void this_machine_alone_can_be_planned(void **state)
{
    (void)state;
    assert_int_equal(run("--model SOURCE/models/tiny --workers 3 --json"), FLO_OK);
    cJSON *json = cJSON_Parse(answer);
    const cJSON *w = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, "workers"), 2);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(w, "host")->valuestring, "localhost");
    assert_true(number(w, "memory_bytes") > 0);
    assert_true(number(w, "numa") >= 0);
    cJSON_Delete(json);
}

static void wrong_use_ends_with_2_and_an_empty_answer(void **state)
{
    (void)state;
    static const struct {
        const char *words, *said;
    } cases[] = {
        {"--model MODEL --wurkers 2", "--wurkers"},
        {"--model MODEL --workers 7000", "--workers"},
        {"--model MODEL --hosts a:2 --workers 3", "3 workers, but the hosts take 2"},
        {"--model MODEL --hosts a:3 --stages 4", "4 stages for 3 workers"},
        {"--model MODEL --hosts a:60 --stages 49", "48 layers"},
        {"--model MODEL --hosts a:300 --stages 2", "at most 256 workers"},
        {"--model MODEL --cluster /nonexistent.json", "/nonexistent.json"},
        {"--model /nonexistent", "/nonexistent"},
        {"--model MODEL --cluster SOURCE/cluster-configs/slurm.json --hosts a", "--hosts"},
        {"--model MODEL --memory much", "much"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        flo_code code = run(cases[i].words);
        if (code != FLO_USAGE || strstr(err.text, cases[i].said) == NULL) {
            fail_msg("%s\n  gave %d: %s", cases[i].words, code, err.text);
        }
        assert_string_equal(answer, "");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_has_the_keys_of_its_interface),
        cmocka_unit_test(what_does_not_fit_ends_with_3_and_says_where),
        cmocka_unit_test(people_get_a_line_and_a_bar_for_each_worker),
        cmocka_unit_test(encoders_can_be_left_out_and_pinned),
        cmocka_unit_test(parts_of_speech_can_be_pinned_and_the_talker_divided),
        cmocka_unit_test(what_is_left_out_is_said_in_bytes),
        cmocka_unit_test(this_machine_alone_can_be_planned),
        cmocka_unit_test(wrong_use_ends_with_2_and_an_empty_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

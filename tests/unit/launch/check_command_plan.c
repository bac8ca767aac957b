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

/* Workers that hold a part. */
static int count_of(const cJSON *workers, const char *part)
{
    int n = 0;
    const cJSON *w, *held;
    cJSON_ArrayForEach(w, workers)
    {
        cJSON_ArrayForEach(held, cJSON_GetObjectItemCaseSensitive(w, "parts"))
        {
            n += strcmp(held->valuestring, part) == 0;
        }
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
    assert_true(missing > 8e9 && missing < 14e9);
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

    char path[] = "/tmp/flotilla-plan-XXXXXX", words[256];
    int file = mkstemp(path);
    const char text[] = "{\"hosts\": [{\"host\": \"a\"}, {\"host\": \"b\"}, {\"host\": \"c\"}],"
                        " \"pins\": [{\"part\": \"vision_encoder\", \"host\": \"c\"}]}";
    assert_true(file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text));
    snprintf(words, sizeof words, "--model MODEL --cluster %s --json", path);
    assert_int_equal(run(words), FLO_OK);
    json = cJSON_Parse(answer);
    workers = cJSON_GetObjectItemCaseSensitive(json, "workers");
    const cJSON *parts = cJSON_GetObjectItemCaseSensitive(cJSON_GetArrayItem(workers, 2), "parts");
    const cJSON *last = cJSON_GetArrayItem(parts, cJSON_GetArraySize(parts) - 1);
    assert_string_equal(last->valuestring, "vision_encoder");
    cJSON_Delete(json);
    snprintf(words, sizeof words, "--model MODEL --cluster %s --workers 2", path);
    assert_int_equal(run(words), FLO_USAGE);
    assert_non_null(strstr(err.text, "\"c\""));
    close(file);
    unlink(path);
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
        cmocka_unit_test(this_machine_alone_can_be_planned),
        cmocka_unit_test(wrong_use_ends_with_2_and_an_empty_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

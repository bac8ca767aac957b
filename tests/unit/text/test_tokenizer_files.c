/*
 * test_tokenizer_files.c - a tokenizer's files are read in each of their forms, and each fault in
 * them is refused with the file and what is wrong.
 *
 * Works on folders made here: the tiny checkpoint's files, with one of them changed.
 */
#include "text_test.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/flotilla-tokenizer-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static const char *in_folder(const char *name)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *const names[] = {"vocab.json", "merges.txt", "tokenizer_config.json",
                                    "tokenizer.json", "added_tokens.json"};

static int empty_folder(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unlink(in_folder(names[i]));
        rmdir(in_folder(names[i]));
    }
    return 0;
}

static int remove_folder(void **state)
{
    empty_folder(state);
    return rmdir(folder);
}

static void write_file(const char *name, const char *text, size_t n)
{
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    fclose(f);
}

/* The tiny checkpoint's file. */
static buffer tiny(const char *name)
{
    char below[256];
    snprintf(below, sizeof below, "tests/golden/tiny-omni/%s", name);
    FILE *f = fopen(source_path(below), "rb");
    assert_non_null(f);
    buffer text = {0};
    assert_true(buffer_reserve(&text, 1 << 20));
    text.n = fread(text.at, 1, (1 << 20) - 1, f);
    text.at[text.n] = '\0';
    fclose(f);
    return text;
}

static void copy_tiny(const char *name)
{
    buffer text = tiny(name);
    write_file(name, text.at, text.n);
    buffer_free(&text);
}

/* Copies the file with its first `from` replaced. */
static void copy_changed(const char *name, const char *from, const char *to)
{
    buffer text = tiny(name), changed = {0};
    char *at = strstr(text.at, from);
    assert_non_null(at);
    buffer_append(&changed, text.at, (size_t)(at - text.at));
    buffer_append_text(&changed, to);
    buffer_append_text(&changed, at + strlen(from));
    write_file(name, changed.at, changed.n);
    buffer_free(&changed);
    buffer_free(&text);
}

static void copy_pair(void)
{
    copy_tiny("vocab.json");
    copy_tiny("merges.txt");
    copy_tiny("tokenizer_config.json");
}

static void assert_refused(flo_code wanted, const char *file, const char *part)
{
    tokenizer *t = NULL;
    flo_err err = {""};
    flo_code code = tokenizer_open(&t, folder, &err);
    if (code == FLO_OK) {
        tokenizer_close(t);
        fail_msg("opened, where '%s' was to be refused", part);
    }
    assert_int_equal(code, wanted);
    if (strstr(err.text, file) == NULL || strstr(err.text, part) == NULL) {
        fail_msg("'%s' names not '%s' and '%s'", err.text, file, part);
    }
    assert_null(strchr(err.text, '\n'));
}

static void assert_tiny_ids(void)
{
    static const char text[] = "<|im_start|>user\nHi<|im_end|>";
    static const int32_t wanted[] = {3804, 872, 198, 39, 72, 3805};
    tokenizer *t = open_tokenizer(folder);
    int32_t *ids;
    size_t n;
    flo_err err = {""};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), false, &ids, &n, &err), FLO_OK);
    assert_int_equal(n, sizeof wanted / sizeof *wanted);
    assert_memory_equal(ids, wanted, sizeof wanted);
    free(ids);
    tokenizer_close(t);
}

static void the_pair_of_files_is_enough(void **state)
{
    (void)state;
    copy_pair();
    write_file("added_tokens.json", "{}", 2);
    assert_tiny_ids();
}

static void tokenizer_json_is_enough(void **state)
{
    (void)state;
    copy_tiny("tokenizer.json");
    assert_tiny_ids();
}

static void merges_may_be_strings_in_tokenizer_json(void **state)
{
    (void)state;
    cJSON *root = read_golden("tests/golden/tiny-omni/tokenizer.json");
    cJSON *model = cJSON_GetObjectItem(root, "model");
    cJSON *strings = cJSON_CreateArray();
    for (const cJSON *m = json_member(model, "merges")->child; m != NULL; m = m->next) {
        char both[512];
        snprintf(both, sizeof both, "%s %s", m->child->valuestring, m->child->next->valuestring);
        cJSON_AddItemToArray(strings, cJSON_CreateString(both));
    }
    cJSON_ReplaceItemInObject(model, "merges", strings);
    char *text = cJSON_PrintUnformatted(root);
    write_file("tokenizer.json", text, strlen(text));
    free(text);
    cJSON_Delete(root);
    assert_tiny_ids();
}

static void a_post_processor_may_be_the_text_alone(void **state)
{
    (void)state;
    static const char from[] = "\"post_processor\":{\"type\":\"ByteLevel\",";
    copy_changed("tokenizer.json", from,
                 "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":"
                 "{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{},");
    assert_tiny_ids();
    copy_changed(
        "tokenizer.json", from,
        "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
        "{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}],");
    assert_refused(FLO_FAIL, "tokenizer.json", "post_processor");
}

static void a_folder_that_is_not_there_is_wrong_use(void **state)
{
    (void)state;
    tokenizer *t = NULL;
    flo_err err = {""};
    assert_int_equal(tokenizer_open(&t, "/nonexistent/model", &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "no such model folder: /nonexistent/model"));
}

static void a_folder_without_a_tokenizer_says_what_is_missing(void **state)
{
    (void)state;
    assert_refused(FLO_FAIL, folder, "tokenizer.json");
    copy_pair();
    unlink(in_folder("merges.txt"));
    assert_refused(FLO_FAIL, folder, "merges.txt");
}

static void every_truncation_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        empty_folder(NULL);
        if (i < 3) {
            copy_pair();
        }
        buffer text = tiny(names[i]);
        for (size_t k = 1; k < 12; k++) {
            write_file(names[i], text.at, text.n * k / 12);
            assert_refused(FLO_FAIL, folder, "");
        }
        buffer_free(&text);
    }
}

static void one_missing_merge_is_noticed(void **state)
{
    (void)state;
    copy_pair();
    buffer text = tiny("merges.txt");
    size_t n = text.n - 1;
    while (n > 0 && text.at[n - 1] != '\n') {
        n--;
    }
    write_file("merges.txt", text.at, n);
    buffer_free(&text);
    assert_refused(FLO_FAIL, folder, "truncated");
}

static void a_folder_in_place_of_a_file_is_refused(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_folder("tokenizer.json"), 0700), 0);
    assert_refused(FLO_FAIL, "tokenizer.json", "");
}

typedef struct change {
    const char *file, *from, *to, *part;
} change;

static void assert_each_refused(const change *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        empty_folder(NULL);
        if (strcmp(c[i].file, "tokenizer.json") == 0) {
            copy_tiny("tokenizer_config.json");
        } else {
            copy_pair();
        }
        copy_changed(c[i].file, c[i].from, c[i].to);
        assert_refused(FLO_FAIL, c[i].file, c[i].part);
    }
}

static void faults_of_the_vocabulary_are_named(void **state)
{
    (void)state;
    static const change changes[] = {
        {"vocab.json", "\"in\": 258", "\"in\": -1", "\"in\" is no whole number"},
        {"vocab.json", "\"in\": 258", "\"in\": 1.5", "\"in\" is no whole number"},
        {"vocab.json", "\"in\": 258", "\"in\": \"7\"", "\"in\" is no whole number"},
        {"vocab.json", "\"in\": 258", "\"in\": 99999999999", "\"in\" is no whole number"},
        {"vocab.json", "\"in\": 258", "\"in\": 257", "257 is given to"},
        {"vocab.json", "\"in\": 258", "\"in\": 258, \"in\": 90000", "two ids"},
        {"vocab.json", "\"in\": 258", "\"\": 258", "0 bytes"},
        {"vocab.json", "\"in\": 258", "\"in\": 01", "begins with 0"},
        {"vocab.json", "\"in\": 258", "\"i\\u0000n\": 258", "NUL"},
        {"vocab.json", "{", "[", "not valid JSON"},
    };
    assert_each_refused(changes, sizeof changes / sizeof *changes);
}

static void faults_of_the_merges_are_named_with_their_line(void **state)
{
    (void)state;
    static const change changes[] = {
        {"merges.txt", "\ni n\n", "\ni nosuchtoken\n",
         "line 4: \"nosuchtoken\" is not in the vocabulary"},
        {"merges.txt", "\ni n\n", "\nin\n", "line 4: a merge is two tokens"},
        {"merges.txt", "\ni n\n", "\ni n n\n", "line 4: a merge is two tokens"},
        {"merges.txt", "\ni n\n", "\n\n", "line 4"},
        {"merges.txt", "\ni n\n", "\nz \xc4\xa0z\n", "line 4: the result"},
        {"merges.txt", "\ni n\n", "\ni n\ni n\n", "line 5: the same pair"},
    };
    assert_each_refused(changes, sizeof changes / sizeof *changes);
}

static void a_byte_without_a_token_is_named(void **state)
{
    (void)state;
    copy_pair();
    write_file("vocab.json", "{\"a\": 0}", 8);
    write_file("merges.txt", "", 0);
    write_file("tokenizer_config.json", "{}", 2);
    assert_refused(FLO_FAIL, folder, "no token for the byte 0x00");
}

static void faults_of_added_tokens_are_named(void **state)
{
    (void)state;
    static const change changes[] = {
        {"tokenizer_config.json", "\"3803\"", "\"12\"", "12 is given to"},
        {"tokenizer_config.json", "\"3803\"", "\"x\"", "no id"},
        {"tokenizer_config.json", "\"3803\"", "\"-3\"", "no id"},
        {"tokenizer_config.json", "\"3803\"", "\"99999999999999999999\"", "no id"},
        {"tokenizer_config.json", "\"lstrip\": false", "\"lstrip\": true", "lstrip"},
        {"tokenizer_config.json", "\"rstrip\": false", "\"rstrip\": true", "rstrip"},
        {"tokenizer_config.json", "\"single_word\": false", "\"single_word\": true", "single_word"},
        {"tokenizer_config.json", "\"special\": true", "\"special\": 1", "neither true nor false"},
        {"tokenizer_config.json", "\"<|im_start|>\"", "\"<|endoftext|>\"", "two ids"},
        {"tokenizer_config.json", "\"<|endoftext|>\"", "\"\"", "0 bytes"},
        {"tokenizer_config.json", "\"<|endoftext|>\"", "7", "has no text"},
        {"tokenizer_config.json", "\"eos_token\": \"<|im_end|>\"", "\"eos_token\": \"<eos>\"",
         "no token"},
        {"tokenizer_config.json", "\"add_prefix_space\": false", "\"add_prefix_space\": true",
         "add_prefix_space"},
        {"tokenizer.json", "\"id\":3803", "\"id\":1", "1 is given to"},
        {"tokenizer.json", "\"id\":3803", "\"id\":null", "added_tokens[0]"},
    };
    assert_each_refused(changes, sizeof changes / sizeof *changes);
}

static void what_tokenizer_json_asks_for_is_known_or_refused(void **state)
{
    (void)state;
    static const change changes[] = {
        {"tokenizer.json", "\"type\":\"BPE\"", "\"type\":\"Unigram\"", "model.type is Unigram"},
        {"tokenizer.json", "\"type\":\"NFC\"", "\"type\":\"NFKC\"", "normalizer is NFKC"},
        {"tokenizer.json", "\"type\":\"Split\"", "\"type\":\"Digits\"", "pre_tokenizer"},
        {"tokenizer.json", "\"behavior\":\"Isolated\"", "\"behavior\":\"Removed\"",
         "pre_tokenizer"},
        {"tokenizer.json", "\"invert\":false", "\"invert\":true", "pre_tokenizer"},
        {"tokenizer.json", "\"use_regex\":false", "\"use_regex\":true", "pre_tokenizer"},
        {"tokenizer.json", "\"Regex\":\"", "\"Regex\":\"\\\\h|", "split pattern"},
        {"tokenizer.json", "\"Regex\":\"", "\"Regex\":\"(|", "split pattern"},
        {"tokenizer.json", "\"byte_fallback\":false", "\"byte_fallback\":true", "byte_fallback"},
        {"tokenizer.json", "\"ignore_merges\":false", "\"ignore_merges\":true", "ignore_merges"},
        {"tokenizer.json", "\"dropout\":null", "\"dropout\":0.1", "dropout"},
        {"tokenizer.json", "\"merges\":[[", "\"merges\":[7,[", "model.merges[0]"},
        {"tokenizer.json", "\"merges\":[[", "\"merges\":[[\"a\"],[", "model.merges[0]"},
    };
    assert_each_refused(changes, sizeof changes / sizeof *changes);
}

static void an_added_token_may_come_after_normalisation(void **state)
{
    (void)state;
    copy_pair();
    /* Only such a token matches a decomposed spelling. */
    copy_changed("tokenizer_config.json", "\"3803\": {",
                 "\"3900\": {\"content\": \"<\xc3\xa9>\", \"normalized\": true}, \"3803\": {");
    tokenizer *t = open_tokenizer(folder);
    int32_t *ids;
    size_t n;
    flo_err err = {""};
    assert_int_equal(tokenizer_encode(t, "a<e\xcc\x81>b", 7, false, &ids, &n, &err), FLO_OK);
    assert_int_equal(n, 3);
    assert_int_equal(ids[1], tokenizer_id(t, "<\xc3\xa9>"));
    free(ids);
    tokenizer_close(t);
}

int main(void)
{
#define in_fresh_folder(f) cmocka_unit_test_setup(f, empty_folder)
    const struct CMUnitTest tests[] = {
        in_fresh_folder(the_pair_of_files_is_enough),
        in_fresh_folder(tokenizer_json_is_enough),
        in_fresh_folder(merges_may_be_strings_in_tokenizer_json),
        in_fresh_folder(a_post_processor_may_be_the_text_alone),
        in_fresh_folder(a_folder_that_is_not_there_is_wrong_use),
        in_fresh_folder(a_folder_without_a_tokenizer_says_what_is_missing),
        in_fresh_folder(every_truncation_is_refused),
        in_fresh_folder(one_missing_merge_is_noticed),
        in_fresh_folder(a_folder_in_place_of_a_file_is_refused),
        in_fresh_folder(faults_of_the_vocabulary_are_named),
        in_fresh_folder(faults_of_the_merges_are_named_with_their_line),
        in_fresh_folder(a_byte_without_a_token_is_named),
        in_fresh_folder(faults_of_added_tokens_are_named),
        in_fresh_folder(what_tokenizer_json_asks_for_is_known_or_refused),
        in_fresh_folder(an_added_token_may_come_after_normalisation),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

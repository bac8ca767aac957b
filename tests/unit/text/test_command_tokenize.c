/*
 * test_command_tokenize.c - the command line of tokenize and detokenize: what it answers, and that
 * it writes nothing to standard output where it fails.
 *
 * Runs the commands as a program (FLOTILLA_TOKENIZE) through the shell, with files in a folder of
 * its own.
 */
#include "text_test.h"

#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/flotilla-command-XXXXXX";

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"in", "out", "err"};
    char path[256];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    return rmdir(folder);
}

typedef struct answer {
    int status;
    char out[1 << 16], err[4096];
    size_t n_out;
} answer;

static size_t read_back(const char *name, char *text, size_t room)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(text, 1, room - 1, f);
    fclose(f);
    text[n] = '\0';
    return n;
}

/* Runs the program with the real tokenizer and these words of a shell; input is its standard input.
 */
static answer *run(const char *words, const char *input, size_t n_input)
{
    static answer a;
    char path[256], line[8192];
    snprintf(path, sizeof path, "%s/in", folder);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(input, 1, n_input, f), n_input);
    fclose(f);
    snprintf(line, sizeof line, "cd %s && FLOTILLA_MODEL=%s %s %s <in >out 2>err", folder,
             real_folder(), getenv("FLOTILLA_TOKENIZE"), words);
    int status = system(line);
    assert_true(WIFEXITED(status));
    a.status = WEXITSTATUS(status);
    a.n_out = read_back("out", a.out, sizeof a.out);
    read_back("err", a.err, sizeof a.err);
    return &a;
}

static void assert_answer(const char *words, const char *input, const char *wanted)
{
    answer *a = run(words, input, strlen(input));
    if (a->status != 0 || strcmp(a->out, wanted) != 0) {
        fail_msg("%s: status %d, '%s' (%s), expected '%s'", words, a->status, a->out, a->err,
                 wanted);
    }
}

static void assert_fails(int status, const char *words, const char *input, const char *part)
{
    answer *a = run(words, input, strlen(input));
    if (a->status != status || a->n_out != 0 || strstr(a->err, part) == NULL) {
        fail_msg("%s: status %d, '%s' (%s), expected %d and '%s'", words, a->status, a->out, a->err,
                 status, part);
    }
    char *end = strchr(a->err, '\n');
    assert_non_null(end);
    assert_int_equal(end[1], '\0'); /* one line */
}

static void a_text_gives_ids_and_tokens(void **state)
{
    (void)state;
    assert_answer("tokenize 'The cap'", "",
                  "{\"ids\": [785, 2062], \"tokens\": [\"The\", \"\xc4\xa0"
                  "cap\"]}\n");
    assert_answer("tokenize ''", "", "{\"ids\": [], \"tokens\": []}\n");
    assert_answer("tokenize -- --file", "",
                  "{\"ids\": [313, 1192], \"tokens\": [\"--\", \"file\"]}\n");
    assert_answer("tokenize --file -", "The cap",
                  "{\"ids\": [785, 2062], \"tokens\": [\"The\", \"\xc4\xa0"
                  "cap\"]}\n");
    assert_answer("tokenize --file in", "The", "{\"ids\": [785], \"tokens\": [\"The\"]}\n");
    assert_answer("tokenize '<think>'", "", "{\"ids\": [151667], \"tokens\": [\"<think>\"]}\n");
    assert_answer("tokenize --no-special '<think>'", "",
                  "{\"ids\": [13708, 766, 29], \"tokens\": [\"<th\", \"ink\", \">\"]}\n");
}

static void a_count_names_tokens_bytes_and_seconds(void **state)
{
    (void)state;
    answer *a = run("tokenize --count --file -", "The cap", 7);
    assert_int_equal(a->status, 0);
    assert_non_null(strstr(a->out, "{\"count\": 2, \"bytes\": 7, \"seconds\": 0."));
}

static void lines_are_answered_one_by_one(void **state)
{
    (void)state;
    assert_answer("tokenize --jsonl", "{\"text\": \"The\"}\n\n{\"text\": \" cap\"}",
                  "{\"ids\": [785]}\n{\"ids\": [2062]}\n");
    assert_answer("tokenize --jsonl", "{\"text\": \"a\\u0000b\"}\n", "{\"ids\": [64, 188, 65]}\n");
    assert_answer("tokenize --jsonl", "{\"text\": \"\\ud83d\\ude00\"}\n", "{\"ids\": [141334]}\n");
    assert_answer("detokenize --jsonl", "{\"ids\": [64, 188, 65]}\n{\"ids\": []}\n",
                  "{\"text\": \"a\\u0000b\"}\n{\"text\": \"\"}\n");
    assert_answer("detokenize --jsonl --skip-special", "{\"ids\": [151644, 785, 151667]}\n",
                  "{\"text\": \"The<think>\"}\n");
}

static void ids_give_the_text_and_nothing_else(void **state)
{
    (void)state;
    assert_answer("detokenize 785,2062", "", "The cap");
    assert_answer("detokenize '785, 2062 '", "", "The cap");
    assert_answer("detokenize --json 785,198", "", "{\"text\": \"The\\n\"}\n");
    assert_answer("detokenize ''", "", "");
    answer *a = run("detokenize 64,188,65", "", 0);
    assert_int_equal(a->n_out, 3);
    assert_memory_equal(a->out, "a\0b", 3);
}

static void wrong_use_is_said_in_one_line(void **state)
{
    (void)state;
    assert_fails(2, "tokenize", "", "one of TEXT");
    assert_fails(2, "tokenize a b", "", "quotes");
    assert_fails(2, "tokenize a --jsonl", "", "only one of");
    assert_fails(2, "tokenize --jsonl --count", "", "--count");
    assert_fails(2, "tokenize --no-generation-prompt a", "", "--messages");
    assert_fails(2, "tokenize --nosuch a", "", "--nosuch");
    assert_fails(2, "tokenize --skip-special a", "", "--skip-special");
    assert_fails(2, "tokenize --file /nonexistent/f", "", "/nonexistent/f");
    assert_fails(2, "tokenize --model /nonexistent a", "", "/nonexistent");
    assert_fails(2, "tokenize --file -", "ab\xff", "byte 2");
    assert_fails(2, "tokenize --jsonl", "{\"text\": \"a\"}\n{\"text\": 7}\n", "line 2");
    assert_fails(2, "tokenize --jsonl", "{\"text\": \"a\"}\n{\"text\"\n", "line 2");
    assert_fails(2, "tokenize --jsonl", "{\"text\": \"\\ud800\"}\n", "line 1");
    assert_fails(2, "tokenize --jsonl", "{\"text\": \"a\"} x\n", "line 1");
    assert_fails(2, "detokenize", "", "list of ids");
    assert_fails(2, "detokenize 1,", "", "token id is due");
    assert_fails(2, "detokenize 1,,2", "", "token id is due");
    assert_fails(2, "detokenize 1x", "", "comma is due");
    assert_fails(2, "detokenize -5", "", "token id is due");
    assert_fails(2, "detokenize 200000", "", "200000 is no token");
    assert_fails(2, "detokenize 99999999999999999999", "", "token id is due");
    assert_fails(2, "detokenize --jsonl", "{\"ids\": [1]}\n{\"ids\": [1.5]}\n", "line 2");
    assert_fails(2, "detokenize --jsonl", "{\"ids\": 3}\n", "line 1");
}

static void a_folder_without_a_tokenizer_is_a_failure(void **state)
{
    (void)state;
    assert_fails(1, "tokenize --model . a", "", "no tokenizer");
}

static void messages_go_through_the_checkpoints_template(void **state)
{
    (void)state;
    static const char list[] = "[{\"role\": \"user\", \"content\": \"Hi\"}]";
    static const char object[] = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}], "
                                 "\"enable_thinking\": false}";
    answer *a = run("tokenize --messages -", list, strlen(list));
    assert_int_equal(a->status, 0);
    assert_non_null(
        strstr(a->out, "{\"ids\": [151644, 872, 198, 13048, 151645, 198, 151644, 77091, 198]"));
    assert_non_null(strstr(a->out, "\"prompt\": \"<|im_start|>user\\nHi<|im_end|>\\n"
                                   "<|im_start|>assistant\\n\"}\n"));
    a = run("tokenize --messages in --no-generation-prompt", list, strlen(list));
    assert_non_null(strstr(a->out, "{\"ids\": [151644, 872, 198, 13048, 151645, 198], "));
    a = run("tokenize --messages in", object, strlen(object));
    assert_non_null(strstr(a->out, "assistant\\n<think>\\n\\n</think>\\n\\n\"}\n"));
}

static bool has_media(const cJSON *messages)
{
    for (const cJSON *m = messages->child; m != NULL; m = m->next) {
        const cJSON *content = json_member(m, "content");
        const cJSON *part = cJSON_IsArray(content) ? content->child : NULL;
        for (; part != NULL; part = part->next) {
            if (json_member(part, "text") == NULL) {
                return true;
            }
        }
    }
    return false;
}

/* The ids and the text that the reference gives for conversations without media. */
static void recorded_conversations_give_the_reference_prompt(void **state)
{
    (void)state;
    cJSON *cases = read_golden("tests/golden/chat/cases.json");
    int n_run = 0;
    for (const cJSON *c = cases->child; c != NULL; c = c->next) {
        if (has_media(json_member(c, "messages"))) {
            continue;
        }
        cJSON *context = cJSON_Duplicate(json_member(c, "options"), true);
        context = cJSON_IsObject(context) ? context : cJSON_CreateObject();
        cJSON_AddItemToObject(context, "messages",
                              cJSON_Duplicate(json_member(c, "messages"), true));
        char *input = cJSON_PrintUnformatted(context);
        const cJSON *renders = json_member(c, "renders");
        for (const cJSON *r = renders->child; r != NULL; r = r->next) {
            bool prompt = cJSON_IsTrue(json_member(r, "add_generation_prompt"));
            answer *a = run(prompt ? "tokenize --messages -"
                                   : "tokenize --messages - --no-generation-prompt",
                            input, strlen(input));
            cJSON *got = cJSON_Parse(a->out);
            if (a->status != 0 ||
                !cJSON_Compare(json_member(got, "ids"), json_member(r, "ids"), true) ||
                !cJSON_Compare(json_member(got, "prompt"), json_member(r, "text"), true)) {
                fail_msg("%s: '%s' (%s)", json_member(c, "name")->valuestring, a->out, a->err);
            }
            cJSON_Delete(got);
            n_run++;
        }
        free(input);
        cJSON_Delete(context);
    }
    cJSON_Delete(cases);
    assert_true(n_run >= 36);
}

static void messages_that_are_none_are_refused(void **state)
{
    (void)state;
    assert_fails(2, "tokenize --messages /nonexistent/m", "", "/nonexistent/m");
    assert_fails(2, "tokenize --messages -", "7", "neither a list");
    assert_fails(2, "tokenize --messages -", "{\"messages\": 7}", "neither a list");
    assert_fails(2, "tokenize --messages -", "[{\"role\": \"user\",}]", "line 1");
}

static void help_goes_to_standard_output(void **state)
{
    (void)state;
    answer *a = run("tokenize --help", "", 0);
    assert_int_equal(a->status, 0);
    assert_non_null(strstr(a->out, "usage: flotilla tokenize"));
    a = run("detokenize --help", "", 0);
    assert_int_equal(a->status, 0);
    assert_non_null(strstr(a->out, "usage: flotilla detokenize"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_gives_ids_and_tokens),
        cmocka_unit_test(a_count_names_tokens_bytes_and_seconds),
        cmocka_unit_test(lines_are_answered_one_by_one),
        cmocka_unit_test(ids_give_the_text_and_nothing_else),
        cmocka_unit_test(wrong_use_is_said_in_one_line),
        cmocka_unit_test(a_folder_without_a_tokenizer_is_a_failure),
        cmocka_unit_test(messages_go_through_the_checkpoints_template),
        cmocka_unit_test(recorded_conversations_give_the_reference_prompt),
        cmocka_unit_test(messages_that_are_none_are_refused),
        cmocka_unit_test(help_goes_to_standard_output),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

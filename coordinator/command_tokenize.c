/*
 * command_tokenize.c - `flotilla tokenize` and `flotilla detokenize`: text into ids and back.
 *
 * Everything is read and worked out before the first byte is written, so a fault in the last line
 * of a long input leaves standard output empty. Costs the input, the ids and, for JSONL, the
 * answers.
 */
#include "common/buffer.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "common/model_folder.h"
#include "common/options.h"
#include "coordinator/commands.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/tokenizer.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const size_t input_bytes_max = (size_t)1 << 30;
enum { WRITE_BYTES = 1 << 20 };

static const char tokenize_help[] =
    "usage: flotilla tokenize [--model DIR] [options] TEXT\n"
    "       flotilla tokenize [--model DIR] [options] --file F\n"
    "       flotilla tokenize [--model DIR] [options] --messages FILE.json\n"
    "       flotilla tokenize [--model DIR] [options] --jsonl < lines\n"
    "\n"
    "Text into token ids, as one JSON document. A folder with the tokenizer's files is enough.\n"
    "\n"
    "  --file F                the text is the content of F (-: standard input)\n"
    "  --messages FILE         chat messages (JSON), through the checkpoint's chat template\n"
    "  --no-generation-prompt  leave out the beginning of the assistant's turn\n"
    "  --jsonl                 {\"text\": ...} lines on standard input, {\"ids\": ...} lines out\n"
    "  --count                 only the number of tokens and the time it took\n"
    "  --no-special            text that spells an added token is ordinary text\n"
    "  --model DIR|NAME        the checkpoint (default: FLOTILLA_MODEL, else the embedded model)\n";

static const char detokenize_help[] =
    "usage: flotilla detokenize [--model DIR] [--skip-special] 1,2,3\n"
    "       flotilla detokenize [--model DIR] [--skip-special] --jsonl < lines\n"
    "\n"
    "Token ids into text.\n"
    "\n"
    "  --jsonl         {\"ids\": ...} lines on standard input, {\"text\": ...} lines out\n"
    "  --skip-special  leave special tokens out of the text\n"
    "  --json          one id list: answer {\"text\": ...}\n"
    "  --model DIR|NAME\n"
    "                  the checkpoint (default: FLOTILLA_MODEL, else the embedded model)\n";

typedef struct request {
    run_options run;
    const char *file, *messages;
    bool no_generation_prompt, jsonl, count, no_special, skip_special, help;
    const char *word; /* the text or the ids; NULL: none given */
} request;

/* ---- reading the command line ---- */

static flo_code take_word(request *r, char *word, const argument *table, size_t n, flo_err *err)
{
    if (r->word != NULL) {
        return flo_fail(err, FLO_USAGE, "one text at a time: put quotes around \"%.40s ...\"",
                        r->word);
    }
    if (word[0] == '-' && word[1] == '-') {
        return options_unknown(word, table, n, err);
    }
    r->word = word;
    return FLO_OK;
}

static flo_code read_arguments(request *r, const argument *table, size_t n, int argc, char **argv,
                               flo_err *err)
{
    flo_code code = FLO_OK;
    for (int i = 1; i < argc && code == FLO_OK;) {
        bool taken = false;
        if (strcmp(argv[i], "--") == 0 && i + 2 == argc && r->word == NULL) {
            r->word = argv[i + 1];
            break;
        }
        code = arguments_take(table, n, argc, argv, &i, &taken, err);
        if (code == FLO_OK && !taken) {
            code = options_take(&r->run, argc, argv, &i, &taken, err);
        }
        if (code == FLO_OK && !taken) {
            code = take_word(r, argv[i++], table, n, err);
        }
    }
    return code;
}

static flo_code check_one(int n_given, const char *all, flo_err *err)
{
    if (n_given != 1) {
        return flo_fail(err, FLO_USAGE, "%s of %s is to be given; --help shows how",
                        n_given == 0 ? "one" : "only one", all);
    }
    return FLO_OK;
}

static flo_code read_tokenize(request *r, int argc, char **argv, flo_err *err)
{
    const argument table[] = {
        {.name = "--file", .kind = ARGUMENT_TEXT, .out = &r->file},
        {.name = "--messages", .kind = ARGUMENT_TEXT, .out = &r->messages},
        {.name = "--no-generation-prompt", .kind = ARGUMENT_FLAG, .out = &r->no_generation_prompt},
        {.name = "--jsonl", .kind = ARGUMENT_FLAG, .out = &r->jsonl},
        {.name = "--count", .kind = ARGUMENT_FLAG, .out = &r->count},
        {.name = "--no-special", .kind = ARGUMENT_FLAG, .out = &r->no_special},
        {.name = "--help", .kind = ARGUMENT_FLAG, .out = &r->help},
    };
    flo_code code = read_arguments(r, table, sizeof table / sizeof *table, argc, argv, err);
    if (code != FLO_OK || r->help) {
        return code;
    }
    if (r->count && r->jsonl) {
        return flo_fail(err, FLO_USAGE, "--count and --jsonl do not go together");
    }
    if (r->no_generation_prompt && r->messages == NULL) {
        return flo_fail(err, FLO_USAGE, "--no-generation-prompt goes with --messages");
    }
    return check_one((r->word != NULL) + (r->file != NULL) + (r->messages != NULL) + r->jsonl,
                     "TEXT, --file, --messages, --jsonl", err);
}

static flo_code read_detokenize(request *r, int argc, char **argv, flo_err *err)
{
    const argument table[] = {
        {.name = "--jsonl", .kind = ARGUMENT_FLAG, .out = &r->jsonl},
        {.name = "--skip-special", .kind = ARGUMENT_FLAG, .out = &r->skip_special},
        {.name = "--help", .kind = ARGUMENT_FLAG, .out = &r->help},
    };
    flo_code code = read_arguments(r, table, sizeof table / sizeof *table, argc, argv, err);
    if (code != FLO_OK || r->help) {
        return code;
    }
    return check_one((r->word != NULL) + r->jsonl, "a list of ids and --jsonl", err);
}

/* ---- writing ---- */

/* Writes what out holds and empties it. */
static flo_code flush(buffer *out, flo_err *err)
{
    if (out->failed) {
        return flo_fail(err, FLO_FAIL, "out of memory for the answer");
    }
    if ((out->n > 0 && fwrite(out->at, 1, out->n, stdout) != out->n) || fflush(stdout) != 0) {
        return flo_fail(err, FLO_FAIL, "standard output cannot be written: %s", strerror(errno));
    }
    out->n = 0;
    return FLO_OK;
}

static flo_code flush_if_full(buffer *out, flo_err *err)
{
    return out->failed || out->n >= WRITE_BYTES ? flush(out, err) : FLO_OK;
}

static flo_code print_text(const char *text, flo_err *err)
{
    buffer out = {0};
    buffer_append_text(&out, text);
    flo_code code = flush(&out, err);
    buffer_free(&out);
    return code;
}

typedef struct id_array {
    int32_t *at; /* malloc'd */
    size_t n;
} id_array;

static void put_ids(buffer *out, id_array ids)
{
    for (size_t i = 0; i < ids.n; i++) {
        buffer_append_text(out, i > 0 ? ", " : "");
        json_put_integer(out, ids.at[i]);
    }
}

/* {"ids": [...], "tokens": [...], "prompt": "..."}, in pieces: it can be ten times the text. */
static flo_code write_tokens(const tokenizer *t, id_array ids, const char *prompt, size_t n_prompt,
                             flo_err *err)
{
    buffer out = {0};
    flo_code code = FLO_OK;
    buffer_append_text(&out, "{\"ids\": [");
    for (size_t i = 0; i < ids.n && code == FLO_OK; i++) {
        buffer_append_text(&out, i > 0 ? ", " : "");
        json_put_integer(&out, ids.at[i]);
        code = flush_if_full(&out, err);
    }
    buffer_append_text(&out, "], \"tokens\": [");
    for (size_t i = 0; i < ids.n && code == FLO_OK; i++) {
        const char *piece = tokenizer_piece(t, ids.at[i]);
        buffer_append_text(&out, i > 0 ? ", " : "");
        json_put_string(&out, piece, strlen(piece));
        code = flush_if_full(&out, err);
    }
    buffer_append_text(&out, "]");
    if (prompt != NULL) {
        buffer_append_text(&out, ", \"prompt\": ");
        json_put_string(&out, prompt, n_prompt);
    }
    buffer_append_text(&out, "}\n");
    code = code == FLO_OK ? flush(&out, err) : code;
    buffer_free(&out);
    return code;
}

static flo_code write_count(size_t n_ids, size_t n_bytes, double seconds, flo_err *err)
{
    char text[128];
    snprintf(text, sizeof text, "{\"count\": %zu, \"bytes\": %zu, \"seconds\": %.6f}\n", n_ids,
             n_bytes, seconds);
    return print_text(text, err);
}

/* ---- lines of JSON ---- */

typedef flo_code (*answer_line)(const tokenizer *t, const request *r, const cJSON *line,
                                buffer *out, flo_err *err);

static bool is_blank(const char *text, size_t n)
{
    size_t i = 0;
    while (i < n && strchr(" \t\r", text[i]) != NULL && text[i] != '\0') {
        i++;
    }
    return i == n;
}

static flo_code answer_text(const tokenizer *t, const request *r, const char *text, size_t n,
                            answer_line answer, buffer *out, flo_err *err)
{
    cJSON *line = NULL;
    flo_code code = json_parse_request(&line, text, n, err);
    if (code == FLO_OK) {
        code = answer(t, r, line, out, err);
    }
    cJSON_Delete(line);
    return code;
}

/* Appends one answer for each line of standard input that is not blank. */
static flo_code answer_lines(const tokenizer *t, const request *r, const buffer *input,
                             answer_line answer, buffer *out, flo_err *err)
{
    size_t number = 0;
    for (size_t i = 0; i < input->n;) {
        const char *end = memchr(input->at + i, '\n', input->n - i);
        size_t n = end != NULL ? (size_t)(end - input->at) - i : input->n - i;
        number++;
        if (!is_blank(input->at + i, n)) {
            flo_code code = answer_text(t, r, input->at + i, n, answer, out, err);
            if (code != FLO_OK) {
                flo_context(err, "standard input, line %zu", number);
                return code;
            }
        }
        i += n + 1;
    }
    return FLO_OK;
}

static flo_code run_lines(const tokenizer *t, const request *r, answer_line answer, flo_err *err)
{
    buffer input = {0}, out = {0};
    flo_code code = file_read(&input, "-", input_bytes_max, err);
    if (code == FLO_OK) {
        code = answer_lines(t, r, &input, answer, &out, err);
    }
    if (code == FLO_OK) {
        code = flush(&out, err);
    }
    buffer_free(&input);
    buffer_free(&out);
    return code;
}

static flo_code tokenize_line(const tokenizer *t, const request *r, const cJSON *line, buffer *out,
                              flo_err *err)
{
    const cJSON *text = json_member(line, "text");
    if (!cJSON_IsString(text)) {
        return flo_fail(err, FLO_USAGE, "it is not {\"text\": \"...\"}");
    }
    size_t n = 0;
    char *bytes = json_string_copy(text, &n);
    if (bytes == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    id_array ids = {0};
    flo_code code = tokenizer_encode(t, bytes, n, r->no_special, &ids.at, &ids.n, err);
    if (code == FLO_OK) {
        buffer_append_text(out, "{\"ids\": [");
        put_ids(out, ids);
        buffer_append_text(out, "]}\n");
    }
    free(ids.at);
    free(bytes);
    return code;
}

/* ---- tokenize ---- */

/* is_prompt: the answer shows the text too. */
static flo_code tokenize_text(const tokenizer *t, const request *r, const char *text,
                              size_t n_bytes, bool is_prompt, flo_err *err)
{
    id_array ids = {0};
    double start = clock_s();
    flo_code code = tokenizer_encode(t, text, n_bytes, r->no_special, &ids.at, &ids.n, err);
    double seconds = clock_s() - start;
    if (code == FLO_OK) {
        code = r->count ? write_count(ids.n, n_bytes, seconds, err)
                        : write_tokens(t, ids, is_prompt ? text : NULL, n_bytes, err);
    }
    free(ids.at);
    return code;
}

static flo_code tokenize_file(const tokenizer *t, const request *r, flo_err *err)
{
    buffer text = {0};
    flo_code code = file_read(&text, r->file, input_bytes_max, err);
    if (code == FLO_OK) {
        code = tokenize_text(t, r, text.at, text.n, false, err);
        if (code == FLO_USAGE) {
            flo_context(err, "%s", r->file);
        }
    }
    buffer_free(&text);
    return code;
}

/* Makes the template's context of what the file holds: a list of messages, or an object with them
 * and the template's options. Takes root over and may return another tree. */
static flo_code context_of(cJSON **root, bool generation_prompt, flo_err *err)
{
    if (cJSON_IsArray(*root)) {
        cJSON *object = cJSON_CreateObject();
        if (object == NULL || !cJSON_AddItemToObject(object, "messages", *root)) {
            cJSON_Delete(object);
            return flo_fail(err, FLO_FAIL, "out of memory");
        }
        *root = object;
    }
    if (!cJSON_IsArray(json_member(*root, "messages"))) {
        return flo_fail(err, FLO_USAGE,
                        "it is neither a list of messages nor {\"messages\": [...], ...}");
    }
    cJSON_DeleteItemFromObjectCaseSensitive(*root, "add_generation_prompt");
    if (cJSON_AddBoolToObject(*root, "add_generation_prompt", generation_prompt) == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    return FLO_OK;
}

static flo_code read_context(cJSON **out, const request *r, flo_err *err)
{
    buffer text = {0};
    cJSON *root = NULL;
    flo_code code = file_read(&text, r->messages, input_bytes_max, err);
    if (code != FLO_OK) {
        buffer_free(&text);
        return code;
    }
    code = json_parse_request(&root, text.at, text.n, err);
    if (code == FLO_OK) {
        code = chat_template_numbers_keep(root, text.at, text.n, err);
    }
    if (code == FLO_OK) {
        code = context_of(&root, !r->no_generation_prompt, err);
    }
    buffer_free(&text);
    if (code != FLO_OK) {
        flo_context(err, "%s", r->messages);
        cJSON_Delete(root);
        return code;
    }
    *out = root;
    return FLO_OK;
}

static flo_code render(const char *folder, const cJSON *context, char **prompt, size_t *n_prompt,
                       flo_err *err)
{
    chat_template *template = NULL;
    flo_code code = chat_template_open(&template, folder, err);
    if (code == FLO_OK) {
        code = chat_template_render(template, context, prompt, n_prompt, err);
        chat_template_free(template);
    }
    return code;
}

static flo_code tokenize_messages(const tokenizer *t, const request *r, const char *folder,
                                  flo_err *err)
{
    cJSON *context = NULL;
    char *prompt = NULL;
    size_t n_prompt = 0;
    flo_code code = read_context(&context, r, err);
    if (code == FLO_OK) {
        code = render(folder, context, &prompt, &n_prompt, err);
    }
    if (code == FLO_OK) {
        n_prompt = json_restore_nul(prompt, n_prompt);
        code = tokenize_text(t, r, prompt, n_prompt, true, err);
    }
    free(prompt);
    cJSON_Delete(context);
    return code;
}

static flo_code tokenize(const tokenizer *t, const request *r, const char *folder, flo_err *err)
{
    if (r->jsonl) {
        return run_lines(t, r, tokenize_line, err);
    }
    if (r->messages != NULL) {
        return tokenize_messages(t, r, folder, err);
    }
    if (r->file != NULL) {
        return tokenize_file(t, r, err);
    }
    return tokenize_text(t, r, r->word, strlen(r->word), false, err);
}

flo_code command_tokenize(int argc, char **argv, flo_err *err)
{
    request r = {0};
    tokenizer *t = NULL;
    static char folder[PATH_MAX];
    options_init(&r.run);
    flo_code code = read_tokenize(&r, argc, argv, err);
    if (code == FLO_OK && r.help) {
        return print_text(tokenize_help, err);
    }
    if (code == FLO_OK) {
        code = model_folder_find(folder, r.run.model, err);
    }
    if (code == FLO_OK) {
        options_set_log(&r.run);
        code = tokenizer_open(&t, folder, err);
    }
    if (code == FLO_OK) {
        code = tokenize(t, &r, folder, err);
    }
    tokenizer_close(t);
    return code;
}

/* ---- detokenize ---- */

static flo_code id_array_add(id_array *ids, int64_t id, flo_err *err)
{
    if ((ids->n & (ids->n - 1)) == 0) { /* full at every power of two */
        int32_t *at = realloc(ids->at, (ids->n > 0 ? 2 * ids->n : 1) * sizeof *at);
        if (at == NULL) {
            return flo_fail(err, FLO_FAIL, "out of memory for ids");
        }
        ids->at = at;
    }
    ids->at[ids->n++] = (int32_t)id;
    return FLO_OK;
}

static const char *skip_blanks(const char *p)
{
    return p + strspn(p, " \t\r\n");
}

/* "1,2,3", blanks allowed between; the empty text is the empty list. */
static flo_code parse_ids(id_array *ids, const char *text, flo_err *err)
{
    const char *p = skip_blanks(text);
    while (*p != '\0' || ids->n > 0) {
        char *end;
        errno = 0;
        long long id = strtoll(p, &end, 10);
        if (end == p || errno != 0 || id < 0 || id > INT32_MAX) {
            return flo_fail(err, FLO_USAGE, "a token id is due where the list says \"%.40s\"", p);
        }
        flo_code code = id_array_add(ids, id, err);
        if (code != FLO_OK) {
            return code;
        }
        p = skip_blanks(end);
        if (*p == '\0') {
            return FLO_OK;
        }
        if (*p != ',') {
            return flo_fail(err, FLO_USAGE, "a comma is due where the list says \"%.40s\"", p);
        }
        p = skip_blanks(p + 1);
    }
    return FLO_OK;
}

static flo_code ids_of(id_array *ids, const cJSON *list, flo_err *err)
{
    if (!cJSON_IsArray(list)) {
        return flo_fail(err, FLO_USAGE, "it is not {\"ids\": [...]}");
    }
    for (const cJSON *item = list->child; item != NULL; item = item->next) {
        int64_t id;
        if (!json_integer(item, 0, INT32_MAX, &id)) {
            return flo_fail(err, FLO_USAGE, "ids[%zu] is no token id", ids->n);
        }
        flo_code code = id_array_add(ids, id, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

static flo_code put_text(const tokenizer *t, const request *r, id_array ids, bool as_json,
                         buffer *out, flo_err *err)
{
    char *text = NULL;
    size_t n = 0;
    flo_code code = tokenizer_decode(t, ids.at, ids.n, r->skip_special, &text, &n, err);
    if (code == FLO_OK && as_json) {
        buffer_append_text(out, "{\"text\": ");
        json_put_string(out, text, n);
        buffer_append_text(out, "}\n");
    } else if (code == FLO_OK) {
        buffer_append(out, text, n);
    }
    free(text);
    return code;
}

static flo_code detokenize_line(const tokenizer *t, const request *r, const cJSON *line,
                                buffer *out, flo_err *err)
{
    id_array ids = {0};
    flo_code code = ids_of(&ids, json_member(line, "ids"), err);
    if (code == FLO_OK) {
        code = put_text(t, r, ids, true, out, err);
    }
    free(ids.at);
    return code;
}

static flo_code detokenize_word(const tokenizer *t, const request *r, flo_err *err)
{
    id_array ids = {0};
    buffer out = {0};
    flo_code code = parse_ids(&ids, r->word, err);
    if (code == FLO_OK) {
        code = put_text(t, r, ids, r->run.json, &out, err);
    }
    if (code == FLO_OK) {
        if (!r->run.json && isatty(STDOUT_FILENO)) {
            buffer_append_byte(&out, '\n'); /* for people; programs get the text's bytes alone */
        }
        code = flush(&out, err);
    }
    buffer_free(&out);
    free(ids.at);
    return code;
}

flo_code command_detokenize(int argc, char **argv, flo_err *err)
{
    request r = {0};
    tokenizer *t = NULL;
    static char folder[PATH_MAX];
    options_init(&r.run);
    flo_code code = read_detokenize(&r, argc, argv, err);
    if (code == FLO_OK && r.help) {
        return print_text(detokenize_help, err);
    }
    if (code == FLO_OK) {
        code = model_folder_find(folder, r.run.model, err);
    }
    if (code == FLO_OK) {
        options_set_log(&r.run);
        code = tokenizer_open(&t, folder, err);
    }
    if (code == FLO_OK) {
        code = r.jsonl ? run_lines(t, &r, detokenize_line, err) : detokenize_word(t, &r, err);
    }
    tokenizer_close(t);
    return code;
}

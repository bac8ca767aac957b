/*
 * verify_text.c - token ids, streamed text, templates and chats: what was recorded must come out
 * letter by letter, so a comparison is equality and its place is the case's name.
 */
#include "coordinator/verify_sections.h"

#include "common/json.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REAL_TOKENIZER "tokenizer-qwen3-omni"

/* All comparisons of one kind in one file. */
typedef struct tally {
    const char *what;
    int64_t n, n_differ;
    char first[256];
} tally;

static void tally_add(tally *t, bool same, const char *label, const char *how)
{
    t->n++;
    if (!same && t->n_differ++ == 0) {
        snprintf(t->first, sizeof t->first, "'%.60s': %.160s", label, how);
    }
}

static void tally_report(verify_report *r, const char *file, tally *tallies, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        report_texts(r, file, tallies[i].what, tallies[i].n, tallies[i].n_differ, tallies[i].first);
    }
}

/* Text against a JSON string; wanted may be NULL: nothing was recorded. */
static flo_code tally_text(tally *t, const char *label, const char *got, size_t n_got,
                           const cJSON *wanted, flo_err *err)
{
    char how[160];
    size_t n, at = 0;
    if (wanted == NULL) {
        return FLO_OK;
    }
    if (!cJSON_IsString(wanted)) {
        return flo_fail(err, FLO_FAIL, "'%.60s' has a %s that is no string", label, t->what);
    }
    char *text = json_string_copy(wanted, &n);
    if (text == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for a recorded text");
    }
    while (at < n && at < n_got && text[at] == got[at]) {
        at++;
    }
    snprintf(how, sizeof how, "at byte %zu got '%.40s', expected '%.40s'", at,
             at < n_got ? got + at : "", text + at);
    tally_add(t, n == n_got && at == n, label, how);
    free(text);
    return FLO_OK;
}

static flo_code ids_of(int32_t **out, size_t *n_out, const cJSON *list, const char *label,
                       flo_err *err)
{
    size_t n = 0;
    int32_t *ids = malloc(((size_t)cJSON_GetArraySize(list) + 1) * sizeof *ids);
    if (ids == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for recorded ids");
    }
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        int64_t id;
        if (!json_integer(item, 0, INT32_MAX, &id)) {
            free(ids);
            return flo_fail(err, FLO_FAIL, "'%.60s' has ids that are no ids", label);
        }
        ids[n++] = (int32_t)id;
    }
    if (!cJSON_IsArray(list)) {
        free(ids);
        return flo_fail(err, FLO_FAIL, "'%.60s' has no list of ids", label);
    }
    *out = ids;
    *n_out = n;
    return FLO_OK;
}

static void tally_ids(tally *t, const char *label, const int32_t *got, size_t n_got,
                      const int32_t *wanted, size_t n)
{
    char how[160];
    size_t at = 0;
    while (at < n && at < n_got && got[at] == wanted[at]) {
        at++;
    }
    if (at < n && at < n_got) {
        snprintf(how, sizeof how, "id %zu is %d, expected %d", at, got[at], wanted[at]);
    } else {
        snprintf(how, sizeof how, "%zu ids, expected %zu", n_got, n);
    }
    tally_add(t, n == n_got && at == n, label, how);
}

/* --- files -------------------------------------------------------------------------------------
 */

/* Runs one over a JSON file of cases; what is wrong with the file is a fault of it. */
typedef flo_code text_file_run(verify *v, const char *file, const cJSON *root, const cJSON *kept,
                               void *arg, flo_err *err);

/* Opens GOLDEN/section/file as two trees of the same values: root with numbers as cJSON has them,
 * kept with their literals, as templates want them. */
static flo_code open_trees(cJSON **root, cJSON **kept, const char *path, flo_err *err)
{
    char *text;
    size_t n_bytes;
    *root = *kept = NULL;
    flo_code code = verify_json_read(root, &text, &n_bytes, path, err);
    if (code != FLO_OK) {
        return code;
    }
    code = json_parse_request(kept, text, n_bytes, err);
    if (code == FLO_OK) {
        code = chat_template_numbers_keep(*kept, text, n_bytes, err);
    }
    free(text);
    return code;
}

static void run_file(verify *v, const char *section, const char *file, text_file_run *run,
                     void *arg)
{
    char folder[VERIFY_PATH_MAX], path[VERIFY_PATH_MAX];
    cJSON *root = NULL, *kept = NULL;
    flo_err err = {""};
    flo_code code = verify_path(folder, v->golden, section, &err);
    if (code == FLO_OK) {
        code = verify_path(path, folder, file, &err);
    }
    if (code == FLO_OK) {
        code = open_trees(&root, &kept, path, &err);
    }
    if (code == FLO_OK) {
        code = run(v, file, root, kept, arg, &err);
    }
    if (code != FLO_OK) {
        report_fault(&v->report, file, err.text);
    }
    cJSON_Delete(root);
    cJSON_Delete(kept);
}

/* The tokenizer of GOLDEN/tokenizer-qwen3-omni; NULL, and a line, where it is not there or packed.
 */
static tokenizer *open_real_tokenizer(verify *v, const char *whose)
{
    char folder[VERIFY_PATH_MAX];
    tokenizer *t = NULL;
    flo_err err = {""};
    char sentence[FLO_ERR_BYTES + 128];
    flo_code code = verify_path(folder, v->golden, REAL_TOKENIZER, &err);
    if (code == FLO_OK && !verify_is_file(folder, "vocab.json") &&
        !verify_is_file(folder, "tokenizer.json") && verify_is_file(folder, "vocab.json.xz")) {
        code = flo_fail(
            &err, FLO_FAIL,
            "%.600s is packed; unpack it with `xz -dk vocab.json.xz merges.txt.xz` there", folder);
    }
    if (code == FLO_OK) {
        code = tokenizer_open(&t, folder, &err);
    }
    if (code != FLO_OK) {
        snprintf(sentence, sizeof sentence, "%s need the real tokenizer: %s", whose, err.text);
        report_not_run(&v->report, sentence);
        return NULL;
    }
    return t;
}

/* --- tokenization ------------------------------------------------------------------------------
 */

enum { ENCODED, DECODED, DECODED_PLAIN, N_ENCODE };
enum { PREFIXES, PIECES, FLUSHED, STREAM_DECODED, STREAM_PLAIN, N_STREAM };

static flo_code decode_row(tally *t, const tokenizer *tok, const char *label, const int32_t *ids,
                           size_t n_ids, bool skip_special, const cJSON *wanted, flo_err *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    flo_err sentence = {""};
    if (wanted == NULL) {
        return FLO_OK;
    }
    if (tokenizer_decode(tok, ids, n_ids, skip_special, &text, &n_bytes, &sentence) != FLO_OK) {
        tally_add(t, false, label, sentence.text);
        return FLO_OK;
    }
    flo_code code = tally_text(t, label, text, n_bytes, wanted, err);
    free(text);
    return code;
}

static flo_code encode_text(tally *t, const tokenizer *tok, const char *label, const char *text,
                            size_t n_bytes, const int32_t *wanted, size_t n_wanted)
{
    int32_t *got = NULL;
    size_t n_got = 0;
    flo_err sentence = {""};
    if (tokenizer_encode(tok, text, n_bytes, false, &got, &n_got, &sentence) == FLO_OK) {
        tally_ids(t, label, got, n_got, wanted, n_wanted);
        free(got);
    } else {
        tally_add(t, false, label, sentence.text);
    }
    return FLO_OK;
}

static flo_code encode_row(tally *t, const tokenizer *tok, const cJSON *row, flo_err *err)
{
    const cJSON *text = json_member(row, "text");
    int32_t *ids;
    size_t n_ids, n_bytes;
    if (!cJSON_IsString(text)) {
        return flo_fail(err, FLO_FAIL, "a row has no text");
    }
    const char *label = text->valuestring;
    flo_code code = ids_of(&ids, &n_ids, json_member(row, "ids"), label, err);
    if (code != FLO_OK) {
        return code;
    }
    char *bytes = json_string_copy(text, &n_bytes);
    code = bytes != NULL ? encode_text(&t[ENCODED], tok, label, bytes, n_bytes, ids, n_ids)
                         : flo_fail(err, FLO_FAIL, "out of memory for a recorded text");
    free(bytes);
    if (code == FLO_OK) {
        code = decode_row(&t[DECODED], tok, label, ids, n_ids, false, json_member(row, "decoded"),
                          err);
    }
    if (code == FLO_OK) {
        code = decode_row(&t[DECODED_PLAIN], tok, label, ids, n_ids, true,
                          json_member(row, "decoded_skip_special"), err);
    }
    free(ids);
    return code;
}

/* True, and a line, where the ids cannot be of this job's tokenizer. */
static bool other_tokenizer(verify *v, const char *file, const cJSON *root, const tokenizer *t)
{
    char sentence[512];
    const cJSON *row, *id;
    cJSON_ArrayForEach(row, root)
    {
        cJSON_ArrayForEach(id, json_member(row, "ids"))
        {
            if (t == v->job->tokenizer && id->valuedouble >= tokenizer_size(t)) {
                snprintf(sentence, sizeof sentence,
                         "%.200s has ids outside the %d tokens of this job's model; the reference "
                         "data are of another checkpoint, name that with --model",
                         file, tokenizer_size(t));
                report_not_run(&v->report, sentence);
                return true;
            }
        }
    }
    return false;
}

static flo_code encode_file(verify *v, const char *file, const cJSON *root, const cJSON *kept,
                            void *arg, flo_err *err)
{
    tally t[N_ENCODE] = {{.what = "ids"}, {.what = "decoded"}, {.what = "decoded_skip_special"}};
    flo_code code = cJSON_IsArray(root) && root->child != NULL
                        ? FLO_OK
                        : flo_fail(err, FLO_FAIL, "the file is no list of texts");
    (void)kept;
    if (code == FLO_OK && other_tokenizer(v, file, root, arg)) {
        return FLO_OK;
    }
    for (const cJSON *row = root->child; code == FLO_OK && row != NULL; row = row->next) {
        code = encode_row(t, arg, row, err);
        v->report.here.n_cases++;
    }
    tally_report(&v->report, file, t, N_ENCODE);
    return code;
}

/* Pieces one by one, then what is left at the end. */
static flo_code stream_pieces(tally *t, detokenizer *d, const char *label, const int32_t *ids,
                              size_t n_ids, const cJSON *row, flo_err *err)
{
    const cJSON *piece = json_member(row, "pieces")->child;
    const char *text;
    size_t n;
    for (size_t i = 0; i < n_ids; i++, piece = piece->next) {
        flo_code code = detokenizer_push(d, ids[i], &text, &n, err);
        if (code == FLO_OK) {
            code = tally_text(&t[PIECES], label, text, n, piece, err);
        }
        if (code != FLO_OK) {
            return code;
        }
    }
    flo_code code = detokenizer_flush(d, &text, &n, err);
    return code == FLO_OK ? tally_text(&t[FLUSHED], label, text, n, json_member(row, "flush"), err)
                          : code;
}

static flo_code stream_prefixes(tally *t, const tokenizer *tok, const char *label,
                                const int32_t *ids, size_t n_ids, const cJSON *row, flo_err *err)
{
    const cJSON *prefix = json_member(row, "prefix_decodes")->child;
    flo_code code = FLO_OK;
    for (size_t i = 0; code == FLO_OK && i < n_ids; i++, prefix = prefix->next) {
        code = decode_row(&t[PREFIXES], tok, label, ids, i + 1, false, prefix, err);
    }
    return code;
}

static flo_code stream_row(tally *t, const tokenizer *tok, const cJSON *row, flo_err *err)
{
    const cJSON *name = json_member(row, "name");
    const char *label = cJSON_IsString(name) ? name->valuestring : "?";
    detokenizer *d = NULL;
    int32_t *ids;
    size_t n_ids;
    flo_code code = ids_of(&ids, &n_ids, json_member(row, "ids"), label, err);
    if (code != FLO_OK) {
        return code;
    }
    if ((size_t)cJSON_GetArraySize(json_member(row, "pieces")) != n_ids ||
        (size_t)cJSON_GetArraySize(json_member(row, "prefix_decodes")) != n_ids) {
        code = flo_fail(err, FLO_FAIL, "'%.60s' has not a piece and a prefix for each id", label);
    }
    if (code == FLO_OK) {
        code = stream_prefixes(t, tok, label, ids, n_ids, row, err);
    }
    if (code == FLO_OK) {
        code = detokenizer_new(&d, tok, false, err);
    }
    if (code == FLO_OK) {
        code = stream_pieces(t, d, label, ids, n_ids, row, err);
    }
    if (code == FLO_OK) {
        code = decode_row(&t[STREAM_DECODED], tok, label, ids, n_ids, false,
                          json_member(row, "decoded"), err);
    }
    if (code == FLO_OK) {
        code = decode_row(&t[STREAM_PLAIN], tok, label, ids, n_ids, true,
                          json_member(row, "decoded_skip_special"), err);
    }
    detokenizer_free(d);
    free(ids);
    return code;
}

static flo_code stream_file(verify *v, const char *file, const cJSON *root, const cJSON *kept,
                            void *arg, flo_err *err)
{
    tally t[N_STREAM] = {{.what = "prefix_decodes"},
                         {.what = "pieces"},
                         {.what = "flush"},
                         {.what = "decoded"},
                         {.what = "decoded_skip_special"}};
    flo_code code = cJSON_IsArray(root) && root->child != NULL
                        ? FLO_OK
                        : flo_fail(err, FLO_FAIL, "the file is no list of streams");
    (void)kept;
    for (const cJSON *row = root->child; code == FLO_OK && row != NULL; row = row->next) {
        code = stream_row(t, arg, row, err);
        v->report.here.n_cases++;
    }
    tally_report(&v->report, file, t, N_STREAM);
    return code;
}

/* Files named after a tiny checkpoint are of this job's tokenizer, the others of the real one. */
static void run_tokenization_file(verify *v, const char *file, tokenizer *real)
{
    tokenizer *t = strncmp(file, "tiny", 4) == 0 ? v->job->tokenizer : real;
    text_file_run *run = strcmp(file, "stream.json") == 0 ? stream_file : encode_file;
    if (t != NULL) {
        run_file(v, "tokenization", file, run, t);
    } else if (strncmp(file, "tiny", 4) == 0) {
        report_not_run(&v->report, "this job's model has no tokenizer");
    }
}

flo_code verify_tokenization(verify *v, flo_err *err)
{
    char folder[VERIFY_PATH_MAX];
    name_list files = {0};
    tokenizer *real = NULL;
    bool asked = false;
    flo_code code = verify_path(folder, v->golden, "tokenization", err);
    if (code == FLO_OK) {
        code = name_list_read(&files, folder, err);
    }
    report_text_columns(&v->report);
    for (size_t i = 0; code == FLO_OK && i < files.n; i++) {
        const char *end = strrchr(files.at[i], '.');
        if (end == NULL || strcmp(end, ".json") != 0) {
            continue;
        }
        if (!asked && strncmp(files.at[i], "tiny", 4) != 0) {
            real = open_real_tokenizer(v, "encode.json and stream.json");
            asked = true;
        }
        run_tokenization_file(v, files.at[i], real);
    }
    if (code == FLO_OK && v->report.section_ran && v->report.here.n_cases == 0 &&
        v->report.here.n_faults == 0) {
        report_fault(&v->report, "tokenization", "the folder has no cases");
    }
    tokenizer_close(real);
    name_list_free(&files);
    return code;
}

/* --- templates ---------------------------------------------------------------------------------
 */

/* A template that the reference renders, or refuses. */
static flo_code template_case(tally *rendered, tally *refused, const cJSON *c, const cJSON *context,
                              flo_err *err)
{
    const cJSON *name = json_member(c, "name"), *source = json_member(c, "template");
    const cJSON *output = json_member(c, "output");
    if (!cJSON_IsString(name) || !cJSON_IsString(source) ||
        (output == NULL) == (json_member(c, "error") == NULL)) {
        return flo_fail(err, FLO_FAIL, "a case has no name, template, or one of output and error");
    }
    chat_template *t = NULL;
    flo_err sentence = {""};
    size_t n_source, n_bytes = 0;
    char *text = NULL, *bytes = json_string_copy(source, &n_source);
    if (bytes == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for a template");
    }
    flo_code code = chat_template_parse(&t, bytes, n_source, name->valuestring, &sentence);
    if (code == FLO_OK) {
        code = chat_template_render(t, context, &text, &n_bytes, &sentence);
    }
    flo_code told = FLO_OK;
    if (output == NULL) {
        tally_add(refused, code != FLO_OK, name->valuestring, "rendered, expected an error");
    } else if (code != FLO_OK) {
        tally_add(rendered, false, name->valuestring, sentence.text);
    } else {
        told = tally_text(rendered, name->valuestring, text, n_bytes, output, err);
    }
    free(text);
    free(bytes);
    chat_template_free(t);
    return told;
}

static flo_code template_file(verify *v, const char *file, const cJSON *root, const cJSON *kept,
                              void *arg, flo_err *err)
{
    tally t[2] = {{.what = "rendered"}, {.what = "refused"}};
    const cJSON *cases = json_member(root, "cases"), *c;
    const cJSON *context = json_member(kept, "context");
    flo_code code = cJSON_IsArray(cases) && cases->child != NULL && cJSON_IsObject(context)
                        ? FLO_OK
                        : flo_fail(err, FLO_FAIL, "the file has no cases or no context");
    (void)arg;
    cJSON_ArrayForEach(c, cases)
    {
        if (code == FLO_OK) {
            code = template_case(&t[0], &t[1], c, context, err);
            v->report.here.n_cases++;
        }
    }
    tally_report(&v->report, file, t, 2);
    return code;
}

flo_code verify_template(verify *v, flo_err *err)
{
    (void)err;
    report_text_columns(&v->report);
    run_file(v, "template", "cases.json", template_file, NULL);
    return FLO_OK;
}

/* --- chats -------------------------------------------------------------------------------------
 */

typedef struct chat_tools {
    chat_template *chat_template;
    tokenizer *tokenizer; /* NULL: ids are not compared */
    tally texts, ids;
    int64_t n_alone;
} chat_tools;

/* The options stand beside the messages, as in a chat request. */
static cJSON *chat_context(const cJSON *kept, bool generation_prompt)
{
    cJSON *context = cJSON_CreateObject(), *option;
    bool good = context != NULL;
    cJSON_ArrayForEach(option, json_member(kept, "options"))
    {
        good = good && cJSON_AddItemReferenceToObject(context, option->string, option);
    }
    cJSON *messages = (cJSON *)json_member(kept, "messages"); /* referred to, not written */
    good = good && cJSON_AddItemReferenceToObject(context, "messages", messages) &&
           cJSON_AddBoolToObject(context, "add_generation_prompt", generation_prompt) != NULL;
    if (!good) {
        cJSON_Delete(context);
        return NULL;
    }
    return context;
}

/* Ids of a text with media stand for the text with its placeholders expanded: no counterpart. */
static flo_code chat_ids(chat_tools *tools, const char *label, const char *text, size_t n_bytes,
                         const cJSON *render, flo_err *err)
{
    int32_t *ids;
    size_t n_ids;
    if (json_member(render, "media") != NULL) {
        tools->n_alone++;
        return FLO_OK;
    }
    if (tools->tokenizer == NULL) {
        return FLO_OK;
    }
    flo_code code = ids_of(&ids, &n_ids, json_member(render, "ids"), label, err);
    if (code == FLO_OK) {
        code = encode_text(&tools->ids, tools->tokenizer, label, text, n_bytes, ids, n_ids);
        free(ids);
    }
    return code;
}

static flo_code chat_render(chat_tools *tools, const char *label, const cJSON *render,
                            const cJSON *kept, flo_err *err)
{
    char *text;
    size_t n_bytes;
    flo_err sentence = {""};
    bool with_prompt = cJSON_IsTrue(json_member(render, "add_generation_prompt"));
    if (!cJSON_IsString(json_member(render, "text"))) {
        return flo_fail(err, FLO_FAIL, "'%.60s' has a render without text", label);
    }
    cJSON *context = chat_context(kept, with_prompt);
    if (context == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for a chat");
    }
    flo_code code = chat_template_render(tools->chat_template, context, &text, &n_bytes, &sentence);
    cJSON_Delete(context);
    if (code != FLO_OK) {
        tally_add(&tools->texts, false, label, sentence.text);
        return FLO_OK;
    }
    code = tally_text(&tools->texts, label, text, n_bytes, json_member(render, "text"), err);
    if (code == FLO_OK) {
        code = chat_ids(tools, label, text, n_bytes, render, err);
    }
    free(text);
    return code;
}

static flo_code chat_file(verify *v, const char *file, const cJSON *root, const cJSON *kept,
                          void *arg, flo_err *err)
{
    chat_tools *tools = arg;
    flo_code code = cJSON_IsArray(root) && root->child != NULL
                        ? FLO_OK
                        : flo_fail(err, FLO_FAIL, "the file is no list of chats");
    const cJSON *twin = kept->child, *render;
    for (const cJSON *c = root->child; code == FLO_OK && c != NULL;
         c = c->next, twin = twin->next) {
        const cJSON *name = json_member(c, "name"), *renders = json_member(c, "renders");
        v->report.here.n_cases++;
        if (!cJSON_IsString(name) || !cJSON_IsArray(renders) ||
            json_member(c, "messages") == NULL) {
            code = flo_fail(err, FLO_FAIL, "a case has no name, messages or renders");
        }
        cJSON_ArrayForEach(render, renders)
        {
            code = code == FLO_OK ? chat_render(tools, name->valuestring, render, twin, err) : code;
        }
    }
    tally both[2] = {tools->texts, tools->ids};
    tally_report(&v->report, file, both, 2);
    if (tools->n_alone > 0) {
        report_alone(&v->report, "ids with media", tools->n_alone);
    }
    return code;
}

/* With the template of the real tokenizer's folder, as the cases were made. */
flo_code verify_chat(verify *v, flo_err *err)
{
    char folder[VERIFY_PATH_MAX], sentence[FLO_ERR_BYTES + 64];
    chat_tools tools = {.texts = {.what = "text"}, .ids = {.what = "ids"}};
    flo_err cause = {""};
    flo_code code = verify_path(folder, v->golden, REAL_TOKENIZER, err);
    if (code != FLO_OK) {
        return code;
    }
    report_text_columns(&v->report);
    if (!verify_is_folder(v->golden, REAL_TOKENIZER)) {
        report_not_run(&v->report, "there is no folder " REAL_TOKENIZER " with the chat template");
        return FLO_OK;
    }
    if (chat_template_open(&tools.chat_template, folder, &cause) != FLO_OK) {
        snprintf(sentence, sizeof sentence, "the chat template is faulty: %s", cause.text);
        report_fault(&v->report, "cases.json", sentence);
        return FLO_OK;
    }
    tools.tokenizer = open_real_tokenizer(v, "the chats' ids");
    run_file(v, "chat", "cases.json", chat_file, &tools);
    tokenizer_close(tools.tokenizer);
    chat_template_free(tools.chat_template);
    return FLO_OK;
}

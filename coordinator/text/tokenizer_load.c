/*
 * tokenizer_load.c - a tokenizer's files, checked, as the structures that encoding works on.
 *
 * What a file says is either done or refused: a flag, normaliser or decoder that would have to be
 * ignored stops the start, because ignoring it would give other ids than the reference.
 */
#include "coordinator/text/tokenizer_load.h"

#include "common/file.h"
#include "common/json.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 256 << 20 };

/* True where the value says "not in use". */
static bool is_off(const cJSON *item)
{
    return item == NULL || cJSON_IsNull(item) || cJSON_IsFalse(item) ||
           (cJSON_IsString(item) && item->valuestring[0] == '\0');
}

static bool is_text(const cJSON *item, const char *text)
{
    return cJSON_IsString(item) && strcmp(item->valuestring, text) == 0;
}

static const char *text_of(const cJSON *item)
{
    return cJSON_IsString(item) ? item->valuestring : "(none)";
}

/* ---- vocabulary and merges ---- */

static flo_code load_vocabulary(vocabulary *v, const cJSON *object, flo_err *err)
{
    if (!cJSON_IsObject(object)) {
        return flo_fail(err, FLO_FAIL, "the vocabulary is no JSON object of tokens and ids");
    }
    for (const cJSON *item = object->child; item != NULL; item = item->next) {
        int64_t id;
        if (!json_integer(item, 0, VOCABULARY_TOKENS_MAX - 1, &id)) {
            return flo_fail(err, FLO_FAIL,
                            "the id of the token \"%.60s\" is no whole number in 0..%d",
                            item->string, VOCABULARY_TOKENS_MAX - 1);
        }
        flo_code code = vocabulary_add_base(v, item->string, (int32_t)id, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

/* "left right" in n bytes. */
static flo_code load_merge(vocabulary *v, const char *line, size_t n, flo_err *err)
{
    const char *space = memchr(line, ' ', n);
    size_t n_left = space != NULL ? (size_t)(space - line) : 0;
    if (space == NULL || memchr(space + 1, ' ', n - n_left - 1) != NULL) {
        return flo_fail(err, FLO_FAIL, "a merge is two tokens with one space between, not \"%.*s\"",
                        n < 60 ? (int)n : 60, line);
    }
    return vocabulary_add_merge(v, line, n_left, space + 1, n - n_left - 1, err);
}

static flo_code load_merge_lines(vocabulary *v, const char *text, size_t n_bytes, flo_err *err)
{
    size_t line = 0;
    for (size_t i = 0; i < n_bytes;) {
        const char *end = memchr(text + i, '\n', n_bytes - i);
        size_t n = end != NULL ? (size_t)(end - text) - i : n_bytes - i;
        size_t n_line = n > 0 && text[i + n - 1] == '\r' ? n - 1 : n;
        line++;
        bool is_version = n_line >= 8 && memcmp(text + i, "#version", 8) == 0;
        bool is_last_blank = n_line == 0 && i + n + 1 >= n_bytes;
        if (!is_version && !is_last_blank) {
            flo_code code = load_merge(v, text + i, n_line, err);
            if (code != FLO_OK) {
                flo_context(err, "line %zu", line);
                return code;
            }
        }
        i += n + 1;
    }
    return FLO_OK;
}

/* "a b", or ["a", "b"]. */
static flo_code load_merge_item(vocabulary *v, const cJSON *item, flo_err *err)
{
    if (cJSON_IsString(item)) {
        return load_merge(v, item->valuestring, strlen(item->valuestring), err);
    }
    const cJSON *left = cJSON_IsArray(item) ? item->child : NULL;
    const cJSON *right = left != NULL ? left->next : NULL;
    if (!cJSON_IsString(left) || !cJSON_IsString(right) || right->next != NULL) {
        return flo_fail(err, FLO_FAIL, "a merge is \"a b\" or [\"a\", \"b\"]");
    }
    return vocabulary_add_merge(v, left->valuestring, strlen(left->valuestring), right->valuestring,
                                strlen(right->valuestring), err);
}

static flo_code load_merge_array(vocabulary *v, const cJSON *array, flo_err *err)
{
    if (!cJSON_IsArray(array)) {
        return flo_fail(err, FLO_FAIL, "model.merges is no JSON array");
    }
    size_t rank = 0;
    for (const cJSON *item = array->child; item != NULL; item = item->next, rank++) {
        flo_code code = load_merge_item(v, item, err);
        if (code != FLO_OK) {
            flo_context(err, "model.merges[%zu]", rank);
            return code;
        }
    }
    return FLO_OK;
}

/* ---- added tokens ---- */

static flo_code read_flag(const cJSON *object, const char *name, bool otherwise, bool *value,
                          flo_err *err)
{
    const cJSON *item = json_member(object, name);
    if (item != NULL && !cJSON_IsBool(item)) {
        return flo_fail(err, FLO_FAIL, "\"%s\" is neither true nor false", name);
    }
    *value = item != NULL ? cJSON_IsTrue(item) : otherwise;
    return FLO_OK;
}

static flo_code refuse_flag(const cJSON *object, const char *name, flo_err *err)
{
    bool value = false;
    flo_code code = read_flag(object, name, false, &value, err);
    if (code == FLO_OK && value) {
        return flo_fail(err, FLO_FAIL, "the flag \"%s\" is set, which is not known here", name);
    }
    return code;
}

static flo_code add_token(struct tokenizer *t, const char *text, int32_t id, bool special,
                          bool normalised, flo_err *err)
{
    flo_code code = vocabulary_add_added(&t->words, text, id, special, err);
    if (code == FLO_OK) {
        code = added_tokens_add(normalised ? &t->normalised : &t->raw, text, strlen(text), id, err);
    }
    return code;
}

/* {"content": ..., "special": ..., ...}; known already: the same again. */
static flo_code load_added_token(struct tokenizer *t, const cJSON *object, int32_t id, flo_err *err)
{
    static const char *const refused[] = {"lstrip", "rstrip", "single_word"};
    const cJSON *content = json_member(object, "content");
    if (!cJSON_IsString(content)) {
        return flo_fail(err, FLO_FAIL, "it has no text (\"content\")");
    }
    flo_code code = FLO_OK;
    for (size_t i = 0; i < sizeof refused / sizeof *refused && code == FLO_OK; i++) {
        code = refuse_flag(object, refused[i], err);
    }
    bool special = false, normalised = false;
    if (code == FLO_OK) {
        code = read_flag(object, "special", false, &special, err);
    }
    if (code == FLO_OK) {
        code = read_flag(object, "normalized", !special, &normalised, err);
    }
    const token *known = vocabulary_token(&t->words, id);
    if (code != FLO_OK || (known != NULL && known->is_added &&
                           strcmp(t->words.texts.at + known->text, content->valuestring) == 0)) {
        return code;
    }
    return add_token(t, content->valuestring, id, special, normalised, err);
}

/* tokenizer.json: a list with ids inside. */
static flo_code load_added_list(struct tokenizer *t, const cJSON *list, flo_err *err)
{
    if (list != NULL && !cJSON_IsArray(list)) {
        return flo_fail(err, FLO_FAIL, "added_tokens is no JSON array");
    }
    int32_t n = 0;
    for (const cJSON *item = list != NULL ? list->child : NULL; item != NULL;
         item = item->next, n++) {
        int64_t id;
        flo_code code = json_integer(json_member(item, "id"), 0, VOCABULARY_TOKENS_MAX - 1, &id)
                            ? load_added_token(t, item, (int32_t)id, err)
                            : flo_fail(err, FLO_FAIL, "its id is no whole number in 0..%d",
                                       VOCABULARY_TOKENS_MAX - 1);
        if (code != FLO_OK) {
            flo_context(err, "added_tokens[%d]", n);
            return code;
        }
    }
    return FLO_OK;
}

/* tokenizer_config.json: an object with ids as keys. */
static flo_code load_added_decoder(struct tokenizer *t, const cJSON *object, flo_err *err)
{
    if (object != NULL && !cJSON_IsObject(object)) {
        return flo_fail(err, FLO_FAIL, "added_tokens_decoder is no JSON object");
    }
    for (const cJSON *item = object != NULL ? object->child : NULL; item != NULL;
         item = item->next) {
        char *end;
        errno = 0;
        long id = strtol(item->string, &end, 10);
        bool is_number = item->string[0] >= '0' && item->string[0] <= '9' && *end == '\0';
        flo_code code =
            is_number && errno == 0 && id < VOCABULARY_TOKENS_MAX
                ? load_added_token(t, item, (int32_t)id, err)
                : flo_fail(err, FLO_FAIL, "that is no id in 0..%d", VOCABULARY_TOKENS_MAX - 1);
        if (code != FLO_OK) {
            flo_context(err, "added_tokens_decoder[\"%.20s\"]", item->string);
            return code;
        }
    }
    return FLO_OK;
}

/* Tokens that the configuration names as special are special, wherever they come from. */
static flo_code mark_special(struct tokenizer *t, const char *key, const cJSON *item, flo_err *err)
{
    const cJSON *content = cJSON_IsObject(item) ? json_member(item, "content") : item;
    if (is_off(item)) {
        return FLO_OK;
    }
    if (!cJSON_IsString(content)) {
        return flo_fail(err, FLO_FAIL, "%s is no token's text", key);
    }
    int32_t id = vocabulary_find(&t->words, content->valuestring, strlen(content->valuestring));
    if (id < 0) {
        return flo_fail(err, FLO_FAIL, "%s is \"%.60s\", which is no token", key,
                        content->valuestring);
    }
    if (t->words.tokens[id].is_added) {
        t->words.tokens[id].is_special = true;
        return FLO_OK;
    }
    return add_token(t, content->valuestring, id, true, false, err);
}

static flo_code load_special(struct tokenizer *t, const cJSON *config, flo_err *err)
{
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        flo_code code = mark_special(t, keys[i], json_member(config, keys[i]), err);
        if (code != FLO_OK) {
            return code;
        }
    }
    const cJSON *more = json_member(config, "additional_special_tokens");
    for (const cJSON *item = cJSON_IsArray(more) ? more->child : NULL; item; item = item->next) {
        flo_code code = mark_special(t, "additional_special_tokens", item, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

static flo_code load_config(struct tokenizer *t, const cJSON *config, flo_err *err)
{
    if (!cJSON_IsObject(config)) {
        return flo_fail(err, FLO_FAIL, "it is no JSON object");
    }
    if (!is_off(json_member(config, "add_prefix_space")) ||
        !is_off(json_member(config, "add_bos_token"))) {
        return flo_fail(err, FLO_FAIL,
                        "add_prefix_space or add_bos_token is set, which is not known here");
    }
    flo_code code = load_added_decoder(t, json_member(config, "added_tokens_decoder"), err);
    return code == FLO_OK ? load_special(t, config, err) : code;
}

/* ---- tokenizer.json ---- */

static flo_code check_model(const cJSON *model, flo_err *err)
{
    static const char *const off[] = {
        "dropout",       "unk_token",    "continuing_subword_prefix", "end_of_word_suffix",
        "byte_fallback", "ignore_merges"};
    const cJSON *type = json_member(model, "type");
    if (!is_text(type, "BPE")) {
        return flo_fail(err, FLO_FAIL, "model.type is %.60s, only BPE is known here",
                        text_of(type));
    }
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        if (!is_off(json_member(model, off[i]))) {
            return flo_fail(err, FLO_FAIL, "model.%s is set, which is not known here", off[i]);
        }
    }
    return FLO_OK;
}

static flo_code check_byte_level(const cJSON *item, flo_err *err)
{
    if (!is_text(json_member(item, "type"), "ByteLevel") ||
        !is_off(json_member(item, "add_prefix_space")) || !is_off(json_member(item, "use_regex"))) {
        return flo_fail(err, FLO_FAIL,
                        "pre_tokenizer is not a split by a pattern followed by plain ByteLevel");
    }
    return FLO_OK;
}

/* {"type": "Split", ...} -> its pattern. */
static flo_code read_split(const cJSON *item, const char **pattern, flo_err *err)
{
    const cJSON *regex = json_member(json_member(item, "pattern"), "Regex");
    if (!is_text(json_member(item, "type"), "Split") || !cJSON_IsString(regex) ||
        !is_text(json_member(item, "behavior"), "Isolated") ||
        !is_off(json_member(item, "invert"))) {
        return flo_fail(
            err, FLO_FAIL,
            "pre_tokenizer does not begin with an isolating split by a regular expression");
    }
    *pattern = regex->valuestring;
    return FLO_OK;
}

static flo_code read_pre_tokenizer(const cJSON *item, const char **pattern, flo_err *err)
{
    const cJSON *parts = json_member(item, "pretokenizers");
    if (!is_text(json_member(item, "type"), "Sequence") || cJSON_GetArraySize(parts) != 2) {
        return flo_fail(err, FLO_FAIL,
                        "pre_tokenizer is not the sequence of a split and ByteLevel");
    }
    flo_code code = read_split(parts->child, pattern, err);
    return code == FLO_OK ? check_byte_level(parts->child->next, err) : code;
}

/* True where the post-processor adds no token to a text: ByteLevel (it moves offsets alone), or a
 * template that is the text itself, as newer libraries write. */
static bool adds_nothing(const cJSON *after)
{
    const cJSON *type = json_member(after, "type");
    if (is_off(after) || is_text(type, "ByteLevel")) {
        return true;
    }
    const cJSON *single = json_member(after, "single");
    return is_text(type, "TemplateProcessing") && cJSON_GetArraySize(single) == 1 &&
           is_text(json_member(json_member(single->child, "Sequence"), "id"), "A");
}

static flo_code check_ends(const cJSON *root, flo_err *err)
{
    const cJSON *normalizer = json_member(root, "normalizer");
    const cJSON *decoder = json_member(root, "decoder");
    const cJSON *after = json_member(root, "post_processor");
    if (!is_text(json_member(normalizer, "type"), "NFC")) {
        return flo_fail(err, FLO_FAIL, "normalizer is %.60s, only NFC is known here",
                        text_of(json_member(normalizer, "type")));
    }
    if (!is_text(json_member(decoder, "type"), "ByteLevel")) {
        return flo_fail(err, FLO_FAIL, "decoder is %.60s, only ByteLevel is known here",
                        text_of(json_member(decoder, "type")));
    }
    if (!adds_nothing(after)) {
        return flo_fail(err, FLO_FAIL,
                        "post_processor is %.60s and adds tokens, which is not known here",
                        text_of(json_member(after, "type")));
    }
    return FLO_OK;
}

static flo_code load_root(struct tokenizer *t, const cJSON *root, flo_err *err)
{
    const cJSON *model = json_member(root, "model");
    const char *pattern = NULL;
    flo_code code = check_model(model, err);
    if (code == FLO_OK) {
        code = check_ends(root, err);
    }
    if (code == FLO_OK) {
        code = read_pre_tokenizer(json_member(root, "pre_tokenizer"), &pattern, err);
    }
    if (code == FLO_OK) {
        code = word_split_new(&t->split, pattern, err);
    }
    if (code == FLO_OK) {
        code = load_vocabulary(&t->words, json_member(model, "vocab"), err);
    }
    if (code == FLO_OK) {
        code = load_merge_array(&t->words, json_member(model, "merges"), err);
    }
    return code == FLO_OK ? load_added_list(t, json_member(root, "added_tokens"), err) : code;
}

flo_code tokenizer_load_json(struct tokenizer *t, const cJSON *tokenizer_json, const cJSON *config,
                             flo_err *err)
{
    flo_code code = vocabulary_init(&t->words, err);
    if (code == FLO_OK) {
        code = load_root(t, tokenizer_json, err);
    }
    if (code == FLO_OK && config != NULL) {
        code = load_config(t, config, err);
    }
    return code == FLO_OK ? vocabulary_check(&t->words, err) : code;
}

/* ---- folders ---- */

static flo_code path_in(char *path, size_t n, const char *folder, const char *name, flo_err *err)
{
    int length = snprintf(path, n, "%s/%s", folder, name);
    return length >= 0 && (size_t)length < n
               ? FLO_OK
               : flo_fail(err, FLO_USAGE, "the folder's name is too long: %.100s...", folder);
}

/* A checkpoint's file that cannot be read is a damaged checkpoint, whatever the reason. */
static flo_code read_json(cJSON **out, const char *path, flo_err *err)
{
    return json_read(out, path, FILE_BYTES_MAX, err) == FLO_OK ? FLO_OK : FLO_FAIL;
}

static flo_code in_file(flo_code code, const char *path, flo_err *err)
{
    if (code != FLO_OK) {
        flo_context(err, "%s", path);
    }
    return code;
}

static flo_code read_vocabulary_file(struct tokenizer *t, const char *path, flo_err *err)
{
    cJSON *root = NULL;
    flo_code code = read_json(&root, path, err);
    if (code == FLO_OK) {
        code = in_file(load_vocabulary(&t->words, root, err), path, err);
    }
    cJSON_Delete(root);
    return code;
}

static flo_code read_merges_file(struct tokenizer *t, const char *path, flo_err *err)
{
    buffer text = {0};
    flo_code code = file_read(&text, path, FILE_BYTES_MAX, err) == FLO_OK ? FLO_OK : FLO_FAIL;
    if (code == FLO_OK) {
        code = in_file(load_merge_lines(&t->words, text.at, text.n, err), path, err);
    }
    buffer_free(&text);
    return code;
}

static flo_code read_config_file(struct tokenizer *t, const char *path, flo_err *err)
{
    cJSON *root = NULL;
    flo_code code = read_json(&root, path, err);
    if (code == FLO_OK) {
        code = in_file(load_config(t, root, err), path, err);
    }
    cJSON_Delete(root);
    return code;
}

static flo_code read_tokenizer_file(struct tokenizer *t, const char *path, flo_err *err)
{
    cJSON *root = NULL;
    flo_code code = read_json(&root, path, err);
    if (code == FLO_OK) {
        code = in_file(load_root(t, root, err), path, err);
    }
    cJSON_Delete(root);
    return code;
}

typedef struct paths {
    char tokenizer[PATH_MAX], config[PATH_MAX], vocabulary[PATH_MAX], merges[PATH_MAX];
} paths;

static flo_code paths_init(paths *p, const char *folder, flo_err *err)
{
    struct stat s;
    if (stat(folder, &s) != 0 || !S_ISDIR(s.st_mode)) {
        return flo_fail(err, FLO_USAGE, "no such model folder: %s", folder);
    }
    flo_code code = path_in(p->tokenizer, sizeof p->tokenizer, folder, "tokenizer.json", err);
    if (code == FLO_OK) {
        code = path_in(p->config, sizeof p->config, folder, "tokenizer_config.json", err);
    }
    if (code == FLO_OK) {
        code = path_in(p->vocabulary, sizeof p->vocabulary, folder, "vocab.json", err);
    }
    return code == FLO_OK ? path_in(p->merges, sizeof p->merges, folder, "merges.txt", err) : code;
}

/* vocab.json, merges.txt and the pattern that belongs to them. */
static flo_code read_pair(struct tokenizer *t, const paths *p, const char *folder, flo_err *err)
{
    if (access(p->vocabulary, F_OK) != 0 || access(p->merges, F_OK) != 0 ||
        access(p->config, F_OK) != 0) {
        return flo_fail(
            err, FLO_FAIL,
            "%s: no tokenizer: neither tokenizer.json nor all of vocab.json, merges.txt and "
            "tokenizer_config.json are there",
            folder);
    }
    flo_code code = read_vocabulary_file(t, p->vocabulary, err);
    if (code == FLO_OK) {
        code = read_merges_file(t, p->merges, err);
    }
    return code == FLO_OK ? word_split_new(&t->split, word_split_default_pattern, err) : code;
}

flo_code tokenizer_load(struct tokenizer *t, const char *folder, flo_err *err)
{
    static _Thread_local paths p; /* 16 KiB: too much for a stack that may be a thread's */
    flo_code code = paths_init(&p, folder, err);
    if (code == FLO_OK) {
        code = vocabulary_init(&t->words, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    bool whole = access(p.tokenizer, F_OK) == 0;
    code = whole ? read_tokenizer_file(t, p.tokenizer, err) : read_pair(t, &p, folder, err);
    if (code == FLO_OK && access(p.config, F_OK) == 0) {
        code = read_config_file(t, p.config, err);
    }
    if (code == FLO_OK) {
        code = in_file(vocabulary_check(&t->words, err), whole ? p.tokenizer : folder, err);
    }
    return code;
}

/*
 * chat_template.c - a checkpoint's template: found, parsed once, rendered for each request.
 *
 * The tree and the folder's default values live in the sandbox that parsed them. A render has a
 * sandbox of its own, so renders may run side by side; it costs one pass over the context and what
 * the template does, and gives everything back at its end.
 */
#include "coordinator/text/chat_template.h"

#include "common/json.h"
#include "coordinator/text/jinja/renderer.h"
#include "coordinator/text/jinja/tree.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

extern const char chat_template_builtin[];
extern const unsigned long chat_template_builtin_bytes;

struct chat_template {
    sandbox m; /* of the trees and the defaults */
    tree *plain;
    tree *with_tools; /* NULL: the same; a folder may have one template for requests with tools */
    dict *defaults;
    char *name;
};

/* ---- making one ---- */

static flo_code template_new(chat_template **out, const char *name, flo_err *err)
{
    chat_template *t = calloc(1, sizeof *t);
    char *copy = strdup(name);
    if (t == NULL || copy == NULL) {
        free(t);
        free(copy);
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    t->name = copy;
    sandbox_init(&t->m, copy, err);
    *out = t;
    return FLO_OK;
}

void chat_template_free(chat_template *t)
{
    if (t != NULL) {
        sandbox_free(&t->m);
        free(t->name);
        free(t);
    }
}

static flo_code template_read(chat_template *t, tree **out, const char *source, size_t n_bytes,
                              flo_err *err)
{
    t->m.err = err;
    t->m.line = 1;
    t->m.depth = 0;
    t->m.steps = 0;
    if (setjmp(t->m.way_out) != 0) {
        return FLO_FAIL;
    }
    /* The tree borrows from the source, so the source is kept with it. */
    char *copy = sandbox_take(&t->m, n_bytes + 1);
    memcpy(copy, source, n_bytes);
    *out = template_parse(&t->m, copy, n_bytes);
    return FLO_OK;
}

flo_code chat_template_parse(chat_template **out, const char *source, size_t n_bytes,
                             const char *name, flo_err *err)
{
    chat_template *t = NULL;
    flo_code code = template_new(&t, name, err);
    if (code != FLO_OK) {
        return code;
    }
    code = template_read(t, &t->plain, source, n_bytes, err);
    if (code != FLO_OK) {
        chat_template_free(t);
        return code;
    }
    *out = t;
    return FLO_OK;
}

/* ---- rendering ---- */

static const char *const always_given[] = {"tools", "documents"};

static void context_read(renderer *r, const cJSON *context)
{
    value v = json_to_value(&r->m, context);
    r->context = v.dict;
}

static const tree *tree_choose(renderer *r, const chat_template *t)
{
    const text name = TEXT("tools");
    const value *tools = dict_find_named(&r->m, r->context, &name);
    return t->with_tools != NULL && tools != NULL && tools->kind != V_NONE ? t->with_tools
                                                                           : t->plain;
}

/* Leaves by longjmp on a fault; r and its output are the caller's to free. */
static flo_code render_run(renderer *r, const chat_template *t, const cJSON *context)
{
    if (setjmp(r->m.way_out) != 0) {
        return FLO_FAIL;
    }
    context_read(r, context);
    tree_render(r, tree_choose(r, t));
    return FLO_OK;
}

flo_code chat_template_render(const chat_template *t, const cJSON *context, char **rendered,
                              size_t *n_bytes, flo_err *err)
{
    if (!cJSON_IsObject(context)) {
        return flo_fail(err, FLO_USAGE, "the context of a chat template must be a JSON object");
    }
    renderer *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    sandbox_init(&r->m, t->name, err);
    r->defaults = t->defaults;
    flo_code code = render_run(r, t, context);
    if (code == FLO_OK) {
        *rendered = r->output;
        *n_bytes = r->n_output;
        (*rendered)[*n_bytes] = '\0';
        r->output = NULL;
    }
    renderer_free(r);
    free(r);
    return code;
}

/* ---- a folder's files ---- */

enum { FILE_BYTES_MAX = 64 << 20 };

/* FLO_OK and *path NULL where the folder has no such file; *path is malloc'd. */
static flo_code file_find(const char *folder, const char *name, char **path, flo_err *err)
{
    struct stat s;
    if (asprintf(path, "%s/%s", folder, name) < 0) {
        *path = NULL;
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    if (stat(*path, &s) != 0 && (errno == ENOENT || errno == ENOTDIR)) {
        free(*path);
        *path = NULL;
    }
    return FLO_OK;
}

/* *json is NULL where there is no such file. */
static flo_code folder_json_read(const char *folder, const char *name, cJSON **json, flo_err *err)
{
    char *path;
    *json = NULL;
    flo_code code = file_find(folder, name, &path, err);
    if (code == FLO_OK && path != NULL) {
        code = json_read(json, path, FILE_BYTES_MAX, err);
    }
    free(path);
    return code;
}

static flo_code tree_read(chat_template *t, tree **out, const cJSON *source, flo_err *err)
{
    return template_read(t, out, source->valuestring, strlen(source->valuestring), err);
}

/* A list of {"name": ..., "template": ...}: "default", and "tool_use" for requests with tools. */
static flo_code named_templates_read(chat_template *t, const cJSON *templates, flo_err *err)
{
    const cJSON *one;
    cJSON_ArrayForEach(one, templates)
    {
        const cJSON *name = json_member(one, "name");
        const cJSON *source = json_member(one, "template");
        if (!cJSON_IsString(name) || !cJSON_IsString(source)) {
            return flo_fail(err, FLO_FAIL,
                            "%s: chat_template has an entry without name or template", t->name);
        }
        bool is_default = strcmp(name->valuestring, "default") == 0;
        if (!is_default && strcmp(name->valuestring, "tool_use") != 0) {
            continue;
        }
        flo_code code = tree_read(t, is_default ? &t->plain : &t->with_tools, source, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

static flo_code template_key_read(chat_template *t, const cJSON *json, flo_err *err)
{
    const cJSON *source = json_member(json, "chat_template");
    if (cJSON_IsString(source)) {
        return tree_read(t, &t->plain, source, err);
    }
    if (cJSON_IsArray(source)) {
        return named_templates_read(t, source, err);
    }
    if (source != NULL && !cJSON_IsNull(source)) {
        return flo_fail(err, FLO_FAIL, "%s: chat_template is no text", t->name);
    }
    return FLO_OK;
}

static flo_code jinja_file_read(chat_template *t, const char *folder, flo_err *err)
{
    char *path, *source = NULL;
    size_t n_bytes = 0;
    flo_code code = file_find(folder, "chat_template.jinja", &path, err);
    if (code == FLO_OK && path != NULL) {
        code = file_read_text(&source, &n_bytes, path, SANDBOX_TEMPLATE_MAX, err);
    }
    if (code == FLO_OK && source != NULL) {
        code = template_read(t, &t->plain, source, n_bytes, err);
    }
    free(source);
    free(path);
    return code;
}

static void name_set(chat_template *t, char *name)
{
    free(t->name);
    t->name = name;
    t->m.name = name;
}

/* The sentence's name of the source that is tried now. */
static flo_code source_name(chat_template *t, const char *folder, const char *file, flo_err *err)
{
    char *name = NULL;
    if (asprintf(&name, "%s/%s", folder, file) < 0) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    name_set(t, name);
    return FLO_OK;
}

static flo_code folder_read(chat_template *t, const char *folder, const cJSON *tokenizer,
                            flo_err *err)
{
    cJSON *json = NULL;
    flo_code code = source_name(t, folder, "chat_template.jinja", err);
    if (code == FLO_OK) {
        code = jinja_file_read(t, folder, err);
    }
    if (code != FLO_OK || t->plain != NULL) {
        return code;
    }
    code = source_name(t, folder, "chat_template.json", err);
    if (code == FLO_OK) {
        code = folder_json_read(folder, "chat_template.json", &json, err);
    }
    if (code == FLO_OK && json != NULL) {
        code = json_member(json, "chat_template") == NULL
                   ? flo_fail(err, FLO_FAIL, "%s: has no chat_template", t->name)
                   : template_key_read(t, json, err);
    }
    cJSON_Delete(json);
    if (code != FLO_OK || t->plain != NULL) {
        return code;
    }
    code = source_name(t, folder, "tokenizer_config.json", err);
    if (code == FLO_OK && tokenizer != NULL) {
        code = template_key_read(t, tokenizer, err);
    }
    if (code != FLO_OK || t->plain != NULL) {
        return code;
    }
    code = source_name(t, "built-in", "chat template", err);
    return code != FLO_OK ? code
                          : template_read(t, &t->plain, chat_template_builtin,
                                          chat_template_builtin_bytes, err);
}

/* ---- defaults ---- */

static bool ends_in_token(const char *name)
{
    size_t n = strlen(name);
    return n > 6 && strcmp(name + n - 6, "_token") == 0;
}

/* The members of object that name a special token: a text, or an object with its content. */
static void tokens_read(chat_template *t, const cJSON *object)
{
    const cJSON *token;
    cJSON_ArrayForEach(token, object)
    {
        const cJSON *content = cJSON_IsObject(token) ? json_member(token, "content") : token;
        if (cJSON_IsString(content) && ends_in_token(token->string)) {
            value v = json_to_value(&t->m, content);
            (void)text_length(v.string); /* counted now: shared between threads */
            dict_set_named(&t->m, t->defaults, token->string, v);
        }
    }
}

static flo_code defaults_read(chat_template *t, const cJSON *tokenizer, flo_err *err)
{
    t->m.err = err;
    if (setjmp(t->m.way_out) != 0) {
        return FLO_FAIL;
    }
    t->defaults = dict_new(&t->m);
    for (size_t i = 0; i < sizeof always_given / sizeof always_given[0]; i++) {
        dict_set_named(&t->m, t->defaults, always_given[i], NONE);
    }
    const cJSON *extra = json_member(tokenizer, "extra_special_tokens");
    if (cJSON_IsObject(tokenizer)) {
        tokens_read(t, tokenizer);
    }
    if (cJSON_IsObject(extra)) {
        tokens_read(t, extra);
    }
    return FLO_OK;
}

flo_code chat_template_open(chat_template **out, const char *folder, flo_err *err)
{
    struct stat s;
    if (stat(folder, &s) != 0 || !S_ISDIR(s.st_mode)) {
        return flo_fail(err, FLO_USAGE, "%s: no such folder", folder);
    }
    chat_template *t = NULL;
    cJSON *tokenizer = NULL;
    flo_code code = template_new(&t, folder, err);
    if (code != FLO_OK) {
        return code;
    }
    code = folder_json_read(folder, "tokenizer_config.json", &tokenizer, err);
    if (code == FLO_OK) {
        code = folder_read(t, folder, tokenizer, err);
    }
    if (code == FLO_OK) {
        code = defaults_read(t, tokenizer, err);
    }
    cJSON_Delete(tokenizer);
    if (code != FLO_OK) {
        chat_template_free(t);
        return code;
    }
    *out = t;
    return FLO_OK;
}

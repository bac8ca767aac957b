/*
 * command_template.c - `flotilla template`: a template file and a context file in, the text out.
 */
#include "coordinator/commands.h"

#include "common/arguments.h"
#include "common/json.h"
#include "coordinator/text/chat_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT_BYTES_MAX = 256 << 20, TEMPLATE_BYTES_MAX = 64 << 20 };

static const char help_text[] =
    "flotilla template --file T.jinja --context C.json\n"
    "\n"
    "Renders a chat template with the keys of a JSON object, byte for byte to standard output.\n"
    "A fault in the template is exit status 1, with the template's name and line.\n";

typedef struct request {
    const char *file, *context;
    bool help;
} request;

static flo_code request_read(request *q, int argc, char **argv, flo_err *err)
{
    const argument table[] = {
        {.name = "--file", .kind = ARGUMENT_TEXT, .out = &q->file},
        {.name = "--context", .kind = ARGUMENT_TEXT, .out = &q->context},
        {.name = "--help", .kind = ARGUMENT_FLAG, .out = &q->help},
    };
    const size_t n = sizeof table / sizeof table[0];
    for (int i = 1; i < argc;) {
        bool taken = false;
        flo_code code = arguments_take(table, n, argc, argv, &i, &taken, err);
        if (code != FLO_OK) {
            return code;
        }
        if (!taken) {
            return arguments_unknown(argv[i], (const argument *const[]){table}, &n, 1, err);
        }
    }
    if (!q->help && (q->file == NULL || q->context == NULL)) {
        return flo_fail(err, FLO_USAGE, "template needs --file T.jinja and --context C.json");
    }
    return FLO_OK;
}

static flo_code context_read(cJSON **out, const char *path, flo_err *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    flo_code code = file_read_text(&text, &n_bytes, path, CONTEXT_BYTES_MAX, err);
    if (code != FLO_OK) {
        return code;
    }
    cJSON *context = NULL;
    code = json_parse_request(&context, text, n_bytes, err);
    if (code == FLO_OK) {
        code = chat_template_numbers_keep(context, text, n_bytes, err);
    }
    free(text);
    if (code != FLO_OK) {
        cJSON_Delete(context);
        flo_context(err, "%s", path);
        return code;
    }
    *out = context;
    return FLO_OK;
}

static flo_code template_read(chat_template **out, const char *path, flo_err *err)
{
    char *source = NULL;
    size_t n_bytes = 0;
    flo_code code = file_read_text(&source, &n_bytes, path, TEMPLATE_BYTES_MAX, err);
    if (code == FLO_OK) {
        code = chat_template_parse(out, source, n_bytes, path, err);
    }
    free(source);
    return code;
}

static flo_code text_print(const char *text, size_t n_bytes, flo_err *err)
{
    if (fwrite(text, 1, n_bytes, stdout) != n_bytes || fflush(stdout) != 0) {
        return flo_fail(err, FLO_FAIL, "standard output cannot be written");
    }
    return FLO_OK;
}

static flo_code template_print(const request *q, flo_err *err)
{
    cJSON *context = NULL;
    chat_template *t = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    flo_code code = context_read(&context, q->context, err);
    if (code == FLO_OK) {
        code = template_read(&t, q->file, err);
    }
    if (code == FLO_OK) {
        code = chat_template_render(t, context, &text, &n_bytes, err);
    }
    if (code == FLO_OK) {
        code = text_print(text, n_bytes, err);
    }
    free(text);
    chat_template_free(t);
    cJSON_Delete(context);
    return code;
}

flo_code command_template(int argc, char **argv, flo_err *err)
{
    request q = {0};
    flo_code code = request_read(&q, argc, argv, err);
    if (code != FLO_OK) {
        return code;
    }
    return q.help ? text_print(help_text, strlen(help_text), err) : template_print(&q, err);
}

/*
 * template_main.c - the template command as a program of its own, for comparisons from outside
 * (tests/differential/jinja.py). With --batch it answers lines {"template": ..., "context": ...}
 * with lines {"output": ...} or {"error": ...}.
 */
#include "common/json.h"
#include "coordinator/commands.h"
#include "coordinator/text/chat_template.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void answer(const char *key, const char *text, size_t n)
{
    buffer out = {0};
    json_put_string(&out, text, n);
    printf("{\"%s\": %.*s}\n", key, (int)out.n, out.at);
    fflush(stdout);
    buffer_free(&out);
}

static flo_code line_render(const char *line, size_t n, char **text, size_t *n_text, flo_err *err)
{
    cJSON *root = NULL;
    chat_template *t = NULL;
    flo_code code = json_parse_request(&root, line, n, err);
    if (code == FLO_OK) {
        code = chat_template_numbers_keep(root, line, n, err);
    }
    if (code == FLO_OK) {
        size_t n_source;
        char *source = json_string_copy(json_member(root, "template"), &n_source);
        code = chat_template_parse(&t, source, n_source, "t", err);
        free(source);
    }
    if (code == FLO_OK) {
        code = chat_template_render(t, json_member(root, "context"), text, n_text, err);
    }
    chat_template_free(t);
    cJSON_Delete(root);
    return code;
}

static int batch(void)
{
    char *line = NULL;
    size_t capacity = 0;
    for (ssize_t n; (n = getline(&line, &capacity, stdin)) > 0;) {
        flo_err err = {0};
        char *text = NULL;
        size_t n_text = 0;
        if (line_render(line, (size_t)n, &text, &n_text, &err) == FLO_OK) {
            answer("output", text, n_text);
        } else {
            answer("error", err.text, strlen(err.text));
        }
        free(text);
    }
    free(line);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--batch") == 0) {
        return batch();
    }
    flo_err err = {0};
    flo_code code = command_template(argc, argv, &err);
    if (code != FLO_OK) {
        fprintf(stderr, "%s\n", err.text);
    }
    return (int)code;
}

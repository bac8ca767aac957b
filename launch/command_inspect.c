/*
 * command_inspect.c - `flotilla inspect`: options in, table or document out.
 */
#include "launch/commands.h"

#include "common/inspect.h"
#include "common/log.h"
#include "common/model_folder.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct inspect_options {
    const char *model; /* NULL: the default */
    bool json, help;
} inspect_options;

static const char help_text[] = "flotilla inspect [--model DIR|NAME] [--json]\n"
                                "\n"
                                "Shows the parts of a checkpoint with their tensors, parameters "
                                "and bytes, and names every tensor\n"
                                "that is missing, has another shape than config.json asks for, or "
                                "is not asked for. Reads headers\n"
                                "only. Exit status 3 where something is missing or wrong.\n";

/* The value of argv[*i], an option NAME VALUE or NAME=VALUE; NULL: another option. */
static const char *take_value(int argc, char **argv, int *i, const char *name, bool *lacks_value)
{
    size_t n = strlen(name);
    if (strncmp(argv[*i], name, n) != 0 || (argv[*i][n] != '\0' && argv[*i][n] != '=')) {
        return NULL;
    }
    if (argv[*i][n] == '=') {
        return argv[*i] + n + 1;
    }
    *lacks_value = *i + 1 >= argc;
    return *lacks_value ? NULL : argv[++*i];
}

static bool take_flag(inspect_options *o, const char *word)
{
    if (strcmp(word, "--json") == 0) {
        o->json = true;
    } else if (strcmp(word, "--help") == 0) {
        o->help = true;
    } else if (strcmp(word, "--quiet") == 0) {
        log_set_level(LOG_WARN);
    } else if (strcmp(word, "--verbose") == 0) {
        log_set_level(LOG_DEBUG);
    } else {
        return false;
    }
    return true;
}

static flo_code read_options(inspect_options *o, int argc, char **argv, flo_err *err)
{
    for (int i = 1; i < argc; i++) {
        bool lacks_value = false;
        if (take_flag(o, argv[i])) {
            continue;
        }
        const char *model = take_value(argc, argv, &i, "--model", &lacks_value);
        if (lacks_value) {
            return flo_fail(err, FLO_USAGE, "--model needs a folder or a name");
        }
        if (model == NULL) {
            return flo_fail(err, FLO_USAGE,
                            "inspect: unknown argument '%s' (see flotilla inspect --help)",
                            argv[i]);
        }
        o->model = model;
    }
    return FLO_OK;
}

static flo_code print_json(const inspect_report *r, flo_err *err)
{
    cJSON *json = inspect_json(r);
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    if (text == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory for the document");
    }
    puts(text);
    cJSON_free(text);
    return FLO_OK;
}

static flo_code print_report(const inspect_report *r, bool as_json, flo_err *err)
{
    flo_code code = FLO_OK;
    if (as_json) {
        code = print_json(r, err);
    } else {
        inspect_print(r, stdout);
    }
    if (code == FLO_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        code = flo_fail(err, FLO_FAIL, "standard output cannot be written");
    }
    return code;
}

flo_code command_inspect(int argc, char **argv, flo_err *err)
{
    inspect_options options = {0};
    flo_code code = read_options(&options, argc, argv, err);
    if (code != FLO_OK) {
        return code;
    }
    if (options.help) {
        fputs(help_text, stdout);
        return FLO_OK;
    }
    char folder[PATH_MAX];
    code = model_folder_find(folder, options.model, err);
    if (code != FLO_OK) {
        return code;
    }
    inspect_report *report = calloc(1, sizeof *report);
    if (report == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory");
    }
    code = inspect_folder(report, folder, err);
    if (code == FLO_OK) {
        code = print_report(report, options.json, err);
    }
    if (code == FLO_OK) {
        code = inspect_verdict(report, err);
    }
    inspect_free(report);
    free(report);
    return code;
}

/*
 * command_inspect.c - `flotilla inspect`: options in, table or document out.
 */
#include "launch/commands.h"

#include "common/inspect.h"
#include "common/model_folder.h"
#include "common/options.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] = "flotilla inspect [--model DIR|NAME] [--json]\n"
                                "\n"
                                "Shows the parts of a checkpoint with their tensors, parameters "
                                "and bytes, and names every tensor\n"
                                "that is missing, has another shape than config.json asks for, or "
                                "is not asked for. Reads headers\n"
                                "only. Exit status 3 where something is missing or wrong.\n";

static flo_code read_options(run_options *o, bool *help, int argc, char **argv, flo_err *err)
{
    const argument table[] = {{.name = "--help", .kind = ARGUMENT_FLAG, .out = help}};
    flo_code code = options_read(o, table, 1, help, argc, argv, err);
    if (code != FLO_OK || *help) {
        return code;
    }
    options_set_log(o);
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
    run_options options;
    bool help = false;
    flo_code code = read_options(&options, &help, argc, argv, err);
    if (code != FLO_OK) {
        return code;
    }
    if (help) {
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

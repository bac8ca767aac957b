/*
 * command_text.c - tokenize, detokenize and template: what needs the text parts but no ranks.
 *
 * They live in the coordinator's program, which reads all of their options; this one becomes it.
 */
#include "launch/commands.h"

#include "gateway/session.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

flo_code command_text(int argc, char **argv, flo_err *err)
{
    char folder[PATH_MAX], path[PATH_MAX + 32], program[] = "flotilla-coordinator";
    flo_code code = session_programs(folder, sizeof folder, err);
    if (code != FLO_OK) {
        return code;
    }
    snprintf(path, sizeof path, "%s/flotilla-coordinator", folder);
    char **words = calloc((size_t)argc + 2, sizeof *words);
    if (words == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    words[0] = program;
    memcpy(words + 1, argv, (size_t)argc * sizeof *words);
    execv(path, words);
    free(words);
    return flo_fail(err, FLO_FAIL, "%s: cannot run it for %s: %s; build or install all programs",
                    path, argv[0], strerror(errno));
}

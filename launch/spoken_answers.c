/*
 * spoken_answers.c - a stem and a number.
 */
#include "launch/spoken_answers.h"

#include "common/check.h"
#include "common/file.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char ending[] = ".wav";

static char *name_of(const char *stem, int n)
{
    char *name = NULL;
    CHECK(asprintf(&name, "%s-%d%s", stem, n, ending) >= 0);
    return name;
}

/* talk.wav means talk, as its files will be talk-1.wav and so on. */
static size_t stem_length(const char *where)
{
    size_t n = strlen(where), n_ending = sizeof ending - 1;
    bool named =
        n > n_ending && strcmp(where + n - n_ending, ending) == 0 && where[n - n_ending - 1] != '/';
    return named ? n - n_ending : n;
}

flo_code spoken_answers_find(char **stem, const char *where, flo_err *err)
{
    struct stat s;
    size_t n = strlen(where);
    bool slash = n > 0 && where[n - 1] == '/';
    bool folder = slash || (stat(where, &s) == 0 && S_ISDIR(s.st_mode));
    if (strcmp(where, "-") == 0) {
        return flo_fail(err, FLO_USAGE,
                        "--speech -: a chat writes each answer to a file; give a folder, or the "
                        "beginning of the names");
    }
    int made = n == 0   ? asprintf(stem, "answer")
               : folder ? asprintf(stem, "%s%sanswer", where, slash ? "" : "/")
                        : asprintf(stem, "%.*s", (int)stem_length(where), where);
    CHECK(made >= 0);
    char *first = spoken_answers_next(*stem);
    flo_code code = file_check_target(first, err);
    free(first);
    if (code != FLO_OK) {
        free(*stem);
        *stem = NULL;
    }
    return code;
}

char *spoken_answers_next(const char *stem)
{
    for (int n = 1;; n++) {
        struct stat unused;
        char *name = name_of(stem, n);
        if (lstat(name, &unused) != 0) {
            return name;
        }
        free(name);
    }
}

/*
 * typed_path.c - as it stands first, then as a shell would have it: a file whose name has a quote
 * in it is found as well as one that a file manager has quoted.
 */
#include "launch/typed_path.h"

#include "common/check.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char *with_home(const char *path)
{
    const char *home = getenv("HOME");
    bool ours = path[0] == '~' && (path[1] == '/' || path[1] == '\0') && home != NULL;
    char *whole = NULL;
    CHECK(asprintf(&whole, "%s%s", ours ? home : "", path + ours) >= 0);
    return whole;
}

/* Takes quotes and backslashes away, in place; false where a quote is not closed. */
static bool unquote(char *text)
{
    char *out = text, quote = '\0';
    for (const char *p = text; *p != '\0'; p++) {
        if (quote == '\0' && (*p == '\'' || *p == '"')) {
            quote = *p;
        } else if (quote != '\0' && *p == quote) {
            quote = '\0';
        } else if (*p == '\\' && p[1] != '\0' &&
                   (quote == '\0' || (quote == '"' && strchr("\"\\$`", p[1]) != NULL))) {
            *out++ = *++p;
        } else {
            *out++ = *p;
        }
    }
    *out = '\0';
    return quote == '\0';
}

char *typed_path(const char *text)
{
    text += strspn(text, " \t");
    char *plain = strdup(text);
    CHECK(plain != NULL);
    for (size_t n = strlen(plain); n > 0 && strchr(" \t\r", plain[n - 1]) != NULL; n--) {
        plain[n - 1] = '\0';
    }
    char *path = with_home(plain);
    if (strpbrk(plain, "'\"\\") != NULL && access(path, F_OK) != 0 && unquote(plain)) {
        free(path);
        path = text[0] == '~' ? with_home(plain) : strdup(plain);
        CHECK(path != NULL);
    }
    free(plain);
    return path;
}

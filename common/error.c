/*
 * error.c - sentences of a bounded length, safe to print on a terminal.
 *
 * Names from hostile files end up in these sentences, so control characters are replaced here, once,
 * and every place that prints an error may do so as it is.
 */
#include "common/error.h"

#include <stdio.h>
#include <string.h>

static void replace_control_characters(char *text)
{
    for (char *p = text; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f) {
            *p = ' ';
        }
    }
}

flo_code flo_fail(flo_err *err, flo_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    replace_control_characters(err->text);
    return code;
}

void flo_context(flo_err *err, const char *format, ...)
{
    char cause[FLO_ERR_BYTES];
    memcpy(cause, err->text, sizeof cause);

    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    if (n >= 0 && (size_t)n < sizeof err->text) {
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", cause);
    }
    replace_control_characters(err->text);
}

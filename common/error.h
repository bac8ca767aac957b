/*
 * error.h - how trouble from outside travels: a code and one sentence.
 *
 * Files, peers, requests and memory can fail; functions that meet them return a flo_code and, unless
 * it is FLO_OK, leave one sentence in *err (what, where, what to do). The sentence is written where
 * the cause is known; callers add in front of it what only they know, with flo_context(). The codes
 * are the command's exit statuses, so nothing has to be translated on the way out.
 */
#ifndef FLOTILLA_COMMON_ERROR_H
#define FLOTILLA_COMMON_ERROR_H

#include <stdarg.h>

typedef enum flo_code {
    FLO_OK = 0,
    FLO_FAIL = 1,          /* the work failed: damaged file, lost worker, disk full */
    FLO_USAGE = 2,         /* wrong use: option, value, input file, request */
    FLO_DIFFERS = 3,       /* a check found a difference, a defect, no fit, missing tensors */
    FLO_INTERRUPTED = 130, /* Ctrl-C */
} flo_code;

enum { FLO_ERR_BYTES = 1024 };

typedef struct flo_err {
    char text[FLO_ERR_BYTES]; /* one sentence, no newline, no full stop needed; "" when all is well */
} flo_err;

/* Writes the sentence (cut at FLO_ERR_BYTES - 1, control characters replaced) and returns code. */
flo_code flo_fail(flo_err *err, flo_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "CONTEXT: " in front of the sentence. */
void flo_context(flo_err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

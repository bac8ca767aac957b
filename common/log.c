/*
 * log.c - log lines and failed CHECKs, written with one write() each so that ranks do not mix.
 */
#include "common/log.h"

#include "common/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static log_level level_max = LOG_INFO; /* written at start only */
static int rank_of_process = -1;       /* written at start only */

void log_set_level(log_level level)
{
    level_max = level;
}

log_level log_get_level(void)
{
    return level_max;
}

void log_set_rank(int rank)
{
    rank_of_process = rank;
}

int log_get_rank(void)
{
    return rank_of_process;
}

static const char *lead_of(log_level level)
{
    switch (level) {
    case LOG_ERROR:
        return "error: ";
    case LOG_WARN:
        return "warn: ";
    case LOG_DEBUG:
        return "debug: ";
    case LOG_TRACE:
        return "trace: ";
    case LOG_INFO:
    default:
        return "";
    }
}

void log_line(log_level level, const char *format, ...)
{
    if (level > level_max) {
        return;
    }
    char line[2048];
    size_t used = 0;
    int n = rank_of_process >= 0
                ? snprintf(line, sizeof line, "flotilla: rank %d: %s", rank_of_process, lead_of(level))
                : snprintf(line, sizeof line, "flotilla: %s", lead_of(level));
    used += n > 0 ? (size_t)n : 0;

    va_list args;
    va_start(args, format);
    n = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    used += n > 0 ? (size_t)n : 0;
    if (used > sizeof line - 2) {
        used = sizeof line - 2;
    }
    line[used++] = '\n';
    if (write(STDERR_FILENO, line, used) < 0) {
        return; /* nowhere left to complain */
    }
}

void flo_check_failed(const char *file, int line, const char *text)
{
    log_error("internal error at %s:%d: %s does not hold; please report this", file, line, text);
    abort();
}

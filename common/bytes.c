/*
 * bytes.c - parsing in integers, so that "24G" is exact and an overflow is seen; printing in
 * doubles.
 */
#include "common/bytes.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char units[] = "KMGT";

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static flo_code not_a_size(const char *text, flo_err *err)
{
    return flo_fail(err, FLO_USAGE,
                    "\"%.40s\" is not a size: a number with K, M, G or T behind it, such as 24G",
                    text);
}

static flo_code too_large(const char *text, flo_err *err)
{
    return flo_fail(err, FLO_USAGE, "\"%.40s\" is too large for a size", text);
}

flo_code bytes_parse(uint64_t *out, const char *text, flo_err *err)
{
    const char *p = text;
    if (!is_digit(*p)) {
        return not_a_size(text, err);
    }
    uint64_t whole = 0;
    for (; is_digit(*p); p++) {
        if (__builtin_mul_overflow(whole, (uint64_t)10, &whole) ||
            __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole)) {
            return too_large(text, err);
        }
    }

    double fraction = 0.0;
    if (*p == '.') {
        double place = 0.1;
        if (!is_digit(*++p)) {
            return not_a_size(text, err);
        }
        for (; is_digit(*p); p++, place /= 10.0) {
            fraction += place * (*p - '0');
        }
    }

    uint64_t unit = 1;
    if (*p != '\0') {
        const char *u = strchr(units, toupper((unsigned char)*p));
        if (u == NULL || p[1] != '\0') {
            return not_a_size(text, err);
        }
        unit <<= 10 * (u - units + 1);
    }
    uint64_t n_bytes = 0;
    if (__builtin_mul_overflow(whole, unit, &n_bytes) || n_bytes > (uint64_t)INT64_MAX - unit) {
        return too_large(text, err);
    }
    *out = n_bytes + (uint64_t)(fraction * (double)unit);
    return FLO_OK;
}

const char *bytes_print(char text[BYTES_TEXT_MAX], uint64_t n_bytes)
{
    double value = (double)n_bytes;
    int unit = -1;
    while (value >= 999.5 && unit < 3) {
        value /= 1024.0;
        unit++;
    }
    if (unit < 0) {
        snprintf(text, BYTES_TEXT_MAX, "%u", (unsigned)n_bytes);
    } else {
        int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
        snprintf(text, BYTES_TEXT_MAX, "%.*f%c", decimals, value, units[unit]);
    }
    return text;
}

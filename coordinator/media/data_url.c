/*
 * data_url.c - bytes out of data: URLs, base64 and percent-encoding.
 *
 * base64 goes four digits at a time, without a branch for each, until something else than a digit
 * turns up (white space, padding, rubbish); that is then met digit by digit. A line break after
 * every 76 digits, as mail has it, so costs next to nothing.
 */
#include "coordinator/media/data_url.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { NO_DIGIT = 0xff };

/* Value of a base64 digit, NO_DIGIT for all other bytes. */
static uint8_t digit_of(unsigned char c)
{
    static const uint8_t plus_one[256] = {
        ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,
        ['H'] = 8,  ['I'] = 9,  ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14,
        ['O'] = 15, ['P'] = 16, ['Q'] = 17, ['R'] = 18, ['S'] = 19, ['T'] = 20, ['U'] = 21,
        ['V'] = 22, ['W'] = 23, ['X'] = 24, ['Y'] = 25, ['Z'] = 26, ['a'] = 27, ['b'] = 28,
        ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32, ['g'] = 33, ['h'] = 34, ['i'] = 35,
        ['j'] = 36, ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40, ['o'] = 41, ['p'] = 42,
        ['q'] = 43, ['r'] = 44, ['s'] = 45, ['t'] = 46, ['u'] = 47, ['v'] = 48, ['w'] = 49,
        ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54, ['2'] = 55, ['3'] = 56,
        ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63,
        ['/'] = 64,
    };
    return (uint8_t)(plus_one[c] - 1); /* 0 becomes NO_DIGIT */
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

/* Whole groups of four digits from in[*i] on; stops at the first that is not one. */
static size_t decode_groups(uint8_t *out, const unsigned char *in, size_t *i, size_t n_bytes)
{
    size_t n = 0, at = *i;
    while (n_bytes - at >= 4) {
        uint8_t a = digit_of(in[at]), b = digit_of(in[at + 1]), c = digit_of(in[at + 2]),
                d = digit_of(in[at + 3]);
        if (((a | b | c | d) & 0x80) != 0) {
            break;
        }
        out[n] = (uint8_t)(a << 2 | b >> 4);
        out[n + 1] = (uint8_t)(b << 4 | c >> 2);
        out[n + 2] = (uint8_t)(c << 6 | d);
        n += 3;
        at += 4;
    }
    *i = at;
    return n;
}

/* The last group: 2 or 3 digits are 1 or 2 bytes; padding fills it to four digits or is left out.
 */
static flo_code decode_rest(uint8_t *out, size_t *n, uint32_t held, int n_held, int n_padding,
                            flo_err *err)
{
    if (n_held == 1) {
        return flo_fail(err, FLO_USAGE, "not base64: one digit is left over at the end");
    }
    if (n_padding > (n_held > 0 ? 4 - n_held : 0)) {
        return flo_fail(err, FLO_USAGE, "not base64: too many '=' at the end");
    }
    uint32_t group = held << (24 - 6 * n_held);
    for (int i = 1; i < n_held; i++) {
        out[(*n)++] = (uint8_t)(group >> (24 - 8 * i));
    }
    return FLO_OK;
}

flo_code base64_decode(uint8_t *out, size_t *n_out, const char *text, size_t n_bytes, flo_err *err)
{
    const unsigned char *in = (const unsigned char *)text;
    size_t n = 0;
    uint32_t held = 0; /* digits of a group that is not whole yet */
    int n_held = 0, n_padding = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        if (n_held == 0 && n_padding == 0) {
            n += decode_groups(out + n, in, &i, n_bytes);
            if (i == n_bytes) {
                break;
            }
        }
        uint8_t digit = digit_of(in[i]);
        if (is_space(text[i])) {
            continue;
        }
        if (text[i] == '=' && n_padding < 4) {
            n_padding++;
            continue;
        }
        if (digit == NO_DIGIT || n_padding > 0) {
            return flo_fail(err, FLO_USAGE, "not base64: byte 0x%02x at offset %zu%s", in[i], i,
                            n_padding > 0 ? ", after the padding" : "");
        }
        held = held << 6 | digit;
        if (++n_held == 4) {
            out[n++] = (uint8_t)(held >> 16);
            out[n++] = (uint8_t)(held >> 8);
            out[n++] = (uint8_t)held;
            n_held = 0;
            held = 0;
        }
    }
    flo_code code = decode_rest(out, &n, held, n_held, n_padding, err);
    if (code == FLO_OK) {
        *n_out = n;
    }
    return code;
}

static int hex_of(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

flo_code percent_decode(uint8_t *out, size_t *n_out, const char *text, size_t n_bytes, flo_err *err)
{
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        if (text[i] != '%') {
            out[n++] = (uint8_t)text[i];
            continue;
        }
        int high = n_bytes - i > 2 ? hex_of(text[i + 1]) : -1;
        int low = n_bytes - i > 2 ? hex_of(text[i + 2]) : -1;
        if (high < 0 || low < 0) {
            return flo_fail(err, FLO_USAGE,
                            "the '%%' at offset %zu is not followed by two "
                            "hexadecimal digits",
                            i);
        }
        out[n++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    *n_out = n;
    return FLO_OK;
}

static const char DATA[] = "data:";
enum { DATA_BYTES = sizeof DATA - 1 };

bool data_url_is(const char *text, size_t n_bytes)
{
    return n_bytes >= DATA_BYTES && strncasecmp(text, DATA, DATA_BYTES) == 0;
}

/* Whether what stands before the comma ends in ";base64" (blanks are allowed, as browsers do). */
static bool says_base64(const char *head, size_t n)
{
    static const char word[] = "base64";
    size_t n_word = sizeof word - 1;
    while (n > 0 && head[n - 1] == ' ') {
        n--;
    }
    if (n < n_word || strncasecmp(head + n - n_word, word, n_word) != 0) {
        return false;
    }
    n -= n_word;
    while (n > 0 && head[n - 1] == ' ') {
        n--;
    }
    return n > 0 && head[n - 1] == ';';
}

/* Percent-encoding is undone first: base64's '+', '/' and '=' may come as %2B, %2F and %3D. */
static flo_code body_decode(uint8_t *out, size_t *n_out, const char *body, size_t n_bytes,
                            bool base64, flo_err *err)
{
    if (!base64) {
        return percent_decode(out, n_out, body, n_bytes, err);
    }
    if (memchr(body, '%', n_bytes) == NULL) {
        return base64_decode(out, n_out, body, n_bytes, err);
    }
    size_t n = 0;
    flo_code code = percent_decode(out, &n, body, n_bytes, err);
    return code != FLO_OK ? code : base64_decode(out, n_out, (const char *)out, n, err);
}

flo_code data_url_decode(uint8_t **out, size_t *n_out, const char *text, size_t n_bytes,
                         flo_err *err)
{
    const char *head = text + DATA_BYTES, *end = text + n_bytes;
    const char *comma = data_url_is(text, n_bytes) ? memchr(head, ',', n_bytes - DATA_BYTES) : NULL;
    if (comma == NULL) {
        return flo_fail(err, FLO_USAGE, "no comma; it is written data:image/png;base64,BYTES");
    }
    const char *body = comma + 1;
    const char *fragment = memchr(body, '#', (size_t)(end - body));
    size_t n_body = (size_t)((fragment != NULL ? fragment : end) - body);
    uint8_t *bytes = malloc(n_body + 1); /* enough for both: neither way makes more of it */
    if (bytes == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    bool base64 = says_base64(head, (size_t)(comma - head));
    flo_code code = body_decode(bytes, n_out, body, n_body, base64, err);
    if (code != FLO_OK) {
        free(bytes);
        return code;
    }
    *out = bytes;
    return FLO_OK;
}

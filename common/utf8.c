/*
 * utf8.c - where UTF-8 is well formed and where it is not.
 */
#include "common/utf8.h"

#include <string.h>

/* The second byte decides over overlong forms, surrogates and the end of Unicode; for it the table
 * 3-7 of the Unicode standard gives a range of its own. */
typedef struct lead {
    uint32_t n_bytes; /* of the whole character; 0: no lead byte */
    unsigned char low, high;
    uint32_t bits; /* of the code point in the lead byte */
} lead;

static lead lead_of(unsigned char c)
{
    if (c < 0x80) {
        return (lead){1, 0, 0, c};
    }
    if (c < 0xc2 || c > 0xf4) {
        return (lead){0, 0, 0, 0};
    }
    if (c < 0xe0) {
        return (lead){2, 0x80, 0xbf, c & 0x1fu};
    }
    if (c < 0xf0) {
        return (lead){3, c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf, c & 0x0fu};
    }
    return (lead){4, c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf, c & 0x07u};
}

utf8_part utf8_next(const char *text, size_t n_bytes)
{
    const unsigned char *s = (const unsigned char *)text;
    lead l = lead_of(s[0]);
    if (l.n_bytes == 0) {
        return (utf8_part){UTF8_BAD, 1, 0};
    }
    uint32_t code_point = l.bits;
    for (uint32_t i = 1; i < l.n_bytes; i++) {
        if (i >= n_bytes) {
            return (utf8_part){UTF8_CUT, i, 0};
        }
        if (s[i] < l.low || s[i] > l.high) {
            return (utf8_part){UTF8_BAD, i, 0};
        }
        code_point = code_point << 6 | (s[i] & 0x3fu);
        l.low = 0x80;
        l.high = 0xbf;
    }
    return (utf8_part){UTF8_GOOD, l.n_bytes, code_point};
}

size_t utf8_good_bytes(const char *text, size_t n_bytes)
{
    size_t i = 0;
    while (i < n_bytes) {
        uint64_t eight;
        if (n_bytes - i >= sizeof eight) {
            memcpy(&eight, text + i, sizeof eight);
            if ((eight & 0x8080808080808080u) == 0) {
                i += sizeof eight;
                continue;
            }
        }
        utf8_part part = utf8_next(text + i, n_bytes - i);
        if (part.kind != UTF8_GOOD) {
            return i;
        }
        i += part.n_bytes;
    }
    return n_bytes;
}

size_t utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/*
 * utf8.h - where UTF-8 is well formed and where it is not.
 *
 * Ill-formed text is cut into maximal parts as Unicode 3.9 recommends (one U+FFFD each): a part is
 * the longest beginning of a well-formed sequence, or one byte.
 */
#ifndef FLOTILLA_COMMON_UTF8_H
#define FLOTILLA_COMMON_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum utf8_kind {
    UTF8_GOOD, /* a whole character */
    UTF8_BAD,  /* a maximal ill-formed part */
    UTF8_CUT,  /* the beginning of a character, ended by the end of the text */
} utf8_kind;

typedef struct utf8_part {
    utf8_kind kind;
    uint32_t n_bytes;    /* 1 to 4 */
    uint32_t code_point; /* where kind is UTF8_GOOD */
} utf8_part;

/* What stands at the beginning of n_bytes >= 1 bytes. */
utf8_part utf8_next(const char *text, size_t n_bytes);

/* Length of the longest well-formed beginning; n_bytes where all of it is well formed. */
size_t utf8_good_bytes(const char *text, size_t n_bytes);

/* Writes a code point (not a surrogate, at most 0x10ffff); returns 1 to 4. */
size_t utf8_put(char *out, uint32_t code_point);

#endif

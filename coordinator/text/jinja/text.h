/*
 * text.h - strings as Python has them: sequences of code points, kept as UTF-8.
 *
 * A text never changes. Its bytes may lie in a room that has free bytes behind them; then a longer
 * text that begins with it can share the room, which makes the templates' way of building a text
 * piece by piece (body = body ~ piece) linear instead of quadratic.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_JINJA_TEXT_H
#define FLOTILLA_COORDINATOR_TEXT_JINJA_TEXT_H

#include "coordinator/text/jinja/sandbox.h"

#include <stdbool.h>

struct text_room;

typedef struct text {
    const char *bytes; /* well-formed UTF-8, NUL bytes allowed, not terminated */
    size_t n;          /* bytes */
    int64_t n_chars;   /* code points; -1 until asked for */
    bool safe;         /* marked safe (Markup) */
    struct text_room *room;
} text;

#define TEXT(literal)                                                                              \
    ((text){(literal), sizeof(literal) - 1, (int64_t)sizeof(literal) - 1, false, NULL})

/* Borrows bytes that outlive the sandbox. */
text *text_borrow(sandbox *m, const char *bytes, size_t n);
text *text_copy(sandbox *m, const char *bytes, size_t n);
text *text_of(sandbox *m, const char *terminated); /* copies */
text *text_join(sandbox *m, const text *a, const text *b);
text *text_repeat(sandbox *m, const text *t, int64_t times);

/* A text under construction. Zero-initialised it is empty; its memory is the sandbox's. */
typedef struct builder {
    struct text_room *room;
} builder;
void build_bytes(sandbox *m, builder *b, const char *bytes, size_t n);
void build_string(sandbox *m, builder *b, const char *terminated);
void build_text(sandbox *m, builder *b, const text *t);
void build_char(sandbox *m, builder *b, int32_t c);
void build_repeated(sandbox *m, builder *b, int32_t c, int64_t times);
size_t build_size(const builder *b);
text *build_end(sandbox *m, builder *b);

bool text_equal(const text *a, const text *b);
bool text_is(const text *t, const char *terminated);
int text_compare(const text *a, const text *b); /* by code point */

/* True where bytes[0, n) is well-formed UTF-8. */
bool utf8_is_valid(const char *bytes, size_t n);
/* Code point at *at (< n), which moves behind it. */
int32_t char_next(const char *bytes, size_t n, size_t *at);
/* Code point before *at (> 0), which moves to its start. */
int32_t char_previous(const char *bytes, size_t *at);
size_t char_put(char out[4], int32_t c);

int64_t text_length(text *t); /* code points */
/* Byte offset of code point i in [0, length]. */
size_t text_offset(text *t, int64_t i);
/* Code points [first, last) of t. */
text *text_part(sandbox *m, text *t, int64_t first, int64_t last);
text *text_bytes_part(sandbox *m, const text *t, size_t first, size_t last); /* byte offsets */
text *text_reversed(sandbox *m, const text *t);

/* First byte offset in [from, to - needle] where needle lies, or -1; text_find_last the last one.
 */
int64_t text_find(const text *t, const text *needle, size_t from, size_t to);
int64_t text_find_last(const text *t, const text *needle, size_t from, size_t to);
int64_t text_chars_before(text *t, size_t offset); /* code points in bytes [0, offset) */
text *text_replace(sandbox *m, const text *t, const text *old, const text *new_, int64_t count);

/* What Python's str methods call white space, a line end, a letter ... */
bool char_is_space(int32_t c);
bool char_is_line_end(int32_t c);
bool char_is_alpha(int32_t c);
bool char_is_decimal(int32_t c);
bool char_is_word(int32_t c); /* \w of a regular expression */
bool char_is_upper(int32_t c);
bool char_is_lower(int32_t c);
bool char_is_title(int32_t c);
bool char_is_printable(int32_t c);

typedef enum strip_ends { STRIP_LEFT = 1, STRIP_RIGHT = 2, STRIP_BOTH = 3 } strip_ends;
text *text_strip(sandbox *m, text *t, const text *chars /* NULL: white space */, strip_ends ends);
text *text_upper(sandbox *m, const text *t);
text *text_lower(sandbox *m, const text *t);
text *text_capitalize(sandbox *m, const text *t);
text *text_title(sandbox *m, const text *t); /* str.title */
text *text_swapcase(sandbox *m, const text *t);
text *text_casefold(sandbox *m, const text *t);
text *text_escape_html(sandbox *m, const text *t);
text *text_pad(sandbox *m, text *t, int64_t width, int32_t fill, char align /* '<' '>' '^' 'c' */);

#endif

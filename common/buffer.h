/*
 * buffer.h - a growing run of bytes, for outputs whose length is not known beforehand.
 *
 * Growth doubles, so appending costs O(1) a byte. Running out of memory is remembered in `failed`
 * and makes every later append do nothing: callers append freely and ask once, at the end.
 */
#ifndef FLOTILLA_COMMON_BUFFER_H
#define FLOTILLA_COMMON_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct buffer {
    char *at; /* malloc'd; NULL while empty */
    size_t n; /* in use */
    size_t capacity;
    bool failed; /* memory ran out; the content is incomplete */
} buffer;        /* all zero: empty */

/* Room for `more` bytes past b->n. False (and b->failed) where there is no memory for them. */
bool buffer_reserve(buffer *b, size_t more);

void buffer_append(buffer *b, const void *from, size_t n);
void buffer_append_text(buffer *b, const char *text); /* without its NUL */
void buffer_append_byte(buffer *b, char c);

/* Hands the content to the caller, NUL-terminated (the NUL is not counted); b is empty afterwards.
 * NULL where memory ran out. */
char *buffer_take(buffer *b, size_t *n);
void buffer_free(buffer *b);

#endif

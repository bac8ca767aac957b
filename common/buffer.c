/*
 * buffer.c - a growing run of bytes.
 */
#include "common/buffer.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 256 };

bool buffer_reserve(buffer *b, size_t more)
{
    if (b->failed || more > SIZE_MAX / 4 || b->n > SIZE_MAX / 4) {
        b->failed = true;
        return false;
    }
    if (b->capacity - b->n >= more) {
        return true;
    }
    size_t capacity = b->capacity > 0 ? b->capacity : FIRST_CAPACITY;
    while (capacity - b->n < more) {
        capacity *= 2;
    }
    char *at = realloc(b->at, capacity);
    if (at == NULL) {
        b->failed = true;
        return false;
    }
    b->at = at;
    b->capacity = capacity;
    return true;
}

void buffer_append(buffer *b, const void *from, size_t n)
{
    if (n > 0 && buffer_reserve(b, n)) {
        memcpy(b->at + b->n, from, n);
        b->n += n;
    }
}

void buffer_append_text(buffer *b, const char *text)
{
    buffer_append(b, text, strlen(text));
}

void buffer_append_byte(buffer *b, char c)
{
    buffer_append(b, &c, 1);
}

char *buffer_take(buffer *b, size_t *n)
{
    buffer_append_byte(b, '\0');
    if (b->failed) {
        buffer_free(b);
        return NULL;
    }
    char *at = b->at;
    *n = b->n - 1;
    *b = (buffer){0};
    return at;
}

void buffer_free(buffer *b)
{
    free(b->at);
    *b = (buffer){0};
}

/*
 * text.c - strings: made, joined, cut and searched.
 *
 * Lengths and slices count code points. A text whose bytes are as many as its code points is ASCII,
 * so offsets in it cost nothing; in others they cost one pass over the bytes.
 */
#include "coordinator/text/jinja/text.h"

#include "common/utf8.h"

#include <string.h>

struct text_room { /* bytes that may still grow at their end */
    char *bytes;
    size_t used, capacity;
};

static text *text_new(sandbox *m, const char *bytes, size_t n, struct text_room *room)
{
    text *t = TAKE(m, text, 1);
    *t = (text){.bytes = bytes, .n = n, .n_chars = n == 0 ? 0 : -1, .room = room};
    return t;
}

text *text_borrow(sandbox *m, const char *bytes, size_t n)
{
    return text_new(m, bytes, n, NULL);
}

text *text_copy(sandbox *m, const char *bytes, size_t n)
{
    char *copy = sandbox_take(m, n);
    if (n > 0) {
        memcpy(copy, bytes, n);
    }
    sandbox_spend(m, n / 64);
    return text_new(m, copy, n, NULL);
}

text *text_of(sandbox *m, const char *terminated)
{
    return text_copy(m, terminated, strlen(terminated));
}

/* ---- builders ---- */

static struct text_room *room_new(sandbox *m, size_t capacity)
{
    struct text_room *r = TAKE(m, struct text_room, 1);
    r->bytes = sandbox_take(m, capacity);
    r->used = 0;
    r->capacity = capacity;
    return r;
}

static void room_add(struct text_room *r, const char *bytes, size_t n)
{
    if (n > 0) {
        memcpy(r->bytes + r->used, bytes, n);
        r->used += n;
    }
}

static void build_reserve(sandbox *m, builder *b, size_t n)
{
    size_t used = b->room == NULL ? 0 : b->room->used;
    if (n > SANDBOX_MEMORY_MAX || used + n > SANDBOX_MEMORY_MAX) {
        template_fault(m, "a text grows over %d MiB", SANDBOX_MEMORY_MAX >> 20);
    }
    if (b->room == NULL || b->room->capacity - used < n) {
        struct text_room *r = room_new(m, used + n < 32 ? 64 : (used + n) * 2);
        if (b->room != NULL) {
            room_add(r, b->room->bytes, used);
        }
        b->room = r;
    }
}

void build_bytes(sandbox *m, builder *b, const char *bytes, size_t n)
{
    build_reserve(m, b, n);
    room_add(b->room, bytes, n);
    sandbox_spend(m, n / 64);
}

void build_string(sandbox *m, builder *b, const char *terminated)
{
    build_bytes(m, b, terminated, strlen(terminated));
}

void build_text(sandbox *m, builder *b, const text *t)
{
    build_bytes(m, b, t->bytes, t->n);
}

void build_char(sandbox *m, builder *b, int32_t c)
{
    char bytes[4];
    build_bytes(m, b, bytes, char_put(bytes, c));
}

void build_repeated(sandbox *m, builder *b, int32_t c, int64_t times)
{
    if (times <= 0) {
        return;
    }
    char bytes[4];
    size_t n = char_put(bytes, c);
    if (times > SANDBOX_MEMORY_MAX / 4) {
        template_fault(m, "a text grows over %d MiB", SANDBOX_MEMORY_MAX >> 20);
    }
    build_reserve(m, b, n * (size_t)times);
    sandbox_spend(m, (size_t)times / 16);
    for (int64_t i = 0; i < times; i++) {
        room_add(b->room, bytes, n);
    }
}

size_t build_size(const builder *b)
{
    return b->room == NULL ? 0 : b->room->used;
}

text *build_end(sandbox *m, builder *b)
{
    struct text_room *r = b->room;
    b->room = NULL;
    return r == NULL ? text_borrow(m, "", 0) : text_new(m, r->bytes, r->used, r);
}

text *text_join(sandbox *m, const text *a, const text *b)
{
    if (b->n == 0) {
        return text_new(m, a->bytes, a->n, a->room);
    }
    struct text_room *r = a->room;
    if (r != NULL && a->bytes + a->n == r->bytes + r->used && r->capacity - r->used >= b->n) {
        room_add(r, b->bytes, b->n); /* b lies before the free bytes or elsewhere: no overlap */
        sandbox_spend(m, b->n / 64);
        return text_new(m, a->bytes, a->n + b->n, r);
    }
    builder both = {0};
    build_text(m, &both, a);
    build_text(m, &both, b);
    return build_end(m, &both);
}

text *text_repeat(sandbox *m, const text *t, int64_t times)
{
    if (times <= 0 || t->n == 0) {
        return text_borrow(m, "", 0);
    }
    if ((uint64_t)times > SANDBOX_MEMORY_MAX / 2 / t->n) {
        template_fault(m, "a text repeated %lld times is too large", (long long)times);
    }
    builder b = {0};
    build_reserve(m, &b, t->n * (size_t)times);
    for (int64_t i = 0; i < times; i++) {
        build_text(m, &b, t);
    }
    sandbox_spend(m, (size_t)times);
    return build_end(m, &b);
}

/* ---- comparing ---- */

bool text_equal(const text *a, const text *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->bytes, b->bytes, a->n) == 0);
}

bool text_is(const text *t, const char *terminated)
{
    return t->n == strlen(terminated) && memcmp(t->bytes, terminated, t->n) == 0;
}

int text_compare(const text *a, const text *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    int order = n == 0 ? 0 : memcmp(a->bytes, b->bytes, n); /* UTF-8 sorts as its code points do */
    return order != 0 ? order : (a->n > b->n) - (a->n < b->n);
}

/* ---- UTF-8 ---- */

bool utf8_is_valid(const char *bytes, size_t n)
{
    return utf8_good_bytes(bytes, n) == n;
}

int32_t char_next(const char *bytes, size_t n, size_t *at)
{
    const unsigned char *s = (const unsigned char *)bytes + *at;
    size_t left = n - *at;
    if (s[0] < 0x80 || left < 2) {
        *at += 1;
        return s[0];
    }
    if (s[0] < 0xe0 || left < 3) {
        *at += 2;
        return (s[0] & 0x1f) << 6 | (s[1] & 0x3f);
    }
    if (s[0] < 0xf0 || left < 4) {
        *at += 3;
        return (s[0] & 0x0f) << 12 | (s[1] & 0x3f) << 6 | (s[2] & 0x3f);
    }
    *at += 4;
    return (s[0] & 0x07) << 18 | (s[1] & 0x3f) << 12 | (s[2] & 0x3f) << 6 | (s[3] & 0x3f);
}

int32_t char_previous(const char *bytes, size_t *at)
{
    size_t end = *at;
    do {
        *at -= 1;
    } while (*at > 0 && ((unsigned char)bytes[*at] & 0xc0) == 0x80);
    size_t start = *at;
    return char_next(bytes, end, &start);
}

size_t char_put(char out[4], int32_t c)
{
    return utf8_put(out, (uint32_t)c);
}

/* ---- lengths and parts ---- */

static int64_t chars_in(const char *bytes, size_t n)
{
    int64_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += ((unsigned char)bytes[i] & 0xc0) != 0x80;
    }
    return count;
}

int64_t text_length(text *t)
{
    if (t->n_chars < 0) {
        t->n_chars = chars_in(t->bytes, t->n);
    }
    return t->n_chars;
}

int64_t text_chars_before(text *t, size_t offset)
{
    return text_length(t) == (int64_t)t->n ? (int64_t)offset : chars_in(t->bytes, offset);
}

size_t text_offset(text *t, int64_t i)
{
    if (text_length(t) == (int64_t)t->n) {
        return (size_t)i;
    }
    size_t at = 0;
    for (; i > 0 && at < t->n; i--) {
        (void)char_next(t->bytes, t->n, &at);
    }
    return at;
}

text *text_bytes_part(sandbox *m, const text *t, size_t first, size_t last)
{
    return text_borrow(m, t->bytes + first, last - first);
}

text *text_part(sandbox *m, text *t, int64_t first, int64_t last)
{
    int64_t length = text_length(t);
    last = last > length ? length : last;
    if (first >= last) {
        return text_borrow(m, "", 0);
    }
    sandbox_spend(m, t->n / 64);
    size_t begin = text_offset(t, first);
    text rest = {t->bytes + begin, t->n - begin, length - first, false, NULL};
    size_t size = text_offset(&rest, last - first);
    text *part = text_bytes_part(m, t, begin, begin + size);
    part->n_chars = last - first;
    return part;
}

text *text_reversed(sandbox *m, const text *t)
{
    char *bytes = sandbox_take(m, t->n);
    size_t out = t->n;
    for (size_t i = 0; i < t->n;) {
        size_t start = i;
        (void)char_next(t->bytes, t->n, &i);
        out -= i - start;
        memcpy(bytes + out, t->bytes + start, i - start);
    }
    sandbox_spend(m, t->n / 16);
    return text_new(m, bytes, t->n, NULL);
}

/* ---- searching ---- */

int64_t text_find(const text *t, const text *needle, size_t from, size_t to)
{
    if (from > to || to - from < needle->n) {
        return -1;
    }
    if (needle->n == 0) {
        return (int64_t)from;
    }
    const char *hit = memmem(t->bytes + from, to - from, needle->bytes, needle->n);
    return hit == NULL ? -1 : hit - t->bytes;
}

int64_t text_find_last(const text *t, const text *needle, size_t from, size_t to)
{
    if (from > to || to - from < needle->n) {
        return -1;
    }
    for (size_t i = to - needle->n;; i--) {
        if (needle->n == 0 || memcmp(t->bytes + i, needle->bytes, needle->n) == 0) {
            return (int64_t)i;
        }
        if (i == from) {
            return -1;
        }
    }
}

/* An empty `old` matches before each character and at the end. */
static text *replace_between(sandbox *m, const text *t, const text *new_, int64_t count)
{
    builder b = {0};
    size_t at = 0;
    while (count != 0) {
        build_text(m, &b, new_);
        count -= count > 0;
        if (at == t->n) {
            return build_end(m, &b);
        }
        size_t start = at;
        (void)char_next(t->bytes, t->n, &at);
        build_bytes(m, &b, t->bytes + start, at - start);
        sandbox_spend(m, 1);
    }
    build_bytes(m, &b, t->bytes + at, t->n - at);
    return build_end(m, &b);
}

text *text_replace(sandbox *m, const text *t, const text *old, const text *new_, int64_t count)
{
    if (old->n == 0) {
        return replace_between(m, t, new_, count);
    }
    builder b = {0};
    size_t at = 0;
    while (count != 0) {
        int64_t hit = text_find(t, old, at, t->n);
        if (hit < 0) {
            break;
        }
        build_bytes(m, &b, t->bytes + at, (size_t)hit - at);
        build_text(m, &b, new_);
        at = (size_t)hit + old->n;
        count -= count > 0;
        sandbox_spend(m, 1);
    }
    sandbox_spend(m, t->n / 64);
    build_bytes(m, &b, t->bytes + at, t->n - at);
    return build_end(m, &b);
}

/*
 * nfc.c - Unicode normalisation form C in linear time.
 *
 * utf8proc knows the decompositions, combining classes and compositions, but sorts marks by
 * swapping neighbours, which is quadratic for a long run of marks. So the sorting is done here, by
 * counting; and composition of Hangul too, where utf8proc takes U+11A7 for a trailing consonant.
 *
 * Text is cut into stretches before characters that neither change nor join what stands before
 * them: most text is copied, and working memory is that of the longest stretch.
 */
#include "coordinator/text/nfc.h"

#include "common/utf8.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

enum {
    DECOMPOSED_MAX = 4,
    FIRST_JOINER = 0xcc /* lead byte of U+0300, the lowest that can change */
};

/* The reference normalises by the tables of Unicode 9. Marks that later versions added have class 0
 * there, and the one pair that composes since is left alone. (Every code point was compared with
 * tokenizers 0.23.3; utf8proc 2.8 is Unicode 15.) */
static const struct {
    int32_t first, last;
} younger_marks[] = {
    {0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
    {0xc3c, 0xc3c},     {0xd3b, 0xd3b},     {0xd3c, 0xd3c},     {0xeba, 0xeba},
    {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},
    {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
    {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e},
    {0x11839, 0x1183a}, {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0},
    {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42},
    {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x16ff0, 0x16ff1},
    {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
    {0x1e4ec, 0x1e4ef},
};
enum { YOUNGER_PAIR = 0x11938 };

static bool is_younger_mark(int32_t c)
{
    size_t low = 0, high = sizeof younger_marks / sizeof *younger_marks;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > younger_marks[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < sizeof younger_marks / sizeof *younger_marks && c >= younger_marks[low].first;
}

static uint8_t class_of(int32_t c)
{
    if (c < 0x300) {
        return 0;
    }
    uint8_t class = (uint8_t)utf8proc_get_property(c)->combining_class;
    return class != 0 && is_younger_mark(c) ? 0 : class;
}

/* A stretch may end before c. Below U+0300 nothing joins to the left; nor do Han characters. */
static bool begins_stretch(uint32_t c)
{
    return c < 0x300 || (c >= 0x3400 && c <= 0x9fff);
}

static bool reserve(nfc_work *w, size_t n)
{
    if (w->capacity >= n) {
        return true;
    }
    size_t capacity = 2 * n + 64;
    int32_t *points = realloc(w->points, 2 * capacity * sizeof *points);
    if (points == NULL) {
        return false;
    }
    w->points = points;
    w->capacity = capacity;
    return true;
}

/* Sorts n code points with classes over 0 by class, equal ones in their order. */
static void sort_marks(int32_t *c, size_t n, int32_t *sorted)
{
    size_t first[257] = {0};
    for (size_t i = 0; i < n; i++) {
        first[class_of(c[i]) + 1]++;
    }
    for (size_t k = 1; k < 257; k++) {
        first[k] += first[k - 1];
    }
    for (size_t i = 0; i < n; i++) {
        sorted[first[class_of(c[i])]++] = c[i];
    }
    memcpy(c, sorted, n * sizeof *c);
}

static void order(int32_t *c, size_t n, int32_t *scratch)
{
    for (size_t i = 0; i < n;) {
        size_t first = i;
        while (i < n && class_of(c[i]) != 0) {
            i++;
        }
        if (i - first > 1) {
            sort_marks(c + first, i - first, scratch);
        }
        i += i == first;
    }
}

/* The composition of two code points; -1: none. */
static int32_t composed(int32_t a, int32_t b)
{
    enum { S = 0xac00, L = 0x1100, V = 0x1161, T = 0x11a7, N_L = 19, N_V = 21, N_T = 28 };
    if (a >= L && a < L + N_L && b >= V && b < V + N_V) {
        return S + ((a - L) * N_V + (b - V)) * N_T;
    }
    if (a >= S && a < S + N_L * N_V * N_T && (a - S) % N_T == 0 && b > T && b < T + N_T) {
        return a + (b - T);
    }
    if ((b >= V && b < T + N_T) || b < 0x300) {
        return -1;
    }
    utf8proc_int32_t pair[2] = {a, b};
    utf8proc_ssize_t n = utf8proc_normalize_utf32(pair, 2, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    return n == 1 && pair[0] != YOUNGER_PAIR ? pair[0] : -1;
}

/* Unicode's canonical composition: each character tries to join the last starter, unless one
 * between them, of the same class or a starter itself, blocks it. Returns the new number. */
static size_t compose(int32_t *c, size_t n)
{
    size_t n_out = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        uint8_t class = class_of(c[i]);
        if (starter != SIZE_MAX) {
            bool adjacent = starter + 1 == n_out;
            bool blocked = !adjacent && (class == 0 || class_of(c[n_out - 1]) >= class);
            int32_t both = blocked ? -1 : composed(c[starter], c[i]);
            if (both >= 0) {
                c[starter] = both;
                continue;
            }
        }
        if (class == 0) {
            starter = n_out;
        }
        c[n_out++] = c[i];
    }
    return n_out;
}

/* At most DECOMPOSED_MAX code points; returns their number. */
static size_t decompose(int32_t *out, int32_t c)
{
    int unused = 0;
    utf8proc_ssize_t n = utf8proc_decompose_char(c, out, DECOMPOSED_MAX,
                                                 UTF8PROC_STABLE | UTF8PROC_COMPOSE, &unused);
    if (c == YOUNGER_PAIR || n < 1 || n > DECOMPOSED_MAX) {
        out[0] = c;
        return 1;
    }
    return (size_t)n;
}

static bool normalise_stretch(nfc_work *w, const char *text, size_t n_bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < n_bytes;) {
        utf8_part part = utf8_next(text + i, n_bytes - i);
        if (!reserve(w, n + DECOMPOSED_MAX)) {
            return false;
        }
        n += decompose(w->points + n, (int32_t)part.code_point);
        i += part.n_bytes;
    }
    order(w->points, n, w->points + w->capacity);
    n = compose(w->points, n);
    if (!buffer_reserve(&w->text, 4 * n)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        w->text.n += utf8_put(w->text.at + w->text.n, (uint32_t)w->points[i]);
    }
    return true;
}

/* Bytes of the stretch at text, and whether it is a single character that begins one (and stays).
 */
static size_t stretch_bytes(const char *text, size_t n_bytes, bool *stays)
{
    utf8_part first = utf8_next(text, n_bytes);
    size_t n = first.n_bytes;
    while (n < n_bytes) {
        utf8_part part = utf8_next(text + n, n_bytes - n);
        if (begins_stretch(part.code_point)) {
            break;
        }
        n += part.n_bytes;
    }
    *stays = n == first.n_bytes && begins_stretch(first.code_point);
    return n;
}

static size_t unchanging_bytes(const char *text, size_t n_bytes)
{
    size_t n = 0;
    while (n < n_bytes && (unsigned char)text[n] < FIRST_JOINER) {
        n++;
    }
    if (n == n_bytes || n == 0) {
        return n;
    }
    do { /* the character before a joiner may change with it */
        n--;
    } while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80);
    return n;
}

flo_code nfc_normalise(nfc_work *w, const char *text, size_t n_bytes, const char **out,
                       size_t *n_out, flo_err *err)
{
    size_t i = unchanging_bytes(text, n_bytes);
    if (i == n_bytes) {
        *out = text;
        *n_out = n_bytes;
        return FLO_OK;
    }
    w->text.n = 0;
    buffer_append(&w->text, text, i);
    bool fits = true;
    while (i < n_bytes && fits) {
        bool stays;
        size_t n = stretch_bytes(text + i, n_bytes - i, &stays);
        if (stays) {
            buffer_append(&w->text, text + i, n);
        } else {
            fits = normalise_stretch(w, text + i, n);
        }
        i += n;
    }
    if (!fits || w->text.failed) {
        return flo_fail(err, FLO_FAIL, "out of memory for normalised text");
    }
    *out = w->text.at;
    *n_out = w->text.n;
    return FLO_OK;
}

void nfc_work_free(nfc_work *w)
{
    buffer_free(&w->text);
    free(w->points);
    *w = (nfc_work){0};
}

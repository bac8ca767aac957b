/*
 * picture_png_notes.c - a walk over a PNG's chunks, past the pixels, to the notes that hold EXIF or
 * XMP.
 *
 * Every compressed note is unpacked, most of them for no other reason than to refuse one that is a
 * bomb, up to NOTES_BYTES_MAX for all of them together: a sixteenth of a second.
 */
#include "coordinator/media/picture_png_notes.h"

#include "coordinator/media/picture_orientation.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    SIGNATURE_BYTES = 8,
    CHUNK_FRAME_BYTES = 12, /* length and name before it, checksum after it */
    NOTES_BYTES_MAX = 32 << 20,
};

typedef struct span {
    const uint8_t *at;
    size_t n;
} span;

typedef struct notes {
    uint8_t *unpacked;      /* room for NOTES_BYTES_MAX + 1; NULL until one is needed */
    size_t n_unpacked;      /* of all notes so far */
    int32_t exif, raw, xmp; /* orientations found; 0: none */
} notes;

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The next chunk of file from *at on; false at the end, or where there is no whole one. */
static bool next_chunk(span file, size_t *at, const uint8_t **name, span *body)
{
    if (file.n - *at < CHUNK_FRAME_BYTES) {
        return false;
    }
    size_t n = big_endian(file.at + *at);
    if (n > file.n - *at - CHUNK_FRAME_BYTES) {
        return false;
    }
    *name = file.at + *at + 4;
    *body = (span){file.at + *at + 8, n};
    *at += CHUNK_FRAME_BYTES + n;
    return memcmp(*name, "IEND", 4) != 0;
}

static bool is_chunk(const uint8_t *name, const char *wanted)
{
    return memcmp(name, wanted, 4) == 0;
}

/* Cuts text at its first NUL: *head is before it, the result after it. */
static span cut(span text, span *head)
{
    const uint8_t *nul = memchr(text.at, 0, text.n);
    *head = (span){text.at, nul != NULL ? (size_t)(nul - text.at) : text.n};
    return nul != NULL ? (span){nul + 1, text.n - head->n - 1} : (span){text.at + text.n, 0};
}

static bool is_named(span name, const char *wanted)
{
    return name.n == strlen(wanted) && memcmp(name.at, wanted, name.n) == 0;
}

/* Unpacks a note; what is damaged in it unpacks to nothing. */
static flo_code unpack(notes *s, span *text, flo_err *err)
{
    if (s->unpacked == NULL && (s->unpacked = malloc(NOTES_BYTES_MAX + 1)) == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory to read a PNG's notes");
    }
    uLongf n = (uLongf)(NOTES_BYTES_MAX + 1 - s->n_unpacked);
    int zlib = uncompress(s->unpacked, &n, text->at, (uLong)text->n);
    s->n_unpacked += n; /* what a damaged one cost counts too */
    if (zlib == Z_BUF_ERROR || s->n_unpacked > NOTES_BYTES_MAX) {
        return flo_fail(err, FLO_USAGE,
                        "a PNG with notes that unpack to more than %d bytes; save it without them",
                        NOTES_BYTES_MAX);
    }
    *text = (span){s->unpacked, zlib == Z_OK ? n : 0};
    return FLO_OK;
}

static int32_t hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* "\nexif\n    LENGTH\nHEX\nHEX\n...": the digits after the third line's end. */
static int32_t orientation_from_raw_profile(span text)
{
    for (int32_t line = 0; line < 3; line++) {
        const uint8_t *end = memchr(text.at, '\n', text.n);
        if (end == NULL) {
            return 0;
        }
        text = (span){end + 1, text.n - (size_t)(end + 1 - text.at)};
    }
    uint8_t *exif = malloc(text.n / 2 + 1);
    size_t n_digits = 0;
    for (size_t i = 0; i < text.n && exif != NULL; i++) {
        int32_t digit = hex_digit(text.at[i]);
        if (digit >= 0) {
            uint8_t high = n_digits % 2 == 0 ? 0 : exif[n_digits / 2];
            exif[n_digits / 2] = (uint8_t)(high << 4 | digit);
            n_digits++;
        }
    }
    int32_t orientation = exif != NULL ? orientation_from_exif(exif, n_digits / 2) : 0;
    free(exif);
    return orientation;
}

static void take_text(notes *s, span name, span text)
{
    if (is_named(name, "Raw profile type exif")) {
        s->raw = orientation_from_raw_profile(text);
    } else if (is_named(name, "XML:com.adobe.xmp")) {
        s->xmp = orientation_from_xmp(text.at, text.n);
    }
}

/* name NUL flag method language NUL translated name NUL text */
static flo_code take_international(notes *s, span name, span rest, flo_err *err)
{
    span ignored;
    if (rest.n < 2) {
        return FLO_OK;
    }
    bool packed = rest.at[0] != 0;
    span text = cut(cut((span){rest.at + 2, rest.n - 2}, &ignored), &ignored);
    flo_code code = packed ? unpack(s, &text, err) : FLO_OK;
    if (code == FLO_OK) {
        take_text(s, name, text);
    }
    return code;
}

static flo_code take_chunk(notes *s, const uint8_t *chunk, span body, flo_err *err)
{
    span name, rest = cut(body, &name);
    flo_code code = FLO_OK;
    if (is_chunk(chunk, "eXIf")) {
        s->exif = orientation_from_exif(body.at, body.n);
    } else if (is_chunk(chunk, "tEXt")) {
        take_text(s, name, rest);
    } else if (is_chunk(chunk, "iTXt")) {
        code = take_international(s, name, rest, err);
    } else if ((is_chunk(chunk, "zTXt") || is_chunk(chunk, "iCCP")) && rest.n > 1) {
        span text = {rest.at + 1, rest.n - 1}; /* after the method, of which there is one */
        code = unpack(s, &text, err);
        if (code == FLO_OK) {
            take_text(s, name, text);
        }
    }
    return code;
}

flo_code png_notes_orientation(int32_t *orientation, const uint8_t *bytes, size_t n_bytes,
                               flo_err *err)
{
    notes s = {0};
    span file = {bytes, n_bytes}, body;
    const uint8_t *name;
    size_t at = n_bytes < SIGNATURE_BYTES ? n_bytes : SIGNATURE_BYTES;
    flo_code code = FLO_OK;
    while (code == FLO_OK && next_chunk(file, &at, &name, &body)) {
        code = take_chunk(&s, name, body, err);
    }
    *orientation = s.exif != 0 ? s.exif : s.raw != 0 ? s.raw : s.xmp;
    free(s.unpacked);
    return code;
}

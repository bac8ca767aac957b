/*
 * extent.c - walks the outermost headers: chunks, boxes, elements or pages, up to the samples.
 *
 * Every walk goes forward by at least a header's size, so it ends; nothing is read past the end.
 */
#include "coordinator/media/extent.h"

#include <libavutil/crc.h>
#include <stdbool.h>
#include <string.h>

/* A program that writes into a pipe cannot come back to fill in a size, and writes a large one:
 * sox 0x7f000000 or 0x7ffff000 less its header, espeak-ng 0x7ffff000, FFmpeg 0xffffffff. */
#define SIZE_UNKNOWN_FROM ((uint64_t)0x7effff00)

enum { CLUSTER = 0x1f43b675 }; /* the name of Matroska's run of blocks */

typedef struct span { /* what of the file is left */
    const uint8_t *at;
    size_t n;
} span;

static uint64_t big_endian(const uint8_t *at, int n_bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < n_bytes; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

static uint64_t little_endian32(const uint8_t *at)
{
    return (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24;
}

static bool is_tag(const uint8_t *at, const char *tag)
{
    return memcmp(at, tag, 4) == 0;
}

/* The chunk that holds the samples ends the walk: what follows it (titles, an index) may be lost
 * without harm. A LIST is left through only where it holds an AVI's frames. */
static bool is_body_chunk(const uint8_t *at, size_t n)
{
    return is_tag(at, "data") || is_tag(at, "SSND") ||
           (is_tag(at, "LIST") && n >= 12 && is_tag(at + 8, "movi"));
}

static uint64_t chunks_extent(span file, bool is_big_endian)
{
    size_t at = 12; /* "RIFF", size, "WAVE" */
    while (file.n - at >= 8) {
        const uint8_t *head = file.at + at;
        uint64_t size = is_big_endian ? big_endian(head + 4, 4) : little_endian32(head + 4);
        bool is_body = is_body_chunk(head, file.n - at);
        if (is_body || size > file.n - at - 8) {
            return is_body && (size == 0 || size >= SIZE_UNKNOWN_FROM) ? 0 : at + 8 + size;
        }
        size += size & 1; /* chunks begin at even places */
        at = size > file.n - at - 8 ? file.n : at + 8 + (size_t)size;
    }
    return 0; /* no samples: FFmpeg says so */
}

/* CAF: a header of 8 bytes, then chunks with sizes of 64 bits. */
static uint64_t caf_extent(span file)
{
    uint64_t at = 8;
    while (file.n - at >= 12) {
        const uint8_t *head = file.at + at;
        uint64_t size = big_endian(head + 4, 8);
        if (size > file.n - at - 12) {
            return size > UINT64_MAX / 2 ? 0 : at + 12 + size; /* -1: up to the end */
        }
        at += 12 + size;
    }
    return at;
}

static bool is_media_box(const uint8_t *name)
{
    return is_tag(name, "mdat") || is_tag(name, "moov") || is_tag(name, "moof");
}

/* Boxes of MP4, MOV, M4A, 3GP. The end of the last box that begins within the file. */
static uint64_t boxes_extent(span file)
{
    uint64_t at = 0;
    while (file.n - at >= 8) {
        const uint8_t *head = file.at + at;
        uint64_t size = big_endian(head, 4), least = 8;
        if (size == 1 && file.n - at >= 16) {
            size = big_endian(head + 8, 8);
            least = 16;
        }
        if (size < least) {
            return 0; /* 0: up to the end; else no box, but bytes after the last one */
        }
        if (size > file.n - at) {
            return is_media_box(head + 4) && size < UINT64_MAX - at ? at + size : 0;
        }
        at += size;
    }
    return at;
}

/* An EBML number of 1 to 8 bytes; its length in *n_bytes, 0 where it is none. UINT64_MAX: unknown.
 */
static uint64_t ebml_size(const uint8_t *at, size_t n, int *n_bytes)
{
    int length = 1;
    *n_bytes = 0;
    if (n == 0 || at[0] == 0) {
        return 0;
    }
    while ((at[0] & (0x80 >> (length - 1))) == 0) {
        length++;
    }
    if ((size_t)length > n) {
        return 0;
    }
    uint64_t mask = ((uint64_t)1 << (7 * length)) - 1;
    uint64_t value = big_endian(at, length) & mask;
    *n_bytes = length;
    return value == mask ? UINT64_MAX : value;
}

/* The EBML header, then the Segment, both elements with a name of four bytes. */
static uint64_t segment_extent(span file)
{
    uint64_t at = 0;
    for (int i = 0; i < 2 && file.n - at > 4; i++) {
        int n_bytes;
        uint64_t size = ebml_size(file.at + at + 4, file.n - at - 4, &n_bytes);
        if (n_bytes == 0 || size == UINT64_MAX) {
            return 0;
        }
        at += 4 + (uint64_t)n_bytes + size; /* below 2^57 */
        if (at > file.n) {
            return at;
        }
    }
    return at;
}

typedef struct element {    /* of EBML */
    uint64_t id, body, end; /* end: UINT64_MAX where it is not said, as in a live recording */
} element;

/* The element that begins at `at`. False: none does, or it ends behind `limit`. */
static bool element_at(element *e, span file, uint64_t at, uint64_t limit)
{
    int n_id = 1, n_size;
    const uint8_t *head = file.at + at;
    while (n_id <= 4 && (head[0] & (0x80 >> (n_id - 1))) == 0) {
        n_id++;
    }
    if (n_id > 4 || limit - at <= (uint64_t)n_id) {
        return false;
    }
    uint64_t size = ebml_size(head + n_id, (size_t)(limit - at) - (size_t)n_id, &n_size);
    e->id = big_endian(head, n_id);
    e->body = at + (uint64_t)n_id + (uint64_t)n_size;
    e->end = size == UINT64_MAX ? UINT64_MAX : e->body + size; /* below 2^57 */
    return n_size > 0 && (e->end == UINT64_MAX || e->end <= limit);
}

/* Blocks and what stands between them fill a cluster to its end; where they do not. */
static uint64_t cluster_damage(span file, const element *cluster)
{
    element e = {.end = cluster->body};
    while (e.end < cluster->end) {
        uint64_t at = e.end;
        if (!element_at(&e, file, at, cluster->end)) {
            return at;
        }
    }
    return UINT64_MAX;
}

/* FFmpeg goes on behind a cluster that it cannot follow, and the frames in it are gone. */
static uint64_t segment_damage(span file)
{
    element e, segment;
    if (!element_at(&e, file, 0, file.n) || e.end >= file.n ||
        !element_at(&segment, file, e.end, file.n)) {
        return UINT64_MAX; /* FFmpeg says what that is */
    }
    uint64_t end = segment.end == UINT64_MAX ? file.n : segment.end;
    uint64_t damage = UINT64_MAX;
    for (e.end = segment.body; e.end < end && file.at[e.end] != 0 && damage == UINT64_MAX;) {
        uint64_t at = e.end;
        if (!element_at(&e, file, at, end)) {
            damage = at;
        } else if (e.id == CLUSTER && e.end != UINT64_MAX) {
            damage = cluster_damage(file, &e);
        }
    }
    return damage;
}

/* Blocks of up to 255 bytes, each after its length, up to one of length 0. Where the next thing
 * begins. */
static uint64_t sub_blocks_end(span file, uint64_t at)
{
    while (at < file.n && file.at[at] != 0) {
        at += 1 + (uint64_t)file.at[at];
    }
    return at + 1;
}

static uint64_t colour_table_bytes(uint8_t flags)
{
    return (flags & 0x80) != 0 ? (uint64_t)6 << (flags & 7) : 0;
}

/* GIF: screen, colours, then pictures and extensions up to a semicolon. */
static uint64_t gif_extent(span file)
{
    uint64_t at = file.n < 13 ? 13 : 13 + colour_table_bytes(file.at[10]);
    while (at < file.n && (file.at[at] == '!' || file.at[at] == ',')) {
        if (file.at[at] == '!') {
            at = sub_blocks_end(file, at + 2);
        } else if (file.n - at < 10) {
            at = file.n;
        } else {
            at = sub_blocks_end(file, at + 11 + colour_table_bytes(file.at[at + 9]));
        }
    }
    return at < file.n ? 0 : at + 1; /* the semicolon, or what this walk does not know */
}

/* Bytes of the page that begins at head, n_left of which are there; as many as it takes to know
 * where not even its header is whole. */
static uint64_t page_bytes(const uint8_t *head, uint64_t n_left)
{
    if (n_left < 27 || n_left - 27 < head[26]) {
        return n_left + 1;
    }
    uint64_t size = 27 + (uint64_t)head[26];
    for (int i = 0; i < head[26]; i++) {
        size += head[27 + i];
    }
    return size;
}

static bool is_page(span file, uint64_t at)
{
    return file.n - at >= 4 && is_tag(file.at + at, "OggS");
}

/* Page after page; what is no page after the last one is another program's. */
static uint64_t pages_extent(span file)
{
    uint64_t at = 0;
    while (is_page(file, at)) {
        at += page_bytes(file.at + at, file.n - at);
        if (at > file.n) {
            return at;
        }
    }
    return at;
}

/* The checksum is made with zeros in its own place; FFmpeg's has
 * the bytes of Ogg's the other way round. */
static bool page_is_sound(const uint8_t *head, size_t n)
{
    static const uint8_t zeros[4];
    const AVCRC *table = av_crc_get_table(AV_CRC_32_IEEE);
    uint32_t sum = av_crc(table, 0, head, 22);
    sum = av_crc(table, sum, zeros, 4);
    sum = av_crc(table, sum, head + 26, n - 26);
    return sum == big_endian(head + 22, 4);
}

static uint64_t pages_damage(span file)
{
    uint64_t at = 0;
    while (is_page(file, at)) {
        uint64_t size = page_bytes(file.at + at, file.n - at);
        if (size > file.n - at || !page_is_sound(file.at + at, (size_t)size)) {
            return at;
        }
        at += size;
    }
    return UINT64_MAX;
}

static bool is_ebml(span file)
{
    return file.n >= 12 && memcmp(file.at, "\x1a\x45\xdf\xa3", 4) == 0;
}

uint64_t media_damage(const uint8_t *bytes, size_t n_bytes)
{
    span file = {bytes, n_bytes};
    return is_ebml(file) ? segment_damage(file) : pages_damage(file);
}

uint64_t media_extent(const uint8_t *bytes, size_t n_bytes)
{
    span file = {bytes, n_bytes};
    if (n_bytes < 12) {
        return 0;
    }
    if (is_tag(bytes, "RIFF") && (is_tag(bytes + 8, "WAVE") || is_tag(bytes + 8, "AVI "))) {
        return chunks_extent(file, false);
    }
    if (is_tag(bytes, "FORM") && (is_tag(bytes + 8, "AIFF") || is_tag(bytes + 8, "AIFC"))) {
        return chunks_extent(file, true);
    }
    if (is_tag(bytes, "GIF8")) {
        return gif_extent(file);
    }
    if (is_tag(bytes, "caff")) {
        return caf_extent(file);
    }
    if (is_tag(bytes + 4, "ftyp") || is_tag(bytes + 4, "wide") || is_media_box(bytes + 4)) {
        return boxes_extent(file);
    }
    if (is_ebml(file)) {
        return segment_extent(file);
    }
    return is_tag(bytes, "OggS") ? pages_extent(file) : 0;
}

/*
 * check_picture.c - files of other programs become the bytes that Pillow loads from them, and what
 * is damaged, foreign or too large is refused in a sentence, in little time and memory.
 */
#include "common/hash.h"
#include "coordinator/media/picture.h"
#include "coordinator/media/picture_formats.h"
#include "coordinator/media/picture_orientation.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

enum { N_GOLDEN = 53 }; /* lines of pictures.txt */

typedef struct bytes {
    uint8_t *at;
    size_t n;
} bytes;

static FILE *golden_open(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/pictures/%s", getenv("FLOTILLA_SOURCE_DIR"), name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    return f;
}

static bytes golden_file(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "files/%s", name);
    FILE *f = golden_open(path);
    bytes b = {malloc(1 << 16), 0};
    assert_non_null(b.at);
    b.n = fread(b.at, 1, 1 << 16, f);
    fclose(f);
    assert_in_range(b.n, 1, (1 << 16) - 1);
    b.at = realloc(b.at, b.n); /* the exact size, so that a sanitizer sees what reads past it */
    assert_non_null(b.at);
    return b;
}

static flo_code decode(picture *p, const uint8_t *at, size_t n, flo_err *err)
{
    *err = (flo_err){""};
    return picture_decode(p, at, n, "a.png", MEDIA_PIXELS_MAX_DEFAULT, err);
}

/* Refused, by a sentence that begins with the name and holds word. */
static void hold_to_refusal(const uint8_t *at, size_t n, const char *word)
{
    picture p = {0};
    int32_t width, height;
    flo_err err;
    assert_int_equal(decode(&p, at, n, &err), FLO_USAGE);
    assert_null(p.rgb);
    assert_true(strncmp(err.text, "a.png: ", 7) == 0);
    if (strstr(err.text, word) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, word);
    }
    (void)picture_size(&width, &height, at, n, "a.png", &err);
}

typedef void golden_fn(const char *name, const bytes *file, const picture *whole, uint64_t want);

/* Calls f with every golden picture, decoded; returns their number. */
static int32_t for_each_golden(golden_fn *f)
{
    FILE *list = golden_open("pictures.txt");
    char line[256], name[64];
    int32_t width, height, n = 0;
    unsigned long long want;
    while (fgets(line, sizeof line, list) != NULL) {
        if (sscanf(line, "%63s %d %d %llx", name, &width, &height, &want) != 4) {
            continue;
        }
        bytes file = golden_file(name);
        picture p = {0};
        flo_err err;
        if (decode(&p, file.at, file.n, &err) != FLO_OK || p.width != width || p.height != height) {
            fail_msg("%s: %d x %d, %s", name, p.width, p.height, err.text);
        }
        f(name, &file, &p, want);
        picture_free(&p);
        free(file.at);
        n++;
    }
    fclose(list);
    return n;
}

static size_t rgb_bytes(const picture *p)
{
    return 3 * (size_t)p->width * (size_t)p->height;
}

static void hold_to_hash(const char *name, const bytes *file, const picture *p, uint64_t want)
{
    (void)file;
    if (hash_bytes(HASH_START, p->rgb, rgb_bytes(p)) != want) {
        fail_msg("%s has other pixels than Pillow's", name);
    }
}

static void every_byte_is_what_pillow_loads(void **state)
{
    (void)state;
    assert_int_equal(for_each_golden(hold_to_hash), N_GOLDEN);
}

static void hold_size_to_pixels(const char *name, const bytes *file, const picture *p,
                                uint64_t want)
{
    (void)want;
    int32_t width = 0, height = 0;
    flo_err err;
    assert_int_equal(picture_size(&width, &height, file->at, file->n, name, &err), FLO_OK);
    assert_int_equal(width, p->width);
    assert_int_equal(height, p->height);
}

static void sizes_are_known_from_the_headers(void **state)
{
    (void)state;
    assert_int_equal(for_each_golden(hold_size_to_pixels), N_GOLDEN);
}

/* Cut anywhere, a file is refused, or it lacks only what comes after the first frame's pixels. */
static void hold_cuts(const char *name, const bytes *file, const picture *whole, uint64_t want)
{
    (void)want;
    int32_t n_whole = 0;
    for (size_t n = 0; n < file->n; n++) {
        uint8_t *cut = malloc(n + 1);
        picture p = {0};
        flo_err err;
        assert_non_null(cut);
        memcpy(cut, file->at, n);
        flo_code code = decode(&p, cut, n, &err);
        if (code == FLO_OK) {
            assert_int_equal(rgb_bytes(&p), rgb_bytes(whole));
            assert_memory_equal(p.rgb, whole->rgb, rgb_bytes(whole));
            n_whole++;
        } else {
            assert_int_equal(code, FLO_USAGE);
            assert_true(strncmp(err.text, "a.png: ", 7) == 0 && err.text[7] != '\0');
        }
        picture_free(&p);
        free(cut);
    }
    if (n_whole > 0 && strstr(name, ".gif") == NULL) {
        fail_msg("%s is taken though it is cut short", name);
    }
}

static void a_file_cut_short_is_refused(void **state)
{
    (void)state;
    assert_int_equal(for_each_golden(hold_cuts), N_GOLDEN);
}

/* Whatever becomes of it, nothing is read or written out of bounds: run under a sanitizer. */
static void hold_flips(const char *name, const bytes *file, const picture *whole, uint64_t want)
{
    (void)name;
    (void)whole;
    uint64_t draw = want | 1;
    for (int32_t i = 0; i < 200; i++) {
        draw = draw * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        size_t at = (size_t)(draw >> 33) % file->n;
        uint8_t before = file->at[at];
        picture p = {0};
        flo_err err;
        file->at[at] = (uint8_t)(draw >> 24);
        flo_code code = picture_decode(&p, file->at, file->n, "a.png", 1 << 20, &err);
        assert_true(code == FLO_OK ? p.rgb != NULL : p.rgb == NULL && err.text[0] != '\0');
        picture_free(&p);
        file->at[at] = before;
    }
}

static void a_damaged_file_ends_in_a_picture_or_a_sentence(void **state)
{
    (void)state;
    assert_int_equal(for_each_golden(hold_flips), N_GOLDEN);
}

static void hold_to_limit(const char *name, const bytes *file, const picture *whole, uint64_t want)
{
    (void)want;
    picture p = {0};
    flo_err err = {""};
    uint64_t n = rgb_bytes(whole) / 3;
    assert_int_equal(picture_decode(&p, file->at, file->n, name, n, &err), FLO_OK);
    picture_free(&p);
    assert_int_equal(picture_decode(&p, file->at, file->n, name, n - 1, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "pixels; raise --max-media-pixels"));
}

static void the_limit_is_inclusive_and_named(void **state)
{
    (void)state;
    assert_int_equal(for_each_golden(hold_to_limit), N_GOLDEN);
}

/* The letters of a picture of 3 x 2, turned. */
static void eight_orientations(void **state)
{
    (void)state;
    static const char *const want[9] = {
        [0] = "ABCDEF", [1] = "ABCDEF", [2] = "CBAFED", [3] = "FEDCBA", [4] = "DEFABC",
        [5] = "ADBECF", [6] = "DAEBFC", [7] = "FCEBDA", [8] = "CFBEAD"};
    uint8_t in[18], out[18];
    for (int32_t i = 0; i < 18; i++) {
        in[i] = (uint8_t)("ABCDEF"[i / 3] + 32 * (i % 3 == 1));
    }
    for (int32_t o = 0; o <= 8; o++) {
        orientation_apply(out, in, 3, 2, o);
        assert_int_equal(orientation_swaps(o), o >= 5);
        for (int32_t i = 0; i < 18; i++) {
            assert_int_equal(out[i], want[o][i / 3] + 32 * (i % 3 == 1));
        }
    }
}

static void orientation_is_found_in_either_byte_order_and_nowhere_else(void **state)
{
    (void)state;
    uint8_t little[] = "II*\0\10\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0";
    uint8_t big[] = "MM\0*\0\0\0\10\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0";
    uint8_t marked[] = "Exif\0\0Exif\0\0II*\0\10\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0";
    assert_int_equal(orientation_from_exif(little, sizeof little - 1), 6);
    assert_int_equal(orientation_from_exif(big, sizeof big - 1), 6);
    assert_int_equal(orientation_from_exif(marked, sizeof marked - 1), 6);
    assert_int_equal(orientation_from_exif(little, 0), 0);
    little[10] = 0x13; /* another tag */
    assert_int_equal(orientation_from_exif(little, sizeof little - 1), 0);
    little[4] = 0xff; /* a directory past the end */
    assert_int_equal(orientation_from_exif(little, sizeof little - 1), 0);

    static const uint8_t xmp[] = "<tiff:Orientations/> tiff:Orientation=\"x <tiff:Orientation>8<";
    assert_int_equal(orientation_from_xmp(xmp, sizeof xmp - 1), 8);
    assert_int_equal(orientation_from_xmp(xmp, sizeof xmp - 3), 0); /* ends before the digit */
    assert_int_equal(orientation_from_xmp(xmp, 0), 0);
}

/* alpha_composite is within one level of v a + 255 (1 - a), and exact at both ends. */
static void alpha_goes_over_white(void **state)
{
    (void)state;
    for (uint32_t alpha = 0; alpha < 256; alpha++) {
        for (uint32_t v = 0; v < 256; v++) {
            double exact = (v * alpha + 255.0 * (255 - alpha)) / 255.0;
            assert_true(fabs(over_white(v, alpha) - exact) <= 1.0);
            assert_true(alpha != 255 || over_white(v, alpha) == v);
            assert_true(alpha != 0 || over_white(v, alpha) == 255);
        }
    }
}

static void other_formats_are_named(void **state)
{
    (void)state;
    hold_to_refusal((const uint8_t *)"", 0, "empty");
    hold_to_refusal((const uint8_t *)"\xff", 1, "neither JPEG nor PNG, WebP or GIF");
    hold_to_refusal((const uint8_t *)"RIFF\x24\0\0\0WAVEfmt ", 16, "neither JPEG");
    hold_to_refusal((const uint8_t *)"BM and so on", 12, "BMP");
    hold_to_refusal((const uint8_t *)"II*\0\10\0\0\0", 8, "TIFF");
    hold_to_refusal((const uint8_t *)"MM\0*\0\0\0\10", 8, "TIFF");
    hold_to_refusal((const uint8_t *)"\0\0\0\x1c"
                                     "ftypavif",
                    12, "AVIF");
    hold_to_refusal((const uint8_t *)"\0\0\0\x18"
                                     "ftypheic",
                    12, "HEIC");
    hold_to_refusal((const uint8_t *)"<svg xmlns=\"\"/>", 15, "convert it to JPEG, PNG, WebP");
}

/* Files that are put together here. */
typedef struct maker {
    uint8_t at[1 << 20];
    size_t n;
} maker;

static void put(maker *m, const void *from, size_t n)
{
    assert_true(n <= sizeof m->at - m->n);
    memcpy(m->at + m->n, from, n);
    m->n += n;
}

static void put_big_endian(maker *m, uint32_t value)
{
    const uint8_t four[] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                            (uint8_t)value};
    put(m, four, 4);
}

/* A chunk of head and then, deflated, n_zeros zeros. */
static void put_chunk(maker *m, const char *name, const void *head, size_t n_head, size_t n_zeros)
{
    size_t start = m->n;
    put_big_endian(m, 0);
    put(m, name, 4);
    put(m, head, n_head);
    if (n_zeros > 0) {
        uint8_t *zeros = calloc(1, n_zeros);
        uLongf n = (uLongf)(sizeof m->at - m->n);
        assert_non_null(zeros);
        assert_int_equal(compress2(m->at + m->n, &n, zeros, (uLong)n_zeros, 9), Z_OK);
        m->n += n;
        free(zeros);
    }
    size_t end = m->n;
    m->n = start;
    put_big_endian(m, (uint32_t)(end - start - 8));
    m->n = end;
    put_big_endian(m, (uint32_t)crc32(0, m->at + start + 4, (uInt)(end - start - 4)));
}

static void begin_png(maker *m, uint32_t width, uint32_t height)
{
    maker header = {.n = 0};
    m->n = 0;
    put(m, "\x89PNG\r\n\x1a\n", 8);
    put_big_endian(&header, width);
    put_big_endian(&header, height);
    put(&header, "\10\0\0\0", 5); /* 8-bit grey */
    put_chunk(m, "IHDR", header.at, header.n, 0);
}

static maker made; /* too large for a stack */

static void a_large_picture_in_a_small_file_is_refused(void **state)
{
    (void)state;
    begin_png(&made, 20000, 20000);
    put_chunk(&made, "IDAT", "", 0, 1 << 20);
    put_chunk(&made, "IEND", "", 0, 0);
    hold_to_refusal(made.at, made.n, "20000 x 20000 are more than 67108864 pixels; raise");
    begin_png(&made, 0x7fffffff, 0x7fffffff);
    put_chunk(&made, "IDAT", "", 0, 100);
    hold_to_refusal(made.at, made.n, "raise --max-media-pixels");
    static const uint8_t gif[] = "GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\xff\xff\xff\xff"
                                 "\xff\xff\xff\xff\0\2\2\x44\1\0;";
    hold_to_refusal(gif, sizeof gif - 1, "131070 x 131070 are more than");
}

static void bombs_beside_the_pixels_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *chunk, *head;
        size_t n_head;
    } notes[] = {{"zTXt", "Comment\0\0", 9},
                 {"zTXt", "Raw profile type exif\0\0", 23},
                 {"iTXt", "XML:com.adobe.xmp\0\1\0\0\0", 22},
                 {"iCCP", "profile\0\0", 9}};
    for (int32_t i = 0; i < 4; i++) {
        begin_png(&made, 1, 1);
        put_chunk(&made, notes[i].chunk, notes[i].head, notes[i].n_head, 64 << 20);
        put_chunk(&made, "IDAT", "", 0, 2);
        put_chunk(&made, "IEND", "", 0, 0);
        hold_to_refusal(made.at, made.n, "unpack to more than");
    }
    begin_png(&made, 1, 1);
    put_chunk(&made, "IDAT", "", 0, 256 << 20);
    put_chunk(&made, "IEND", "", 0, 0);
    hold_to_refusal(made.at, made.n, "more than its pixels");
}

static void a_note_of_honest_size_does_no_harm(void **state)
{
    (void)state;
    picture p = {0};
    flo_err err;
    begin_png(&made, 1, 1);
    put_chunk(&made, "zTXt", "Comment\0\0", 9, 1 << 20);
    put_chunk(&made, "IDAT", "", 0, 2);
    put_chunk(&made, "tEXt", "Raw profile type exif\0\nexif\n 8\nzz", 34, 0);
    put_chunk(&made, "IEND", "", 0, 0);
    assert_int_equal(decode(&p, made.at, made.n, &err), FLO_OK);
    assert_true(p.width == 1 && p.height == 1 && p.rgb[0] == 0);
    picture_free(&p);
}

/* Where the two bytes of a JPEG marker stand first from `from` on; 0 as the second: any marker. */
static size_t marker_at(const bytes *file, size_t from, uint8_t marker)
{
    for (size_t i = from; i + 1 < file->n; i++) {
        uint8_t next = file->at[i + 1];
        if (file->at[i] == 0xff && (marker != 0 ? next == marker : next != 0)) {
            return i;
        }
    }
    fail_msg("no such marker");
    return 0;
}

/* The first scan of a progressive picture over and over again: small, valid, and slow. */
static void a_jpeg_of_a_thousand_scans_is_refused(void **state)
{
    (void)state;
    bytes file = golden_file("im-444-progressive.jpg");
    size_t scan = marker_at(&file, 0, 0xda);
    size_t end = marker_at(&file, scan + 2, 0);
    for (int32_t n_more = 1; n_more <= 1000; n_more += 999) {
        made.n = 0;
        put(&made, file.at, end);
        for (int32_t i = 0; i < n_more; i++) {
            put(&made, file.at + scan, end - scan);
        }
        put(&made, file.at + end, file.n - end);
        if (n_more > 1) {
            hold_to_refusal(made.at, made.n, "too many scans");
            continue;
        }
        picture p = {0};
        flo_err err;
        assert_int_equal(decode(&p, made.at, made.n, &err), FLO_OK);
        picture_free(&p);
    }
    free(file.at);
}

static void a_picture_without_pixels_is_refused(void **state)
{
    (void)state;
    begin_png(&made, 0, 5);
    hold_to_refusal(made.at, made.n, "damaged");
    static const uint8_t empty_gif[] = "GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\2\2\x44\1\0;";
    static const uint8_t no_frame[] = "GIF89a\1\0\1\0\0\0\0;";
    hold_to_refusal(empty_gif, sizeof empty_gif - 1, "0 x 0");
    hold_to_refusal(no_frame, sizeof no_frame - 1, "without a picture");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_what_pillow_loads),
        cmocka_unit_test(sizes_are_known_from_the_headers),
        cmocka_unit_test(a_file_cut_short_is_refused),
        cmocka_unit_test(a_damaged_file_ends_in_a_picture_or_a_sentence),
        cmocka_unit_test(the_limit_is_inclusive_and_named),
        cmocka_unit_test(eight_orientations),
        cmocka_unit_test(orientation_is_found_in_either_byte_order_and_nowhere_else),
        cmocka_unit_test(alpha_goes_over_white),
        cmocka_unit_test(other_formats_are_named),
        cmocka_unit_test(a_large_picture_in_a_small_file_is_refused),
        cmocka_unit_test(bombs_beside_the_pixels_are_refused),
        cmocka_unit_test(a_note_of_honest_size_does_no_harm),
        cmocka_unit_test(a_jpeg_of_a_thousand_scans_is_refused),
        cmocka_unit_test(a_picture_without_pixels_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

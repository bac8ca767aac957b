/*
 * picture.c - which format, whether it fits, and the same steps for all: facts, pixels,
 * orientation.
 *
 * Costs three bytes a pixel, twice for a moment where the picture is turned, and what the format's
 * library takes.
 */
#include "coordinator/media/picture.h"

#include "coordinator/media/picture_formats.h"
#include "coordinator/media/picture_orientation.h"

#include <stdlib.h>
#include <string.h>

typedef struct picture_format {
    picture_facts_fn *facts;
    picture_pixels_fn *pixels;
} picture_format;

/* Bytes at a place that tell a format. */
typedef struct mark {
    size_t at, n;
    const char *bytes;
} mark;

static bool has_mark(const mark *m, const uint8_t *bytes, size_t n_bytes)
{
    return n_bytes >= m->at + m->n && memcmp(bytes + m->at, m->bytes, m->n) == 0;
}

static const picture_format *format_of(const uint8_t *bytes, size_t n_bytes)
{
    static const struct {
        mark mark;
        picture_format format;
    } formats[] = {
        {{0, 3, "\xff\xd8\xff"}, {jpeg_facts, jpeg_pixels}},
        {{0, 8, "\x89PNG\r\n\x1a\n"}, {png_facts, png_pixels}},
        {{8, 4, "WEBP"}, {webp_facts, webp_pixels}},
        {{0, 6, "GIF87a"}, {gif_facts, gif_pixels}},
        {{0, 6, "GIF89a"}, {gif_facts, gif_pixels}},
    };
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (has_mark(&formats[i].mark, bytes, n_bytes)) {
            return &formats[i].format;
        }
    }
    return NULL;
}

/* What else people have on their disks; NULL: no picture that is known here. */
static const char *foreign_format(const uint8_t *bytes, size_t n_bytes)
{
    static const struct {
        mark mark;
        const char *name;
    } formats[] = {
        {{0, 2, "BM"}, "a BMP"},
        {{0, 4, "II*\0"}, "a TIFF"},
        {{0, 4, "MM\0*"}, "a TIFF"},
        {{4, 8, "ftypavif"}, "an AVIF"},
        {{4, 8, "ftypavis"}, "an AVIF"},
        {{4, 7, "ftyphei"}, "a HEIC"},
        {{4, 7, "ftyphev"}, "a HEIC"},
        {{4, 8, "ftypmif1"}, "a HEIC or AVIF"},
        {{4, 8, "ftypmsf1"}, "a HEIC or AVIF"},
        {{0, 2, "\xff\x0a"}, "a JPEG XL"},
        {{4, 8, "JXL \r\n\x87\n"}, "a JPEG XL"},
        {{4, 8, "jP  \r\n\x87\n"}, "a JPEG 2000"},
        {{0, 4, "\xff\x4f\xff\x51"}, "a JPEG 2000"},
        {{0, 4, "<svg"}, "an SVG"},
        {{0, 5, "<?xml"}, "an SVG or other XML"},
        {{0, 4, "8BPS"}, "a Photoshop"},
        {{0, 4, "\0\0\1\0"}, "an ICO"},
        {{0, 4, "%PDF"}, "a PDF"},
    };
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (has_mark(&formats[i].mark, bytes, n_bytes)) {
            return formats[i].name;
        }
    }
    return NULL;
}

static flo_code unknown_format(const uint8_t *bytes, size_t n_bytes, flo_err *err)
{
    if (n_bytes == 0) {
        return flo_fail(err, FLO_USAGE, "empty, and no picture");
    }
    const char *foreign = foreign_format(bytes, n_bytes);
    if (foreign != NULL) {
        return flo_fail(err, FLO_USAGE,
                        "%s file, which is not read; convert it to JPEG, PNG, WebP or GIF",
                        foreign);
    }
    return flo_fail(err, FLO_USAGE, "not a picture: neither JPEG nor PNG, WebP or GIF");
}

static flo_code read_facts(picture_facts *f, const picture_format **format, const uint8_t *bytes,
                           size_t n_bytes, flo_err *err)
{
    *format = format_of(bytes, n_bytes);
    if (*format == NULL) {
        return unknown_format(bytes, n_bytes, err);
    }
    flo_code code = (*format)->facts(f, bytes, n_bytes, err);
    if (code == FLO_OK && (f->width < 1 || f->height < 1)) {
        code = flo_fail(err, FLO_USAGE, "a picture of %lld x %lld pixels has none",
                        (long long)f->width, (long long)f->height);
    }
    return code;
}

static flo_code check_pixels(const picture_facts *f, uint64_t pixels_max, flo_err *err)
{
    uint64_t n = (uint64_t)f->width * (uint64_t)f->height; /* each below 2^32 */
    if (n > pixels_max) {
        return flo_fail(err, FLO_USAGE,
                        "%lld x %lld are more than %llu pixels; raise --max-media-pixels",
                        (long long)f->width, (long long)f->height, (unsigned long long)pixels_max);
    }
    return FLO_OK;
}

static uint8_t *pixels_new(const picture_facts *f, flo_err *err)
{
    uint64_t n_bytes = 3 * (uint64_t)f->width * (uint64_t)f->height;
    uint8_t *rgb = n_bytes / 3 / (uint64_t)f->width == (uint64_t)f->height && n_bytes <= SIZE_MAX
                       ? malloc((size_t)n_bytes)
                       : NULL;
    if (rgb == NULL) {
        flo_fail(err, FLO_FAIL, "no memory for a picture of %lld x %lld pixels",
                 (long long)f->width, (long long)f->height);
    }
    return rgb;
}

static picture turned_size(const picture_facts *f)
{
    bool swap = orientation_swaps(f->orientation);
    return (picture){.width = (int32_t)(swap ? f->height : f->width),
                     .height = (int32_t)(swap ? f->width : f->height)};
}

/* Takes rgb over; frees it where it fails. */
static flo_code turn(picture *p, uint8_t *rgb, const picture_facts *f, flo_err *err)
{
    *p = turned_size(f);
    p->rgb = rgb;
    if (f->orientation < 2 || f->orientation > 8) {
        return FLO_OK;
    }
    p->rgb = pixels_new(f, err);
    if (p->rgb != NULL) {
        orientation_apply(p->rgb, rgb, (int32_t)f->width, (int32_t)f->height, f->orientation);
    }
    free(rgb);
    return p->rgb != NULL ? FLO_OK : FLO_FAIL;
}

static flo_code decode(picture *p, const uint8_t *bytes, size_t n_bytes, uint64_t pixels_max,
                       flo_err *err)
{
    picture_facts f = {0};
    const picture_format *format;
    flo_code code = read_facts(&f, &format, bytes, n_bytes, err);
    if (code == FLO_OK) {
        code = check_pixels(&f, pixels_max, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    uint8_t *rgb = pixels_new(&f, err);
    if (rgb == NULL) {
        return FLO_FAIL;
    }
    code = format->pixels(rgb, &f, bytes, n_bytes, err);
    if (code != FLO_OK) {
        free(rgb);
        return code;
    }
    return turn(p, rgb, &f, err);
}

flo_code picture_decode(picture *p, const uint8_t *bytes, size_t n_bytes, const char *name,
                        uint64_t pixels_max, flo_err *err)
{
    picture decoded = {0};
    flo_code code = decode(&decoded, bytes, n_bytes, pixels_max, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", name);
        return code;
    }
    *p = decoded;
    return FLO_OK;
}

flo_code picture_size(int32_t *width, int32_t *height, const uint8_t *bytes, size_t n_bytes,
                      const char *name, flo_err *err)
{
    picture_facts f = {0};
    const picture_format *format;
    flo_code code = read_facts(&f, &format, bytes, n_bytes, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", name);
        return code;
    }
    picture size = turned_size(&f);
    *width = size.width;
    *height = size.height;
    return FLO_OK;
}

void picture_free(picture *p)
{
    free(p->rgb);
    *p = (picture){0};
}

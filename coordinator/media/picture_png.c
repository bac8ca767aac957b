/*
 * picture_png.c - PNG through libpng, every colour type and depth; of an APNG its default picture.
 *
 * Rows are taken as they are stored and turned into RGB here, because the loaders in front of the
 * reference have rules of their own: 16-bit colours keep their high byte, 16-bit greys are clamped
 * at 255, and a transparent colour is compared after that. Notes (text, profiles, gamma) are left
 * out by the library; picture_png_notes.c looks at those that matter.
 */
#include "coordinator/media/picture_formats.h"
#include "coordinator/media/picture_png_notes.h"

#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_BYTES_MAX = 8 << 20, /* of what is kept of one chunk */
    SPARE_BYTES = 65536,       /* read for one row beside twice its size: buffers, empty chunks */
};

typedef struct png_reader {
    png_structp png;
    png_infop info;
    const uint8_t *bytes;
    size_t n_bytes, at;
    size_t budget; /* bytes that may be read until it is set anew */
    jmp_buf failed;
    flo_code code;
    flo_err *err;
    picture_facts facts;
    uint8_t *rgb;
    uint8_t *rows;           /* stored rows: one, or all of an interlaced picture */
    int32_t channels, depth; /* of the stored rows, as they are read */
    uint8_t colours[256][3]; /* of greys and palettes: what each value looks like */
    bool has_transparent;    /* of RGB: one colour is */
    uint8_t transparent[3];
} png_reader;

static _Noreturn void refuse(png_reader *r, flo_code code, const char *what)
{
    r->code = flo_fail(r->err, code, "%s", what);
    longjmp(r->failed, 1);
}

static _Noreturn void on_error(png_structp png, png_const_charp text)
{
    char what[160];
    snprintf(what, sizeof what, "a damaged PNG: %s", text);
    refuse(png_get_error_ptr(png), FLO_USAGE, what);
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void read_bytes(png_structp png, png_bytep out, size_t n)
{
    png_reader *r = png_get_io_ptr(png);
    if (n > r->n_bytes - r->at) {
        png_error(png, "it is cut short");
    }
    if (n > r->budget) {
        png_error(png, "it holds more than its pixels");
    }
    r->budget -= n;
    memcpy(out, r->bytes + r->at, n);
    r->at += n;
}

static void read_header(png_reader *r)
{
    png_set_read_fn(r->png, r, read_bytes);
    png_set_user_limits(r->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* the caller counts pixels */
    png_set_chunk_malloc_max(r->png, CHUNK_BYTES_MAX);
    png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(r->png, r->info);
    r->facts.width = png_get_image_width(r->png, r->info);
    r->facts.height = png_get_image_height(r->png, r->info);
}

/* Colours of greys, those of less than 8 bits spread over 0..255. */
static void fill_greys(png_reader *r)
{
    int32_t highest = r->depth < 8 ? (1 << r->depth) - 1 : 255;
    for (int32_t i = 0; i <= highest; i++) {
        memset(r->colours[i], i * 255 / highest, 3);
    }
}

/* Colours past the palette's end are black. */
static void fill_palette(png_reader *r)
{
    png_colorp palette = NULL;
    int n = 0;
    png_get_PLTE(r->png, r->info, &palette, &n);
    for (int32_t i = 0; i < n; i++) {
        r->colours[i][0] = palette[i].red;
        r->colours[i][1] = palette[i].green;
        r->colours[i][2] = palette[i].blue;
    }
}

static void lay_palette_over_white(png_reader *r, const uint8_t *alphas, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        for (int32_t c = 0; c < 3; c++) {
            r->colours[i][c] = over_white(r->colours[i][c], alphas[i]);
        }
    }
}

/* The grey that is transparent becomes white: its low byte is compared with greys of 8 bits. */
static void whiten_grey(png_reader *r, uint8_t grey)
{
    for (int32_t i = 0; i < 256; i++) {
        if (r->colours[i][0] == grey) {
            memset(r->colours[i], 255, 3);
        }
    }
}

static void prepare_transparency(png_reader *r, int32_t type)
{
    png_bytep alphas = NULL;
    png_color_16p colour = NULL;
    int n = 0;
    if (!png_get_tRNS(r->png, r->info, &alphas, &n, &colour)) {
        return;
    }
    if (type == PNG_COLOR_TYPE_PALETTE) {
        lay_palette_over_white(r, alphas, n);
    } else if (type == PNG_COLOR_TYPE_GRAY) {
        whiten_grey(r, (uint8_t)colour->gray);
    } else if (type == PNG_COLOR_TYPE_RGB) {
        r->has_transparent = true;
        r->transparent[0] = (uint8_t)colour->red;
        r->transparent[1] = (uint8_t)colour->green;
        r->transparent[2] = (uint8_t)colour->blue;
    }
}

/* Asks the library for rows of whole bytes, of 8 bits each but for 16-bit greys. */
static void prepare_rows(png_reader *r)
{
    int32_t type = png_get_color_type(r->png, r->info);
    r->depth = png_get_bit_depth(r->png, r->info);
    r->channels = png_get_channels(r->png, r->info);
    png_set_packing(r->png);
    if (type == PNG_COLOR_TYPE_PALETTE) {
        fill_palette(r);
    } else if (type == PNG_COLOR_TYPE_GRAY) {
        fill_greys(r);
    } else if (r->channels > 1 && r->depth == 16) {
        png_set_strip_16(r->png);
        r->depth = 8;
    }
    prepare_transparency(r, type);
}

static void rgb_from_one(uint8_t *rgb, const uint8_t *in, const png_reader *r)
{
    for (int64_t x = 0; x < r->facts.width; x++, rgb += 3) {
        uint8_t value = in[x];
        if (r->depth == 16) { /* big-endian, clamped */
            value = in[2 * x] != 0 ? 255 : in[2 * x + 1];
        }
        memcpy(rgb, r->colours[value], 3);
    }
}

static void rgb_from_three(uint8_t *rgb, const uint8_t *in, const png_reader *r)
{
    memcpy(rgb, in, 3 * (size_t)r->facts.width);
    for (int64_t x = 0; x < r->facts.width && r->has_transparent; x++, rgb += 3) {
        if (memcmp(rgb, r->transparent, 3) == 0) {
            memset(rgb, 255, 3);
        }
    }
}

/* Grey and alpha, or RGB and alpha. */
static void rgb_from_alpha(uint8_t *rgb, const uint8_t *in, const png_reader *r)
{
    int32_t n = r->channels, step = n == 2 ? 0 : 1;
    for (int64_t x = 0; x < r->facts.width; x++, rgb += 3, in += n) {
        for (int32_t c = 0; c < 3; c++) {
            rgb[c] = over_white(in[c * step], in[n - 1]);
        }
    }
}

static void rgb_from_row(uint8_t *rgb, const uint8_t *in, const png_reader *r)
{
    if (r->channels == 1) {
        rgb_from_one(rgb, in, r);
    } else if (r->channels == 3) {
        rgb_from_three(rgb, in, r);
    } else {
        rgb_from_alpha(rgb, in, r);
    }
}

/* An interlaced picture is read in passes, each over the rows as the last one left them. After the
 * last pixel the library unpacks whatever is left and throws it away, which would be a bomb's work:
 * hence the budget. */
static void read_rows(png_reader *r)
{
    int32_t n_passes = png_set_interlace_handling(r->png);
    png_read_update_info(r->png, r->info);
    size_t row_bytes = png_get_rowbytes(r->png, r->info);
    size_t n_rows = n_passes > 1 ? (size_t)r->facts.height : 1;
    r->rows = calloc(n_rows, row_bytes);
    if (r->rows == NULL) {
        refuse(r, FLO_FAIL, "no memory to read a PNG");
    }
    for (int32_t pass = 0; pass < n_passes; pass++) {
        for (int64_t y = 0; y < r->facts.height; y++) {
            uint8_t *row = r->rows + (n_passes > 1 ? (size_t)y * row_bytes : 0);
            r->budget = 2 * row_bytes + SPARE_BYTES;
            png_read_row(r->png, row, NULL);
            if (pass == n_passes - 1) {
                rgb_from_row(r->rgb + 3 * y * r->facts.width, row, r);
            }
        }
    }
}

static void read_pixels(png_reader *r)
{
    picture_facts expected = r->facts;
    read_header(r);
    if (r->facts.width != expected.width || r->facts.height != expected.height) {
        refuse(r, FLO_USAGE, "a PNG that changed while it was read");
    }
    prepare_rows(r);
    read_rows(r);
    r->budget = SIZE_MAX;
    png_read_end(r->png, NULL); /* the checksum of the pixels, and an end that is there */
}

/* Runs step with the library set up over bytes; what step refuses, or the library, is returned. */
static flo_code guarded(png_reader *r, void (*step)(png_reader *), const uint8_t *bytes,
                        size_t n_bytes, flo_err *err)
{
    r->bytes = bytes;
    r->n_bytes = n_bytes;
    r->budget = SIZE_MAX;
    r->err = err;
    r->code = FLO_OK;
    if (setjmp(r->failed) == 0) {
        r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
        r->info = r->png != NULL ? png_create_info_struct(r->png) : NULL;
        if (r->info == NULL) {
            refuse(r, FLO_FAIL, "no memory to read a PNG");
        }
        step(r);
    }
    png_destroy_read_struct(&r->png, &r->info, NULL);
    free(r->rows);
    return r->code;
}

flo_code png_facts(picture_facts *f, const uint8_t *bytes, size_t n_bytes, flo_err *err)
{
    png_reader r = {.code = FLO_OK};
    flo_code code = guarded(&r, read_header, bytes, n_bytes, err);
    *f = r.facts;
    return code == FLO_OK ? png_notes_orientation(&f->orientation, bytes, n_bytes, err) : code;
}

flo_code png_pixels(uint8_t *rgb, const picture_facts *f, const uint8_t *bytes, size_t n_bytes,
                    flo_err *err)
{
    png_reader r = {.facts = *f, .rgb = rgb};
    return guarded(&r, read_pixels, bytes, n_bytes, err);
}

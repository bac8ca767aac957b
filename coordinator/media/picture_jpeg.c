/*
 * picture_jpeg.c - JPEG through libjpeg(-turbo): baseline and progressive, grey, YCbCr, RGB, CMYK.
 *
 * The library's errors jump out, so every call into it stands in a step that `guarded` runs. Some
 * of its warnings mean that pixels were made up; they are errors here.
 */
#include "coordinator/media/picture_formats.h"
#include "coordinator/media/picture_orientation.h"

#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h> /* jpeglib.h wants it */
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

/* A file may pass over its pixels as often as it likes; honest ones do so about ten times. */
enum { SCANS_MAX = 100 };

typedef struct jpeg_reader {
    struct jpeg_decompress_struct d; /* first: the library hands it back */
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    flo_code code;
    flo_err *err;
    picture_facts facts;
    uint8_t *rgb;
    uint8_t *row; /* one row of CMYK */
} jpeg_reader;

static _Noreturn void refuse(jpeg_reader *r, flo_code code, const char *what)
{
    r->code = flo_fail(r->err, code, "%s", what);
    longjmp(r->failed, 1);
}

static _Noreturn void on_error(j_common_ptr c)
{
    jpeg_reader *r = (jpeg_reader *)(void *)c;
    char text[JMSG_LENGTH_MAX], what[JMSG_LENGTH_MAX + 32];
    c->err->format_message(c, text);
    snprintf(what, sizeof what, "a damaged JPEG: %s", text);
    bool memory = c->err->msg_code == JERR_OUT_OF_MEMORY;
    refuse(r, memory ? FLO_FAIL : FLO_USAGE, memory ? "no memory to read a JPEG" : what);
}

/* Warnings after which some pixels are guesses. */
static bool is_damage(int message)
{
    switch (message) {
    case JWRN_JPEG_EOF:
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_MUST_RESYNC:
        return true;
    default:
        return false;
    }
}

static void on_message(j_common_ptr c, int level)
{
    if (level < 0 && is_damage(c->err->msg_code)) {
        on_error(c);
    }
}

static void on_progress(j_common_ptr c)
{
    jpeg_reader *r = (jpeg_reader *)(void *)c;
    if (r->d.input_scan_number > SCANS_MAX) {
        refuse(r, FLO_USAGE, "a JPEG of too many scans");
    }
}

static int32_t orientation_of(const struct jpeg_decompress_struct *d)
{
    static const char xmp_mark[] = "http://ns.adobe.com/xap/1.0/"; /* with its NUL */
    int32_t exif = 0, xmp = 0;
    for (const struct jpeg_marker_struct *m = d->marker_list; m != NULL; m = m->next) {
        size_t n = m->data_length;
        if (exif == 0 && n > 6 && memcmp(m->data, "Exif\0", 6) == 0) {
            exif = orientation_from_exif(m->data, n);
        } else if (xmp == 0 && n > sizeof xmp_mark &&
                   memcmp(m->data, xmp_mark, sizeof xmp_mark) == 0) {
            xmp = orientation_from_xmp(m->data + sizeof xmp_mark, n - sizeof xmp_mark);
        }
    }
    return exif != 0 ? exif : xmp;
}

static void read_header(jpeg_reader *r)
{
    jpeg_save_markers(&r->d, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(&r->d, TRUE);
    int32_t n = r->d.num_components;
    if (n != 1 && n != 3 && n != 4) {
        refuse(r, FLO_USAGE, "a JPEG that is neither grey nor RGB nor CMYK");
    }
    r->facts = (picture_facts){.width = r->d.image_width,
                               .height = r->d.image_height,
                               .orientation = orientation_of(&r->d)};
}

/* a * b / 255, rounded, as Pillow has it in integers. */
static uint32_t multiply_255(uint32_t a, uint32_t b)
{
    uint32_t t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

/* JPEG's CMYK is taken as Adobe writes it, inverted (what stands there is how much paper is left),
 * as Pillow does whether the file says Adobe or not. */
static void rgb_from_cmyk(uint8_t *rgb, const uint8_t *cmyk, int64_t n)
{
    for (int64_t x = 0; x < n; x++, rgb += 3, cmyk += 4) {
        uint32_t light = cmyk[3];
        for (int32_t c = 0; c < 3; c++) {
            uint32_t dark = multiply_255(255u - cmyk[c], light);
            rgb[c] = (uint8_t)(light - dark);
        }
    }
}

static void read_rows(jpeg_reader *r)
{
    struct jpeg_decompress_struct *d = &r->d;
    size_t row_bytes = 3 * (size_t)d->output_width;
    while (d->output_scanline < d->output_height) {
        uint8_t *rgb = r->rgb + d->output_scanline * row_bytes;
        JSAMPROW row = r->row != NULL ? r->row : rgb;
        jpeg_read_scanlines(d, &row, 1);
        if (r->row != NULL) {
            rgb_from_cmyk(rgb, r->row, d->output_width);
        }
    }
}

static void read_pixels(jpeg_reader *r)
{
    picture_facts expected = r->facts;
    struct jpeg_decompress_struct *d = &r->d;
    read_header(r);
    if (r->facts.width != expected.width || r->facts.height != expected.height) {
        refuse(r, FLO_USAGE, "a JPEG that changed while it was read");
    }
    d->out_color_space = d->num_components == 4 ? JCS_CMYK : JCS_RGB;
    d->dct_method = JDCT_ISLOW;
    jpeg_start_decompress(d);
    if (d->num_components == 4) {
        r->row = malloc(4 * (size_t)d->output_width);
        if (r->row == NULL) {
            refuse(r, FLO_FAIL, "no memory to read a JPEG");
        }
    }
    read_rows(r);
    jpeg_finish_decompress(d);
}

/* Runs step with the library set up over bytes; what step refuses, or the library, is returned. */
static flo_code guarded(jpeg_reader *r, void (*step)(jpeg_reader *), const uint8_t *bytes,
                        size_t n_bytes, flo_err *err)
{
    r->err = err;
    r->code = FLO_OK;
    r->d.err = jpeg_std_error(&r->errors);
    r->errors.error_exit = on_error;
    r->errors.emit_message = on_message;
    r->progress.progress_monitor = on_progress;
    if (setjmp(r->failed) == 0) {
        jpeg_create_decompress(&r->d);
        r->d.progress = &r->progress;
        jpeg_mem_src(&r->d, bytes, n_bytes);
        step(r);
    }
    jpeg_destroy_decompress(&r->d);
    free(r->row);
    return r->code;
}

flo_code jpeg_facts(picture_facts *f, const uint8_t *bytes, size_t n_bytes, flo_err *err)
{
    jpeg_reader r = {.code = FLO_OK};
    flo_code code = guarded(&r, read_header, bytes, n_bytes, err);
    *f = r.facts;
    return code;
}

flo_code jpeg_pixels(uint8_t *rgb, const picture_facts *f, const uint8_t *bytes, size_t n_bytes,
                     flo_err *err)
{
    jpeg_reader r = {.facts = *f, .rgb = rgb};
    return guarded(&r, read_pixels, bytes, n_bytes, err);
}

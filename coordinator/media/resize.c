/*
 * resize.c - which size, and the way there: rows first, then columns, both in 8 bits.
 *
 * A new row needs a few rows of the intermediate picture, and the next new row needs mostly the
 * same ones: they are kept in a ring of as many as the widest window, which stays in the cache. A
 * plan costs its weights, that ring and one row of the source; a frame costs no allocation.
 */
#include "coordinator/media/resize.h"

#include "coordinator/media/resize_passes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ASPECT_MAX = 200 };

/* max(factor, floor(size / beta / factor) * factor): down to where the area is allowed. */
static double size_down(int32_t size, double beta, int32_t factor)
{
    double to = floor(size / beta / factor) * factor;
    return to < factor ? factor : to;
}

static double size_up(int32_t size, double beta, int32_t factor)
{
    return ceil(size * beta / factor) * factor;
}

flo_code resize_target(int32_t *to_width, int32_t *to_height, int32_t width, int32_t height,
                       int32_t factor, int64_t pixels_min, int64_t pixels_max, flo_err *err)
{
    if (width < 1 || height < 1) {
        return flo_fail(err, FLO_USAGE, "a picture of %d x %d has no pixels", width, height);
    }
    double longer = width > height ? width : height;
    double shorter = width > height ? height : width;
    if (longer / shorter > ASPECT_MAX) {
        return flo_fail(err, FLO_USAGE,
                        "a picture of %d x %d has a side more than %d times as long as the other, "
                        "which the model does not take; crop it",
                        width, height, ASPECT_MAX);
    }
    if (factor < 1 || pixels_min < 0 || pixels_max < 1) {
        return flo_fail(err, FLO_USAGE, "a picture cannot be made %lld to %lld pixels large",
                        (long long)pixels_min, (long long)pixels_max);
    }
    double h = nearbyint((double)height / factor) * factor; /* halves to even */
    double w = nearbyint((double)width / factor) * factor;
    double area = (double)((int64_t)height * width);
    if (h * w > (double)pixels_max) {
        double beta = sqrt(area / (double)pixels_max);
        h = size_down(height, beta, factor);
        w = size_down(width, beta, factor);
    } else if (h * w < (double)pixels_min) {
        double beta = sqrt((double)pixels_min / area);
        h = size_up(height, beta, factor);
        w = size_up(width, beta, factor);
    }
    if (h < 1 || w < 1 || h > INT32_MAX || w > INT32_MAX) {
        return flo_fail(err, FLO_USAGE,
                        "a picture of %d x %d cannot be made %lld to %lld pixels large", width,
                        height, (long long)pixels_min, (long long)pixels_max);
    }
    *to_width = (int32_t)w;
    *to_height = (int32_t)h;
    return FLO_OK;
}

struct resizer {
    bool across, down; /* which passes there are */
    resize_axis columns, rows;
    const resize_passes *passes;
    uint8_t *source;        /* one row of the source, with slack, for the pass across */
    uint8_t *ring;          /* [rows.n_taps or 1] rows of ring_stride bytes */
    const uint8_t **window; /* [rows.n_taps] rows of one window */
    size_t ring_stride;     /* a row of the intermediate picture, with slack */
    size_t in_bytes;        /* of a row of the source */
    size_t out_bytes;       /* of a new row */
    int32_t height, to_height;
};

static const resize_passes *fastest_passes(void)
{
    const resize_passes *avx2 = resize_passes_variant("avx2");
    return avx2 != NULL ? avx2 : resize_passes_variant("ref");
}

void resizer_use(resizer *r, const resize_passes *passes)
{
    r->passes = passes;
}

static bool plan_across(resizer *r, int32_t width, int32_t to_width)
{
    if (!resize_axis_init(&r->columns, width, to_width)) {
        return false;
    }
    r->source = calloc(1, r->in_bytes + 3 * (size_t)r->columns.n_taps + RESIZE_SLACK_BYTES);
    return r->source != NULL;
}

static bool plan_down(resizer *r, int32_t height, int32_t to_height)
{
    if (!resize_axis_init(&r->rows, height, to_height)) {
        return false;
    }
    r->window = malloc((size_t)r->rows.n_taps * sizeof *r->window);
    return r->window != NULL;
}

flo_code resizer_new(resizer **out, int32_t width, int32_t height, int32_t to_width,
                     int32_t to_height, flo_err *err)
{
    if (width < 1 || height < 1 || to_width < 1 || to_height < 1) {
        return flo_fail(err, FLO_USAGE, "a picture of %d x %d cannot be made %d x %d", width,
                        height, to_width, to_height);
    }
    resizer *r = calloc(1, sizeof *r);
    if (r == NULL) {
        goto no_memory;
    }
    r->passes = fastest_passes();
    r->across = width != to_width;
    r->down = height != to_height;
    r->height = height;
    r->to_height = to_height;
    r->in_bytes = 3 * (size_t)width;
    r->out_bytes = 3 * (size_t)to_width;
    r->ring_stride = r->out_bytes + RESIZE_SLACK_BYTES;
    if ((r->across && !plan_across(r, width, to_width)) ||
        (r->down && !plan_down(r, height, to_height))) {
        goto no_memory;
    }
    r->ring = malloc((size_t)(r->down ? r->rows.n_taps : 1) * r->ring_stride);
    if (r->ring == NULL) {
        goto no_memory;
    }
    *out = r;
    return FLO_OK;

no_memory:
    resizer_free(r);
    return flo_fail(err, FLO_FAIL, "no memory to make a picture of %d x %d into one of %d x %d",
                    width, height, to_width, to_height);
}

void resizer_free(resizer *r)
{
    if (r != NULL) {
        resize_axis_free(&r->columns);
        resize_axis_free(&r->rows);
        free(r->source);
        free(r->ring);
        free(r->window);
        free(r);
    }
}

/* The pass across for one row; into has slack. */
static void row_across(resizer *r, uint8_t *into, const uint8_t *in)
{
    memcpy(r->source, in, r->in_bytes); /* zeros follow it, which the window may reach */
    r->passes->row(into, r->source, &r->columns);
}

static uint8_t *ring_row(const resizer *r, int32_t y)
{
    return r->ring + (size_t)(y % r->rows.n_taps) * r->ring_stride;
}

/* Makes rows [*next, end) of the intermediate picture. */
static void advance_ring(resizer *r, int32_t *next, int32_t end, const uint8_t *in,
                         size_t in_stride)
{
    for (; *next < end; (*next)++) {
        row_across(r, ring_row(r, *next), in + (size_t)*next * in_stride);
    }
}

/* Points r->window at the rows of new row i, the last ones, of weight 0, at the first. */
static void fill_window(resizer *r, int32_t i, const uint8_t *in, size_t in_stride)
{
    for (int32_t j = 0; j < r->rows.n_taps; j++) {
        int32_t y = r->rows.first[i] + (j < r->rows.count[i] ? j : 0);
        r->window[j] = r->across ? ring_row(r, y) : in + (size_t)y * in_stride;
    }
}

static void run_down(resizer *r, uint8_t *out, const uint8_t *in, size_t in_stride)
{
    const resize_axis *rows = &r->rows;
    int32_t next = 0;
    for (int32_t i = 0; i < r->to_height; i++, out += r->out_bytes) {
        if (r->across) {
            advance_ring(r, &next, rows->first[i] + rows->count[i], in, in_stride);
        }
        fill_window(r, i, in, in_stride);
        r->passes->column(out, r->window, rows->weights + (size_t)i * (size_t)rows->n_taps,
                          rows->n_taps, rows->shift, (int64_t)r->out_bytes);
    }
}

void resizer_run(resizer *r, uint8_t *out, const uint8_t *in, size_t in_stride)
{
    if (r->down) {
        run_down(r, out, in, in_stride);
        return;
    }
    for (int32_t y = 0; y < r->height; y++, in += in_stride, out += r->out_bytes) {
        if (r->across) {
            row_across(r, r->ring, in);
        }
        memcpy(out, r->across ? r->ring : in, r->out_bytes);
    }
}

/*
 * frame_scaler.c - swscale, alpha, turn, resize; the plans for one size and format are kept for the
 * frames that follow.
 */
#include "coordinator/media/frame_scaler.h"

#include "coordinator/media/resize.h"

#include <inttypes.h>
#include <libavutil/mem.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <stdlib.h>

struct frame_scaler {
    frame_turn turn;
    int32_t to_width, to_height;
    uint64_t pixels_max;

    int32_t width, height; /* as recorded; what the rest is made for. 0: nothing yet */
    int format;            /* enum AVPixelFormat */
    bool has_alpha;
    struct SwsContext *colours;
    uint8_t *rgb; /* [height][stride], as recorded; four bytes a pixel with alpha until blended */
    int stride;
    uint8_t *upright; /* [width][height][3] or [height][width][3]; NULL where rgb is upright */
    resizer *resize;
};

frame_turn frame_turn_from_matrix(const int32_t *matrix)
{
    /* x' = a x + c y, y' = b x + d y */
    frame_turn turn = {false, false, false};
    if (matrix == NULL) {
        return turn;
    }
    int64_t a = matrix[0], b = matrix[1], c = matrix[3], d = matrix[4];
    turn.transpose = llabs(b) > llabs(a);
    turn.flip_x = (turn.transpose ? c : a) < 0;
    turn.flip_y = (turn.transpose ? b : d) < 0;
    return turn;
}

flo_code frame_scaler_new(frame_scaler **out, frame_turn turn, int32_t to_width, int32_t to_height,
                          uint64_t pixels_max, flo_err *err)
{
    frame_scaler *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return flo_fail(err, FLO_FAIL, "not enough memory");
    }
    s->turn = turn;
    s->to_width = to_width;
    s->to_height = to_height;
    s->pixels_max = pixels_max;
    *out = s;
    return FLO_OK;
}

static void drop_plans(frame_scaler *s)
{
    sws_freeContext(s->colours);
    s->colours = NULL;
    resizer_free(s->resize);
    s->resize = NULL;
    av_freep(&s->rgb);
    av_freep(&s->upright);
    s->width = 0;
}

void frame_scaler_free(frame_scaler *s)
{
    if (s != NULL) {
        drop_plans(s);
        free(s);
    }
}

static bool is_upright(const frame_turn *turn)
{
    return !turn->transpose && !turn->flip_x && !turn->flip_y;
}

static flo_code make_plans(frame_scaler *s, const AVFrame *frame, flo_err *err)
{
    enum AVPixelFormat format = (enum AVPixelFormat)frame->format;
    const AVPixFmtDescriptor *facts = av_pix_fmt_desc_get(format);
    int32_t width = frame->width, height = frame->height;
    if (facts == NULL || !sws_isSupportedInput(format)) {
        return flo_fail(err, FLO_USAGE, "its pixels are in a format that is not supported");
    }
    s->has_alpha = (facts->flags & AV_PIX_FMT_FLAG_ALPHA) != 0;
    int n_bytes = s->has_alpha ? 4 : 3;
    s->stride = (width * n_bytes + 127) / 64 * 64; /* swscale writes whole vectors */
    s->rgb = av_malloc((size_t)s->stride * (size_t)height);
    s->upright = is_upright(&s->turn) ? NULL : av_malloc((size_t)width * (size_t)height * 3);
    s->colours = sws_getContext(
        width, height, format, width, height, s->has_alpha ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24,
        SWS_BILINEAR | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND, NULL, NULL, NULL);
    if (s->rgb == NULL || s->colours == NULL || (s->upright == NULL && !is_upright(&s->turn))) {
        return flo_fail(err, FLO_FAIL,
                        "not enough memory for frames of %" PRId32 "x%" PRId32 " pixels", width,
                        height);
    }
    flo_code code = resizer_new(&s->resize, s->turn.transpose ? height : width,
                                s->turn.transpose ? width : height, s->to_width, s->to_height, err);
    if (code != FLO_OK) {
        return code;
    }
    s->width = width;
    s->height = height;
    s->format = frame->format;
    return FLO_OK;
}

/* Plans that fit this frame. */
static flo_code prepare(frame_scaler *s, const AVFrame *frame, flo_err *err)
{
    if (frame->width == s->width && frame->height == s->height && frame->format == s->format) {
        return FLO_OK;
    }
    drop_plans(s);
    if (frame->width <= 0 || frame->height <= 0 || frame->width > INT32_MAX / 8 ||
        (uint64_t)frame->width * (uint64_t)frame->height > s->pixels_max) {
        return flo_fail(err, FLO_USAGE,
                        "a frame of %dx%d pixels is over the limit of %" PRIu64 " pixels",
                        frame->width, frame->height, s->pixels_max);
    }
    flo_code code = make_plans(s, frame, err);
    if (code != FLO_OK) {
        drop_plans(s);
    }
    return code;
}

/* BT.709 where nobody says and the picture is larger than standard definition. */
static int colour_matrix(const AVFrame *frame)
{
    if (frame->colorspace == AVCOL_SPC_UNSPECIFIED || frame->colorspace == AVCOL_SPC_RGB) {
        return frame->width >= 1280 || frame->height > 576 ? SWS_CS_ITU709 : SWS_CS_ITU601;
    }
    return (int)frame->colorspace;
}

static bool is_full_range(const AVFrame *frame)
{
    switch (frame->format) {
    case AV_PIX_FMT_YUVJ420P:
    case AV_PIX_FMT_YUVJ422P:
    case AV_PIX_FMT_YUVJ444P:
    case AV_PIX_FMT_YUVJ440P:
    case AV_PIX_FMT_YUVJ411P:
        return true;
    default:
        return frame->color_range == AVCOL_RANGE_JPEG;
    }
}

static flo_code convert(frame_scaler *s, const AVFrame *frame, flo_err *err)
{
    const int *matrix = sws_getCoefficients(colour_matrix(frame));
    uint8_t *planes[4] = {s->rgb};
    int strides[4] = {s->stride};
    (void)sws_setColorspaceDetails(s->colours, matrix, is_full_range(frame),
                                   sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    int n = sws_scale(s->colours, (const uint8_t *const *)frame->data, frame->linesize, 0,
                      s->height, planes, strides);
    return n == s->height ? FLO_OK : flo_fail(err, FLO_FAIL, "swscale cannot convert its frames");
}

/* RGBA to RGB over white, in place. */
static void blend(const frame_scaler *s)
{
    for (int32_t y = 0; y < s->height; y++) {
        uint8_t *row = s->rgb + (size_t)y * (size_t)s->stride;
        for (int32_t x = 0; x < s->width; x++) {
            int alpha = row[4 * x + 3];
            for (int c = 0; c < 3; c++) {
                int sum = row[4 * x + c] * alpha + 255 * (255 - alpha);
                row[3 * x + c] = (uint8_t)((sum + 127) / 255);
            }
        }
    }
}

static void turn_upright(const frame_scaler *s)
{
    const frame_turn *turn = &s->turn;
    int32_t width = turn->transpose ? s->height : s->width;
    int32_t height = turn->transpose ? s->width : s->height;
    uint8_t *out = s->upright;
    for (int32_t y = 0; y < height; y++) {
        int32_t from_y = turn->flip_y ? height - 1 - y : y;
        for (int32_t x = 0; x < width; x++) {
            int32_t from_x = turn->flip_x ? width - 1 - x : x;
            int32_t row = turn->transpose ? from_x : from_y;
            int32_t column = turn->transpose ? from_y : from_x;
            const uint8_t *pixel = s->rgb + (size_t)row * (size_t)s->stride + (size_t)column * 3;
            *out++ = pixel[0];
            *out++ = pixel[1];
            *out++ = pixel[2];
        }
    }
}

flo_code frame_scaler_run(frame_scaler *s, uint8_t *out, const AVFrame *frame, flo_err *err)
{
    flo_code code = prepare(s, frame, err);
    if (code == FLO_OK) {
        code = convert(s, frame, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    if (s->has_alpha) {
        blend(s);
    }
    if (s->upright == NULL) {
        resizer_run(s->resize, out, s->rgb, (size_t)s->stride);
        return FLO_OK;
    }
    turn_upright(s);
    resizer_run(s->resize, out, s->upright, (size_t)(s->turn.transpose ? s->height : s->width) * 3);
    return FLO_OK;
}

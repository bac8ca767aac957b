/*
 * picture_webp.c - WebP through libwebp: lossy, lossless, with alpha, the first frame of an
 * animation.
 *
 * Stills go the way of animations of one frame, as Pillow reads them: it costs two canvases of four
 * bytes a pixel while it is decoded.
 */
#include "coordinator/media/picture_formats.h"
#include "coordinator/media/picture_orientation.h"

#include <stdbool.h>
#include <webp/decode.h>
#include <webp/demux.h>

static int32_t note_orientation(const WebPDemuxer *demuxer, const char tag[4],
                                int32_t (*from)(const uint8_t *, size_t))
{
    WebPChunkIterator note;
    int32_t orientation = 0;
    if (WebPDemuxGetChunk(demuxer, tag, 1, &note)) {
        orientation = from(note.chunk.bytes, note.chunk.size);
        WebPDemuxReleaseChunkIterator(&note);
    }
    return orientation;
}

flo_code webp_facts(picture_facts *f, const uint8_t *bytes, size_t n_bytes, flo_err *err)
{
    WebPDemuxer *demuxer = WebPDemux(&(WebPData){.bytes = bytes, .size = n_bytes});
    if (demuxer == NULL) {
        return flo_fail(err, FLO_USAGE, "a WebP that is damaged or cut short");
    }
    int32_t orientation = note_orientation(demuxer, "EXIF", orientation_from_exif);
    if (orientation == 0) {
        orientation = note_orientation(demuxer, "XMP ", orientation_from_xmp);
    }
    *f = (picture_facts){.width = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_WIDTH),
                         .height = WebPDemuxGetI(demuxer, WEBP_FF_CANVAS_HEIGHT),
                         .orientation = orientation};
    WebPDemuxDelete(demuxer);
    return FLO_OK;
}

/* A file that says it has no alpha has none, whatever its frame leaves free. */
static void rgb_from_rgba(uint8_t *rgb, const uint8_t *rgba, int64_t n, bool has_alpha)
{
    for (int64_t i = 0; i < n; i++, rgb += 3, rgba += 4) {
        for (int32_t c = 0; c < 3; c++) {
            rgb[c] = has_alpha ? over_white(rgba[c], rgba[3]) : rgba[c];
        }
    }
}

static flo_code first_frame(uint8_t *rgb, const picture_facts *f, WebPAnimDecoder *decoder,
                            bool has_alpha, flo_err *err)
{
    WebPAnimInfo info;
    uint8_t *rgba = NULL;
    int milliseconds;
    if (!WebPAnimDecoderGetInfo(decoder, &info) || info.canvas_width != f->width ||
        info.canvas_height != f->height) {
        return flo_fail(err, FLO_USAGE, "a WebP that changed while it was read");
    }
    if (!WebPAnimDecoderGetNext(decoder, &rgba, &milliseconds)) {
        return flo_fail(err, FLO_USAGE, "a WebP whose pixels are damaged");
    }
    rgb_from_rgba(rgb, rgba, f->width * f->height, has_alpha);
    return FLO_OK;
}

flo_code webp_pixels(uint8_t *rgb, const picture_facts *f, const uint8_t *bytes, size_t n_bytes,
                     flo_err *err)
{
    WebPAnimDecoderOptions options;
    WebPBitstreamFeatures features;
    if (!WebPAnimDecoderOptionsInit(&options) ||
        WebPGetFeatures(bytes, n_bytes, &features) != VP8_STATUS_OK) {
        return flo_fail(err, FLO_USAGE, "a WebP that is damaged or cut short");
    }
    options.color_mode = MODE_RGBA;
    WebPAnimDecoder *decoder =
        WebPAnimDecoderNew(&(WebPData){.bytes = bytes, .size = n_bytes}, &options);
    if (decoder == NULL) {
        return flo_fail(err, FLO_USAGE, "a WebP that is damaged, or no memory to read it");
    }
    flo_code code = first_frame(rgb, f, decoder, features.has_alpha, err);
    WebPAnimDecoderDelete(decoder);
    return code;
}

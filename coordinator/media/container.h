/*
 * container.h - one stream of a media file in memory, through FFmpeg.
 *
 * FFmpeg is kept on a short leash: it reads from the bytes it is given and from nowhere else (no
 * format that names other files or addresses is tried, and opening one is refused), reads a bounded
 * number of bytes however often a file sends it back and forth, stops when the request is
 * cancelled, and says nothing on its own.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_CONTAINER_H
#define FLOTILLA_COORDINATOR_MEDIA_CONTAINER_H

#include "common/error.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct container {
    const char *name; /* leads every sentence; borrowed, as the bytes are */
    const uint8_t *bytes;
    size_t n_bytes, at;
    uint64_t read_bytes_left;    /* until it is taken for a file that leads in circles */
    const volatile bool *cancel; /* NULL: cannot be */

    AVIOContext *io;
    AVFormatContext *format;
    AVStream *stream; /* the one that was chosen; NULL: there is none of this kind */
    AVCodecContext *decoder;
    AVPacket *packet;
    AVFrame *frame;
} container;

/* Opens the file and chooses its best stream of a kind; a cover picture is no video. Without one
 * stream stays NULL, which is success. FLO_USAGE: no media file, one that is not supported,
 * damaged, cut short (extent.h), or with a picture of more than pixels_max pixels in any of its
 * streams. c is empty on failure. Any thread. */
flo_code container_open(container *c, const uint8_t *bytes, size_t n_bytes, const char *name,
                        enum AVMediaType kind, uint64_t pixels_max, const volatile bool *cancel,
                        flo_err *err);

/* Ends everything that belongs to c. An empty container is allowed. */
void container_close(container *c);

/* A decoder for the chosen stream from its start. FLO_USAGE: this build of FFmpeg has none. */
flo_code container_decoder_open(container *c, int32_t threads, uint64_t pixels_max, flo_err *err);

/* The next packet of the chosen stream into c->packet; *end at the end of the file. */
flo_code container_next(container *c, bool *end, flo_err *err);

/* "NAME: is damaged: what FFmpeg says", or FLO_INTERRUPTED, FLO_FAIL for want of memory. */
flo_code container_fail(const container *c, int ffmpeg_error, flo_err *err);

#endif

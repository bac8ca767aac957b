/*
 * container.c - FFmpeg over bytes in memory.
 */
#include "coordinator/media/container.h"

#include "common/cancel.h"
#include "common/log.h"
#include "coordinator/media/extent.h"

#include <inttypes.h>
#include <libavutil/avstring.h>
#include <libavutil/mem.h>
#include <pthread.h>
#include <string.h>

enum {
    IO_BYTES = 16384,
    /* Two streams far apart in a file make FFmpeg fill its buffer anew for every packet; more often
     * than this no file that somebody recorded needs it. */
    READS_OF_EACH_BYTE = 512,
    READS_OF_ANY_FILE = 256 << 20,
    STREAMS_MAX = 64,
    ALLOCATION_MAX = 1 << 30, /* at once; a plane of the largest picture is 0.5 GiB */
};

/* Containers and bare streams whose readers look at nothing but the file itself: not hls, dash,
 * concat, sdp, image2, and none of the readers of games and music trackers. */
static const char formats[] =
    "aac,ac3,adts,aiff,amr,amrnb,amrwb,ape,apng,asf,au,av1,avi,caf,eac3,flac,flv,gif,gsm,h264,hevc,"
    "ivf,m4v,matroska,webm,mjpeg,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,mpeg,mpegts,mpegvideo,mxf,"
    "nut,"
    "obu,oga,ogg,opus,rm,spx,tta,voc,w64,wav,wv,yuv4mpegpipe";

static void on_ffmpeg_log(void *from, int level, const char *format, va_list arguments)
{
    static _Thread_local int at_line_start = 1;
    char line[512];
    if (level > AV_LOG_ERROR || log_get_level() < LOG_DEBUG) {
        return;
    }
    av_log_format_line2(from, level, format, arguments, line, sizeof line, &at_line_start);
    line[strcspn(line, "\r\n")] = '\0';
    log_debug("ffmpeg: %s", line);
}

static void set_up_ffmpeg(void)
{
    av_log_set_callback(on_ffmpeg_log);
    av_max_alloc(ALLOCATION_MAX);
}

static int on_read(void *opaque, uint8_t *out, int n)
{
    container *c = opaque;
    size_t left = c->n_bytes - c->at;
    if (cancel_is_set(c->cancel) || c->read_bytes_left == 0) {
        return AVERROR_EXIT;
    }
    if (left == 0) {
        return AVERROR_EOF;
    }
    if ((size_t)n > left) {
        n = (int)left;
    }
    memcpy(out, c->bytes + c->at, (size_t)n);
    c->at += (size_t)n;
    c->read_bytes_left -= (uint64_t)n < c->read_bytes_left ? (uint64_t)n : c->read_bytes_left;
    return n;
}

static int64_t on_seek(void *opaque, int64_t offset, int whence)
{
    container *c = opaque;
    if (whence & AVSEEK_SIZE) {
        return (int64_t)c->n_bytes;
    }
    whence &= ~AVSEEK_FORCE;
    int64_t from = whence == SEEK_CUR   ? (int64_t)c->at
                   : whence == SEEK_END ? (int64_t)c->n_bytes
                                        : 0;
    if (offset < -from || offset > (int64_t)c->n_bytes - from) {
        return AVERROR(EINVAL);
    }
    c->at = (size_t)(from + offset);
    return (int64_t)c->at;
}

/* A file that asks for another one does not get it. */
static int on_open_other(struct AVFormatContext *format, AVIOContext **io, const char *url,
                         int flags, AVDictionary **options)
{
    (void)format, (void)io, (void)url, (void)flags, (void)options;
    return AVERROR(EPERM);
}

flo_code container_fail(const container *c, int ffmpeg_error, flo_err *err)
{
    char text[AV_ERROR_MAX_STRING_SIZE];
    if (cancel_is_set(c->cancel)) {
        return flo_fail(err, FLO_INTERRUPTED, "%s: interrupted", c->name);
    }
    if (ffmpeg_error == AVERROR(ENOMEM)) {
        return flo_fail(err, FLO_FAIL, "%s: not enough memory to read it", c->name);
    }
    if (ffmpeg_error == AVERROR_EXIT) {
        return flo_fail(err, FLO_USAGE, "%s: is damaged: its parts lead in circles", c->name);
    }
    if (ffmpeg_error == AVERROR(EPERM)) {
        ffmpeg_error = AVERROR_INVALIDDATA; /* -1, as some decoders have it */
    }
    av_strerror(ffmpeg_error, text, sizeof text);
    return flo_fail(err, FLO_USAGE, "%s: is damaged: %s", c->name, text);
}

static flo_code no_memory(const container *c, flo_err *err)
{
    return container_fail(c, AVERROR(ENOMEM), err);
}

static flo_code check_whole(const container *c, flo_err *err)
{
    uint64_t extent = media_extent(c->bytes, c->n_bytes);
    if (extent > c->n_bytes) {
        return flo_fail(err, FLO_USAGE,
                        "%s: is cut short: it has %zu of at least %" PRIu64 " bytes", c->name,
                        c->n_bytes, extent);
    }
    uint64_t damage = media_damage(c->bytes, c->n_bytes);
    if (damage != UINT64_MAX) {
        return flo_fail(err, FLO_USAGE, "%s: is damaged: the part at byte %" PRIu64 " is not whole",
                        c->name, damage);
    }
    return FLO_OK;
}

/* A format context that reads the bytes. FFmpeg may change the buffer, so it is freed through io.
 */
static flo_code make_reader(container *c, flo_err *err)
{
    uint8_t *buffer = av_malloc(IO_BYTES);
    c->io =
        buffer == NULL ? NULL : avio_alloc_context(buffer, IO_BYTES, 0, c, on_read, NULL, on_seek);
    if (c->io == NULL) {
        av_free(buffer);
        return no_memory(c, err);
    }
    c->format = avformat_alloc_context();
    c->packet = av_packet_alloc();
    c->frame = av_frame_alloc();
    if (c->format == NULL || c->packet == NULL || c->frame == NULL) {
        return no_memory(c, err);
    }
    c->format->pb = c->io;
    c->format->flags |= AVFMT_FLAG_CUSTOM_IO;
    c->format->io_open = on_open_other;
    c->format->max_streams = STREAMS_MAX;
    c->format->error_recognition = AV_EF_CRCCHECK;
    c->format->format_whitelist = av_strdup(formats);
    c->format->protocol_whitelist = av_strdup("none");
    if (c->format->format_whitelist == NULL || c->format->protocol_whitelist == NULL) {
        return no_memory(c, err);
    }
    return FLO_OK;
}

static flo_code open_format(container *c, flo_err *err)
{
    int error = avformat_open_input(&c->format, NULL, NULL, NULL); /* frees c->format on failure */
    if (error == 0) {
        return FLO_OK;
    }
    if (error == AVERROR(EINVAL) || (error == AVERROR_INVALIDDATA && c->at <= IO_BYTES)) {
        return flo_fail(err, FLO_USAGE, "%s: is not a sound or a video in a known format", c->name);
    }
    return container_fail(c, error, err);
}

static void set_decoding_limits(AVDictionary **options, uint64_t pixels_max)
{
    av_dict_set(options, "threads", "1", 0);
    av_dict_set_int(options, "max_pixels", pixels_max < INT_MAX ? (int64_t)pixels_max : INT_MAX, 0);
}

/* Before anything is decoded, and again when more is known. */
static flo_code check_pixels(const container *c, uint64_t pixels_max, flo_err *err)
{
    for (unsigned i = 0; i < c->format->nb_streams; i++) {
        const AVCodecParameters *facts = c->format->streams[i]->codecpar;
        if (facts->codec_type == AVMEDIA_TYPE_VIDEO && facts->width > 0 && facts->height > 0 &&
            (uint64_t)facts->width * (uint64_t)facts->height > pixels_max) {
            return flo_fail(err, FLO_USAGE,
                            "%s: has frames of %dx%d pixels, more than the limit of %" PRIu64
                            " (--max-media-pixels)",
                            c->name, facts->width, facts->height, pixels_max);
        }
    }
    return FLO_OK;
}

/* FFmpeg decodes a little of each stream to learn what the headers leave out. */
static flo_code probe_streams(container *c, uint64_t pixels_max, flo_err *err)
{
    AVDictionary *options[STREAMS_MAX] = {NULL};
    unsigned n = c->format->nb_streams;
    for (unsigned i = 0; i < n && i < STREAMS_MAX; i++) {
        set_decoding_limits(&options[i], pixels_max);
    }
    int error = avformat_find_stream_info(c->format, n > 0 ? options : NULL);
    for (unsigned i = 0; i < n && i < STREAMS_MAX; i++) {
        av_dict_free(&options[i]);
    }
    return error < 0 ? container_fail(c, error, err) : FLO_OK;
}

static void choose_stream(container *c, enum AVMediaType kind)
{
    int chosen = av_find_best_stream(c->format, kind, -1, -1, NULL, 0);
    for (unsigned i = 0; i < c->format->nb_streams; i++) {
        AVStream *stream = c->format->streams[i];
        bool is_cover = (stream->disposition & AV_DISPOSITION_ATTACHED_PIC) != 0;
        if ((int)i == chosen && !is_cover) {
            c->stream = stream;
        } else {
            stream->discard = AVDISCARD_ALL;
        }
    }
}

flo_code container_open(container *c, const uint8_t *bytes, size_t n_bytes, const char *name,
                        enum AVMediaType kind, uint64_t pixels_max, const volatile bool *cancel,
                        flo_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_up_ffmpeg);
    *c = (container){.name = name, .bytes = bytes, .n_bytes = n_bytes, .cancel = cancel};
    c->read_bytes_left = READS_OF_ANY_FILE + (uint64_t)n_bytes * READS_OF_EACH_BYTE;
    flo_code code = check_whole(c, err);
    if (code == FLO_OK) {
        code = make_reader(c, err);
    }
    if (code == FLO_OK) {
        code = open_format(c, err);
    }
    if (code == FLO_OK) {
        code = check_pixels(c, pixels_max, err);
    }
    if (code == FLO_OK) {
        code = probe_streams(c, pixels_max, err);
    }
    if (code == FLO_OK) {
        code = check_pixels(c, pixels_max, err);
    }
    if (code != FLO_OK) {
        container_close(c);
        return code;
    }
    choose_stream(c, kind);
    return FLO_OK;
}

void container_close(container *c)
{
    avcodec_free_context(&c->decoder);
    av_frame_free(&c->frame);
    av_packet_free(&c->packet);
    avformat_close_input(&c->format);
    if (c->io != NULL) {
        av_freep(&c->io->buffer);
    }
    avio_context_free(&c->io);
    c->stream = NULL;
}

static bool is_lossless(enum AVCodecID codec)
{
    const AVCodecDescriptor *facts = avcodec_descriptor_get(codec);
    return facts != NULL && (facts->props & AV_CODEC_PROP_LOSSLESS) != 0;
}

flo_code container_decoder_open(container *c, int32_t threads, uint64_t pixels_max, flo_err *err)
{
    const AVCodecParameters *stream = c->stream->codecpar;
    const AVCodec *codec = avcodec_find_decoder(stream->codec_id);
    if (codec == NULL) {
        return stream->codec_id == AV_CODEC_ID_NONE
                   ? flo_fail(err, FLO_USAGE, "%s: is damaged, or coded in a way not known here",
                              c->name)
                   : flo_fail(err, FLO_USAGE, "%s: the installed FFmpeg cannot decode %s", c->name,
                              avcodec_get_name(stream->codec_id));
    }
    avcodec_free_context(&c->decoder);
    c->decoder = avcodec_alloc_context3(codec);
    if (c->decoder == NULL || avcodec_parameters_to_context(c->decoder, stream) < 0) {
        return no_memory(c, err);
    }
    c->decoder->pkt_timebase = c->stream->time_base;
    c->decoder->thread_count = threads;
    /* Threads of a frame, not frames in threads: a frame that is handed out before the thread that
     * decodes it has ended does not say that it is damaged. */
    c->decoder->thread_type = FF_THREAD_SLICE;
    c->decoder->err_recognition = AV_EF_CRCCHECK;
    if (c->decoder->codec_type == AVMEDIA_TYPE_AUDIO && is_lossless(stream->codec_id)) {
        c->decoder->err_recognition |= AV_EF_EXPLODE; /* else a wrong checksum is only logged */
    }
    c->decoder->max_pixels = pixels_max < INT_MAX ? (int64_t)pixels_max : INT_MAX;
    int error = avcodec_open2(c->decoder, codec, NULL);
    return error < 0 ? container_fail(c, error, err) : FLO_OK;
}

flo_code container_next(container *c, bool *end, flo_err *err)
{
    *end = false;
    do {
        av_packet_unref(c->packet);
        int error = av_read_frame(c->format, c->packet);
        if (cancel_is_set(c->cancel) || c->read_bytes_left == 0) {
            return container_fail(c, AVERROR_EXIT, err); /* a demuxer may take it for the end */
        }
        if (error == AVERROR_EOF) {
            *end = true;
            return FLO_OK;
        }
        if (error < 0) {
            return container_fail(c, error, err);
        }
    } while (c->packet->stream_index != c->stream->index);
    return FLO_OK;
}

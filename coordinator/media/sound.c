/*
 * sound.c - FFmpeg decodes, channels are averaged, soxr resamples.
 *
 * Samples go through as they come: what is held is one frame of the codec and the result, so a
 * header that promises hours costs nothing. The result is bounded by SOUND_SECONDS_MAX.
 */
#include "coordinator/media/sound.h"

#include "coordinator/media/container.h"

#include <inttypes.h>
#include <libavutil/avstring.h>
#include <math.h>
#include <soxr.h>
#include <stdlib.h>
#include <string.h>

enum {
    SAMPLES_AT_ONCE = 4096, /* mixed, then resampled */
    COVER_PIXELS_MAX = 1 << 26,
};

static const int64_t samples_max = (int64_t)SOUND_SECONDS_MAX * SOUND_RATE;

typedef struct listener { /* what has been heard so far */
    container file;
    int32_t rate;     /* of the first frame; 0 before it */
    soxr_t resampler; /* NULL where the rate is ours already */
    float mono[SAMPLES_AT_ONCE];
    float *samples;
    int64_t n, capacity;
    int64_t n_decoded;      /* before resampling */
    bool has_strange_bytes; /* an MP3: some that are no frame came after one */
} listener;

/* row[i] += sample i of one channel, whose samples lie step apart. Integers of n bits are divided
 * by 2^(n-1); FFmpeg widens 24 bits to 32 from the left. FFmpeg aligns its samples. */
#define ADD_CHANNEL(type, value)                                                                   \
    for (int i = 0; i < n; i++) {                                                                  \
        type x = ((const type *)from)[(size_t)i * step];                                           \
        row[i] += (value);                                                                         \
    }

static void add_channel(float *row, const void *from, size_t step, int n,
                        enum AVSampleFormat packed)
{
    switch (packed) {
    case AV_SAMPLE_FMT_U8:
        ADD_CHANNEL(uint8_t, (float)(x - 128) / 128.0f)
        break;
    case AV_SAMPLE_FMT_S16:
        ADD_CHANNEL(int16_t, (float)x / 32768.0f)
        break;
    case AV_SAMPLE_FMT_S32:
        ADD_CHANNEL(int32_t, (float)x / 2147483648.0f)
        break;
    case AV_SAMPLE_FMT_S64:
        ADD_CHANNEL(int64_t, (float)x / 9223372036854775808.0f)
        break;
    case AV_SAMPLE_FMT_FLT:
        ADD_CHANNEL(float, x)
        break;
    default:
        ADD_CHANNEL(double, (float)x)
        break;
    }
}

/* Samples [first, first + n) of a frame, their channels added in rising order, then divided: the
 * mean in f32 that the reference's loader takes. */
static void mix(float *mono, const AVFrame *frame, int first, int n)
{
    enum AVSampleFormat format = (enum AVSampleFormat)frame->format;
    int channels = frame->ch_layout.nb_channels;
    size_t width = (size_t)av_get_bytes_per_sample(format);
    bool is_planar = av_sample_fmt_is_planar(format);
    size_t step = is_planar ? 1 : (size_t)channels;
    memset(mono, 0, (size_t)n * sizeof *mono);
    for (int channel = 0; channel < channels; channel++) {
        const uint8_t *plane = frame->extended_data[is_planar ? channel : 0];
        size_t at = (size_t)first * step + (size_t)(is_planar ? 0 : channel);
        add_channel(mono, plane + at * width, step, n, av_get_packed_sample_fmt(format));
    }
    for (int i = 0; channels > 1 && i < n; i++) {
        mono[i] /= (float)channels;
    }
}

static flo_code check_numbers(const listener *l, int n, flo_err *err)
{
    for (int i = 0; i < n; i++) {
        if (!isfinite(l->mono[i])) {
            return flo_fail(err, FLO_USAGE, "%s: sample %" PRId64 " is not a finite number",
                            l->file.name, l->n_decoded + i);
        }
    }
    return FLO_OK;
}

/* Room for n more samples. */
static flo_code reserve(listener *l, int64_t n, flo_err *err)
{
    if (l->n + n <= l->capacity) {
        return FLO_OK;
    }
    int64_t capacity = l->capacity * 2 > l->n + n ? l->capacity * 2 : l->n + n;
    float *samples = realloc(l->samples, (size_t)capacity * sizeof *samples);
    if (samples == NULL) {
        return flo_fail(err, FLO_FAIL, "%s: not enough memory for %" PRId64 " samples",
                        l->file.name, capacity);
    }
    l->samples = samples;
    l->capacity = capacity;
    return FLO_OK;
}

static flo_code check_length(const listener *l, flo_err *err)
{
    if (l->n <= samples_max) {
        return FLO_OK;
    }
    return flo_fail(err, FLO_USAGE, "%s: is longer than %d hours; cut it into parts", l->file.name,
                    SOUND_SECONDS_MAX / 3600);
}

/* n samples of ours through the resampler; none: what it still holds. */
static flo_code resample(listener *l, const float *in, size_t n, flo_err *err)
{
    size_t taken = 0, made = 0;
    do {
        flo_code code = reserve(l, SAMPLES_AT_ONCE, err);
        if (code != FLO_OK) {
            return code;
        }
        size_t taken_now = 0;
        soxr_error_t error = soxr_process(l->resampler, in == NULL ? NULL : in + taken, n - taken,
                                          &taken_now, l->samples + l->n, SAMPLES_AT_ONCE, &made);
        if (error != NULL) {
            return flo_fail(err, FLO_FAIL, "%s: cannot be resampled: %s", l->file.name, error);
        }
        taken += taken_now;
        l->n += (int64_t)made;
        code = check_length(l, err);
        if (code != FLO_OK) {
            return code;
        }
    } while (taken < n || made == SAMPLES_AT_ONCE);
    return FLO_OK;
}

static flo_code append(listener *l, int n, flo_err *err)
{
    flo_code code = check_numbers(l, n, err);
    l->n_decoded += n;
    if (code != FLO_OK || l->resampler != NULL) {
        return code != FLO_OK ? code : resample(l, l->mono, (size_t)n, err);
    }
    code = reserve(l, n, err);
    if (code != FLO_OK) {
        return code;
    }
    memcpy(l->samples + l->n, l->mono, (size_t)n * sizeof *l->mono);
    l->n += n;
    return check_length(l, err);
}

static flo_code start(listener *l, int32_t rate, flo_err *err)
{
    soxr_quality_spec_t quality = soxr_quality_spec(SOXR_HQ, 0);
    soxr_error_t error = NULL;
    l->rate = rate;
    if (rate != SOUND_RATE) {
        l->resampler = soxr_create(rate, SOUND_RATE, 1, &error, NULL, &quality, NULL);
    }
    if (error != NULL) {
        return flo_fail(err, FLO_FAIL, "%s: cannot be resampled from %" PRId32 " Hz: %s",
                        l->file.name, rate, error);
    }
    return FLO_OK;
}

static flo_code hear_frame(listener *l, flo_err *err)
{
    const AVFrame *frame = l->file.frame;
    if (frame->sample_rate <= 0 || frame->ch_layout.nb_channels <= 0) {
        return container_fail(&l->file, AVERROR_INVALIDDATA, err);
    }
    flo_code code = l->rate == 0 ? start(l, frame->sample_rate, err) : FLO_OK;
    if (code == FLO_OK && frame->sample_rate != l->rate) {
        code = flo_fail(err, FLO_USAGE, "%s: its rate changes from %" PRId32 " Hz to %d Hz",
                        l->file.name, l->rate, frame->sample_rate);
    }
    for (int at = 0; code == FLO_OK && at < frame->nb_samples; at += SAMPLES_AT_ONCE) {
        int n = frame->nb_samples - at;
        n = n < SAMPLES_AT_ONCE ? n : SAMPLES_AT_ONCE;
        mix(l->mono, frame, at, n);
        code = append(l, n, err);
    }
    return code;
}

/* All frames that the decoder has ready. */
static flo_code hear_frames(listener *l, flo_err *err)
{
    for (;;) {
        int error = avcodec_receive_frame(l->file.decoder, l->file.frame);
        if (error == AVERROR(EAGAIN) || error == AVERROR_EOF) {
            return FLO_OK;
        }
        if (error < 0) {
            return container_fail(&l->file, error, err);
        }
        flo_code code = hear_frame(l, err);
        if (code != FLO_OK) {
            return code;
        }
    }
}

static flo_code hear_packet(listener *l, const AVPacket *packet, flo_err *err)
{
    int error = avcodec_send_packet(l->file.decoder, packet);
    if (error < 0 && error != AVERROR_EOF) {
        return container_fail(&l->file, error, err);
    }
    return hear_frames(l, err);
}

/* Length of an MPEG audio layer III frame by its header; 0 where that does not say. */
static int mp3_frame_bytes(const uint8_t *head)
{
    static const uint8_t kbits_by_8[2][16] = {
        {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 0},    /* MPEG 2 and 2.5 */
        {0, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 0}, /* MPEG 1 */
    };
    static const int rates[4] = {44100, 48000, 32000, 0};
    int version = head[1] >> 3 & 3, layer = head[1] >> 1 & 3; /* 0: 2.5, 2: 2, 3: 1; 1: III */
    int rate = rates[head[2] >> 2 & 3] >> (version == 3 ? 0 : version == 2 ? 1 : 2);
    if (layer != 1 || version == 1 || rate == 0) {
        return 0;
    }
    int bits = kbits_by_8[version == 3][head[2] >> 4] * 8000;
    return bits == 0 ? 0 : (version == 3 ? 144 : 72) * bits / rate + (head[2] >> 1 & 1);
}

/* Tags of titles and pictures stand before and after the frames of an MP3, and between two that
 * were joined; FFmpeg passes some of them on as if they were frames. */
static bool is_tag(const AVPacket *packet)
{
    static const char *const names[] = {"ID3", "TAG", "APETAGEX", "LYRICS"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(names[i]);
        if ((size_t)packet->size >= n && memcmp(packet->data, names[i], n) == 0) {
            return true;
        }
    }
    return false;
}

/* Looks at a packet before it is decoded. Bytes in an MP3 that are no frame (one begins with eleven
 * bits that are set) are passed over before the first frame and after the last one; between two
 * they are damage. */
static flo_code check_packet(listener *l, bool *skip, flo_err *err)
{
    const AVPacket *packet = l->file.packet;
    *skip = false;
    if (l->file.stream->codecpar->codec_id != AV_CODEC_ID_MP3) {
        return FLO_OK;
    }
    if (packet->size < 4 || packet->data[0] != 0xff || (packet->data[1] & 0xe0) != 0xe0) {
        *skip = true;
        l->has_strange_bytes = l->has_strange_bytes || (l->n_decoded > 0 && !is_tag(packet));
        return FLO_OK;
    }
    if (l->has_strange_bytes) {
        return container_fail(&l->file, AVERROR_INVALIDDATA, err);
    }
    if (packet->size < mp3_frame_bytes(packet->data)) {
        return flo_fail(err, FLO_USAGE, "%s: is cut short in the middle of a frame", l->file.name);
    }
    return FLO_OK;
}

static flo_code hear_stream(listener *l, flo_err *err)
{
    for (;;) {
        bool end;
        flo_code code = container_next(&l->file, &end, err);
        if (code != FLO_OK || end) {
            return code != FLO_OK ? code : hear_packet(l, NULL, err);
        }
        bool skip;
        code = check_packet(l, &skip, err);
        if (code == FLO_OK && !skip) {
            code = hear_packet(l, l->file.packet, err);
        }
        if (code != FLO_OK) {
            return code;
        }
    }
}

/* How many samples the file itself says the stream has; 0 where it does not. WAV, AIFF, CAF and MP4
 * are held against their sizes instead (extent.h). Matroska knows the longest of its streams. */
static int64_t promised_samples(const listener *l)
{
    const AVFormatContext *format = l->file.format;
    const AVStream *stream = l->file.stream;
    AVRational sample = {1, l->rate};
    if (l->rate == 0 || format->duration_estimation_method == AVFMT_DURATION_FROM_BITRATE) {
        return 0;
    }
    if (av_match_list(format->iformat->name, "matroska", ',') > 0 && format->nb_streams == 1) {
        return av_rescale_q(format->duration, AV_TIME_BASE_Q, sample);
    }
    if (av_match_list(format->iformat->name, "flac,mp3,ogg,au,tta,wv", ',') > 0) {
        return av_rescale_q(stream->duration, stream->time_base, sample);
    }
    return 0;
}

/* What a lossy encoder puts in at both ends is left out by the decoder, and not always by the
 * header. */
static int64_t samples_at_ends(enum AVCodecID codec)
{
    const AVCodecDescriptor *facts = avcodec_descriptor_get(codec);
    bool is_lossless = facts != NULL && (facts->props & AV_CODEC_PROP_LOSSLESS) != 0;
    return is_lossless ? 0 : 3 * 1152;
}

/* A file that was cut between two frames, or lost some that FFmpeg passes over, shows it nowhere
 * else. */
static flo_code check_promise(const listener *l, flo_err *err)
{
    int64_t promised = promised_samples(l); /* below 0: FFmpeg did not find out */
    if (l->n_decoded + samples_at_ends(l->file.stream->codecpar->codec_id) >= promised) {
        return FLO_OK;
    }
    return flo_fail(err, FLO_USAGE,
                    "%s: is cut short or damaged: it has %" PRId64 " of %" PRId64 " samples",
                    l->file.name, l->n_decoded, promised);
}

static flo_code listen_to(listener *l, flo_err *err)
{
    flo_code code = container_decoder_open(&l->file, 1, COVER_PIXELS_MAX, err);
    if (code == FLO_OK) {
        code = hear_stream(l, err);
    }
    if (code == FLO_OK) {
        code = check_promise(l, err);
    }
    if (code == FLO_OK && l->resampler != NULL) {
        code = resample(l, NULL, 0, err);
    }
    if (code == FLO_OK && l->n < SOUND_SAMPLES_MIN) {
        code = flo_fail(err, FLO_USAGE,
                        "%s: %" PRId64 " samples at %d Hz are too short a sound, %d are needed",
                        l->file.name, l->n, SOUND_RATE, SOUND_SAMPLES_MIN);
    }
    return code;
}

flo_code sound_decode(sound *s, const uint8_t *bytes, size_t n_bytes, const char *name, bool *none,
                      const volatile bool *cancel, flo_err *err)
{
    bool ignored;
    none = none != NULL ? none : &ignored;
    *none = false;
    listener *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return flo_fail(err, FLO_FAIL, "%s: not enough memory", name);
    }
    flo_code code = container_open(&l->file, bytes, n_bytes, name, AVMEDIA_TYPE_AUDIO,
                                   COVER_PIXELS_MAX, cancel, err);
    if (code == FLO_OK && l->file.stream == NULL) {
        *none = true;
        code = flo_fail(err, FLO_USAGE, "%s: has no sound in it", name);
    }
    if (code == FLO_OK) {
        code = listen_to(l, err);
    }
    container_close(&l->file);
    soxr_delete(l->resampler);
    if (code == FLO_OK) {
        *s = (sound){l->samples, l->n};
    } else {
        free(l->samples);
    }
    free(l);
    return code;
}

void sound_free(sound *s)
{
    free(s->samples);
    *s = (sound){NULL, 0};
}

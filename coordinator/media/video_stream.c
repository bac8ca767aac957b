/*
 * video_stream.c - packets counted, frames found by their times, what is not needed skipped.
 *
 * Costs 16 bytes a packet, 16 more a frame that is shown, and at reading one frame as recorded
 * besides what the decoder holds.
 */
#include "coordinator/media/video_stream.h"

#include "coordinator/media/container.h"
#include "coordinator/media/frame_scaler.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    PACKETS_MAX = 1 << 24, /* three days at 60 a second */
    /* Packets at the end of a file that make no frame of their own; more of them are damage. */
    HIDDEN_MAX = 16,
    KEYS_TRIED_MAX = 64,
    DECODER_THREADS_MAX = 16,
};

typedef struct packet_facts { /* in the order of the file, which is that of decoding */
    int64_t time;             /* when it is shown, in the stream's units */
    int32_t key;              /* the last packet up to this one where decoding can begin */
    bool is_shown;
} packet_facts;

typedef struct shown_frame { /* in the order of showing */
    int64_t time;
    int32_t packet;
} shown_frame;

struct video_stream {
    const media_source *source;
    uint64_t pixels_max;
    frame_turn turn;
    packet_facts *packets;
    int32_t n_packets, capacity;
    shown_frame *frames;
    int32_t n_frames;
    bool has_times; /* each frame has one of its own; else frames are counted as they come */
};

/* ---- opening ---- */

/* VP8 stores some frames that are only referred to; its fifth bit says so. */
static bool packet_is_shown(const container *file)
{
    const AVPacket *packet = file->packet;
    if ((packet->flags & AV_PKT_FLAG_DISCARD) != 0 || packet->size == 0) {
        return false;
    }
    return file->stream->codecpar->codec_id != AV_CODEC_ID_VP8 || (packet->data[0] & 0x10) != 0;
}

static flo_code note_packet(video_stream *v, const container *file, flo_err *err)
{
    const AVPacket *packet = file->packet;
    if (v->n_packets == PACKETS_MAX) {
        return flo_fail(err, FLO_USAGE, "%s: has more than %d frames; cut it into parts",
                        file->name, PACKETS_MAX);
    }
    if (v->n_packets == v->capacity) {
        int32_t capacity = v->capacity == 0 ? 1024 : v->capacity * 2;
        packet_facts *packets = realloc(v->packets, (size_t)capacity * sizeof *packets);
        if (packets == NULL) {
            return flo_fail(err, FLO_FAIL, "%s: not enough memory", file->name);
        }
        v->packets = packets;
        v->capacity = capacity;
    }
    int32_t at = v->n_packets++;
    bool is_key = (packet->flags & AV_PKT_FLAG_KEY) != 0;
    v->packets[at].time = packet->pts;
    v->packets[at].is_shown = packet_is_shown(file);
    v->packets[at].key = is_key || at == 0 ? at : v->packets[at - 1].key;
    v->n_frames += v->packets[at].is_shown;
    v->has_times = v->has_times && (packet->pts != AV_NOPTS_VALUE || !v->packets[at].is_shown);
    return FLO_OK;
}

static flo_code read_packets(video_stream *v, container *file, flo_err *err)
{
    bool end = false;
    v->has_times = true;
    while (!end) {
        flo_code code = container_next(file, &end, err);
        if (code == FLO_OK && !end) {
            code = note_packet(v, file, err);
        }
        if (code != FLO_OK) {
            return code;
        }
    }
    return v->n_frames > 0 ? FLO_OK : flo_fail(err, FLO_USAGE, "%s: has no frames", file->name);
}

static int by_time(const void *a, const void *b)
{
    const shown_frame *x = a, *y = b;
    if (x->time != y->time) {
        return x->time < y->time ? -1 : 1;
    }
    return (x->packet > y->packet) - (x->packet < y->packet);
}

static flo_code order_frames(video_stream *v, flo_err *err)
{
    int32_t n = 0;
    v->frames = malloc((size_t)v->n_frames * sizeof *v->frames);
    if (v->frames == NULL) {
        return flo_fail(err, FLO_FAIL, "%s: not enough memory", v->source->name);
    }
    for (int32_t i = 0; i < v->n_packets; i++) {
        if (v->packets[i].is_shown) {
            v->frames[n++] = (shown_frame){v->packets[i].time, i};
        }
    }
    if (v->has_times) {
        qsort(v->frames, (size_t)n, sizeof *v->frames, by_time);
    }
    for (int32_t i = 1; i < n && v->has_times; i++) {
        v->has_times = v->frames[i].time != v->frames[i - 1].time;
    }
    return FLO_OK;
}

static bool is_rate(double fps)
{
    return fps > 0 && fps <= 100000;
}

/* As the file says; else as its frames' times are. 0: nobody knows. */
static double frame_rate(const video_stream *v, const AVStream *stream)
{
    double average = av_q2d(stream->avg_frame_rate), base = av_q2d(stream->r_frame_rate);
    if (is_rate(average) || is_rate(base)) {
        return is_rate(average) ? average : base;
    }
    if (!v->has_times || v->n_frames < 2) {
        return 0;
    }
    double span = (double)v->frames[v->n_frames - 1].time - (double)v->frames[0].time;
    double measured = (v->n_frames - 1) / (span * av_q2d(stream->time_base));
    return is_rate(measured) ? measured : 0;
}

static flo_code check_size(const container *file, uint64_t pixels_max, flo_err *err)
{
    if (file->stream->codecpar->width > 0 && file->stream->codecpar->height > 0) {
        return FLO_OK;
    }
    return flo_fail(err, FLO_USAGE,
                    "%s: is damaged, or its frames are over the limit of %" PRIu64
                    " pixels (--max-media-pixels): they have no size",
                    file->name, pixels_max);
}

static flo_code open_file(const video_stream *v, container *file, const volatile bool *cancel,
                          flo_err *err)
{
    const media_source *s = v->source;
    flo_code code = container_open(file, s->bytes, s->n_bytes, s->name, AVMEDIA_TYPE_VIDEO,
                                   v->pixels_max, cancel, err);
    if (code == FLO_OK && file->stream == NULL) {
        code = flo_fail(err, FLO_USAGE, "%s: has no video in it", s->name);
        container_close(file);
    }
    return code;
}

static void set_facts(video_stream *v, video_facts *facts, const AVStream *stream)
{
    const int32_t *matrix =
        (int32_t *)av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, NULL);
    int32_t width = stream->codecpar->width, height = stream->codecpar->height;
    v->turn = frame_turn_from_matrix(matrix);
    facts->width = v->turn.transpose ? height : width;
    facts->height = v->turn.transpose ? width : height;
    facts->n_frames = v->n_frames;
    facts->fps = frame_rate(v, stream);
}

flo_code video_stream_open(video_stream **out, video_facts *facts, const media_source *s,
                           uint64_t pixels_max, flo_err *err)
{
    container file;
    video_stream *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return flo_fail(err, FLO_FAIL, "%s: not enough memory", s->name);
    }
    v->source = s;
    v->pixels_max = pixels_max;
    flo_code code = open_file(v, &file, NULL, err);
    if (code != FLO_OK) {
        goto free_stream;
    }
    code = check_size(&file, pixels_max, err);
    if (code == FLO_OK) {
        code = read_packets(v, &file, err);
    }
    if (code == FLO_OK) {
        code = order_frames(v, err);
    }
    if (code == FLO_OK) {
        set_facts(v, facts, file.stream);
        *out = v;
    }
    container_close(&file);
free_stream:
    if (code != FLO_OK) {
        video_stream_close(v);
    }
    return code;
}

void video_stream_close(video_stream *v)
{
    if (v != NULL) {
        free(v->packets);
        free(v->frames);
        free(v);
    }
}

/* ---- reading ---- */

typedef struct reading { /* one pass over the file */
    const video_stream *v;
    container file;
    frame_scaler *scaler;
    const int64_t *indices; /* of the frames wanted */
    int32_t n;
    uint8_t *out;
    size_t frame_bytes;

    bool skips;      /* what is not needed is not decoded */
    int32_t *begin;  /* [n] the packet where decoding must begin for this frame and all after it */
    int32_t at;      /* the next packet */
    int32_t n_sent;  /* frames whose packet went to the decoder */
    int32_t n_taken; /* frames written */
    int32_t n_seen;  /* frames that came out of the decoder */
    int32_t last_seen; /* number of the last of them */
    bool is_exact;     /* each frame taken was the very one */
    bool is_idle;      /* the decoder holds nothing */
} reading;

/* The first frame shown at this time or later; n_frames where there is none. */
static int32_t frame_at_time(const video_stream *v, int64_t time)
{
    int32_t low = 0, high = v->n_frames;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (v->frames[middle].time < time) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* A key packet from which frame `index` can be decoded: one that comes before it in the file and is
 * not shown after it. */
static int32_t key_for(const video_stream *v, int64_t index)
{
    const shown_frame *frame = &v->frames[index];
    int32_t key = v->packets[frame->packet].key;
    for (int i = 0; i < KEYS_TRIED_MAX && key > 0; i++) {
        if (v->packets[key].is_shown && v->packets[key].time <= frame->time) {
            return key;
        }
        key = v->packets[key - 1].key;
    }
    return 0;
}

static flo_code plan_skips(reading *r, flo_err *err)
{
    r->begin = malloc((size_t)r->n * sizeof *r->begin);
    if (r->begin == NULL) {
        return flo_fail(err, FLO_FAIL, "%s: not enough memory", r->file.name);
    }
    int32_t least = INT32_MAX;
    for (int32_t i = r->n - 1; i >= 0; i--) {
        int32_t key = key_for(r->v, r->indices[i]);
        least = key < least ? key : least;
        r->begin[i] = least;
    }
    return FLO_OK;
}

static bool is_damaged(const AVFrame *frame)
{
    return frame->decode_error_flags != 0 || (frame->flags & AV_FRAME_FLAG_CORRUPT) != 0;
}

/* A frame is taken for its own number, and for a wanted one before it that never came. */
static flo_code take_frame(reading *r, int32_t number, flo_err *err)
{
    const uint8_t *made = NULL;
    r->n_seen++;
    r->last_seen = number;
    if (is_damaged(r->file.frame)) {
        return container_fail(&r->file, AVERROR_INVALIDDATA, err);
    }
    while (r->n_taken < r->n && r->indices[r->n_taken] <= number) {
        uint8_t *out = r->out + (size_t)r->n_taken * r->frame_bytes;
        r->is_exact = r->is_exact && r->indices[r->n_taken] == number;
        if (made != NULL) {
            memcpy(out, made, r->frame_bytes);
        } else {
            flo_code code = frame_scaler_run(r->scaler, out, r->file.frame, err);
            if (code != FLO_OK) {
                flo_context(err, "%s", r->file.name);
                return code;
            }
        }
        made = out;
        r->n_taken++;
    }
    return FLO_OK;
}

/* All frames that the decoder has ready. */
static flo_code take_frames(reading *r, flo_err *err)
{
    while (r->n_taken < r->n) {
        int error = avcodec_receive_frame(r->file.decoder, r->file.frame);
        if (error == AVERROR(EAGAIN) || error == AVERROR_EOF) {
            return FLO_OK;
        }
        if (error < 0) {
            return container_fail(&r->file, error, err);
        }
        int64_t time = r->file.frame->best_effort_timestamp;
        int32_t number = r->v->has_times ? frame_at_time(r->v, time) : r->n_seen;
        flo_code code = take_frame(r, number, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

/* A recording that began in the middle has packets before its first key that nobody can decode. */
static bool may_fail(const reading *r)
{
    return r->n_seen == 0 && r->v->packets[r->at].key == 0 && r->at > 0;
}

static flo_code send(reading *r, const AVPacket *packet, flo_err *err)
{
    int error = avcodec_send_packet(r->file.decoder, packet);
    r->is_idle = false;
    if (error < 0 && !(packet != NULL && may_fail(r))) {
        return container_fail(&r->file, error, err);
    }
    return take_frames(r, err);
}

/* What the decoder still holds comes out, and it is ready for a key packet. */
static flo_code drain(reading *r, flo_err *err)
{
    flo_code code = r->is_idle ? FLO_OK : send(r, NULL, err);
    if (code == FLO_OK) {
        avcodec_flush_buffers(r->file.decoder);
        r->is_idle = true;
    }
    return code;
}

static bool is_wanted(const reading *r, int64_t time)
{
    int32_t number = frame_at_time(r->v, time);
    int32_t low = 0, high = r->n;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (r->indices[middle] < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < r->n && r->indices[low] == number;
}

/* One packet: to the decoder, or past it. */
static flo_code pass_packet(reading *r, flo_err *err)
{
    const video_stream *v = r->v;
    while (r->n_sent < r->n && v->frames[r->indices[r->n_sent]].packet < r->at) {
        r->n_sent++;
    }
    if (r->skips && (r->n_sent == r->n || r->at < r->begin[r->n_sent])) {
        return drain(r, err);
    }
    bool is_needed = !r->skips || is_wanted(r, r->file.packet->pts);
    r->file.decoder->skip_frame = is_needed ? AVDISCARD_DEFAULT : AVDISCARD_NONREF;
    return send(r, r->file.packet, err);
}

static flo_code read_until_taken(reading *r, flo_err *err)
{
    bool end = false;
    while (r->n_taken < r->n && !end) {
        flo_code code = container_next(&r->file, &end, err);
        end = end || r->at == r->v->n_packets; /* more than at the first pass: not the same file */
        if (code == FLO_OK) {
            code = end ? drain(r, err) : pass_packet(r, err);
        }
        if (code != FLO_OK) {
            return code;
        }
        r->at++;
    }
    return FLO_OK;
}

/* The last packets may make no frame; what was shown last then goes on. */
static flo_code finish(reading *r, flo_err *err)
{
    if (r->n_taken == r->n) {
        return FLO_OK;
    }
    r->is_exact = false;
    if (r->skips) {
        return FLO_OK; /* is read once more */
    }
    bool was_last_taken = r->n_taken > 0 && r->indices[r->n_taken - 1] == r->last_seen;
    if (r->n_seen == 0 || r->last_seen + HIDDEN_MAX < r->v->n_frames || !was_last_taken) {
        return flo_fail(err, FLO_USAGE,
                        "%s: is damaged: frame %" PRId64 " of %" PRId32 " cannot be decoded",
                        r->file.name, r->indices[r->n_taken] + 1, r->v->n_frames);
    }
    for (; r->n_taken < r->n; r->n_taken++) {
        uint8_t *out = r->out + (size_t)r->n_taken * r->frame_bytes;
        memcpy(out, out - r->frame_bytes, r->frame_bytes);
    }
    return FLO_OK;
}

static flo_code run(reading *r, int32_t threads, const volatile bool *cancel, flo_err *err)
{
    flo_code code = open_file(r->v, &r->file, cancel, err);
    if (code != FLO_OK) {
        return code;
    }
    threads = threads < DECODER_THREADS_MAX ? threads : DECODER_THREADS_MAX;
    code = container_decoder_open(&r->file, threads, r->v->pixels_max, err);
    if (code == FLO_OK && r->skips) {
        code = plan_skips(r, err);
    }
    if (code == FLO_OK) {
        code = read_until_taken(r, err);
    }
    if (code == FLO_OK) {
        code = finish(r, err);
    }
    free(r->begin);
    r->begin = NULL;
    container_close(&r->file);
    return code;
}

flo_code video_stream_read(video_stream *v, uint8_t *out, const int64_t *indices, int32_t n,
                           int32_t to_width, int32_t to_height, int32_t threads,
                           const volatile bool *cancel, flo_err *err)
{
    frame_scaler *scaler = NULL;
    flo_code code = frame_scaler_new(&scaler, v->turn, to_width, to_height, v->pixels_max, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", v->source->name);
        return code;
    }
    bool is_done = false;
    for (int pass = v->has_times ? 0 : 1; pass < 2 && !is_done; pass++) {
        reading r = {.v = v, .scaler = scaler, .indices = indices, .n = n, .out = out};
        r.frame_bytes = (size_t)to_width * (size_t)to_height * 3;
        r.is_exact = r.is_idle = true;
        r.skips = pass == 0;
        code = run(&r, threads, cancel, err);
        /* What came of skipping counts only where each frame is the very one. */
        is_done = code == FLO_OK ? r.is_exact : code != FLO_USAGE;
    }
    frame_scaler_free(scaler);
    return code;
}

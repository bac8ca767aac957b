/*
 * vocoder.c - a queue of frames for each session, and one chunk under way.
 *
 * A session's place in the list is its stream in the network. A queue begins at the first frame
 * that can still be needed (context for the next cut included) and grows as frames arrive: nobody
 * knows how far the talker will run ahead, most sessions need little, and a frame of codes weighs a
 * hundredth of its samples, so planning for the longest would reserve much for nothing. What is
 * done with is dropped before a queue grows.
 */
#include "worker/speech/vocoder.h"

#include "common/check.h"

#include <stdlib.h>
#include <string.h>

enum {
    FIRST_CHUNK = 1,             /* frames; doubled chunk by chunk */
    QUEUE_FRAMES = 256,          /* that a queue begins with, */
    QUEUE_FRAMES_MAX = 64 << 10, /* and ends with: 87 minutes of sound that nobody has decoded */
};

_Static_assert(CUT_CONTEXT_FRAMES < VOCODER_FRAMES_MAX,
               "a chunk after a cut has frames of its own");

typedef struct frame_queue {
    int32_t *codes;   /* [capacity][n_quantizers] */
    int64_t first;    /* frame of the session that stands at the front */
    int64_t end;      /* one past the last */
    int64_t capacity; /* frames */
} frame_queue;

typedef struct session {
    bool used;
    uint64_t id;
    bool exact, ended, cancelled;
    bool watched;
    code2wav_watch watch;
    frame_queue queue;
    int64_t n_done;    /* frames decoded, those for context not counted again */
    int64_t n_samples; /* told */
    int64_t n_drop;    /* next samples of the stream that belong to context */
    int32_t chunk;     /* frames to wait for */
} session;

struct vocoder {
    code2wav *net;
    code2wav_config config;
    session sessions[SPEAKERS_MAX];
    int32_t turn;   /* session that is looked at first */
    int32_t active; /* session whose chunk is under way; -1: none */
    int32_t *codes; /* [VOCODER_FRAMES_MAX][n_quantizers]: of the chunk, context first */
    int32_t n_context, n_frames; /* of the chunk: for context, and its own */
};

flo_code vocoder_open(vocoder **out, code2wav *net, const code2wav_config *c, flo_err *err)
{
    vocoder *v = calloc(1, sizeof *v);
    int32_t *codes = calloc((size_t)VOCODER_FRAMES_MAX * (size_t)c->n_quantizers, sizeof *codes);
    if (v == NULL || codes == NULL) {
        free(codes);
        free(v);
        return flo_fail(err, FLO_FAIL, "out of memory for the vocoder's sessions");
    }
    v->net = net;
    v->config = *c;
    v->active = -1;
    v->codes = codes;
    *out = v;
    return FLO_OK;
}

void vocoder_close(vocoder *v)
{
    if (v == NULL) {
        return;
    }
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        free(v->sessions[i].queue.codes);
    }
    free(v->codes);
    free(v);
}

/* --- the queue ---------------------------------------------------------------------------------
 */

static size_t frames_bytes(const vocoder *v, int64_t n)
{
    return (size_t)n * (size_t)v->config.n_quantizers * sizeof(int32_t);
}

static int32_t *frame_at(const vocoder *v, const session *s, int64_t frame)
{
    return s->queue.codes + (frame - s->queue.first) * v->config.n_quantizers;
}

/* Lets go of frames that no chunk will ask for: those before the next, but for context. */
static void drop_done(const vocoder *v, session *s)
{
    int64_t keep = s->n_done - (s->exact ? CUT_CONTEXT_FRAMES : 0);
    if (keep > s->queue.first) {
        memmove(s->queue.codes, frame_at(v, s, keep), frames_bytes(v, s->queue.end - keep));
        s->queue.first = keep;
    }
}

/* Room for n frames behind the last. Growth doubles, so a frame is moved twice on average. */
static flo_code make_room(const vocoder *v, session *s, int32_t n, flo_err *err)
{
    frame_queue *q = &s->queue;
    if (q->end - q->first + n <= q->capacity) {
        return FLO_OK;
    }
    drop_done(v, s);
    int64_t need = q->end - q->first + n, capacity = QUEUE_FRAMES;
    if (need > QUEUE_FRAMES_MAX) {
        return flo_fail(err, FLO_FAIL,
                        "%lld frames of speech session %llu wait for the vocoder, more than %d: "
                        "give it a faster worker",
                        (long long)need, (unsigned long long)s->id, QUEUE_FRAMES_MAX);
    }
    while (capacity < need || capacity < 2 * (need - n)) {
        capacity *= 2;
    }
    int32_t *codes =
        capacity > q->capacity ? realloc(q->codes, frames_bytes(v, capacity)) : q->codes;
    if (codes == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for %lld frames of speech session %llu",
                        (long long)capacity, (unsigned long long)s->id);
    }
    q->codes = codes;
    q->capacity = capacity > q->capacity ? capacity : q->capacity;
    return FLO_OK;
}

/* --- sessions ----------------------------------------------------------------------------------
 */

static session *find(vocoder *v, uint64_t id)
{
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        if (v->sessions[i].used && v->sessions[i].id == id) {
            return &v->sessions[i];
        }
    }
    return NULL;
}

static session *find_free(vocoder *v)
{
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        if (!v->sessions[i].used) {
            return &v->sessions[i];
        }
    }
    return NULL;
}

static void forget(session *s)
{
    free(s->queue.codes);
    *s = (session){.used = false};
}

static flo_code check_codes(const vocoder *v, uint64_t id, int64_t first, const int32_t *codes,
                            int32_t n, flo_err *err)
{
    int32_t groups = v->config.n_quantizers;
    for (int64_t i = 0; i < (int64_t)n * groups; i++) {
        if (codes[i] < 0 || codes[i] >= v->config.codebook_size) {
            return flo_fail(err, FLO_FAIL,
                            "code %d of frame %lld of speech session %llu is %d, the vocoder has "
                            "codes 0 to %d",
                            (int)(i % groups), (long long)(first + i / groups),
                            (unsigned long long)id, codes[i], v->config.codebook_size - 1);
        }
    }
    return FLO_OK;
}

/* The session that the next n frames go to; a new one where `first` is 0 and none has the id. */
static flo_code session_for(vocoder *v, uint64_t id, int64_t first, session **out, flo_err *err)
{
    session *s = find(v, id);
    int64_t end = s != NULL ? s->queue.end : 0;
    if (first != end || (s != NULL && s->ended)) {
        return flo_fail(err, FLO_FAIL,
                        "frames of speech session %llu begin with frame %lld, the vocoder has %lld "
                        "of it%s",
                        (unsigned long long)id, (long long)first, (long long)end,
                        s != NULL && s->ended ? " and was told that these are all" : "");
    }
    if (s == NULL) {
        s = find_free(v);
        if (s == NULL) {
            return flo_fail(err, FLO_FAIL,
                            "speech session %llu is one too many: the vocoder serves %d at a time",
                            (unsigned long long)id, SPEAKERS_MAX);
        }
        *s = (session){.id = id, .chunk = FIRST_CHUNK};
    }
    *out = s;
    return FLO_OK;
}

flo_code vocoder_push(vocoder *v, uint64_t id, int64_t first, const int32_t *codes, int32_t n,
                      bool exact, bool last, const code2wav_watch *watch, flo_err *err)
{
    CHECK(n >= 0);
    session *s = find(v, id);
    if (s != NULL && s->cancelled) {
        return FLO_OK; /* sent before the talker knew */
    }
    flo_code code = check_codes(v, id, first, codes, n, err);
    code = code == FLO_OK ? session_for(v, id, first, &s, err) : code;
    code = code == FLO_OK ? make_room(v, s, n, err) : code;
    if (code != FLO_OK) {
        return code;
    }
    if (!s->used) {
        s->used = true;
        s->exact = exact;
        s->watched = watch != NULL;
        s->watch = watch != NULL ? *watch : (code2wav_watch){.rows = NULL};
    }
    if (n > 0) {
        memcpy(frame_at(v, s, s->queue.end), codes, frames_bytes(v, n));
    }
    s->queue.end += n;
    s->ended = last;
    return FLO_OK;
}

void vocoder_cancel(vocoder *v, uint64_t id)
{
    session *s = find(v, id);
    if (s != NULL) {
        s->cancelled = true;
        s->ended = true;
    }
}

/* --- chunks ------------------------------------------------------------------------------------
 */

static bool is_over(const session *s)
{
    return s->cancelled || (s->ended && s->n_done == s->queue.end);
}

/* Enough frames wait for the next chunk, or the end is to be told. */
static bool is_ready(const session *s)
{
    return s->used && (s->ended || s->queue.end - s->n_done >= s->chunk);
}

static session *next_ready(vocoder *v)
{
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        session *s = &v->sessions[(v->turn + i) % SPEAKERS_MAX];
        if (is_ready(s)) {
            return s;
        }
    }
    return NULL;
}

/* Frames of its own that the next chunk takes: all that wait, as far as the network takes them
 * together and, in exact mode, the next cut. */
static int32_t chunk_frames(const session *s, int32_t n_context)
{
    int64_t n = s->queue.end - s->n_done;
    int64_t to_cut = CUT_FRAMES - s->n_done % CUT_FRAMES;
    n = n < VOCODER_FRAMES_MAX - n_context ? n : VOCODER_FRAMES_MAX - n_context;
    return (int32_t)(s->exact && n > to_cut ? to_cut : n);
}

/* Begins the stream, or begins it anew at a cut: the number of frames for context. */
static int32_t restart(vocoder *v, session *s)
{
    int64_t n = s->n_done < CUT_CONTEXT_FRAMES ? s->n_done : CUT_CONTEXT_FRAMES;
    code2wav_reset(v->net, (int32_t)(s - v->sessions));
    s->n_drop = n * code2wav_rate(&v->config);
    return (int32_t)n;
}

static void begin_chunk(vocoder *v, session *s)
{
    bool is_start = s->n_done == 0 || (s->exact && s->n_done % CUT_FRAMES == 0);
    v->active = (int32_t)(s - v->sessions);
    v->turn = (v->active + 1) % SPEAKERS_MAX;
    v->n_context = is_start ? restart(v, s) : 0;
    v->n_frames = chunk_frames(s, v->n_context);
    int32_t n = v->n_context + v->n_frames;
    memcpy(v->codes, frame_at(v, s, s->n_done - v->n_context), frames_bytes(v, n));
    code2wav_begin(v->net, v->active, v->codes, n, s->watched ? &s->watch : NULL);
    s->chunk = 2 * s->chunk < VOCODER_FRAMES_MAX ? 2 * s->chunk : VOCODER_FRAMES_MAX;
}

/* What the network has made, without the samples of the context. */
static void finish_chunk(vocoder *v, session *s, const float *samples, int32_t n_samples,
                         vocoder_sound *out)
{
    int32_t n_drop = s->n_drop < n_samples ? (int32_t)s->n_drop : n_samples;
    s->n_drop -= n_drop;
    s->n_done += v->n_frames;
    *out =
        (vocoder_sound){.session = s->id,
                        .first_sample = s->n_samples,
                        .samples = samples + n_drop,
                        .n_samples = n_samples - n_drop,
                        .codes = v->codes + (size_t)v->n_context * (size_t)v->config.n_quantizers,
                        .n_frames = v->n_frames,
                        .last = is_over(s)};
    s->n_samples += out->n_samples;
}

static void tell_end(const session *s, vocoder_sound *out)
{
    *out = (vocoder_sound){.session = s->id, .first_sample = s->n_samples, .last = true};
}

bool vocoder_busy(const vocoder *v)
{
    bool busy = v->active >= 0;
    for (int32_t i = 0; i < SPEAKERS_MAX && !busy; i++) {
        busy = is_ready(&v->sessions[i]);
    }
    return busy;
}

/* A chunk that is under way is finished even if its session is cancelled: the network has no other
 * way to leave it. */
static bool advance_chunk(vocoder *v, session *s, vocoder_sound *out)
{
    const float *samples;
    int32_t n_samples;
    if (!code2wav_advance(v->net, &samples, &n_samples)) {
        return false;
    }
    v->active = -1;
    if (s->cancelled) {
        tell_end(s, out);
    } else {
        finish_chunk(v, s, samples, n_samples, out);
    }
    return true;
}

bool vocoder_advance(vocoder *v, vocoder_sound *out)
{
    session *s = v->active >= 0 ? &v->sessions[v->active] : next_ready(v);
    if (s == NULL) {
        return false;
    }
    bool told = false;
    if (v->active < 0 && is_over(s)) {
        tell_end(s, out);
        told = true;
    } else {
        if (v->active < 0) {
            begin_chunk(v, s);
        }
        told = advance_chunk(v, s, out);
    }
    if (told && out->last) {
        forget(s);
    }
    return told;
}

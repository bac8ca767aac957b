/*
 * speech_desk.c - sessions in order of arrival, and the messages of each.
 *
 * What arrives is held against the session that it names: samples and rows must follow on those
 * that came before, so that no sound is lost, doubled, or another's, in silence.
 */
#include "coordinator/speech/speech_desk.h"

#include "common/clock.h"
#include "common/layout.h"
#include "common/log.h"
#include "common/speech_room.h"

#include <stdlib.h>
#include <string.h>

enum { CODES_ROOM_FIRST = 64 };

typedef enum order_state {
    ORDER_WAITS,   /* for room */
    ORDER_OPENING, /* its talker has been asked */
    ORDER_OPEN,
    ORDER_SILENT, /* nothing to say: no session; its owner is to be told, */
    ORDER_MUTE,   /* and has been */
} order_state;

struct speech_desk {
    transport *transport;
    const plan *plan;
    const model_config *model;
    uint64_t epoch, next_session;
    int talker_rank, vocoder_rank, embedding_rank; /* 0: none */
    speech_order *orders, **last;                  /* in order of arrival */
    int32_t n_open;
    int64_t tokens_open; /* of the talker's KV cache */
};

flo_code speech_desk_new(speech_desk **out, transport *t, const plan *p, const model_config *m,
                         uint64_t epoch, flo_err *err)
{
    const plan_worker *talker = plan_talker_worker(p), *vocoder = plan_code2wav_worker(p);
    speech_desk *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the speech desk");
    }
    *d = (speech_desk){.transport = t,
                       .plan = p,
                       .model = m,
                       .epoch = epoch,
                       .next_session = 1,
                       .talker_rank = talker != NULL ? talker->rank : 0,
                       .vocoder_rank = vocoder != NULL ? vocoder->rank : 0,
                       .embedding_rank = plan_stage_home(p, 0)};
    d->last = &d->orders;
    *out = d;
    return FLO_OK;
}

void speech_desk_free(speech_desk *d)
{
    free(d);
}

bool speech_desk_busy(const speech_desk *d)
{
    return d->orders != NULL;
}

void speech_order_clear(speech_order *o)
{
    free(o->codes);
    o->codes = NULL;
    o->codes_room = o->n_frames = 0;
}

/* --- coming and going --------------------------------------------------------------------------
 */

static void enter(speech_desk *d, speech_order *o, order_state state)
{
    o->next = NULL;
    o->state = state;
    o->session = 0;
    o->n_texts_sent = 0;
    o->told_last = o->cancelled = o->sound_over = false;
    *d->last = o;
    d->last = &o->next;
}

static void take_out(speech_desk *d, speech_order *o)
{
    speech_order **at = &d->orders;
    while (*at != o) {
        at = &(*at)->next;
    }
    *at = o->next;
    if (d->last == &o->next) {
        d->last = at;
    }
}

static bool holds_session(const speech_order *o)
{
    return o->state == ORDER_OPENING || o->state == ORDER_OPEN;
}

static void finish(speech_desk *d, speech_order *o)
{
    if (holds_session(o)) {
        d->n_open--;
        d->tokens_open -= o->tokens;
    }
    take_out(d, o);
    o->on_done(o);
}

static void begin_session(speech_desk *d, speech_order *o, order_state state)
{
    o->state = state;
    o->rows_over = o->dump == NULL;
    o->session = d->next_session++;
    d->n_open++;
    d->tokens_open += o->tokens;
}

static bool has_room(const speech_desk *d, const speech_order *o)
{
    return d->n_open < SPEAKERS_MAX && d->tokens_open + o->tokens <= d->plan->talker_tokens;
}

flo_code speech_desk_open(speech_desk *d, speech_order *o, flo_err *err)
{
    if (d->talker_rank == 0) {
        return flo_fail(err, FLO_USAGE,
                        "this job does not speak: it was started with --no-speech, or the "
                        "checkpoint has no talker");
    }
    o->tokens = speech_room_tokens(o->prompt->n_rows, o->how.max_new_tokens);
    if (o->tokens > d->plan->talker_tokens) {
        return flo_fail(err, FLO_USAGE,
                        "the talker's prompt of %d rows and %d frames are over its %lld KV tokens; "
                        "ask for fewer frames (--talker-max-new-tokens), or start with a larger "
                        "--kv-tokens",
                        o->prompt->n_rows, o->how.max_new_tokens,
                        (long long)d->plan->talker_tokens);
    }
    enter(d, o, o->prompt->silent ? ORDER_SILENT : ORDER_WAITS);
    return FLO_OK;
}

/* --- messages out ------------------------------------------------------------------------------
 */

static void send_start(speech_desk *d, const speech_order *o)
{
    const speech_how *how = &o->how;
    Flo__SpeechStart m = FLO__SPEECH_START__INIT;
    Flo__SpeechChoice choice = FLO__SPEECH_CHOICE__INIT;
    choice.greedy = how->greedy;
    choice.temperature = how->temperature;
    choice.top_k = (uint32_t)how->top_k;
    choice.top_p = how->top_p;
    choice.repetition_penalty = how->repetition_penalty;
    choice.seed = how->seed;
    m.epoch = d->epoch;
    m.session = o->session;
    m.rows = (uint32_t)o->prompt->n_rows;
    m.media_rows = (uint32_t)o->prompt->n_hidden;
    m.next_position = o->prompt->next_position;
    m.choice = &choice;
    m.max_draws = (uint32_t)how->max_new_tokens;
    m.exact = how->exact;
    m.dump = o->dump != NULL;
    transport_send(d->transport, d->talker_rank, LANE_MAIN, MSG_SPEECH_START, &m.base);
}

static void send_prompt_part(speech_desk *d, const speech_order *o, int32_t first, int32_t n)
{
    const speech_prompt *p = o->prompt;
    protobuf_c_boolean media[STEP_ROWS_MAX];
    float positions[3 * STEP_ROWS_MAX];
    Flo__SpeechPrompt m = FLO__SPEECH_PROMPT__INIT;
    for (int32_t i = 0; i < n; i++) {
        media[i] = p->media[first + i];
    }
    for (int32_t axis = 0; axis < 3; axis++) {
        memcpy(positions + axis * n, p->axes + (size_t)axis * (size_t)p->n_rows + first,
               (size_t)n * sizeof *positions);
    }
    m.epoch = d->epoch;
    m.session = o->session;
    m.n_codes = m.n_media = (size_t)n;
    m.codes = p->codes + first;
    m.media = media;
    m.n_positions = 3 * (size_t)n;
    m.positions = positions;
    transport_send(d->transport, d->talker_rank, LANE_MAIN, MSG_SPEECH_PROMPT, &m.base);
}

static void send_session(speech_desk *d, const speech_order *o)
{
    send_start(d, o);
    for (int32_t first = 0; first < o->prompt->n_rows; first += STEP_ROWS_MAX) {
        int32_t left = o->prompt->n_rows - first;
        send_prompt_part(d, o, first, left < STEP_ROWS_MAX ? left : STEP_ROWS_MAX);
    }
}

static void send_cancel(speech_desk *d, const speech_order *o)
{
    Flo__SpeechCancel m = FLO__SPEECH_CANCEL__INIT;
    m.epoch = d->epoch;
    m.session = o->session;
    transport_send(d->transport, d->talker_rank, LANE_MAIN, MSG_SPEECH_CANCEL, &m.base);
}

static void send_text(speech_desk *d, speech_order *o, const int32_t *ids, int32_t n, bool last)
{
    Flo__SpeechText m = FLO__SPEECH_TEXT__INIT;
    m.epoch = d->epoch;
    m.session = o->session;
    m.first = (uint32_t)o->n_texts_sent;
    m.n_ids = (size_t)n;
    m.ids = (int32_t *)ids;
    m.last = last;
    transport_send(d->transport, d->embedding_rank, LANE_MAIN, MSG_SPEECH_TEXT, &m.base);
    o->n_texts_sent += n;
    o->told_last = last;
}

void speech_desk_text(speech_desk *d, speech_order *o, const int32_t *answer, int32_t n_ids,
                      bool done, bool is_end)
{
    if (o->state == ORDER_MUTE) {
        if (done) {
            finish(d, o);
        }
        return;
    }
    if (o->state != ORDER_OPEN || o->cancelled || o->told_last) {
        return;
    }
    speech_text settled = speech_prompt_settled(o->prompt, n_ids, done, is_end);
    if (settled.silent) {
        speech_desk_cancel(d, o);
        return;
    }
    int32_t ids[STEP_ROWS_MAX];
    while (o->n_texts_sent < settled.n || (settled.last && !o->told_last)) {
        int64_t left = settled.n - o->n_texts_sent;
        int32_t n = left < STEP_ROWS_MAX ? (int32_t)left : STEP_ROWS_MAX;
        for (int32_t i = 0; i < n; i++) {
            ids[i] =
                speech_prompt_text(o->prompt, answer, n_ids, done, is_end, o->n_texts_sent + i);
        }
        send_text(d, o, ids, n, settled.last && n == left);
    }
}

void speech_desk_cancel(speech_desk *d, speech_order *o)
{
    if (holds_session(o) && !o->cancelled) {
        send_cancel(d, o);
    }
    o->cancelled = true;
}

flo_code speech_desk_decode(speech_desk *d, speech_order *o, const int32_t *codes, int32_t n,
                            flo_err *err)
{
    int32_t groups = d->model->code2wav.n_quantizers;
    o->tokens = 0;
    if (d->vocoder_rank == 0 || !has_room(d, o)) {
        return flo_fail(err, FLO_USAGE, "this job has no vocoder, or no room for a session now");
    }
    enter(d, o, ORDER_OPEN);
    begin_session(d, o, ORDER_OPEN);
    o->rows_over = true; /* the vocoder's come before its last sound, and no talker's do */
    for (int32_t first = 0; first < n || first == 0; first += STEP_ROWS_MAX) {
        int32_t part = n - first < STEP_ROWS_MAX ? n - first : STEP_ROWS_MAX;
        Flo__CodeFrames m = FLO__CODE_FRAMES__INIT;
        m.epoch = d->epoch;
        m.session = o->session;
        m.first = (uint32_t)first;
        m.n_codes = (size_t)part * (size_t)groups;
        m.codes = (uint32_t *)(uintptr_t)(codes + (size_t)first * (size_t)groups);
        m.exact = o->how.exact;
        m.last = first + part == n;
        m.dump = o->dump != NULL;
        transport_send(d->transport, d->vocoder_rank, LANE_MAIN, MSG_CODE_FRAMES, &m.base);
    }
    return FLO_OK;
}

/* --- the round ---------------------------------------------------------------------------------
 */

/* One order that has something to happen to it; NULL: none. Orders wait in line: one that has no
 * room holds those behind it up, so that a long prompt is not passed by for ever. */
static speech_order *next_to_move(const speech_desk *d)
{
    bool held_up = false;
    for (speech_order *o = d->orders; o != NULL; o = o->next) {
        bool waits = o->state == ORDER_WAITS;
        if ((o->cancelled && !holds_session(o)) || o->state == ORDER_SILENT ||
            (waits && !held_up && has_room(d, o))) {
            return o;
        }
        held_up = held_up || waits;
    }
    return NULL;
}

void speech_desk_pump(speech_desk *d, bool *busy)
{
    speech_order *o;
    while ((o = next_to_move(d)) != NULL) {
        *busy = true;
        if (o->cancelled) {
            finish(d, o);
        } else if (o->state == ORDER_SILENT) {
            o->state = ORDER_MUTE;
            o->on_opened(o);
        } else {
            begin_session(d, o, ORDER_OPENING);
            send_session(d, o);
        }
    }
}

/* --- messages in -------------------------------------------------------------------------------
 */

static speech_order *find(const speech_desk *d, uint64_t session)
{
    speech_order *o = d->orders;
    while (o != NULL && (o->session != session || !holds_session(o))) {
        o = o->next;
    }
    return o;
}

static flo_code on_opened(speech_desk *d, const incoming *in, flo_err *err)
{
    speech_order *o = find(d, in->as.speech_opened->session);
    if (o == NULL || o->state != ORDER_OPENING) {
        return flo_fail(err, FLO_FAIL, "rank %d opened a session that was not asked for",
                        in->source);
    }
    o->state = ORDER_OPEN;
    if (!o->cancelled) {
        o->on_opened(o);
    }
    return FLO_OK;
}

static flo_code keep_codes(const speech_desk *d, speech_order *o, const Flo__Sound *m, flo_err *err)
{
    int32_t groups = d->model->code2wav.n_quantizers, size = d->model->code2wav.codebook_size;
    int32_t n = (int32_t)(m->n_codes / (size_t)groups), room = o->codes_room;
    if (o->n_frames + n > room) {
        room = room == 0 ? CODES_ROOM_FIRST : room;
        while (room < o->n_frames + n) {
            room *= 2;
        }
        int32_t *more = realloc(o->codes, (size_t)room * (size_t)groups * sizeof *more);
        if (more == NULL) {
            return flo_fail(err, FLO_FAIL, "out of memory for the codes of an answer");
        }
        o->codes = more;
        o->codes_room = room;
    }
    int32_t *to = o->codes + (size_t)o->n_frames * (size_t)groups;
    for (size_t i = 0; i < m->n_codes; i++) {
        if (m->codes[i] >= (uint32_t)size) {
            return flo_fail(err, FLO_FAIL, "a frame came with code %u, the codebook has %d",
                            m->codes[i], size);
        }
        to[i] = (int32_t)m->codes[i];
    }
    o->n_frames += n;
    return FLO_OK;
}

/* A session is over with its sound, and where it is dumped with the talker's last rows too. */
static void finish_if_over(speech_desk *d, speech_order *o)
{
    if (o->sound_over && o->rows_over) {
        finish(d, o);
    }
}

static flo_code on_sound(speech_desk *d, const incoming *in, flo_err *err)
{
    const Flo__Sound *m = in->as.sound;
    size_t groups = (size_t)d->model->code2wav.n_quantizers;
    speech_order *o = find(d, m->session);
    const void *samples = NULL, *payload = NULL;
    size_t n = 0;
    if (o == NULL || (int64_t)m->first != o->n_samples || m->n_codes % groups != 0 ||
        m->n_codes > groups * STEP_ROWS_MAX) {
        return flo_fail(err, FLO_FAIL,
                        "rank %d sent sound of a session that is not open, or out of order",
                        in->source);
    }
    if (in->payload_bytes > 0) {
        payload = transport_take_payload(d->transport, in, NULL);
    }
    flo_code code = FLO_OK;
    if (m->samples != NULL) {
        n = m->samples->n_shape == 1 ? (size_t)m->samples->shape[0] : SIZE_MAX;
        code = n > INT32_MAX ? flo_fail(err, FLO_FAIL, "sound came in a shape that none has")
                             : transport_tensor(m->samples, FLO__DTYPE__F32, n, payload,
                                                in->payload_bytes, "sound", &samples, err);
    }
    code = code == FLO_OK ? keep_codes(d, o, m, err) : code;
    if (code != FLO_OK) {
        return code;
    }
    if (n > 0 && o->n_samples == 0) {
        o->first_sound_s = clock_s();
    }
    o->n_samples += (int64_t)n;
    if (n > 0 && !o->cancelled) {
        o->on_sound(o, samples, (int32_t)n);
    }
    o->sound_over = m->last;
    finish_if_over(d, o);
    return FLO_OK;
}

/* o: NULL where it is over. */
static void end_rows(speech_desk *d, speech_order *o)
{
    if (o != NULL) {
        o->rows_over = true;
        finish_if_over(d, o);
    }
}

static flo_code on_rows(speech_desk *d, const incoming *in, flo_err *err)
{
    const Flo__SpeechRows *m = in->as.speech_rows;
    const Flo__Tensor *t = m->rows;
    speech_order *o = find(d, m->session);
    const void *rows, *payload = NULL;
    if (in->payload_bytes > 0) {
        payload = transport_take_payload(d->transport, in, NULL);
    }
    if (m->last) {
        end_rows(d, o);
        return FLO_OK;
    }
    if (t == NULL || t->n_shape != 2 || t->shape[0] > INT32_MAX || t->shape[1] > INT32_MAX ||
        m->first > INT32_MAX || (t->dtype != FLO__DTYPE__F32 && t->dtype != FLO__DTYPE__I32)) {
        return flo_fail(err, FLO_FAIL, "rank %d sent rows of %s in a shape that none has",
                        in->source, m->name);
    }
    if (o == NULL || o->dump == NULL || o->cancelled) {
        return FLO_OK; /* over meanwhile */
    }
    flo_code code = transport_tensor(t, t->dtype, (size_t)(t->shape[0] * t->shape[1]), payload,
                                     in->payload_bytes, m->name, &rows, err);
    return code == FLO_OK
               ? o->dump->rows(o->dump->arg, m->name, (int32_t)m->first, (int32_t)t->shape[0],
                               (int32_t)t->shape[1], t->dtype == FLO__DTYPE__I32, rows, err)
               : code;
}

flo_code speech_desk_on_message(speech_desk *d, const incoming *in, flo_err *err)
{
    uint64_t epoch = in->kind == MSG_SPEECH_OPENED ? in->as.speech_opened->epoch
                     : in->kind == MSG_SOUND       ? in->as.sound->epoch
                                                   : in->as.speech_rows->epoch;
    if (epoch != d->epoch) {
        return flo_fail(err, FLO_FAIL, "rank %d sent a %s of another job", in->source,
                        message_kind_name(in->kind));
    }
    return in->kind == MSG_SPEECH_OPENED ? on_opened(d, in, err)
           : in->kind == MSG_SOUND       ? on_sound(d, in, err)
                                         : on_rows(d, in, err);
}

/*
 * speech_messages.c - see speech_messages.h, and worker_on_speech of worker_speech.h.
 *
 * What arrives is held against what may arrive before it is handed on; a session that is over is
 * nobody's mistake, as its end and a message for it may pass each other.
 */
#include "worker/speech_messages.h"

#include "worker/worker.h"

#include <math.h>
#include <string.h>

/* --- checks ------------------------------------------------------------------------------------
 */

static void require(worker *w, const incoming *in, bool sound)
{
    flo_err err;
    if (!sound) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL,
                             "rank %d sent a %s that does not fit this worker's part of speech",
                             in->source, message_kind_name(in->kind)),
                    &err);
    }
}

/* The message's payload in the lane's buffer; NULL: none. */
static const void *take_payload(worker *w, const incoming *in)
{
    return in->payload_bytes > 0 ? transport_take_payload(w->transport, in, NULL) : NULL;
}

/* f32 [n][columns] of the payload; none are NULL. */
static const float *rows_of(worker *w, const incoming *in, const Flo__Tensor *t, size_t n,
                            int32_t columns, const void *payload)
{
    flo_err err;
    const void *at = NULL;
    if (n == 0) {
        return NULL;
    }
    worker_require(w,
                   transport_tensor(t, FLO__DTYPE__F32, n * (size_t)columns, payload,
                                    in->payload_bytes, message_kind_name(in->kind), &at, &err),
                   &err);
    return at;
}

/* Rows of a tensor, STEP_ROWS_MAX at most. */
static size_t count_rows(worker *w, const incoming *in, const Flo__Tensor *t)
{
    size_t n = t != NULL && t->n_shape == 2 ? t->shape[0] : SIZE_MAX;
    require(w, in, n <= STEP_ROWS_MAX);
    return n;
}

/* --- rows that are dumped ----------------------------------------------------------------------
 */

/* As many messages as parts of SPEECH_PART_BYTES need. */
static void send_rows(worker *w, uint64_t session, const char *name, int64_t first, int32_t n,
                      int32_t columns, bool is_ids, const void *data)
{
    size_t row_bytes = (size_t)columns * 4;
    int32_t most = (int32_t)(SPEECH_PART_BYTES / row_bytes);
    const unsigned char *from = data;
    most = most > 0 ? most : 1;
    for (int32_t done = 0; done < n; done += most) {
        int32_t part = n - done < most ? n - done : most;
        Flo__SpeechRows m = FLO__SPEECH_ROWS__INIT;
        Flo__Tensor tensor;
        uint64_t shape[2] = {(uint64_t)part, (uint64_t)columns}, n_bytes = 0;
        worker_tensor(&tensor, shape, 2, is_ids ? FLO__DTYPE__I32 : FLO__DTYPE__F32, &n_bytes);
        m.epoch = w->epoch;
        m.session = session;
        m.name = (char *)name;
        m.first = (uint64_t)(first + done);
        m.rows = &tensor;
        worker_wait_room(w);
        memcpy(transport_payload(w->transport, n_bytes), from + (size_t)done * row_bytes, n_bytes);
        transport_send(w->transport, 0, LANE_MAIN, MSG_SPEECH_ROWS, &m.base);
    }
}

static void rows_hook(void *arg, uint64_t session, const char *name, int32_t first, int32_t n,
                      int32_t columns, bool is_ids, const void *data, bool last)
{
    worker *w = arg;
    if (!last) {
        send_rows(w, session, name, first, n, columns, is_ids, data);
        return;
    }
    Flo__SpeechRows m = FLO__SPEECH_ROWS__INIT;
    m.epoch = w->epoch;
    m.session = session;
    m.last = true;
    transport_send(w->transport, 0, LANE_MAIN, MSG_SPEECH_ROWS, &m.base);
}

void speech_tell_logits(worker *w)
{
    int32_t columns = w->model.code_predictor.vocab_size, pass;
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        uint64_t session;
        const float *logits = predictor_logits(w->speech.predictor, i, &pass, &session);
        if (logits != NULL) {
            send_rows(w, session, "predictor_logits", pass, 1, columns, false, logits);
        }
    }
}

static void watch_rows(void *arg, const char *name, int64_t first, int32_t n, int32_t columns,
                       const float *data)
{
    listener *l = arg;
    send_rows(l->w, l->session, name, first, n, columns, false, data);
}

/* --- frames to the vocoder ---------------------------------------------------------------------
 */

static listener *find_listener(worker *w, uint64_t session)
{
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        if (w->speech.listeners[i].session == session) {
            return &w->speech.listeners[i];
        }
    }
    return NULL;
}

/* Frames codes [n][groups] of a session for the vocoder here; index: how many came before. */
static void push_frames(worker *w, const desk_frame *f, const int32_t *codes, int32_t n)
{
    worker_speech *s = &w->speech;
    flo_err err;
    listener *l = f->session != 0 ? find_listener(w, f->session) : NULL;
    if (l != NULL && f->cancelled) {
        vocoder_cancel(s->vocoder, f->session);
        return;
    }
    bool is_new = l == NULL;
    if (is_new) {
        l = find_listener(w, 0);
    }
    if (f->session == 0 || l == NULL) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL,
                             "frames of speech session %llu came while %d others are spoken",
                             (unsigned long long)f->session, SPEAKERS_MAX),
                    &err);
    }
    if (is_new) {
        *l = (listener){.w = w,
                        .session = f->session,
                        .exact = f->exact,
                        .watch = {.rows = watch_rows, .arg = l}};
    }
    worker_require(w,
                   vocoder_push(s->vocoder, f->session, f->cancelled ? 0 : f->index, codes, n,
                                f->exact, f->last, f->dump ? &l->watch : NULL, &err),
                   &err);
}

static void frame_hook(void *arg, const desk_frame *f)
{
    worker *w = arg;
    uint32_t codes[CODE_GROUPS_MAX];
    int32_t n = f->codes != NULL ? 1 : 0;
    if (w->speech.vocoder != NULL) {
        push_frames(w, f, f->codes, n);
        return;
    }
    Flo__CodeFrames m = FLO__CODE_FRAMES__INIT;
    for (int32_t i = 0; i < n * w->model.talker.n_code_groups; i++) {
        codes[i] = (uint32_t)f->codes[i];
    }
    m.epoch = w->epoch;
    m.session = f->session;
    m.first = (uint32_t)f->index;
    m.n_codes = (size_t)(n * w->model.talker.n_code_groups);
    m.codes = codes;
    m.exact = f->exact;
    m.last = f->last;
    m.cancelled = f->cancelled;
    m.dump = f->dump;
    transport_send(w->transport, w->speech.code2wav_rank, LANE_MAIN, MSG_CODE_FRAMES, &m.base);
}

static void on_code_frames(worker *w, const incoming *in)
{
    const Flo__CodeFrames *m = in->as.code_frames;
    worker_check_epoch(w, in, m->epoch);
    size_t groups = (size_t)w->model.talker.n_code_groups;
    require(w, in,
            w->speech.vocoder != NULL && (in->source == 0 || in->source == w->speech.talker_rank) &&
                m->n_codes % groups == 0 && m->n_codes <= INT32_MAX && m->first <= INT32_MAX);
    desk_frame f = {.session = m->session,
                    .index = (int32_t)m->first,
                    .last = m->last,
                    .cancelled = m->cancelled,
                    .exact = m->exact,
                    .dump = m->dump};
    /* A code that is no int32_t is negative as one, and refused as out of range. */
    push_frames(w, &f, (const int32_t *)m->codes,
                m->cancelled ? 0 : (int32_t)(m->n_codes / groups));
}

/* --- sound to the coordinator ------------------------------------------------------------------
 */

/* Frames that were decoded for a chunk, the context after a cut included. */
static uint64_t frames_decoded(listener *l, int32_t n)
{
    bool after_cut = l->exact && n > 0 && l->n_frames > 0 && l->n_frames % CUT_FRAMES == 0;
    l->n_frames += n;
    return (uint64_t)n + (after_cut ? CUT_CONTEXT_FRAMES : 0);
}

static void end_sound(worker *w)
{
    worker_speech *s = &w->speech;
    listener *l = find_listener(w, s->sound.session);
    s->has_sound = false;
    if (l != NULL) {
        s->code2wav_frames += frames_decoded(l, s->sound.n_frames);
        l->session = s->sound.last ? 0 : l->session;
    }
}

void speech_send_sound(worker *w)
{
    worker_speech *s = &w->speech;
    const vocoder_sound *sound = &s->sound;
    int32_t most = SPEECH_PART_BYTES / (int32_t)sizeof(float),
            left = sound->n_samples - s->sound_told;
    int32_t n = left < most ? left : most;
    Flo__Sound m = FLO__SOUND__INIT;
    Flo__Tensor tensor;
    uint64_t shape[2] = {(uint64_t)n}, n_bytes = 0;
    worker_tensor(&tensor, shape, 1, FLO__DTYPE__F32, &n_bytes);
    m.epoch = w->epoch;
    m.session = sound->session;
    m.first = (uint64_t)(sound->first_sample + s->sound_told);
    if (s->sound_told == 0) {
        m.n_codes = (size_t)(sound->n_frames * w->model.talker.n_code_groups);
        m.codes = (uint32_t *)sound->codes;
    }
    if (n > 0) {
        m.samples = &tensor;
        memcpy(transport_payload(w->transport, n_bytes), sound->samples + s->sound_told, n_bytes);
    }
    s->sound_told += n;
    bool all = s->sound_told == sound->n_samples;
    m.last = sound->last && all;
    transport_send(w->transport, 0, LANE_MAIN, MSG_SOUND, &m.base);
    if (all) {
        end_sound(w);
    }
}

/* --- the talker's sessions ---------------------------------------------------------------------
 */

static desk_start read_start(const Flo__SpeechStart *m)
{
    const Flo__SpeechChoice *c = m->choice;
    return (desk_start){.session = m->session,
                        .rows = (int32_t)m->rows,
                        .media_rows = (int32_t)m->media_rows,
                        .next_position = m->next_position,
                        .how = {.temperature = c->greedy ? 0 : c->temperature,
                                .top_k = (int32_t)c->top_k,
                                .top_p = c->top_p,
                                .repetition_penalty = c->repetition_penalty,
                                .seed = c->seed},
                        .max_draws = (int32_t)m->max_draws,
                        .exact = m->exact,
                        .dump = m->dump};
}

static void on_start(worker *w, const incoming *in)
{
    const Flo__SpeechStart *m = in->as.speech_start;
    worker_check_epoch(w, in, m->epoch);
    flo_err err;
    require(w, in,
            w->speech.desk != NULL && in->source == 0 && m->session != 0 && m->choice != NULL &&
                m->rows <= INT32_MAX && m->media_rows <= INT32_MAX && m->max_draws <= INT32_MAX &&
                m->choice->top_k <= INT32_MAX);
    desk_start start = read_start(m);
    worker_require(w, talker_desk_start(w->speech.desk, &start, &err), &err);
    Flo__SpeechOpened opened = FLO__SPEECH_OPENED__INIT;
    opened.epoch = w->epoch;
    opened.session = m->session;
    transport_send(w->transport, 0, LANE_MAIN, MSG_SPEECH_OPENED, &opened.base);
}

static void on_prompt(worker *w, const incoming *in)
{
    const Flo__SpeechPrompt *m = in->as.speech_prompt;
    worker_check_epoch(w, in, m->epoch);
    flo_err err;
    require(w, in,
            w->speech.desk != NULL && in->source == 0 && m->n_codes <= STEP_ROWS_MAX &&
                m->n_media == m->n_codes && m->n_positions == 3 * m->n_codes);
    worker_require(w,
                   talker_desk_prompt(w->speech.desk, m->session, (int32_t)m->n_codes, m->codes,
                                      m->media, m->positions, &err),
                   &err);
}

/* Text from the coordinator at the home of the first stage: its rows of the table go on to the
 * talker. */
static void pass_text_on(worker *w, const Flo__SpeechText *m)
{
    flo_err err;
    int32_t n = (int32_t)m->n_ids;
    if (w->speech.desk != NULL) {
        float *rows = talker_desk_gather(w->speech.desk);
        stage_embed(&w->stage, rows, m->ids, n);
        worker_require(
            w, talker_desk_text(w->speech.desk, m->session, m->first, n, rows, m->last, &err),
            &err);
        return;
    }
    Flo__SpeechText on = FLO__SPEECH_TEXT__INIT;
    Flo__Tensor tensor;
    uint64_t shape[2] = {m->n_ids, (uint64_t)w->model.text.hidden_size}, n_bytes = 0;
    worker_tensor(&tensor, shape, 2, FLO__DTYPE__F32, &n_bytes);
    on.epoch = w->epoch;
    on.session = m->session;
    on.first = m->first;
    on.last = m->last;
    on.rows = &tensor;
    if (n > 0) {
        worker_wait_room(w);
        stage_embed(&w->stage, transport_payload(w->transport, n_bytes), m->ids, n);
    }
    transport_send(w->transport, w->speech.talker_rank, LANE_MAIN, MSG_SPEECH_TEXT, &on.base);
}

/* Of the talker; its rows, once they are known to be there. */
static void take_text(worker *w, const incoming *in)
{
    const Flo__SpeechText *m = in->as.speech_text;
    int32_t columns = w->model.text.hidden_size;
    const void *payload = take_payload(w, in);
    flo_err err;
    size_t n = count_rows(w, in, m->rows);
    const float *rows = rows_of(w, in, m->rows, n, columns, payload);
    worker_require(
        w, talker_desk_text(w->speech.desk, m->session, m->first, (int32_t)n, rows, m->last, &err),
        &err);
}

static void on_text(worker *w, const incoming *in)
{
    const Flo__SpeechText *m = in->as.speech_text;
    worker_check_epoch(w, in, m->epoch);
    if (in->source != 0) {
        require(w, in, w->speech.desk != NULL && in->source == worker_home_of(w, 0));
        take_text(w, in);
        return;
    }
    bool sound = w->me->has_embedding && w->speech.talker_rank > 0 && in->payload_bytes == 0 &&
                 m->n_ids <= STEP_ROWS_MAX;
    for (size_t i = 0; sound && i < m->n_ids; i++) {
        sound = m->ids[i] >= 0 && m->ids[i] < w->model.text.vocab_size;
    }
    require(w, in, sound);
    pass_text_on(w, m);
}

static void on_hidden(worker *w, const incoming *in)
{
    const Flo__SpeechHidden *m = in->as.speech_hidden;
    worker_check_epoch(w, in, m->epoch);
    int32_t columns = w->model.text.hidden_size;
    require(w, in, w->speech.desk != NULL && in->source != 0);
    const void *payload = take_payload(w, in);
    flo_err err;
    size_t n = count_rows(w, in, m->rows);
    const float *rows = rows_of(w, in, m->rows, n, columns, payload);
    worker_require(
        w, talker_desk_hidden(w->speech.desk, m->session, m->first, (int32_t)n, rows, &err), &err);
}

static void on_cancel(worker *w, const incoming *in)
{
    const Flo__SpeechCancel *m = in->as.speech_cancel;
    worker_check_epoch(w, in, m->epoch);
    require(w, in, w->speech.desk != NULL && in->source == 0);
    talker_desk_cancel(w->speech.desk, m->session);
}

/* --- frames to the predictor and back ----------------------------------------------------------
 */

void speech_send_job(worker *w, const desk_job *job)
{
    Flo__PredictJob m = FLO__PREDICT_JOB__INIT;
    Flo__Tensor hidden, firsts;
    protobuf_c_boolean greedy[SPEAKERS_MAX];
    uint64_t seeds[SPEAKERS_MAX], draws[SPEAKERS_MAX], listeners[SPEAKERS_MAX];
    uint64_t shape[2] = {(uint64_t)job->n, (uint64_t)w->model.talker.hidden_size}, n_bytes = 0;
    for (int32_t i = 0; i < job->n; i++) {
        greedy[i] = job->how[i].greedy;
        seeds[i] = job->how[i].seed;
        draws[i] = job->how[i].draw;
        listeners[i] = job->how[i].listener;
    }
    worker_tensor(&hidden, shape, 2, FLO__DTYPE__F32, &n_bytes);
    worker_tensor(&firsts, shape, 2, FLO__DTYPE__F32, &n_bytes);
    m.epoch = w->epoch;
    m.job = w->speech.job;
    m.n_sessions = m.n_greedy = m.n_seeds = m.n_draws = m.n_listeners = (size_t)job->n;
    m.sessions = (uint64_t *)job->sessions;
    m.greedy = greedy;
    m.seeds = seeds;
    m.draws = draws;
    m.listeners = listeners;
    m.hidden = &hidden;
    m.firsts = &firsts;
    unsigned char *payload = transport_payload(w->transport, n_bytes);
    memcpy(payload, job->hidden, n_bytes / 2);
    memcpy(payload + n_bytes / 2, job->firsts, n_bytes / 2);
    transport_send(w->transport, w->speech.predictor_rank, LANE_MAIN, MSG_PREDICT_JOB, &m.base);
}

static void on_predict_job(worker *w, const incoming *in)
{
    const Flo__PredictJob *m = in->as.predict_job;
    worker_check_epoch(w, in, m->epoch);
    worker_speech *s = &w->speech;
    predictor_choice how[SPEAKERS_MAX];
    size_t n = m->n_sessions;
    require(w, in,
            s->predictor != NULL && in->source == s->talker_rank && s->frame == FRAME_NONE &&
                n > 0 && n <= SPEAKERS_MAX && m->n_greedy == n && m->n_seeds == n &&
                m->n_draws == n && m->n_listeners == n);
    const void *payload = take_payload(w, in);
    int32_t columns = w->model.code_predictor.hidden_size;
    const float *hidden = rows_of(w, in, m->hidden, n, columns, payload);
    const float *firsts = rows_of(w, in, m->firsts, n, columns, payload);
    for (size_t i = 0; i < n; i++) {
        how[i] = (predictor_choice){.greedy = m->greedy[i],
                                    .seed = m->seeds[i],
                                    .draw = m->draws[i],
                                    .listener = m->listeners[i]};
    }
    predictor_begin(s->predictor, hidden, firsts, how, (int32_t)n);
    s->frame = FRAME_BEGUN;
    s->frame_job = m->job;
    s->frame_rows = (int32_t)n;
}

void speech_send_prediction(worker *w)
{
    const worker_speech *s = &w->speech;
    Flo__Prediction m = FLO__PREDICTION__INIT;
    Flo__Tensor sums;
    uint64_t shape[2] = {(uint64_t)s->frame_rows, (uint64_t)w->model.code_predictor.hidden_size};
    uint64_t n_bytes = 0;
    worker_tensor(&sums, shape, 2, FLO__DTYPE__F32, &n_bytes);
    m.epoch = w->epoch;
    m.job = s->frame_job;
    m.n_codes = (size_t)(s->frame_rows * (w->model.code_predictor.n_code_groups - 1));
    m.codes = (uint32_t *)predictor_codes(s->predictor);
    m.sums = &sums;
    memcpy(transport_payload(w->transport, n_bytes), predictor_sums(s->predictor), n_bytes);
    transport_send(w->transport, s->talker_rank, LANE_MAIN, MSG_PREDICTION, &m.base);
}

static void on_prediction(worker *w, const incoming *in)
{
    const Flo__Prediction *m = in->as.prediction;
    worker_check_epoch(w, in, m->epoch);
    worker_speech *s = &w->speech;
    flo_err err;
    size_t n = s->desk != NULL ? (size_t)talker_desk_out(s->desk) : 0;
    require(w, in,
            n > 0 && s->predictor == NULL && in->source == s->predictor_rank && m->job == s->job &&
                m->n_codes == n * (size_t)(w->model.talker.n_code_groups - 1));
    const void *payload = take_payload(w, in);
    const float *sums = rows_of(w, in, m->sums, n, w->model.talker.hidden_size, payload);
    worker_require(w, talker_desk_codes(s->desk, (const int32_t *)m->codes, sums, &err), &err);
}

/* --- the desk's hooks --------------------------------------------------------------------------
 */

static void step_hook(void *arg, uint64_t step)
{
    worker *w = arg;
    w->speech.experts = (expert_round){.w = w, .step = step, .talker = true};
}

static void expert_send_hook(void *arg, int32_t layer, int32_t place, const expert_batch *batch)
{
    worker_expert_send(&((worker *)arg)->speech.experts, layer, place, batch);
}

static void expert_gather_hook(void *arg, int32_t layer, int32_t n_places, float *const *results,
                               const size_t *n_floats)
{
    worker_expert_gather(&((worker *)arg)->speech.experts, layer, n_places, results, n_floats);
}

static void progress_hook(void *arg)
{
    transport_progress(((worker *)arg)->transport);
}

desk_hooks speech_desk_hooks(worker *w)
{
    return (desk_hooks){.arg = w,
                        .frame = frame_hook,
                        .rows = rows_hook,
                        .step_begins = step_hook,
                        .expert_send = expert_send_hook,
                        .expert_gather = expert_gather_hook,
                        .progress = progress_hook};
}

/* --- by kind -----------------------------------------------------------------------------------
 */

bool worker_on_speech(worker *w, const incoming *in)
{
    static void (*const handlers[MSG_KINDS])(worker *, const incoming *) = {
        [MSG_SPEECH_START] = on_start,    [MSG_SPEECH_PROMPT] = on_prompt,
        [MSG_SPEECH_TEXT] = on_text,      [MSG_SPEECH_HIDDEN] = on_hidden,
        [MSG_SPEECH_CANCEL] = on_cancel,  [MSG_PREDICT_JOB] = on_predict_job,
        [MSG_PREDICTION] = on_prediction, [MSG_CODE_FRAMES] = on_code_frames,
    };
    if (handlers[in->kind] == NULL) {
        return false;
    }
    handlers[in->kind](w, in);
    return true;
}

/* --- leaving -----------------------------------------------------------------------------------
 */

/* The home of the stage that has the state which the talker listens to. */
static int accept_home(const worker *w)
{
    int32_t accept = w->model.talker.accept_hidden_layer, layer = accept > 0 ? accept - 1 : 0;
    for (int32_t i = 0; i < w->plan.n_workers; i++) {
        const plan_worker *p = &w->plan.workers[i];
        bool has_layer = layer >= p->first_layer && layer < p->first_layer + p->n_layers;
        if (p->place == 0 && has_layer) {
            return p->rank;
        }
    }
    return 0;
}

bool worker_speech_leaves(worker *w, const incoming *in)
{
    int text = worker_home_of(w, 0), hidden = accept_home(w), to = w->speech.talker_rank;
    int rank = w->me->rank;
    if (in->source == 0) {
        w->leaving = true;
        if (to > 0 && to != rank && (rank == text || rank == hidden)) {
            transport_send(w->transport, to, LANE_MAIN, MSG_SHUTDOWN, in->as.any);
        }
    } else {
        require(w, in, to == rank && (in->source == text || in->source == hidden));
        w->speech.n_gone++;
    }
    int32_t due = to == rank ? (text != rank) + (hidden != rank && hidden != text) : 0;
    return w->leaving && w->speech.n_gone == due;
}

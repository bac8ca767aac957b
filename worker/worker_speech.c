/*
 * worker_speech.c - memory, weights, and the slices in which speech is computed.
 *
 * A slice is one step of the talker, one pass of the code predictor, or a piece of the vocoder's
 * work. Codes and sound take turns. Where the code predictor is here too, a step comes before the
 * next frame is predicted, so that speakers that have drifted apart share a frame again.
 */
#include "worker/worker_speech.h"

#include "common/clock.h"
#include "common/plan_parts.h"
#include "worker/speech_messages.h"
#include "worker/worker.h"

/* --- memory and weights ------------------------------------------------------------------------
 */

static int rank_of(const plan_worker *w)
{
    return w != NULL ? w->rank : 0;
}

static void find_parts(worker *w)
{
    worker_speech *s = &w->speech;
    const plan_worker *owners[PLAN_WORKERS_MAX];
    s->talker_rank = rank_of(plan_talker_worker(&w->plan));
    s->predictor_rank = rank_of(plan_predictor_worker(&w->plan));
    s->code2wav_rank = rank_of(plan_code2wav_worker(&w->plan));
    s->n_owners = plan_talker_owners(&w->plan, owners);
    for (int32_t i = 0; i < s->n_owners; i++) {
        s->owners[i] = owners[i]->rank;
    }
}

static flo_code open_talker(worker *w, flo_err *err)
{
    worker_speech *s = &w->speech;
    flo_code code = talker_open(&s->talker, &w->model, &w->plan, w->me, w->stage.pool, err);
    if (code == FLO_OK && w->me->has_talker) {
        desk_hooks hooks = speech_desk_hooks(w);
        code = talker_desk_open(&s->desk, s->talker, &w->model, w->plan.talker_tokens, &hooks, err);
    }
    return code;
}

flo_code worker_speech_open(worker *w, flo_err *err)
{
    worker_speech *s = &w->speech;
    flo_code code = FLO_OK;
    find_parts(w);
    if (w->me->has_talker || w->me->n_talker_experts > 0) {
        code = open_talker(w, err);
    }
    if (code == FLO_OK && w->me->has_code_predictor) {
        code = predictor_open(&s->predictor, &w->model.code_predictor, w->stage.pool, err);
    }
    if (code == FLO_OK && w->me->has_code2wav) {
        code = code2wav_open(&s->code2wav, &w->model.code2wav, w->stage.pool, err);
        if (code == FLO_OK) {
            code = vocoder_open(&s->vocoder, s->code2wav, &w->model.code2wav, err);
        }
    }
    return code;
}

typedef struct part_watch { /* progress of one part in that of all of them */
    const load_watch *all;
    uint64_t before, part, total;
} part_watch;

static void tell_part(void *arg, uint64_t done, uint64_t total)
{
    const part_watch *p = arg;
    double share = total > 0 ? (double)done / (double)total : 1;
    p->all->tell(p->all->arg, p->before + (uint64_t)(share * (double)p->part), p->total);
}

static uint64_t talker_bytes(const worker *w)
{
    return w->speech.talker != NULL ? plan_talker_bytes(&w->model, w->me) : 0;
}

static uint64_t predictor_bytes(const worker *w)
{
    return w->speech.predictor != NULL ? plan_predictor_bytes(&w->model) : 0;
}

static uint64_t code2wav_bytes(const worker *w)
{
    return w->speech.code2wav != NULL ? plan_code2wav_bytes(&w->model) : 0;
}

uint64_t worker_speech_bytes(const worker *w)
{
    return talker_bytes(w) + predictor_bytes(w) + code2wav_bytes(w);
}

flo_code worker_speech_load(worker *w, const weights_source *source, const load_watch *watch,
                            flo_err *err)
{
    worker_speech *s = &w->speech;
    part_watch p = {.all = watch, .part = talker_bytes(w), .total = worker_speech_bytes(w)};
    load_watch part = {tell_part, &p};
    flo_code code = FLO_OK;
    if (s->talker != NULL) {
        code = talker_load(s->talker, source, &part, err);
    }
    p.before += p.part;
    p.part = predictor_bytes(w);
    if (code == FLO_OK && s->predictor != NULL) {
        code = predictor_load(s->predictor, source, &part, err);
    }
    p.before += p.part;
    p.part = code2wav_bytes(w);
    if (code == FLO_OK && s->code2wav != NULL) {
        code = code2wav_load(s->code2wav, source, &part, err);
    }
    return code;
}

void worker_speech_close(worker *w)
{
    worker_speech *s = &w->speech;
    talker_desk_close(s->desk);
    talker_close(s->talker);
    predictor_close(s->predictor);
    if (s->vocoder != NULL) {
        vocoder_close(s->vocoder);
    }
    code2wav_close(s->code2wav);
}

/* --- slices of codes ---------------------------------------------------------------------------
 */

/* A pass of the frame that is begun here. */
static void predict(worker *w)
{
    worker_speech *s = &w->speech;
    flo_err err;
    bool done;
    int64_t start = clock_us();
    worker_require(w, predictor_advance(s->predictor, &done, &err), &err);
    speech_tell_logits(w);
    if (done) {
        s->frame = FRAME_DONE;
        s->predictor_frames++;
    }
    s->predictor_us += (uint64_t)(clock_us() - start);
}

/* Brings a finished frame to the desk, here or elsewhere. */
static void deliver(worker *w)
{
    worker_speech *s = &w->speech;
    flo_err err;
    if (s->desk != NULL) {
        worker_require(w,
                       talker_desk_codes(s->desk, predictor_codes(s->predictor),
                                         predictor_sums(s->predictor), &err),
                       &err);
    } else {
        speech_send_prediction(w);
    }
    s->frame = FRAME_NONE;
}

/* Hands the frames that wait to the predictor, here or elsewhere. */
static void begin_frame(worker *w)
{
    worker_speech *s = &w->speech;
    desk_job job = talker_desk_take(s->desk);
    s->job++;
    if (s->predictor == NULL) {
        speech_send_job(w, &job);
        return;
    }
    predictor_begin(s->predictor, job.hidden, job.firsts, job.how, job.n);
    s->frame = FRAME_BEGUN;
}

static void step(worker *w)
{
    worker_speech *s = &w->speech;
    flo_err err;
    int64_t start = clock_us();
    worker_require(w, talker_desk_step(s->desk, start, &err), &err);
    s->talker_steps++;
    s->talker_us += (uint64_t)(clock_us() - start);
}

typedef enum codes_slice {
    CODES_NONE,
    CODES_PREDICT,
    CODES_DELIVER,
    CODES_BEGIN,
    CODES_STEP
} codes_slice;

/* What is next for codes. A predictor elsewhere gets its frame as soon as there is one. */
static codes_slice next_of_codes(const worker *w)
{
    const worker_speech *s = &w->speech;
    bool remote = s->desk != NULL && s->predictor == NULL;
    if (s->frame == FRAME_BEGUN) {
        return CODES_PREDICT;
    }
    if (s->frame == FRAME_DONE && (s->desk != NULL || transport_has_slot(w->transport))) {
        return CODES_DELIVER;
    }
    if (s->desk == NULL) {
        return CODES_NONE;
    }
    bool wants = talker_desk_wants_codes(s->desk);
    if (wants && remote && transport_has_slot(w->transport)) {
        return CODES_BEGIN;
    }
    if (talker_desk_ready(s->desk, clock_us())) {
        return CODES_STEP;
    }
    return wants && !remote ? CODES_BEGIN : CODES_NONE;
}

static void slice_of_codes(worker *w, codes_slice what)
{
    switch (what) {
    case CODES_NONE:
        break;
    case CODES_PREDICT:
        predict(w);
        break;
    case CODES_DELIVER:
        deliver(w);
        break;
    case CODES_BEGIN:
        begin_frame(w);
        break;
    case CODES_STEP:
        step(w);
        break;
    }
}

/* --- slices of sound ---------------------------------------------------------------------------
 */

static bool sound_is_busy(const worker *w)
{
    const worker_speech *s = &w->speech;
    return s->has_sound ? transport_has_slot(w->transport)
                        : s->vocoder != NULL && vocoder_busy(s->vocoder);
}

static void slice_of_sound(worker *w)
{
    worker_speech *s = &w->speech;
    int64_t start = clock_us();
    if (s->has_sound) {
        speech_send_sound(w);
        return;
    }
    s->has_sound = vocoder_advance(s->vocoder, &s->sound);
    s->sound_told = 0;
    s->code2wav_us += (uint64_t)(clock_us() - start);
}

/* --- both --------------------------------------------------------------------------------------
 */

bool worker_speech_busy(const worker *w)
{
    return next_of_codes(w) != CODES_NONE || sound_is_busy(w);
}

void worker_speak(worker *w)
{
    worker_speech *s = &w->speech;
    int64_t start = clock_us();
    codes_slice codes = next_of_codes(w);
    bool sound = sound_is_busy(w);
    if (sound && (s->sound_next || codes == CODES_NONE)) {
        slice_of_sound(w);
        s->sound_next = false;
    } else {
        slice_of_codes(w, codes);
        s->sound_next = true;
    }
    w->compute_us += (uint64_t)(clock_us() - start);
}

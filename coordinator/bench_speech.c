/*
 * bench_speech.c - answers spoken from text that is at hand, and what each part took of the time.
 *
 * Each round asks the workers of the three parts what they can do at best, then lets all speakers
 * speak; a part's time is what its own worker counted. A part that reads its weights is held
 * against what its bytes take at the measured bandwidth, the vocoder against its products at the
 * measured multiply-add peak.
 */
#include "coordinator/bench_figures.h"

#include "common/clock.h"
#include "common/speech_cost.h"
#include "common/wav.h"
#include "coordinator/speech/speech_desk.h"

#include <stdlib.h>
#include <string.h>

enum { USER_IDS = 32, TALKER_TEMPERATURE_TENTHS = 9, TALKER_TOP_K = 50 };

typedef enum part_kind { PART_TALKER, PART_PREDICTOR, PART_CODE2WAV, N_PARTS } part_kind;

typedef struct part { /* of speech */
    const char *name;
    int rank;
    double bytes, flops; /* of one frame; the one that is its limit, the other is 0 */
    series peak_gflop, peak_read, us, limit_us; /* us, limit_us: for a frame (of all speakers) */
} part;

typedef struct bench bench;

typedef struct voice {
    bench *bench;
    speech_order order;
    bool done;
} voice;

struct bench {
    job *job;
    prompt prompt;
    speech_prompt speech;
    int32_t *answer; /* [n_answer] ids, the stop id last */
    int32_t n_answer;
    voice voices[SPEAKERS_MAX];
    part parts[N_PARTS];
    series frames_per_s, real_time, first_sound_s, first_sound_frames;
    double started_s;
};

/* --- what is spoken ----------------------------------------------------------------------------
 */

/* A user turn of some ids and the head of an answer; ids in the vocabulary, no special ones. */
static flo_code make_prompt(bench *b, const bench_request *r, flo_err *err)
{
    const model_config *m = &b->job->model;
    const model_tokens *t = &m->tokens;
    int32_t n = 0, plain = m->text.vocab_size / 2;
    b->n_answer = (int32_t)r->frames + 1;
    b->answer = calloc((size_t)b->n_answer, sizeof *b->answer);
    b->prompt.ids = calloc(USER_IDS + 8, sizeof *b->prompt.ids);
    if (b->answer == NULL || b->prompt.ids == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for a prompt");
    }
    int32_t *ids = b->prompt.ids;
    ids[n++] = t->im_start;
    ids[n++] = t->user;
    for (int32_t i = 0; i < USER_IDS; i++) {
        ids[n++] = (i * 37 + 11) % plain;
    }
    ids[n++] = t->im_end;
    ids[n++] = t->im_start;
    ids[n++] = t->assistant;
    ids[n++] = 10 % plain; /* where the newline stands */
    b->prompt.n = n;
    for (int32_t i = 0; i + 1 < b->n_answer; i++) {
        b->answer[i] = (i * 91 + 7) % plain;
    }
    b->answer[b->n_answer - 1] = t->im_end;
    flo_code code = prompt_lay_out(&b->prompt, m, b->job->tokenizer, NULL, err);
    int32_t code_of = m->n_speakers > 0 ? m->speakers[0].id : m->talker.codec_pad;
    return code == FLO_OK ? speech_prompt_make(&b->speech, &b->prompt, NULL, m, code_of, err)
                          : code;
}

/* Its text is at hand, all of it. */
static void on_opened(speech_order *o)
{
    bench *b = ((voice *)o->owner)->bench;
    speech_desk_text(b->job->speech_desk, o, b->answer, b->n_answer, true, true);
}

static void on_sound(speech_order *o, const float *samples, int32_t n)
{
    (void)o;
    (void)samples;
    (void)n;
}

static void on_done(speech_order *o)
{
    ((voice *)o->owner)->done = true;
}

/* --- a round -----------------------------------------------------------------------------------
 */

static flo_code open_voice(bench *b, const bench_request *r, voice *v, uint64_t seed, flo_err *err)
{
    *v = (voice){.bench = b,
                 .order = {.prompt = &b->speech,
                           .how = {.temperature = TALKER_TEMPERATURE_TENTHS / 10.0,
                                   .top_k = TALKER_TOP_K,
                                   .top_p = 1,
                                   .repetition_penalty = 1,
                                   .max_new_tokens = (int32_t)r->frames + 1,
                                   .seed = seed},
                           .owner = v,
                           .on_opened = on_opened,
                           .on_sound = on_sound,
                           .on_done = on_done}};
    return speech_desk_open(b->job->speech_desk, &v->order, err);
}

static job_speech_work work_of(const bench *b, part_kind p)
{
    return b->job->nodes[b->parts[p].rank - 1].speech;
}

/* Time of a part for one frame of all speakers between two counts of its worker. */
static double us_per_frame(part_kind p, const job_speech_work *before, const job_speech_work *after)
{
    uint64_t us = 0, n = 0;
    switch (p) {
    case PART_TALKER:
        us = after->talker_us - before->talker_us;
        n = after->talker_steps - before->talker_steps;
        break;
    case PART_PREDICTOR:
        us = after->predictor_us - before->predictor_us;
        n = after->predictor_frames - before->predictor_frames;
        break;
    default:
        us = after->code2wav_us - before->code2wav_us;
        n = after->code2wav_frames - before->code2wav_frames;
        break;
    }
    return n > 0 ? (double)us / (double)n : 0;
}

static flo_code ask_peaks(bench *b, job_peak peaks[N_PARTS], flo_err *err)
{
    flo_code code = FLO_OK;
    for (int p = 0; p < N_PARTS && code == FLO_OK; p++) {
        bool known = p > 0 && b->parts[p].rank == b->parts[p - 1].rank;
        if (known) {
            peaks[p] = peaks[p - 1];
        } else {
            code = job_ask_peak(b->job, b->parts[p].rank, &peaks[p], err);
        }
    }
    return code;
}

static flo_code speak(bench *b, const bench_request *r, uint64_t seed, flo_err *err)
{
    flo_code code = FLO_OK;
    b->started_s = clock_s();
    for (int64_t i = 0; i < r->speakers && code == FLO_OK; i++) {
        code = open_voice(b, r, &b->voices[i], seed + (uint64_t)i, err);
    }
    for (int64_t i = 0; i < r->speakers && code == FLO_OK; i++) {
        code = job_wait(b->job, &b->voices[i].done, err);
    }
    return code;
}

static void take_figures(bench *b, const bench_request *r, const job_peak peaks[N_PARTS],
                         const job_speech_work before[N_PARTS])
{
    double seconds = clock_s() - b->started_s, frames = 0, first = 0;
    for (int64_t i = 0; i < r->speakers; i++) {
        const speech_order *o = &b->voices[i].order;
        frames += o->n_frames;
        double at = o->first_sound_s > 0 ? o->first_sound_s - b->started_s : seconds;
        first = at > first ? at : first;
    }
    double rate = frames / seconds;
    double per_second =
        (double)SPEECH_SAMPLE_RATE / code2wav_rate(&b->job->model.code2wav) * (double)r->speakers;
    series_add(&b->frames_per_s, rate);
    series_add(&b->real_time, rate / per_second);
    series_add(&b->first_sound_s, first);
    series_add(&b->first_sound_frames, first * rate / (double)r->speakers);
    for (int p = 0; p < N_PARTS; p++) {
        part *its = &b->parts[p];
        job_speech_work after = work_of(b, p);
        series_add(&its->us, us_per_frame(p, &before[p], &after));
        series_add(&its->peak_gflop, peaks[p].gflop_per_s);
        series_add(&its->peak_read, peaks[p].read_gb_per_s);
        series_add(&its->limit_us, its->bytes > 0 ? its->bytes / (peaks[p].read_gb_per_s * 1e3)
                                                  : its->flops / (peaks[p].gflop_per_s * 1e3));
    }
}

static flo_code run_round(bench *b, const bench_request *r, uint64_t seed, bool counts,
                          flo_err *err)
{
    job_peak peaks[N_PARTS];
    job_speech_work before[N_PARTS];
    flo_code code = ask_peaks(b, peaks, err);
    code = code == FLO_OK ? job_ask_stats(b->job, err) : code;
    for (int p = 0; p < N_PARTS; p++) {
        before[p] = work_of(b, p);
    }
    code = code == FLO_OK ? speak(b, r, seed, err) : code;
    double ended_s = clock_s();
    code = code == FLO_OK ? job_ask_stats(b->job, err) : code;
    b->started_s += clock_s() - ended_s; /* asking is no part of it */
    if (code == FLO_OK && counts) {
        take_figures(b, r, peaks, before);
    }
    for (int64_t i = 0; i < r->speakers; i++) {
        speech_order_clear(&b->voices[i].order);
    }
    return code;
}

/* --- the document ------------------------------------------------------------------------------
 */

static void put_part(cJSON *list, part *p, double all_us)
{
    cJSON *j = cJSON_CreateObject();
    double us = series_median(&p->us), limit = series_median(&p->limit_us);
    cJSON_AddStringToObject(j, "name", p->name);
    cJSON_AddNumberToObject(j, "rank", p->rank);
    cJSON_AddNumberToObject(j, "time_share", all_us > 0 ? us / all_us : 0);
    cJSON_AddNumberToObject(j, "ms_per_frame", us * 1e-3);
    cJSON_AddNumberToObject(j, "limit_ms_per_frame", limit * 1e-3);
    cJSON_AddNumberToObject(j, "limit_fraction", us > 0 ? limit / us : 0);
    if (p->bytes > 0) {
        cJSON_AddNumberToObject(j, "bytes_per_frame", p->bytes);
        cJSON_AddNumberToObject(j, "measured_read_gb_per_s", series_median(&p->peak_read));
    } else {
        cJSON_AddNumberToObject(j, "gflop_per_frame", p->flops * 1e-9);
        cJSON_AddNumberToObject(j, "measured_peak_gflop_per_s", series_median(&p->peak_gflop));
    }
    cJSON_AddItemToArray(list, j);
}

static void put_figures(bench *b, const bench_request *r, cJSON *root)
{
    cJSON *to = cJSON_AddObjectToObject(root, "speech");
    double all_us = 0;
    cJSON_AddNumberToObject(to, "speakers", (double)r->speakers);
    cJSON_AddNumberToObject(to, "frames", (double)r->frames);
    series_put(to, "frames_per_s", &b->frames_per_s);
    cJSON_AddNumberToObject(to, "real_time_factor", series_median(&b->real_time));
    cJSON_AddNumberToObject(to, "first_sound_s", series_median(&b->first_sound_s));
    cJSON_AddNumberToObject(to, "first_sound_frames", series_median(&b->first_sound_frames));
    cJSON *list = cJSON_AddArrayToObject(to, "parts");
    for (int p = 0; p < N_PARTS; p++) {
        all_us += series_median(&b->parts[p].us);
    }
    for (int p = 0; p < N_PARTS; p++) {
        put_part(list, &b->parts[p], all_us);
    }
}

flo_code bench_speech(job *j, const bench_request *r, cJSON *root, flo_err *err)
{
    const plan_worker *talker = plan_talker_worker(&j->plan);
    const plan_worker *predictor = plan_predictor_worker(&j->plan);
    const plan_worker *vocoder = plan_code2wav_worker(&j->plan);
    if (talker == NULL || predictor == NULL || vocoder == NULL) {
        return flo_fail(err, FLO_USAGE,
                        "this job does not speak: --no-speech, or a checkpoint without a talker");
    }
    bench *b = calloc(1, sizeof *b);
    if (b == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    b->job = j;
    b->parts[PART_TALKER] = (part){
        .name = "talker", .rank = talker->rank, .bytes = talker_step_bytes(&j->model.talker)};
    b->parts[PART_PREDICTOR] = (part){.name = "code_predictor",
                                      .rank = predictor->rank,
                                      .bytes = predictor_frame_bytes(&j->model.code_predictor)};
    b->parts[PART_CODE2WAV] = (part){
        .name = "code2wav", .rank = vocoder->rank, .flops = code2wav_flops(&j->model.code2wav, 1)};
    flo_code code = make_prompt(b, r, err);
    code = code == FLO_OK ? run_round(b, r, 0, false, err) : code; /* touches what others find */
    for (int64_t i = 0; i < r->repeat && code == FLO_OK; i++) {
        code = run_round(b, r, 1000 * (uint64_t)(i + 1), true, err);
    }
    if (code == FLO_OK) {
        put_figures(b, r, root);
    }
    prompt_free(&b->prompt);
    speech_prompt_free(&b->speech);
    free(b->answer);
    free(b);
    return code;
}

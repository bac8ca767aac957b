/*
 * bench_encoders.c - the encoders, fed with noise of a given size.
 *
 * Each round asks the encoder's worker for its multiply-add peak and then encodes, so that both
 * see the same neighbours on a shared machine. Times are the coordinator's: input sent to last row
 * received.
 */
#include "coordinator/bench_figures.h"

#include "common/clock.h"
#include "common/encoder_flops.h"
#include "common/json.h"
#include "common/layout.h"
#include "coordinator/media/mel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench {
    job *job;
    media_order order;
    bool done;
    uint64_t noise; /* state of the generator; no two rounds are alike, so none is remembered */
    series seconds, peaks;
} bench;

static void put_rate(cJSON *to, bench *b, double flops)
{
    double peak = series_median(&b->peaks), rate = flops / series_median(&b->seconds) * 1e-9;
    series_put(to, "seconds", &b->seconds);
    cJSON_AddNumberToObject(to, "gflop", flops * 1e-9);
    cJSON_AddNumberToObject(to, "gflop_per_s", rate);
    cJSON_AddNumberToObject(to, "measured_peak_gflop_per_s", peak);
    cJSON_AddNumberToObject(to, "peak_fraction", rate / peak);
}

/* --- one medium of noise -----------------------------------------------------------------------
 */

static uint64_t next_noise(bench *b)
{
    b->noise ^= b->noise << 13;
    b->noise ^= b->noise >> 7;
    b->noise ^= b->noise << 17;
    return b->noise;
}

static flo_code out_of_memory(flo_err *err)
{
    return flo_fail(err, FLO_FAIL, "out of memory for a medium of this size");
}

static media_item *new_item(bench *b, media_kind kind, int32_t n_parts)
{
    media_set *s = calloc(1, sizeof *s);
    media_item *item = s != NULL ? media_set_add(s, kind) : NULL;
    if (item != NULL) {
        item->parts = calloc((size_t)n_parts, sizeof *item->parts);
        item->n_parts = item->parts != NULL ? n_parts : 0;
        s->n_parts = n_parts;
    }
    if (item == NULL || item->parts == NULL) {
        media_set_free(s);
        return NULL;
    }
    for (int32_t i = 0; i < n_parts; i++) {
        uint64_t key[2] = {next_noise(b), (uint64_t)i};
        memcpy(item->parts[i].key.digest, key, sizeof key);
    }
    b->order.set = s;
    return item;
}

static flo_code make_picture(bench *b, const bench_request *r, flo_err *err)
{
    const vision_config *v = &b->job->model.vision;
    int64_t n = r->image_width * r->image_height * 3;
    media_item *item = new_item(b, MEDIA_IMAGE, 1);
    if (item == NULL || (item->frames = malloc((size_t)n)) == NULL) {
        return out_of_memory(err);
    }
    for (int64_t i = 0; i < n; i++) {
        item->frames[i] = (uint8_t)(next_noise(b) >> 32);
    }
    media_part *p = &item->parts[0];
    p->kind = MEDIA_IMAGE;
    p->input = item->frames;
    p->n_frames = 1;
    p->grid_h = (int32_t)r->image_height / v->patch_size;
    p->grid_w = (int32_t)r->image_width / v->patch_size;
    p->n_rows = p->grid_h * p->grid_w / (v->spatial_merge_size * v->spatial_merge_size);
    return FLO_OK;
}

static int64_t mel_frames_of(const bench *b, const bench_request *r)
{
    return r->audio_seconds * 16000 / b->job->preprocessor.hop;
}

static flo_code make_sound(bench *b, const bench_request *r, flo_err *err)
{
    const audio_config *a = &b->job->model.audio;
    int32_t n_frames = (int32_t)mel_frames_of(b, r), chunk = 2 * a->n_window;
    int32_t step = AUDIO_JOB_WINDOWS * (a->n_window_infer / chunk) * chunk;
    size_t n = (size_t)a->n_mel_bins * (size_t)n_frames;
    media_item *item = new_item(b, MEDIA_AUDIO, (n_frames + step - 1) / step);
    if (item == NULL || (item->features = malloc(n * sizeof *item->features)) == NULL) {
        return out_of_memory(err);
    }
    for (size_t i = 0; i < n; i++) {
        item->features[i] = (float)(next_noise(b) >> 40) * 0x1p-23f - 1.0f;
    }
    for (int32_t i = 0; i < item->n_parts; i++) {
        int32_t left = n_frames - i * step;
        media_part *p = &item->parts[i];
        p->kind = MEDIA_AUDIO;
        p->input = item->features + (size_t)i * (size_t)step;
        p->row_floats = (size_t)n_frames;
        p->n_frames = left < step ? left : step;
        p->canvas = n_frames < chunk ? n_frames : chunk;
        p->n_rows = (int32_t)mel_tokens(p->n_frames, chunk);
    }
    return FLO_OK;
}

/* --- measuring ---------------------------------------------------------------------------------
 */

static void on_encoded(media_order *o)
{
    ((bench *)o->owner)->done = true;
}

static flo_code run_round(bench *b, const bench_request *r, int rank,
                          flo_code (*make)(bench *, const bench_request *, flo_err *), flo_err *err)
{
    job_peak peak = {0};
    b->order = (media_order){.owner = b, .on_encoded = on_encoded};
    b->done = false;
    flo_code code = job_ask_peak(b->job, rank, &peak, err);
    code = code == FLO_OK ? make(b, r, err) : code;
    double start = clock_s();
    code = code == FLO_OK ? media_desk_encode(b->job->desk, &b->order, err) : code;
    code = code == FLO_OK ? job_wait(b->job, &b->done, err) : code;
    series_add(&b->seconds, clock_s() - start);
    series_add(&b->peaks, peak.gflop_per_s);
    media_desk_drop(b->job->desk, &b->order);
    return code;
}

static flo_code run_series(bench *b, const bench_request *r, int rank,
                           flo_code (*make)(bench *, const bench_request *, flo_err *),
                           flo_err *err)
{
    b->seconds.n = b->peaks.n = 0;
    flo_code code = run_round(b, r, rank, make, err); /* touches what later rounds find there */
    b->seconds.n = b->peaks.n = 0;
    for (int64_t i = 0; i < r->repeat && code == FLO_OK; i++) {
        code = run_round(b, r, rank, make, err);
    }
    return code;
}

static flo_code run_picture(bench *b, const bench_request *r, int rank, cJSON *to, flo_err *err)
{
    const vision_config *v = &b->job->model.vision;
    int64_t unit = (int64_t)v->patch_size * v->spatial_merge_size;
    if (r->image_width % unit != 0 || r->image_height % unit != 0) {
        return flo_fail(err, FLO_USAGE, "a picture's sides must be multiples of %lld pixels",
                        (long long)unit);
    }
    int64_t most = b->job->plan.vision_patches_max * v->patch_size * v->patch_size;
    if (r->image_width * r->image_height > most) {
        return flo_fail(err, FLO_USAGE,
                        "the encoder of this job has memory for pictures of %lld pixels, not for "
                        "%lld x %lld; a larger --kv-tokens may help",
                        (long long)most, (long long)r->image_width, (long long)r->image_height);
    }
    flo_code code = run_series(b, r, rank, make_picture, err);
    if (code == FLO_OK) {
        int64_t patches = r->image_width / v->patch_size * (r->image_height / v->patch_size);
        cJSON *j = cJSON_AddObjectToObject(to, "image");
        cJSON_AddNumberToObject(j, "width", (double)r->image_width);
        cJSON_AddNumberToObject(j, "height", (double)r->image_height);
        cJSON_AddNumberToObject(j, "patches", (double)patches);
        put_rate(j, b, vision_flops(v, patches));
    }
    return code;
}

static flo_code run_sound(bench *b, const bench_request *r, int rank, cJSON *to, flo_err *err)
{
    flo_code code = run_series(b, r, rank, make_sound, err);
    if (code == FLO_OK) {
        cJSON *j = cJSON_AddObjectToObject(to, "audio");
        cJSON_AddNumberToObject(j, "audio_seconds", (double)r->audio_seconds);
        cJSON_AddNumberToObject(j, "mel_frames", (double)mel_frames_of(b, r));
        put_rate(j, b, audio_flops(&b->job->model.audio, mel_frames_of(b, r)));
        cJSON_AddNumberToObject(j, "real_time_factor",
                                (double)r->audio_seconds / series_median(&b->seconds));
    }
    return code;
}

flo_code bench_encoders(job *j, const bench_request *r, cJSON *root, flo_err *err)
{
    const plan_worker *sight = plan_vision_worker(&j->plan);
    const plan_worker *hearing = plan_audio_worker(&j->plan);
    if (sight == NULL && hearing == NULL) {
        return flo_fail(err, FLO_USAGE,
                        "this job has no encoders: --no-media, or a checkpoint without them");
    }
    bench *b = calloc(1, sizeof *b);
    if (b == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    b->job = j;
    b->noise = 0x9e3779b97f4a7c15u;
    cJSON *to = cJSON_AddObjectToObject(root, "encoders");
    flo_code code = sight != NULL ? run_picture(b, r, sight->rank, to, err) : FLO_OK;
    code = code == FLO_OK && hearing != NULL ? run_sound(b, r, hearing->rank, to, err) : code;
    free(b);
    return code;
}

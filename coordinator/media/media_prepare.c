/*
 * media_prepare.c - one kind after the other: sizes, the check against the context, then the work.
 *
 * Peak memory of a set: the decoded picture that is being resized, or the stored sound, beside the
 * encoder inputs of the whole set.
 */
#include "coordinator/media/media_prepare.h"

#include "common/cancel.h"
#include "common/layout.h"
#include "coordinator/media/encoder_key.h"
#include "coordinator/media/mel.h"
#include "coordinator/media/resize.h"
#include "coordinator/media/sound.h"
#include "coordinator/media/video.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VIDEO_FPS_DEFAULT 2.0 /* --video-fps */

typedef struct work { /* one medium under the hands */
    media_item item;
    media_source source; /* open where it has bytes or a folder */
    video *video;
    int64_t *chosen; /* frames of a video */
    int32_t sound;   /* of a video that takes its sound: index of that work; else -1 */
} work;

typedef struct bench { /* one set being prepared */
    media_set *set;
    const media_house *house;
    const media_rules *rules;
    work *works; /* one each for the set's items, then sound tracks of videos */
    int32_t n;
    uint64_t n_bytes;  /* of all media as they are stored */
    int64_t n_tokens;  /* that are known to stand in the prompt */
    int64_t n_decoded; /* of sounds that are decoded, not among those yet */
    flo_err *err;
} bench;

static bool stopped(const bench *b)
{
    return cancel_is_set(&b->set->cancelled);
}

/* --- opening -----------------------------------------------------------------------------------
 */

/* What is left for the next medium of what all stored media of a request may have together. */
static media_rules rules_left(const bench *b)
{
    media_rules rules = *b->rules;
    uint64_t most = rules.bytes_max > 0 ? rules.bytes_max : MEDIA_BYTES_MAX;
    rules.bytes_max = b->n_bytes < most ? most - b->n_bytes : 1;
    return rules;
}

static flo_code open_item(bench *b, work *w)
{
    static const char *const base64_names[] = {"the picture", "the sound", "the video"};
    media_item *item = &w->item;
    media_source *s = &w->source;
    media_rules rules = rules_left(b);
    flo_code code = item->is_base64
                        ? media_source_from_base64(s, item->reference, item->reference_bytes,
                                                   base64_names[item->kind], &rules, b->err)
                        : media_source_open(s, item->reference, item->reference_bytes, &rules,
                                            &b->set->cancelled, b->err);
    if (code == FLO_OK && s->bytes == NULL && item->kind != MEDIA_VIDEO) {
        code = flo_fail(b->err, FLO_USAGE, "%s is a folder; only a video may be one", s->name);
    }
    if (code == FLO_OK) {
        b->n_bytes += s->n_bytes;
        snprintf(item->name, sizeof item->name, "%s", s->name);
    }
    return code;
}

static flo_code check_tokens(const bench *b, int64_t n)
{
    if (n > b->house->tokens_max) {
        return flo_fail(b->err, FLO_USAGE,
                        "the media of this request take more than %lld tokens, the KV cache holds "
                        "%lld; give fewer or smaller ones (--image-max-pixels, --video-max-pixels, "
                        "--video-fps) or start with a larger --kv-tokens",
                        (long long)(n - 1), (long long)b->house->tokens_max);
    }
    return FLO_OK;
}

static flo_code count_tokens(bench *b, int64_t n)
{
    b->n_tokens += n;
    return check_tokens(b, b->n_tokens);
}

/* --- sights ------------------------------------------------------------------------------------
 */

/* A picture or pair of frames is one job, for which the encoder's memory was taken at start. */
static flo_code check_patches(const bench *b, const media_item *item)
{
    int64_t n = (int64_t)item->layout.grid[1] * item->layout.grid[2];
    int64_t patch = b->house->model->vision.patch_size, most = b->house->patches_max;
    return n <= most || most == 0
               ? FLO_OK
               : flo_fail(b->err, FLO_USAGE,
                          "%s would be encoded with %lld pixels, and the encoder has memory for "
                          "%lld; ask for at most so many (--image-max-pixels, --video-max-pixels)",
                          item->name, (long long)(n * patch * patch),
                          (long long)(most * patch * patch));
}

/* What a picture or frame of this size becomes, in patches; halves as the reference rounds them. */
static flo_code set_grid(bench *b, media_item *item, int32_t width, int32_t height, int32_t n_times)
{
    const vision_config *v = &b->house->model->vision;
    const media_options *o = &b->set->options;
    const preprocessor *p = b->house->preprocessor;
    bool is_video = item->kind == MEDIA_VIDEO;
    int64_t least = is_video ? o->video_pixels_min : o->image_pixels_min;
    int64_t most = is_video ? o->video_pixels_max : o->image_pixels_max;
    int32_t to_width, to_height, factor = v->patch_size * v->spatial_merge_size;
    least = least > 0 ? least : is_video ? p->video_pixels_min : p->image_pixels_min;
    most = most > 0 ? most : is_video ? p->video_pixels_max : p->image_pixels_max;
    if (least > most) {
        return flo_fail(b->err, FLO_USAGE,
                        "a %s cannot have at least %lld and at most %lld pixels; say both "
                        "--%s-min-pixels and --%s-max-pixels",
                        media_kind_name(item->kind), (long long)least, (long long)most,
                        is_video ? "video" : "image", is_video ? "video" : "image");
    }
    flo_code code =
        resize_target(&to_width, &to_height, width, height, factor, least, most, b->err);
    if (code != FLO_OK) {
        flo_context(b->err, "%s", item->name);
        return code;
    }
    layout_medium *l = &item->layout;
    l->grid[0] = n_times;
    l->grid[1] = to_height / v->patch_size;
    l->grid[2] = to_width / v->patch_size;
    int64_t merged = (int64_t)(l->grid[1] / v->spatial_merge_size) *
                     (l->grid[2] / v->spatial_merge_size) * n_times;
    code = count_tokens(b, merged);
    l->n_tokens = code == FLO_OK ? (int32_t)merged : 0;
    return code == FLO_OK ? check_patches(b, item) : code;
}

static size_t frame_bytes(const bench *b, const media_item *item)
{
    size_t patch = (size_t)b->house->model->vision.patch_size;
    return (size_t)item->layout.grid[1] * patch * (size_t)item->layout.grid[2] * patch * 3;
}

static flo_code take_frames(bench *b, media_item *item, int32_t n)
{
    item->n_frames = n;
    item->frames = malloc((size_t)n * frame_bytes(b, item));
    return item->frames != NULL
               ? FLO_OK
               : flo_fail(b->err, FLO_FAIL, "%s: out of memory for %d frames", item->name, n);
}

static flo_code measure_picture(bench *b, work *w)
{
    media_item *item = &w->item;
    int32_t width, height;
    flo_code code =
        picture_size(&width, &height, w->source.bytes, w->source.n_bytes, item->name, b->err);
    if (code == FLO_OK && (uint64_t)width * (uint64_t)height > b->house->pixels_max) {
        code = flo_fail(b->err, FLO_USAGE,
                        "%s has %d x %d pixels, more than the %llu of --max-media-pixels",
                        item->name, width, height, (unsigned long long)b->house->pixels_max);
    }
    return code == FLO_OK ? set_grid(b, item, width, height, 1) : code;
}

static flo_code read_picture(bench *b, work *w)
{
    media_item *item = &w->item;
    int32_t patch = b->house->model->vision.patch_size;
    picture p;
    resizer *r = NULL;
    flo_code code = picture_decode(&p, w->source.bytes, w->source.n_bytes, item->name,
                                   b->house->pixels_max, b->err);
    if (code != FLO_OK) {
        return code;
    }
    code = take_frames(b, item, 1);
    if (code == FLO_OK) {
        code = resizer_new(&r, p.width, p.height, item->layout.grid[2] * patch,
                           item->layout.grid[1] * patch, b->err);
    }
    if (code == FLO_OK) {
        resizer_run(r, item->frames, p.rgb, (size_t)p.width * 3);
        resizer_free(r);
    }
    picture_free(&p);
    return code;
}

/* Which frames, and how long a temporal patch lasts: the reference takes the rate that was asked
 * for, and 1 frame a second where none was and none is sampled. */
static flo_code choose_frames(bench *b, work *w, const video_facts *facts)
{
    media_item *item = &w->item;
    const media_options *o = &b->set->options;
    int32_t times = b->house->model->vision.temporal_patch_size;
    video_sampling sampling = {.all_frames = o->video_all_frames,
                               .fps = o->video_fps > 0 ? o->video_fps : VIDEO_FPS_DEFAULT};
    /* Each frame is part of at least half a token, so more of them than this cannot fit. */
    int64_t most = b->house->tokens_max * times;
    int64_t room = facts->n_frames < most ? facts->n_frames : most;
    w->chosen = calloc((size_t)room + 1, sizeof *w->chosen);
    if (w->chosen == NULL) {
        return flo_fail(b->err, FLO_FAIL, "%s: out of memory for its frames", item->name);
    }
    flo_code code =
        video_choose(w->chosen, &item->n_frames, (int32_t)room, facts, &sampling, b->err);
    if (code != FLO_OK) {
        flo_context(b->err, "%s", item->name);
        return code;
    }
    double rate = o->video_fps > 0 ? o->video_fps : o->video_all_frames ? 1.0 : VIDEO_FPS_DEFAULT;
    item->layout.second_per_grid = times / rate;
    int32_t n_times = (item->n_frames + times - 1) / times;
    return set_grid(b, item, facts->width, facts->height, n_times);
}

static flo_code measure_video(bench *b, work *w)
{
    const raw_clip *raw = &w->item.raw;
    if (raw->frames != NULL) {
        video_facts facts = {raw->width, raw->height, raw->n, b->set->options.recorded_fps};
        return choose_frames(b, w, &facts);
    }
    flo_code code = video_open(&w->video, &w->source, b->set->options.recorded_fps,
                               b->house->pixels_max, b->err);
    return code == FLO_OK ? choose_frames(b, w, video_facts_of(w->video)) : code;
}

static flo_code resize_raw(bench *b, work *w)
{
    const raw_clip *raw = &w->item.raw;
    int32_t patch = b->house->model->vision.patch_size;
    size_t stride = (size_t)raw->width * 3;
    resizer *r;
    flo_code code = resizer_new(&r, raw->width, raw->height, w->item.layout.grid[2] * patch,
                                w->item.layout.grid[1] * patch, b->err);
    for (int32_t i = 0; i < w->item.n_frames && code == FLO_OK; i++) {
        resizer_run(r, w->item.frames + (size_t)i * frame_bytes(b, &w->item),
                    raw->frames + (size_t)w->chosen[i] * (size_t)raw->height * stride, stride);
    }
    if (code == FLO_OK) {
        resizer_free(r);
    }
    return code;
}

static flo_code read_video(bench *b, work *w)
{
    media_item *item = &w->item;
    int32_t patch = b->house->model->vision.patch_size, n = item->n_frames;
    flo_code code = take_frames(b, item, n);
    if (code == FLO_OK && item->raw.frames != NULL) {
        return resize_raw(b, w);
    }
    return code == FLO_OK ? video_read(w->video, item->frames, w->chosen, n,
                                       item->layout.grid[2] * patch, item->layout.grid[1] * patch,
                                       b->house->n_threads, &b->set->cancelled, b->err)
                          : code;
}

/* --- sounds ------------------------------------------------------------------------------------
 */

/* How many tokens all sounds take that are decoded, padded or not: what could not fit is refused
 * before the next one is decoded. */
static flo_code count_decoded(bench *b, const media_item *item)
{
    int64_t n = mel_frames(item->n_samples, item->n_samples, b->house->preprocessor->hop);
    b->n_decoded += mel_tokens(n, 2 * b->house->model->audio.n_window);
    return check_tokens(b, b->n_tokens + b->n_decoded);
}

static flo_code read_sound(bench *b, media_item *item, const media_source *s, bool *none)
{
    sound decoded;
    flo_code code =
        sound_decode(&decoded, s->bytes, s->n_bytes, item->name, none, &b->set->cancelled, b->err);
    if (code == FLO_OK) {
        item->samples = decoded.samples;
        item->n_samples = decoded.n;
        code = count_decoded(b, item);
    }
    return code;
}

/* The reference computes the sounds of one call together; in a conversation each turn is one, so
 * that what was said before keeps its features. */
static bool are_together(const bench *b, const media_item *item, const media_item *other)
{
    return other->kind == MEDIA_AUDIO &&
           (!b->set->options.pad_by_turn || other->turn == item->turn);
}

/* The longest sound among those that are padded together with item. */
static int64_t longest_beside(const bench *b, const media_item *item)
{
    int64_t longest = 0;
    for (int32_t i = 0; i < b->n; i++) {
        const media_item *other = &b->works[i].item;
        if (are_together(b, item, other) && other->n_samples > longest) {
            longest = other->n_samples;
        }
    }
    return longest;
}

/* Frames of the longest chunk among the sounds that are computed together with item. */
static int32_t canvas_beside(const bench *b, const media_item *item, int32_t chunk)
{
    int32_t canvas = 0;
    for (int32_t i = 0; i < b->n; i++) {
        const media_item *other = &b->works[i].item;
        if (are_together(b, item, other)) {
            int32_t most = other->n_mel_frames < chunk ? other->n_mel_frames : chunk;
            canvas = most > canvas ? most : canvas;
        }
    }
    return canvas;
}

static flo_code measure_sound(bench *b, media_item *item)
{
    const audio_config *a = &b->house->model->audio;
    int64_t longest = longest_beside(b, item);
    int64_t n = mel_frames(item->n_samples, longest, b->house->preprocessor->hop);
    b->n_decoded = 0; /* counted here with their padding */
    item->n_mel_frames = (int32_t)n;
    int64_t tokens = mel_tokens(n, 2 * a->n_window);
    flo_code code = count_tokens(b, tokens);
    item->layout.n_tokens = code == FLO_OK ? (int32_t)tokens : 0;
    return code;
}

static flo_code transform_sound(bench *b, media_item *item)
{
    const audio_config *a = &b->house->model->audio;
    const preprocessor *p = b->house->preprocessor;
    item->canvas = canvas_beside(b, item, 2 * a->n_window);
    item->features =
        malloc((size_t)a->n_mel_bins * (size_t)item->n_mel_frames * sizeof *item->features + 1);
    if (item->features == NULL) {
        return flo_fail(b->err, FLO_FAIL, "%s: out of memory for its features", item->name);
    }
    return mel_features(item->features, a->n_mel_bins, item->samples, item->n_samples,
                        longest_beside(b, item), p->n_fft, p->hop, b->house->n_threads, b->err);
}

/* --- the sound in a video ----------------------------------------------------------------------
 */

/* The n-th sound that was given as one. */
static work *nth_sound(bench *b, int32_t n)
{
    for (int32_t i = 0; i < b->set->n; i++) {
        if (b->works[i].item.kind == MEDIA_AUDIO && n-- == 0) {
            return &b->works[i];
        }
    }
    return NULL;
}

/* Video number k takes its own track, or the k-th sound where it has none. */
static flo_code take_track(bench *b, work *owner, int32_t k)
{
    bool none = true;
    work *track = &b->works[b->n];
    *track = (work){.item = {.kind = MEDIA_AUDIO, .turn = owner->item.turn}, .sound = -1};
    memcpy(track->item.name, owner->item.name, sizeof track->item.name);
    if (owner->source.bytes != NULL) {
        none = false;
        flo_code code = read_sound(b, &track->item, &owner->source, &none);
        if (code == FLO_OK || track->item.samples != NULL) {
            owner->sound = b->n++;
            track->item.layout.in_video = true;
        }
        if (code == FLO_OK || !none) {
            return code;
        }
    }
    work *given = nth_sound(b, k);
    if (given == NULL) {
        return flo_fail(b->err, FLO_USAGE,
                        "%s has no sound track; give its sound with --audio, or leave "
                        "--use-audio-in-video out",
                        owner->item.name);
    }
    given->item.layout.in_video = true;
    given->item.layout.given_as = k + 1;
    owner->sound = (int32_t)(given - b->works);
    return FLO_OK;
}

static flo_code take_tracks(bench *b)
{
    int32_t n_videos = 0;
    for (int32_t i = 0; i < b->set->n; i++) {
        work *w = &b->works[i];
        if (w->item.kind == MEDIA_VIDEO && b->set->options.use_audio_in_video) {
            flo_code code = take_track(b, w, n_videos++);
            if (code != FLO_OK) {
                return code;
            }
        }
    }
    return FLO_OK;
}

/* --- cutting into jobs -------------------------------------------------------------------------
 */

/* Everything that decides a part's result but the weights, which are the job's. */
static flo_code set_key(const bench *b, media_part *p)
{
    const model_config *m = b->house->model;
    const int32_t numbers[] = {p->kind, p->n_frames, p->canvas, p->grid_h, p->grid_w};
    int32_t n = p->kind == MEDIA_AUDIO ? m->audio.n_mel_bins : 1;
    encoder_key_part *parts = calloc((size_t)n + 1, sizeof *parts);
    if (parts == NULL) {
        return flo_fail(b->err, FLO_FAIL, "out of memory for the media of a request");
    }
    parts[0] = (encoder_key_part){numbers, sizeof numbers};
    if (p->kind == MEDIA_AUDIO) {
        const float *features = p->input;
        for (int32_t bin = 0; bin < n; bin++) {
            parts[1 + bin] = (encoder_key_part){features + (size_t)bin * p->row_floats,
                                                (size_t)p->n_frames * sizeof *features};
        }
    } else {
        size_t patch = (size_t)m->vision.patch_size;
        parts[1] = (encoder_key_part){p->input, (size_t)p->n_frames * (size_t)p->grid_h * patch *
                                                    (size_t)p->grid_w * patch * 3};
    }
    flo_code code = encoder_key_make(&p->key, parts, n + 1, b->err);
    free(parts);
    return code;
}

static flo_code take_parts(bench *b, media_item *item, int32_t n)
{
    item->parts = calloc((size_t)n + 1, sizeof *item->parts);
    item->n_parts = n;
    b->set->n_parts += n;
    return item->parts != NULL
               ? FLO_OK
               : flo_fail(b->err, FLO_FAIL, "%s: out of memory for its parts", item->name);
}

/* A sound is cut between attention windows: across them nothing is computed. */
static flo_code cut_sound(bench *b, media_item *item)
{
    const audio_config *a = &b->house->model->audio;
    int32_t chunk = 2 * a->n_window;
    int32_t step = AUDIO_JOB_WINDOWS * (a->n_window_infer / chunk) * chunk;
    int32_t n = (item->n_mel_frames + step - 1) / step;
    flo_code code = take_parts(b, item, n);
    for (int32_t i = 0; i < n && code == FLO_OK; i++) {
        int32_t first = i * step, left = item->n_mel_frames - first;
        media_part *p = &item->parts[i];
        p->kind = MEDIA_AUDIO;
        p->input = item->features + first;
        p->row_floats = (size_t)item->n_mel_frames;
        p->n_frames = left < step ? left : step;
        p->canvas = item->canvas;
        p->n_rows = (int32_t)mel_tokens(p->n_frames, chunk);
    }
    return code;
}

/* A video is cut into its temporal patches, which do not see each other in the encoder. */
static flo_code cut_sight(bench *b, media_item *item)
{
    const vision_config *v = &b->house->model->vision;
    int32_t n = item->layout.grid[0];
    size_t one = frame_bytes(b, item);
    flo_code code = take_parts(b, item, n);
    for (int32_t i = 0; i < n && code == FLO_OK; i++) {
        int32_t first = i * v->temporal_patch_size, left = item->n_frames - first;
        media_part *p = &item->parts[i];
        p->kind = MEDIA_IMAGE;
        p->input = item->frames + (size_t)first * one;
        p->n_frames = left < v->temporal_patch_size ? left : v->temporal_patch_size;
        p->grid_h = item->layout.grid[1];
        p->grid_w = item->layout.grid[2];
        p->n_rows = item->layout.n_tokens / n;
    }
    return code;
}

static flo_code cut(bench *b, media_item *item)
{
    flo_code code = item->kind == MEDIA_AUDIO ? cut_sound(b, item) : cut_sight(b, item);
    for (int32_t i = 0; i < item->n_parts && code == FLO_OK; i++) {
        code = set_key(b, &item->parts[i]);
    }
    return code;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

/* Whether this job can take the kind at all. */
static flo_code check_kind(const bench *b, const media_item *item)
{
    const model_config *m = b->house->model;
    bool known = item->kind == MEDIA_AUDIO ? m->has_audio : m->has_vision;
    if (known && item->kind == MEDIA_VIDEO && b->set->options.use_audio_in_video) {
        known = m->has_audio;
    }
    return known ? FLO_OK
                 : flo_fail(b->err, FLO_USAGE,
                            "the request has a %s, and the checkpoint has no encoder for it",
                            media_kind_name(item->kind));
}

static flo_code measure(bench *b, work *w)
{
    switch (w->item.kind) {
    case MEDIA_IMAGE:
        return measure_picture(b, w);
    case MEDIA_VIDEO:
        return measure_video(b, w);
    default:
        return read_sound(b, &w->item, &w->source, NULL); /* its length is known no earlier */
    }
}

/* What a medium was made from goes before the next one is read. */
static void close_work(work *w)
{
    video_close(w->video);
    w->video = NULL;
    free(w->chosen);
    w->chosen = NULL;
    media_source_close(&w->source);
    free(w->item.samples);
    w->item.samples = NULL;
}

static flo_code read_one(bench *b, work *w)
{
    flo_code code = w->item.kind == MEDIA_IMAGE   ? read_picture(b, w)
                    : w->item.kind == MEDIA_VIDEO ? read_video(b, w)
                                                  : transform_sound(b, &w->item);
    close_work(w);
    return code;
}

/* One phase over all works; stops at the first fault. */
static flo_code each(bench *b, flo_code (*phase)(bench *, work *), int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (stopped(b)) {
            return flo_fail(b->err, FLO_INTERRUPTED, "cancelled");
        }
        flo_code code = phase(b, &b->works[i]);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

static flo_code open_one(bench *b, work *w)
{
    flo_code code = check_kind(b, &w->item);
    return code == FLO_OK && w->item.raw.frames == NULL ? open_item(b, w) : code;
}

static flo_code measure_one_sound(bench *b, work *w)
{
    return w->item.kind == MEDIA_AUDIO ? measure_sound(b, &w->item) : FLO_OK;
}

static flo_code cut_one(bench *b, work *w)
{
    return cut(b, &w->item);
}

static flo_code run_phases(bench *b)
{
    flo_code code = each(b, open_one, b->n);
    code = code == FLO_OK ? each(b, measure, b->n) : code;
    code = code == FLO_OK ? take_tracks(b) : code;
    code = code == FLO_OK ? each(b, measure_one_sound, b->n) : code;
    code = code == FLO_OK ? each(b, read_one, b->n) : code;
    return code == FLO_OK ? each(b, cut_one, b->n) : code;
}

/* The works' items back into the set, a video's sound behind its video: so each kind stands in the
 * order in which the prompt comes to it. */
static flo_code put_back(bench *b)
{
    media_set *s = b->set;
    media_item *items = calloc((size_t)b->n + 1, sizeof *items);
    layout_medium *layouts = calloc((size_t)b->n + 1, sizeof *layouts);
    if (items == NULL || layouts == NULL) {
        free(items);
        free(layouts);
        return flo_fail(b->err, FLO_FAIL, "out of memory for the media of a request");
    }
    int32_t n = 0;
    for (int32_t i = 0; i < s->n; i++) {
        work *w = &b->works[i];
        if (w->item.layout.in_video) {
            continue; /* comes with its video */
        }
        w->item.layout.kind = w->item.kind;
        w->item.layout.sound = w->sound >= 0 ? n + 1 : -1;
        items[n++] = w->item;
        if (w->sound >= 0) {
            media_item *track = &b->works[w->sound].item;
            track->layout.kind = MEDIA_AUDIO;
            track->layout.sound = -1;
            items[n++] = *track;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        layouts[i] = items[i].layout;
    }
    free(s->items);
    s->items = items;
    s->layouts = layouts;
    s->n = n;
    return FLO_OK;
}

/* A data: URL may be long, and is not read again. */
static void free_references(media_set *s)
{
    for (int32_t i = 0; i < s->n; i++) {
        free(s->items[i].reference);
        s->items[i].reference = NULL;
        s->items[i].reference_bytes = 0;
    }
}

/* After a fault the items stay where they were, so that the set frees what they hold. */
static void leave(bench *b)
{
    for (int32_t i = 0; i < b->set->n; i++) {
        b->set->items[i] = b->works[i].item;
    }
    for (int32_t i = b->set->n; i < b->n; i++) {
        media_item *track = &b->works[i].item;
        free(track->samples);
        free(track->features);
        free(track->parts);
    }
}

flo_code media_prepare(media_set *s, const media_house *h, const media_rules *rules, flo_err *err)
{
    bench b = {.set = s, .house = h, .rules = rules, .n = s->n, .err = err};
    b.works = calloc(2 * (size_t)s->n + 1, sizeof *b.works);
    if (b.works == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the media of a request");
    }
    for (int32_t i = 0; i < s->n; i++) {
        b.works[i].item = s->items[i];
        b.works[i].sound = -1;
    }
    flo_code code = run_phases(&b);
    for (int32_t i = 0; i < b.n; i++) {
        close_work(&b.works[i]);
    }
    code = code == FLO_OK ? put_back(&b) : code;
    if (code == FLO_OK) {
        free_references(s);
    } else {
        leave(&b);
    }
    free(b.works);
    return code;
}

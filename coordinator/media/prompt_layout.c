/*
 * prompt_layout.c - the marks in a prompt decide where its media stand.
 *
 * Text and ids are walked once from left to right, so the price is linear in them, whatever they
 * hold. Positions follow the reference piece by piece and in its f32 arithmetic: where they are
 * fractional (odd frame rates), 3 + 0.1f + 1 and 3 + 1 + 0.1f are different numbers. A piece is a
 * run of columns that the reference appends at once; the next one starts one past the maximum of
 * the last piece alone, which can lie below an earlier one's (a tall video that ends before its
 * sound).
 *
 * Where the reference has no answer (marks that nothing follows beside real ones, media without a
 * closing mark at the end) the marks are taken as text; where its answer would put one medium's
 * positions onto another's rows, the prompt is refused.
 * Source: replace_multimodal_special_tokens, processing_qwen3_omni_moe.py; get_rope_index,
 * modeling_qwen3_omni_moe.py.
 */
#include "coordinator/media/prompt_layout.h"

#include "common/check.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { N_KINDS = 3, PLACEHOLDER_BYTES = 13 };

static const struct {
    const char *placeholder, *one, *many;
} kinds[N_KINDS] = {
    [MEDIA_IMAGE] = {"<|image_pad|>", "picture", "pictures"},
    [MEDIA_AUDIO] = {"<|audio_pad|>", "sound", "sounds"},
    [MEDIA_VIDEO] = {"<|video_pad|>", "video", "videos"},
};

static const char vision_start[] = "<|vision_start|>", vision_end[] = "<|vision_end|>";
static const char audio_start[] = "<|audio_start|>", audio_end[] = "<|audio_end|>";

/* The processor's own default: texts are laid out with it whatever config.json says. */
static const double processor_positions_per_second = 13.0;

static bool takes_sound(const layout_medium *m)
{
    return m->kind == MEDIA_VIDEO && m->sound >= 0;
}

static bool sound_is_valid(const layout_medium *m, const prompt_media *media)
{
    const layout_medium *sound = m->sound < media->n ? &media->media[m->sound] : NULL;
    return sound != NULL && sound->kind == MEDIA_AUDIO && sound->in_video;
}

static void check_media(const prompt_media *media)
{
    for (int32_t i = 0; i < media->n; i++) {
        const layout_medium *m = &media->media[i];
        CHECK(m->n_tokens >= 0);
        CHECK(!takes_sound(m) || sound_is_valid(m, media));
    }
}

/* A grid has the rows that it says. */
static void check_grids(const prompt_media *media, int32_t merge)
{
    for (int32_t i = 0; i < media->n; i++) {
        const layout_medium *m = &media->media[i];
        CHECK(m->kind == MEDIA_AUDIO ||
              m->n_tokens == (int64_t)m->grid[0] * (m->grid[1] / merge) * (m->grid[2] / merge));
    }
}

/* The first medium of a kind at or after `from` that has a placeholder of its own; media->n: none.
 */
static int32_t find_medium(const prompt_media *media, media_kind kind, int32_t from)
{
    int32_t i = from;
    while (i < media->n && (media->media[i].kind != kind || media->media[i].in_video)) {
        i++;
    }
    return i;
}

static const char *noun(media_kind kind, int64_t n)
{
    return n == 1 ? kinds[kind].one : kinds[kind].many;
}

/* ---- text ---- */

/* The next placeholder at or after `from`; NULL: none. */
static const char *find_placeholder(media_kind *kind, const char *from, const char *end)
{
    while (end - from >= PLACEHOLDER_BYTES) {
        const char *p = memchr(from, '<', (size_t)(end - from) - (PLACEHOLDER_BYTES - 1));
        if (p == NULL) {
            return NULL;
        }
        for (int k = 0; k < N_KINDS; k++) {
            if (memcmp(p, kinds[k].placeholder, PLACEHOLDER_BYTES) == 0) {
                *kind = (media_kind)k;
                return p;
            }
        }
        from = p + 1;
    }
    return NULL;
}

/* *tracks_too: the sounds that were given and that videos take have placeholders as well. */
static flo_code count_placeholders(bool *tracks_too, const char *text, const char *end,
                                   const prompt_media *media, flo_err *err)
{
    int64_t found[N_KINDS] = {0}, given[N_KINDS] = {0}, n_tracks = 0;
    media_kind kind;
    for (const char *p = text; (p = find_placeholder(&kind, p, end)) != NULL;
         p += PLACEHOLDER_BYTES) {
        found[kind]++;
    }
    for (int32_t i = 0; i < media->n; i++) {
        given[media->media[i].kind] += !media->media[i].in_video;
        n_tracks += media->media[i].given_as > 0;
    }
    *tracks_too = n_tracks > 0 && found[MEDIA_AUDIO] == given[MEDIA_AUDIO] + n_tracks;
    given[MEDIA_AUDIO] += *tracks_too ? n_tracks : 0;
    for (int k = 0; k < N_KINDS; k++) {
        if (found[k] != given[k]) {
            return flo_fail(err, FLO_USAGE,
                            "the text has %" PRId64 " %s for %" PRId64 " %s; it needs one for each",
                            found[k], kinds[k].placeholder, given[k],
                            noun((media_kind)k, given[k]));
        }
    }
    return FLO_OK;
}

static void append_placeholders(buffer *out, media_kind kind, int64_t n)
{
    if (n > 0 && buffer_reserve(out, (size_t)n * PLACEHOLDER_BYTES)) {
        for (int64_t i = 0; i < n; i++) {
            buffer_append(out, kinds[kind].placeholder, PLACEHOLDER_BYTES);
        }
    }
}

/* Rows of a video and of its sound in the order of their times; on a tie the video goes first. */
static void append_interleaved(buffer *out, const layout_medium *video, int32_t n_sound,
                               int32_t merge)
{
    int32_t plane = (video->grid[1] / merge) * (video->grid[2] / merge);
    int32_t v = 0, a = 0;
    while (v < video->n_tokens && a < n_sound) {
        double time = v / plane * video->second_per_grid * processor_positions_per_second;
        if (time <= a) {
            append_placeholders(out, MEDIA_VIDEO, 1);
            v++;
        } else {
            append_placeholders(out, MEDIA_AUDIO, 1);
            a++;
        }
    }
    append_placeholders(out, MEDIA_VIDEO, video->n_tokens - v);
    append_placeholders(out, MEDIA_AUDIO, n_sound - a);
}

/* True where the placeholder at p stands between the marks of a video. */
static bool stands_between_marks(const char *p, const char *text, const char *end)
{
    size_t n_start = sizeof vision_start - 1, n_end = sizeof vision_end - 1;
    const char *behind = p + PLACEHOLDER_BYTES;
    return (size_t)(p - text) >= n_start && memcmp(p - n_start, vision_start, n_start) == 0 &&
           (size_t)(end - behind) >= n_end && memcmp(behind, vision_end, n_end) == 0;
}

static void append_medium(buffer *out, const layout_medium *m, const prompt_media *media,
                          int32_t merge)
{
    if (takes_sound(m)) {
        buffer_append_text(out, audio_start);
        append_interleaved(out, m, media->media[m->sound].n_tokens, merge);
        buffer_append_text(out, audio_end);
    } else {
        append_placeholders(out, m->kind, m->n_tokens);
    }
}

/* Whether a video takes sound number `nth` (from 1) of those given by themselves. */
static bool is_taken(const prompt_media *media, int32_t nth)
{
    int32_t i = 0;
    while (i < media->n && media->media[i].given_as != nth) {
        i++;
    }
    return i < media->n;
}

/* The text up to the placeholder at p, without it and without a pair of audio marks around it.
 * Returns where the text goes on. */
static const char *append_without(buffer *out, const char *text, const char *p, const char *end)
{
    size_t n_start = sizeof audio_start - 1, n_end = sizeof audio_end - 1;
    const char *behind = p + PLACEHOLDER_BYTES;
    if ((size_t)(p - text) >= n_start && memcmp(p - n_start, audio_start, n_start) == 0 &&
        (size_t)(end - behind) >= n_end && memcmp(behind, audio_end, n_end) == 0) {
        p -= n_start;
        behind += n_end;
    }
    buffer_append(out, text, (size_t)(p - text));
    return behind;
}

flo_code prompt_expand(buffer *out, const char *text, size_t n_bytes, const prompt_media *media,
                       int32_t spatial_merge, flo_err *err)
{
    check_media(media);
    check_grids(media, spatial_merge);
    const char *end = text + n_bytes;
    bool tracks_too;
    flo_code code = count_placeholders(&tracks_too, text, end, media, err);
    if (code != FLO_OK) {
        return code;
    }
    int32_t next[N_KINDS] = {0}, n_sounds = 0;
    const char *done = text;
    media_kind kind;
    for (const char *p; (p = find_placeholder(&kind, done, end)) != NULL;) {
        n_sounds += kind == MEDIA_AUDIO;
        if (kind == MEDIA_AUDIO && tracks_too && is_taken(media, n_sounds)) {
            done = append_without(out, done, p, end);
            continue;
        }
        int32_t at = find_medium(media, kind, next[kind]);
        const layout_medium *m = &media->media[at];
        next[kind] = at + 1;
        if (takes_sound(m) && !stands_between_marks(p, text, end)) {
            return flo_fail(err, FLO_USAGE,
                            "a video that takes its sound needs %s before and %s behind its %s",
                            vision_start, vision_end, kinds[kind].placeholder);
        }
        buffer_append(out, done, (size_t)(p - done));
        append_medium(out, m, media, spatial_merge);
        done = p + PLACEHOLDER_BYTES;
    }
    buffer_append(out, done, (size_t)(end - done));
    return out->failed ? flo_fail(err, FLO_FAIL, "out of memory for the prompt's text") : FLO_OK;
}

/* ---- rows ---- */

static bool kind_of_id(media_kind *kind, int32_t id, const model_tokens *tokens)
{
    *kind = id == tokens->image ? MEDIA_IMAGE : id == tokens->audio ? MEDIA_AUDIO : MEDIA_VIDEO;
    return id >= 0 && (id == tokens->image || id == tokens->audio || id == tokens->video);
}

static flo_code count_rows(const int32_t *ids, int32_t n, const model_tokens *tokens,
                           const prompt_media *media, flo_err *err)
{
    int64_t found[N_KINDS] = {0}, rows[N_KINDS] = {0}, given[N_KINDS] = {0};
    media_kind kind;
    for (int32_t i = 0; i < n; i++) {
        if (kind_of_id(&kind, ids[i], tokens)) {
            found[kind]++;
        }
    }
    for (int32_t i = 0; i < media->n; i++) {
        rows[media->media[i].kind] += media->media[i].n_tokens;
        given[media->media[i].kind]++;
    }
    for (int k = 0; k < N_KINDS; k++) {
        if (found[k] != rows[k]) {
            return flo_fail(
                err, FLO_USAGE,
                "the prompt has %" PRId64 " %s where %" PRId64 " are needed, for %" PRId64 " %s",
                found[k], kinds[k].placeholder, rows[k], given[k], noun((media_kind)k, given[k]));
        }
    }
    return FLO_OK;
}

/* The next row of each kind, and that of the sound whose video is open. */
typedef struct row_cursors {
    prompt_row of[N_KINDS], in_video; /* medium: media->n, or -1 for in_video, where none is left */
} row_cursors;

/* Moves over media without rows left, so that a cursor names the row that comes next. */
static void cursor_settle(prompt_row *at, media_kind kind, const prompt_media *media)
{
    while (at->medium < media->n && at->row == media->media[at->medium].n_tokens) {
        *at = (prompt_row){find_medium(media, kind, at->medium + 1), 0};
    }
}

/* <|vision_start|><|audio_start|>: the next video begins, its sound's rows come before others'. */
static void open_video_with_sound(row_cursors *c, const prompt_media *media)
{
    prompt_row video = c->of[MEDIA_VIDEO];
    if (video.medium < media->n && video.row == 0 && takes_sound(&media->media[video.medium])) {
        c->in_video = (prompt_row){media->media[video.medium].sound, 0};
    }
}

static bool take_row(prompt_row *out, row_cursors *c, media_kind kind, const prompt_media *media)
{
    prompt_row *in_video = &c->in_video;
    if (kind == MEDIA_AUDIO && in_video->medium >= 0 &&
        in_video->row < media->media[in_video->medium].n_tokens) {
        *out = *in_video;
        in_video->row++;
        return true;
    }
    prompt_row *at = &c->of[kind];
    if (at->medium == media->n) {
        return false;
    }
    *out = *at;
    at->row++;
    cursor_settle(at, kind, media);
    return true;
}

flo_code prompt_rows(prompt_row *rows, const int32_t *ids, int32_t n, const model_tokens *tokens,
                     const prompt_media *media, flo_err *err)
{
    check_media(media);
    flo_code code = count_rows(ids, n, tokens, media, err);
    if (code != FLO_OK) {
        return code;
    }
    row_cursors c = {.in_video = {-1, 0}};
    for (int k = 0; k < N_KINDS; k++) {
        c.of[k] = (prompt_row){find_medium(media, (media_kind)k, 0), 0};
        cursor_settle(&c.of[k], (media_kind)k, media);
    }
    for (int32_t i = 0; i < n; i++) {
        media_kind kind;
        rows[i] = (prompt_row){-1, 0};
        if (i > 0 && ids[i] == tokens->audio_start && ids[i - 1] == tokens->vision_start) {
            open_video_with_sound(&c, media);
        }
        if (kind_of_id(&kind, ids[i], tokens) && !take_row(&rows[i], &c, kind, media)) {
            return flo_fail(err, FLO_USAGE,
                            "token %d of the prompt stands for a sound, but the sound that is left "
                            "belongs to a video, between <|vision_start|><|audio_start|> and "
                            "<|audio_end|><|vision_end|>",
                            i);
        }
    }
    return FLO_OK;
}

/* ---- positions ---- */

/* A medium in the ids: opening marks, its rows, closing marks. */
typedef struct item {
    int32_t at;     /* of the first opening mark */
    int32_t n_open; /* 2 for a video with its sound */
    int32_t n_body;
    media_kind kind;
    int32_t medium; /* pictures and videos: which; media->n: more marks than media */
} item;

typedef struct item_walk {
    const int32_t *ids;
    int32_t n;
    const model_tokens *tokens;
    const prompt_media *media;
    int32_t next[N_KINDS]; /* medium of the next item of a kind */
} item_walk;

static item_walk walk_begin(const int32_t *ids, int32_t n, const model_tokens *tokens,
                            const prompt_media *media)
{
    item_walk w = {ids, n, tokens, media, {0}};
    for (int k = 0; k < N_KINDS; k++) {
        w.next[k] = find_medium(media, (media_kind)k, 0);
    }
    return w;
}

/* Placeholders in a row from `at` on, of one kind. */
static int32_t run_length(const item_walk *w, int32_t at, int32_t id)
{
    int32_t i = at;
    while (i < w->n && w->ids[i] == id) {
        i++;
    }
    return i - at;
}

static bool is_id(const item_walk *w, int32_t at, int32_t id)
{
    return id >= 0 && at < w->n && w->ids[at] == id;
}

/* Rows of a medium, with those of its sound. */
static int32_t rows_of(const prompt_media *media, int32_t medium)
{
    const layout_medium *m = &media->media[medium];
    return m->n_tokens + (takes_sound(m) ? media->media[m->sound].n_tokens : 0);
}

static void take_medium(item_walk *w, item *it, media_kind kind, int32_t n_open)
{
    it->kind = kind;
    it->medium = w->next[kind];
    it->n_open = n_open;
    it->n_body = 0;
    if (it->medium < w->media->n) {
        it->n_body = rows_of(w->media, it->medium);
        w->next[kind] = find_medium(w->media, kind, it->medium + 1);
    }
}

/* True where an item opens at it->at; sets the rest of it. */
static bool item_opens(item_walk *w, item *it)
{
    const model_tokens *t = w->tokens;
    int32_t at = it->at, video = w->next[MEDIA_VIDEO];
    bool video_has_sound = video < w->media->n && takes_sound(&w->media->media[video]);
    if (is_id(w, at, t->vision_start) && is_id(w, at + 1, t->image)) {
        take_medium(w, it, MEDIA_IMAGE, 1);
        return true;
    }
    if (is_id(w, at, t->vision_start) && is_id(w, at + 1, t->video) && !video_has_sound) {
        take_medium(w, it, MEDIA_VIDEO, 1);
        return true;
    }
    if (is_id(w, at, t->vision_start) && is_id(w, at + 1, t->audio_start) && video_has_sound) {
        take_medium(w, it, MEDIA_VIDEO, 2);
        return true;
    }
    if (is_id(w, at, t->audio_start) && is_id(w, at + 1, t->audio)) {
        it->kind = MEDIA_AUDIO; /* its positions are those of text, whichever sound it is */
        it->n_open = 1;
        it->n_body = run_length(w, at + 1, t->audio);
        return true;
    }
    return false;
}

/* The first item at or after `from`. */
static bool item_next(item_walk *w, item *it, int32_t from)
{
    for (it->at = from; it->at < w->n; it->at++) {
        if (item_opens(w, it)) {
            return true;
        }
    }
    return false;
}

/* The rows of a picture or video stand together behind their mark, and are its own. */
static flo_code item_check(const item_walk *w, const item *it, flo_err *err)
{
    int32_t first = it->at + it->n_open, n_found = 0;
    int32_t id = it->kind == MEDIA_IMAGE ? w->tokens->image : w->tokens->video;
    const layout_medium *m = &w->media->media[it->medium];
    bool together = it->n_body <= w->n - first;
    for (int32_t i = first; together && i < first + it->n_body; i++) {
        n_found += w->ids[i] == id;
        together = w->ids[i] == id || (takes_sound(m) && w->ids[i] == w->tokens->audio);
    }
    if (!together || n_found != m->n_tokens) {
        return flo_fail(err, FLO_USAGE,
                        "the %s behind the <|vision_start|> at token %d needs %d %s tokens "
                        "together%s",
                        kinds[it->kind].one, it->at, m->n_tokens, kinds[it->kind].placeholder,
                        takes_sound(m) ? ", mixed with those of its sound alone" : "");
    }
    return FLO_OK;
}

/* Either every picture has its mark or none has (then they get the positions of text); so with
 * videos. Between, the reference would take one medium's grid for another's. */
static flo_code items_check(item_walk w, flo_err *err)
{
    int64_t marked[N_KINDS] = {0}, given[N_KINDS] = {0};
    flo_code code = FLO_OK;
    item it;
    for (int32_t i = 0; i < w.media->n; i++) {
        given[w.media->media[i].kind]++;
    }
    for (int32_t at = 0; code == FLO_OK && item_next(&w, &it, at);) {
        marked[it.kind]++;
        if (it.kind != MEDIA_AUDIO && it.medium < w.media->n) {
            code = item_check(&w, &it, err);
        }
        at = it.at + it.n_open + it.n_body;
    }
    for (int k = 0; code == FLO_OK && k < N_KINDS; k++) {
        if (k != MEDIA_AUDIO && marked[k] != 0 && marked[k] != given[k]) {
            code = flo_fail(err, FLO_USAGE,
                            "%" PRId64 " <|vision_start|> marks open a %s in the prompt, which has "
                            "%" PRId64 " %s; it needs one for each",
                            marked[k], kinds[k].one, given[k], noun((media_kind)k, given[k]));
        }
    }
    return code;
}

typedef struct columns { /* [3][n], filled from the left */
    float *axes;
    int32_t n, at;
    float next; /* where the next piece starts */
} columns;

static void put_column(columns *c, float t, float h, float w)
{
    float *column = c->axes + c->at;
    column[0] = t;
    column[c->n] = h;
    column[2 * (size_t)c->n] = w;
    c->at++;
}

static float column_max(const columns *c, int32_t at)
{
    const float *column = c->axes + at;
    return fmaxf(fmaxf(column[0], column[c->n]), column[2 * (size_t)c->n]);
}

/* A piece of text: n tokens, one position after the other. */
static void put_run(columns *c, int32_t n)
{
    for (int32_t j = 0; j < n; j++) {
        float p = (float)j + c->next;
        put_column(c, p, p, p);
    }
}

/* Before a body the reference counts on: start + n. */
static void put_text(columns *c, int32_t n)
{
    put_run(c, n);
    c->next += (float)n;
}

/* After one it looks back: one past the last piece, which began at column `from`. */
static void end_piece(columns *c, int32_t from)
{
    float most = column_max(c, from);
    for (int32_t i = from + 1; i < c->at; i++) {
        most = fmaxf(most, column_max(c, i));
    }
    c->next = most + 1;
}

static void put_run_and_look_back(columns *c, int32_t n)
{
    int32_t from = c->at;
    if (n > 0) {
        put_run(c, n);
        end_piece(c, from);
    }
}

typedef struct vision_body {
    int32_t height, width; /* of the merged grid */
    float seconds;         /* from one temporal index to the next */
    float per_second, start;
} vision_body;

static float vision_time(const vision_body *b, int32_t row)
{
    int32_t k = row / (b->height * b->width);
    float seconds = (float)k * b->seconds;
    return seconds * b->per_second + b->start;
}

static void put_vision(columns *c, const vision_body *b, int32_t row)
{
    int32_t in_plane = row % (b->height * b->width);
    put_column(c, vision_time(b, row), (float)(in_plane / b->width) + b->start,
               (float)(in_plane % b->width) + b->start);
}

/* Both start at one position and are merged by time; each column is a piece of its own until one
 * list is at its end, the rest of the other is one piece. The order of the ids is not looked at. */
static void put_video_with_sound(columns *c, const vision_body *b, int32_t n_video, int32_t n_sound)
{
    int32_t v = 0, a = 0, from = c->at;
    while (v < n_video && a < n_sound) {
        float sound_time = (float)a + b->start;
        if (vision_time(b, v) <= sound_time) {
            put_vision(c, b, v++);
        } else {
            put_column(c, sound_time, sound_time, sound_time);
            a++;
        }
    }
    if (v < n_video || a < n_sound) {
        from = c->at;
    }
    for (; v < n_video; v++) {
        put_vision(c, b, v);
    }
    for (; a < n_sound; a++) {
        float sound_time = (float)a + b->start;
        put_column(c, sound_time, sound_time, sound_time);
    }
    end_piece(c, from);
}

static void put_picture_or_video(columns *c, const layout_medium *m, const prompt_media *media,
                                 const model_config *config)
{
    int32_t merge = config->vision.spatial_merge_size;
    vision_body b = {.height = m->grid[1] / merge,
                     .width = m->grid[2] / merge,
                     .seconds = m->kind == MEDIA_VIDEO ? (float)m->second_per_grid : 1.0f,
                     .per_second = (float)config->position_id_per_seconds,
                     .start = c->next};
    int32_t from = c->at;
    if (takes_sound(m)) {
        put_video_with_sound(c, &b, m->n_tokens, media->media[m->sound].n_tokens);
        return;
    }
    for (int32_t row = 0; row < m->n_tokens; row++) {
        put_vision(c, &b, row);
    }
    end_piece(c, from);
}

static void put_item(columns *c, const item *it, const prompt_media *media,
                     const model_config *config)
{
    put_text(c, it->at - c->at);
    put_text(c, it->n_open);
    if (it->kind == MEDIA_AUDIO) {
        put_run_and_look_back(c, it->n_body);
    } else {
        put_picture_or_video(c, &media->media[it->medium], media, config);
    }
}

/* Closing marks: as many as opening ones, whatever they are, unless another item opens there. */
static int32_t closing_marks(const item_walk *w, const item *it)
{
    item_walk probe = *w;
    item other = {.at = it->at + it->n_open + it->n_body};
    int32_t n = 0;
    while (n < it->n_open && other.at < w->n && !item_opens(&probe, &other)) {
        n++;
        other.at++;
    }
    return n;
}

static bool has_pictures_or_videos(const prompt_media *media)
{
    return find_medium(media, MEDIA_IMAGE, 0) < media->n ||
           find_medium(media, MEDIA_VIDEO, 0) < media->n;
}

flo_code prompt_positions(float *axes, float next[3], const int32_t *ids, int32_t n,
                          const model_config *m, const prompt_media *media, flo_err *err)
{
    columns c = {axes, n, 0, 0};
    if (has_pictures_or_videos(media)) {
        check_media(media);
        check_grids(media, m->vision.spatial_merge_size);
        item_walk w = walk_begin(ids, n, &m->tokens, media);
        flo_code code = items_check(w, err);
        if (code != FLO_OK) {
            return code;
        }
        for (item it; item_next(&w, &it, c.at);) {
            put_item(&c, &it, media, m);
            put_run_and_look_back(&c, closing_marks(&w, &it));
        }
    }
    put_run(&c, n - c.at);
    for (size_t axis = 0; axis < 3; axis++) {
        next[axis] = n > 0 ? axes[axis * (size_t)n + (size_t)n - 1] + 1 : 0;
    }
    return FLO_OK;
}

/*
 * fuzz_speech_prompt.c - any ids with any media as the prompt of a spoken answer: whatever the
 * thinker's layout takes has rows for the talker, each of one kind, at finite positions; and while
 * an answer grows, what is settled of the text stays as it was.
 */
#include "common/check.h"
#include "coordinator/speech/speech_prompt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MEDIA_MAX = 8, IDS_MAX = 4096, ANSWER_MAX = 12, SPEAKER_CODE = 1000 };

static const model_tokens tokens = {.im_start = 1,
                                    .im_end = 2,
                                    .system = 3,
                                    .user = 4,
                                    .assistant = 5,
                                    .audio = 6,
                                    .image = 7,
                                    .video = 8,
                                    .audio_start = 9,
                                    .audio_end = 10,
                                    .vision_start = 11,
                                    .vision_end = 12,
                                    .tts_pad = 13,
                                    .tts_bos = 14,
                                    .tts_eos = 15};

typedef struct reader {
    const uint8_t *at, *end;
} reader;

static uint8_t take(reader *r)
{
    return r->at < r->end ? *r->at++ : 0;
}

typedef struct made {
    int32_t ids[IDS_MAX], n;
    layout_medium media[MEDIA_MAX];
    int32_t n_media;
} made;

static void put(made *m, int32_t id, int32_t n)
{
    for (int32_t i = 0; i < n && m->n < IDS_MAX; i++) {
        m->ids[m->n++] = id;
    }
}

static layout_medium *add_medium(made *m, media_kind kind, uint8_t sizes)
{
    int32_t t = kind == MEDIA_VIDEO ? 1 + sizes / 4 % 4 : 1;
    int32_t h = 1 + sizes / 16 % 4, w = 1 + sizes / 64;
    layout_medium *l = &m->media[m->n_media++];
    *l = (layout_medium){.kind = kind, .n_tokens = t * h * w, .sound = -1};
    l->second_per_grid = 0.01 + sizes % 7 * 0.3;
    memcpy(l->grid, (const int32_t[]){t, 2 * h, 2 * w}, sizeof l->grid);
    return l;
}

/* A medium with its marks, unless the byte has it go without; a video may have its sound. */
static void put_medium(made *m, media_kind kind, uint8_t how, uint8_t sizes)
{
    if (m->n_media + 2 > MEDIA_MAX) {
        return;
    }
    layout_medium *l = add_medium(m, kind, sizes);
    bool marked = how % 8 != 0, with_sound = kind == MEDIA_VIDEO && how % 3 == 0;
    int32_t id = kind == MEDIA_IMAGE ? tokens.image : tokens.video;
    id = kind == MEDIA_AUDIO ? tokens.audio : id;
    int32_t start = kind == MEDIA_AUDIO ? tokens.audio_start : tokens.vision_start;
    put(m, start, marked);
    put(m, tokens.audio_start, with_sound && marked && how % 16 != 3);
    put(m, id, l->n_tokens);
    if (with_sound) {
        l->sound = m->n_media;
        add_medium(m, MEDIA_AUDIO, how)->in_video = true;
        put(m, tokens.audio, m->media[l->sound].n_tokens);
    }
    put(m, with_sound ? tokens.audio_end : tokens.vision_end, marked && how % 32 != 5);
}

static void make_prompt(made *m, reader *r)
{
    while (r->at < r->end) {
        uint8_t op = take(r);
        if (op < 32) {
            put(m, op, 1); /* special ids and others */
        } else if (op < 64) {
            put(m, tokens.im_start, 1);
            put(m, tokens.system + op % 3, 1);
        } else if (op < 96) {
            uint8_t how = take(r);
            put_medium(m, (media_kind)(op % 3), how, take(r));
        } else {
            put(m, op, 1);
        }
    }
}

/* As prompt_lay_out does it. False: the prompt is refused. */
static bool lay_out(prompt *p, made *m, const model_config *c, prompt_media list)
{
    flo_err err;
    float next[3];
    *p = (prompt){.ids = m->ids, .n = m->n};
    p->axes = malloc(3 * (size_t)m->n * sizeof *p->axes + 1);
    p->rows = list.n > 0 ? malloc((size_t)m->n * sizeof *p->rows + 1) : NULL;
    return (list.n == 0 || prompt_rows(p->rows, p->ids, p->n, &tokens, &list, &err) == FLO_OK) &&
           prompt_positions(p->axes, next, p->ids, p->n, c, &list, &err) == FLO_OK;
}

static bool is_placeholder(int32_t id)
{
    return id == tokens.audio || id == tokens.image || id == tokens.video;
}

static void check_rows(const speech_prompt *s, const prompt *p)
{
    int32_t n_user = s->n_rows - 9, n_media = 0, before = -1;
    CHECK(n_user > 0 && n_user <= p->n);
    CHECK(s->n_hidden + s->n_user_texts == n_user);
    CHECK(p->ids[s->assistant] == tokens.im_start);
    for (int32_t r = 0; r < s->n_rows; r++) {
        CHECK(s->media[r] == (r < n_user && is_placeholder(s->ids[r])));
        CHECK((s->codes[r] >= 0) == (r >= n_user + 3));
        if (s->media[r]) {
            int32_t at = s->hidden_rows[n_media++];
            CHECK(at > before && at < p->n && p->ids[at] == s->ids[r]);
            before = at;
        }
        for (int32_t a = 0; a < 3; a++) {
            float x = s->axes[a * s->n_rows + r];
            CHECK(isfinite(x) && x >= 0 && x < s->next_position);
        }
    }
    CHECK(n_media == s->n_hidden);
}

/* The text settled so far goes into out; what was there before is how it begins. */
static int64_t check_text(int32_t *out, int64_t n_before, const speech_prompt *s,
                          const int32_t *answer, int32_t n, bool done, bool is_end)
{
    speech_text t = speech_prompt_settled(s, n, done, is_end);
    CHECK(t.n >= n_before && t.n <= (int64_t)s->n_user_texts + IDS_MAX + ANSWER_MAX + 16);
    CHECK(!(t.last && t.silent) && done == (t.last || t.silent));
    for (int64_t i = 0; i < t.n; i++) {
        int32_t id = speech_prompt_text(s, answer, n, done, is_end, i);
        CHECK(i >= n_before || out[i] == id);
        out[i] = id;
    }
    int64_t end = t.n - 1; /* of the text; behind it what a continued turn lost */
    while (t.last && end > 0 && out[end] == tokens.tts_pad) {
        end--;
    }
    CHECK(!t.last || out[end] == tokens.tts_eos);
    return t.n;
}

static void check_answers(const speech_prompt *s, const int32_t *answer)
{
    static int32_t settled[2 * IDS_MAX + 64], whole[2 * IDS_MAX + 64];
    int64_t n_settled = 0;
    for (int32_t n = 0; n <= ANSWER_MAX; n++) {
        n_settled = check_text(settled, n_settled, s, answer, n, false, false);
        memcpy(whole, settled, (size_t)n_settled * sizeof whole[0]);
        check_text(whole, n_settled, s, answer, n, true, false);
        memcpy(whole, settled, (size_t)n_settled * sizeof whole[0]);
        check_text(whole, n_settled, s, answer, n, true, n > 0);
    }
}

static void check_speech(const prompt *p, const media_set *media, const model_config *c,
                         const int32_t *answer)
{
    speech_prompt s = {0};
    flo_err err = {""};
    flo_code code = speech_prompt_make(&s, p, media, c, SPEAKER_CODE, &err);
    CHECK(code == FLO_OK || (code == FLO_USAGE && err.text[0] != '\0'));
    if (code == FLO_OK && !s.silent) {
        check_rows(&s, p);
        check_answers(&s, answer);
    }
    CHECK(code != FLO_OK || !s.silent || speech_prompt_settled(&s, 1, true, true).silent);
    speech_prompt_free(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static model_config c;
    static made m;
    int32_t answer[ANSWER_MAX];
    reader r = {data, data + n};
    c.tokens = tokens;
    c.vision.spatial_merge_size = 2;
    c.position_id_per_seconds = c.talker.position_id_per_seconds = 1 + take(&r) % 30;
    for (int32_t i = 0; i < ANSWER_MAX; i++) {
        answer[i] = take(&r);
    }
    m.n = m.n_media = 0;
    make_prompt(&m, &r);
    media_set media = {.layouts = m.media, .n = m.n_media};
    media_set *given = m.n_media > 0 ? &media : NULL;
    prompt p;
    if (lay_out(&p, &m, &c, (prompt_media){m.media, m.n_media})) {
        check_speech(&p, given, &c, answer);
    }
    free(p.rows);
    free(p.axes);
    return 0;
}

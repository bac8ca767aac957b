/*
 * speech_prompt.c - the rows of the talker's prompt, and which of the text stream is settled.
 *
 * Both follow from ids alone: turns begin at im_start, a placeholder's row is a hidden state, any
 * other the text of its id. So all of this is known before the thinker has computed anything, but
 * for the answer itself. Costs a few arrays of the prompt's length, for each spoken answer.
 *
 * Where the reference raises an error: without a user turn, without an assistant turn, or with an
 * answer too short for the ninth row (one id behind the usual header) nothing is said. Sounds
 * beside pictures, and videos with their sound, are counted one by one as text is, which is what
 * its code would do if it found the field that it asks for. Grids are those of the user turns'
 * media; the reference takes the request's from the first on, so that a picture in a turn that is
 * dropped would stand where the next one is.
 * Source: generate, _get_talker_user_parts, _get_talker_assistant_parts, get_rope_index,
 * modeling_qwen3_omni_moe.py.
 */
#include "coordinator/speech/speech_prompt.h"

#include "common/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TURN_ROWS = 9,  /* of the assistant's turn */
    FIRST_TEXT = 3, /* the turn's ids before it: im_start, the role, the newline */
    FILLERS = 5     /* between these and the first text: four tts_pad and tts_bos */
};

void speech_prompt_free(speech_prompt *s)
{
    free(s->ids);
    free(s->media);
    free(s->codes);
    free(s->axes);
    free(s->hidden_rows);
    free(s->user_texts);
    *s = (speech_prompt){0};
}

/* --- turns -------------------------------------------------------------------------------------
 */

/* Positions of the user turns, each from its im_start to the next; what stands before the first
 * im_start is a turn as well. Returns their number; rows [p->n]. */
static int32_t list_user_rows(int32_t *rows, const prompt *p, const model_tokens *tokens)
{
    int32_t n = 0, start = 0;
    for (int32_t i = 0; i < p->n; i++) {
        start = p->ids[i] == tokens->im_start ? i : start;
        int32_t role = start + 1 < p->n ? start + 1 : p->n - 1;
        if (p->ids[role] == tokens->user) {
            rows[n++] = i;
        }
    }
    return n;
}

/* Where the last assistant turn begins; -1: there is none. */
static int32_t last_assistant_turn(const prompt *p, const model_tokens *tokens)
{
    int32_t i = p->n - 2;
    while (i >= 0 && (p->ids[i] != tokens->im_start || p->ids[i + 1] != tokens->assistant)) {
        i--;
    }
    return i >= 0 ? i : -1;
}

/* --- rows --------------------------------------------------------------------------------------
 */

static bool is_placeholder(int32_t id, const model_tokens *tokens)
{
    return id == tokens->audio || id == tokens->image || id == tokens->video;
}

static flo_code take_memory(speech_prompt *s, int32_t n_user, flo_err *err)
{
    CHECK(n_user <= INT32_MAX - TURN_ROWS);
    s->n_rows = n_user + TURN_ROWS;
    size_t n = (size_t)s->n_rows;
    s->ids = malloc(n * sizeof *s->ids);
    s->media = calloc(n, sizeof *s->media);
    s->codes = malloc(n * sizeof *s->codes);
    s->axes = malloc(3 * n * sizeof *s->axes);
    s->hidden_rows = malloc(n * sizeof *s->hidden_rows);
    s->user_texts = malloc(n * sizeof *s->user_texts);
    bool all = s->ids != NULL && s->media != NULL && s->codes != NULL && s->axes != NULL &&
               s->hidden_rows != NULL && s->user_texts != NULL;
    return all ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory for the talker's prompt");
}

static void put_user_rows(speech_prompt *s, const prompt *p, const model_tokens *tokens,
                          const int32_t *rows, int32_t n_user)
{
    for (int32_t r = 0; r < n_user; r++) {
        int32_t id = p->ids[rows[r]];
        s->ids[r] = id;
        s->codes[r] = -1;
        s->media[r] = is_placeholder(id, tokens);
        if (s->media[r]) {
            s->hidden_rows[s->n_hidden++] = rows[r];
        } else {
            s->user_texts[s->n_user_texts++] = id;
        }
    }
}

static void put_turn_rows(speech_prompt *s, const talker_config *t, int32_t speaker_code)
{
    const int32_t codes[TURN_ROWS] = {-1,
                                      -1,
                                      -1,
                                      t->codec_nothink,
                                      t->codec_think_bos,
                                      t->codec_think_eos,
                                      speaker_code,
                                      t->codec_pad,
                                      t->codec_bos};
    int32_t first = s->n_rows - TURN_ROWS;
    memcpy(s->codes + first, codes, sizeof codes);
    for (int32_t r = first; r < s->n_rows; r++) {
        s->ids[r] = s->tts_pad;
    }
}

/* --- positions ---------------------------------------------------------------------------------
 */

/* The pictures and videos of the user turns whose rows stand behind vision_start: those that have
 * positions of their grid. A video with its sound begins with audio_start; it is text here. */
static int32_t list_sights(layout_medium *sights, const prompt *p, const prompt_media *media,
                           const model_tokens *tokens, const int32_t *rows, int32_t n_user)
{
    int32_t n = 0;
    for (int32_t r = 0; r < n_user && p->rows != NULL; r++) {
        int32_t i = rows[r];
        prompt_row at = p->rows[i];
        if (at.medium >= 0 && at.row == 0 && media->media[at.medium].kind != MEDIA_AUDIO && i > 0 &&
            p->ids[i - 1] == tokens->vision_start) {
            sights[n] = media->media[at.medium];
            sights[n++].sound = -1;
        }
    }
    return n;
}

/* The reference keeps what is to be added to the number of rows so far, rounded to f32. */
static float position_after(const float *axes, int32_t n_rows)
{
    float most = axes[0];
    for (size_t i = 1; i < 3 * (size_t)n_rows; i++) {
        most = fmaxf(most, axes[i]);
    }
    float delta = most + 1.0f - (float)n_rows;
    return (float)n_rows + delta;
}

static flo_code put_positions(speech_prompt *s, const prompt *p, const prompt_media *media,
                              const model_config *m, const int32_t *rows, flo_err *err)
{
    int32_t n_user = s->n_rows - TURN_ROWS;
    layout_medium *sights = malloc(((size_t)media->n + 1) * sizeof *sights);
    if (sights == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the talker's prompt");
    }
    prompt_media seen = {sights, list_sights(sights, p, media, &m->tokens, rows, n_user)};
    model_config as_talker = *m; /* which has its own number of positions to a second */
    as_talker.position_id_per_seconds = m->talker.position_id_per_seconds;
    float next[3];
    flo_code code = prompt_positions(s->axes, next, s->ids, s->n_rows, &as_talker, &seen, err);
    if (code == FLO_OK) {
        s->next_position = position_after(s->axes, s->n_rows);
    }
    free(sights);
    return code;
}

static flo_code put_rows(speech_prompt *s, const prompt *p, const prompt_media *media,
                         const model_config *m, int32_t speaker_code, const int32_t *rows,
                         int32_t n_user, flo_err *err)
{
    flo_code code = take_memory(s, n_user, err);
    if (code == FLO_OK) {
        put_user_rows(s, p, &m->tokens, rows, n_user);
        put_turn_rows(s, &m->talker, speaker_code);
        code = put_positions(s, p, media, m, rows, err);
    }
    return code;
}

flo_code speech_prompt_make(speech_prompt *out, const prompt *p, const media_set *media,
                            const model_config *m, int32_t speaker_code, flo_err *err)
{
    prompt_media list = media != NULL ? media_set_layout(media) : (prompt_media){NULL, 0};
    speech_prompt s = {.prompt = p->ids,
                       .n_prompt = p->n,
                       .assistant = last_assistant_turn(p, &m->tokens),
                       .tts_pad = m->tokens.tts_pad,
                       .tts_bos = m->tokens.tts_bos,
                       .tts_eos = m->tokens.tts_eos};
    int32_t *rows = malloc((size_t)p->n * sizeof *rows + 1);
    if (rows == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the talker's prompt");
    }
    int32_t n_user = list_user_rows(rows, p, &m->tokens);
    s.silent = n_user == 0 || s.assistant < 0;
    flo_code code = s.silent ? FLO_OK : put_rows(&s, p, &list, m, speaker_code, rows, n_user, err);
    free(rows);
    if (code != FLO_OK) {
        speech_prompt_free(&s);
        return code;
    }
    *out = s;
    return FLO_OK;
}

/* --- the text stream ---------------------------------------------------------------------------
 */

/* Ids of the last assistant turn that the talker is given. The last generated one never is: the
 * thinker has no state of it, and the reference goes by states. */
static int64_t turn_length(const speech_prompt *s, int32_t n_ids)
{
    int64_t in_prompt = (int64_t)s->n_prompt - s->assistant;
    return in_prompt + (n_ids > 1 ? n_ids - 1 : 0);
}

/* How many of them follow the first text: all that are left, but of a turn that had text before the
 * answer (a continued one) only as many as ids were generated up to the end, which the reference
 * overwrites from there on. While the answer grows its last id may still become the end. */
static int64_t n_following(const speech_prompt *s, int32_t n_ids, bool done, bool is_end)
{
    int64_t texts = turn_length(s, n_ids) - FIRST_TEXT - 1;
    int64_t end = done && !is_end ? n_ids : n_ids - 1;
    int64_t n = texts < end ? texts : end;
    return n > 0 ? n : 0;
}

/* Ids behind the first text of an answer that is over, tts_eos among them, and tts_pad for what was
 * overwritten: as many as the turn has ids there, and one. */
static int64_t n_behind(const speech_prompt *s, int32_t n_ids)
{
    return turn_length(s, n_ids) - FIRST_TEXT;
}

speech_text speech_prompt_settled(const speech_prompt *s, int32_t n_ids, bool done, bool is_end)
{
    if (s->silent) {
        return (speech_text){.silent = done};
    }
    int64_t known = turn_length(s, n_ids);
    bool has_text = known > FIRST_TEXT && n_ids > 0;
    speech_text t = {.last = done && has_text, .silent = done && !has_text};
    t.n = 1 + (int64_t)s->n_user_texts + (known < FIRST_TEXT ? known : FIRST_TEXT + FILLERS);
    if (known > FIRST_TEXT) {
        t.n += 1 + (t.last ? n_behind(s, n_ids) : n_following(s, n_ids, done, is_end));
    }
    return t;
}

static int32_t turn_id(const speech_prompt *s, const int32_t *answer, int64_t at)
{
    int64_t i = s->assistant + at;
    return i < s->n_prompt ? s->prompt[i] : answer[i - s->n_prompt];
}

int32_t speech_prompt_text(const speech_prompt *s, const int32_t *answer, int32_t n_ids, bool done,
                           bool is_end, int64_t at)
{
    DCHECK(at >= 0 && at < speech_prompt_settled(s, n_ids, done, is_end).n);
    int64_t i = at - 1;
    if (at == 0) {
        return s->tts_pad;
    }
    if (i < s->n_user_texts) {
        return s->user_texts[i];
    }
    i -= s->n_user_texts;
    if (i < FIRST_TEXT) {
        return turn_id(s, answer, i);
    }
    if (i < FIRST_TEXT + FILLERS) {
        return i < FIRST_TEXT + FILLERS - 1 ? s->tts_pad : s->tts_bos;
    }
    i -= FILLERS; /* of the turn's ids again */
    int64_t end = FIRST_TEXT + n_following(s, n_ids, done, is_end) + 1;
    return i < end ? turn_id(s, answer, i) : i == end ? s->tts_eos : s->tts_pad;
}

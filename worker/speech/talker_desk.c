/*
 * talker_desk.c - see talker_desk.h.
 *
 * A session's rows are numbered: its media rows first, as their hidden states come; behind them its
 * text, that of the prompt and then that of the frames. Prompt rows name theirs (row_note.source),
 * so text and hidden states are projected and put down as they arrive, whatever is known of the
 * prompt by then.
 */
#include "worker/speech/talker_desk.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/speech_room.h"
#include "worker/speech/input_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PATIENCE_US = 20000, /* a growing prompt that has not grown for so long is taken as it is */
    SHARED_ROWS = 64,    /* of a prompt in a step while others speak: they wait for its end */
    SPECIAL_CODES = 1024 /* the last of the vocabulary: never drawn, but for the end code */
};

typedef enum session_state {
    SESSION_FREE,
    SESSION_PROMPT, /* not all of its prompt is computed */
    SESSION_DRAWN,  /* a first code waits for the predictor */
    SESSION_OUT,    /* and is there */
    SESSION_MADE,   /* a frame is made, its row is to be computed */
    SESSION_TOLD,   /* over but for text that its dump is to have */
} session_state;

typedef struct session {
    session_state state;
    desk_start start;
    bool cancelled; /* while its frame is out */
    row_list rows;
    int32_t n_prompt, n_prompt_media; /* rows of the prompt that are known */
    int32_t n_ready;                  /* of them, in order, those whose input has come, */
    int32_t n_done;                   /* and those that are computed */
    int64_t grown_us;                 /* when n_ready last grew */
    int64_t n_text_seen;              /* tts_pad and what is dropped included */
    int32_t n_text, n_hidden;         /* rows that are kept */
    bool text_complete;
    int32_t n_draws, n_frames;
    int32_t first_code;
    float *pad, *hidden, *first, *sums; /* [H] each: tts_pad; and of the frame being made the
                                           talker's state, the first code's row, the codes' sum */
    uint8_t *is_drawn;                  /* [vocab] */
    int32_t *drawn;                     /* [vocab] first codes so far, each once; n_drawn of them */
    int32_t n_drawn;
} session;

typedef struct member { /* of a step */
    session *s;
    int32_t row, n_rows; /* of the step */
} member;

struct talker_desk {
    talker *talker;
    const model_config *m;
    desk_hooks hooks;
    arena memory;
    input_rows rows;
    sampler *sampler;
    int32_t n_allowed;
    int32_t *allowed;   /* first codes that may be drawn, rising */
    float *candidates;  /* their logits */
    float *gathered;    /* [STEP_ROWS_MAX][H of the thinker] */
    float *projected;   /* [STEP_ROWS_MAX][H] */
    float *x;           /* [STEP_ROWS_MAX][H] of the step */
    float *axes[3];     /* [STEP_ROWS_MAX] */
    step_row *places;   /* [STEP_ROWS_MAX] */
    float *last_hidden; /* [SPEAKERS_MAX][H] */
    float *logits;      /* [SPEAKERS_MAX][vocab] */
    int32_t n_rows;     /* of the step */
    int32_t n_members;
    member members[SPEAKERS_MAX];
    int32_t turn; /* session whose prompt comes first */
    uint64_t n_steps;
    session sessions[SPEAKERS_MAX];
    int32_t n_out; /* frames that are out for prediction */
    session *out[SPEAKERS_MAX];
    float *out_hidden, *out_firsts; /* [SPEAKERS_MAX][H] */
    predictor_choice out_how[SPEAKERS_MAX];
    uint64_t out_sessions[SPEAKERS_MAX];
};

/* --- memory ------------------------------------------------------------------------------------
 */

static size_t floats(size_t rows, int32_t columns)
{
    return rows * (size_t)columns * sizeof(float);
}

size_t talker_desk_bytes(const model_config *m, int64_t talker_tokens)
{
    const talker_config *t = &m->talker;
    size_t vocab = (size_t)t->vocab_size;
    size_t each = 4 * arena_rounded(floats(1, t->hidden_size)) + arena_rounded(vocab) +
                  arena_rounded(vocab * sizeof(int32_t)) + row_list_bytes(talker_tokens);
    size_t step = 2 * arena_rounded(floats(STEP_ROWS_MAX, t->hidden_size)) +
                  arena_rounded(floats(STEP_ROWS_MAX, t->thinker_hidden_size)) +
                  3 * arena_rounded(floats(STEP_ROWS_MAX, 1)) +
                  arena_rounded(STEP_ROWS_MAX * sizeof(step_row));
    size_t frame = 3 * arena_rounded(floats(SPEAKERS_MAX, t->hidden_size)) +
                   arena_rounded(floats(SPEAKERS_MAX, t->vocab_size)) +
                   arena_rounded(vocab * sizeof(float)) + arena_rounded(vocab * sizeof(int32_t));
    return input_rows_bytes(t->hidden_size, talker_tokens) + SPEAKERS_MAX * each + step + frame;
}

static void lay_out_session(talker_desk *d, session *s, int64_t talker_tokens)
{
    size_t row = floats(1, d->m->talker.hidden_size), vocab = (size_t)d->m->talker.vocab_size;
    arena *a = &d->memory;
    s->pad = arena_take(a, row);
    s->hidden = arena_take(a, row);
    s->first = arena_take(a, row);
    s->sums = arena_take(a, row);
    s->is_drawn = arena_take(a, vocab);
    s->drawn = arena_take(a, vocab * sizeof *s->drawn);
    row_list_init(&s->rows, talker_tokens, a);
}

static void lay_out(talker_desk *d, int64_t talker_tokens)
{
    const talker_config *t = &d->m->talker;
    size_t vocab = (size_t)t->vocab_size;
    arena *a = &d->memory;
    input_rows_init(&d->rows, t->hidden_size, talker_tokens, a);
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        lay_out_session(d, &d->sessions[i], talker_tokens);
    }
    d->x = arena_take(a, floats(STEP_ROWS_MAX, t->hidden_size));
    d->projected = arena_take(a, floats(STEP_ROWS_MAX, t->hidden_size));
    d->gathered = arena_take(a, floats(STEP_ROWS_MAX, t->thinker_hidden_size));
    for (int32_t i = 0; i < 3; i++) {
        d->axes[i] = arena_take(a, floats(STEP_ROWS_MAX, 1));
    }
    d->places = arena_take(a, STEP_ROWS_MAX * sizeof *d->places);
    d->last_hidden = arena_take(a, floats(SPEAKERS_MAX, t->hidden_size));
    d->out_hidden = arena_take(a, floats(SPEAKERS_MAX, t->hidden_size));
    d->out_firsts = arena_take(a, floats(SPEAKERS_MAX, t->hidden_size));
    d->logits = arena_take(a, floats(SPEAKERS_MAX, t->vocab_size));
    d->candidates = arena_take(a, vocab * sizeof *d->candidates);
    d->allowed = arena_take(a, vocab * sizeof *d->allowed);
}

/* Codes of the codebook, and the end code; of so small a vocabulary that it has no special ones
 * all. */
static void list_allowed(talker_desk *d)
{
    const talker_config *t = &d->m->talker;
    int32_t n = t->vocab_size > SPECIAL_CODES ? t->vocab_size - SPECIAL_CODES : t->vocab_size;
    for (int32_t i = 0; i < n; i++) {
        d->allowed[d->n_allowed++] = i;
    }
    if (t->codec_eos >= n) {
        d->allowed[d->n_allowed++] = t->codec_eos;
    }
}

flo_code talker_desk_open(talker_desk **out, talker *t, const model_config *m,
                          int64_t talker_tokens, const desk_hooks *hooks, flo_err *err)
{
    talker_desk *d = calloc(1, sizeof *d);
    if (d == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the talker's sessions");
    }
    d->talker = t;
    d->m = m;
    d->hooks = *hooks;
    flo_code code = sampler_new(&d->sampler, m->talker.vocab_size, err);
    if (code == FLO_OK) {
        code = arena_open(&d->memory, talker_desk_bytes(m, talker_tokens), err);
    }
    if (code != FLO_OK) {
        sampler_free(d->sampler);
        free(d);
        return code;
    }
    lay_out(d, talker_tokens);
    list_allowed(d);
    *out = d;
    return FLO_OK;
}

void talker_desk_close(talker_desk *d)
{
    if (d != NULL) {
        sampler_free(d->sampler);
        arena_close(&d->memory);
        free(d);
    }
}

float *talker_desk_gather(talker_desk *d)
{
    return d->gathered;
}

static session *find(talker_desk *d, uint64_t id)
{
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        if (d->sessions[i].state != SESSION_FREE && d->sessions[i].start.session == id) {
            return &d->sessions[i];
        }
    }
    return NULL;
}

int32_t talker_desk_sessions(const talker_desk *d)
{
    int32_t n = 0;
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        n += d->sessions[i].state != SESSION_FREE;
    }
    return n;
}

static float *row_of(const talker_desk *d, const session *s, int32_t row)
{
    return row_list_row(&s->rows, &d->rows, row);
}

static row_note *note_of(const talker_desk *d, const session *s, int32_t row)
{
    return row_list_note(&s->rows, &d->rows, row);
}

static void tell(const talker_desk *d, const session *s, const char *name, int32_t first, int32_t n,
                 const float *data)
{
    if (s->start.dump && n > 0) {
        d->hooks.rows(d->hooks.arg, s->start.session, name, first, n, d->m->talker.hidden_size,
                      false, data, false);
    }
}

/* --- the end of a session ----------------------------------------------------------------------
 */

static void forget(talker_desk *d, session *s)
{
    flo_err err;
    if (s->start.dump) {
        d->hooks.rows(d->hooks.arg, s->start.session, "", 0, 0, 0, false, NULL, true);
    }
    if (s->n_done > 0) {
        CHECK(kv_cache_release(talker_cache(d->talker), s->start.session, &err) == FLO_OK);
    }
    row_list_give(&s->rows, &d->rows);
    s->state = SESSION_FREE;
}

static void end(talker_desk *d, session *s)
{
    desk_frame f = {.session = s->start.session,
                    .index = s->n_frames,
                    .last = true,
                    .cancelled = s->cancelled,
                    .exact = s->start.exact,
                    .dump = s->start.dump};
    d->hooks.frame(d->hooks.arg, &f);
    if (s->start.dump && !s->text_complete && !s->cancelled) {
        s->state = SESSION_TOLD;
    } else {
        forget(d, s);
    }
}

void talker_desk_cancel(talker_desk *d, uint64_t id)
{
    session *s = find(d, id);
    if (s == NULL) {
        return;
    }
    s->cancelled = true;
    if (s->state == SESSION_TOLD) {
        forget(d, s);
    } else if (s->state != SESSION_OUT) {
        end(d, s);
    }
}

/* --- what arrives ------------------------------------------------------------------------------
 */

/* Rows of text that are kept: each of the prompt and of the frames has one. */
static int32_t prompt_text(const session *s)
{
    return s->start.rows - s->start.media_rows;
}

static int32_t text_max(const session *s)
{
    return prompt_text(s) + s->start.max_draws - 1;
}

static bool start_is_sound(const desk_start *s)
{
    const sampling *how = &s->how;
    return s->rows > 0 && s->media_rows >= 0 && s->media_rows <= s->rows && s->max_draws > 0 &&
           isfinite(s->next_position) && isfinite(how->temperature) && how->temperature >= 0 &&
           how->top_k >= 0 && how->top_p > 0 && how->top_p <= 1 && how->min_p == 0 &&
           isfinite(how->repetition_penalty) && how->repetition_penalty > 0;
}

static session *free_session(talker_desk *d)
{
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        if (d->sessions[i].state == SESSION_FREE) {
            return &d->sessions[i];
        }
    }
    return NULL;
}

/* As if it had never been used, but for the memory that is its own. */
static void begin(talker_desk *d, session *s, const desk_start *start)
{
    session fresh = {.state = SESSION_PROMPT,
                     .start = *start,
                     .rows = s->rows,
                     .pad = s->pad,
                     .hidden = s->hidden,
                     .first = s->first,
                     .sums = s->sums,
                     .is_drawn = s->is_drawn,
                     .drawn = s->drawn};
    memset(s->is_drawn, 0, (size_t)d->m->talker.vocab_size);
    *s = fresh;
}

flo_code talker_desk_start(talker_desk *d, const desk_start *start, flo_err *err)
{
    unsigned long long id = start->session;
    if (!start_is_sound(start)) {
        return flo_fail(err, FLO_FAIL, "speech session %llu was begun with numbers out of range",
                        id);
    }
    if (find(d, start->session) != NULL) {
        return flo_fail(err, FLO_FAIL, "speech session %llu was begun twice", id);
    }
    session *s = free_session(d);
    int64_t tokens = speech_room_tokens(start->rows, start->max_draws);
    if (s == NULL || !row_list_take(&s->rows, &d->rows, tokens)) {
        return flo_fail(err, FLO_FAIL,
                        "speech session %llu of %d rows and %d frames is more than the talker has "
                        "room for (%d of %d tokens, %d of %d sessions are free)",
                        id, start->rows, start->max_draws, d->rows.n_free * KV_BLOCK,
                        d->rows.n_blocks * KV_BLOCK, SPEAKERS_MAX - talker_desk_sessions(d),
                        SPEAKERS_MAX);
    }
    begin(d, s, start);
    return FLO_OK;
}

/* Counts the prompt's rows whose input has come. */
static void count_ready(talker_desk *d, session *s)
{
    int32_t before = s->n_ready;
    while (s->n_ready < s->n_prompt) {
        int32_t source = note_of(d, s, s->n_ready)->source, media = s->start.media_rows;
        if (source < media ? source >= s->n_hidden : source - media >= s->n_text) {
            break;
        }
        s->n_ready++;
    }
    if (s->n_ready > before) {
        s->grown_us = clock_us();
    }
}

static bool prompt_row_is_sound(const talker_desk *d, const session *s, int32_t code, bool media)
{
    int32_t n_text = s->n_prompt - s->n_prompt_media;
    return s->n_prompt < s->start.rows && code >= -1 && code < d->m->talker.vocab_size &&
           (media ? s->n_prompt_media < s->start.media_rows : n_text < prompt_text(s));
}

flo_code talker_desk_prompt(talker_desk *d, uint64_t id, int32_t n, const int32_t *codes,
                            const int *media, const float *positions, flo_err *err)
{
    session *s = find(d, id);
    for (int32_t i = 0; s != NULL && i < n; i++) {
        row_note note = {.code = codes[i],
                         .axes = {positions[i], positions[n + i], positions[2 * n + i]}};
        bool finite = isfinite(note.axes[0]) && isfinite(note.axes[1]) && isfinite(note.axes[2]);
        if (!finite || !prompt_row_is_sound(d, s, codes[i], media[i] != 0)) {
            return flo_fail(err, FLO_FAIL,
                            "row %d of the prompt of speech session %llu is not of the %d rows (%d "
                            "of media) that were announced, or has numbers out of range",
                            s->n_prompt, (unsigned long long)id, s->start.rows,
                            s->start.media_rows);
        }
        note.source =
            media[i] ? s->n_prompt_media : s->start.media_rows + s->n_prompt - s->n_prompt_media;
        s->n_prompt_media += media[i] != 0;
        *note_of(d, s, s->n_prompt++) = note;
    }
    if (s != NULL) {
        count_ready(d, s);
    }
    return FLO_OK;
}

static flo_code out_of_order(uint64_t id, const char *what, int64_t first, int64_t due,
                             flo_err *err)
{
    return flo_fail(err, FLO_FAIL,
                    "%s of speech session %llu came from %lld on where %lld was due, or more of it "
                    "than there can be",
                    what, (unsigned long long)id, (long long)first, (long long)due);
}

/* Puts projected text in its place: tts_pad apart, what no frame can carry nowhere. */
static void keep_text(talker_desk *d, session *s, int32_t n)
{
    size_t row = floats(1, d->m->talker.hidden_size);
    for (int32_t i = 0; i < n; i++) {
        const float *from = d->projected + (size_t)i * (size_t)d->m->talker.hidden_size;
        if (s->n_text_seen + i == 0) {
            memcpy(s->pad, from, row);
            tell(d, s, "tts_pad_embed", 0, 1, s->pad);
        } else if (s->n_text < text_max(s)) {
            memcpy(row_of(d, s, s->start.media_rows + s->n_text++), from, row);
        }
    }
    int64_t skip = prompt_text(s) + 1 - s->n_text_seen;
    skip = skip > 0 ? skip : 0;
    if (skip < n) {
        tell(d, s, "trailing_text_hidden", (int32_t)(s->n_text_seen + skip - 1 - prompt_text(s)),
             n - (int32_t)skip, d->projected + (size_t)skip * (size_t)d->m->talker.hidden_size);
    }
}

flo_code talker_desk_text(talker_desk *d, uint64_t id, int64_t first, int32_t n, const float *rows,
                          bool last, flo_err *err)
{
    session *s = find(d, id);
    if (s == NULL) {
        return FLO_OK;
    }
    bool fits = n >= 0 && n <= STEP_ROWS_MAX && first <= INT32_MAX - STEP_ROWS_MAX;
    if (!fits || first != s->n_text_seen || s->text_complete) {
        return out_of_order(id, "text", first, s->n_text_seen, err);
    }
    bool kept = s->start.dump || s->n_text < text_max(s);
    if (n > 0 && kept) {
        talker_project(d->talker, d->projected, rows, n, TALKER_TEXT);
        keep_text(d, s, n);
    }
    s->n_text_seen += n;
    s->text_complete = last;
    if (last && (s->n_text_seen == 0 || s->n_text < prompt_text(s))) {
        return flo_fail(err, FLO_FAIL,
                        "the text of speech session %llu ended before its prompt did",
                        (unsigned long long)id);
    }
    count_ready(d, s);
    if (last && s->state == SESSION_TOLD) {
        forget(d, s);
    }
    return FLO_OK;
}

flo_code talker_desk_hidden(talker_desk *d, uint64_t id, int64_t first, int32_t n,
                            const float *rows, flo_err *err)
{
    session *s = find(d, id);
    if (s == NULL) {
        return FLO_OK;
    }
    if (n <= 0 || n > STEP_ROWS_MAX || first != s->n_hidden ||
        n > s->start.media_rows - s->n_hidden) {
        return out_of_order(id, "a hidden state", first, s->n_hidden, err);
    }
    size_t hidden = (size_t)d->m->talker.hidden_size;
    talker_project(d->talker, d->projected, rows, n, TALKER_HIDDEN);
    for (int32_t i = 0; i < n; i++) {
        memcpy(row_of(d, s, s->n_hidden++), d->projected + (size_t)i * hidden,
               hidden * sizeof(float));
    }
    count_ready(d, s);
    return FLO_OK;
}

/* --- who is in a step --------------------------------------------------------------------------
 */

/* Rows of the prompt that are worth a step now. The last row is the first of the answer and comes
 * when the thinker has it, so all before it are not kept waiting. */
static int32_t prompt_chunk(const session *s, int64_t now_us)
{
    int32_t n = s->n_ready - s->n_done;
    bool settled =
        s->n_ready >= s->start.rows - 1 || n >= STEP_ROWS_MAX || now_us - s->grown_us > PATIENCE_US;
    return s->state == SESSION_PROMPT && settled ? n : 0;
}

/* A frame's row needs the text that it carries: text, or tts_pad behind the last. */
static bool frame_is_ready(const session *s)
{
    return s->state == SESSION_MADE &&
           (s->n_text >= prompt_text(s) + s->n_frames || s->text_complete);
}

bool talker_desk_ready(const talker_desk *d, int64_t now_us)
{
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        const session *s = &d->sessions[i];
        if (frame_is_ready(s) || prompt_chunk(s, now_us) > 0) {
            return true;
        }
    }
    return false;
}

static flo_code join(talker_desk *d, session *s, int32_t first, int32_t n, flo_err *err)
{
    int32_t slot;
    flo_code code =
        kv_cache_extend(talker_cache(d->talker), s->start.session, first, n, &slot, err);
    if (code != FLO_OK) {
        flo_context(err, "talker");
        return code;
    }
    d->members[d->n_members++] = (member){s, d->n_rows, n};
    for (int32_t i = 0; i < n; i++) {
        d->places[d->n_rows + i] = (step_row){.slot = slot, .position = first + i};
    }
    return FLO_OK;
}

static float *step_row_of(const talker_desk *d, int32_t row)
{
    return d->x + (size_t)row * (size_t)d->m->talker.hidden_size;
}

/* The sum of the frame's codes, and its text. */
static flo_code join_frame(talker_desk *d, session *s, flo_err *err)
{
    int32_t frame = s->n_frames - 1, text = prompt_text(s) + frame;
    const float *said = text < s->n_text ? row_of(d, s, s->start.media_rows + text) : s->pad;
    flo_code code = join(d, s, s->start.rows + frame, 1, err);
    float *x = step_row_of(d, d->n_rows);
    memcpy(x, s->sums, floats(1, d->m->talker.hidden_size));
    kernels()->add(x, said, d->m->talker.hidden_size);
    for (int32_t axis = 0; axis < 3; axis++) {
        d->axes[axis][d->n_rows] = s->start.next_position + (float)frame;
    }
    d->n_rows++;
    return code;
}

static flo_code join_prompt(talker_desk *d, session *s, int32_t n, flo_err *err)
{
    flo_code code = join(d, s, s->n_done, n, err);
    for (int32_t i = 0; i < n; i++, d->n_rows++) {
        const row_note *note = note_of(d, s, s->n_done + i);
        float *x = step_row_of(d, d->n_rows);
        const float *from = row_of(d, s, note->source);
        if (note->code >= 0) {
            talker_code_row(d->talker, x, note->code);
            kernels()->add(x, from, d->m->talker.hidden_size);
        } else {
            memcpy(x, from, floats(1, d->m->talker.hidden_size));
        }
        for (int32_t axis = 0; axis < 3; axis++) {
            d->axes[axis][d->n_rows] = note->axes[axis];
        }
    }
    tell(d, s, "talker_prefill_embeds", s->n_done, n, step_row_of(d, d->n_rows - n));
    return code;
}

static bool anyone_speaks(const talker_desk *d)
{
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        session_state state = d->sessions[i].state;
        if (state == SESSION_DRAWN || state == SESSION_OUT || state == SESSION_MADE) {
            return true;
        }
    }
    return false;
}

/* Frames first, then prompts in turn. */
static flo_code gather_members(talker_desk *d, int64_t now_us, flo_err *err)
{
    flo_code code = FLO_OK;
    int32_t limit = anyone_speaks(d) ? SHARED_ROWS : STEP_ROWS_MAX;
    d->n_rows = d->n_members = 0;
    for (int32_t i = 0; i < SPEAKERS_MAX && code == FLO_OK; i++) {
        if (frame_is_ready(&d->sessions[i])) {
            code = join_frame(d, &d->sessions[i], err);
        }
    }
    int32_t end_row = d->n_rows + limit < STEP_ROWS_MAX ? d->n_rows + limit : STEP_ROWS_MAX;
    for (int32_t i = 0; i < SPEAKERS_MAX && d->n_rows < end_row && code == FLO_OK; i++) {
        session *s = &d->sessions[(d->turn + i) % SPEAKERS_MAX];
        int32_t n = prompt_chunk(s, now_us), room = end_row - d->n_rows;
        if (n > 0) {
            code = join_prompt(d, s, n < room ? n : room, err);
        }
    }
    d->turn = (d->turn + 1) % SPEAKERS_MAX;
    return code;
}

/* --- a step ------------------------------------------------------------------------------------
 */

static void tell_step(const talker_desk *d, const session *s, const char *what, int32_t first,
                      int32_t n, int32_t columns, const float *data)
{
    char name[64];
    if (s->start.dump) {
        snprintf(name, sizeof name, "step.%d.%s", s->n_draws, what);
        d->hooks.rows(d->hooks.arg, s->start.session, name, first, n, columns, false, data, false);
    }
}

/* Layers' tensors of the prompts that are dumped. */
static void dump_hook(void *arg, const char *name, const void *rows, int32_t columns, bool is_ids)
{
    talker_desk *d = arg;
    char full[80];
    snprintf(full, sizeof full, "talker_%s", name);
    for (int32_t i = 0; i < d->n_members; i++) {
        const member *m = &d->members[i];
        if (m->s->start.dump && m->s->state == SESSION_PROMPT) {
            const unsigned char *at = rows;
            d->hooks.rows(d->hooks.arg, m->s->start.session, full, m->s->n_done, m->n_rows, columns,
                          is_ids, at + (size_t)m->row * (size_t)columns * 4, false);
        }
    }
}

static void expert_send_hook(void *arg, int32_t layer, int32_t place, const expert_batch *batch)
{
    const talker_desk *d = arg;
    d->hooks.expert_send(d->hooks.arg, layer, place, batch);
}

static void expert_gather_hook(void *arg, int32_t layer, int32_t n_places, float *const *results,
                               const size_t *n_floats)
{
    const talker_desk *d = arg;
    d->hooks.expert_gather(d->hooks.arg, layer, n_places, results, n_floats);
}

static void progress_hook(void *arg)
{
    const talker_desk *d = arg;
    d->hooks.progress(d->hooks.arg);
}

static void forward(talker_desk *d)
{
    bool dump = false;
    for (int32_t i = 0; i < d->n_members; i++) {
        const member *m = &d->members[i];
        bool is_prompt = m->s->state == SESSION_PROMPT;
        dump = dump || (m->s->start.dump && is_prompt);
        tell_step(d, m->s, "input_embeds", is_prompt ? m->s->n_done : 0, m->n_rows,
                  d->m->talker.hidden_size, step_row_of(d, m->row));
    }
    step_rows step = {
        .n_rows = d->n_rows, .rows = d->places, .axes = {d->axes[0], d->axes[1], d->axes[2]}};
    stage_hooks hooks = {.arg = d,
                         .expert_send = expert_send_hook,
                         .expert_gather = expert_gather_hook,
                         .dump = dump ? dump_hook : NULL,
                         .progress = progress_hook};
    d->hooks.step_begins(d->hooks.arg, d->n_steps++);
    talker_forward(d->talker, d->x, &step, &hooks);
}

/* Leaves the members whose last row asks for a first code, and gathers those rows. */
static void keep_drawing(talker_desk *d)
{
    size_t hidden = (size_t)d->m->talker.hidden_size;
    int32_t n = 0;
    for (int32_t i = 0; i < d->n_members; i++) {
        member m = d->members[i];
        if (m.s->state == SESSION_PROMPT) {
            m.s->n_done += m.n_rows;
            if (m.s->n_done < m.s->start.rows) {
                continue;
            }
        }
        memcpy(d->last_hidden + (size_t)n * hidden, step_row_of(d, m.row + m.n_rows - 1),
               hidden * sizeof(float));
        d->members[n++] = m;
    }
    d->n_members = n;
}

/* The index of the first draw of the session's next frame. */
static uint64_t draw_index(const talker_desk *d, const session *s)
{
    return (uint64_t)s->n_draws * (uint64_t)d->m->talker.n_code_groups;
}

static flo_code draw(talker_desk *d, session *s, const float *logits, int32_t *code, flo_err *err)
{
    for (int32_t i = 0; i < d->n_allowed; i++) {
        d->candidates[i] = logits[d->allowed[i]];
    }
    logit_row row = {.n = d->n_allowed, .ids = d->allowed, .logits = d->candidates};
    return sampler_choose(d->sampler, &s->start.how, &row, s->drawn, s->n_drawn, draw_index(d, s),
                          code, err);
}

static void remember(session *s, int32_t code)
{
    s->n_draws++;
    s->first_code = code;
    if (!s->is_drawn[code]) {
        s->is_drawn[code] = 1;
        s->drawn[s->n_drawn++] = code;
    }
}

/* One session's first code; its end where that is the end code or the last draw. */
static flo_code draw_first(talker_desk *d, session *s, const float *hidden, const float *logits,
                           flo_err *err)
{
    int32_t code;
    tell_step(d, s, "last_hidden", 0, 1, d->m->talker.hidden_size, hidden);
    tell_step(d, s, "logits", 0, 1, d->m->talker.vocab_size, logits);
    flo_code result = draw(d, s, logits, &code, err);
    if (result != FLO_OK) {
        flo_context(err, "speech session %llu", (unsigned long long)s->start.session);
        return result;
    }
    if (s->start.dump) {
        d->hooks.rows(d->hooks.arg, s->start.session, "first_codes", s->n_draws, 1, 1, true, &code,
                      false);
    }
    remember(s, code);
    if (code == d->m->talker.codec_eos || s->n_draws == s->start.max_draws) {
        end(d, s);
        return FLO_OK;
    }
    memcpy(s->hidden, hidden, floats(1, d->m->talker.hidden_size));
    talker_code_row(d->talker, s->first, code);
    s->state = SESSION_DRAWN;
    return FLO_OK;
}

flo_code talker_desk_step(talker_desk *d, int64_t now_us, flo_err *err)
{
    flo_code code = gather_members(d, now_us, err);
    if (code != FLO_OK || d->n_rows == 0) {
        return code;
    }
    forward(d);
    keep_drawing(d);
    if (d->n_members > 0) {
        talker_logits(d->talker, d->logits, d->last_hidden, d->n_members);
    }
    for (int32_t i = 0; i < d->n_members && code == FLO_OK; i++) {
        code = draw_first(d, d->members[i].s,
                          d->last_hidden + (size_t)i * (size_t)d->m->talker.hidden_size,
                          d->logits + (size_t)i * (size_t)d->m->talker.vocab_size, err);
    }
    return code;
}

/* --- frames to the predictor and back ----------------------------------------------------------
 */

bool talker_desk_wants_codes(const talker_desk *d)
{
    for (int32_t i = 0; i < SPEAKERS_MAX && d->n_out == 0; i++) {
        if (d->sessions[i].state == SESSION_DRAWN) {
            return true;
        }
    }
    return false;
}

int32_t talker_desk_out(const talker_desk *d)
{
    return d->n_out;
}

static void take(talker_desk *d, session *s)
{
    size_t hidden = (size_t)d->m->talker.hidden_size, at = (size_t)d->n_out * hidden;
    memcpy(d->out_hidden + at, s->hidden, hidden * sizeof(float));
    memcpy(d->out_firsts + at, s->first, hidden * sizeof(float));
    d->out_how[d->n_out] =
        (predictor_choice){.greedy = s->start.how.temperature == 0,
                           .seed = s->start.how.seed,
                           .draw = draw_index(d, s) - (uint64_t)d->m->talker.n_code_groups + 1};
    d->out_sessions[d->n_out] = s->start.session;
    d->out[d->n_out++] = s;
    s->state = SESSION_OUT;
    if (s->n_frames == 0) {
        tell(d, s, "predictor_input", 0, 1, s->hidden);
        tell(d, s, "predictor_input", 1, 1, s->first);
    }
}

desk_job talker_desk_take(talker_desk *d)
{
    CHECK(d->n_out == 0);
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        if (d->sessions[i].state == SESSION_DRAWN) {
            take(d, &d->sessions[i]);
        }
    }
    return (desk_job){.n = d->n_out,
                      .hidden = d->out_hidden,
                      .firsts = d->out_firsts,
                      .how = d->out_how,
                      .sessions = d->out_sessions};
}

/* A frame of a session: its first code and the predictor's. */
static void finish_frame(talker_desk *d, session *s, const int32_t *codes, const float *sums)
{
    int32_t frame[CODE_GROUPS_MAX], groups = d->m->talker.n_code_groups;
    frame[0] = s->first_code;
    memcpy(frame + 1, codes, (size_t)(groups - 1) * sizeof *frame);
    memcpy(s->sums, sums, floats(1, d->m->talker.hidden_size));
    desk_frame f = {.session = s->start.session,
                    .index = s->n_frames++,
                    .codes = frame,
                    .exact = s->start.exact,
                    .dump = s->start.dump};
    d->hooks.frame(d->hooks.arg, &f);
    s->state = SESSION_MADE;
}

flo_code talker_desk_codes(talker_desk *d, const int32_t *codes, const float *sums, flo_err *err)
{
    size_t n_codes = (size_t)d->m->talker.n_code_groups - 1;
    for (size_t i = 0; i < (size_t)d->n_out * n_codes; i++) {
        if (codes[i] < 0 || codes[i] >= d->m->code_predictor.vocab_size) {
            return flo_fail(err, FLO_FAIL, "the code predictor answered with a code %d of %d",
                            codes[i], d->m->code_predictor.vocab_size);
        }
    }
    int32_t n = d->n_out;
    d->n_out = 0;
    for (int32_t i = 0; i < n; i++) {
        session *s = d->out[i];
        if (s->cancelled) {
            end(d, s);
        } else {
            finish_frame(d, s, codes + (size_t)i * n_codes,
                         sums + (size_t)i * (size_t)d->m->talker.hidden_size);
        }
    }
    return FLO_OK;
}

/*
 * talker_desk.c - see talker_desk.h: memory, what arrives, and the end of a session.
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
#include "worker/speech/talker_session.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

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
    size_t row = session_row_bytes(d), vocab = (size_t)d->m->talker.vocab_size;
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

/* Codes of the codebook, and the end code. */
static void list_allowed(talker_desk *d)
{
    const talker_config *t = &d->m->talker;
    int32_t n = model_first_codes(t);
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

void session_tell(const talker_desk *d, const session *s, const char *name, int32_t first,
                  int32_t n, const float *data)
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

void session_end(talker_desk *d, session *s)
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
        session_end(d, s);
    }
}

/* --- what arrives ------------------------------------------------------------------------------
 */

static int32_t text_max(const session *s)
{
    return session_prompt_text(s) + s->start.max_draws - 1;
}

static bool start_is_sound(const desk_start *s)
{
    const sampling *how = &s->how;
    return s->rows > 0 && s->media_rows >= 0 && s->media_rows <= s->rows && s->max_draws > 0 &&
           isfinite(s->next_position) && isfinite(how->temperature) && how->temperature >= 0 &&
           how->top_k >= 0 && how->top_p >= 0 && how->top_p <= 1 && how->min_p == 0 &&
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
        int32_t source = row_list_note(&s->rows, &d->rows, s->n_ready)->source,
                media = s->start.media_rows;
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
           (media ? s->n_prompt_media < s->start.media_rows : n_text < session_prompt_text(s));
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
        *row_list_note(&s->rows, &d->rows, s->n_prompt++) = note;
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
    size_t row = session_row_bytes(d);
    for (int32_t i = 0; i < n; i++) {
        const float *from = d->projected + (size_t)i * (size_t)d->m->talker.hidden_size;
        if (s->n_text_seen + i == 0) {
            memcpy(s->pad, from, row);
            session_tell(d, s, "tts_pad_embed", 0, 1, s->pad);
        } else if (s->n_text < text_max(s)) {
            memcpy(session_row(d, s, s->start.media_rows + s->n_text++), from, row);
        }
    }
    int64_t skip = session_prompt_text(s) + 1 - s->n_text_seen;
    skip = skip > 0 ? skip : 0;
    if (skip < n) {
        session_tell(d, s, "trailing_text_hidden",
                     (int32_t)(s->n_text_seen + skip - 1 - session_prompt_text(s)),
                     n - (int32_t)skip,
                     d->projected + (size_t)skip * (size_t)d->m->talker.hidden_size);
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
    if (last && (s->n_text_seen == 0 || s->n_text < session_prompt_text(s))) {
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
        memcpy(session_row(d, s, s->n_hidden++), d->projected + (size_t)i * hidden,
               hidden * sizeof(float));
    }
    count_ready(d, s);
    return FLO_OK;
}

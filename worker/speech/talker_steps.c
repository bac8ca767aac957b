/*
 * talker_steps.c - see talker_desk.h: which sessions share a step, what they draw, and their frames
 * on the way to the predictor and back.
 */
#include "common/check.h"
#include "worker/speech/talker_session.h"

#include <stdio.h>
#include <string.h>

enum {
    PATIENCE_US = 20000, /* a growing prompt that has not grown for so long is taken as it is */
    SHARED_ROWS = 64,    /* of a prompt in a step while others speak: they wait for its end */
};

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
           (s->n_text >= session_prompt_text(s) + s->n_frames || s->text_complete);
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
    int32_t frame = s->n_frames - 1, text = session_prompt_text(s) + frame;
    const float *said = text < s->n_text ? session_row(d, s, s->start.media_rows + text) : s->pad;
    flo_code code = join(d, s, s->start.rows + frame, 1, err);
    float *x = step_row_of(d, d->n_rows);
    memcpy(x, s->sums, session_row_bytes(d));
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
        const row_note *note = row_list_note(&s->rows, &d->rows, s->n_done + i);
        float *x = step_row_of(d, d->n_rows);
        const float *from = session_row(d, s, note->source);
        if (note->code >= 0) {
            talker_code_row(d->talker, x, note->code);
            kernels()->add(x, from, d->m->talker.hidden_size);
        } else {
            memcpy(x, from, session_row_bytes(d));
        }
        for (int32_t axis = 0; axis < 3; axis++) {
            d->axes[axis][d->n_rows] = note->axes[axis];
        }
    }
    session_tell(d, s, "talker_prefill_embeds", s->n_done, n, step_row_of(d, d->n_rows - n));
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
        session_end(d, s);
        return FLO_OK;
    }
    memcpy(s->hidden, hidden, session_row_bytes(d));
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
                           .draw = draw_index(d, s) - (uint64_t)d->m->talker.n_code_groups + 1,
                           .listener = s->start.dump && s->n_frames == 0 ? s->start.session : 0};
    d->out_sessions[d->n_out] = s->start.session;
    d->out[d->n_out++] = s;
    s->state = SESSION_OUT;
    if (s->n_frames == 0) {
        session_tell(d, s, "predictor_input", 0, 1, s->hidden);
        session_tell(d, s, "predictor_input", 1, 1, s->first);
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
    memcpy(s->sums, sums, session_row_bytes(d));
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
            session_end(d, s);
        } else {
            finish_frame(d, s, codes + (size_t)i * n_codes,
                         sums + (size_t)i * (size_t)d->m->talker.hidden_size);
        }
    }
    return FLO_OK;
}

/*
 * check_talker_desk.c - the desk says what the reference says (tests/golden/speech), whatever order
 * its input comes in and whoever else speaks; sessions end once, in every state; what is out of
 * bounds is refused; its memory is within what the plan reckons.
 */
#include "tests/unit/worker/encoders/encoder_cases.h"
#include "tests/unit/worker/speech/speech_case.h"

#include "common/speech_room.h"
#include "worker/kernels/kernels.h"
#include "worker/speech/talker_desk.h"

#include <math.h>
#include <string.h>

enum { TOKENS = 2048, FRAMES_MAX = 128, GROUPS = 16, NAMES_MAX = 64 };

/* --- a talker's home in one process ------------------------------------------------------------
 */

typedef struct heard { /* of a session */
    uint64_t session;
    const speech_case *c; /* what its dump is held against; NULL: nothing */
    int32_t n_frames, n_ends;
    bool cancelled, rows_over;
    int32_t frames[FRAMES_MAX][GROUPS];
    int32_t n_compared; /* rows of recorded tensors */
    int32_t n_draws;
    int32_t draws[FRAMES_MAX];
    float logits[2048]; /* told last */
} heard;

static model_config model;
static checkpoint *weights;
static plan the_plan;
static thread_pool *pool;
static talker *the_talker;
static predictor *the_predictor;
static talker_desk *desk;
static heard listeners[64];
static int32_t n_listeners;

static void must(flo_code code)
{
    if (code != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

static heard *listener_of(uint64_t session)
{
    for (int32_t i = 0; i < n_listeners; i++) {
        if (listeners[i].session == session) {
            return &listeners[i];
        }
    }
    fail_msg("session %llu is nobody's", (unsigned long long)session);
    return NULL;
}

static void frame_hook(void *arg, const desk_frame *f)
{
    (void)arg;
    heard *h = listener_of(f->session);
    assert_int_equal(h->n_ends, 0);
    assert_int_equal(f->index, h->n_frames);
    if (f->codes != NULL) {
        assert_false(f->last);
        assert_true(h->n_frames < FRAMES_MAX);
        memcpy(h->frames[h->n_frames++], f->codes, sizeof h->frames[0]);
    } else {
        assert_true(f->last);
        h->n_ends++;
        h->cancelled = f->cancelled;
    }
}

static void rows_hook(void *arg, uint64_t session, const char *name, int32_t first, int32_t n,
                      int32_t columns, bool is_ids, const void *data, bool last)
{
    (void)arg;
    heard *h = listener_of(session);
    assert_false(h->rows_over);
    h->rows_over = last;
    if (last) {
        return;
    }
    if (strcmp(name, "first_codes") == 0) {
        assert_int_equal(first, h->n_draws);
        h->draws[h->n_draws++] = *(const int32_t *)data;
    }
    if (strstr(name, "logits") != NULL && strncmp(name, "step.", 5) == 0) {
        memcpy(h->logits, data, (size_t)columns * sizeof *h->logits);
    }
    if (h->c != NULL && speech_case_holds(h->c, name, first, n, columns, is_ids, data)) {
        h->n_compared += n;
    }
}

static void step_hook(void *arg, uint64_t step)
{
    (void)arg;
    (void)step;
}

static void progress_hook(void *arg)
{
    (void)arg;
}

static void open_desk(void)
{
    desk_hooks hooks = {.frame = frame_hook,
                        .rows = rows_hook,
                        .step_begins = step_hook,
                        .progress = progress_hook};
    must(talker_desk_open(&desk, the_talker, &model, the_plan.talker_tokens, &hooks, &err));
    n_listeners = 0;
}

static void ignore_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    (void)done;
    (void)total;
}

static int open_all(void **state)
{
    load_watch watch = {ignore_progress, NULL};
    (void)state;
    weights_source source = {0};
    must(kernels_init(&err));
    must(model_config_read(&model, golden_path("tiny-omni"), &err));
    must(checkpoint_open(&weights, golden_path("tiny-omni"), &err));
    source.checkpoint = weights;
    pool = pool_of(2);
    the_plan.n_workers = 1;
    the_plan.talker_tokens = TOKENS;
    the_plan.workers[0].has_talker = true;
    the_plan.workers[0].n_talker_experts = model.talker.n_experts;
    must(talker_open(&the_talker, &model, &the_plan, &the_plan.workers[0], pool, &err));
    must(talker_load(the_talker, &source, &watch, &err));
    must(predictor_open(&the_predictor, &model.code_predictor, pool, &err));
    must(predictor_load(the_predictor, &source, &watch, &err));
    open_desk();
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    talker_desk_close(desk);
    predictor_close(the_predictor);
    talker_close(the_talker);
    thread_pool_free(pool);
    checkpoint_close(weights);
    return 0;
}

/* --- sessions as they come ---------------------------------------------------------------------
 */

typedef struct speaker_job { /* what of a session has been brought */
    const speech_case *c;
    desk_start start;
    int32_t n_prompt, n_texts, n_hidden;
} speaker_job;

static desk_start start_of(const speech_case *c, uint64_t session)
{
    return (desk_start){.session = session,
                        .rows = c->n_rows,
                        .media_rows = c->n_media,
                        .next_position = c->next_position,
                        .how = {.top_p = 1, .repetition_penalty = 1.05},
                        .max_draws = c->max_draws};
}

static heard *begin(speaker_job *j, const speech_case *c, const desk_start *start)
{
    heard *h = &listeners[n_listeners++];
    assert_true(n_listeners <= 64);
    *h = (heard){.session = start->session, .c = start->dump ? c : NULL};
    *j = (speaker_job){.c = c, .start = *start};
    must(talker_desk_start(desk, start, &err));
    return h;
}

static void bring_prompt(speaker_job *j, int32_t n)
{
    const speech_case *c = j->c;
    float positions[3 * STEP_ROWS_MAX];
    for (int32_t axis = 0; axis < 3; axis++) {
        memcpy(positions + axis * n, c->positions + axis * c->n_rows + j->n_prompt,
               (size_t)n * sizeof *positions);
    }
    must(talker_desk_prompt(desk, j->start.session, n, c->codes + j->n_prompt,
                            c->media + j->n_prompt, positions, &err));
    j->n_prompt += n;
}

static void bring_text(speaker_job *j, int32_t n)
{
    static float rows[STEP_ROWS_MAX * 256];
    int32_t first = j->n_texts;
    assert_true(model.text.hidden_size <= 256);
    speech_case_embed(rows, weights, &model, j->c->texts + first, n);
    j->n_texts += n;
    must(talker_desk_text(desk, j->start.session, first, n, rows, j->n_texts == j->c->n_texts,
                          &err));
}

static void bring_hidden(speaker_job *j, int32_t n)
{
    must(talker_desk_hidden(desk, j->start.session, j->n_hidden, n,
                            j->c->hidden + (size_t)(j->n_hidden * model.text.hidden_size), &err));
    j->n_hidden += n;
}

static void bring_all(speaker_job *j)
{
    bring_prompt(j, j->c->n_rows);
    if (j->c->n_media > 0) {
        bring_hidden(j, j->c->n_media);
    }
    bring_text(j, j->c->n_texts);
}

/* A piece of what is still to come, of some kind; false: all is there. */
static bool bring_some(speaker_job *j, uint64_t *seed)
{
    int32_t left[3] = {j->c->n_rows - j->n_prompt, j->c->n_texts - j->n_texts,
                       j->c->n_media - j->n_hidden};
    int32_t kind = speech_case_below(seed, 3);
    for (int32_t i = 0; i < 3 && left[kind] == 0; i++) {
        kind = (kind + 1) % 3;
    }
    if (left[kind] == 0) {
        return false;
    }
    int32_t n = 1 + speech_case_below(seed, left[kind] < 7 ? left[kind] : 7);
    (kind == 0 ? bring_prompt : kind == 1 ? bring_text : bring_hidden)(j, n);
    return true;
}

static void predict(void)
{
    bool done = false;
    desk_job job = talker_desk_take(desk);
    assert_true(job.n > 0 && job.n == talker_desk_out(desk));
    predictor_begin(the_predictor, job.hidden, job.firsts, job.how, job.n);
    while (!done) {
        must(predictor_advance(the_predictor, &done, &err));
    }
    must(talker_desk_codes(desk, predictor_codes(the_predictor), predictor_sums(the_predictor),
                           &err));
}

/* A step or a frame; false: there is nothing to do. */
static bool work(int64_t now_us)
{
    if (talker_desk_ready(desk, now_us)) {
        must(talker_desk_step(desk, now_us, &err));
        return true;
    }
    if (talker_desk_wants_codes(desk)) {
        predict();
        return true;
    }
    return false;
}

static void work_off(void)
{
    while (work(INT64_MAX)) {
    }
}

/* One session by itself, everything there at once. */
static heard *speak_alone(const speech_case *c, const desk_start *start)
{
    speaker_job j;
    heard *h = begin(&j, c, start);
    bring_all(&j);
    work_off();
    assert_int_equal(h->n_ends, 1);
    assert_int_equal(talker_desk_sessions(desk), 0);
    return h;
}

static void hold_frames(const heard *h, const int32_t *frames, int32_t n)
{
    assert_int_equal(h->n_ends, 1);
    assert_false(h->cancelled);
    assert_int_equal(h->n_frames, n);
    assert_memory_equal(h->frames, frames, (size_t)n * sizeof h->frames[0]);
}

/* --- what is said ------------------------------------------------------------------------------
 */

static const char *const case_names[] = {"text", "text-two-turns", "audio", "image"};
enum { N_CASES = 4 };

static void the_reference_s_frames_are_said(void **state)
{
    (void)state;
    for (int32_t i = 0; i < N_CASES; i++) {
        speech_case c;
        n_listeners = 0;
        speech_case_open(&c, &model, case_names[i]);
        desk_start start = start_of(&c, 5);
        start.dump = true;
        heard *h = speak_alone(&c, &start);
        hold_frames(h, c.frames, c.n_frames);
        assert_true(h->rows_over);
        /* Both names of the prompt's rows, the trail, tts_pad, 4 steps' last rows and logits,
         * inputs of 3, all first codes, the predictor's input; 5 + 2 * 4 tensors of layers for
         * "text". */
        int32_t n_trail = c.n_texts - 1 - (c.n_rows - c.n_media);
        assert_int_equal(h->n_compared, 2 * c.n_rows + n_trail + 1 + 4 * 2 + 3 + h->n_draws + 2 +
                                            (i == 0 ? 13 * c.n_rows : 0));
        speech_case_close(&c);
    }
}

static void pieces_in_any_order_say_the_same(void **state)
{
    (void)state;
    uint64_t seed = 17;
    for (int32_t again = 0; again < 5 * N_CASES; again++) {
        speech_case c;
        speaker_job j;
        n_listeners = 0;
        speech_case_open(&c, &model, case_names[again % N_CASES]);
        desk_start start = start_of(&c, 1);
        heard *h = begin(&j, &c, &start);
        while (bring_some(&j, &seed)) {
            for (int32_t n = speech_case_below(&seed, 3); n > 0; n--) {
                work(speech_case_below(&seed, 2) > 0 ? INT64_MAX : 0);
            }
        }
        work_off();
        hold_frames(h, c.frames, c.n_frames);
        speech_case_close(&c);
    }
}

enum { SPEAKERS = 10 };

static void draw_speakers(speech_case *cases, desk_start *starts)
{
    for (int32_t i = 0; i < SPEAKERS; i++) {
        uint64_t seed = (uint64_t)(100 + i);
        speech_case_draw(&cases[i], &model, 3 + 11 * i, i % 3 == 0 ? 0 : 2 + i, 1 + 3 * i, seed);
        cases[i].max_draws = 6 + 2 * i;
        starts[i] = start_of(&cases[i], (uint64_t)(i + 1));
        starts[i].how.temperature = i % 2 == 0 ? 0.9 : 1.5;
        starts[i].how.top_k = i % 4 == 0 ? 0 : 20;
        starts[i].how.top_p = i % 5 == 0 ? 0.9 : 1;
        starts[i].how.seed = seed * 7;
    }
}

/* They come and go at different times, so all mixtures of prompts and frames share steps. */
static void speak_together(const speech_case *cases, const desk_start *starts, uint64_t seed)
{
    speaker_job jobs[SPEAKERS];
    int32_t n_begun = 0;
    bool left = true;
    n_listeners = 0;
    while (left || n_begun < SPEAKERS) {
        if (n_begun < SPEAKERS && speech_case_below(&seed, 4) == 0) {
            begin(&jobs[n_begun], &cases[n_begun], &starts[n_begun]);
            n_begun++;
        }
        left = false;
        for (int32_t i = 0; i < n_begun; i++) {
            left = bring_some(&jobs[i], &seed) || left;
        }
        for (int32_t n = speech_case_below(&seed, 4); n > 0; n--) {
            work(INT64_MAX);
        }
    }
    work_off();
}

static void ten_speakers_say_what_each_says_alone(void **state)
{
    (void)state;
    static heard alone[SPEAKERS];
    speech_case cases[SPEAKERS];
    desk_start starts[SPEAKERS];
    draw_speakers(cases, starts);
    for (int32_t i = 0; i < SPEAKERS; i++) {
        n_listeners = 0;
        alone[i] = *speak_alone(&cases[i], &starts[i]);
        assert_true(i == 0 ||
                    memcmp(alone[i].frames, alone[0].frames, sizeof(alone[i].frames)) != 0);
    }
    for (uint64_t seed = 1; seed <= 4; seed++) {
        speak_together(cases, starts, seed);
        assert_int_equal(talker_desk_sessions(desk), 0);
        for (int32_t i = 0; i < SPEAKERS; i++) {
            hold_frames(listener_of(starts[i].session), alone[i].frames[0], alone[i].n_frames);
        }
    }
    for (int32_t i = 0; i < SPEAKERS; i++) {
        speech_case_close(&cases[i]);
    }
}

/* Every first code of an answer, drawn again from the logits that were told. Returns their number.
 */
static int32_t draw_again(const speech_case *c, const desk_start *start, sampler *s,
                          const int32_t *allowed, int32_t n_allowed)
{
    speaker_job j;
    float candidates[2048];
    int32_t n_drawn = 0, id;
    n_listeners = 0;
    heard *h = begin(&j, c, start);
    h->c = NULL; /* not as recorded */
    bring_all(&j);
    while (work(INT64_MAX)) {
        for (int32_t i = 0; i < n_allowed; i++) {
            candidates[i] = h->logits[allowed[i]];
        }
        if (h->n_draws > n_drawn) {
            logit_row row = {.n = n_allowed, .ids = allowed, .logits = candidates};
            must(sampler_choose(s, &start->how, &row, h->draws, n_drawn,
                                (uint64_t)(n_drawn * GROUPS), &id, &err));
            assert_int_equal(id, h->draws[n_drawn]);
            n_drawn++;
        }
    }
    assert_int_equal(h->n_frames, n_drawn - 1);
    return n_drawn;
}

/* Of the whole vocabulary the codebook's and the end code may be drawn, by what was drawn before,
 * with one number for each first code of GROUPS. */
static void first_codes_are_drawn_by_the_rule(void **state)
{
    (void)state;
    speech_case c;
    sampler *s;
    int32_t allowed[2048], n_allowed = 0, n_drawn = 0;
    speech_case_open(&c, &model, "text");
    for (int32_t i = 0; i < model.talker.vocab_size - 1024; i++) {
        allowed[n_allowed++] = i;
    }
    allowed[n_allowed++] = model.talker.codec_eos;
    must(sampler_new(&s, model.talker.vocab_size, &err));
    for (uint64_t seed = 1; seed <= 8; seed++) {
        desk_start start = start_of(&c, seed);
        start.dump = true;
        start.how = (sampling){.temperature = 0.7,
                               .top_k = seed % 2 == 0 ? 12 : 0,
                               .top_p = 1,
                               .repetition_penalty = 1.6,
                               .seed = seed};
        n_drawn += draw_again(&c, &start, s, allowed, n_allowed);
    }
    assert_true(n_drawn > 40);
    sampler_free(s);
    speech_case_close(&c);
}

static void a_frame_waits_for_its_text(void **state)
{
    (void)state;
    speech_case c;
    speaker_job j;
    n_listeners = 0;
    speech_case_open(&c, &model, "text");
    desk_start start = start_of(&c, 2);
    heard *h = begin(&j, &c, &start);
    bring_prompt(&j, c.n_rows);
    bring_text(&j,
               c.n_rows); /* tts_pad, and all but the prompt's last: that waits for the thinker */
    assert_true(talker_desk_ready(desk, 0));
    work_off();
    assert_int_equal(h->n_frames, 0);
    for (int32_t n = 1; j.n_texts < c.n_texts - 1; n++) { /* the prompt's last, then one a frame */
        bring_text(&j, 1);
        assert_true(talker_desk_ready(desk, 0));
        work_off();
        assert_int_equal(h->n_frames, n);
    }
    assert_int_equal(h->n_ends, 0);
    bring_text(&j, 1); /* tts_eos, and tts_pad from here on */
    work_off();
    hold_frames(h, c.frames, c.n_frames);
    speech_case_close(&c);
}

static void a_growing_prompt_is_left_to_grow(void **state)
{
    (void)state;
    speech_case c;
    speaker_job j;
    n_listeners = 0;
    speech_case_draw(&c, &model, 700, 0, 1, 8);
    c.max_draws = 2;
    desk_start start = start_of(&c, 2);
    heard *h = begin(&j, &c, &start);
    bring_prompt(&j, 300);
    bring_text(&j, 301);
    assert_false(talker_desk_ready(desk, 0));
    assert_true(talker_desk_ready(desk, INT64_MAX)); /* for ever, no */
    bring_prompt(&j, 400);
    assert_false(talker_desk_ready(desk, 0));
    bring_text(&j, 212);
    assert_true(talker_desk_ready(desk, 0)); /* a whole chunk is there */
    work_off();
    bring_text(&j, c.n_texts - j.n_texts);
    work_off();
    assert_int_equal(h->n_frames, 1);
    speech_case_close(&c);
}

static void the_limit_of_draws_ends_a_session(void **state)
{
    (void)state;
    for (int32_t most = 1; most < 6; most++) {
        speech_case c;
        n_listeners = 0;
        speech_case_draw(&c, &model, 5, 3, 30, 6); /* far more text than frames to carry it */
        c.max_draws = most;
        desk_start start = start_of(&c, 3);
        heard *h = speak_alone(&c, &start);
        assert_int_equal(h->n_frames, most - 1); /* the last draw has no frame */
        assert_false(h->cancelled);
        speech_case_close(&c);
    }
}

static void a_dump_has_the_text_behind_the_last_frame(void **state)
{
    (void)state;
    speech_case c;
    speaker_job j;
    n_listeners = 0;
    speech_case_draw(&c, &model, 5, 0, 30, 6);
    c.max_draws = 2;
    desk_start start = start_of(&c, 3);
    start.dump = true;
    heard *h = begin(&j, &c, &start);
    bring_prompt(&j, 5);
    bring_text(&j, 10);
    work_off();
    assert_int_equal(h->n_ends, 1); /* nobody waits for sound */
    assert_false(h->rows_over);
    bring_text(&j, c.n_texts - 10);
    assert_true(h->rows_over);
    assert_int_equal(talker_desk_sessions(desk), 0);
    speech_case_close(&c);
}

/* --- the end -----------------------------------------------------------------------------------
 */

/* After n_before pieces and works, at every point of its way. */
static void cancel_after(const speech_case *c, int32_t n_before, bool while_out)
{
    speaker_job j;
    uint64_t seed = 5;
    n_listeners = 0;
    desk_start start = start_of(c, (uint64_t)(1000 + n_before));
    heard *h = begin(&j, c, &start);
    for (int32_t i = 0; i < n_before; i++) {
        bring_some(&j, &seed);
        work(INT64_MAX);
    }
    if (while_out && talker_desk_wants_codes(desk)) {
        int32_t codes[GROUPS] = {0};
        float sums[256] = {0};
        talker_desk_take(desk);
        talker_desk_cancel(desk, start.session);
        assert_int_equal(h->n_ends, 0); /* its frame is still to come back */
        must(talker_desk_codes(desk, codes, sums, &err));
    } else {
        talker_desk_cancel(desk, start.session);
    }
    assert_int_equal(h->n_ends, 1);
    assert_int_equal(talker_desk_sessions(desk), 0);
    assert_false(talker_desk_ready(desk, INT64_MAX));
    assert_false(talker_desk_wants_codes(desk));
    /* What is still on its way is passed by. */
    talker_desk_cancel(desk, start.session);
    must(talker_desk_text(desk, start.session, 99, 1, NULL, false, &err));
    must(talker_desk_hidden(desk, start.session, 99, 1, NULL, &err));
    must(talker_desk_prompt(desk, start.session, 1, c->codes, c->media, c->positions, &err));
    assert_int_equal(h->n_ends, 1);
}

static void a_cancelled_session_ends_once(void **state)
{
    (void)state;
    speech_case c;
    speech_case_draw(&c, &model, 9, 4, 5, 12);
    c.max_draws = 9;
    for (int32_t n = 0; n < 30; n++) {
        cancel_after(&c, n, false);
        cancel_after(&c, n, true);
    }
    speech_case_close(&c);
}

/* --- what is refused ---------------------------------------------------------------------------
 */

static void starts_out_of_bounds_are_refused(void **state)
{
    (void)state;
    speech_case c;
    speech_case_draw(&c, &model, 5, 3, 2, 1);
    c.max_draws = 4;
    desk_start good = start_of(&c, 1), bad[14];
    for (size_t i = 0; i < 14; i++) {
        bad[i] = good;
    }
    bad[0].rows = 0;
    bad[1].rows = -1;
    bad[2].media_rows = -1;
    bad[3].media_rows = good.rows + 1;
    bad[4].max_draws = 0;
    bad[5].next_position = NAN;
    bad[6].how.temperature = -0.5;
    bad[7].how.temperature = NAN;
    bad[8].how.top_p = -0.1;
    bad[9].how.top_p = 1.5;
    bad[10].how.repetition_penalty = 0;
    bad[11].how.repetition_penalty = INFINITY;
    bad[12].rows = INT32_MAX; /* more than there is room for */
    bad[13].max_draws = TOKENS;
    for (size_t i = 0; i < 14; i++) {
        assert_int_equal(talker_desk_start(desk, &bad[i], &err), FLO_FAIL);
        assert_non_null(strstr(err.text, "session 1"));
        assert_int_equal(talker_desk_sessions(desk), 0);
    }
    n_listeners = 0;
    speaker_job j;
    begin(&j, &c, &good);
    assert_int_equal(talker_desk_start(desk, &good, &err), FLO_FAIL); /* twice */
    talker_desk_cancel(desk, good.session);
    speech_case_close(&c);
}

static void room_is_counted_and_given_back(void **state)
{
    (void)state;
    speech_case c;
    speaker_job jobs[SPEAKERS_MAX + 1];
    speech_case_draw(&c, &model, 60, 0, 2, 1);
    c.max_draws = 2 * KV_BLOCK - 60;
    for (int32_t again = 0; again < 3; again++) {
        n_listeners = 0;
        assert_int_equal(speech_room_tokens(c.n_rows, c.max_draws), 2 * KV_BLOCK);
        for (int32_t i = 0; i < TOKENS / (2 * KV_BLOCK); i++) {
            desk_start start = start_of(&c, (uint64_t)(i + 1));
            begin(&jobs[i], &c, &start);
        }
        desk_start more = start_of(&c, 99);
        assert_int_equal(talker_desk_start(desk, &more, &err), FLO_FAIL);
        for (int32_t i = 0; i < TOKENS / (2 * KV_BLOCK); i++) {
            talker_desk_cancel(desk, (uint64_t)(i + 1));
        }
    }
    c.max_draws = 1;
    n_listeners = 0;
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        desk_start start = start_of(&c, (uint64_t)(i + 1));
        begin(&jobs[i], &c, &start);
    }
    desk_start more = start_of(&c, 99);
    assert_int_equal(talker_desk_start(desk, &more, &err), FLO_FAIL);
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        talker_desk_cancel(desk, (uint64_t)(i + 1));
    }
    speech_case_close(&c);
}

static flo_code prompt_row(int32_t code, int media, float position)
{
    float positions[3] = {position, 0, 0};
    return talker_desk_prompt(desk, 1, 1, &code, &media, positions, &err);
}

static void input_that_was_not_announced_is_refused(void **state)
{
    (void)state;
    speech_case c;
    speaker_job j;
    static float rows[STEP_ROWS_MAX * 256];
    n_listeners = 0;
    speech_case_draw(&c, &model, 2, 1, 2, 1);
    c.max_draws = 4;
    desk_start start = start_of(&c, 1);
    begin(&j, &c, &start);
    assert_int_equal(prompt_row(model.talker.vocab_size, 0, 0), FLO_FAIL);
    assert_int_equal(prompt_row(-2, 0, 0), FLO_FAIL);
    assert_int_equal(prompt_row(-1, 0, NAN), FLO_FAIL);
    must(prompt_row(-1, 1, 0));
    assert_int_equal(prompt_row(-1, 1, 0), FLO_FAIL); /* one of media was announced */
    must(prompt_row(-1, 0, 0));
    must(prompt_row(-1, 0, 0));
    assert_int_equal(prompt_row(-1, 0, 0), FLO_FAIL);
    assert_int_equal(talker_desk_text(desk, 1, 1, 1, rows, false, &err), FLO_FAIL);
    assert_int_equal(talker_desk_text(desk, 1, 0, STEP_ROWS_MAX + 1, rows, false, &err), FLO_FAIL);
    assert_int_equal(talker_desk_text(desk, 1, 0, -1, rows, false, &err), FLO_FAIL);
    must(talker_desk_text(desk, 1, 0, 1, rows, false, &err));
    assert_int_equal(talker_desk_text(desk, 1, 0, 1, rows, false, &err), FLO_FAIL);
    assert_int_equal(talker_desk_text(desk, 1, 1, 1, rows, true, &err), FLO_FAIL); /* too little */
    assert_int_equal(talker_desk_hidden(desk, 1, 1, 1, rows, &err), FLO_FAIL);
    assert_int_equal(talker_desk_hidden(desk, 1, 0, 2, rows, &err), FLO_FAIL);
    assert_int_equal(talker_desk_hidden(desk, 1, 0, 0, rows, &err), FLO_FAIL);
    must(talker_desk_hidden(desk, 1, 0, 1, rows, &err));
    assert_int_equal(talker_desk_hidden(desk, 1, 1, 1, rows, &err), FLO_FAIL);
    talker_desk_cancel(desk, 1);
    speech_case_close(&c);
}

static void codes_out_of_range_are_refused(void **state)
{
    (void)state;
    speech_case c;
    speaker_job j;
    n_listeners = 0;
    speech_case_draw(&c, &model, 4, 0, 2, 1);
    c.max_draws = 4;
    desk_start start = start_of(&c, 1);
    begin(&j, &c, &start);
    bring_all(&j);
    must(talker_desk_step(desk, 0, &err));
    assert_int_equal(talker_desk_take(desk).n, 1);
    int32_t codes[GROUPS] = {0};
    float sums[256] = {0};
    codes[GROUPS - 2] = model.code_predictor.vocab_size;
    assert_int_equal(talker_desk_codes(desk, codes, sums, &err), FLO_FAIL);
    codes[GROUPS - 2] = -1;
    assert_int_equal(talker_desk_codes(desk, codes, sums, &err), FLO_FAIL);
    talker_desk_cancel(desk, 1);
    codes[GROUPS - 2] = 0;
    must(talker_desk_codes(desk, codes, sums, &err));
    speech_case_close(&c);
}

/* --- memory ------------------------------------------------------------------------------------
 */

static void its_memory_is_within_the_plan_s(void **state)
{
    (void)state;
    uint64_t seed = 1;
    model_config m = {.has_talker = true};
    for (int32_t again = 0; again < 500; again++) {
        talker_config *t = &m.talker;
        *t = (talker_config){.vocab_size = 1 + speech_case_below(&seed, 5000),
                             .hidden_size = 2 + speech_case_below(&seed, 2000),
                             .thinker_hidden_size = 1 + speech_case_below(&seed, 4000),
                             .n_layers = 1,
                             .n_heads = 1,
                             .n_kv_heads = 1,
                             .head_dim = 2,
                             .n_experts = 1,
                             .n_experts_per_token = 1,
                             .expert_size = 1,
                             .shared_expert_size = 1,
                             .projection_size = 1};
        int64_t tokens = KV_BLOCK * (1 + (int64_t)speech_case_below(&seed, 2000));
        size_t taken = talker_desk_bytes(&m, tokens) + sampler_bytes(t->vocab_size);
        assert_true(taken <= plan_talker_region_bytes(&m, tokens));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reference_s_frames_are_said),
        cmocka_unit_test(pieces_in_any_order_say_the_same),
        cmocka_unit_test(ten_speakers_say_what_each_says_alone),
        cmocka_unit_test(first_codes_are_drawn_by_the_rule),
        cmocka_unit_test(a_frame_waits_for_its_text),
        cmocka_unit_test(a_growing_prompt_is_left_to_grow),
        cmocka_unit_test(the_limit_of_draws_ends_a_session),
        cmocka_unit_test(a_dump_has_the_text_behind_the_last_frame),
        cmocka_unit_test(a_cancelled_session_ends_once),
        cmocka_unit_test(starts_out_of_bounds_are_refused),
        cmocka_unit_test(room_is_counted_and_given_back),
        cmocka_unit_test(input_that_was_not_announced_is_refused),
        cmocka_unit_test(codes_out_of_range_are_refused),
        cmocka_unit_test(its_memory_is_within_the_plan_s),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}

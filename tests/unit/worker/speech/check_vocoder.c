/*
 * check_vocoder.c - every frame becomes sound once, in order, whatever the pieces it arrives in:
 * without gaps, or with the reference's cuts; sessions take turns and do not mix; chunks grow; an
 * end or a cancel is always told.
 *
 * The network is a stand-in whose samples name the frame and the speaker they were made from.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "fake_code2wav.h"
#include "worker/speech/vocoder.h"

#include <stdlib.h>
#include <string.h>

enum { GROUPS = 3, CODEBOOK = 3000, FRAMES_MAX = 2000 };

static flo_err err;
static const code2wav_config config = {.codebook_size = CODEBOOK,
                                       .n_quantizers = GROUPS,
                                       .n_upsample_rates = 1,
                                       .upsample_rates = {FAKE_RATE / 2},
                                       .n_upsampling_ratios = 1,
                                       .upsampling_ratios = {2}};

typedef struct heard { /* of one session */
    float samples[FRAMES_MAX * FAKE_RATE];
    int64_t n_samples;
    int32_t n_frames, n_sounds;
    bool ended;
} heard;

typedef struct rig {
    code2wav *net;
    vocoder *vocoder;
    heard *of[SPEAKERS_MAX + 1]; /* by session number */
} rig;

static rig rig_open(void)
{
    rig r = {.net = fake_open(&config)};
    assert_int_equal(vocoder_open(&r.vocoder, r.net, &config, &err), FLO_OK);
    for (int32_t i = 0; i <= SPEAKERS_MAX; i++) {
        r.of[i] = calloc(1, sizeof *r.of[i]);
        assert_non_null(r.of[i]);
    }
    return r;
}

static void rig_close(rig *r)
{
    vocoder_close(r->vocoder);
    code2wav_close(r->net);
    for (int32_t i = 0; i <= SPEAKERS_MAX; i++) {
        free(r->of[i]);
    }
}

/* Frame f of a session. */
static void make_frame(int32_t *codes, int32_t session, int32_t f)
{
    codes[0] = f;
    codes[1] = session;
    codes[2] = (f + session) % CODEBOOK;
}

static flo_code push(rig *r, int32_t session, int32_t first, int32_t n, bool exact, bool last)
{
    int32_t codes[FRAMES_MAX * GROUPS];
    for (int32_t i = 0; i < n; i++) {
        make_frame(codes + i * GROUPS, session, first + i);
    }
    return vocoder_push(r->vocoder, (uint64_t)session, first, codes, n, exact, last, NULL, &err);
}

static void must_push(rig *r, int32_t session, int32_t first, int32_t n, bool exact, bool last)
{
    if (push(r, session, first, n, exact, last) != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

/* Codes are those of the session's next frames, samples follow on. */
static void take(rig *r, const vocoder_sound *sound)
{
    heard *h = r->of[sound->session];
    assert_false(h->ended);
    assert_int_equal(sound->first_sample, h->n_samples);
    for (int32_t i = 0; i < sound->n_frames; i++) {
        int32_t want[GROUPS];
        make_frame(want, (int32_t)sound->session, h->n_frames++);
        assert_memory_equal(sound->codes + i * GROUPS, want, sizeof want);
    }
    for (int32_t i = 0; i < sound->n_samples; i++) {
        h->samples[h->n_samples++] = sound->samples[i];
    }
    h->n_sounds++;
    h->ended = sound->last;
}

/* Computes until nothing can be; returns the number of sounds. */
static int32_t run(rig *r)
{
    vocoder_sound sound;
    int32_t n = 0;
    while (vocoder_busy(r->vocoder)) {
        if (vocoder_advance(r->vocoder, &sound)) {
            take(r, &sound);
            n++;
        }
    }
    assert_false(vocoder_advance(r->vocoder, &sound));
    return n;
}

/* The samples of n frames as the specification's 5.7 has them: one piece of the whole, or pieces of
 * CUT_FRAMES, each without the samples that its next frame would have made final. */
static int64_t expected(float *out, int32_t session, int32_t n_frames, bool exact)
{
    int32_t piece = exact ? CUT_FRAMES : FRAMES_MAX;
    int64_t n = 0;
    for (int32_t first = 0; first < n_frames; first += piece) {
        int32_t end = first + piece < n_frames ? first + piece : n_frames;
        for (int32_t t = first * FAKE_RATE; t < end * FAKE_RATE - FAKE_AHEAD; t++) {
            out[n++] = (float)(t + FAKE_SPEAKER * session);
        }
    }
    return n;
}

static void hold_session(const rig *r, int32_t session, int32_t n_frames, bool exact)
{
    static float want[FRAMES_MAX * FAKE_RATE];
    const heard *h = r->of[session];
    assert_true(h->ended);
    assert_int_equal(h->n_frames, n_frames);
    assert_int_equal(h->n_samples, expected(want, session, n_frames, exact));
    assert_memory_equal(h->samples, want, (size_t)h->n_samples * sizeof want[0]);
}

/* n frames in pieces of `piece`, computed after each; `last` with the last piece or after it. */
static void speak(int32_t n_frames, int32_t piece, bool exact, bool last_alone)
{
    rig r = rig_open();
    for (int32_t first = 0; first < n_frames; first += piece) {
        int32_t n = first + piece < n_frames ? piece : n_frames - first;
        must_push(&r, 5, first, n, exact, !last_alone && first + n == n_frames);
        run(&r);
    }
    if (last_alone) {
        assert_false(r.of[5]->ended);
        must_push(&r, 5, n_frames, 0, exact, true);
        run(&r);
    }
    hold_session(&r, 5, n_frames, exact);
    rig_close(&r);
}

/* --- whose samples -----------------------------------------------------------------------------
 */

static const int32_t lengths[] = {1,   2,   24,  25,  26,  274, 275, 299, 300,
                                  301, 306, 307, 308, 325, 599, 600, 601, 1000};
enum { N_LENGTHS = sizeof lengths / sizeof lengths[0] };

static void every_frame_is_heard_once_in_one_stream(void **state)
{
    (void)state;
    static const int32_t pieces[] = {1, 3, 32, 33, FRAMES_MAX};
    for (int32_t i = 0; i < N_LENGTHS; i++) {
        for (int32_t p = 0; p < 5; p++) {
            speak(lengths[i], pieces[p], false, p % 2 == 0);
        }
    }
}

static void exact_sound_is_cut_where_the_reference_cuts(void **state)
{
    (void)state;
    static const int32_t pieces[] = {1, 7, 31, 64, FRAMES_MAX};
    for (int32_t i = 0; i < N_LENGTHS; i++) {
        for (int32_t p = 0; p < 5; p++) {
            speak(lengths[i], pieces[p], true, p % 2 != 0);
        }
    }
}

static void a_cut_begins_the_stream_anew_with_context(void **state)
{
    (void)state;
    rig r = rig_open();
    must_push(&r, 1, 0, CUT_FRAMES + 1, true, true);
    run(&r);
    const fake_diary *d = fake_diary_of(r.net);
    int32_t n_fed = 0, n_first = 0;
    for (int32_t i = 0; i < d->n; i++) {
        n_fed += d->chunks[i].n_frames;
        n_first += d->chunks[i].is_first;
    }
    assert_int_equal(n_fed, CUT_FRAMES + CUT_CONTEXT_FRAMES + 1);
    assert_int_equal(n_first, 2);
    assert_true(d->chunks[0].is_first && d->chunks[d->n - 1].is_first);
    assert_int_equal(d->chunks[d->n - 1].n_frames, CUT_CONTEXT_FRAMES + 1);
    rig_close(&r);
}

static void a_whole_cut_without_a_frame_behind_it_is_not_begun(void **state)
{
    (void)state;
    rig r = rig_open();
    must_push(&r, 1, 0, CUT_FRAMES, true, false);
    run(&r);
    must_push(&r, 1, CUT_FRAMES, 0, true, true);
    run(&r);
    const fake_diary *d = fake_diary_of(r.net);
    for (int32_t i = 1; i < d->n; i++) {
        assert_false(d->chunks[i].is_first);
    }
    hold_session(&r, 1, CUT_FRAMES, true);
    rig_close(&r);
}

/* --- chunks and turns --------------------------------------------------------------------------
 */

static void chunks_grow_from_one_frame_to_the_most(void **state)
{
    (void)state;
    static const int32_t want[] = {1, 2, 4, 8, 16, 32, 32, 32};
    rig r = rig_open();
    for (int32_t f = 0; f < 127; f++) {
        must_push(&r, 1, f, 1, false, false);
        run(&r);
    }
    const fake_diary *d = fake_diary_of(r.net);
    assert_int_equal(d->n, 8);
    for (int32_t i = 0; i < d->n; i++) {
        assert_int_equal(d->chunks[i].n_frames, want[i]);
    }
    rig_close(&r);
}

static void what_waits_is_taken_together(void **state)
{
    (void)state;
    rig r = rig_open();
    must_push(&r, 1, 0, 21, false, false);
    assert_int_equal(run(&r), 1);
    assert_int_equal(r.of[1]->n_frames, 21);
    must_push(&r, 1, 21, 1, false, false); /* fewer than the second chunk's 2 */
    assert_false(vocoder_busy(r.vocoder));
    must_push(&r, 1, 22, 0, false, true); /* but no more will come */
    assert_true(vocoder_busy(r.vocoder));
    assert_int_equal(run(&r), 1);
    hold_session(&r, 1, 22, false);
    rig_close(&r);
}

static void all_sessions_speak_in_turn_and_do_not_mix(void **state)
{
    (void)state;
    rig r = rig_open();
    for (int32_t s = 1; s <= SPEAKERS_MAX; s++) {
        must_push(&r, s, 0, 400 + s, s % 2 == 0, true);
    }
    run(&r);
    for (int32_t s = 1; s <= SPEAKERS_MAX; s++) {
        hold_session(&r, s, 400 + s, s % 2 == 0);
    }
    const fake_diary *d = fake_diary_of(r.net);
    for (int32_t i = 0; i < 4 * SPEAKERS_MAX; i++) {
        assert_int_equal(d->chunks[i].stream, i % SPEAKERS_MAX);
    }
    rig_close(&r);
}

static void frames_may_arrive_while_a_chunk_is_computed(void **state)
{
    (void)state;
    rig r = rig_open();
    vocoder_sound sound;
    for (int32_t f = 0; f < 1200; f++) { /* a queue grows and is emptied under way */
        must_push(&r, 1 + f % 2, f / 2, 1, true, f / 2 == 599);
        if (vocoder_advance(r.vocoder, &sound)) {
            take(&r, &sound);
        }
    }
    run(&r);
    hold_session(&r, 1, 600, true);
    hold_session(&r, 2, 600, true);
    rig_close(&r);
}

static void a_place_serves_one_session_after_another(void **state)
{
    (void)state;
    rig r = rig_open();
    for (int32_t s = 0; s <= SPEAKERS_MAX; s++) {
        must_push(&r, s, 0, 10 + s, true, true);
        run(&r);
        hold_session(&r, s, 10 + s, true);
    }
    const fake_diary *d = fake_diary_of(r.net);
    for (int32_t i = 0; i < d->n; i++) {
        assert_int_equal(d->chunks[i].stream, 0);
    }
    rig_close(&r);
}

/* --- ends --------------------------------------------------------------------------------------
 */

static void a_session_without_frames_ends_in_silence(void **state)
{
    (void)state;
    rig r = rig_open();
    must_push(&r, 4, 0, 0, true, true);
    assert_int_equal(run(&r), 1);
    hold_session(&r, 4, 0, true);
    rig_close(&r);
}

static void a_cancelled_session_ends_without_more_samples(void **state)
{
    (void)state;
    rig r = rig_open();
    vocoder_sound sound;
    must_push(&r, 1, 0, 100, false, false);
    must_push(&r, 2, 0, 100, false, true);
    assert_false(vocoder_advance(r.vocoder, &sound)); /* the first slice of session 1's chunk */
    vocoder_cancel(r.vocoder, 1);
    vocoder_cancel(r.vocoder, 77);
    must_push(&r, 1, 100, 5, false, false); /* was under way: passed by */
    run(&r);
    assert_true(r.of[1]->ended);
    assert_int_equal(r.of[1]->n_samples, 0);
    assert_int_equal(r.of[1]->n_sounds, 1);
    hold_session(&r, 2, 100, false);
    rig_close(&r);
}

static void a_session_that_waits_can_be_cancelled_too(void **state)
{
    (void)state;
    rig r = rig_open();
    must_push(&r, 1, 0, 1, false, false);
    assert_int_equal(run(&r), 1);
    int64_t n_samples = r.of[1]->n_samples;
    must_push(&r, 1, 1, 1, false, false);
    assert_false(vocoder_busy(r.vocoder));
    vocoder_cancel(r.vocoder, 1);
    assert_int_equal(run(&r), 1);
    assert_true(r.of[1]->ended);
    assert_int_equal(r.of[1]->n_samples, n_samples);
    rig_close(&r);
}

/* --- what must not arrive ----------------------------------------------------------------------
 */

static void refused(rig *r, int32_t session, int32_t first, int32_t n, const char *reason)
{
    err.text[0] = 0;
    assert_int_equal(push(r, session, first, n, false, false), FLO_FAIL);
    assert_non_null(strstr(err.text, reason));
}

static void gaps_and_repeats_are_refused(void **state)
{
    (void)state;
    rig r = rig_open();
    refused(&r, 1, 3, 1, "begin with frame 3, the vocoder has 0 of it");
    must_push(&r, 1, 0, 1, false, false);
    refused(&r, 1, 2, 1, "begin with frame 2, the vocoder has 1 of it");
    refused(&r, 1, 0, 1, "begin with frame 0, the vocoder has 1 of it");
    must_push(&r, 1, 1, 1, false, true);
    refused(&r, 1, 2, 1, "was told that these are all");
    run(&r);
    hold_session(&r, 1, 2, false); /* unharmed */
    rig_close(&r);
}

static void a_code_out_of_range_is_refused(void **state)
{
    (void)state;
    static const int32_t bad[] = {-1, CODEBOOK, INT32_MAX, INT32_MIN};
    rig r = rig_open();
    for (int32_t i = 0; i < 4; i++) {
        int32_t codes[2 * GROUPS] = {0, 1, 1, 1, 1, bad[i]};
        assert_int_equal(vocoder_push(r.vocoder, 9, 0, codes, 2, false, false, NULL, &err),
                         FLO_FAIL);
        assert_non_null(strstr(err.text, "code 2 of frame 1 of speech session 9"));
    }
    assert_false(vocoder_busy(r.vocoder));
    rig_close(&r);
}

static void one_session_too_many_is_refused(void **state)
{
    (void)state;
    rig r = rig_open();
    for (int32_t s = 0; s < SPEAKERS_MAX; s++) {
        must_push(&r, s, 0, 1, false, false);
    }
    refused(&r, SPEAKERS_MAX, 0, 1, "one too many");
    vocoder_cancel(r.vocoder, 3);
    run(&r);
    must_push(&r, SPEAKERS_MAX, 0, 1, false, false);
    rig_close(&r);
}

static void a_queue_has_a_bound(void **state)
{
    (void)state;
    enum { PIECE = 1000 };
    static const int32_t codes[PIECE * GROUPS];
    rig r = rig_open();
    int32_t n = 0;
    while (n < 1 << 20 &&
           vocoder_push(r.vocoder, 2, n, codes, PIECE, false, false, NULL, &err) == FLO_OK) {
        n += PIECE;
    }
    assert_in_range(n, 4096, (1 << 20) - 1);
    assert_non_null(strstr(err.text, "wait for the vocoder"));
    rig_close(&r);
}

static void a_watch_is_kept_for_its_session_alone(void **state)
{
    (void)state;
    rig r = rig_open();
    int32_t mark, codes[8 * GROUPS] = {0};
    {
        code2wav_watch watch = {.arg = &mark};
        assert_int_equal(vocoder_push(r.vocoder, 1, 0, codes, 2, false, false, &watch, &err),
                         FLO_OK);
    }
    assert_int_equal(vocoder_push(r.vocoder, 2, 0, codes, 2, false, false, NULL, &err), FLO_OK);
    assert_int_equal(vocoder_push(r.vocoder, 1, 2, codes, 8, false, true, NULL, &err), FLO_OK);
    vocoder_sound sound;
    while (vocoder_busy(r.vocoder)) {
        vocoder_advance(r.vocoder, &sound);
    }
    const fake_diary *d = fake_diary_of(r.net);
    for (int32_t i = 0; i < d->n; i++) {
        assert_ptr_equal(d->chunks[i].watched, d->chunks[i].stream == 0 ? &mark : NULL);
    }
    assert_int_equal(d->n, 2);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_is_heard_once_in_one_stream),
        cmocka_unit_test(exact_sound_is_cut_where_the_reference_cuts),
        cmocka_unit_test(a_cut_begins_the_stream_anew_with_context),
        cmocka_unit_test(a_whole_cut_without_a_frame_behind_it_is_not_begun),
        cmocka_unit_test(chunks_grow_from_one_frame_to_the_most),
        cmocka_unit_test(what_waits_is_taken_together),
        cmocka_unit_test(all_sessions_speak_in_turn_and_do_not_mix),
        cmocka_unit_test(frames_may_arrive_while_a_chunk_is_computed),
        cmocka_unit_test(a_place_serves_one_session_after_another),
        cmocka_unit_test(a_session_without_frames_ends_in_silence),
        cmocka_unit_test(a_cancelled_session_ends_without_more_samples),
        cmocka_unit_test(a_session_that_waits_can_be_cancelled_too),
        cmocka_unit_test(gaps_and_repeats_are_refused),
        cmocka_unit_test(a_code_out_of_range_is_refused),
        cmocka_unit_test(one_session_too_many_is_refused),
        cmocka_unit_test(a_queue_has_a_bound),
        cmocka_unit_test(a_watch_is_kept_for_its_session_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

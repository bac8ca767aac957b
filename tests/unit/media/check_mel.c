/*
 * check_mel.c - features are the reference's: recorded values of a known signal, counts of frames
 * and tokens, what padding beside a longer sound does, and no thread changes a bit.
 *
 * The values of the signal come from the reference's extractor (WhisperFeatureExtractor, 128 bins,
 * 400 / 160), and so do the golden sounds. Beyond them 3,400 sounds of other lengths and kinds,
 * alone and beside longer ones, were compared by hand with transformers 5.17.0: largest
 * difference 3.4e-4, where powers lie near the floor; from the same in f64 alone, 1.3e-7.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/checkpoint.h"
#include "coordinator/media/mel.h"
#include "tests/unit/common/temp_folder.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BINS = 128, FFT = 400, HOP = 160 };

static float *features(const float *samples, int64_t n, int64_t longest, int32_t threads)
{
    flo_err err;
    float *out = malloc((size_t)(BINS * mel_frames(n, longest, HOP)) * sizeof *out + 1);
    assert_non_null(out);
    assert_int_equal(mel_features(out, BINS, samples, n, longest, FFT, HOP, threads, &err), FLO_OK);
    return out;
}

static float *two_tones(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++) {
        double t = 2 * M_PI * (double)i / 16000;
        x[i] = (float)(0.5 * sin(440 * t) + 0.25 * sin(1000 * t + 1));
    }
    return x;
}

static void a_known_signal_has_the_references_values(void **state)
{
    (void)state;
    static const struct {
        int bin, frame;
        double value;
    } known[] = {{0, 0, 0.931356},    {10, 0, 1.003661},   {10, 100, -0.514646},
                 {40, 200, 1.199987}, {60, 369, 0.147333}, {127, 369, -0.439316}};
    const int64_t n = 59200, frames = 370;
    float *x = two_tones(n), *y = features(x, n, n, 1);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_true(fabs((double)y[known[i].bin * frames + known[i].frame] - known[i].value) <
                    1e-5);
    }
    double min = 1e9, max = -1e9, sum = 0;
    for (int64_t i = 0; i < BINS * frames; i++) {
        min = (double)y[i] < min ? (double)y[i] : min;
        max = (double)y[i] > max ? (double)y[i] : max;
        sum += (double)y[i];
    }
    assert_true(fabs(min + 0.514646) < 1e-5 && fabs(max - 1.485354) < 1e-5);
    assert_true(fabs(sum / (double)(BINS * frames) + 0.369964) < 1e-5);
    free(y);
    free(x);
}

/* Samples of a 16-bit wav of tests/golden/audio, whose header has 44 bytes. */
static float *golden_sound(const char *name, int64_t *n)
{
    char path[256];
    int16_t value;
    snprintf(path, sizeof path, "tests/golden/audio/%s", name);
    FILE *f = fopen(source_path(path), "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (ftell(f) - 44) / 2;
    assert_true(*n > 0);
    float *x = malloc((size_t)*n * sizeof *x);
    assert_non_null(x);
    assert_int_equal(fseek(f, 44, SEEK_SET), 0);
    for (int64_t i = 0; i < *n; i++) {
        assert_int_equal(fread(&value, sizeof value, 1, f), 1);
        x[i] = (float)value / 32768;
    }
    fclose(f);
    return x;
}

/* y holds every step-th frame of n_frames as the reference has it. */
static void expect_recorded(const float *y, int64_t n_frames, int64_t step, const char *name,
                            const char *tensor)
{
    char path[256];
    flo_err err;
    checkpoint *c = NULL;
    snprintf(path, sizeof path, "tests/golden/audio/%s/tensors.safetensors", name);
    assert_int_equal(checkpoint_open_file(&c, source_path(path), &err), FLO_OK);
    const checkpoint_tensor *t = checkpoint_find(c, tensor);
    assert_non_null(t);
    assert_int_equal(t->shape[0], BINS);
    int64_t n = (n_frames + step - 1) / step;
    assert_int_equal(t->shape[1], n);
    float *want = malloc(t->n_bytes);
    assert_non_null(want);
    assert_int_equal(checkpoint_read(c, t, 0, want, t->n_bytes, &err), FLO_OK);
    for (int64_t i = 0; i < BINS * n; i++) {
        float got = y[i / n * n_frames + i % n * step];
        if (!(fabsf(got - want[i]) < 1e-4f)) {
            fail_msg("%s: bin %d, frame %d: %g, not %g", name, (int)(i / n), (int)(i % n * step),
                     (double)got, (double)want[i]);
        }
    }
    free(want);
    checkpoint_close(c);
}

static void recorded_sounds_have_the_references_features(void **state)
{
    (void)state;
    static const struct {
        const char *wav, *name, *tensor;
        int64_t step;
    } cases[] = {{"short.wav", "short", "input_features", 1},
                 {"mid.wav", "mid", "input_features", 1},
                 {"long.wav", "long", "input_features_every8", 8}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t n;
        float *x = golden_sound(cases[i].wav, &n), *y = features(x, n, n, 2);
        expect_recorded(y, mel_frames(n, n, HOP), cases[i].step, cases[i].name, cases[i].tensor);
        free(y);
        free(x);
    }
}

static void a_recorded_sound_beside_a_longer_one_has_the_references_features(void **state)
{
    (void)state;
    int64_t n, longest;
    float *x = golden_sound("short.wav", &n), *other = golden_sound("mid.wav", &longest);
    float *y = features(x, n, longest, 2);
    assert_int_equal(mel_frames(n, longest, HOP), mel_frames(n, n, HOP) + 1);
    expect_recorded(y, mel_frames(n, longest, HOP), 1, "two-audios", "input_features_0");
    free(y);
    free(other);
    free(x);
}

static void a_constant_and_a_full_scale_square_stay_finite(void **state)
{
    (void)state;
    enum { N = 4003 };
    float x[N];
    for (int kind = 0; kind < 2; kind++) {
        for (int i = 0; i < N; i++) {
            x[i] = kind == 0 || i / 20 % 2 == 0 ? 1 : -1;
        }
        float *y = features(x, N, N, 1), max = -2, min = 9;
        for (int64_t i = 0; i < BINS * mel_frames(N, N, HOP); i++) {
            assert_true(isfinite(y[i]));
            max = fmaxf(max, y[i]);
            min = fminf(min, y[i]);
        }
        assert_true(fabsf(max - min - 2) < 1e-6f); /* 8 powers of ten, over 4 */
        free(y);
    }
}

/* A checkpoint may have longer frames than those that the decoder's 201 samples are for. */
static void too_short_for_a_frame_is_refused(void **state)
{
    (void)state;
    flo_err err = {""};
    float x[512] = {0}, out[BINS * 8];
    assert_int_equal(mel_features(out, BINS, x, 256, 256, 512, HOP, 1, &err), FLO_USAGE);
    assert_string_equal(err.text, "a sound of 256 samples is too short, the checkpoint's features "
                                  "need at least 257");
    assert_int_equal(mel_features(out, BINS, x, 257, 257, 512, HOP, 1, &err), FLO_OK);
    assert_int_equal(mel_features(out, BINS, x, 399, 399, FFT, 400, 1, &err), FLO_USAGE);
    assert_string_equal(err.text, "a sound of 399 samples is too short, the checkpoint's features "
                                  "need at least 400");
}

static void silence_lies_at_the_floor(void **state)
{
    (void)state;
    float x[2000] = {0}, *y = features(x, 2000, 2000, 1);
    for (int64_t i = 0; i < BINS * mel_frames(2000, 2000, HOP); i++) {
        assert_true(y[i] == -1.5f); /* (log10(1e-10) + 4) / 4 */
    }
    free(y);
}

/* Beside a longer sound the end sees zeros instead of its own reflection; what lies further from
 * the end than the window and is under no other maximum stays. */
static void a_longer_sound_changes_the_tail_alone(void **state)
{
    (void)state;
    const int64_t n = 8001;
    float *x = two_tones(n), *alone = features(x, n, n, 1), *beside = features(x, n, 20000, 1);
    int64_t a = mel_frames(n, n, HOP), b = mel_frames(n, 20000, HOP);
    assert_int_equal(a, 50);
    assert_int_equal(b, 51);
    int differ = 0;
    for (int64_t bin = 0; bin < BINS; bin++) {
        for (int64_t i = 0; i < a; i++) {
            float p = alone[bin * a + i], q = beside[bin * b + i];
            bool same = fabsf(p - q) < 1e-3f;
            differ += !same;
            assert_true(same || i >= a - 2);
        }
    }
    assert_true(differ > 0);
    free(beside);
    free(alone);
    free(x);
}

static void threads_change_no_bit(void **state)
{
    (void)state;
    const int64_t n = 30011;
    float *x = two_tones(n), *one = features(x, n, n + 777, 1);
    size_t n_bytes = (size_t)(BINS * mel_frames(n, n + 777, HOP)) * sizeof *one;
    for (int32_t threads = 2; threads <= 20; threads += 3) {
        float *many = features(x, n, n + 777, threads);
        assert_memory_equal(many, one, n_bytes);
        free(many);
    }
    free(one);
    free(x);
}

static void the_shortest_sound_works(void **state)
{
    (void)state;
    float *x = two_tones(201), *y = features(x, 201, 201, 3);
    for (int64_t i = 0; i < BINS * mel_frames(201, 201, HOP); i++) {
        assert_true(isfinite(y[i]));
    }
    free(y);
    free(x);
}

static void frames_are_counted_as_the_mask_counts_them(void **state)
{
    (void)state;
    assert_int_equal(mel_frames(16001, 16001, HOP), 100);
    assert_int_equal(mel_frames(16001, 32000, HOP), 101);
    assert_int_equal(mel_frames(31999, 32000, HOP), 200); /* not over those of the longest */
    assert_int_equal(mel_frames(201, 201, HOP), 1);
}

static void tokens_are_counted_by_chunks(void **state)
{
    (void)state;
    static const int64_t known[][2] = {{0, 0},     {1, 1},      {8, 1},       {9, 2},    {17, 3},
                                       {50, 7},    {99, 13},    {100, 13},    {101, 14}, {370, 48},
                                       {800, 104}, {3000, 390}, {30000, 3900}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        assert_int_equal(mel_tokens(known[i][0], 100), known[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_signal_has_the_references_values),
        cmocka_unit_test(recorded_sounds_have_the_references_features),
        cmocka_unit_test(a_recorded_sound_beside_a_longer_one_has_the_references_features),
        cmocka_unit_test(a_constant_and_a_full_scale_square_stay_finite),
        cmocka_unit_test(too_short_for_a_frame_is_refused),
        cmocka_unit_test(silence_lies_at_the_floor),
        cmocka_unit_test(a_longer_sound_changes_the_tail_alone),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(the_shortest_sound_works),
        cmocka_unit_test(frames_are_counted_as_the_mask_counts_them),
        cmocka_unit_test(tokens_are_counted_by_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

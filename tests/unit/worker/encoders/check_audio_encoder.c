/*
 * check_audio_encoder.c - the audio encoder gives the reference's rows: for sounds of the small
 * checkpoint, and for encoders of odd shapes (tests/golden/odd-audio, made by
 * tests/golden/make/odd_audio.py; FLOTILLA_AUDIO_CASES=DIR compares other files made that way).
 * Jobs, threads and instruction sets do not change a bit, and a job keeps within its memory.
 *
 * Tolerances are the reference data's own: |got - want| <= atol + 1e-3 |want| with atol 5e-4 of the
 * tensor's rms, 20 to 30 times the noise between two f32 implementations.
 */
#include "encoder_cases.h"

#include "common/clock.h"
#include "common/plan.h"
#include "worker/encoders/audio_encoder.h"
#include "worker/kernels/kernels.h"
#include "worker/peak.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- pieces ------------------------------------------------------------------------------------
 */

typedef struct encoder {
    audio_config a;
    audio_weights w;
} encoder;

static encoder encoder_of(const audio_config *a, const checkpoint *c)
{
    encoder e = {.a = *a};
    weights_source source = {.checkpoint = c, .seed = 5};
    thread_pool *pool = pool_of(2);
    if (audio_weights_load(&e.w, a, &source, pool, NULL, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    thread_pool_free(pool);
    return e;
}

static encoder tiny(void)
{
    model_config m;
    checkpoint *c;
    assert_int_equal(model_config_read(&m, golden_path("tiny-omni"), &err), FLO_OK);
    assert_int_equal(checkpoint_open(&c, golden_path("tiny-omni"), &err), FLO_OK);
    encoder e = encoder_of(&m.audio, c);
    checkpoint_close(c);
    return e;
}

static audio_config published(int32_t n_layers)
{
    model_config m;
    assert_int_equal(model_config_read(&m, golden_path("published-config"), &err), FLO_OK);
    m.audio.n_layers = n_layers;
    return m.audio;
}

typedef struct sound { /* features of a call, of which this sound has some frames */
    const float *features;
    int32_t stride; /* frames of the call */
    int32_t first, n;
    int32_t canvas;
} sound;

/* Frames [first, first + n) of a sound, [bins][n]. */
static float *cut(const sound *s, int32_t n_bins, int32_t first, int32_t n)
{
    float *out = memory_of((size_t)n_bins * (size_t)n * sizeof *out);
    for (int32_t b = 0; b < n_bins; b++) {
        memcpy(out + (size_t)b * (size_t)n,
               s->features + (size_t)b * (size_t)s->stride + s->first + first,
               (size_t)n * sizeof *out);
    }
    return out;
}

/* One job, in memory of exactly the size it may ask for. NaN everywhere at first: what is read
 * before it is written shows. Returns how often advance was called. */
static int32_t run_job(const encoder *e, const audio_job *job, thread_pool *pool)
{
    size_t bytes = audio_job_bytes(&e->a);
    void *memory = aligned_alloc(64, bytes);
    assert_non_null(memory);
    memset(memory, 0xff, bytes);
    audio_work *work = audio_work_begin(memory, &e->a, &e->w, job);
    double share = audio_work_share(work);
    assert_true(share == 0.0);
    int32_t n_calls = 1;
    while (!audio_work_advance(work, pool)) {
        assert_true(audio_work_share(work) > share && audio_work_share(work) <= 1.0);
        share = audio_work_share(work);
        n_calls++;
    }
    assert_true(audio_work_share(work) == 1.0);
    free(memory);
    return n_calls;
}

/* All tokens of a sound, cut into jobs of n_windows. */
static float *encode(const encoder *e, const sound *s, int32_t n_windows, int32_t n_threads)
{
    thread_pool *pool = pool_of(n_threads);
    size_t width = (size_t)e->a.output_dim;
    size_t n_floats = (size_t)audio_job_tokens(&e->a, s->n) * width;
    float *out = memory_of(n_floats * sizeof *out);
    float *at = out;
    memset(out, 0xff, n_floats * sizeof *out);
    int32_t most = n_windows * e->a.n_window_infer;
    for (int32_t first = 0; first < s->n; first += most) {
        int32_t n = s->n - first < most ? s->n - first : most;
        float *features = cut(s, e->a.n_mel_bins, first, n);
        run_job(e, &(audio_job){features, n, s->canvas, at}, pool);
        at += (size_t)audio_job_tokens(&e->a, n) * width;
        free(features);
    }
    assert_true(at == out + n_floats);
    thread_pool_free(pool);
    return out;
}

static float *noise(int32_t n_bins, int32_t n_frames)
{
    size_t n = (size_t)n_bins * (size_t)n_frames;
    float *f = memory_of(n * sizeof *f);
    uint64_t seed = 9;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        f[i] = (float)((double)(seed >> 11) * 0x1p-52 - 1.0);
    }
    return f;
}

/* --- against the reference ---------------------------------------------------------------------
 */

static void hold_rows(const char *what, const float *got, const float *want, int64_t n,
                      int64_t width)
{
    double squares = 0;
    for (int64_t i = 0; i < n * width; i++) {
        squares += (double)want[i] * (double)want[i];
    }
    double atol = 5e-4 * sqrt(squares / (double)(n * width));
    for (int64_t i = 0; i < n * width; i++) {
        double off = fabs((double)got[i] - (double)want[i]);
        if (!(off <= atol + 1e-3 * fabs((double)want[i]))) {
            fail_msg("%s: row %lld, column %lld is %.6g, the reference has %.6g", what,
                     (long long)(i / width), (long long)(i % width), (double)got[i],
                     (double)want[i]);
        }
    }
}

static void hold_golden(const encoder *e, const char *file, const char *features_name,
                        const char *rows_file, int32_t first_row)
{
    const checkpoint_tensor *t = NULL;
    checkpoint *c = open_file(golden_path(file));
    float *features = tensor_data(c, features_name, &t);
    assert_non_null(features);
    int32_t n = (int32_t)t->shape[1];
    int32_t canvas = strstr(file, "short") != NULL ? n : 2 * e->a.n_window; /* alone, 40 frames */
    sound s = {.features = features, .stride = n, .n = n, .canvas = canvas};
    float *got = encode(e, &s, AUDIO_JOB_WINDOWS, 2);
    checkpoint *rows = open_file(golden_path(rows_file));
    float *want = tensor_data(rows, "audio_embeds", &t);
    assert_non_null(want);
    int32_t n_tokens = audio_job_tokens(&e->a, n);
    assert_true(first_row + n_tokens <= t->shape[0]);
    hold_rows(file, got, want + first_row * t->shape[1], n_tokens, t->shape[1]);
    free(want);
    free(got);
    free(features);
    checkpoint_close(rows);
    checkpoint_close(c);
}

static void sounds_become_the_rows_of_the_reference(void **state)
{
    (void)state;
    static const char *const mid = "audio/mid/tensors.safetensors";
    static const char *const shorter = "audio/short/tensors.safetensors";
    static const char *const two = "audio/two-audios/tensors.safetensors";
    encoder e = tiny();
    hold_golden(&e, mid, "input_features", mid, 0);
    hold_golden(&e, shorter, "input_features", shorter, 0);
    /* Together: 41 frames within the longer one's canvas, then the longer one as it is alone. */
    hold_golden(&e, two, "input_features_0", two, 0);
    hold_golden(&e, mid, "input_features", two, 6);
    audio_weights_free(&e.w);
}

static audio_config config_of(const checkpoint *c)
{
    const checkpoint_tensor *t = NULL;
    int32_t *n = tensor_data(c, "config", &t);
    assert_non_null(n);
    assert_int_equal(t->n_elements, 10);
    audio_config a = {.n_mel_bins = n[0],
                      .d_model = n[1],
                      .n_layers = n[2],
                      .n_heads = n[3],
                      .ffn_dim = n[4],
                      .max_source_positions = n[5],
                      .n_window = n[6],
                      .n_window_infer = n[7],
                      .downsample_hidden_size = n[8],
                      .output_dim = n[9]};
    free(n);
    return a;
}

/* The sounds of one call of the reference; false where the file has no such call. */
static bool hold_call(const encoder *e, const checkpoint *c, int32_t index)
{
    char name[64];
    const checkpoint_tensor *t = NULL, *lengths = NULL;
    snprintf(name, sizeof name, "%d.frames", index);
    int32_t *frames = tensor_data(c, name, &lengths);
    if (frames == NULL) {
        return false;
    }
    snprintf(name, sizeof name, "%d.features", index);
    float *features = tensor_data(c, name, &t);
    sound s = {.features = features, .stride = (int32_t)t->shape[1]};
    snprintf(name, sizeof name, "%d.embeds", index);
    float *want = tensor_data(c, name, &t);
    for (uint64_t i = 0; i < lengths->n_elements; i++) {
        int32_t chunk = 2 * e->a.n_window;
        int32_t longest = frames[i] < chunk ? frames[i] : chunk;
        s.canvas = longest > s.canvas ? longest : s.canvas;
    }
    int64_t row = 0;
    for (uint64_t i = 0; i < lengths->n_elements; i++) {
        s.n = frames[i];
        int32_t n_tokens = audio_job_tokens(&e->a, s.n);
        float *got = encode(e, &s, AUDIO_JOB_WINDOWS, 2);
        assert_true(row + n_tokens <= t->shape[0]);
        hold_rows(name, got, want + row * t->shape[1], n_tokens, t->shape[1]);
        free(got);
        s.first += s.n;
        row += n_tokens;
    }
    assert_int_equal(row, t->shape[0]);
    free(want);
    free(features);
    free(frames);
    return true;
}

static void hold_odd_encoder(const char *path)
{
    checkpoint *c = open_file(path);
    audio_config a = config_of(c);
    encoder e = encoder_of(&a, c);
    int32_t n = 0;
    while (hold_call(&e, c, n)) {
        n++;
    }
    assert_int_equal(n, 4);
    audio_weights_free(&e.w);
    checkpoint_close(c);
}

static void encoders_of_odd_shapes_give_the_rows_of_the_reference(void **state)
{
    (void)state;
    hold_odd_encoder(golden_path("odd-audio/0.safetensors"));
    hold_odd_encoder(golden_path("odd-audio/1.safetensors"));
    hold_odd_encoder(golden_path("odd-audio/2.safetensors"));
    const char *more = getenv("FLOTILLA_AUDIO_CASES");
    for (int32_t i = 0; more != NULL && i < 3; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d.safetensors", more, i);
        hold_odd_encoder(path);
    }
}

/* --- bits, slices ------------------------------------------------------------------------------
 */

static void windows_give_the_same_bits_in_one_job_and_in_several(void **state)
{
    (void)state;
    encoder e = tiny();
    int32_t n = 2 * e.a.n_window_infer + 2 * e.a.n_window + 17; /* two windows and 115 frames */
    float *features = noise(e.a.n_mel_bins, n);
    sound s = {.features = features, .stride = n, .n = n, .canvas = 2 * e.a.n_window};
    float *together = encode(&e, &s, 3, 2), *alone = encode(&e, &s, 1, 2);
    size_t floats = (size_t)audio_job_tokens(&e.a, n) * (size_t)e.a.output_dim;
    assert_memory_equal(together, alone, floats * sizeof(float));
    free(together);
    free(alone);
    free(features);
    audio_weights_free(&e.w);
}

static void use_isa(const char *isa)
{
    if (isa != NULL) {
        setenv("FLOTILLA_ISA", isa, 1);
    } else {
        unsetenv("FLOTILLA_ISA");
    }
    assert_int_equal(kernels_init(&err), FLO_OK);
}

static void threads_and_instruction_sets_do_not_change_a_bit(void **state)
{
    (void)state;
    static const char *const isas[] = {"ref", "avx2", "avx512"};
    encoder e = tiny();
    int32_t n = e.a.n_window_infer + 333; /* two groups of chunks and more, two windows */
    float *features = noise(e.a.n_mel_bins, n);
    sound s = {.features = features, .stride = n, .n = n, .canvas = 2 * e.a.n_window};
    size_t bytes = (size_t)audio_job_tokens(&e.a, n) * (size_t)e.a.output_dim * sizeof(float);
    use_isa("ref");
    float *want = encode(&e, &s, 2, 2);
    for (int32_t i = 0; i < 3; i++) {
        if (kernels_variant(isas[i]) == NULL) {
            continue;
        }
        use_isa(isas[i]);
        for (int32_t threads = 1; threads <= 3; threads++) {
            float *got = encode(&e, &s, 2, threads);
            assert_memory_equal(got, want, bytes);
            free(got);
        }
    }
    use_isa(NULL);
    free(want);
    free(features);
    audio_weights_free(&e.w);
}

static int32_t slices_of(const encoder *e, int32_t n_frames)
{
    thread_pool *pool = pool_of(1);
    float *features = noise(e->a.n_mel_bins, n_frames);
    float *out = memory_of((size_t)audio_job_tokens(&e->a, n_frames) * (size_t)e->a.output_dim *
                           sizeof *out);
    int32_t n = run_job(e, &(audio_job){features, n_frames, 2 * e->a.n_window, out}, pool);
    free(out);
    free(features);
    thread_pool_free(pool);
    return n;
}

static void a_small_job_is_one_slice_and_a_large_one_is_many(void **state)
{
    (void)state;
    encoder small = tiny();
    assert_int_equal(slices_of(&small, 2 * small.a.n_window), 1);
    audio_weights_free(&small.w);

    audio_config a = published(1);
    encoder large = encoder_of(&a, NULL);
    /* 4 chunks of 5.0 G each, mostly convolutions; a slice is 2.5 G or one product over */
    assert_in_range(slices_of(&large, 400), 5, 16);
    audio_weights_free(&large.w);
}

/* What the plan gives a largest job also holds its features and its rows. */
static void hold_to_plan(const audio_config *a)
{
    int32_t frames = AUDIO_JOB_WINDOWS * a->n_window_infer;
    size_t in = (size_t)a->n_mel_bins * (size_t)frames * sizeof(float);
    size_t out = (size_t)audio_job_tokens(a, frames) * (size_t)a->output_dim * sizeof(float);
    assert_true(audio_job_bytes(a) + in + out <= plan_audio_job_bytes(a));
}

static void a_job_keeps_within_the_plan(void **state)
{
    (void)state;
    audio_config a = published(32);
    hold_to_plan(&a);
    assert_true(audio_job_bytes(&a) <= 64 << 20); /* for 30 minutes of sound, one after another */
    for (int32_t odd = 0; odd < 2; odd++) {
        checkpoint *c = open_file(
            golden_path(odd == 0 ? "odd-audio/0.safetensors" : "odd-audio/1.safetensors"));
        a = config_of(c);
        hold_to_plan(&a);
        checkpoint_close(c);
    }
    a = published(1);
    a.n_window_infer = 2 * a.n_window; /* windows of 13 tokens, keys in blocks of 64 */
    hold_to_plan(&a);
    a = published(1);
    a.n_mel_bins = 1;
    a.downsample_hidden_size = 1;
    hold_to_plan(&a);
}

static void a_tensor_of_another_shape_is_told_by_name(void **state)
{
    (void)state;
    checkpoint *c = open_file(golden_path("odd-audio/0.safetensors"));
    audio_config a = config_of(c);
    audio_weights w;
    weights_source source = {.checkpoint = c};
    thread_pool *pool = pool_of(1);
    a.downsample_hidden_size++;
    assert_int_equal(audio_weights_load(&w, &a, &source, pool, NULL, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "thinker.audio_tower.conv2d1.weight"));
    assert_null(w.region);
    thread_pool_free(pool);
    checkpoint_close(c);
}

/* --- rates -------------------------------------------------------------------------------------
 */

/* Multiply-adds of a sound of whole chunks, times two. */
static double sound_flops(const audio_config *a, int32_t n_frames)
{
    double c = a->downsample_hidden_size, d = a->d_model, chunks = n_frames / (2.0 * a->n_window);
    double n = audio_job_tokens(a, n_frames);
    double window = audio_job_tokens(a, a->n_window_infer);
    double convolutions = chunks * 18 * c * (50 * 64 + c * (25 * 32 + 13 * 16));
    double layer = n * (2 * d * (4 * d + 2 * a->ffn_dim) + 4 * window * d);
    return convolutions + a->n_layers * layer + 2 * n * d * (16 * c + d + a->output_dim);
}

static void time_sound(const char *isa, int32_t n_layers, int32_t n_threads)
{
    audio_config a = published(n_layers);
    encoder e = encoder_of(&a, NULL);
    int32_t n = AUDIO_JOB_WINDOWS * a.n_window_infer;
    float *features = noise(a.n_mel_bins, n);
    float *out = memory_of((size_t)audio_job_tokens(&a, n) * (size_t)a.output_dim * sizeof *out);
    void *memory = memory_of(audio_job_bytes(&a));
    thread_pool *pool = pool_of(n_threads);
    audio_job job = {features, n, 2 * a.n_window, out};
    double took = 1e9, slice = 0, peak = fma_peak(pool);
    for (int32_t again = 0; again < 3; again++) {
        double began = clock_s(), last = began, longest = 0;
        audio_work *work = audio_work_begin(memory, &a, &e.w, &job);
        bool done = false;
        while (!done) {
            done = audio_work_advance(work, pool);
            double now = clock_s();
            longest = now - last > longest ? now - last : longest;
            last = now;
        }
        slice = last - began < took ? longest : slice;
        took = last - began < took ? last - began : took;
    }
    double later = fma_peak(pool);
    peak = later > peak ? later : peak;
    double rate = 1e-9 * sound_flops(&a, n) / took;
    print_message("  %-6s %d thread(s), %d frames, %d layers: %.3f s, %.0f GFLOP/s, %.0f %% of "
                  "the peak %.0f; longest slice %.0f ms\n",
                  isa, n_threads, n, n_layers, took, rate, 100 * rate / peak, peak, 1e3 * slice);
    thread_pool_free(pool);
    free(memory);
    free(out);
    free(features);
    audio_weights_free(&e.w);
}

static void rates(void **state)
{
    (void)state;
    if (getenv("FLOTILLA_BENCH") == NULL) {
        skip();
    }
    static const char *const isas[] = {"avx512", "avx2"};
    for (int32_t i = 0; i < 2; i++) {
        if (kernels_variant(isas[i]) == NULL) {
            continue;
        }
        use_isa(isas[i]);
        for (int32_t threads = 1; threads <= 2; threads++) {
            time_sound(isas[i], 1, threads); /* mostly convolutions */
            time_sound(isas[i], 4, threads);
        }
    }
    use_isa(NULL);
}

int main(void)
{
    use_isa(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sounds_become_the_rows_of_the_reference),
        cmocka_unit_test(encoders_of_odd_shapes_give_the_rows_of_the_reference),
        cmocka_unit_test(windows_give_the_same_bits_in_one_job_and_in_several),
        cmocka_unit_test(threads_and_instruction_sets_do_not_change_a_bit),
        cmocka_unit_test(a_small_job_is_one_slice_and_a_large_one_is_many),
        cmocka_unit_test(a_job_keeps_within_the_plan),
        cmocka_unit_test(a_tensor_of_another_shape_is_told_by_name),
        cmocka_unit_test(rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

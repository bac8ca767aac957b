/*
 * check_code2wav.c - the vocoder's network gives the reference's rows at every module boundary and
 * the reference's samples, for the small checkpoint and for networks of odd shapes
 * (tests/golden/odd-code2wav, made by tests/golden/make/odd_code2wav.py;
 * FLOTILLA_CODE2WAV_CASES=DIR compares other files made that way). Chunks, streams that take turns,
 * threads and instruction sets do not change a bit.
 *
 * Tolerances are the reference data's own: |got - want| <= atol + 1e-3 |want| with atol 5e-4 of the
 * tensor's rms, of samples 5e-4: 20 to 30 times the noise between two f32 implementations.
 */
#include "../encoders/encoder_cases.h"

#include "common/clock.h"
#include "common/plan.h"
#include "common/plan_parts.h"
#include "worker/kernels/kernels.h"
#include "worker/peak.h"
#include "worker/speech/code2wav.h"

#include <math.h>
#include <string.h>

/* --- networks ----------------------------------------------------------------------------------
 */

typedef struct net {
    code2wav_config c;
    thread_pool *pool;
    code2wav *v;
} net;

static net net_of(const code2wav_config *c, const checkpoint *weights, int32_t n_threads)
{
    net n = {.c = *c, .pool = pool_of(n_threads)};
    weights_source source = {.checkpoint = weights, .seed = 5};
    if (code2wav_open(&n.v, c, n.pool, &err) != FLO_OK ||
        code2wav_load(n.v, &source, NULL, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return n;
}

static void net_close(net *n)
{
    code2wav_close(n->v);
    thread_pool_free(n->pool);
}

static net tiny(int32_t n_threads)
{
    model_config m;
    checkpoint *c;
    assert_int_equal(model_config_read(&m, golden_path("tiny-omni"), &err), FLO_OK);
    assert_int_equal(checkpoint_open(&c, golden_path("tiny-omni"), &err), FLO_OK);
    net n = net_of(&m.code2wav, c, n_threads);
    checkpoint_close(c);
    return n;
}

static code2wav_config published(void)
{
    model_config m;
    assert_int_equal(model_config_read(&m, golden_path("published-config"), &err), FLO_OK);
    return m.code2wav;
}

static uint64_t next(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

static int32_t *random_codes(const code2wav_config *c, int32_t n_frames, uint64_t seed)
{
    int32_t n = n_frames * c->n_quantizers;
    int32_t *codes = memory_of((size_t)n * sizeof *codes);
    for (int32_t i = 0; i < n; i++) {
        codes[i] = (int32_t)(next(&seed) % (uint64_t)c->codebook_size);
    }
    return codes;
}

/* --- decoding ----------------------------------------------------------------------------------
 */

typedef struct sound {
    float *samples;
    int64_t n;
} sound;

static sound sound_of(const code2wav_config *c, int64_t n_frames)
{
    int64_t n = code2wav_samples(c, n_frames);
    sound s = {.samples = memory_of((size_t)n * sizeof(float) + 64)};
    memset(s.samples, 0xff, (size_t)n * sizeof(float) + 64);
    return s;
}

/* The next n frames of a stream. */
static void decode(const net *n, int32_t stream, const int32_t *codes, int32_t n_frames,
                   const code2wav_watch *watch, sound *out)
{
    const float *samples;
    int32_t n_samples;
    code2wav_begin(n->v, stream, codes, n_frames, watch);
    while (!code2wav_advance(n->v, &samples, &n_samples)) {
    }
    memcpy(out->samples + out->n, samples, (size_t)n_samples * sizeof *samples);
    out->n += n_samples;
}

/* All frames in chunks of `chunk`, or of random sizes where chunk is 0. */
static sound decode_all(const net *n, int32_t stream, const int32_t *codes, int32_t n_frames,
                        int32_t chunk, uint64_t seed, const code2wav_watch *watch)
{
    sound s = sound_of(&n->c, n_frames);
    code2wav_reset(n->v, stream);
    for (int32_t first = 0, m; first < n_frames; first += m) {
        m = chunk > 0 ? chunk : 1 + (int32_t)(next(&seed) % VOCODER_FRAMES_MAX);
        m = m < n_frames - first ? m : n_frames - first;
        decode(n, stream, codes + first * n->c.n_quantizers, m, watch, &s);
        assert_int_equal(s.n, code2wav_samples(&n->c, first + m));
    }
    return s;
}

static void hold_same(const sound *got, const sound *want)
{
    assert_int_equal(got->n, want->n);
    assert_memory_equal(got->samples, want->samples, (size_t)want->n * sizeof(float));
}

/* --- against the reference ---------------------------------------------------------------------
 */

typedef struct modules { /* rows of each module, put together again */
    const checkpoint *golden;
    int32_t n;
    struct {
        char name[64];
        float *data;
        int64_t n_rows, columns;
    } of[40];
} modules;

static void collect(void *arg, const char *name, int64_t first, int32_t n, int32_t columns,
                    const float *data)
{
    modules *m = arg;
    int32_t i = 0;
    while (i < m->n && strcmp(m->of[i].name, name) != 0) {
        i++;
    }
    if (i == m->n) {
        assert_true(i < 40);
        snprintf(m->of[i].name, sizeof m->of[i].name, "%s", name);
        m->of[i].data = NULL;
        m->of[i].n_rows = 0;
        m->of[i].columns = columns;
        m->n++;
    }
    assert_int_equal(first, m->of[i].n_rows);
    assert_int_equal(columns, m->of[i].columns);
    size_t bytes = (size_t)columns * sizeof(float);
    m->of[i].data = realloc(m->of[i].data, (size_t)(first + n) * bytes + 1);
    assert_non_null(m->of[i].data);
    memcpy(m->of[i].data + first * columns, data, (size_t)n * bytes);
    m->of[i].n_rows += n;
}

/* Every `every`-th of n_rows rows. want: [rows][columns], or [columns][rows] as the convolutions of
 * the reference have it. */
static void hold_rows(const char *name, const float *got, int64_t n_rows, int64_t columns,
                      const float *want, bool across, int64_t every, double least)
{
    int64_t n = (n_rows + every - 1) / every;
    double squares = 0;
    for (int64_t i = 0; i < n * columns; i++) {
        squares += (double)want[i] * (double)want[i];
    }
    double atol = 5e-4 * sqrt(squares / (double)(n * columns));
    atol = atol > least ? atol : least;
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < columns; k++) {
            double g = (double)got[i * every * columns + k];
            double w = (double)want[across ? k * n + i : i * columns + k];
            if (!(fabs(g - w) <= atol + 1e-3 * fabs(w))) {
                fail_msg("%s: row %lld, column %lld is %.6g, the reference has %.6g", name,
                         (long long)(i * every), (long long)k, g, w);
            }
        }
    }
}

/* Tensor NAME or NAME_everyN of a file, N found there; false: the file has neither. */
static bool hold_module(const checkpoint *c, const char *name, const float *got, int64_t n_rows,
                        int64_t columns)
{
    static const int32_t thinned[] = {1, 7, 16, 29};
    bool across = strncmp(name, "upsample", 8) == 0 || strncmp(name, "decoder", 7) == 0;
    for (int32_t i = 0; i < 4; i++) {
        char full[128];
        const checkpoint_tensor *t = NULL;
        snprintf(full, sizeof full, thinned[i] > 1 ? "%s_every%d" : "%s", name, thinned[i]);
        float *want = tensor_data(c, full, &t);
        if (want == NULL) {
            continue;
        }
        int64_t n = (n_rows + thinned[i] - 1) / thinned[i];
        assert_int_equal(t->n_elements, n * columns);
        double least = strncmp(name, "wav", 3) == 0 ? 5e-4 : 0;
        hold_rows(full, got, n_rows, columns, want, across, thinned[i], least);
        free(want);
        return true;
    }
    return false;
}

/* Codes as the network takes them from the file's [quantizers][frames]. */
static int32_t *codes_of(const checkpoint *c, int32_t *n_frames)
{
    const checkpoint_tensor *t = NULL;
    int32_t *across = tensor_data(c, "codes", &t);
    assert_non_null(across);
    int32_t n_quantizers = (int32_t)t->shape[0], n = (int32_t)t->shape[1];
    int32_t *codes = memory_of(t->n_bytes);
    for (int32_t i = 0; i < n * n_quantizers; i++) {
        codes[i] = across[i % n_quantizers * n + i / n_quantizers];
    }
    free(across);
    *n_frames = n;
    return codes;
}

/* All modules that the file has; returns how many those were. */
static int32_t hold_modules(const net *n, const checkpoint *c, int32_t chunk)
{
    modules m = {.n = 0};
    code2wav_watch watch = {collect, &m};
    int32_t n_frames, held = 0;
    int32_t *codes = codes_of(c, &n_frames);
    sound s = decode_all(n, 3, codes, n_frames, chunk, 0, &watch);
    for (int32_t i = 0; i < m.n; i++) {
        held += hold_module(c, m.of[i].name, m.of[i].data, m.of[i].n_rows, m.of[i].columns);
        free(m.of[i].data);
    }
    held += hold_module(c, "wav_oneshot", s.samples, s.n, 1);
    free(s.samples);
    free(codes);
    return held;
}

static void every_module_gives_the_rows_of_the_reference(void **state)
{
    (void)state;
    net n = tiny(2);
    checkpoint *c = open_file(golden_path("code2wav/frames-10/tensors.safetensors"));
    /* embed, transformer, two of each upsample, decoder.0 to .6, samples */
    assert_int_equal(hold_modules(&n, c, VOCODER_FRAMES_MAX), 2 + 4 + 7 + 1);
    assert_int_equal(hold_modules(&n, c, 1), 2 + 4 + 7 + 1);
    checkpoint_close(c);
    net_close(&n);
}

/* What the reference makes of chunks with context: a fresh stream each, the context's samples left
 * out. */
static sound decode_cut(const net *n, const int32_t *codes, int32_t n_frames, int32_t chunk,
                        int32_t context)
{
    sound all = sound_of(&n->c, n_frames);
    for (int32_t first = 0; first < n_frames; first += chunk) {
        int32_t before = first < context ? first : context;
        int32_t end = first + chunk < n_frames ? first + chunk : n_frames;
        sound s = decode_all(n, 0, codes + (first - before) * n->c.n_quantizers,
                             end - first + before, VOCODER_FRAMES_MAX, 0, NULL);
        int64_t drop = (int64_t)before * code2wav_rate(&n->c);
        memcpy(all.samples + all.n, s.samples + drop, (size_t)(s.n - drop) * sizeof(float));
        all.n += s.n - drop;
        free(s.samples);
    }
    return all;
}

static void hold_long(const net *n, const char *file, const char *cut_name, int32_t chunk,
                      int32_t context)
{
    int32_t n_frames;
    checkpoint *c = open_file(golden_path(file));
    int32_t *codes = codes_of(c, &n_frames);
    assert_int_equal(hold_modules(n, c, VOCODER_FRAMES_MAX), 1);
    sound s = decode_cut(n, codes, n_frames, chunk, context);
    assert_true(hold_module(c, cut_name, s.samples, s.n, 1));
    free(s.samples);
    free(codes);
    checkpoint_close(c);
}

static void long_streams_give_the_samples_of_the_reference_whole_and_cut(void **state)
{
    (void)state;
    net n = tiny(2);
    hold_long(&n, "code2wav/frames-100/tensors.safetensors", "wav_chunked_40_10", 40, 10);
    hold_long(&n, "code2wav/frames-700/tensors.safetensors", "wav_chunked", CUT_FRAMES,
              CUT_CONTEXT_FRAMES);
    net_close(&n);
}

static void numbers_of(const checkpoint *c, const char *name, int32_t *out, int32_t most,
                       int32_t *n)
{
    const checkpoint_tensor *t = NULL;
    int32_t *numbers = tensor_data(c, name, &t);
    assert_non_null(numbers);
    *n = (int32_t)t->n_elements;
    assert_in_range(*n, 1, most);
    memcpy(out, numbers, t->n_bytes);
    free(numbers);
}

static code2wav_config config_of(const checkpoint *file)
{
    int32_t n[10], n_numbers;
    numbers_of(file, "config", n, 10, &n_numbers);
    assert_int_equal(n_numbers, 10);
    code2wav_config c = {.codebook_size = n[0],
                         .n_quantizers = n[1],
                         .hidden_size = n[2],
                         .n_layers = n[3],
                         .n_heads = n[4],
                         .n_kv_heads = n[5],
                         .head_dim = n[6],
                         .intermediate_size = n[7],
                         .sliding_window = n[8],
                         .decoder_dim = n[9],
                         .rms_norm_eps = 1e-5f,
                         .rope_theta = 10000};
    numbers_of(file, "rates", c.upsample_rates, MODEL_UPSAMPLES_MAX, &c.n_upsample_rates);
    numbers_of(file, "ratios", c.upsampling_ratios, MODEL_UPSAMPLES_MAX, &c.n_upsampling_ratios);
    return c;
}

static void hold_odd_network(const char *path)
{
    checkpoint *file = open_file(path);
    code2wav_config c = config_of(file);
    net n = net_of(&c, file, 2);
    int32_t all = 1 + 2 * c.n_upsampling_ratios + (3 + c.n_upsample_rates) + 1, n_frames;
    assert_int_equal(hold_modules(&n, file, VOCODER_FRAMES_MAX), all);
    assert_int_equal(hold_modules(&n, file, 1), all);
    int32_t *codes = codes_of(file, &n_frames);
    sound whole = decode_all(&n, 0, codes, n_frames, VOCODER_FRAMES_MAX, 0, NULL);
    for (uint64_t seed = 0; seed < 3; seed++) {
        sound parts = decode_all(&n, 1, codes, n_frames, seed == 0 ? 1 : 0, seed, NULL);
        hold_same(&parts, &whole);
        free(parts.samples);
    }
    free(whole.samples);
    free(codes);
    net_close(&n);
    checkpoint_close(file);
}

static void networks_of_odd_shapes_give_the_rows_of_the_reference(void **state)
{
    (void)state;
    const char *more = getenv("FLOTILLA_CODE2WAV_CASES");
    for (int32_t i = 0; i < 4; i++) {
        char file[64], path[4096];
        snprintf(file, sizeof file, "odd-code2wav/%d.safetensors", i);
        hold_odd_network(golden_path(file));
        if (more != NULL) {
            snprintf(path, sizeof path, "%s/%d.safetensors", more, i);
            hold_odd_network(path);
        }
    }
}

/* --- bits --------------------------------------------------------------------------------------
 */

static void chunks_of_any_sizes_give_the_same_bits(void **state)
{
    (void)state;
    enum { FRAMES = 150 };
    net n = tiny(2);
    int32_t *codes = random_codes(&n.c, FRAMES, 1);
    sound want = decode_all(&n, 0, codes, FRAMES, VOCODER_FRAMES_MAX, 0, NULL);
    for (uint64_t seed = 0; seed < 6; seed++) {
        sound got = decode_all(&n, 1, codes, FRAMES, seed == 0 ? 1 : 0, seed, NULL);
        hold_same(&got, &want);
        free(got.samples);
    }
    free(want.samples);
    free(codes);
    net_close(&n);
}

static void streams_that_take_turns_are_as_they_are_alone(void **state)
{
    (void)state;
    enum { STREAMS = 4, FRAMES = 90 };
    net n = tiny(2);
    int32_t *codes[STREAMS], done[STREAMS] = {0}, left = STREAMS;
    sound want[STREAMS], got[STREAMS];
    uint64_t seed = 3;
    for (int32_t i = 0; i < STREAMS; i++) {
        codes[i] = random_codes(&n.c, FRAMES, (uint64_t)i);
        want[i] = decode_all(&n, 0, codes[i], FRAMES, 20, 0, NULL);
        got[i] = sound_of(&n.c, FRAMES);
        code2wav_reset(n.v, SPEAKERS_MAX - 1 - i);
    }
    while (left > 0) {
        int32_t i = (int32_t)(next(&seed) % STREAMS), m = 1 + (int32_t)(next(&seed) % 9);
        m = m < FRAMES - done[i] ? m : FRAMES - done[i];
        if (m > 0) {
            decode(&n, SPEAKERS_MAX - 1 - i, codes[i] + done[i] * n.c.n_quantizers, m, NULL,
                   &got[i]);
            done[i] += m;
            left -= done[i] == FRAMES;
        }
    }
    for (int32_t i = 0; i < STREAMS; i++) {
        hold_same(&got[i], &want[i]);
        free(want[i].samples);
        free(got[i].samples);
        free(codes[i]);
    }
    net_close(&n);
}

static void a_frame_does_not_change_what_was_final_before_it(void **state)
{
    (void)state;
    enum { FRAMES = 12 };
    net n = tiny(1);
    int32_t *codes = random_codes(&n.c, FRAMES, 1);
    sound before = decode_all(&n, 0, codes, FRAMES, FRAMES, 0, NULL);
    for (int32_t f = 0; f < FRAMES; f++) {
        int32_t *code = &codes[f * n.c.n_quantizers];
        *code = (*code + 1) % n.c.codebook_size;
        sound after = decode_all(&n, 0, codes, FRAMES, FRAMES, 0, NULL);
        int64_t same = code2wav_samples(&n.c, f), from_here = code2wav_rate(&n.c);
        assert_memory_equal(after.samples, before.samples, (size_t)same * sizeof(float));
        assert_memory_not_equal(after.samples + same, before.samples + same,
                                (size_t)from_here * sizeof(float) / 2);
        free(before.samples);
        before = after;
    }
    free(before.samples);
    free(codes);
    net_close(&n);
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
    enum { FRAMES = 9 };
    static const char *const isas[] = {"ref", "avx2", "avx512"};
    sound want = {NULL, 0};
    for (int32_t i = 0; i < 3; i++) {
        if (kernels_variant(isas[i]) == NULL) {
            continue;
        }
        use_isa(isas[i]);
        for (int32_t threads = 1; threads <= 3; threads++) {
            net n = tiny(threads);
            int32_t *codes = random_codes(&n.c, FRAMES, 1);
            sound got = decode_all(&n, 0, codes, FRAMES, 5, 0, NULL);
            if (want.samples == NULL) {
                want = got;
            } else {
                hold_same(&got, &want);
                free(got.samples);
            }
            free(codes);
            net_close(&n);
        }
    }
    use_isa(NULL);
    free(want.samples);
}

/* --- lengths and counts ------------------------------------------------------------------------
 */

static void lengths_are_those_of_the_published_model(void **state)
{
    (void)state;
    code2wav_config c = published();
    assert_int_equal(code2wav_rate(&c), 1920);
    assert_int_equal(code2wav_samples(&c, 0), 0);
    assert_int_equal(code2wav_samples(&c, 1), 1365);
    for (int64_t n = 1; n < 5000; n++) {
        assert_int_equal(code2wav_samples(&c, n), 1920 * n - 555);
    }
    c.n_upsampling_ratios = 1; /* one row of the first frame: nothing until there are two */
    c.upsampling_ratios[0] = 1;
    assert_int_equal(code2wav_rate(&c), 480);
    assert_int_equal(code2wav_samples(&c, 1), 0);
    assert_int_equal(code2wav_samples(&c, 2), 480 - 60 - 12 - 3);
}

/* Section 7 of the specification: multiply-adds of a frame. */
static void a_frame_costs_what_the_formulas_say(void **state)
{
    (void)state;
    code2wav_config c = published();
    double transformer = 8 * (4 * 1024.0 * 1024 + 3 * 1024.0 * 3072 + 2 * 72 * 1024.0);
    double upsample = (1024.0 * 2048 + 2 * (7 * 1024 + 8 * 1024.0 * 1024)) * 3;
    double entry = 4 * 1536 * 7168.0, blocks = 0, rows = 4, rates[] = {8, 5, 4, 3};
    for (int32_t b = 0; b < 4; b++) {
        double in = 1536 >> b, out = 768 >> b;
        blocks += rows * in * out * 2 * rates[b];
        rows *= rates[b];
        blocks += rows * 3 * 8 * out * out;
    }
    double sum = transformer + upsample + entry + blocks + 1920 * 7 * 96;
    assert_in_range((int64_t)(sum / 1e5), 25573, 25574); /* 2,557.4 M */
    assert_true(fabs(code2wav_flops(&c, 1) - 2 * sum) < 1);
    assert_true(fabs(code2wav_flops(&c, 50) - 100 * sum) < 1);
}

static void sizes_that_cannot_be_are_refused(void **state)
{
    (void)state;
    thread_pool *pool = pool_of(1);
    code2wav *v = NULL;
    code2wav_config c = published();
    for (int32_t i = 0; i < MODEL_UPSAMPLES_MAX; i++) {
        c.upsample_rates[i] = c.upsampling_ratios[i] = 256;
    }
    c.n_upsample_rates = c.n_upsampling_ratios = MODEL_UPSAMPLES_MAX;
    assert_int_equal(code2wav_rate(&c), INT32_MAX);
    assert_int_equal(code2wav_open(&v, &c, pool, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "upsample_rates"));
    c = published();
    c.codebook_size = 1 << 27;
    assert_int_equal(code2wav_open(&v, &c, pool, &err), FLO_FAIL);
    c = published();
    c.sliding_window = 1 << 30;
    c.hidden_size = 1 << 24;
    c.n_kv_heads = c.n_heads = 1 << 15;
    c.head_dim = 512;
    assert_true(plan_code2wav_region_bytes(&c) >= (uint64_t)1 << 60);
    assert_int_equal(code2wav_open(&v, &c, pool, &err), FLO_FAIL);
    thread_pool_free(pool);
}

/* --- rates -------------------------------------------------------------------------------------
 */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double middle(double *x, int32_t n)
{
    qsort(x, (size_t)n, sizeof *x, by_size);
    return x[n / 2];
}

/* Chunks of so many frames, well into a stream, and the peak in turns. */
static void time_chunks(const net *n, const char *isa, int32_t n_frames)
{
    enum { TRIES = 7 };
    int32_t *codes = random_codes(&n->c, n_frames, 4);
    sound s = sound_of(&n->c, 2 * (int64_t)VOCODER_FRAMES_MAX);
    double took[TRIES], peak[TRIES], share[TRIES], longest = 0;
    code2wav_reset(n->v, 0);
    decode(n, 0, codes, n_frames, NULL, &s);
    for (int32_t i = 0; i < TRIES; i++) {
        const float *samples;
        int32_t n_samples;
        peak[i] = fma_peak(n->pool);
        double began = clock_s(), last = began;
        bool done = false;
        code2wav_begin(n->v, 0, codes, n_frames, NULL);
        while (!done) {
            done = code2wav_advance(n->v, &samples, &n_samples);
            double now = clock_s();
            longest = now - last > longest ? now - last : longest;
            last = now;
        }
        took[i] = last - began;
        share[i] = 1e-9 * code2wav_flops(&n->c, n_frames) / took[i] / peak[i];
    }
    double rate = code2wav_rate(&n->c) / 24000.0 * n_frames;
    double seconds = middle(took, TRIES);
    print_message("  %-6s %d thread(s), %2d frames: %6.1f ms, %4.1f times as fast as it sounds, "
                  "%4.1f %% of the peak %.0f; longest slice %.0f ms\n",
                  isa, thread_pool_size(n->pool), n_frames, 1e3 * seconds, rate / seconds,
                  100 * middle(share, TRIES), middle(peak, TRIES), 1e3 * longest);
    free(s.samples);
    free(codes);
}

/* Time goes to the module whose rows are told next. */
typedef struct module_times {
    int32_t n;
    double last;
    struct {
        char name[64];
        double seconds;
    } of[40];
} module_times;

static void note_time(void *arg, const char *name, int64_t first, int32_t n, int32_t columns,
                      const float *data)
{
    (void)first, (void)n, (void)columns, (void)data;
    module_times *t = arg;
    double now = clock_s();
    int32_t i = 0;
    while (i < t->n && strcmp(t->of[i].name, name) != 0) {
        i++;
    }
    if (i == t->n) {
        assert_true(i < 40);
        snprintf(t->of[t->n++].name, sizeof t->of[i].name, "%s", name);
        t->of[i].seconds = 0;
    }
    t->of[i].seconds += now - t->last;
    t->last = now;
}

/* Multiply-adds of a frame in a module, times two. */
static double module_flops(const code2wav_config *c, const char *name)
{
    int32_t i = name[8] - '0';
    double h = c->hidden_size, rows = 1;
    if (strcmp(name, "transformer") == 0) {
        code2wav_config alone = *c, without = *c;
        without.n_layers = 0;
        return code2wav_flops(&alone, 1) - code2wav_flops(&without, 1);
    }
    bool upsample = strncmp(name, "upsample", 8) == 0;
    i = upsample ? name[9] - '0' : i;
    for (int32_t k = 0; k < c->n_upsampling_ratios && !(upsample && k > i); k++) {
        rows *= c->upsampling_ratios[k];
    }
    if (upsample) {
        return 2 * rows * (strstr(name, "conv") != NULL ? h * h : h * (7 + 8 * h));
    }
    if (strncmp(name, "decoder", 7) != 0 || i == c->n_upsample_rates + 1) {
        return 0;
    }
    double out = c->decoder_dim;
    for (int32_t k = 0; k < i && k < c->n_upsample_rates; k++) {
        rows *= c->upsample_rates[k];
        out /= 2;
    }
    return i == 0                        ? 2 * rows * 7 * h * out
           : i > c->n_upsample_rates + 1 ? 2 * rows * 7 * out
                                         : 2 * rows * (4 * out * out + 24 * out * out);
}

static void time_modules(const net *n, int32_t n_frames)
{
    enum { TRIES = 5 };
    int32_t *codes = random_codes(&n->c, n_frames, 4);
    sound s = sound_of(&n->c, (TRIES + 2) * (int64_t)VOCODER_FRAMES_MAX);
    module_times best = {.n = 0};
    double peak = fma_peak(n->pool), all = 0;
    code2wav_reset(n->v, 0);
    decode(n, 0, codes, n_frames, NULL, &s);
    for (int32_t i = 0; i < TRIES; i++) {
        module_times t = {.last = clock_s()};
        decode(n, 0, codes, n_frames, &(code2wav_watch){note_time, &t}, &s);
        for (int32_t k = 0; k < t.n; k++) {
            bool less = i == 0 || t.of[k].seconds < best.of[k].seconds;
            best.of[k] = less ? t.of[k] : best.of[k];
        }
        best.n = t.n;
    }
    for (int32_t k = 0; k < best.n; k++) {
        all += best.of[k].seconds;
    }
    for (int32_t k = 0; k < best.n; k++) {
        double flops = module_flops(&n->c, best.of[k].name) * n_frames;
        print_message("    %-16s %7.2f ms, %4.1f %% of the time, %5.1f %% of the peak\n",
                      best.of[k].name, 1e3 * best.of[k].seconds, 100 * best.of[k].seconds / all,
                      1e-7 * flops / best.of[k].seconds / peak);
    }
    free(s.samples);
    free(codes);
}

static void rates(void **state)
{
    (void)state;
    const char *most = getenv("FLOTILLA_BENCH"); /* threads, at most: 1, 2, 4, ... are tried */
    if (most == NULL) {
        skip();
    }
    static const char *const isas[] = {"avx512", "avx2"};
    static const int32_t frames[] = {1, 2, 4, 8, 16, 32};
    code2wav_config c = published();
    for (int32_t threads = 1; threads <= atoi(most); threads *= 2) {
        net n = net_of(&c, NULL, threads);
        for (int32_t i = 0; i < 2; i++) {
            if (kernels_variant(isas[i]) == NULL) {
                continue;
            }
            use_isa(isas[i]);
            for (int32_t k = 0; k < 6; k++) {
                time_chunks(&n, isas[i], frames[k]);
            }
            time_modules(&n, 2);
            time_modules(&n, 32);
        }
        net_close(&n);
    }
    use_isa(NULL);
}

int main(void)
{
    use_isa(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_module_gives_the_rows_of_the_reference),
        cmocka_unit_test(long_streams_give_the_samples_of_the_reference_whole_and_cut),
        cmocka_unit_test(networks_of_odd_shapes_give_the_rows_of_the_reference),
        cmocka_unit_test(chunks_of_any_sizes_give_the_same_bits),
        cmocka_unit_test(streams_that_take_turns_are_as_they_are_alone),
        cmocka_unit_test(a_frame_does_not_change_what_was_final_before_it),
        cmocka_unit_test(threads_and_instruction_sets_do_not_change_a_bit),
        cmocka_unit_test(lengths_are_those_of_the_published_model),
        cmocka_unit_test(a_frame_costs_what_the_formulas_say),
        cmocka_unit_test(sizes_that_cannot_be_are_refused),
        cmocka_unit_test(rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

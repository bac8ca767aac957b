/*
 * check_vocoder_sound.c - two speakers through the vocoder and its network, pieces of 700 frames in
 * turn: the exact one becomes the reference's chunked decoding, cuts included, the seamless one its
 * decoding of all frames at once; up to the first cut the two are equal bit for bit.
 *
 * Recorded are every 29th sample and their tolerance (tests/golden/code2wav/frames-700).
 */
#include "tests/unit/worker/encoders/encoder_cases.h"

#include "worker/kernels/kernels.h"
#include "worker/speech/vocoder.h"

#include <math.h>
#include <string.h>

enum { N_FRAMES = 700, RECORDED_STEP = 29, EXACT = 0, SEAMLESS = 1 };

typedef struct rig {
    code2wav_config c;
    thread_pool *pool;
    code2wav *net;
    vocoder *vocoder;
    int32_t *codes; /* [N_FRAMES][n_quantizers] */
    struct {
        float *samples;
        int64_t n;
        bool ended;
    } heard[2]; /* by session: EXACT, SEAMLESS */
} rig;

static void must(flo_code code)
{
    if (code != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

/* Recorded codes are [n_quantizers][frames]. */
static int32_t *codes_by_frame(const checkpoint *golden, int32_t groups)
{
    const checkpoint_tensor *t = NULL;
    int32_t *stored = tensor_data(golden, "codes", &t);
    int32_t *codes = memory_of((size_t)N_FRAMES * (size_t)groups * sizeof *codes);
    assert_true(stored != NULL && t->shape[0] == groups && t->shape[1] == N_FRAMES);
    for (int32_t i = 0; i < N_FRAMES * groups; i++) {
        codes[i] = stored[i % groups * N_FRAMES + i / groups];
    }
    free(stored);
    return codes;
}

static rig rig_open(const checkpoint *golden)
{
    model_config m;
    checkpoint *weights;
    must(model_config_read(&m, golden_path("tiny-omni"), &err));
    must(checkpoint_open(&weights, golden_path("tiny-omni"), &err));
    rig r = {.c = m.code2wav, .pool = pool_of(2)};
    weights_source source = {.checkpoint = weights};
    must(code2wav_open(&r.net, &r.c, r.pool, &err));
    must(code2wav_load(r.net, &source, NULL, &err));
    must(vocoder_open(&r.vocoder, r.net, &r.c, &err));
    r.codes = codes_by_frame(golden, r.c.n_quantizers);
    for (int32_t i = 0; i < 2; i++) {
        size_t most = (size_t)N_FRAMES * (size_t)code2wav_rate(&r.c);
        r.heard[i].samples = memory_of(most * sizeof(float));
    }
    checkpoint_close(weights);
    return r;
}

static void rig_close(rig *r)
{
    for (int32_t i = 0; i < 2; i++) {
        free(r->heard[i].samples);
    }
    free(r->codes);
    vocoder_close(r->vocoder);
    code2wav_close(r->net);
    thread_pool_free(r->pool);
}

/* One slice; what it finishes follows on what its session has been heard to say. */
static void advance(rig *r)
{
    vocoder_sound s;
    if (vocoder_advance(r->vocoder, &s)) {
        assert_int_equal(s.first_sample, r->heard[s.session].n);
        memcpy(r->heard[s.session].samples + s.first_sample, s.samples,
               (size_t)s.n_samples * sizeof(float));
        r->heard[s.session].n += s.n_samples;
        r->heard[s.session].ended = s.last;
    }
}

/* Pieces of 1 to 41 frames for one session and the other, a slice after each. */
static void speak(rig *r)
{
    int32_t first[2] = {0, 0};
    for (int32_t turn = 0; first[0] < N_FRAMES || first[1] < N_FRAMES; turn++) {
        int32_t of = turn % 2, piece = 1 + turn * 13 % 41, left = N_FRAMES - first[of];
        int32_t n = piece < left ? piece : left;
        if (n > 0) {
            must(vocoder_push(r->vocoder, (uint64_t)of, first[of],
                              r->codes + first[of] * r->c.n_quantizers, n, of == EXACT, n == left,
                              NULL, &err));
        }
        first[of] += n;
        advance(r);
    }
    while (vocoder_busy(r->vocoder)) {
        advance(r);
    }
    assert_true(r->heard[EXACT].ended && r->heard[SEAMLESS].ended);
}

static void hold_recorded(const rig *r, int32_t session, const checkpoint *golden, const char *name)
{
    const checkpoint_tensor *t = NULL;
    float *want = tensor_data(golden, name, &t);
    int64_t n = r->heard[session].n;
    assert_true(want != NULL && (n + RECORDED_STEP - 1) / RECORDED_STEP == t->shape[0]);
    for (int64_t i = 0; i < n; i += RECORDED_STEP) {
        double w = (double)want[i / RECORDED_STEP], got = (double)r->heard[session].samples[i];
        if (!(fabs(got - w) <= 5e-4 + 1e-3 * fabs(w))) {
            fail_msg("%s: sample %lld is %.6g, the reference has %.6g", name, (long long)i, got, w);
        }
    }
    free(want);
}

static void both_modes_give_the_samples_of_the_reference(void **state)
{
    (void)state;
    checkpoint *golden = open_file(golden_path("code2wav/frames-700/tensors.safetensors"));
    rig r = rig_open(golden);
    speak(&r);
    int64_t cut = code2wav_samples(&r.c, CUT_FRAMES);
    int64_t lost = (int64_t)CUT_FRAMES * code2wav_rate(&r.c) - cut;
    assert_int_equal(r.heard[SEAMLESS].n, code2wav_samples(&r.c, N_FRAMES));
    assert_int_equal(r.heard[EXACT].n, r.heard[SEAMLESS].n - 2 * lost);
    hold_recorded(&r, EXACT, golden, "wav_chunked_every29");
    hold_recorded(&r, SEAMLESS, golden, "wav_oneshot_every29");
    assert_memory_equal(r.heard[EXACT].samples, r.heard[SEAMLESS].samples,
                        (size_t)cut * sizeof(float));
    rig_close(&r);
    checkpoint_close(golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_modes_give_the_samples_of_the_reference),
    };
    if (kernels_init(&err) != FLO_OK) {
        return 1;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}

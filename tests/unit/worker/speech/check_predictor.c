/*
 * check_predictor.c - frames get the reference's codes and sums (tests/golden/speech); each speaker
 * is computed as if alone; draws follow the reference's probabilities and their rule; memory is
 * what the plan says.
 *
 * Tolerances of sums and logits are the reference data's own (tests/golden/speech, case.json).
 */
#include "tests/unit/worker/encoders/encoder_cases.h"

#include "common/clock.h"
#include "common/plan.h"
#include "common/plan_parts.h"
#include "common/sampler.h"
#include "common/speech_cost.h"
#include "worker/kernels/kernels.h"
#include "worker/peak.h"
#include "worker/speech/predictor.h"

#include <math.h>
#include <string.h>

/* --- pieces ------------------------------------------------------------------------------------
 */

typedef struct rig {
    code_predictor_config c;
    thread_pool *pool;
    predictor *p;
} rig;

static rig rig_open(const code_predictor_config *c, const checkpoint *weights, int32_t n_threads)
{
    rig r = {.c = *c, .pool = pool_of(n_threads)};
    weights_source source = {.checkpoint = weights, .seed = 11};
    if (predictor_open(&r.p, c, r.pool, &err) != FLO_OK ||
        predictor_load(r.p, &source, NULL, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return r;
}

static void rig_close(rig *r)
{
    predictor_close(r->p);
    thread_pool_free(r->pool);
}

static model_config tiny_config(void)
{
    model_config m;
    assert_int_equal(model_config_read(&m, golden_path("tiny-omni"), &err), FLO_OK);
    return m;
}

static checkpoint *tiny_weights(void)
{
    checkpoint *c;
    assert_int_equal(checkpoint_open(&c, golden_path("tiny-omni"), &err), FLO_OK);
    return c;
}

/* Numbers that meet no block size; several query heads share a key head. */
static code_predictor_config odd_config(void)
{
    return (code_predictor_config){.vocab_size = 131,
                                   .hidden_size = 40,
                                   .n_layers = 3,
                                   .n_heads = 6,
                                   .n_kv_heads = 2,
                                   .head_dim = 12,
                                   .intermediate_size = 77,
                                   .n_code_groups = 7,
                                   .rms_norm_eps = 1e-6f,
                                   .rope_theta = 10000.0};
}

typedef struct frame { /* of some speakers */
    int32_t n;
    float *hidden, *firsts; /* [n][H] */
    predictor_choice how[SPEAKERS_MAX];
    int32_t *codes; /* [n][groups - 1], after run_frame */
    float *sums;    /* [n][H] */
} frame;

static uint64_t frame_code_bytes(const rig *r, int32_t n)
{
    return (uint64_t)n * (uint64_t)(r->c.n_code_groups - 1) * sizeof(int32_t);
}

static uint64_t frame_row_bytes(const rig *r, int32_t n)
{
    return (uint64_t)n * (uint64_t)r->c.hidden_size * sizeof(float);
}

static frame frame_of(const rig *r, int32_t n)
{
    frame f = {.n = n};
    f.hidden = memory_of(frame_row_bytes(r, n));
    f.firsts = memory_of(frame_row_bytes(r, n));
    f.sums = memory_of(frame_row_bytes(r, n));
    f.codes = memory_of(frame_code_bytes(r, n));
    return f;
}

static void frame_free(frame *f)
{
    free(f->hidden);
    free(f->firsts);
    free(f->sums);
    free(f->codes);
}

/* Made-up inputs; every other speaker is greedy. */
static frame noise_frame(const rig *r, int32_t n, uint64_t seed)
{
    frame f = frame_of(r, n);
    for (int32_t i = 0; i < n * r->c.hidden_size; i++) {
        f.hidden[i] = (float)(sampler_uniform(seed, 2 * (uint64_t)i) * 2 - 1);
        f.firsts[i] = (float)(sampler_uniform(seed, 2 * (uint64_t)i + 1) * 2 - 1);
    }
    for (int32_t i = 0; i < n; i++) {
        f.how[i] = (predictor_choice){
            .greedy = i % 2 == 0, .seed = seed + (uint64_t)i, .draw = 16 * (uint64_t)i + 1};
    }
    return f;
}

static void run_frame(const rig *r, frame *f)
{
    bool done = false;
    int32_t n_passes = 0;
    predictor_begin(r->p, f->hidden, f->firsts, f->how, f->n);
    while (!done) {
        if (predictor_advance(r->p, &done, &err) != FLO_OK) {
            fail_msg("%s", err.text);
        }
        n_passes++;
    }
    assert_int_equal(n_passes, r->c.n_code_groups - 1);
    memcpy(f->codes, predictor_codes(r->p), frame_code_bytes(r, f->n));
    memcpy(f->sums, predictor_sums(r->p), frame_row_bytes(r, f->n));
}

/* The i-th speaker of a frame, as a frame. */
static frame one_of(const rig *r, const frame *f, int32_t i)
{
    frame one = frame_of(r, 1);
    int32_t h = r->c.hidden_size;
    memcpy(one.hidden, f->hidden + i * h, frame_row_bytes(r, 1));
    memcpy(one.firsts, f->firsts + i * h, frame_row_bytes(r, 1));
    one.how[0] = f->how[i];
    return one;
}

/* Speaker a of one finished frame has the bits of speaker b of another. */
static void hold_same(const rig *r, const frame *one, int32_t a, const frame *other, int32_t b)
{
    int32_t n = r->c.n_code_groups - 1, h = r->c.hidden_size;
    assert_memory_equal(one->codes + a * n, other->codes + b * n, frame_code_bytes(r, 1));
    assert_memory_equal(one->sums + a * h, other->sums + b * h, frame_row_bytes(r, 1));
}

/* --- against the reference ---------------------------------------------------------------------
 */

typedef struct golden { /* one spoken answer of the reference */
    checkpoint *weights, *tensors;
    model_config m;
    rig r;
    const checkpoint_tensor *codes_tensor;
    int32_t *codes; /* [groups][frames] */
    int32_t n_frames;
} golden;

static golden golden_open(const char *name)
{
    char path[128];
    golden g = {.m = tiny_config(), .weights = tiny_weights()};
    snprintf(path, sizeof path, "speech/%s/tensors.safetensors", name);
    g.tensors = open_file(golden_path(path));
    g.r = rig_open(&g.m.code_predictor, g.weights, 2);
    g.codes = tensor_data(g.tensors, "codes", &g.codes_tensor);
    assert_non_null(g.codes);
    assert_int_equal(g.codes_tensor->shape[0], g.m.code_predictor.n_code_groups);
    g.n_frames = (int32_t)g.codes_tensor->shape[1];
    return g;
}

static void golden_close(golden *g)
{
    free(g->codes);
    rig_close(&g->r);
    checkpoint_close(g->tensors);
    checkpoint_close(g->weights);
}

/* NULL: no such tensor. */
static float *step_tensor(const golden *g, int32_t step, const char *name)
{
    char full[64];
    const checkpoint_tensor *t = NULL;
    snprintf(full, sizeof full, "step.%d.%s", step, name);
    return tensor_data(g->tensors, full, &t);
}

/* The talker's embedding of a first code. */
static void first_row(const golden *g, float *out, int32_t code)
{
    int32_t h = g->r.c.hidden_size;
    bf16 row[1024];
    const checkpoint_tensor *t = checkpoint_find(g->weights, "talker.model.codec_embedding.weight");
    assert_non_null(t);
    assert_true(h <= 1024 && code < t->shape[0]);
    assert_int_equal(checkpoint_read(g->weights, t, (uint64_t)(code * h) * sizeof *row, row,
                                     (size_t)h * sizeof *row, &err),
                     FLO_OK);
    kernels()->bf16_widen(out, row, h);
}

/* Frame f of the answer, greedy; false where the reference's state is not recorded. */
static bool golden_frame(const golden *g, int32_t f, frame *out)
{
    float *hidden = f < g->n_frames ? step_tensor(g, f, "last_hidden") : NULL;
    if (hidden == NULL) {
        return false;
    }
    *out = frame_of(&g->r, 1);
    memcpy(out->hidden, hidden, frame_row_bytes(&g->r, 1));
    first_row(g, out->firsts, g->codes[f]);
    out->how[0] = (predictor_choice){.greedy = true};
    free(hidden);
    return true;
}

static void hold_codes(const golden *g, int32_t f, const int32_t *got)
{
    for (int32_t i = 1; i < g->r.c.n_code_groups; i++) {
        assert_int_equal(got[i - 1], g->codes[i * g->n_frames + f]);
    }
}

/* The talker's next input is the frame's sum and a row of text; false where it is not recorded. */
static bool hold_sums(const golden *g, int32_t f, const float *got)
{
    const checkpoint_tensor *t = NULL;
    float *next = step_tensor(g, f + 1, "input_embeds");
    float *text = tensor_data(g->tensors, "trailing_text_hidden", &t);
    assert_true(text != NULL && f < t->shape[0]);
    for (int32_t i = 0; next != NULL && i < g->r.c.hidden_size; i++) {
        float want = next[i] - text[f * g->r.c.hidden_size + i];
        assert_true(fabsf(got[i] - want) <= 8e-4f + 1e-3f * fabsf(want));
    }
    bool is_recorded = next != NULL;
    free(text);
    free(next);
    return is_recorded;
}

static const char *const answers[] = {"text", "text-two-turns", "audio", "image"};

static void frames_get_the_codes_and_sums_of_the_reference(void **state)
{
    (void)state;
    for (int32_t a = 0; a < 4; a++) {
        golden g = golden_open(answers[a]);
        frame f;
        int32_t n = 0, n_sums = 0;
        for (; golden_frame(&g, n, &f); n++) {
            run_frame(&g.r, &f);
            hold_codes(&g, n, f.codes);
            n_sums += hold_sums(&g, n, f.sums);
            frame_free(&f);
        }
        assert_int_equal(n, 4);
        assert_int_equal(n_sums, 3);
        golden_close(&g);
    }
}

/* --- draws -------------------------------------------------------------------------------------
 */

/* The probabilities that codes are drawn from, by the formulas of the specification's 6.2 in the
 * plainest way: the 50 largest logits, of them the fewest whose probability passes 0.8. */
static void reference_probabilities(double *p, const float *logits, int32_t n)
{
    double sum = 0, above = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t larger = 0;
        for (int32_t j = 0; j < n; j++) {
            larger += logits[j] > logits[i];
        }
        p[i] = larger < 50 ? exp((double)logits[i]) : 0.0;
        sum += p[i];
    }
    for (int32_t done = 0; done < n; done++) { /* by falling probability */
        int32_t best = 0;
        for (int32_t i = 1; i < n; i++) {
            best = p[i] > p[best] ? i : best;
        }
        if (p[best] <= 0) {
            break;
        }
        p[best] = above / sum < 0.8 ? -p[best] : 0.0; /* negative: stays */
        above -= p[best];
    }
    sum = 0;
    for (int32_t i = 0; i < n; i++) {
        p[i] = fabs(p[i]);
        sum += p[i];
    }
    for (int32_t i = 0; i < n; i++) {
        p[i] /= sum;
    }
}

/* How far u is from the bounds between which `code` is drawn; negative: outside. */
static double draw_margin(const double *p, int32_t code, double u)
{
    double below = 0;
    for (int32_t i = 0; i < code; i++) {
        below += p[i];
    }
    return fmin(u - below, below + p[code] - u);
}

enum { TRIES = 200, CODES_MAX = 4096 };

/* Draws of the reference's first frame: codes are where their u falls (but for rounding at the
 * bounds), for each group as long as the codes before it are those of the recorded logits; and
 * first ones are as frequent as they are likely. */
static void draws_follow_the_probabilities_of_the_reference(void **state)
{
    (void)state;
    static double p[CODE_GROUPS_MAX][CODES_MAX];
    static int32_t counts[CODES_MAX];
    golden g = golden_open("text");
    const checkpoint_tensor *t = NULL;
    float *logits = tensor_data(g.tensors, "predictor_logits", &t);
    int32_t vocab = g.r.c.vocab_size, n_groups = g.r.c.n_code_groups - 1, n_later = 0;
    assert_non_null(logits);
    for (int32_t i = 0; i < n_groups; i++) {
        reference_probabilities(p[i], logits + i * vocab, vocab);
    }
    frame one, f = frame_of(&g.r, SPEAKERS_MAX);
    assert_true(golden_frame(&g, 0, &one));
    for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
        memcpy(f.hidden + i * g.r.c.hidden_size, one.hidden, frame_row_bytes(&g.r, 1));
        memcpy(f.firsts + i * g.r.c.hidden_size, one.firsts, frame_row_bytes(&g.r, 1));
    }
    for (int32_t try = 0; try < TRIES; try++) {
        for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
            f.how[i] = (predictor_choice){.seed = (uint64_t)(try * SPEAKERS_MAX + i), .draw = 33};
        }
        run_frame(&g.r, &f);
        for (int32_t i = 0; i < SPEAKERS_MAX; i++) {
            const int32_t *codes = f.codes + i * n_groups;
            bool recorded = true;
            counts[codes[0]]++;
            for (int32_t k = 0; k < n_groups && recorded; k++) {
                double u = sampler_uniform(f.how[i].seed, 33 + (uint64_t)k);
                assert_true(draw_margin(p[k], codes[k], u) > -2e-3);
                n_later += k > 0;
                recorded = codes[k] == g.codes[(k + 1) * g.n_frames];
            }
        }
    }
    assert_true(n_later > 20);
    double chi = 0, n = TRIES * SPEAKERS_MAX;
    int32_t n_likely = 0;
    for (int32_t i = 0; i < vocab; i++) {
        double expected = p[0][i] * n;
        assert_true(expected > 0 || counts[i] == 0);
        chi += expected > 0 ? (counts[i] - expected) * (counts[i] - expected) / expected : 0;
        n_likely += expected > 0;
    }
    assert_true(n_likely > 5);
    /* chi-square has mean k and variance 2 k: five deviations, of fixed seeds */
    assert_true(chi < n_likely + 5 * sqrt(2.0 * n_likely));
    free(logits);
    frame_free(&one);
    frame_free(&f);
    golden_close(&g);
}

static void a_seed_gives_the_same_codes_again_and_another_one_others(void **state)
{
    (void)state;
    code_predictor_config c = odd_config();
    rig r = rig_open(&c, NULL, 2);
    frame f = noise_frame(&r, 4, 3);
    for (int32_t i = 0; i < 4; i++) { /* the same input four times */
        memcpy(f.hidden + i * c.hidden_size, f.hidden, frame_row_bytes(&r, 1));
        memcpy(f.firsts + i * c.hidden_size, f.firsts, frame_row_bytes(&r, 1));
    }
    f.how[0] = f.how[1] = (predictor_choice){.seed = 7, .draw = 1};
    f.how[2] = (predictor_choice){.seed = 8, .draw = 1};
    f.how[3] = (predictor_choice){.seed = 7, .draw = 17};
    run_frame(&r, &f);
    int32_t n = c.n_code_groups - 1;
    hold_same(&r, &f, 0, &f, 1);
    assert_memory_not_equal(f.codes, f.codes + 2 * n, frame_code_bytes(&r, 1));
    assert_memory_not_equal(f.codes, f.codes + 3 * n, frame_code_bytes(&r, 1));
    frame_free(&f);
    rig_close(&r);
}

/* --- bits --------------------------------------------------------------------------------------
 */

static void speakers_together_are_computed_as_if_alone(void **state)
{
    (void)state;
    code_predictor_config c = odd_config();
    rig r = rig_open(&c, NULL, 2);
    for (int32_t n = 1; n <= SPEAKERS_MAX; n++) {
        frame all = noise_frame(&r, n, 100 + (uint64_t)n);
        run_frame(&r, &all);
        for (int32_t i = 0; i < n; i++) {
            frame one = one_of(&r, &all, i);
            run_frame(&r, &one);
            hold_same(&r, &one, 0, &all, i);
            frame_free(&one);
        }
        frame_free(&all);
    }
    rig_close(&r);
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
    code_predictor_config c = odd_config();
    use_isa("ref");
    rig plain = rig_open(&c, NULL, 1);
    frame want = noise_frame(&plain, 5, 9);
    run_frame(&plain, &want);
    for (int32_t i = 0; i < 3; i++) {
        if (kernels_variant(isas[i]) == NULL) {
            continue;
        }
        use_isa(isas[i]);
        for (int32_t threads = 1; threads <= 3; threads++) {
            rig r = rig_open(&c, NULL, threads);
            frame got = noise_frame(&r, 5, 9);
            run_frame(&r, &got);
            for (int32_t k = 0; k < 5; k++) {
                hold_same(&r, &got, k, &want, k);
            }
            frame_free(&got);
            rig_close(&r);
        }
    }
    use_isa(NULL);
    frame_free(&want);
    rig_close(&plain);
}

/* --- what can go wrong -------------------------------------------------------------------------
 */

static void a_frame_that_is_no_number_is_told_and_leaves_nothing_behind(void **state)
{
    (void)state;
    code_predictor_config c = odd_config();
    rig r = rig_open(&c, NULL, 2);
    frame good = noise_frame(&r, 3, 5), again = noise_frame(&r, 3, 5), bad = noise_frame(&r, 3, 6);
    bool done;
    run_frame(&r, &good);
    bad.hidden[c.hidden_size] = NAN;
    predictor_begin(r.p, bad.hidden, bad.firsts, bad.how, 3);
    assert_int_equal(predictor_advance(r.p, &done, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "code predictor, code 1"));
    assert_non_null(strstr(err.text, "not finite"));
    run_frame(&r, &again);
    for (int32_t i = 0; i < 3; i++) {
        hold_same(&r, &again, i, &good, i);
    }
    frame_free(&good);
    frame_free(&again);
    frame_free(&bad);
    rig_close(&r);
}

static void a_tensor_of_another_shape_is_told_by_name(void **state)
{
    (void)state;
    checkpoint *weights = tiny_weights();
    weights_source source = {.checkpoint = weights};
    thread_pool *pool = pool_of(1);
    predictor *p;
    code_predictor_config c = tiny_config().code_predictor;
    c.vocab_size++;
    assert_int_equal(predictor_open(&p, &c, pool, &err), FLO_OK);
    assert_int_equal(predictor_load(p, &source, NULL, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "talker.code_predictor.lm_head.0.weight"));
    predictor_close(p);
    thread_pool_free(pool);
    checkpoint_close(weights);
}

/* --- memory ------------------------------------------------------------------------------------
 */

static uint64_t seed = 1;

static int32_t drawn(int32_t most)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return 1 + (int32_t)((seed >> 33) % (uint64_t)most);
}

static code_predictor_config drawn_config(void)
{
    int32_t n_kv_heads = drawn(8);
    return (code_predictor_config){.vocab_size = drawn(300),
                                   .hidden_size = drawn(150),
                                   .n_layers = drawn(3),
                                   .n_heads = n_kv_heads * drawn(3),
                                   .n_kv_heads = n_kv_heads,
                                   .head_dim = 2 * drawn(40),
                                   .intermediate_size = drawn(200),
                                   .n_code_groups = 1 + drawn(CODE_GROUPS_MAX - 1),
                                   .rms_norm_eps = 1e-6f,
                                   .rope_theta = 10000.0};
}

static void hold_to_plan(const code_predictor_config *c)
{
    uint64_t taken = predictor_open_bytes(c), planned = plan_predictor_region_bytes(c);
    assert_true(taken <= planned);
    assert_true(planned <= taken + taken / 4 + (1 << 20));
}

static void memory_is_what_the_plan_says(void **state)
{
    (void)state;
    model_config m;
    assert_int_equal(model_config_read(&m, golden_path("published-config"), &err), FLO_OK);
    hold_to_plan(&m.code_predictor);
    assert_true(plan_predictor_region_bytes(&m.code_predictor) <= 128 << 20);
    for (int32_t i = 0; i < 2000; i++) {
        code_predictor_config c = drawn_config();
        hold_to_plan(&c);
    }
    for (int32_t i = 0; i < 20; i++) { /* the weights' bytes are checked while they are declared */
        code_predictor_config c = drawn_config();
        rig r = rig_open(&c, NULL, 1);
        frame f = noise_frame(&r, drawn(SPEAKERS_MAX), (uint64_t)i);
        run_frame(&r, &f);
        for (int32_t k = 0; k < f.n * (c.n_code_groups - 1); k++) {
            assert_in_range(f.codes[k], 0, c.vocab_size - 1);
        }
        frame_free(&f);
        rig_close(&r);
    }
    m.has_talker = false;
    assert_true(plan_predictor_bytes(&m) == 0);
}

/* --- rates -------------------------------------------------------------------------------------
 */

static double frame_seconds(const rig *r, frame *f, bool greedy)
{
    double best = 1e9;
    for (int32_t i = 0; i < f->n; i++) {
        f->how[i].greedy = greedy;
    }
    for (int32_t again = 0; again < 5; again++) {
        double began = clock_s();
        run_frame(r, f);
        double took = clock_s() - began;
        best = took < best ? took : best;
    }
    return best;
}

/* Of n speakers, against reading the weights 15 times (which bounds few speakers) and against
 * multiplying (many). Two operations for each weight of two bytes, so bytes are operations. */
static void time_frame(const rig *r, int32_t n, const void *memory, size_t n_bytes)
{
    frame f = noise_frame(r, n, 1);
    double reads = read_peak(r->pool, memory, n_bytes), multiplies = fma_peak(r->pool);
    double greedy = frame_seconds(r, &f, true), sampled = frame_seconds(r, &f, false);
    double read = 1e-9 * predictor_frame_bytes(&r->c) / sampled, multiplied = n * read;
    print_message(
        "  %d thread(s), %2d speakers: %5.1f ms a frame greedy, %5.1f sampled: %4.1f GB/s, "
        "%3.0f %% of %.1f; %3.0f GFLOP/s, %2.0f %% of %.0f\n",
        thread_pool_size(r->pool), n, 1e3 * greedy, 1e3 * sampled, read, 100 * read / reads, reads,
        multiplied, 100 * multiplied / multiplies, multiplies);
    frame_free(&f);
}

static void rates(void **state)
{
    (void)state;
    const char *most = getenv("FLOTILLA_BENCH"); /* threads, at most: 1, 2, 4, ... are tried */
    if (most == NULL) {
        skip();
    }
    model_config m;
    assert_int_equal(model_config_read(&m, golden_path("published-config"), &err), FLO_OK);
    size_t n_bytes = (size_t)1 << 28;
    void *memory = memory_of(n_bytes);
    memset(memory, 1, n_bytes);
    for (int32_t threads = 1; threads <= atoi(most); threads *= 2) {
        rig r = rig_open(&m.code_predictor, NULL, threads);
        for (int32_t n = 1; n <= SPEAKERS_MAX; n *= 2) {
            time_frame(&r, n, memory, n_bytes);
        }
        rig_close(&r);
    }
    free(memory);
}

int main(void)
{
    use_isa(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_get_the_codes_and_sums_of_the_reference),
        cmocka_unit_test(draws_follow_the_probabilities_of_the_reference),
        cmocka_unit_test(a_seed_gives_the_same_codes_again_and_another_one_others),
        cmocka_unit_test(speakers_together_are_computed_as_if_alone),
        cmocka_unit_test(threads_and_instruction_sets_do_not_change_a_bit),
        cmocka_unit_test(a_frame_that_is_no_number_is_told_and_leaves_nothing_behind),
        cmocka_unit_test(a_tensor_of_another_shape_is_told_by_name),
        cmocka_unit_test(memory_is_what_the_plan_says),
        cmocka_unit_test(rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

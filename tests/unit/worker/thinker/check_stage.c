/*
 * check_stage.c - what a stage computes is what the reference computes, and the same bits for any
 * number of threads, chunks, stages and neighbours in a step.
 *
 * tests/golden/odd-shapes (made by tests/golden/make/odd_shapes.py) has a checkpoint whose shapes
 * meet no block size, with dense layers among sparse ones and unnormalised expert weights, and the
 * reference's numbers for 70 tokens. The rest uses made-up weights.
 *
 * Rounding. With several expert workers a row's sum of k terms is added in another order; each term
 * is off by at most k u of the sum of magnitudes, and a few layers multiply that: 1e-4 of the
 * largest number of a row is far above it, and far below what a lost expert would do.
 */
#include "rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static rig r;
static const weights_source made_up = {.checkpoint = NULL, .seed = 3};

static float *floats(size_t n)
{
    float *p = calloc(n + 1, sizeof *p);
    assert_non_null(p);
    return p;
}

static void random_ids(int32_t *ids, int32_t n, int32_t vocab, uint64_t seed)
{
    for (int32_t i = 0; i < n; i++) {
        ids[i] = rig_below(&seed, vocab);
    }
}

/* --- against the reference ---------------------------------------------------------------------
 */

typedef struct golden {
    checkpoint *weights, *tensors;
    model_config model;
    int32_t n_ids, n_compared;
    int32_t *ids;
    int32_t first_row; /* of the chunk that is computed */
} golden;

static golden g;

static void *golden_read(const char *name, const checkpoint_tensor **tensor)
{
    flo_err err = {""};
    const checkpoint_tensor *t = checkpoint_find(g.tensors, name);
    if (t == NULL) {
        return NULL;
    }
    void *data = malloc(t->n_bytes + 1);
    assert_non_null(data);
    assert_int_equal(checkpoint_read(g.tensors, t, 0, data, t->n_bytes, &err), FLO_OK);
    *tensor = t;
    return data;
}

static void golden_open(void)
{
    char path[4096];
    flo_err err = {""};
    const char *root = getenv("FLOTILLA_SOURCE_DIR");
    assert_non_null(root);
    memset(&g, 0, sizeof g);
    snprintf(path, sizeof path, "%s/tests/golden/odd-shapes/model", root);
    assert_int_equal(model_config_read(&g.model, path, &err), FLO_OK);
    assert_int_equal(checkpoint_open(&g.weights, path, &err), FLO_OK);
    snprintf(path, sizeof path, "%s/tests/golden/odd-shapes/thinker/odd-070/tensors.safetensors",
             root);
    assert_int_equal(checkpoint_open_file(&g.tensors, path, &err), FLO_OK);
    const checkpoint_tensor *t;
    g.ids = golden_read("input_ids", &t);
    assert_non_null(g.ids);
    g.n_ids = (int32_t)t->n_elements;
}

static void golden_close(void)
{
    free(g.ids);
    checkpoint_close(g.weights);
    checkpoint_close(g.tensors);
}

/* The reference data's tolerance (tests/golden, README): 5e-4 of the rms plus 1e-3 relative. */
static void compare_floats(const char *name, const float *got, const float *want, size_t n)
{
    double square = 0;
    for (size_t i = 0; i < n; i++) {
        square += (double)want[i] * (double)want[i];
    }
    double atol = 5e-4 * sqrt(square / (double)n);
    for (size_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - (double)want[i]);
        if (!(off <= atol + 1e-3 * fabs((double)want[i]))) {
            fail_msg("%s[%zu] is %.9g, the reference has %.9g", name, i, (double)got[i],
                     (double)want[i]);
        }
    }
    g.n_compared++;
}

static void compare_dump(void *arg, const char *name, const void *rows, int32_t columns,
                         bool is_ids)
{
    (void)arg;
    const checkpoint_tensor *t;
    void *want = golden_read(name, &t);
    assert_non_null(want);
    assert_int_equal(t->shape[1], columns);
    size_t first = (size_t)g.first_row * (size_t)columns;
    size_t n = (size_t)(r.lengths[0] - g.first_row) * (size_t)columns;
    if (is_ids) {
        assert_memory_equal(rows, (int32_t *)want + first, n * 4);
        g.n_compared++;
    } else {
        compare_floats(name, rows, (float *)want + first, n);
    }
    free(want);
}

static void compare_logits(const float *x)
{
    const checkpoint_tensor *t;
    size_t h = (size_t)g.model.text.hidden_size, vocab = (size_t)g.model.text.vocab_size;
    int32_t *at = golden_read("logits_at", &t);
    int32_t n = (int32_t)t->n_elements;
    float *want = golden_read("logits", &t);
    assert_int_equal(t->shape[1], vocab);
    float *got = floats(vocab);
    for (int32_t i = 0; i < n; i++) {
        rig_logits(&r, got, x + (size_t)at[i] * h, 1);
        compare_floats("logits", got, want + (size_t)i * vocab, vocab);
    }
    free(got);
    free(want);
    free(at);
}

static void compare_greedy(const float *last_row)
{
    const checkpoint_tensor *t;
    size_t h = (size_t)g.model.text.hidden_size, vocab = (size_t)g.model.text.vocab_size;
    int32_t *want = golden_read("greedy_ids", &t);
    float *x = floats(h), *logits = floats(vocab);
    memcpy(x, last_row, h * sizeof *x);
    r.dump = NULL;
    for (size_t i = 0; i < t->n_elements; i++) {
        rig_logits(&r, logits, x, 1);
        int32_t best = 0;
        for (size_t v = 0; v < vocab; v++) {
            best = logits[v] > logits[best] ? (int32_t)v : best;
        }
        assert_int_equal(best, want[i]);
        stage_embed(&r.stages[0], x, &best, 1);
        rig_step(&r, x, &(rig_span){0, 1}, 1);
    }
    free(x);
    free(logits);
    free(want);
}

static void hold_to_reference(const rig_shape *shape, int32_t chunk)
{
    weights_source source = {.checkpoint = g.weights};
    size_t h = (size_t)g.model.text.hidden_size;
    rig_open(&r, &g.model, shape, &source);
    r.dump = compare_dump;
    g.n_compared = 0;
    float *x = floats((size_t)g.n_ids * h);
    stage_embed(&r.stages[0], x, g.ids, g.n_ids);
    for (g.first_row = 0; g.first_row < g.n_ids; g.first_row += chunk) {
        int32_t left = g.n_ids - g.first_row;
        rig_span span = {0, left < chunk ? left : chunk};
        rig_step(&r, x + (size_t)g.first_row * h, &span, 1);
    }
    /* hidden.0 .. hidden.6, and three tensors of the two routers, for each chunk */
    assert_int_equal(g.n_compared, (7 + 3 * 2) * ((g.n_ids + chunk - 1) / chunk));
    compare_logits(x);
    compare_greedy(x + (size_t)(g.n_ids - 1) * h);
    free(x);
    rig_close(&r);
}

static void odd_shapes_are_computed_as_in_the_reference(void **state)
{
    (void)state;
    golden_open();
    assert_false(g.model.text.norm_topk_prob);
    assert_true(g.model.text.layer_is_sparse[1] && g.model.text.layer_is_sparse[5]);
    assert_false(g.model.text.layer_is_sparse[0] || g.model.text.layer_is_sparse[3]);
    hold_to_reference(&(rig_shape){1, 1, 2, false}, 70);
    hold_to_reference(&(rig_shape){1, 1, 1, false}, 9);
    hold_to_reference(&(rig_shape){3, 3, 2, false}, 33);
    hold_to_reference(&(rig_shape){3, 1, 2, false}, 70);
    hold_to_reference(&(rig_shape){5, 2, 2, true}, 41);
    golden_close();
}

/* --- the same bits -----------------------------------------------------------------------------
 */

enum { N_PROMPT = 100 };
static int32_t prompt[N_PROMPT];

/* Rows of the prompt after all layers; freed by the caller. */
static float *computed(const model_config *m, const rig_shape *shape, int32_t chunk)
{
    rig_open(&r, m, shape, &made_up);
    float *x = floats((size_t)N_PROMPT * (size_t)m->text.hidden_size);
    rig_prompt(&r, x, prompt, N_PROMPT, chunk);
    rig_close(&r);
    return x;
}

/* With an expert that every row goes through, as the talker has one. */
static model_config shared_model(void)
{
    model_config m = rig_model();
    m.text.shared_expert_size = 36;
    return m;
}

static void hold_to_one_worker(const model_config *of)
{
    model_config m = *of;
    size_t bytes = (size_t)N_PROMPT * (size_t)m.text.hidden_size * sizeof(float);
    random_ids(prompt, N_PROMPT, m.text.vocab_size, 1);
    float *want = computed(&m, &(rig_shape){1, 1, 1, false}, N_PROMPT);
    for (size_t i = 0; i < N_PROMPT * (size_t)m.text.hidden_size; i++) {
        assert_true(isfinite(want[i]));
    }
    static const int32_t chunks[] = {1, 2, 3, 7, 63, 64, 65, N_PROMPT};
    for (int32_t i = 0; i < 8; i++) {
        for (int32_t stages = 1; stages <= 5; stages += 2) {
            float *got =
                computed(&m, &(rig_shape){stages, stages, 1 + (i + stages) % 4, false}, chunks[i]);
            assert_memory_equal(got, want, bytes);
            free(got);
        }
    }
    for (int32_t workers = 2; workers <= 9; workers++) { /* one place for each expert, at most */
        float *got = computed(&m, &(rig_shape){workers, 1 + workers / 5, 2, true}, 50);
        assert_memory_equal(got, want, bytes);
        free(got);
    }
    free(want);
}

static void threads_chunks_and_stages_change_no_bit(void **state)
{
    (void)state;
    model_config plain = rig_model(), shared = shared_model();
    hold_to_one_worker(&plain);
    hold_to_one_worker(&shared);
}

static void a_shared_expert_is_added_to_the_others(void **state)
{
    (void)state;
    model_config plain = rig_model(), shared = shared_model();
    size_t h = (size_t)plain.text.hidden_size;
    random_ids(prompt, N_PROMPT, plain.text.vocab_size, 4);
    rig_shape shape = {1, 1, 1, false};
    float *without = computed(&plain, &shape, N_PROMPT), *with = computed(&shared, &shape, 9);
    for (size_t row = 0; row < N_PROMPT; row++) {
        assert_memory_not_equal(with + row * h, without + row * h, h * sizeof *with);
    }
    free(without);
    free(with);
}

static void expert_workers_change_no_more_than_rounding(void **state)
{
    (void)state;
    model_config m = shared_model();
    size_t h = (size_t)m.text.hidden_size;
    random_ids(prompt, N_PROMPT, m.text.vocab_size, 2);
    float *want = computed(&m, &(rig_shape){1, 1, 2, false}, N_PROMPT);
    for (int32_t workers = 2; workers <= 7; workers++) {
        float *got = computed(&m, &(rig_shape){workers, 1, 2, false}, 30);
        for (size_t row = 0; row < N_PROMPT; row++) {
            float largest = 0;
            for (size_t i = 0; i < h; i++) {
                largest = fmaxf(largest, fabsf(want[row * h + i]));
            }
            for (size_t i = 0; i < h; i++) {
                assert_true(fabsf(got[row * h + i] - want[row * h + i]) <= 1e-4f * largest);
            }
        }
        free(got);
    }
    free(want);
}

static void neighbours_in_a_step_change_no_bit(void **state)
{
    (void)state;
    enum { SEQUENCES = 4, EACH = 70 };
    model_config m = rig_model();
    size_t h = (size_t)m.text.hidden_size;
    uint64_t seed = 7;
    int32_t ids[SEQUENCES][EACH], done[SEQUENCES] = {0};
    float *alone = floats(SEQUENCES * EACH * h), *shared = floats(SEQUENCES * EACH * h);
    rig_open(&r, &m, &(rig_shape){2, 2, 2, false}, &made_up);
    for (int32_t s = 0; s < SEQUENCES; s++) {
        random_ids(ids[s], EACH, m.text.vocab_size, 10 + (uint64_t)s);
        rig_prompt(&r, alone + (size_t)(s * EACH) * h, ids[s], EACH, EACH);
        rig_forget(&r, 0);
    }
    float *x = floats(STEP_ROWS_MAX * h);
    for (int32_t left = SEQUENCES * EACH; left > 0;) {
        rig_span spans[SEQUENCES];
        int32_t n_spans = 0, rows = 0;
        for (int32_t s = 0; s < SEQUENCES; s++) {
            int32_t rest = EACH - done[s], n = rig_below(&seed, 9);
            n = n < rest ? n : rest;
            if (n > 0) {
                stage_embed(&r.stages[0], x + (size_t)rows * h, ids[s] + done[s], n);
                spans[n_spans++] = (rig_span){s, n};
                rows += n;
            }
        }
        rig_step(&r, x, spans, n_spans);
        for (int32_t i = 0, at = 0; i < n_spans; at += spans[i++].n_rows) {
            int32_t s = spans[i].sequence;
            memcpy(shared + (size_t)(s * EACH + done[s]) * h, x + (size_t)at * h,
                   (size_t)spans[i].n_rows * h * sizeof *x);
            done[s] += spans[i].n_rows;
        }
        left -= rows;
    }
    assert_memory_equal(shared, alone, SEQUENCES * EACH * h * sizeof *alone);
    rig_close(&r);
    free(x);
    free(alone);
    free(shared);
}

/* --- deep-stack features -----------------------------------------------------------------------
 */

/* Three layers of features at every third row. */
static step_deep make_deep(float *features, uint32_t *rows, size_t h)
{
    uint64_t seed = 5;
    step_deep d = {.n_layers = 3, .rows = rows};
    for (uint32_t row = 1; row < N_PROMPT; row += 3) {
        rows[d.n_rows++] = row;
    }
    size_t n = (size_t)d.n_rows * h;
    for (size_t i = 0; i < 3 * n; i++) {
        features[i] = (float)(rig_random(&seed) >> 40) * 0x1p-24f - 0.5f;
    }
    for (int32_t l = 0; l < 3; l++) {
        d.features[l] = features + (size_t)l * n;
    }
    return d;
}

static void no_progress(void *arg)
{
    (void)arg;
}

/* The prompt in one step, a stage for each layer, features added by hand in between. */
static void by_hand(const model_config *m, const step_deep *deep, float *x)
{
    static step_row rows[N_PROMPT];
    static float at[N_PROMPT];
    size_t h = (size_t)m->text.hidden_size;
    flo_err err;
    rig_open(&r, m, &(rig_shape){m->text.n_layers, m->text.n_layers, 2, false}, &made_up);
    stage_embed(&r.stages[0], x, prompt, N_PROMPT);
    for (int32_t s = 0; s < m->text.n_layers; s++) {
        int32_t slot;
        assert_int_equal(kv_cache_extend(r.stages[s].cache, 1, 0, N_PROMPT, &slot, &err), FLO_OK);
        for (int32_t i = 0; i < N_PROMPT; i++) {
            rows[i] = (step_row){slot, i};
            at[i] = (float)i;
        }
        step_rows step = {.n_rows = N_PROMPT, .rows = rows, .axes = {at, at, at}};
        stage_hooks hooks = {.progress = no_progress};
        stage_forward(&r.stages[s], x, &step, &hooks);
        for (int32_t i = 0; s < deep->n_layers && i < deep->n_rows; i++) {
            for (size_t k = 0; k < h; k++) {
                x[deep->rows[i] * h + k] += deep->features[s][(size_t)i * h + k];
            }
        }
    }
    rig_close(&r);
}

static void deep_features_are_added_behind_their_layers(void **state)
{
    (void)state;
    model_config m = rig_model();
    size_t h = (size_t)m.text.hidden_size;
    uint32_t rows[N_PROMPT];
    float *features = floats(3 * N_PROMPT * h), *want = floats(N_PROMPT * h);
    float *got = floats(N_PROMPT * h), *without = floats(N_PROMPT * h);
    random_ids(prompt, N_PROMPT, m.text.vocab_size, 3);
    step_deep deep = make_deep(features, rows, h);
    by_hand(&m, &deep, want);
    for (int32_t stages = 1; stages <= 5; stages++) { /* boundaries between any two layers */
        rig_open(&r, &m, &(rig_shape){stages, stages, 2, false}, &made_up);
        rig_prompt(&r, without, prompt, N_PROMPT, N_PROMPT);
        rig_forget(&r, 0);
        r.deep = deep;
        rig_prompt(&r, got, prompt, N_PROMPT, N_PROMPT);
        rig_close(&r);
        assert_memory_equal(got, want, N_PROMPT * h * sizeof *got);
        assert_memory_not_equal(got, without, N_PROMPT * h * sizeof *got);
    }
    free(features);
    free(want);
    free(got);
    free(without);
}

/* --- what others are told ----------------------------------------------------------------------
 */

enum { TOLD_WIDTH = 40 };

typedef struct told {
    int32_t n_outputs;
    const step_deep *deep;
    float expected[N_PROMPT * TOLD_WIDTH]; /* the next layer's input */
} told;

/* A layer's input is what was told of the layer before it, with that layer's features. */
static void expect_hidden(void *arg, const char *name, const void *rows, int32_t columns,
                          bool is_ids)
{
    told *t = ((rig *)arg)->dump_arg;
    if (strncmp(name, "hidden.", 7) == 0 && strcmp(name, "hidden.norm") != 0) {
        assert_true(columns == TOLD_WIDTH && !is_ids);
        if (strcmp(name, "hidden.0") != 0) {
            assert_memory_equal(rows, t->expected, sizeof t->expected);
        }
    }
}

static void hold_output(void *arg, int32_t layer, const float *x)
{
    told *t = ((rig *)arg)->dump_arg;
    assert_int_equal(layer, t->n_outputs++);
    memcpy(t->expected, x, sizeof t->expected);
    for (int32_t i = 0; layer < t->deep->n_layers && i < t->deep->n_rows; i++) {
        for (int32_t k = 0; k < TOLD_WIDTH; k++) {
            t->expected[t->deep->rows[i] * TOLD_WIDTH + (uint32_t)k] +=
                t->deep->features[layer][i * TOLD_WIDTH + k];
        }
    }
}

static void each_layers_output_is_told_before_features_are_added(void **state)
{
    (void)state;
    static told t;
    model_config m = rig_model();
    uint32_t rows[N_PROMPT];
    float *features = floats(3 * N_PROMPT * TOLD_WIDTH), *x = floats(N_PROMPT * TOLD_WIDTH);
    random_ids(prompt, N_PROMPT, m.text.vocab_size, 6);
    step_deep deep = make_deep(features, rows, TOLD_WIDTH);
    t.deep = &deep;
    for (int32_t stages = 1; stages <= 5; stages += 2) {
        t.n_outputs = 0;
        rig_open(&r, &m, &(rig_shape){stages, stages, 2, false}, &made_up);
        r.dump = expect_hidden;
        r.output = hold_output;
        r.dump_arg = &t;
        r.deep = deep;
        rig_prompt(&r, x, prompt, N_PROMPT, N_PROMPT);
        assert_int_equal(t.n_outputs, m.text.n_layers);
        rig_close(&r);
    }
    free(features);
    free(x);
}

/* --- memory ------------------------------------------------------------------------------------
 */

static void use_all_rows(const model_config *m, const rig_shape *shape)
{
    uint64_t seed = 4;
    int32_t ids[STEP_ROWS_MAX];
    size_t h = (size_t)m->text.hidden_size;
    rig_open(&r, m, shape, &made_up);
    float *x = floats(STEP_ROWS_MAX * h);
    for (int32_t i = 0; i < STEP_ROWS_MAX; i++) {
        ids[i] = rig_below(&seed, m->text.vocab_size);
    }
    rig_prompt(&r, x, ids, STEP_ROWS_MAX, STEP_ROWS_MAX);
    for (int32_t i = 0; i < shape->n_workers; i++) {
        const stage *s = &r.stages[i];
        assert_true(s->arena.peak <= stage_arena_bytes(&s->part, s->n_owners, STEP_ROWS_MAX));
    }
    free(x);
    rig_close(&r);
}

static void a_full_step_stays_in_its_arena(void **state)
{
    (void)state;
    model_config m = rig_model();
    use_all_rows(&m, &(rig_shape){1, 1, 2, false});
    use_all_rows(&m, &(rig_shape){4, 2, 2, true});
    use_all_rows(&m, &(rig_shape){7, 1, 2, false});
    m.text.n_experts_per_token = 7; /* each row to each worker */
    use_all_rows(&m, &(rig_shape){7, 1, 2, false});
    use_all_rows(&m, &(rig_shape){7, 1, 2, true});
    m.text.shared_expert_size = 1500; /* the shared expert needs most */
    use_all_rows(&m, &(rig_shape){2, 1, 2, false});
    m.text.dense_size = 3000; /* a dense layer does */
    use_all_rows(&m, &(rig_shape){2, 1, 2, false});
    m.text.n_experts = m.text.n_experts_per_token = m.text.expert_size = 0;
    memset(m.text.layer_is_sparse, 0, sizeof m.text.layer_is_sparse);
    use_all_rows(&m, &(rig_shape){3, 3, 2, false});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(odd_shapes_are_computed_as_in_the_reference),
        cmocka_unit_test(threads_chunks_and_stages_change_no_bit),
        cmocka_unit_test(a_shared_expert_is_added_to_the_others),
        cmocka_unit_test(expert_workers_change_no_more_than_rounding),
        cmocka_unit_test(neighbours_in_a_step_change_no_bit),
        cmocka_unit_test(deep_features_are_added_behind_their_layers),
        cmocka_unit_test(each_layers_output_is_told_before_features_are_added),
        cmocka_unit_test(a_full_step_stays_in_its_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * check_talker.c - the talker computes what the reference computes, within the tolerances of the
 * reference data (tests/golden/speech, case.json), and the same bits whatever shares a step,
 * however a prompt is cut, on any number of threads and, where deterministic, of owners of experts.
 *
 * Rounding. With several owners a row's sum of k terms is added in another order; each term is off
 * by at most k u of the sum of magnitudes, and a few layers multiply that: 1e-4 of the largest
 * number of a row is far above it, and far below what a lost expert would do.
 */
#include "tests/unit/worker/encoders/encoder_cases.h"

#include "common/json.h"
#include "common/plan_parts.h"
#include "worker/kernels/kernels.h"
#include "worker/speech/talker.h"

#include <math.h>
#include <string.h>

enum { OWNERS_MAX = 4, SESSIONS_MAX = 6 };

/* --- a talker and its owners of experts in one process -----------------------------------------
 */

typedef struct bench {
    model_config model;
    plan plan;
    thread_pool *pool;
    int32_t n_owners;
    talker *at[OWNERS_MAX];     /* by place: the home first */
    float *results[OWNERS_MAX]; /* what an owner answered */
    int32_t lengths[SESSIONS_MAX];
    void (*dump)(void *arg, const char *name, const void *rows, int32_t columns, bool is_ids);
} bench;

static bench b;

/* The home owns experts_of[0] experts, possibly none; it is not the plan's first worker. */
typedef struct split {
    int32_t n_owners, experts_of[OWNERS_MAX];
    bool deterministic;
} split;

static void plan_owners(const split *s)
{
    static const int32_t worker_of[OWNERS_MAX] = {1, 0, 3, 4}; /* index in the plan */
    memset(&b.plan, 0, sizeof b.plan);
    b.plan.n_workers = 6;
    b.plan.talker_tokens = 1024;
    b.plan.deterministic = s->deterministic;
    b.plan.workers[1].has_talker = true;
    for (int32_t i = 0, first = 0; i < s->n_owners; first += s->experts_of[i++]) {
        b.plan.workers[worker_of[i]].first_talker_expert = first;
        b.plan.workers[worker_of[i]].n_talker_experts = s->experts_of[i];
    }
}

static void ignore_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    assert_true(done <= total);
}

static void must(flo_code code)
{
    if (code != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

static void bench_open(const model_config *m, const split *s, int32_t n_threads,
                       const checkpoint *c)
{
    const plan_worker *owners[PLAN_WORKERS_MAX];
    weights_source source = {.checkpoint = c, .seed = 5};
    load_watch watch = {ignore_progress, NULL};
    memset(&b, 0, sizeof b);
    must(kernels_init(&err));
    b.model = *m;
    b.pool = pool_of(n_threads);
    plan_owners(s);
    b.n_owners = plan_talker_owners(&b.plan, owners);
    assert_int_equal(b.n_owners, s->n_owners);
    assert_ptr_equal(owners[0], plan_talker_worker(&b.plan));
    size_t row = (size_t)m->talker.hidden_size * sizeof(float);
    for (int32_t i = 0; i < b.n_owners; i++) {
        must(talker_open(&b.at[i], &b.model, &b.plan, owners[i], b.pool, &err));
        must(talker_load(b.at[i], &source, &watch, &err));
        b.results[i] = memory_of(STEP_ROWS_MAX * (size_t)m->talker.n_experts_per_token * row);
    }
}

static void bench_close(void)
{
    for (int32_t i = 0; i < b.n_owners; i++) {
        talker_close(b.at[i]);
        free(b.results[i]);
    }
    thread_pool_free(b.pool);
}

static void expert_send(void *arg, int32_t layer, int32_t place, const expert_batch *batch)
{
    (void)arg;
    assert_true(place > 0 && place < b.n_owners && batch->n_rows > 0);
    talker_experts(b.at[place], layer, b.results[place], batch);
}

static void expert_gather(void *arg, int32_t layer, int32_t n_places, float *const *results,
                          const size_t *n_floats)
{
    (void)arg;
    (void)layer;
    for (int32_t p = 1; p < n_places; p++) {
        if (results[p] != NULL) {
            memcpy(results[p], b.results[p], n_floats[p] * sizeof(float));
        }
    }
}

typedef struct span {
    int32_t session, n;
    const float *axes[3]; /* [n] each; NULL: positions count on */
} span;

/* x [all rows][H]: the spans' next rows, through the layers and the final norm. */
static void run(float *x, const span *spans, int32_t n_spans)
{
    static step_row rows[STEP_ROWS_MAX];
    static float axes[3][STEP_ROWS_MAX];
    int32_t n = 0;
    for (int32_t i = 0; i < n_spans; i++) {
        int32_t slot, first = b.lengths[spans[i].session];
        must(kv_cache_extend(talker_cache(b.at[0]), (uint64_t)spans[i].session + 7, first,
                             spans[i].n, &slot, &err));
        for (int32_t k = 0; k < spans[i].n; k++, n++) {
            rows[n] = (step_row){slot, first + k};
            for (int a = 0; a < 3; a++) {
                axes[a][n] = spans[i].axes[0] != NULL ? spans[i].axes[a][k] : (float)(first + k);
            }
        }
        b.lengths[spans[i].session] += spans[i].n;
    }
    step_rows step = {.n_rows = n, .rows = rows, .axes = {axes[0], axes[1], axes[2]}};
    stage_hooks hooks = {
        .expert_send = expert_send, .expert_gather = expert_gather, .dump = b.dump};
    talker_forward(b.at[0], x, &step, &hooks);
}

static void forget(int32_t session)
{
    must(kv_cache_release(talker_cache(b.at[0]), (uint64_t)session + 7, &err));
    b.lengths[session] = 0;
}

/* --- against the reference ---------------------------------------------------------------------
 */

typedef struct golden {
    model_config model;
    checkpoint *weights, *tensors;
    cJSON *info; /* case.json */
    int32_t n_compared;
} golden;

static golden g;

static void golden_open(const char *name)
{
    char path[256];
    memset(&g, 0, sizeof g);
    must(model_config_read(&g.model, golden_path("tiny-omni"), &err));
    must(checkpoint_open(&g.weights, golden_path("tiny-omni"), &err));
    snprintf(path, sizeof path, "speech/%s/tensors.safetensors", name);
    g.tensors = open_file(golden_path(path));
    snprintf(path, sizeof path, "speech/%s/case.json", name);
    must(json_read(&g.info, golden_path(path), 1 << 20, &err));
}

static void golden_close(void)
{
    cJSON_Delete(g.info);
    checkpoint_close(g.tensors);
    checkpoint_close(g.weights);
}

static void *given(const char *name, int32_t *n)
{
    const checkpoint_tensor *t = NULL;
    void *data = tensor_data(g.tensors, name, &t);
    if (data == NULL) {
        fail_msg("no tensor %s", name);
    }
    if (n != NULL) {
        *n = (int32_t)t->shape[0];
    }
    return data;
}

static double tolerance(const char *name, const char *which)
{
    const cJSON *tensor = json_member(json_member(g.info, "tensors"), name);
    const cJSON *value = json_member(tensor, which);
    assert_true(cJSON_IsNumber(value));
    return value->valuedouble;
}

/* Rows [first, first + n) of a tensor of rows of `columns` entries. */
static void compare_rows(const char *name, const float *got, int32_t first, int32_t n,
                         int32_t columns)
{
    double atol = tolerance(name, "atol"), rtol = tolerance(name, "rtol");
    float *want = given(name, NULL);
    for (int32_t i = 0; i < n * columns; i++) {
        double target = (double)want[first * columns + i];
        if (!(fabs((double)got[i] - target) <= atol + rtol * fabs(target))) {
            fail_msg("%s: row %d, entry %d is %.9g, the reference has %.9g", name,
                     first + i / columns, i % columns, (double)got[i], target);
        }
    }
    free(want);
    g.n_compared++;
}

static void compare_dump(void *arg, const char *name, const void *rows, int32_t columns,
                         bool is_ids)
{
    (void)arg;
    char full[96];
    int32_t n;
    snprintf(full, sizeof full, "talker_%s", name);
    if (strncmp(name, "router_logits", 13) == 0) { /* not recorded */
        return;
    }
    void *want = given(full, &n);
    if (is_ids) {
        assert_memory_equal(rows, want, (size_t)n * (size_t)columns * sizeof(int32_t));
        g.n_compared++;
    } else {
        compare_rows(full, rows, 0, n, columns);
    }
    free(want);
}

/* Row `id` of the thinker's embedding. */
static void embed(float *out, int32_t id)
{
    const checkpoint_tensor *t = checkpoint_find(g.weights, "thinker.model.embed_tokens.weight");
    size_t h = (size_t)g.model.text.hidden_size;
    bf16 row[1024];
    assert_true(t != NULL && h <= 1024);
    must(checkpoint_read(g.weights, t, (uint64_t)id * h * sizeof(bf16), row, h * sizeof(bf16),
                         &err));
    kernels()->bf16_widen(out, row, (int32_t)h);
}

static void project_id(float *out, int32_t id)
{
    float row[1024];
    embed(row, id);
    talker_project(b.at[0], out, row, 1, TALKER_TEXT);
}

static void add_code(float *x, int32_t code)
{
    float row[1024];
    talker_code_row(b.at[0], row, code);
    kernels()->add(x, row, g.model.talker.hidden_size);
}

/* User turns: text by the one projection, media by the other. The answer's head: three tokens, pads
 * and the first word with codes added. */
static void hold_prompt(const char *speaker_name)
{
    const talker_config *t = &g.model.talker;
    const model_tokens *k = &g.model.tokens;
    size_t h = (size_t)t->hidden_size, from = (size_t)t->thinker_hidden_size, at = 0;
    int32_t n, n_media = 0;
    int32_t *ids = given("talker_prefill_ids", &n), *answer = given("thinker_new_ids", NULL);
    const checkpoint_tensor *media = NULL;
    float *hidden = tensor_data(g.tensors, "media_hidden", &media);
    float *x = memory_of((size_t)n * h * sizeof *x), *tail = x + (size_t)(n - 9) * h;
    for (int32_t i = 0; i < n - 9; i++) {
        if (ids[i] == k->audio || ids[i] == k->image || ids[i] == k->video) {
            assert_non_null(hidden);
            talker_project(b.at[0], x + (size_t)i * h, hidden + at, 1, TALKER_HIDDEN);
            at += from;
            n_media++;
        } else {
            project_id(x + (size_t)i * h, ids[i]);
        }
    }
    assert_int_equal(n_media, media != NULL ? media->shape[0] : 0);
    int32_t codes[9] = {-1,
                        -1,
                        -1,
                        t->codec_nothink,
                        t->codec_think_bos,
                        t->codec_think_eos,
                        model_speaker(&g.model, speaker_name)->id,
                        t->codec_pad,
                        t->codec_bos};
    for (int32_t i = 3; i < 9; i++) {
        int32_t id = i < 7 ? k->tts_pad : i == 7 ? k->tts_bos : answer[0];
        project_id(tail + (size_t)i * h, id);
        add_code(tail + (size_t)i * h, codes[i]);
    }
    compare_rows("talker_prefill_embeds", x, 0, n - 9, (int32_t)h);
    compare_rows("talker_prefill_embeds", tail + 3 * h, n - 6, 6, (int32_t)h);
    project_id(x, k->tts_pad);
    compare_rows("tts_pad_embed", x, 0, 1, (int32_t)h);
    free(x);
    free(hidden);
    free(answer);
    free(ids);
}

static void hold_last_row(int32_t step, const float *x)
{
    char name[64];
    int32_t h = g.model.talker.hidden_size, vocab = g.model.talker.vocab_size;
    float *logits = memory_of((size_t)vocab * sizeof *logits);
    talker_logits(b.at[0], logits, x, 1);
    snprintf(name, sizeof name, "step.%d.last_hidden", step);
    compare_rows(name, x, 0, 1, h);
    snprintf(name, sizeof name, "step.%d.logits", step);
    compare_rows(name, logits, 0, 1, vocab);
    free(logits);
}

static void hold_steps(bool with_layers)
{
    int32_t n, h = g.model.talker.hidden_size;
    float *x = given("talker_prefill_embeds", &n), *positions = given("talker_position_ids", NULL);
    float *next = given("talker_step1_position", NULL);
    b.dump = with_layers ? compare_dump : NULL;
    run(x, &(span){0, n, {positions, positions + n, positions + 2 * n}}, 1);
    b.dump = NULL;
    hold_last_row(0, x + (size_t)(n - 1) * (size_t)h);
    free(x);
    for (int32_t step = 1; step < 4; step++) {
        char name[64];
        snprintf(name, sizeof name, "step.%d.input_embeds", step);
        x = given(name, NULL);
        run(x, &(span){0, 1, {next, next + 1, next + 2}}, 1);
        hold_last_row(step, x);
        free(x);
        for (int a = 0; a < 3; a++) {
            next[a] += 1;
        }
    }
    free(positions);
    free(next);
}

static void hold_case(const char *name, const char *speaker_name, const split *s)
{
    golden_open(name);
    bool with_layers = strcmp(name, "text") == 0;
    bench_open(&g.model, s, 2, g.weights);
    hold_prompt(speaker_name);
    hold_steps(with_layers);
    /* prompt, 4 steps; hidden.0 .. hidden.4, ids and weights of four routers */
    assert_int_equal(g.n_compared, 3 + 4 * 2 + (with_layers ? 5 + 2 * 4 : 0));
    bench_close();
    golden_close();
}

static void prompts_and_steps_are_the_references(void **state)
{
    (void)state;
    static const split splits[] = {{1, {8}, false},
                                   {2, {5, 3}, false},
                                   {3, {2, 4, 2}, false},
                                   {3, {0, 1, 7}, false},
                                   {4, {3, 1, 2, 2}, true}};
    for (size_t i = 0; i < sizeof splits / sizeof splits[0]; i++) {
        hold_case("text", "Ethan", &splits[i]);
        hold_case("text-two-turns", "chelsie", &splits[i]);
        hold_case("audio", "aiden", &splits[i]);
        hold_case("image", "chelsie", &splits[i]);
    }
}

/* --- the same bits -----------------------------------------------------------------------------
 */

enum { HIDDEN = 40, N_ROWS = 150 };

/* Shapes that meet no block size. */
static model_config odd_model(void)
{
    static model_config m;
    memset(&m, 0, sizeof m);
    m.text.hidden_size = 44;
    m.has_talker = true;
    m.talker = (talker_config){.vocab_size = 1100,
                               .hidden_size = HIDDEN,
                               .n_layers = 3,
                               .n_heads = 6,
                               .n_kv_heads = 3,
                               .head_dim = 12,
                               .n_experts = 7,
                               .n_experts_per_token = 3,
                               .expert_size = 20,
                               .shared_expert_size = 70,
                               .projection_size = 50,
                               .thinker_hidden_size = 44,
                               .norm_topk_prob = true,
                               .rms_norm_eps = 1e-6f,
                               .rope_theta = 10000.0,
                               .mrope_section = {2, 2, 2}};
    return m;
}

static uint64_t random_bits(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void draw(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = (float)(random_bits(&seed) >> 40) * 0x1p-23f - 1.0f;
    }
}

/* Rows of one session in steps of `chunk`, after the final norm. */
static void computed(float *x, const split *s, int32_t n_threads, int32_t chunk)
{
    model_config m = odd_model();
    bench_open(&m, s, n_threads, NULL);
    draw(x, N_ROWS * HIDDEN, 11);
    for (int32_t first = 0; first < N_ROWS; first += chunk) {
        int32_t n = N_ROWS - first < chunk ? N_ROWS - first : chunk;
        run(x + (size_t)first * HIDDEN, &(span){.session = 0, .n = n}, 1);
    }
    bench_close();
}

static float want[N_ROWS * HIDDEN], got[N_ROWS * HIDDEN];
static const split whole = {1, {7}, false};

static void threads_and_chunks_change_no_bit(void **state)
{
    (void)state;
    static const int32_t chunks[] = {1, 2, 7, 63, 64, 65};
    computed(want, &whole, 1, N_ROWS);
    for (size_t i = 0; i < N_ROWS * HIDDEN; i++) {
        assert_true(isfinite(want[i]));
    }
    for (int32_t i = 0; i < 6; i++) {
        computed(got, &whole, 1 + i % 3, chunks[i]);
        assert_memory_equal(got, want, sizeof got);
    }
}

static const split splits_of_seven[] = {
    {2, {6, 1}, false}, {2, {0, 7}, false}, {3, {2, 2, 3}, false}, {4, {1, 1, 4, 1}, false}};

static void deterministic_owners_change_no_bit(void **state)
{
    (void)state;
    computed(want, &whole, 2, N_ROWS);
    for (int32_t i = 0; i < 4; i++) {
        split s = splits_of_seven[i];
        s.deterministic = true;
        computed(got, &s, 2, 40);
        assert_memory_equal(got, want, sizeof got);
    }
}

static void owners_change_no_more_than_rounding(void **state)
{
    (void)state;
    computed(want, &whole, 2, N_ROWS);
    for (int32_t i = 0; i < 4; i++) {
        computed(got, &splits_of_seven[i], 2, 40);
        for (int32_t row = 0; row < N_ROWS; row++) {
            const float *x = got + row * HIDDEN, *y = want + row * HIDDEN;
            float largest = 0;
            for (int32_t k = 0; k < HIDDEN; k++) {
                largest = fmaxf(largest, fabsf(y[k]));
            }
            for (int32_t k = 0; k < HIDDEN; k++) {
                assert_true(fabsf(x[k] - y[k]) <= 1e-4f * largest);
            }
        }
    }
}

static void sessions_in_a_step_change_no_bit_of_each_other(void **state)
{
    (void)state;
    enum { SESSIONS = 5, EACH = 30 };
    static float alone[SESSIONS][EACH * HIDDEN], shared[SESSIONS][EACH * HIDDEN];
    static float x[SESSIONS * EACH * HIDDEN], logits[SPEAKERS_MAX * 1100], one[1100];
    model_config m = odd_model();
    uint64_t seed = 9;
    bench_open(&m, &splits_of_seven[2], 2, NULL);
    for (int32_t s = 0; s < SESSIONS; s++) {
        draw(alone[s], EACH * HIDDEN, (uint64_t)s);
        memcpy(shared[s], alone[s], sizeof alone[s]);
        run(alone[s], &(span){.session = s, .n = EACH}, 1);
        forget(s);
    }
    for (int32_t done[SESSIONS] = {0}, left = SESSIONS * EACH; left > 0;) {
        span spans[SESSIONS];
        int32_t n_spans = 0, n = 0, from[SESSIONS];
        for (int32_t s = 0; s < SESSIONS; s++) {
            int32_t here = (int32_t)(random_bits(&seed) % 6);
            here = here < EACH - done[s] ? here : EACH - done[s];
            if (here > 0) {
                memcpy(x + n * HIDDEN, shared[s] + done[s] * HIDDEN,
                       (size_t)here * HIDDEN * sizeof *x);
                from[n_spans] = n;
                spans[n_spans++] = (span){.session = s, .n = here};
                n += here;
            }
        }
        if (n_spans == 0) {
            continue;
        }
        run(x, spans, n_spans);
        for (int32_t i = 0; i < n_spans; i++) {
            int32_t s = spans[i].session;
            memcpy(shared[s] + done[s] * HIDDEN, x + from[i] * HIDDEN,
                   (size_t)spans[i].n * HIDDEN * sizeof *x);
            done[s] += spans[i].n;
        }
        left -= n;
    }
    assert_memory_equal(shared, alone, sizeof alone);
    talker_logits(b.at[0], logits, &alone[0][0], EACH); /* a row's logits are its own as well */
    for (int32_t r = 0; r < EACH; r++) {
        talker_logits(b.at[0], one, alone[0] + r * HIDDEN, 1);
        assert_memory_equal(logits + r * 1100, one, sizeof one);
    }
    bench_close();
}

static void projected_rows_do_not_see_each_other(void **state)
{
    (void)state;
    static float x[STEP_ROWS_MAX * 44], all[STEP_ROWS_MAX * HIDDEN], one[HIDDEN];
    model_config m = odd_model();
    bench_open(&m, &whole, 3, NULL);
    draw(x, STEP_ROWS_MAX * 44, 3);
    for (int side = TALKER_TEXT; side <= TALKER_HIDDEN; side++) {
        talker_project(b.at[0], all, x, STEP_ROWS_MAX, (talker_side)side);
        for (int32_t r = 0; r < STEP_ROWS_MAX; r += 37) {
            talker_project(b.at[0], one, x + r * 44, 1, (talker_side)side);
            assert_memory_equal(one, all + r * HIDDEN, sizeof one);
        }
    }
    talker_project(b.at[0], one, x, 1, TALKER_TEXT);
    assert_memory_not_equal(one, all, sizeof one); /* the sides differ */
    bench_close();
}

/* --- memory ------------------------------------------------------------------------------------
 */

static void hold_to_plan(const model_config *m)
{
    text_config t;
    model_talker_layers(&t, &m->talker);
    decoder_part home = decoder_part_whole(&t, "talker.model.");
    int32_t others = t.n_experts < PLAN_WORKERS_MAX - 1 ? t.n_experts : PLAN_WORKERS_MAX - 1;
    size_t inner = (size_t)m->talker.projection_size * sizeof(float);
    size_t beside = arena_rounded(STEP_ROWS_MAX * inner) + arena_rounded(inner) +
                    (size_t)(1024 + STEP_ROWS_MAX) * (size_t)t.hidden_size * sizeof(float) +
                    SPEAKERS_MAX * (size_t)t.vocab_size * sizeof(float);
    for (int32_t n = 0; n <= others; n += 1 + others / 3) { /* experts elsewhere, one each */
        home.experts.n = t.n_experts - n;
        size_t taken = stage_arena_bytes(&home, n + 1, STEP_ROWS_MAX) + beside;
        if (taken > plan_talker_region_bytes(m, 1024)) {
            fail_msg("hidden %d, %d of %d experts of %d and %d, %d owners: takes %zu, planned %llu",
                     t.hidden_size, t.n_experts_per_token, t.n_experts, t.expert_size,
                     t.shared_expert_size, n + 1, taken,
                     (unsigned long long)plan_talker_region_bytes(m, 1024));
        }
    }
}

static void what_the_home_takes_is_planned(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 8, 33, 64, 100, 129, 300, 1000};
    model_config m = odd_model();
    talker_config *t = &m.talker;
    uint64_t seed = 1;
    for (int32_t again = 0; again < 400; again++) {
        int32_t *const drawn[] = {&t->hidden_size, &t->expert_size, &t->shared_expert_size,
                                  &t->projection_size, &t->vocab_size};
        for (int32_t i = 0; i < 5; i++) {
            *drawn[i] = sizes[random_bits(&seed) % 8];
        }
        t->shared_expert_size = again % 5 == 0 ? 0 : t->shared_expert_size;
        t->n_kv_heads = 1 + (int32_t)(random_bits(&seed) % 4);
        t->n_heads = t->n_kv_heads * (1 + (int32_t)(random_bits(&seed) % 4));
        t->head_dim = 2 + 2 * (int32_t)(random_bits(&seed) % 40);
        t->n_experts = 1 + (int32_t)(random_bits(&seed) % 60);
        t->n_experts_per_token = 1 + (int32_t)(random_bits(&seed) % (uint64_t)t->n_experts);
        hold_to_plan(&m);
    }
}

static void the_published_talker_is_planned(void **state)
{
    (void)state;
    static model_config m;
    must(model_config_read(&m, golden_path("published-config"), &err));
    hold_to_plan(&m);
    plan_worker w = {.has_talker = true, .n_talker_experts = m.talker.n_experts};
    /* layers and norm, two tables, two projections, in bf16: what lines and panels leave over, and
     * norms in f32, are less than a thousandth of it */
    uint64_t published = 2 * (UINT64_C(3164145664) + 2 * 3145728u + 12589056u);
    uint64_t planned = plan_talker_bytes(&m, &w);
    assert_true(planned >= published && planned <= published + published / 1000);
    /* the parts of a divided talker weigh as much together */
    plan_worker home = {.has_talker = true, .n_talker_experts = 28};
    plan_worker other = {.n_talker_experts = 50};
    assert_true(plan_talker_bytes(&m, &home) + 2 * plan_talker_bytes(&m, &other) == planned);
    assert_true(plan_talker_kv_token_bytes(&m) == 40960u); /* 2 heads of 128, k and v, 20 layers */
    assert_int_equal(plan_talker_tokens(64), 64 + 4096);
    assert_int_equal(plan_talker_tokens(65), 128 + 4096);
}

static void a_tensor_of_another_shape_is_named(void **state)
{
    (void)state;
    talker *t;
    model_config m;
    checkpoint *c;
    load_watch watch = {ignore_progress, NULL};
    must(model_config_read(&m, golden_path("tiny-omni"), &err));
    must(checkpoint_open(&c, golden_path("tiny-omni"), &err));
    must(kernels_init(&err));
    m.talker.projection_size++;
    weights_source source = {.checkpoint = c};
    thread_pool *pool = pool_of(1);
    plan_owners(&(split){1, {8}, false});
    must(talker_open(&t, &m, &b.plan, &b.plan.workers[1], pool, &err));
    assert_int_equal(talker_load(t, &source, &watch, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "talker.text_projection.linear_fc1.weight has shape"));
    talker_close(t);
    talker_close(NULL);
    thread_pool_free(pool);
    checkpoint_close(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_and_steps_are_the_references),
        cmocka_unit_test(threads_and_chunks_change_no_bit),
        cmocka_unit_test(deterministic_owners_change_no_bit),
        cmocka_unit_test(owners_change_no_more_than_rounding),
        cmocka_unit_test(sessions_in_a_step_change_no_bit_of_each_other),
        cmocka_unit_test(projected_rows_do_not_see_each_other),
        cmocka_unit_test(what_the_home_takes_is_planned),
        cmocka_unit_test(the_published_talker_is_planned),
        cmocka_unit_test(a_tensor_of_another_shape_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#include "rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t rig_random(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int32_t rig_below(uint64_t *seed, int32_t n)
{
    return (int32_t)(rig_random(seed) % (uint64_t)n);
}

model_config rig_model(void)
{
    model_config m;
    memset(&m, 0, sizeof m);
    m.text = (text_config){.vocab_size = 2500,
                           .hidden_size = 40,
                           .n_layers = 5,
                           .n_heads = 6,
                           .n_kv_heads = 3,
                           .head_dim = 12,
                           .n_experts = 7,
                           .n_experts_per_token = 3,
                           .expert_size = 20,
                           .dense_size = 70,
                           .norm_topk_prob = true,
                           .rms_norm_eps = 1e-6f,
                           .rope_theta = 10000.0,
                           .mrope_section = {2, 2, 2}};
    for (int32_t i = 0; i < m.text.n_layers; i++) {
        m.text.layer_is_sparse[i] = i != 2;
    }
    m.has_vision = true;
    m.vision.n_deepstack = 3;
    return m;
}

static void ignore_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    assert_true(done <= total);
}

static void must(flo_code code, const flo_err *err)
{
    if (code != FLO_OK) {
        fail_msg("%s", err->text);
    }
}

static void open_worker(rig *r, int32_t i, const weights_source *source)
{
    flo_err err = {""};
    stage *s = &r->stages[i];
    const plan_worker *w = &r->plan.workers[i];
    stage_init_thinker(s, &r->model, &r->plan, w, r->pool);
    must(
        stage_weights_load(&s->weights, &r->model, w, source, r->pool, ignore_progress, NULL, &err),
        &err);
    must(arena_open(&s->arena, stage_arena_bytes(&s->part, s->n_owners, STEP_ROWS_MAX), &err),
         &err);
    if (w->place == 0) {
        kv_shape kv = stage_kv_shape(&s->part, r->plan.kv_tokens);
        must(kv_cache_new(&s->cache, &kv, &err), &err);
    }
    size_t pairs = STEP_ROWS_MAX * (size_t)r->model.text.n_experts_per_token;
    r->results[i] = malloc((pairs + 1) * (size_t)r->model.text.hidden_size * sizeof(float));
    assert_non_null(r->results[i]);
}

void rig_open(rig *r, const model_config *m, const rig_shape *shape, const weights_source *source)
{
    static plan_worker_facts facts[RIG_WORKERS_MAX];
    plan_misfit misfit;
    flo_err err = {""};
    memset(r, 0, sizeof *r);
    r->model = *m;
    plan_request request = {.model = &r->model,
                            .n_workers = shape->n_workers,
                            .workers = facts,
                            .n_stages = shape->n_stages,
                            .kv_tokens = 1024,
                            .no_media = true,
                            .deterministic = shape->deterministic};
    must(plan_make(&r->plan, &request, &misfit, &err), &err);
    must(kernels_init(&err), &err);
    must(thread_pool_new(&r->pool, shape->n_threads, NULL, &err), &err);
    for (int32_t i = 0; i < shape->n_workers; i++) {
        open_worker(r, i, source);
    }
}

void rig_close(rig *r)
{
    for (int32_t i = 0; i < r->plan.n_workers; i++) {
        stage_weights_free(&r->stages[i].weights);
        kv_cache_free(r->stages[i].cache);
        arena_close(&r->stages[i].arena);
        free(r->results[i]);
    }
    thread_pool_free(r->pool);
}

/* --- the hooks ---------------------------------------------------------------------------------
 */

static void expert_send(void *arg, int32_t layer, int32_t place, const expert_batch *batch)
{
    rig *r = arg;
    stage_experts(&r->stages[r->home + place], layer, r->results[place], batch);
}

static void expert_gather(void *arg, int32_t layer, int32_t n_places, float *const *results,
                          const size_t *n_floats)
{
    rig *r = arg;
    (void)layer;
    for (int32_t p = 1; p < n_places; p++) {
        if (results[p] != NULL) {
            memcpy(results[p], r->results[p], n_floats[p] * sizeof(float));
        }
    }
}

static void progress(void *arg)
{
    (void)arg;
}

/* --- steps -------------------------------------------------------------------------------------
 */

static int32_t extend_all(rig *r, const rig_span *span)
{
    int32_t slot = -1;
    flo_err err = {""};
    for (int32_t s = 0; s < r->plan.n_stages; s++) {
        int32_t here;
        must(kv_cache_extend(r->stages[plan_stage_home(&r->plan, s) - 1].cache,
                             (uint64_t)span->sequence + 100, r->lengths[span->sequence],
                             span->n_rows, &here, &err),
             &err);
        assert_true(slot == -1 || here == slot);
        slot = here;
    }
    return slot;
}

void rig_step(rig *r, float *x, const rig_span *spans, int32_t n_spans)
{
    static step_row rows[STEP_ROWS_MAX];
    static float positions[STEP_ROWS_MAX];
    int32_t n = 0;
    for (int32_t i = 0; i < n_spans; i++) {
        int32_t slot = extend_all(r, &spans[i]);
        for (int32_t k = 0; k < spans[i].n_rows; k++) {
            int32_t at = r->lengths[spans[i].sequence]++;
            positions[n] = (float)at;
            rows[n++] = (step_row){slot, at};
        }
    }
    step_rows step = {
        .n_rows = n, .rows = rows, .axes = {positions, positions, positions}, .deep = r->deep};
    stage_hooks hooks = {.arg = r,
                         .expert_send = expert_send,
                         .expert_gather = expert_gather,
                         .dump = r->dump,
                         .output = r->output,
                         .progress = progress};
    for (int32_t s = 0; s < r->plan.n_stages; s++) {
        r->home = plan_stage_home(&r->plan, s) - 1;
        stage_forward(&r->stages[r->home], x, &step, &hooks);
        for (int32_t l = 0; l < step.deep.n_layers; l++) { /* as messages do between stages */
            const decoder_part *w = &r->stages[r->home].part;
            if (l < w->first_layer + w->n_layers) {
                step.deep.features[l] = NULL;
            }
        }
    }
    memset(&r->deep, 0, sizeof r->deep);
}

void rig_prompt(rig *r, float *x, const int32_t *ids, int32_t n, int32_t chunk)
{
    size_t h = (size_t)r->model.text.hidden_size;
    stage_embed(&r->stages[0], x, ids, n);
    for (int32_t first = 0; first < n; first += chunk) {
        rig_span span = {0, n - first < chunk ? n - first : chunk};
        rig_step(r, x + (size_t)first * h, &span, 1);
    }
}

void rig_forget(rig *r, int32_t sequence)
{
    flo_err err = {""};
    for (int32_t s = 0; s < r->plan.n_stages; s++) {
        kv_cache *c = r->stages[plan_stage_home(&r->plan, s) - 1].cache;
        must(kv_cache_release(c, (uint64_t)sequence + 100, &err), &err);
    }
    r->lengths[sequence] = 0;
}

void rig_logits(rig *r, float *out, const float *x, int32_t n)
{
    flo_err err = {""};
    size_t h = (size_t)r->model.text.hidden_size, vocab = (size_t)r->model.text.vocab_size;
    int32_t home = plan_stage_home(&r->plan, r->plan.n_stages - 1) - 1;
    const head_want wants[HEAD_ROWS_MAX] = {{0}};
    float *normed = malloc((size_t)n * h * sizeof *normed + 1);
    assert_non_null(normed);
    head_final_norm(&r->stages[home], normed, x, n);
    for (int32_t i = home; i < r->plan.n_workers; i++) {
        const plan_worker *w = &r->plan.workers[i];
        head_row rows[HEAD_ROWS_MAX];
        arena a;
        if (w->n_vocab_rows == 0) {
            continue;
        }
        must(arena_open(&a, head_arena_bytes(w), &err), &err);
        for (int32_t first = 0; first < n; first += HEAD_ROWS_MAX) {
            int32_t here = n - first < HEAD_ROWS_MAX ? n - first : HEAD_ROWS_MAX;
            arena_reset(&a);
            head_forward(&r->stages[i], rows, normed + (size_t)first * h, wants, here, &a);
            for (int32_t k = 0; k < here; k++) {
                memcpy(out + (size_t)(first + k) * vocab + w->first_vocab_row, rows[k].logits,
                       (size_t)w->n_vocab_rows * sizeof *out);
            }
        }
        arena_close(&a);
    }
    free(normed);
}

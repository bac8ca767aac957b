/*
 * talker.c - a stage of the talker's layers, with its projections in front and its head behind.
 *
 * The two products of a projection go over all rows at once, and so do those of the layers: a step
 * reads each weight once, however many sessions are in it. SiLU alone is silu_mul by ones.
 */
#include "worker/speech/talker.h"

#include "common/check.h"
#include "common/plan_parts.h"
#include "worker/encoders/dense.h"
#include "worker/kernels/kernels.h"
#include "worker/speech/talker_weights.h"
#include "worker/thinker/head.h"

#include <stdlib.h>

struct talker {
    const model_config *model;
    const plan_worker *worker;
    text_config text; /* the layers, in the thinker's terms */
    stage stage;
    talker_weights weights;
    arena scratch; /* home: of the projections */
    float *inner;  /* [STEP_ROWS_MAX][projection_size] */
    float *ones;   /* [projection_size] */
};

/* --- memory ------------------------------------------------------------------------------------
 */

static void init_stage(talker *t, const plan *p, thread_pool *pool)
{
    const plan_worker *owners[PLAN_WORKERS_MAX], *w = t->worker;
    decoder_part part = decoder_part_whole(&t->text, "talker.model.");
    part.home = w->has_talker;
    part.experts = (expert_range){w->first_talker_expert, w->n_talker_experts};
    stage_init(&t->stage, &part, pool);
    t->stage.deterministic = p->deterministic;
    t->stage.n_owners = plan_talker_owners(p, owners);
    for (int32_t i = 0; i < t->stage.n_owners; i++) {
        t->stage.owners[i] =
            (expert_range){owners[i]->first_talker_expert, owners[i]->n_talker_experts};
    }
}

static flo_code take_home_memory(talker *t, const plan *p, flo_err *err)
{
    size_t inner = (size_t)t->model->talker.projection_size * sizeof(float);
    size_t n_bytes = arena_rounded(STEP_ROWS_MAX * inner) + arena_rounded(inner);
    flo_code code = arena_open(&t->scratch, n_bytes, err);
    if (code != FLO_OK) {
        return code;
    }
    t->inner = arena_take(&t->scratch, STEP_ROWS_MAX * inner);
    t->ones = arena_take(&t->scratch, inner);
    for (int32_t i = 0; i < t->model->talker.projection_size; i++) {
        t->ones[i] = 1.0f;
    }
    kv_shape shape = stage_kv_shape(&t->stage.part, p->talker_tokens);
    return kv_cache_new(&t->stage.cache, &shape, err);
}

flo_code talker_open(talker **out, const model_config *m, const plan *p, const plan_worker *w,
                     thread_pool *pool, flo_err *err)
{
    CHECK(m->has_talker && (w->has_talker || w->n_talker_experts > 0));
    talker *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the talker");
    }
    t->model = m;
    t->worker = w;
    t->weights.stage = &t->stage.weights;
    model_talker_layers(&t->text, &m->talker);
    init_stage(t, p, pool);
    size_t step = stage_arena_bytes(&t->stage.part, t->stage.n_owners, STEP_ROWS_MAX);
    flo_code code = arena_open(&t->stage.arena, step, err);
    if (code == FLO_OK && w->has_talker) {
        code = take_home_memory(t, p, err);
    }
    if (code != FLO_OK) {
        flo_context(err, "talker");
        talker_close(t);
        return code;
    }
    *out = t;
    return FLO_OK;
}

flo_code talker_load(talker *t, const weights_source *source, const load_watch *watch, flo_err *err)
{
    return talker_weights_load(&t->weights, &t->model->talker, &t->stage.part,
                               plan_talker_bytes(t->model, t->worker), source, t->stage.pool, watch,
                               err);
}

void talker_close(talker *t)
{
    if (t == NULL) {
        return;
    }
    stage_weights_free(&t->stage.weights);
    kv_cache_free(t->stage.cache);
    arena_close(&t->stage.arena);
    arena_close(&t->scratch);
    free(t);
}

/* --- at home -----------------------------------------------------------------------------------
 */

static void silu_task(void *arg, int32_t r, int32_t thread)
{
    (void)thread;
    const talker *t = arg;
    int32_t n = t->model->talker.projection_size;
    float *row = t->inner + (size_t)r * (size_t)n;
    kernels()->silu_mul(row, row, t->ones, n);
}

void talker_project(talker *t, float *out, const float *x, int32_t n, talker_side side)
{
    const talker_config *c = &t->model->talker;
    const talker_projection *p = side == TALKER_TEXT ? &t->weights.text : &t->weights.hidden;
    size_t from = (size_t)c->thinker_hidden_size, inner = (size_t)c->projection_size;
    CHECK(t->stage.part.home && n >= 0 && n <= STEP_ROWS_MAX);
    dense_rows in = {.y = t->inner, .y_stride = inner, .x = x, .x_stride = from, .n_rows = n};
    dense_rows up = {.y = out,
                     .y_stride = (size_t)c->hidden_size,
                     .x = t->inner,
                     .x_stride = inner,
                     .n_rows = n};
    dense_run(t->stage.pool, &in, &p->fc1, DENSE_PLAIN);
    thread_pool_each(t->stage.pool, n, silu_task, t);
    dense_run(t->stage.pool, &up, &p->fc2, DENSE_PLAIN);
}

void talker_code_row(const talker *t, float *out, int32_t code)
{
    CHECK(code >= 0 && code < t->text.vocab_size);
    stage_embed(&t->stage, out, &code, 1);
}

kv_cache *talker_cache(talker *t)
{
    return t->stage.cache;
}

void talker_forward(talker *t, float *x, const step_rows *step, const stage_hooks *hooks)
{
    CHECK(t->stage.part.home);
    stage_forward(&t->stage, x, step, hooks);
    head_final_norm(&t->stage, x, x, step->n_rows);
}

void talker_logits(talker *t, float *logits, const float *x, int32_t n)
{
    CHECK(t->stage.part.home && n >= 0 && n <= SPEAKERS_MAX);
    affine head = {.w = t->stage.weights.lm_head};
    dense_rows rows = {.y = logits,
                       .y_stride = (size_t)t->text.vocab_size,
                       .x = x,
                       .x_stride = (size_t)t->text.hidden_size,
                       .n_rows = n};
    dense_run(t->stage.pool, &rows, &head, DENSE_PLAIN);
}

/* --- at any owner of experts -------------------------------------------------------------------
 */

void talker_experts(talker *t, int32_t layer, float *out, const expert_batch *batch)
{
    stage_experts(&t->stage, layer, out, batch);
}

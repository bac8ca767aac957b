/*
 * stage.c - the layers of one stage, on the threads of its home.
 *
 * Matrix products are cut by weight panels, everything else by rows, so each number has one maker
 * and one order of sums whatever the number of threads. Costs about a dozen joins of the pool per
 * layer.
 */
#include "worker/thinker/stage.h"

#include "common/check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS_INLINE_MAX = 2, HEADS_AT_ONCE = 16 };

typedef struct forward { /* one call of stage_forward */
    stage *s;
    const step_rows *step;
    const stage_hooks *hooks;
    int32_t n_rows;
    size_t hidden, q_width, kv_width; /* floats of a row */
    float *x;                         /* [n][H] */
    float *normed;                    /* [n][H] */
    float *qkv;                       /* [n][q_width + 2 kv_width] */
    float *attended;                  /* [n][q_width] */
    float *delta;                     /* [n][H] what a block adds to x */
    float *cosines, *sines;           /* [n][half] */
    float *router;                    /* [n][n_experts] logits, then probabilities */
    float *top_weights;               /* [n][k] falling probability */
    int32_t *top_ids;
    float *pair_weights; /* [n][k] rising expert */
    int32_t *pair_experts;
    float *pair_out;    /* [n * k][H] of this worker's pairs */
    float *peer_out;    /* [n * k][H] of the others' */
    float *shared;      /* [n][H] of the shared expert */
    float *shared_gate; /* [n] before the sigmoid */
    const layer_weights *layer;
    int32_t layer_index; /* in the stage */
} forward;

/* --- parallel helpers --------------------------------------------------------------------------
 */

typedef struct product {
    float *y;
    size_t y_stride;
    const float *x;
    size_t x_stride;
    int32_t n_rows;
    const packed_matrix *w;
} product;

static void product_task(void *arg, int32_t panel, int32_t thread)
{
    (void)thread;
    const product *p = arg;
    kernels()->matmul_bf16(p->y, p->y_stride, p->x, p->x_stride, p->n_rows, p->w, panel, panel + 1);
}

/* y [n_rows][w->rows] = x w^T */
static void multiply(stage *s, float *y, const float *x, int32_t n_rows, const packed_matrix *w)
{
    product p = {y, (size_t)w->rows, x, (size_t)w->columns, n_rows, w};
    thread_pool_each(s->pool, packed_panels(w->rows), product_task, &p);
}

static void each_row(forward *f, void (*task)(void *arg, int32_t row, int32_t thread))
{
    if (f->n_rows > ROWS_INLINE_MAX) {
        thread_pool_each(f->s->pool, f->n_rows, task, f);
        return;
    }
    for (int32_t r = 0; r < f->n_rows; r++) {
        task(f, r, 0);
    }
}

static void dump(const forward *f, const char *name, int32_t layer, const void *rows,
                 int32_t columns, bool is_ids)
{
    if (f->hooks->dump == NULL) {
        return;
    }
    char full[64];
    snprintf(full, sizeof full, "%s.%d", name, layer);
    f->hooks->dump(f->hooks->arg, full, rows, columns, is_ids);
}

/* --- attention ---------------------------------------------------------------------------------
 */

static void angles_task(void *arg, int32_t r, int32_t thread)
{
    (void)thread;
    forward *f = arg;
    const float *const *axes = f->step->axes;
    size_t at = (size_t)r * (size_t)f->s->rope.half;
    rope_angles(&f->s->rope, axes[0][r], axes[1][r], axes[2][r], f->cosines + at, f->sines + at);
}

static void norm_input_task(void *arg, int32_t r, int32_t thread)
{
    (void)thread;
    forward *f = arg;
    const text_config *t = f->s->part.text;
    kernels()->rms_norm(f->normed + (size_t)r * f->hidden, f->x + (size_t)r * f->hidden,
                        f->layer->input_norm, t->hidden_size, t->rms_norm_eps);
}

/* Norms and rotates the row's heads, and puts its key and value where later rows find them. */
static void heads_task(void *arg, int32_t r, int32_t thread)
{
    (void)thread;
    forward *f = arg;
    const text_config *t = f->s->part.text;
    int32_t d = t->head_dim, half = f->s->rope.half;
    float *q = f->qkv + (size_t)r * (f->q_width + 2 * f->kv_width);
    float *k = q + f->q_width, *v = k + f->kv_width;
    const float *c = f->cosines + (size_t)r * (size_t)half,
                *s = f->sines + (size_t)r * (size_t)half;
    for (int32_t h = 0; h < t->n_heads + t->n_kv_heads; h++) {
        float *head = q + (size_t)h * (size_t)d;
        const float *weight = h < t->n_heads ? f->layer->q_norm : f->layer->k_norm;
        kernels()->rms_norm(head, head, weight, d, t->rms_norm_eps);
        kernels()->rope_rotate(head, c, s, half);
    }
    const step_row *row = &f->step->rows[r];
    kv_cache_store(f->s->cache, row->slot, f->layer_index, row->position, k, v);
}

/* Some query heads that share KV head `kv_head`, over all positions that the row sees. */
static void attend_heads(forward *f, int32_t r, int32_t kv_head, int32_t first_head,
                         int32_t n_heads)
{
    const text_config *t = f->s->part.text;
    const step_row *row = &f->step->rows[r];
    int32_t d = t->head_dim;
    float scale = 1.0f / sqrtf((float)d);
    const float *q =
        f->qkv + (size_t)r * (f->q_width + 2 * f->kv_width) + (size_t)first_head * (size_t)d;
    float *out = f->attended + (size_t)r * f->q_width + (size_t)first_head * (size_t)d;
    attend_state states[HEADS_AT_ONCE];
    for (int32_t h = 0; h < n_heads; h++) {
        states[h] = (attend_state){.max = -INFINITY, .sum = 0.0f};
    }
    memset(out, 0, (size_t)n_heads * (size_t)d * sizeof *out);
    for (int32_t block = 0; block <= row->position / KV_BLOCK; block++) {
        int32_t left = row->position + 1 - block * KV_BLOCK;
        int32_t n_valid = left < KV_BLOCK ? left : KV_BLOCK;
        const float *k = kv_cache_keys(f->s->cache, row->slot, f->layer_index, kv_head, block);
        const float *v = kv_cache_values(f->s->cache, row->slot, f->layer_index, kv_head, block);
        kernels()->attend_heads(out, states, q, n_heads, k, v, n_valid, d, scale);
    }
    for (int32_t h = 0; h < n_heads; h++) {
        for (int32_t i = 0; i < d; i++) {
            out[h * d + i] /= states[h].sum;
        }
    }
}

static void attention_task(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    forward *f = arg;
    const text_config *t = f->s->part.text;
    int32_t r = item / t->n_kv_heads, kv_head = item % t->n_kv_heads;
    int32_t group = t->n_heads / t->n_kv_heads;
    for (int32_t done = 0; done < group; done += HEADS_AT_ONCE) {
        int32_t n = group - done < HEADS_AT_ONCE ? group - done : HEADS_AT_ONCE;
        attend_heads(f, r, kv_head, kv_head * group + done, n);
    }
}

static void attention_block(forward *f)
{
    each_row(f, norm_input_task);
    multiply(f->s, f->qkv, f->normed, f->n_rows, &f->layer->qkv);
    each_row(f, heads_task);
    thread_pool_each(f->s->pool, f->n_rows * f->s->part.text->n_kv_heads, attention_task, f);
    multiply(f->s, f->delta, f->attended, f->n_rows, &f->layer->o);
}

/* --- experts -----------------------------------------------------------------------------------
 */

/* x += attention, then the norm in front of the experts. */
static void add_and_norm_task(void *arg, int32_t r, int32_t thread)
{
    (void)thread;
    forward *f = arg;
    const text_config *t = f->s->part.text;
    float *x = f->x + (size_t)r * f->hidden;
    kernels()->add(x, f->delta + (size_t)r * f->hidden, t->hidden_size);
    kernels()->rms_norm(f->normed + (size_t)r * f->hidden, x, f->layer->post_norm, t->hidden_size,
                        t->rms_norm_eps);
}

/* The row's choice, once by falling probability (as told) and once by rising expert (as summed). */
static void choose_task(void *arg, int32_t r, int32_t thread)
{
    (void)thread;
    forward *f = arg;
    const text_config *t = f->s->part.text;
    int32_t k = t->n_experts_per_token;
    float *probabilities = f->router + (size_t)r * (size_t)t->n_experts;
    float *weights = f->top_weights + (size_t)r * (size_t)k;
    int32_t *ids = f->top_ids + (size_t)r * (size_t)k;
    kernels()->softmax(probabilities, t->n_experts);
    router_top_k(weights, ids, probabilities, t->n_experts, k, t->norm_topk_prob);

    float *sorted_weights = f->pair_weights + (size_t)r * (size_t)k;
    int32_t *sorted = f->pair_experts + (size_t)r * (size_t)k;
    for (int32_t i = 0; i < k; i++) {
        int32_t at = i;
        for (; at > 0 && sorted[at - 1] > ids[i]; at--) {
            sorted[at] = sorted[at - 1];
            sorted_weights[at] = sorted_weights[at - 1];
        }
        sorted[at] = ids[i];
        sorted_weights[at] = weights[i];
    }
}

typedef struct share { /* what one owner of experts computes of a layer */
    expert_batch batch;
    int32_t *row_index; /* [n_rows] of the step */
    expert_choice *choices;
    int32_t *experts; /* counted from the owner's first */
    float *weights;
    int32_t *of_row; /* [step rows] the row's place in this share, -1: none */
    float *out;      /* rows or pairs, [.][H] */
} share;

static void make_share(forward *f, share *p, const expert_range *owned)
{
    int32_t k = f->s->part.text->n_experts_per_token;
    size_t n = (size_t)f->n_rows;
    arena *a = &f->s->arena;
    memset(p, 0, sizeof *p);
    p->row_index = arena_take(a, n * sizeof *p->row_index);
    p->choices = arena_take(a, n * sizeof *p->choices);
    p->experts = arena_take(a, n * (size_t)k * sizeof *p->experts);
    p->weights = arena_take(a, n * (size_t)k * sizeof *p->weights);
    p->of_row = arena_take(a, n * sizeof *p->of_row);
    int32_t rows = 0, pairs = 0;
    for (int32_t r = 0; r < f->n_rows; r++) {
        int32_t first = pairs;
        for (int32_t j = r * k; j < (r + 1) * k; j++) {
            int32_t e = f->pair_experts[j] - owned->first;
            if (e >= 0 && e < owned->n) {
                p->experts[pairs] = e;
                p->weights[pairs++] = f->pair_weights[j];
            }
        }
        p->of_row[r] = pairs > first ? rows : -1;
        if (pairs > first) {
            p->row_index[rows] = r;
            p->choices[rows++] = (expert_choice){.n = pairs - first, .first = first};
        }
    }
    p->batch = (expert_batch){.n_rows = rows,
                              .n_pairs = pairs,
                              .hidden = f->normed,
                              .row_index = p->row_index,
                              .choices = p->choices,
                              .experts = p->experts,
                              .weights = p->weights};
}

static float sigmoid(float x)
{
    return 1.0f / (1.0f + exp_f32(-x));
}

/* Adds what the owners made of row r, in the order of their experts, then the shared expert. */
static void combine_row(const forward *f, const share *shares, int32_t n_shares, int32_t r)
{
    int32_t h = f->s->part.text->hidden_size;
    float *sum = f->delta + (size_t)r * f->hidden;
    memset(sum, 0, f->hidden * sizeof *sum);
    for (int32_t p = 0; p < n_shares; p++) {
        int32_t at = shares[p].of_row[r];
        if (at < 0) {
            continue;
        }
        const expert_choice *c = &shares[p].choices[at];
        if (p == 0 || f->s->deterministic) {
            experts_add(sum, shares[p].out + (size_t)c->first * f->hidden,
                        shares[p].weights + c->first, c->n, h);
        } else {
            kernels()->add(sum, shares[p].out + (size_t)at * f->hidden, h);
        }
    }
    if (f->shared != NULL) {
        kernels()->axpy(sum, sigmoid(f->shared_gate[r]), f->shared + (size_t)r * f->hidden, h);
    }
}

typedef struct combination {
    const forward *f;
    const share *shares;
    int32_t n_shares;
} combination;

static void combine_task(void *arg, int32_t r, int32_t thread)
{
    (void)thread;
    const combination *c = arg;
    combine_row(c->f, c->shares, c->n_shares, r);
}

static void shared_expert(forward *f)
{
    const text_config *t = f->s->part.text;
    expert_shape shape = {t->hidden_size, t->shared_expert_size, 1};
    swiglu_forward(f->shared, f->normed, f->n_rows, &f->layer->shared, &shape, f->s->pool,
                   &f->s->arena);
    multiply(f->s, f->shared_gate, f->normed, f->n_rows, &f->layer->shared_gate);
}

/* Sends the others their rows, computes our own meanwhile, gathers. */
static void exchange(forward *f, share *shares, int32_t n_shares)
{
    const stage *s = f->s;
    int32_t layer = s->part.first_layer + f->layer_index;
    float *results[PLAN_WORKERS_MAX];
    size_t n_floats[PLAN_WORKERS_MAX];
    float *free_out = f->peer_out;
    for (int32_t p = 0; p < n_shares; p++) {
        const expert_batch *b = &shares[p].batch;
        results[p] = NULL;
        n_floats[p] = 0;
        if (p == 0 || b->n_rows == 0) {
            continue;
        }
        n_floats[p] = (size_t)(s->deterministic ? b->n_pairs : b->n_rows) * f->hidden;
        results[p] = shares[p].out = free_out;
        free_out += n_floats[p];
        f->hooks->expert_send(f->hooks->arg, layer, p, b);
    }
    const text_config *t = s->part.text;
    expert_shape shape = {t->hidden_size, t->expert_size, s->part.experts.n};
    shares[0].out = f->pair_out;
    experts_forward(shares[0].out, &shares[0].batch, f->layer->experts, &shape, s->pool,
                    &f->s->arena);
    if (f->shared != NULL) {
        shared_expert(f);
    }
    if (n_shares > 1) {
        f->hooks->expert_gather(f->hooks->arg, layer, n_shares, results, n_floats);
    }
}

static void sparse_block(forward *f)
{
    stage *s = f->s;
    const text_config *t = s->part.text;
    int32_t layer = s->part.first_layer + f->layer_index;
    multiply(s, f->router, f->normed, f->n_rows, &f->layer->router);
    dump(f, "router_logits", layer, f->router, t->n_experts, false);
    each_row(f, choose_task);
    dump(f, "router_weights", layer, f->top_weights, t->n_experts_per_token, false);
    dump(f, "router_ids", layer, f->top_ids, t->n_experts_per_token, true);

    size_t mark = s->arena.used;
    int32_t n_shares = s->n_owners;
    share *shares = arena_take(&s->arena, (size_t)n_shares * sizeof *shares);
    for (int32_t p = 0; p < n_shares; p++) {
        make_share(f, &shares[p], &s->owners[p]);
    }
    exchange(f, shares, n_shares);
    combination c = {f, shares, n_shares};
    thread_pool_each(s->pool, f->n_rows, combine_task, &c);
    s->arena.used = mark;
}

static void dense_block(forward *f)
{
    const text_config *t = f->s->part.text;
    expert_shape shape = {t->hidden_size, t->dense_size, 1};
    swiglu_forward(f->delta, f->normed, f->n_rows, &f->layer->dense, &shape, f->s->pool,
                   &f->s->arena);
}

static void add_task(void *arg, int32_t r, int32_t thread)
{
    (void)thread;
    forward *f = arg;
    kernels()->add(f->x + (size_t)r * f->hidden, f->delta + (size_t)r * f->hidden,
                   f->s->part.text->hidden_size);
}

/* --- the layers --------------------------------------------------------------------------------
 */

static void add_deep_features(forward *f, int32_t layer)
{
    const step_deep *d = &f->step->deep;
    if (layer >= d->n_layers || d->features[layer] == NULL) {
        return;
    }
    for (int32_t i = 0; i < d->n_rows; i++) {
        kernels()->add(f->x + (size_t)d->rows[i] * f->hidden,
                       d->features[layer] + (size_t)i * f->hidden, f->s->part.text->hidden_size);
    }
}

static void let_messages_move(const forward *f)
{
    if (f->hooks->progress != NULL) {
        f->hooks->progress(f->hooks->arg);
    }
}

static void run_layer(forward *f, int32_t index)
{
    int32_t layer = f->s->part.first_layer + index;
    f->layer = &f->s->weights.layers[index];
    f->layer_index = index;
    dump(f, "hidden", layer, f->x, f->s->part.text->hidden_size, false);
    attention_block(f);
    let_messages_move(f);
    each_row(f, add_and_norm_task);
    if (f->layer->sparse) {
        sparse_block(f);
    } else {
        dense_block(f);
    }
    each_row(f, add_task);
    if (f->hooks->output != NULL) {
        f->hooks->output(f->hooks->arg, layer, f->x);
    }
    add_deep_features(f, layer);
    let_messages_move(f);
}

/* The most experts of one row that this worker can own. */
static size_t own_pairs(const decoder_part *part)
{
    int32_t k = part->text->n_experts_per_token;
    return (size_t)(k < part->experts.n ? k : part->experts.n);
}

static float *take_rows(forward *f, size_t floats_per_row)
{
    return arena_take(&f->s->arena, (size_t)f->n_rows * floats_per_row * sizeof(float));
}

static void take_buffers(forward *f)
{
    const text_config *t = f->s->part.text;
    size_t k = (size_t)t->n_experts_per_token;
    f->normed = take_rows(f, f->hidden);
    f->qkv = take_rows(f, f->q_width + 2 * f->kv_width);
    f->attended = take_rows(f, f->q_width);
    f->delta = take_rows(f, f->hidden);
    f->cosines = take_rows(f, (size_t)f->s->rope.half);
    f->sines = take_rows(f, (size_t)f->s->rope.half);
    if (t->n_experts == 0) {
        return;
    }
    f->router = take_rows(f, (size_t)t->n_experts);
    f->top_weights = take_rows(f, k);
    f->top_ids = (int32_t *)(void *)take_rows(f, k);
    f->pair_weights = take_rows(f, k);
    f->pair_experts = (int32_t *)(void *)take_rows(f, k);
    f->pair_out = take_rows(f, own_pairs(&f->s->part) * f->hidden);
    if (f->s->n_owners > 1) {
        f->peer_out = take_rows(f, k * f->hidden);
    }
    if (t->shared_expert_size > 0) {
        f->shared = take_rows(f, f->hidden);
        f->shared_gate = take_rows(f, 1);
    }
}

static size_t row_bytes(int32_t n_rows, size_t floats)
{
    return arena_rounded((size_t)n_rows * floats * sizeof(float));
}

/* What a home keeps of all rows while it computes a layer: take_buffers and make_share. */
static size_t home_bytes(const decoder_part *part, int32_t n_owners, int32_t n)
{
    const text_config *t = part->text;
    size_t k = (size_t)t->n_experts_per_token, hidden = (size_t)t->hidden_size;
    size_t q = (size_t)(t->n_heads * t->head_dim), kv = (size_t)(t->n_kv_heads * t->head_dim);
    size_t rows = 2 * row_bytes(n, hidden) + row_bytes(n, q + 2 * kv) + row_bytes(n, q) +
                  2 * row_bytes(n, (size_t)t->head_dim / 2);
    if (t->n_experts == 0) {
        return rows;
    }
    size_t owners = (size_t)n_owners;
    rows += row_bytes(n, (size_t)t->n_experts) + 4 * row_bytes(n, k) +
            row_bytes(n, own_pairs(part) * hidden) + (owners > 1 ? row_bytes(n, k * hidden) : 0);
    rows += t->shared_expert_size > 0 ? row_bytes(n, hidden) + row_bytes(n, 1) : 0;
    return rows + arena_rounded(owners * sizeof(share)) +
           owners * (2 * row_bytes(n, 1) + row_bytes(n, 2) + 2 * row_bytes(n, k));
}

static bool has_dense_layer(const decoder_part *part)
{
    for (int32_t i = part->first_layer; i < part->first_layer + part->n_layers; i++) {
        if (!part->text->layer_is_sparse[i]) {
            return true;
        }
    }
    return false;
}

static size_t largest(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t stage_arena_bytes(const decoder_part *part, int32_t n_owners, int32_t rows_max)
{
    const text_config *t = part->text;
    size_t own = own_pairs(part), scratch = 0;
    expert_shape expert = {t->hidden_size, t->expert_size, part->experts.n};
    expert_shape shared = {t->hidden_size, t->shared_expert_size, 1};
    expert_shape dense = {t->hidden_size, t->dense_size, 1};
    if (t->n_experts > 0) {
        scratch = experts_scratch_bytes(&expert, rows_max * (int32_t)own);
    }
    if (!part->home) {
        return scratch + row_bytes(rows_max, own * (size_t)t->hidden_size);
    }
    if (t->n_experts > 0 && t->shared_expert_size > 0) {
        scratch = largest(scratch, experts_scratch_bytes(&shared, rows_max));
    }
    if (has_dense_layer(part)) {
        scratch = largest(scratch, experts_scratch_bytes(&dense, rows_max));
    }
    return home_bytes(part, n_owners, rows_max) + scratch;
}

kv_shape stage_kv_shape(const decoder_part *part, int64_t n_tokens)
{
    return (kv_shape){.n_layers = part->n_layers,
                      .n_kv_heads = part->text->n_kv_heads,
                      .head_dim = part->text->head_dim,
                      .n_tokens = n_tokens};
}

void stage_init(stage *s, const decoder_part *part, thread_pool *pool)
{
    memset(s, 0, sizeof *s);
    s->part = *part;
    s->pool = pool;
    s->n_owners = 1;
    s->owners[0] = part->experts;
    rope_init(&s->rope, part->text);
}

void stage_init_thinker(stage *s, const model_config *m, const plan *p, const plan_worker *w,
                        thread_pool *pool)
{
    decoder_part part = decoder_part_thinker(m, w);
    stage_init(s, &part, pool);
    s->deterministic = p->deterministic;
    s->n_owners = plan_stage_size(p, w->stage);
    for (int32_t place = 0; place < s->n_owners; place++) {
        const plan_worker *owner = w - w->place + place;
        s->owners[place] = (expert_range){owner->first_expert, owner->n_experts};
    }
}

void stage_forward(stage *s, float *x, const step_rows *step, const stage_hooks *hooks)
{
    const text_config *t = s->part.text;
    CHECK(step->n_rows <= STEP_ROWS_MAX);
    arena_reset(&s->arena);
    forward f = {.s = s,
                 .step = step,
                 .hooks = hooks,
                 .n_rows = step->n_rows,
                 .x = x,
                 .hidden = (size_t)t->hidden_size,
                 .q_width = (size_t)(t->n_heads * t->head_dim),
                 .kv_width = (size_t)(t->n_kv_heads * t->head_dim)};
    take_buffers(&f);
    each_row(&f, angles_task);
    for (int32_t i = 0; i < s->part.n_layers; i++) {
        run_layer(&f, i);
    }
    if (s->weights.final_norm != NULL) { /* nothing follows but that */
        dump(&f, "hidden", t->n_layers, x, t->hidden_size, false);
    }
}

void stage_experts(stage *s, int32_t layer, float *out, const expert_batch *batch)
{
    const text_config *t = s->part.text;
    expert_shape shape = {t->hidden_size, t->expert_size, s->part.experts.n};
    const layer_weights *l = &s->weights.layers[layer - s->part.first_layer];
    arena_reset(&s->arena);
    if (s->deterministic) {
        experts_forward(out, batch, l->experts, &shape, s->pool, &s->arena);
        return;
    }
    size_t h = (size_t)t->hidden_size;
    float *pairs = arena_take(&s->arena, (size_t)batch->n_pairs * h * sizeof *pairs);
    experts_forward(pairs, batch, l->experts, &shape, s->pool, &s->arena);
    memset(out, 0, (size_t)batch->n_rows * h * sizeof *out);
    for (int32_t r = 0; r < batch->n_rows; r++) {
        const expert_choice *c = &batch->choices[r];
        experts_add(out + (size_t)r * h, pairs + (size_t)c->first * h, batch->weights + c->first,
                    c->n, t->hidden_size);
    }
}

void stage_embed(const stage *s, float *x, const int32_t *ids, int32_t n)
{
    size_t h = (size_t)s->part.text->hidden_size;
    for (int32_t i = 0; i < n; i++) {
        kernels()->bf16_widen(x + (size_t)i * h, s->weights.embedding + (size_t)ids[i] * h,
                              s->part.text->hidden_size);
    }
}

/*
 * experts.c - see experts.h. Scratch for n pairs: the gathered rows, gate and up side by side,
 * their product, and the results in grouped order: n * (2 H + 2 * 64 * panels + expert_size)
 * floats.
 */
#include "worker/thinker/experts.h"

#include <string.h>

typedef struct group { /* the rows of one expert */
    int32_t expert, first, n;
} group;

typedef struct mlp {
    const swiglu_weights *weights; /* of the first group's table */
    const group *groups;
    int32_t size;   /* inner width */
    int32_t panels; /* of the inner width */
    int32_t hidden_size, out_panels;
    const float *x; /* [n][H], grouped */
    float *gate_up; /* [n][2 * panels * PANEL_ROWS] */
    float *inner;   /* [n][size] */
    float *out;     /* [n][H] */
} mlp;

/* One gate panel and its up panel for all rows of a group, then their product. */
static void gate_up_task(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    const mlp *m = arg;
    const group *g = &m->groups[item / m->panels];
    int32_t panel = item % m->panels;
    size_t stride = (size_t)m->panels * 2 * PANEL_ROWS;
    float *gate_up = m->gate_up + (size_t)g->first * stride;
    kernels()->matmul_bf16(gate_up, stride, m->x + (size_t)g->first * (size_t)m->hidden_size,
                           (size_t)m->hidden_size, g->n, &m->weights[g->expert].gate_up, 2 * panel,
                           2 * panel + 2);
    int32_t left = m->size - panel * PANEL_ROWS;
    int32_t n = left < PANEL_ROWS ? left : PANEL_ROWS;
    for (int32_t r = 0; r < g->n; r++) {
        const float *gate = gate_up + (size_t)r * stride + (size_t)panel * 2 * PANEL_ROWS;
        float *inner =
            m->inner + (size_t)(g->first + r) * (size_t)m->size + (size_t)panel * PANEL_ROWS;
        kernels()->silu_mul(inner, gate, gate + PANEL_ROWS, n);
    }
}

static void down_task(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    const mlp *m = arg;
    const group *g = &m->groups[item / m->out_panels];
    int32_t panel = item % m->out_panels;
    kernels()->matmul_bf16(m->out + (size_t)g->first * (size_t)m->hidden_size,
                           (size_t)m->hidden_size, m->inner + (size_t)g->first * (size_t)m->size,
                           (size_t)m->size, g->n, &m->weights[g->expert].down, panel, panel + 1);
}

static void run_mlp(mlp *m, int32_t n_groups, int32_t n_rows, thread_pool *pool, arena *scratch)
{
    m->panels = packed_panels(m->size);
    m->out_panels = packed_panels(m->hidden_size);
    m->gate_up =
        arena_take(scratch, (size_t)n_rows * (size_t)m->panels * 2 * PANEL_ROWS * sizeof(float));
    m->inner = arena_take(scratch, (size_t)n_rows * (size_t)m->size * sizeof(float));
    thread_pool_each(pool, n_groups * m->panels, gate_up_task, m);
    thread_pool_each(pool, n_groups * m->out_panels, down_task, m);
}

size_t experts_scratch_bytes(const expert_shape *shape, int32_t n_pairs)
{
    size_t n = (size_t)n_pairs, h = (size_t)shape->hidden_size;
    size_t inner = (size_t)packed_panels(shape->expert_size) * 2 * PANEL_ROWS;
    return 2 * arena_rounded(n * h * sizeof(float)) + arena_rounded(n * inner * sizeof(float)) +
           arena_rounded(n * (size_t)shape->expert_size * sizeof(float)) +
           arena_rounded((size_t)(shape->n_experts + 1) * sizeof(group)) +
           arena_rounded((size_t)(shape->n_experts + 1) * sizeof(int32_t)) +
           arena_rounded(n * sizeof(int32_t));
}

/* Where each pair goes when pairs are grouped by expert (place[pair]), and the groups themselves.
 */
static int32_t group_pairs(const expert_batch *b, int32_t n_experts, group *groups, int32_t *next,
                           int32_t *place)
{
    memset(next, 0, (size_t)(n_experts + 1) * sizeof *next);
    for (int32_t i = 0; i < b->n_pairs; i++) {
        next[b->experts[i] + 1]++;
    }
    int32_t n_groups = 0;
    for (int32_t e = 0; e < n_experts; e++) {
        if (next[e + 1] > 0) {
            groups[n_groups++] = (group){.expert = e, .first = next[e], .n = next[e + 1]};
        }
        next[e + 1] += next[e];
    }
    for (int32_t i = 0; i < b->n_pairs; i++) {
        place[i] = next[b->experts[i]]++;
    }
    return n_groups;
}

const float *expert_batch_row(const expert_batch *b, int32_t r, int32_t hidden_size)
{
    return b->hidden + (size_t)(b->row_index != NULL ? b->row_index[r] : r) * (size_t)hidden_size;
}

void experts_forward(float *out, const expert_batch *batch, const swiglu_weights *experts,
                     const expert_shape *shape, thread_pool *pool, arena *scratch)
{
    size_t h = (size_t)shape->hidden_size, n = (size_t)batch->n_pairs;
    if (n == 0) {
        return;
    }
    size_t mark = scratch->used;
    group *groups = arena_take(scratch, (size_t)(shape->n_experts + 1) * sizeof *groups);
    int32_t *next = arena_take(scratch, (size_t)(shape->n_experts + 1) * sizeof *next);
    int32_t *place = arena_take(scratch, n * sizeof *place);
    int32_t n_groups = group_pairs(batch, shape->n_experts, groups, next, place);

    float *gathered = arena_take(scratch, n * h * sizeof *gathered);
    float *grouped = arena_take(scratch, n * h * sizeof *grouped);
    for (int32_t r = 0; r < batch->n_rows; r++) {
        const expert_choice *c = &batch->choices[r];
        const float *row = expert_batch_row(batch, r, shape->hidden_size);
        for (int32_t j = c->first; j < c->first + c->n; j++) {
            memcpy(gathered + (size_t)place[j] * h, row, h * sizeof *gathered);
        }
    }
    mlp m = {.weights = experts,
             .groups = groups,
             .size = shape->expert_size,
             .hidden_size = shape->hidden_size,
             .x = gathered,
             .out = grouped};
    run_mlp(&m, n_groups, batch->n_pairs, pool, scratch);
    for (size_t i = 0; i < n; i++) {
        memcpy(out + i * h, grouped + (size_t)place[i] * h, h * sizeof *out);
    }
    scratch->used = mark;
}

void experts_add(float *out, const float *pair_out, const float *weights, int32_t n,
                 int32_t hidden_size)
{
    for (int32_t j = 0; j < n; j++) {
        kernels()->axpy(out, weights[j], pair_out + (size_t)j * (size_t)hidden_size, hidden_size);
    }
}

void swiglu_forward(float *out, const float *x, int32_t n_rows, const swiglu_weights *w,
                    const expert_shape *shape, thread_pool *pool, arena *scratch)
{
    size_t mark = scratch->used;
    group all = {.expert = 0, .first = 0, .n = n_rows};
    mlp m = {.weights = w,
             .groups = &all,
             .size = shape->expert_size,
             .hidden_size = shape->hidden_size,
             .x = x,
             .out = out};
    run_mlp(&m, 1, n_rows, pool, scratch);
    scratch->used = mark;
}

/*
 * head.c - one matrix product cut by panels, then per row a threshold and a scan.
 *
 * The K-th largest logit is found with a heap of K entries in one pass; a second pass collects what
 * reaches it. Costs two reads of the row and log K per entry that enters the heap (few).
 */
#include "worker/thinker/head.h"

#include "common/check.h"
#include "common/kth_largest.h"

#include <math.h>
#include <stdlib.h>

typedef struct head_pass {
    const stage *s;
    float *logits; /* [n_rows][n] */
    const float *hidden;
    int32_t n_rows, n, n_grains;
    const head_want *wants;
    float *grain_max, *grain_sum; /* [n_rows][n_grains] */
} head_pass;

static void panel_task(void *arg, int32_t panel, int32_t thread)
{
    (void)thread;
    const head_pass *p = arg;
    size_t h = (size_t)p->s->part.text->hidden_size;
    kernels()->matmul_bf16(p->logits, (size_t)p->n, p->hidden, h, p->n_rows, &p->s->weights.lm_head,
                           panel, panel + 1);
}

static void grain_task(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    const head_pass *p = arg;
    int32_t row = item / p->n_grains, grain = item % p->n_grains;
    if (!p->wants[row].sums) {
        return;
    }
    int32_t first = grain * LM_HEAD_GRAIN;
    int32_t end = first + LM_HEAD_GRAIN < p->n ? first + LM_HEAD_GRAIN : p->n;
    const float *logits = p->logits + (size_t)row * (size_t)p->n;
    float max = -INFINITY, sum = 0.0f;
    for (int32_t i = first; i < end; i++) {
        max = logits[i] > max ? logits[i] : max;
    }
    for (int32_t i = first; i < end; i++) {
        sum += exp_f32(logits[i] - max);
    }
    p->grain_max[item] = max;
    p->grain_sum[item] = sum;
}

/* --- the shortlist -----------------------------------------------------------------------------
 */

typedef struct candidate {
    float logit;
    int32_t id;
} candidate;

static int by_falling_logit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->logit != y->logit) {
        return x->logit > y->logit ? -1 : 1;
    }
    return x->id < y->id ? -1 : 1;
}

/* A logit that is not a number compares with none: it would be left out, or hide others, in
 * silence. It becomes the whole shortlist, and whoever chooses from that must refuse it. */
static bool only_no_number(const head_pass *p, head_row *row, arena *a)
{
    for (int32_t i = 0; i < p->n; i++) {
        if (isnan(row->logits[i])) {
            int32_t *id = arena_take(a, sizeof *id);
            *id = p->s->weights.first_vocab_row + i;
            row->n_top = 1;
            row->top_ids = id;
            row->top_logits = row->logits + i;
            return true;
        }
    }
    return false;
}

static void shortlist(const head_pass *p, head_row *row, int32_t top, arena *a)
{
    int32_t k = top < p->n ? top : p->n, n = 0, at = 0;
    if (only_no_number(p, row, a)) {
        return;
    }
    size_t mark = a->used;
    float *heap = arena_take(a, (size_t)k * sizeof *heap);
    float threshold = kth_largest(row->logits, p->n, k, heap);
    a->used = mark;
    for (int32_t i = 0; i < p->n; i++) {
        n += row->logits[i] >= threshold;
    }
    int32_t *ids = arena_take(a, (size_t)n * sizeof *ids);
    float *logits = arena_take(a, (size_t)n * sizeof *logits);
    candidate *list = arena_take(a, (size_t)n * sizeof *list);
    for (int32_t i = 0; i < p->n; i++) {
        if (row->logits[i] >= threshold) {
            list[at++] = (candidate){row->logits[i], p->s->weights.first_vocab_row + i};
        }
    }
    qsort(list, (size_t)n, sizeof *list, by_falling_logit);
    for (int32_t i = 0; i < n; i++) {
        ids[i] = list[i].id;
        logits[i] = list[i].logit;
    }
    row->n_top = n;
    row->top_ids = ids;
    row->top_logits = logits;
}

size_t head_arena_bytes(const plan_worker *w)
{
    size_t n = (size_t)w->n_vocab_rows, grains = (n + LM_HEAD_GRAIN - 1) / LM_HEAD_GRAIN;
    /* All logits tie at worst: then a shortlist is the whole row, as ids, logits and candidates. */
    size_t one = arena_rounded(n * sizeof(float)) + 2 * arena_rounded(n * 4) +
                 arena_rounded(n * sizeof(candidate));
    return HEAD_ROWS_MAX * (one + 2 * arena_rounded(grains * sizeof(float)) + ARENA_ALIGN);
}

void head_forward(const stage *s, head_row *rows, const float *hidden, const head_want *wants,
                  int32_t n_rows, arena *memory)
{
    CHECK(n_rows <= HEAD_ROWS_MAX);
    head_pass p = {
        .s = s, .hidden = hidden, .n_rows = n_rows, .n = s->weights.lm_head.rows, .wants = wants};
    p.n_grains = (p.n + LM_HEAD_GRAIN - 1) / LM_HEAD_GRAIN;
    size_t all = (size_t)n_rows * (size_t)p.n, grains = (size_t)n_rows * (size_t)p.n_grains;
    p.logits = arena_take(memory, all * sizeof *p.logits);
    p.grain_max = arena_take(memory, grains * sizeof(float));
    p.grain_sum = arena_take(memory, grains * sizeof(float));
    thread_pool_each(s->pool, packed_panels(p.n), panel_task, &p);
    thread_pool_each(s->pool, n_rows * p.n_grains, grain_task, &p);
    for (int32_t r = 0; r < n_rows; r++) {
        rows[r] = (head_row){.logits = p.logits + (size_t)r * (size_t)p.n};
        if (wants[r].sums) {
            rows[r].n_grains = p.n_grains;
            rows[r].grain_max = p.grain_max + (size_t)r * (size_t)p.n_grains;
            rows[r].grain_sum = p.grain_sum + (size_t)r * (size_t)p.n_grains;
        }
        if (wants[r].top > 0 && p.n > 0) {
            shortlist(&p, &rows[r], wants[r].top, memory);
        }
    }
}

void head_final_norm(const stage *s, float *out, const float *x, int32_t n_rows)
{
    const text_config *t = s->part.text;
    size_t h = (size_t)t->hidden_size;
    for (int32_t r = 0; r < n_rows; r++) {
        kernels()->rms_norm(out + (size_t)r * h, x + (size_t)r * h, s->weights.final_norm,
                            t->hidden_size, t->rms_norm_eps);
    }
}

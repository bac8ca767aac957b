/*
 * vision_encoder.c - slabs of patches through the blocks, keys and values of a block for all of
 * them first.
 *
 * A job is a walk of steps (below), each over one slab of SLAB_ROWS patches; a call of advance
 * takes steps until it has spent its share of multiply-adds, so tiny models finish in one call and
 * a step of a large picture's attention is cut into some pieces. A piece is QUERY_ROWS queries of
 * one head, which pass over all keys of that head: blocks of KV_BLOCK in patch order, as
 * attention.h has them. Rows stay in x from the first block to the last, everything else is made
 * per slab.
 */
#include "worker/encoders/vision_encoder.h"

#include "common/check.h"
#include "common/layout.h"
#include "worker/encoders/dense.h"
#include "worker/encoders/vision_positions.h"
#include "worker/kernels/kernels.h"

#include <math.h>
#include <string.h>

enum {
    SLAB_ROWS = 480, /* weights are read once for so many rows */
    QUERY_ROWS = 48, /* queries that pass over the keys together: a multiple of the kernel's six */
    ALIGN = 64
};

/* Multiply-adds count twice. 2 cores of 100 GFLOP/s each take 25 ms for it. */
static const double slice_flops_per_thread = 2.5e9;

static const float norm_eps = 1e-6f;

typedef enum vision_step {
    STEP_EMBED,    /* x = patches W + bias + positions */
    STEP_KEYS,     /* keys and values of a slab */
    STEP_QUERIES,  /* queries of a slab */
    STEP_ATTEND,   /* some pieces of the slab's attention */
    STEP_PROJECT,  /* x += attention W + bias */
    STEP_EXPAND,   /* the MLP's first half */
    STEP_CONTRACT, /* x += its second half */
    STEP_JOIN,     /* a merger's norm and first half */
    STEP_MERGE,    /* its second half, into out */
    STEP_DONE
} vision_step;

struct vision_work {
    const vision_config *v;
    const vision_weights *w;
    vision_job job;
    int32_t n_patches, n_key_blocks;
    int32_t hidden, head_dim, patch_size; /* patch_size: entries of a patch */
    int32_t unit;                         /* patches of a merged token */
    int32_t slab_rows;

    vision_step step;
    int32_t block;      /* whose weights STEP_KEYS to STEP_CONTRACT take */
    int32_t set;        /* of the output: 0 the last merger's, 1 + i the deep-stack ones */
    int32_t first, n;   /* patches of the slab */
    int32_t piece;      /* of its attention that come next */
    double done, total; /* multiply-adds, times two */

    float *x;                     /* [n_patches][hidden] */
    float *keys_values;           /* [head][key block]: k [head_dim][64], v [64][head_dim] */
    float *cos_table, *sin_table; /* [rows or columns of the grid][head_dim / 4] */
    float *norm;                  /* [slab_rows][hidden]: what a product takes */
    float *wide;  /* [slab_rows][wide_row]: patches; q, k and v; the MLP's inner rows */
    float *q;     /* [piece][QUERY_ROWS][head_dim] */
    float *mixed; /* likewise; [slab_rows][hidden]: products to be added to x, joined rows */
};

/* --- memory ------------------------------------------------------------------------------------
 */

typedef struct layout {
    unsigned char *base; /* NULL: sizes alone are asked for */
    size_t used;
} layout;

static void *take(layout *l, size_t n_bytes)
{
    void *at = l->base != NULL ? l->base + l->used : NULL;
    l->used += (n_bytes + ALIGN - 1) / ALIGN * ALIGN;
    return at;
}

static float *take_floats(layout *l, int64_t rows, int64_t columns)
{
    return take(l, (size_t)rows * (size_t)columns * sizeof(float));
}

static int32_t n_chunks(int32_t rows)
{
    return (rows + QUERY_ROWS - 1) / QUERY_ROWS;
}

static int32_t most(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* Sizes that follow from the shapes, and the buffers for them. */
static void lay_out(vision_work *k, layout *l, const vision_config *v, int64_t n_patches)
{
    k->v = v;
    k->hidden = v->hidden_size;
    k->head_dim = v->hidden_size / v->n_heads;
    k->patch_size = v->in_channels * v->temporal_patch_size * v->patch_size * v->patch_size;
    k->unit = v->spatial_merge_size * v->spatial_merge_size;
    k->slab_rows = SLAB_ROWS / k->unit * k->unit; /* whole tokens */
    int64_t key_blocks = (n_patches + KV_BLOCK - 1) / KV_BLOCK;
    int64_t side_max = n_patches / v->spatial_merge_size + 1;
    int32_t wide_row = most(k->patch_size, most(3 * k->hidden, v->intermediate_size));

    k->x = take_floats(l, n_patches, k->hidden);
    k->keys_values = take_floats(l, key_blocks * KV_BLOCK, 2 * (int64_t)k->hidden);
    k->cos_table = take_floats(l, side_max, k->head_dim / 4);
    k->sin_table = take_floats(l, side_max, k->head_dim / 4);
    k->norm = take_floats(l, k->slab_rows, k->hidden);
    k->wide = take_floats(l, k->slab_rows, wide_row);
    k->q = take_floats(l, (int64_t)n_chunks(k->slab_rows) * QUERY_ROWS, k->hidden);
    k->mixed = take_floats(l, (int64_t)n_chunks(k->slab_rows) * QUERY_ROWS, k->hidden);
}

size_t vision_job_bytes(const vision_config *v, int64_t n_patches)
{
    vision_work k;
    layout l = {NULL, 0};
    take(&l, sizeof k);
    lay_out(&k, &l, v, n_patches);
    return l.used;
}

/* --- what each step computes -------------------------------------------------------------------
 */

static const vision_block_weights *block_weights(const vision_work *k)
{
    return &k->w->blocks[k->block];
}

static float *slab_x(const vision_work *k)
{
    return k->x + (size_t)k->first * (size_t)k->hidden;
}

static void patch_angles(const vision_work *k, int32_t p, float *cos_out, float *sin_out)
{
    int32_t row, column;
    patch_place(&row, &column, p, k->job.source.grid_w, k->v->spatial_merge_size);
    axial_rope_angles(cos_out, sin_out, k->cos_table, k->sin_table, row, column, k->head_dim);
}

static void fill_patches(void *arg, int32_t thread, int32_t n_threads)
{
    const vision_work *k = arg;
    int32_t begin = partition_begin(k->n, thread, n_threads);
    int32_t end = partition_begin(k->n, thread + 1, n_threads);
    patches_fill(k->wide + (size_t)begin * (size_t)k->patch_size, &k->job.source, k->v,
                 k->first + begin, end - begin);
}

static void add_positions(void *arg, int32_t thread, int32_t n_threads)
{
    const vision_work *k = arg;
    const patch_source *s = &k->job.source;
    const position_grid grid = {.table = k->w->positions,
                                .side = (int32_t)lround(sqrt(k->v->n_position_embeddings)),
                                .hidden = k->hidden,
                                .grid_h = s->grid_h,
                                .grid_w = s->grid_w};
    int32_t end = partition_begin(k->n, thread + 1, n_threads);
    for (int32_t m = partition_begin(k->n, thread, n_threads); m < end; m++) {
        int32_t row, column;
        patch_place(&row, &column, k->first + m, s->grid_w, k->v->spatial_merge_size);
        position_add(slab_x(k) + (size_t)m * (size_t)k->hidden, &grid, row, column);
    }
}

static void embed(vision_work *k, thread_pool *pool)
{
    size_t hidden = (size_t)k->hidden;
    dense_rows rows = {.y = slab_x(k),
                       .y_stride = hidden,
                       .x = k->wide,
                       .x_stride = (size_t)k->patch_size,
                       .n_rows = k->n};
    thread_pool_run(pool, fill_patches, k);
    dense_run(pool, &rows, &k->w->patch, DENSE_PLAIN);
    thread_pool_run(pool, add_positions, k);
}

/* Queries, or keys and values, of the slab, into the columns of `wide` that are theirs: q, k, v,
 * each [head][head_dim]. A panel that holds the last queries and the first keys is made both times.
 */
static void project_in(vision_work *k, thread_pool *pool, bool queries)
{
    const vision_block_weights *b = block_weights(k);
    dense_rows rows = {.y = k->wide,
                       .y_stride = 3 * (size_t)k->hidden,
                       .x = k->norm,
                       .x_stride = (size_t)k->hidden,
                       .n_rows = k->n};
    dense_norm(pool, k->norm, slab_x(k), &b->norm1, k->n, k->hidden, norm_eps);
    if (queries) {
        dense_panels(pool, &rows, &b->qkv, 0, packed_panels(k->hidden), DENSE_PLAIN);
    } else {
        dense_panels(pool, &rows, &b->qkv, k->hidden / PANEL_ROWS, packed_panels(3 * k->hidden),
                     DENSE_PLAIN);
    }
}

/* k of one key block of one head; v follows it. */
static float *key_block(const vision_work *k, int32_t head, int32_t block)
{
    size_t size = 2 * KV_BLOCK * (size_t)k->head_dim;
    return k->keys_values + ((size_t)head * (size_t)k->n_key_blocks + (size_t)block) * size;
}

/* Row m of the slab in `wide`: part 0 q, 1 k, 2 v of a head. */
static float *wide_head(const vision_work *k, int32_t m, int32_t part, int32_t head)
{
    return k->wide + ((size_t)m * 3 + (size_t)part) * (size_t)k->hidden +
           (size_t)head * (size_t)k->head_dim;
}

/* The slab's patches of one key block, one head: keys rotated, and laid across. */
static void store_keys(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    vision_work *k = arg;
    int32_t head = item % k->v->n_heads;
    int32_t block = k->first / KV_BLOCK + item / k->v->n_heads;
    int32_t begin = most(k->first, block * KV_BLOCK);
    int32_t end = block * KV_BLOCK + KV_BLOCK;
    end = end < k->first + k->n ? end : k->first + k->n;
    float *keys = key_block(k, head, block);
    float *values = keys + KV_BLOCK * (size_t)k->head_dim;
    float cosines[HEAD_DIM_MAX / 2], sines[HEAD_DIM_MAX / 2];

    for (int32_t p = begin; p < end; p++) {
        float *key = wide_head(k, p - k->first, 1, head);
        const float *value = wide_head(k, p - k->first, 2, head);
        int32_t place = p % KV_BLOCK;
        patch_angles(k, p, cosines, sines);
        kernels()->rope_rotate(key, cosines, sines, k->head_dim / 2);
        for (int32_t d = 0; d < k->head_dim; d++) {
            keys[(size_t)d * KV_BLOCK + (size_t)place] = key[d];
        }
        memcpy(values + (size_t)place * (size_t)k->head_dim, value,
               (size_t)k->head_dim * sizeof *value);
    }
}

static void make_keys(vision_work *k, thread_pool *pool)
{
    project_in(k, pool, false);
    int32_t first_block = k->first / KV_BLOCK;
    int32_t last_block = (k->first + k->n - 1) / KV_BLOCK;
    thread_pool_each(pool, (last_block - first_block + 1) * k->v->n_heads, store_keys, k);
}

/* Queries [begin, begin + n) of the slab against all keys of a head; out [n][head_dim] is divided
 * by the sums at the end. */
static void attend_rows(const vision_work *k, float *out, const float *q, int32_t n, int32_t head)
{
    attend_state states[QUERY_ROWS];
    float scale = (float)(1.0 / sqrt((double)k->head_dim));
    memset(out, 0, (size_t)n * (size_t)k->head_dim * sizeof *out);
    for (int32_t m = 0; m < n; m++) {
        states[m] = (attend_state){.max = -INFINITY, .sum = 0.0f};
    }
    for (int32_t b = 0; b < k->n_key_blocks; b++) {
        const float *keys = key_block(k, head, b);
        int32_t left = k->n_patches - b * KV_BLOCK;
        kernels()->attend_heads(out, states, q, n, keys, keys + KV_BLOCK * (size_t)k->head_dim,
                                left < KV_BLOCK ? left : KV_BLOCK, k->head_dim, scale);
    }
    for (int32_t m = 0; m < n; m++) {
        float *row = out + (size_t)m * (size_t)k->head_dim;
        for (int32_t d = 0; d < k->head_dim; d++) {
            row[d] /= states[m].sum;
        }
    }
}

/* A piece: pieces of one head follow each other, so that its keys stay in the cache. */
static void attend_piece(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    const vision_work *k = arg;
    int32_t piece = k->piece + item;
    int32_t chunks = n_chunks(k->n);
    int32_t head = piece / chunks;
    int32_t begin = piece % chunks * QUERY_ROWS;
    int32_t n = k->n - begin < QUERY_ROWS ? k->n - begin : QUERY_ROWS;
    size_t dim = (size_t)k->head_dim;
    float *q = k->q + (size_t)piece * QUERY_ROWS * dim;
    float *out = k->mixed + (size_t)piece * QUERY_ROWS * dim;
    float cosines[HEAD_DIM_MAX / 2], sines[HEAD_DIM_MAX / 2];

    for (int32_t m = 0; m < n; m++) {
        memcpy(q + (size_t)m * dim, wide_head(k, begin + m, 0, head), dim * sizeof *q);
        patch_angles(k, k->first + begin + m, cosines, sines);
        kernels()->rope_rotate(q + (size_t)m * dim, cosines, sines, k->head_dim / 2);
    }
    attend_rows(k, out, q, n, head);
    for (int32_t m = 0; m < n; m++) {
        memcpy(k->norm + (size_t)(begin + m) * (size_t)k->hidden + (size_t)head * dim,
               out + (size_t)m * dim, dim * sizeof *out);
    }
}

/* x += W input + bias */
static void add_product(vision_work *k, thread_pool *pool, const float *input, const affine *a)
{
    dense_rows rows = {.y = k->mixed,
                       .y_stride = (size_t)k->hidden,
                       .x = input,
                       .x_stride = (size_t)a->w.columns,
                       .n_rows = k->n,
                       .sum = slab_x(k),
                       .sum_stride = (size_t)k->hidden};
    dense_run(pool, &rows, a, DENSE_ADD);
}

static void expand(vision_work *k, thread_pool *pool)
{
    const vision_block_weights *b = block_weights(k);
    dense_rows rows = {.y = k->wide,
                       .y_stride = (size_t)k->v->intermediate_size,
                       .x = k->norm,
                       .x_stride = (size_t)k->hidden,
                       .n_rows = k->n};
    dense_norm(pool, k->norm, slab_x(k), &b->norm2, k->n, k->hidden, norm_eps);
    dense_run(pool, &rows, &b->fc1, DENSE_GELU_TANH);
}

static const merger_weights *merger_of(const vision_work *k)
{
    return k->set == 0 ? &k->w->merger : &k->w->deepstack[k->set - 1];
}

/* The rows of a token follow each other in x, so joining them is a matter of reading. The last
 * merger norms patches, the others what they have joined. */
static void join(vision_work *k, thread_pool *pool)
{
    const merger_weights *g = merger_of(k);
    int32_t per_norm = k->set == 0 ? 1 : k->unit;
    size_t joined = (size_t)k->unit * (size_t)k->hidden;
    dense_rows rows = {.y = k->mixed,
                       .y_stride = joined,
                       .x = k->norm,
                       .x_stride = joined,
                       .n_rows = k->n / k->unit};
    dense_norm(pool, k->norm, slab_x(k), &g->norm, k->n / per_norm, per_norm * k->hidden, norm_eps);
    dense_run(pool, &rows, &g->fc1, DENSE_GELU_ERF);
}

static void merge(vision_work *k, thread_pool *pool)
{
    size_t width = (size_t)k->v->out_hidden_size;
    size_t joined = (size_t)k->unit * (size_t)k->hidden;
    size_t tokens = (size_t)(k->n_patches / k->unit);
    size_t first = (size_t)k->set * tokens + (size_t)(k->first / k->unit);
    dense_rows rows = {.y = k->job.out + first * width,
                       .y_stride = width,
                       .x = k->mixed,
                       .x_stride = joined,
                       .n_rows = k->n / k->unit};
    dense_run(pool, &rows, &merger_of(k)->fc2, DENSE_PLAIN);
}

/* --- what each step costs ----------------------------------------------------------------------
 */

/* One piece, or with it all of a step over n patches. */
static double step_flops(const vision_work *k, vision_step step, double n)
{
    double hidden = k->hidden;
    double joined = hidden * k->unit;
    double mlp = k->v->intermediate_size;
    switch (step) {
    case STEP_EMBED:
        return 2 * n * hidden * k->patch_size;
    case STEP_KEYS:
        return 4 * n * hidden * hidden;
    case STEP_QUERIES:
    case STEP_PROJECT:
        return 2 * n * hidden * hidden;
    case STEP_ATTEND:
        return 4 * n * hidden * k->n_patches;
    case STEP_EXPAND:
    case STEP_CONTRACT:
        return 2 * n * hidden * mlp;
    case STEP_JOIN:
        return 2 * n / k->unit * joined * joined;
    case STEP_MERGE:
        return 2 * n / k->unit * joined * k->v->out_hidden_size;
    case STEP_DONE:
        break;
    }
    return 0;
}

static double job_flops(const vision_work *k)
{
    double in_blocks = 0, in_mergers = 0;
    for (vision_step s = STEP_KEYS; s <= STEP_CONTRACT; s++) {
        in_blocks += step_flops(k, s, k->n_patches);
    }
    for (vision_step s = STEP_JOIN; s <= STEP_MERGE; s++) {
        in_mergers += step_flops(k, s, k->n_patches);
    }
    return step_flops(k, STEP_EMBED, k->n_patches) + k->v->depth * in_blocks +
           (1 + k->v->n_deepstack) * in_mergers;
}

/* --- the walk ----------------------------------------------------------------------------------
 */

static void enter(vision_work *k, vision_step step, int32_t first)
{
    k->step = step;
    k->first = first;
    k->n = k->n_patches - first < k->slab_rows ? k->n_patches - first : k->slab_rows;
    k->piece = 0;
}

static int32_t n_pieces(const vision_work *k)
{
    return k->v->n_heads * n_chunks(k->n);
}

/* The output set that block feeds as a deep-stack layer; 0: none. */
static int32_t deepstack_set(const vision_config *v, int32_t block)
{
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        if (v->deepstack_layers[i] == block) {
            return 1 + i;
        }
    }
    return 0;
}

static void next_block(vision_work *k)
{
    k->set = 0;
    k->block++;
    enter(k, k->block < k->v->depth ? STEP_KEYS : STEP_JOIN, 0);
}

/* All slabs of a round of steps are done. */
static void next_round(vision_work *k)
{
    switch (k->step) {
    case STEP_EMBED:
        enter(k, STEP_KEYS, 0);
        break;
    case STEP_KEYS:
        enter(k, STEP_QUERIES, 0);
        break;
    case STEP_CONTRACT:
        k->set = deepstack_set(k->v, k->block);
        if (k->set > 0) {
            enter(k, STEP_JOIN, 0);
        } else {
            next_block(k);
        }
        break;
    default: /* STEP_MERGE */
        if (k->set > 0) {
            next_block(k);
        } else {
            k->step = STEP_DONE;
        }
    }
}

/* The first step of the round of steps that each slab goes through; step is the last one. */
static vision_step round_begin(vision_step step)
{
    return step == STEP_CONTRACT ? STEP_QUERIES : step == STEP_MERGE ? STEP_JOIN : step;
}

static void next_step(vision_work *k)
{
    bool slab_goes_on = k->step != STEP_EMBED && k->step != STEP_KEYS && k->step != STEP_CONTRACT &&
                        k->step != STEP_MERGE;
    if (slab_goes_on) {
        k->step++;
        return;
    }
    if (k->first + k->n < k->n_patches) {
        enter(k, round_begin(k->step), k->first + k->n);
    } else {
        next_round(k);
    }
}

/* As many pieces as `flops` buys, and one for each thread at least; returns what they cost. */
static double attend_some(vision_work *k, thread_pool *pool, double flops)
{
    double each = step_flops(k, STEP_ATTEND, k->n) / n_pieces(k);
    int32_t left = n_pieces(k) - k->piece;
    double wanted = flops / each;
    int32_t n = wanted < left ? most((int32_t)wanted, thread_pool_size(pool)) : left;
    n = n < left ? n : left;
    thread_pool_each(pool, n, attend_piece, k);
    k->piece += n;
    if (k->piece == n_pieces(k)) {
        next_step(k);
    }
    return n * each;
}

/* A step, or a part of one; returns what it cost. */
static double advance_step(vision_work *k, thread_pool *pool, double flops)
{
    if (k->step == STEP_ATTEND) {
        return attend_some(k, pool, flops);
    }
    double cost = step_flops(k, k->step, k->n);
    switch (k->step) {
    case STEP_EMBED:
        embed(k, pool);
        break;
    case STEP_KEYS:
        make_keys(k, pool);
        break;
    case STEP_QUERIES:
        project_in(k, pool, true);
        break;
    case STEP_PROJECT:
        add_product(k, pool, k->norm, &block_weights(k)->proj);
        break;
    case STEP_EXPAND:
        expand(k, pool);
        break;
    case STEP_CONTRACT:
        add_product(k, pool, k->wide, &block_weights(k)->fc2);
        break;
    case STEP_JOIN:
        join(k, pool);
        break;
    default:
        merge(k, pool);
    }
    next_step(k);
    return cost;
}

/* --- the header's functions --------------------------------------------------------------------
 */

vision_work *vision_work_begin(void *memory, const vision_config *v, const vision_weights *w,
                               const vision_job *job)
{
    const patch_source *s = &job->source;
    int64_t n_patches = (int64_t)s->grid_h * s->grid_w;
    CHECK(s->grid_h > 0 && s->grid_w > 0 && n_patches <= INT32_MAX / 2);
    CHECK(s->grid_h % v->spatial_merge_size == 0 && s->grid_w % v->spatial_merge_size == 0);
    CHECK(v->hidden_size / v->n_heads <= HEAD_DIM_MAX);
    CHECK(v->spatial_merge_size * v->spatial_merge_size <= SLAB_ROWS);
    layout l = {memory, 0};
    vision_work *k = take(&l, sizeof *k);
    *k = (vision_work){.w = w, .job = *job, .n_patches = (int32_t)n_patches};
    lay_out(k, &l, v, n_patches);
    k->n_key_blocks = (k->n_patches + KV_BLOCK - 1) / KV_BLOCK;
    axial_rope_table(k->cos_table, k->sin_table, most(s->grid_h, s->grid_w), k->head_dim);
    k->total = job_flops(k);
    enter(k, STEP_EMBED, 0);
    return k;
}

bool vision_work_advance(vision_work *k, thread_pool *pool)
{
    double budget = slice_flops_per_thread * thread_pool_size(pool);
    double spent = 0;
    while (k->step != STEP_DONE && spent < budget) {
        spent += advance_step(k, pool, budget - spent);
    }
    k->done += spent;
    return k->step == STEP_DONE;
}

double vision_work_share(const vision_work *k)
{
    if (k->step == STEP_DONE) {
        return 1;
    }
    double share = k->done / k->total;
    return share < 1 ? share : 1;
}

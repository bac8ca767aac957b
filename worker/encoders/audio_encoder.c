/*
 * audio_encoder.c - chunks through the convolutions, a few at a time, then all their tokens through
 * the layers.
 *
 * A job is a walk of steps (below). A step has items of one kind (output rows of a convolution,
 * tokens, pairs of a window and a head) and takes some of them at a time; a call of advance goes on
 * until it has spent its share of multiply-adds, so a tiny model finishes in one call.
 *
 * A convolution gathers what each of its outputs sees into a row (im2col, a slab of rows at a time)
 * and multiplies rows by weights like every other layer: 3 copies of 3 neighbouring mel rows for
 * 9 * channels^2 multiply-adds each. Maps are [chunk][time][mel][channel], so the third one's rows
 * are what conv_out takes. Only the last chunk of a job can be short; its tokens past the end are
 * the last ones of all and are left out from there on.
 *
 * Memory: the maps of GROUP_CHUNKS chunks and a slab, and later in the same place the layers'
 * buffers (about 16 d_model floats a token); beside them the rows that conv_out takes.
 */
#include "worker/encoders/audio_encoder.h"

#include "common/arena.h"
#include "common/check.h"
#include "common/layout.h"
#include "worker/encoders/audio_shape.h"
#include "worker/encoders/dense.h"
#include "worker/kernels/kernels.h"

#include <math.h>
#include <string.h>

enum {
    GROUP_CHUNKS = 4,  /* that go through the convolutions together */
    COLUMN_ROWS = 512, /* outputs of the second and third convolution that are gathered at once */
    TOKEN_ROWS_MAX = 640, /* tokens in one product */
    QUERY_ROWS = 48,      /* queries that pass over keys together: a multiple of the kernel's six */
    KERNEL = 3,
};

/* Multiply-adds count twice. 2 cores of 100 GFLOP/s each take 25 ms for it. */
static const double slice_flops_per_thread = 2.5e9;

static const float norm_eps = 1e-5f;

typedef enum audio_step {
    STEP_CANVAS, /* a group's chunks as [time][mel], zeros behind the last frame */
    STEP_CONV1,  /* rows of outputs */
    STEP_CONV2,
    STEP_CONV3,
    STEP_EMBED,    /* tokens: x = conv_out row + position */
    STEP_QKV,      /* tokens: norm, queries, keys and values */
    STEP_ATTEND,   /* pairs of window and head */
    STEP_PROJECT,  /* tokens: x += attention W + bias */
    STEP_EXPAND,   /* the MLP's first half */
    STEP_CONTRACT, /* x += its second half */
    STEP_HEAD1,    /* tokens: last norm and first projection */
    STEP_HEAD2,    /* second projection, into out */
    STEP_DONE
} audio_step;

typedef struct map_shape { /* one chunk's map: [time][mel][channels] */
    int32_t time, mel, channels;
} map_shape;

struct audio_work {
    const audio_config *a;
    const audio_weights *w;
    audio_job job;
    int32_t d, head_dim;
    int32_t chunk;                                 /* frames of a whole one */
    int32_t n_chunks, n_tokens, n_windows, window; /* window: tokens of a whole one */
    map_shape shapes[4];                           /* before the convolutions and after each */

    audio_step step;
    int32_t group;      /* first chunk of the group that is in the maps */
    int32_t layer;      /* whose weights STEP_QKV to STEP_CONTRACT take */
    int32_t first, n;   /* items of the step under way */
    double done, total; /* multiply-adds, times two */

    float *x;         /* [tokens][d] */
    float *positions; /* [tokens of a whole chunk][d] */
    float *features;  /* [chunk][time][mel][channel] after the third convolution, all chunks */
    float *maps[3];   /* before the first, second and third one, of a group */
    float *columns;   /* [COLUMN_ROWS][9 * channels] or as many shorter ones */
    float *norm;      /* [tokens][d]: what a product takes; attention's result */
    float *mixed;     /* [tokens][d]: what a product gave */
    float *wide;      /* [tokens][3 d] queries, keys and values; [tokens][ffn_dim] */
    float *heads;     /* of each window and head: keys, values, some queries and results */
};

/* --- shapes and memory -------------------------------------------------------------------------
 */

static int32_t least(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t most(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t divided_up(int32_t n, int32_t unit)
{
    return n / unit + (n % unit != 0);
}

int32_t audio_job_tokens(const audio_config *a, int32_t n_frames)
{
    int32_t chunk = 2 * a->n_window;
    return n_frames / chunk * audio_halved(chunk, 3) + audio_halved(n_frames % chunk, 3);
}

static void set_shapes(audio_work *k, const audio_config *a, int32_t n_frames, int32_t canvas)
{
    k->a = a;
    k->d = a->d_model;
    k->head_dim = a->d_model / a->n_heads;
    k->chunk = 2 * a->n_window;
    k->n_chunks = divided_up(n_frames, k->chunk);
    k->n_tokens = audio_job_tokens(a, n_frames);
    k->window = audio_halved(canvas, 3) * (a->n_window_infer / k->chunk);
    k->n_windows = divided_up(k->n_tokens, k->window);
    for (int32_t i = 0; i < 4; i++) {
        k->shapes[i] = (map_shape){audio_halved(canvas, i), audio_halved(a->n_mel_bins, i),
                                   i == 0 ? 1 : a->downsample_hidden_size};
    }
}

typedef struct layout {
    unsigned char *base; /* NULL: sizes alone are asked for */
    size_t used;
} layout;

static void *take(layout *l, size_t n_bytes)
{
    void *at = l->base != NULL ? l->base + l->used : NULL;
    l->used += arena_rounded(n_bytes);
    return at;
}

static float *take_floats(layout *l, int64_t rows, int64_t columns)
{
    return take(l, (size_t)rows * (size_t)columns * sizeof(float));
}

static int64_t map_floats(const map_shape *s)
{
    return (int64_t)s->time * s->mel * s->channels;
}

/* Floats of each window and head: keys in blocks, values, QUERY_ROWS queries and their results. */
static size_t head_floats(const audio_work *k)
{
    int32_t rows = divided_up(k->window, KV_BLOCK) * KV_BLOCK + k->window + 2 * QUERY_ROWS;
    return (size_t)rows * (size_t)k->head_dim;
}

static void lay_out(audio_work *k, layout *l)
{
    int32_t group = least(k->n_chunks, GROUP_CHUNKS);
    k->x = take_floats(l, k->n_tokens, k->d);
    k->positions = take_floats(l, k->shapes[3].time, k->d);
    k->features = take_floats(l, k->n_chunks, map_floats(&k->shapes[3]));
    layout layers = *l; /* these begin when the convolutions are done, in their place */
    for (int32_t i = 0; i < 3; i++) {
        k->maps[i] = take_floats(l, group, map_floats(&k->shapes[i]));
    }
    k->columns = take_floats(l, COLUMN_ROWS, KERNEL * KERNEL * (int64_t)k->shapes[1].channels);
    k->norm = take_floats(&layers, k->n_tokens, k->d);
    k->mixed = take_floats(&layers, k->n_tokens, k->d);
    k->wide = take_floats(&layers, k->n_tokens, most(3 * k->d, k->a->ffn_dim));
    k->heads = take_floats(&layers, (int64_t)k->n_windows * k->a->n_heads, (int64_t)head_floats(k));
    l->used = layers.used > l->used ? layers.used : l->used;
}

size_t audio_job_bytes(const audio_config *a)
{
    layout l = {NULL, 0};
    audio_work k;
    take(&l, sizeof k);
    set_shapes(&k, a, AUDIO_JOB_WINDOWS * a->n_window_infer, 2 * a->n_window);
    lay_out(&k, &l);
    return l.used;
}

/* --- the convolutions --------------------------------------------------------------------------
 */

/* One chunk of features, which lie [mel][frame], as [frame][mel]. */
static void fill_canvas(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    const audio_work *k = arg;
    const map_shape *s = &k->shapes[0];
    int32_t first = (k->group + item) * k->chunk;
    int32_t n = least(k->job.n_frames - first, k->chunk);
    float *map = k->maps[0] + (size_t)item * (size_t)map_floats(s);
    for (int32_t m = 0; m < s->mel; m++) {
        const float *bin = k->job.features + (size_t)m * (size_t)k->job.n_frames + first;
        for (int32_t t = 0; t < s->time; t++) {
            map[(size_t)t * (size_t)s->mel + (size_t)m] = t < n ? bin[t] : 0.0f;
        }
    }
}

/* What an output sees at one point in time: three mel rows from `mel` on, zeros outside the map. */
static void gather_time(float *out, const float *chunk, const map_shape *s, int32_t time,
                        int32_t mel)
{
    size_t c = (size_t)s->channels;
    if (time < 0 || time >= s->time) {
        memset(out, 0, KERNEL * c * sizeof *out);
        return;
    }
    size_t before = mel < 0;
    size_t there = (size_t)(least(mel + KERNEL, s->mel) - mel) - before;
    const float *from =
        chunk + ((size_t)time * (size_t)s->mel + (size_t)(mel + (int32_t)before)) * c;
    memset(out, 0, before * c * sizeof *out);
    memcpy(out + before * c, from, there * c * sizeof *out);
    memset(out + (before + there) * c, 0, (KERNEL - before - there) * c * sizeof *out);
}

static int32_t convolution(const audio_work *k)
{
    return (int32_t)k->step - STEP_CONV1;
}

static void gather_rows(void *arg, int32_t thread, int32_t n_threads)
{
    const audio_work *k = arg;
    int32_t which = convolution(k);
    const map_shape *in = &k->shapes[which], *out = &k->shapes[which + 1];
    size_t tap = KERNEL * (size_t)in->channels;
    int32_t end = partition_begin(k->n, thread + 1, n_threads);
    for (int32_t i = partition_begin(k->n, thread, n_threads); i < end; i++) {
        int32_t row = k->first + i;
        int32_t mel = row % out->mel, time = row / out->mel % out->time;
        int32_t item = row / out->mel / out->time;
        const float *chunk = k->maps[which] + (size_t)item * (size_t)map_floats(in);
        float *columns = k->columns + (size_t)i * KERNEL * tap;
        for (int32_t dt = 0; dt < KERNEL; dt++) {
            gather_time(columns + (size_t)dt * tap, chunk, in, 2 * time - 1 + dt, 2 * mel - 1);
        }
    }
}

static void convolve(audio_work *k, thread_pool *pool)
{
    int32_t which = convolution(k);
    const affine *a = &k->w->conv[which];
    size_t channels = (size_t)k->shapes[which + 1].channels;
    float *map = which < 2 ? k->maps[which + 1]
                           : k->features + (size_t)k->group * (size_t)map_floats(&k->shapes[3]);
    thread_pool_run(pool, gather_rows, k);
    dense_rows rows = {.y = map + (size_t)k->first * channels,
                       .y_stride = channels,
                       .x = k->columns,
                       .x_stride = (size_t)a->w.columns,
                       .n_rows = k->n};
    dense_run(pool, &rows, a, DENSE_GELU_ERF);
}

/* --- tokens ------------------------------------------------------------------------------------
 */

/* Sines, then cosines, of each time step within a chunk (5.6). */
static void fill_positions(float *positions, int32_t n, int32_t d)
{
    int32_t half = d / 2;
    double falling = half > 1 ? log(10000.0) / (half - 1) : 0.0;
    for (int32_t i = 0; i < half; i++) {
        float inverse = (float)exp(-falling * i);
        for (int32_t t = 0; t < n; t++) {
            double angle = (double)((float)t * inverse);
            positions[(size_t)t * (size_t)d + (size_t)i] = (float)sin(angle);
            positions[(size_t)t * (size_t)d + (size_t)(half + i)] = (float)cos(angle);
        }
    }
}

/* The rows of the step's tokens, of y and x as wide as said. */
static dense_rows token_rows(const audio_work *k, float *y, int32_t y_width, const float *x,
                             int32_t x_width)
{
    return (dense_rows){.y = y + (size_t)k->first * (size_t)y_width,
                        .y_stride = (size_t)y_width,
                        .x = x + (size_t)k->first * (size_t)x_width,
                        .x_stride = (size_t)x_width,
                        .n_rows = k->n};
}

/* x += W input + bias */
static void add_product(audio_work *k, thread_pool *pool, const float *input, const affine *a)
{
    dense_rows rows = token_rows(k, k->mixed, k->d, input, a->w.columns);
    rows.sum = k->x + (size_t)k->first * (size_t)k->d;
    rows.sum_stride = (size_t)k->d;
    dense_run(pool, &rows, a, DENSE_ADD);
}

static void embed(audio_work *k, thread_pool *pool)
{
    size_t row_bytes = (size_t)k->d * sizeof(float);
    for (int32_t i = k->first; i < k->first + k->n; i++) {
        memcpy(k->x + (size_t)i * (size_t)k->d,
               k->positions + (size_t)(i % k->shapes[3].time) * (size_t)k->d, row_bytes);
    }
    add_product(k, pool, k->features, &k->w->conv_out);
}

static void project_out(audio_work *k, thread_pool *pool)
{
    const affine *a = &k->w->proj2;
    dense_rows rows = token_rows(k, k->job.out, a->w.rows, k->mixed, k->d);
    dense_run(pool, &rows, a, DENSE_PLAIN);
}

/* to = after(W LayerNorm(x) + bias) */
static void norm_and_multiply(audio_work *k, thread_pool *pool, float *to, const norm_weights *norm,
                              const affine *a, dense_after after)
{
    size_t first = (size_t)k->first * (size_t)k->d;
    dense_rows rows = token_rows(k, to, a->w.rows, k->norm, k->d);
    dense_norm(pool, k->norm + first, k->x + first, norm, k->n, k->d, norm_eps);
    dense_run(pool, &rows, a, after);
}

/* --- attention within a window -----------------------------------------------------------------
 */

typedef struct head_rows { /* one head of one window */
    const audio_work *k;
    int32_t head, first, n; /* tokens */
    float *keys, *values;   /* blocks [head_dim][KV_BLOCK]; [n][head_dim] */
    float *q, *out;         /* [QUERY_ROWS][head_dim] */
} head_rows;

/* The head's entries of a token: which 0 is the query, 1 the key, 2 the value. */
static const float *head_of(const head_rows *r, int32_t token, int32_t which)
{
    const audio_work *k = r->k;
    size_t row = (size_t)(r->first + token) * 3 + (size_t)which;
    return k->wide + row * (size_t)k->d + (size_t)r->head * (size_t)k->head_dim;
}

static void lay_keys_and_values(const head_rows *r)
{
    size_t dim = (size_t)r->k->head_dim;
    for (int32_t t = 0; t < r->n; t++) {
        const float *key = head_of(r, t, 1);
        float *column = r->keys + (size_t)(t / KV_BLOCK) * KV_BLOCK * dim + t % KV_BLOCK;
        for (size_t i = 0; i < dim; i++) {
            column[i * KV_BLOCK] = key[i];
        }
        memcpy(r->values + (size_t)t * dim, head_of(r, t, 2), dim * sizeof *key);
    }
}

static void divide(float *out, const float *entries, float sum, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        out[i] = entries[i] / sum;
    }
}

/* Queries [begin, begin + n) over all keys of the window, results to norm. */
static void attend_queries(const head_rows *r, int32_t begin, int32_t n)
{
    const audio_work *k = r->k;
    size_t dim = (size_t)k->head_dim;
    float scale = 1.0f / sqrtf((float)k->head_dim);
    attend_state states[QUERY_ROWS];
    for (int32_t i = 0; i < n; i++) {
        states[i] = (attend_state){-INFINITY, 0.0f};
        memcpy(r->q + (size_t)i * dim, head_of(r, begin + i, 0), dim * sizeof *r->q);
    }
    memset(r->out, 0, (size_t)n * dim * sizeof *r->out);
    for (int32_t first = 0; first < r->n; first += KV_BLOCK) {
        kernels()->attend_heads(r->out, states, r->q, n, r->keys + (size_t)first * dim,
                                r->values + (size_t)first * dim, least(r->n - first, KV_BLOCK),
                                k->head_dim, scale);
    }
    for (int32_t i = 0; i < n; i++) {
        float *to = k->norm + (size_t)(r->first + begin + i) * (size_t)k->d + (size_t)r->head * dim;
        divide(to, r->out + (size_t)i * dim, states[i].sum, dim);
    }
}

static void attend_head(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    const audio_work *k = arg;
    int32_t pair = k->first + item;
    size_t dim = (size_t)k->head_dim;
    int32_t window = pair / k->a->n_heads;
    head_rows r = {.k = k, .head = pair % k->a->n_heads, .first = window * k->window};
    r.n = least(k->n_tokens - r.first, k->window);
    r.keys = k->heads + (size_t)pair * head_floats(k);
    r.values = r.keys + (size_t)divided_up(k->window, KV_BLOCK) * KV_BLOCK * dim;
    r.q = r.values + (size_t)k->window * dim;
    r.out = r.q + QUERY_ROWS * dim;
    lay_keys_and_values(&r);
    for (int32_t begin = 0; begin < r.n; begin += QUERY_ROWS) {
        attend_queries(&r, begin, least(r.n - begin, QUERY_ROWS));
    }
}

/* --- the walk ----------------------------------------------------------------------------------
 */

static int32_t group_chunks(const audio_work *k)
{
    return least(k->n_chunks - k->group, GROUP_CHUNKS);
}

static int32_t n_items(const audio_work *k)
{
    switch (k->step) {
    case STEP_CANVAS:
        return group_chunks(k);
    case STEP_CONV1:
    case STEP_CONV2:
    case STEP_CONV3: {
        const map_shape *out = &k->shapes[convolution(k) + 1];
        return group_chunks(k) * out->time * out->mel;
    }
    case STEP_ATTEND:
        return k->n_windows * k->a->n_heads;
    case STEP_DONE:
        return 0;
    default:
        return k->n_tokens;
    }
}

/* Of one item. */
static double item_flops(const audio_work *k, audio_step step)
{
    double d = k->d, c = k->shapes[1].channels, mel = k->shapes[3].mel;
    double seen = least(k->window, k->n_tokens);
    switch (step) {
    case STEP_CONV1:
        return 2 * 9 * c;
    case STEP_CONV2:
    case STEP_CONV3:
        return 2 * 9 * c * c;
    case STEP_EMBED:
        return 2 * d * c * mel;
    case STEP_QKV:
        return 6 * d * d;
    case STEP_ATTEND:
        return 4 * k->head_dim * seen * seen;
    case STEP_PROJECT:
    case STEP_HEAD1:
        return 2 * d * d;
    case STEP_EXPAND:
    case STEP_CONTRACT:
        return 2 * d * k->a->ffn_dim;
    case STEP_HEAD2:
        return 2 * d * k->a->output_dim;
    case STEP_CANVAS:
    case STEP_DONE:
        break;
    }
    return 0;
}

/* Of all items of a step: of one group, of one layer. */
static double step_flops(const audio_work *k, audio_step step)
{
    audio_work there = *k;
    there.step = step;
    return n_items(&there) * item_flops(k, step);
}

static double job_flops(const audio_work *k)
{
    double in_group = 0, in_layer = 0;
    for (audio_step s = STEP_CONV1; s <= STEP_CONV3; s++) {
        in_group += step_flops(k, s);
    }
    for (audio_step s = STEP_QKV; s <= STEP_CONTRACT; s++) {
        in_layer += step_flops(k, s);
    }
    return in_group * k->n_chunks / group_chunks(k) + step_flops(k, STEP_EMBED) +
           in_layer * k->a->n_layers + step_flops(k, STEP_HEAD1) + step_flops(k, STEP_HEAD2);
}

/* Items of the step that memory allows at a time, or `flops` where that is less to ask for. */
static int32_t items_most(const audio_work *k, int32_t n_threads, double flops)
{
    double affordable = flops / item_flops(k, STEP_ATTEND);
    switch (k->step) {
    case STEP_CANVAS:
        return GROUP_CHUNKS;
    case STEP_CONV1: /* short rows, and no more than leave their results in the cache */
        return COLUMN_ROWS * least(k->shapes[1].channels, 4);
    case STEP_CONV2:
    case STEP_CONV3:
        return COLUMN_ROWS;
    case STEP_ATTEND:
        return affordable < n_items(k) ? most((int32_t)affordable, n_threads) : n_items(k);
    default:
        return TOKEN_ROWS_MAX;
    }
}

/* The next items, in pieces of nearly equal size until the step is done. */
static void choose_items(audio_work *k, int32_t n_threads, double flops)
{
    int32_t left = n_items(k) - k->first;
    k->n = divided_up(left, divided_up(left, items_most(k, n_threads, flops)));
}

static void compute_items(audio_work *k, thread_pool *pool)
{
    const audio_layer_weights *layer = &k->w->layers[k->layer];
    switch (k->step) {
    case STEP_CANVAS:
        thread_pool_each(pool, k->n, fill_canvas, k);
        break;
    case STEP_CONV1:
    case STEP_CONV2:
    case STEP_CONV3:
        convolve(k, pool);
        break;
    case STEP_EMBED:
        embed(k, pool);
        break;
    case STEP_QKV:
        norm_and_multiply(k, pool, k->wide, &layer->attention_norm, &layer->qkv, DENSE_PLAIN);
        break;
    case STEP_ATTEND:
        thread_pool_each(pool, k->n, attend_head, k);
        break;
    case STEP_PROJECT:
        add_product(k, pool, k->norm, &layer->out);
        break;
    case STEP_EXPAND:
        norm_and_multiply(k, pool, k->wide, &layer->final_norm, &layer->fc1, DENSE_GELU_ERF);
        break;
    case STEP_CONTRACT:
        add_product(k, pool, k->wide, &layer->fc2);
        break;
    case STEP_HEAD1:
        norm_and_multiply(k, pool, k->mixed, &k->w->ln_post, &k->w->proj1, DENSE_GELU_ERF);
        break;
    case STEP_HEAD2:
        project_out(k, pool);
        break;
    case STEP_DONE:
        break;
    }
}

/* All items of the step are done. */
static void next_step(audio_work *k)
{
    k->first = 0;
    if (k->step == STEP_CONV3 && k->group + GROUP_CHUNKS < k->n_chunks) {
        k->group += GROUP_CHUNKS;
        k->step = STEP_CANVAS;
    } else if (k->step == STEP_CONTRACT && k->layer + 1 < k->a->n_layers) {
        k->layer++;
        k->step = STEP_QKV;
    } else {
        k->step++;
    }
}

/* --- the header's functions --------------------------------------------------------------------
 */

audio_work *audio_work_begin(void *memory, const audio_config *a, const audio_weights *w,
                             const audio_job *job)
{
    CHECK(job->n_frames >= 1 && job->n_frames <= AUDIO_JOB_WINDOWS * a->n_window_infer);
    CHECK(job->canvas <= 2 * a->n_window && job->canvas >= least(job->n_frames, 2 * a->n_window));
    CHECK(a->d_model / a->n_heads <= HEAD_DIM_MAX);
    layout l = {memory, 0};
    audio_work *k = take(&l, sizeof *k);
    *k = (audio_work){.w = w, .job = *job};
    set_shapes(k, a, job->n_frames, job->canvas);
    lay_out(k, &l);
    fill_positions(k->positions, k->shapes[3].time, k->d);
    k->total = job_flops(k);
    return k;
}

bool audio_work_advance(audio_work *k, thread_pool *pool)
{
    double budget = slice_flops_per_thread * thread_pool_size(pool), spent = 0;
    while (k->step != STEP_DONE && spent < budget) {
        choose_items(k, thread_pool_size(pool), budget - spent);
        compute_items(k, pool);
        spent += k->n * item_flops(k, k->step);
        k->first += k->n;
        if (k->first == n_items(k)) {
            next_step(k);
        }
    }
    k->done += spent;
    return k->step == STEP_DONE;
}

double audio_work_share(const audio_work *k)
{
    return k->step == STEP_DONE ? 1 : fmin(k->done / k->total, 1);
}

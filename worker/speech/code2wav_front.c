/*
 * code2wav_front.c - frames of codes through the embedding and the transformer.
 *
 * Keys (rotated) and values of the last positions stay in a ring of each stream, as rows. A query
 * sees exactly its own window: its keys are laid across in blocks that begin where the window
 * begins, so its sums do not depend on where chunks begin. That copy is a hundredth of a percent of
 * the vocoder's work.
 */
#include "worker/speech/code2wav_parts.h"

#include "worker/kernels/kernels.h"

#include <math.h>
#include <string.h>

enum { QUERIES_MAX = 32 }; /* heads that pass over keys together */

/* --- embedding ---------------------------------------------------------------------------------
 */

/* x = the mean of the frame's code rows */
static void embed_rows(const void *arg, int32_t begin, int32_t end)
{
    const code2wav *v = arg;
    const code2wav_config *c = &v->c;
    size_t h = (size_t)c->hidden_size;
    const int32_t *codes = (const int32_t *)(const void *)code2wav_buffer(v, v->shape.codes);
    for (int32_t i = begin; i < end; i++) {
        float *x = code2wav_buffer(v, v->shape.x) + (size_t)i * h;
        float *row = code2wav_buffer(v, v->shape.norm) + (size_t)i * h;
        for (int32_t q = 0; q < c->n_quantizers; q++) {
            int32_t code = codes[i * c->n_quantizers + q] + q * c->codebook_size;
            kernels()->bf16_widen(q == 0 ? x : row, v->w.codes + (size_t)code * h, c->hidden_size);
            if (q > 0) {
                kernels()->add(x, row, c->hidden_size);
            }
        }
        for (size_t k = 0; k < h; k++) {
            x[k] = x[k] / (float)c->n_quantizers;
        }
    }
}

static void fill_angles(const code2wav *v)
{
    int32_t half = v->c.head_dim / 2;
    int64_t first = v->streams[v->stream].n_frames;
    for (int32_t i = 0; i < v->n_frames; i++) {
        float *at = code2wav_buffer(v, v->shape.angles) + (size_t)i * (size_t)v->c.head_dim;
        float position = (float)(first + i);
        rope_angles(&v->rope, position, position, position, at, at + half);
    }
}

/* --- attention ---------------------------------------------------------------------------------
 */

typedef struct layer_work {
    const code2wav *v;
    const code2wav_layer_weights *w;
    float *keys, *values; /* rings [ring][n_kv_heads * head_dim] */
    const float *norm;    /* of rms_rows */
} layer_work;

static int32_t kv_width(const code2wav *v)
{
    return v->c.n_kv_heads * v->c.head_dim;
}

static int32_t qkv_width(const code2wav *v)
{
    return v->c.n_heads * v->c.head_dim + 2 * kv_width(v);
}

static layer_work layer_of(const code2wav *v, int32_t layer)
{
    size_t ring = (size_t)v->shape.ring * (size_t)kv_width(v);
    size_t bytes = plan_array_bytes(1, (int64_t)ring, sizeof(float));
    uint64_t at = v->shape.keys_and_values + 2 * (uint64_t)layer * bytes;
    return (layer_work){.v = v,
                        .w = &v->w.layers[layer],
                        .keys = code2wav_state(v, at),
                        .values = code2wav_state(v, at + bytes)};
}

/* Turns queries and keys to their positions; keys and values go into the rings. */
static void place_rows(const void *arg, int32_t begin, int32_t end)
{
    const layer_work *k = arg;
    const code2wav *v = k->v;
    int32_t dim = v->c.head_dim, width = kv_width(v);
    for (int32_t i = begin; i < end; i++) {
        float *q = code2wav_buffer(v, v->shape.qkv) + (size_t)i * (size_t)qkv_width(v);
        float *key = q + (size_t)v->c.n_heads * (size_t)dim;
        const float *angles = code2wav_buffer(v, v->shape.angles) + (size_t)i * (size_t)dim;
        for (int32_t h = 0; h < v->c.n_heads + v->c.n_kv_heads; h++) {
            kernels()->rope_rotate(q + (size_t)h * (size_t)dim, angles, angles + dim / 2, dim / 2);
        }
        int64_t slot = (v->streams[v->stream].n_frames + i) % v->shape.ring;
        size_t at = (size_t)slot * (size_t)width, bytes = (size_t)width * sizeof(float);
        memcpy(k->keys + at, key, bytes);
        memcpy(k->values + at, key + width, bytes);
    }
}

typedef struct head_work { /* one KV head of a chunk */
    const layer_work *k;
    int32_t head;
    int64_t first;  /* position that the tables begin with */
    int32_t n_seen; /* and positions in them */
    int32_t stride; /* of keys */
    float *keys;    /* [head_dim][stride] */
    float *values;  /* [n_seen][head_dim] */
    float *block;   /* [head_dim][KV_BLOCK] */
} head_work;

static void lay_out_head(const head_work *h)
{
    const code2wav *v = h->k->v;
    size_t dim = (size_t)v->c.head_dim;
    for (int32_t i = 0; i < h->n_seen; i++) {
        size_t slot = (size_t)((h->first + i) % v->shape.ring);
        size_t at = slot * (size_t)kv_width(v) + (size_t)h->head * dim;
        for (size_t d = 0; d < dim; d++) {
            h->keys[d * (size_t)h->stride + (size_t)i] = h->k->keys[at + d];
        }
        memcpy(h->values + (size_t)i * dim, h->k->values + at, dim * sizeof(float));
    }
}

/* Positions [begin, begin + n) of the tables, for n_heads queries. */
static void attend_block(const head_work *h, float *out, attend_state *states, const float *q,
                         int32_t n_heads, int32_t begin, int32_t n)
{
    int32_t dim = h->k->v->c.head_dim;
    for (int32_t d = 0; d < dim; d++) {
        memcpy(h->block + d * KV_BLOCK, h->keys + (size_t)d * (size_t)h->stride + begin,
               (size_t)n * sizeof(float));
    }
    kernels()->attend_heads(out, states, q, n_heads, h->block,
                            h->values + (size_t)begin * (size_t)dim, n, dim,
                            1.0f / sqrtf((float)dim));
}

/* Heads [first, first + n) of frame i, all of this KV head's group. */
static void attend_frame(const head_work *h, int32_t i, int32_t first, int32_t n)
{
    const code2wav *v = h->k->v;
    size_t dim = (size_t)v->c.head_dim;
    const float *q =
        code2wav_buffer(v, v->shape.qkv) + (size_t)i * (size_t)qkv_width(v) + (size_t)first * dim;
    float *out = code2wav_buffer(v, v->shape.attended) +
                 ((size_t)i * (size_t)v->c.n_heads + (size_t)first) * dim;
    int64_t position = v->streams[v->stream].n_frames + i;
    int32_t end = (int32_t)(position - h->first) + 1;
    int32_t begin = end > v->c.sliding_window ? end - v->c.sliding_window : 0;
    attend_state states[QUERIES_MAX];
    for (int32_t j = 0; j < n; j++) {
        states[j] = (attend_state){-INFINITY, 0.0f};
    }
    memset(out, 0, (size_t)n * dim * sizeof *out);
    for (int32_t at = begin; at < end; at += KV_BLOCK) {
        attend_block(h, out, states, q, n, at, end - at < KV_BLOCK ? end - at : KV_BLOCK);
    }
    for (size_t j = 0; j < (size_t)n * dim; j++) {
        out[j] = out[j] / states[j / dim].sum;
    }
}

static void attend_head(void *arg, int32_t head, int32_t thread)
{
    (void)thread;
    const layer_work *k = arg;
    const code2wav *v = k->v;
    int64_t position = v->streams[v->stream].n_frames, back = v->c.sliding_window - 1;
    head_work h = {.k = k, .head = head, .first = position > back ? position - back : 0};
    h.n_seen = (int32_t)(position - h.first) + v->n_frames;
    h.stride = v->c.sliding_window - 1 + VOCODER_FRAMES_MAX;
    h.keys =
        code2wav_buffer(v, v->shape.heads) + (size_t)head * (size_t)code2wav_head_floats(&v->c);
    h.values = h.keys + (size_t)h.stride * (size_t)v->c.head_dim;
    h.block = h.values + (size_t)h.stride * (size_t)v->c.head_dim;
    lay_out_head(&h);
    int32_t group = v->c.n_heads / v->c.n_kv_heads;
    for (int32_t i = 0; i < v->n_frames; i++) {
        for (int32_t g = 0; g < group; g += QUERIES_MAX) {
            attend_frame(&h, i, head * group + g,
                         group - g < QUERIES_MAX ? group - g : QUERIES_MAX);
        }
    }
}

/* --- a layer -----------------------------------------------------------------------------------
 */

static void rms_rows(const void *arg, int32_t begin, int32_t end)
{
    const layer_work *k = arg;
    const code2wav *v = k->v;
    for (int32_t i = begin; i < end; i++) {
        size_t at = (size_t)i * (size_t)v->c.hidden_size;
        kernels()->rms_norm(code2wav_buffer(v, v->shape.norm) + at,
                            code2wav_buffer(v, v->shape.x) + at, k->norm, v->c.hidden_size,
                            v->c.rms_norm_eps);
    }
}

static void multiply_gates(const void *arg, int32_t begin, int32_t end)
{
    const code2wav *v = arg;
    size_t n = (size_t)v->c.intermediate_size;
    for (int32_t i = begin; i < end; i++) {
        float *gate = code2wav_buffer(v, v->shape.wide) + (size_t)i * 2 * n;
        kernels()->silu_mul(gate, gate, gate + n, v->c.intermediate_size);
    }
}

static void normalise(layer_work *k, const float *weight)
{
    k->norm = weight;
    code2wav_each_row(k->v, k->v->n_frames, rms_rows, k);
}

/* y = W x for the frames' rows of width x_width. */
static dense_rows frame_rows(const code2wav *v, uint64_t y, int32_t y_width, uint64_t x,
                             int32_t x_width)
{
    return (dense_rows){.y = code2wav_buffer(v, y),
                        .y_stride = (size_t)y_width,
                        .x = code2wav_buffer(v, x),
                        .x_stride = (size_t)x_width,
                        .n_rows = v->n_frames};
}

/* x += scale * W rows */
static void add_scaled(const code2wav *v, uint64_t from, int32_t width, const affine *a,
                       const float *scale)
{
    dense_rows rows = frame_rows(v, v->shape.product, v->c.hidden_size, from, width);
    rows.sum = code2wav_buffer(v, v->shape.x);
    rows.sum_stride = (size_t)v->c.hidden_size;
    rows.scale = scale;
    dense_run(v->pool, &rows, a, DENSE_ADD_SCALED);
}

static void run_layer(const code2wav *v, int32_t layer)
{
    const code2wav_config *c = &v->c;
    layer_work k = layer_of(v, layer);
    normalise(&k, k.w->attention_norm);
    dense_rows qkv = frame_rows(v, v->shape.qkv, qkv_width(v), v->shape.norm, c->hidden_size);
    dense_run(v->pool, &qkv, &k.w->qkv, DENSE_PLAIN);
    code2wav_each_row(v, v->n_frames, place_rows, &k);
    thread_pool_each(v->pool, c->n_kv_heads, attend_head, &k);
    add_scaled(v, v->shape.attended, c->n_heads * c->head_dim, &k.w->out, k.w->attention_scale);

    normalise(&k, k.w->mlp_norm);
    int32_t wide = 2 * c->intermediate_size;
    dense_rows gates = frame_rows(v, v->shape.wide, wide, v->shape.norm, c->hidden_size);
    dense_run(v->pool, &gates, &k.w->gate_up, DENSE_PLAIN);
    code2wav_each_row(v, v->n_frames, multiply_gates, v);
    add_scaled(v, v->shape.wide, wide, &k.w->down, k.w->mlp_scale);
}

/* The last norm, into the first stage's input. */
static void leave(code2wav *v)
{
    layer_work k = {.v = v};
    int32_t h = v->c.hidden_size;
    normalise(&k, v->w.norm);
    float *out = code2wav_input(v, 0);
    memcpy(out, code2wav_buffer(v, v->shape.norm), (size_t)v->n_frames * (size_t)h * sizeof *out);
    code2wav_tell(v, "transformer", v->streams[v->stream].n_frames, v->n_frames, h, out);
    code2wav_offer(v, 0, v->n_frames);
}

double code2wav_front_flops(const code2wav_config *c)
{
    double h = c->hidden_size, q = (double)c->n_heads * c->head_dim;
    double kv = (double)c->n_kv_heads * c->head_dim;
    double layer = h * (2 * q + 2 * kv) + 3 * h * c->intermediate_size + 2 * q * c->sliding_window;
    return 2 * layer * c->n_layers;
}

double code2wav_front_step(code2wav *v)
{
    if (v->front < 0) {
        code2wav_each_row(v, v->n_frames, embed_rows, v);
        code2wav_tell(v, "embed", v->streams[v->stream].n_frames, v->n_frames, v->c.hidden_size,
                      code2wav_buffer(v, v->shape.x));
        fill_angles(v);
        v->front = 0;
        return 0;
    }
    run_layer(v, v->front);
    v->front++;
    if (v->front == v->c.n_layers) {
        leave(v);
    }
    return code2wav_front_flops(&v->c) / v->c.n_layers * v->n_frames;
}

/*
 * plan_encoders.c - bytes of the encoders: their packed weights, and the memory of their jobs.
 *
 * The weights are those of worker/encoders/encoder_weights.h, to the byte. A job's memory is at
 * least what worker/encoders takes (audio_job_bytes, vision_job_bytes), which a test holds it to.
 */
#include "common/plan_parts.h"

#include <stddef.h>

enum {
    JOB_SLAB_ROWS = 512,        /* rows that go through a product together, at most */
    QUERY_ROWS = 48,            /* queries that pass over the keys together */
    AUDIO_GROUP_CHUNKS = 4,     /* chunks that go through the convolutions together */
    JOB_FIXED_BYTES = 64 << 10, /* the job's own state, and what lines leave over */
};

/* y = W x + bias */
static uint64_t affine_bytes(int64_t rows, int64_t columns)
{
    return plan_add(plan_matrix_bytes(rows, columns), plan_array_bytes(1, rows, sizeof(float)));
}

static uint64_t layer_norm_bytes(int64_t n)
{
    return plan_times(2, plan_array_bytes(1, n, sizeof(float)));
}

static uint64_t sum_of(const uint64_t *terms, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum = plan_add(sum, terms[i]);
    }
    return sum;
}

#define SUM(...)                                                                                   \
    sum_of((const uint64_t[]){__VA_ARGS__},                                                        \
           sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

uint64_t plan_audio_bytes(const model_config *m)
{
    const audio_config *a = &m->audio;
    int64_t d = a->d_model, c = a->downsample_hidden_size;
    int64_t bins = a->n_mel_bins; /* halved three times, rounded up */
    for (int i = 0; i < 3; i++) {
        bins = (bins + 1) / 2;
    }
    uint64_t layer =
        SUM(layer_norm_bytes(d), layer_norm_bytes(d), affine_bytes(3 * d, d), affine_bytes(d, d),
            affine_bytes(a->ffn_dim, d), affine_bytes(d, a->ffn_dim));
    return m->has_audio
               ? SUM(affine_bytes(c, 9), affine_bytes(c, 9 * c), affine_bytes(c, 9 * c),
                     plan_matrix_bytes(d, bins * c), plan_times(layer, (uint64_t)a->n_layers),
                     layer_norm_bytes(d), affine_bytes(d, d), affine_bytes(a->output_dim, d))
               : 0;
}

/* norm_width: the last merger norms patches, the others what they have merged. */
static uint64_t merger_bytes(const vision_config *v, int64_t norm_width, int64_t merged)
{
    return SUM(layer_norm_bytes(norm_width), affine_bytes(merged, merged),
               affine_bytes(v->out_hidden_size, merged));
}

uint64_t plan_vision_bytes(const model_config *m)
{
    const vision_config *v = &m->vision;
    int64_t h = v->hidden_size, size = v->intermediate_size;
    int64_t merged = h * v->spatial_merge_size * v->spatial_merge_size;
    int64_t patch =
        (int64_t)v->in_channels * v->temporal_patch_size * v->patch_size * v->patch_size;
    uint64_t block = SUM(layer_norm_bytes(h), layer_norm_bytes(h), affine_bytes(3 * h, h),
                         affine_bytes(h, h), affine_bytes(size, h), affine_bytes(h, size));
    return m->has_vision
               ? SUM(affine_bytes(h, patch),
                     plan_array_bytes(v->n_position_embeddings, h, sizeof(uint16_t)),
                     plan_times(block, (uint64_t)v->depth), merger_bytes(v, h, merged),
                     plan_times(merger_bytes(v, merged, merged), (uint64_t)v->n_deepstack))
               : 0;
}

/* The memory of jobs */

static uint64_t floats(int64_t a, int64_t b)
{
    return plan_array_bytes(a, b, sizeof(float));
}

static uint64_t largest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static int64_t rounded_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

/* Entries of an axis after one of the audio encoder's convolutions. */
static int64_t halved(int64_t n)
{
    return (n + 1) / 2;
}

/* Chunks by groups through the convolutions (the maps before each, and the rows that a product
 * takes), then all their tokens through the layers in the same place. */
uint64_t plan_audio_job_bytes(const audio_config *a)
{
    int64_t d = a->d_model, c = a->downsample_hidden_size, chunk = 2 * (int64_t)a->n_window;
    int64_t m1 = halved(a->n_mel_bins), m2 = halved(m1), m3 = halved(m2);
    int64_t t1 = halved(chunk), t2 = halved(t1), t3 = halved(t2);
    int64_t frames = (int64_t)AUDIO_JOB_WINDOWS * a->n_window_infer;
    int64_t window = a->n_window_infer / chunk * t3, tokens = AUDIO_JOB_WINDOWS * window;
    uint64_t maps = SUM(floats(chunk, a->n_mel_bins), floats(t1 * m1, c), floats(t2 * m2, c));
    uint64_t columns = floats(9 * c, JOB_SLAB_ROWS);
    uint64_t convolutions = plan_add(plan_times(maps, AUDIO_GROUP_CHUNKS), columns);
    /* of each head: keys in whole blocks, values, a chunk of queries and of results */
    uint64_t heads = plan_times(floats(rounded_up(window, KV_BLOCK) + window + 2 * QUERY_ROWS, d),
                                AUDIO_JOB_WINDOWS);
    uint64_t layers = SUM(floats(tokens, 2 * d), heads,
                          largest(floats(tokens, 3 * d), floats(tokens, a->ffn_dim)));
    return SUM(floats(a->n_mel_bins, frames), floats(tokens, a->output_dim), floats(tokens, d),
               floats(t3, d), floats(tokens, m3 * c), largest(convolutions, layers),
               JOB_FIXED_BYTES);
}

uint64_t plan_audio_region_bytes(const audio_config *a)
{
    return plan_times(plan_audio_job_bytes(a), 2);
}

/* Rows, keys and values of all patches, the latter in whole blocks, and two tables for the grid's
 * sides; all else by slabs of whole merged tokens. The input is as many pictures as one temporal
 * patch has. */
uint64_t plan_vision_job_bytes(const vision_config *v, int64_t n_patches)
{
    int64_t h = v->hidden_size, merge = v->spatial_merge_size;
    int64_t pixels = (int64_t)v->patch_size * v->patch_size;
    int64_t slab_rows = rounded_up(JOB_SLAB_ROWS, merge * merge) + QUERY_ROWS;
    uint64_t frames = plan_array_bytes(n_patches, 3 * pixels * v->temporal_patch_size, 1);
    uint64_t out =
        floats(n_patches / (merge * merge), (int64_t)v->out_hidden_size * (1 + v->n_deepstack));
    uint64_t rows = SUM(floats(n_patches, h), floats(rounded_up(n_patches, KV_BLOCK), 2 * h));
    uint64_t tables = floats(n_patches / merge + 1, h / v->n_heads / 2);
    uint64_t patches = floats(slab_rows, v->in_channels * pixels * v->temporal_patch_size);
    uint64_t wide = largest(floats(slab_rows, 3 * h), floats(slab_rows, v->intermediate_size));
    uint64_t slab = plan_add(floats(slab_rows, 3 * h), largest(patches, wide));
    return SUM(frames, out, rows, tables, slab, JOB_FIXED_BYTES);
}

uint64_t plan_vision_region_bytes(const vision_config *v, int64_t patches_max)
{
    int64_t megapixel = PLAN_MEGAPIXEL / ((int64_t)v->patch_size * v->patch_size);
    return plan_add(plan_vision_job_bytes(v, patches_max),
                    plan_vision_job_bytes(v, megapixel < patches_max ? megapixel : patches_max));
}

int64_t plan_vision_patches_max(const plan_request *r, int64_t kv_tokens)
{
    const vision_config *v = &r->model->vision;
    int64_t merge2 = (int64_t)v->spatial_merge_size * v->spatial_merge_size;
    int64_t most = r->vision_patches_max;
    if (most <= 0) {
        most = PLAN_PICTURE_PIXELS / ((int64_t)v->patch_size * v->patch_size);
    }
    most = most < INT32_MAX ? most : INT32_MAX;
    most = kv_tokens < most / merge2 ? kv_tokens * merge2 : most;
    return most < merge2 ? merge2 : most / merge2 * merge2;
}

uint64_t plan_encoder_cache_bytes(const model_config *m, const plan *p)
{
    if (plan_audio_worker(p) == NULL && plan_vision_worker(p) == NULL) {
        return 0;
    }
    int64_t n_deep = m->has_vision ? m->vision.n_deepstack : 0;
    uint64_t all = floats(p->kv_tokens, m->text.hidden_size * (1 + n_deep));
    return all < PLAN_ENCODER_CACHE_BYTES ? all : PLAN_ENCODER_CACHE_BYTES;
}

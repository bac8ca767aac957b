/*
 * plan_code2wav.c - bytes of the vocoder: its packed weights, its work and its streams.
 */
#include "common/code2wav_shape.h"
#include "common/layout.h"
#include "common/plan_parts.h"

#include <stddef.h>

static uint64_t vector_bytes(int64_t n)
{
    return plan_array_bytes(1, n, sizeof(float));
}

/* y = W x + bias */
static uint64_t affine_bytes(int64_t rows, int64_t columns)
{
    return plan_add(plan_matrix_bytes(rows, columns), vector_bytes(rows));
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

static uint64_t transformer_bytes(const code2wav_config *c)
{
    int64_t h = c->hidden_size, q = (int64_t)c->n_heads * c->head_dim;
    int64_t kv = (int64_t)c->n_kv_heads * c->head_dim;
    uint64_t layer =
        SUM(plan_times(vector_bytes(h), 4), plan_matrix_bytes(q + 2 * kv, h),
            plan_matrix_bytes(h, q), plan_matrix_bytes(2 * (int64_t)c->intermediate_size, h),
            plan_matrix_bytes(h, c->intermediate_size));
    return plan_add(plan_times(layer, (uint64_t)c->n_layers), vector_bytes(h));
}

static uint64_t upsample_bytes(const code2wav_stage *s)
{
    int64_t h = s->out;
    return SUM(affine_bytes(s->rate * h, s->in),
               plan_array_bytes(CODE2WAV_KERNEL, h, sizeof(float)), plan_times(vector_bytes(h), 4),
               affine_bytes(CODE2WAV_WIDENING * h, h), affine_bytes(h, CODE2WAV_WIDENING * h));
}

static uint64_t block_bytes(const code2wav_stage *s)
{
    int64_t n = s->out;
    uint64_t unit = SUM(plan_times(vector_bytes(n), 4), affine_bytes(n, CODE2WAV_KERNEL * n),
                        affine_bytes(n, n));
    return SUM(plan_times(vector_bytes(s->in), 2), affine_bytes(s->rate * n, 2 * (int64_t)s->in),
               plan_times(unit, CODE2WAV_UNITS));
}

static uint64_t stage_bytes(const code2wav_stage *s)
{
    switch (s->kind) {
    case CODE2WAV_UPSAMPLE:
        return upsample_bytes(s);
    case CODE2WAV_ENTRY:
        return affine_bytes(s->out, CODE2WAV_KERNEL * (int64_t)s->in);
    case CODE2WAV_BLOCK:
        return block_bytes(s);
    case CODE2WAV_EXIT:
        break;
    }
    return SUM(plan_times(vector_bytes(s->in), 2),
               plan_array_bytes(CODE2WAV_KERNEL, s->in, sizeof(float)), vector_bytes(1));
}

uint64_t plan_code2wav_bytes(const model_config *m)
{
    const code2wav_config *c = &m->code2wav;
    if (!m->has_code2wav) {
        return 0;
    }
    code2wav_shape shape;
    code2wav_shape_of(&shape, c);
    uint64_t sum = plan_add(plan_array_bytes((int64_t)c->codebook_size * c->n_quantizers,
                                             c->hidden_size, sizeof(uint16_t)),
                            transformer_bytes(c));
    for (int32_t i = 0; i < shape.n_stages; i++) {
        sum = plan_add(sum, stage_bytes(&shape.stages[i]));
    }
    return sum;
}

uint64_t plan_code2wav_region_bytes(const code2wav_config *c)
{
    code2wav_shape shape;
    code2wav_shape_of(&shape, c);
    return plan_add(shape.work_bytes, plan_times(shape.state_bytes, SPEAKERS_MAX));
}

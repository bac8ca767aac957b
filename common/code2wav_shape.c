/*
 * code2wav_shape.c - stages from the configuration, then offsets one after the other.
 */
#include "common/code2wav_shape.h"

#include "common/layout.h"
#include "common/plan_parts.h"
#include "common/speech_cost.h"

#include <stddef.h>

/* Floats of a stage's rows that are made at a time: a mebibyte of each of its buffers, so that the
 * convolutions of a block find them in the second or third level of cache, and enough rows that
 * the weights are read for many. */
enum { SLAB_FLOATS = 1 << 18 };

int32_t code2wav_dilation(int32_t unit)
{
    return unit == 0 ? 1 : unit == 1 ? 3 : 9;
}

int64_t code2wav_stage_rows(const code2wav_stage *s, int64_t n_in)
{
    if (s->kind == CODE2WAV_BLOCK) { /* each row needs the one after it */
        return n_in > 0 ? (n_in - 1) * s->rate : 0;
    }
    return n_in * s->rate;
}

int64_t code2wav_head_floats(const code2wav_config *c)
{
    int64_t seen = (int64_t)c->sliding_window - 1 + VOCODER_FRAMES_MAX;
    return (2 * seen + KV_BLOCK) * c->head_dim;
}

/* The next bytes of a region that is laid out; returns their offset. */
static uint64_t take(uint64_t *used, int64_t a, int64_t b)
{
    uint64_t at = *used;
    *used = plan_add(*used, plan_array_bytes(a, b, sizeof(float)));
    return at;
}

static void add_stage(code2wav_shape *s, code2wav_stage_kind kind, int32_t index, int32_t in,
                      int32_t out, int32_t rate)
{
    const code2wav_stage *last = s->n_stages > 0 ? &s->stages[s->n_stages - 1] : NULL;
    int32_t waiting = last != NULL ? last->rows * last->rate : VOCODER_FRAMES_MAX;
    int32_t width = kind == CODE2WAV_EXIT ? in : out;
    int32_t rows = SLAB_FLOATS / width / rate;
    rows = rows < 1 ? 1 : rows;
    s->stages[s->n_stages++] = (code2wav_stage){
        .kind = kind,
        .index = index,
        .in = in,
        .out = out,
        .rate = rate,
        .rows = rows < waiting ? rows : waiting,
        .waiting = waiting,
        .before = kind == CODE2WAV_UPSAMPLE ? 0
                  : kind == CODE2WAV_BLOCK  ? 1
                                            : CODE2WAV_KERNEL - 1,
    };
}

static void add_stages(code2wav_shape *s, const code2wav_config *c)
{
    int32_t h = c->hidden_size, channels = c->decoder_dim;
    for (int32_t i = 0; i < c->n_upsampling_ratios; i++) {
        add_stage(s, CODE2WAV_UPSAMPLE, i, h, h, c->upsampling_ratios[i]);
    }
    add_stage(s, CODE2WAV_ENTRY, 0, h, channels, 1);
    for (int32_t i = 0; i < c->n_upsample_rates; i++, channels /= 2) {
        add_stage(s, CODE2WAV_BLOCK, i, channels, channels / 2, c->upsample_rates[i]);
    }
    add_stage(s, CODE2WAV_EXIT, 0, channels, 1, 1);
}

static void lay_out_state(code2wav_shape *s, const code2wav_config *c)
{
    int64_t kv = (int64_t)c->n_kv_heads * c->head_dim;
    s->ring = c->sliding_window - 1 + VOCODER_FRAMES_MAX;
    for (int32_t i = 0; i < s->n_stages; i++) {
        code2wav_stage *g = &s->stages[i];
        g->state = take(&s->state_bytes, g->before, g->in);
        if (g->kind == CODE2WAV_UPSAMPLE) {
            take(&s->state_bytes, CODE2WAV_KERNEL - 1, g->out);
        }
        for (int32_t u = 0; u < CODE2WAV_UNITS && g->kind == CODE2WAV_BLOCK; u++) {
            take(&s->state_bytes, (CODE2WAV_KERNEL - 1) * code2wav_dilation(u), g->out);
        }
    }
    s->keys_and_values = s->state_bytes;
    s->state_bytes =
        plan_add(s->state_bytes, plan_times(plan_array_bytes(s->ring, kv, sizeof(float)),
                                            2 * (uint64_t)c->n_layers));
}

static void lay_out_front(code2wav_shape *s, const code2wav_config *c)
{
    int64_t n = VOCODER_FRAMES_MAX, q = (int64_t)c->n_heads * c->head_dim;
    int64_t kv = (int64_t)c->n_kv_heads * c->head_dim;
    s->codes = take(&s->work_bytes, n, c->n_quantizers);
    s->x = take(&s->work_bytes, n, c->hidden_size);
    s->norm = take(&s->work_bytes, n, c->hidden_size);
    s->product = take(&s->work_bytes, n, c->hidden_size);
    s->qkv = take(&s->work_bytes, n, q + 2 * kv);
    s->attended = take(&s->work_bytes, n, q);
    s->wide = take(&s->work_bytes, n, 2 * (int64_t)c->intermediate_size);
    s->angles = take(&s->work_bytes, n, c->head_dim);
    s->heads = take(&s->work_bytes, c->n_kv_heads, code2wav_head_floats(c));
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void lay_out_stages(code2wav_shape *s, const code2wav_config *c)
{
    int64_t rows = 0, history = 0, wide = 0;
    for (int32_t i = 0; i < s->n_stages; i++) {
        code2wav_stage *g = &s->stages[i];
        g->input = take(&s->work_bytes, (int64_t)g->before + g->waiting, g->in);
        int64_t floats = (int64_t)g->rows * g->rate * g->out;
        int64_t back = g->kind == CODE2WAV_BLOCK ? code2wav_dilation(CODE2WAV_UNITS - 1) : 1;
        rows = larger(rows, floats);
        history = larger(history, floats + back * (CODE2WAV_KERNEL - 1) * g->out);
        wide = larger(wide, g->kind == CODE2WAV_UPSAMPLE ? CODE2WAV_WIDENING * floats : 0);
    }
    s->rows = take(&s->work_bytes, 1, rows);
    s->history = take(&s->work_bytes, 1, history);
    s->middle = take(&s->work_bytes, 1, rows);
    s->result = take(&s->work_bytes, 1, rows);
    s->inner = take(&s->work_bytes, 1, wide);
    s->samples = take(&s->work_bytes, VOCODER_FRAMES_MAX, code2wav_rate(c));
}

void code2wav_shape_of(code2wav_shape *s, const code2wav_config *c)
{
    *s = (code2wav_shape){0};
    add_stages(s, c);
    lay_out_state(s, c);
    lay_out_front(s, c);
    lay_out_stages(s, c);
}

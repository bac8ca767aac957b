/*
 * code2wav_stages.c - rows of frames become more and narrower rows, and at last samples.
 *
 * A convolution is a product (worker/encoders/dense.h) over rows that follow each other in time:
 * what one output sees lies in one piece, or with dilation in runs of a row each. Nothing is copied
 * but the rows of the stream's state, which stand before the new ones.
 */
#include "worker/speech/code2wav_parts.h"

#include "worker/kernels/kernels.h"

#include <stdio.h>
#include <string.h>

enum { BACK = CODE2WAV_KERNEL - 1 }; /* rows that a convolution of dilation 1 looks back */

static const float norm_eps = 1e-6f; /* of the ConvNeXt blocks */

/* A slab of one stage: k rows of its input. */
typedef struct slab {
    code2wav *v;
    const code2wav_stage *s;
    const code2wav_stage_weights *w;
    int32_t index;   /* of the stage */
    int32_t n;       /* rows of the input */
    const float *in; /* [n][s->in], those that came before in front of them */
    int32_t skip;    /* rows of the input that give nothing: a block's first of a stream */
    int32_t n_out;
    int64_t first_out; /* of the stream */
} slab;

/* --- inputs ------------------------------------------------------------------------------------
 */

float *code2wav_input(const code2wav *v, int32_t stage)
{
    const code2wav_stage *s = &v->shape.stages[stage];
    return code2wav_buffer(v, s->input) + (size_t)s->before * (size_t)s->in;
}

void code2wav_offer(code2wav *v, int32_t stage, int32_t n)
{
    const code2wav_stage *s = &v->shape.stages[stage];
    memcpy(code2wav_buffer(v, s->input), code2wav_state(v, s->state),
           (size_t)s->before * (size_t)s->in * sizeof(float));
    v->waiting[stage] = n;
    v->taken[stage] = 0;
}

/* The slab is done. */
static void take_rows(const slab *b)
{
    code2wav *v = b->v;
    v->streams[v->stream].n_in[b->index] += b->n;
    v->taken[b->index] += b->n;
    if (v->taken[b->index] == v->waiting[b->index]) {
        size_t width = (size_t)b->s->in;
        memcpy(code2wav_state(v, b->s->state),
               code2wav_buffer(v, b->s->input) + (size_t)v->waiting[b->index] * width,
               (size_t)b->s->before * width * sizeof(float));
        v->waiting[b->index] = v->taken[b->index] = 0;
    }
}

static slab slab_of(code2wav *v, int32_t stage, int32_t n)
{
    const code2wav_stage *s = &v->shape.stages[stage];
    int64_t n_in = v->streams[v->stream].n_in[stage];
    slab b = {.v = v, .s = s, .w = &v->w.stages[stage], .index = stage, .n = n};
    b.in = code2wav_input(v, stage) + (size_t)v->taken[stage] * (size_t)s->in;
    b.skip = s->kind == CODE2WAV_BLOCK && n_in == 0;
    b.first_out = code2wav_stage_rows(s, n_in);
    b.n_out = (int32_t)(code2wav_stage_rows(s, n_in + n) - b.first_out);
    return b;
}

/* The next rows, in slabs of nearly equal size until none wait. */
static int32_t slab_rows(const code2wav *v, int32_t stage)
{
    int32_t left = v->waiting[stage] - v->taken[stage], most = v->shape.stages[stage].rows;
    int32_t n_slabs = left / most + (left % most != 0);
    return left / n_slabs + (left % n_slabs != 0);
}

static void tell(const slab *b, const char *format, int32_t index, const float *rows)
{
    char name[64];
    snprintf(name, sizeof name, format, index);
    code2wav_tell(b->v, name, b->first_out, b->n_out, b->s->out, rows);
}

/* --- histories ---------------------------------------------------------------------------------
 */

/* A convolution's input of n_out rows of s->out channels, behind `back` rows of the state. */
typedef struct past {
    int32_t back;
    uint64_t state;
} past;

static float *past_rows(const slab *b, const past *p)
{
    return code2wav_buffer(b->v, b->v->shape.history) + (size_t)p->back * (size_t)b->s->out;
}

static void past_begin(const slab *b, const past *p)
{
    memcpy(code2wav_buffer(b->v, b->v->shape.history), code2wav_state(b->v, p->state),
           (size_t)p->back * (size_t)b->s->out * sizeof(float));
}

static void past_end(const slab *b, const past *p)
{
    size_t width = (size_t)b->s->out;
    memcpy(code2wav_state(b->v, p->state),
           code2wav_buffer(b->v, b->v->shape.history) + (size_t)b->n_out * width,
           (size_t)p->back * width * sizeof(float));
}

static uint64_t floats_bytes(int32_t rows, int32_t columns)
{
    return plan_array_bytes(rows, columns, sizeof(float));
}

static past upsample_past(const slab *b)
{
    return (past){BACK, b->s->state + floats_bytes(b->s->before, b->s->in)};
}

static past unit_past(const slab *b, int32_t unit)
{
    past p = {BACK, b->s->state + floats_bytes(b->s->before, b->s->in)};
    for (int32_t u = 0; u < unit; u++) {
        p.state += floats_bytes(BACK * code2wav_dilation(u), b->s->out);
    }
    p.back = BACK * code2wav_dilation(unit);
    return p;
}

/* --- rows to rows ------------------------------------------------------------------------------
 */

typedef struct snake_pass {
    float *out;
    const float *x;
    const snake_weights *w;
    int32_t n; /* columns */
} snake_pass;

static void snake_rows(const void *arg, int32_t begin, int32_t end)
{
    const snake_pass *p = arg;
    for (int32_t i = begin; i < end; i++) {
        size_t at = (size_t)i * (size_t)p->n;
        kernels()->snake(p->out + at, p->x + at, p->w->a, p->w->b, p->n);
    }
}

/* All outputs of a slab: y = W x + bias, x and y [n_out] rows one after the other. */
static dense_rows slab_product(const slab *b, float *y, const float *x, int32_t x_width)
{
    return (dense_rows){.y = y,
                        .y_stride = (size_t)b->s->out,
                        .x = x,
                        .x_stride = (size_t)x_width,
                        .n_rows = b->n_out};
}

/* The transposed convolution: rows of `rate` outputs each, from one row of the input or two. */
static void run_transposed(const slab *b, float *y)
{
    int32_t seen = b->w->conv.w.columns / b->s->in;
    dense_rows rows = {.y = y,
                       .y_stride = (size_t)b->s->rate * (size_t)b->s->out,
                       .x = b->in + (b->skip - (seen - 1)) * (ptrdiff_t)b->s->in,
                       .x_stride = (size_t)b->s->in,
                       .n_rows = b->n - b->skip};
    dense_run(b->v->pool, &rows, &b->w->conv, DENSE_PLAIN);
}

/* --- "upsample.i" ------------------------------------------------------------------------------
 */

typedef struct mix_pass {
    const slab *b;
    const float *past; /* BACK rows, then n_out */
    float *out;
} mix_pass;

static void mix_rows(const void *arg, int32_t begin, int32_t end)
{
    const mix_pass *p = arg;
    int32_t n = p->b->s->out;
    const code2wav_stage_weights *w = p->b->w;
    for (int32_t i = begin; i < end; i++) {
        size_t at = (size_t)i * (size_t)n;
        kernels()->channel_taps(p->out + at, p->past + at, w->taps, w->taps_bias, CODE2WAV_KERNEL,
                                n);
        kernels()->layer_norm(p->out + at, p->out + at, w->norm.weight, w->norm.bias, n, norm_eps);
    }
}

/* out += gamma * narrow(gelu(wide(norm(mix(rows))))) */
static void run_convnext(const slab *b, const float *past_and_rows, float *out)
{
    const code2wav *v = b->v;
    int32_t n = b->s->out;
    float *middle = code2wav_buffer(v, v->shape.middle), *wide = code2wav_buffer(v, v->shape.inner);
    mix_pass pass = {b, past_and_rows, middle};
    code2wav_each_row(v, b->n_out, mix_rows, &pass);
    dense_rows rows = slab_product(b, wide, middle, n);
    rows.y_stride = (size_t)CODE2WAV_WIDENING * (size_t)n;
    dense_run(v->pool, &rows, &b->w->wide, DENSE_GELU_ERF);
    rows = slab_product(b, code2wav_buffer(v, v->shape.result), wide, CODE2WAV_WIDENING * n);
    rows.sum = out;
    rows.sum_stride = (size_t)n;
    rows.scale = b->w->gamma;
    dense_run(v->pool, &rows, &b->w->narrow, DENSE_ADD_SCALED);
}

static void run_upsample(const slab *b)
{
    past p = upsample_past(b);
    float *rows = past_rows(b, &p), *out = code2wav_input(b->v, b->index + 1);
    past_begin(b, &p);
    run_transposed(b, rows);
    tell(b, "upsample.%d.conv", b->s->index, rows);
    memcpy(out, rows, (size_t)b->n_out * (size_t)b->s->out * sizeof *out);
    run_convnext(b, rows - BACK * (ptrdiff_t)b->s->out, out);
    tell(b, "upsample.%d.block", b->s->index, out);
    past_end(b, &p);
    code2wav_offer(b->v, b->index + 1, b->n_out);
}

/* --- "decoder.0" -------------------------------------------------------------------------------
 */

static void run_entry(const slab *b)
{
    code2wav *v = b->v;
    float *y = code2wav_buffer(v, v->shape.rows);
    const snake_weights *act = &v->w.stages[b->index + 1].act;
    dense_rows rows = slab_product(b, y, b->in - BACK * (ptrdiff_t)b->s->in, b->s->in);
    rows.snake_a = act->a;
    rows.snake_b = act->b;
    rows.active = code2wav_input(v, b->index + 1);
    rows.active_stride = (size_t)b->s->out;
    dense_run(v->pool, &rows, &b->w->conv, DENSE_SNAKE);
    tell(b, "decoder.%d", 0, y);
    code2wav_offer(v, b->index + 1, b->n_out);
}

/* --- "decoder.1" and on ------------------------------------------------------------------------
 */

/* The transposed convolution, and the first unit's activation. */
static void begin_block(const slab *b)
{
    float *rows = code2wav_buffer(b->v, b->v->shape.rows);
    past p = unit_past(b, 0);
    snake_pass pass = {past_rows(b, &p), rows, &b->w->units[0].act1, b->s->out};
    run_transposed(b, rows);
    past_begin(b, &p);
    code2wav_each_row(b->v, b->n_out, snake_rows, &pass);
}

/* middle = snake(conv1(past and rows)) */
static void run_conv1(const slab *b, const residual_unit_weights *w, const past *p)
{
    const code2wav *v = b->v;
    int32_t n = b->s->out;
    const float *from = past_rows(b, p) - (size_t)p->back * (size_t)n;
    dense_rows rows = slab_product(b, code2wav_buffer(v, v->shape.middle), from, n);
    rows.run = n;
    rows.jump = (size_t)(p->back / BACK) * (size_t)n;
    rows.snake_a = w->act2.a;
    rows.snake_b = w->act2.b;
    rows.active = rows.y;
    rows.active_stride = rows.y_stride;
    dense_run(v->pool, &rows, &w->conv1, DENSE_SNAKE);
}

/* rows += conv2(middle); active = snake(rows), which is what comes next */
static void run_conv2(const slab *b, const residual_unit_weights *w, float *active,
                      const snake_weights *act)
{
    const code2wav *v = b->v;
    dense_rows rows = slab_product(b, code2wav_buffer(v, v->shape.result),
                                   code2wav_buffer(v, v->shape.middle), b->s->out);
    rows.sum = code2wav_buffer(v, v->shape.rows);
    rows.sum_stride = (size_t)b->s->out;
    rows.snake_a = act->a;
    rows.snake_b = act->b;
    rows.active = active;
    rows.active_stride = (size_t)b->s->out;
    dense_run(v->pool, &rows, &w->conv2, DENSE_ADD_SNAKE);
}

static void run_unit(const slab *b, int32_t unit)
{
    code2wav *v = b->v;
    const residual_unit_weights *w = &b->w->units[unit];
    past p = unit_past(b, unit);
    run_conv1(b, w, &p);
    past_end(b, &p);
    if (unit + 1 < CODE2WAV_UNITS) {
        past next = unit_past(b, unit + 1);
        past_begin(b, &next);
        run_conv2(b, w, past_rows(b, &next), &b->w->units[unit + 1].act1);
        return;
    }
    run_conv2(b, w, code2wav_input(v, b->index + 1), &v->w.stages[b->index + 1].act);
    tell(b, "decoder.%d", b->s->index + 1, code2wav_buffer(v, v->shape.rows));
    code2wav_offer(v, b->index + 1, b->n_out);
}

/* --- the last two modules of "decoder" ---------------------------------------------------------
 */

typedef struct exit_pass {
    const slab *b;
    float *out;
} exit_pass;

static void sample_rows(const void *arg, int32_t begin, int32_t end)
{
    const exit_pass *p = arg;
    const slab *b = p->b;
    size_t n = (size_t)b->s->in;
    kernels()->dot_rows(p->out + begin, b->in - BACK * n + (size_t)begin * n, n, end - begin,
                        b->w->taps, CODE2WAV_KERNEL * b->s->in, *b->w->taps_bias);
}

static void run_exit(const slab *b)
{
    code2wav *v = b->v;
    int32_t index = v->c.n_upsample_rates + 1;
    float *out = code2wav_buffer(v, v->shape.samples) + v->n_samples;
    exit_pass pass = {b, out};
    char name[64];
    snprintf(name, sizeof name, "decoder.%d", index);
    code2wav_tell(v, name, b->first_out, b->n, b->s->in, b->in);
    code2wav_each_row(v, b->n, sample_rows, &pass);
    tell(b, "decoder.%d", index + 1, out);
    kernels()->clamp(out, out, b->n);
    v->n_samples += b->n;
}

/* --- steps -------------------------------------------------------------------------------------
 */

static double transposed_flops(const code2wav_stage *s)
{
    double seen = s->kind == CODE2WAV_BLOCK ? 2 : 1;
    return 2 * seen * s->in * (double)s->out * s->rate;
}

static double unit_flops(const code2wav_stage *s)
{
    return 2.0 * (CODE2WAV_KERNEL + 1) * s->out * (double)s->out * s->rate;
}

double code2wav_stage_flops(const code2wav_stage *s)
{
    double in = s->in, out = s->out;
    switch (s->kind) {
    case CODE2WAV_UPSAMPLE:
        return transposed_flops(s) +
               2 * s->rate * out * (CODE2WAV_KERNEL + 2 * CODE2WAV_WIDENING * out);
    case CODE2WAV_BLOCK:
        return transposed_flops(s) + CODE2WAV_UNITS * unit_flops(s);
    case CODE2WAV_ENTRY:
    case CODE2WAV_EXIT:
        break;
    }
    return 2 * CODE2WAV_KERNEL * in * out;
}

/* A step of a block: its beginning, or one of its units. */
static double block_step(code2wav *v, int32_t stage)
{
    if (v->slab == 0) {
        v->slab = slab_rows(v, stage);
        v->unit = 0;
        slab b = slab_of(v, stage, v->slab);
        begin_block(&b);
        return transposed_flops(b.s) * b.n;
    }
    slab b = slab_of(v, stage, v->slab);
    run_unit(&b, v->unit++);
    if (v->unit == CODE2WAV_UNITS) {
        v->slab = 0;
        take_rows(&b);
    }
    return unit_flops(b.s) * b.n;
}

double code2wav_stage_step(code2wav *v, int32_t stage)
{
    const code2wav_stage *s = &v->shape.stages[stage];
    if (s->kind == CODE2WAV_BLOCK) {
        return block_step(v, stage);
    }
    slab b = slab_of(v, stage, slab_rows(v, stage));
    if (s->kind == CODE2WAV_UPSAMPLE) {
        run_upsample(&b);
    } else if (s->kind == CODE2WAV_ENTRY) {
        run_entry(&b);
    } else {
        run_exit(&b);
    }
    take_rows(&b);
    return code2wav_stage_flops(s) * b.n;
}

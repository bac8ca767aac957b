/*
 * code2wav_weights.c - the vocoder's tensors, declared stage by stage, and its activations' vectors
 * made ready.
 */
#include "worker/speech/code2wav_weights.h"

#include "common/plan_parts.h"
#include "worker/encoders/encoder_module.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { K = CODE2WAV_KERNEL };

typedef struct builder {
    code2wav_weights *w;
    const code2wav_config *c;
    code2wav_shape shape;
    weight_loader *loader;
    int32_t *orders[CODE2WAV_STAGES_MAX]; /* of columns, by stage; read until all is filled */
} builder;

/* --- the transformer ---------------------------------------------------------------------------
 */

static const float *vector(const module *m, const char *part, const char *kind, int32_t n)
{
    char name[MODULE_NAME_BYTES];
    module_name(name, m, part, kind);
    return weight_vector(m->loader, name, n);
}

/* Rows of several tensors, one after the other, as one matrix. */
static affine stacked(const module *m, const char *const *parts, const int32_t *rows, int32_t n,
                      int32_t columns)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum += rows[i];
    }
    affine a = {.w = weight_matrix(m->loader, sum, columns)};
    for (int32_t i = 0, first = 0; i < n; first += rows[i++]) {
        char name[MODULE_NAME_BYTES];
        module_name(name, m, parts[i], "weight");
        weight_rows(m->loader, &a.w, name, first, rows[i], 2, NULL, NULL);
    }
    return a;
}

static affine single(const module *m, const char *part, int32_t rows, int32_t columns)
{
    return stacked(m, &part, &rows, 1, columns);
}

static void declare_layer(builder *b, code2wav_layer_weights *w, int32_t index)
{
    static const char *const qkv[3] = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"};
    static const char *const gate_up[2] = {"mlp.gate_proj", "mlp.up_proj"};
    const code2wav_config *c = b->c;
    int32_t h = c->hidden_size, q = c->n_heads * c->head_dim, kv = c->n_kv_heads * c->head_dim;
    int32_t size = c->intermediate_size;
    module m = {b->loader, ""};
    snprintf(m.prefix, sizeof m.prefix, "code2wav.pre_transformer.layers.%d.", index);
    w->attention_norm = vector(&m, "input_layernorm", "weight", h);
    w->attention_scale = vector(&m, "self_attn_layer_scale", "scale", h);
    w->mlp_norm = vector(&m, "post_attention_layernorm", "weight", h);
    w->mlp_scale = vector(&m, "mlp_layer_scale", "scale", h);
    w->qkv = stacked(&m, qkv, (const int32_t[]){q, kv, kv}, 3, h);
    w->out = single(&m, "self_attn.o_proj", h, q);
    w->gate_up = stacked(&m, gate_up, (const int32_t[]){size, size}, 2, h);
    w->down = single(&m, "mlp.down_proj", h, size);
}

/* --- stages ------------------------------------------------------------------------------------
 */

static snake_weights declare_snake(const module *m, const char *part, int32_t n)
{
    char name[MODULE_NAME_BYTES];
    snake_weights s;
    snprintf(name, sizeof name, "%s%salpha", m->prefix, part);
    s.a = weight_vector(m->loader, name, n);
    snprintf(name, sizeof name, "%s%sbeta", m->prefix, part);
    s.b = weight_vector(m->loader, name, n);
    return s;
}

/* Stored [out][in][taps]; packed columns are [tap][in]. */
static int32_t *tap_order(int32_t n_in)
{
    int32_t *order = malloc((size_t)n_in * K * sizeof *order);
    for (int32_t i = 0; i < n_in * K && order != NULL; i++) {
        order[i] = i % n_in * K + i / n_in;
    }
    return order;
}

static affine declare_convolution(const module *m, const char *part, int32_t out, int32_t in,
                                  const int32_t *order)
{
    char name[MODULE_NAME_BYTES];
    affine a = {.w = weight_matrix(m->loader, out, K * in)};
    module_name(name, m, part, "weight");
    weight_rows(m->loader, &a.w, name, 0, out, 3, (const int64_t[]){out, in, K}, order);
    a.bias = module_bias(m, part, out);
    return a;
}

/* The bias stands once for each of the `rate` places of a time step. */
static affine declare_transposed(const module *m, const char *part, const code2wav_stage *s,
                                 int32_t kernel)
{
    const char *names[256];
    char name[MODULE_NAME_BYTES], bias[MODULE_NAME_BYTES];
    affine a = {.w = weight_matrix(m->loader, s->rate * s->out, kernel / s->rate * s->in)};
    module_name(name, m, part, "weight");
    module_name(bias, m, part, "bias");
    weight_transposed(m->loader, &a.w, name, s->in, s->out, kernel, s->rate);
    for (int32_t i = 0; i < s->rate; i++) {
        names[i] = bias;
    }
    a.bias = weight_vectors(m->loader, names, s->rate, s->out);
    return a;
}

static const float *declare_taps(const module *m, const char *part, int32_t n_out, int32_t n_in)
{
    char name[MODULE_NAME_BYTES];
    module_name(name, m, part, "weight");
    return weight_taps(m->loader, name, n_out * n_in, K, (const int64_t[]){n_out, n_in, K});
}

static void declare_upsample(builder *b, const code2wav_stage *s, code2wav_stage_weights *w)
{
    int32_t n = s->out;
    module m = {b->loader, ""};
    char gamma[MODULE_NAME_BYTES];
    snprintf(m.prefix, sizeof m.prefix, "code2wav.upsample.%d.", s->index);
    module_name(gamma, &m, "1", "gamma");
    w->conv = declare_transposed(&m, "0.conv", s, s->rate);
    w->taps = declare_taps(&m, "1.dwconv.conv", n, 1);
    w->taps_bias = module_bias(&m, "1.dwconv.conv", n);
    w->norm = module_norm(&m, "1.norm", n);
    w->wide = module_linear(&m, "1.pwconv1", CODE2WAV_WIDENING * n, n);
    w->narrow = module_linear(&m, "1.pwconv2", n, CODE2WAV_WIDENING * n);
    w->gamma = weight_vector(b->loader, gamma, n);
}

static void declare_block(builder *b, const code2wav_stage *s, code2wav_stage_weights *w,
                          const int32_t *order)
{
    int32_t n = s->out;
    module m = {b->loader, ""};
    snprintf(m.prefix, sizeof m.prefix, "code2wav.decoder.%d.block.", s->index + 1);
    w->act = declare_snake(&m, "0.", s->in);
    w->conv = declare_transposed(&m, "1.conv", s, 2 * s->rate);
    for (int32_t u = 0; u < CODE2WAV_UNITS; u++) {
        residual_unit_weights *unit = &w->units[u];
        snprintf(m.prefix, sizeof m.prefix, "code2wav.decoder.%d.block.%d.", s->index + 1, u + 2);
        unit->act1 = declare_snake(&m, "act1.", n);
        unit->conv1 = declare_convolution(&m, "conv1.conv", n, n, order);
        unit->act2 = declare_snake(&m, "act2.", n);
        unit->conv2 = module_affine(&m, "conv2.conv", n, n, 3, (const int64_t[]){n, n, 1});
    }
}

static void declare_exit(builder *b, const code2wav_stage *s, code2wav_stage_weights *w)
{
    module m = {b->loader, ""};
    int32_t n = b->c->n_upsample_rates;
    snprintf(m.prefix, sizeof m.prefix, "code2wav.decoder.%d.", n + 1);
    w->act = declare_snake(&m, "", s->in);
    snprintf(m.prefix, sizeof m.prefix, "code2wav.decoder.%d.", n + 2);
    w->taps = declare_taps(&m, "conv", 1, s->in);
    w->taps_bias = module_bias(&m, "conv", 1);
}

static void declare_stage(builder *b, int32_t i)
{
    const code2wav_stage *s = &b->shape.stages[i];
    code2wav_stage_weights *w = &b->w->stages[i];
    module decoder = {b->loader, "code2wav.decoder.0."};
    switch (s->kind) {
    case CODE2WAV_UPSAMPLE:
        declare_upsample(b, s, w);
        break;
    case CODE2WAV_ENTRY:
        w->conv = declare_convolution(&decoder, "conv", s->out, s->in, b->orders[i]);
        break;
    case CODE2WAV_BLOCK:
        declare_block(b, s, w, b->orders[i]);
        break;
    case CODE2WAV_EXIT:
        declare_exit(b, s, w);
        break;
    }
}

static void declare_all(builder *b)
{
    const code2wav_config *c = b->c;
    b->w->codes = weight_table(b->loader, "code2wav.code_embedding.weight",
                               c->codebook_size * c->n_quantizers, c->hidden_size);
    for (int32_t i = 0; i < c->n_layers; i++) {
        declare_layer(b, &b->w->layers[i], i);
    }
    b->w->norm = weight_vector(b->loader, "code2wav.pre_transformer.norm.weight", c->hidden_size);
    for (int32_t i = 0; i < b->shape.n_stages; i++) {
        declare_stage(b, i);
    }
}

/* --- ready to compute --------------------------------------------------------------------------
 */

/* The checkpoint has logarithms. Both vectors lie in the region, which is ours to write. */
static void prepare_snake(const snake_weights *s, int32_t n)
{
    float *a = (float *)(uintptr_t)s->a, *b = (float *)(uintptr_t)s->b;
    for (int32_t i = 0; i < n; i++) {
        a[i] = (float)exp((double)a[i]);
        b[i] = 1.0f / ((float)exp((double)b[i]) + 1e-9f);
    }
}

static void prepare(const builder *b)
{
    for (int32_t i = 0; i < b->shape.n_stages; i++) {
        const code2wav_stage *s = &b->shape.stages[i];
        const code2wav_stage_weights *w = &b->w->stages[i];
        if (s->kind == CODE2WAV_BLOCK || s->kind == CODE2WAV_EXIT) {
            prepare_snake(&w->act, s->in);
        }
        for (int32_t u = 0; u < CODE2WAV_UNITS && s->kind == CODE2WAV_BLOCK; u++) {
            prepare_snake(&w->units[u].act1, s->out);
            prepare_snake(&w->units[u].act2, s->out);
        }
    }
}

static void tell_nobody(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    (void)done;
    (void)total;
}

/* What lives beside the region: the list of layers, and the orders while loading. */
static bool take_lists(builder *b)
{
    b->w->layers = calloc((size_t)b->c->n_layers, sizeof *b->w->layers);
    bool all = b->w->layers != NULL;
    for (int32_t i = 0; i < b->shape.n_stages; i++) {
        const code2wav_stage *s = &b->shape.stages[i];
        if (s->kind == CODE2WAV_ENTRY || s->kind == CODE2WAV_BLOCK) {
            b->orders[i] = tap_order(s->kind == CODE2WAV_ENTRY ? s->in : s->out);
            all = all && b->orders[i] != NULL;
        }
    }
    return all;
}

flo_code code2wav_weights_load(code2wav_weights *w, const code2wav_config *c,
                               const weights_source *source, thread_pool *pool,
                               const load_watch *watch, flo_err *err)
{
    const model_config model = {.has_code2wav = true, .code2wav = *c};
    const load_watch told = watch != NULL ? *watch : (load_watch){.tell = tell_nobody};
    *w = (code2wav_weights){.region_bytes = plan_code2wav_bytes(&model)};
    builder b = {.w = w, .c = c};
    code2wav_shape_of(&b.shape, c);
    flo_code code = take_lists(&b)
                        ? weight_loader_new(&b.loader, w->region_bytes, source, err)
                        : flo_fail(err, FLO_FAIL, "out of memory for the vocoder's lists");
    if (code == FLO_OK) {
        declare_all(&b);
        code = weight_loader_run(b.loader, &w->region, pool, told.tell, told.arg, err);
    }
    if (code == FLO_OK) {
        prepare(&b);
    } else {
        code2wav_weights_free(w);
    }
    for (int32_t i = 0; i < b.shape.n_stages; i++) {
        free(b.orders[i]);
    }
    return code;
}

void code2wav_weights_free(code2wav_weights *w)
{
    weight_region_free(w->region, w->region_bytes);
    free(w->layers);
    *w = (code2wav_weights){0};
}

/*
 * audio_weights.c - the audio encoder's tensors, declared in the order in which plan_audio_bytes
 * (common/plan_parts.h) adds them up.
 */
#include "worker/encoders/encoder_module.h"

#include "common/plan_parts.h"
#include "worker/encoders/audio_shape.h"

#include <stdio.h>
#include <stdlib.h>

enum { KERNEL = 3, TAPS = KERNEL * KERNEL };

typedef struct builder {
    audio_weights *w;
    const audio_config *a;
    weight_loader *loader;
    int32_t mel_rows;        /* of the last convolution's result */
    int32_t *conv_orders[3]; /* of columns, read until all is filled */
    int32_t *conv_out_order;
} builder;

/* Stored [out][in][mel][time]; packed columns are [time][mel][in]. */
static int32_t *conv_order(int32_t n_in)
{
    int32_t *order = malloc((size_t)n_in * TAPS * sizeof *order);
    for (int32_t i = 0; i < n_in * TAPS && order != NULL; i++) {
        int32_t time = i / n_in / KERNEL, mel = i / n_in % KERNEL, in = i % n_in;
        order[i] = in * TAPS + mel * KERNEL + time;
    }
    return order;
}

/* Stored columns are [channel][mel row], packed ones [mel row][channel]. */
static int32_t *conv_out_order(int32_t n_channels, int32_t n_mel)
{
    int32_t *order = malloc((size_t)n_channels * (size_t)n_mel * sizeof *order);
    for (int32_t i = 0; i < n_channels * n_mel && order != NULL; i++) {
        order[i] = i % n_channels * n_mel + i / n_channels;
    }
    return order;
}

static void declare_convolutions(builder *b)
{
    int32_t c = b->a->downsample_hidden_size, columns = b->mel_rows * c;
    module m = {b->loader, "thinker.audio_tower."};
    char name[MODULE_NAME_BYTES];
    for (int32_t i = 0; i < 3; i++) {
        char part[16];
        int32_t n_in = i == 0 ? 1 : c;
        const int64_t shape[4] = {c, n_in, KERNEL, KERNEL};
        snprintf(part, sizeof part, "conv2d%d", i + 1);
        module_name(name, &m, part, "weight");
        b->w->conv[i].w = weight_matrix(b->loader, c, TAPS * n_in);
        weight_rows(b->loader, &b->w->conv[i].w, name, 0, c, 4, shape, b->conv_orders[i]);
        b->w->conv[i].bias = module_bias(&m, part, c);
    }
    module_name(name, &m, "conv_out", "weight");
    b->w->conv_out = (affine){.w = weight_matrix(b->loader, b->a->d_model, columns)};
    weight_rows(b->loader, &b->w->conv_out.w, name, 0, b->a->d_model, 2, NULL, b->conv_out_order);
}

/* Three tensors as one matrix, and three vectors as one. */
static affine declare_qkv(const module *m, int32_t d)
{
    static const char *const parts[3] = {"self_attn.q_proj", "self_attn.k_proj",
                                         "self_attn.v_proj"};
    char names[3][MODULE_NAME_BYTES];
    affine a = {.w = weight_matrix(m->loader, 3 * d, d)};
    for (int32_t i = 0; i < 3; i++) {
        module_name(names[i], m, parts[i], "weight");
        weight_rows(m->loader, &a.w, names[i], i * d, d, 2, NULL, NULL);
        module_name(names[i], m, parts[i], "bias");
    }
    a.bias = weight_vectors(m->loader, (const char *const[]){names[0], names[1], names[2]}, 3, d);
    return a;
}

static void declare_layer(builder *b, audio_layer_weights *w, int32_t index)
{
    int32_t d = b->a->d_model;
    module m = {b->loader, ""};
    snprintf(m.prefix, sizeof m.prefix, "thinker.audio_tower.layers.%d.", index);
    w->attention_norm = module_norm(&m, "self_attn_layer_norm", d);
    w->final_norm = module_norm(&m, "final_layer_norm", d);
    w->qkv = declare_qkv(&m, d);
    w->out = module_linear(&m, "self_attn.out_proj", d, d);
    w->fc1 = module_linear(&m, "fc1", b->a->ffn_dim, d);
    w->fc2 = module_linear(&m, "fc2", d, b->a->ffn_dim);
}

static void declare_all(builder *b)
{
    int32_t d = b->a->d_model;
    module m = {b->loader, "thinker.audio_tower."};
    declare_convolutions(b);
    for (int32_t i = 0; i < b->a->n_layers; i++) {
        declare_layer(b, &b->w->layers[i], i);
    }
    b->w->ln_post = module_norm(&m, "ln_post", d);
    b->w->proj1 = module_linear(&m, "proj1", d, d);
    b->w->proj2 = module_linear(&m, "proj2", b->a->output_dim, d);
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
    int32_t c = b->a->downsample_hidden_size;
    b->w->layers = calloc((size_t)b->a->n_layers, sizeof *b->w->layers);
    for (int32_t i = 0; i < 3; i++) {
        b->conv_orders[i] = conv_order(i == 0 ? 1 : c);
    }
    b->conv_out_order = conv_out_order(c, b->mel_rows);
    return b->w->layers != NULL && b->conv_orders[0] != NULL && b->conv_orders[1] != NULL &&
           b->conv_orders[2] != NULL && b->conv_out_order != NULL;
}

flo_code audio_weights_load(audio_weights *w, const audio_config *a, const weights_source *source,
                            thread_pool *pool, const load_watch *watch, flo_err *err)
{
    const model_config model = {.has_audio = true, .audio = *a};
    const load_watch told = watch != NULL ? *watch : (load_watch){.tell = tell_nobody};
    *w = (audio_weights){.region_bytes = plan_audio_bytes(&model)};
    builder b = {.w = w, .a = a, .mel_rows = audio_halved(a->n_mel_bins, 3)};
    flo_code code = take_lists(&b)
                        ? weight_loader_new(&b.loader, w->region_bytes, source, err)
                        : flo_fail(err, FLO_FAIL, "out of memory for the audio encoder's lists");
    if (code == FLO_OK) {
        declare_all(&b);
        code = weight_loader_run(b.loader, &w->region, pool, told.tell, told.arg, err);
    }
    if (code != FLO_OK) {
        audio_weights_free(w);
    }
    for (int32_t i = 0; i < 3; i++) {
        free(b.conv_orders[i]);
    }
    free(b.conv_out_order);
    return code;
}

void audio_weights_free(audio_weights *w)
{
    weight_region_free(w->region, w->region_bytes);
    free(w->layers);
    *w = (audio_weights){0};
}

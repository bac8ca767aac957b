/*
 * model_tensors.c - the published layout's names and shapes, part by part.
 *
 * Each part is a list of tensors in the order in which the model uses them; the lists are the only
 * place where names are spelled. A walk over the published model visits 28,010 names, each looked
 * up by binary search: some 10 ms.
 */
#include "common/model_tensors.h"

#include "common/check.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 160 };

/* ---- visiting ---- */

typedef struct walk {
    void (*visit)(void *arg, const expected_tensor *t);
    void *arg;
    const checkpoint *c; /* NULL: experts one by one */
    model_component component;
    char prefix[64]; /* of the names that follow */
} walk;

__attribute__((format(printf, 2, 3))) static void set_prefix(walk *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->prefix, sizeof w->prefix, format, args);
    va_end(args);
    CHECK(n >= 0 && (size_t)n < sizeof w->prefix);
}

static void join(char out[NAME_BYTES], const char *head, const char *tail)
{
    int n = snprintf(out, NAME_BYTES, "%s%s", head, tail);
    CHECK(n >= 0 && n < NAME_BYTES);
}

/* Visits PREFIX + name. Shapes are given as a list that ends with a 0. */
static void visit_shape(walk *w, const char *name, const int64_t *shape)
{
    char full[NAME_BYTES];
    join(full, w->prefix, name);
    expected_tensor t = {.name = full, .component = w->component};
    while (shape[t.n_dims] != 0) {
        t.shape[t.n_dims] = shape[t.n_dims];
        t.n_dims++;
    }
    w->visit(w->arg, &t);
}

#define SHAPE(...) ((const int64_t[]){__VA_ARGS__, 0})

static void vector(walk *w, const char *name, int64_t n)
{
    visit_shape(w, name, SHAPE(n));
}

static void matrix(walk *w, const char *name, int64_t rows, int64_t columns)
{
    visit_shape(w, name, SHAPE(rows, columns));
}

/* NAME.weight of any shape and NAME.bias of its first dimension or another length. */
static void with_bias(walk *w, const char *name, const int64_t *shape, int64_t bias)
{
    char full[NAME_BYTES];
    join(full, name, ".weight");
    visit_shape(w, full, shape);
    join(full, name, ".bias");
    vector(w, full, bias);
}

static void linear(walk *w, const char *name, int64_t rows, int64_t columns)
{
    with_bias(w, name, SHAPE(rows, columns), rows);
}

static void layer_norm(walk *w, const char *name, int64_t n)
{
    with_bias(w, name, SHAPE(n), n);
}

/* ---- pieces that several parts share ---- */

static void attention(walk *w, int64_t hidden, int64_t n_heads, int64_t n_kv_heads,
                      int64_t head_dim)
{
    matrix(w, "self_attn.q_proj.weight", n_heads * head_dim, hidden);
    matrix(w, "self_attn.k_proj.weight", n_kv_heads * head_dim, hidden);
    matrix(w, "self_attn.v_proj.weight", n_kv_heads * head_dim, hidden);
    matrix(w, "self_attn.o_proj.weight", hidden, n_heads * head_dim);
}

static void head_norms(walk *w, int64_t head_dim)
{
    vector(w, "self_attn.q_norm.weight", head_dim);
    vector(w, "self_attn.k_norm.weight", head_dim);
}

/* gate, up and down of a SwiGLU; name is "mlp.", "mlp.experts.3." */
static void swiglu(walk *w, const char *name, int64_t size, int64_t hidden)
{
    char full[NAME_BYTES];
    join(full, name, "gate_proj.weight");
    matrix(w, full, size, hidden);
    join(full, name, "up_proj.weight");
    matrix(w, full, size, hidden);
    join(full, name, "down_proj.weight");
    matrix(w, full, hidden, size);
}

static bool has(const checkpoint *c, const char *prefix, const char *name)
{
    char full[NAME_BYTES];
    join(full, prefix, name);
    return c != NULL && checkpoint_find(c, full) != NULL;
}

static bool experts_are_fused(const checkpoint *c, const char *layer_prefix)
{
    return has(c, layer_prefix, "mlp.experts.gate_up_proj") ||
           has(c, layer_prefix, "mlp.experts.down_proj");
}

static void experts(walk *w, int32_t n_experts, int64_t size, int64_t hidden)
{
    if (experts_are_fused(w->c, w->prefix)) {
        visit_shape(w, "mlp.experts.gate_up_proj", SHAPE(n_experts, 2 * size, hidden));
        visit_shape(w, "mlp.experts.down_proj", SHAPE(n_experts, hidden, size));
        return;
    }
    for (int32_t e = 0; e < n_experts; e++) {
        char name[48];
        snprintf(name, sizeof name, "mlp.experts.%d.", e);
        swiglu(w, name, size, hidden);
    }
}

/* ---- thinker ---- */

static void text_layer(walk *w, const text_config *t, int32_t layer)
{
    int64_t hidden = t->hidden_size;
    set_prefix(w, "thinker.model.layers.%d.", layer);
    vector(w, "input_layernorm.weight", hidden);
    attention(w, hidden, t->n_heads, t->n_kv_heads, t->head_dim);
    head_norms(w, t->head_dim);
    vector(w, "post_attention_layernorm.weight", hidden);
    if (t->layer_is_sparse[layer]) {
        matrix(w, "mlp.gate.weight", t->n_experts, hidden);
        experts(w, t->n_experts, t->expert_size, hidden);
    } else {
        swiglu(w, "mlp.", t->dense_size, hidden);
    }
}

static void lm_head(walk *w, const text_config *t)
{
    expected_tensor head = {.name = "thinker.lm_head.weight",
                            .component = COMPONENT_LM_HEAD,
                            .n_dims = 2,
                            .shape = {t->vocab_size, t->hidden_size},
                            .may_be_absent = t->tie_word_embeddings};
    w->visit(w->arg, &head);
}

static void text_part(walk *w, const text_config *t)
{
    set_prefix(w, "thinker.model.");
    w->component = COMPONENT_EMBED;
    matrix(w, "embed_tokens.weight", t->vocab_size, t->hidden_size);
    w->component = COMPONENT_LAYERS;
    for (int32_t i = 0; i < t->n_layers; i++) {
        text_layer(w, t, i);
    }
    set_prefix(w, "thinker.model.");
    w->component = COMPONENT_NORM;
    vector(w, "norm.weight", t->hidden_size);
    lm_head(w, t);
}

static void audio_layer(walk *w, const audio_config *a)
{
    int64_t d = a->d_model;
    layer_norm(w, "self_attn_layer_norm", d);
    linear(w, "self_attn.q_proj", d, d);
    linear(w, "self_attn.k_proj", d, d);
    linear(w, "self_attn.v_proj", d, d);
    linear(w, "self_attn.out_proj", d, d);
    layer_norm(w, "final_layer_norm", d);
    linear(w, "fc1", a->ffn_dim, d);
    linear(w, "fc2", d, a->ffn_dim);
}

static void audio_part(walk *w, const audio_config *a)
{
    int64_t channels = a->downsample_hidden_size;
    int64_t bins = a->n_mel_bins; /* halved three times, rounded up */
    for (int i = 0; i < 3; i++) {
        bins = (bins + 1) / 2;
    }
    w->component = COMPONENT_AUDIO;
    set_prefix(w, "thinker.audio_tower.");
    with_bias(w, "conv2d1", SHAPE(channels, 1, 3, 3), channels);
    with_bias(w, "conv2d2", SHAPE(channels, channels, 3, 3), channels);
    with_bias(w, "conv2d3", SHAPE(channels, channels, 3, 3), channels);
    matrix(w, "conv_out.weight", a->d_model, channels * bins);
    for (int32_t i = 0; i < a->n_layers; i++) {
        set_prefix(w, "thinker.audio_tower.layers.%d.", i);
        audio_layer(w, a);
    }
    set_prefix(w, "thinker.audio_tower.");
    layer_norm(w, "ln_post", a->d_model);
    linear(w, "proj1", a->d_model, a->d_model);
    linear(w, "proj2", a->output_dim, a->d_model);
}

static void vision_block(walk *w, const vision_config *v)
{
    int64_t hidden = v->hidden_size;
    layer_norm(w, "norm1", hidden);
    linear(w, "attn.qkv", 3 * hidden, hidden);
    linear(w, "attn.proj", hidden, hidden);
    layer_norm(w, "norm2", hidden);
    linear(w, "mlp.linear_fc1", v->intermediate_size, hidden);
    linear(w, "mlp.linear_fc2", hidden, v->intermediate_size);
}

/* The final merger norms patches, the deep-stack ones norm what they have merged. */
static void merger(walk *w, const vision_config *v, bool norms_merged)
{
    int64_t merged = (int64_t)v->hidden_size * v->spatial_merge_size * v->spatial_merge_size;
    layer_norm(w, "ln_q", norms_merged ? merged : v->hidden_size);
    linear(w, "mlp.0", merged, merged);
    linear(w, "mlp.2", v->out_hidden_size, merged);
}

static void vision_part(walk *w, const vision_config *v)
{
    w->component = COMPONENT_VISION;
    set_prefix(w, "thinker.visual.");
    with_bias(
        w, "patch_embed.proj",
        SHAPE(v->hidden_size, v->in_channels, v->temporal_patch_size, v->patch_size, v->patch_size),
        v->hidden_size);
    matrix(w, "pos_embed.weight", v->n_position_embeddings, v->hidden_size);
    for (int32_t i = 0; i < v->depth; i++) {
        set_prefix(w, "thinker.visual.blocks.%d.", i);
        vision_block(w, v);
    }
    set_prefix(w, "thinker.visual.merger.");
    merger(w, v, false);
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        set_prefix(w, "thinker.visual.merger_list.%d.", i);
        merger(w, v, true);
    }
}

static void encoder_parts(walk *w, const model_config *m)
{
    if (m->has_audio) {
        audio_part(w, &m->audio);
    }
    if (m->has_vision) {
        vision_part(w, &m->vision);
    }
}

/* ---- speech ---- */

static void talker_layer(walk *w, const talker_config *t)
{
    int64_t hidden = t->hidden_size;
    vector(w, "input_layernorm.weight", hidden);
    attention(w, hidden, t->n_heads, t->n_kv_heads, t->head_dim);
    head_norms(w, t->head_dim);
    vector(w, "post_attention_layernorm.weight", hidden);
    matrix(w, "mlp.gate.weight", t->n_experts, hidden);
    experts(w, t->n_experts, t->expert_size, hidden);
    swiglu(w, "mlp.shared_expert.", t->shared_expert_size, hidden);
    matrix(w, "mlp.shared_expert_gate.weight", 1, hidden);
}

static void talker_projection(walk *w, const char *name, const talker_config *t)
{
    set_prefix(w, "talker.%s.", name);
    linear(w, "linear_fc1", t->projection_size, t->thinker_hidden_size);
    linear(w, "linear_fc2", t->hidden_size, t->projection_size);
}

static void talker_part(walk *w, const talker_config *t)
{
    w->component = COMPONENT_TALKER;
    talker_projection(w, "text_projection", t);
    talker_projection(w, "hidden_projection", t);
    set_prefix(w, "talker.model.");
    matrix(w, "codec_embedding.weight", t->vocab_size, t->hidden_size);
    for (int32_t i = 0; i < t->n_layers; i++) {
        set_prefix(w, "talker.model.layers.%d.", i);
        talker_layer(w, t);
    }
    set_prefix(w, "talker.");
    vector(w, "model.norm.weight", t->hidden_size);
    matrix(w, "codec_head.weight", t->vocab_size, t->hidden_size);
}

static void code_predictor_part(walk *w, const code_predictor_config *p)
{
    w->component = COMPONENT_CODE_PREDICTOR;
    for (int32_t i = 0; i < p->n_code_groups - 1; i++) {
        set_prefix(w, "talker.code_predictor.model.codec_embedding.%d.", i);
        matrix(w, "weight", p->vocab_size, p->hidden_size);
    }
    for (int32_t i = 0; i < p->n_layers; i++) {
        set_prefix(w, "talker.code_predictor.model.layers.%d.", i);
        vector(w, "input_layernorm.weight", p->hidden_size);
        attention(w, p->hidden_size, p->n_heads, p->n_kv_heads, p->head_dim);
        head_norms(w, p->head_dim);
        vector(w, "post_attention_layernorm.weight", p->hidden_size);
        swiglu(w, "mlp.", p->intermediate_size, p->hidden_size);
    }
    set_prefix(w, "talker.code_predictor.");
    vector(w, "model.norm.weight", p->hidden_size);
    for (int32_t i = 0; i < p->n_code_groups - 1; i++) {
        set_prefix(w, "talker.code_predictor.lm_head.%d.", i);
        matrix(w, "weight", p->vocab_size, p->hidden_size);
    }
}

static void code2wav_transformer(walk *w, const code2wav_config *c)
{
    for (int32_t i = 0; i < c->n_layers; i++) {
        set_prefix(w, "code2wav.pre_transformer.layers.%d.", i);
        vector(w, "input_layernorm.weight", c->hidden_size);
        attention(w, c->hidden_size, c->n_heads, c->n_kv_heads, c->head_dim);
        vector(w, "self_attn_layer_scale.scale", c->hidden_size);
        vector(w, "post_attention_layernorm.weight", c->hidden_size);
        swiglu(w, "mlp.", c->intermediate_size, c->hidden_size);
        vector(w, "mlp_layer_scale.scale", c->hidden_size);
    }
    set_prefix(w, "code2wav.pre_transformer.");
    vector(w, "norm.weight", c->hidden_size);
}

/* Transposed convolutions are [in][out][kernel], the others [out][in / groups][kernel]. */
static void code2wav_upsample(walk *w, const code2wav_config *c)
{
    int64_t h = c->hidden_size;
    for (int32_t i = 0; i < c->n_upsampling_ratios; i++) {
        set_prefix(w, "code2wav.upsample.%d.", i);
        with_bias(w, "0.conv", SHAPE(h, h, c->upsampling_ratios[i]), h);
        with_bias(w, "1.dwconv.conv", SHAPE(h, 1, 7), h);
        layer_norm(w, "1.norm", h);
        linear(w, "1.pwconv1", 4 * h, h);
        linear(w, "1.pwconv2", h, 4 * h);
        vector(w, "1.gamma", h);
    }
}

static void snake(walk *w, const char *name, int64_t channels)
{
    char full[NAME_BYTES];
    join(full, name, "alpha");
    vector(w, full, channels);
    join(full, name, "beta");
    vector(w, full, channels);
}

static void code2wav_block(walk *w, int32_t b, int64_t in, int64_t out, int64_t rate)
{
    set_prefix(w, "code2wav.decoder.%d.block.", b);
    snake(w, "0.", in);
    with_bias(w, "1.conv", SHAPE(in, out, 2 * rate), out);
    for (int32_t unit = 2; unit <= 4; unit++) {
        set_prefix(w, "code2wav.decoder.%d.block.%d.", b, unit);
        snake(w, "act1.", out);
        with_bias(w, "conv1.conv", SHAPE(out, out, 7), out);
        snake(w, "act2.", out);
        with_bias(w, "conv2.conv", SHAPE(out, out, 1), out);
    }
}

static void code2wav_part(walk *w, const code2wav_config *c)
{
    w->component = COMPONENT_CODE2WAV;
    set_prefix(w, "code2wav.");
    matrix(w, "code_embedding.weight", (int64_t)c->codebook_size * c->n_quantizers, c->hidden_size);
    code2wav_transformer(w, c);
    code2wav_upsample(w, c);
    set_prefix(w, "code2wav.decoder.");
    with_bias(w, "0.conv", SHAPE(c->decoder_dim, c->hidden_size, 7), c->decoder_dim);
    int64_t channels = c->decoder_dim;
    for (int32_t b = 0; b < c->n_upsample_rates; b++) {
        code2wav_block(w, b + 1, channels, channels / 2, c->upsample_rates[b]);
        channels /= 2;
    }
    set_prefix(w, "code2wav.decoder.%d.", c->n_upsample_rates + 1);
    snake(w, "", channels);
    set_prefix(w, "code2wav.decoder.%d.", c->n_upsample_rates + 2);
    with_bias(w, "conv", SHAPE(1, channels, 7), 1);
}

static void speech_parts(walk *w, const model_config *m)
{
    if (m->has_talker) {
        talker_part(w, &m->talker);
        code_predictor_part(w, &m->code_predictor);
    }
    if (m->has_code2wav) {
        code2wav_part(w, &m->code2wav);
    }
}

/* ---- the whole list ---- */

void model_tensors_each(const model_config *m, const checkpoint *c,
                        void (*visit)(void *arg, const expected_tensor *t), void *arg)
{
    walk w = {.visit = visit, .arg = arg, .c = c};
    text_part(&w, &m->text);
    encoder_parts(&w, m);
    speech_parts(&w, m);
}

const char *model_component_name(model_component p)
{
    static const char *const names[COMPONENT_COUNT] = {
        "thinker.embed", "thinker.layers", "thinker.norm",   "thinker.lm_head", "audio_tower",
        "visual",        "talker",         "code_predictor", "code2wav"};
    CHECK((size_t)p < COMPONENT_COUNT);
    return names[p];
}

/* ---- holding a checkpoint against it ---- */

static void shape_text(char *out, size_t n_bytes, int32_t n_dims, const int64_t *shape)
{
    size_t used = (size_t)snprintf(out, n_bytes, "[");
    for (int32_t i = 0; i < n_dims && used < n_bytes; i++) {
        used += (size_t)snprintf(out + used, n_bytes - used, "%s%lld", i > 0 ? ", " : "",
                                 (long long)shape[i]);
    }
    if (used < n_bytes) {
        snprintf(out + used, n_bytes - used, "]");
    }
}

static flo_code check_shape(const checkpoint *c, const checkpoint_tensor *t, int32_t n_dims,
                            const int64_t *shape, flo_err *err)
{
    if (t->n_dims != n_dims || memcmp(t->shape, shape, (size_t)n_dims * sizeof *shape) != 0) {
        char found[160], expected[160];
        shape_text(found, sizeof found, t->n_dims, t->shape);
        shape_text(expected, sizeof expected, n_dims, shape);
        return flo_fail(err, FLO_FAIL, "tensor %s has shape %s, config.json asks for %s (in %s)",
                        t->name, found, expected, checkpoint_file_name(c, t->file));
    }
    if (t->dtype != DTYPE_BF16 && t->dtype != DTYPE_F16 && t->dtype != DTYPE_F32) {
        return flo_fail(err, FLO_FAIL, "tensor %s is %s, weights are BF16, F16 or F32 (in %s)",
                        t->name, tensor_dtype_name(t->dtype), checkpoint_file_name(c, t->file));
    }
    return FLO_OK;
}

flo_code model_tensor_find(const checkpoint *c, const char *name, int32_t n_dims,
                           const int64_t *shape, const checkpoint_tensor **out, flo_err *err)
{
    const checkpoint_tensor *t = checkpoint_find(c, name);
    if (t == NULL) {
        return flo_fail(err, FLO_FAIL, "tensor %s is missing from the checkpoint", name);
    }
    flo_code code = check_shape(c, t, n_dims, shape, err);
    if (code == FLO_OK) {
        *out = t;
    }
    return code;
}

flo_code model_tensor_check(const checkpoint *c, const expected_tensor *t, flo_err *err)
{
    const checkpoint_tensor *found;
    if (t->may_be_absent && checkpoint_find(c, t->name) == NULL) {
        return FLO_OK;
    }
    return model_tensor_find(c, t->name, t->n_dims, t->shape, &found, err);
}

flo_code model_lm_head_find(const checkpoint *c, const model_config *m,
                            const checkpoint_tensor **out, flo_err *err)
{
    const int64_t shape[] = {m->text.vocab_size, m->text.hidden_size};
    const char *name = "thinker.lm_head.weight";
    if (m->text.tie_word_embeddings && checkpoint_find(c, name) == NULL) {
        name = "thinker.model.embed_tokens.weight";
    }
    return model_tensor_find(c, name, 2, shape, out, err);
}

/* ---- experts ---- */

static flo_code find_fused(const checkpoint *c, const text_config *t, const char *prefix,
                           int32_t expert, expert_matrix which, tensor_range *out, flo_err *err)
{
    char name[NAME_BYTES];
    bool down = which == EXPERT_DOWN;
    join(name, prefix, down ? "mlp.experts.down_proj" : "mlp.experts.gate_up_proj");
    int64_t size = t->expert_size, hidden = t->hidden_size;
    const int64_t *shape =
        down ? SHAPE(t->n_experts, hidden, size) : SHAPE(t->n_experts, 2 * size, hidden);
    flo_code code = model_tensor_find(c, name, 3, shape, &out->tensor, err);
    if (code != FLO_OK) {
        return code;
    }
    int64_t first_row =
        down ? expert * hidden : 2 * expert * size + (which == EXPERT_UP ? size : 0);
    int64_t columns = down ? size : hidden;
    out->first_byte = (uint64_t)(first_row * columns) * tensor_dtype_bytes(out->tensor->dtype);
    return FLO_OK;
}

static flo_code find_single(const checkpoint *c, const text_config *t, const char *prefix,
                            int32_t expert, expert_matrix which, tensor_range *out, flo_err *err)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%smlp.experts.%d.%s.weight", prefix, expert, names[which]);
    int64_t size = t->expert_size, hidden = t->hidden_size;
    const int64_t *shape = which == EXPERT_DOWN ? SHAPE(hidden, size) : SHAPE(size, hidden);
    out->first_byte = 0;
    return model_tensor_find(c, name, 2, shape, &out->tensor, err);
}

flo_code model_expert_find(const checkpoint *c, const text_config *t, const char *prefix,
                           int32_t layer, int32_t expert, expert_matrix which, tensor_range *out,
                           flo_err *err)
{
    CHECK(layer >= 0 && layer < t->n_layers && t->layer_is_sparse[layer]);
    CHECK(expert >= 0 && expert < t->n_experts);
    char of_layer[64];
    int n = snprintf(of_layer, sizeof of_layer, "%slayers.%d.", prefix, layer);
    CHECK(n >= 0 && (size_t)n < sizeof of_layer);
    out->rows = which == EXPERT_DOWN ? t->hidden_size : t->expert_size;
    out->columns = which == EXPERT_DOWN ? t->expert_size : t->hidden_size;
    return experts_are_fused(c, of_layer) ? find_fused(c, t, of_layer, expert, which, out, err)
                                          : find_single(c, t, of_layer, expert, which, out, err);
}

/* ---- the faults of a checkpoint ---- */

typedef struct fault_list {
    const checkpoint *c;
    size_t n, n_max;
    void (*seen)(void *arg, const char *name, const char *sentence);
    void *arg;
} fault_list;

static void check_visited(void *arg, const expected_tensor *t)
{
    fault_list *f = arg;
    flo_err err;
    if (model_tensor_check(f->c, t, &err) == FLO_OK) {
        return;
    }
    if (f->n < f->n_max) {
        f->seen(f->arg, t->name, err.text);
    }
    f->n++;
}

size_t model_parts_check(const checkpoint *c, const model_config *m, bool with_encoders,
                         bool with_speech, size_t faults_max,
                         void (*seen)(void *arg, const char *name, const char *sentence), void *arg)
{
    fault_list faults = {.c = c, .n_max = faults_max, .seen = seen, .arg = arg};
    walk w = {.visit = check_visited, .arg = &faults, .c = c};
    text_part(&w, &m->text);
    if (with_encoders) {
        encoder_parts(&w, m);
    }
    if (with_speech) {
        speech_parts(&w, m);
    }
    return faults.n;
}

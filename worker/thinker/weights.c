/*
 * weights.c - a walk over the worker's parts that declares each tensor (worker/weight_loader.h).
 */
#include "worker/thinker/weights.h"

#include "common/model_tensors.h"
#include "common/plan_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 160 };

typedef struct builder {
    stage_weights *w;
    const model_config *m;
    const plan_worker *p;
    const checkpoint *c; /* NULL: made-up weights */
    weight_loader *l;
} builder;

static void layer_name(char out[NAME_BYTES], int32_t layer, const char *rest)
{
    snprintf(out, NAME_BYTES, "thinker.model.layers.%d.%s", layer, rest);
}

static const float *layer_vector(builder *b, int32_t layer, const char *rest, int32_t n)
{
    char name[NAME_BYTES];
    layer_name(name, layer, rest);
    return weight_vector(b->l, name, n);
}

static void layer_rows(builder *b, const packed_matrix *w, int32_t layer, const char *rest,
                       int32_t first_row, int32_t n_rows)
{
    char name[NAME_BYTES];
    layer_name(name, layer, rest);
    weight_rows(b->l, w, name, first_row, n_rows, 2, NULL, NULL);
}

static void declare_attention(builder *b, layer_weights *w, int32_t layer)
{
    const text_config *t = &b->m->text;
    int32_t q_rows = t->n_heads * t->head_dim, kv_rows = t->n_kv_heads * t->head_dim;
    w->input_norm = layer_vector(b, layer, "input_layernorm.weight", t->hidden_size);
    w->post_norm = layer_vector(b, layer, "post_attention_layernorm.weight", t->hidden_size);
    w->q_norm = layer_vector(b, layer, "self_attn.q_norm.weight", t->head_dim);
    w->k_norm = layer_vector(b, layer, "self_attn.k_norm.weight", t->head_dim);

    w->qkv = weight_matrix(b->l, q_rows + 2 * kv_rows, t->hidden_size);
    layer_rows(b, &w->qkv, layer, "self_attn.q_proj.weight", 0, q_rows);
    layer_rows(b, &w->qkv, layer, "self_attn.k_proj.weight", q_rows, kv_rows);
    layer_rows(b, &w->qkv, layer, "self_attn.v_proj.weight", q_rows + kv_rows, kv_rows);

    w->o = weight_matrix(b->l, t->hidden_size, q_rows);
    layer_rows(b, &w->o, layer, "self_attn.o_proj.weight", 0, t->hidden_size);
}

static swiglu_weights place_swiglu(builder *b, int32_t size)
{
    int32_t hidden = b->m->text.hidden_size;
    swiglu_weights s;
    s.gate_up = weight_matrix(b->l, 2 * packed_panels(size) * PANEL_ROWS, hidden);
    s.down = weight_matrix(b->l, hidden, size);
    return s;
}

static void declare_dense(builder *b, layer_weights *w, int32_t layer)
{
    static const char *const halves[2] = {"mlp.gate_proj.weight", "mlp.up_proj.weight"};
    const text_config *t = &b->m->text;
    const int64_t shape[2] = {t->dense_size, t->hidden_size};
    w->dense = place_swiglu(b, t->dense_size);
    for (int32_t half = 0; half < 2; half++) {
        char name[NAME_BYTES];
        tensor_range range = {.rows = t->dense_size, .columns = t->hidden_size};
        flo_err err;
        layer_name(name, layer, halves[half]);
        if (b->c != NULL) {
            weight_fault(b->l, model_tensor_find(b->c, name, 2, shape, &range.tensor, &err), &err);
        }
        weight_panels(b->l, &w->dense.gate_up, name, half, &range);
    }
    layer_rows(b, &w->dense.down, layer, "mlp.down_proj.weight", 0, t->hidden_size);
}

/* Where one of the three matrices of an expert lies; only its shape with made-up weights. */
static tensor_range expert_range(builder *b, int32_t layer, int32_t expert, expert_matrix which)
{
    const text_config *t = &b->m->text;
    bool down = which == EXPERT_DOWN;
    tensor_range range = {.rows = down ? t->hidden_size : t->expert_size,
                          .columns = down ? t->expert_size : t->hidden_size};
    flo_err err;
    if (b->c != NULL) {
        weight_fault(b->l, model_expert_find(b->c, b->m, layer, expert, which, &range, &err), &err);
    }
    return range;
}

static void declare_expert(builder *b, swiglu_weights *s, int32_t layer, int32_t expert)
{
    static const char *const names[] = {"gate", "up", "down"};
    *s = place_swiglu(b, b->m->text.expert_size);
    for (int32_t which = EXPERT_GATE; which <= EXPERT_DOWN; which++) {
        char name[NAME_BYTES];
        tensor_range range = expert_range(b, layer, expert, (expert_matrix)which);
        snprintf(name, sizeof name, "thinker.model.layers.%d.mlp.experts.%d.%s_proj.weight", layer,
                 expert, names[which]);
        if (which == EXPERT_DOWN) {
            weight_range(b->l, &s->down, name, 0, &range);
        } else {
            weight_panels(b->l, &s->gate_up, name, which == EXPERT_UP, &range);
        }
    }
}

static void declare_experts(builder *b, layer_weights *w, int32_t layer)
{
    flo_err err;
    w->experts = calloc((size_t)b->p->n_experts + 1, sizeof *w->experts);
    if (w->experts == NULL) {
        weight_fault(b->l, flo_fail(&err, FLO_FAIL, "out of memory for the list of experts"), &err);
        return;
    }
    for (int32_t e = 0; e < b->p->n_experts; e++) {
        declare_expert(b, &w->experts[e], layer, b->p->first_expert + e);
    }
}

static void declare_layer(builder *b, layer_weights *w, int32_t layer)
{
    const text_config *t = &b->m->text;
    bool home = b->p->place == 0;
    w->sparse = t->layer_is_sparse[layer];
    if (home) {
        declare_attention(b, w, layer);
    }
    if (home && !w->sparse) {
        declare_dense(b, w, layer);
    }
    if (home && w->sparse) {
        w->router = weight_matrix(b->l, t->n_experts, t->hidden_size);
        layer_rows(b, &w->router, layer, "mlp.gate.weight", 0, t->n_experts);
    }
    if (w->sparse) {
        declare_experts(b, w, layer);
    }
}

/* This worker's rows of the LM head. */
static void declare_head(builder *b)
{
    const text_config *t = &b->m->text;
    const char *name =
        t->tie_word_embeddings ? "thinker.model.embed_tokens.weight" : "thinker.lm_head.weight";
    tensor_range range = {.rows = b->p->n_vocab_rows, .columns = t->hidden_size};
    size_t element_bytes = sizeof(bf16);
    flo_err err;
    if (b->c != NULL) {
        flo_code code = model_lm_head_find(b->c, b->m, &range.tensor, &err);
        weight_fault(b->l, code, &err);
        element_bytes = code == FLO_OK ? tensor_dtype_bytes(range.tensor->dtype) : element_bytes;
    }
    range.first_byte = (uint64_t)b->p->first_vocab_row * (uint64_t)t->hidden_size * element_bytes;
    b->w->lm_head = weight_matrix(b->l, b->p->n_vocab_rows, t->hidden_size);
    weight_range(b->l, &b->w->lm_head, name, 0, &range);
}

static void declare_ends(builder *b)
{
    const text_config *t = &b->m->text;
    if (b->p->has_final_norm) {
        b->w->final_norm = weight_vector(b->l, "thinker.model.norm.weight", t->hidden_size);
    }
    if (b->p->n_vocab_rows > 0) {
        declare_head(b);
    }
    if (b->p->has_embedding) {
        b->w->embedding =
            weight_table(b->l, "thinker.model.embed_tokens.weight", t->vocab_size, t->hidden_size);
    }
}

flo_code stage_weights_load(stage_weights *w, const model_config *m, const plan_worker *p,
                            const weights_source *source, thread_pool *pool,
                            void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                            flo_err *err)
{
    memset(w, 0, sizeof *w);
    w->layers = calloc((size_t)p->n_layers + 1, sizeof *w->layers);
    if (w->layers == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the list of layers");
    }
    w->n_layers = p->n_layers;
    w->region_bytes = plan_thinker_bytes(m, p);
    builder b = {.w = w, .m = m, .p = p, .c = source->checkpoint};
    flo_code code = weight_loader_new(&b.l, w->region_bytes, source, err);
    if (code == FLO_OK) {
        for (int32_t i = 0; i < p->n_layers; i++) {
            declare_layer(&b, &w->layers[i], p->first_layer + i);
        }
        declare_ends(&b);
        code = weight_loader_run(b.l, &w->region, pool, progress, arg, err);
    }
    if (code != FLO_OK) {
        stage_weights_free(w);
    }
    return code;
}

void stage_weights_free(stage_weights *w)
{
    weight_region_free(w->region, w->region_bytes);
    for (int32_t i = 0; w->layers != NULL && i < w->n_layers; i++) {
        free(w->layers[i].experts);
    }
    free(w->layers);
    memset(w, 0, sizeof *w);
}

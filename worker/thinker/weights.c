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

typedef struct builder { /* of the layers */
    const decoder_part *part;
    const checkpoint *c; /* NULL: made-up weights */
    weight_loader *l;
} builder;

static void layer_name(char out[NAME_BYTES], const builder *b, int32_t layer, const char *rest)
{
    snprintf(out, NAME_BYTES, "%slayers.%d.%s", b->part->prefix, layer, rest);
}

static const float *layer_vector(builder *b, int32_t layer, const char *rest, int32_t n)
{
    char name[NAME_BYTES];
    layer_name(name, b, layer, rest);
    return weight_vector(b->l, name, n);
}

static void layer_rows(builder *b, const packed_matrix *w, int32_t layer, const char *rest,
                       int32_t first_row, int32_t n_rows)
{
    char name[NAME_BYTES];
    layer_name(name, b, layer, rest);
    weight_rows(b->l, w, name, first_row, n_rows, 2, NULL, NULL);
}

static void declare_attention(builder *b, layer_weights *w, int32_t layer)
{
    const text_config *t = b->part->text;
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
    int32_t hidden = b->part->text->hidden_size;
    swiglu_weights s;
    s.gate_up = weight_matrix(b->l, 2 * packed_panels(size) * PANEL_ROWS, hidden);
    s.down = weight_matrix(b->l, hidden, size);
    return s;
}

/* The SwiGLU PREFIX gate_proj, up_proj and down_proj of `size` inner entries. */
static swiglu_weights declare_swiglu(builder *b, int32_t layer, const char *prefix, int32_t size)
{
    static const char *const halves[2] = {"gate_proj.weight", "up_proj.weight"};
    int32_t hidden = b->part->text->hidden_size;
    const int64_t shape[2] = {size, hidden};
    swiglu_weights s = place_swiglu(b, size);
    char rest[NAME_BYTES / 2];
    for (int32_t half = 0; half < 2; half++) {
        char name[NAME_BYTES];
        tensor_range range = {.rows = size, .columns = hidden};
        flo_err err;
        snprintf(rest, sizeof rest, "%s%s", prefix, halves[half]);
        layer_name(name, b, layer, rest);
        if (b->c != NULL) {
            weight_fault(b->l, model_tensor_find(b->c, name, 2, shape, &range.tensor, &err), &err);
        }
        weight_panels(b->l, &s.gate_up, name, half, &range);
    }
    snprintf(rest, sizeof rest, "%sdown_proj.weight", prefix);
    layer_rows(b, &s.down, layer, rest, 0, hidden);
    return s;
}

/* Where one of the three matrices of an expert lies; only its shape with made-up weights. */
static tensor_range expert_place(builder *b, int32_t layer, int32_t expert, expert_matrix which)
{
    const text_config *t = b->part->text;
    bool down = which == EXPERT_DOWN;
    tensor_range range = {.rows = down ? t->hidden_size : t->expert_size,
                          .columns = down ? t->expert_size : t->hidden_size};
    flo_err err;
    if (b->c != NULL) {
        weight_fault(
            b->l, model_expert_find(b->c, t, b->part->prefix, layer, expert, which, &range, &err),
            &err);
    }
    return range;
}

static void declare_expert(builder *b, swiglu_weights *s, int32_t layer, int32_t expert)
{
    static const char *const names[] = {"gate", "up", "down"};
    *s = place_swiglu(b, b->part->text->expert_size);
    for (int32_t which = EXPERT_GATE; which <= EXPERT_DOWN; which++) {
        char name[NAME_BYTES];
        tensor_range range = expert_place(b, layer, expert, (expert_matrix)which);
        snprintf(name, sizeof name, "%slayers.%d.mlp.experts.%d.%s_proj.weight", b->part->prefix,
                 layer, expert, names[which]);
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
    w->experts = calloc((size_t)b->part->experts.n + 1, sizeof *w->experts);
    if (w->experts == NULL) {
        weight_fault(b->l, flo_fail(&err, FLO_FAIL, "out of memory for the list of experts"), &err);
        return;
    }
    for (int32_t e = 0; e < b->part->experts.n; e++) {
        declare_expert(b, &w->experts[e], layer, b->part->experts.first + e);
    }
}

/* The home's matrices of a sparse layer. */
static void declare_sparse(builder *b, layer_weights *w, int32_t layer)
{
    const text_config *t = b->part->text;
    w->router = weight_matrix(b->l, t->n_experts, t->hidden_size);
    layer_rows(b, &w->router, layer, "mlp.gate.weight", 0, t->n_experts);
    if (t->shared_expert_size > 0) {
        w->shared = declare_swiglu(b, layer, "mlp.shared_expert.", t->shared_expert_size);
        w->shared_gate = weight_matrix(b->l, 1, t->hidden_size);
        layer_rows(b, &w->shared_gate, layer, "mlp.shared_expert_gate.weight", 0, 1);
    }
}

static void declare_layer(builder *b, layer_weights *w, int32_t layer)
{
    w->sparse = b->part->text->layer_is_sparse[layer];
    if (b->part->home) {
        declare_attention(b, w, layer);
        if (w->sparse) {
            declare_sparse(b, w, layer);
        } else {
            w->dense = declare_swiglu(b, layer, "mlp.", b->part->text->dense_size);
        }
    }
    if (w->sparse) {
        declare_experts(b, w, layer);
    }
}

void stage_layers_declare(stage_weights *w, const decoder_part *part, weight_loader *l,
                          const checkpoint *c)
{
    builder b = {.part = part, .c = c, .l = l};
    w->layers = calloc((size_t)part->n_layers + 1, sizeof *w->layers);
    if (w->layers == NULL) {
        flo_err err;
        weight_fault(l, flo_fail(&err, FLO_FAIL, "out of memory for the list of layers"), &err);
        return;
    }
    w->n_layers = part->n_layers;
    for (int32_t i = 0; i < part->n_layers; i++) {
        declare_layer(&b, &w->layers[i], part->first_layer + i);
    }
}

/* --- the thinker's ends ------------------------------------------------------------------------
 */

typedef struct ends {
    stage_weights *w;
    const model_config *m;
    const plan_worker *p;
    const checkpoint *c;
    weight_loader *l;
} ends;

/* This worker's rows of the LM head. */
static void declare_head(const ends *e)
{
    const text_config *t = &e->m->text;
    const char *name =
        t->tie_word_embeddings ? "thinker.model.embed_tokens.weight" : "thinker.lm_head.weight";
    tensor_range range = {.rows = e->p->n_vocab_rows, .columns = t->hidden_size};
    size_t element_bytes = sizeof(bf16);
    flo_err err;
    if (e->c != NULL) {
        flo_code code = model_lm_head_find(e->c, e->m, &range.tensor, &err);
        weight_fault(e->l, code, &err);
        element_bytes = code == FLO_OK ? tensor_dtype_bytes(range.tensor->dtype) : element_bytes;
    }
    range.first_byte = (uint64_t)e->p->first_vocab_row * (uint64_t)t->hidden_size * element_bytes;
    e->w->first_vocab_row = e->p->first_vocab_row;
    e->w->lm_head = weight_matrix(e->l, e->p->n_vocab_rows, t->hidden_size);
    weight_range(e->l, &e->w->lm_head, name, 0, &range);
}

static void declare_ends(const ends *e)
{
    const text_config *t = &e->m->text;
    if (e->p->has_final_norm) {
        e->w->final_norm = weight_vector(e->l, "thinker.model.norm.weight", t->hidden_size);
    }
    if (e->p->n_vocab_rows > 0) {
        declare_head(e);
    }
    if (e->p->has_embedding) {
        e->w->embedding =
            weight_table(e->l, "thinker.model.embed_tokens.weight", t->vocab_size, t->hidden_size);
    }
}

flo_code stage_weights_load(stage_weights *w, const model_config *m, const plan_worker *p,
                            const weights_source *source, thread_pool *pool,
                            void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                            flo_err *err)
{
    memset(w, 0, sizeof *w);
    w->region_bytes = plan_thinker_bytes(m, p);
    decoder_part part = decoder_part_thinker(m, p);
    ends e = {.w = w, .m = m, .p = p, .c = source->checkpoint};
    flo_code code = weight_loader_new(&e.l, w->region_bytes, source, err);
    if (code == FLO_OK) {
        stage_layers_declare(w, &part, e.l, source->checkpoint);
        declare_ends(&e);
        code = weight_loader_run(e.l, &w->region, pool, progress, arg, err);
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

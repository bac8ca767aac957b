/*
 * vision_weights.c - the vision encoder's tensors, declared in the order in which
 * plan_vision_bytes (common/plan_parts.c) adds them up.
 */
#include "worker/encoders/encoder_module.h"

#include "common/plan_parts.h"

#include <stdio.h>
#include <stdlib.h>

static void declare_patches(vision_weights *w, const vision_config *v, weight_loader *loader)
{
    module m = {loader, "thinker.visual."};
    const int64_t shape[5] = {v->hidden_size, v->in_channels, v->temporal_patch_size, v->patch_size,
                              v->patch_size};
    int32_t columns = v->in_channels * v->temporal_patch_size * v->patch_size * v->patch_size;
    w->patch = module_affine(&m, "patch_embed.proj", v->hidden_size, columns, 5, shape);
    w->positions = weight_table(loader, "thinker.visual.pos_embed.weight", v->n_position_embeddings,
                                v->hidden_size);
}

static void declare_block(vision_block_weights *b, const vision_config *v, weight_loader *loader,
                          int32_t index)
{
    int32_t hidden = v->hidden_size;
    module m = {loader, ""};
    snprintf(m.prefix, sizeof m.prefix, "thinker.visual.blocks.%d.", index);
    b->norm1 = module_norm(&m, "norm1", hidden);
    b->norm2 = module_norm(&m, "norm2", hidden);
    b->qkv = module_linear(&m, "attn.qkv", 3 * hidden, hidden);
    b->proj = module_linear(&m, "attn.proj", hidden, hidden);
    b->fc1 = module_linear(&m, "mlp.linear_fc1", v->intermediate_size, hidden);
    b->fc2 = module_linear(&m, "mlp.linear_fc2", hidden, v->intermediate_size);
}

/* norm_size: the last merger norms patches, the deep-stack ones what they have joined. */
static void declare_merger(merger_weights *g, const vision_config *v, const module *m,
                           int32_t norm_size)
{
    int32_t joined = v->hidden_size * v->spatial_merge_size * v->spatial_merge_size;
    g->norm = module_norm(m, "ln_q", norm_size);
    g->fc1 = module_linear(m, "mlp.0", joined, joined);
    g->fc2 = module_linear(m, "mlp.2", v->out_hidden_size, joined);
}

static void declare_all(vision_weights *w, const vision_config *v, weight_loader *loader)
{
    declare_patches(w, v, loader);
    for (int32_t i = 0; i < v->depth; i++) {
        declare_block(&w->blocks[i], v, loader, i);
    }
    module last = {loader, "thinker.visual.merger."};
    declare_merger(&w->merger, v, &last, v->hidden_size);
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        module m = {loader, ""};
        snprintf(m.prefix, sizeof m.prefix, "thinker.visual.merger_list.%d.", i);
        declare_merger(&w->deepstack[i], v, &m,
                       v->hidden_size * v->spatial_merge_size * v->spatial_merge_size);
    }
}

static void tell_nobody(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    (void)done;
    (void)total;
}

flo_code vision_weights_load(vision_weights *w, const vision_config *v,
                             const weights_source *source, thread_pool *pool,
                             const load_watch *watch, flo_err *err)
{
    const model_config model = {.has_vision = true, .vision = *v};
    const load_watch told = watch != NULL ? *watch : (load_watch){.tell = tell_nobody};
    weight_loader *loader = NULL;
    *w = (vision_weights){.region_bytes = plan_vision_bytes(&model)};
    w->blocks = calloc((size_t)v->depth, sizeof *w->blocks);
    w->deepstack = calloc((size_t)v->n_deepstack + 1, sizeof *w->deepstack);
    flo_code code =
        w->blocks == NULL || w->deepstack == NULL
            ? flo_fail(err, FLO_FAIL, "out of memory for the list of the vision encoder's blocks")
            : weight_loader_new(&loader, w->region_bytes, source, err);
    if (code == FLO_OK) {
        declare_all(w, v, loader);
        code = weight_loader_run(loader, &w->region, pool, told.tell, told.arg, err);
    }
    if (code != FLO_OK) {
        vision_weights_free(w);
    }
    return code;
}

void vision_weights_free(vision_weights *w)
{
    weight_region_free(w->region, w->region_bytes);
    free(w->deepstack);
    free(w->blocks);
    *w = (vision_weights){0};
}

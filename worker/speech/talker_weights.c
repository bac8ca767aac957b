/*
 * talker_weights.c - see talker_weights.h; a list of declarations (worker/weight_loader.h).
 */
#include "worker/speech/talker_weights.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 96 };

static affine declare_affine(weight_loader *l, const char *name, int32_t rows, int32_t columns)
{
    char full[NAME_BYTES];
    affine a = {.w = weight_matrix(l, rows, columns)};
    snprintf(full, sizeof full, "%s.weight", name);
    weight_rows(l, &a.w, full, 0, rows, 2, NULL, NULL);
    snprintf(full, sizeof full, "%s.bias", name);
    a.bias = weight_vector(l, full, rows);
    return a;
}

static void declare_projections(talker_weights *w, const talker_config *c, weight_loader *l)
{
    int32_t from = c->thinker_hidden_size, inner = c->projection_size, to = c->hidden_size;
    w->text.fc1 = declare_affine(l, "talker.text_projection.linear_fc1", inner, from);
    w->text.fc2 = declare_affine(l, "talker.text_projection.linear_fc2", to, inner);
    w->hidden.fc1 = declare_affine(l, "talker.hidden_projection.linear_fc1", inner, from);
    w->hidden.fc2 = declare_affine(l, "talker.hidden_projection.linear_fc2", to, inner);
}

static void declare_codes(stage_weights *s, const talker_config *c, weight_loader *l)
{
    s->embedding =
        weight_table(l, "talker.model.codec_embedding.weight", c->vocab_size, c->hidden_size);
    s->final_norm = weight_vector(l, "talker.model.norm.weight", c->hidden_size);
    s->lm_head = weight_matrix(l, c->vocab_size, c->hidden_size);
    weight_rows(l, &s->lm_head, "talker.codec_head.weight", 0, c->vocab_size, 2, NULL, NULL);
}

flo_code talker_weights_load(talker_weights *w, const talker_config *c, const decoder_part *part,
                             uint64_t n_bytes, const weights_source *source, thread_pool *pool,
                             const load_watch *watch, flo_err *err)
{
    weight_loader *l;
    stage_weights *s = w->stage;
    memset(s, 0, sizeof *s);
    s->region_bytes = n_bytes;
    flo_code code = weight_loader_new(&l, n_bytes, source, err);
    if (code == FLO_OK) {
        stage_layers_declare(s, part, l, source->checkpoint);
        if (part->home) {
            declare_projections(w, c, l);
            declare_codes(s, c, l);
        }
        code = weight_loader_run(l, &s->region, pool, watch->tell, watch->arg, err);
    }
    if (code != FLO_OK) {
        stage_weights_free(s);
    }
    return code;
}

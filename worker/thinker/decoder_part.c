/*
 * decoder_part.c - see decoder_part.h.
 */
#include "worker/thinker/decoder_part.h"

decoder_part decoder_part_thinker(const model_config *m, const plan_worker *w)
{
    return (decoder_part){.text = &m->text,
                          .prefix = "thinker.model.",
                          .first_layer = w->first_layer,
                          .n_layers = w->n_layers,
                          .home = w->place == 0,
                          .experts = {w->first_expert, w->n_experts}};
}

decoder_part decoder_part_whole(const text_config *t, const char *prefix)
{
    return (decoder_part){.text = t,
                          .prefix = prefix,
                          .n_layers = t->n_layers,
                          .home = true,
                          .experts = {0, t->n_experts}};
}

/*
 * buffers.c - see buffers.h. The plan's work terms (common/plan_parts.c) must cover the sum.
 */
#include "worker/buffers.h"

#include "common/arena.h"
#include "worker/thinker/head.h"
#include "worker/thinker/stage.h"

enum { LIST_BYTES = 1 << 20 };

worker_buffers worker_buffers_of(const model_config *m, const plan *p, const plan_worker *w)
{
    const text_config *t = &m->text;
    decoder_part part = decoder_part_thinker(m, w);
    size_t row = (size_t)t->hidden_size * sizeof(float);
    size_t n_deep = m->has_vision ? (size_t)m->vision.n_deepstack : 0;
    size_t vocab = (size_t)t->vocab_size * sizeof(float);
    size_t lists = LIST_BYTES + STEP_ROWS_MAX * (size_t)(t->n_experts_per_token + 2) * 16 +
                   2 * HEAD_ROWS_MAX * row;
    if (w->has_talker || w->n_talker_experts > 0) { /* its rows may come in the middle of a step */
        lists += STEP_ROWS_MAX * (size_t)(m->talker.n_experts_per_token + 2) * 16;
    }
    if (w->has_final_norm) { /* the last home merges all rows, whether or not it owns some */
        lists += (4 * HEAD_ROWS_MAX + 2) * arena_rounded(vocab);
    }
    return (worker_buffers){
        .messages = lists,
        .head = head_arena_bytes(w),
        .step = stage_arena_bytes(&part, plan_stage_size(p, w->stage), STEP_ROWS_MAX),
        .rows = w->place == 0 ? STEP_ROWS_MAX * row * (1 + n_deep) : 0,
        .sounds = w->has_audio_encoder ? plan_audio_region_bytes(&m->audio) : 0,
        .pictures =
            w->has_vision_encoder ? plan_vision_region_bytes(&m->vision, p->vision_patches_max) : 0,
    };
}

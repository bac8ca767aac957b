/*
 * plan_valid.c - who holds what in a plan, and whether everything has exactly one owner.
 */
#include "common/plan.h"
#include "common/plan_parts.h"

#include <stddef.h>

/* plan_talker_tokens of the most KV tokens, and some. */
static const int64_t talker_tokens_max = 2 * (int64_t)INT32_MAX;

int32_t plan_stage_home(const plan *p, int32_t stage)
{
    return plan_dealt_first(p->n_workers, p->n_stages, stage) + 1;
}

int32_t plan_stage_size(const plan *p, int32_t stage)
{
    return plan_dealt_size(p->n_workers, p->n_stages, stage);
}

static const plan_worker *holder_of(const plan *p, plan_part part)
{
    for (int32_t i = 0; i < p->n_workers; i++) {
        if (plan_has_part(&p->workers[i], part)) {
            return &p->workers[i];
        }
    }
    return NULL;
}

const plan_worker *plan_audio_worker(const plan *p)
{
    return holder_of(p, PART_AUDIO);
}

const plan_worker *plan_vision_worker(const plan *p)
{
    return holder_of(p, PART_VISION);
}

const plan_worker *plan_talker_worker(const plan *p)
{
    return holder_of(p, PART_TALKER);
}

const plan_worker *plan_predictor_worker(const plan *p)
{
    return holder_of(p, PART_PREDICTOR);
}

const plan_worker *plan_code2wav_worker(const plan *p)
{
    return holder_of(p, PART_CODE2WAV);
}

int32_t plan_talker_owners(const plan *p, const plan_worker *owners[PLAN_WORKERS_MAX])
{
    const plan_worker *home = plan_talker_worker(p);
    int32_t n = 0;
    if (home == NULL) {
        return 0;
    }
    owners[n++] = home;
    for (int32_t i = 0; i < p->n_workers; i++) {
        if (&p->workers[i] != home && p->workers[i].n_talker_experts != 0) {
            owners[n++] = &p->workers[i];
        }
    }
    return n;
}

/* Validity */

/* Takes [first, first + n) behind *end; false unless it begins there and stays within `limit`. */
static bool takes_next(int64_t *end, int32_t first, int32_t n, int64_t limit)
{
    if (n == 0) {
        return true;
    }
    bool follows = n > 0 && first == *end && (int64_t)first + n <= limit;
    *end += n;
    return follows;
}

/* The workers of one stage: the same layers, and everything in them owned once, in rising ranges.
 */
static bool stage_is_valid(const plan *p, const model_config *m, int32_t stage, bool has_experts)
{
    const text_config *t = &m->text;
    const plan_worker *home = &p->workers[plan_stage_home(p, stage) - 1];
    int32_t size = plan_stage_size(p, stage);
    bool is_last = stage == p->n_stages - 1;
    int64_t expert = 0;
    int64_t kv_head = 0;
    int64_t row = 0;
    for (int32_t i = 0; i < size; i++) {
        const plan_worker *w = &home[i];
        bool sits = w->rank == plan_stage_home(p, stage) + i && w->stage == stage &&
                    w->place == i && w->first_layer == home->first_layer &&
                    w->n_layers == home->n_layers && w->has_embedding == (stage == 0 && i == 0) &&
                    w->has_final_norm == (is_last && i == 0);
        bool owns = takes_next(&expert, w->first_expert, w->n_experts, t->n_experts) &&
                    takes_next(&kv_head, w->first_kv_head, w->n_kv_heads, t->n_kv_heads) &&
                    takes_next(&row, w->first_vocab_row, w->n_vocab_rows, t->vocab_size);
        bool whole_grains = w->n_vocab_rows == 0 || w->first_vocab_row % LM_HEAD_GRAIN == 0;
        if (!sits || !owns || !whole_grains || (has_experts && w->n_experts < 1)) {
            return false;
        }
    }
    return expert == (has_experts ? t->n_experts : 0) && kv_head == t->n_kv_heads &&
           row == (is_last ? t->vocab_size : 0);
}

static int32_t n_holders(const plan *p, plan_part part)
{
    int32_t n = 0;
    for (int32_t i = 0; i < p->n_workers; i++) {
        n += plan_has_part(&p->workers[i], part);
    }
    return n;
}

/* Of the encoders, or of the parts of speech: those of the model each on one worker, or none. */
static bool parts_are_owned(const plan *p, const model_config *m, bool of_speech)
{
    bool owned = true;
    int32_t n_all = 0;
    for (int i = 0; i < PART_COUNT; i++) {
        plan_part part = (plan_part)i;
        if (plan_part_is_speech(part) == of_speech) {
            int32_t n = n_holders(p, part);
            owned = owned && n == plan_model_has_part(m, part);
            n_all += n;
        }
    }
    return owned || n_all == 0;
}

static bool pictures_are_bounded(const plan *p, const model_config *m)
{
    int64_t merge2 = (int64_t)m->vision.spatial_merge_size * m->vision.spatial_merge_size;
    int64_t most = p->vision_patches_max;
    if (plan_vision_worker(p) == NULL) {
        return most == 0;
    }
    return most >= merge2 && most <= INT32_MAX && most / merge2 <= p->kv_tokens &&
           most % merge2 == 0;
}

/* Every expert of the talker once, the home's first, the others' rising with the ranks. */
static bool talker_is_valid(const plan *p, const model_config *m)
{
    const plan_worker *owners[PLAN_WORKERS_MAX];
    int32_t n = plan_talker_owners(p, owners);
    if (n == 0) {
        for (int32_t i = 0; i < p->n_workers; i++) {
            if (p->workers[i].n_talker_experts != 0) {
                return false;
            }
        }
        return p->talker_tokens == 0;
    }
    int64_t expert = 0;
    for (int32_t i = 0; i < n; i++) {
        const plan_worker *w = owners[i];
        if (w->n_talker_experts < 1 || !takes_next(&expert, w->first_talker_expert,
                                                   w->n_talker_experts, m->talker.n_experts)) {
            return false;
        }
    }
    return expert == m->talker.n_experts && p->talker_tokens >= KV_BLOCK &&
           p->talker_tokens <= talker_tokens_max && p->talker_tokens % KV_BLOCK == 0;
}

bool plan_is_valid(const plan *p, const model_config *m)
{
    const text_config *t = &m->text;
    if (p->n_workers < 1 || p->n_workers > PLAN_WORKERS_MAX || p->n_stages < 1 ||
        p->n_stages > p->n_workers || p->kv_tokens < KV_BLOCK || p->kv_tokens % KV_BLOCK != 0) {
        return false;
    }
    bool has_experts = false;
    for (int32_t i = 0; i < t->n_layers; i++) {
        has_experts = has_experts || (t->layer_is_sparse[i] && t->n_experts > 0);
    }
    int64_t layer = 0;
    for (int32_t stage = 0; stage < p->n_stages; stage++) {
        const plan_worker *home = &p->workers[plan_stage_home(p, stage) - 1];
        if (home->n_layers < 1 ||
            !takes_next(&layer, home->first_layer, home->n_layers, t->n_layers) ||
            !stage_is_valid(p, m, stage, has_experts)) {
            return false;
        }
    }
    return layer == t->n_layers && parts_are_owned(p, m, false) && parts_are_owned(p, m, true) &&
           pictures_are_bounded(p, m) && talker_is_valid(p, m);
}

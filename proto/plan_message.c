/*
 * plan_message.c - field by field; what arrives is held against the rules of a plan before it is
 * used.
 */
#include "proto/plan_message.h"

#include <string.h>

static void worker_to_message(Flo__PlanWorker *m, const plan_worker *w)
{
    flo__plan_worker__init(m);
    m->rank = w->rank;
    m->stage = w->stage;
    m->place = w->place;
    m->first_layer = w->first_layer;
    m->n_layers = w->n_layers;
    m->first_expert = w->first_expert;
    m->n_experts = w->n_experts;
    m->first_kv_head = w->first_kv_head;
    m->n_kv_heads = w->n_kv_heads;
    m->first_vocab_row = w->first_vocab_row;
    m->n_vocab_rows = w->n_vocab_rows;
    m->has_embedding = w->has_embedding;
    m->has_final_norm = w->has_final_norm;
    m->has_audio_encoder = w->has_audio_encoder;
    m->has_vision_encoder = w->has_vision_encoder;
    m->has_talker = w->has_talker;
    m->first_talker_expert = w->first_talker_expert;
    m->n_talker_experts = w->n_talker_experts;
    m->has_code_predictor = w->has_code_predictor;
    m->has_code2wav = w->has_code2wav;
    m->weight_bytes = w->weight_bytes;
    m->kv_bytes = w->kv_bytes;
    m->work_bytes = w->work_bytes;
    m->memory_bytes = w->memory_bytes;
}

static void worker_from_message(plan_worker *w, const Flo__PlanWorker *m)
{
    *w = (plan_worker){
        .rank = m->rank,
        .stage = m->stage,
        .place = m->place,
        .first_layer = m->first_layer,
        .n_layers = m->n_layers,
        .first_expert = m->first_expert,
        .n_experts = m->n_experts,
        .first_kv_head = m->first_kv_head,
        .n_kv_heads = m->n_kv_heads,
        .first_vocab_row = m->first_vocab_row,
        .n_vocab_rows = m->n_vocab_rows,
        .has_embedding = m->has_embedding,
        .has_final_norm = m->has_final_norm,
        .has_audio_encoder = m->has_audio_encoder,
        .has_vision_encoder = m->has_vision_encoder,
        .has_talker = m->has_talker,
        .first_talker_expert = m->first_talker_expert,
        .n_talker_experts = m->n_talker_experts,
        .has_code_predictor = m->has_code_predictor,
        .has_code2wav = m->has_code2wav,
        .weight_bytes = m->weight_bytes,
        .kv_bytes = m->kv_bytes,
        .work_bytes = m->work_bytes,
        .memory_bytes = m->memory_bytes,
    };
}

void plan_to_message(Flo__Assignment *a, const plan *p, arena *memory)
{
    size_t n = (size_t)p->n_workers;
    Flo__PlanWorker *workers = arena_take(memory, n * sizeof *workers);
    a->workers = arena_take(memory, n * sizeof *a->workers);
    a->n_workers = n;
    a->n_stages = (uint32_t)p->n_stages;
    a->kv_tokens = p->kv_tokens;
    a->deterministic = p->deterministic;
    a->vision_patches_max = p->vision_patches_max;
    a->talker_tokens = p->talker_tokens;
    for (size_t i = 0; i < n; i++) {
        worker_to_message(&workers[i], &p->workers[i]);
        a->workers[i] = &workers[i];
    }
}

flo_code plan_from_message(plan *p, const Flo__Assignment *a, const model_config *m, flo_err *err)
{
    if (a->n_workers == 0 || a->n_workers > PLAN_WORKERS_MAX) {
        return flo_fail(err, FLO_FAIL, "the assignment names %zu workers", a->n_workers);
    }
    memset(p, 0, sizeof *p);
    p->n_workers = (int32_t)a->n_workers;
    p->n_stages = (int32_t)a->n_stages;
    p->kv_tokens = a->kv_tokens;
    p->deterministic = a->deterministic;
    p->vision_patches_max = a->vision_patches_max;
    p->talker_tokens = a->talker_tokens;
    for (size_t i = 0; i < a->n_workers; i++) {
        worker_from_message(&p->workers[i], a->workers[i]);
    }
    if (!plan_is_valid(p, m)) {
        return flo_fail(
            err, FLO_FAIL,
            "the assignment is no valid plan for this checkpoint; do all hosts see the same one?");
    }
    return FLO_OK;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Rows of a decoder between a home and the owners of its experts; deterministic: one of each pair
 * comes back. */
static size_t expert_rows_bytes(int32_t hidden_size, int32_t n_experts_per_token,
                                bool deterministic)
{
    size_t pairs = deterministic ? (size_t)n_experts_per_token : 1;
    return STEP_ROWS_MAX * (size_t)hidden_size * sizeof(float) * larger(pairs, 1);
}

/* Text and hidden states for the talker are no more than a step's rows; what is left are its rows
 * for experts, frames on their way to the predictor and back, and what the coordinator is told. */
static size_t speech_payload_bytes(const model_config *m, bool deterministic)
{
    const talker_config *t = &m->talker;
    size_t frames = 2 * SPEAKERS_MAX * (size_t)t->hidden_size * sizeof(float);
    size_t codes = larger((size_t)t->vocab_size, (size_t)m->code_predictor.vocab_size);
    size_t told = larger(SPEECH_PART_BYTES, larger(codes, (size_t)t->n_experts) * sizeof(float));
    size_t rows = expert_rows_bytes(t->hidden_size, t->n_experts_per_token, deterministic);
    return larger(larger(frames, told), rows);
}

size_t plan_payload_bytes_max(const model_config *m, const plan *p)
{
    const text_config *t = &m->text;
    size_t n_deep = m->has_vision ? (size_t)m->vision.n_deepstack : 0;
    size_t rows = STEP_ROWS_MAX * (size_t)t->hidden_size * sizeof(float) * (1 + n_deep);
    size_t logits = HEAD_ROWS_MAX * (size_t)t->vocab_size * sizeof(float);
    size_t wide = STEP_ROWS_MAX * (size_t)(t->n_experts > 0 ? t->n_experts : 1) * sizeof(float);
    size_t experts = expert_rows_bytes(t->hidden_size, t->n_experts_per_token, p->deterministic);
    size_t speech = p->talker_tokens > 0 ? speech_payload_bytes(m, p->deterministic) : 0;
    return larger(larger(rows, logits), larger(larger(wide, experts), speech));
}

size_t plan_encode_part_bytes(const model_config *m, const plan *p)
{
    size_t most = plan_payload_bytes_max(m, p) / 4 * 4;
    return most < ENCODE_PART_BYTES ? most : ENCODE_PART_BYTES;
}

/*
 * plan_work.c - what a worker holds beside weights and KV cache, and what the coordinator holds:
 * buffers of steps and messages, and the regions of encoders and of speech.
 */
#include "common/check.h"
#include "common/options.h"
#include "common/plan_parts.h"
#include "common/speech_cost.h"

enum {
    HEADER_BYTES = 64 << 10,             /* of a message, beside its rows */
    LIST_BYTES = (1 << 20) + (64 << 10), /* of messages, and what lines of 64 bytes leave over */
    LOGIT_BYTES =
        20, /* in its row, and as id, value and both together in a shortlist of them all */
    LOGIT_MESSAGE_BYTES = 9,          /* the same in a message: id and value, packed */
    MESSAGES_OUT = 16,                /* that may be under way at a time */
    SPEECH_FRAMES = 4096,             /* of an answer, unless more are asked for */
    THREAD_SCRATCH_BYTES = 256 << 10, /* scores, quantised rows and the like of one thread */
};

static bool has_dense_layer(const text_config *t)
{
    for (int32_t i = 0; i < t->n_layers; i++) {
        if (!t->layer_is_sparse[i]) {
            return true;
        }
    }
    return false;
}

typedef struct term_list {
    plan_work_term *terms;
    int32_t n;
} term_list;

static void term(term_list *l, const char *name, uint64_t n_bytes)
{
    if (n_bytes > 0) {
        CHECK(l->n < PLAN_WORK_TERMS_MAX);
        l->terms[l->n++] = (plan_work_term){name, n_bytes};
    }
}

/* f32 [STEP_ROWS_MAX][width] */
static uint64_t rows_bytes(int64_t width)
{
    return plan_buffer_bytes(STEP_ROWS_MAX, width, sizeof(float));
}

/* What the home computes in: one layer at a time, so nothing here grows with the layers. */
static void home_terms(term_list *l, const model_config *m)
{
    const text_config *t = &m->text;
    int64_t h = t->hidden_size;
    term(l, "hidden rows", rows_bytes(h));
    term(l, "normed rows", rows_bytes(h));
    term(l, "queries", rows_bytes((int64_t)t->n_heads * t->head_dim));
    term(l, "keys and values", rows_bytes((int64_t)t->n_kv_heads * t->head_dim * 2));
    term(l, "attention out", rows_bytes((int64_t)t->n_heads * t->head_dim));
    term(l, "block result", rows_bytes(h));
    term(l, "cosines and sines", rows_bytes(t->head_dim));
    term(l, "router", rows_bytes((int64_t)t->n_experts + 4 * (int64_t)t->n_experts_per_token));
    if (has_dense_layer(t)) {
        int64_t padded = ((int64_t)t->dense_size + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
        term(l, "dense gate and up", rows_bytes(2 * padded));
        term(l, "dense products", rows_bytes(t->dense_size));
        term(l, "dense rows", rows_bytes(2 * h));
    }
    if (m->has_vision) {
        term(l, "deep-stack rows", rows_bytes((int64_t)m->vision.n_deepstack * h));
    }
}

/* Rows grouped by owned expert: a token's row is there once for each of its experts that lives
 * here. Gate and up are whole panels of 64 columns. */
static void expert_terms(term_list *l, const text_config *t, int32_t n_owned)
{
    int64_t copies = n_owned < t->n_experts_per_token ? n_owned : t->n_experts_per_token;
    int64_t padded = ((int64_t)t->expert_size + PANEL_ROWS - 1) / PANEL_ROWS * PANEL_ROWS;
    term(l, "grouped rows", rows_bytes(copies * t->hidden_size));
    term(l, "grouped gate and up", rows_bytes(2 * copies * padded));
    term(l, "grouped products", rows_bytes(copies * t->expert_size));
    term(l, "grouped results", rows_bytes(copies * t->hidden_size));
    term(l, "results by row", rows_bytes(copies * t->hidden_size));
}

/* Slots that messages are packed into and arrive in. */
static void message_terms(term_list *l, const plan_request *r, const plan_worker *w)
{
    const model_config *m = r->model;
    const text_config *t = &m->text;
    int64_t h = t->hidden_size;
    int32_t n_stages = plan_request_stages(r);
    int64_t n_peers = plan_dealt_size(r->n_workers, n_stages, w->stage) - 1;
    int64_t n_deep = m->has_vision ? m->vision.n_deepstack : 0;
    int64_t k = t->n_experts_per_token;
    int64_t copies = r->deterministic ? k : 1;
    term(l, "lists", plan_add(LIST_BYTES, rows_bytes(4 * (k + 2))));
    if (w->place == 0) {
        if (t->n_experts > 0) {
            term(l, "choices of each worker",
                 plan_times((uint64_t)(n_peers + 1), rows_bytes(5 + 2 * k)));
        }
        term(l, "results of peers", n_peers > 0 ? rows_bytes(k * h) : 0);
        uint64_t activations = plan_add(rows_bytes(h * (1 + n_deep)), HEADER_BYTES);
        term(l, "activations in", plan_times(2, activations));
        term(l, "activations out", w->stage < n_stages - 1 ? activations : 0);
        uint64_t choice = plan_add(rows_bytes(2 * k), HEADER_BYTES);
        term(l, "expert rows out", plan_buffer_bytes(n_peers, 1, plan_add(rows_bytes(h), choice)));
        term(l, "expert rows back",
             plan_buffer_bytes(n_peers, 1, plan_add(rows_bytes(h * copies), HEADER_BYTES)));
    } else {
        term(l, "expert rows in", plan_times(2, plan_add(rows_bytes(h), HEADER_BYTES)));
        term(l, "expert rows out", plan_add(rows_bytes(h * copies), HEADER_BYTES));
    }
    if (w->stage == n_stages - 1) { /* computed, and in the message that carries them */
        term(l, "rows for the LM head", rows_bytes(h));
        /* Each row of the vocabulary costs every owner the same: plan.c deals them by that price.
         */
        term(
            l, "logits",
            plan_buffer_bytes(PLAN_LOGIT_ROWS, w->n_vocab_rows, LOGIT_BYTES + LOGIT_MESSAGE_BYTES));
        if (w->place == 0) { /* ids, values, sums of grains, and a sort of two */
            term(l, "logits merged",
                 plan_buffer_bytes(4 * PLAN_LOGIT_ROWS + 2, t->vocab_size, sizeof(float)));
            term(l, "logits out",
                 plan_buffer_bytes(PLAN_LOGIT_ROWS, t->vocab_size, LOGIT_MESSAGE_BYTES));
        }
    }
}

/* Jobs, and the messages that bring their input and carry their results. */
static void encoder_terms(term_list *l, const plan_request *r, const plan_worker *w)
{
    const model_config *m = r->model;
    if (w->has_audio_encoder) {
        term(l, "sounds", plan_audio_region_bytes(&m->audio));
    }
    if (w->has_vision_encoder) {
        int64_t patches = plan_vision_patches_max(r, r->kv_tokens);
        term(l, "pictures", plan_vision_region_bytes(&m->vision, patches));
    }
    if (w->has_audio_encoder || w->has_vision_encoder) {
        int64_t n_deep = m->has_vision ? m->vision.n_deepstack : 0;
        int64_t row = (int64_t)m->text.hidden_size * (1 + n_deep);
        uint64_t part = plan_add(plan_buffer_bytes(row, 1, sizeof(float)), EMBEDDINGS_PART_BYTES);
        term(l, "media in", ENCODE_PART_BYTES);
        term(l, "embeddings out",
             plan_times(part < rows_bytes(row) ? part : rows_bytes(row), MESSAGES_OUT));
    }
}

/* --- speech -----------------------------------------------------------------------------------
 */

/* The home's own memory, the text and hidden states that come for it, and (as far as its experts
 * are elsewhere) what goes to their workers and comes back: a row goes to no more of them than it
 * has experts. */
static void talker_home_terms(term_list *l, const plan_request *r, const plan_worker *w)
{
    const talker_config *t = &r->model->talker;
    int32_t elsewhere = t->n_experts - w->n_talker_experts;
    int32_t others = r->n_workers - 1;
    uint64_t n_peers = (uint64_t)(elsewhere < others ? elsewhere : others);
    uint64_t k = (uint64_t)t->n_experts_per_token;
    uint64_t routed = plan_times(n_peers < k ? n_peers : k, rows_bytes(t->hidden_size));
    uint64_t each = plan_add(rows_bytes(2 * t->n_experts_per_token), HEADER_BYTES);
    uint64_t back = r->deterministic ? plan_times(k, rows_bytes(t->hidden_size)) : routed;
    term(l, "talker", plan_talker_region_bytes(r->model, plan_talker_tokens(r->kv_tokens)));
    term(l, "talker rows in",
         plan_times(2, plan_add(rows_bytes(t->thinker_hidden_size), HEADER_BYTES)));
    if (n_peers > 0) {
        term(l, "talker rows to peers",
             plan_add(plan_add(routed, back), plan_times(2 * n_peers, each)));
    }
}

/* Experts of the talker without its home: as those of the thinker on a worker that is no home. */
static void talker_expert_terms(term_list *l, const plan_request *r, const plan_worker *w)
{
    text_config layers;
    model_talker_layers(&layers, &r->model->talker);
    int64_t copies = r->deterministic ? layers.n_experts_per_token : 1;
    expert_terms(l, &layers, w->n_talker_experts);
    uint64_t in = rows_bytes(layers.hidden_size), out = plan_times((uint64_t)copies, in);
    term(l, "talker rows in", plan_times(2, plan_add(in, HEADER_BYTES)));
    term(l, "talker rows out", plan_add(out, HEADER_BYTES));
}

static void speech_terms(term_list *l, const plan_request *r, const plan_worker *w)
{
    const model_config *m = r->model;
    if (plan_wants_part(r, PART_TALKER)) {
        term(l, "talker lists", rows_bytes(4 * ((int64_t)m->talker.n_experts_per_token + 2)));
        /* embeddings or hidden states, where the stage has what the talker listens to */
        uint64_t rows = plan_add(rows_bytes(m->text.hidden_size), HEADER_BYTES);
        term(l, "rows for the talker", w->place == 0 ? rows : 0);
    }
    if (w->has_talker) {
        talker_home_terms(l, r, w);
    } else if (w->n_talker_experts > 0) {
        talker_expert_terms(l, r, w);
    }
    if (w->has_code_predictor) {
        uint64_t rows =
            plan_buffer_bytes(2 * SPEAKERS_MAX, m->code_predictor.hidden_size, sizeof(float));
        term(l, "code predictor", plan_predictor_region_bytes(&m->code_predictor));
        term(l, "frames in and out", plan_times(2, plan_add(rows, HEADER_BYTES)));
    }
    if (w->has_code2wav) {
        uint64_t sound =
            plan_times((uint64_t)code2wav_rate(&m->code2wav), VOCODER_FRAMES_MAX * sizeof(float));
        term(l, "vocoder", plan_code2wav_region_bytes(&m->code2wav));
        term(l, "sound out", plan_times(plan_add(sound, HEADER_BYTES), MESSAGES_OUT));
    }
}

int32_t plan_work_terms(plan_work_term terms[PLAN_WORK_TERMS_MAX], const plan_request *r,
                        const plan_worker *w)
{
    term_list l = {.terms = terms};
    if (w->place == 0) {
        home_terms(&l, r->model);
    }
    if (w->n_experts > 0) {
        expert_terms(&l, &r->model->text, w->n_experts);
    }
    message_terms(&l, r, w);
    encoder_terms(&l, r, w);
    speech_terms(&l, r, w);
    term(&l, "load staging", PLAN_STAGING_BYTES);
    int32_t n_threads = r->workers != NULL && w->rank >= 1 ? r->workers[w->rank - 1].n_threads : 0;
    term(&l, "threads", plan_buffer_bytes(n_threads, 1, THREAD_SCRATCH_BYTES));
    return l.n;
}

uint64_t plan_work_bytes(const plan_request *r, const plan_worker *w)
{
    plan_work_term terms[PLAN_WORK_TERMS_MAX];
    int32_t n = plan_work_terms(terms, r, w);
    uint64_t sum = 0;
    for (int32_t i = 0; i < n; i++) {
        sum = plan_add(sum, terms[i].n_bytes);
    }
    return sum;
}

/* A picture as it is decoded (4 bytes a pixel), as RGB, and resized. */
static uint64_t preparation_bytes(const plan *p, const plan_request *r)
{
    int64_t pixels = r->media_pixels_max > 0 ? r->media_pixels_max : MEDIA_PIXELS_MAX;
    const vision_config *v = &r->model->vision;
    uint64_t resized =
        plan_buffer_bytes(p->vision_patches_max, 3 * (int64_t)v->patch_size * v->patch_size, 1);
    return plan_vision_worker(p) != NULL ? plan_add(plan_buffer_bytes(pixels, 4 + 3, 1), resized)
                                         : 0;
}

/* Sound (16 bit) and codes of all answers that are spoken at a time: as many frames as the talker
 * has room for, or SPEAKERS_MAX answers of the default length. */
static uint64_t sound_bytes(const plan *p, const plan_request *r)
{
    int64_t longest = (int64_t)SPEAKERS_MAX * SPEECH_FRAMES;
    int64_t frames = p->talker_tokens < longest ? p->talker_tokens : longest;
    uint64_t codes = (uint64_t)r->model->talker.n_code_groups * sizeof(int32_t);
    uint64_t samples = plan_times((uint64_t)code2wav_rate(&r->model->code2wav), sizeof(int16_t));
    return frames > 0 ? plan_times(plan_add(samples, codes), (uint64_t)frames) : 0;
}

uint64_t plan_coordinator_bytes(const plan *p, const plan_request *r)
{
    const text_config *t = &r->model->text;
    uint64_t vocabulary =
        plan_buffer_bytes(t->vocab_size, 256, 1); /* tokens, merges, their indexes */
    uint64_t logits = plan_buffer_bytes(PLAN_LOGIT_ROWS, t->vocab_size, 2 * sizeof(float));
    uint64_t text =
        plan_add(plan_add(vocabulary, logits), plan_times(4, rows_bytes(t->hidden_size)));
    uint64_t media = plan_add(plan_encoder_cache_bytes(r->model, p), preparation_bytes(p, r));
    return plan_add(plan_add(text, media), sound_bytes(p, r));
}

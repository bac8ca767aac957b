/*
 * fuzz_plan.c - plans for any shapes, workers and limits keep every limit and own each part once;
 * plans of any contents can be held against plan_is_valid.
 */
#include "common/plan.h"

#include <stdlib.h>
#include <string.h>

typedef struct input {
    const uint8_t *data;
    size_t n_bytes;
} input;

static uint64_t take(input *in, size_t n_bytes)
{
    uint64_t value = 0;
    n_bytes = n_bytes < in->n_bytes ? n_bytes : in->n_bytes;
    memcpy(&value, in->data, n_bytes);
    in->data += n_bytes;
    in->n_bytes -= n_bytes;
    return value;
}

/* A positive number, small ones as likely as large ones. */
static int32_t size(input *in)
{
    uint32_t bits = (uint32_t)take(in, 1) % 31;
    return (int32_t)(1 + (take(in, 4) & ((1u << bits) - 1)));
}

static void require(int condition)
{
    if (!condition) {
        abort();
    }
}

static void take_encoders(model_config *m, input *in)
{
    uint64_t has = take(in, 1);
    m->has_audio = has & 1;
    m->has_vision = (has >> 1) & 1;
    m->audio = (audio_config){.n_mel_bins = size(in),
                              .d_model = size(in),
                              .n_layers = 1 + (int32_t)(take(in, 1) % 32),
                              .ffn_dim = size(in),
                              .n_window = 1 + (int32_t)take(in, 2),
                              .downsample_hidden_size = size(in),
                              .output_dim = size(in)};
    m->audio.n_window_infer = 2 * m->audio.n_window * (1 + (int32_t)(take(in, 1) % 16));
    m->vision = (vision_config){.depth = 1 + (int32_t)(take(in, 1) % 32),
                                .hidden_size = size(in),
                                .n_heads = size(in),
                                .intermediate_size = size(in),
                                .in_channels = 3,
                                .patch_size = 1 + (int32_t)(take(in, 2) % 1024),
                                .temporal_patch_size = 1 + (int32_t)(take(in, 1) % 64),
                                .spatial_merge_size = 1 + (int32_t)(take(in, 1) % 64),
                                .out_hidden_size = size(in),
                                .n_position_embeddings = size(in),
                                .n_deepstack = (int32_t)(take(in, 1) % MODEL_DEEPSTACK_MAX)};
}

/* The same, as far as model_config.c lets a size be. */
static int32_t width(input *in)
{
    return 1 + size(in) % (1 << 20);
}

static void take_speech(model_config *m, input *in)
{
    uint64_t has = take(in, 1);
    m->has_talker = has & 1;
    m->has_code2wav = (has >> 1) & 1;
    m->talker = (talker_config){.vocab_size = width(in),
                                .hidden_size = width(in),
                                .n_layers = 1 + (int32_t)(take(in, 1) % 32),
                                .n_heads = width(in),
                                .n_kv_heads = width(in),
                                .head_dim = width(in),
                                .n_experts = 1 + (int32_t)(take(in, 1) % 40),
                                .expert_size = width(in),
                                .shared_expert_size = width(in),
                                .projection_size = width(in),
                                .thinker_hidden_size = width(in),
                                .n_code_groups = 2 + (int32_t)(take(in, 1) % 63)};
    m->talker.n_experts_per_token = 1 + (int32_t)(take(in, 1) % (uint64_t)m->talker.n_experts);
    m->code_predictor = (code_predictor_config){.vocab_size = width(in),
                                                .hidden_size = width(in),
                                                .n_layers = 1 + (int32_t)(take(in, 1) % 32),
                                                .n_heads = width(in),
                                                .n_kv_heads = width(in),
                                                .head_dim = width(in),
                                                .intermediate_size = width(in),
                                                .n_code_groups = m->talker.n_code_groups};
    code2wav_config *v = &m->code2wav;
    *v = (code2wav_config){.codebook_size = width(in),
                           .n_quantizers = m->talker.n_code_groups,
                           .hidden_size = width(in),
                           .n_layers = 1 + (int32_t)(take(in, 1) % 32),
                           .n_heads = width(in),
                           .n_kv_heads = width(in),
                           .head_dim = width(in),
                           .intermediate_size = width(in),
                           .sliding_window = width(in),
                           .n_upsample_rates = 1 + (int32_t)(take(in, 1) % 4),
                           .n_upsampling_ratios = 1 + (int32_t)(take(in, 1) % 4)};
    v->decoder_dim = width(in) << v->n_upsample_rates;
    for (int32_t i = 0; i < MODEL_UPSAMPLES_MAX; i++) {
        v->upsample_rates[i] = 1 + (int32_t)(take(in, 1) % 4);
        v->upsampling_ratios[i] = 1 + (int32_t)(take(in, 1) % 4);
    }
}

static void take_model(model_config *m, input *in)
{
    memset(m, 0, sizeof *m);
    text_config *t = &m->text;
    t->n_layers = 1 + (int32_t)(take(in, 1) % 24);
    t->n_experts = (int32_t)(take(in, 1) % 40);
    t->n_experts_per_token =
        t->n_experts > 0 ? 1 + (int32_t)(take(in, 1) % (uint64_t)t->n_experts) : 0;
    t->vocab_size = size(in);
    t->hidden_size = size(in);
    t->n_heads = size(in);
    t->n_kv_heads = size(in);
    t->head_dim = size(in);
    t->expert_size = size(in);
    t->dense_size = size(in);
    take_encoders(m, in);
    take_speech(m, in);
    uint64_t sparse = take(in, 3);
    for (int32_t i = 0; i < t->n_layers; i++) {
        t->layer_is_sparse[i] = t->n_experts > 0 && ((sparse >> i) & 1) != 0;
    }
}

static void take_workers(plan_worker_facts *facts, int32_t n, input *in)
{
    for (int32_t i = 0; i < n; i++) {
        memset(&facts[i], 0, sizeof facts[i]);
        facts[i].host[0] = (char)('a' + take(in, 1) % 3);
        facts[i].memory_bytes = take(in, 8) >> (take(in, 1) % 64);
        facts[i].n_threads = (int32_t)(take(in, 1) % 9);
        float gb = 0;
        uint32_t bits = (uint32_t)take(in, 4);
        memcpy(&gb, &bits, sizeof gb);
        facts[i].read_gb_per_s = (double)gb;
    }
}

static void check_made(const plan *p, const plan_request *r)
{
    require(plan_is_valid(p, r->model));
    for (int32_t i = 0; i < p->n_workers; i++) {
        const plan_worker *w = &p->workers[i];
        uint64_t bytes = w->weight_bytes + w->kv_bytes + w->work_bytes;
        require(w->memory_bytes == 0 || bytes <= w->memory_bytes);
        require(w->time_share >= 0.0 && w->time_share <= 1.0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    static model_config m;
    static plan_worker_facts facts[16];
    static plan p;
    input in = {data, n_bytes};
    plan_misfit misfit = {0};
    flo_err err = {""};
    take_model(&m, &in);
    plan_request r = {.model = &m, .n_workers = 1 + (int32_t)(take(&in, 1) % 16), .workers = facts};
    r.n_stages = (int32_t)(take(&in, 1) % 18);
    r.kv_tokens = (take(&in, 1) & 1) != 0 ? (int64_t)take(&in, 4) : 0;
    r.deterministic = take(&in, 1) & 1;
    static const char *const hosts[] = {NULL, NULL, "a", "b", "c", "d"};
    uint64_t media = take(&in, 2);
    r.no_media = media % 4 == 0;
    r.audio_host = hosts[(media >> 2) % 6];
    r.vision_host = hosts[(media >> 5) % 6];
    uint64_t speech = take(&in, 3);
    r.no_speech = speech % 4 == 0;
    r.talker_host = hosts[(speech >> 2) % 6];
    r.predictor_host = hosts[(speech >> 5) % 6];
    r.code2wav_host = hosts[(speech >> 8) % 6];
    r.talker_workers = (speech & 1 << 11) != 0 ? (int32_t)((speech >> 12) % 20) - 1 : 0;
    r.vision_patches_max = (media & 1 << 12) != 0 ? (int64_t)take(&in, 8) : 0;
    take_workers(facts, r.n_workers, &in);
    flo_code code = plan_make(&p, &r, &misfit, &err);
    require(code == FLO_OK || code == FLO_USAGE || code == FLO_DIFFERS);
    require(code == FLO_OK || err.text[0] != '\0');
    require(code != FLO_DIFFERS || (misfit.missing_bytes > 0 && misfit.rank >= 1));
    if (code == FLO_OK) {
        check_made(&p, &r);
    }

    size_t n = in.n_bytes < sizeof p ? in.n_bytes : sizeof p;
    memset(&p, 0, sizeof p);
    memcpy(&p, in.data, n / 4 * 4);
    for (int32_t i = 0; i < PLAN_WORKERS_MAX; i++) { /* a bool of 7 is not a plan's fault */
        memset(&p.workers[i].has_embedding, 0, sizeof(bool));
        memset(&p.workers[i].has_final_norm, 0, sizeof(bool));
        memset(&p.workers[i].has_audio_encoder, 0, sizeof(bool));
        memset(&p.workers[i].has_vision_encoder, 0, sizeof(bool));
        memset(&p.workers[i].has_talker, 0, sizeof(bool));
        memset(&p.workers[i].has_code_predictor, 0, sizeof(bool));
        memset(&p.workers[i].has_code2wav, 0, sizeof(bool));
    }
    plan_is_valid(&p, &m);
    return 0;
}

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plan_fixture.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

plan_worker_facts facts[PLAN_WORKERS_MAX];
plan p, again;
plan_misfit misfit;
flo_err err;

model_config small_model(int32_t n_layers, int32_t n_experts)
{
    model_config m;
    memset(&m, 0, sizeof m);
    m.text = (text_config){.vocab_size = 5000,
                           .hidden_size = 64,
                           .n_layers = n_layers,
                           .n_heads = 4,
                           .n_kv_heads = 2,
                           .head_dim = 32,
                           .n_experts = n_experts,
                           .n_experts_per_token = n_experts > 2 ? 2 : n_experts,
                           .expert_size = 48,
                           .dense_size = 128};
    for (int32_t i = 0; i < n_layers; i++) {
        m.text.layer_is_sparse[i] = n_experts > 0;
    }
    return m;
}

/* The shapes of the published 30B model. */
model_config published_model(void)
{
    model_config m = small_model(48, 128);
    m.text.vocab_size = 152064;
    m.text.hidden_size = 2048;
    m.text.n_heads = 32;
    m.text.n_kv_heads = 4;
    m.text.head_dim = 128;
    m.text.n_experts_per_token = 8;
    m.text.expert_size = 768;
    m.text.dense_size = 768;
    m.has_audio = m.has_vision = true;
    m.audio = (audio_config){.n_mel_bins = 128,
                             .d_model = 1280,
                             .n_layers = 32,
                             .n_heads = 20,
                             .ffn_dim = 5120,
                             .n_window = 50,
                             .n_window_infer = 800,
                             .downsample_hidden_size = 480,
                             .output_dim = 2048};
    m.vision = (vision_config){.depth = 27,
                               .hidden_size = 1152,
                               .n_heads = 16,
                               .intermediate_size = 4304,
                               .in_channels = 3,
                               .patch_size = 16,
                               .temporal_patch_size = 2,
                               .spatial_merge_size = 2,
                               .out_hidden_size = 2048,
                               .n_position_embeddings = 2304,
                               .n_deepstack = 3,
                               .deepstack_layers = {8, 16, 24}};
    m.has_talker = m.has_code2wav = true;
    m.talker = (talker_config){.vocab_size = 3072,
                               .hidden_size = 1024,
                               .n_layers = 20,
                               .n_heads = 16,
                               .n_kv_heads = 2,
                               .head_dim = 128,
                               .n_experts = 128,
                               .n_experts_per_token = 6,
                               .expert_size = 384,
                               .shared_expert_size = 768,
                               .projection_size = 2048,
                               .thinker_hidden_size = 2048,
                               .accept_hidden_layer = 24,
                               .n_code_groups = 16};
    m.code_predictor = (code_predictor_config){.vocab_size = 2048,
                                               .hidden_size = 1024,
                                               .n_layers = 5,
                                               .n_heads = 16,
                                               .n_kv_heads = 8,
                                               .head_dim = 128,
                                               .intermediate_size = 3072,
                                               .n_code_groups = 16};
    m.code2wav = (code2wav_config){.codebook_size = 2048,
                                   .n_quantizers = 16,
                                   .hidden_size = 1024,
                                   .n_layers = 8,
                                   .n_heads = 16,
                                   .n_kv_heads = 16,
                                   .head_dim = 64,
                                   .intermediate_size = 3072,
                                   .sliding_window = 72,
                                   .decoder_dim = 1536,
                                   .n_upsample_rates = 4,
                                   .n_upsampling_ratios = 2,
                                   .upsample_rates = {8, 5, 4, 3},
                                   .upsampling_ratios = {2, 2}};
    return m;
}

plan_request equal_workers(const model_config *m, int32_t n_workers, int32_t n_stages,
                           uint64_t memory_bytes)
{
    for (int32_t i = 0; i < PLAN_WORKERS_MAX; i++) {
        facts[i] = (plan_worker_facts){.memory_bytes = memory_bytes, .n_threads = 2};
        snprintf(facts[i].host, sizeof facts[i].host, "h%d", i);
    }
    return (plan_request){.model = m,
                          .n_workers = n_workers,
                          .workers = facts,
                          .n_stages = n_stages,
                          .no_media = true,
                          .no_speech = true};
}

plan_request with_media(plan_request r)
{
    r.no_media = false;
    return r;
}

plan_request with_speech(plan_request r)
{
    r.no_speech = false;
    return r;
}

plan_request with_all(plan_request r)
{
    return with_speech(with_media(r));
}

static uint64_t total_of(const plan_worker *w)
{
    return w->weight_bytes + w->kv_bytes + w->work_bytes;
}

void check_within_limits(const plan_request *r)
{
    assert_true(plan_is_valid(&p, r->model));
    plan_request settled = *r;
    settled.kv_tokens = p.kv_tokens;
    double shares = 0.0;
    for (int32_t i = 0; i < p.n_workers; i++) {
        const plan_worker *w = &p.workers[i];
        assert_true(w->memory_bytes == r->workers[i].memory_bytes);
        assert_true(w->memory_bytes == 0 || total_of(w) <= w->memory_bytes);
        assert_true(w->work_bytes == plan_work_bytes(&settled, w));
        shares += w->time_share;
    }
    assert_true(fabs(shares - 1.0) < 1e-9);
}

static uint64_t n_parameters[COMPONENT_COUNT];

static void count_parameters(void *arg, const expected_tensor *t)
{
    (void)arg;
    uint64_t n = 1;
    for (int32_t i = 0; i < t->n_dims; i++) {
        n *= (uint64_t)t->shape[i];
    }
    n_parameters[t->component] += n;
}

uint64_t parameters_of(const model_config *m, model_component part)
{
    memset(n_parameters, 0, sizeof n_parameters);
    model_tensors_each(m, NULL, count_parameters, NULL);
    return n_parameters[part];
}

int32_t rank_of(const plan_worker *w)
{
    return w != NULL ? w->rank : 0;
}

/*
 * check_plan_message.c - a plan arrives as it was sent, packed and unpacked by protobuf, and a
 * message that is no plan of the model is refused whatever it holds.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/plan_message.h"

#include <stdlib.h>
#include <string.h>

static model_config model;
static plan sent, got;
static flo_err err;
static arena memory;

static void make_plan(int32_t n_workers, int32_t n_stages, bool deterministic)
{
    static plan_worker_facts facts[PLAN_WORKERS_MAX];
    plan_misfit misfit;
    memset(&model, 0, sizeof model);
    model.text = (text_config){.vocab_size = 5000,
                               .hidden_size = 64,
                               .n_layers = 9,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 32,
                               .n_experts = 8,
                               .n_experts_per_token = 2,
                               .expert_size = 48,
                               .dense_size = 128};
    for (int32_t i = 0; i < 9; i++) {
        model.text.layer_is_sparse[i] = i != 4;
    }
    model.has_audio = model.has_vision = true;
    model.audio = (audio_config){.n_mel_bins = 16,
                                 .d_model = 32,
                                 .n_layers = 2,
                                 .n_heads = 2,
                                 .ffn_dim = 48,
                                 .n_window = 50,
                                 .n_window_infer = 200,
                                 .downsample_hidden_size = 8,
                                 .output_dim = 64};
    model.vision = (vision_config){.depth = 2,
                                   .hidden_size = 32,
                                   .n_heads = 2,
                                   .intermediate_size = 48,
                                   .in_channels = 3,
                                   .patch_size = 16,
                                   .temporal_patch_size = 2,
                                   .spatial_merge_size = 2,
                                   .out_hidden_size = 64,
                                   .n_position_embeddings = 16,
                                   .n_deepstack = 1};
    model.has_talker = model.has_code2wav = true;
    model.talker = (talker_config){.vocab_size = 200,
                                   .hidden_size = 32,
                                   .n_layers = 3,
                                   .n_heads = 2,
                                   .n_kv_heads = 1,
                                   .head_dim = 16,
                                   .n_experts = 6,
                                   .n_experts_per_token = 2,
                                   .expert_size = 24,
                                   .shared_expert_size = 40,
                                   .projection_size = 48,
                                   .thinker_hidden_size = 64,
                                   .n_code_groups = 4};
    model.code_predictor = (code_predictor_config){.vocab_size = 100,
                                                   .hidden_size = 32,
                                                   .n_layers = 2,
                                                   .n_heads = 2,
                                                   .n_kv_heads = 2,
                                                   .head_dim = 16,
                                                   .intermediate_size = 48,
                                                   .n_code_groups = 4};
    model.code2wav = (code2wav_config){.codebook_size = 100,
                                       .n_quantizers = 4,
                                       .hidden_size = 32,
                                       .n_layers = 2,
                                       .n_heads = 2,
                                       .n_kv_heads = 2,
                                       .head_dim = 16,
                                       .intermediate_size = 48,
                                       .sliding_window = 8,
                                       .decoder_dim = 32,
                                       .n_upsample_rates = 2,
                                       .n_upsampling_ratios = 1,
                                       .upsample_rates = {4, 3},
                                       .upsampling_ratios = {2}};
    for (int32_t i = 0; i < n_workers; i++) {
        facts[i].memory_bytes = (uint64_t)5 << 40;
        facts[i].read_gb_per_s = 10 + i;
    }
    plan_request r = {.model = &model,
                      .n_workers = n_workers,
                      .workers = facts,
                      .n_stages = n_stages,
                      .kv_tokens = 1000,
                      .deterministic = deterministic,
                      .talker_workers = n_workers < 3 ? n_workers : 3};
    if (plan_make(&sent, &r, &misfit, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

/* The plan as an unpacked message; freed with flo__assignment__free_unpacked. */
static Flo__Assignment *travelled(void)
{
    Flo__Assignment a = FLO__ASSIGNMENT__INIT;
    arena_reset(&memory);
    plan_to_message(&a, &sent, &memory);
    size_t n = flo__assignment__get_packed_size(&a);
    uint8_t *bytes = malloc(n + 1);
    assert_non_null(bytes);
    assert_int_equal(flo__assignment__pack(&a, bytes), n);
    Flo__Assignment *back = flo__assignment__unpack(NULL, n, bytes);
    assert_non_null(back);
    free(bytes);
    return back;
}

static void a_plan_arrives_as_it_was_sent(void **state)
{
    (void)state;
    static const int32_t shapes[][2] = {{1, 1}, {3, 3}, {8, 1}, {7, 2}, {20, 5}, {72, 9}};
    for (int i = 0; i < 6; i++) {
        make_plan(shapes[i][0], shapes[i][1], i % 2 == 1);
        Flo__Assignment *a = travelled();
        memset(&got, 0xa5, sizeof got);
        assert_int_equal(plan_from_message(&got, a, &model, &err), FLO_OK);
        for (int32_t w = 0; w < sent.n_workers; w++) {
            sent.workers[w].time_share = 0; /* for people; it does not travel */
            assert_memory_equal(&got.workers[w], &sent.workers[w], sizeof sent.workers[w]);
        }
        assert_int_equal(got.n_workers, sent.n_workers);
        assert_int_equal(got.n_stages, sent.n_stages);
        assert_int_equal(got.kv_tokens, sent.kv_tokens);
        assert_int_equal(got.deterministic, sent.deterministic);
        assert_true(got.vision_patches_max == sent.vision_patches_max &&
                    got.vision_patches_max > 0);
        assert_true(got.talker_tokens == sent.talker_tokens && got.talker_tokens > 0);
        flo__assignment__free_unpacked(a, NULL);
    }
}

static void refuse(Flo__Assignment *a)
{
    assert_int_equal(plan_from_message(&got, a, &model, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "assignment"));
}

static void no_field_may_be_another(void **state)
{
    (void)state;
    static const int32_t values[] = {-1, INT32_MIN, INT32_MAX, 1000};
    make_plan(7, 2, false);
    Flo__Assignment *a = travelled();
    for (size_t w = 0; w < a->n_workers; w++) {
        Flo__PlanWorker *p = a->workers[w];
        int32_t *fields[] = {&p->rank,         &p->stage,           &p->place,     &p->first_layer,
                             &p->n_layers,     &p->first_expert,    &p->n_experts, &p->n_kv_heads,
                             &p->n_vocab_rows, &p->n_talker_experts};
        for (size_t f = 0; f < sizeof fields / sizeof fields[0]; f++) {
            int32_t before = *fields[f];
            for (int v = 0; v < 4; v++) {
                *fields[f] = values[v];
                refuse(a);
            }
            *fields[f] = before;
        }
        protobuf_c_boolean *flags[] = {&p->has_embedding,     &p->has_final_norm,
                                       &p->has_audio_encoder, &p->has_vision_encoder,
                                       &p->has_talker,        &p->has_code_predictor,
                                       &p->has_code2wav};
        for (size_t f = 0; f < sizeof flags / sizeof flags[0]; f++) {
            *flags[f] = !*flags[f];
            refuse(a);
            *flags[f] = !*flags[f];
        }
    }
    assert_int_equal(plan_from_message(&got, a, &model, &err), FLO_OK);
    flo__assignment__free_unpacked(a, NULL);
}

static void counts_are_held_to_the_model(void **state)
{
    (void)state;
    make_plan(4, 2, false);
    Flo__Assignment *a = travelled();
    static const uint32_t stages[] = {0, 1, 3, UINT32_MAX, 1u << 31};
    for (int i = 0; i < 5; i++) {
        a->n_stages = stages[i];
        refuse(a);
    }
    a->n_stages = 2;
    static const int64_t tokens[] = {-64, 0, 1, INT64_MIN, 1000};
    for (int i = 0; i < 5; i++) {
        a->kv_tokens = tokens[i];
        refuse(a);
    }
    a->kv_tokens = 1024;
    static const int64_t patches[] = {0, -4, 2, INT64_MIN, INT64_MAX};
    int64_t most = a->vision_patches_max;
    for (int i = 0; i < 5; i++) {
        a->vision_patches_max = patches[i];
        refuse(a);
    }
    a->vision_patches_max = most;
    int64_t talker_tokens = a->talker_tokens;
    for (int i = 0; i < 5; i++) {
        a->talker_tokens = tokens[i];
        refuse(a);
    }
    a->talker_tokens = talker_tokens;
    size_t n = a->n_workers;
    a->n_workers = 0;
    refuse(a);
    a->n_workers = 3;
    refuse(a);
    a->n_workers = n;
    assert_int_equal(plan_from_message(&got, a, &model, &err), FLO_OK);
    model.text.n_layers = 10; /* another checkpoint */
    model.text.layer_is_sparse[9] = true;
    refuse(a);
    model.text.n_layers = 9;
    model.text.vocab_size = 5001;
    refuse(a);
    flo__assignment__free_unpacked(a, NULL);
}

static void payloads_have_room_for_every_message(void **state)
{
    (void)state;
    make_plan(4, 1, false);
    size_t h = 64 * sizeof(float);
    size_t bound = plan_payload_bytes_max(&model, &sent);
    assert_true(bound >= STEP_ROWS_MAX * h);                    /* activations */
    assert_true(bound >= HEAD_ROWS_MAX * 5000 * sizeof(float)); /* whole rows of logits */
    assert_true(bound >= STEP_ROWS_MAX * 8 * sizeof(float));    /* a router's dump */
    assert_int_equal(plan_encode_part_bytes(&model, &sent), bound / 4 * 4);
    model.vision.n_deepstack = 3;
    assert_true(plan_payload_bytes_max(&model, &sent) >= STEP_ROWS_MAX * 4 * h);
    model.text.n_experts_per_token = 8;
    sent.deterministic = true;
    assert_true(plan_payload_bytes_max(&model, &sent) >= STEP_ROWS_MAX * 8 * h);
}

static int open_memory(void **state)
{
    (void)state;
    return arena_open(&memory, 1 << 20, &err) != FLO_OK;
}

static int close_memory(void **state)
{
    (void)state;
    arena_close(&memory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_arrives_as_it_was_sent),
        cmocka_unit_test(no_field_may_be_another),
        cmocka_unit_test(counts_are_held_to_the_model),
        cmocka_unit_test(payloads_have_room_for_every_message),
    };
    return cmocka_run_group_tests(tests, open_memory, close_memory);
}

/*
 * check_buffers.c - what a worker takes beside weights and cache is within what the plan reckons,
 * for the published shapes and for hundreds of drawn ones, on every worker of every split.
 *
 * What it takes: its buffers (worker/buffers.h), the slabs of the loader, and the transport's
 * buffers in use. The arenas' sums hold padding to lines of 64 bytes, and lists of a fixed size,
 * that the plan covers with its headers and its threads' scratch.
 */
#include "rig.h"

#include "worker/buffers.h"

#include <stdio.h>
#include <string.h>

enum { SLABS_BYTES = 2 << 20 }; /* of one thread of the loader */

static plan_worker_facts facts[64];
static plan the_plan;
static plan_misfit misfit;
static flo_err err;

static void hold(const model_config *m, int32_t n_workers, int32_t n_stages, bool deterministic)
{
    for (int32_t i = 0; i < n_workers; i++) {
        facts[i].n_threads = 2;
    }
    plan_request r = {.model = m,
                      .n_workers = n_workers,
                      .workers = facts,
                      .n_stages = n_stages,
                      .kv_tokens = 4096,
                      .deterministic = deterministic};
    if (plan_make(&the_plan, &r, &misfit, &err) != FLO_OK) {
        return; /* more workers than the shapes feed */
    }
    for (int32_t i = 0; i < n_workers; i++) {
        const plan_worker *w = &the_plan.workers[i];
        worker_buffers b = worker_buffers_of(m, &the_plan, w);
        uint64_t taken =
            b.messages + b.head + b.step + b.rows + b.sounds + b.pictures + 2 * SLABS_BYTES;
        if (taken > w->work_bytes) {
            fail_msg(
                "worker %d of %d in %d stages%s, hidden %d, experts %d x %d of %d, dense %d, "
                "vocabulary %d: takes %llu (messages %zu, head %zu, step %zu, rows %zu, sounds "
                "%zu, pictures %zu), "
                "planned are %llu",
                i, n_workers, n_stages, deterministic ? ", deterministic" : "", m->text.hidden_size,
                m->text.n_experts, m->text.expert_size, m->text.n_experts_per_token,
                m->text.dense_size, m->text.vocab_size, (unsigned long long)taken, b.messages,
                b.head, b.step, b.rows, b.sounds, b.pictures, (unsigned long long)w->work_bytes);
        }
    }
}

static void hold_splits(const model_config *m)
{
    for (int32_t workers = 1; workers <= 8; workers++) {
        for (int32_t stages = 1; stages <= workers; stages += 1 + stages / 3) {
            hold(m, workers, stages, workers % 2 == 0);
        }
    }
}

/* Encoders of the published shapes; what they take is drawn in check_encoders. */
static void with_encoders(model_config *m)
{
    m->has_audio = m->has_vision = true;
    m->audio = (audio_config){.n_mel_bins = 128,
                              .d_model = 1280,
                              .n_layers = 32,
                              .n_heads = 20,
                              .ffn_dim = 5120,
                              .n_window = 50,
                              .n_window_infer = 800,
                              .downsample_hidden_size = 480,
                              .output_dim = m->text.hidden_size};
    m->vision = (vision_config){.depth = 27,
                                .hidden_size = 1152,
                                .n_heads = 16,
                                .intermediate_size = 4304,
                                .in_channels = 3,
                                .patch_size = 16,
                                .temporal_patch_size = 2,
                                .spatial_merge_size = 2,
                                .out_hidden_size = m->text.hidden_size,
                                .n_position_embeddings = 2304,
                                .n_deepstack = 3,
                                .deepstack_layers = {8, 16, 24}};
}

static void the_published_shapes_are_covered(void **state)
{
    (void)state;
    model_config m = rig_model();
    m.text = (text_config){.vocab_size = 152064,
                           .hidden_size = 2048,
                           .n_layers = 48,
                           .n_heads = 32,
                           .n_kv_heads = 4,
                           .head_dim = 128,
                           .n_experts = 128,
                           .n_experts_per_token = 8,
                           .expert_size = 768,
                           .dense_size = 768};
    memset(m.text.layer_is_sparse, 1, 48);
    with_encoders(&m);
    hold_splits(&m);
    m.text.layer_is_sparse[7] = false;
    m.text.dense_size = 6144;
    hold_splits(&m);
}

static void drawn_shapes_are_covered(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 8, 33, 64, 100, 129, 300, 1000};
    uint64_t seed = 3;
    for (int32_t again = 0; again < 60; again++) {
        model_config m = rig_model();
        text_config *t = &m.text;
        t->hidden_size = sizes[rig_below(&seed, 8)];
        t->head_dim = 2 + 2 * rig_below(&seed, 40);
        t->n_kv_heads = 1 + rig_below(&seed, 4);
        t->n_heads = t->n_kv_heads * (1 + rig_below(&seed, 4));
        t->n_layers = 8;
        t->n_experts = again % 6 == 0 ? 0 : 1 + rig_below(&seed, 60);
        t->n_experts_per_token = t->n_experts > 0 ? 1 + rig_below(&seed, t->n_experts) : 0;
        t->expert_size = t->n_experts > 0 ? sizes[rig_below(&seed, 8)] : 0;
        t->dense_size = sizes[rig_below(&seed, 8)];
        t->vocab_size = 1 + rig_below(&seed, 20000);
        for (int32_t i = 0; i < 8; i++) {
            t->layer_is_sparse[i] = t->n_experts > 0 && (i == 0 || rig_below(&seed, 3) > 0);
        }
        with_encoders(&m);
        m.has_vision = again % 2 == 0;
        m.has_audio = again % 3 == 0;
        hold_splits(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_shapes_are_covered),
        cmocka_unit_test(drawn_shapes_are_covered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * check_job_bytes.c - what an encoder's job takes is within what the plan reckons, for the
 * published shapes and for drawn ones, and the plan is not far over it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/layout.h"
#include "common/plan.h"
#include "worker/encoders/audio_encoder.h"
#include "worker/encoders/vision_encoder.h"

static const vision_config published_vision = {.depth = 27,
                                               .hidden_size = 1152,
                                               .n_heads = 16,
                                               .intermediate_size = 4304,
                                               .in_channels = 3,
                                               .patch_size = 16,
                                               .temporal_patch_size = 2,
                                               .spatial_merge_size = 2,
                                               .out_hidden_size = 2048,
                                               .n_position_embeddings = 2304,
                                               .n_deepstack = 3};

static const audio_config published_audio = {.n_mel_bins = 128,
                                             .d_model = 1280,
                                             .n_layers = 32,
                                             .n_heads = 20,
                                             .ffn_dim = 5120,
                                             .n_window = 50,
                                             .n_window_infer = 800,
                                             .downsample_hidden_size = 480,
                                             .output_dim = 2048};

static uint64_t seed = 1;

static int32_t drawn(int32_t most)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return 1 + (int32_t)((seed >> 33) % (uint64_t)most);
}

static uint64_t lines(uint64_t n_bytes)
{
    return (n_bytes + 63) / 64 * 64;
}

static void hold(uint64_t taken, uint64_t planned)
{
    assert_true(taken <= planned);
    assert_true(planned <= taken + taken / 4 + (1 << 20));
}

/* Input, result and work of a temporal patch of as many pictures as there can be. */
static uint64_t vision_taken(const vision_config *v, int64_t n_patches)
{
    uint64_t pixels = (uint64_t)n_patches * (uint64_t)(v->patch_size * v->patch_size);
    uint64_t tokens =
        (uint64_t)n_patches / (uint64_t)(v->spatial_merge_size * v->spatial_merge_size);
    uint64_t row = (uint64_t)v->out_hidden_size * (uint64_t)(1 + v->n_deepstack);
    return lines(3 * pixels * (uint64_t)v->temporal_patch_size) +
           lines(tokens * row * sizeof(float)) + lines(vision_job_bytes(v, n_patches));
}

static void pictures_are_covered(void **state)
{
    (void)state;
    static const int64_t patches[] = {4, 8, 60, 64, 4096, 8160, 50176, 1000000};
    for (size_t i = 0; i < sizeof patches / sizeof patches[0]; i++) {
        hold(vision_taken(&published_vision, patches[i]),
             plan_vision_job_bytes(&published_vision, patches[i]));
    }
    for (int32_t round = 0; round < 2000; round++) {
        int32_t n_heads = drawn(12);
        vision_config v = {.depth = 1,
                           .hidden_size = n_heads * 4 * drawn(24),
                           .n_heads = n_heads,
                           .intermediate_size = drawn(3000),
                           .in_channels = 3,
                           .patch_size = drawn(32),
                           .temporal_patch_size = drawn(4),
                           .spatial_merge_size = drawn(5),
                           .out_hidden_size = drawn(1000),
                           .n_deepstack = drawn(4) - 1};
        int64_t unit = (int64_t)v.spatial_merge_size * v.spatial_merge_size;
        int64_t n_patches = unit * drawn(3000);
        hold(vision_taken(&v, n_patches), plan_vision_job_bytes(&v, n_patches));
    }
}

static uint64_t audio_taken(const audio_config *a)
{
    int32_t n_frames = AUDIO_JOB_WINDOWS * a->n_window_infer;
    uint64_t tokens = (uint64_t)audio_job_tokens(a, n_frames);
    return lines((uint64_t)a->n_mel_bins * (uint64_t)n_frames * sizeof(float)) +
           lines(tokens * (uint64_t)a->output_dim * sizeof(float)) + lines(audio_job_bytes(a));
}

static void sounds_are_covered(void **state)
{
    (void)state;
    hold(audio_taken(&published_audio), plan_audio_job_bytes(&published_audio));
    assert_true(plan_audio_region_bytes(&published_audio) <= (uint64_t)1 << 30);
    for (int32_t round = 0; round < 2000; round++) {
        int32_t n_heads = drawn(12), n_window = drawn(80);
        audio_config a = {.n_mel_bins = drawn(130),
                          .d_model = n_heads * 2 * drawn(40),
                          .n_layers = 1,
                          .n_heads = n_heads,
                          .ffn_dim = drawn(3000),
                          .n_window = n_window,
                          .n_window_infer = 2 * n_window * drawn(12),
                          .downsample_hidden_size = drawn(300),
                          .output_dim = drawn(1000)};
        hold(audio_taken(&a), plan_audio_job_bytes(&a));
    }
}

/* A picture of 12 megapixels in at most 3 GiB beside the weights, one megapixel in 0.5 GiB. */
static void large_pictures_take_no_more_than_they_may(void **state)
{
    (void)state;
    assert_true(plan_vision_job_bytes(&published_vision, 50176) <= (uint64_t)3 << 30);
    assert_true(plan_vision_job_bytes(&published_vision, 4096) <= (uint64_t)512 << 20);
}

static void the_largest_picture_has_room_for_a_megapixel_beside_it(void **state)
{
    (void)state;
    uint64_t region = plan_vision_region_bytes(&published_vision, 50176);
    assert_true(vision_taken(&published_vision, 50176) + vision_taken(&published_vision, 4096) <=
                region);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sounds_are_covered),
        cmocka_unit_test(pictures_are_covered),
        cmocka_unit_test(large_pictures_take_no_more_than_they_may),
        cmocka_unit_test(the_largest_picture_has_room_for_a_megapixel_beside_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

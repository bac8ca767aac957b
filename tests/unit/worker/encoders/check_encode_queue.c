/*
 * check_encode_queue.c - jobs begin in the order in which they were announced, two at most, and
 * only where their memory is free; neither who shares the region nor at which end of it a job lies
 * changes a bit of its result; what no encoder can compute is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/plan.h"
#include "worker/encoders/encode_queue.h"
#include "worker/kernels/kernels.h"

#include <stdlib.h>
#include <string.h>

enum { SMALL = 4, LARGE = 48 }; /* sides of grids, in patches */

static const vision_config vision = {.depth = 2,
                                     .hidden_size = 32,
                                     .n_heads = 2,
                                     .intermediate_size = 48,
                                     .in_channels = 3,
                                     .patch_size = 4,
                                     .temporal_patch_size = 2,
                                     .spatial_merge_size = 2,
                                     .out_hidden_size = 24,
                                     .n_position_embeddings = 16,
                                     .n_deepstack = 1,
                                     .deepstack_layers = {0}};
static const audio_config audio = {.n_mel_bins = 16,
                                   .d_model = 32,
                                   .n_layers = 1,
                                   .n_heads = 2,
                                   .ffn_dim = 48,
                                   .n_window = 50,
                                   .n_window_infer = 200,
                                   .downsample_hidden_size = 8,
                                   .output_dim = 24};

static vision_weights weights;
static thread_pool *pool;
static arena region;
static encode_queue queue;
static flo_err err;

static void open_queue(uint64_t region_bytes)
{
    queue = (encode_queue){.vision = &vision, .vision_weights = &weights};
    assert_true(region_bytes <= region.n_bytes);
    assert_int_equal(encode_queue_open(&queue, region.base, region_bytes, &err), FLO_OK);
}

/* A region for the largest picture of LARGE x LARGE and a small one beside it. */
static uint64_t usual_bytes(void)
{
    return plan_vision_job_bytes(&vision, LARGE * LARGE) +
           plan_vision_job_bytes(&vision, SMALL * SMALL);
}

static encode_order picture(uint64_t id, int32_t side)
{
    encode_order o = {.id = id, .n_frames = 1, .grid_h = side, .grid_w = side};
    for (int b = 0; b < 256; b++) {
        o.levels[0][b] = o.levels[1][b] = o.levels[2][b] = ((float)b - 127.5f) / 127.5f;
    }
    return o;
}

static void announce(uint64_t id, int32_t side)
{
    encode_order o = picture(id, side);
    assert_int_equal(encode_queue_announce(&queue, &o, &err), FLO_OK);
}

/* A picture's bytes follow from its id. */
static void fill(encode_job *j)
{
    while (j->input_here < j->input_bytes) {
        uint64_t first = j->input_here, left = j->input_bytes - first;
        uint64_t n = left < 1000 ? left : 1000;
        unsigned char *at = encode_job_input(j, first, n);
        assert_non_null(at);
        for (uint64_t i = 0; i < n; i++) {
            at[i] = (unsigned char)((first + i) * 31 + j->order.id * 57);
        }
    }
}

static encode_job *run_one(void)
{
    encode_job *j;
    do {
        j = encode_queue_slice(&queue, pool);
        assert_non_null(j);
    } while (!j->done);
    return j;
}

static size_t result_bytes(const encode_job *j)
{
    return (size_t)j->n_rows * (size_t)vision.out_hidden_size * (1 + 1) * sizeof(float);
}

/* The result of a picture that has the region to itself; freed by the caller. */
static float *alone(uint64_t id, int32_t side)
{
    open_queue(usual_bytes());
    announce(id, side);
    fill(encode_queue_begin(&queue));
    encode_job *j = run_one();
    float *copy = malloc(result_bytes(j));
    assert_non_null(copy);
    memcpy(copy, j->out, result_bytes(j));
    encode_queue_close(&queue);
    return copy;
}

static void two_jobs_share_the_region_and_the_third_waits(void **state)
{
    (void)state;
    open_queue(usual_bytes());
    announce(1, SMALL);
    announce(2, SMALL);
    announce(3, SMALL);
    encode_job *first = encode_queue_begin(&queue), *second = encode_queue_begin(&queue);
    assert_true(first->order.id == 1 && second->order.id == 2);
    assert_null(encode_queue_begin(&queue));
    assert_null(encode_queue_find(&queue, 3));
    assert_true(encode_queue_drop(&queue, 1));
    assert_int_equal(encode_queue_begin(&queue)->order.id, 3);
    assert_int_equal(encode_queue_find(&queue, 2)->order.id, 2);
    assert_null(encode_queue_begin(&queue));
    encode_queue_close(&queue);
}

static void what_needs_more_than_is_free_waits_its_turn(void **state)
{
    (void)state;
    open_queue(usual_bytes());
    announce(1, LARGE);
    announce(2, LARGE);
    announce(3, SMALL); /* would fit, and is not let past the one before it */
    assert_int_equal(encode_queue_begin(&queue)->order.id, 1);
    assert_null(encode_queue_begin(&queue));
    assert_true(encode_queue_drop(&queue, 1));
    assert_int_equal(encode_queue_begin(&queue)->order.id, 2);
    assert_int_equal(encode_queue_begin(&queue)->order.id, 3);
    encode_queue_close(&queue);
}

static void jobs_lie_in_the_region_and_apart(void **state)
{
    (void)state;
    open_queue(usual_bytes());
    for (uint64_t id = 1; id < 40; id++) {
        announce(id, id % 3 == 0 ? LARGE : SMALL);
    }
    for (uint64_t id = 1; id < 40; id++) {
        encode_job *begun;
        while ((begun = encode_queue_begin(&queue)) != NULL) {
            assert_true(begun->input >= region.base && (uintptr_t)begun->input % 64 == 0);
            assert_true(begun->input + begun->memory_bytes <= region.base + queue.region_bytes);
        }
        const encode_job *a = &queue.jobs[0], *b = &queue.jobs[1];
        assert_true(!a->used || !b->used || a->input + a->memory_bytes <= b->input);
        assert_true(encode_queue_drop(&queue, id));
    }
    assert_true(queue.n_waiting == 0 && !queue.jobs[0].used && !queue.jobs[1].used);
    encode_queue_close(&queue);
}

static void a_result_does_not_depend_on_its_neighbour(void **state)
{
    (void)state;
    static const int32_t sides[] = {SMALL, LARGE};
    for (int i = 0; i < 2; i++) {
        float *expected[2] = {alone(10, sides[i]), alone(11, sides[1 - i])};
        open_queue(usual_bytes());
        announce(10, sides[i]);
        announce(11, sides[1 - i]);
        fill(encode_queue_begin(&queue));
        fill(encode_queue_begin(&queue));
        for (int n = 0; n < 2; n++) {
            const encode_job *j = run_one();
            assert_memory_equal(j->out, expected[j->order.id - 10], result_bytes(j));
        }
        assert_null(encode_queue_slice(&queue, pool));
        encode_queue_close(&queue);
        free(expected[0]);
        free(expected[1]);
    }
}

static void a_job_is_computed_only_with_all_its_input(void **state)
{
    (void)state;
    open_queue(usual_bytes());
    announce(1, SMALL);
    announce(2, SMALL);
    encode_job *slow = encode_queue_begin(&queue), *ready = encode_queue_begin(&queue);
    assert_non_null(encode_job_input(slow, 0, slow->input_bytes - 1));
    assert_null(encode_queue_slice(&queue, pool));
    assert_true(encode_job_share(slow) == 0);
    fill(ready);
    assert_ptr_equal(run_one(), ready);
    assert_true(encode_job_share(ready) == 1);
    assert_null(encode_queue_slice(&queue, pool));
    encode_queue_close(&queue);
}

static void input_comes_in_order_and_no_more_than_there_is(void **state)
{
    (void)state;
    open_queue(usual_bytes());
    announce(1, SMALL);
    encode_job *j = encode_queue_begin(&queue);
    uint64_t n = j->input_bytes;
    assert_null(encode_job_input(j, 1, 1));
    assert_null(encode_job_input(j, 0, 0));
    assert_null(encode_job_input(j, 0, n + 1));
    assert_null(encode_job_input(j, 0, UINT64_MAX));
    assert_ptr_equal(encode_job_input(j, 0, 10), j->input);
    assert_null(encode_job_input(j, 0, 10));
    assert_null(encode_job_input(j, 10, n - 9));
    assert_ptr_equal(encode_job_input(j, 10, n - 10), j->input + 10);
    assert_null(encode_job_input(j, n, 1));
    encode_queue_close(&queue);
}

static void jobs_can_be_dropped_wherever_they_are(void **state)
{
    (void)state;
    open_queue(usual_bytes());
    for (uint64_t id = 1; id <= 5; id++) {
        announce(id, SMALL);
    }
    assert_int_equal(encode_queue_begin(&queue)->order.id, 1);
    assert_true(encode_queue_drop(&queue, 3)); /* it waits, in the middle */
    assert_false(encode_queue_drop(&queue, 3));
    assert_false(encode_queue_drop(&queue, 77));
    assert_true(encode_queue_drop(&queue, 1)); /* begun */
    assert_int_equal(encode_queue_begin(&queue)->order.id, 2);
    assert_int_equal(encode_queue_begin(&queue)->order.id, 4);
    assert_true(encode_queue_drop(&queue, 2) && encode_queue_drop(&queue, 4));
    assert_int_equal(encode_queue_begin(&queue)->order.id, 5);
    encode_queue_close(&queue);
}

static void so_many_may_wait_and_no_more(void **state)
{
    (void)state;
    open_queue(usual_bytes());
    for (int32_t round = 0; round < 3; round++) { /* the ring goes round */
        for (uint64_t id = 0; id < ENCODE_WAITING_MAX; id++) {
            announce(id, SMALL);
        }
        encode_order one_more = picture(99, SMALL);
        assert_int_equal(encode_queue_announce(&queue, &one_more, &err), FLO_FAIL);
        for (uint64_t id = 0; id < ENCODE_WAITING_MAX; id++) {
            assert_int_equal(encode_queue_begin(&queue)->order.id, id);
            assert_true(encode_queue_drop(&queue, id));
        }
    }
    encode_queue_close(&queue);
}

static void refuse(encode_order o)
{
    err.text[0] = '\0';
    assert_int_equal(encode_queue_announce(&queue, &o, &err), FLO_FAIL);
    assert_true(err.text[0] != '\0' && queue.n_waiting == 0);
}

static void pictures_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const int32_t sides[] = {0, -2, 1, 3, INT32_MAX, INT32_MIN, 1 << 30};
    open_queue(usual_bytes());
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        encode_order o = picture(1, SMALL);
        o.grid_h = sides[i];
        refuse(o);
        o.grid_h = SMALL;
        o.grid_w = sides[i];
        refuse(o);
        o.grid_h = sides[i];
        refuse(o);
    }
    static const int32_t frames[] = {0, -1, 3, INT32_MAX};
    for (size_t i = 0; i < sizeof frames / sizeof frames[0]; i++) {
        encode_order o = picture(1, SMALL);
        o.n_frames = frames[i];
        refuse(o);
    }
    refuse(picture(1, 2 * LARGE)); /* more than the plan has memory for */
    encode_queue_close(&queue);
}

static void sounds_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const int32_t wrong[][2] = {/* frames, canvas */
                                       {0, 100},         {-1, 100}, {1001, 100},
                                       {INT32_MAX, 100}, {500, 99}, {500, 101},
                                       {500, 0},         {40, 39},  {40, INT32_MIN}};
    queue = (encode_queue){.audio = &audio};
    assert_int_equal(encode_queue_open(&queue, region.base, region.n_bytes, &err), FLO_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        refuse((encode_order){.id = 1, .n_frames = wrong[i][0], .canvas = wrong[i][1]});
    }
    encode_order right = {.id = 1, .n_frames = 1000, .canvas = 100};
    assert_int_equal(encode_queue_announce(&queue, &right, &err), FLO_OK);
    right = (encode_order){.id = 2, .n_frames = 40, .canvas = 40};
    assert_int_equal(encode_queue_announce(&queue, &right, &err), FLO_OK);
    encode_queue_close(&queue);
}

static void ignore_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    assert_true(done <= total);
}

static int set_up(void **state)
{
    (void)state;
    const load_watch watch = {.tell = ignore_progress};
    uint64_t n_bytes = usual_bytes(), sounds = plan_audio_region_bytes(&audio);
    return kernels_init(&err) != FLO_OK || thread_pool_new(&pool, 2, NULL, &err) != FLO_OK ||
           arena_open(&region, n_bytes > sounds ? n_bytes : sounds, &err) != FLO_OK ||
           vision_weights_load(&weights, &vision, &(weights_source){.seed = 3}, pool, &watch,
                               &err) != FLO_OK;
}

static int clean_up(void **state)
{
    (void)state;
    vision_weights_free(&weights);
    arena_close(&region);
    thread_pool_free(pool);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_jobs_share_the_region_and_the_third_waits),
        cmocka_unit_test(what_needs_more_than_is_free_waits_its_turn),
        cmocka_unit_test(jobs_lie_in_the_region_and_apart),
        cmocka_unit_test(a_result_does_not_depend_on_its_neighbour),
        cmocka_unit_test(a_job_is_computed_only_with_all_its_input),
        cmocka_unit_test(input_comes_in_order_and_no_more_than_there_is),
        cmocka_unit_test(jobs_can_be_dropped_wherever_they_are),
        cmocka_unit_test(so_many_may_wait_and_no_more),
        cmocka_unit_test(pictures_that_cannot_be_are_refused),
        cmocka_unit_test(sounds_that_cannot_be_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, clean_up);
}

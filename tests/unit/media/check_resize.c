/*
 * check_resize.c - pictures get the reference's sizes and the reference's bytes, and every variant
 * of the passes gives the definition's.
 */
#include "common/hash.h"
#include "coordinator/media/resize.h"
#include "coordinator/media/resize_axis.h"
#include "coordinator/media/resize_passes.h"
#include "tests/unit/media/pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static uint8_t *bytes_new(size_t n)
{
    uint8_t *bytes = malloc(n);
    assert_non_null(bytes);
    return bytes;
}

static uint8_t *resized(const uint8_t *in, size_t in_stride, const int32_t from[2],
                        const int32_t to[2], const char *isa)
{
    resizer *r = NULL;
    flo_err err;
    uint8_t *out = bytes_new((size_t)to[0] * (size_t)to[1] * 3);
    assert_int_equal(resizer_new(&r, from[0], from[1], to[0], to[1], &err), FLO_OK);
    if (isa != NULL) {
        resizer_use(r, resize_passes_variant(isa));
    }
    resizer_run(r, out, in, in_stride);
    resizer_free(r);
    return out;
}

static void hold_to_hash(const int32_t from[2], const int32_t to[2], const char *kind,
                         unsigned long long want)
{
    static const char *const isas[] = {NULL, "ref", "avx2"};
    uint8_t *in = bytes_new((size_t)from[0] * (size_t)from[1] * 3);
    pattern_fill(in, kind, from[0], from[1], 0);
    for (int32_t v = 0; v < 3; v++) {
        if (isas[v] != NULL && resize_passes_variant(isas[v]) == NULL) {
            continue;
        }
        uint8_t *out = resized(in, (size_t)from[0] * 3, from, to, isas[v]);
        uint64_t got = hash_bytes(HASH_START, out, (size_t)to[0] * (size_t)to[1] * 3);
        if (got != want) {
            fail_msg("%s: %d x %d -> %d x %d, %s", isas[v] == NULL ? "chosen" : isas[v], from[0],
                     from[1], to[0], to[1], kind);
        }
        free(out);
    }
    free(in);
}

static FILE *golden_open(const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/golden/pictures/%s", getenv("FLOTILLA_SOURCE_DIR"), name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    return f;
}

static void every_byte_is_the_references(void **state)
{
    (void)state;
    FILE *f = golden_open("resize.txt");
    char line[256], kind[16];
    int32_t from[2], to[2], n = 0;
    unsigned long long want;
    while (fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "%d %d %d %d %15s %llx", &from[0], &from[1], &to[0], &to[1], kind,
                   &want) == 6) {
            hold_to_hash(from, to, kind, want);
            n++;
        }
    }
    fclose(f);
    assert_int_equal(n, 171);
}

/* The specification's worked example. */
static void five_pixels_become_eight(void **state)
{
    (void)state;
    static const uint8_t grey[] = {0, 10, 200, 255, 30};
    static const uint8_t want[] = {0, 0, 17, 145, 237, 255, 122, 14};
    uint8_t in[15];
    for (int32_t i = 0; i < 15; i++) {
        in[i] = grey[i / 3];
    }
    const int32_t from[] = {5, 1}, to[] = {8, 1};
    uint8_t *out = resized(in, sizeof in, from, to, NULL);
    for (int32_t i = 0; i < 24; i++) {
        assert_int_equal(out[i], want[i / 3]);
    }
    free(out);
}

/* The source ends with its last pixel, the target with its last byte: run under a sanitizer. */
static void rows_may_lie_apart_and_nothing_past_them_matters(void **state)
{
    (void)state;
    const int32_t from[] = {45, 20}, tos[][2] = {{96, 64}, {45, 64}, {96, 20}, {45, 20}, {3, 2}};
    size_t stride = 45 * 3 + 17;
    uint8_t *in = bytes_new(45 * 20 * 3), *apart = bytes_new(stride * 19 + 45 * 3);
    pattern_fill(in, "noise", 45, 20, 0);
    memset(apart, 0xee, stride * 19 + 45 * 3);
    for (size_t y = 0; y < 20; y++) {
        memcpy(apart + y * stride, in + y * 45 * 3, 45 * 3);
    }
    for (int32_t i = 0; i < 5; i++) {
        uint8_t *want = resized(in, 45 * 3, from, tos[i], NULL);
        uint8_t *got = resized(apart, stride, from, tos[i], NULL);
        assert_memory_equal(got, want, (size_t)tos[i][0] * (size_t)tos[i][1] * 3);
        free(got);
        free(want);
    }
    free(apart);
    free(in);
}

static void one_plan_serves_many_frames(void **state)
{
    (void)state;
    const int32_t from[] = {70, 50}, to[] = {64, 32};
    resizer *r = NULL;
    flo_err err;
    uint8_t *in = bytes_new(70 * 50 * 3), *got = bytes_new(64 * 32 * 3);
    assert_int_equal(resizer_new(&r, 70, 50, 64, 32, &err), FLO_OK);
    for (int32_t frame = 0; frame < 4; frame++) {
        pattern_fill(in, "noise", 70, 50, frame);
        uint8_t *want = resized(in, 70 * 3, from, to, "ref");
        resizer_run(r, got, in, 70 * 3);
        assert_memory_equal(got, want, 64 * 32 * 3);
        free(want);
    }
    resizer_free(r);
    free(got);
    free(in);
}

/* Sums of the worst picture: 255 under every positive weight, 0 under the others, and the other way
 * round. Both passes keep them in int32. */
static void no_sum_leaves_32_bits(void **state)
{
    (void)state;
    for (int32_t n_in = 1; n_in < 9000; n_in = n_in * 5 / 4 + 1) {
        for (int32_t n_out = 1; n_out < 3000; n_out = n_out * 5 / 4 + 1) {
            resize_axis a;
            assert_true(resize_axis_init(&a, n_in, n_out));
            assert_in_range(a.shift, 1, 22);
            for (int32_t i = 0; i < n_out; i++) {
                int64_t high = (int64_t)1 << (a.shift - 1), low = 0;
                for (int32_t j = 0; j < a.count[i]; j++) {
                    int16_t w = a.weights[(size_t)i * (size_t)a.n_taps + (size_t)j];
                    high += w > 0 ? 255 * w : 0;
                    low += w < 0 ? 255 * w : 0;
                }
                assert_true(high <= INT32_MAX && low >= INT32_MIN);
                assert_true(a.first[i] >= 0 && a.first[i] + a.count[i] <= n_in);
                assert_true(i == 0 || a.first[i] >= a.first[i - 1]);
            }
            resize_axis_free(&a);
        }
    }
}

typedef struct target_case {
    int32_t width, height, factor;
    int64_t min, max;
    int32_t to_width, to_height;
} target_case;

/* Recorded from smart_resize of transformers 5.17.0. */
static void targets_are_the_references(void **state)
{
    (void)state;
    static const target_case cases[] = {
        {640, 480, 32, 3136, 12845056, 640, 480},
        {1920, 1080, 32, 3136, 12845056, 1920, 1088},
        {20, 20, 32, 3136, 12845056, 64, 64},
        {6000, 4000, 32, 3136, 12845056, 4384, 2912},
        {80, 48, 32, 3136, 12845056, 64, 64}, /* 2.5 and 1.5: halves to even */
        {320, 240, 32, 3136, 12845056, 320, 256},
        {100, 37, 32, 3136, 12845056, 96, 64},
        {1, 1, 32, 3136, 12845056, 64, 64},
        {200, 1, 32, 3136, 12845056, 800, 32},
        {1920, 1080, 32, 131072, 786432, 1152, 640},
        {10000, 50, 32, 3136, 12845056, 9984, 64},
        {40, 40, 32, 4096, 1024, 64, 64}, /* smallest over largest: the first that is missed */
        {80, 80, 32, 9000, 3000, 32, 32}, /* decides */
        {40, 40, 32, 1024, 1024, 32, 32}, /* limits are inclusive */
        {640, 640, 32, 1, 1, 32, 32},     /* never less than one block */
        {10, 10, 28, 1, 100000, 28, 28},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const target_case *c = &cases[i];
        int32_t w = 0, h = 0;
        flo_err err;
        assert_int_equal(
            resize_target(&w, &h, c->width, c->height, c->factor, c->min, c->max, &err), FLO_OK);
        assert_int_equal(w, c->to_width);
        assert_int_equal(h, c->to_height);
    }
}

static void a_size_that_cannot_be_is_refused(void **state)
{
    (void)state;
    static const target_case cases[] = {
        {201, 1, 32, 3136, 12845056, 0, 0},
        {1, 201, 32, 3136, 12845056, 0, 0},
        {0, 5, 32, 3136, 12845056, 0, 0},
        {5, -1, 32, 3136, 12845056, 0, 0},
        {5, 5, 32, 0, 100, 0, 0}, /* rounds to nothing */
        {5, 5, 32, INT64_MAX, INT64_MAX, 0, 0},
        {500, 500, 32, 0, 0, 0, 0},
        {500, 500, 0, 0, 100000, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const target_case *c = &cases[i];
        int32_t w, h;
        flo_err err = {""};
        assert_int_equal(
            resize_target(&w, &h, c->width, c->height, c->factor, c->min, c->max, &err), FLO_USAGE);
        assert_true(err.text[0] != '\0');
    }
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Says what a frame costs; holds the variants to each other at that size. */
static void a_frame_of_1080p(void **state)
{
    (void)state;
    const int32_t from[] = {1920, 1080}, to[] = {1152, 640};
    uint8_t *in = bytes_new(1920 * 1080 * 3), *got = bytes_new(1152 * 640 * 3);
    pattern_fill(in, "noise", 1920, 1080, 0);
    uint8_t *want = resized(in, 1920 * 3, from, to, "ref");
    resizer *r = NULL;
    flo_err err;
    assert_int_equal(resizer_new(&r, 1920, 1080, 1152, 640, &err), FLO_OK);
    double best = 1e9;
    for (int32_t i = 0; i < 5; i++) {
        double start = seconds_now();
        resizer_run(r, got, in, 1920 * 3);
        double took = seconds_now() - start;
        best = took < best ? took : best;
        assert_memory_equal(got, want, 1152 * 640 * 3);
    }
    print_message("1920 x 1080 -> 1152 x 640: %.2f ms a frame\n", 1e3 * best);
    resizer_free(r);
    free(want);
    free(got);
    free(in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_the_references),
        cmocka_unit_test(five_pixels_become_eight),
        cmocka_unit_test(rows_may_lie_apart_and_nothing_past_them_matters),
        cmocka_unit_test(one_plan_serves_many_frames),
        cmocka_unit_test(no_sum_leaves_32_bits),
        cmocka_unit_test(targets_are_the_references),
        cmocka_unit_test(a_size_that_cannot_be_is_refused),
        cmocka_unit_test(a_frame_of_1080p),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * check_vision_encoder.c - the vision encoder gives the reference's rows: for pictures and videos
 * of the small checkpoint, and for encoders of odd shapes (tests/golden/odd-vision, made by
 * tests/golden/make/odd_vision.py; FLOTILLA_VISION_CASES=DIR compares other files made that way).
 * Threads and instruction sets do not change a bit, and a job keeps within the memory it asked for.
 * FLOTILLA_BENCH=1 prints rates at the published widths, =12megapixels those of a large picture
 * too.
 *
 * Tolerances are the reference data's own: |got - want| <= atol + 1e-3 |want| with atol 5e-4 of the
 * tensor's rms, 20 to 30 times the noise between two f32 implementations.
 */
#include "encoder_cases.h"

#include "common/clock.h"
#include "worker/encoders/vision_encoder.h"
#include "worker/kernels/kernels.h"

#include <math.h>
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { CHANNELS = 3 };

static float levels[CHANNELS][256];

/* --- pieces ------------------------------------------------------------------------------------
 */

static vision_weights load(const vision_config *v, const checkpoint *c)
{
    vision_weights w;
    weights_source source = {.checkpoint = c, .seed = 5};
    thread_pool *pool = pool_of(2);
    if (vision_weights_load(&w, v, &source, pool, NULL, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    thread_pool_free(pool);
    return w;
}

/* --- one temporal patch ------------------------------------------------------------------------
 */

typedef struct encoder {
    vision_config v;
    vision_weights w;
} encoder;

static size_t out_floats(const vision_config *v, const patch_source *s)
{
    int32_t tokens = s->grid_h * s->grid_w / (v->spatial_merge_size * v->spatial_merge_size);
    return (size_t)(1 + v->n_deepstack) * (size_t)tokens * (size_t)v->out_hidden_size;
}

/* Allocates the job's memory of exactly the size asked for. NaN everywhere at first: what is read
 * before it is written shows. *n_calls: of advance. */
static float *encode_with(const encoder *e, const patch_source *s, int32_t n_threads,
                          int32_t *n_calls)
{
    thread_pool *pool = pool_of(n_threads);
    size_t bytes = vision_job_bytes(&e->v, (int64_t)s->grid_h * s->grid_w);
    float *memory = aligned_alloc(64, bytes);
    float *out = memory_of(out_floats(&e->v, s) * sizeof *out);
    assert_non_null(memory);
    memset(memory, 0xff, bytes);
    memset(out, 0xff, out_floats(&e->v, s) * sizeof *out);
    vision_job job = {.source = *s, .out = out};
    vision_work *work = vision_work_begin(memory, &e->v, &e->w, &job);
    double share = vision_work_share(work);
    assert_true(share == 0.0);
    *n_calls = 1;
    while (!vision_work_advance(work, pool)) {
        assert_true(vision_work_share(work) > share && vision_work_share(work) <= 1.0);
        share = vision_work_share(work);
        ++*n_calls;
    }
    assert_true(vision_work_share(work) == 1.0);
    free(memory);
    thread_pool_free(pool);
    return out;
}

static float *encode(const encoder *e, const patch_source *s)
{
    int32_t n_calls;
    return encode_with(e, s, 2, &n_calls);
}

/* --- against the reference ---------------------------------------------------------------------
 */

/* want [n][width] are every stride-th of got's rows. */
static void hold_rows(const char *what, const float *got, int32_t stride, const float *want,
                      int64_t n, int64_t width)
{
    double squares = 0;
    for (int64_t i = 0; i < n * width; i++) {
        squares += (double)want[i] * (double)want[i];
    }
    double atol = 5e-4 * sqrt(squares / (double)(n * width));
    for (int64_t r = 0; r < n; r++) {
        for (int64_t c = 0; c < width; c++) {
            double w = (double)want[r * width + c];
            double g = (double)got[r * stride * width + c];
            if (!(fabs(g - w) <= atol + 1e-3 * fabs(w))) {
                fail_msg("%s: row %lld, column %lld is %.6g, the reference has %.6g", what,
                         (long long)r, (long long)c, g, w);
            }
        }
    }
}

/* Tensor `name` or `name`_every8 of a case; got [tokens][width]. */
static void hold_tensor(const checkpoint *c, const char *name, const float *got)
{
    char every[96];
    const checkpoint_tensor *t = NULL;
    int32_t stride = 1;
    float *want = tensor_data(c, name, &t);
    if (want == NULL) {
        snprintf(every, sizeof every, "%s_every8", name);
        want = tensor_data(c, every, &t);
        stride = 8;
    }
    assert_non_null(want);
    hold_rows(name, got, stride, want, t->shape[0], t->shape[1]);
    free(want);
}

static encoder tiny(void)
{
    model_config m;
    checkpoint *c;
    assert_int_equal(model_config_read(&m, golden_path("tiny-omni"), &err), FLO_OK);
    assert_int_equal(checkpoint_open(&c, golden_path("tiny-omni"), &err), FLO_OK);
    encoder e = {.v = m.vision};
    e.w = load(&e.v, c);
    checkpoint_close(c);
    return e;
}

/* [height][width][3] */
static uint8_t *read_png(const char *path, int32_t *height, int32_t *width)
{
    png_image image = {.version = PNG_IMAGE_VERSION};
    if (png_image_begin_read_from_file(&image, path) == 0) {
        fail_msg("%s: %s", path, image.message);
    }
    image.format = PNG_FORMAT_RGB;
    uint8_t *pixels = memory_of(PNG_IMAGE_SIZE(image));
    assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL) != 0);
    *height = (int32_t)image.height;
    *width = (int32_t)image.width;
    return pixels;
}

/* n_patches temporal patches of two frames each, [n_patches * 2][height][width][3], against one
 * case: sets of the output are gathered over the patches, as the case has them. */
static void hold_case(const encoder *e, const char *name, const uint8_t *frames, int32_t n_frames,
                      int32_t height, int32_t width)
{
    char path[256];
    snprintf(path, sizeof path, "%s/tensors.safetensors", name);
    checkpoint *c = open_file(golden_path(path));
    const vision_config *v = &e->v;
    size_t frame_bytes = (size_t)height * (size_t)width * CHANNELS;
    int32_t each = v->temporal_patch_size;
    int32_t n_patches = (n_frames + each - 1) / each;
    patch_source s = {.grid_h = height / v->patch_size,
                      .grid_w = width / v->patch_size,
                      .levels = (const float(*)[256])levels};
    size_t set = out_floats(v, &s) / (size_t)(1 + v->n_deepstack);
    float *all = memory_of((size_t)n_patches * out_floats(v, &s) * sizeof *all);
    for (int32_t t = 0; t < n_patches; t++) {
        s.frames = frames + (size_t)(t * each) * frame_bytes;
        s.n_frames = n_frames - t * each < each ? n_frames - t * each : each;
        float *out = encode(e, &s);
        for (int32_t i = 0; i <= v->n_deepstack; i++) {
            memcpy(all + (size_t)(i * n_patches + t) * set, out + (size_t)i * set,
                   set * sizeof *out);
        }
        free(out);
    }
    hold_tensor(c, "vision_embeds", all);
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        snprintf(path, sizeof path, "deepstack.%d", i);
        hold_tensor(c, path, all + (size_t)((1 + i) * n_patches) * set);
    }
    free(all);
    checkpoint_close(c);
}

static void hold_picture(const encoder *e, const char *name, const char *png)
{
    int32_t height, width;
    uint8_t *pixels = read_png(golden_path(png), &height, &width);
    hold_case(e, name, pixels, 1, height, width);
    free(pixels);
}

static void pictures_become_the_rows_of_the_reference(void **state)
{
    (void)state;
    encoder e = tiny();
    hold_picture(&e, "image/a_640x480", "image/a_640x480.png");
    hold_picture(&e, "image/b_100x37", "image/b_100x37/resized.png");
    hold_picture(&e, "image/c_1000x1400", "image/c_1000x1400/resized.png"); /* many slabs */
    hold_picture(&e, "image/d_320x240", "image/d_320x240/resized.png");
    vision_weights_free(&e.w);
}

static void videos_become_the_rows_of_the_reference_patch_by_patch(void **state)
{
    (void)state;
    enum { HEIGHT = 96, WIDTH = 128, FRAME = HEIGHT * WIDTH * CHANNELS };
    static const int32_t sampled[4] = {0, 3, 6, 9};
    encoder e = tiny();
    const checkpoint_tensor *t = NULL;
    checkpoint *c = open_file(golden_path("video/clip.safetensors"));
    uint8_t *clip = tensor_data(c, "frames", &t);
    assert_non_null(clip);
    hold_case(&e, "video/all-frames-small", clip, 12, HEIGHT, WIDTH);
    for (int32_t i = 0; i < 4; i++) {
        memmove(clip + i * FRAME, clip + sampled[i] * FRAME, FRAME);
    }
    hold_case(&e, "video/sampled-frames", clip, 4, HEIGHT, WIDTH);
    free(clip);
    checkpoint_close(c);

    int32_t height, width; /* six frames, stacked */
    uint8_t *frames = read_png(golden_path("video/default-size/resized.png"), &height, &width);
    hold_case(&e, "video/default-size", frames, 6, height / 6, width);
    free(frames);
    vision_weights_free(&e.w);
}

/* --- odd shapes --------------------------------------------------------------------------------
 */

static vision_config config_of(const checkpoint *c)
{
    const checkpoint_tensor *t = NULL;
    int32_t *n = tensor_data(c, "config", &t);
    assert_non_null(n);
    vision_config v = {.depth = n[0],
                       .hidden_size = n[1],
                       .n_heads = n[2],
                       .intermediate_size = n[3],
                       .in_channels = CHANNELS,
                       .patch_size = n[4],
                       .temporal_patch_size = n[5],
                       .spatial_merge_size = n[6],
                       .out_hidden_size = n[7],
                       .n_position_embeddings = n[8],
                       .n_deepstack = (int32_t)t->n_elements - 9};
    memcpy(v.deepstack_layers, n + 9, (size_t)v.n_deepstack * sizeof *n);
    free(n);
    return v;
}

/* False where the file has no such case. */
static bool hold_odd_case(const encoder *e, const checkpoint *c, int32_t index)
{
    char name[64];
    const checkpoint_tensor *t = NULL;
    snprintf(name, sizeof name, "%d.frames", index);
    uint8_t *frames = tensor_data(c, name, &t);
    if (frames == NULL) {
        return false;
    }
    patch_source s = {.frames = frames,
                      .n_frames = (int32_t)t->shape[0],
                      .grid_h = (int32_t)t->shape[1] / e->v.patch_size,
                      .grid_w = (int32_t)t->shape[2] / e->v.patch_size,
                      .levels = (const float(*)[256])levels};
    float *got = encode(e, &s);
    snprintf(name, sizeof name, "%d.embeds", index);
    hold_tensor(c, name, got);
    snprintf(name, sizeof name, "%d.deepstack", index);
    float *want = tensor_data(c, name, &t);
    if (want != NULL) {
        hold_rows(name, got + t->shape[1] * t->shape[2], 1, want, t->shape[0] * t->shape[1],
                  t->shape[2]);
    }
    assert_true((want != NULL) == (e->v.n_deepstack > 0));
    free(want);
    free(got);
    free(frames);
    return true;
}

static void hold_odd_encoder(const char *path)
{
    checkpoint *c = open_file(path);
    encoder e = {.v = config_of(c)};
    e.w = load(&e.v, c);
    int32_t n = 0;
    while (hold_odd_case(&e, c, n)) {
        n++;
    }
    assert_int_equal(n, 3);
    vision_weights_free(&e.w);
    checkpoint_close(c);
}

static void encoders_of_odd_shapes_give_the_rows_of_the_reference(void **state)
{
    (void)state;
    hold_odd_encoder(golden_path("odd-vision/0.safetensors"));
    hold_odd_encoder(golden_path("odd-vision/1.safetensors"));
    const char *more = getenv("FLOTILLA_VISION_CASES");
    for (int32_t i = 0; more != NULL && i < 3; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%d.safetensors", more, i);
        hold_odd_encoder(path);
    }
}

/* --- bits, slices, bounds ----------------------------------------------------------------------
 */

/* Frames of noise, [n_frames][grid_h patch][grid_w patch][3]. */
static uint8_t *noise(const vision_config *v, int32_t n_frames, int32_t grid_h, int32_t grid_w)
{
    size_t n = (size_t)n_frames * (size_t)(grid_h * v->patch_size) *
               (size_t)(grid_w * v->patch_size) * CHANNELS;
    uint8_t *bytes = memory_of(n);
    uint64_t seed = 9;
    for (size_t i = 0; i < n; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        bytes[i] = (uint8_t)(seed >> 56);
    }
    return bytes;
}

static void use_isa(const char *isa)
{
    setenv("FLOTILLA_ISA", isa, 1);
    assert_int_equal(kernels_init(&err), FLO_OK);
}

static void use_best_isa(void)
{
    unsetenv("FLOTILLA_ISA");
    assert_int_equal(kernels_init(&err), FLO_OK);
}

static void threads_and_instruction_sets_do_not_change_a_bit(void **state)
{
    (void)state;
    static const char *const isas[] = {"ref", "avx2", "avx512"};
    encoder e = tiny();
    patch_source s = {.n_frames = 1,
                      .grid_h = 22,
                      .grid_w = 46, /* 1,012 patches: three slabs, 15 blocks of keys and a part */
                      .levels = (const float(*)[256])levels};
    uint8_t *frames = noise(&e.v, 1, s.grid_h, s.grid_w);
    s.frames = frames;
    size_t n = out_floats(&e.v, &s) * sizeof(float);
    int32_t n_calls;
    use_isa("ref");
    float *want = encode_with(&e, &s, 2, &n_calls);
    for (int32_t i = 0; i < 3; i++) {
        if (kernels_variant(isas[i]) == NULL) {
            continue;
        }
        use_isa(isas[i]);
        for (int32_t threads = 1; threads <= 3; threads++) {
            float *got = encode_with(&e, &s, threads, &n_calls);
            assert_memory_equal(got, want, n);
            free(got);
        }
    }
    use_best_isa();
    free(want);
    free(frames);
    vision_weights_free(&e.w);
}

/* The published widths, of a few layers. */
static vision_config published(int32_t depth)
{
    model_config m;
    assert_int_equal(model_config_read(&m, golden_path("published-config"), &err), FLO_OK);
    m.vision.depth = depth;
    m.vision.n_deepstack = 1;
    m.vision.deepstack_layers[0] = 0;
    return m.vision;
}

static void a_small_job_is_one_slice_and_a_large_one_is_many(void **state)
{
    (void)state;
    encoder small = tiny();
    patch_source s = {
        .n_frames = 2, .grid_h = 2, .grid_w = 2, .levels = (const float(*)[256])levels};
    uint8_t *frames = noise(&small.v, 2, 2, 2);
    s.frames = frames;
    int32_t n_calls;
    free(encode_with(&small, &s, 1, &n_calls));
    assert_int_equal(n_calls, 1);
    free(frames);
    vision_weights_free(&small.w);

    encoder large = {.v = published(1)};
    large.w = load(&large.v, NULL);
    s.grid_h = 20; /* 400 patches of 37 million multiply-adds: 30 G, a slice is 2.5 G */
    s.grid_w = 20;
    frames = noise(&large.v, 2, s.grid_h, s.grid_w);
    s.frames = frames;
    free(encode_with(&large, &s, 1, &n_calls));
    assert_in_range(n_calls, 4, 20);
    free(frames);
    vision_weights_free(&large.w);
}

static void large_pictures_keep_within_the_memory_promised(void **state)
{
    (void)state;
    vision_config v = published(27);
    int64_t megapixel = 64 * 64, twelve = 224 * 224, mib = 1 << 20;
    v.n_deepstack = 3;
    for (int32_t i = 0; i < 2; i++) {
        int64_t patches = i == 0 ? megapixel : twelve;
        int64_t out = patches / 4 * 4 * v.out_hidden_size * (int64_t)sizeof(float);
        int64_t pixels = patches * 2 * 16 * 16 * CHANNELS;
        int64_t all = (int64_t)vision_job_bytes(&v, patches) + out + pixels;
        assert_in_range(all, 0, i == 0 ? 512 * mib : 3072 * mib);
    }
}

/* --- rates -------------------------------------------------------------------------------------
 */

typedef struct peak_run {
    double flops[2]; /* by thread */
} peak_run;

static void run_peak(void *arg, int32_t thread, int32_t n_threads)
{
    (void)n_threads;
    volatile float sink = kernels()->fma_work(&((peak_run *)arg)->flops[thread], 200000);
    (void)sink;
}

/* Of all threads together: other programs on the machine do not count, waiting threads do. */
static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s of a core. */
static double multiply_add_peak(thread_pool *pool)
{
    double best = 0;
    for (int32_t again = 0; again < 10; again++) {
        peak_run run = {{0}};
        double began = cpu_s();
        thread_pool_run(pool, run_peak, &run);
        double took = cpu_s() - began;
        double flops = 0;
        for (int32_t t = 0; t < thread_pool_size(pool); t++) {
            flops += run.flops[t];
        }
        best = flops / took > best ? flops / took : best;
    }
    return 1e-9 * best;
}

/* Multiply-adds, times two. */
static double picture_flops(const vision_config *v, double patches)
{
    double h = v->hidden_size, joined = h * v->spatial_merge_size * v->spatial_merge_size;
    double patch = CHANNELS * v->temporal_patch_size * v->patch_size * v->patch_size;
    double block = 2 * (4 * h * h + 2 * h * v->intermediate_size) + 4 * patches * h;
    double merged = 2 * h * (joined + v->out_hidden_size); /* a patch's share */
    return patches * (2 * h * patch + v->depth * block + merged);
}

/* CPU seconds of one picture; *slice: the longest call of advance by the clock, in seconds. */
static double time_job(void *memory, const encoder *e, const vision_job *job, thread_pool *pool,
                       double *slice)
{
    vision_work *work = vision_work_begin(memory, &e->v, &e->w, job);
    double began = cpu_s();
    double last = clock_s();
    *slice = 0;
    bool done = false;
    while (!done) {
        done = vision_work_advance(work, pool);
        double now = clock_s();
        *slice = now - last > *slice ? now - last : *slice;
        last = now;
    }
    return cpu_s() - began;
}

static void time_picture(int32_t side, int32_t depth, int32_t n_threads)
{
    encoder e = {.v = published(depth)};
    e.v.n_deepstack = 0;
    e.w = load(&e.v, NULL);
    uint8_t *frames = noise(&e.v, 1, side, side);
    patch_source s = {.frames = frames,
                      .n_frames = 1,
                      .grid_h = side,
                      .grid_w = side,
                      .levels = (const float(*)[256])levels};
    vision_job job = {.source = s, .out = memory_of(out_floats(&e.v, &s) * sizeof(float))};
    void *memory = memory_of(vision_job_bytes(&e.v, (int64_t)side * side));
    thread_pool *pool = pool_of(n_threads);
    double slice;
    double peak = multiply_add_peak(pool);
    double rate =
        1e-9 * picture_flops(&e.v, side * side) / time_job(memory, &e, &job, pool, &slice);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    print_message("  %-6s %d thread(s), %d x %d patches, %d block(s): %.0f GFLOP/s a core, %.0f %% "
                  "of the peak %.0f; longest slice %.0f ms; peak RSS %ld MiB\n",
                  kernels()->isa, n_threads, side, side, depth, rate, 100 * rate / peak, peak,
                  1e3 * slice, usage.ru_maxrss / 1024);
    thread_pool_free(pool);
    free(memory);
    free(job.out);
    free(frames);
    vision_weights_free(&e.w);
}

static void rates(void **state)
{
    (void)state;
    const char *bench = getenv("FLOTILLA_BENCH");
    if (bench == NULL) {
        skip();
    }
    static const char *const isas[] = {"avx512", "avx2"};
    for (int32_t i = 0; i < 2; i++) {
        if (kernels_variant(isas[i]) != NULL) {
            use_isa(isas[i]);
            time_picture(64, 2, 1);
            time_picture(64, 2, 2);
        }
    }
    use_best_isa();
    if (strcmp(bench, "12megapixels") == 0) {
        time_picture(224, 1, 2);
    }
}

int main(void)
{
    for (int32_t i = 0; i < CHANNELS * 256; i++) {
        levels[i / 256][i % 256] = ((float)(i % 256) - 127.5f) / 127.5f;
    }
    use_best_isa();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_become_the_rows_of_the_reference),
        cmocka_unit_test(videos_become_the_rows_of_the_reference_patch_by_patch),
        cmocka_unit_test(encoders_of_odd_shapes_give_the_rows_of_the_reference),
        cmocka_unit_test(threads_and_instruction_sets_do_not_change_a_bit),
        cmocka_unit_test(a_small_job_is_one_slice_and_a_large_one_is_many),
        cmocka_unit_test(large_pictures_keep_within_the_memory_promised),
        cmocka_unit_test(rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

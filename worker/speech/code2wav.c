/*
 * code2wav.c - the vocoder's network as a walk: the deepest stage that has rows waiting goes first.
 *
 * So rows are used up soon after they were made, while they are in the cache, and no more of them
 * wait anywhere than one slab of the stage before makes. A call of advance goes on until it has
 * spent its share of multiply-adds. Memory at the published sizes: 15 MB for the work of a chunk,
 * and 7 MB for each stream that was ever used.
 */
#include "worker/speech/code2wav_parts.h"

#include "common/check.h"
#include "common/layout.h"
#include "common/plan_parts.h"

#include <stdlib.h>
#include <string.h>

/* Multiply-adds count twice. 2 cores of 100 GFLOP/s each take 25 ms for it. */
static const double slice_flops_per_thread = 2.5e9;

/* --- what the files share ----------------------------------------------------------------------
 */

void code2wav_tell(const code2wav *v, const char *name, int64_t first, int32_t n, int32_t columns,
                   const float *data)
{
    if (v->watch.rows != NULL) {
        v->watch.rows(v->watch.arg, name, first, n, columns, data);
    }
}

typedef struct rows_share {
    code2wav_rows_task *task;
    const void *arg;
    int32_t n;
} rows_share;

static void run_share(void *arg, int32_t thread, int32_t n_threads)
{
    const rows_share *s = arg;
    s->task(s->arg, partition_begin(s->n, thread, n_threads),
            partition_begin(s->n, thread + 1, n_threads));
}

void code2wav_each_row(const code2wav *v, int32_t n, code2wav_rows_task *task, const void *arg)
{
    rows_share s = {task, arg, n};
    thread_pool_run(v->pool, run_share, &s);
}

/* --- the whole ---------------------------------------------------------------------------------
 */

/* Numbers of rows and columns stay within 32 bits. */
static flo_code check_sizes(const code2wav_config *c, flo_err *err)
{
    if (code2wav_rate(c) > FRAME_SAMPLES_MAX) {
        return flo_fail(err, FLO_FAIL,
                        "the vocoder would make %d or more samples of a frame, over the limit of "
                        "%d: its upsample_rates and upsampling_ratios are too large",
                        FRAME_SAMPLES_MAX + 1, FRAME_SAMPLES_MAX);
    }
    int64_t widest = (int64_t)c->codebook_size * c->n_quantizers;
    for (int32_t i = 0; i < c->n_upsampling_ratios; i++) {
        int64_t rows = (int64_t)c->upsampling_ratios[i] * c->hidden_size;
        widest = rows > widest ? rows : widest;
    }
    for (int32_t i = 0; i < c->n_upsample_rates; i++) {
        int64_t rows = (int64_t)c->upsample_rates[i] * (c->decoder_dim >> (i + 1));
        widest = rows > widest ? rows : widest;
    }
    if (widest > INT32_MAX / 2) {
        return flo_fail(err, FLO_FAIL,
                        "code2wav_config asks for a tensor of %lld rows, over the limit of %d",
                        (long long)widest, INT32_MAX / 2);
    }
    return FLO_OK;
}

flo_code code2wav_open(code2wav **out, const code2wav_config *c, thread_pool *pool, flo_err *err)
{
    flo_code code = check_sizes(c, err);
    if (code != FLO_OK) {
        return code;
    }
    code2wav *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the vocoder");
    }
    v->c = *c;
    v->pool = pool;
    code2wav_shape_of(&v->shape, c);
    const text_config rotary = {.head_dim = c->head_dim, .rope_theta = c->rope_theta};
    rope_init(&v->rope, &rotary);
    code = arena_open(&v->memory, plan_code2wav_region_bytes(c), err);
    if (code != FLO_OK) {
        flo_context(err, "the vocoder's streams");
        free(v);
        return code;
    }
    *out = v;
    return FLO_OK;
}

flo_code code2wav_load(code2wav *v, const weights_source *source, const load_watch *watch,
                       flo_err *err)
{
    return code2wav_weights_load(&v->w, &v->c, source, v->pool, watch, err);
}

void code2wav_close(code2wav *v)
{
    if (v != NULL) {
        code2wav_weights_free(&v->w);
        arena_close(&v->memory);
        free(v);
    }
}

void code2wav_reset(code2wav *v, int32_t stream)
{
    CHECK(stream >= 0 && stream < SPEAKERS_MAX);
    v->streams[stream] = (code2wav_stream){0};
}

void code2wav_begin(code2wav *v, int32_t stream, const int32_t *codes, int32_t n,
                    const code2wav_watch *watch)
{
    CHECK(v->n_frames == 0 && stream >= 0 && stream < SPEAKERS_MAX);
    CHECK(n >= 1 && n <= VOCODER_FRAMES_MAX);
    v->stream = stream;
    v->n_frames = n;
    v->front = -1;
    v->n_samples = 0;
    v->watch = watch != NULL ? *watch : (code2wav_watch){0};
    size_t n_codes = (size_t)n * (size_t)v->c.n_quantizers;
    for (size_t i = 0; i < n_codes; i++) {
        CHECK(codes[i] >= 0 && codes[i] < v->c.codebook_size);
    }
    memcpy(code2wav_buffer(v, v->shape.codes), codes, n_codes * sizeof *codes);
    if (v->streams[stream].n_frames == 0) { /* nothing came before: zeros */
        memset(code2wav_state(v, 0), 0, v->shape.keys_and_values);
    }
}

/* The deepest stage with rows before it; -1: none. */
static int32_t deepest(const code2wav *v)
{
    int32_t i = v->shape.n_stages - 1;
    while (i >= 0 && v->waiting[i] == 0) {
        i--;
    }
    return i;
}

bool code2wav_advance(code2wav *v, const float **samples, int32_t *n_samples)
{
    CHECK(v->n_frames > 0);
    double budget = slice_flops_per_thread * thread_pool_size(v->pool), spent = 0;
    int32_t stage = deepest(v);
    while (spent < budget && (stage >= 0 || v->front < v->c.n_layers)) {
        spent += stage >= 0 ? code2wav_stage_step(v, stage) : code2wav_front_step(v);
        stage = deepest(v);
    }
    if (stage >= 0 || v->front < v->c.n_layers) {
        return false;
    }
    v->streams[v->stream].n_frames += v->n_frames;
    v->n_frames = 0;
    *samples = code2wav_buffer(v, v->shape.samples);
    *n_samples = v->n_samples;
    return true;
}

/*
 * encode_queue.c - see encode_queue.h. A job's memory is its input, its result, and what computing
 * it takes, side by side.
 */
#include "worker/encoders/encode_queue.h"

#include "common/layout.h"

#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 64 };

static uint64_t lines(uint64_t n_bytes)
{
    return (n_bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

flo_code encode_queue_open(encode_queue *q, unsigned char *region, uint64_t region_bytes,
                           flo_err *err)
{
    q->region = region;
    q->region_bytes = region_bytes / LINE_BYTES * LINE_BYTES;
    q->waiting = calloc(ENCODE_WAITING_MAX, sizeof *q->waiting);
    return q->waiting != NULL ? FLO_OK
                              : flo_fail(err, FLO_FAIL, "out of memory for the encoder's queue");
}

void encode_queue_close(encode_queue *q)
{
    free(q->waiting);
    q->waiting = NULL;
}

int32_t encode_queue_deep(const encode_queue *q)
{
    return q->audio != NULL ? 0 : q->vision->n_deepstack;
}

/* --- sizes -------------------------------------------------------------------------------------
 */

typedef struct job_size {
    uint64_t input, out, work;
    int32_t n_rows;
} job_size;

static job_size sound_size(const audio_config *a, const encode_order *o)
{
    int32_t rows = audio_job_tokens(a, o->n_frames);
    return (job_size){
        .input = (uint64_t)a->n_mel_bins * (uint64_t)o->n_frames * sizeof(float),
        .out = (uint64_t)rows * (uint64_t)a->output_dim * sizeof(float),
        .work = audio_job_bytes(a),
        .n_rows = rows,
    };
}

static job_size sight_size(const vision_config *v, const encode_order *o)
{
    int64_t patches = (int64_t)o->grid_h * o->grid_w;
    uint64_t pixels = (uint64_t)patches * (uint64_t)v->patch_size * (uint64_t)v->patch_size;
    int64_t rows = patches / (v->spatial_merge_size * v->spatial_merge_size);
    return (job_size){
        .input = pixels * 3 * (uint64_t)o->n_frames,
        .out = (uint64_t)rows * (uint64_t)v->out_hidden_size * (uint64_t)(1 + v->n_deepstack) *
               sizeof(float),
        .work = vision_job_bytes(v, patches),
        .n_rows = (int32_t)rows,
    };
}

static job_size size_of(const encode_queue *q, const encode_order *o)
{
    return q->audio != NULL ? sound_size(q->audio, o) : sight_size(q->vision, o);
}

static uint64_t memory_of(const job_size *s)
{
    return lines(s->input) + lines(s->out) + lines(s->work);
}

/* --- what is announced -------------------------------------------------------------------------
 */

static bool sound_is_sound(const audio_config *a, const encode_order *o)
{
    int32_t chunk = 2 * a->n_window;
    int32_t most = AUDIO_JOB_WINDOWS * (a->n_window_infer / chunk) * chunk;
    int32_t longest = o->n_frames < chunk ? o->n_frames : chunk;
    return o->n_frames >= 1 && o->n_frames <= most && o->canvas >= longest && o->canvas <= chunk;
}

static bool sight_is_sound(const vision_config *v, const encode_order *o)
{
    int32_t merge = v->spatial_merge_size;
    return o->n_frames >= 1 && o->n_frames <= v->temporal_patch_size && o->grid_h >= merge &&
           o->grid_w >= merge && o->grid_h % merge == 0 && o->grid_w % merge == 0 &&
           (int64_t)o->grid_h * o->grid_w <= INT32_MAX / 2;
}

flo_code encode_queue_announce(encode_queue *q, const encode_order *o, flo_err *err)
{
    bool sound = q->audio != NULL ? sound_is_sound(q->audio, o) : sight_is_sound(q->vision, o);
    if (!sound) {
        return flo_fail(err, FLO_FAIL,
                        "an encoder's job of %d frames, canvas %d, grid %d x %d is none that this "
                        "model has",
                        o->n_frames, o->canvas, o->grid_h, o->grid_w);
    }
    job_size size = size_of(q, o);
    if (memory_of(&size) > q->region_bytes) {
        return flo_fail(err, FLO_FAIL,
                        "an encoder's job needs %llu bytes, the plan has %llu for all of them",
                        (unsigned long long)memory_of(&size), (unsigned long long)q->region_bytes);
    }
    if (q->n_waiting == ENCODE_WAITING_MAX) {
        return flo_fail(err, FLO_FAIL, "over %d jobs wait for an encoder", ENCODE_WAITING_MAX);
    }
    q->waiting[(q->first_waiting + q->n_waiting++) % ENCODE_WAITING_MAX] = *o;
    return FLO_OK;
}

/* --- begun jobs --------------------------------------------------------------------------------
 */

/* Puts the job's pieces at `at`, and makes its work ready. */
static void lay_out(encode_queue *q, encode_job *j, const job_size *size, unsigned char *at)
{
    j->input = at;
    j->input_bytes = size->input;
    j->out = (float *)(void *)(at + lines(size->input));
    j->n_rows = size->n_rows;
    void *work = at + lines(size->input) + lines(size->out);
    const encode_order *o = &j->order;
    if (q->audio != NULL) {
        audio_job job = {.features = (const float *)(const void *)at,
                         .n_frames = o->n_frames,
                         .canvas = o->canvas,
                         .out = j->out};
        j->audio = audio_work_begin(work, q->audio, q->audio_weights, &job);
    } else {
        vision_job job = {.source = {.frames = at,
                                     .n_frames = o->n_frames,
                                     .grid_h = o->grid_h,
                                     .grid_w = o->grid_w,
                                     .levels = (const float(*)[256])o->levels},
                          .out = j->out};
        j->vision = vision_work_begin(work, q->vision, q->vision_weights, &job);
    }
}

encode_job *encode_queue_begin(encode_queue *q)
{
    int end = !q->jobs[0].used ? 0 : 1;
    encode_job *j = &q->jobs[end];
    if (q->n_waiting == 0 || j->used) {
        return NULL;
    }
    const encode_order *o = &q->waiting[q->first_waiting];
    job_size size = size_of(q, o);
    uint64_t need = memory_of(&size),
             taken = q->jobs[1 - end].used ? q->jobs[1 - end].memory_bytes : 0;
    if (need > q->region_bytes - taken) {
        return NULL;
    }
    *j = (encode_job){.order = *o, .used = true, .memory_bytes = need};
    lay_out(q, j, &size, end == 0 ? q->region : q->region + q->region_bytes - need);
    q->first_waiting = (q->first_waiting + 1) % ENCODE_WAITING_MAX;
    q->n_waiting--;
    return j;
}

encode_job *encode_queue_find(encode_queue *q, uint64_t id)
{
    for (int i = 0; i < 2; i++) {
        if (q->jobs[i].used && q->jobs[i].order.id == id) {
            return &q->jobs[i];
        }
    }
    return NULL;
}

bool encode_queue_drop(encode_queue *q, uint64_t id)
{
    encode_job *j = encode_queue_find(q, id);
    if (j != NULL) {
        j->used = false;
        return true;
    }
    for (int32_t i = 0; i < q->n_waiting; i++) {
        if (q->waiting[(q->first_waiting + i) % ENCODE_WAITING_MAX].id != id) {
            continue;
        }
        for (; i + 1 < q->n_waiting; i++) {
            q->waiting[(q->first_waiting + i) % ENCODE_WAITING_MAX] =
                q->waiting[(q->first_waiting + i + 1) % ENCODE_WAITING_MAX];
        }
        q->n_waiting--;
        return true;
    }
    return false;
}

unsigned char *encode_job_input(encode_job *j, uint64_t first_byte, uint64_t n_bytes)
{
    if (first_byte != j->input_here || n_bytes == 0 || n_bytes > j->input_bytes - j->input_here) {
        return NULL;
    }
    j->input_here += n_bytes;
    return j->input + first_byte;
}

encode_job *encode_queue_slice(encode_queue *q, thread_pool *pool)
{
    for (int32_t i = 0; i < 2; i++) {
        encode_job *j = &q->jobs[(q->next + i) % 2];
        if (j->used && !j->done && j->input_here == j->input_bytes) {
            q->next = (q->next + i + 1) % 2;
            j->done = j->audio != NULL ? audio_work_advance(j->audio, pool)
                                       : vision_work_advance(j->vision, pool);
            return j;
        }
    }
    return NULL;
}

double encode_job_share(const encode_job *j)
{
    if (j->input_here < j->input_bytes) {
        return 0;
    }
    return j->done            ? 1
           : j->audio != NULL ? audio_work_share(j->audio)
                              : vision_work_share(j->vision);
}

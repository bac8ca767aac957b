/*
 * worker_encode.c - jobs in, rows out, and slices in between.
 *
 * When slices run is decided by the message loop (worker.c).
 */
#include "worker/worker_encode.h"

#include "common/arena.h"
#include "common/clock.h"
#include "common/log.h"
#include "worker/worker.h"

#include <string.h>

/* Seldom: a message keeps the coordinator polling for 200 ms, on a core that may be the encoder's.
 */
enum { PROGRESS_MS = 1000 };

/* --- memory and weights ------------------------------------------------------------------------
 */

static flo_code open_queue(encode_queue *q, uint64_t region_bytes, flo_err *err)
{
    arena region; /* kept until the process ends; address space until it is used */
    flo_code code = arena_open(&region, (size_t)region_bytes, err);
    return code == FLO_OK ? encode_queue_open(q, region.base, region_bytes, err) : code;
}

flo_code worker_encoders_open(worker *w, flo_err *err)
{
    worker_encoders *e = &w->encoders;
    flo_code code = FLO_OK;
    if (w->me->has_audio_encoder) {
        e->audio.audio = &w->model.audio;
        e->audio.audio_weights = &e->audio_weights;
        code = open_queue(&e->audio, plan_audio_region_bytes(&w->model.audio), err);
    }
    if (code == FLO_OK && w->me->has_vision_encoder) {
        e->vision.vision = &w->model.vision;
        e->vision.vision_weights = &e->vision_weights;
        code =
            open_queue(&e->vision,
                       plan_vision_region_bytes(&w->model.vision, w->plan.vision_patches_max), err);
    }
    return code;
}

flo_code worker_encoders_load(worker *w, const weights_source *source, const load_watch *watch,
                              flo_err *err)
{
    worker_encoders *e = &w->encoders;
    flo_code code = FLO_OK;
    if (w->me->has_audio_encoder) {
        code = audio_weights_load(&e->audio_weights, &w->model.audio, source, w->stage.pool, watch,
                                  err);
    }
    if (code == FLO_OK && w->me->has_vision_encoder) {
        code = vision_weights_load(&e->vision_weights, &w->model.vision, source, w->stage.pool,
                                   watch, err);
    }
    return code;
}

void worker_encoders_close(worker *w)
{
    encode_queue_close(&w->encoders.audio);
    encode_queue_close(&w->encoders.vision);
    if (w->me != NULL && w->me->has_audio_encoder) {
        audio_weights_free(&w->encoders.audio_weights);
    }
    if (w->me != NULL && w->me->has_vision_encoder) {
        vision_weights_free(&w->encoders.vision_weights);
    }
}

/* --- messages in -------------------------------------------------------------------------------
 */

static void tell_progress(worker *w, encode_job *j)
{
    Flo__EncodeProgress m = FLO__ENCODE_PROGRESS__INIT;
    m.epoch = w->epoch;
    m.job = j->order.id;
    m.share = (float)encode_job_share(j);
    j->told_ms = clock_ms();
    transport_send(w->transport, 0, LANE_MAIN, MSG_ENCODE_PROGRESS, &m.base);
}

/* Begins what there is memory for, and asks for its input. */
static void begin_jobs(worker *w, encode_queue *q)
{
    encode_job *j;
    while (q->region != NULL && (j = encode_queue_begin(q)) != NULL) {
        tell_progress(w, j);
    }
}

static flo_code read_order(encode_order *o, const Flo__EncodeJob *m, flo_err *err)
{
    bool is_sound = m->kind == FLO__ENCODE_JOB__KIND__AUDIO;
    bool fits = m->n_frames <= INT32_MAX && m->canvas <= INT32_MAX && m->grid_h <= INT32_MAX &&
                m->grid_w <= INT32_MAX && m->n_levels == (is_sound ? 0 : 3 * 256);
    if (!fits) {
        return flo_fail(err, FLO_FAIL, "a job for an encoder came with numbers out of range");
    }
    *o = (encode_order){.id = m->job,
                        .n_frames = (int32_t)m->n_frames,
                        .canvas = (int32_t)m->canvas,
                        .grid_h = (int32_t)m->grid_h,
                        .grid_w = (int32_t)m->grid_w};
    if (!is_sound) {
        memcpy(o->levels, m->levels, sizeof o->levels);
    }
    return FLO_OK;
}

void worker_on_encode_job(worker *w, const incoming *in)
{
    const Flo__EncodeJob *m = in->as.encode_job;
    encode_queue *q =
        m->kind == FLO__ENCODE_JOB__KIND__AUDIO ? &w->encoders.audio : &w->encoders.vision;
    encode_order order;
    flo_err err;
    worker_check_epoch(w, in, m->epoch);
    if (q->region == NULL) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL,
                             "rank %d sent a job for an encoder that this worker does not hold",
                             in->source),
                    &err);
    }
    worker_require(w, read_order(&order, m, &err), &err);
    worker_require(w, encode_queue_announce(q, &order, &err), &err);
    begin_jobs(w, q);
}

static encode_job *find_job(worker *w, uint64_t id)
{
    encode_job *j = encode_queue_find(&w->encoders.audio, id);
    return j != NULL ? j : encode_queue_find(&w->encoders.vision, id);
}

void worker_on_encode_input(worker *w, const incoming *in)
{
    const Flo__EncodeInput *m = in->as.encode_input;
    encode_job *j = find_job(w, m->job);
    flo_err err;
    worker_check_epoch(w, in, m->epoch);
    if (j == NULL) { /* cancelled while this was on its way */
        if (in->payload_bytes > 0) {
            transport_take_payload(w->transport, in, NULL);
        }
        return;
    }
    bool is_sound = j->audio != NULL;
    uint64_t size = is_sound ? sizeof(float) : 1;
    uint64_t n = m->part != NULL && m->part->n_shape == 1 ? m->part->shape[0] : 0;
    unsigned char *to = n <= j->input_bytes && m->first <= j->input_bytes
                            ? encode_job_input(j, m->first * size, n * size)
                            : NULL;
    const void *at;
    if (to == NULL || in->payload_bytes != n * size || m->part->offset != 0) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL,
                             "rank %d sent input of an encoder's job out of order or of the wrong "
                             "size",
                             in->source),
                    &err);
    }
    transport_take_payload(w->transport, in, to);
    worker_require(w,
                   transport_tensor(m->part, is_sound ? FLO__DTYPE__F32 : FLO__DTYPE__U8, n, to,
                                    in->payload_bytes, "an encoder's input", &at, &err),
                   &err);
}

void worker_on_encode_cancel(worker *w, const incoming *in)
{
    const Flo__EncodeCancel *m = in->as.encode_cancel;
    worker_check_epoch(w, in, m->epoch);
    if (!encode_queue_drop(&w->encoders.audio, m->job) &&
        !encode_queue_drop(&w->encoders.vision, m->job)) {
        return; /* its last rows are on their way already */
    }
    Flo__Embeddings done = FLO__EMBEDDINGS__INIT;
    done.epoch = w->epoch;
    done.job = m->job;
    done.cancelled = true;
    transport_send(w->transport, 0, LANE_MAIN, MSG_EMBEDDINGS, &done.base);
    begin_jobs(w, &w->encoders.audio);
    begin_jobs(w, &w->encoders.vision);
}

/* --- rows out ----------------------------------------------------------------------------------
 */

/* The next rows of a finished job: as many as a message of EMBEDDINGS_PART_BYTES holds. */
static void send_rows(worker *w, encode_queue *q, encode_job *j)
{
    size_t columns = (size_t)w->model.text.hidden_size, row_bytes = columns * sizeof(float);
    int32_t n_deep = encode_queue_deep(q), left = j->n_rows - j->n_rows_told;
    int32_t n = (int32_t)(EMBEDDINGS_PART_BYTES / (row_bytes * (size_t)(1 + n_deep)));
    n = n < 1 ? 1 : n > STEP_ROWS_MAX ? STEP_ROWS_MAX : n;
    n = n < left ? n : left;
    Flo__Embeddings m = FLO__EMBEDDINGS__INIT;
    Flo__Tensor tensors[1 + MODEL_DEEPSTACK_MAX], *deep[MODEL_DEEPSTACK_MAX];
    uint64_t shape[2] = {(uint64_t)n, columns}, n_bytes = 0;
    for (int32_t k = 0; k <= n_deep; k++) {
        worker_tensor(&tensors[k], shape, 2, FLO__DTYPE__F32, &n_bytes);
        if (k > 0) {
            deep[k - 1] = &tensors[k];
        }
    }
    unsigned char *payload = transport_payload(w->transport, n_bytes);
    for (int32_t k = 0; k <= n_deep; k++) {
        const float *set = j->out + (size_t)k * (size_t)j->n_rows * columns;
        memcpy(payload + tensors[k].offset, set + (size_t)j->n_rows_told * columns,
               (size_t)n * row_bytes);
    }
    m.epoch = w->epoch;
    m.job = j->order.id;
    m.first = (uint32_t)j->n_rows_told;
    m.rows = &tensors[0];
    m.deep = deep;
    m.n_deep = (size_t)n_deep;
    j->n_rows_told += n;
    m.last = j->n_rows_told == j->n_rows;
    transport_send(w->transport, 0, LANE_MAIN, MSG_EMBEDDINGS, &m.base);
    if (m.last) {
        encode_queue_drop(q, j->order.id);
        begin_jobs(w, q);
    }
}

static encode_job *finished(encode_queue *q)
{
    for (int i = 0; i < 2; i++) {
        if (q->jobs[i].used && q->jobs[i].done) {
            return &q->jobs[i];
        }
    }
    return NULL;
}

static bool computing(const encode_queue *q)
{
    for (int i = 0; i < 2; i++) {
        const encode_job *j = &q->jobs[i];
        if (j->used && (j->done || j->input_here == j->input_bytes)) {
            return true;
        }
    }
    return false;
}

bool worker_encode_busy(const worker *w)
{
    return computing(&w->encoders.audio) || computing(&w->encoders.vision);
}

static bool send_finished(worker *w, encode_queue *q)
{
    encode_job *j = finished(q);
    if (j == NULL || !transport_has_slot(w->transport)) {
        return false;
    }
    send_rows(w, q, j);
    return true;
}

void worker_encode(worker *w)
{
    worker_encoders *e = &w->encoders;
    if (send_finished(w, &e->audio) || send_finished(w, &e->vision)) {
        return;
    }
    int64_t start = clock_us();
    encode_queue *first = e->sight_next ? &e->vision : &e->audio;
    encode_queue *second = e->sight_next ? &e->audio : &e->vision;
    encode_job *j = encode_queue_slice(first, w->stage.pool);
    j = j != NULL ? j : encode_queue_slice(second, w->stage.pool);
    e->sight_next = !e->sight_next;
    if (j != NULL && !j->done && clock_ms() - j->told_ms >= PROGRESS_MS) {
        tell_progress(w, j);
    }
    w->compute_us += (uint64_t)(clock_us() - start);
}

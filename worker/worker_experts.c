/*
 * worker_experts.c - rows to the workers of a stage that hold their experts, and what comes back.
 *
 * One message per layer and worker, however many rows and experts; a row goes to a worker once.
 * Rows are copied once, into the message; results are received straight into the place they are
 * added from.
 */
#include "worker/worker.h"

#include "common/check.h"

#include <string.h>

void worker_expert_send(void *arg, int32_t layer, int32_t place, const expert_batch *batch)
{
    worker_step *ws = arg;
    worker *w = ws->w;
    size_t hidden = (size_t)w->model.text.hidden_size, mark = w->messages.used;
    Flo__ExpertDispatch d = FLO__EXPERT_DISPATCH__INIT;
    Flo__Tensor tensor;
    uint64_t shape[2] = {(uint64_t)batch->n_rows, hidden}, n_bytes = 0;
    worker_tensor(&tensor, shape, 2, FLO__DTYPE__F32, &n_bytes);
    d.epoch = w->epoch;
    d.step = ws->header->step;
    d.layer = (uint32_t)layer;
    d.rows = (uint32_t)batch->n_rows;
    d.n_expert_counts = (size_t)batch->n_rows;
    d.expert_counts = arena_take(&w->messages, d.n_expert_counts * sizeof *d.expert_counts);
    for (int32_t r = 0; r < batch->n_rows; r++) {
        d.expert_counts[r] = (uint32_t)batch->choices[r].n;
    }
    d.n_expert_ids = d.n_weights = (size_t)batch->n_pairs;
    d.expert_ids = arena_take(&w->messages, d.n_expert_ids * sizeof *d.expert_ids);
    for (int32_t i = 0; i < batch->n_pairs; i++) {
        d.expert_ids[i] = (uint32_t)batch->experts[i];
    }
    d.weights = (float *)batch->weights;
    d.hidden = &tensor;
    float *payload = transport_payload(w->transport, n_bytes);
    for (int32_t r = 0; r < batch->n_rows; r++) {
        memcpy(payload + (size_t)r * hidden, expert_batch_row(batch, r, w->model.text.hidden_size),
               hidden * sizeof *payload);
    }
    transport_send(w->transport, w->me->rank + place, LANE_MAIN, MSG_EXPERT_DISPATCH, &d.base);
    w->messages.used = mark;
    ws->n_sent++;
}

static void take_result(worker_step *ws, int32_t layer, int32_t n_places, float *const *results,
                        const size_t *n_floats)
{
    worker *w = ws->w;
    incoming in;
    flo_err err;
    worker_require(w, transport_wait(w->transport, LANE_REPLY, &in, &err), &err);
    int32_t place = in.source - w->me->rank;
    const Flo__ExpertResult *r = in.as.expert_result;
    if (in.kind != MSG_EXPERT_RESULT || place <= 0 || place >= n_places || n_floats[place] == 0 ||
        r->epoch != w->epoch || r->step != ws->header->step || r->layer != (uint32_t)layer ||
        in.payload_bytes != n_floats[place] * sizeof(float)) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL, "rank %d answered step %llu, layer %d with a stray %s",
                             in.source, (unsigned long long)ws->header->step, layer,
                             message_kind_name(in.kind)),
                    &err);
    }
    const void *at;
    transport_take_payload(w->transport, &in, results[place]);
    worker_require(w,
                   transport_tensor(r->out, FLO__DTYPE__F32, n_floats[place], results[place],
                                    in.payload_bytes, "expert results", &at, &err),
                   &err);
}

void worker_expert_gather(void *arg, int32_t layer, int32_t n_places, float *const *results,
                          const size_t *n_floats)
{
    worker_step *ws = arg;
    for (; ws->n_sent > 0; ws->n_sent--) {
        take_result(ws, layer, n_places, results, n_floats);
    }
}

/* The batch of a dispatch, every count and index held against its bounds. */
static flo_code read_dispatch(worker *w, const Flo__ExpertDispatch *d, expert_batch *b,
                              flo_err *err)
{
    int32_t first_layer = w->me->first_layer, layer = (int32_t)d->layer;
    bool sound = d->rows > 0 && d->rows <= STEP_ROWS_MAX && d->n_expert_counts == d->rows &&
                 d->n_expert_ids == d->n_weights && layer >= first_layer &&
                 layer < first_layer + w->me->n_layers && w->model.text.layer_is_sparse[layer];
    expert_choice *choices = arena_take(&w->messages, STEP_ROWS_MAX * sizeof *choices);
    uint64_t pairs = 0;
    for (size_t r = 0; sound && r < d->rows; r++) {
        uint32_t n = d->expert_counts[r];
        choices[r] = (expert_choice){.n = (int32_t)n, .first = (int32_t)pairs};
        sound = n > 0 && n <= (uint32_t)w->model.text.n_experts_per_token &&
                n <= (uint32_t)w->me->n_experts;
        pairs += n;
    }
    sound = sound && pairs == d->n_expert_ids;
    for (size_t i = 0; sound && i < d->n_expert_ids; i++) {
        sound = d->expert_ids[i] < (uint32_t)w->me->n_experts;
    }
    if (!sound) {
        return flo_fail(err, FLO_FAIL,
                        "an expert dispatch for layer %d does not fit this worker's experts",
                        layer);
    }
    *b = (expert_batch){.n_rows = (int32_t)d->rows,
                        .n_pairs = (int32_t)pairs,
                        .choices = choices,
                        .experts = (const int32_t *)d->expert_ids,
                        .weights = d->weights};
    return FLO_OK;
}

void worker_on_expert_dispatch(worker *w, const incoming *in)
{
    const Flo__ExpertDispatch *d = in->as.expert_dispatch;
    flo_err err;
    worker_check_epoch(w, in, d->epoch);
    arena_reset(&w->messages);
    expert_batch batch;
    worker_require(w, read_dispatch(w, d, &batch, &err), &err);
    size_t hidden = (size_t)w->model.text.hidden_size;
    if (in->payload_bytes == 0 || in->source != worker_home_of(w, w->me->stage)) {
        worker_fail(
            w, flo_fail(&err, FLO_FAIL, "rank %d sent an expert dispatch without rows", in->source),
            &err);
    }
    const void *rows, *payload = transport_take_payload(w->transport, in, NULL);
    worker_require(w,
                   transport_tensor(d->hidden, FLO__DTYPE__F32, d->rows * hidden, payload,
                                    in->payload_bytes, "expert dispatch", &rows, &err),
                   &err);
    batch.hidden = rows;

    Flo__ExpertResult r = FLO__EXPERT_RESULT__INIT;
    Flo__Tensor tensor;
    uint64_t shape[2] = {(uint64_t)(w->plan.deterministic ? batch.n_pairs : batch.n_rows), hidden};
    uint64_t n_bytes = 0;
    worker_tensor(&tensor, shape, 2, FLO__DTYPE__F32, &n_bytes);
    float *out = transport_payload(w->transport, n_bytes);
    stage_experts(&w->stage, (int32_t)d->layer, out, &batch);
    r.epoch = w->epoch;
    r.step = d->step;
    r.layer = d->layer;
    r.out = &tensor;
    transport_send(w->transport, in->source, LANE_REPLY, MSG_EXPERT_RESULT, &r.base);
}

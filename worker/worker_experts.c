/*
 * worker_experts.c - rows to the workers that hold their experts, of a stage of the thinker or of
 * the talker, and what comes back.
 *
 * One message per layer and worker, however many rows and experts; a row goes to a worker once.
 * Rows are copied once, into the message; results are received straight into the place they are
 * added from.
 */
#include "worker/worker.h"

#include "common/check.h"

#include <string.h>

/* --- of either decoder --------------------------------------------------------------------------
 */

typedef struct decoder { /* what its dispatches are held against on this worker */
    int32_t hidden, n_experts_per_token;
    int32_t first_layer, n_layers, n_experts; /* of which experts are owned here */
    const bool *layer_is_sparse;              /* NULL: all are */
    int home;                                 /* the rank that dispatches here */
} decoder;

static decoder decoder_of(const worker *w, bool of_talker)
{
    const text_config *t = &w->model.text;
    const talker_config *k = &w->model.talker;
    return of_talker ? (decoder){.hidden = k->hidden_size,
                                 .n_experts_per_token = k->n_experts_per_token,
                                 .n_layers = k->n_layers,
                                 .n_experts = w->me->n_talker_experts,
                                 .home = w->speech.talker_rank}
                     : (decoder){.hidden = t->hidden_size,
                                 .n_experts_per_token = t->n_experts_per_token,
                                 .first_layer = w->me->first_layer,
                                 .n_layers = w->me->n_layers,
                                 .n_experts = w->me->n_experts,
                                 .layer_is_sparse = t->layer_is_sparse,
                                 .home = worker_home_of(w, w->me->stage)};
}

static int rank_of(const expert_round *r, int32_t place)
{
    return r->talker ? r->w->speech.owners[place] : r->w->me->rank + place;
}

/* -1: it owns none. */
static int32_t place_of(const expert_round *r, int rank, int32_t n_places)
{
    for (int32_t place = 0; place < n_places; place++) {
        if (rank_of(r, place) == rank) {
            return place;
        }
    }
    return -1;
}

/* --- at home -----------------------------------------------------------------------------------
 */

void worker_expert_send(expert_round *round, int32_t layer, int32_t place,
                        const expert_batch *batch)
{
    worker *w = round->w;
    int32_t hidden = decoder_of(w, round->talker).hidden;
    size_t mark = w->messages.used;
    Flo__ExpertDispatch d = FLO__EXPERT_DISPATCH__INIT;
    Flo__Tensor tensor;
    uint64_t shape[2] = {(uint64_t)batch->n_rows, (uint64_t)hidden}, n_bytes = 0;
    worker_tensor(&tensor, shape, 2, FLO__DTYPE__F32, &n_bytes);
    d.epoch = w->epoch;
    d.step = round->step;
    d.layer = (uint32_t)layer;
    d.talker = round->talker;
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
    worker_wait_room(w);
    float *payload = transport_payload(w->transport, n_bytes);
    for (int32_t r = 0; r < batch->n_rows; r++) {
        memcpy(payload + (size_t)r * (size_t)hidden, expert_batch_row(batch, r, hidden),
               (size_t)hidden * sizeof *payload);
    }
    transport_send(w->transport, rank_of(round, place), LANE_EXPERTS, MSG_EXPERT_DISPATCH, &d.base);
    w->messages.used = mark;
    round->n_sent++;
}

static void take_result(expert_round *round, int32_t layer, int32_t n_places, float *const *results,
                        const size_t *n_floats)
{
    worker *w = round->w;
    incoming in;
    flo_err err;
    worker_wait_reply(w, &in);
    int32_t place = place_of(round, in.source, n_places);
    const Flo__ExpertResult *r = in.as.expert_result;
    if (in.kind != MSG_EXPERT_RESULT || place <= 0 || n_floats[place] == 0 ||
        r->epoch != w->epoch || r->step != round->step || r->layer != (uint32_t)layer ||
        (r->talker != 0) != round->talker || in.payload_bytes != n_floats[place] * sizeof(float)) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL,
                             "rank %d answered %sstep %llu, layer %d with a stray %s", in.source,
                             round->talker ? "the talker's " : "", (unsigned long long)round->step,
                             layer, message_kind_name(in.kind)),
                    &err);
    }
    const void *at;
    transport_take_payload(w->transport, &in, results[place]);
    worker_require(w,
                   transport_tensor(r->out, FLO__DTYPE__F32, n_floats[place], results[place],
                                    in.payload_bytes, "expert results", &at, &err),
                   &err);
}

void worker_expert_gather(expert_round *round, int32_t layer, int32_t n_places,
                          float *const *results, const size_t *n_floats)
{
    for (; round->n_sent > 0; round->n_sent--) {
        take_result(round, layer, n_places, results, n_floats);
    }
}

/* --- at an owner -------------------------------------------------------------------------------
 */

/* The batch of a dispatch, every count and index held against its bounds. */
static flo_code read_dispatch(worker *w, const decoder *of, const Flo__ExpertDispatch *d,
                              expert_batch *b, flo_err *err)
{
    int32_t layer = (int32_t)d->layer;
    bool sound = d->rows > 0 && d->rows <= STEP_ROWS_MAX && d->n_expert_counts == d->rows &&
                 d->n_expert_ids == d->n_weights && layer >= of->first_layer &&
                 layer < of->first_layer + of->n_layers &&
                 (of->layer_is_sparse == NULL || of->layer_is_sparse[layer]);
    expert_choice *choices = arena_take(&w->messages, STEP_ROWS_MAX * sizeof *choices);
    uint64_t pairs = 0;
    for (size_t r = 0; sound && r < d->rows; r++) {
        uint32_t n = d->expert_counts[r];
        choices[r] = (expert_choice){.n = (int32_t)n, .first = (int32_t)pairs};
        sound = n > 0 && n <= (uint32_t)of->n_experts_per_token && n <= (uint32_t)of->n_experts;
        pairs += n;
    }
    sound = sound && pairs == d->n_expert_ids;
    for (size_t i = 0; sound && i < d->n_expert_ids; i++) {
        sound = d->expert_ids[i] < (uint32_t)of->n_experts;
    }
    if (!sound) {
        return flo_fail(err, FLO_FAIL,
                        "an expert dispatch for layer %d%s does not fit this worker's experts",
                        layer, d->talker ? " of the talker" : "");
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
    decoder of = decoder_of(w, d->talker);
    flo_err err;
    worker_check_epoch(w, in, d->epoch);
    size_t mark = w->messages.used; /* a step may be under way here */
    expert_batch batch;
    worker_require(w, read_dispatch(w, &of, d, &batch, &err), &err);
    size_t hidden = (size_t)of.hidden;
    if (in->payload_bytes == 0 || in->source != of.home) {
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
    if (d->talker) {
        talker_experts(w->speech.talker, (int32_t)d->layer, out, &batch);
    } else {
        stage_experts(&w->stage, (int32_t)d->layer, out, &batch);
    }
    r.epoch = w->epoch;
    r.step = d->step;
    r.layer = d->layer;
    r.talker = d->talker;
    r.out = &tensor;
    transport_send(w->transport, in->source, LANE_REPLY, MSG_EXPERT_RESULT, &r.base);
    w->messages.used = mark;
}

/*
 * worker_step.c - a home's part of a step: rows in, sequence operations, layers, rows on.
 *
 * The header of a step travels unchanged from stage to stage. Hidden rows are received straight
 * into the buffer that the layers work in, and copied once, into the message to the next stage.
 */
#include "worker/worker.h"

#include "common/clock.h"
#include <string.h>

static flo_code apply_op(kv_cache *c, const Flo__SequenceOp *op, flo_err *err)
{
    switch (op->kind) {
    case FLO__SEQUENCE_OP__KIND__RELEASE:
        return kv_cache_release(c, op->sequence, err);
    case FLO__SEQUENCE_OP__KIND__TRUNCATE:
        return kv_cache_truncate(c, op->sequence, (int32_t)op->tokens, err);
    case FLO__SEQUENCE_OP__KIND__FORK:
        return kv_cache_fork(c, op->sequence, op->source, (int32_t)op->tokens, err);
    default:
        return flo_fail(err, FLO_FAIL, "unknown operation %d on a sequence", (int)op->kind);
    }
}

/* Room in the KV cache for each span, and the rows' places. */
static flo_code place_spans(worker *w, const Flo__StepHeader *h, step_row *rows, flo_err *err)
{
    uint32_t at = 0;
    for (size_t i = 0; i < h->n_spans; i++) {
        const Flo__Span *span = h->spans[i];
        if (span->rows == 0 || span->rows > h->rows - at ||
            span->first > INT32_MAX - STEP_ROWS_MAX) {
            return flo_fail(err, FLO_FAIL, "span %zu of step %llu does not fit its %u rows", i,
                            (unsigned long long)h->step, h->rows);
        }
        int32_t slot;
        flo_code code = kv_cache_extend(w->stage.cache, span->sequence, (int32_t)span->first,
                                        (int32_t)span->rows, &slot, err);
        if (code != FLO_OK) {
            return code;
        }
        for (uint32_t r = 0; r < span->rows; r++) {
            rows[at++] = (step_row){.slot = slot, .position = (int32_t)(span->first + r)};
        }
    }
    return at == h->rows ? FLO_OK
                         : flo_fail(err, FLO_FAIL, "the spans of step %llu cover %u of its %u rows",
                                    (unsigned long long)h->step, at, h->rows);
}

static flo_code check_header(const worker *w, const Flo__StepHeader *h, flo_err *err)
{
    if (h == NULL || h->rows > STEP_ROWS_MAX || h->n_positions != 3 * (size_t)h->rows) {
        return flo_fail(err, FLO_FAIL, "a step came without a sound header");
    }
    for (size_t i = 0; i < h->n_deep_rows; i++) {
        if (h->deep_rows[i] >= h->rows || (i > 0 && h->deep_rows[i] <= h->deep_rows[i - 1])) {
            return flo_fail(err, FLO_FAIL, "step %llu has deep-stack rows out of range or order",
                            (unsigned long long)h->step);
        }
    }
    return worker_tap_check(w, h, err);
}

/* Deep-stack features of layers done.. from a message's tensors. */
static void take_deep(worker *w, step_deep *deep, const Flo__StepHeader *h,
                      Flo__Tensor *const *tensors, size_t n_tensors, uint32_t done,
                      const void *payload, size_t payload_bytes)
{
    flo_err err;
    memset(deep, 0, sizeof *deep);
    if (done > MODEL_DEEPSTACK_MAX || n_tensors > MODEL_DEEPSTACK_MAX - done) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL, "step %llu has features for too many layers",
                             (unsigned long long)h->step),
                    &err);
    }
    deep->n_layers = (int32_t)(done + n_tensors);
    deep->n_rows = (int32_t)h->n_deep_rows;
    deep->rows = h->deep_rows;
    size_t n = h->n_deep_rows * (size_t)w->model.text.hidden_size;
    for (size_t i = 0; i < n_tensors; i++) {
        const void *at;
        worker_require(w,
                       transport_tensor(tensors[i], FLO__DTYPE__F32, n, payload, payload_bytes,
                                        "deep-stack features", &at, &err),
                       &err);
        deep->features[done + i] = at;
    }
}

static void dump_hook(void *arg, const char *name, const void *rows, int32_t columns, bool is_ids)
{
    worker_dump(arg, name, rows, columns, is_ids);
}

static void progress_hook(void *arg)
{
    transport_progress(((worker_step *)arg)->w->transport);
}

static void expert_send_hook(void *arg, int32_t layer, int32_t place, const expert_batch *batch)
{
    worker_expert_send(&((worker_step *)arg)->experts, layer, place, batch);
}

static void expert_gather_hook(void *arg, int32_t layer, int32_t n_places, float *const *results,
                               const size_t *n_floats)
{
    worker_expert_gather(&((worker_step *)arg)->experts, layer, n_places, results, n_floats);
}

/* The talker takes a layer's output as the layer made it, without the deep-stack features that the
 * next one sees: the reference notes states where they leave a layer. The last layer's it notes
 * behind the final norm (run_step). */
static void output_hook(void *arg, int32_t layer, const float *x)
{
    worker_step *ws = arg;
    const model_config *m = &ws->w->model;
    if (layer + 1 == m->talker.accept_hidden_layer && layer + 1 < m->text.n_layers) {
        worker_tap(ws, x, false);
    }
}

static void pass_on(worker_step *ws, const step_deep *deep)
{
    worker *w = ws->w;
    uint64_t hidden = (uint64_t)w->model.text.hidden_size;
    int32_t done = w->me->first_layer + w->me->n_layers;
    Flo__Activations a = FLO__ACTIVATIONS__INIT;
    Flo__Tensor tensors[MODEL_DEEPSTACK_MAX + 1], *list[MODEL_DEEPSTACK_MAX];
    uint64_t rows_shape[2] = {ws->header->rows, hidden},
             deep_shape[2] = {(uint64_t)deep->n_rows, hidden};
    uint64_t n_bytes = 0;
    worker_tensor(&tensors[0], rows_shape, 2, FLO__DTYPE__F32, &n_bytes);
    for (int32_t i = done; i < deep->n_layers; i++) {
        Flo__Tensor *t = &tensors[1 + a.n_deep];
        worker_tensor(t, deep_shape, 2, FLO__DTYPE__F32, &n_bytes);
        list[a.n_deep++] = t;
    }
    a.header = (Flo__StepHeader *)ws->header;
    a.hidden = &tensors[0];
    a.deep = list;
    a.deep_layers_done = (uint32_t)(done < deep->n_layers ? done : deep->n_layers);
    worker_wait_room(w);
    unsigned char *payload = n_bytes > 0 ? transport_payload(w->transport, n_bytes) : NULL;
    if (n_bytes > 0) {
        memcpy(payload, w->x, ws->header->rows * hidden * sizeof(float));
        for (size_t i = 0; i < a.n_deep; i++) {
            memcpy(payload + list[i]->offset, deep->features[done + (int32_t)i],
                   (size_t)deep->n_rows * hidden * sizeof(float));
        }
    }
    transport_send(w->transport, worker_home_of(w, w->me->stage + 1), LANE_MAIN, MSG_ACTIVATIONS,
                   &a.base);
}

/* w->x holds the rows; computes them and passes them on. */
static void run_step(worker *w, const Flo__StepHeader *h, const step_deep *deep)
{
    flo_err err;
    int64_t start = clock_us();
    arena_reset(&w->messages);
    for (size_t i = 0; i < h->n_ops; i++) {
        worker_require(w, apply_op(w->stage.cache, h->ops[i], &err), &err);
    }
    step_row *rows = arena_take(&w->messages, ((size_t)h->rows + 1) * sizeof *rows);
    worker_require(w, place_spans(w, h, rows, &err), &err);

    worker_step ws = {.w = w, .header = h, .experts = {.w = w, .step = h->step}};
    for (size_t i = 0; i < h->n_spans; i++) {
        ws.any_dump = ws.any_dump || h->spans[i]->dump;
    }
    step_rows step = {.n_rows = (int32_t)h->rows, .rows = rows, .deep = *deep};
    for (int axis = 0; axis < 3; axis++) {
        step.axes[axis] = h->positions + (size_t)axis * h->rows;
    }
    stage_hooks hooks = {.arg = &ws,
                         .expert_send = expert_send_hook,
                         .expert_gather = expert_gather_hook,
                         .dump = ws.any_dump ? dump_hook : NULL,
                         .output = h->n_speech_rows > 0 ? output_hook : NULL,
                         .progress = progress_hook};
    if (h->n_speech_rows > 0 && w->me->has_embedding && w->model.talker.accept_hidden_layer == 0) {
        worker_tap(&ws, w->x, false);
    }
    if (h->rows > 0) {
        stage_forward(&w->stage, w->x, &step, &hooks);
    }
    if (h->n_speech_rows > 0 && w->me->has_final_norm &&
        w->model.talker.accept_hidden_layer >= w->model.text.n_layers) {
        worker_tap(&ws, w->x, true);
    }
    w->n_steps++;
    w->compute_us += (uint64_t)(clock_us() - start);
    if (w->me->stage + 1 < w->plan.n_stages) {
        pass_on(&ws, deep);
    } else {
        worker_finish_step(&ws);
    }
}

/* Rows of w->x from token ids; -1 takes the next row of the step's embeddings. */
static void embed_rows(worker *w, const Flo__Step *step, const void *payload, size_t payload_bytes)
{
    flo_err err;
    size_t hidden = (size_t)w->model.text.hidden_size, n_given = 0;
    const void *given = NULL;
    for (size_t i = 0; i < step->n_token_ids; i++) {
        n_given += step->token_ids[i] == -1;
    }
    if (n_given > 0) {
        worker_require(w,
                       transport_tensor(step->embeddings, FLO__DTYPE__F32, n_given * hidden,
                                        payload, payload_bytes, "embeddings", &given, &err),
                       &err);
    }
    const float *next = given;
    for (size_t i = 0; i < step->n_token_ids; i++) {
        int32_t id = step->token_ids[i];
        float *row = w->x + i * hidden;
        if (id == -1) {
            memcpy(row, next, hidden * sizeof *row);
            next += hidden;
        } else if (id >= 0 && id < w->model.text.vocab_size) {
            stage_embed(&w->stage, row, &id, 1);
        } else {
            worker_fail(w,
                        flo_fail(&err, FLO_FAIL, "token id %d is outside the vocabulary of %d", id,
                                 w->model.text.vocab_size),
                        &err);
        }
    }
}

static void require_home(worker *w, const incoming *in, bool right_stage)
{
    if (w->me->place != 0 || !right_stage) {
        flo_err err;
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL, "rank %d sent a %s to a worker that does not take it",
                             in->source, message_kind_name(in->kind)),
                    &err);
    }
}

void worker_on_step(worker *w, const incoming *in)
{
    const Flo__Step *step = in->as.step;
    flo_err err;
    worker_require(w, check_header(w, step->header, &err), &err);
    worker_check_epoch(w, in, step->header->epoch);
    require_home(w, in, w->me->stage == 0 && step->n_token_ids == step->header->rows);
    const void *payload = NULL;
    if (in->payload_bytes > 0) {
        payload = transport_take_payload(w->transport, in, NULL);
    }
    embed_rows(w, step, payload, in->payload_bytes);
    step_deep deep;
    take_deep(w, &deep, step->header, step->deep, step->n_deep, 0, payload, in->payload_bytes);
    run_step(w, step->header, &deep);
}

void worker_on_activations(worker *w, const incoming *in)
{
    const Flo__Activations *a = in->as.activations;
    flo_err err;
    worker_require(w, check_header(w, a->header, &err), &err);
    worker_check_epoch(w, in, a->header->epoch);
    require_home(w, in, w->me->stage > 0 && in->payload_bytes <= w->x_bytes);
    if (in->payload_bytes > 0) {
        transport_take_payload(w->transport, in, w->x);
    }
    const void *x;
    size_t n = (size_t)a->header->rows * (size_t)w->model.text.hidden_size;
    worker_require(w,
                   transport_tensor(a->hidden, FLO__DTYPE__F32, n, w->x, in->payload_bytes,
                                    "activations", &x, &err),
                   &err);
    require_home(w, in, x == (const void *)w->x); /* the rows lie in front */
    step_deep deep;
    take_deep(w, &deep, a->header, a->deep, a->n_deep, a->deep_layers_done, w->x,
              in->payload_bytes);
    run_step(w, a->header, &deep);
}

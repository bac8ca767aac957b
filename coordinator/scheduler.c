/*
 * scheduler.c - admission, the making of steps, and what comes back of them.
 *
 * Steps come back in the order they were sent, so the oldest under way is the one that a message of
 * logits belongs to; anything else is a fault.
 */
#include "coordinator/scheduler.h"

#include "common/arena.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "coordinator/kv_ledger.h"
#include "coordinator/speech/speech_span.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_ROWS_BUSY = 128, ARENA_BYTES = 4 << 20 };

typedef struct sent_row { /* a span of a step under way */
    generation *g;
    bool wants_logits;
} sent_row;

typedef struct sent_step {
    uint64_t step;
    int32_t n_spans, n_answered; /* spans whose logits have come, in order */
    sent_row spans[KV_ACTIVE_MAX];
} sent_step;

struct scheduler {
    transport *transport;
    const plan *plan;
    const model_config *model;
    uint64_t epoch, next_step;
    kv_ledger *ledger;
    sampler *sampler;
    generation *waiting, *waiting_last; /* in order of arrival */
    generation *active[KV_ACTIVE_MAX];
    int32_t n_active;
    sent_step *sent; /* ring of n_sent_max */
    int32_t n_sent_max, first_sent, n_sent;
    arena arena;      /* of the step being made */
    int32_t *history; /* [kv_tokens + 1] ids, for the sampler */
    uint64_t *keys;   /* [kv_tokens + 1], for the ledger */
};

flo_code scheduler_new(scheduler **out, transport *t, const plan *p, const model_config *m,
                       uint64_t epoch, flo_err *err)
{
    scheduler *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the scheduler");
    }
    s->transport = t;
    s->plan = p;
    s->model = m;
    s->epoch = epoch;
    s->next_step = 1;
    s->n_sent_max = p->n_stages;
    s->sent = calloc((size_t)s->n_sent_max, sizeof *s->sent);
    s->history = calloc((size_t)p->kv_tokens + 1, sizeof *s->history);
    s->keys = calloc((size_t)p->kv_tokens + 1, sizeof *s->keys);
    flo_code code = s->sent != NULL && s->history != NULL && s->keys != NULL
                        ? FLO_OK
                        : flo_fail(err, FLO_FAIL, "out of memory for the scheduler");
    if (code == FLO_OK) {
        code = kv_ledger_new(&s->ledger, p->kv_tokens, err);
    }
    if (code == FLO_OK) {
        code = sampler_new(&s->sampler, m->text.vocab_size, err);
    }
    if (code == FLO_OK) {
        code = arena_open(&s->arena, ARENA_BYTES, err);
    }
    if (code != FLO_OK) {
        scheduler_free(s);
        return code;
    }
    *out = s;
    return FLO_OK;
}

void scheduler_free(scheduler *s)
{
    if (s == NULL) {
        return;
    }
    arena_close(&s->arena);
    sampler_free(s->sampler);
    kv_ledger_free(s->ledger);
    free(s->history);
    free(s->keys);
    free(s->sent);
    free(s);
}

bool scheduler_busy(const scheduler *s)
{
    return s->n_active > 0 || s->waiting != NULL || s->n_sent > 0;
}

/* --- coming and going --------------------------------------------------------------------------
 */

flo_code scheduler_submit(scheduler *s, generation *g, flo_err *err)
{
    if (g->n_prompt < 1) {
        return flo_fail(err, FLO_USAGE, "the prompt is empty; give at least one token");
    }
    if (g->n_prompt > s->plan->kv_tokens) {
        return flo_fail(
            err, FLO_USAGE,
            "the prompt has %d tokens, the KV cache holds %lld; shorten it or start with a "
            "larger --kv-tokens",
            g->n_prompt, (long long)s->plan->kv_tokens);
    }
    for (int32_t i = 0; i < g->n_prompt; i++) {
        if (g->prompt[i] < 0 || g->prompt[i] >= s->model->text.vocab_size) {
            return flo_fail(err, FLO_USAGE,
                            "prompt id %d (at %d) is outside the vocabulary of %d tokens",
                            g->prompt[i], i, s->model->text.vocab_size);
        }
    }
    CHECK(speech_rows_are_valid(g));
    int64_t room = s->plan->kv_tokens - g->n_prompt + 1; /* the last token needs no place */
    g->max_new = g->max_new < room ? g->max_new : (int32_t)room;
    g->ids = calloc((size_t)g->max_new + 1, sizeof *g->ids);
    g->tokens = g->logprobs >= 0 ? calloc((size_t)g->max_new + 1, sizeof *g->tokens) : NULL;
    if (g->ids == NULL || (g->logprobs >= 0 && g->tokens == NULL)) {
        generation_clear(g);
        return flo_fail(err, FLO_FAIL, "out of memory for an answer of %d tokens", g->max_new);
    }
    g->state = GEN_QUEUED;
    g->submitted_s = clock_s();
    g->next = NULL;
    if (s->waiting == NULL) {
        s->waiting = g;
    } else {
        s->waiting_last->next = g;
    }
    s->waiting_last = g;
    return FLO_OK;
}

static void tell_done(generation *g, finish_reason finish)
{
    g->state = GEN_DONE;
    g->finish = finish;
    g->done_s = clock_s();
    g->on_done(g);
}

static int32_t token_at(const generation *g, int32_t position)
{
    return position < g->n_prompt ? g->prompt[position] : g->ids[position - g->n_prompt];
}

/* The row of a medium at a position; NULL: text. */
static const media_row *media_at(const generation *g, int32_t position)
{
    bool is_medium = g->media != NULL && position < g->n_prompt && g->media[position].row != NULL;
    return is_medium ? &g->media[position] : NULL;
}

/* What tells the first n positions apart. */
static void fill_keys(scheduler *s, const generation *g, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const media_row *medium = media_at(g, i);
        s->keys[i] = medium != NULL ? medium->key : (uint64_t)token_at(g, i);
    }
}

/* Takes g off the active list once no step holds rows of it; its KV cache stays for later turns. */
static void finish(scheduler *s, generation *g, finish_reason reason)
{
    CHECK(g->n_in_flight == 0);
    reason = g->code != FLO_OK ? FINISH_FAILED : reason;
    if (g->n_dump_due > 0 && (reason == FINISH_STOP || reason == FINISH_LENGTH)) {
        g->state = GEN_DRAIN;
        g->finish = reason;
        return;
    }
    fill_keys(s, g, g->n_sent); /* prompt and answer tokens whose positions are computed */
    kv_ledger_retire(s->ledger, g->sequence, s->keys, g->n_sent, reason != FINISH_FAILED);
    for (int32_t i = 0; i < s->n_active; i++) {
        if (s->active[i] == g) {
            memmove(&s->active[i], &s->active[i + 1],
                    (size_t)(s->n_active - i - 1) * sizeof s->active[0]);
            s->n_active--;
            break;
        }
    }
    tell_done(g, reason);
}

static bool take_from_queue(scheduler *s, generation *g)
{
    generation *before = NULL;
    for (generation *q = s->waiting; q != NULL; before = q, q = q->next) {
        if (q != g) {
            continue;
        }
        if (before == NULL) {
            s->waiting = g->next;
        } else {
            before->next = g->next;
        }
        s->waiting_last = s->waiting_last == g ? before : s->waiting_last;
        return true;
    }
    return false;
}

void scheduler_cancel(scheduler *s, generation *g)
{
    if (g->state == GEN_QUEUED && take_from_queue(s, g)) {
        tell_done(g, FINISH_CANCELLED);
    } else if (g->state == GEN_PROMPT || g->state == GEN_DECODE || g->state == GEN_DRAIN) {
        g->cancelled = true;
        if (g->n_in_flight == 0) {
            finish(s, g, FINISH_CANCELLED);
        }
    }
}

/* hidden.0 .. hidden.L and hidden.norm, three tensors of each router, logits where all are wanted.
 */
static int64_t dumped_tensors(const model_config *m, const dump_sink *dump)
{
    int64_t n = m->text.n_layers + 2 + (dump->logits ? 1 : 0);
    for (int32_t i = 0; i < m->text.n_layers; i++) {
        n += m->text.layer_is_sparse[i] ? 3 : 0;
    }
    return n;
}

static void admit(scheduler *s)
{
    while (s->waiting != NULL) {
        generation *g = s->waiting;
        int32_t reuse_max = g->dump != NULL ? 0 : speech_reuse_max(g);
        fill_keys(s, g, g->n_prompt);
        if (!kv_ledger_admit(s->ledger, s->keys, g->n_prompt, (int64_t)g->n_prompt + g->max_new - 1,
                             reuse_max, &g->sequence, &g->n_reused)) {
            return;
        }
        s->waiting = g->next;
        g->n_sent = g->n_reused;
        g->n_dump_due = g->dump != NULL ? g->n_prompt * dumped_tensors(s->model, g->dump) : 0;
        g->state = GEN_PROMPT;
        s->active[s->n_active++] = g;
        log_debug("sequence %llu: %d prompt tokens, %d of them known",
                  (unsigned long long)g->sequence, g->n_prompt, g->n_reused);
    }
}

/* --- making a step -----------------------------------------------------------------------------
 */

typedef struct step_builder {
    scheduler *s;
    sent_step *sent;
    Flo__StepHeader header;
    Flo__Span spans[KV_ACTIVE_MAX];
    Flo__Span *span_list[KV_ACTIVE_MAX];
    int32_t ids[STEP_ROWS_MAX];
    float positions[3][STEP_ROWS_MAX];
    const media_row *media[STEP_ROWS_MAX]; /* rows that come from media, in order */
    int32_t n_media;
    uint32_t deep_rows[STEP_ROWS_MAX]; /* those of them that have deep-stack features */
    const media_row *deep[STEP_ROWS_MAX];
    uint32_t speech_rows[STEP_ROWS_MAX];
} step_builder;

/* One row of a sequence: its id, or where it comes from, and its place on the three axes. */
static void add_row(step_builder *b, const generation *g, int32_t position)
{
    uint32_t at = b->header.rows++;
    const media_row *medium = media_at(g, position);
    b->ids[at] = medium != NULL ? -1 : token_at(g, position);
    for (int axis = 0; axis < 3; axis++) {
        b->positions[axis][at] =
            position < g->n_prompt ? g->axes[(size_t)axis * (size_t)g->n_prompt + (size_t)position]
                                   : g->next_position[axis] + (float)(position - g->n_prompt);
    }
    if (medium != NULL) {
        b->media[b->n_media++] = medium;
    }
    if (medium != NULL && medium->deep != NULL) {
        b->deep[b->header.n_deep_rows] = medium;
        b->deep_rows[b->header.n_deep_rows++] = at;
    }
}

static void add_span(step_builder *b, generation *g, int32_t n_rows)
{
    int32_t end = g->n_sent + n_rows;
    size_t at = b->header.n_spans++;
    Flo__Span *span = b->span_list[at] = &b->spans[at];
    flo__span__init(span);
    span->sequence = g->sequence;
    span->first = (uint32_t)g->n_sent;
    span->rows = (uint32_t)n_rows;
    span->want_logits = end >= g->n_prompt;
    span->top = span->want_logits ? (uint32_t)sampling_top(&g->sampling, g->logprobs) : 0;
    span->sums = span->want_logits && g->logprobs >= 0;
    span->dump = g->dump != NULL && g->n_sent < g->n_prompt;
    span->dump_logits = span->dump && g->dump->logits;
    if (span->dump && span->want_logits && !g->dump->logits) {
        span->top = 0; /* the last row goes to the dump */
    }
    speech_span_name_rows(span, b->speech_rows, &b->header.n_speech_rows, b->header.rows, g);
    for (int32_t i = 0; i < n_rows; i++) {
        add_row(b, g, g->n_sent + i);
    }
    b->sent->spans[at] = (sent_row){g, span->want_logits};
    b->sent->n_spans++;
    g->n_sent = end;
    g->n_in_flight++;
}

static bool ready_to_decode(const generation *g)
{
    return g->state == GEN_DECODE && g->n_in_flight == 0 && !g->cancelled;
}

/* One row for each sequence that waits for its next token; where several steps are to be under way,
 * each takes its share of the sequences. */
static void add_decode_rows(step_builder *b)
{
    scheduler *s = b->s;
    int32_t decoding = 0;
    for (int32_t i = 0; i < s->n_active; i++) {
        decoding += s->active[i]->state == GEN_DECODE;
    }
    int32_t share = (decoding + s->n_sent_max - 1) / s->n_sent_max;
    for (int32_t i = 0; i < s->n_active && share > 0; i++) {
        if (ready_to_decode(s->active[i])) {
            add_span(b, s->active[i], 1);
            share--;
        }
    }
}

/* Rows of a prompt that go at a time: all that fit where one stage works alone; less where a
 * pipeline is to be filled, or where others wait for their next token. */
static int32_t chunk_rows(const step_builder *b, const generation *g)
{
    int32_t left = g->n_prompt - g->n_sent, free_rows = STEP_ROWS_MAX - (int32_t)b->header.rows;
    int32_t chunk = STEP_ROWS_MAX;
    if (b->header.rows > 0) {
        chunk = CHUNK_ROWS_BUSY;
    } else if (b->s->n_sent_max > 1) {
        chunk = (left + 2 * b->s->n_sent_max - 1) / (2 * b->s->n_sent_max);
        chunk = chunk < CHUNK_ROWS_BUSY ? CHUNK_ROWS_BUSY : chunk;
    }
    chunk = chunk < left ? chunk : left;
    return chunk < free_rows ? chunk : free_rows;
}

static void add_prompt_rows(step_builder *b)
{
    scheduler *s = b->s;
    for (int32_t i = 0; i < s->n_active; i++) {
        generation *g = s->active[i];
        if (g->state == GEN_PROMPT && !g->cancelled && g->n_sent < g->n_prompt &&
            b->header.rows < STEP_ROWS_MAX) {
            add_span(b, g, chunk_rows(b, g));
        }
    }
}

static void add_ops(step_builder *b)
{
    arena *a = &b->s->arena;
    kv_op *ops = arena_take(a, KV_OPS_MAX * sizeof *ops);
    size_t n = (size_t)kv_ledger_take_ops(b->s->ledger, ops);
    Flo__SequenceOp *messages = arena_take(a, (n + 1) * sizeof *messages);
    b->header.ops = arena_take(a, (n + 1) * sizeof *b->header.ops);
    b->header.n_ops = n;
    for (size_t i = 0; i < n; i++) {
        Flo__SequenceOp *m = b->header.ops[i] = &messages[i];
        flo__sequence_op__init(m);
        m->kind = (Flo__SequenceOp__Kind)ops[i].kind;
        m->sequence = ops[i].sequence;
        m->source = ops[i].source;
        m->tokens = (uint32_t)ops[i].tokens;
    }
}

/* A tensor of a step's payload: n rows of H floats, at *n_bytes of it. */
static void rows_tensor(Flo__Tensor *t, uint64_t shape[2], uint64_t *n_bytes)
{
    flo__tensor__init(t);
    t->dtype = FLO__DTYPE__F32;
    t->order = FLO__BYTE_ORDER__LITTLE;
    t->shape = shape;
    t->n_shape = 2;
    t->offset = *n_bytes;
    *n_bytes += shape[0] * shape[1] * sizeof(float);
}

/* The rows of media, and their deep-stack features, as the step's payload. */
static void put_media(step_builder *b, Flo__Step *step)
{
    scheduler *s = b->s;
    size_t hidden = (size_t)s->model->text.hidden_size, n_deep = b->header.n_deep_rows;
    size_t n_sets = n_deep > 0 ? (size_t)s->model->vision.n_deepstack : 0;
    uint64_t n_bytes = 0, *shapes = arena_take(&s->arena, 4 * sizeof *shapes);
    Flo__Tensor *tensors = arena_take(&s->arena, (1 + n_sets) * sizeof *tensors);
    shapes[0] = (uint64_t)b->n_media;
    shapes[2] = n_deep;
    shapes[1] = shapes[3] = hidden;
    rows_tensor(&tensors[0], shapes, &n_bytes);
    step->embeddings = &tensors[0];
    step->deep = arena_take(&s->arena, (n_sets + 1) * sizeof *step->deep);
    step->n_deep = n_sets;
    for (size_t k = 0; k < n_sets; k++) {
        rows_tensor(&tensors[1 + k], shapes + 2, &n_bytes);
        step->deep[k] = &tensors[1 + k];
    }
    float *out = transport_payload(s->transport, n_bytes);
    for (int32_t i = 0; i < b->n_media; i++, out += hidden) {
        memcpy(out, b->media[i]->row, hidden * sizeof *out);
    }
    for (size_t k = 0; k < n_sets; k++) {
        for (size_t i = 0; i < n_deep; i++, out += hidden) {
            memcpy(out, b->deep[i]->deep + k * b->deep[i]->deep_stride, hidden * sizeof *out);
        }
    }
}

static void send_step(step_builder *b)
{
    scheduler *s = b->s;
    size_t rows = b->header.rows;
    float *positions = arena_take(&s->arena, 3 * rows * sizeof *positions);
    for (size_t axis = 0; axis < 3; axis++) {
        memcpy(positions + axis * rows, b->positions[axis], rows * sizeof *positions);
    }
    add_ops(b);
    b->header.epoch = s->epoch;
    b->header.step = b->sent->step = s->next_step++;
    b->header.spans = b->span_list;
    b->header.positions = positions;
    b->header.n_positions = 3 * rows;
    b->header.deep_rows = b->deep_rows;
    b->header.speech_rows = b->speech_rows;
    Flo__Step step = FLO__STEP__INIT;
    step.header = &b->header;
    step.token_ids = b->ids;
    step.n_token_ids = rows;
    if (b->n_media > 0) {
        put_media(b, &step);
    }
    transport_send(s->transport, plan_stage_home(s->plan, 0), LANE_MAIN, MSG_STEP, &step.base);
    s->n_sent++;
}

void scheduler_pump(scheduler *s)
{
    admit(s);
    while (s->n_sent < s->n_sent_max && transport_has_slot(s->transport)) {
        arena_reset(&s->arena);
        step_builder *b = arena_take(&s->arena, sizeof *b);
        b->s = s;
        b->n_media = 0;
        b->sent = &s->sent[(s->first_sent + s->n_sent) % s->n_sent_max];
        b->sent->n_spans = b->sent->n_answered = 0;
        flo__step_header__init(&b->header);
        add_decode_rows(b);
        add_prompt_rows(b);
        if (b->header.rows == 0) {
            return;
        }
        send_step(b);
    }
}

/* --- what comes back ---------------------------------------------------------------------------
 */

/* log(sum(exp(logits))) of the whole row, from the grains' sums. */
static double log_sum_exp(const Flo__RowLogits *m)
{
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < m->n_grain_max; i++) {
        max = (double)m->grain_max[i] > max ? (double)m->grain_max[i] : max;
    }
    for (size_t i = 0; i < m->n_grain_sum; i++) {
        sum += (double)m->grain_sum[i] * exp((double)m->grain_max[i] - max);
    }
    return max + log(sum);
}

/* The K largest of a row; a shortlist is sorted already. */
static void note_logprobs(token_logprob *out, const logit_row *row, double lse, int32_t k,
                          int32_t id)
{
    out->n_top = k < row->n ? k : row->n;
    for (int32_t i = 0; i < row->n; i++) {
        int32_t this_id = row->ids != NULL ? row->ids[i] : i;
        if (this_id == id) {
            out->logprob = (float)((double)row->logits[i] - lse);
        }
    }
    int32_t n = 0;
    for (int32_t i = 0; i < row->n; i++) {
        float z = (float)((double)row->logits[i] - lse);
        int32_t at = n < out->n_top ? n++ : out->n_top;
        /* insertion: equal ones keep the lower id in front */
        while (at > 0 && out->top_logprobs[at - 1] < z) {
            if (at < out->n_top) {
                out->top_logprobs[at] = out->top_logprobs[at - 1];
                out->top_ids[at] = out->top_ids[at - 1];
            }
            at--;
        }
        if (at < out->n_top) {
            out->top_logprobs[at] = z;
            out->top_ids[at] = row->ids != NULL ? row->ids[i] : i;
        }
    }
}

static bool is_stop(const generation *g, int32_t id)
{
    for (int32_t i = 0; i < g->n_stop; i++) {
        if (g->stop_ids[i] == id) {
            return true;
        }
    }
    return false;
}

static flo_code read_row(scheduler *s, const incoming *in, const Flo__RowLogits *m,
                         const void *payload, logit_row *row, flo_err *err)
{
    if (m->all != NULL) {
        const void *all;
        size_t n = (size_t)s->model->text.vocab_size;
        flo_code code = transport_tensor(m->all, FLO__DTYPE__F32, n, payload, in->payload_bytes,
                                         "logits", &all, err);
        *row = (logit_row){.n = (int32_t)n, .ids = NULL, .logits = all};
        return code;
    }
    for (size_t i = 0; i < m->n_ids; i++) {
        if (m->ids[i] < 0 || m->ids[i] >= s->model->text.vocab_size || m->n_logits != m->n_ids) {
            return flo_fail(err, FLO_FAIL, "rank %d sent logits of ids outside the vocabulary",
                            in->source);
        }
    }
    *row = (logit_row){.n = (int32_t)m->n_ids, .ids = m->ids, .logits = m->logits};
    return FLO_OK;
}

/* The next token of an answer, and whether that ends it. */
static flo_code take_token(scheduler *s, generation *g, const Flo__RowLogits *m,
                           const logit_row *row, flo_err *err)
{
    int32_t n_history = g->n_prompt + g->n_ids, id;
    for (int32_t i = 0; i < n_history; i++) {
        s->history[i] = token_at(g, i);
    }
    flo_code code = sampler_choose(s->sampler, &g->sampling, row, s->history, n_history,
                                   (uint64_t)g->n_ids, &id, err);
    if (code != FLO_OK) {
        return code;
    }
    if (g->logprobs >= 0) {
        double lse = log_sum_exp(m);
        if (!isfinite(lse)) {
            return flo_fail(err, FLO_FAIL,
                            "the model computed logits that are not finite; the checkpoint's "
                            "weights are damaged or not those of this architecture");
        }
        note_logprobs(&g->tokens[g->n_ids], row, lse, g->logprobs, id);
    }
    if (g->n_ids == 0) {
        g->first_token_s = clock_s();
    }
    g->ids[g->n_ids++] = id;
    g->state = GEN_DECODE;
    g->on_token(g, id);
    if (is_stop(g, id)) {
        finish(s, g, FINISH_STOP);
    } else if (g->n_ids == g->max_new) {
        finish(s, g, FINISH_LENGTH);
    }
    return FLO_OK;
}

static flo_code take_row(scheduler *s, generation *g, const incoming *in, const Flo__RowLogits *m,
                         const void *payload, flo_err *err)
{
    logit_row row;
    flo_code code = read_row(s, in, m, payload, &row, err);
    if (code != FLO_OK) {
        return code;
    }
    if (g->n_ids == 0 && g->dump != NULL && !g->dump->logits) {
        code = g->dump->rows(g->dump->arg, "logits", g->n_prompt - 1, 1, row.n, false, row.logits,
                             &g->err);
        if (code != FLO_OK) {
            g->code = code;
            finish(s, g, FINISH_FAILED);
            return FLO_OK;
        }
    }
    code = take_token(s, g, m, &row, &g->err);
    if (code != FLO_OK) {
        g->code = code;
        finish(s, g, FINISH_FAILED);
    }
    return FLO_OK;
}

flo_code scheduler_on_logits(scheduler *s, const incoming *in, flo_err *err)
{
    const Flo__LogitsShortlist *m = in->as.logits;
    sent_step *step = &s->sent[s->first_sent];
    if (s->n_sent == 0 || m->epoch != s->epoch || m->step != step->step) {
        return flo_fail(err, FLO_FAIL, "rank %d sent logits of step %llu, which is not under way",
                        in->source, (unsigned long long)m->step);
    }
    const void *payload =
        in->payload_bytes > 0 ? transport_take_payload(s->transport, in, NULL) : NULL;
    size_t row = 0;
    /* Answers that end here are taken off the active list, never off the step's own list. */
    while (step->n_answered < step->n_spans) {
        sent_row *span = &step->spans[step->n_answered];
        if (span->wants_logits && row == m->n_rows) {
            break;
        }
        step->n_answered++;
        generation *g = span->g;
        g->n_in_flight--;
        const Flo__RowLogits *logits = span->wants_logits ? m->rows[row++] : NULL;
        if (g->cancelled) {
            if (g->n_in_flight == 0) {
                finish(s, g, FINISH_CANCELLED);
            }
        } else if (logits != NULL) {
            g->prompt_s = g->n_ids == 0 ? clock_s() : g->prompt_s;
            flo_code code = take_row(s, g, in, logits, payload, err);
            if (code != FLO_OK) {
                return code;
            }
        }
    }
    bool complete = step->n_answered == step->n_spans;
    if (row != m->n_rows || complete != (bool)m->last) {
        return flo_fail(err, FLO_FAIL,
                        "rank %d sent %zu rows of logits for step %llu, more or fewer than "
                        "were asked",
                        in->source, m->n_rows, (unsigned long long)m->step);
    }
    if (complete) {
        s->first_sent = (s->first_sent + 1) % s->n_sent_max;
        s->n_sent--;
    }
    return FLO_OK;
}

static generation *find_dumped(scheduler *s, uint64_t sequence)
{
    for (int32_t i = 0; i < s->n_active; i++) {
        generation *g = s->active[i];
        if (g->sequence == sequence && g->dump != NULL && !g->cancelled) {
            return g;
        }
    }
    return NULL;
}

flo_code scheduler_on_dump(scheduler *s, const incoming *in, flo_err *err)
{
    const Flo__DumpRows *m = in->as.dump_rows;
    const void *payload =
        in->payload_bytes > 0 ? transport_take_payload(s->transport, in, NULL) : NULL;
    const void *data;
    if (m->epoch != s->epoch || m->rows == NULL || m->rows->n_shape != 2 ||
        m->rows->shape[1] > INT32_MAX) {
        return flo_fail(err, FLO_FAIL, "rank %d sent a tensor that is no rows of a dump",
                        in->source);
    }
    generation *g = find_dumped(s, m->sequence);
    if (g == NULL) {
        log_debug("rows of %s came after their request had ended", m->name);
        return FLO_OK;
    }
    uint64_t rows = m->rows->shape[0], columns = m->rows->shape[1];
    if (m->first > (uint32_t)g->n_prompt || rows > (uint64_t)g->n_prompt - m->first) {
        return flo_fail(err, FLO_FAIL, "rank %d sent rows of a dump past the prompt's end",
                        in->source);
    }
    flo_code code = transport_tensor(m->rows, m->rows->dtype, rows * columns, payload,
                                     in->payload_bytes, m->name, &data, err);
    if (code != FLO_OK) {
        return code;
    }
    g->n_dump_due -= (int64_t)rows;
    code = g->dump->rows(g->dump->arg, m->name, (int32_t)m->first, (int32_t)rows, (int32_t)columns,
                         m->rows->dtype == FLO__DTYPE__I32, data, &g->err);
    if (code != FLO_OK) {
        g->code = code;
        scheduler_cancel(s, g); /* ends when its steps are back, with the fault noted above */
    } else if (g->n_dump_due == 0 && g->state == GEN_DRAIN) {
        finish(s, g, g->finish);
    }
    return FLO_OK;
}

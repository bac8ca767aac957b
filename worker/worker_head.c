/*
 * worker_head.c - from the last layer's rows to what the coordinator needs of their logits.
 *
 * Wanted rows go through the head in batches of HEAD_ROWS_MAX: every worker of the last stage makes
 * the logits of its rows of the vocabulary, the home merges the parts (shortlists by logit, grains
 * and whole rows in order of the vocabulary) and sends one message for each batch.
 */
#include "worker/worker.h"

#include "common/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- the spans' dump ---------------------------------------------------------------------------
 */

static void send_dump(worker_step *ws, const Flo__Span *span, uint32_t first_row, uint32_t n_rows,
                      const char *name, const void *rows, int32_t columns, bool is_ids)
{
    worker *w = ws->w;
    Flo__DumpRows d = FLO__DUMP_ROWS__INIT;
    Flo__Tensor tensor;
    uint64_t shape[2] = {n_rows, (uint64_t)columns}, n_bytes = 0;
    worker_tensor(&tensor, shape, 2, is_ids ? FLO__DTYPE__I32 : FLO__DTYPE__F32, &n_bytes);
    d.epoch = w->epoch;
    d.step = ws->header->step;
    d.sequence = span->sequence;
    d.first = span->first + first_row;
    d.name = (char *)name;
    d.rows = &tensor;
    worker_wait_room(w);
    memcpy(transport_payload(w->transport, n_bytes), rows, n_bytes);
    transport_send(w->transport, 0, LANE_MAIN, MSG_DUMP_ROWS, &d.base);
}

void worker_dump(worker_step *ws, const char *name, const void *rows, int32_t columns, bool is_ids)
{
    const unsigned char *at = rows;
    for (size_t i = 0; i < ws->header->n_spans; i++) {
        const Flo__Span *span = ws->header->spans[i];
        if (span->dump) {
            send_dump(ws, span, 0, span->rows, name, at, columns, is_ids);
        }
        at += (size_t)span->rows * (size_t)columns * 4;
    }
}

/* --- one batch of rows, on all workers of the stage --------------------------------------------
 */

typedef struct merged_row {
    int32_t n_ids, n_grains;
    int32_t *ids;
    float *logits, *grain_max, *grain_sum;
    float *all; /* [vocab] in the message being made, or NULL */
} merged_row;

static uint64_t count_whole(const head_want *wants, int32_t n)
{
    uint64_t whole = 0;
    for (int32_t r = 0; r < n; r++) {
        whole += wants[r].top == 0;
    }
    return whole;
}

static void send_jobs(worker_step *ws, const float *hidden, const head_want *wants, int32_t n)
{
    worker *w = ws->w;
    uint32_t tops[HEAD_ROWS_MAX];
    protobuf_c_boolean sums[HEAD_ROWS_MAX];
    for (int32_t r = 0; r < n; r++) {
        tops[r] = (uint32_t)wants[r].top;
        sums[r] = wants[r].sums;
    }
    for (int32_t p = 1; p < plan_stage_size(&w->plan, w->me->stage); p++) {
        if (w->me[p].n_vocab_rows == 0) {
            continue;
        }
        Flo__HeadJob job = FLO__HEAD_JOB__INIT;
        Flo__Tensor tensor;
        uint64_t shape[2] = {(uint64_t)n, (uint64_t)w->model.text.hidden_size}, n_bytes = 0;
        worker_tensor(&tensor, shape, 2, FLO__DTYPE__F32, &n_bytes);
        job.epoch = w->epoch;
        job.step = ws->header->step;
        job.n_tops = job.n_sums = (size_t)n;
        job.tops = tops;
        job.sums = sums;
        job.hidden = &tensor;
        worker_wait_room(w);
        memcpy(transport_payload(w->transport, n_bytes), hidden, n_bytes);
        transport_send(w->transport, w->me->rank + p, LANE_MAIN, MSG_HEAD_JOB, &job.base);
        ws->n_sent++;
    }
}

/* Copies a part's shortlist, grains and whole row to their places among the other parts'. */
static void merge_part(merged_row *m, const plan_worker *owner, const int32_t *ids,
                       const float *logits, size_t n_ids, const float *grain_max,
                       const float *grain_sum, size_t n_grains, const float *all)
{
    if (n_ids > 0) {
        memcpy(m->ids + m->n_ids, ids, n_ids * sizeof *ids);
        memcpy(m->logits + m->n_ids, logits, n_ids * sizeof *logits);
        m->n_ids += (int32_t)n_ids;
    }
    if (n_grains > 0) {
        size_t first = (size_t)(owner->first_vocab_row / LM_HEAD_GRAIN);
        memcpy(m->grain_max + first, grain_max, n_grains * sizeof *grain_max);
        memcpy(m->grain_sum + first, grain_sum, n_grains * sizeof *grain_sum);
        m->n_grains += (int32_t)n_grains;
    }
    if (m->all != NULL) {
        memcpy(m->all + owner->first_vocab_row, all, (size_t)owner->n_vocab_rows * sizeof *all);
    }
}

static void take_part(worker_step *ws, merged_row *rows, const head_want *wants, int32_t n)
{
    worker *w = ws->w;
    incoming in;
    flo_err err;
    worker_wait_reply(w, &in);
    int32_t place = in.source - w->me->rank;
    const Flo__HeadResult *result = in.as.head_result;
    bool sound = in.kind == MSG_HEAD_RESULT && place > 0 &&
                 place < plan_stage_size(&w->plan, w->me->stage) && result->epoch == w->epoch &&
                 result->step == ws->header->step && result->n_rows == (size_t)n;
    const plan_worker *owner = w->me + place;
    size_t n_grains =
        sound ? (size_t)((owner->n_vocab_rows + LM_HEAD_GRAIN - 1) / LM_HEAD_GRAIN) : 0;
    const void *payload = NULL;
    if (sound && in.payload_bytes > 0) {
        payload = transport_take_payload(w->transport, &in, NULL);
    }
    for (int32_t r = 0; sound && r < n; r++) {
        const Flo__RowLogits *part = result->rows[r];
        const void *all = NULL;
        size_t ids_max = wants[r].top > 0 ? (size_t)owner->n_vocab_rows : 0;
        sound = part->n_ids == part->n_logits && part->n_ids <= ids_max &&
                part->n_grain_max == (wants[r].sums ? n_grains : 0) &&
                part->n_grain_sum == part->n_grain_max;
        if (sound && wants[r].top == 0) {
            worker_require(w,
                           transport_tensor(part->all, FLO__DTYPE__F32, (size_t)owner->n_vocab_rows,
                                            payload, in.payload_bytes, "logits", &all, &err),
                           &err);
        }
        if (sound) {
            merge_part(&rows[r], owner, part->ids, part->logits, part->n_ids, part->grain_max,
                       part->grain_sum, part->n_grain_max, all);
        }
    }
    if (!sound) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL, "rank %d answered step %llu with a stray %s",
                             in.source, (unsigned long long)ws->header->step,
                             message_kind_name(in.kind)),
                    &err);
    }
}

/* --- merged shortlists -------------------------------------------------------------------------
 */

typedef struct entry {
    float logit;
    int32_t id;
} entry;

/* What is not a number comes first: the sampler must see it to refuse it. */
static int by_falling_logit(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (isnan(x->logit) != isnan(y->logit)) {
        return isnan(x->logit) ? -1 : 1;
    }
    if (!isnan(x->logit) && x->logit != y->logit) {
        return x->logit > y->logit ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

/* Of several parts' K largest the K largest, with the K-th's ties. */
static void cut_shortlist(merged_row *m, int32_t top, arena *a)
{
    size_t mark = a->used;
    entry *list = arena_take(a, (size_t)m->n_ids * sizeof *list + 1);
    for (int32_t i = 0; i < m->n_ids; i++) {
        list[i] = (entry){m->logits[i], m->ids[i]};
    }
    qsort(list, (size_t)m->n_ids, sizeof *list, by_falling_logit);
    int32_t n = m->n_ids < top ? m->n_ids : top;
    while (n > 0 && n < m->n_ids && list[n].logit == list[n - 1].logit) {
        n++;
    }
    for (int32_t i = 0; i < n; i++) {
        m->logits[i] = list[i].logit;
        m->ids[i] = list[i].id;
    }
    m->n_ids = n;
    a->used = mark;
}

static void start_rows(worker *w, merged_row *rows, const head_want *wants, int32_t n, float *all)
{
    size_t vocab = (size_t)w->model.text.vocab_size,
           grains = (vocab + LM_HEAD_GRAIN - 1) / LM_HEAD_GRAIN;
    for (int32_t r = 0; r < n; r++) {
        rows[r] = (merged_row){0};
        if (wants[r].top == 0) {
            rows[r].all = all;
            all += vocab;
        } else {
            rows[r].ids = arena_take(&w->messages, vocab * sizeof *rows[r].ids);
            rows[r].logits = arena_take(&w->messages, vocab * sizeof *rows[r].logits);
        }
        rows[r].grain_max = arena_take(&w->messages, grains * sizeof(float));
        rows[r].grain_sum = arena_take(&w->messages, grains * sizeof(float));
    }
}

/* Logits of up to HEAD_ROWS_MAX normed rows, merged over the workers of the stage. */
static void make_rows(worker_step *ws, merged_row *rows, const float *hidden,
                      const head_want *wants, int32_t n, float *all)
{
    worker *w = ws->w;
    head_row own[HEAD_ROWS_MAX];
    send_jobs(ws, hidden, wants, n);
    start_rows(w, rows, wants, n, all);
    arena_reset(&w->head);
    head_forward(&w->stage, own, hidden, wants, n, &w->head);
    for (int32_t r = 0; r < n; r++) {
        merge_part(&rows[r], w->me, own[r].top_ids, own[r].top_logits, (size_t)own[r].n_top,
                   own[r].grain_max, own[r].grain_sum, (size_t)own[r].n_grains, own[r].logits);
    }
    for (; ws->n_sent > 0; ws->n_sent--) {
        take_part(ws, rows, wants, n);
    }
    for (int32_t r = 0; r < n; r++) {
        if (wants[r].top > 0) {
            cut_shortlist(&rows[r], wants[r].top, &w->messages);
        }
    }
}

/* --- the home's end of a step ------------------------------------------------------------------
 */

/* Fills the message of one row; where it carries the whole row, that is the next in the payload. */
static void row_message(worker *w, Flo__RowLogits *out, Flo__Tensor *tensor, uint64_t shape[2],
                        const merged_row *m, uint64_t *offset)
{
    flo__row_logits__init(out);
    out->n_ids = out->n_logits = (size_t)m->n_ids;
    out->ids = m->ids;
    out->logits = m->logits;
    out->n_grain_max = out->n_grain_sum = (size_t)m->n_grains;
    out->grain_max = m->grain_max;
    out->grain_sum = m->grain_sum;
    if (m->all != NULL) {
        shape[0] = (uint64_t)w->model.text.vocab_size;
        worker_tensor(tensor, shape, 1, FLO__DTYPE__F32, offset);
        out->all = tensor;
    }
}

static void send_shortlist(worker_step *ws, const float *hidden, const head_want *wants, int32_t n,
                           bool last)
{
    worker *w = ws->w;
    merged_row rows[HEAD_ROWS_MAX];
    Flo__RowLogits messages[HEAD_ROWS_MAX], *list[HEAD_ROWS_MAX];
    Flo__Tensor tensors[HEAD_ROWS_MAX];
    uint64_t shapes[HEAD_ROWS_MAX][2], offset = 0;
    size_t mark = w->messages.used;
    uint64_t all_bytes = count_whole(wants, n) * (uint64_t)w->model.text.vocab_size * sizeof(float);
    if (n > 0) {
        /* Whole rows are merged where they lie and copied once into the message below: the jobs to
         * the other workers need the sending place in between. */
        float *all = all_bytes > 0 ? arena_take(&w->messages, all_bytes) : NULL;
        make_rows(ws, rows, hidden, wants, n, all);
        if (all_bytes > 0) {
            worker_wait_room(w);
            memcpy(transport_payload(w->transport, all_bytes), all, all_bytes);
        }
    }
    Flo__LogitsShortlist m = FLO__LOGITS_SHORTLIST__INIT;
    for (int32_t r = 0; r < n; r++) {
        row_message(w, &messages[r], &tensors[r], shapes[r], &rows[r], &offset);
        list[r] = &messages[r];
    }
    m.epoch = w->epoch;
    m.step = ws->header->step;
    m.n_rows = (size_t)n;
    m.rows = list;
    m.last = last;
    transport_send(w->transport, 0, LANE_MAIN, MSG_LOGITS, &m.base);
    w->messages.used = mark;
}

/* hidden.norm and logits of all rows of the dumped spans. */
static void dump_final_rows(worker_step *ws)
{
    worker *w = ws->w;
    size_t hidden = (size_t)w->model.text.hidden_size, vocab = (size_t)w->model.text.vocab_size;
    const head_want whole[HEAD_ROWS_MAX] = {{0}};
    const float *x = w->x;
    for (size_t i = 0; i < ws->header->n_spans; i++) {
        const Flo__Span *span = ws->header->spans[i];
        for (uint32_t r = 0; span->dump && r < span->rows; r += HEAD_ROWS_MAX) {
            uint32_t n = span->rows - r < HEAD_ROWS_MAX ? span->rows - r : HEAD_ROWS_MAX;
            size_t mark = w->messages.used;
            merged_row rows[HEAD_ROWS_MAX];
            float *normed = arena_take(&w->messages, n * hidden * sizeof *normed);
            head_final_norm(&w->stage, normed, x + r * hidden, (int32_t)n);
            send_dump(ws, span, r, n, "hidden.norm", normed, (int32_t)hidden, false);
            if (span->dump_logits) {
                float *all = arena_take(&w->messages, n * vocab * sizeof *all);
                make_rows(ws, rows, normed, whole, (int32_t)n, all);
                send_dump(ws, span, r, n, "logits", all, (int32_t)vocab, false);
            }
            w->messages.used = mark;
        }
        x += span->rows * hidden;
    }
}

void worker_finish_step(worker_step *ws)
{
    worker *w = ws->w;
    size_t hidden = (size_t)w->model.text.hidden_size;
    if (ws->any_dump) {
        dump_final_rows(ws);
    }
    size_t n_wanted = 0, done = 0;
    for (size_t i = 0; i < ws->header->n_spans; i++) {
        n_wanted += ws->header->spans[i]->want_logits ? 1 : 0;
    }
    size_t mark = w->messages.used;
    float *normed = arena_take(&w->messages, HEAD_ROWS_MAX * hidden * sizeof *normed);
    head_want wants[HEAD_ROWS_MAX];
    int32_t n = 0;
    const float *x = w->x;
    for (size_t i = 0; i < ws->header->n_spans; i++) {
        const Flo__Span *span = ws->header->spans[i];
        x += span->rows * hidden;
        if (!span->want_logits) {
            continue;
        }
        head_final_norm(&w->stage, normed + (size_t)n * hidden, x - hidden, 1);
        wants[n++] = (head_want){.top = (int32_t)span->top, .sums = span->sums};
        done++;
        if (n == HEAD_ROWS_MAX || done == n_wanted) {
            send_shortlist(ws, normed, wants, n, done == n_wanted);
            n = 0;
        }
    }
    if (n_wanted == 0) {
        send_shortlist(ws, normed, wants, 0, true);
    }
    w->messages.used = mark;
}

/* --- another worker's part ---------------------------------------------------------------------
 */

void worker_on_head_job(worker *w, const incoming *in)
{
    const Flo__HeadJob *job = in->as.head_job;
    flo_err err;
    worker_check_epoch(w, in, job->epoch);
    size_t hidden = (size_t)w->model.text.hidden_size, n = job->n_tops;
    if (n == 0 || n > HEAD_ROWS_MAX || job->n_sums != n || in->payload_bytes == 0 ||
        w->me->n_vocab_rows == 0 || in->source != worker_home_of(w, w->me->stage)) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL, "rank %d sent a head job that is not this worker's",
                             in->source),
                    &err);
    }
    const void *rows, *payload = transport_take_payload(w->transport, in, NULL);
    worker_require(w,
                   transport_tensor(job->hidden, FLO__DTYPE__F32, n * hidden, payload,
                                    in->payload_bytes, "head job", &rows, &err),
                   &err);
    head_want wants[HEAD_ROWS_MAX];
    for (size_t r = 0; r < n; r++) {
        wants[r] = (head_want){.top = (int32_t)job->tops[r], .sums = job->sums[r]};
    }
    head_row out[HEAD_ROWS_MAX];
    arena_reset(&w->head);
    head_forward(&w->stage, out, rows, wants, (int32_t)n, &w->head);

    Flo__RowLogits messages[HEAD_ROWS_MAX], *list[HEAD_ROWS_MAX];
    Flo__Tensor tensors[HEAD_ROWS_MAX];
    uint64_t shape[2] = {(uint64_t)w->me->n_vocab_rows, 0}, offset = 0;
    size_t row_bytes = (size_t)w->me->n_vocab_rows * sizeof(float);
    uint64_t whole = count_whole(wants, (int32_t)n);
    unsigned char *all = whole > 0 ? transport_payload(w->transport, whole * row_bytes) : NULL;
    for (size_t r = 0; r < n; r++) {
        Flo__RowLogits *m = list[r] = &messages[r];
        flo__row_logits__init(m);
        m->n_ids = m->n_logits = (size_t)out[r].n_top;
        m->ids = (int32_t *)out[r].top_ids;
        m->logits = (float *)out[r].top_logits;
        m->n_grain_max = m->n_grain_sum = (size_t)out[r].n_grains;
        m->grain_max = (float *)out[r].grain_max;
        m->grain_sum = (float *)out[r].grain_sum;
        if (wants[r].top == 0) {
            memcpy(all + offset, out[r].logits, row_bytes);
            worker_tensor(&tensors[r], shape, 1, FLO__DTYPE__F32, &offset);
            m->all = &tensors[r];
        }
    }
    Flo__HeadResult result = FLO__HEAD_RESULT__INIT;
    result.epoch = w->epoch;
    result.step = job->step;
    result.n_rows = n;
    result.rows = list;
    transport_send(w->transport, in->source, LANE_REPLY, MSG_HEAD_RESULT, &result.base);
}

/*
 * worker_tap.c - hidden states of the thinker that the talker listens to, on their way to it.
 *
 * The header of a step says which rows, its spans whose. Rows are gathered where they are sent
 * from, or computed with.
 */
#include "worker/worker.h"

#include <string.h>

flo_code worker_tap_check(const worker *w, const Flo__StepHeader *h, flo_err *err)
{
    size_t k = 0;
    uint32_t at = 0;
    bool sound = h->n_speech_rows == 0 || w->speech.talker_rank > 0;
    for (size_t i = 0; i < h->n_spans && sound; i++) {
        const Flo__Span *span = h->spans[i];
        sound = span->rows <= h->rows - at && span->speech_first <= INT32_MAX;
        for (; sound && k < h->n_speech_rows && h->speech_rows[k] < at + span->rows; k++) {
            sound = span->speech != 0 && (k == 0 || h->speech_rows[k] > h->speech_rows[k - 1]);
        }
        at += sound ? span->rows : 0;
    }
    return sound && k == h->n_speech_rows
               ? FLO_OK
               : flo_fail(err, FLO_FAIL,
                          "step %llu has rows for a talker that are out of range or order, or "
                          "nobody's",
                          (unsigned long long)h->step);
}

static void gather(const worker_step *ws, float *to, const uint32_t *rows, size_t n, const float *x,
                   bool is_final)
{
    size_t hidden = (size_t)ws->w->model.text.hidden_size;
    for (size_t i = 0; i < n; i++) {
        const float *row = x + rows[i] * hidden;
        if (is_final) {
            head_final_norm(&ws->w->stage, to + i * hidden, row, 1);
        } else {
            memcpy(to + i * hidden, row, hidden * sizeof *to);
        }
    }
}

/* n rows of a span's. */
static void hand_on(worker_step *ws, const Flo__Span *span, const uint32_t *rows, size_t n,
                    const float *x, bool is_final)
{
    worker *w = ws->w;
    flo_err err;
    if (w->speech.desk != NULL) {
        float *to = talker_desk_gather(w->speech.desk);
        gather(ws, to, rows, n, x, is_final);
        worker_require(w,
                       talker_desk_hidden(w->speech.desk, span->speech, span->speech_first,
                                          (int32_t)n, to, &err),
                       &err);
        return;
    }
    Flo__SpeechHidden m = FLO__SPEECH_HIDDEN__INIT;
    Flo__Tensor tensor;
    uint64_t shape[2] = {n, (uint64_t)w->model.text.hidden_size}, n_bytes = 0;
    worker_tensor(&tensor, shape, 2, FLO__DTYPE__F32, &n_bytes);
    worker_wait_room(w);
    gather(ws, transport_payload(w->transport, n_bytes), rows, n, x, is_final);
    m.epoch = w->epoch;
    m.session = span->speech;
    m.first = span->speech_first;
    m.rows = &tensor;
    transport_send(w->transport, w->speech.talker_rank, LANE_MAIN, MSG_SPEECH_HIDDEN, &m.base);
}

void worker_tap(worker_step *ws, const float *x, bool is_final)
{
    const Flo__StepHeader *h = ws->header;
    size_t k = 0;
    uint32_t at = 0;
    for (size_t i = 0; i < h->n_spans; i++) {
        size_t first = k;
        at += h->spans[i]->rows;
        while (k < h->n_speech_rows && h->speech_rows[k] < at) {
            k++;
        }
        if (k > first) {
            hand_on(ws, h->spans[i], h->speech_rows + first, k - first, x, is_final);
        }
    }
}

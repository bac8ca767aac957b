/*
 * worker.c - the message loop.
 */
#include "worker/worker.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/process.h"
#include "worker/peak.h"

#include <stdlib.h>
#include <time.h>

enum { END_WAIT_MS = 10000, QUIET_US = 1000, STARVED_US = 100000, CREDIT_US = 200000 };

void worker_fail(worker *w, flo_code code, const flo_err *err)
{
    Flo__Fault fault = FLO__FAULT__INIT;
    fault.code = code;
    fault.text = (char *)err->text;
    log_debug("fault: %s", err->text);
    transport_send(w->transport, 0, LANE_MAIN, MSG_FAULT, &fault.base);
    /* The coordinator ends the job; if it is gone as well, nobody else would. */
    for (int waited = 0; waited < END_WAIT_MS; waited++) {
        transport_progress(w->transport);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    MPI_Abort(MPI_COMM_WORLD, code);
    abort();
}

void worker_require(worker *w, flo_code code, const flo_err *err)
{
    if (code != FLO_OK) {
        worker_fail(w, code, err);
    }
}

void worker_check_epoch(worker *w, const incoming *in, uint64_t epoch)
{
    if (epoch != w->epoch) {
        flo_err err;
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL, "rank %d sent a %s of epoch %llu, this job's is %llu",
                             in->source, message_kind_name(in->kind), (unsigned long long)epoch,
                             (unsigned long long)w->epoch),
                    &err);
    }
}

void worker_tensor(Flo__Tensor *t, uint64_t shape[2], size_t n_dims, Flo__Dtype dtype,
                   uint64_t *offset)
{
    flo__tensor__init(t);
    t->dtype = dtype;
    t->order = FLO__BYTE_ORDER__LITTLE;
    t->shape = shape;
    t->n_shape = n_dims;
    t->offset = *offset;
    uint64_t n = n_dims > 0 ? shape[0] : 0;
    for (size_t i = 1; i < n_dims; i++) {
        n *= shape[i];
    }
    *offset += 4 * n;
}

int worker_home_of(const worker *w, int32_t stage_index)
{
    return plan_stage_home(&w->plan, stage_index);
}

static void on_stats_ask(worker *w, const incoming *in)
{
    worker_check_epoch(w, in, in->as.stats_ask->epoch);
    Flo__Stats stats = FLO__STATS__INIT;
    stats.epoch = w->epoch;
    stats.rss_bytes = process_resident_bytes();
    stats.steps = w->n_steps;
    stats.compute_us = w->compute_us;
    stats.talker_us = w->speech.talker_us;
    stats.predictor_us = w->speech.predictor_us;
    stats.code2wav_us = w->speech.code2wav_us;
    stats.talker_steps = w->speech.talker_steps;
    stats.predictor_frames = w->speech.predictor_frames;
    stats.code2wav_frames = w->speech.code2wav_frames;
    transport_send(w->transport, 0, LANE_MAIN, MSG_STATS, &stats.base);
}

static void on_peak_ask(worker *w, const incoming *in)
{
    worker_check_epoch(w, in, in->as.peak_ask->epoch);
    Flo__Peak peak = FLO__PEAK__INIT;
    peak.epoch = w->epoch;
    peak.gflop_per_s = fma_peak(w->stage.pool);
    peak.read_gb_per_s =
        read_peak(w->stage.pool, w->stage.weights.region, w->stage.weights.region_bytes);
    transport_send(w->transport, 0, LANE_MAIN, MSG_PEAK, &peak.base);
}

/* --- waiting -----------------------------------------------------------------------------------
 */

/* Computes a batch for experts of this worker, if one has come. */
static bool serve_experts(worker *w)
{
    incoming in;
    flo_err err;
    bool found;
    worker_require(w, transport_poll(w->transport, LANE_EXPERTS, &found, &in, &err), &err);
    if (found && in.kind != MSG_EXPERT_DISPATCH) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL, "rank %d sent a %s where rows for experts were due",
                             in.source, message_kind_name(in.kind)),
                    &err);
    }
    if (found) {
        worker_on_expert_dispatch(w, &in);
    }
    return found;
}

void worker_wait_reply(worker *w, incoming *in)
{
    flo_err err;
    for (;;) {
        bool found;
        worker_require(w, transport_poll(w->transport, LANE_REPLY, &found, in, &err), &err);
        if (found) {
            return;
        }
        transport_pause(w->transport, serve_experts(w));
    }
}

void worker_wait_room(worker *w)
{
    while (!transport_has_slot(w->transport)) {
        transport_pause(w->transport, serve_experts(w));
    }
}

/* --- between messages --------------------------------------------------------------------------
 */

/* Time that messages took is time that speech may take next: while text is written and spoken on
 * the same cores, each has half of them. */
static void earn(worker *w, int64_t took_us)
{
    int64_t most = took_us > CREDIT_US ? took_us : CREDIT_US;
    int64_t credit = w->speech_credit_us + took_us;
    w->speech_credit_us = credit < most ? credit : most;
}

/* A slice of speech that has been earned. */
static bool speak_earned(worker *w)
{
    int64_t start = clock_us();
    if (w->speech_credit_us <= 0 || !worker_speech_busy(w)) {
        return false;
    }
    worker_speak(w);
    w->speech_credit_us -= clock_us() - start; /* below 0: the next is earned later */
    return true;
}

/* A slice that takes nobody's time, where no message has come for QUIET_US: the layers of a step
 * follow each other faster than that. True where there is one to compute, now or later. */
static bool speak_in_quiet(worker *w, int64_t quiet_since)
{
    if (!worker_speech_busy(w)) {
        return false;
    }
    if (clock_us() - quiet_since > QUIET_US) {
        worker_speak(w);
    }
    return true;
}

/* A slice of a medium takes a few 10 ms, and while it runs nobody's step does. So slices wait for
 * quiet, but not for longer than STARVED_US: a medium gets its share even where tokens never pause.
 */
static bool encode(worker *w, int64_t quiet_since)
{
    int64_t now = clock_us();
    if (!worker_encode_busy(w)) {
        return false;
    }
    if (now - w->sliced_us > STARVED_US || now - quiet_since > QUIET_US) {
        worker_encode(w);
        w->sliced_us = clock_us();
    }
    return true;
}

/* The next message of LANE_MAIN. Rows for experts are computed meanwhile, and slices of speech and
 * of media. */
static void next_message(worker *w, incoming *in)
{
    int64_t quiet_since = clock_us();
    for (;;) {
        flo_err err;
        bool found;
        int64_t start = clock_us();
        if (serve_experts(w)) {
            quiet_since = clock_us();
            earn(w, quiet_since - start);
            continue;
        }
        if (speak_earned(w)) {
            continue;
        }
        worker_require(w, transport_poll(w->transport, LANE_MAIN, &found, in, &err), &err);
        if (found) {
            return;
        }
        bool speaking = speak_in_quiet(w, quiet_since), encoding = encode(w, quiet_since);
        if (!speaking && !encoding) {
            transport_pause(w->transport, false);
        }
    }
}

static bool serve_message(worker *w, const incoming *in)
{
    flo_err err;
    switch (in->kind) {
    case MSG_STEP:
        worker_on_step(w, in);
        break;
    case MSG_ACTIVATIONS:
        worker_on_activations(w, in);
        break;
    case MSG_HEAD_JOB:
        worker_on_head_job(w, in);
        break;
    case MSG_ENCODE_JOB:
        worker_on_encode_job(w, in);
        break;
    case MSG_ENCODE_INPUT:
        worker_on_encode_input(w, in);
        break;
    case MSG_ENCODE_CANCEL:
        worker_on_encode_cancel(w, in);
        break;
    case MSG_STATS_ASK:
        on_stats_ask(w, in);
        break;
    case MSG_PEAK_ASK:
        on_peak_ask(w, in);
        break;
    case MSG_SHUTDOWN:
        return !worker_speech_leaves(w, in);
    default:
        if (!worker_on_speech(w, in)) {
            worker_fail(w,
                        flo_fail(&err, FLO_FAIL, "rank %d sent a %s, which a worker does not take",
                                 in->source, message_kind_name(in->kind)),
                        &err);
        }
    }
    return true;
}

void worker_serve(worker *w)
{
    for (;;) {
        incoming in;
        next_message(w, &in);
        log_trace("%s from rank %d", message_kind_name(in.kind), in.source);
        int64_t start = clock_us();
        if (!serve_message(w, &in)) {
            return;
        }
        earn(w, clock_us() - start);
    }
}

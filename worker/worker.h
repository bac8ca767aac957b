/*
 * worker.h - one worker rank: what it holds, and what it does with each message.
 *
 * The message loop runs on the main thread; it turns messages into calls of the stage and the head,
 * and their results into messages. Arithmetic is elsewhere. Every message of a job names the plan's
 * epoch; one that does not match ends the job with a sentence, as does anything that cannot be
 * computed.
 */
#ifndef FLOTILLA_WORKER_WORKER_H
#define FLOTILLA_WORKER_WORKER_H

#include "proto/transport.h"
#include "worker/thinker/head.h"
#include "worker/thinker/stage.h"
#include "worker/worker_encode.h"
#include "worker/worker_experts.h"
#include "worker/worker_speech.h"

struct worker {
    transport *transport;
    uint64_t epoch;
    model_config model;
    plan plan;
    const plan_worker *me;
    stage stage;
    float *x; /* home: [STEP_ROWS_MAX][H] of the step, and deep features behind it */
    size_t x_bytes;
    arena messages; /* lists of the messages being made or taken apart; reset per step */
    arena head;     /* logits of HEAD_ROWS_MAX rows */
    worker_encoders encoders;
    worker_speech speech;
    int64_t sliced_us;        /* when an encoder's last slice ended */
    int64_t speech_credit_us; /* what slices of speech may take before the next message is */
    bool leaving;             /* the coordinator has said Shutdown */
    uint64_t n_steps, compute_us;
};

/* Tells the coordinator why this worker cannot go on, and waits to be ended. */
_Noreturn void worker_fail(worker *w, flo_code code, const flo_err *err);

/* Ends the job through worker_fail unless code is FLO_OK. */
void worker_require(worker *w, flo_code code, const flo_err *err);

/* Ends the job where a message belongs to another epoch. */
void worker_check_epoch(worker *w, const incoming *in, uint64_t epoch);

/* Serves messages until Shutdown. */
void worker_serve(worker *w);

/* --- waiting -----------------------------------------------------------------------------------
 * Wherever a worker waits, it computes rows for its experts (LANE_EXPERTS): who sent them may be
 * what it waits for. Nothing else is taken meanwhile. The two decoders have arenas of their own,
 * and no home sends rows to itself, so a step under way is not disturbed. */

/* The next message of LANE_REPLY. */
void worker_wait_reply(worker *w, incoming *in);

/* Until a message with a payload can be begun without waiting; to be called before
 * transport_payload, but for a result of experts: whoever waits for that takes it. */
void worker_wait_room(worker *w);

/* A step's rows from the first stage's Step or the stage before's Activations, computed and passed
 * on. Home only. (worker_step.c) */
void worker_on_step(worker *w, const incoming *in);
void worker_on_activations(worker *w, const incoming *in);

typedef struct worker_step { /* the step being computed by a home */
    worker *w;
    const Flo__StepHeader *header;
    bool any_dump;
    expert_round experts;
    int32_t n_sent; /* head jobs whose results are due */
} worker_step;

/* Hands the rows of the step that the talker listens to on to it: x [rows][H], as they left the
 * layer before the accept layer, or (is_final) before the final norm, which they are told behind.
 * (worker_tap.c) */
void worker_tap(worker_step *ws, const float *x, bool is_final);

/* Rows for the talker: in range, rising, each in a span that speaks. */
flo_code worker_tap_check(const worker *w, const Flo__StepHeader *h, flo_err *err);

/* Final rows whose logits are wanted, on any worker of the last stage. (worker_head.c) */
void worker_on_head_job(worker *w, const incoming *in);

/* The home's side: norm, logits, dump, and the LogitsShortlist messages of the step. */
void worker_finish_step(worker_step *ws);

/* Tells rows of the step's spans that are dumped: rows [step rows][columns]. */
void worker_dump(worker_step *ws, const char *name, const void *rows, int32_t columns, bool is_ids);

/* Fills a tensor of a payload at *offset and moves *offset behind it. */
void worker_tensor(Flo__Tensor *t, uint64_t shape[2], size_t n_dims, Flo__Dtype dtype,
                   uint64_t *offset);

/* The home (rank) of a stage, and of this worker's own. */
int worker_home_of(const worker *w, int32_t stage_index);

#endif

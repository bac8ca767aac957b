/*
 * transport.h - messages between ranks: a small packed header, then one payload of plain numbers.
 *
 * A message is a protobuf header in front and, where tensors travel with it, one payload behind it
 * on the same lane. The payload is written by its maker straight into the buffer it is sent from,
 * and received straight into the buffer it is computed from: no copy of numbers is made in between
 * but MPI's own. All buffers are taken once, from sizes that the plan knows; packing and unpacking
 * work in them, so nothing is allocated per message. Sends never block (MPI_Isend), so two ranks
 * that send to each other head-on do not hang.
 *
 * Lanes keep three conversations apart: LANE_MAIN brings work and news, LANE_REPLY brings what a
 * rank waits for in the middle of a step, and LANE_EXPERTS brings rows for experts, which a worker
 * computes even while it waits: the home of one decoder may own experts of the other, whose home
 * owns experts of the first, and neither can go on before it is served. Order is kept within a lane
 * between two ranks.
 *
 * One thread (the main one) calls this module. Costs 24 bytes beside the packed header.
 */
#ifndef FLOTILLA_PROTO_TRANSPORT_H
#define FLOTILLA_PROTO_TRANSPORT_H

#include "common/error.h"
#include "proto/flotilla.pb-c.h"

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum message_kind {
    MSG_HELLO = 1,
    MSG_SETUP,
    MSG_NODE_REPORT,
    MSG_ASSIGNMENT,
    MSG_LOAD_PROGRESS,
    MSG_READY,
    MSG_FAULT,
    MSG_STEP,
    MSG_ACTIVATIONS,
    MSG_EXPERT_DISPATCH,
    MSG_EXPERT_RESULT,
    MSG_HEAD_JOB,
    MSG_HEAD_RESULT,
    MSG_LOGITS,
    MSG_DUMP_ROWS,
    MSG_STATS_ASK,
    MSG_STATS,
    MSG_SHUTDOWN,
    MSG_ENCODE_JOB,
    MSG_ENCODE_INPUT,
    MSG_ENCODE_CANCEL,
    MSG_ENCODE_PROGRESS,
    MSG_EMBEDDINGS,
    MSG_PEAK_ASK,
    MSG_PEAK,
    MSG_SPEECH_START,
    MSG_SPEECH_OPENED,
    MSG_SPEECH_PROMPT,
    MSG_SPEECH_TEXT,
    MSG_SPEECH_HIDDEN,
    MSG_SPEECH_CANCEL,
    MSG_PREDICT_JOB,
    MSG_PREDICTION,
    MSG_CODE_FRAMES,
    MSG_SOUND,
    MSG_SPEECH_ROWS,
    MSG_KINDS
} message_kind;

typedef enum message_lane { LANE_MAIN = 1, LANE_REPLY = 3, LANE_EXPERTS = 5 } message_lane;

const char *message_kind_name(message_kind kind);

typedef struct transport transport;

/* Collective over nothing: each rank makes its own. payload_bytes_max bounds every payload this
 * rank sends or receives until transport_resize. */
flo_code transport_new(transport **out, MPI_Comm comm, size_t payload_bytes_max, flo_err *err);

/* Waits for all sends to be taken, then frees. */
void transport_free(transport *t);

/* Gives the buffers the size that the plan asks for. No message may be held or under way. */
flo_code transport_resize(transport *t, size_t payload_bytes_max, flo_err *err);

int transport_rank(const transport *t);
int transport_size(const transport *t);

/* True where a message can be begun now without waiting for an earlier one to be taken. To be asked
 * before messages with a payload: the last free slots are not given to them, so that the small
 * messages in between (which MPI takes at once) find one, and nobody who is to receive waits to
 * send. */
bool transport_has_slot(transport *t);

/* A place for the payload of the next message, n_bytes large, 64-byte aligned; the transport_send
 * that follows sends it. May wait for an earlier send to be taken. */
void *transport_payload(transport *t, size_t n_bytes);

/* Sends message (its type must be the kind's) and the payload begun before, if any. *message is
 * read before the call returns. */
void transport_send(transport *t, int rank, message_lane lane, message_kind kind,
                    const ProtobufCMessage *message);

typedef struct incoming {
    int source;
    message_lane lane;
    message_kind kind;
    size_t payload_bytes;
    union {
        const ProtobufCMessage *any;
        const Flo__Hello *hello;
        const Flo__Setup *setup;
        const Flo__NodeReport *node_report;
        const Flo__Assignment *assignment;
        const Flo__LoadProgress *load_progress;
        const Flo__Ready *ready;
        const Flo__Fault *fault;
        const Flo__Step *step;
        const Flo__Activations *activations;
        const Flo__ExpertDispatch *expert_dispatch;
        const Flo__ExpertResult *expert_result;
        const Flo__HeadJob *head_job;
        const Flo__HeadResult *head_result;
        const Flo__LogitsShortlist *logits;
        const Flo__DumpRows *dump_rows;
        const Flo__StatsAsk *stats_ask;
        const Flo__Stats *stats;
        const Flo__Shutdown *shutdown;
        const Flo__EncodeJob *encode_job;
        const Flo__EncodeInput *encode_input;
        const Flo__EncodeCancel *encode_cancel;
        const Flo__EncodeProgress *encode_progress;
        const Flo__Embeddings *embeddings;
        const Flo__PeakAsk *peak_ask;
        const Flo__Peak *peak;
        const Flo__SpeechStart *speech_start;
        const Flo__SpeechOpened *speech_opened;
        const Flo__SpeechPrompt *speech_prompt;
        const Flo__SpeechText *speech_text;
        const Flo__SpeechHidden *speech_hidden;
        const Flo__SpeechCancel *speech_cancel;
        const Flo__PredictJob *predict_job;
        const Flo__Prediction *prediction;
        const Flo__CodeFrames *code_frames;
        const Flo__Sound *sound;
        const Flo__SpeechRows *speech_rows;
    } as;
} incoming;

/* Takes one message of the lane if one has come; *in and all that it points to are good until the
 * next poll of the same lane. FLO_FAIL on a message that no Flotilla rank of this version sends. */
flo_code transport_poll(transport *t, message_lane lane, bool *found, incoming *in, flo_err *err);

/* The payload of in, received now: into destination, or into the lane's own buffer where that is
 * NULL. Must be called once for each message with payload_bytes > 0, before the next poll of the
 * lane. */
void *transport_take_payload(transport *t, const incoming *in, void *destination);

/* Waits for the next message of the lane: spins briefly, then naps of at most 50 us while something
 * happened lately, and at last of at most 1 ms, so that an idle rank costs about 2 % of a core. */
flo_code transport_wait(transport *t, message_lane lane, incoming *in, flo_err *err);

/* One pause of the same policy, for a caller that waits for several things at once. `busy`
 * (something was found this time) starts it anew. */
void transport_pause(transport *t, bool busy);

/* Lets MPI move what is under way; called between the kernels of a long step. */
void transport_progress(transport *t);

/* A tensor of a payload: pointer to its numbers after checking type, byte order, shape and range.
 * FLO_FAIL names the message. */
flo_code transport_tensor(const Flo__Tensor *tensor, Flo__Dtype dtype, size_t n_elements,
                          const void *payload, size_t payload_bytes, const char *what,
                          const void **out, flo_err *err);

#endif

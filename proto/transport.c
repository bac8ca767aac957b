/*
 * transport.c - see transport.h. Each sent message occupies a slot (header and payload buffer)
 * until MPI has taken it; a receiving lane has one header buffer, one arena for the unpacked header
 * and one payload buffer. Buffers are address space until they are first used.
 */
#include "proto/transport.h"

#include "common/arena.h"
#include "common/check.h"
#include "common/clock.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum {
    SLOTS = 16,
    SLOTS_KEPT = 4,              /* of them, for messages that are sent without asking */
    HEADER_BYTES_MIN = 4 << 20,  /* room for an assignment of 1,024 workers and any list of spans */
    UNPACK_BYTES_MIN = 16 << 20, /* its unpacked form */
    PAYLOAD_BYTES_LIMIT = 768 << 20, /* so that MPI can count every message in an int */
    LANES = 3,
    FRAME_MAGIC = 0x464c4f31, /* "FLO1" */
    SPIN_US = 40,
    LIVELY_US = 200000, /* after the last message short naps go on this long */
    NAP_LIVELY_US = 20,
    NAP_IDLE_US = 1000,
};

typedef struct frame_head {
    uint32_t magic;
    uint32_t kind;
    uint64_t header_bytes;
    uint64_t payload_bytes;
} frame_head;
_Static_assert(sizeof(frame_head) == 24, "frame_head travels as it lies");

typedef struct send_slot {
    arena header, payload;
    MPI_Request requests[2]; /* of header and payload */
} send_slot;

typedef struct receive_lane {
    arena header, unpacked, payload;
    bool payload_due;
} receive_lane;

struct transport {
    MPI_Comm comm;
    int rank, size;
    size_t payload_bytes_max, header_bytes_max;
    send_slot slots[SLOTS];
    send_slot *begun; /* a payload was asked for and not yet sent; else NULL */
    size_t begun_bytes;
    receive_lane lanes[LANES];
    int64_t last_activity_us;
    long nap_us;
};

static const struct {
    const char *name;
    const ProtobufCMessageDescriptor *type;
} kinds[MSG_KINDS] = {
    [MSG_HELLO] = {"Hello", &flo__hello__descriptor},
    [MSG_SETUP] = {"Setup", &flo__setup__descriptor},
    [MSG_NODE_REPORT] = {"NodeReport", &flo__node_report__descriptor},
    [MSG_ASSIGNMENT] = {"Assignment", &flo__assignment__descriptor},
    [MSG_LOAD_PROGRESS] = {"LoadProgress", &flo__load_progress__descriptor},
    [MSG_READY] = {"Ready", &flo__ready__descriptor},
    [MSG_FAULT] = {"Fault", &flo__fault__descriptor},
    [MSG_STEP] = {"Step", &flo__step__descriptor},
    [MSG_ACTIVATIONS] = {"Activations", &flo__activations__descriptor},
    [MSG_EXPERT_DISPATCH] = {"ExpertDispatch", &flo__expert_dispatch__descriptor},
    [MSG_EXPERT_RESULT] = {"ExpertResult", &flo__expert_result__descriptor},
    [MSG_HEAD_JOB] = {"HeadJob", &flo__head_job__descriptor},
    [MSG_HEAD_RESULT] = {"HeadResult", &flo__head_result__descriptor},
    [MSG_LOGITS] = {"LogitsShortlist", &flo__logits_shortlist__descriptor},
    [MSG_DUMP_ROWS] = {"DumpRows", &flo__dump_rows__descriptor},
    [MSG_STATS_ASK] = {"StatsAsk", &flo__stats_ask__descriptor},
    [MSG_STATS] = {"Stats", &flo__stats__descriptor},
    [MSG_SHUTDOWN] = {"Shutdown", &flo__shutdown__descriptor},
    [MSG_ENCODE_JOB] = {"EncodeJob", &flo__encode_job__descriptor},
    [MSG_ENCODE_INPUT] = {"EncodeInput", &flo__encode_input__descriptor},
    [MSG_ENCODE_CANCEL] = {"EncodeCancel", &flo__encode_cancel__descriptor},
    [MSG_ENCODE_PROGRESS] = {"EncodeProgress", &flo__encode_progress__descriptor},
    [MSG_EMBEDDINGS] = {"Embeddings", &flo__embeddings__descriptor},
    [MSG_PEAK_ASK] = {"PeakAsk", &flo__peak_ask__descriptor},
    [MSG_PEAK] = {"Peak", &flo__peak__descriptor},
    [MSG_SPEECH_START] = {"SpeechStart", &flo__speech_start__descriptor},
    [MSG_SPEECH_OPENED] = {"SpeechOpened", &flo__speech_opened__descriptor},
    [MSG_SPEECH_PROMPT] = {"SpeechPrompt", &flo__speech_prompt__descriptor},
    [MSG_SPEECH_TEXT] = {"SpeechText", &flo__speech_text__descriptor},
    [MSG_SPEECH_HIDDEN] = {"SpeechHidden", &flo__speech_hidden__descriptor},
    [MSG_SPEECH_CANCEL] = {"SpeechCancel", &flo__speech_cancel__descriptor},
    [MSG_PREDICT_JOB] = {"PredictJob", &flo__predict_job__descriptor},
    [MSG_PREDICTION] = {"Prediction", &flo__prediction__descriptor},
    [MSG_CODE_FRAMES] = {"CodeFrames", &flo__code_frames__descriptor},
    [MSG_SOUND] = {"Sound", &flo__sound__descriptor},
    [MSG_SPEECH_ROWS] = {"SpeechRows", &flo__speech_rows__descriptor},
};

const char *message_kind_name(message_kind kind)
{
    return kind > 0 && kind < MSG_KINDS ? kinds[kind].name : "unknown";
}

static receive_lane *lane_of(transport *t, message_lane lane)
{
    return &t->lanes[((int)lane - 1) / 2]; /* a lane's payloads have the tag behind its own */
}

/* --- making and freeing ------------------------------------------------------------------------
 */

static void free_buffers(transport *t)
{
    for (int i = 0; i < SLOTS; i++) {
        arena_close(&t->slots[i].header);
        arena_close(&t->slots[i].payload);
    }
    for (int i = 0; i < LANES; i++) {
        arena_close(&t->lanes[i].header);
        arena_close(&t->lanes[i].unpacked);
        arena_close(&t->lanes[i].payload);
    }
}

/* The largest header is a shortlist whose logits all tie: at most 9 bytes for each (id and logit)
 * where the payload of whole rows has 4; unpacked 8. */
static flo_code set_bounds(transport *t, size_t payload_bytes_max, flo_err *err)
{
    if (payload_bytes_max > PAYLOAD_BYTES_LIMIT) {
        return flo_fail(err, FLO_FAIL,
                        "messages of %zu bytes would be needed for this model, over the limit of "
                        "%d; a step of fewer rows is not built",
                        payload_bytes_max, PAYLOAD_BYTES_LIMIT);
    }
    t->payload_bytes_max = payload_bytes_max;
    t->header_bytes_max = HEADER_BYTES_MIN + payload_bytes_max / 4 * 9;
    return FLO_OK;
}

static flo_code take_buffers(transport *t, flo_err *err)
{
    flo_code code = FLO_OK;
    size_t unpack_bytes = UNPACK_BYTES_MIN + 2 * t->payload_bytes_max;
    for (int i = 0; i < SLOTS && code == FLO_OK; i++) {
        send_slot *s = &t->slots[i];
        s->requests[0] = s->requests[1] = MPI_REQUEST_NULL;
        code = arena_open(&s->header, t->header_bytes_max, err);
        if (code == FLO_OK) {
            code = arena_open(&s->payload, t->payload_bytes_max, err);
        }
    }
    for (int i = 0; i < LANES && code == FLO_OK; i++) {
        receive_lane *l = &t->lanes[i];
        code = arena_open(&l->header, t->header_bytes_max, err);
        if (code == FLO_OK) {
            code = arena_open(&l->unpacked, unpack_bytes, err);
        }
        if (code == FLO_OK) {
            code = arena_open(&l->payload, t->payload_bytes_max, err);
        }
    }
    if (code != FLO_OK) {
        flo_context(err, "message buffers");
        free_buffers(t);
    }
    return code;
}

flo_code transport_new(transport **out, MPI_Comm comm, size_t payload_bytes_max, flo_err *err)
{
    transport *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the message buffers");
    }
    t->comm = comm;
    t->nap_us = NAP_LIVELY_US;
    MPI_Comm_rank(comm, &t->rank);
    MPI_Comm_size(comm, &t->size);
    t->last_activity_us = clock_us();
    /* A nap of 20 us takes 75 us with the default timer slack of 50 us. */
    prctl(PR_SET_TIMERSLACK, 1UL);
    flo_code code = set_bounds(t, payload_bytes_max, err);
    if (code == FLO_OK) {
        code = take_buffers(t, err);
    }
    if (code != FLO_OK) {
        free(t);
        return code;
    }
    *out = t;
    return FLO_OK;
}

static void wait_for_sends(transport *t)
{
    for (int i = 0; i < SLOTS; i++) {
        MPI_Waitall(2, t->slots[i].requests, MPI_STATUSES_IGNORE);
    }
}

void transport_free(transport *t)
{
    if (t == NULL) {
        return;
    }
    wait_for_sends(t);
    free_buffers(t);
    free(t);
}

flo_code transport_resize(transport *t, size_t payload_bytes_max, flo_err *err)
{
    wait_for_sends(t);
    flo_code code = set_bounds(t, payload_bytes_max, err);
    if (code != FLO_OK) {
        return code;
    }
    free_buffers(t);
    return take_buffers(t, err);
}

int transport_rank(const transport *t)
{
    return t->rank;
}

int transport_size(const transport *t)
{
    return t->size;
}

/* --- waiting -----------------------------------------------------------------------------------
 */

void transport_progress(transport *t)
{
    int found;
    MPI_Iprobe(MPI_ANY_SOURCE, LANE_MAIN, t->comm, &found, MPI_STATUS_IGNORE);
}

void transport_pause(transport *t, bool busy)
{
    int64_t now = clock_us();
    if (busy) {
        t->last_activity_us = now;
        t->nap_us = NAP_LIVELY_US;
        return;
    }
    int64_t quiet = now - t->last_activity_us;
    if (quiet < SPIN_US) {
        sched_yield();
        return;
    }
    if (quiet > LIVELY_US) {
        t->nap_us = t->nap_us * 2 > NAP_IDLE_US ? NAP_IDLE_US : t->nap_us * 2;
    }
    nanosleep(&(struct timespec){0, t->nap_us * 1000}, NULL);
}

static void wait_request(MPI_Request *request)
{
    int done = 0;
    int64_t start = clock_us();
    for (;;) {
        MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (done) {
            return;
        }
        if (clock_us() - start < SPIN_US) {
            sched_yield();
        } else {
            nanosleep(&(struct timespec){0, NAP_LIVELY_US * 1000}, NULL);
        }
    }
}

/* --- sending -----------------------------------------------------------------------------------
 */

static bool slot_is_free(send_slot *s)
{
    int done;
    MPI_Testall(2, s->requests, &done, MPI_STATUSES_IGNORE);
    return done != 0;
}

bool transport_has_slot(transport *t)
{
    int n_free = 0;
    for (int i = 0; i < SLOTS && n_free <= SLOTS_KEPT; i++) {
        n_free += slot_is_free(&t->slots[i]);
    }
    return n_free > SLOTS_KEPT;
}

/* The lowest free slot, so that few of them are ever touched. Waiting here cannot deadlock: a
 * worker waits for the stage behind it, the last stage for the coordinator, and the coordinator
 * sends no step without a free slot (transport_has_slot), so it always comes back to receive. */
static send_slot *free_slot(transport *t)
{
    if (t->begun != NULL) {
        return t->begun;
    }
    for (;;) {
        for (int i = 0; i < SLOTS; i++) {
            if (slot_is_free(&t->slots[i])) {
                return &t->slots[i];
            }
        }
        nanosleep(&(struct timespec){0, NAP_LIVELY_US * 1000}, NULL);
    }
}

void *transport_payload(transport *t, size_t n_bytes)
{
    CHECK(t->begun == NULL && n_bytes <= t->payload_bytes_max);
    t->begun = free_slot(t);
    t->begun_bytes = n_bytes;
    return t->begun->payload.base;
}

void transport_send(transport *t, int rank, message_lane lane, message_kind kind,
                    const ProtobufCMessage *message)
{
    CHECK(message->descriptor == kinds[kind].type);
    send_slot *s = free_slot(t);
    size_t header_bytes = protobuf_c_message_get_packed_size(message);
    CHECK(header_bytes + sizeof(frame_head) <= t->header_bytes_max);

    frame_head head = {FRAME_MAGIC, kind, header_bytes, t->begun != NULL ? t->begun_bytes : 0};
    memcpy(s->header.base, &head, sizeof head);
    protobuf_c_message_pack(message, s->header.base + sizeof head);
    MPI_Isend(s->header.base, (int)(sizeof head + header_bytes), MPI_BYTE, rank, (int)lane, t->comm,
              &s->requests[0]);
    if (head.payload_bytes > 0) {
        MPI_Isend(s->payload.base, (int)head.payload_bytes, MPI_BYTE, rank, (int)lane + 1, t->comm,
                  &s->requests[1]);
    }
    t->begun = NULL;
    t->last_activity_us = clock_us();
    t->nap_us = NAP_LIVELY_US;
}

/* --- receiving ---------------------------------------------------------------------------------
 */

static void *unpack_alloc(void *lane, size_t n_bytes)
{
    return arena_try(&((receive_lane *)lane)->unpacked, n_bytes);
}

static void unpack_free(void *lane, void *pointer)
{
    (void)lane;
    (void)pointer;
}

static flo_code unpack(receive_lane *l, size_t n_bytes, int source, incoming *in, flo_err *err)
{
    frame_head head;
    if (n_bytes < sizeof head) {
        return flo_fail(err, FLO_FAIL, "rank %d sent %zu bytes, too few for a message", source,
                        n_bytes);
    }
    memcpy(&head, l->header.base, sizeof head);
    if (head.magic != FRAME_MAGIC || head.kind == 0 || head.kind >= MSG_KINDS ||
        head.header_bytes != n_bytes - sizeof head || head.payload_bytes > l->payload.n_bytes) {
        return flo_fail(
            err, FLO_FAIL,
            "rank %d sent a message that this version does not know (kind %u, %llu + %llu "
            "bytes); do all hosts run the same Flotilla?",
            source, head.kind, (unsigned long long)head.header_bytes,
            (unsigned long long)head.payload_bytes);
    }
    arena_reset(&l->unpacked);
    ProtobufCAllocator allocator = {unpack_alloc, unpack_free, l};
    ProtobufCMessage *message = protobuf_c_message_unpack(
        kinds[head.kind].type, &allocator, head.header_bytes, l->header.base + sizeof head);
    if (message == NULL) {
        return flo_fail(err, FLO_FAIL, "rank %d sent a damaged %s message", source,
                        kinds[head.kind].name);
    }
    in->kind = (message_kind)head.kind;
    in->payload_bytes = head.payload_bytes;
    in->as.any = message;
    return FLO_OK;
}

flo_code transport_poll(transport *t, message_lane lane, bool *found, incoming *in, flo_err *err)
{
    receive_lane *l = lane_of(t, lane);
    CHECK(!l->payload_due);
    *found = false;
    int flag = 0;
    MPI_Message m;
    MPI_Status status;
    MPI_Improbe(MPI_ANY_SOURCE, (int)lane, t->comm, &flag, &m, &status);
    if (!flag) {
        return FLO_OK;
    }
    int n_bytes;
    MPI_Get_count(&status, MPI_BYTE, &n_bytes);
    if (n_bytes < 0 || (size_t)n_bytes > t->header_bytes_max) {
        return flo_fail(err, FLO_FAIL,
                        "rank %d sent a message header of %d bytes, over the limit of %zu",
                        status.MPI_SOURCE, n_bytes, t->header_bytes_max);
    }
    MPI_Request request;
    MPI_Imrecv(l->header.base, n_bytes, MPI_BYTE, &m, &request);
    wait_request(&request);
    in->source = status.MPI_SOURCE;
    in->lane = lane;
    flo_code code = unpack(l, (size_t)n_bytes, status.MPI_SOURCE, in, err);
    *found = code == FLO_OK;
    l->payload_due = code == FLO_OK && in->payload_bytes > 0;
    t->last_activity_us = clock_us();
    t->nap_us = NAP_LIVELY_US;
    return code;
}

void *transport_take_payload(transport *t, const incoming *in, void *destination)
{
    receive_lane *l = lane_of(t, in->lane);
    CHECK(l->payload_due);
    void *buffer = destination != NULL ? destination : l->payload.base;
    MPI_Request request;
    MPI_Irecv(buffer, (int)in->payload_bytes, MPI_BYTE, in->source, (int)in->lane + 1, t->comm,
              &request);
    wait_request(&request);
    l->payload_due = false;
    return buffer;
}

flo_code transport_wait(transport *t, message_lane lane, incoming *in, flo_err *err)
{
    for (;;) {
        bool found;
        flo_code code = transport_poll(t, lane, &found, in, err);
        if (code != FLO_OK || found) {
            return code;
        }
        transport_pause(t, false);
    }
}

/* --- tensors -----------------------------------------------------------------------------------
 */

flo_code transport_tensor(const Flo__Tensor *tensor, Flo__Dtype dtype, size_t n_elements,
                          const void *payload, size_t payload_bytes, const char *what,
                          const void **out, flo_err *err)
{
    if (tensor == NULL) {
        return flo_fail(err, FLO_FAIL, "%s came without its tensor", what);
    }
    uint64_t n = 1;
    for (size_t i = 0; i < tensor->n_shape; i++) {
        if (tensor->shape[i] > (uint64_t)1 << 40 || n > (uint64_t)1 << 40) {
            n = UINT64_MAX;
            break;
        }
        n *= tensor->shape[i];
    }
    size_t element_bytes = dtype == FLO__DTYPE__U8 ? 1 : 4;
    bool fits = n == n_elements && tensor->offset % 4 == 0 && tensor->offset <= payload_bytes &&
                n_elements <= (payload_bytes - tensor->offset) / element_bytes;
    if (tensor->dtype != dtype || tensor->order != FLO__BYTE_ORDER__LITTLE || !fits) {
        return flo_fail(
            err, FLO_FAIL,
            "%s came with a tensor of %llu elements where %zu were due, or of another type", what,
            (unsigned long long)n, n_elements);
    }
    *out = (const unsigned char *)payload + tensor->offset;
    return FLO_OK;
}

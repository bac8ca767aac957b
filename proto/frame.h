/*
 * frame.h - whole protobuf messages over a stream socket between the gateway and the coordinator.
 *
 * A frame is a 4-byte little-endian length and that many bytes of one message of gateway.proto. One
 * channel does both directions and never blocks unless asked to wait: what the socket does not take
 * at once is queued and sent by the next call of any kind, so two sides that send to each other
 * head-on cannot hang. Costs one copy of each message and buffers as large as the largest frame
 * met; FRAME_BYTES_MAX bounds a frame, twice that bounds the queue.
 *
 * Used by one thread. Both sides:
 *     frame_channel *c;  frame_connect(&c, path, &err)  or  frame_channel_new(&c, accepted_fd)
 *     frame_send(c, &message.base, &err);
 *     frame f;  frame_receive(c, 0, &f, &err);  if (f.state == FRAME_READY) ... unpack f.body
 */
#ifndef FLOTILLA_PROTO_FRAME_H
#define FLOTILLA_PROTO_FRAME_H

#include "common/error.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FRAME_HEAD_BYTES = 4, FRAME_BYTES_MAX = 64 << 20 };

typedef struct frame_channel frame_channel;

typedef enum frame_state {
    FRAME_NONE,   /* nothing whole has come yet */
    FRAME_READY,  /* body holds one message */
    FRAME_CLOSED, /* the other side has gone, all it sent was received */
} frame_state;

typedef struct frame {
    frame_state state;
    const uint8_t *body; /* good until the next frame_receive of the channel */
    size_t n_bytes;
} frame;

/* Takes over fd (a connected stream socket), which becomes non-blocking and close-on-exec. */
void frame_channel_new(frame_channel **out, int fd);

/* Connects to the listening Unix socket at path. FLO_FAIL names the path. */
flo_code frame_connect(frame_channel **out, const char *path, flo_err *err);

/* Closes the socket; what was queued and not sent is lost. NULL is allowed. */
void frame_channel_free(frame_channel *c);

int frame_fd(const frame_channel *c); /* for poll(): POLLIN, and POLLOUT while frame_is_sending */
bool frame_is_sending(const frame_channel *c);

/* Queues the message and sends what the socket takes. FLO_FAIL: the message is over FRAME_BYTES_MAX
 * (nothing of it is sent), the other side has gone, or it has not read for so long that the queue
 * is full. */
flo_code frame_send(frame_channel *c, const ProtobufCMessage *message, flo_err *err);

/* Sends what is queued, waiting at most wait_ms for all of it; -1: for as long as it takes.
 * FLO_FAIL as above, or when time is up. */
flo_code frame_flush(frame_channel *c, int wait_ms, flo_err *err);

/* Takes the next frame, waiting at most wait_ms for it (0: not at all, -1: for ever); sends what is
 * queued meanwhile. FLO_FAIL: a length over FRAME_BYTES_MAX, an end inside a frame, an I/O error.
 */
flo_code frame_receive(frame_channel *c, int wait_ms, frame *out, flo_err *err);

#endif

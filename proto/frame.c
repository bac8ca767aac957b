/*
 * frame.c - frames over a non-blocking socket: one growing buffer for each direction.
 *
 * The input buffer holds bytes as they came; a frame is handed out in place and dropped by the next
 * receive, so a message is copied once (by the kernel). A frame's length is checked as soon as its
 * four bytes are there, before any memory is taken for it, and memory grows with what has really
 * come, so a false length costs nothing.
 */
#include "proto/frame.h"

#include "common/check.h"
#include "common/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READ_BYTES = 64 << 10, QUEUE_BYTES_MAX = 2 * (FRAME_BYTES_MAX + FRAME_HEAD_BYTES) };

typedef struct byte_queue { /* bytes [first, last) of data wait */
    uint8_t *data;
    size_t capacity, first, last;
} byte_queue;

struct frame_channel {
    int fd;
    bool closed;         /* the other side has ended its sending */
    size_t handed_bytes; /* of the input's front, given to the caller by the last receive */
    byte_queue in, out;
};

static size_t waiting(const byte_queue *q)
{
    return q->last - q->first;
}

/* Makes room for n_bytes behind the waiting ones. */
static void reserve(byte_queue *q, size_t n_bytes)
{
    if (q->first == q->last) {
        q->first = q->last = 0;
    }
    if (q->last + n_bytes <= q->capacity) {
        return;
    }
    if (q->first > 0) {
        memmove(q->data, q->data + q->first, waiting(q));
        q->last -= q->first;
        q->first = 0;
    }
    if (q->last + n_bytes > q->capacity) {
        size_t capacity = q->capacity * 2 > q->last + n_bytes ? q->capacity * 2 : q->last + n_bytes;
        q->data = realloc(q->data, capacity);
        CHECK(q->data != NULL);
        q->capacity = capacity;
    }
}

void frame_channel_new(frame_channel **out, int fd)
{
    frame_channel *c = calloc(1, sizeof *c);
    CHECK(c != NULL);
    c->fd = fd;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    *out = c;
}

flo_code frame_connect(frame_channel **out, const char *path, flo_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        return flo_fail(err, FLO_FAIL, "%s: too long a path for a socket", path);
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        flo_code code = flo_fail(err, FLO_FAIL, "%s: cannot connect: %s", path, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return code;
    }
    frame_channel_new(out, fd);
    return FLO_OK;
}

void frame_channel_free(frame_channel *c)
{
    if (c == NULL) {
        return;
    }
    close(c->fd);
    free(c->in.data);
    free(c->out.data);
    free(c);
}

int frame_fd(const frame_channel *c)
{
    return c->fd;
}

bool frame_is_sending(const frame_channel *c)
{
    return waiting(&c->out) > 0;
}

/* Sends what the socket takes now. */
static flo_code send_some(frame_channel *c, flo_err *err)
{
    while (waiting(&c->out) > 0) {
        ssize_t n = send(c->fd, c->out.data + c->out.first, waiting(&c->out), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return FLO_OK;
        }
        if (n < 0) {
            return flo_fail(err, FLO_FAIL, "the connection is lost: %s", strerror(errno));
        }
        c->out.first += (size_t)n;
    }
    return FLO_OK;
}

flo_code frame_send(frame_channel *c, const ProtobufCMessage *message, flo_err *err)
{
    size_t n_bytes = protobuf_c_message_get_packed_size(message);
    if (n_bytes > FRAME_BYTES_MAX) {
        return flo_fail(err, FLO_FAIL, "a message of %zu bytes is over the limit of %d", n_bytes,
                        FRAME_BYTES_MAX);
    }
    if (waiting(&c->out) + n_bytes + FRAME_HEAD_BYTES > QUEUE_BYTES_MAX) {
        return flo_fail(err, FLO_FAIL, "the other side does not read: %zu bytes wait for it",
                        waiting(&c->out));
    }
    reserve(&c->out, n_bytes + FRAME_HEAD_BYTES);
    uint8_t *p = c->out.data + c->out.last;
    for (int i = 0; i < FRAME_HEAD_BYTES; i++) {
        p[i] = (uint8_t)(n_bytes >> (8 * i));
    }
    protobuf_c_message_pack(message, p + FRAME_HEAD_BYTES);
    c->out.last += n_bytes + FRAME_HEAD_BYTES;
    return send_some(c, err);
}

/* Sleeps until the socket can go on or time (of clock_ms; negative: none) is up; false: it is up. */
static bool wait_for_socket(frame_channel *c, short events, int64_t until_ms)
{
    int64_t left = until_ms < 0 ? -1 : until_ms - clock_ms();
    if (until_ms >= 0 && left <= 0) {
        return false;
    }
    struct pollfd p = {.fd = c->fd, .events = events};
    int n = poll(&p, 1, left > 60000 ? 60000 : (int)left);
    return n != 0 || left > 60000;
}

static int64_t end_of_wait(int wait_ms)
{
    return wait_ms < 0 ? -1 : clock_ms() + wait_ms;
}

flo_code frame_flush(frame_channel *c, int wait_ms, flo_err *err)
{
    int64_t until = end_of_wait(wait_ms);
    for (;;) {
        flo_code code = send_some(c, err);
        if (code != FLO_OK || waiting(&c->out) == 0) {
            return code;
        }
        if (!wait_for_socket(c, POLLOUT, until)) {
            return flo_fail(err, FLO_FAIL, "the other side does not read: %zu bytes wait for it",
                            waiting(&c->out));
        }
    }
}

/* Reads what the socket has, up to one buffer full. */
static flo_code read_some(frame_channel *c, bool *came, flo_err *err)
{
    *came = false;
    reserve(&c->in, READ_BYTES);
    ssize_t n;
    do {
        n = read(c->fd, c->in.data + c->in.last, c->in.capacity - c->in.last);
    } while (n < 0 && errno == EINTR);
    if (n > 0) {
        c->in.last += (size_t)n;
        *came = true;
        return FLO_OK;
    }
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        return FLO_OK;
    }
    if (n < 0 && errno != ECONNRESET) {
        return flo_fail(err, FLO_FAIL, "the connection is lost: %s", strerror(errno));
    }
    c->closed = true;
    if (waiting(&c->in) > 0) {
        return flo_fail(err, FLO_FAIL, "the connection ended inside a message");
    }
    return FLO_OK;
}

/* Looks for a whole frame at the front of the input. */
static flo_code take_frame(frame_channel *c, frame *out, flo_err *err)
{
    if (waiting(&c->in) < FRAME_HEAD_BYTES) {
        return FLO_OK;
    }
    const uint8_t *p = c->in.data + c->in.first;
    size_t n_bytes = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (n_bytes > FRAME_BYTES_MAX) {
        return flo_fail(err, FLO_FAIL, "a message claims %zu bytes, over the limit of %d", n_bytes,
                        FRAME_BYTES_MAX);
    }
    if (waiting(&c->in) - FRAME_HEAD_BYTES < n_bytes) {
        return FLO_OK;
    }
    *out = (frame){FRAME_READY, p + FRAME_HEAD_BYTES, n_bytes};
    c->handed_bytes = FRAME_HEAD_BYTES + n_bytes;
    return FLO_OK;
}

flo_code frame_receive(frame_channel *c, int wait_ms, frame *out, flo_err *err)
{
    int64_t until = end_of_wait(wait_ms);
    *out = (frame){.state = FRAME_NONE};
    c->in.first += c->handed_bytes;
    c->handed_bytes = 0;
    for (;;) {
        flo_code code = take_frame(c, out, err);
        if (code != FLO_OK || out->state == FRAME_READY) {
            return code;
        }
        if (c->closed) {
            out->state = FRAME_CLOSED;
            return FLO_OK;
        }
        if (send_some(c, err) != FLO_OK) {
            c->out.first = c->out.last; /* nobody is left to send to; what it sent is still read */
        }
        bool came;
        code = read_some(c, &came, err);
        if (code != FLO_OK) {
            return code;
        }
        if (came || c->closed) {
            continue;
        }
        short events = frame_is_sending(c) ? POLLIN | POLLOUT : POLLIN;
        if (!wait_for_socket(c, events, until)) {
            return FLO_OK;
        }
    }
}

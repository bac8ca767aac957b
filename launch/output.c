/*
 * output.c - written in pieces that a pipe takes without blocking, so that a signal is seen while a
 * reader is slow.
 */
#include "launch/output.h"

#include "gateway/interrupts.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 4096 }; /* PIPE_BUF: a pipe that polls as writable takes this much */

flo_code output_write_to(int fd, const char *name, const void *bytes, size_t n_bytes, flo_err *err)
{
    const char *at = bytes;
    while (n_bytes > 0) {
        struct pollfd p[2] = {{.fd = fd, .events = POLLOUT},
                              {.fd = interrupts_fd(), .events = POLLIN}};
        poll(p, 2, -1);
        if (p[1].revents != 0 && interrupts_take() != 0) {
            return flo_fail(err, FLO_INTERRUPTED, "interrupted");
        }
        if (p[0].revents == 0) {
            continue;
        }
        ssize_t n = write(fd, at, n_bytes < PIECE_BYTES ? n_bytes : PIECE_BYTES);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n < 0) {
            return flo_fail(err, FLO_FAIL, "%s cannot be written: %s", name, strerror(errno));
        }
        at += n;
        n_bytes -= (size_t)n;
    }
    return FLO_OK;
}

flo_code output_write(const char *text, size_t n_bytes, flo_err *err)
{
    return output_write_to(STDOUT_FILENO, "standard output", text, n_bytes, err);
}

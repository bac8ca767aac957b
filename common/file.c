/*
 * file.c - a whole file in memory, with a limit.
 *
 * Pipes and regular files are read the same way, in pieces that double, so a file that grows while
 * it is read is met by the limit and not by a buffer's end.
 */
#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 16 };

static flo_code read_descriptor(buffer *out, int fd, const char *name, size_t bytes_max,
                                flo_err *err)
{
    size_t first = out->n;
    for (;;) {
        size_t room =
            out->capacity - out->n > PIECE_BYTES ? out->capacity - out->n - 1 : PIECE_BYTES;
        if (!buffer_reserve(out, room + 1)) {
            return flo_fail(err, FLO_FAIL, "%s: out of memory after %zu bytes", name,
                            out->n - first);
        }
        ssize_t n = read(fd, out->at + out->n, room);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return flo_fail(err, errno == EISDIR ? FLO_USAGE : FLO_FAIL, "%s: %s", name,
                            strerror(errno));
        }
        if (n == 0) {
            out->at[out->n] = '\0';
            return FLO_OK;
        }
        out->n += (size_t)n;
        if (out->n - first > bytes_max) {
            return flo_fail(err, FLO_USAGE, "%s: larger than %zu bytes, the most that is read here",
                            name, bytes_max);
        }
    }
}

flo_code file_read(buffer *out, const char *path, size_t bytes_max, flo_err *err)
{
    if (strcmp(path, "-") == 0) {
        return read_descriptor(out, STDIN_FILENO, "standard input", bytes_max, err);
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return flo_fail(err, FLO_USAGE, "%s: %s", path, strerror(errno));
    }
    flo_code code = read_descriptor(out, fd, path, bytes_max, err);
    close(fd);
    return code;
}

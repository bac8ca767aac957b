/*
 * file.c - a whole file in memory, with a limit; and where a file may be put.
 *
 * Pipes and regular files are read the same way, in pieces that double, so a file that grows while
 * it is read is met by the limit and not by a buffer's end.
 */
#include "common/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* "." where path has none; malloc'd, NULL: out of memory. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL   ? strdup(".")
           : slash == path ? strdup("/")
                           : strndup(path, (size_t)(slash - path));
}

flo_code file_check_target(const char *path, flo_err *err)
{
    struct stat s;
    if (stat(path, &s) == 0 && !S_ISREG(s.st_mode)) {
        return flo_fail(err, FLO_USAGE, "%s: is %s; give the name of a file", path,
                        S_ISDIR(s.st_mode) ? "a folder" : "no regular file");
    }
    char *folder = folder_of(path);
    if (folder == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    int rc = access(folder, W_OK | X_OK);
    int cause = errno;
    free(folder);
    return rc == 0 ? FLO_OK
                   : flo_fail(err, FLO_USAGE, "%s: cannot be made: %s", path, strerror(cause));
}

bool file_same_target(const char *a, const char *b)
{
    const char *slash_a = strrchr(a, '/'), *slash_b = strrchr(b, '/');
    if (strcmp(slash_a != NULL ? slash_a + 1 : a, slash_b != NULL ? slash_b + 1 : b) != 0) {
        return false;
    }
    struct stat of_a, of_b;
    char *folder_a = folder_of(a), *folder_b = folder_of(b);
    bool same = folder_a != NULL && folder_b != NULL && stat(folder_a, &of_a) == 0 &&
                stat(folder_b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
                of_a.st_ino == of_b.st_ino;
    free(folder_a);
    free(folder_b);
    return same;
}

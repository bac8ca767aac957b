/*
 * speech_file.c - head, samples, and at the end the head again with the right length.
 */
#include "launch/speech_file.h"

#include "common/check.h"
#include "common/file.h"
#include "common/wav.h"
#include "launch/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SAMPLE_BYTES = 2 };

struct speech_file {
    char *path;
    const char *name; /* in sentences */
    char *beside;     /* what is written to until the end; NULL: a stream, or no sound yet */
    int fd;           /* -1: not open yet */
    off_t head_at;    /* where the head can be written again; -1: nowhere */
    bool stream;
    int32_t sample_rate; /* 0: no sound yet */
    int64_t n_samples;
};

static bool is_standard_output(const char *path)
{
    return strcmp(path, "-") == 0;
}

bool speech_file_is_stream(const char *path)
{
    struct stat s;
    return is_standard_output(path) ||
           (stat(path, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode));
}

static void release(speech_file *f)
{
    if (f->fd >= 0 && f->fd != STDOUT_FILENO) {
        close(f->fd);
    }
    free(f->beside);
    free(f->path);
    free(f);
}

static flo_code open_stream(speech_file *f, flo_err *err)
{
    if (is_standard_output(f->path)) {
        f->fd = STDOUT_FILENO;
        return isatty(STDOUT_FILENO) == 1
                   ? flo_fail(err, FLO_USAGE,
                              "--speech -: standard output is a terminal; pipe the sound into a "
                              "player, or name a file")
                   : FLO_OK;
    }
    f->fd = open(f->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    return f->fd >= 0 ? FLO_OK : flo_fail(err, FLO_USAGE, "%s: %s", f->path, strerror(errno));
}

flo_code speech_file_open(speech_file **out, const char *path, flo_err *err)
{
    speech_file *f = calloc(1, sizeof *f);
    CHECK(f != NULL);
    f->path = strdup(path);
    CHECK(f->path != NULL);
    f->name = is_standard_output(path) ? "standard output" : f->path;
    f->fd = -1;
    f->head_at = -1;
    f->stream = speech_file_is_stream(path);
    flo_code code = f->stream ? open_stream(f, err) : file_check_target(path, err);
    if (code != FLO_OK) {
        release(f);
        return code;
    }
    *out = f;
    return FLO_OK;
}

/* The file beside path, with the rights that a new file of this person gets. */
static flo_code open_beside(speech_file *f, flo_err *err)
{
    CHECK(asprintf(&f->beside, "%s.XXXXXX", f->path) >= 0);
    f->fd = mkostemp(f->beside, O_CLOEXEC);
    if (f->fd < 0) {
        int cause = errno;
        free(f->beside);
        f->beside = NULL;
        return flo_fail(err, FLO_FAIL, "%s cannot be made: %s", f->path, strerror(cause));
    }
    mode_t mask = umask(0);
    umask(mask);
    if (fchmod(f->fd, 0666 & ~mask) != 0) {
        return flo_fail(err, FLO_FAIL, "%s cannot be made: %s", f->path, strerror(errno));
    }
    return FLO_OK;
}

/* A regular file keeps its place, unless all that is written goes to its end (>>). */
static off_t place_of_head(int fd)
{
    struct stat s;
    int flags = fcntl(fd, F_GETFL);
    bool can = fstat(fd, &s) == 0 && S_ISREG(s.st_mode) && flags >= 0 && (flags & O_APPEND) == 0;
    return can ? lseek(fd, 0, SEEK_CUR) : -1;
}

/* n_samples -1: as long as it gets. */
static flo_code begin(speech_file *f, int32_t sample_rate, int64_t n_samples, flo_err *err)
{
    unsigned char head[WAV_HEAD_BYTES];
    flo_code code = f->stream ? FLO_OK : open_beside(f, err);
    if (code != FLO_OK) {
        return code;
    }
    f->sample_rate = sample_rate;
    f->head_at = place_of_head(f->fd);
    wav_head(head, sample_rate, n_samples);
    return output_write_to(f->fd, f->name, head, sizeof head, err);
}

flo_code speech_file_write(speech_file *f, const unsigned char *samples, size_t n_samples,
                           int32_t sample_rate, flo_err *err)
{
    flo_code code = f->sample_rate == 0 ? begin(f, sample_rate, -1, err) : FLO_OK;
    if (code == FLO_OK && sample_rate != f->sample_rate) {
        code = flo_fail(err, FLO_FAIL, "%s: sound of %d samples a second after some of %d", f->name,
                        sample_rate, f->sample_rate);
    }
    if (code == FLO_OK) {
        code = output_write_to(f->fd, f->name, samples, SAMPLE_BYTES * n_samples, err);
    }
    if (code == FLO_OK) {
        f->n_samples += (int64_t)n_samples;
    }
    return code;
}

double speech_file_seconds(const speech_file *f)
{
    return f->sample_rate > 0 ? (double)f->n_samples / f->sample_rate : 0;
}

/* The head with the right length, where it can be written again. */
static bool mend_head(const speech_file *f)
{
    unsigned char head[WAV_HEAD_BYTES];
    wav_head(head, f->sample_rate, f->n_samples);
    return f->head_at < 0 || pwrite(f->fd, head, sizeof head, f->head_at) == (ssize_t)sizeof head;
}

/* All of it to the disk, and the name. */
static flo_code keep(speech_file *f, flo_err *err)
{
    off_t n_bytes = WAV_HEAD_BYTES + SAMPLE_BYTES * (off_t)f->n_samples;
    bool good = mend_head(f) &&
                ftruncate(f->fd, n_bytes) == 0 && /* samples that a signal cut off */
                (fsync(f->fd) == 0 || errno == EINVAL);
    int fd = f->fd;
    f->fd = -1;
    int cause = errno;
    if (close(fd) != 0 && good) {
        good = false;
        cause = errno;
    }
    if (good && rename(f->beside, f->path) != 0) {
        good = false;
        cause = errno;
    }
    return good ? FLO_OK
                : flo_fail(err, FLO_FAIL, "%s cannot be written: %s", f->name, strerror(cause));
}

flo_code speech_file_finish(speech_file *f, flo_err *err)
{
    flo_code code = f->sample_rate == 0 ? begin(f, SPEECH_SAMPLE_RATE, 0, err) : FLO_OK;
    if (code == FLO_OK && !f->stream) {
        code = keep(f, err);
    } else if (code == FLO_OK && !mend_head(f)) {
        code = flo_fail(err, FLO_FAIL, "%s cannot be written: %s", f->name, strerror(errno));
    }
    if (code != FLO_OK) {
        speech_file_discard(f);
        return code;
    }
    release(f);
    return FLO_OK;
}

void speech_file_discard(speech_file *f)
{
    if (f == NULL) {
        return;
    }
    if (f->beside != NULL) {
        unlink(f->beside);
    }
    release(f);
}

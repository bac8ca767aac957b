/*
 * safetensors_write.c - the header first, with room where tensors are to follow, then pwrite.
 *
 * Tensors lie in the order in which they were declared, without gaps. A count of the bytes that
 * arrived for each tensor stands between a forgotten row and a file with zeros in it.
 */
#include "common/safetensors_write.h"

#include "common/check.h"
#include "common/file.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct written_tensor {
    char *name;
    uint64_t offset; /* in the data */
    uint64_t n_bytes;
    _Atomic uint64_t n_written;
} written_tensor;

struct safetensors_writer {
    int fd;
    char *path, *partial_path; /* partial_path NULL: no file to remove */
    size_t n, n_later;         /* n_later: that may still be added */
    written_tensor *tensors;
    cJSON *header;
    uint64_t header_bytes; /* of its text with the spaces behind it */
    uint64_t data_bytes;   /* of all tensors */
};

/* Of a later tensor's entry in the header: its name, a type, TENSOR_DIMS_MAX numbers, two places.
 */
enum { LATER_BYTES = 512, LATER_NAME_MAX = 48, PREFIX_BYTES = 8 };

static flo_code write_all(const safetensors_writer *w, uint64_t at, const void *data,
                          size_t n_bytes, flo_err *err)
{
    const char *from = data;
    while (n_bytes > 0) {
        size_t part = n_bytes < (size_t)1 << 30 ? n_bytes : (size_t)1 << 30;
        ssize_t n = pwrite(w->fd, from, part, (off_t)at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return flo_fail(err, FLO_FAIL, "%s: cannot be written: %s", w->path,
                            n < 0 ? strerror(errno) : "no progress");
        }
        from += n;
        at += (uint64_t)n;
        n_bytes -= (size_t)n;
    }
    return FLO_OK;
}

/* ---- header ---- */

static uint64_t entry_bytes(const safetensors_entry *e)
{
    uint64_t n = tensor_dtype_bytes(e->dtype);
    CHECK(e->n_dims >= 0 && e->n_dims <= TENSOR_DIMS_MAX);
    for (int32_t i = 0; i < e->n_dims; i++) {
        CHECK(e->shape[i] >= 0 && !__builtin_mul_overflow(n, (uint64_t)e->shape[i], &n));
    }
    return n;
}

static void add_entry(cJSON *header, const safetensors_entry *e, uint64_t begin, uint64_t end)
{
    cJSON *entry = cJSON_AddObjectToObject(header, e->name);
    cJSON_AddStringToObject(entry, "dtype", tensor_dtype_name(e->dtype));
    cJSON *shape = cJSON_AddArrayToObject(entry, "shape");
    for (int32_t i = 0; i < e->n_dims; i++) {
        cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)e->shape[i]));
    }
    cJSON *offsets = cJSON_AddArrayToObject(entry, "data_offsets");
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)begin));
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)end));
}

/* Length, text, and spaces up to header_bytes, a multiple of 8. */
static flo_code write_header(safetensors_writer *w, flo_err *err)
{
    char *text = cJSON_PrintUnformatted(w->header);
    size_t length = text != NULL ? strlen(text) : 0;
    if (w->header_bytes == 0) {
        w->header_bytes = (length + w->n_later * LATER_BYTES + 7) / 8 * 8;
    }
    size_t n_bytes = PREFIX_BYTES + w->header_bytes;
    unsigned char *whole = malloc(n_bytes);
    flo_code code = FLO_FAIL;
    if (text == NULL || whole == NULL) {
        flo_fail(err, FLO_FAIL, "no memory");
    } else {
        CHECK(length <= w->header_bytes);
        for (int i = 0; i < PREFIX_BYTES; i++) {
            whole[i] = (unsigned char)(w->header_bytes >> (8 * i));
        }
        memset(whole + PREFIX_BYTES, ' ', w->header_bytes);
        memcpy(whole + PREFIX_BYTES, text, length);
        code = write_all(w, 0, whole, n_bytes, err);
    }
    free(whole);
    cJSON_free(text);
    return code;
}

/* ---- the file ---- */

/* Takes the whole size from the disk where the file system can, else promises it only. */
static flo_code reserve(const safetensors_writer *w, uint64_t n_bytes, flo_err *err)
{
    if (n_bytes == 0) {
        return FLO_OK;
    }
    int rc;
    do {
        rc = fallocate(w->fd, 0, 0, (off_t)n_bytes);
    } while (rc != 0 && errno == EINTR);
    if (rc != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        rc = ftruncate(w->fd, (off_t)n_bytes);
    }
    if (rc != 0) {
        return flo_fail(err, FLO_FAIL, "%s: no room for %llu bytes: %s", w->path,
                        (unsigned long long)n_bytes, strerror(errno));
    }
    return FLO_OK;
}

/* A name of its own beside the target's: several writers may be at work. */
static flo_code make_partial(safetensors_writer *w, flo_err *err)
{
    for (int attempt = 0; attempt < 100; attempt++) {
        if (asprintf(&w->partial_path, "%s.partial-%d-%d", w->path, (int)getpid(), attempt) < 0) {
            w->partial_path = NULL;
            return flo_fail(err, FLO_FAIL, "no memory");
        }
        w->fd = open(w->partial_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->fd >= 0) {
            return FLO_OK;
        }
        free(w->partial_path);
        w->partial_path = NULL;
        if (errno != EEXIST) {
            break;
        }
    }
    return flo_fail(err, FLO_FAIL, "%s: cannot be made: %s", w->path, strerror(errno));
}

/* The next tensor of the file, behind those before it. */
static flo_code place(safetensors_writer *w, const safetensors_entry *e, flo_err *err)
{
    written_tensor *t = &w->tensors[w->n];
    t->n_bytes = entry_bytes(e);
    t->offset = w->data_bytes;
    add_entry(w->header, e, w->data_bytes, w->data_bytes + t->n_bytes);
    w->data_bytes += t->n_bytes;
    t->name = strdup(e->name);
    if (t->name == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory");
    }
    w->n++;
    return FLO_OK;
}

static uint64_t file_offset(const safetensors_writer *w, const written_tensor *t)
{
    return PREFIX_BYTES + w->header_bytes + t->offset;
}

static flo_code start_file(safetensors_writer *w, const safetensors_entry *entries, size_t n,
                           flo_err *err)
{
    flo_code code = FLO_OK;
    for (size_t i = 0; i < n && code == FLO_OK; i++) {
        code = place(w, &entries[i], err);
    }
    code = code == FLO_OK ? file_check_target(w->path, err) : code;
    code = code == FLO_OK ? make_partial(w, err) : code;
    code = code == FLO_OK ? write_header(w, err) : code;
    return code == FLO_OK ? reserve(w, PREFIX_BYTES + w->header_bytes + w->data_bytes, err) : code;
}

flo_code safetensors_create_open(safetensors_writer **out, const char *path,
                                 const safetensors_entry *entries, size_t n, size_t n_later,
                                 flo_err *err)
{
    safetensors_writer *w = calloc(1, sizeof *w);
    if (w == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory");
    }
    w->fd = -1;
    w->n_later = n_later;
    w->path = strdup(path);
    w->tensors = calloc(n + n_later + 1, sizeof *w->tensors);
    w->header = cJSON_CreateObject();
    flo_code code = w->path == NULL || w->tensors == NULL || w->header == NULL
                        ? flo_fail(err, FLO_FAIL, "no memory")
                        : start_file(w, entries, n, err);
    if (code != FLO_OK) {
        safetensors_abandon(w);
        return code;
    }
    *out = w;
    return FLO_OK;
}

flo_code safetensors_create(safetensors_writer **out, const char *path,
                            const safetensors_entry *entries, size_t n, flo_err *err)
{
    return safetensors_create_open(out, path, entries, n, 0, err);
}

flo_code safetensors_add(safetensors_writer *w, const safetensors_entry *entry, const void *data,
                         flo_err *err)
{
    CHECK(w->n_later > 0 && strlen(entry->name) <= LATER_NAME_MAX);
    w->n_later--;
    flo_code code = place(w, entry, err);
    code = code == FLO_OK ? write_header(w, err) : code;
    code = code == FLO_OK ? reserve(w, PREFIX_BYTES + w->header_bytes + w->data_bytes, err) : code;
    return code == FLO_OK
               ? safetensors_write(w, w->n - 1, 0, data, w->tensors[w->n - 1].n_bytes, err)
               : code;
}

flo_code safetensors_write(safetensors_writer *w, size_t i, uint64_t first_byte, const void *data,
                           size_t n_bytes, flo_err *err)
{
    CHECK(i < w->n);
    written_tensor *t = &w->tensors[i];
    CHECK(first_byte <= t->n_bytes && n_bytes <= t->n_bytes - first_byte);
    flo_code code = write_all(w, file_offset(w, t) + first_byte, data, n_bytes, err);
    if (code == FLO_OK) {
        atomic_fetch_add(&t->n_written, n_bytes);
    }
    return code;
}

static flo_code check_complete(const safetensors_writer *w, flo_err *err)
{
    for (size_t i = 0; i < w->n; i++) {
        const written_tensor *t = &w->tensors[i];
        uint64_t n_written = atomic_load(&t->n_written);
        if (n_written != t->n_bytes) {
            return flo_fail(err, FLO_FAIL, "%s: tensor %s got %llu of its %llu bytes", w->path,
                            t->name, (unsigned long long)n_written, (unsigned long long)t->n_bytes);
        }
    }
    return FLO_OK;
}

static flo_code put_in_place(safetensors_writer *w, flo_err *err)
{
    int rc = close(w->fd); /* where a network's disk says that it was full */
    w->fd = -1;
    if (rc != 0) {
        return flo_fail(err, FLO_FAIL, "%s: cannot be written: %s", w->path, strerror(errno));
    }
    if (rename(w->partial_path, w->path) != 0) {
        return flo_fail(err, FLO_FAIL, "%s: cannot be put in place: %s", w->path, strerror(errno));
    }
    free(w->partial_path);
    w->partial_path = NULL;
    return FLO_OK;
}

flo_code safetensors_finish(safetensors_writer *w, flo_err *err)
{
    flo_code code = check_complete(w, err);
    if (code == FLO_OK) {
        code = put_in_place(w, err);
    }
    safetensors_abandon(w);
    return code;
}

void safetensors_abandon(safetensors_writer *w)
{
    if (w == NULL) {
        return;
    }
    if (w->fd >= 0) {
        close(w->fd);
    }
    if (w->partial_path != NULL) {
        unlink(w->partial_path);
    }
    for (size_t i = 0; w->tensors != NULL && i < w->n; i++) {
        free(w->tensors[i].name);
    }
    cJSON_Delete(w->header);
    free(w->partial_path);
    free(w->path);
    free(w->tensors);
    free(w);
}

/*
 * safetensors_write.h - a safetensors file, declared first and filled in any order.
 *
 * The file is written under a temporary name beside its own and renamed when it is complete: other
 * readers see the whole file or none. Its size is taken from the disk at the start, so a full disk
 * is known before the first byte of data.
 */
#ifndef FLOTILLA_COMMON_SAFETENSORS_WRITE_H
#define FLOTILLA_COMMON_SAFETENSORS_WRITE_H

#include "common/checkpoint.h"
#include "common/error.h"

typedef struct safetensors_entry {
    const char *name; /* UTF-8, each name once; borrowed for the call */
    tensor_dtype dtype;
    int32_t n_dims;
    int64_t shape[TENSOR_DIMS_MAX];
} safetensors_entry;

typedef struct safetensors_writer safetensors_writer;

/* Declares all tensors of the file. FLO_USAGE: no such folder, or path names what is no regular
 * file. FLO_FAIL: it cannot be made, or the disk has no room. */
flo_code safetensors_create(safetensors_writer **out, const char *path,
                            const safetensors_entry *entries, size_t n, flo_err *err);

/* The same with room in its header for up to n_later tensors whose sizes are not known yet. */
flo_code safetensors_create_open(safetensors_writer **out, const char *path,
                                 const safetensors_entry *entries, size_t n, size_t n_later,
                                 flo_err *err);

/* One of them, with all of its data: behind all tensors so far. Its name has at most 48 bytes. */
flo_code safetensors_add(safetensors_writer *w, const safetensors_entry *entry, const void *data,
                         flo_err *err);

/* Writes n_bytes of entry i's data at first_byte of it. Each byte is written once. Thread-safe for
 * different ranges. FLO_FAIL: disk full, I/O error. */
flo_code safetensors_write(safetensors_writer *w, size_t i, uint64_t first_byte, const void *data,
                           size_t n_bytes, flo_err *err);

/* Puts the file in its place and frees w, also on failure (then nothing is left). FLO_FAIL as well
 * where bytes of a tensor were never written, with its name. */
flo_code safetensors_finish(safetensors_writer *w, flo_err *err);

/* Removes what was written; NULL is allowed. */
void safetensors_abandon(safetensors_writer *w);

#endif

/*
 * checkpoint.h - the tensors of a checkpoint folder: where each lies, checked before anything is
 * read.
 *
 * Opening reads the index and every shard's header (no weights): header length, JSON, dtype, shape,
 * byte count, offsets in range, no overlap, no name twice, every index entry present in the shard
 * it names, shard names plain. After that a tensor is a range of bytes in a file, and a rank reads
 * only the ranges it owns. Names are kept as in the published layout: a missing "thinker." prefix
 * is added (files saved from the thinker class alone), fused expert tensors keep their own names.
 */
#ifndef FLOTILLA_COMMON_CHECKPOINT_H
#define FLOTILLA_COMMON_CHECKPOINT_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TENSOR_DIMS_MAX = 6 };

typedef enum tensor_dtype {
    DTYPE_BF16,
    DTYPE_F16,
    DTYPE_F32,
    DTYPE_F64,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_U8,
    DTYPE_BOOL,
    DTYPE_I8,
    DTYPE_I16,
    DTYPE_U16,
    DTYPE_U32,
    DTYPE_U64
} tensor_dtype;

typedef struct checkpoint_tensor {
    const char *name; /* owned by the checkpoint */
    tensor_dtype dtype;
    int32_t n_dims;
    int64_t shape[TENSOR_DIMS_MAX];
    int32_t file;    /* index of the shard */
    uint64_t offset; /* of the first byte, from the start of the file */
    uint64_t n_bytes;
    uint64_t n_elements;
} checkpoint_tensor;

typedef struct checkpoint checkpoint;

/* FOLDER/model.safetensors.index.json with its shards, or FOLDER/model.safetensors. Links are
 * followed. FLO_USAGE: no such folder. FLO_FAIL: no weights in it, or any fault above; the sentence
 * names the file and the tensor. Keeps every shard open until checkpoint_close. */
flo_code checkpoint_open(checkpoint **out, const char *folder, flo_err *err);

/* One .safetensors file alone (reference data, dumps); its names are kept as they are. */
flo_code checkpoint_open_file(checkpoint **out, const char *path, flo_err *err);
void checkpoint_close(checkpoint *c);

size_t checkpoint_count(const checkpoint *c);
const checkpoint_tensor *checkpoint_at(const checkpoint *c, size_t i); /* sorted by name */
const checkpoint_tensor *checkpoint_find(const checkpoint *c, const char *name); /* NULL: none */
const char *checkpoint_file_name(const checkpoint *c, int32_t file);

/* Reads n_bytes of the tensor's data, from first_byte of it, into out. Thread-safe.
 * FLO_FAIL on a short read or an I/O error, with file, tensor and offset. */
flo_code checkpoint_read(const checkpoint *c, const checkpoint_tensor *t, uint64_t first_byte,
                         void *out, size_t n_bytes, flo_err *err);

/* Tells checkpoints apart, so that hosts that see different ones are noticed: a hash of all names,
 * types and shapes and of some bytes of 64 tensors spread over the whole. How tensors are dealt to
 * files does not count. Reads 16 KiB. FLO_FAIL as checkpoint_read. */
flo_code checkpoint_fingerprint(const checkpoint *c, uint64_t *out, flo_err *err);

size_t tensor_dtype_bytes(tensor_dtype d);
const char *tensor_dtype_name(tensor_dtype d); /* "BF16" */

#endif

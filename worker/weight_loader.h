/*
 * weight_loader.h - a region of packed weights, filled from a checkpoint's tensors.
 *
 * Used in three steps: declare (each call places a matrix or vector in the region and notes which
 * tensor fills it), check (every tensor is found and its shape compared before the first byte is
 * read), fill (with all threads of the pool, a slab at a time). The first fault is kept and every
 * later call does nothing, so declarations need no error handling. What is declared must add up to
 * exactly the region's bytes: the plan and the declarations are one list (CHECKed).
 *
 * A tensor that is not bf16 is taken if bf16 holds each of its values exactly, and refused by name
 * if not; vectors are kept as f32 and taken as they are. Beside the region a load takes two slabs
 * of 1 MiB a thread.
 */
#ifndef FLOTILLA_WORKER_WEIGHT_LOADER_H
#define FLOTILLA_WORKER_WEIGHT_LOADER_H

#include "common/checkpoint.h"
#include "common/error.h"
#include "common/model_tensors.h"
#include "worker/kernels/matmul.h"
#include "worker/thread_pool.h"

#include <stdint.h>

/* Where the weights come from: a checkpoint, or a seed (--load-format dummy: right shapes, small
 * random values, norms of one, biases of zero). */
typedef struct weights_source {
    const checkpoint *checkpoint; /* NULL: dummy */
    uint64_t seed;
} weights_source;

typedef struct weight_loader weight_loader;

/* Takes the region, which is the caller's after weight_loader_run, to be freed with
 * weight_region_free. *source is read until then. Names are the published ones, "thinker." in
 * front ("thinker.audio_tower.conv2d1.weight"), as the checkpoint reader has them. */
flo_code weight_loader_new(weight_loader **out, uint64_t region_bytes, const weights_source *source,
                           flo_err *err);

/* f32 vector of n entries. */
const float *weight_vector(weight_loader *l, const char *name, int32_t n);

/* n_names vectors of n entries each, one right after the other as if they were one. */
const float *weight_vectors(weight_loader *l, const char *const *names, int32_t n_names, int32_t n);

/* bf16 rows as they are, [rows][columns] (a table that is looked up). */
const bf16 *weight_table(weight_loader *l, const char *name, int32_t rows, int32_t columns);

/* A packed matrix [rows][columns], nothing in it yet. */
packed_matrix weight_matrix(weight_loader *l, int32_t rows, int32_t columns);

/* Rows [first_row, first_row + n_rows) of w come from the tensor name, shape [n_rows][columns] or
 * any n_dims-dimensional shape [n_rows][...] of as many entries (shape NULL: [n_rows][columns],
 * whatever n_dims). order (NULL: as stored): column c of the packed matrix is column order[c] of
 * the stored one; read until weight_loader_run returns. */
void weight_rows(weight_loader *l, const packed_matrix *w, const char *name, int32_t first_row,
                 int32_t n_rows, int32_t n_dims, const int64_t *shape, const int32_t *order);

/* A transposed convolution's tensor [n_in][n_out][kernel], kernel a multiple of stride, as the
 * matrix [stride * n_out][kernel / stride * n_in] that makes `stride` time steps at once from rows
 * of inputs that follow each other in time: with T = kernel / stride,
 *     row p * n_out + o, column (T - 1 - j) * n_in + i  is  tensor[i][o][j * stride + p]. */
void weight_transposed(weight_loader *l, const packed_matrix *w, const char *name, int32_t n_in,
                       int32_t n_out, int32_t kernel, int32_t stride);

/* A tensor of n_taps weights for each channel, of this shape, which has them as
 * [n_channels][n_taps]: as f32 [n_taps][n_channels]. A convolution of channels by themselves
 * ([channels][1][taps]), or one with a single output ([1][channels][taps]). Values must be such as
 * bf16 holds. */
const float *weight_taps(weight_loader *l, const char *name, int32_t n_channels, int32_t n_taps,
                         const int64_t shape[3]);

/* As weight_rows, from a part of a tensor (range->columns are w's): rows [first_row, first_row +
 * range->rows) of w. range->tensor may be NULL where the weights are made up; name is then their
 * seed. */
void weight_range(weight_loader *l, const packed_matrix *w, const char *name, int32_t first_row,
                  const tensor_range *range);

/* Which of two matrices of range->rows rows each, whose panels lie in turn in w (gate panel 0, up
 * panel 0, gate panel 1, ...; w has an even number of panels). */
void weight_panels(weight_loader *l, const packed_matrix *w, const char *name, int32_t which,
                   const tensor_range *range);

/* A fault of the caller's own while it declares; the first one ends the load. */
void weight_fault(weight_loader *l, flo_code code, const flo_err *err);

/* Finds all, then fills all. progress(arg, done, total) in bytes of the checkpoint, on this thread.
 * Frees l in any case; on failure the region too. */
flo_code weight_loader_run(weight_loader *l, void **region, thread_pool *pool,
                           void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                           flo_err *err);
void weight_region_free(void *region, uint64_t region_bytes);

#endif

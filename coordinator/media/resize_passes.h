/*
 * resize_passes.h - the two passes of a resize over one row, the contract for all variants.
 *
 * A new byte is clamp((2^(shift - 1) + sum of pixel * weight) >> shift, 0, 255), summed in int32,
 * which no sum of 8-bit pixels and an axis's weights leaves: so every variant gives the same bytes.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_RESIZE_PASSES_H
#define FLOTILLA_COORDINATOR_MEDIA_RESIZE_PASSES_H

#include "coordinator/media/resize.h"
#include "coordinator/media/resize_axis.h"

#include <stdint.h>

enum { RESIZE_SLACK_BYTES = 32 }; /* past the end of a row that a variant may read or write */

/* One row: out [n_out][3] from in [n_in + n_taps][3], whose pixels from n_in on have weight 0. Both
 * have RESIZE_SLACK_BYTES more. */
typedef void resize_row_fn(uint8_t *out, const uint8_t *in, const resize_axis *a);

/* One row of n bytes from n_rows (a multiple of RESIZE_TAPS_STEP) rows of n bytes each, weights
 * [n_rows]; a row of weight 0 is any row. No slack: neither reads nor writes past n. */
typedef void resize_column_fn(uint8_t *out, const uint8_t *const *rows, const int16_t *weights,
                              int32_t n_rows, int32_t shift, int64_t n);

resize_row_fn resize_row_ref, resize_row_avx2;
resize_column_fn resize_column_ref, resize_column_avx2;

typedef struct resize_passes {
    const char *isa;
    resize_row_fn *row;
    resize_column_fn *column;
} resize_passes;

/* "ref" or "avx2"; NULL where this build or this CPU has not got it. */
const resize_passes *resize_passes_variant(const char *isa);

/* For tests: the passes that r uses from now on, instead of the fastest this CPU has. */
void resizer_use(resizer *r, const resize_passes *passes);

#endif

/*
 * kernels.h - the table of kernels, chosen once at start for this CPU.
 *
 * kernels_init starts from the plain C definitions and lets each instruction set that the CPU has
 * improve on them; FLOTILLA_ISA=ref|avx2|avx512 caps the ladder. All variants of a kernel give the
 * same bits (each header states the order of its sums), so a mixed cluster computes what one
 * machine computes.
 */
#ifndef FLOTILLA_WORKER_KERNELS_KERNELS_H
#define FLOTILLA_WORKER_KERNELS_KERNELS_H

#include "common/error.h"
#include "worker/kernels/attention.h"
#include "worker/kernels/matmul.h"
#include "worker/kernels/peak.h"
#include "worker/kernels/sound.h"
#include "worker/kernels/vector.h"

typedef struct kernel_table {
    const char *isa; /* "ref", "avx2", "avx512" */
    matmul_bf16_fn *matmul_bf16;
    matmul_runs_bf16_fn *matmul_runs_bf16;
    rms_norm_fn *rms_norm;
    layer_norm_fn *layer_norm;
    gelu_fn *gelu_erf;
    gelu_fn *gelu_tanh;
    silu_mul_fn *silu_mul;
    softmax_fn *softmax;
    axpy_fn *axpy;
    add_fn *add;
    rope_rotate_fn *rope_rotate;
    bf16_widen_fn *bf16_widen;
    attend_block_fn *attend_block;
    attend_heads_fn *attend_heads;
    snake_fn *snake;
    channel_taps_fn *channel_taps;
    scaled_add_fn *scaled_add;
    dot_rows_fn *dot_rows;
    clamp_fn *clamp;
    fma_work_fn *fma_work;
} kernel_table;

/* Once, at start, before other threads compute. FLO_USAGE on a FLOTILLA_ISA that is unknown or that
 * this CPU does not have. */
flo_code kernels_init(flo_err *err);

/* The chosen table; the plain definitions before kernels_init. */
const kernel_table *kernels(void);

/* The table of one rung by name, whatever was chosen; NULL where this CPU or build lacks it. */
const kernel_table *kernels_variant(const char *isa);

#endif

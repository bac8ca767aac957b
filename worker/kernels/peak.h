/*
 * peak.h - nothing but fused multiply-adds, in registers: what a core could do if it never waited.
 *
 * `flotilla bench` holds measured rates against it, taken in the same run by the same threads.
 */
#ifndef FLOTILLA_WORKER_KERNELS_PEAK_H
#define FLOTILLA_WORKER_KERNELS_PEAK_H

#include <stdint.h>

/* Runs `rounds` rounds of independent f32 fused multiply-adds; *flops is set to twice their number.
 * Returns a number that depends on all of them. */
typedef float fma_work_fn(double *flops, int32_t rounds);

fma_work_fn fma_work_ref, fma_work_avx2, fma_work_avx512;

#endif

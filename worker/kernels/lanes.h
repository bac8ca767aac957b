/*
 * lanes.h - the order in which sums over a row are added (inside worker/kernels/ only).
 *
 * Sixteen partial sums run side by side, entry k in lane k mod 16; the tree below joins them. One
 * 512-bit register, two 256-bit ones or a plain array give the same bits.
 */
#ifndef FLOTILLA_WORKER_KERNELS_LANES_H
#define FLOTILLA_WORKER_KERNELS_LANES_H

#include <stdint.h>

enum { LANES = 16 };

/* Spoils lanes. */
static inline float lanes_total(float lanes[LANES])
{
    for (int32_t apart = LANES / 2; apart > 0; apart /= 2) {
        for (int32_t j = 0; j < apart; j++) {
            lanes[j] = lanes[j] + lanes[j + apart];
        }
    }
    return lanes[0];
}

#endif

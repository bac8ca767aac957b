/*
 * audio_shape.h - lengths after the convolutions of the audio encoder (inside worker/encoders/
 * only).
 */
#ifndef FLOTILLA_WORKER_ENCODERS_AUDIO_SHAPE_H
#define FLOTILLA_WORKER_ENCODERS_AUDIO_SHAPE_H

#include <stdint.h>

/* Frames or mel rows after n_times convolutions of stride 2 with padding: halves, rounded up. */
static inline int32_t audio_halved(int32_t n, int32_t n_times)
{
    for (int32_t i = 0; i < n_times; i++) {
        n = n / 2 + n % 2;
    }
    return n;
}

#endif

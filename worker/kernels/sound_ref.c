/*
 * sound_ref.c - kernels of the vocoder, the definitions.
 */
#include "worker/kernels/sound.h"

#include "worker/kernels/lanes.h"
#include "worker/kernels/sound_entries.h"

DEFINE_SOUND_ENTRIES(ref)

float sine_squared_f32(float z)
{
    return sine_squared_entry(z);
}

void dot_rows_ref(float *out, const float *x, size_t stride, int32_t n_rows, const float *w,
                  int32_t n, float bias)
{
    for (int32_t m = 0; m < n_rows; m++) {
        float lanes[LANES] = {0};
        for (int32_t i = 0; i < n; i++) {
            lanes[i % LANES] = fmaf(x[(size_t)m * stride + (size_t)i], w[i], lanes[i % LANES]);
        }
        out[m] = lanes_total(lanes) + bias;
    }
}

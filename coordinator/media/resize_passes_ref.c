/*
 * resize_passes_ref.c - the passes' definition, in plain C.
 */
#include "coordinator/media/resize_passes.h"

static uint8_t pixel_of(int32_t sum, int32_t shift)
{
    int32_t value = sum >> shift;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

void resize_row_ref(uint8_t *out, const uint8_t *in, const resize_axis *a)
{
    const int16_t *w = a->weights;
    for (int32_t i = 0; i < a->n_out; i++, w += a->n_taps, out += 3) {
        const uint8_t *p = in + 3 * (int64_t)a->first[i];
        int32_t sum[3];
        sum[0] = sum[1] = sum[2] = 1 << (a->shift - 1);
        for (int32_t j = 0; j < a->count[i]; j++, p += 3) {
            sum[0] += p[0] * w[j];
            sum[1] += p[1] * w[j];
            sum[2] += p[2] * w[j];
        }
        for (int32_t c = 0; c < 3; c++) {
            out[c] = pixel_of(sum[c], a->shift);
        }
    }
}

void resize_column_ref(uint8_t *out, const uint8_t *const *rows, const int16_t *weights,
                       int32_t n_rows, int32_t shift, int64_t n)
{
    for (int64_t x = 0; x < n; x++) {
        int32_t sum = 1 << (shift - 1);
        for (int32_t j = 0; j < n_rows; j++) {
            sum += rows[j][x] * weights[j];
        }
        out[x] = pixel_of(sum, shift);
    }
}

/*
 * vision_positions.c - the arithmetic of places in f32, rounded where the reference rounds.
 */
#include "worker/encoders/vision_positions.h"

#include <math.h>
#include <string.h>

static const double rope_theta = 10000.0;

typedef struct axis_taps {
    int32_t index[2];
    float weight[2];
} axis_taps;

static axis_taps taps_of(int32_t place, int32_t size, int32_t side)
{
    float at = (float)place * (float)(side - 1) / (float)(size > 1 ? size - 1 : 1);
    float below = floorf(at);
    float past = at - below;
    int32_t first = (int32_t)below;
    return (axis_taps){.index = {first, first + 1 < side ? first + 1 : side - 1},
                       .weight = {1.0f - past, 1.0f - fabsf(past - 1.0f)}};
}

static const bf16 *tap_row(const position_grid *g, int32_t i, int32_t j)
{
    return g->table + (size_t)(i * g->side + j) * (size_t)g->hidden;
}

void position_add(float *x, const position_grid *g, int32_t row, int32_t column)
{
    axis_taps down = taps_of(row, g->grid_h, g->side);
    axis_taps across = taps_of(column, g->grid_w, g->side);
    const bf16 *taps[4];
    float weights[4];
    for (int32_t t = 0; t < 4; t++) {
        taps[t] = tap_row(g, down.index[t / 2], across.index[t % 2]);
        weights[t] = down.weight[t / 2] * across.weight[t % 2];
    }
    for (int32_t d = 0; d < g->hidden; d++) {
        float sum = bf16_to_f32(taps[0][d]) * weights[0];
        sum += bf16_to_f32(taps[1][d]) * weights[1];
        sum += bf16_to_f32(taps[2][d]) * weights[2];
        sum += bf16_to_f32(taps[3][d]) * weights[3];
        x[d] += sum;
    }
}

void axial_rope_table(float *cos_out, float *sin_out, int32_t n, int32_t head_dim)
{
    int32_t quarter = head_dim / 4;
    for (int32_t p = 0; p < n; p++) {
        for (int32_t j = 0; j < quarter; j++) {
            /* The reference raises theta in f32 and inverts in f32: two roundings. */
            float exponent = (float)(2 * j) / (float)(head_dim / 2);
            float frequency = 1.0f / (float)pow(rope_theta, (double)exponent);
            float angle = (float)p * frequency;
            cos_out[(size_t)p * (size_t)quarter + (size_t)j] = cosf(angle);
            sin_out[(size_t)p * (size_t)quarter + (size_t)j] = sinf(angle);
        }
    }
}

void axial_rope_angles(float *cos_out, float *sin_out, const float *cos_table,
                       const float *sin_table, int32_t row, int32_t column, int32_t head_dim)
{
    size_t quarter = (size_t)(head_dim / 4);
    size_t bytes = quarter * sizeof(float);
    memcpy(cos_out, cos_table + (size_t)row * quarter, bytes);
    memcpy(cos_out + quarter, cos_table + (size_t)column * quarter, bytes);
    memcpy(sin_out, sin_table + (size_t)row * quarter, bytes);
    memcpy(sin_out + quarter, sin_table + (size_t)column * quarter, bytes);
}

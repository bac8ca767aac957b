/*
 * vision_positions.h - where a patch is: learned positions, interpolated, and the 2-D rotary
 * embedding (the specification's 6.6 and 6.7).
 */
#ifndef FLOTILLA_WORKER_ENCODERS_VISION_POSITIONS_H
#define FLOTILLA_WORKER_ENCODERS_VISION_POSITIONS_H

#include "worker/kernels/bf16.h"

#include <stdint.h>

/* A square table of learned positions, stretched corner to corner over a picture's grid. */
typedef struct position_grid {
    const bf16 *table; /* [side * side][hidden] */
    int32_t side, hidden;
    int32_t grid_h, grid_w;
} position_grid;

/* x[0..hidden) += the position of patch (row, column):
 *     u = row * (side - 1) / (grid_h - 1), v likewise (product first, in f32; 0 where the grid has
 *     one row), then over the taps (i0, j0), (i0, j1), (i1, j0), (i1, j1) the sum of
 *     (weight_i * weight_j) * table row, each product rounded, in that order.
 * Source: get_vision_interpolation_indices_and_weights, vision_utils.py. */
void position_add(float *x, const position_grid *g, int32_t row, int32_t column);

/* cos and sin [n][head_dim / 4] of the angles p * 10000^(-2j / (head_dim / 2)), p = 0 .. n - 1. */
void axial_rope_table(float *cos_out, float *sin_out, int32_t n, int32_t head_dim);

/* cos and sin [head_dim / 2] of patch (row, column): the row's quarter, then the column's. Source:
 * Qwen3OmniMoeVisionRotaryEmbedding. */
void axial_rope_angles(float *cos_out, float *sin_out, const float *cos_table,
                       const float *sin_table, int32_t row, int32_t column, int32_t head_dim);

#endif

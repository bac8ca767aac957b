/*
 * rope.h - angles of the interleaved three-axis rotary embedding.
 *
 * f[j] = theta^(-2j/d) in f32; frequency j follows height where j mod 3 = 1 and j < 3 * section[1],
 * width where j mod 3 = 2 and j < 3 * section[2], else time; angle = f[j] * position in f32. Text
 * has three equal positions. Source: Qwen3OmniMoeThinkerTextRotaryEmbedding; shared spec, 3.4.
 */
#ifndef FLOTILLA_WORKER_THINKER_ROPE_H
#define FLOTILLA_WORKER_THINKER_ROPE_H

#include "common/layout.h"
#include "common/model_config.h"

#include <stdint.h>

enum { ROPE_HALF_MAX = HEAD_DIM_MAX / 2 };

typedef struct rope {
    int32_t half; /* head_dim / 2 frequencies */
    float frequency[ROPE_HALF_MAX];
    int8_t axis[ROPE_HALF_MAX]; /* 0 time, 1 height, 2 width */
} rope;

void rope_init(rope *r, const text_config *t);

/* cos, sin [half] of one row at (time, height, width). */
void rope_angles(const rope *r, float time, float height, float width, float *cos_out,
                 float *sin_out);

#endif

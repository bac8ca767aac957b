/*
 * rope.c - the table of frequencies and their axes, and one row's cosines and sines.
 *
 * Costs half * 2 calls of the math library for each row of a step, once for all layers of the
 * stage.
 */
#include "worker/thinker/rope.h"

#include "common/check.h"

#include <math.h>

void rope_init(rope *r, const text_config *t)
{
    CHECK(t->head_dim / 2 <= ROPE_HALF_MAX);
    r->half = t->head_dim / 2;
    for (int32_t j = 0; j < r->half; j++) {
        /* The reference raises theta in f32 and inverts in f32: two roundings. */
        float exponent = (float)(2 * j) / (float)t->head_dim;
        r->frequency[j] = 1.0f / (float)pow(t->rope_theta, (double)exponent);
        r->axis[j] = 0;
        if (j % 3 == 1 && j < 3 * t->mrope_section[1]) {
            r->axis[j] = 1;
        } else if (j % 3 == 2 && j < 3 * t->mrope_section[2]) {
            r->axis[j] = 2;
        }
    }
}

void rope_angles(const rope *r, float time, float height, float width, float *cos_out,
                 float *sin_out)
{
    const float position[3] = {time, height, width};
    for (int32_t j = 0; j < r->half; j++) {
        float angle = r->frequency[j] * position[r->axis[j]];
        cos_out[j] = cosf(angle);
        sin_out[j] = sinf(angle);
    }
}

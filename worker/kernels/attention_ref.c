/*
 * attention_ref.c - one block of keys and values into a running softmax, the definition.
 */
#include "worker/kernels/attention.h"

#include "common/check.h"
#include "worker/kernels/lanes.h"
#include "worker/kernels/vector.h"

#include <math.h>

/* score[p] = scale * (q . k_p); returns the largest of them and of `max`. */
static float scores(float *score, const float *q, const float *k, int32_t n_valid, int32_t head_dim,
                    float scale, float max)
{
    for (int32_t p = 0; p < n_valid; p++) {
        float sum = 0.0f;
        for (int32_t d = 0; d < head_dim; d++) {
            sum = fmaf(q[d], k[d * KV_BLOCK + p], sum);
        }
        score[p] = sum * scale;
        max = score[p] > max ? score[p] : max;
    }
    return max;
}

void attend_block_ref(float *out, attend_state *state, const float *q, const float *k,
                      const float *v, int32_t n_valid, int32_t head_dim, float scale)
{
    DCHECK(n_valid >= 1 && n_valid <= KV_BLOCK && head_dim <= HEAD_DIM_MAX);
    float weight[KV_BLOCK];
    float max = scores(weight, q, k, n_valid, head_dim, scale, state->max);
    float shrink = exp_f32(state->max - max);

    float lanes[LANES] = {0};
    for (int32_t p = 0; p < n_valid; p++) {
        weight[p] = exp_f32(weight[p] - max);
        lanes[p % LANES] += weight[p];
    }
    state->sum = fmaf(state->sum, shrink, lanes_total(lanes));
    state->max = max;

    for (int32_t d = 0; d < head_dim; d++) {
        float sum = out[d] * shrink;
        for (int32_t p = 0; p < n_valid; p++) {
            sum = fmaf(weight[p], v[p * head_dim + d], sum);
        }
        out[d] = sum;
    }
}

void attend_heads_ref(float *out, attend_state *states, const float *q, int32_t n_heads,
                      const float *k, const float *v, int32_t n_valid, int32_t head_dim,
                      float scale)
{
    for (int32_t h = 0; h < n_heads; h++) {
        attend_block_ref(out + h * head_dim, &states[h], q + h * head_dim, k, v, n_valid, head_dim,
                         scale);
    }
}

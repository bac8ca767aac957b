/*
 * vector_ref.c - kernels on rows of f32, the definitions.
 */
#include "worker/kernels/vector.h"

#include "common/check.h"
#include "worker/kernels/entrywise.h"
#include "worker/kernels/exp.h"
#include "worker/kernels/gelu.h"
#include "worker/kernels/lanes.h"

#include <math.h>
#include <string.h>

/* 2^n for n in [-126, 127]. */
static float power_of_two(int32_t n)
{
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

float exp_f32(float x)
{
    if (isnan(x)) {
        return x;
    }
    x = x < EXP_LOWEST ? EXP_LOWEST : x;
    x = x > EXP_HIGHEST ? EXP_HIGHEST : x;
    float n = fmaf(x, EXP_LOG2E, EXP_ROUNDER) - EXP_ROUNDER;
    float r = fmaf(n, -EXP_LN2_HIGH, x);
    r = fmaf(n, -EXP_LN2_LOW, r);
    float p = fmaf(EXP_C6, r, EXP_C5);
    p = fmaf(p, r, EXP_C4);
    p = fmaf(p, r, EXP_C3);
    p = fmaf(p, r, EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    /* In two halves, for n reaches past both ends of the exponent: the first product is exact. */
    int32_t whole = (int32_t)n;
    int32_t half = whole / 2;
    return p * power_of_two(half) * power_of_two(whole - half);
}

void rms_norm_ref(float *out, const float *x, const float *weight, int32_t n, float eps)
{
    float lanes[LANES] = {0};
    for (int32_t i = 0; i < n; i++) {
        lanes[i % LANES] = fmaf(x[i], x[i], lanes[i % LANES]);
    }
    float scale = 1.0f / sqrtf(lanes_total(lanes) / (float)n + eps);
    for (int32_t i = 0; i < n; i++) {
        out[i] = x[i] * scale * weight[i];
    }
}

void layer_norm_ref(float *out, const float *x, const float *weight, const float *bias, int32_t n,
                    float eps)
{
    float lanes[LANES] = {0};
    for (int32_t i = 0; i < n; i++) {
        lanes[i % LANES] += x[i];
    }
    float mean = lanes_total(lanes) / (float)n;
    memset(lanes, 0, sizeof lanes);
    for (int32_t i = 0; i < n; i++) {
        float off = x[i] - mean;
        lanes[i % LANES] = fmaf(off, off, lanes[i % LANES]);
    }
    float scale = 1.0f / sqrtf(lanes_total(lanes) / (float)n + eps);
    for (int32_t i = 0; i < n; i++) {
        out[i] = fmaf((x[i] - mean) * scale, weight[i], bias[i]);
    }
}

float gelu_erf_f32(float x)
{
    float z = fabsf(x) * GELU_SQRT_HALF;
    float held = z > GELU_ERF_END ? GELU_ERF_END : z;
    float p = fmaf(GELU_C7, held, GELU_C6);
    p = fmaf(p, held, GELU_C5);
    p = fmaf(p, held, GELU_C4);
    p = fmaf(p, held, GELU_C3);
    p = fmaf(p, held, GELU_C2);
    p = fmaf(p, held, GELU_C1);
    p = fmaf(p, held, GELU_C0);
    float erfc = z > GELU_ERF_END ? 0.0f : exp_f32(-(p * held));
    float half = 0.5f * x;
    return x > 0.0f ? fmaf(-half, erfc, x) : half * erfc;
}

float gelu_tanh_f32(float x)
{
    float inner = x * fmaf(GELU_TANH_3, x * x, GELU_TANH_1);
    return x / (1.0f + exp_f32(inner));
}

void gelu_erf_ref(float *x, const float *bias, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        x[i] = gelu_erf_f32(bias != NULL ? x[i] + bias[i] : x[i]);
    }
}

void gelu_tanh_ref(float *x, const float *bias, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        x[i] = gelu_tanh_f32(bias != NULL ? x[i] + bias[i] : x[i]);
    }
}

void silu_mul_ref(float *out, const float *gate, const float *up, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        out[i] = gate[i] / (1.0f + exp_f32(-gate[i])) * up[i];
    }
}

void softmax_ref(float *x, int32_t n)
{
    float max = x[0];
    for (int32_t i = 1; i < n; i++) {
        max = x[i] > max ? x[i] : max;
    }
    float lanes[LANES] = {0};
    for (int32_t i = 0; i < n; i++) {
        x[i] = exp_f32(x[i] - max);
        lanes[i % LANES] += x[i];
    }
    float sum = lanes_total(lanes);
    for (int32_t i = 0; i < n; i++) {
        x[i] = x[i] / sum;
    }
}

DEFINE_ENTRYWISE(ref)

void router_top_k(float *weights, int32_t *ids, const float *probabilities, int32_t n, int32_t k,
                  bool normalise)
{
    CHECK(k >= 1 && k <= n);
    int32_t held = 0;
    for (int32_t id = 0; id < n; id++) {
        float p = probabilities[id];
        if (held == k && !(p > weights[k - 1])) {
            continue;
        }
        int32_t place = held < k ? held++ : k - 1;
        for (; place > 0 && p > weights[place - 1]; place--) {
            weights[place] = weights[place - 1];
            ids[place] = ids[place - 1];
        }
        weights[place] = p;
        ids[place] = id;
    }
    if (normalise) {
        float sum = 0.0f;
        for (int32_t i = 0; i < k; i++) {
            sum = sum + weights[i];
        }
        for (int32_t i = 0; i < k; i++) {
            weights[i] = weights[i] / sum;
        }
    }
}

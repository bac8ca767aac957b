/*
 * speech_cost.c - section 7 of the specification for any shape.
 */
#include "common/speech_cost.h"

static int32_t times(int32_t a, int32_t b)
{
    int32_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT32_MAX : product;
}

int32_t code2wav_rate(const code2wav_config *c)
{
    int32_t rate = 1;
    for (int32_t i = 0; i < c->n_upsampling_ratios; i++) {
        rate = times(rate, c->upsampling_ratios[i]);
    }
    for (int32_t i = 0; i < c->n_upsample_rates; i++) {
        rate = times(rate, c->upsample_rates[i]);
    }
    return rate;
}

int64_t code2wav_samples(const code2wav_config *c, int64_t n_frames)
{
    int64_t n = n_frames;
    for (int32_t i = 0; i < c->n_upsampling_ratios; i++) {
        n *= c->upsampling_ratios[i];
    }
    for (int32_t i = 0; i < c->n_upsample_rates; i++) {
        n = n > 1 ? (n - 1) * c->upsample_rates[i] : 0;
    }
    return n;
}

/* Multiply-adds of decoder layers for one row: attention over n_seen keys, and a SwiGLU. */
static double layer_products(double hidden, double q, double kv, double size, double n_seen)
{
    return hidden * (q + 2 * kv) + q * hidden + 3 * hidden * size + 2 * q * n_seen;
}

static double transformer_products(const code2wav_config *c)
{
    double q = (double)c->n_heads * c->head_dim, kv = (double)c->n_kv_heads * c->head_dim;
    return c->n_layers *
           layer_products(c->hidden_size, q, kv, c->intermediate_size, c->sliding_window);
}

/* A transposed convolution, then a ConvNeXt block: 7 depthwise taps, and four times as wide inside.
 */
static double upsample_products(const code2wav_config *c, double *steps)
{
    double h = c->hidden_size, sum = 0;
    for (int32_t i = 0; i < c->n_upsampling_ratios; i++) {
        *steps *= c->upsampling_ratios[i];
        sum += *steps * (h * h + 7 * h + 8 * h * h);
    }
    return sum;
}

/* Kernel 7 in front and behind; in a block two taps of a transposed convolution, and three residual
 * units of a kernel of 7 and one of 1. */
static double decoder_products(const code2wav_config *c, double steps)
{
    double channels = c->decoder_dim, sum = steps * 7 * c->hidden_size * channels;
    for (int32_t i = 0; i < c->n_upsample_rates; i++) {
        int32_t out = c->decoder_dim >> (i + 1);
        steps *= c->upsample_rates[i];
        sum += steps * (2 * channels * out + 3 * 8 * (double)out * out);
        channels = out;
    }
    return sum + steps * 7 * channels;
}

double code2wav_flops(const code2wav_config *c, int64_t n_frames)
{
    double steps = 1, sum = transformer_products(c);
    sum += upsample_products(c, &steps);
    sum += decoder_products(c, steps);
    return 2 * sum * (double)n_frames;
}

double talker_step_bytes(const talker_config *t)
{
    double h = t->hidden_size, q = (double)t->n_heads * t->head_dim;
    double kv = (double)t->n_kv_heads * t->head_dim;
    double sizes = (double)t->n_experts_per_token * t->expert_size + t->shared_expert_size;
    double layer = layer_products(h, q, kv, sizes, 0) + h * t->n_experts + h;
    return 2 * (t->n_layers * layer + h * t->vocab_size);
}

double predictor_frame_bytes(const code_predictor_config *c)
{
    double h = c->hidden_size, q = (double)c->n_heads * c->head_dim;
    double kv = (double)c->n_kv_heads * c->head_dim;
    double pass =
        c->n_layers * layer_products(h, q, kv, c->intermediate_size, 0) + h * c->vocab_size;
    return 2 * (c->n_code_groups - 1) * pass;
}

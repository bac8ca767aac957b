/*
 * encoder_flops.c - two for each multiply-add, layer by layer.
 */
#include "common/encoder_flops.h"

/* y = x W^T for rows x. */
static double product(double rows, double columns, double outputs)
{
    return 2.0 * rows * columns * outputs;
}

static double halved(double n)
{
    int64_t whole = (int64_t)n;
    return (double)((whole + 1) / 2);
}

/* The convolutions of one chunk, computed as wide as its canvas. */
static double chunk_flops(const audio_config *a)
{
    double c = a->downsample_hidden_size, mel = a->n_mel_bins, time = 2.0 * a->n_window, sum = 0;
    for (int layer = 0; layer < 3; layer++) {
        mel = halved(mel);
        time = halved(time);
        sum += product(mel * time, 9.0 * (layer == 0 ? 1.0 : c), c);
    }
    return sum + product(time, c * mel, a->d_model);
}

double audio_flops(const audio_config *a, int64_t n_frames)
{
    double chunk = 2.0 * a->n_window, d = a->d_model;
    double n_chunks = (double)((n_frames + 2 * a->n_window - 1) / (2 * a->n_window));
    double tokens = (double)n_frames * halved(halved(halved(chunk))) / chunk;
    double window = halved(halved(halved(chunk))) * (double)(a->n_window_infer / (2 * a->n_window));
    double layer = product(tokens, d, 4 * d) + 2 * product(tokens, d, a->ffn_dim) +
                   2 * product(tokens, d, window < tokens ? window : tokens);
    return n_chunks * chunk_flops(a) + a->n_layers * layer + product(tokens, d, d) +
           product(tokens, d, a->output_dim);
}

double vision_flops(const vision_config *v, int64_t n_patches)
{
    double rows = (double)n_patches, d = v->hidden_size;
    double merge = (double)v->spatial_merge_size * v->spatial_merge_size;
    double patch = (double)v->in_channels * v->temporal_patch_size * v->patch_size * v->patch_size;
    double block = product(rows, d, 4 * d) + 2 * product(rows, d, v->intermediate_size) +
                   2 * product(rows, d, rows);
    double merger = product(rows / merge, merge * d, merge * d) +
                    product(rows / merge, merge * d, v->out_hidden_size);
    return product(rows, patch, d) + v->depth * block + (1 + v->n_deepstack) * merger;
}

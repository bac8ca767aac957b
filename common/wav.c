/*
 * wav.c - bytes by hand, so that the host's order does not matter.
 */
#include "common/wav.h"

#include <math.h>
#include <string.h>

static void put(unsigned char *to, uint32_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) {
        to[i] = (unsigned char)(value >> (8 * i));
    }
}

void wav_head(unsigned char head[WAV_HEAD_BYTES], int32_t sample_rate, int64_t n_samples)
{
    int64_t most = (int64_t)UINT32_MAX - WAV_HEAD_BYTES;
    uint64_t data = n_samples < 0 || 2 * n_samples > most ? UINT32_MAX : (uint64_t)(2 * n_samples);
    uint32_t riff = data == UINT32_MAX ? UINT32_MAX : (uint32_t)data + WAV_HEAD_BYTES - 8;
    memcpy(head, "RIFF", 4);
    put(head + 4, riff, 4);
    memcpy(head + 8, "WAVEfmt ", 8);
    put(head + 16, 16, 4); /* bytes of the format */
    put(head + 20, 1, 2);  /* PCM */
    put(head + 22, 1, 2);  /* channels */
    put(head + 24, (uint32_t)sample_rate, 4);
    put(head + 28, 2 * (uint32_t)sample_rate, 4); /* bytes a second */
    put(head + 32, 2, 2);                         /* bytes of a sample of all channels */
    put(head + 34, 16, 2);                        /* bits of a sample */
    memcpy(head + 36, "data", 4);
    put(head + 40, (uint32_t)data, 4);
}

void wav_samples(unsigned char *out, const float *samples, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float x = isnan(samples[i]) ? 0.0f : 32767.0f * samples[i];
        x = x < -32768.0f ? -32768.0f : x > 32767.0f ? 32767.0f : x;
        put(out + 2 * i, (uint32_t)(int32_t)lrintf(x), 2);
    }
}

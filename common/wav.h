/*
 * wav.h - the head of a WAV file: one channel, 16 bits signed, little-endian; and samples as such.
 */
#ifndef FLOTILLA_COMMON_WAV_H
#define FLOTILLA_COMMON_WAV_H

#include <stddef.h>
#include <stdint.h>

enum { WAV_HEAD_BYTES = 44, SPEECH_SAMPLE_RATE = 24000 };

/* The 44 bytes in front of n_samples samples; n_samples -1: a stream whose length is not known yet
 * (sizes of 0xffffffff, which players take as "until the end"). */
void wav_head(unsigned char head[WAV_HEAD_BYTES], int32_t sample_rate, int64_t n_samples);

/* out [2 * n] = samples as 16 bits, rounded to nearest: 32767 * x, clipped. Not-a-number is
 * silence. */
void wav_samples(unsigned char *out, const float *samples, size_t n);

#endif

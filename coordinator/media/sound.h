/*
 * sound.h - a stored sound, or the sound track of a video, into mono f32 samples at 16 kHz.
 *
 * FFmpeg's libraries read it (wav, flac, ogg/opus, mp3, m4a/aac, webm, mp4, mkv ...; what it is, is
 * found from its content), channels are averaged, soxr (HQ) resamples; samples that already are at
 * 16 kHz pass untouched: a 16-bit sample s is s / 32768, as the reference's loader has it.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_SOUND_H
#define FLOTILLA_COORDINATOR_MEDIA_SOUND_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SOUND_RATE = 16000,
    SOUND_SAMPLES_MIN = 201,      /* the transform reflects 200 of them at each end */
    SOUND_SECONDS_MAX = 4 * 3600, /* longer than any context holds */
};

typedef struct sound {
    float *samples; /* owned (malloc) */
    int64_t n;
} sound;

/* name leads every sentence. FLO_USAGE: no sound in it (*none is set then, if none is not NULL, so
 * that a caller can take another), damaged, cut short (a stream that breaks off in the middle is
 * refused; one whose header promises more than the file has, too), shorter than SOUND_SAMPLES_MIN
 * or longer than SOUND_SECONDS_MAX, samples that are no numbers. cancel may be NULL. Any thread. */
flo_code sound_decode(sound *s, const uint8_t *bytes, size_t n_bytes, const char *name, bool *none,
                      const volatile bool *cancel, flo_err *err);
void sound_free(sound *s);

#endif

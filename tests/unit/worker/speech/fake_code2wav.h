/*
 * fake_code2wav.h - a network whose samples say what they were made from, and a diary of how it was
 * used: stands in for worker/speech/code2wav.c.
 *
 * Sample t of a stream is
 *     FAKE_RATE * (its frame's code 0) + t mod FAKE_RATE,  plus FAKE_SPEAKER * (code 1),
 * and as in the real network the last FAKE_AHEAD samples are only final with the next frame.
 */
#ifndef FLOTILLA_TESTS_FAKE_CODE2WAV_H
#define FLOTILLA_TESTS_FAKE_CODE2WAV_H

#include "worker/speech/code2wav.h"

enum {
    FAKE_RATE = 10,
    FAKE_AHEAD = 3,
    FAKE_SPEAKER = 1 << 15,
    FAKE_SLICES = 3, /* calls of advance that a chunk takes */
    FAKE_DIARY_MAX = 4096
};

typedef struct fake_chunk {
    int32_t stream, n_frames;
    bool is_first; /* the stream was reset before it */
    void *watched; /* arg of the watch; NULL: none */
} fake_chunk;

typedef struct fake_diary {
    int32_t n;
    fake_chunk chunks[FAKE_DIARY_MAX];
} fake_diary;

code2wav *fake_open(const code2wav_config *c);
const fake_diary *fake_diary_of(const code2wav *v);

#endif

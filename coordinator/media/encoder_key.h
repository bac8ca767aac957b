/*
 * encoder_key.h - what a job of an encoder is known by: SHA-256 of its input and of all that
 * decides its result.
 *
 * Inputs are what clients send, so a hash is needed of which nobody can make two inputs alike: else
 * one client's picture could be answered with another's.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_ENCODER_KEY_H
#define FLOTILLA_COORDINATOR_MEDIA_ENCODER_KEY_H

#include "common/error.h"

#include <stddef.h>
#include <stdint.h>

typedef struct encoder_key {
    uint8_t digest[32];
} encoder_key;

typedef struct encoder_key_part { /* borrowed */
    const void *bytes;            /* of fixed-width values without padding between them */
    size_t n_bytes;
} encoder_key_part;

/* *key of n parts: the kind of job, its numbers, its samples. Each part's length is hashed in front
 * of it, so bytes that move from one part to the next give another key. Any thread; *key is set on
 * success. FLO_FAIL: out of memory. */
flo_code encoder_key_make(encoder_key *key, const encoder_key_part *parts, int32_t n, flo_err *err);

#endif

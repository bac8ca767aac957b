/*
 * speech_room.h - what one spoken answer takes of the talker's KV cache: the coordinator admits by
 * it, the talker holds it to it.
 */
#ifndef FLOTILLA_COMMON_SPEECH_ROOM_H
#define FLOTILLA_COMMON_SPEECH_ROOM_H

#include "common/layout.h"

#include <stdint.h>

/* Tokens of plan.talker_tokens for a prompt of so many rows and at most max_draws first codes, in
 * whole KV blocks. */
static inline int64_t speech_room_tokens(int64_t rows, int64_t max_draws)
{
    return (rows + max_draws + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK;
}

#endif

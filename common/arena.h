/*
 * arena.h - memory for one step or one message: taken by moving a pointer, given back all at once.
 *
 * The region is reserved once, of a size that the plan knows; nothing in it is freed singly. Touched
 * pages stay, so a warm arena costs no page faults.
 */
#ifndef FLOTILLA_COMMON_ARENA_H
#define FLOTILLA_COMMON_ARENA_H

#include "common/error.h"

#include <stddef.h>

enum { ARENA_ALIGN = 64 }; /* a cache line, and a 512-bit vector */

typedef struct arena {
    unsigned char *base;
    size_t n_bytes; /* capacity */
    size_t used;
    size_t peak; /* the largest `used` so far */
} arena;

flo_code arena_open(arena *a, size_t n_bytes, flo_err *err);
void arena_close(arena *a);

/* n_bytes aligned to ARENA_ALIGN, not cleared; NULL where the arena is full. */
void *arena_try(arena *a, size_t n_bytes);

/* The same where the plan guarantees room: a full arena is a defect. */
void *arena_take(arena *a, size_t n_bytes);

void arena_reset(arena *a);

/* Rounds up as the arena does, for plans that add sizes up. */
size_t arena_rounded(size_t n_bytes);

#endif

/*
 * arena.c - a bump pointer over one anonymous mapping, huge pages where the kernel gives them.
 */
#include "common/arena.h"

#include "common/check.h"

#include <string.h>
#include <sys/mman.h>

flo_code arena_open(arena *a, size_t n_bytes, flo_err *err)
{
    memset(a, 0, sizeof *a);
    n_bytes = arena_rounded(n_bytes > 0 ? n_bytes : 1);
    void *base = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
        return flo_fail(err, FLO_FAIL, "out of memory: could not reserve %zu bytes", n_bytes);
    }
    *a = (arena){.base = base, .n_bytes = n_bytes};
    return FLO_OK;
}

void arena_close(arena *a)
{
    if (a->base != NULL) {
        munmap(a->base, a->n_bytes);
    }
    memset(a, 0, sizeof *a);
}

size_t arena_rounded(size_t n_bytes)
{
    return (n_bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
}

void *arena_try(arena *a, size_t n_bytes)
{
    if (n_bytes > a->n_bytes || arena_rounded(n_bytes) > a->n_bytes - a->used) {
        return NULL;
    }
    void *p = a->base + a->used;
    a->used += arena_rounded(n_bytes);
    a->peak = a->used > a->peak ? a->used : a->peak;
    return p;
}

void *arena_take(arena *a, size_t n_bytes)
{
    void *p = arena_try(a, n_bytes);
    CHECK(p != NULL);
    return p;
}

void arena_reset(arena *a)
{
    a->used = 0;
}

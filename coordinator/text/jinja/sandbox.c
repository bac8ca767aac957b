/*
 * sandbox.c - memory by moving a pointer through blocks that grow, limits by counting.
 */
#include "coordinator/text/jinja/sandbox.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 32 << 10, BLOCK_ALIGN = 16 };

struct memory_block {
    struct memory_block *older;
    size_t n_bytes;
};
_Static_assert(sizeof(struct memory_block) % BLOCK_ALIGN == 0, "blocks start aligned");

void sandbox_init(sandbox *m, const char *name, flo_err *err)
{
    memset(m, 0, sizeof *m);
    m->name = name;
    m->err = err;
    m->line = 1;
}

void sandbox_free(sandbox *m)
{
    for (struct memory_block *b = m->blocks, *older; b != NULL; b = older) {
        older = b->older;
        free(b);
    }
    m->blocks = NULL;
    m->room = NULL;
    m->room_bytes = 0;
}

void template_fault(sandbox *m, const char *format, ...)
{
    char text[FLO_ERR_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (void)flo_fail(m->err, FLO_FAIL, "%s line %d: %s", m->name, m->line, text);
    longjmp(m->way_out, 1);
}

static void block_add(sandbox *m, size_t n_bytes)
{
    size_t size = n_bytes > BLOCK_BYTES / 4 ? n_bytes : BLOCK_BYTES;
    if (size > SANDBOX_MEMORY_MAX - m->memory_bytes) {
        template_fault(m, "the template needs more than %d MiB of memory",
                       SANDBOX_MEMORY_MAX >> 20);
    }
    struct memory_block *b = malloc(sizeof *b + size);
    if (b == NULL) {
        template_fault(m, "out of memory");
    }
    *b = (struct memory_block){.older = m->blocks, .n_bytes = size};
    m->blocks = b;
    m->memory_bytes += size;
    m->room = (unsigned char *)(b + 1);
    m->room_bytes = size;
}

void *sandbox_take(sandbox *m, size_t n_bytes)
{
    if (n_bytes > SANDBOX_MEMORY_MAX) {
        template_fault(m, "the template needs more than %d MiB of memory",
                       SANDBOX_MEMORY_MAX >> 20);
    }
    size_t rounded =
        n_bytes == 0 ? BLOCK_ALIGN : (n_bytes + BLOCK_ALIGN - 1) / BLOCK_ALIGN * BLOCK_ALIGN;
    if (rounded > m->room_bytes) {
        unsigned char *room = m->room;
        size_t room_bytes = m->room_bytes;
        block_add(m, rounded);
        if (rounded > BLOCK_BYTES / 4 && room != NULL) { /* a block of its own: keep the old room */
            void *p = m->room;
            m->room = room;
            m->room_bytes = room_bytes;
            return p;
        }
    }
    void *p = m->room;
    m->room += rounded;
    m->room_bytes -= rounded;
    return p;
}

void sandbox_spend(sandbox *m, size_t n_steps)
{
    if (n_steps > (size_t)(SANDBOX_STEPS_MAX - m->steps)) {
        template_fault(m, "the template runs for more than %d steps", SANDBOX_STEPS_MAX);
    }
    m->steps += (int64_t)n_steps;
}

void sandbox_descend(sandbox *m)
{
    if (++m->depth > SANDBOX_DEPTH_MAX) {
        template_fault(m, "nested more than %d levels deep", SANDBOX_DEPTH_MAX);
    }
}

void sandbox_ascend(sandbox *m)
{
    m->depth--;
}

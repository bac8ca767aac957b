/*
 * sandbox.h - what a parse or a render works in: its memory, its limits, its way out.
 *
 * A template is a small program by a stranger, and an interpreter has hundreds of places where it
 * can be wrong. So a fault leaves by one longjmp to the function that made the sandbox, which
 * returns the flo_code; nothing is lost on the way because everything a parse or render makes lies
 * in the sandbox's memory and is given back as a whole.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_JINJA_SANDBOX_H
#define FLOTILLA_COORDINATOR_TEXT_JINJA_SANDBOX_H

#include "common/error.h"

#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SANDBOX_DEPTH_MAX = 1200,       /* nested evaluations; about 0.5 KiB of C stack each */
    SANDBOX_STEPS_MAX = 20000000,   /* nodes evaluated, items and blocks of text passed over */
    SANDBOX_MEMORY_MAX = 256 << 20, /* bytes */
    SANDBOX_OUTPUT_MAX = 64 << 20,  /* bytes of one render */
    SANDBOX_TEMPLATE_MAX = 8 << 20, /* bytes of a template's source */
    SANDBOX_RANGE_MAX = 100000,     /* items of a range, as in the reference's sandbox */
};

struct memory_block;

typedef struct sandbox {
    const char *name; /* of the template, for sentences */
    int line;         /* where parse or render stands */
    flo_err *err;
    jmp_buf way_out;
    struct memory_block *blocks;
    unsigned char *room; /* free bytes of the newest block */
    size_t room_bytes;
    size_t memory_bytes; /* of all blocks */
    int64_t steps;
    int depth;
} sandbox;

void sandbox_init(sandbox *m, const char *name, flo_err *err);
void sandbox_free(sandbox *m);

/* Leaves for way_out, err holding "NAME line N: SENTENCE". */
_Noreturn void template_fault(sandbox *m, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* n_bytes aligned to 16, not cleared; never NULL. */
void *sandbox_take(sandbox *m, size_t n_bytes);

/* Counts work against the limit on steps. */
void sandbox_spend(sandbox *m, size_t n_steps);

/* Counts nesting against the limit on depth. */
void sandbox_descend(sandbox *m);
void sandbox_ascend(sandbox *m);

#define TAKE(m, type, n) ((type *)sandbox_take((m), sizeof(type) * (size_t)(n)))

#endif

/*
 * renderer.h - a tree at work: evaluating expressions, executing statements, writing the output.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_JINJA_RENDERER_H
#define FLOTILLA_COORDINATOR_TEXT_JINJA_RENDERER_H

#include "coordinator/text/jinja/builtins.h"
#include "coordinator/text/jinja/tree.h"

typedef struct frame { /* a scope entered */
    const scope *shape;
    value *values; /* V_MISSING: not set */
    struct frame *around;
} frame;

typedef struct loop_state { /* what `loop` is */
    const node *statement;
    frame *around; /* of the statement */
    value *items;
    size_t n, next;   /* items not looked at begin at next */
    iterator *source; /* where items come from an iterator: it is advanced */
    frame *test;      /* NULL: no condition */
    bool has_after;   /* an item looked at ahead */
    value after, current, before;
    int64_t index0;
    int64_t length; /* -1: not asked for yet */
    int64_t depth0;
    bool has_changed;
    value changed;
} loop_state;

typedef struct macro {
    const node *statement;
    frame *around;
    const text *name; /* NULL: the caller of a call block */
} macro;

typedef struct renderer {
    sandbox m;
    const dict *context;
    const dict *defaults; /* looked at where the context has no such name; may be NULL */
    char *output;         /* malloc'd, freed with the renderer */
    size_t n_output, capacity;
} renderer;

/* Runs the tree; the output is in r->output. Leaves by fault. */
void tree_render(renderer *r, const tree *t);
void renderer_free(renderer *r);

value expression_evaluate(renderer *r, const node *n, frame *f);
arguments arguments_evaluate(renderer *r, const call_shape *c, frame *f); /* c may be NULL */
/* A chain of filters whose innermost one has no subject of its own, on a subject. */
value filter_apply(renderer *r, const node *n, value subject, frame *f);

value *frame_find(const frame *f, const text *name); /* NULL: in no scope */
/* Gives the names of a scope their values at entry, parameters excepted. */
void frame_fill(renderer *r, frame *f);

/* obj.name, obj[key], and what the reference's filters do with "a.b.0". */
value attribute_get(renderer *r, value object, const text *name);
value item_get(renderer *r, value object, value key);
value slice_get(renderer *r, value object, value start, value stop, value step);

value value_call(renderer *r, value callee, const arguments *all);
value loop_call(renderer *r, loop_state *l, value items); /* loop(items) of a recursive loop */
int64_t loop_length(renderer *r, loop_state *l);
bool loop_peek(renderer *r, loop_state *l); /* false: no item after the current one */

/* a OP b for N_ADD ... N_POWER (operators.c). */
value values_operate(renderer *r, node_kind op, value a, value b);
value value_sign(renderer *r, node_kind op, value a);
bool values_compare(renderer *r, compare_op op, value a, value b);
/* int(text) by Python's rules; MISSING where it is none. */
value integer_from_text(sandbox *m, const text *t, int64_t base);
value real_from_text(sandbox *m, const text *t);
value integer_from_real(sandbox *m, double x); /* towards zero; faults on nan and inf */

#endif

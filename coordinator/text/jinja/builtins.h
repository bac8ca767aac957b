/*
 * builtins.h - filters, tests, methods and global functions: tables of names, parameters and code.
 *
 * A builtin names its parameters in one string, as in "width? first? blank?": a question mark makes
 * one optional, a leading minus makes it positional only, "*" says that the code looks at the
 * arguments itself. What is bound wrongly is a fault, so the code sees as many values as there are
 * parameters, MISSING for those left out.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_JINJA_BUILTINS_H
#define FLOTILLA_COORDINATOR_TEXT_JINJA_BUILTINS_H

#include "coordinator/text/jinja/value.h"

struct renderer;

typedef struct arguments {
    value *positional;
    size_t n;
    const text **names;
    value *named;
    size_t n_named;
} arguments;

enum { PARAMETERS_MAX = 6 };

typedef struct builtin {
    const char *name;
    const char *parameters;
    /* subject: what stands before the bar, `is` or the dot; a[]: bound parameters */
    value (*code)(struct renderer *r, value subject, const value *a, const arguments *all);
} builtin;

const builtin *filter_find(const text *name); /* NULL: none */
const builtin *test_find(const text *name);

value builtin_call(struct renderer *r, const builtin *b, value subject, const arguments *all);

typedef struct method {
    value self;
    const builtin *code;
} method;

typedef struct function {
    builtin code;
} function;

/* MISSING: no such attribute. A method that would change its object gives an undefined value that
 * says so, as in the reference's sandbox. */
value method_find(struct renderer *r, value self, const text *name);
value global_find(struct renderer *r, const text *name); /* MISSING: none */

/* a % b and a.format(...) of strings (format.c). */
value format_percent(struct renderer *r, const text *format, value arguments_);
value format_braces(struct renderer *r, text *format, const arguments *all);

/* Helpers for builtins. */
/* v, a new string or list of strings, marked safe where the subject is: Markup's methods give
 * Markup. */
value marked_like(struct renderer *r, value subject, value v);
bool argument_given(value v); /* it was there */
const text *argument_text(struct renderer *r, value v,
                          const char *what); /* faults unless a string */
int64_t argument_integer(struct renderer *r, value v, const char *what);

#endif

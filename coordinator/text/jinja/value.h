/*
 * value.h - what a template computes with: Python's values, as far as templates meet them.
 *
 * A value is a kind and one word; everything behind it lies in the sandbox's memory. Integers have
 * 64 bits; larger ones keep their digits (BIG): they can be printed, compared for equality and
 * passed on, and arithmetic with them is a fault, never a wrong number.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_JINJA_VALUE_H
#define FLOTILLA_COORDINATOR_TEXT_JINJA_VALUE_H

#include "coordinator/text/jinja/sandbox.h"
#include "coordinator/text/jinja/text.h"

#include <cjson/cJSON.h>

typedef enum value_kind {
    V_MISSING, /* no value: an argument left out, a name not set; never seen by templates */
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_BIG,
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_VIEW, /* dict.keys(), .values(), .items() */
    V_RANGE,
    V_ITERATOR, /* generators: what map, select, batch, ... give; read once */
    V_NAMESPACE,
    V_LOOP, /* the loop variable */
    V_MACRO,
    V_FUNCTION, /* a global function */
    V_METHOD,   /* a method with its object */
    V_CYCLER,
    V_JOINER,
} value_kind;

struct list;
struct dict;
struct view;
struct range;
struct iterator;
struct undefined;
struct loop_state;
struct macro;
struct function;
struct method;
struct cycler;

typedef struct value {
    value_kind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        text *string; /* STRING; BIG: the digits, a minus before them */
        struct list *list;
        struct dict *dict; /* DICT, NAMESPACE */
        struct view *view;
        struct range *range;
        struct iterator *iterator;
        struct undefined *undefined;
        struct loop_state *loop;
        struct macro *macro;
        const struct function *function;
        struct method *method;
        struct cycler *cycler; /* CYCLER, JOINER */
    };
} value;

typedef struct list { /* LIST and TUPLE */
    value *items;
    size_t n, capacity;
    bool is_group; /* a tuple of groupby: also .grouper and .list */
} list;

typedef struct dict_entry {
    value key, content;
    uint64_t hash;
} dict_entry;

typedef struct dict { /* in the order of insertion */
    dict_entry *entries;
    size_t n, capacity;
    uint32_t *slots; /* index + 1 of an entry, 0 free; NULL while the dict is small */
    size_t n_slots;  /* a power of two */
} dict;

typedef enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS } view_kind;
typedef struct view {
    dict *of;
    view_kind kind;
} view;

typedef struct range {
    int64_t start, stop, step;
    int64_t n;
} range;

typedef struct iterator {
    value *items;
    size_t n, next;
    const char *type; /* Python's name of it */
} iterator;

typedef struct undefined { /* why: a hint, or a name, or a name looked up in an object */
    const char *hint;
    bool of_object;
    value_kind object_kind;
    value name;
} undefined;

typedef struct cycler {
    list items; /* JOINER: the separator */
    size_t position;
} cycler;

#define MISSING ((value){.kind = V_MISSING})
#define NONE ((value){.kind = V_NONE})
#define BOOL(b) ((value){.kind = V_BOOL, .truth = (b)})
#define INT(i) ((value){.kind = V_INT, .integer = (i)})
#define FLOAT(f) ((value){.kind = V_FLOAT, .real = (f)})
#define STRING(t) ((value){.kind = V_STRING, .string = (t)})

value undefined_named(sandbox *m, value name);
value undefined_because(sandbox *m, const char *hint);
value undefined_in(sandbox *m, value object, value name);
_Noreturn void undefined_fault(sandbox *m, value v);
const char *undefined_sentence(sandbox *m, value v);

/* Python's name of the value's type: "str", "int", "NoneType", ... */
const char *type_name(value v);

bool value_is_number(value v);          /* bool, int, float */
bool value_is_integral(value v);        /* bool or a 64-bit int */
int64_t value_integer(value v);         /* of an integral value */
double value_real(sandbox *m, value v); /* of a number */

value integer_parse(sandbox *m, const char *digits,
                    size_t n); /* decimal, maybe with '-': INT or BIG */

list *list_new(sandbox *m, size_t capacity);
void list_add(sandbox *m, list *l, value v);
value list_value(list *l);
value tuple_value(list *l);
value pair_value(sandbox *m, value a, value b); /* a tuple of two */

dict *dict_new(sandbox *m);
value dict_value(dict *d);
/* Faults on a key that cannot be one. */
void dict_set(sandbox *m, dict *d, value key, value content);
void dict_set_named(sandbox *m, dict *d, const char *key, value content);
value *dict_find(sandbox *m, const dict *d, value key); /* NULL: none */
value *dict_find_named(sandbox *m, const dict *d, const text *key);
bool value_is_hashable(sandbox *m, value v);

value iterator_value(sandbox *m, list *items, const char *type);

bool value_truth(sandbox *m, value v);
bool value_equal(sandbox *m, value a, value b);
bool value_same(value a, value b); /* `is` */
/* a < b; faults where Python cannot order them. op is for the sentence. */
bool value_less(sandbox *m, value a, value b, const char *op);
bool value_less_equal(sandbox *m, value a, value b, const char *op);
bool value_contains(sandbox *m, value container, value item);
/* -1 where the value has no length */
int64_t value_length(sandbox *m, value v);
bool value_is_iterable(value v);
/* Everything that iterating over v gives; empties an iterator. Borrowed where v is a list. Faults.
 */
void value_items(sandbox *m, value v, value **items, size_t *n);

/* sorted(): stable, by keys[i] of items[i]. */
void values_sort(sandbox *m, value *items, const value *keys, size_t n, bool reverse);

/* str() and repr() (repr.c). */
void build_str(sandbox *m, builder *b, value v);
void build_repr(sandbox *m, builder *b, value v);
text *value_str(sandbox *m, value v);
text *value_repr(sandbox *m, value v);
/* repr as a terminated string for sentences */
const char *repr_chars(sandbox *m, value v);
/* Terminated copy of a text, for sentences and the C library; NULs become spaces. */
const char *text_chars(sandbox *m, const text *t);
enum { FLOAT_CHARS = 40 };
void float_repr(char out[FLOAT_CHARS], double x);

/* JSON (json.c). Faults on strings that are not UTF-8 and on nesting. */
value json_to_value(sandbox *m, const cJSON *json);
/* json.dumps; indent MISSING or NONE: on one line. */
typedef struct json_style {
    bool ascii, sorted;
    const text *indent; /* NULL: on one line */
    const text *item_separator, *key_separator;
} json_style;
text *value_to_json(sandbox *m, value v, const json_style *style);

#endif

/*
 * tree.h - a template as a tree.
 *
 * One node type for all kinds: what the fields mean for each kind stands beside its name. Nodes
 * live in the memory of the sandbox that parsed them and are never changed afterwards.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_JINJA_TREE_H
#define FLOTILLA_COORDINATOR_TEXT_JINJA_TREE_H

#include "coordinator/text/jinja/value.h"

typedef enum node_kind {
    /* expressions */
    N_CONST,   /* constant */
    N_NAME,    /* name */
    N_TUPLE,   /* items */
    N_LIST,    /* items */
    N_DICT,    /* items: key, content, key, content ... */
    N_GETATTR, /* a . name */
    N_GETITEM, /* a [ b ] */
    N_SLICE,   /* a : b : c, any of them NULL; only as b of a GETITEM or inside its tuple */
    N_CALL,    /* a ( call ) */
    N_FILTER,  /* a | name ( call ); a NULL: the text of a block */
    N_TEST,    /* a is name ( call ) */
    N_CHOICE,  /* a if b else c; c may be NULL */
    N_AND,     /* a and b */
    N_OR,
    N_NOT, /* not a */
    N_NEGATE,
    N_PLUS,
    N_ADD, /* a + b */
    N_SUBTRACT,
    N_MULTIPLY,
    N_DIVIDE,
    N_FLOOR_DIVIDE,
    N_REMAINDER,
    N_POWER,
    N_CONCAT,  /* items joined by ~ */
    N_COMPARE, /* a, then items with their operators in ops */
    /* targets of assignments: NAME, TUPLE of targets, or */
    N_FIELD, /* name . field, of a namespace */
    /* statements */
    N_DATA,       /* constant: text as it stands */
    N_PRINT,      /* items */
    N_IF,         /* a, body, other (elif: one N_IF in it) */
    N_FOR,        /* target a in b if c: body else other; is_recursive; scopes: scope, test, else */
    N_SET,        /* target a = b */
    N_SET_TEXT,   /* target a = body | b; scope */
    N_MACRO,      /* name(parameters): body; scope */
    N_CALLER,     /* {% call(parameters) a %} body; scope */
    N_GENERATION, /* body; scope */
    N_FILTERED,   /* body | a; scope */
    N_WITH,       /* items: target, value, target, value ...; body; scope */
    N_BREAK,
    N_CONTINUE,
} node_kind;

typedef enum compare_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_IN, OP_NOT_IN } compare_op;

struct node;

typedef struct node_list {
    struct node **items;
    size_t n, capacity;
} node_list;

typedef struct call_shape { /* arguments as written */
    node_list positional;
    node_list named;           /* values */
    const text **names;        /* of the named ones */
    struct node *spread;       /* *list */
    struct node *spread_named; /* **dict */
} call_shape;

typedef struct parameter {
    const text *name;
    struct node *fallback; /* NULL: none */
} parameter;

/* How a name gets its value where its scope is entered (names.c). */
typedef enum name_source {
    NAME_PARAMETER, /* from whoever enters */
    NAME_RESOLVED,  /* from the context */
    NAME_ALIAS,     /* from the scope around */
    NAME_UNSET,     /* nothing yet */
} name_source;

typedef struct scope {
    size_t n;
    const text **names; /* interned: compared by pointer */
    name_source *sources;
} scope;

typedef struct node {
    node_kind kind;
    int line;
    const text *name;  /* interned */
    const text *field; /* interned */
    value constant;
    struct node *a, *b, *c;
    node_list items, body, other;
    compare_op *ops;
    call_shape *call;
    const struct builtin *builtin; /* FILTER, TEST: found at parse time, or NULL */
    parameter *parameters;
    size_t n_parameters;
    bool is_recursive;
    bool uses_caller, uses_varargs, uses_kwargs; /* MACRO, CALLER */
    scope *scope, *test_scope, *else_scope;
} node;

typedef struct tree {
    node_list body;
    scope *scope;
} tree;

/* Interned texts: one object for each spelling. */
typedef struct name_table name_table;
name_table *name_table_new(sandbox *m);
const text *name_intern(sandbox *m, name_table *t, const char *bytes, size_t n);

/* Source (UTF-8) to tree. Faults on anything the reference would refuse at compile time. */
tree *template_parse(sandbox *m, const char *source, size_t n_bytes);

/* Fills in the scopes of a tree (names.c). loop, caller, varargs and kwargs are the special names.
 */
typedef struct special_names {
    const text *loop, *caller, *varargs, *kwargs;
} special_names;
void tree_scopes_find(sandbox *m, tree *t, const special_names *special);

#endif

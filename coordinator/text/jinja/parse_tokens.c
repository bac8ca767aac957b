/*
 * parse_tokens.c - the parser's view of the tokens, its nodes, and the table of interned names.
 */
#include "coordinator/text/jinja/parser.h"

#include <string.h>

/* ---- names ---- */

enum { NAME_BUCKETS = 512 };

typedef struct interned {
    text t;
    struct interned *next;
} interned;

struct name_table {
    interned *buckets[NAME_BUCKETS];
};

name_table *name_table_new(sandbox *m)
{
    name_table *t = TAKE(m, name_table, 1);
    memset(t, 0, sizeof *t);
    return t;
}

const text *name_intern(sandbox *m, name_table *table, const char *bytes, size_t n)
{
    unsigned hash = 5381;
    for (size_t i = 0; i < n; i++) {
        hash = hash * 33 + (unsigned char)bytes[i];
    }
    interned **bucket = &table->buckets[hash % NAME_BUCKETS];
    text wanted = {.bytes = bytes, .n = n};
    for (interned *i = *bucket; i != NULL; i = i->next) {
        sandbox_spend(m, 1);
        if (text_equal(&i->t, &wanted)) {
            return &i->t;
        }
    }
    interned *i = TAKE(m, interned, 1);
    i->t = *text_copy(m, bytes, n);
    (void)text_length(&i->t); /* counted now: trees are shared between threads */
    i->next = *bucket;
    *bucket = i;
    return &i->t;
}

/* ---- tokens ---- */

const token *token_current(const parser *p)
{
    return &p->tokens[p->at];
}

bool token_at_kind(const parser *p, token_kind k)
{
    return token_current(p)->kind == k;
}

bool token_is_name(const token *t, const char *name)
{
    return t->kind == T_NAME && text_is(t->spelling, name);
}

bool token_at_name(const parser *p, const char *name)
{
    return token_is_name(token_current(p), name);
}

const token *token_peek(const parser *p)
{
    return &p->tokens[p->at + 1 < p->n ? p->at + 1 : p->at];
}

const token *token_next(parser *p)
{
    const token *t = token_current(p);
    p->at += p->at + 1 < p->n;
    p->m->line = token_current(p)->line;
    return t;
}

bool token_skip_kind(parser *p, token_kind k)
{
    bool is = token_at_kind(p, k);
    if (is) {
        token_next(p);
    }
    return is;
}

bool token_skip_name(parser *p, const char *name)
{
    bool is = token_at_name(p, name);
    if (is) {
        token_next(p);
    }
    return is;
}

const char *token_words(parser *p, const token *t)
{
    return t->kind == T_NAME ? text_chars(p->m, t->spelling) : token_kind_name(t->kind);
}

const token *token_expect(parser *p, token_kind k)
{
    if (!token_at_kind(p, k)) {
        if (token_at_kind(p, T_EOF)) {
            template_fault(p->m, "unexpected end of template, expected '%s'", token_kind_name(k));
        }
        template_fault(p->m, "expected token '%s', got '%s'", token_kind_name(k),
                       token_words(p, token_current(p)));
    }
    return token_next(p);
}

void token_expect_name(parser *p, const char *name)
{
    if (!token_at_name(p, name)) {
        template_fault(p->m, "expected token '%s', got '%s'", name,
                       token_words(p, token_current(p)));
    }
    token_next(p);
}

const text *token_name(parser *p, const token *t)
{
    return name_intern(p->m, p->names, t->spelling->bytes, t->spelling->n);
}

/* ---- nodes ---- */

node *node_new(parser *p, node_kind kind, int line)
{
    node *n = TAKE(p->m, node, 1);
    memset(n, 0, sizeof *n);
    n->kind = kind;
    n->line = line;
    return n;
}

node *node_two(parser *p, node_kind kind, int line, node *a, node *b)
{
    node *n = node_new(p, kind, line);
    n->a = a;
    n->b = b;
    return n;
}

node *node_const(parser *p, int line, value v)
{
    node *n = node_new(p, N_CONST, line);
    n->constant = v;
    if (v.kind == V_STRING) {
        (void)text_length(v.string); /* counted now: trees are shared between threads */
    }
    return n;
}

void node_list_add(parser *p, node_list *l, node *n)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity == 0 ? 4 : l->capacity * 2;
        node **items = TAKE(p->m, node *, capacity);
        if (l->n > 0) {
            memcpy(items, l->items, l->n * sizeof *items);
        }
        l->items = items;
        l->capacity = capacity;
    }
    l->items[l->n++] = n;
}

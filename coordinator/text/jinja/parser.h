/*
 * parser.h - what the two halves of the parser share: the tokens, the nodes under construction, and
 * the expressions that statements are made of.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_JINJA_PARSER_H
#define FLOTILLA_COORDINATOR_TEXT_JINJA_PARSER_H

#include "coordinator/text/jinja/lexer.h"
#include "coordinator/text/jinja/tree.h"

typedef struct parser {
    sandbox *m;
    name_table *names;
    const token *tokens;
    size_t at, n;
    int loops;       /* around the current statement, within the same macro */
    int conditions;  /* if statements and expressions around */
    const char *tag; /* innermost open tag */
    special_names special;
} parser;

/* Tokens. */
const token *token_current(const parser *p);
const token *token_peek(const parser *p); /* the one behind the current */
const token *token_next(parser *p);       /* the current one; moves on */
bool token_is_name(const token *t, const char *name);
bool token_at_kind(const parser *p, token_kind k);
bool token_at_name(const parser *p, const char *name);
bool token_skip_kind(parser *p, token_kind k); /* consumes it where it is there */
bool token_skip_name(parser *p, const char *name);
const token *token_expect(parser *p, token_kind k); /* consumes it or faults */
void token_expect_name(parser *p, const char *name);
const char *token_words(parser *p, const token *t); /* for sentences */
const text *token_name(parser *p, const token *t);  /* interned */

/* Nodes. */
node *node_new(parser *p, node_kind kind, int line);
node *node_two(parser *p, node_kind kind, int line, node *a, node *b);
node *node_const(parser *p, int line, value v);
void node_list_add(parser *p, node_list *l, node *n);

/* Expressions. */
typedef struct tuple_rules {
    bool targets_only;    /* names, literals and fields */
    bool with_fields;     /* namespace.field among the targets */
    bool without_choice;  /* no a if b else c */
    bool in_parentheses;  /* () is a tuple */
    const char *end_name; /* a name that ends the tuple, or NULL */
} tuple_rules;

node *parse_tuple(parser *p, tuple_rules r); /* one expression, or several parted by commas */
node *parse_expression(parser *p);
/* One filter behind another, the first without its bar where `inline_first`; of may be NULL. */
node *parse_filters(parser *p, node *of, bool inline_first);

#endif

/*
 * parser.c - tokens to a tree, by recursive descent in the reference's order of precedence:
 *
 *   a if b else c  <  or  <  and  <  not  <  comparisons  <  + -  <  ~  <  * / // %  <  **  < unary
 *   <  attribute, subscript, call  <  filter, test
 *
 * What the reference refuses when it compiles a template is refused here: unknown tags, filters and
 * tests (except under a condition, where the reference waits until they are used), assignments to
 * what cannot be assigned, break outside a loop. Depth is limited by the sandbox.
 */
#include "coordinator/text/jinja/builtins.h"
#include "coordinator/text/jinja/lexer.h"
#include "coordinator/text/jinja/tree.h"

#include <string.h>

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
        spend(m, 1);
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

static const token *current(const parser *p)
{
    return &p->tokens[p->at];
}

static bool at_kind(const parser *p, token_kind k)
{
    return current(p)->kind == k;
}

static bool token_is_name(const token *t, const char *name)
{
    return t->kind == T_NAME && text_is(t->spelling, name);
}

static bool at_name(const parser *p, const char *name)
{
    return token_is_name(current(p), name);
}

static const token *peek(const parser *p)
{
    return &p->tokens[p->at + 1 < p->n ? p->at + 1 : p->at];
}

static const token *next(parser *p)
{
    const token *t = current(p);
    p->at += p->at + 1 < p->n;
    p->m->line = current(p)->line;
    return t;
}

static bool skip_kind(parser *p, token_kind k)
{
    bool is = at_kind(p, k);
    if (is) {
        next(p);
    }
    return is;
}

static bool skip_name(parser *p, const char *name)
{
    bool is = at_name(p, name);
    if (is) {
        next(p);
    }
    return is;
}

static const char *token_words(parser *p, const token *t)
{
    return t->kind == T_NAME ? text_chars(p->m, t->spelling) : token_kind_name(t->kind);
}

static const token *expect(parser *p, token_kind k)
{
    if (!at_kind(p, k)) {
        if (at_kind(p, T_EOF)) {
            fault(p->m, "unexpected end of template, expected '%s'", token_kind_name(k));
        }
        fault(p->m, "expected token '%s', got '%s'", token_kind_name(k),
              token_words(p, current(p)));
    }
    return next(p);
}

static void expect_name(parser *p, const char *name)
{
    if (!at_name(p, name)) {
        fault(p->m, "expected token '%s', got '%s'", name, token_words(p, current(p)));
    }
    next(p);
}

static const text *name_of(parser *p, const token *t)
{
    return name_intern(p->m, p->names, t->spelling->bytes, t->spelling->n);
}

/* ---- nodes ---- */

static node *node_new(parser *p, node_kind kind, int line)
{
    node *n = TAKE(p->m, node, 1);
    memset(n, 0, sizeof *n);
    n->kind = kind;
    n->line = line;
    return n;
}

static node *node_two(parser *p, node_kind kind, int line, node *a, node *b)
{
    node *n = node_new(p, kind, line);
    n->a = a;
    n->b = b;
    return n;
}

static node *node_const(parser *p, int line, value v)
{
    node *n = node_new(p, N_CONST, line);
    n->constant = v;
    if (v.kind == V_STRING) {
        (void)text_length(v.string); /* counted now: trees are shared between threads */
    }
    return n;
}

static void nodes_add(parser *p, node_list *l, node *n)
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

/* ---- expressions ---- */

static node *parse_expression(parser *p);
static node *parse_or(parser *p);
static node *parse_unary(parser *p, bool with_filter);

typedef struct tuple_rules {
    bool targets_only;    /* names, literals and fields */
    bool with_fields;     /* namespace.field among the targets */
    bool without_choice;  /* no a if b else c */
    bool in_parentheses;  /* () is a tuple */
    const char *end_name; /* a name that ends the tuple, or NULL */
} tuple_rules;

static node *parse_tuple(parser *p, tuple_rules r);

static node *parse_list(parser *p)
{
    node *n = node_new(p, N_LIST, expect(p, T_LBRACKET)->line);
    while (!at_kind(p, T_RBRACKET)) {
        if (n->items.n > 0) {
            expect(p, T_COMMA);
        }
        if (at_kind(p, T_RBRACKET)) {
            break;
        }
        nodes_add(p, &n->items, parse_expression(p));
    }
    expect(p, T_RBRACKET);
    return n;
}

static node *parse_dict(parser *p)
{
    node *n = node_new(p, N_DICT, expect(p, T_LBRACE)->line);
    while (!at_kind(p, T_RBRACE)) {
        if (n->items.n > 0) {
            expect(p, T_COMMA);
        }
        if (at_kind(p, T_RBRACE)) {
            break;
        }
        nodes_add(p, &n->items, parse_expression(p));
        expect(p, T_COLON);
        nodes_add(p, &n->items, parse_expression(p));
    }
    expect(p, T_RBRACE);
    return n;
}

/* Neighbouring strings are one, as in Python. */
static node *parse_strings(parser *p)
{
    int line = current(p)->line;
    text *t = next(p)->spelling;
    while (at_kind(p, T_STRING)) {
        t = text_join(p->m, t, next(p)->spelling);
    }
    return node_const(p, line, STRING(t));
}

static node *parse_word(parser *p, bool with_fields)
{
    const token *t = next(p);
    if (token_is_name(t, "true") || token_is_name(t, "True")) {
        return node_const(p, t->line, BOOL(true));
    }
    if (token_is_name(t, "false") || token_is_name(t, "False")) {
        return node_const(p, t->line, BOOL(false));
    }
    if (token_is_name(t, "none") || token_is_name(t, "None")) {
        return node_const(p, t->line, NONE);
    }
    node *n = node_new(p, N_NAME, t->line);
    n->name = name_of(p, t);
    if (with_fields && skip_kind(p, T_DOT)) {
        n->kind = N_FIELD;
        n->field = name_of(p, expect(p, T_NAME));
    }
    return n;
}

static node *parse_primary(parser *p, bool with_fields)
{
    const token *t = current(p);
    switch (t->kind) {
    case T_NAME:
        return parse_word(p, with_fields);
    case T_STRING:
        return parse_strings(p);
    case T_INTEGER:
    case T_FLOAT:
        next(p);
        return node_const(p, t->line, t->number);
    case T_LPAREN: {
        next(p);
        node *n = parse_tuple(p, (tuple_rules){.in_parentheses = true});
        expect(p, T_RPAREN);
        return n;
    }
    case T_LBRACKET:
        return parse_list(p);
    case T_LBRACE:
        return parse_dict(p);
    default:
        fault(p->m, "unexpected '%s'", token_words(p, t));
    }
}

static bool tuple_ends(const parser *p, tuple_rules r)
{
    return at_kind(p, T_PRINT_END) || at_kind(p, T_BLOCK_END) || at_kind(p, T_RPAREN) ||
           (r.end_name != NULL && at_name(p, r.end_name));
}

static node *parse_tuple(parser *p, tuple_rules r)
{
    node *n = node_new(p, N_TUPLE, current(p)->line);
    bool is_tuple = false;
    descend(p->m);
    for (;;) {
        if (n->items.n > 0) {
            expect(p, T_COMMA);
        }
        if (tuple_ends(p, r)) {
            break;
        }
        nodes_add(p, &n->items,
                  r.targets_only     ? parse_primary(p, r.with_fields)
                  : r.without_choice ? parse_or(p)
                                     : parse_expression(p));
        if (!at_kind(p, T_COMMA)) {
            break;
        }
        is_tuple = true;
    }
    ascend(p->m);
    if (!is_tuple && n->items.n > 0) {
        return n->items.items[0];
    }
    if (!is_tuple && !r.in_parentheses) {
        fault(p->m, "expected an expression, got '%s'", token_words(p, current(p)));
    }
    return n;
}

static node *parse_subscribed(parser *p)
{
    int line = current(p)->line;
    node *first = at_kind(p, T_COLON) ? NULL : parse_expression(p);
    if (!at_kind(p, T_COLON)) {
        return first;
    }
    next(p);
    node *n = node_new(p, N_SLICE, line);
    n->a = first;
    if (!at_kind(p, T_COLON) && !at_kind(p, T_RBRACKET) && !at_kind(p, T_COMMA)) {
        n->b = parse_expression(p);
    }
    if (skip_kind(p, T_COLON) && !at_kind(p, T_RBRACKET) && !at_kind(p, T_COMMA)) {
        n->c = parse_expression(p);
    }
    return n;
}

static node *parse_subscript(parser *p, node *of)
{
    int line = current(p)->line;
    if (skip_kind(p, T_DOT)) {
        const token *t = next(p);
        if (t->kind == T_NAME) {
            node *n = node_two(p, N_GETATTR, line, of, NULL);
            n->name = name_of(p, t);
            return n;
        }
        if (t->kind != T_INTEGER) {
            fault(p->m, "expected name or number");
        }
        return node_two(p, N_GETITEM, line, of, node_const(p, line, t->number));
    }
    expect(p, T_LBRACKET);
    node *keys = node_new(p, N_TUPLE, line);
    while (!at_kind(p, T_RBRACKET)) {
        if (keys->items.n > 0) {
            expect(p, T_COMMA);
        }
        nodes_add(p, &keys->items, parse_subscribed(p));
    }
    expect(p, T_RBRACKET);
    return node_two(p, N_GETITEM, line, of, keys->items.n == 1 ? keys->items.items[0] : keys);
}

static void call_check(parser *p, bool is_right)
{
    if (!is_right) {
        fault(p->m, "invalid syntax for function call expression");
    }
}

static void name_add(parser *p, call_shape *c, const text *name)
{
    const text **names = TAKE(p->m, const text *, c->named.n + 1);
    for (size_t i = 0; i < c->named.n; i++) {
        names[i] = c->names[i];
        if (names[i] == name) {
            fault(p->m, "keyword argument repeated: %s", text_chars(p->m, name));
        }
    }
    names[c->named.n] = name;
    c->names = names;
}

static void parse_argument(parser *p, call_shape *c)
{
    if (skip_kind(p, T_MUL)) {
        call_check(p, c->spread == NULL && c->spread_named == NULL);
        c->spread = parse_expression(p);
    } else if (skip_kind(p, T_POW)) {
        call_check(p, c->spread_named == NULL);
        c->spread_named = parse_expression(p);
    } else if (at_kind(p, T_NAME) && peek(p)->kind == T_ASSIGN) {
        call_check(p, c->spread_named == NULL);
        name_add(p, c, name_of(p, next(p)));
        next(p);
        nodes_add(p, &c->named, parse_expression(p));
    } else {
        call_check(p, c->spread == NULL && c->spread_named == NULL && c->named.n == 0);
        nodes_add(p, &c->positional, parse_expression(p));
    }
}

static call_shape *parse_arguments(parser *p)
{
    call_shape *c = TAKE(p->m, call_shape, 1);
    memset(c, 0, sizeof *c);
    expect(p, T_LPAREN);
    for (bool first = true; !at_kind(p, T_RPAREN); first = false) {
        if (!first) {
            expect(p, T_COMMA);
            if (at_kind(p, T_RPAREN)) {
                break;
            }
        }
        parse_argument(p, c);
    }
    expect(p, T_RPAREN);
    return c;
}

static node *parse_call(parser *p, node *callee)
{
    node *n = node_two(p, N_CALL, current(p)->line, callee, NULL);
    n->call = parse_arguments(p);
    return n;
}

static node *parse_postfix(parser *p, node *n)
{
    for (;;) {
        if (at_kind(p, T_DOT) || at_kind(p, T_LBRACKET)) {
            n = parse_subscript(p, n);
        } else if (at_kind(p, T_LPAREN)) {
            n = parse_call(p, n);
        } else {
            return n;
        }
    }
}

static const text *parse_dotted_name(parser *p)
{
    text *t = expect(p, T_NAME)->spelling;
    while (skip_kind(p, T_DOT)) {
        t = text_join(p->m, text_join(p->m, t, text_of(p->m, ".")), expect(p, T_NAME)->spelling);
    }
    return name_intern(p->m, p->names, t->bytes, t->n);
}

/* Unknown ones are refused now, or under a condition when they are used. */
static void builtin_resolve(parser *p, node *n, const builtin *found, const char *what)
{
    n->builtin = found;
    if (found == NULL && p->conditions == 0) {
        fault(p->m, "No %s named '%s'", what, text_chars(p->m, n->name));
    }
}

static node *parse_filter(parser *p, node *of)
{
    node *n = node_two(p, N_FILTER, current(p)->line, of, NULL);
    n->name = parse_dotted_name(p);
    n->call = at_kind(p, T_LPAREN) ? parse_arguments(p) : NULL;
    builtin_resolve(p, n, filter_find(n->name), "filter");
    return n;
}

/* One filter behind another, the first without its bar where `inline_first`. */
static node *parse_filters(parser *p, node *of, bool inline_first)
{
    while (inline_first || skip_kind(p, T_PIPE)) {
        of = parse_filter(p, of);
        inline_first = false;
    }
    return of;
}

static bool test_argument_follows(const parser *p)
{
    switch (current(p)->kind) {
    case T_STRING:
    case T_INTEGER:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE:
        return true;
    case T_NAME:
        return !at_name(p, "else") && !at_name(p, "or") && !at_name(p, "and");
    default:
        return false;
    }
}

static node *parse_test(parser *p, node *of)
{
    node *n = node_two(p, N_TEST, next(p)->line, of, NULL);
    bool negated = skip_name(p, "not");
    n->name = parse_dotted_name(p);
    if (at_kind(p, T_LPAREN)) {
        n->call = parse_arguments(p);
    } else if (test_argument_follows(p)) {
        if (at_name(p, "is")) {
            fault(p->m, "You cannot chain multiple tests with is");
        }
        n->call = TAKE(p->m, call_shape, 1);
        memset(n->call, 0, sizeof *n->call);
        nodes_add(p, &n->call->positional, parse_postfix(p, parse_primary(p, false)));
    }
    builtin_resolve(p, n, test_find(n->name), "test");
    return negated ? node_two(p, N_NOT, n->line, n, NULL) : n;
}

static node *parse_filter_expression(parser *p, node *n)
{
    for (;;) {
        if (at_kind(p, T_PIPE)) {
            n = parse_filters(p, n, false);
        } else if (at_name(p, "is")) {
            n = parse_test(p, n);
        } else if (at_kind(p, T_LPAREN)) {
            n = parse_call(p, n);
        } else {
            return n;
        }
    }
}

static node *parse_unary(parser *p, bool with_filter)
{
    int line = current(p)->line;
    node *n;
    descend(p->m);
    if (skip_kind(p, T_SUB)) {
        n = node_two(p, N_NEGATE, line, parse_unary(p, false), NULL);
    } else if (skip_kind(p, T_ADD)) {
        n = node_two(p, N_PLUS, line, parse_unary(p, false), NULL);
    } else {
        n = parse_primary(p, false);
    }
    n = parse_postfix(p, n);
    n = with_filter ? parse_filter_expression(p, n) : n;
    ascend(p->m);
    return n;
}

static node *parse_power(parser *p)
{
    int line = current(p)->line;
    node *left = parse_unary(p, true);
    while (skip_kind(p, T_POW)) {
        left = node_two(p, N_POWER, line, left, parse_unary(p, true));
        line = current(p)->line;
    }
    return left;
}

static node_kind product_kind(token_kind k)
{
    return k == T_MUL        ? N_MULTIPLY
           : k == T_DIV      ? N_DIVIDE
           : k == T_FLOORDIV ? N_FLOOR_DIVIDE
           : k == T_MOD      ? N_REMAINDER
                             : N_CONST;
}

static node *parse_product(parser *p)
{
    int line = current(p)->line;
    node *left = parse_power(p);
    for (node_kind k; (k = product_kind(current(p)->kind)) != N_CONST;) {
        next(p);
        left = node_two(p, k, line, left, parse_power(p));
        line = current(p)->line;
    }
    return left;
}

static node *parse_concat(parser *p)
{
    int line = current(p)->line;
    node *first = parse_product(p);
    if (!at_kind(p, T_TILDE)) {
        return first;
    }
    node *n = node_new(p, N_CONCAT, line);
    nodes_add(p, &n->items, first);
    while (skip_kind(p, T_TILDE)) {
        nodes_add(p, &n->items, parse_product(p));
    }
    return n;
}

static node *parse_sum(parser *p)
{
    int line = current(p)->line;
    node *left = parse_concat(p);
    while (at_kind(p, T_ADD) || at_kind(p, T_SUB)) {
        node_kind k = next(p)->kind == T_ADD ? N_ADD : N_SUBTRACT;
        left = node_two(p, k, line, left, parse_concat(p));
        line = current(p)->line;
    }
    return left;
}

/* True (and the operator consumed) where a comparison goes on. */
static bool compare_op_read(parser *p, compare_op *op)
{
    static const token_kind kinds[] = {[OP_EQ] = T_EQ, [OP_NE] = T_NE, [OP_LT] = T_LT,
                                       [OP_LE] = T_LE, [OP_GT] = T_GT, [OP_GE] = T_GE};
    for (int i = OP_EQ; i <= OP_GE; i++) {
        if (skip_kind(p, kinds[i])) {
            *op = (compare_op)i;
            return true;
        }
    }
    *op = OP_IN;
    if (skip_name(p, "in")) {
        return true;
    }
    if (at_name(p, "not") && token_is_name(peek(p), "in")) {
        next(p);
        next(p);
        *op = OP_NOT_IN;
        return true;
    }
    return false;
}

static node *parse_comparison(parser *p)
{
    int line = current(p)->line;
    node *first = parse_sum(p);
    node *n = NULL;
    size_t capacity = 0;
    for (compare_op op; compare_op_read(p, &op);) {
        n = n == NULL ? node_two(p, N_COMPARE, line, first, NULL) : n;
        if (n->items.n == capacity) {
            capacity = capacity == 0 ? 2 : capacity * 2;
            compare_op *ops = TAKE(p->m, compare_op, capacity);
            if (n->items.n > 0) {
                memcpy(ops, n->ops, n->items.n * sizeof *ops);
            }
            n->ops = ops;
        }
        n->ops[n->items.n] = op;
        nodes_add(p, &n->items, parse_sum(p));
    }
    return n == NULL ? first : n;
}

static node *parse_not(parser *p)
{
    int line = current(p)->line;
    if (!skip_name(p, "not")) {
        return parse_comparison(p);
    }
    descend(p->m);
    node *n = node_two(p, N_NOT, line, parse_not(p), NULL);
    ascend(p->m);
    return n;
}

static node *parse_and(parser *p)
{
    int line = current(p)->line;
    node *left = parse_not(p);
    while (skip_name(p, "and")) {
        left = node_two(p, N_AND, line, left, parse_not(p));
    }
    return left;
}

static node *parse_or(parser *p)
{
    int line = current(p)->line;
    node *left = parse_and(p);
    while (skip_name(p, "or")) {
        left = node_two(p, N_OR, line, left, parse_and(p));
    }
    return left;
}

/* Looks ahead for the `if` of A if B else C: A stands under a condition, but is read before it. */
static bool choice_follows(const parser *p)
{
    int depth = 0;
    for (size_t i = p->at; i < p->n; i++) {
        const token *t = &p->tokens[i];
        switch (t->kind) {
        case T_LPAREN:
        case T_LBRACKET:
        case T_LBRACE:
            depth++;
            break;
        case T_RPAREN:
        case T_RBRACKET:
        case T_RBRACE:
            if (depth-- == 0) {
                return false;
            }
            break;
        case T_PRINT_END:
        case T_BLOCK_END:
        case T_EOF:
            return false;
        case T_COMMA:
            if (depth == 0) {
                return false;
            }
            break;
        default:
            if (depth == 0 && token_is_name(t, "if")) {
                return true;
            }
        }
        spend(p->m, 1);
    }
    return false;
}

static node *parse_expression(parser *p)
{
    int line = current(p)->line;
    bool conditional = p->conditions == 0 && choice_follows(p);
    descend(p->m);
    p->conditions += conditional;
    node *n = parse_or(p);
    while (skip_name(p, "if")) {
        node *choice = node_new(p, N_CHOICE, line);
        choice->b = n;
        p->conditions++;
        choice->a = parse_or(p);
        choice->c = skip_name(p, "else") ? parse_expression(p) : NULL;
        p->conditions--;
        n = choice;
        line = current(p)->line;
    }
    p->conditions -= conditional;
    ascend(p->m);
    return n;
}

/* ---- statements ---- */

static void parse_body(parser *p, node_list *body, const char *const *ends);

static void target_check(parser *p, const node *n)
{
    if (n->kind == N_TUPLE) {
        for (size_t i = 0; i < n->items.n; i++) {
            target_check(p, n->items.items[i]);
        }
    } else if (n->kind != N_NAME && n->kind != N_FIELD) {
        fault(p->m, "can't assign to this expression");
    }
}

static node *parse_target(parser *p, bool with_fields, const char *end_name)
{
    node *n = parse_tuple(
        p, (tuple_rules){.targets_only = true, .with_fields = with_fields, .end_name = end_name});
    target_check(p, n);
    return n;
}

/* Reads {% TAG ... %} BODY up to one of the ends (left current). */
static void parse_block(parser *p, node_list *body, const char *const *ends)
{
    skip_kind(p, T_COLON);
    expect(p, T_BLOCK_END);
    parse_body(p, body, ends);
}

/* The same up to one end, which is consumed. */
static void parse_whole_block(parser *p, node_list *body, const char *end)
{
    parse_block(p, body, (const char *const[]){end, NULL});
    next(p);
}

static bool target_has_loop(const parser *p, const node *n)
{
    bool has = n->kind == N_NAME && n->name == p->special.loop;
    for (size_t i = 0; n->kind == N_TUPLE && i < n->items.n; i++) {
        has = has || target_has_loop(p, n->items.items[i]);
    }
    return has;
}

static void loop_name_check(parser *p, const node *target)
{
    if (target_has_loop(p, target)) {
        fault(p->m, "Can't assign to special loop variable in for-loop target");
    }
}

static node *parse_for(parser *p)
{
    node *n = node_new(p, N_FOR, next(p)->line);
    n->a = parse_target(p, false, "in");
    loop_name_check(p, n->a);
    expect_name(p, "in");
    n->b = parse_tuple(p, (tuple_rules){.without_choice = true, .end_name = "recursive"});
    n->c = skip_name(p, "if") ? parse_expression(p) : NULL;
    n->is_recursive = skip_name(p, "recursive");
    p->loops++;
    parse_block(p, &n->body, (const char *const[]){"endfor", "else", NULL});
    p->loops--;
    if (token_is_name(next(p), "else")) {
        parse_whole_block(p, &n->other, "endfor");
    }
    return n;
}

static node *parse_if(parser *p)
{
    node *first = node_new(p, N_IF, next(p)->line);
    p->conditions++;
    for (node *n = first;;) {
        n->a = parse_tuple(p, (tuple_rules){.without_choice = true});
        parse_block(p, &n->body, (const char *const[]){"elif", "else", "endif", NULL});
        const token *t = next(p);
        if (token_is_name(t, "elif")) {
            node *other = node_new(p, N_IF, t->line);
            nodes_add(p, &n->other, other);
            n = other;
            continue;
        }
        if (token_is_name(t, "else")) {
            parse_whole_block(p, &n->other, "endif");
        }
        break;
    }
    p->conditions--;
    return first;
}

static node *parse_set(parser *p)
{
    node *n = node_new(p, N_SET, next(p)->line);
    n->a = parse_target(p, true, NULL);
    if (p->loops > 0) {
        loop_name_check(p, n->a);
    }
    if (skip_kind(p, T_ASSIGN)) {
        n->b = parse_tuple(p, (tuple_rules){0});
        return n;
    }
    n->kind = N_SET_TEXT;
    n->b = parse_filters(p, NULL, false);
    parse_whole_block(p, &n->body, "endset");
    return n;
}

static void parse_signature(parser *p, node *n)
{
    size_t capacity = 0;
    expect(p, T_LPAREN);
    while (!at_kind(p, T_RPAREN)) {
        if (n->n_parameters > 0) {
            expect(p, T_COMMA);
        }
        if (n->n_parameters == capacity) {
            capacity = capacity == 0 ? 4 : capacity * 2;
            parameter *more = TAKE(p->m, parameter, capacity);
            if (n->n_parameters > 0) {
                memcpy(more, n->parameters, n->n_parameters * sizeof *more);
            }
            n->parameters = more;
        }
        parameter *q = &n->parameters[n->n_parameters];
        *q = (parameter){.name = name_of(p, expect(p, T_NAME))};
        if (skip_kind(p, T_ASSIGN)) {
            q->fallback = parse_expression(p);
        } else if (n->n_parameters > 0 && q[-1].fallback != NULL) {
            fault(p->m, "non-default argument follows default argument");
        }
        n->n_parameters++;
    }
    expect(p, T_RPAREN);
}

/* A body that becomes a function: loops around it are not around its statements. */
static void parse_function_body(parser *p, node *n, const char *end)
{
    int loops = p->loops;
    p->loops = 0;
    parse_whole_block(p, &n->body, end);
    p->loops = loops;
}

static node *parse_macro(parser *p)
{
    node *n = node_new(p, N_MACRO, next(p)->line);
    n->name = name_of(p, expect(p, T_NAME));
    parse_signature(p, n);
    parse_function_body(p, n, "endmacro");
    return n;
}

static node *parse_call_block(parser *p)
{
    node *n = node_new(p, N_CALLER, next(p)->line);
    if (at_kind(p, T_LPAREN)) {
        parse_signature(p, n);
    }
    n->a = parse_expression(p);
    if (n->a->kind != N_CALL) {
        fault(p->m, "expected call");
    }
    parse_function_body(p, n, "endcall");
    return n;
}

static node *parse_generation(parser *p)
{
    node *n = node_new(p, N_GENERATION, next(p)->line);
    parse_function_body(p, n, "endgeneration");
    return n;
}

static node *parse_filter_block(parser *p)
{
    node *n = node_new(p, N_FILTERED, next(p)->line);
    n->a = parse_filters(p, NULL, true);
    parse_whole_block(p, &n->body, "endfilter");
    return n;
}

static node *parse_with(parser *p)
{
    node *n = node_new(p, N_WITH, next(p)->line);
    while (!at_kind(p, T_BLOCK_END)) {
        if (n->items.n > 0) {
            expect(p, T_COMMA);
        }
        nodes_add(p, &n->items, parse_target(p, false, NULL));
        expect(p, T_ASSIGN);
        nodes_add(p, &n->items, parse_expression(p));
    }
    parse_whole_block(p, &n->body, "endwith");
    return n;
}

static node *parse_print(parser *p)
{
    node *n = node_new(p, N_PRINT, next(p)->line);
    while (!at_kind(p, T_BLOCK_END)) {
        if (n->items.n > 0) {
            expect(p, T_COMMA);
        }
        nodes_add(p, &n->items, parse_expression(p));
    }
    return n;
}

static node *parse_leap(parser *p)
{
    const token *t = next(p);
    bool is_break = token_is_name(t, "break");
    if (p->loops == 0) {
        fault(p->m, "'%s' outside loop", is_break ? "break" : "continue");
    }
    return node_new(p, is_break ? N_BREAK : N_CONTINUE, t->line);
}

static const struct {
    const char *name;
    node *(*parse)(parser *p);
} statements[] = {
    {"for", parse_for},
    {"if", parse_if},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"print", parse_print},
    {"break", parse_leap},
    {"continue", parse_leap},
    {"generation", parse_generation},
};

static const char *const refused[] = {"include", "import", "from",
                                      "extends", "block",  "autoescape"};

static node *parse_statement(parser *p)
{
    if (!at_kind(p, T_NAME)) {
        fault(p->m, "tag name expected");
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (at_name(p, refused[i])) {
            fault(p->m, "the tag '%s' is not supported in chat templates", refused[i]);
        }
    }
    const char *around = p->tag;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (at_name(p, statements[i].name)) {
            p->tag = statements[i].name;
            descend(p->m);
            node *n = statements[i].parse(p);
            ascend(p->m);
            p->tag = around;
            return n;
        }
    }
    fault(p->m, "Encountered unknown tag '%s'.%s%s%s", text_chars(p->m, current(p)->spelling),
          around != NULL ? " The innermost block that needs to be closed is '" : "",
          around != NULL ? around : "", around != NULL ? "'." : "");
}

static bool at_end_tag(const parser *p, const char *const *ends)
{
    for (size_t i = 0; ends != NULL && ends[i] != NULL; i++) {
        if (at_name(p, ends[i])) {
            return true;
        }
    }
    return false;
}

static void parse_piece(parser *p, node_list *body)
{
    int line = current(p)->line;
    if (at_kind(p, T_DATA)) {
        node *n = node_const(p, line, STRING(next(p)->spelling));
        n->kind = N_DATA;
        nodes_add(p, body, n);
        return;
    }
    if (skip_kind(p, T_PRINT_BEGIN)) {
        node *n = node_new(p, N_PRINT, line);
        nodes_add(p, &n->items, parse_tuple(p, (tuple_rules){0}));
        expect(p, T_PRINT_END);
        nodes_add(p, body, n);
        return;
    }
    fault(p->m, "unexpected '%s'", token_words(p, current(p)));
}

static void parse_body(parser *p, node_list *body, const char *const *ends)
{
    while (!at_kind(p, T_EOF)) {
        if (!skip_kind(p, T_BLOCK_BEGIN)) {
            parse_piece(p, body);
            continue;
        }
        if (at_end_tag(p, ends)) {
            return;
        }
        nodes_add(p, body, parse_statement(p));
        expect(p, T_BLOCK_END);
    }
    if (ends != NULL) {
        fault(
            p->m,
            "Unexpected end of template. Looking for the tag '%s'. The innermost block that needs "
            "to be closed is '%s'.",
            ends[0], p->tag);
    }
}

tree *template_parse(sandbox *m, const char *source, size_t n_bytes)
{
    if (n_bytes > SANDBOX_TEMPLATE_MAX) {
        fault(m, "the template is larger than %d MiB", SANDBOX_TEMPLATE_MAX >> 20);
    }
    if (!utf8_is_valid(source, n_bytes)) {
        fault(m, "the template is not UTF-8");
    }
    parser p = {.m = m, .names = name_table_new(m)};
    p.special = (special_names){.loop = name_intern(m, p.names, "loop", 4),
                                .caller = name_intern(m, p.names, "caller", 6),
                                .varargs = name_intern(m, p.names, "varargs", 7),
                                .kwargs = name_intern(m, p.names, "kwargs", 6)};
    p.tokens = tokens_of(m, source, n_bytes, &p.n);
    m->line = p.tokens[0].line;
    tree *t = TAKE(m, tree, 1);
    *t = (tree){0};
    parse_body(&p, &t->body, NULL);
    tree_scopes_find(m, t, &p.special);
    return t;
}

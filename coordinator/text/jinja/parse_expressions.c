/*
 * parse_expressions.c - expressions by recursive descent, in the reference's order of precedence:
 *
 *   a if b else c  <  or  <  and  <  not  <  comparisons  <  + -  <  ~  <  * / // %  <  **  < unary
 *   <  attribute, subscript, call  <  filter, test
 *
 * Unknown filters and tests are refused here, except under a condition, where the reference waits
 * until they are used. Depth is limited by the sandbox.
 */
#include "coordinator/text/jinja/builtins.h"
#include "coordinator/text/jinja/parser.h"

#include <string.h>

static node *parse_or(parser *p);
static node *parse_unary(parser *p, bool with_filter);

static node *parse_list(parser *p)
{
    node *n = node_new(p, N_LIST, token_expect(p, T_LBRACKET)->line);
    while (!token_at_kind(p, T_RBRACKET)) {
        if (n->items.n > 0) {
            token_expect(p, T_COMMA);
        }
        if (token_at_kind(p, T_RBRACKET)) {
            break;
        }
        node_list_add(p, &n->items, parse_expression(p));
    }
    token_expect(p, T_RBRACKET);
    return n;
}

static node *parse_dict(parser *p)
{
    node *n = node_new(p, N_DICT, token_expect(p, T_LBRACE)->line);
    while (!token_at_kind(p, T_RBRACE)) {
        if (n->items.n > 0) {
            token_expect(p, T_COMMA);
        }
        if (token_at_kind(p, T_RBRACE)) {
            break;
        }
        node_list_add(p, &n->items, parse_expression(p));
        token_expect(p, T_COLON);
        node_list_add(p, &n->items, parse_expression(p));
    }
    token_expect(p, T_RBRACE);
    return n;
}

/* Neighbouring strings are one, as in Python. */
static node *parse_strings(parser *p)
{
    int line = token_current(p)->line;
    text *t = token_next(p)->spelling;
    while (token_at_kind(p, T_STRING)) {
        t = text_join(p->m, t, token_next(p)->spelling);
    }
    return node_const(p, line, STRING(t));
}

static node *parse_word(parser *p, bool with_fields)
{
    const token *t = token_next(p);
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
    n->name = token_name(p, t);
    if (with_fields && token_skip_kind(p, T_DOT)) {
        n->kind = N_FIELD;
        n->field = token_name(p, token_expect(p, T_NAME));
    }
    return n;
}

static node *parse_primary(parser *p, bool with_fields)
{
    const token *t = token_current(p);
    switch (t->kind) {
    case T_NAME:
        return parse_word(p, with_fields);
    case T_STRING:
        return parse_strings(p);
    case T_INTEGER:
    case T_FLOAT:
        token_next(p);
        return node_const(p, t->line, t->number);
    case T_LPAREN: {
        token_next(p);
        node *n = parse_tuple(p, (tuple_rules){.in_parentheses = true});
        token_expect(p, T_RPAREN);
        return n;
    }
    case T_LBRACKET:
        return parse_list(p);
    case T_LBRACE:
        return parse_dict(p);
    default:
        template_fault(p->m, "unexpected '%s'", token_words(p, t));
    }
}

static bool tuple_ends(const parser *p, tuple_rules r)
{
    return token_at_kind(p, T_PRINT_END) || token_at_kind(p, T_BLOCK_END) ||
           token_at_kind(p, T_RPAREN) || (r.end_name != NULL && token_at_name(p, r.end_name));
}

node *parse_tuple(parser *p, tuple_rules r)
{
    node *n = node_new(p, N_TUPLE, token_current(p)->line);
    bool is_tuple = false;
    sandbox_descend(p->m);
    for (;;) {
        if (n->items.n > 0) {
            token_expect(p, T_COMMA);
        }
        if (tuple_ends(p, r)) {
            break;
        }
        node_list_add(p, &n->items,
                      r.targets_only     ? parse_primary(p, r.with_fields)
                      : r.without_choice ? parse_or(p)
                                         : parse_expression(p));
        if (!token_at_kind(p, T_COMMA)) {
            break;
        }
        is_tuple = true;
    }
    sandbox_ascend(p->m);
    if (!is_tuple && n->items.n > 0) {
        return n->items.items[0];
    }
    if (!is_tuple && !r.in_parentheses) {
        template_fault(p->m, "expected an expression, got '%s'", token_words(p, token_current(p)));
    }
    return n;
}

static node *parse_subscribed(parser *p)
{
    int line = token_current(p)->line;
    node *first = token_at_kind(p, T_COLON) ? NULL : parse_expression(p);
    if (!token_at_kind(p, T_COLON)) {
        return first;
    }
    token_next(p);
    node *n = node_new(p, N_SLICE, line);
    n->a = first;
    if (!token_at_kind(p, T_COLON) && !token_at_kind(p, T_RBRACKET) && !token_at_kind(p, T_COMMA)) {
        n->b = parse_expression(p);
    }
    if (token_skip_kind(p, T_COLON) && !token_at_kind(p, T_RBRACKET) &&
        !token_at_kind(p, T_COMMA)) {
        n->c = parse_expression(p);
    }
    return n;
}

static node *parse_subscript(parser *p, node *of)
{
    int line = token_current(p)->line;
    if (token_skip_kind(p, T_DOT)) {
        const token *t = token_next(p);
        if (t->kind == T_NAME) {
            node *n = node_two(p, N_GETATTR, line, of, NULL);
            n->name = token_name(p, t);
            return n;
        }
        if (t->kind != T_INTEGER) {
            template_fault(p->m, "expected name or number");
        }
        return node_two(p, N_GETITEM, line, of, node_const(p, line, t->number));
    }
    token_expect(p, T_LBRACKET);
    node *keys = node_new(p, N_TUPLE, line);
    while (!token_at_kind(p, T_RBRACKET)) {
        if (keys->items.n > 0) {
            token_expect(p, T_COMMA);
        }
        node_list_add(p, &keys->items, parse_subscribed(p));
    }
    token_expect(p, T_RBRACKET);
    return node_two(p, N_GETITEM, line, of, keys->items.n == 1 ? keys->items.items[0] : keys);
}

static void call_check(parser *p, bool is_right)
{
    if (!is_right) {
        template_fault(p->m, "invalid syntax for function call expression");
    }
}

static void name_add(parser *p, call_shape *c, const text *name)
{
    const text **names = TAKE(p->m, const text *, c->named.n + 1);
    for (size_t i = 0; i < c->named.n; i++) {
        names[i] = c->names[i];
        if (names[i] == name) {
            template_fault(p->m, "keyword argument repeated: %s", text_chars(p->m, name));
        }
    }
    names[c->named.n] = name;
    c->names = names;
}

static void parse_argument(parser *p, call_shape *c)
{
    if (token_skip_kind(p, T_MUL)) {
        call_check(p, c->spread == NULL && c->spread_named == NULL);
        c->spread = parse_expression(p);
    } else if (token_skip_kind(p, T_POW)) {
        call_check(p, c->spread_named == NULL);
        c->spread_named = parse_expression(p);
    } else if (token_at_kind(p, T_NAME) && token_peek(p)->kind == T_ASSIGN) {
        call_check(p, c->spread_named == NULL);
        name_add(p, c, token_name(p, token_next(p)));
        token_next(p);
        node_list_add(p, &c->named, parse_expression(p));
    } else {
        call_check(p, c->spread == NULL && c->spread_named == NULL && c->named.n == 0);
        node_list_add(p, &c->positional, parse_expression(p));
    }
}

static call_shape *parse_arguments(parser *p)
{
    call_shape *c = TAKE(p->m, call_shape, 1);
    memset(c, 0, sizeof *c);
    token_expect(p, T_LPAREN);
    for (bool first = true; !token_at_kind(p, T_RPAREN); first = false) {
        if (!first) {
            token_expect(p, T_COMMA);
            if (token_at_kind(p, T_RPAREN)) {
                break;
            }
        }
        parse_argument(p, c);
    }
    token_expect(p, T_RPAREN);
    return c;
}

static node *parse_call(parser *p, node *callee)
{
    node *n = node_two(p, N_CALL, token_current(p)->line, callee, NULL);
    n->call = parse_arguments(p);
    return n;
}

static node *parse_postfix(parser *p, node *n)
{
    for (;;) {
        if (token_at_kind(p, T_DOT) || token_at_kind(p, T_LBRACKET)) {
            n = parse_subscript(p, n);
        } else if (token_at_kind(p, T_LPAREN)) {
            n = parse_call(p, n);
        } else {
            return n;
        }
    }
}

static const text *parse_dotted_name(parser *p)
{
    text *t = token_expect(p, T_NAME)->spelling;
    while (token_skip_kind(p, T_DOT)) {
        t = text_join(p->m, text_join(p->m, t, text_of(p->m, ".")),
                      token_expect(p, T_NAME)->spelling);
    }
    return name_intern(p->m, p->names, t->bytes, t->n);
}

/* Unknown ones are refused now, or under a condition when they are used. */
static void builtin_resolve(parser *p, node *n, const builtin *found, const char *what)
{
    n->builtin = found;
    if (found == NULL && p->conditions == 0) {
        template_fault(p->m, "No %s named '%s'", what, text_chars(p->m, n->name));
    }
}

static node *parse_filter(parser *p, node *of)
{
    node *n = node_two(p, N_FILTER, token_current(p)->line, of, NULL);
    n->name = parse_dotted_name(p);
    n->call = token_at_kind(p, T_LPAREN) ? parse_arguments(p) : NULL;
    builtin_resolve(p, n, filter_find(n->name), "filter");
    return n;
}

/* One filter behind another, the first without its bar where `inline_first`. */
node *parse_filters(parser *p, node *of, bool inline_first)
{
    while (inline_first || token_skip_kind(p, T_PIPE)) {
        of = parse_filter(p, of);
        inline_first = false;
    }
    return of;
}

static bool test_argument_follows(const parser *p)
{
    switch (token_current(p)->kind) {
    case T_STRING:
    case T_INTEGER:
    case T_FLOAT:
    case T_LBRACKET:
    case T_LBRACE:
        return true;
    case T_NAME:
        return !token_at_name(p, "else") && !token_at_name(p, "or") && !token_at_name(p, "and");
    default:
        return false;
    }
}

static node *parse_test(parser *p, node *of)
{
    node *n = node_two(p, N_TEST, token_next(p)->line, of, NULL);
    bool negated = token_skip_name(p, "not");
    n->name = parse_dotted_name(p);
    if (token_at_kind(p, T_LPAREN)) {
        n->call = parse_arguments(p);
    } else if (test_argument_follows(p)) {
        if (token_at_name(p, "is")) {
            template_fault(p->m, "You cannot chain multiple tests with is");
        }
        n->call = TAKE(p->m, call_shape, 1);
        memset(n->call, 0, sizeof *n->call);
        node_list_add(p, &n->call->positional, parse_postfix(p, parse_primary(p, false)));
    }
    builtin_resolve(p, n, test_find(n->name), "test");
    return negated ? node_two(p, N_NOT, n->line, n, NULL) : n;
}

static node *parse_filter_expression(parser *p, node *n)
{
    for (;;) {
        if (token_at_kind(p, T_PIPE)) {
            n = parse_filters(p, n, false);
        } else if (token_at_name(p, "is")) {
            n = parse_test(p, n);
        } else if (token_at_kind(p, T_LPAREN)) {
            n = parse_call(p, n);
        } else {
            return n;
        }
    }
}

static node *parse_unary(parser *p, bool with_filter)
{
    int line = token_current(p)->line;
    node *n;
    sandbox_descend(p->m);
    if (token_skip_kind(p, T_SUB)) {
        n = node_two(p, N_NEGATE, line, parse_unary(p, false), NULL);
    } else if (token_skip_kind(p, T_ADD)) {
        n = node_two(p, N_PLUS, line, parse_unary(p, false), NULL);
    } else {
        n = parse_primary(p, false);
    }
    n = parse_postfix(p, n);
    n = with_filter ? parse_filter_expression(p, n) : n;
    sandbox_ascend(p->m);
    return n;
}

static node *parse_power(parser *p)
{
    int line = token_current(p)->line;
    node *left = parse_unary(p, true);
    while (token_skip_kind(p, T_POW)) {
        left = node_two(p, N_POWER, line, left, parse_unary(p, true));
        line = token_current(p)->line;
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
    int line = token_current(p)->line;
    node *left = parse_power(p);
    for (node_kind k; (k = product_kind(token_current(p)->kind)) != N_CONST;) {
        token_next(p);
        left = node_two(p, k, line, left, parse_power(p));
        line = token_current(p)->line;
    }
    return left;
}

static node *parse_concat(parser *p)
{
    int line = token_current(p)->line;
    node *first = parse_product(p);
    if (!token_at_kind(p, T_TILDE)) {
        return first;
    }
    node *n = node_new(p, N_CONCAT, line);
    node_list_add(p, &n->items, first);
    while (token_skip_kind(p, T_TILDE)) {
        node_list_add(p, &n->items, parse_product(p));
    }
    return n;
}

static node *parse_sum(parser *p)
{
    int line = token_current(p)->line;
    node *left = parse_concat(p);
    while (token_at_kind(p, T_ADD) || token_at_kind(p, T_SUB)) {
        node_kind k = token_next(p)->kind == T_ADD ? N_ADD : N_SUBTRACT;
        left = node_two(p, k, line, left, parse_concat(p));
        line = token_current(p)->line;
    }
    return left;
}

/* True (and the operator consumed) where a comparison goes on. */
static bool compare_op_read(parser *p, compare_op *op)
{
    static const token_kind kinds[] = {[OP_EQ] = T_EQ, [OP_NE] = T_NE, [OP_LT] = T_LT,
                                       [OP_LE] = T_LE, [OP_GT] = T_GT, [OP_GE] = T_GE};
    for (int i = OP_EQ; i <= OP_GE; i++) {
        if (token_skip_kind(p, kinds[i])) {
            *op = (compare_op)i;
            return true;
        }
    }
    *op = OP_IN;
    if (token_skip_name(p, "in")) {
        return true;
    }
    if (token_at_name(p, "not") && token_is_name(token_peek(p), "in")) {
        token_next(p);
        token_next(p);
        *op = OP_NOT_IN;
        return true;
    }
    return false;
}

static node *parse_comparison(parser *p)
{
    int line = token_current(p)->line;
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
        node_list_add(p, &n->items, parse_sum(p));
    }
    return n == NULL ? first : n;
}

static node *parse_not(parser *p)
{
    int line = token_current(p)->line;
    if (!token_skip_name(p, "not")) {
        return parse_comparison(p);
    }
    sandbox_descend(p->m);
    node *n = node_two(p, N_NOT, line, parse_not(p), NULL);
    sandbox_ascend(p->m);
    return n;
}

static node *parse_and(parser *p)
{
    int line = token_current(p)->line;
    node *left = parse_not(p);
    while (token_skip_name(p, "and")) {
        left = node_two(p, N_AND, line, left, parse_not(p));
    }
    return left;
}

static node *parse_or(parser *p)
{
    int line = token_current(p)->line;
    node *left = parse_and(p);
    while (token_skip_name(p, "or")) {
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
        sandbox_spend(p->m, 1);
    }
    return false;
}

node *parse_expression(parser *p)
{
    int line = token_current(p)->line;
    bool conditional = p->conditions == 0 && choice_follows(p);
    sandbox_descend(p->m);
    p->conditions += conditional;
    node *n = parse_or(p);
    while (token_skip_name(p, "if")) {
        node *choice = node_new(p, N_CHOICE, line);
        choice->b = n;
        p->conditions++;
        choice->a = parse_or(p);
        choice->c = token_skip_name(p, "else") ? parse_expression(p) : NULL;
        p->conditions--;
        n = choice;
        line = token_current(p)->line;
    }
    p->conditions -= conditional;
    sandbox_ascend(p->m);
    return n;
}

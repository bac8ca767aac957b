/*
 * parse_statements.c - tags and the text between them.
 *
 * What the reference refuses when it compiles a template is refused here: unknown tags, assignments
 * to what cannot be assigned, break outside a loop. Tags that reach for other templates are refused
 * too.
 */
#include "coordinator/text/jinja/parser.h"

#include <string.h>

static void parse_body(parser *p, node_list *body, const char *const *ends);

static void target_check(parser *p, const node *n)
{
    if (n->kind == N_TUPLE) {
        for (size_t i = 0; i < n->items.n; i++) {
            target_check(p, n->items.items[i]);
        }
    } else if (n->kind != N_NAME && n->kind != N_FIELD) {
        template_fault(p->m, "can't assign to this expression");
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
    token_skip_kind(p, T_COLON);
    token_expect(p, T_BLOCK_END);
    parse_body(p, body, ends);
}

/* The same up to one end, which is consumed. */
static void parse_whole_block(parser *p, node_list *body, const char *end)
{
    parse_block(p, body, (const char *const[]){end, NULL});
    token_next(p);
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
        template_fault(p->m, "Can't assign to special loop variable in for-loop target");
    }
}

static node *parse_for(parser *p)
{
    node *n = node_new(p, N_FOR, token_next(p)->line);
    n->a = parse_target(p, false, "in");
    loop_name_check(p, n->a);
    token_expect_name(p, "in");
    n->b = parse_tuple(p, (tuple_rules){.without_choice = true, .end_name = "recursive"});
    n->c = token_skip_name(p, "if") ? parse_expression(p) : NULL;
    n->is_recursive = token_skip_name(p, "recursive");
    p->loops++;
    parse_block(p, &n->body, (const char *const[]){"endfor", "else", NULL});
    p->loops--;
    if (token_is_name(token_next(p), "else")) {
        parse_whole_block(p, &n->other, "endfor");
    }
    return n;
}

static node *parse_if(parser *p)
{
    node *first = node_new(p, N_IF, token_next(p)->line);
    p->conditions++;
    for (node *n = first;;) {
        n->a = parse_tuple(p, (tuple_rules){.without_choice = true});
        parse_block(p, &n->body, (const char *const[]){"elif", "else", "endif", NULL});
        const token *t = token_next(p);
        if (token_is_name(t, "elif")) {
            node *other = node_new(p, N_IF, t->line);
            node_list_add(p, &n->other, other);
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
    node *n = node_new(p, N_SET, token_next(p)->line);
    n->a = parse_target(p, true, NULL);
    if (p->loops > 0) {
        loop_name_check(p, n->a);
    }
    if (token_skip_kind(p, T_ASSIGN)) {
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
    token_expect(p, T_LPAREN);
    while (!token_at_kind(p, T_RPAREN)) {
        if (n->n_parameters > 0) {
            token_expect(p, T_COMMA);
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
        *q = (parameter){.name = token_name(p, token_expect(p, T_NAME))};
        if (token_skip_kind(p, T_ASSIGN)) {
            q->fallback = parse_expression(p);
        } else if (n->n_parameters > 0 && q[-1].fallback != NULL) {
            template_fault(p->m, "non-default argument follows default argument");
        }
        n->n_parameters++;
    }
    token_expect(p, T_RPAREN);
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
    node *n = node_new(p, N_MACRO, token_next(p)->line);
    n->name = token_name(p, token_expect(p, T_NAME));
    parse_signature(p, n);
    parse_function_body(p, n, "endmacro");
    return n;
}

static node *parse_call_block(parser *p)
{
    node *n = node_new(p, N_CALLER, token_next(p)->line);
    if (token_at_kind(p, T_LPAREN)) {
        parse_signature(p, n);
    }
    n->a = parse_expression(p);
    if (n->a->kind != N_CALL) {
        template_fault(p->m, "expected call");
    }
    parse_function_body(p, n, "endcall");
    return n;
}

static node *parse_generation(parser *p)
{
    node *n = node_new(p, N_GENERATION, token_next(p)->line);
    parse_function_body(p, n, "endgeneration");
    return n;
}

static node *parse_filter_block(parser *p)
{
    node *n = node_new(p, N_FILTERED, token_next(p)->line);
    n->a = parse_filters(p, NULL, true);
    parse_whole_block(p, &n->body, "endfilter");
    return n;
}

static node *parse_with(parser *p)
{
    node *n = node_new(p, N_WITH, token_next(p)->line);
    while (!token_at_kind(p, T_BLOCK_END)) {
        if (n->items.n > 0) {
            token_expect(p, T_COMMA);
        }
        node_list_add(p, &n->items, parse_target(p, false, NULL));
        token_expect(p, T_ASSIGN);
        node_list_add(p, &n->items, parse_expression(p));
    }
    parse_whole_block(p, &n->body, "endwith");
    return n;
}

static node *parse_print(parser *p)
{
    node *n = node_new(p, N_PRINT, token_next(p)->line);
    while (!token_at_kind(p, T_BLOCK_END)) {
        if (n->items.n > 0) {
            token_expect(p, T_COMMA);
        }
        node_list_add(p, &n->items, parse_expression(p));
    }
    return n;
}

static node *parse_leap(parser *p)
{
    const token *t = token_next(p);
    bool is_break = token_is_name(t, "break");
    if (p->loops == 0) {
        template_fault(p->m, "'%s' outside loop", is_break ? "break" : "continue");
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
    if (!token_at_kind(p, T_NAME)) {
        template_fault(p->m, "tag name expected");
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (token_at_name(p, refused[i])) {
            template_fault(p->m, "the tag '%s' is not supported in chat templates", refused[i]);
        }
    }
    const char *around = p->tag;
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (token_at_name(p, statements[i].name)) {
            p->tag = statements[i].name;
            sandbox_descend(p->m);
            node *n = statements[i].parse(p);
            sandbox_ascend(p->m);
            p->tag = around;
            return n;
        }
    }
    template_fault(p->m, "Encountered unknown tag '%s'.%s%s%s",
                   text_chars(p->m, token_current(p)->spelling),
                   around != NULL ? " The innermost block that needs to be closed is '" : "",
                   around != NULL ? around : "", around != NULL ? "'." : "");
}

static bool at_end_tag(const parser *p, const char *const *ends)
{
    for (size_t i = 0; ends != NULL && ends[i] != NULL; i++) {
        if (token_at_name(p, ends[i])) {
            return true;
        }
    }
    return false;
}

static void parse_piece(parser *p, node_list *body)
{
    int line = token_current(p)->line;
    if (token_at_kind(p, T_DATA)) {
        node *n = node_const(p, line, STRING(token_next(p)->spelling));
        n->kind = N_DATA;
        node_list_add(p, body, n);
        return;
    }
    if (token_skip_kind(p, T_PRINT_BEGIN)) {
        node *n = node_new(p, N_PRINT, line);
        node_list_add(p, &n->items, parse_tuple(p, (tuple_rules){0}));
        token_expect(p, T_PRINT_END);
        node_list_add(p, body, n);
        return;
    }
    template_fault(p->m, "unexpected '%s'", token_words(p, token_current(p)));
}

static void parse_body(parser *p, node_list *body, const char *const *ends)
{
    while (!token_at_kind(p, T_EOF)) {
        if (!token_skip_kind(p, T_BLOCK_BEGIN)) {
            parse_piece(p, body);
            continue;
        }
        if (at_end_tag(p, ends)) {
            return;
        }
        node_list_add(p, body, parse_statement(p));
        token_expect(p, T_BLOCK_END);
    }
    if (ends != NULL) {
        template_fault(
            p->m,
            "Unexpected end of template. Looking for the tag '%s'. The innermost block that needs "
            "to be closed is '%s'.",
            ends[0], p->tag);
    }
}

tree *template_parse(sandbox *m, const char *source, size_t n_bytes)
{
    if (n_bytes > SANDBOX_TEMPLATE_MAX) {
        template_fault(m, "the template is larger than %d MiB", SANDBOX_TEMPLATE_MAX >> 20);
    }
    if (!utf8_is_valid(source, n_bytes)) {
        template_fault(m, "the template is not UTF-8");
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

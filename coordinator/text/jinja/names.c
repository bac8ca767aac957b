/*
 * names.c - which scope a name belongs to, decided before anything runs.
 *
 * The reference compiles a template to functions and decides per name and scope where its value
 * comes from when the scope is entered: handed in, copied from the scope around, looked up in the
 * context, or unset until assigned. That decision is visible (a loop that reads a name which the
 * template assigns further down sees it unset, even if the context has it), so it is made here by
 * the same rules: a scope's own statements are looked at in order, inner scopes afterwards. An
 * assignment in some branch of an if makes the name start from around, or from the context.
 */
#include "coordinator/text/jinja/tree.h"

#include <string.h>

typedef struct symbol {
    const text *name;
    name_source source;
    bool stored;
} symbol;

typedef struct symbols {
    const struct symbols *around;
    symbol *items;
    size_t n, capacity;
} symbols;

typedef struct finder {
    sandbox *m;
    const special_names *special;
} finder;

/* ---- one scope's symbols ---- */

static symbol *symbol_own(finder *f, const symbols *s, const text *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->items[i].name == name) {
            return &s->items[i];
        }
    }
    sandbox_spend(f->m, 1 + s->n / 8);
    return NULL;
}

static bool symbol_known(finder *f, const symbols *s, const text *name)
{
    for (; s != NULL; s = s->around) {
        if (symbol_own(f, s, name) != NULL) {
            return true;
        }
    }
    return false;
}

static symbol *symbol_add(finder *f, symbols *s, symbol one)
{
    if (s->n == s->capacity) {
        size_t capacity = s->capacity == 0 ? 8 : s->capacity * 2;
        symbol *items = TAKE(f->m, symbol, capacity);
        if (s->n > 0) {
            memcpy(items, s->items, s->n * sizeof *items);
        }
        s->items = items;
        s->capacity = capacity;
    }
    s->items[s->n++] = one;
    return &s->items[s->n - 1];
}

static void name_load(finder *f, symbols *s, const text *name)
{
    if (!symbol_known(f, s, name)) {
        symbol_add(f, s, (symbol){.name = name, .source = NAME_RESOLVED});
    }
}

static void name_store(finder *f, symbols *s, const text *name)
{
    symbol *own = symbol_own(f, s, name);
    if (own == NULL) {
        bool around = symbol_known(f, s->around, name);
        own = symbol_add(f, s, (symbol){.name = name, .source = around ? NAME_ALIAS : NAME_UNSET});
    }
    own->stored = true;
}

static void name_declare(finder *f, symbols *s, const text *name)
{
    symbol *own = symbol_own(f, s, name);
    if (own == NULL) {
        own = symbol_add(f, s, (symbol){.name = name});
    }
    own->source = NAME_PARAMETER;
    own->stored = true;
}

static symbols symbols_copy(finder *f, const symbols *s)
{
    symbols copy = *s;
    copy.capacity = s->n;
    copy.items = TAKE(f->m, symbol, s->n);
    if (s->n > 0) {
        memcpy(copy.items, s->items, s->n * sizeof *copy.items);
    }
    return copy;
}

/* What one branch of an if did to its copy of the symbols. */
static void branch_merge(finder *f, symbols *s, const symbols *before, const symbols *branch)
{
    for (size_t i = 0; i < branch->n; i++) {
        symbol one = branch->items[i];
        const symbol *old = symbol_own(f, before, one.name);
        if (one.stored && (old == NULL || !old->stored)) {
            one.source = symbol_known(f, s->around, one.name) ? NAME_ALIAS : NAME_RESOLVED;
        }
        symbol *own = symbol_own(f, s, one.name);
        if (own == NULL) {
            symbol_add(f, s, one);
        } else if (!own->stored) {
            *own = one;
        }
    }
}

/* ---- what a scope's statements do, in order ---- */

static void visit_expression(finder *f, symbols *s, const node *n);

static void visit_expressions(finder *f, symbols *s, const node_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        visit_expression(f, s, l->items[i]);
    }
}

static void visit_call(finder *f, symbols *s, const call_shape *c)
{
    if (c != NULL) {
        visit_expressions(f, s, &c->positional);
        visit_expressions(f, s, &c->named);
        visit_expression(f, s, c->spread);
        visit_expression(f, s, c->spread_named);
    }
}

static void visit_expression(finder *f, symbols *s, const node *n)
{
    if (n == NULL) {
        return;
    }
    sandbox_descend(f->m);
    sandbox_spend(f->m, 1);
    if (n->kind == N_NAME) {
        name_load(f, s, n->name);
    }
    visit_expression(f, s, n->a);
    visit_expression(f, s, n->b);
    visit_expression(f, s, n->c);
    visit_expressions(f, s, &n->items);
    visit_call(f, s, n->call);
    sandbox_ascend(f->m);
}

static void visit_target(finder *f, symbols *s, const node *n, bool declare)
{
    if (n->kind == N_TUPLE) {
        for (size_t i = 0; i < n->items.n; i++) {
            visit_target(f, s, n->items.items[i], declare);
        }
    } else if (n->kind == N_FIELD) {
        name_load(f, s, n->name);
    } else if (declare) {
        name_declare(f, s, n->name);
    } else {
        name_store(f, s, n->name);
    }
}

static void visit_statements(finder *f, symbols *s, const node_list *l);

static void visit_if(finder *f, symbols *s, const node *n)
{
    visit_expression(f, s, n->a);
    symbols before = symbols_copy(f, s);
    symbols body = symbols_copy(f, s), other = symbols_copy(f, s);
    visit_statements(f, &body, &n->body);
    visit_statements(f, &other, &n->other);
    branch_merge(f, s, &before, &body);
    branch_merge(f, s, &before, &other);
}

static void visit_statement(finder *f, symbols *s, const node *n)
{
    switch (n->kind) {
    case N_PRINT:
        visit_expressions(f, s, &n->items);
        break;
    case N_IF:
        visit_if(f, s, n);
        break;
    case N_FOR:
        visit_expression(f, s, n->b);
        break;
    case N_SET:
        visit_expression(f, s, n->b);
        visit_target(f, s, n->a, false);
        break;
    case N_SET_TEXT:
        visit_target(f, s, n->a, false);
        break;
    case N_MACRO:
        name_store(f, s, n->name);
        break;
    case N_CALLER:
    case N_FILTERED:
        visit_expression(f, s, n->a);
        break;
    case N_WITH:
        for (size_t i = 1; i < n->items.n; i += 2) {
            visit_expression(f, s, n->items.items[i]);
        }
        break;
    default:
        break;
    }
}

static void visit_statements(finder *f, symbols *s, const node_list *l)
{
    sandbox_descend(f->m);
    for (size_t i = 0; i < l->n; i++) {
        f->m->line = l->items[i]->line;
        visit_statement(f, s, l->items[i]);
    }
    sandbox_ascend(f->m);
}

/* ---- inner scopes ---- */

static scope *scope_of(finder *f, const symbols *s)
{
    scope *made = TAKE(f->m, scope, 1);
    *made = (scope){.n = s->n,
                    .names = TAKE(f->m, const text *, s->n),
                    .sources = TAKE(f->m, name_source, s->n)};
    for (size_t i = 0; i < s->n; i++) {
        made->names[i] = s->items[i].name;
        made->sources[i] = s->items[i].source;
    }
    return made;
}

static void inner_scopes_find(finder *f, const symbols *s, const node_list *l);

static bool list_uses(finder *f, const node_list *l, const text *name);

static bool call_uses(finder *f, const call_shape *c, const text *name);

/* Whether a name is read anywhere below, inner functions included. */
static bool node_uses(finder *f, const node *n, const text *name)
{
    if (n == NULL) {
        return false;
    }
    sandbox_descend(f->m);
    sandbox_spend(f->m, 1);
    bool uses = (n->kind == N_NAME && n->name == name) || node_uses(f, n->a, name) ||
                node_uses(f, n->b, name) || node_uses(f, n->c, name) ||
                list_uses(f, &n->items, name) || list_uses(f, &n->body, name) ||
                list_uses(f, &n->other, name) || call_uses(f, n->call, name);
    for (size_t i = 0; i < n->n_parameters && !uses; i++) {
        uses = node_uses(f, n->parameters[i].fallback, name);
    }
    sandbox_ascend(f->m);
    return uses;
}

static bool list_uses(finder *f, const node_list *l, const text *name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (node_uses(f, l->items[i], name)) {
            return true;
        }
    }
    return false;
}

static bool call_uses(finder *f, const call_shape *c, const text *name)
{
    return c != NULL && (list_uses(f, &c->positional, name) || list_uses(f, &c->named, name) ||
                         node_uses(f, c->spread, name) || node_uses(f, c->spread_named, name));
}

static bool is_parameter(const node *n, const text *name)
{
    for (size_t i = 0; i < n->n_parameters; i++) {
        if (n->parameters[i].name == name) {
            return true;
        }
    }
    return false;
}

static void function_scope_find(finder *f, const symbols *around, node *n)
{
    symbols s = {.around = around};
    for (size_t i = 0; i < n->n_parameters; i++) {
        name_declare(f, &s, n->parameters[i].name);
    }
    const special_names *special = f->special;
    n->uses_caller = list_uses(f, &n->body, special->caller);
    n->uses_kwargs = list_uses(f, &n->body, special->kwargs) && !is_parameter(n, special->kwargs);
    n->uses_varargs =
        list_uses(f, &n->body, special->varargs) && !is_parameter(n, special->varargs);
    if (n->uses_caller) {
        name_declare(f, &s, special->caller);
    }
    if (n->uses_kwargs) {
        name_declare(f, &s, special->kwargs);
    }
    if (n->uses_varargs) {
        name_declare(f, &s, special->varargs);
    }
    for (size_t i = 0; i < n->n_parameters; i++) {
        visit_expression(f, &s, n->parameters[i].fallback);
    }
    visit_statements(f, &s, &n->body);
    n->scope = scope_of(f, &s);
    inner_scopes_find(f, &s, &n->body);
}

static void loop_scopes_find(finder *f, const symbols *around, node *n)
{
    symbols s = {.around = around};
    name_declare(f, &s, f->special->loop);
    visit_target(f, &s, n->a, true);
    visit_statements(f, &s, &n->body);
    n->scope = scope_of(f, &s);
    inner_scopes_find(f, &s, &n->body);

    symbols test = {.around = around};
    visit_target(f, &test, n->a, true);
    visit_expression(f, &test, n->c);
    n->test_scope = scope_of(f, &test);

    symbols other = {.around = around};
    visit_statements(f, &other, &n->other);
    n->else_scope = scope_of(f, &other);
    inner_scopes_find(f, &other, &n->other);
}

static void block_scope_find(finder *f, const symbols *around, node *n)
{
    symbols s = {.around = around};
    for (size_t i = 0; n->kind == N_WITH && i < n->items.n; i += 2) {
        visit_target(f, &s, n->items.items[i], true);
    }
    visit_statements(f, &s, &n->body);
    n->scope = scope_of(f, &s);
    inner_scopes_find(f, &s, &n->body);
}

static void inner_scope_find(finder *f, const symbols *s, node *n)
{
    switch (n->kind) {
    case N_IF:
        inner_scopes_find(f, s, &n->body);
        inner_scopes_find(f, s, &n->other);
        break;
    case N_FOR:
        loop_scopes_find(f, s, n);
        break;
    case N_MACRO:
    case N_CALLER:
    case N_GENERATION:
        function_scope_find(f, s, n);
        break;
    case N_SET_TEXT:
    case N_FILTERED:
    case N_WITH:
        block_scope_find(f, s, n);
        break;
    default:
        break;
    }
}

static void inner_scopes_find(finder *f, const symbols *s, const node_list *l)
{
    sandbox_descend(f->m);
    for (size_t i = 0; i < l->n; i++) {
        f->m->line = l->items[i]->line;
        inner_scope_find(f, s, l->items[i]);
    }
    sandbox_ascend(f->m);
}

void tree_scopes_find(sandbox *m, tree *t, const special_names *special)
{
    finder f = {.m = m, .special = special};
    symbols root = {0};
    visit_statements(&f, &root, &t->body);
    t->scope = scope_of(&f, &root);
    inner_scopes_find(&f, &root, &t->body);
}

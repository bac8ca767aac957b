/*
 * evaluate.c - the value of an expression.
 */
#include "coordinator/text/jinja/renderer.h"

#include <string.h>

/* ---- names ---- */

static value context_find(renderer *r, const text *name)
{
    value *found = dict_find_named(&r->m, r->context, name);
    if (found == NULL && r->defaults != NULL) {
        found = dict_find_named(&r->m, r->defaults, name);
    }
    return found != NULL ? *found : global_find(r, name);
}

value *frame_find(const frame *f, const text *name)
{
    for (; f != NULL; f = f->around) {
        for (size_t i = 0; i < f->shape->n; i++) {
            if (f->shape->names[i] == name) {
                return &f->values[i];
            }
        }
    }
    return NULL;
}

void frame_fill(renderer *r, frame *f)
{
    for (size_t i = 0; i < f->shape->n; i++) {
        const text *name = f->shape->names[i];
        const value *around;
        switch (f->shape->sources[i]) {
        case NAME_PARAMETER:
            break;
        case NAME_RESOLVED:
            f->values[i] = context_find(r, name);
            break;
        case NAME_ALIAS:
            around = frame_find(f->around, name);
            f->values[i] = around == NULL ? MISSING : *around;
            break;
        default:
            f->values[i] = MISSING;
        }
    }
}

static value evaluate_name(renderer *r, const node *n, frame *f)
{
    const value *v = frame_find(f, n->name);
    /* A name of a place that the scopes do not see (a filter of a set block) is looked up now. */
    value found = v != NULL ? *v : context_find(r, n->name);
    if (found.kind == V_MISSING) {
        return undefined_named(&r->m, STRING(text_copy(&r->m, n->name->bytes, n->name->n)));
    }
    return found;
}

/* ---- arguments ---- */

static void named_add(renderer *r, arguments *a, size_t *capacity, const text *name, value v)
{
    for (size_t i = 0; i < a->n_named; i++) {
        if (text_equal(a->names[i], name)) {
            template_fault(&r->m, "got multiple values for keyword argument '%s'",
                           text_chars(&r->m, name));
        }
    }
    if (a->n_named == *capacity) {
        *capacity = *capacity < 4 ? 8 : *capacity * 2;
        const text **names = TAKE(&r->m, const text *, *capacity);
        value *named = TAKE(&r->m, value, *capacity);
        if (a->n_named > 0) {
            memcpy(names, a->names, a->n_named * sizeof *names);
            memcpy(named, a->named, a->n_named * sizeof *named);
        }
        a->names = names;
        a->named = named;
    }
    sandbox_spend(&r->m, 1 + a->n_named / 8);
    a->names[a->n_named] = name;
    a->named[a->n_named++] = v;
}

static void spread_named(renderer *r, arguments *a, size_t *capacity, value v)
{
    if (v.kind != V_DICT) {
        template_fault(&r->m, "argument after ** must be a mapping, not %s", type_name(v));
    }
    for (size_t i = 0; i < v.dict->n; i++) {
        if (v.dict->entries[i].key.kind != V_STRING) {
            template_fault(&r->m, "keywords must be strings");
        }
        named_add(r, a, capacity, v.dict->entries[i].key.string, v.dict->entries[i].content);
    }
}

arguments arguments_evaluate(renderer *r, const call_shape *c, frame *f)
{
    arguments a = {0};
    if (c == NULL) {
        return a;
    }
    list *positional = list_new(&r->m, c->positional.n);
    for (size_t i = 0; i < c->positional.n; i++) {
        list_add(&r->m, positional, expression_evaluate(r, c->positional.items[i], f));
    }
    if (c->spread != NULL) {
        value *items;
        size_t n;
        value_items(&r->m, expression_evaluate(r, c->spread, f), &items, &n);
        for (size_t i = 0; i < n; i++) {
            list_add(&r->m, positional, items[i]);
        }
    }
    a.positional = positional->items;
    a.n = positional->n;
    size_t capacity = 0;
    for (size_t i = 0; i < c->named.n; i++) {
        named_add(r, &a, &capacity, c->names[i], expression_evaluate(r, c->named.items[i], f));
    }
    if (c->spread_named != NULL) {
        spread_named(r, &a, &capacity, expression_evaluate(r, c->spread_named, f));
    }
    return a;
}

/* ---- the kinds of expressions ---- */

static list *evaluate_items(renderer *r, const node_list *items, frame *f)
{
    list *l = list_new(&r->m, items->n);
    for (size_t i = 0; i < items->n; i++) {
        list_add(&r->m, l, expression_evaluate(r, items->items[i], f));
    }
    return l;
}

static value evaluate_dict(renderer *r, const node *n, frame *f)
{
    dict *d = dict_new(&r->m);
    for (size_t i = 0; i + 1 < n->items.n; i += 2) {
        value key = expression_evaluate(r, n->items.items[i], f);
        dict_set(&r->m, d, key, expression_evaluate(r, n->items.items[i + 1], f));
    }
    return dict_value(d);
}

static value evaluate_optional(renderer *r, const node *n, frame *f)
{
    return n == NULL ? MISSING : expression_evaluate(r, n, f);
}

static value evaluate_getitem(renderer *r, const node *n, frame *f)
{
    value object = expression_evaluate(r, n->a, f);
    if (n->b->kind == N_SLICE) {
        value start = evaluate_optional(r, n->b->a, f);
        value stop = evaluate_optional(r, n->b->b, f);
        value step = evaluate_optional(r, n->b->c, f);
        r->m.line = n->line;
        return slice_get(r, object, start, stop, step);
    }
    value key = expression_evaluate(r, n->b, f);
    r->m.line = n->line;
    return item_get(r, object, key);
}

static value evaluate_call(renderer *r, const node *n, frame *f)
{
    value callee = expression_evaluate(r, n->a, f);
    arguments a = arguments_evaluate(r, n->call, f);
    r->m.line = n->line;
    return value_call(r, callee, &a);
}

static value evaluate_builtin(renderer *r, const node *n, value subject, frame *f)
{
    arguments a = arguments_evaluate(r, n->call, f);
    r->m.line = n->line;
    if (n->builtin == NULL) {
        template_fault(&r->m, "No %s named '%s' found.", n->kind == N_FILTER ? "filter" : "test",
                       text_chars(&r->m, n->name));
    }
    return builtin_call(r, n->builtin, subject, &a);
}

value filter_apply(renderer *r, const node *n, value subject, frame *f)
{
    sandbox_descend(&r->m);
    value v = n->a == NULL ? subject : filter_apply(r, n->a, subject, f);
    v = evaluate_builtin(r, n, v, f);
    sandbox_ascend(&r->m);
    return v;
}

static value evaluate_choice(renderer *r, const node *n, frame *f)
{
    if (value_truth(&r->m, expression_evaluate(r, n->a, f))) {
        return expression_evaluate(r, n->b, f);
    }
    if (n->c != NULL) {
        return expression_evaluate(r, n->c, f);
    }
    return undefined_because(&r->m,
                             "the inline if-expression evaluated to false and no else section "
                             "was defined.");
}

static value evaluate_concat(renderer *r, const node *n, frame *f)
{
    list *l = evaluate_items(r, &n->items, f);
    text *t = value_str(&r->m, l->items[0]);
    for (size_t i = 1; i < l->n; i++) {
        t = text_join(&r->m, t, value_str(&r->m, l->items[i]));
    }
    return STRING(t->safe ? text_borrow(&r->m, t->bytes, t->n) : t);
}

static value evaluate_comparison(renderer *r, const node *n, frame *f)
{
    value left = expression_evaluate(r, n->a, f);
    for (size_t i = 0; i < n->items.n; i++) {
        value right = expression_evaluate(r, n->items.items[i], f);
        r->m.line = n->line;
        if (!values_compare(r, n->ops[i], left, right)) {
            return BOOL(false);
        }
        left = right;
    }
    return BOOL(true);
}

static value evaluate_and_or(renderer *r, const node *n, frame *f)
{
    value a = expression_evaluate(r, n->a, f);
    return value_truth(&r->m, a) == (n->kind == N_AND) ? expression_evaluate(r, n->b, f) : a;
}

static value evaluate_operation(renderer *r, const node *n, frame *f)
{
    value a = expression_evaluate(r, n->a, f);
    value b = expression_evaluate(r, n->b, f);
    r->m.line = n->line;
    return values_operate(r, n->kind, a, b);
}

static value evaluate_kind(renderer *r, const node *n, frame *f)
{
    switch (n->kind) {
    case N_CONST:
        return n->constant;
    case N_NAME:
        return evaluate_name(r, n, f);
    case N_TUPLE:
        return tuple_value(evaluate_items(r, &n->items, f));
    case N_LIST:
        return list_value(evaluate_items(r, &n->items, f));
    case N_DICT:
        return evaluate_dict(r, n, f);
    case N_GETATTR: {
        value object = expression_evaluate(r, n->a, f);
        r->m.line = n->line;
        return attribute_get(r, object, n->name);
    }
    case N_GETITEM:
        return evaluate_getitem(r, n, f);
    case N_SLICE:
        template_fault(&r->m, "a slice among several subscripts is not supported");
    case N_CALL:
        return evaluate_call(r, n, f);
    case N_FILTER:
    case N_TEST:
        return evaluate_builtin(r, n, expression_evaluate(r, n->a, f), f);
    case N_CHOICE:
        return evaluate_choice(r, n, f);
    case N_AND:
    case N_OR:
        return evaluate_and_or(r, n, f);
    case N_NOT:
        return BOOL(!value_truth(&r->m, expression_evaluate(r, n->a, f)));
    case N_NEGATE:
    case N_PLUS:
        return value_sign(r, n->kind, expression_evaluate(r, n->a, f));
    case N_CONCAT:
        return evaluate_concat(r, n, f);
    case N_COMPARE:
        return evaluate_comparison(r, n, f);
    default:
        return evaluate_operation(r, n, f);
    }
}

value expression_evaluate(renderer *r, const node *n, frame *f)
{
    sandbox_descend(&r->m);
    sandbox_spend(&r->m, 1);
    r->m.line = n->line;
    value v = evaluate_kind(r, n, f);
    sandbox_ascend(&r->m);
    return v;
}

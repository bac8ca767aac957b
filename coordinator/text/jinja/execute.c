/*
 * execute.c - statements: output, scopes, loops and macros.
 *
 * There is one output. A block whose text is wanted as a value (set, filter, macro, call) notes
 * where the output stands, runs, and takes off what it has written. A loop asks for one item at a
 * time, so its condition sees what the body has done before.
 */
#include "coordinator/text/jinja/renderer.h"

#include <stdlib.h>
#include <string.h>

typedef enum leap { LEAP_NONE, LEAP_BREAK, LEAP_CONTINUE } leap;

static leap execute_all(renderer *r, const node_list *body, frame *f);

/* ---- output ---- */

static void output_write(renderer *r, const char *bytes, size_t n)
{
    if (n > SANDBOX_OUTPUT_MAX - r->n_output) {
        template_fault(&r->m, "the output grows over %d MiB", SANDBOX_OUTPUT_MAX >> 20);
    }
    if (r->n_output + n + 1 > r->capacity) {
        size_t capacity = (r->n_output + n + 1) * 2;
        char *more = realloc(r->output, capacity);
        if (more == NULL) {
            template_fault(&r->m, "out of memory");
        }
        r->output = more;
        r->capacity = capacity;
    }
    if (n > 0) {
        memcpy(r->output + r->n_output, bytes, n);
        r->n_output += n;
    }
    sandbox_spend(&r->m, n / 64);
}

static void output_value(renderer *r, value v)
{
    const text *t = value_str(&r->m, v);
    output_write(r, t->bytes, t->n);
}

/* Where the reference joins pieces that must be strings already. */
static void output_string(renderer *r, value v)
{
    if (v.kind != V_STRING) {
        template_fault(&r->m, "sequence item: expected str instance, %s found", type_name(v));
    }
    output_value(r, v);
}

/* Takes off what was written since the output had `mark` bytes. */
static value output_take(renderer *r, size_t mark)
{
    text *t = r->n_output == mark ? text_borrow(&r->m, "", 0)
                                  : text_copy(&r->m, r->output + mark, r->n_output - mark);
    r->n_output = mark;
    return STRING(t);
}

/* ---- scopes ---- */

static frame *frame_new(renderer *r, const scope *shape, frame *around)
{
    frame *f = TAKE(&r->m, frame, 1);
    *f = (frame){.shape = shape, .values = TAKE(&r->m, value, shape->n), .around = around};
    for (size_t i = 0; i < shape->n; i++) {
        f->values[i] = MISSING;
    }
    return f;
}

static frame *frame_enter(renderer *r, const scope *shape, frame *around)
{
    frame *f = frame_new(r, shape, around);
    frame_fill(r, f);
    return f;
}

static void field_check(renderer *r, const node *target, frame *f)
{
    for (size_t i = 0; target->kind == N_TUPLE && i < target->items.n; i++) {
        field_check(r, target->items.items[i], f);
    }
    if (target->kind == N_FIELD) {
        const value *v = frame_find(f, target->name);
        if (v == NULL || v->kind != V_NAMESPACE) {
            template_fault(&r->m, "cannot assign attribute on non-namespace object");
        }
    }
}

static void assign(renderer *r, const node *target, value v, frame *f)
{
    if (target->kind == N_NAME) {
        *frame_find(f, target->name) = v;
        return;
    }
    if (target->kind == N_FIELD) {
        const text *field = target->field;
        dict_set(&r->m, frame_find(f, target->name)->dict,
                 STRING(text_copy(&r->m, field->bytes, field->n)), v);
        return;
    }
    value *items;
    size_t n;
    if (v.kind != V_UNDEFINED && !value_is_iterable(v)) {
        template_fault(&r->m, "cannot unpack non-iterable %s object", type_name(v));
    }
    value_items(&r->m, v, &items, &n);
    if (n != target->items.n) {
        template_fault(&r->m, "%s values to unpack (expected %zu, got %zu)",
                       n < target->items.n ? "not enough" : "too many", target->items.n, n);
    }
    for (size_t i = 0; i < n; i++) {
        assign(r, target->items.items[i], items[i], f);
    }
}

/* ---- loops ---- */

static bool item_next(renderer *r, loop_state *l, value *out)
{
    while (l->next < l->n) {
        value v = l->items[l->next++];
        if (l->source != NULL) {
            l->source->next++;
        }
        sandbox_spend(&r->m, 1);
        if (l->test == NULL) {
            *out = v;
            return true;
        }
        assign(r, l->statement->a, v, l->test);
        if (value_truth(&r->m, expression_evaluate(r, l->statement->c, l->test))) {
            *out = v;
            return true;
        }
    }
    return false;
}

bool loop_peek(renderer *r, loop_state *l)
{
    if (!l->has_after) {
        l->has_after = item_next(r, l, &l->after);
    }
    return l->has_after;
}

int64_t loop_length(renderer *r, loop_state *l)
{
    if (l->length < 0 && l->test == NULL) {
        l->length = l->index0 + 1 + (l->has_after ? 1 : 0) + (int64_t)(l->n - l->next);
    }
    if (l->length < 0) { /* the condition must look at all of the rest now */
        list *rest = list_new(&r->m, 8);
        value v;
        while (item_next(r, l, &v)) {
            list_add(&r->m, rest, v);
        }
        l->items = rest->items;
        l->n = rest->n;
        l->next = 0;
        l->test = NULL;
        l->source = NULL;
        l->length = l->index0 + 1 + (l->has_after ? 1 : 0) + (int64_t)l->n;
    }
    return l->length;
}

static bool loop_advance(renderer *r, loop_state *l)
{
    value v;
    if (l->has_after) {
        v = l->after;
        l->has_after = false;
    } else if (!item_next(r, l, &v)) {
        return false;
    }
    l->index0++;
    l->before = l->current;
    l->current = v;
    return true;
}

static loop_state *loop_new(renderer *r, const node *n, value items, frame *f, int64_t depth0)
{
    loop_state *l = TAKE(&r->m, loop_state, 1);
    *l = (loop_state){.statement = n, .around = f, .index0 = -1, .length = -1, .depth0 = depth0};
    if (items.kind ==
        V_ITERATOR) { /* read item by item: others may go on where this loop breaks off */
        l->source = items.iterator;
        l->items = items.iterator->items;
        l->n = items.iterator->n;
        l->next = items.iterator->next;
    } else {
        value_items(&r->m, items, &l->items, &l->n);
    }
    l->test = n->c == NULL ? NULL : frame_enter(r, n->test_scope, f);
    return l;
}

static leap loop_run(renderer *r, const node *n, value items, frame *f, int64_t depth0)
{
    loop_state *l = loop_new(r, n, items, f, depth0);
    frame *body = frame_new(r, n->scope, f);
    bool ran = false;
    while (loop_advance(r, l)) {
        frame_fill(r, body);
        body->values[0] = (value){.kind = V_LOOP, .loop = l}; /* the scope's first name is loop */
        assign(r, n->a, l->current, body);
        leap way = execute_all(r, &n->body, body);
        if (way == LEAP_BREAK) { /* an else part belongs to loops that never finished an item */
            break;
        }
        ran = ran || way == LEAP_NONE;
    }
    if (!ran && n->other.n > 0) {
        return execute_all(r, &n->other, frame_enter(r, n->else_scope, f));
    }
    return LEAP_NONE;
}

value loop_call(renderer *r, loop_state *l, value items)
{
    if (!l->statement->is_recursive) {
        template_fault(&r->m,
                       "The loop must have the 'recursive' marker to be called recursively.");
    }
    size_t mark = r->n_output;
    int line = r->m.line;
    sandbox_descend(&r->m);
    (void)loop_run(r, l->statement, items, l->around, l->depth0 + 1);
    sandbox_ascend(&r->m);
    r->m.line = line;
    return output_take(r, mark);
}

/* ---- macros ---- */

static value macro_value(renderer *r, const node *n, frame *f, const text *name)
{
    macro *a = TAKE(&r->m, macro, 1);
    *a = (macro){.statement = n, .around = f, .name = name};
    return (value){.kind = V_MACRO, .macro = a};
}

static const char *macro_name(renderer *r, const macro *a)
{
    return a->name == NULL ? "None" : text_chars(&r->m, a->name);
}

typedef struct binding { /* arguments while a macro's parameters take them */
    const arguments *all;
    bool *taken; /* named ones */
} binding;

static value named_take(const binding *b, const text *name)
{
    for (size_t i = 0; i < b->all->n_named; i++) {
        if (!b->taken[i] && text_equal(b->all->names[i], name)) {
            b->taken[i] = true;
            return b->all->named[i];
        }
    }
    return MISSING;
}

static void named_rest(renderer *r, const macro *a, const binding *b, frame *f, const text *kwargs)
{
    dict *rest = dict_new(&r->m);
    for (size_t i = 0; i < b->all->n_named; i++) {
        const text *name = b->all->names[i];
        if (b->taken[i]) {
            continue;
        }
        if (!a->statement->uses_kwargs) {
            template_fault(
                &r->m,
                text_is(name, "caller")
                    ? "macro '%s' was invoked with two values for the special caller argument: '%s'"
                    : "macro '%s' takes no keyword argument '%s'",
                macro_name(r, a), text_chars(&r->m, name));
        }
        dict_set(&r->m, rest, STRING(text_copy(&r->m, name->bytes, name->n)), b->all->named[i]);
    }
    if (kwargs != NULL) {
        *frame_find(f, kwargs) = dict_value(rest);
    }
}

static void positional_rest(renderer *r, const macro *a, const arguments *all, frame *f,
                            const text *varargs)
{
    size_t n = a->statement->n_parameters;
    if (all->n > n && varargs == NULL) {
        template_fault(&r->m, "macro '%s' takes not more than %zu argument(s)", macro_name(r, a),
                       n);
    }
    list *rest = list_new(&r->m, 0);
    for (size_t i = n; i < all->n; i++) {
        list_add(&r->m, rest, all->positional[i]);
    }
    if (varargs != NULL) {
        *frame_find(f, varargs) = tuple_value(rest);
    }
}

static const text *shape_name(const scope *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++) {
        if (text_is(s->names[i], name)) {
            return s->names[i];
        }
    }
    return NULL;
}

static void caller_bind(renderer *r, const node *s, const binding *b, frame *f)
{
    const text *name = shape_name(s->scope, "caller");
    for (size_t i = 0; i < s->n_parameters; i++) {
        if (s->parameters[i].name == name) {
            return; /* an ordinary parameter */
        }
    }
    value caller = named_take(b, name);
    bool none = caller.kind == V_MISSING || caller.kind == V_NONE;
    *frame_find(f, name) = none ? undefined_because(&r->m, "No caller defined") : caller;
}

static void arguments_bind(renderer *r, const macro *a, const arguments *all, frame *f)
{
    const node *s = a->statement;
    binding b = {.all = all, .taken = TAKE(&r->m, bool, all->n_named)};
    memset(b.taken, 0, all->n_named * sizeof(bool));
    for (size_t i = 0; i < s->n_parameters; i++) {
        value *to = frame_find(f, s->parameters[i].name);
        *to = i < all->n ? all->positional[i] : named_take(&b, s->parameters[i].name);
    }
    if (s->uses_caller) {
        caller_bind(r, s, &b, f);
    }
    named_rest(r, a, &b, f, s->uses_kwargs ? shape_name(s->scope, "kwargs") : NULL);
    positional_rest(r, a, all, f, s->uses_varargs ? shape_name(s->scope, "varargs") : NULL);
}

static void fallbacks_bind(renderer *r, const node *s, frame *f)
{
    for (size_t i = 0; i < s->n_parameters; i++) {
        const parameter *p = &s->parameters[i];
        value *to = frame_find(f, p->name);
        if (to->kind == V_MISSING && p->fallback != NULL) {
            *to = expression_evaluate(r, p->fallback, f);
        } else if (to->kind == V_MISSING) {
            builder b = {0};
            build_string(&r->m, &b, "parameter ");
            build_repr(&r->m, &b, STRING(text_copy(&r->m, p->name->bytes, p->name->n)));
            build_string(&r->m, &b, " was not provided");
            *to = undefined_because(&r->m, text_chars(&r->m, build_end(&r->m, &b)));
        }
    }
}

static value macro_call(renderer *r, const macro *a, const arguments *all)
{
    frame *f = frame_enter(r, a->statement->scope, a->around);
    int line = r->m.line;
    size_t mark = r->n_output;
    arguments_bind(r, a, all, f);
    fallbacks_bind(r, a->statement, f);
    (void)execute_all(r, &a->statement->body, f);
    r->m.line = line;
    return output_take(r, mark);
}

static value joiner_call(cycler *c)
{
    bool used = c->position > 0;
    static text nothing = {.bytes = "", .n = 0, .n_chars = 0};
    c->position = 1;
    return used ? c->items.items[0] : STRING(&nothing);
}

value value_call(renderer *r, value callee, const arguments *all)
{
    switch (callee.kind) {
    case V_MACRO:
        return macro_call(r, callee.macro, all);
    case V_METHOD:
        return marked_like(r, callee.method->self,
                           builtin_call(r, callee.method->code, callee.method->self, all));
    case V_FUNCTION:
        return builtin_call(r, &callee.function->code, MISSING, all);
    case V_LOOP:
        if (all->n != 1 || all->n_named != 0) {
            template_fault(&r->m, "loop() takes one argument");
        }
        return loop_call(r, callee.loop, all->positional[0]);
    case V_JOINER:
        return joiner_call(callee.cycler);
    case V_UNDEFINED:
        undefined_fault(&r->m, callee);
    default:
        template_fault(&r->m, "'%s' object is not callable", type_name(callee));
    }
}

/* ---- statements ---- */

/* The text that a block's body writes; a leap out of it loses the text. */
static leap block_text(renderer *r, const node *n, frame *inner, value *out)
{
    size_t mark = r->n_output;
    leap way = execute_all(r, &n->body, inner);
    *out = output_take(r, mark);
    return way;
}

static leap execute_set_text(renderer *r, const node *n, frame *f)
{
    frame *inner = frame_enter(r, n->scope, f);
    value v;
    leap way = block_text(r, n, inner, &v);
    if (way == LEAP_NONE) {
        v = n->b == NULL ? v : filter_apply(r, n->b, v, inner);
        field_check(r, n->a, f);
        assign(r, n->a, v, f);
    }
    return way;
}

static leap execute_filtered(renderer *r, const node *n, frame *f)
{
    frame *inner = frame_enter(r, n->scope, f);
    value v;
    leap way = block_text(r, n, inner, &v);
    if (way == LEAP_NONE) {
        output_string(r, filter_apply(r, n->a, v, inner));
    }
    return way;
}

static leap execute_with(renderer *r, const node *n, frame *f)
{
    frame *inner = frame_enter(r, n->scope, f);
    for (size_t i = 0; i + 1 < n->items.n; i += 2) {
        assign(r, n->items.items[i], expression_evaluate(r, n->items.items[i + 1], f), inner);
    }
    return execute_all(r, &n->body, inner);
}

/* A call with one more named argument: the block as `caller`. */
static void execute_caller(renderer *r, const node *n, frame *f)
{
    value callee = expression_evaluate(r, n->a->a, f);
    arguments all = arguments_evaluate(r, n->a->call, f);
    arguments with = all;
    static const text caller_name = {.bytes = "caller", .n = 6, .n_chars = 6};
    with.names = TAKE(&r->m, const text *, all.n_named + 1);
    with.named = TAKE(&r->m, value, all.n_named + 1);
    for (size_t i = 0; i < all.n_named; i++) {
        with.names[i] = all.names[i];
        with.named[i] = all.named[i];
    }
    with.names[all.n_named] = &caller_name;
    with.named[all.n_named] = macro_value(r, n, f, NULL);
    with.n_named = all.n_named + 1;
    r->m.line = n->line;
    output_string(r, value_call(r, callee, &with));
}

static leap execute_if(renderer *r, const node *n, frame *f)
{
    return execute_all(
        r, value_truth(&r->m, expression_evaluate(r, n->a, f)) ? &n->body : &n->other, f);
}

static void execute_print(renderer *r, const node *n, frame *f)
{
    for (size_t i = 0; i < n->items.n; i++) {
        output_value(r, expression_evaluate(r, n->items.items[i], f));
    }
}

static void execute_set(renderer *r, const node *n, frame *f)
{
    field_check(r, n->a, f);
    value v = expression_evaluate(r, n->b, f);
    r->m.line = n->line;
    assign(r, n->a, v, f);
}

static leap execute(renderer *r, const node *n, frame *f)
{
    switch (n->kind) {
    case N_DATA:
        output_write(r, n->constant.string->bytes, n->constant.string->n);
        return LEAP_NONE;
    case N_PRINT:
        execute_print(r, n, f);
        return LEAP_NONE;
    case N_IF:
        return execute_if(r, n, f);
    case N_FOR:
        return loop_run(r, n, expression_evaluate(r, n->b, f), f, 0);
    case N_SET:
        execute_set(r, n, f);
        return LEAP_NONE;
    case N_SET_TEXT:
        return execute_set_text(r, n, f);
    case N_MACRO:
        *frame_find(f, n->name) = macro_value(r, n, f, n->name);
        return LEAP_NONE;
    case N_CALLER:
        execute_caller(r, n, f);
        return LEAP_NONE;
    case N_GENERATION:
        return execute_all(r, &n->body, frame_enter(r, n->scope, f));
    case N_FILTERED:
        return execute_filtered(r, n, f);
    case N_WITH:
        return execute_with(r, n, f);
    case N_BREAK:
        return LEAP_BREAK;
    case N_CONTINUE:
        return LEAP_CONTINUE;
    default:
        template_fault(&r->m, "a statement of an unknown kind");
    }
}

static leap execute_all(renderer *r, const node_list *body, frame *f)
{
    leap way = LEAP_NONE;
    sandbox_descend(&r->m);
    for (size_t i = 0; i < body->n && way == LEAP_NONE; i++) {
        r->m.line = body->items[i]->line;
        sandbox_spend(&r->m, 1);
        way = execute(r, body->items[i], f);
    }
    sandbox_ascend(&r->m);
    return way;
}

void tree_render(renderer *r, const tree *t)
{
    frame *root = frame_enter(r, t->scope, NULL);
    (void)execute_all(r, &t->body, root);
    output_write(r, "", 0); /* so that there is a buffer */
}

void renderer_free(renderer *r)
{
    free(r->output);
    r->output = NULL;
    sandbox_free(&r->m);
}

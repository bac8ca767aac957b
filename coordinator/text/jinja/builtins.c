/*
 * builtins.c - binding arguments to a builtin's parameters.
 */
#include "coordinator/text/jinja/renderer.h"

#include <string.h>

typedef struct parameter_list {
    struct {
        const char *name;
        size_t n;
        bool optional, positional_only;
    } items[PARAMETERS_MAX];
    size_t n;
    bool any; /* "*" */
} parameter_list;

static parameter_list parameters_read(const char *s)
{
    parameter_list p = {0};
    while (*s != '\0') {
        size_t n = strcspn(s, " ");
        if (n == 1 && *s == '*') {
            p.any = true;
        } else if (p.n < PARAMETERS_MAX) {
            bool positional = *s == '-';
            bool optional = s[n - 1] == '?';
            p.items[p.n].name = s + positional;
            p.items[p.n].n = n - positional - optional;
            p.items[p.n].optional = optional;
            p.items[p.n++].positional_only = positional;
        }
        s += n;
        s += strspn(s, " ");
    }
    return p;
}

static void named_bind(renderer *r, const builtin *b, const parameter_list *p, const text *name,
                       value v, value *bound)
{
    for (size_t i = 0; i < p->n; i++) {
        if (p->items[i].positional_only || name->n != p->items[i].n ||
            memcmp(name->bytes, p->items[i].name, name->n) != 0) {
            continue;
        }
        if (bound[i].kind != V_MISSING) {
            template_fault(&r->m, "%s() got multiple values for argument '%s'", b->name,
                           text_chars(&r->m, name));
        }
        bound[i] = v;
        return;
    }
    template_fault(&r->m, "%s() got an unexpected keyword argument '%s'", b->name,
                   text_chars(&r->m, name));
}

value marked_like(renderer *r, value subject, value v)
{
    if (subject.kind != V_STRING || !subject.string->safe) {
        return v;
    }
    if (v.kind == V_STRING && !v.string->safe) {
        text *marked = text_borrow(&r->m, v.string->bytes, v.string->n);
        marked->safe = true;
        return STRING(marked);
    }
    for (size_t i = 0; (v.kind == V_LIST || v.kind == V_TUPLE) && i < v.list->n; i++) {
        if (v.list->items[i].kind == V_STRING) {
            v.list->items[i] = marked_like(r, subject, v.list->items[i]);
        }
    }
    return v;
}

value builtin_call(renderer *r, const builtin *b, value subject, const arguments *all)
{
    parameter_list p = parameters_read(b->parameters);
    value bound[PARAMETERS_MAX] = {0}; /* V_MISSING is zero */
    sandbox_descend(&r->m);
    sandbox_spend(&r->m, 1);
    if (!p.any) {
        if (all->n > p.n) {
            template_fault(&r->m, "%s() takes at most %zu argument(s) (%zu given)", b->name, p.n,
                           all->n);
        }
        for (size_t i = 0; i < all->n; i++) {
            bound[i] = all->positional[i];
        }
        for (size_t i = 0; i < all->n_named; i++) {
            named_bind(r, b, &p, all->names[i], all->named[i], bound);
        }
        for (size_t i = 0; i < p.n; i++) {
            if (bound[i].kind == V_MISSING && !p.items[i].optional) {
                template_fault(&r->m, "%s() missing required argument: '%.*s'", b->name,
                               (int)p.items[i].n, p.items[i].name);
            }
        }
    }
    value v = b->code(r, subject, bound, all);
    sandbox_ascend(&r->m);
    return v;
}

bool argument_given(value v)
{
    return v.kind != V_MISSING;
}

const text *argument_text(renderer *r, value v, const char *what)
{
    if (v.kind == V_UNDEFINED) {
        undefined_fault(&r->m, v);
    }
    if (v.kind != V_STRING) {
        template_fault(&r->m, "%s must be str, not %s", what, type_name(v));
    }
    return v.string;
}

int64_t argument_integer(renderer *r, value v, const char *what)
{
    if (v.kind == V_UNDEFINED) {
        undefined_fault(&r->m, v);
    }
    if (!value_is_integral(v)) {
        template_fault(&r->m, "%s: '%s' object cannot be interpreted as an integer", what,
                       type_name(v));
    }
    return value_integer(v);
}

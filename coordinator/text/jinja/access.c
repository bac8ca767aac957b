/*
 * access.c - obj.name, obj[key], obj[a:b:c] and calls, as the reference's sandbox does them.
 *
 * A dot looks for an attribute first and for a key then, brackets the other way round; what is not
 * there is undefined, and looking into something undefined is a fault.
 */
#include "coordinator/text/jinja/renderer.h"

/* ---- attributes that are no methods ---- */

static bool peek_is(const text *name, const char *what, value *out, value v)
{
    if (text_is(name, what)) {
        *out = v;
        return true;
    }
    return false;
}

static value loop_attribute(renderer *r, loop_state *l, const text *name)
{
    value v = MISSING;
    if (peek_is(name, "index", &v, INT(l->index0 + 1)) ||
        peek_is(name, "index0", &v, INT(l->index0)) ||
        peek_is(name, "first", &v, BOOL(l->index0 == 0)) ||
        peek_is(name, "depth", &v, INT(l->depth0 + 1)) ||
        peek_is(name, "depth0", &v, INT(l->depth0))) {
        return v;
    }
    if (text_is(name, "last")) {
        return BOOL(!loop_peek(r, l));
    }
    if (text_is(name, "length")) {
        return INT(loop_length(r, l));
    }
    if (text_is(name, "revindex")) {
        return INT(loop_length(r, l) - l->index0);
    }
    if (text_is(name, "revindex0")) {
        return INT(loop_length(r, l) - l->index0 - 1);
    }
    if (text_is(name, "previtem")) {
        return l->index0 == 0 ? undefined_because(&r->m, "there is no previous item") : l->before;
    }
    if (text_is(name, "nextitem")) {
        return loop_peek(r, l) ? l->after : undefined_because(&r->m, "there is no next item");
    }
    return v;
}

static value macro_attribute(renderer *r, const macro *a, const text *name)
{
    value v = MISSING;
    const node *s = a->statement;
    if (text_is(name, "name")) {
        return a->name == NULL ? NONE : STRING(text_copy(&r->m, a->name->bytes, a->name->n));
    }
    if (text_is(name, "arguments")) {
        list *l = list_new(&r->m, s->n_parameters);
        for (size_t i = 0; i < s->n_parameters; i++) {
            const text *p = s->parameters[i].name;
            list_add(&r->m, l, STRING(text_copy(&r->m, p->bytes, p->n)));
        }
        return tuple_value(l);
    }
    (void)(peek_is(name, "caller", &v, BOOL(s->uses_caller)) ||
           peek_is(name, "catch_kwargs", &v, BOOL(s->uses_kwargs)) ||
           peek_is(name, "catch_varargs", &v, BOOL(s->uses_varargs)));
    return v;
}

static value plain_attribute(renderer *r, value object, const text *name)
{
    value v = MISSING;
    switch (object.kind) {
    case V_LOOP:
        return loop_attribute(r, object.loop, name);
    case V_MACRO:
        return macro_attribute(r, object.macro, name);
    case V_NAMESPACE: {
        value *found = dict_find_named(&r->m, object.dict, name);
        return found == NULL ? MISSING : *found;
    }
    case V_TUPLE:
        if (object.list->is_group) {
            (void)(peek_is(name, "grouper", &v, object.list->items[0]) ||
                   peek_is(name, "list", &v, object.list->items[1]));
        }
        return v;
    case V_RANGE:
        (void)(peek_is(name, "start", &v, INT(object.range->start)) ||
               peek_is(name, "stop", &v, INT(object.range->stop)) ||
               peek_is(name, "step", &v, INT(object.range->step)));
        return v;
    case V_BOOL:
    case V_INT:
        (void)(peek_is(name, "real", &v, INT(value_integer(object))) ||
               peek_is(name, "numerator", &v, INT(value_integer(object))) ||
               peek_is(name, "imag", &v, INT(0)) || peek_is(name, "denominator", &v, INT(1)));
        return v;
    case V_FLOAT:
        (void)(peek_is(name, "real", &v, object) || peek_is(name, "imag", &v, FLOAT(0)));
        return v;
    case V_CYCLER:
        (void)peek_is(name, "current", &v, object.cycler->items.items[object.cycler->position]);
        return v;
    default:
        return v;
    }
}

/* Attribute or method, MISSING where there is neither. */
static value attribute_find(renderer *r, value object, const text *name)
{
    value v = plain_attribute(r, object, name);
    return v.kind != V_MISSING ? v : method_find(r, object, name);
}

static bool is_dunder(const text *name)
{
    return name->n >= 4 && name->bytes[0] == '_' && name->bytes[1] == '_' &&
           name->bytes[name->n - 1] == '_' && name->bytes[name->n - 2] == '_';
}

static value name_value(renderer *r, const text *name)
{
    return STRING(text_copy(&r->m, name->bytes, name->n));
}

/* Subscription without the fall back to attributes; MISSING where Python would raise. */
static value subscript(renderer *r, value object, value key)
{
    sandbox *m = &r->m;
    if (object.kind == V_DICT) {
        value *found = value_is_hashable(m, key) ? dict_find(m, object.dict, key) : NULL;
        return found == NULL ? MISSING : *found;
    }
    if (!value_is_integral(key)) {
        return MISSING;
    }
    int64_t i = value_integer(key);
    int64_t n = object.kind == V_VIEW ? -1 : value_length(m, object);
    if (n < 0 || i < -n || i >= n) {
        return MISSING;
    }
    i = i < 0 ? i + n : i;
    switch (object.kind) {
    case V_STRING:
        return marked_like(r, object, STRING(text_part(m, object.string, i, i + 1)));
    case V_LIST:
    case V_TUPLE:
        return object.list->items[i];
    case V_RANGE:
        return INT(object.range->start + i * object.range->step);
    default:
        return MISSING;
    }
}

value attribute_get(renderer *r, value object, const text *name)
{
    if (object.kind == V_UNDEFINED) {
        if (is_dunder(name)) {
            return undefined_in(&r->m, object, name_value(r, name));
        }
        undefined_fault(&r->m, object);
    }
    value v = attribute_find(r, object, name);
    if (v.kind == V_MISSING && object.kind == V_DICT) {
        value *found = dict_find_named(&r->m, object.dict, name);
        v = found == NULL ? MISSING : *found;
    }
    return v.kind == V_MISSING ? undefined_in(&r->m, object, name_value(r, name)) : v;
}

value item_get(renderer *r, value object, value key)
{
    if (object.kind == V_UNDEFINED) {
        undefined_fault(&r->m, object);
    }
    value v = subscript(r, object, key);
    if (v.kind == V_MISSING && key.kind == V_STRING) {
        v = attribute_find(r, object, key.string);
    }
    return v.kind == V_MISSING ? undefined_in(&r->m, object, key) : v;
}

/* ---- slices ---- */

static int64_t slice_bound(renderer *r, value v, int64_t fallback)
{
    if (v.kind == V_MISSING || v.kind == V_NONE) {
        return fallback;
    }
    if (v.kind == V_BIG) { /* beyond every end */
        return v.string->bytes[0] == '-' ? INT64_MIN / 2 : INT64_MAX / 2;
    }
    if (!value_is_integral(v)) {
        if (v.kind == V_UNDEFINED) {
            template_fault(&r->m, "slice indices must be integers or None, not undefined: %s",
                           undefined_sentence(&r->m, v));
        }
        template_fault(&r->m, "slice indices must be integers or None, not %s", type_name(v));
    }
    return value_integer(v);
}

static int64_t slice_clip(int64_t i, int64_t n, int64_t low, int64_t high)
{
    i = i < 0 ? (i < -n ? low : i + n) : i;
    return i < low ? low : i > high ? high : i;
}

static value text_slice(sandbox *m, text *t, int64_t start, int64_t stop, int64_t step)
{
    if (step == 1) {
        return STRING(text_part(m, t, start, stop));
    }
    if (step == -1 && stop < start) {
        return STRING(text_reversed(m, text_part(m, t, stop + 1, start + 1)));
    }
    builder b = {0};
    value *chars;
    size_t n;
    value_items(m, STRING(t), &chars, &n);
    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
        build_text(m, &b, chars[i].string);
    }
    return STRING(build_end(m, &b));
}

static int64_t range_at(sandbox *m, const range *g, int64_t i)
{
    int64_t at;
    if (__builtin_mul_overflow(g->step, i, &at) || __builtin_add_overflow(g->start, at, &at)) {
        template_fault(m, "a range beyond 64 bits");
    }
    return at;
}

static value range_slice(sandbox *m, const range *from, int64_t first, int64_t last, int64_t by)
{
    range *g = TAKE(m, range, 1);
    g->start = range_at(m, from, first);
    g->stop = range_at(m, from, last);
    g->step = range_at(m, &(range){.step = from->step}, by);
    g->n = by > 0 ? (last - first + by - 1) / by : (first - last - by - 1) / -by;
    g->n = g->n < 0 ? 0 : g->n;
    return (value){.kind = V_RANGE, .range = g};
}

value slice_get(renderer *r, value object, value start, value stop, value step)
{
    sandbox *m = &r->m;
    if (object.kind == V_UNDEFINED) {
        undefined_fault(m, object);
    }
    int64_t n = value_length(m, object);
    if (object.kind == V_DICT) {
        template_fault(m, "unhashable type: 'slice'");
    }
    if (n < 0 || object.kind == V_VIEW) {
        template_fault(m, "'%s' object cannot be sliced", type_name(object));
    }
    int64_t by = slice_bound(r, step, 1);
    if (by == 0) {
        template_fault(m, "slice step cannot be zero");
    }
    int64_t low = by > 0 ? 0 : -1, high = by > 0 ? n : n - 1;
    int64_t first = slice_clip(slice_bound(r, start, by > 0 ? low : high), n, low, high);
    int64_t last = stop.kind == V_MISSING || stop.kind == V_NONE
                       ? (by > 0 ? high : low)
                       : slice_clip(slice_bound(r, stop, 0), n, low, high);
    by = by > n ? n + 1 : by < -n ? -n - 1 : by;
    if (object.kind == V_STRING) {
        return marked_like(r, object, text_slice(m, object.string, first, last, by));
    }
    if (object.kind == V_RANGE) {
        return range_slice(m, object.range, first, last, by);
    }
    list *l = list_new(m, 4);
    for (int64_t i = first; by > 0 ? i < last : i > last; i += by) {
        list_add(m, l, object.list->items[i]);
    }
    return (value){.kind = object.kind, .list = l};
}

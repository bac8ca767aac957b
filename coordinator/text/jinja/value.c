/*
 * value.c - making values, and what Python's data model asks of all of them: truth, equality,
 * order, length, containment, iteration.
 *
 * Dicts keep their entries in order of insertion; small ones are searched from the front, larger
 * ones through a table of slots. 1, 1.0 and True are one key, as in Python.
 */
#include "coordinator/text/jinja/value.h"

#include "common/hash.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- undefined ---- */

static value undefined_new(sandbox *m, undefined u)
{
    undefined *p = TAKE(m, undefined, 1);
    *p = u;
    return (value){.kind = V_UNDEFINED, .undefined = p};
}

value undefined_named(sandbox *m, value name)
{
    return undefined_new(m, (undefined){.name = name});
}

value undefined_because(sandbox *m, const char *hint)
{
    return undefined_new(m, (undefined){.hint = hint, .name = NONE});
}

value undefined_in(sandbox *m, value object, value name)
{
    return undefined_new(m,
                         (undefined){.of_object = true, .object_kind = object.kind, .name = name});
}

const char *undefined_sentence(sandbox *m, value v)
{
    const undefined *u = v.undefined;
    builder b = {0};
    if (u->hint != NULL) {
        return u->hint;
    }
    if (!u->of_object) {
        build_repr(m, &b, u->name);
        build_string(m, &b, " is undefined");
    } else {
        bool named = u->name.kind == V_STRING;
        build_string(m, &b, named ? "'" : "");
        build_string(
            m, &b, u->object_kind == V_NONE ? "None" : type_name((value){.kind = u->object_kind}));
        build_string(m, &b, u->object_kind == V_NONE ? "" : " object");
        build_string(m, &b, named ? "' has no attribute " : " has no element ");
        build_repr(m, &b, u->name);
    }
    return text_chars(m, build_end(m, &b));
}

void undefined_fault(sandbox *m, value v)
{
    template_fault(m, "%s", undefined_sentence(m, v));
}

/* ---- kinds ---- */

const char *type_name(value v)
{
    static const char *const names[] = {
        [V_MISSING] = "missing",
        [V_UNDEFINED] = "Undefined",
        [V_NONE] = "NoneType",
        [V_BOOL] = "bool",
        [V_INT] = "int",
        [V_BIG] = "int",
        [V_FLOAT] = "float",
        [V_STRING] = "str",
        [V_LIST] = "list",
        [V_TUPLE] = "tuple",
        [V_DICT] = "dict",
        [V_VIEW] = "dict view",
        [V_RANGE] = "range",
        [V_ITERATOR] = "generator",
        [V_NAMESPACE] = "Namespace",
        [V_LOOP] = "LoopContext",
        [V_MACRO] = "Macro",
        [V_FUNCTION] = "function",
        [V_METHOD] = "builtin_function_or_method",
        [V_CYCLER] = "Cycler",
        [V_JOINER] = "Joiner",
    };
    return names[v.kind];
}

bool value_is_integral(value v)
{
    return v.kind == V_BOOL || v.kind == V_INT;
}

bool value_is_number(value v)
{
    return value_is_integral(v) || v.kind == V_BIG || v.kind == V_FLOAT;
}

int64_t value_integer(value v)
{
    return v.kind == V_BOOL ? (int64_t)v.truth : v.integer;
}

double value_real(sandbox *m, value v)
{
    if (v.kind == V_BIG) {
        return strtod(text_chars(m, v.string), NULL);
    }
    return v.kind == V_FLOAT ? v.real : (double)value_integer(v);
}

value integer_parse(sandbox *m, const char *digits, size_t n)
{
    bool negative = n > 0 && digits[0] == '-';
    size_t i = negative;
    while (i + 1 < n && digits[i] == '0') {
        i++;
    }
    size_t first = i;
    uint64_t magnitude = 0;
    uint64_t largest = (uint64_t)INT64_MAX + (negative ? 1 : 0);
    for (; i < n; i++) {
        uint64_t digit = (uint64_t)(digits[i] - '0');
        if (magnitude > (largest - digit) / 10) {
            if (n - first > 4300) { /* Python's own limit */
                template_fault(m, "an integer of more than 4300 digits");
            }
            builder b = {0};
            build_string(m, &b, negative ? "-" : "");
            build_bytes(m, &b, digits + first, n - first);
            return (value){.kind = V_BIG, .string = build_end(m, &b)};
        }
        magnitude = magnitude * 10 + digit;
    }
    return INT(negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude);
}

/* ---- lists ---- */

list *list_new(sandbox *m, size_t capacity)
{
    list *l = TAKE(m, list, 1);
    *l = (list){.items = TAKE(m, value, capacity), .capacity = capacity};
    return l;
}

void list_add(sandbox *m, list *l, value v)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity < 4 ? 8 : l->capacity * 2;
        value *items = TAKE(m, value, capacity);
        if (l->n > 0) {
            memcpy(items, l->items, l->n * sizeof *items);
        }
        l->items = items;
        l->capacity = capacity;
    }
    l->items[l->n++] = v;
    sandbox_spend(m, 1);
}

value list_value(list *l)
{
    return (value){.kind = V_LIST, .list = l};
}

value tuple_value(list *l)
{
    return (value){.kind = V_TUPLE, .list = l};
}

value pair_value(sandbox *m, value a, value b)
{
    list *l = list_new(m, 2);
    list_add(m, l, a);
    list_add(m, l, b);
    return tuple_value(l);
}

value iterator_value(sandbox *m, list *items, const char *type)
{
    iterator *it = TAKE(m, iterator, 1);
    *it = (iterator){.items = items->items, .n = items->n, .type = type};
    return (value){.kind = V_ITERATOR, .iterator = it};
}

/* ---- dicts ---- */

enum { DICT_SMALL_MAX = 8 };

static uint64_t hash_text(const char *bytes, size_t n)
{
    uint64_t h = hash_bytes(HASH_START, bytes, n);
    return h ^ h >> 29;
}

static uint64_t hash_integer(int64_t i)
{
    uint64_t h = (uint64_t)i * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

static bool real_is_integer(double x)
{
    return x >= -9223372036854775808.0 && x < 9223372036854775808.0 && x == floor(x);
}

bool value_is_hashable(sandbox *m, value v)
{
    if (v.kind == V_TUPLE) {
        bool hashable = true;
        sandbox_descend(m);
        for (size_t i = 0; i < v.list->n && hashable; i++) {
            hashable = value_is_hashable(m, v.list->items[i]);
        }
        sandbox_ascend(m);
        return hashable;
    }
    return v.kind != V_LIST && v.kind != V_DICT && v.kind != V_VIEW;
}

static uint64_t hash_value(sandbox *m, value v)
{
    switch (v.kind) {
    case V_STRING:
        sandbox_spend(m, v.string->n / 64);
        return hash_text(v.string->bytes, v.string->n);
    case V_BIG:
        return hash_text(v.string->bytes, v.string->n);
    case V_BOOL:
    case V_INT:
        return hash_integer(value_integer(v));
    case V_FLOAT:
        return real_is_integer(v.real) ? hash_integer((int64_t)v.real)
                                       : hash_text((const char *)&v.real, sizeof v.real);
    case V_TUPLE: {
        uint64_t h = 17;
        sandbox_descend(m);
        for (size_t i = 0; i < v.list->n; i++) {
            h = h * 31 + hash_value(m, v.list->items[i]);
        }
        sandbox_ascend(m);
        return h;
    }
    case V_LIST:
    case V_DICT:
    case V_VIEW:
        template_fault(m, "unhashable type: '%s'", type_name(v));
    default:
        return (uint64_t)v.kind; /* rare as keys: found by comparing */
    }
}

dict *dict_new(sandbox *m)
{
    dict *d = TAKE(m, dict, 1);
    *d = (dict){0};
    return d;
}

value dict_value(dict *d)
{
    return (value){.kind = V_DICT, .dict = d};
}

static dict_entry *entry_find(sandbox *m, const dict *d, value key, uint64_t hash)
{
    if (d->slots == NULL) {
        for (size_t i = 0; i < d->n; i++) {
            if (d->entries[i].hash == hash && value_equal(m, d->entries[i].key, key)) {
                return &d->entries[i];
            }
        }
        return NULL;
    }
    for (size_t at = hash & (d->n_slots - 1); d->slots[at] != 0; at = (at + 1) & (d->n_slots - 1)) {
        dict_entry *e = &d->entries[d->slots[at] - 1];
        sandbox_spend(m, 1);
        if (e->hash == hash && value_equal(m, e->key, key)) {
            return e;
        }
    }
    return NULL;
}

static void slot_fill(dict *d, size_t entry)
{
    size_t at = d->entries[entry].hash & (d->n_slots - 1);
    while (d->slots[at] != 0) {
        at = (at + 1) & (d->n_slots - 1);
    }
    d->slots[at] = (uint32_t)entry + 1;
}

static void dict_grow(sandbox *m, dict *d)
{
    size_t capacity = d->capacity == 0 ? 4 : d->capacity * 2;
    dict_entry *entries = TAKE(m, dict_entry, capacity);
    if (d->n > 0) {
        memcpy(entries, d->entries, d->n * sizeof *entries);
    }
    d->entries = entries;
    d->capacity = capacity;
    if (capacity > DICT_SMALL_MAX) {
        d->n_slots = capacity * 2;
        d->slots = TAKE(m, uint32_t, d->n_slots);
        memset(d->slots, 0, d->n_slots * sizeof *d->slots);
        for (size_t i = 0; i < d->n; i++) {
            slot_fill(d, i);
        }
    }
}

void dict_set(sandbox *m, dict *d, value key, value content)
{
    uint64_t hash = hash_value(m, key);
    dict_entry *e = entry_find(m, d, key, hash);
    if (e != NULL) {
        e->content = content;
        return;
    }
    if (d->n == d->capacity) {
        dict_grow(m, d);
    }
    d->entries[d->n] = (dict_entry){key, content, hash};
    if (d->slots != NULL) {
        slot_fill(d, d->n);
    }
    d->n++;
    sandbox_spend(m, 1);
}

void dict_set_named(sandbox *m, dict *d, const char *key, value content)
{
    dict_set(m, d, STRING(text_of(m, key)), content);
}

value *dict_find(sandbox *m, const dict *d, value key)
{
    dict_entry *e = entry_find(m, d, key, hash_value(m, key));
    return e == NULL ? NULL : &e->content;
}

value *dict_find_named(sandbox *m, const dict *d, const text *key)
{
    text copy = *key;
    return dict_find(m, d, STRING(&copy));
}

/* ---- truth, length, iteration ---- */

int64_t value_length(sandbox *m, value v)
{
    (void)m;
    switch (v.kind) {
    case V_UNDEFINED:
        return 0;
    case V_STRING:
        return text_length(v.string);
    case V_LIST:
    case V_TUPLE:
        return (int64_t)v.list->n;
    case V_DICT:
        return (int64_t)v.dict->n;
    case V_VIEW:
        return (int64_t)v.view->of->n;
    case V_RANGE:
        return v.range->n;
    default:
        return -1;
    }
}

bool value_truth(sandbox *m, value v)
{
    switch (v.kind) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE:
        return false;
    case V_BOOL:
        return v.truth;
    case V_INT:
        return v.integer != 0;
    case V_FLOAT:
        return v.real != 0;
    case V_STRING:
        return v.string->n > 0;
    default: {
        int64_t n = value_length(m, v);
        return n != 0; /* things without a length are true */
    }
    }
}

bool value_is_iterable(value v)
{
    return v.kind == V_UNDEFINED || v.kind == V_STRING ||
           (v.kind >= V_LIST && v.kind <= V_ITERATOR);
}

static list *string_items(sandbox *m, const text *t)
{
    list *l = list_new(m, t->n);
    for (size_t i = 0; i < t->n;) {
        size_t start = i;
        (void)char_next(t->bytes, t->n, &i);
        text *c = text_borrow(m, t->bytes + start, i - start);
        c->n_chars = 1;
        list_add(m, l, STRING(c));
    }
    return l;
}

static list *dict_items(sandbox *m, const dict *d, view_kind kind)
{
    list *l = list_new(m, d->n);
    for (size_t i = 0; i < d->n; i++) {
        const dict_entry *e = &d->entries[i];
        list_add(m, l,
                 kind == VIEW_KEYS     ? e->key
                 : kind == VIEW_VALUES ? e->content
                                       : pair_value(m, e->key, e->content));
    }
    return l;
}

static list *range_items(sandbox *m, const range *r)
{
    list *l = list_new(m, (size_t)r->n);
    for (int64_t i = 0; i < r->n; i++) {
        list_add(m, l, INT(r->start + i * r->step));
    }
    return l;
}

void value_items(sandbox *m, value v, value **items, size_t *n)
{
    list *l = NULL;
    switch (v.kind) {
    case V_UNDEFINED:
        *items = NULL;
        *n = 0;
        return;
    case V_LIST:
    case V_TUPLE:
        l = v.list;
        break;
    case V_STRING:
        l = string_items(m, v.string);
        break;
    case V_DICT:
        l = dict_items(m, v.dict, VIEW_KEYS);
        break;
    case V_VIEW:
        l = dict_items(m, v.view->of, v.view->kind);
        break;
    case V_RANGE:
        l = range_items(m, v.range);
        break;
    case V_ITERATOR:
        *items = v.iterator->items + v.iterator->next;
        *n = v.iterator->n - v.iterator->next;
        v.iterator->next = v.iterator->n;
        return;
    default:
        template_fault(m, "'%s' object is not iterable", type_name(v));
    }
    *items = l->items;
    *n = l->n;
}

/* ---- equality and order ---- */

/* -1, 0, 1 for a below, equal to, above b; exact, where a conversion to double would round. */
static int integer_real_compare(int64_t a, double b)
{
    if (b >= 9223372036854775808.0) {
        return -1;
    }
    if (b < -9223372036854775808.0) {
        return 1;
    }
    int64_t whole = (int64_t)b; /* towards zero */
    if (a != whole) {
        return a < whole ? -1 : 1;
    }
    double rest = b - (double)whole;
    return rest > 0 ? -1 : rest < 0 ? 1 : 0;
}

/* Like that for numbers; 2 where one of them is not a number (NaN). */
static int number_compare(sandbox *m, value a, value b)
{
    if (a.kind == V_BIG || b.kind == V_BIG) {
        template_fault(m, "comparing integers of more than 64 bits is not supported");
    }
    if ((a.kind == V_FLOAT && isnan(a.real)) || (b.kind == V_FLOAT && isnan(b.real))) {
        return 2;
    }
    if (a.kind == V_FLOAT && b.kind == V_FLOAT) {
        return (a.real > b.real) - (a.real < b.real);
    }
    if (a.kind == V_FLOAT) {
        return -integer_real_compare(value_integer(b), a.real);
    }
    if (b.kind == V_FLOAT) {
        return integer_real_compare(value_integer(a), b.real);
    }
    int64_t x = value_integer(a), y = value_integer(b);
    return (x > y) - (x < y);
}

bool value_same(value a, value b)
{
    if (a.kind != b.kind) {
        return false;
    }
    switch (a.kind) {
    case V_NONE:
        return true;
    case V_BOOL:
        return a.truth == b.truth;
    case V_INT:
        return a.integer == b.integer;
    case V_FLOAT:
        return false;
    case V_STRING:
        return text_equal(a.string, b.string);
    default:
        return a.list == b.list;
    }
}

static bool lists_equal(sandbox *m, const list *a, const list *b)
{
    bool equal = a->n == b->n;
    for (size_t i = 0; i < a->n && equal; i++) {
        equal = value_equal(m, a->items[i], b->items[i]);
    }
    return equal;
}

static bool dicts_equal(sandbox *m, const dict *a, const dict *b)
{
    bool equal = a->n == b->n;
    for (size_t i = 0; i < a->n && equal; i++) {
        const value *other = dict_find(m, b, a->entries[i].key);
        equal = other != NULL && value_equal(m, a->entries[i].content, *other);
    }
    return equal;
}

static bool ranges_equal(const range *a, const range *b)
{
    return a->n == b->n &&
           (a->n == 0 || (a->start == b->start && (a->n == 1 || a->step == b->step)));
}

static bool contents_equal(sandbox *m, value a, value b)
{
    switch (a.kind) {
    case V_NONE:
    case V_UNDEFINED:
        return true;
    case V_STRING:
        sandbox_spend(m, a.string->n / 64);
        return text_equal(a.string, b.string);
    case V_LIST:
    case V_TUPLE:
        return lists_equal(m, a.list, b.list);
    case V_DICT:
        return dicts_equal(m, a.dict, b.dict);
    case V_RANGE:
        return ranges_equal(a.range, b.range);
    default:
        return a.list == b.list;
    }
}

bool value_equal(sandbox *m, value a, value b)
{
    sandbox_spend(m, 1);
    if (value_is_number(a) && value_is_number(b)) {
        if (a.kind == V_BIG || b.kind == V_BIG) {
            return a.kind == b.kind && text_equal(a.string, b.string);
        }
        return number_compare(m, a, b) == 0;
    }
    if (a.kind != b.kind) {
        return false;
    }
    sandbox_descend(m);
    bool equal = contents_equal(m, a, b);
    sandbox_ascend(m);
    return equal;
}

static _Noreturn void no_order(sandbox *m, value a, value b, const char *op)
{
    if (a.kind == V_UNDEFINED || b.kind == V_UNDEFINED) {
        undefined_fault(m, a.kind == V_UNDEFINED ? a : b);
    }
    template_fault(m, "'%s' not supported between instances of '%s' and '%s'", op, type_name(a),
                   type_name(b));
}

/* Sequences are ordered by their first difference. */
static bool lists_ordered(sandbox *m, const list *a, const list *b, const char *op, bool or_equal)
{
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        if (!value_equal(m, a->items[i], b->items[i])) {
            return or_equal ? value_less_equal(m, a->items[i], b->items[i], op)
                            : value_less(m, a->items[i], b->items[i], op);
        }
    }
    return or_equal ? a->n <= b->n : a->n < b->n;
}

static bool ordered(sandbox *m, value a, value b, const char *op, bool or_equal)
{
    sandbox_spend(m, 1);
    if (value_is_number(a) && value_is_number(b)) {
        int order = number_compare(m, a, b);
        return order == -1 || (or_equal && order == 0);
    }
    if (a.kind == V_STRING && b.kind == V_STRING) {
        int order = text_compare(a.string, b.string);
        sandbox_spend(m, a.string->n / 64);
        return order < 0 || (or_equal && order == 0);
    }
    if (a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE)) {
        sandbox_descend(m);
        bool result = lists_ordered(m, a.list, b.list, op, or_equal);
        sandbox_ascend(m);
        return result;
    }
    no_order(m, a, b, op);
}

bool value_less(sandbox *m, value a, value b, const char *op)
{
    return ordered(m, a, b, op, false);
}

bool value_less_equal(sandbox *m, value a, value b, const char *op)
{
    return ordered(m, a, b, op, true);
}

static bool text_contains(sandbox *m, value container, value item)
{
    if (item.kind == V_UNDEFINED) {
        template_fault(m, "'in <string>' requires string as left operand, not Undefined");
    }
    if (item.kind != V_STRING) {
        template_fault(m, "'in <string>' requires string as left operand, not %s", type_name(item));
    }
    sandbox_spend(m, container.string->n / 64);
    return text_find(container.string, item.string, 0, container.string->n) >= 0;
}

bool value_contains(sandbox *m, value container, value item)
{
    if (container.kind == V_STRING) {
        return text_contains(m, container, item);
    }
    if (container.kind == V_DICT) {
        return dict_find(m, container.dict, item) != NULL;
    }
    if (container.kind == V_VIEW && container.view->kind == VIEW_KEYS) {
        return dict_find(m, container.view->of, item) != NULL;
    }
    if (!value_is_iterable(container)) {
        template_fault(m, "argument of type '%s' is not iterable", type_name(container));
    }
    value *items;
    size_t n;
    value_items(m, container, &items, &n);
    for (size_t i = 0; i < n; i++) {
        if (value_equal(m, items[i], item)) {
            if (container.kind == V_ITERATOR) { /* the search stops behind the hit */
                container.iterator->next = (size_t)(items + i + 1 - container.iterator->items);
            }
            return true;
        }
    }
    return false;
}

/* ---- sorting ---- */

/* One merge of [first, middle) and [middle, last) of `order` into `out`. */
static void merge(sandbox *m, const value *keys, const size_t *order, size_t *out, size_t first,
                  size_t middle, size_t last, bool reverse)
{
    size_t left = first, right = middle;
    for (size_t i = first; i < last; i++) {
        bool take_right = right < last;
        if (take_right && left < middle) {
            value a = keys[order[left]], b = keys[order[right]];
            take_right = reverse ? value_less(m, a, b, "<") : value_less(m, b, a, "<");
        }
        out[i] = take_right ? order[right++] : order[left++];
    }
}

void values_sort(sandbox *m, value *items, const value *keys, size_t n, bool reverse)
{
    size_t *order = TAKE(m, size_t, n), *other = TAKE(m, size_t, n);
    for (size_t i = 0; i < n; i++) {
        order[i] = i;
    }
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t first = 0; first < n; first += 2 * width) {
            size_t middle = first + width < n ? first + width : n;
            size_t last = middle + width < n ? middle + width : n;
            merge(m, keys, order, other, first, middle, last, reverse);
        }
        size_t *swap = order;
        order = other;
        other = swap;
    }
    value *sorted = TAKE(m, value, n);
    for (size_t i = 0; i < n; i++) {
        sorted[i] = items[order[i]];
    }
    if (n > 0) {
        memcpy(items, sorted, n * sizeof *items);
    }
}

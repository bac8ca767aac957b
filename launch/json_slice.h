/*
 * json_slice.h - parts of a JSON text, cut out of it as they stand.
 *
 * For text that goes on as it is: a number stays the literal that it is, 1.0 does not become 1. The
 * text is one that the JSON reader has accepted (common/json.h); of any other the slices are wrong,
 * but lie within it.
 */
#ifndef FLOTILLA_LAUNCH_JSON_SLICE_H
#define FLOTILLA_LAUNCH_JSON_SLICE_H

#include <stdbool.h>
#include <stddef.h>

/* A part of a JSON text, borrowed from it. */
typedef struct json_slice {
    const char *at;
    size_t n;
} json_slice;

/* What is left of an object or list: after its bracket at first, then behind each entry. */
typedef struct json_rest {
    const char *at, *end;
} json_rest;

json_rest json_rest_of(json_slice whole);

/* The next value; false at the end. */
bool json_next_element(json_rest *rest, json_slice *value);

/* The next member, the key with its quotes; false at the end. */
bool json_next_member(json_rest *rest, json_slice *key, json_slice *value);

/* Whether a string, with its quotes, says name; as JSON has it, letters may be escaped. */
bool json_key_is(json_slice key, const char *name);

/* The value that text begins with, after spaces; without them. */
json_slice json_first_value(json_slice text);

#endif

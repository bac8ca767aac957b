/*
 * json.h - JSON files of checkpoints and people, read whole and held to bounds before cJSON sees
 * them; and JSON written.
 *
 * Strings of cJSON end at U+0000. Files of checkpoints have no use for it, there it is refused; in
 * texts of people it is legal, and stands as the two bytes C0 80, which no UTF-8 text contains.
 */
#ifndef FLOTILLA_COMMON_JSON_H
#define FLOTILLA_COMMON_JSON_H

#include "common/buffer.h"
#include "common/error.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A whole regular file (links followed) as text with a NUL behind it; the caller frees *out.
 * FLO_USAGE: no such file. FLO_FAIL: not a regular file, over bytes_max, or an I/O error. The
 * sentence begins with the path. */
flo_code file_read_text(char **out, size_t *n_bytes, const char *path, size_t bytes_max,
                        flo_err *err);

/* Parses one JSON value and nothing behind it. FLO_FAIL says the line and shows the place. Refused
 * as well: bytes that are not UTF-8, a NUL (also as \u0000: C strings end there), more values than
 * any checkpoint's file has, what only lenient readers take (raw control characters in strings,
 * lone surrogates, numbers such as 01 or 1.). *out is freed with cJSON_Delete. */
flo_code json_parse(cJSON **out, const char *text, size_t n_bytes, flo_err *err);

/* The same for what a person or a program sends: \u0000 in a string becomes C0 80, and every fault
 * is FLO_USAGE. */
flo_code json_parse_request(cJSON **out, const char *text, size_t n_bytes, flo_err *err);

/* The file and json_parse together; the sentence begins with the path. */
flo_code json_read(cJSON **out, const char *path, size_t bytes_max, flo_err *err);

/* The member of that name, the last one where it stands twice (as in Python); NULL: none. */
const cJSON *json_member(const cJSON *object, const char *name);

/* The same, but NULL also where it is null: a key with null is a key left out, as in OpenAI's
 * clients. */
const cJSON *json_given(const cJSON *object, const char *name);

/* The bytes of a string's value with U+0000 as a zero byte; malloc'd and NUL-terminated. NULL: no
 * memory. item must be a string. */
char *json_string_copy(const cJSON *item, size_t *n_bytes);

/* Turns C0 80 into a zero byte in place, in text made from cJSON strings; returns the new length.
 */
size_t json_restore_nul(char *text, size_t n_bytes);

/* True where item is a whole number in [low, high]; *value is set then. */
bool json_integer(const cJSON *item, int64_t low, int64_t high, int64_t *value);

/* Text as a JSON string with its quotes: control characters and U+0000 are escaped, other
 * characters stand as they are, ill-formed parts become U+FFFD. */
void json_put_string(buffer *out, const char *text, size_t n_bytes);
void json_put_integer(buffer *out, int64_t value);

#endif

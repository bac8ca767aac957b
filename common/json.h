/*
 * json.h - JSON files of checkpoints and people, read whole and held to bounds before cJSON sees
 * them.
 */
#ifndef FLOTILLA_COMMON_JSON_H
#define FLOTILLA_COMMON_JSON_H

#include "common/error.h"

#include <cjson/cJSON.h>
#include <stddef.h>

/* A whole regular file (links followed) as text with a NUL behind it; the caller frees *out.
 * FLO_USAGE: no such file. FLO_FAIL: not a regular file, over bytes_max, or an I/O error. The
 * sentence begins with the path. */
flo_code file_read_text(char **out, size_t *n_bytes, const char *path, size_t bytes_max,
                        flo_err *err);

/* Parses one JSON value and nothing behind it. FLO_FAIL says the line and shows the place. Refused
 * as well: bytes that are not UTF-8, a NUL (also as \u0000: C strings end there), more values than
 * any checkpoint's file has. *out is freed with cJSON_Delete. */
flo_code json_parse(cJSON **out, const char *text, size_t n_bytes, flo_err *err);

/* Both together; the sentence begins with the path. */
flo_code json_read(cJSON **out, const char *path, size_t bytes_max, flo_err *err);

/* The member of that name, the last one where it stands twice (as in Python); NULL: none. */
const cJSON *json_member(const cJSON *object, const char *name);

#endif

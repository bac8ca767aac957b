/*
 * template_case.h - what the template tests share: rendering in one call, and recorded data.
 */
#ifndef FLOTILLA_TESTS_UNIT_TEMPLATE_TEMPLATE_CASE_H
#define FLOTILLA_TESTS_UNIT_TEMPLATE_TEMPLATE_CASE_H

#include "common/error.h"

#include <cjson/cJSON.h>
#include <stddef.h>

/* A file of the source tree, its numbers kept as literals; the test fails where it is missing. */
cJSON *golden_json(const char *path);
char *golden_text(const char *path, size_t *n_bytes);

/* Parses and renders. *text is malloc'd on FLO_OK, NULL otherwise. */
flo_code render(const char *source, const cJSON *context, char **text, flo_err *err);

/* Asserts what a template renders, its context given as JSON. */
void assert_renders(const char *source, const char *context, const char *expected);

/* Asserts that a template fails and that the sentence holds `words`. */
void assert_faults(const char *source, const char *context, const char *words);

#endif

/*
 * chat_template.h - a checkpoint's chat template, rendered as the reference renders it.
 *
 * The engine is the part of Jinja2 that chat templates use, with the reference's settings
 * (transformers: trim_blocks, lstrip_blocks, immutable sandbox, loop controls, generation tag, its
 * tojson, raise_exception, strftime_now). Templates come from checkpoints and are not trusted:
 * depth, steps, memory and output are limited, nothing but the given values can be reached.
 *
 * A template is read-only once made; several threads may render it at a time.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_CHAT_TEMPLATE_H
#define FLOTILLA_COORDINATOR_TEXT_CHAT_TEMPLATE_H

#include "common/error.h"

#include <cjson/cJSON.h>
#include <stddef.h>

typedef struct chat_template chat_template;

/* The template of a checkpoint folder: chat_template.jinja, chat_template.json, or the key in
 * tokenizer_config.json; the built-in one where there is none of them. The values that the
 * reference always gives are defaults of its renders, under the keys of the context: tools and
 * documents (none), and the special tokens of tokenizer_config.json (eos_token, audio_token, ...).
 * FLO_FAIL: a file that is there but cannot be read or parsed, with file and line. */
flo_code chat_template_open(chat_template **out, const char *folder, flo_err *err);

/* From UTF-8 text; name leads the sentences of its faults ("NAME line 12: ..."). No defaults.
 * FLO_FAIL on a fault of syntax. */
flo_code chat_template_parse(chat_template **out, const char *text, size_t n_bytes,
                             const char *name, flo_err *err);
void chat_template_free(chat_template *t);

/* Renders with the keys of a JSON object (messages, tools, add_generation_prompt, ...). *text is
 * malloc'd and NUL-terminated (n_bytes without it; a text may have NULs inside).
 *
 * In the context's strings the bytes C0 80 stand for U+0000. Python tells 1 from 1.0 and has
 * integers of any size; cJSON's numbers do not. So a number is taken from its literal where the
 * tree keeps it (cJSON_Raw, see chat_template_numbers_keep); a plain cJSON number is an integer
 * where its value is a whole number below 2^53 in size, else a float.
 *
 * FLO_FAIL with template name and line on a fault of the template (raise_exception among them),
 * FLO_USAGE where the context is no object or not UTF-8. */
flo_code chat_template_render(const chat_template *t, const cJSON *context, char **text,
                              size_t *n_bytes, flo_err *err);

/* Makes every number of a tree a cJSON_Raw item with the literal it was written as: 1.0 stays a
 * float, 2^70 an integer. json [n_bytes] is the text that the tree was parsed from (or one with the
 * same numbers in the same order). Call it before anything is added to or removed from the tree.
 * FLO_USAGE on a number that JSON does not allow (cJSON lets 01 and 1. pass). */
flo_code chat_template_numbers_keep(cJSON *tree, const char *json, size_t n_bytes, flo_err *err);

#endif

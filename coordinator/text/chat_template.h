/*
 * chat_template.h - a checkpoint's chat template, rendered as the reference renders it.
 *
 * The engine is the part of Jinja2 that chat templates use, with the reference's settings. Templates
 * come from checkpoints and are not trusted: depth, steps and output are limited, nothing but the
 * given values can be reached.
 */
#ifndef FLOTILLA_COORDINATOR_TEXT_CHAT_TEMPLATE_H
#define FLOTILLA_COORDINATOR_TEXT_CHAT_TEMPLATE_H

#include "common/error.h"

#include <cjson/cJSON.h>
#include <stddef.h>

typedef struct chat_template chat_template;

/* The template of a checkpoint folder: chat_template.jinja, chat_template.json, or the key in
 * tokenizer_config.json; the built-in one where there is none of them. */
flo_code chat_template_open(chat_template **out, const char *folder, flo_err *err);

/* From text; name leads the sentences of its faults ("NAME line 12: ..."). */
flo_code chat_template_parse(chat_template **out, const char *text, size_t n_bytes, const char *name,
                             flo_err *err);
void chat_template_free(chat_template *t);

/* Renders with the keys of a JSON object (messages, tools, add_generation_prompt, ...). *text is
 * malloc'd and NUL-terminated. FLO_USAGE with template name and line on any fault. */
flo_code chat_template_render(const chat_template *t, const cJSON *context, char **text,
                              size_t *n_bytes, flo_err *err);

#endif

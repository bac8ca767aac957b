/*
 * messages.h - chat messages as JSON text: made from words, or as people write them themselves.
 *
 * What people wrote (messages, tools) goes into a request as the text that it was: a number stays
 * the literal it is, 1.0 does not become 1.
 */
#ifndef FLOTILLA_LAUNCH_MESSAGES_H
#define FLOTILLA_LAUNCH_MESSAGES_H

#include "common/buffer.h"
#include "common/error.h"
#include "launch/json_slice.h"

#include <stdbool.h>
#include <stddef.h>

/* Chat messages as a list [...] or as an object {"messages": [...], ...}: messages is the list's
 * text, options (empty buffer, appended to) the object of all other members, "{}" for a list. text
 * must stay while messages is used. FLO_USAGE, led by name: not JSON, no list, an empty list. */
flo_code messages_take(const char *text, size_t n_bytes, const char *name, json_slice *messages,
                       buffer *options, flo_err *err);

/* The list of messages, where paths of media that are relative become absolute and nothing else
 * changes. True: there are media in it, named or to come from the request. */
bool messages_put(buffer *out, json_slice messages);

/* `,"template_options":{...}` unless it has no member. */
void template_options_put(buffer *body, const buffer *options);

/* {"role":"user","content":"..."}; with media (parts with commas between) the content is the list
 * of them and, last, the text. parts: NULL or empty for none. */
void message_put(buffer *out, const char *role, const buffer *parts, const char *text,
                 size_t n_bytes);

#endif

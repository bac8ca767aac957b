/*
 * conversation.h - the messages of a chat as JSON text, and the file that keeps them.
 *
 * All of it goes with every turn: the coordinator finds the KV cache of the common beginning and
 * computes only what is new, and knows the media of earlier turns by their content. So a
 * conversation that was loaded, begun anew or cut short needs nothing special.
 */
#ifndef FLOTILLA_LAUNCH_CONVERSATION_H
#define FLOTILLA_LAUNCH_CONVERSATION_H

#include "common/buffer.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct conversation {
    buffer messages; /* JSON objects with commas between; cut by setting n to an earlier value */
    buffer template_options; /* a JSON object, from a loaded file; empty: none */
    bool has_media;          /* there may be media in the messages */
} conversation;              /* all zero: empty */

/* Forgets all; then a system message unless system is NULL. */
void conversation_begin(conversation *c, const char *system);
void conversation_free(conversation *c);

/* parts: media before the text, see message_put. */
void conversation_add(conversation *c, const char *role, const buffer *parts, const char *text,
                      size_t n_bytes);

/* `"messages":[...]` and the template's options, as a request has them. */
void conversation_put(buffer *body, const conversation *c);

/* {"messages": [...]} with the template's options beside them, as conversation_load and `generate
 * --messages` read. The file is whole or as it was before. FLO_USAGE, FLO_FAIL: led by path. */
flo_code conversation_save(const conversation *c, const char *path, flo_err *err);

/* Takes the place of *c, which stays as it is on failure. Paths of media become absolute. */
flo_code conversation_load(conversation *c, const char *path, flo_err *err);

#endif

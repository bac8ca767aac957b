/*
 * speech_span.h - the rows of the thinker's prompt whose hidden states the talker takes: they are
 * computed in this answer's own steps, and each step says which of its rows they are.
 */
#ifndef FLOTILLA_COORDINATOR_SPEECH_SPEECH_SPAN_H
#define FLOTILLA_COORDINATOR_SPEECH_SPEECH_SPAN_H

#include "coordinator/generation.h"
#include "proto/flotilla.pb-c.h"

/* True if speech_rows rise and lie in the prompt. */
bool speech_rows_are_valid(const generation *g);

/* How many of the prompt's first positions may be taken over from an earlier turn. A KV cache holds
 * keys and values, not the hidden states that the talker is waiting for; so the first row that it
 * takes is computed again, and with it all behind it, since a sequence only grows at its end. */
int32_t speech_reuse_max(const generation *g);

/* span has its first position and its number of rows, the first of them row `at` of the step. Sets
 * the span's session where it has rows of speech, and appends their indices in the step to rows
 * [*n_rows + span->rows at most]. */
void speech_span_name_rows(Flo__Span *span, uint32_t *rows, size_t *n_rows, uint32_t at,
                           const generation *g);

#endif

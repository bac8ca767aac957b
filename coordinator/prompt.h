/*
 * prompt.h - what the thinker is given of a request: ids, positions, and rows that come from media.
 *
 * Made in two steps, because media take time in between: once they are prepared (their numbers of
 * tokens are known) the ids and positions are made, once they are encoded the rows are found.
 */
#ifndef FLOTILLA_COORDINATOR_PROMPT_H
#define FLOTILLA_COORDINATOR_PROMPT_H

#include "common/model_config.h"
#include "coordinator/generation.h"
#include "coordinator/media/media_set.h"
#include "coordinator/text/tokenizer.h"

typedef struct prompt { /* all owned; all zero: nothing yet */
    char *text; /* with one placeholder for each medium; NULL where the prompt came as ids */
    size_t text_bytes;
    int32_t *ids; /* [n] */
    int32_t n;
    float *axes; /* [3][n] */
    float next_position[3];
    prompt_row *rows; /* [n]; NULL without media */
    media_row *media; /* [n]; NULL without media, filled by prompt_take_rows */
} prompt;

/* From p->text (placeholders expanded, then tokenized) or p->ids: ids, positions, and which row of
 * which medium stands where. media NULL: none. FLO_USAGE: placeholders and media do not match, an
 * empty prompt. */
flo_code prompt_lay_out(prompt *p, const model_config *m, const tokenizer *t,
                        const media_set *media, flo_err *err);

/* Points the rows of media at the encoders' results, which the set must keep. */
flo_code prompt_take_rows(prompt *p, const media_set *media, flo_err *err);

/* Hands the prompt to a generation, which borrows it. */
void prompt_give(const prompt *p, generation *g);

void prompt_free(prompt *p);

#endif

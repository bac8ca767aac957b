/*
 * input_rows.h - the talker's input rows of all sessions, in blocks that they share.
 *
 * A session numbers its rows from 0 and knows from its start how many there can be, so it takes its
 * blocks at once and gives them back at once. Each row has a note beside it.
 */
#ifndef FLOTILLA_WORKER_SPEECH_INPUT_ROWS_H
#define FLOTILLA_WORKER_SPEECH_INPUT_ROWS_H

#include "common/arena.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct row_note { /* of a row of a prompt */
    int32_t source;       /* row of the session that it is made from */
    int32_t code;         /* whose embedding is added; -1: none */
    float axes[3];        /* position: time, height, width */
} row_note;

typedef struct input_rows {
    int32_t columns, n_blocks, n_free;
    float *rows;     /* [n_blocks][KV_BLOCK][columns] */
    row_note *notes; /* [n_blocks][KV_BLOCK] */
    int32_t *free;   /* [n_blocks], the first n_free of them */
} input_rows;

typedef struct row_list { /* the blocks of a session */
    int32_t n_blocks;
    int32_t *blocks; /* [n_blocks of all sessions]: room for any share */
} row_list;

/* Memory for n_tokens rows (whole blocks of them), and of one session's list. */
size_t input_rows_bytes(int32_t columns, int64_t n_tokens);
size_t row_list_bytes(int64_t n_tokens);

/* Take their memory from `memory`. */
void input_rows_init(input_rows *r, int32_t columns, int64_t n_tokens, arena *memory);
void row_list_init(row_list *l, int64_t n_tokens, arena *memory);

/* Gives an empty list n_tokens rows, a whole number of blocks; false where there are not so many.
 */
bool row_list_take(row_list *l, input_rows *r, int64_t n_tokens);
void row_list_give(row_list *l, input_rows *r);

float *row_list_row(const row_list *l, const input_rows *r, int32_t row);
row_note *row_list_note(const row_list *l, const input_rows *r, int32_t row);

#endif

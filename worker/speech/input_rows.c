/*
 * input_rows.c - a stack of free blocks.
 */
#include "worker/speech/input_rows.h"

#include "common/check.h"
#include "common/layout.h"

static size_t blocks_of(int64_t n_tokens)
{
    return (size_t)(n_tokens / KV_BLOCK);
}

static size_t rows_bytes(int32_t columns, int64_t n_tokens)
{
    return blocks_of(n_tokens) * KV_BLOCK * (size_t)columns * sizeof(float);
}

size_t input_rows_bytes(int32_t columns, int64_t n_tokens)
{
    return arena_rounded(rows_bytes(columns, n_tokens)) +
           arena_rounded(blocks_of(n_tokens) * KV_BLOCK * sizeof(row_note)) +
           row_list_bytes(n_tokens);
}

size_t row_list_bytes(int64_t n_tokens)
{
    return arena_rounded(blocks_of(n_tokens) * sizeof(int32_t));
}

void input_rows_init(input_rows *r, int32_t columns, int64_t n_tokens, arena *memory)
{
    size_t n_blocks = blocks_of(n_tokens);
    *r = (input_rows){
        .columns = columns, .n_blocks = (int32_t)n_blocks, .n_free = (int32_t)n_blocks};
    r->rows = arena_take(memory, rows_bytes(columns, n_tokens));
    r->notes = arena_take(memory, n_blocks * KV_BLOCK * sizeof *r->notes);
    r->free = arena_take(memory, n_blocks * sizeof *r->free);
    for (int32_t i = 0; i < r->n_blocks; i++) {
        r->free[i] = r->n_blocks - 1 - i;
    }
}

void row_list_init(row_list *l, int64_t n_tokens, arena *memory)
{
    l->n_blocks = 0;
    l->blocks = arena_take(memory, blocks_of(n_tokens) * sizeof *l->blocks);
}

bool row_list_take(row_list *l, input_rows *r, int64_t n_tokens)
{
    CHECK(l->n_blocks == 0 && n_tokens % KV_BLOCK == 0);
    if (n_tokens / KV_BLOCK > r->n_free) {
        return false;
    }
    while (l->n_blocks < n_tokens / KV_BLOCK) {
        l->blocks[l->n_blocks++] = r->free[--r->n_free];
    }
    return true;
}

void row_list_give(row_list *l, input_rows *r)
{
    while (l->n_blocks > 0) {
        r->free[r->n_free++] = l->blocks[--l->n_blocks];
    }
}

static size_t place_of(const row_list *l, int32_t row)
{
    DCHECK(row >= 0 && row / KV_BLOCK < l->n_blocks);
    return (size_t)l->blocks[row / KV_BLOCK] * KV_BLOCK + (size_t)(row % KV_BLOCK);
}

float *row_list_row(const row_list *l, const input_rows *r, int32_t row)
{
    return r->rows + place_of(l, row) * (size_t)r->columns;
}

row_note *row_list_note(const row_list *l, const input_rows *r, int32_t row)
{
    return r->notes + place_of(l, row);
}

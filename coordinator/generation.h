/*
 * generation.h - one answer being made: what was asked, what there is so far.
 *
 * The owner fills the first part and hands it to the scheduler; the scheduler fills the rest and
 * calls on_token for each new id, and on_done once. Ids, once told, never change.
 */
#ifndef FLOTILLA_COORDINATOR_GENERATION_H
#define FLOTILLA_COORDINATOR_GENERATION_H

#include "common/sampler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LOGPROBS_MAX = 20, STOP_IDS_MAX = 32 };

typedef enum finish_reason {
    FINISH_STOP,
    FINISH_LENGTH,
    FINISH_CANCELLED,
    FINISH_FAILED
} finish_reason;

typedef struct token_logprob {
    float logprob; /* of the chosen id */
    int32_t n_top;
    int32_t top_ids[LOGPROBS_MAX];
    float top_logprobs[LOGPROBS_MAX];
} token_logprob;

/* Takes tensors of the prompt pass; rows come in any order of names, each row of a name once. */
typedef struct dump_sink {
    void *arg;
    bool logits; /* all rows' logits are wanted; else the last row alone */
    flo_code (*rows)(void *arg, const char *name, int32_t first, int32_t n_rows, int32_t columns,
                     bool is_ids, const void *data, flo_err *err);
} dump_sink;

/* GEN_DRAIN: all tokens are made, rows of the dump are still on their way from other stages. */
typedef enum generation_state {
    GEN_NEW,
    GEN_QUEUED,
    GEN_PROMPT,
    GEN_DECODE,
    GEN_DRAIN,
    GEN_DONE
} generation_state;

/* Where a row of the prompt comes from that is no token of text. */
typedef struct media_row {
    const float *row;   /* [H]; NULL: the embedding table */
    const float *deep;  /* row of the first deep-stack set; NULL: none (sound, text) */
    size_t deep_stride; /* floats from one set to the next */
    uint64_t key;       /* of content and place: see kv_ledger.h */
} media_row;

typedef struct generation {
    /* asked; what is pointed to outlives the generation */
    const int32_t *prompt; /* [n_prompt] */
    int32_t n_prompt;
    const float *axes;          /* [3][n_prompt] positions: time, height, width */
    float next_position[3];     /* of the first token of the answer */
    const media_row *media;     /* [n_prompt]; NULL: text alone */
    uint64_t speech;            /* session of the talker that listens; 0: none */
    const int32_t *speech_rows; /* [n_speech_rows] rising: rows of the prompt whose hidden states
                                   the talker takes; they are computed even where an earlier turn
                                   left their KV */
    int32_t n_speech_rows;
    int32_t max_new;
    sampling sampling;
    int32_t logprobs; /* alternatives to report for each token; -1: no log-probabilities at all */
    int32_t n_stop;
    int32_t stop_ids[STOP_IDS_MAX];
    const dump_sink *dump; /* NULL: none */
    void *owner;
    void (*on_token)(struct generation *g, int32_t id);
    void (*on_done)(struct generation *g);

    /* made */
    generation_state state;
    finish_reason finish;
    flo_code code; /* with FINISH_FAILED, and err */
    flo_err err;
    int32_t *ids; /* [max_new], n_ids of them made */
    int32_t n_ids;
    token_logprob *tokens; /* beside ids, where logprobs >= 0 */
    int32_t n_reused;      /* prompt tokens whose KV an earlier turn left */
    double submitted_s, prompt_s, first_token_s, done_s; /* CLOCK_MONOTONIC */

    /* the scheduler's own */
    struct generation *next;
    uint64_t sequence;
    int32_t n_sent;      /* positions that are computed or on their way */
    int32_t n_in_flight; /* steps under way that hold rows of this */
    int64_t n_dump_due;  /* rows of all dumped tensors that have not come yet */
    bool cancelled;
} generation;

/* Frees what the scheduler made. */
void generation_clear(generation *g);

const char *finish_reason_name(finish_reason r); /* "stop", "length", "cancelled", "failed" */

#endif

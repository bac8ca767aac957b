/*
 * sampler.h - one token from one row of logits.
 *
 * Steps in the reference's order: repetition penalty, temperature, top-k, top-p, min-p, softmax,
 * draw; a step at its neutral value is left out. The draw takes one number u in [0, 1): the
 * smallest id i (by rising id) with sum_{j <= i} p_j > u * sum p. The number is a pure function of
 * the seed and the token's index in the answer, so a request gives the same tokens whatever else is
 * served. Source: shared spec speech.md, section 6; logits_process.py.
 */
#ifndef FLOTILLA_COMMON_SAMPLER_H
#define FLOTILLA_COMMON_SAMPLER_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct sampling {
    double temperature;        /* 0: greedy, the lowest id among the largest */
    int32_t top_k;             /* 0: off */
    double top_p;              /* 1: off */
    double min_p;              /* 0: off */
    double repetition_penalty; /* 1: off */
    uint64_t seed;
} sampling;

enum { SHORTLIST_TOP_MAX = 1024 };

/* How many of the largest logits a step needs for this sampling and `logprobs` reported
 * alternatives; 0: all of them. */
int32_t sampling_top(const sampling *s, int32_t logprobs);

typedef struct logit_row {
    int32_t n;
    const int32_t *ids; /* NULL: all ids, 0 .. n - 1 */
    const float *logits;
} logit_row;

typedef struct sampler sampler;

flo_code sampler_new(sampler **out, int32_t vocab_size, flo_err *err);
void sampler_free(sampler *s);

/* Bytes that a sampler takes. */
size_t sampler_bytes(int32_t vocab_size);

/* The next token. history [n_history]: prompt and answer so far; index: how many tokens the answer
 * has. FLO_FAIL when the logits are not finite (the sentence says so). */
flo_code sampler_choose(sampler *s, const sampling *how, const logit_row *row,
                        const int32_t *history, int32_t n_history, uint64_t index, int32_t *id,
                        flo_err *err);

/* The probabilities that the draw is made from, by candidate of the row (0 where cut); for tests
 * and verification. probabilities [row->n]. */
flo_code sampler_probabilities(sampler *s, const sampling *how, const logit_row *row,
                               const int32_t *history, int32_t n_history, float *probabilities,
                               flo_err *err);

/* u in [0, 1) for the index-th draw of a seed. */
double sampler_uniform(uint64_t seed, uint64_t index);

#endif

/*
 * speech_case.h - a spoken answer as the coordinator would order it: from the reference's cases
 * (tests/golden/speech), or made up.
 */
#ifndef FLOTILLA_TESTS_SPEECH_CASE_H
#define FLOTILLA_TESTS_SPEECH_CASE_H

#include "common/checkpoint.h"
#include "common/model_config.h"

#include <cjson/cJSON.h>

typedef struct speech_case {
    checkpoint *tensors; /* NULL: made up */
    cJSON *info;         /* case.json */
    int32_t n_rows, n_media;
    int32_t *codes;   /* [n_rows] */
    int *media;       /* [n_rows] */
    float *positions; /* [3][n_rows] */
    float next_position;
    float *hidden;           /* [n_media][H of the thinker] */
    int32_t n_texts, *texts; /* ids of the whole stream */
    int32_t max_draws;
    int32_t n_frames, *frames; /* [n_frames][groups], what the reference says; NULL: not known */
} speech_case;

/* A case of tests/golden/speech. */
void speech_case_open(speech_case *c, const model_config *m, const char *name);

/* n_text and n_media rows in some order, n_trail ids behind them, all drawn from seed. */
void speech_case_draw(speech_case *c, const model_config *m, int32_t n_text, int32_t n_media,
                      int32_t n_trail, uint64_t seed);
void speech_case_close(speech_case *c);

/* A number below n, drawn from *seed. */
int32_t speech_case_below(uint64_t *seed, int32_t n);

/* Rows of the thinker's embedding, f32: out [n][H]. */
void speech_case_embed(float *out, const checkpoint *weights, const model_config *m,
                       const int32_t *ids, int32_t n);

/* Holds rows [first, first + n) of a recorded tensor against what was told, within the tolerances
 * of case.json; false where none of that name was recorded. */
bool speech_case_holds(const speech_case *c, const char *name, int32_t first, int32_t n,
                       int32_t columns, bool is_ids, const void *data);

#endif

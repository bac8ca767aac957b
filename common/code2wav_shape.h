/*
 * code2wav_shape.h - the vocoder's network as a row of stages: widths, rates, what each remembers
 * of a stream, and where all of that lies in memory. The plan counts with it, the worker computes
 * in it, so both have the same bytes.
 *
 * Rows of a stage's input wait before it, behind the last rows that came before them (what its
 * first convolution looks back on); a stage takes some of them at a time, so that what it works in
 * stays small however many samples a frame becomes.
 */
#ifndef FLOTILLA_COMMON_CODE2WAV_SHAPE_H
#define FLOTILLA_COMMON_CODE2WAV_SHAPE_H

#include "common/model_config.h"

#include <stdint.h>

enum {
    CODE2WAV_KERNEL = 7,   /* of all convolutions but the transposed ones and those of one row */
    CODE2WAV_UNITS = 3,    /* residual units of a block, of dilation 1, 3, 9 */
    CODE2WAV_WIDENING = 4, /* of a ConvNeXt block's inner rows */
    CODE2WAV_STAGES_MAX = 2 * MODEL_UPSAMPLES_MAX + 2,
};

typedef enum code2wav_stage_kind {
    CODE2WAV_UPSAMPLE, /* "upsample.i": transposed convolution, ConvNeXt block */
    CODE2WAV_ENTRY,    /* "decoder.0": convolution */
    CODE2WAV_BLOCK,    /* "decoder.i": transposed convolution, residual units */
    CODE2WAV_EXIT      /* the last two modules of "decoder": snake, convolution to samples */
} code2wav_stage_kind;

typedef struct code2wav_stage {
    code2wav_stage_kind kind;
    int32_t index;   /* among its kind */
    int32_t in, out; /* channels */
    int32_t rate;    /* rows out for one row in */
    int32_t rows;    /* of the input that are computed at a time, at most */
    int32_t waiting; /* rows of the input that may wait, at most */
    int32_t before;  /* rows in front of them that came before */
    uint64_t input;  /* bytes into the work: [before + waiting][in] */
    uint64_t state;  /* bytes into a stream's state: [before][in], then what kind says: */
                     /* upsample [KERNEL - 1][out]; block, of each unit: */
                     /* [(KERNEL - 1) * dilation][out] */
} code2wav_stage;

typedef struct code2wav_shape {
    int32_t n_stages;
    code2wav_stage stages[CODE2WAV_STAGES_MAX];
    int32_t ring; /* positions of a stream whose keys and values are kept */
    /* bytes into a stream's state; of each layer [ring][n_kv_heads * head_dim], for keys, values */
    uint64_t keys_and_values, state_bytes;
    /* bytes into the work; f32 but for the codes */
    uint64_t codes;            /* [frames][n_quantizers] */
    uint64_t x, norm, product; /* [frames][hidden] */
    uint64_t qkv;              /* [frames][all heads] */
    uint64_t attended;         /* [frames][query heads] */
    uint64_t wide;             /* [frames][2 * intermediate] */
    uint64_t angles;           /* [frames][head_dim]: cosines, sines */
    uint64_t heads;            /* of each KV head: code2wav_head_floats */
    uint64_t rows;             /* of a stage: [rows out][out] */
    uint64_t history;          /* [history + rows out][out] */
    uint64_t middle, result;   /* [rows out][out] */
    uint64_t inner;            /* of an upsample stage: [rows out][WIDENING * out] */
    uint64_t samples;          /* [frames][code2wav_rate] */
    uint64_t work_bytes;
} code2wav_shape;

/* Sizes stop at 2^62 instead of wrapping: they fit nowhere. */
void code2wav_shape_of(code2wav_shape *s, const code2wav_config *c);

/* Dilation of a block's residual unit: 1, 3, 9. */
int32_t code2wav_dilation(int32_t unit);

/* Rows that a stage has made of its first n_in rows. */
int64_t code2wav_stage_rows(const code2wav_stage *s, int64_t n_in);

/* What attention of one KV head works in: keys across, values, a block of keys. */
int64_t code2wav_head_floats(const code2wav_config *c);

#endif

/*
 * code2wav_parts.h - what the vocoder's network is made of (inside worker/speech/ only).
 */
#ifndef FLOTILLA_WORKER_SPEECH_CODE2WAV_PARTS_H
#define FLOTILLA_WORKER_SPEECH_CODE2WAV_PARTS_H

#include "common/arena.h"
#include "common/plan_parts.h"
#include "worker/encoders/dense.h"
#include "worker/speech/code2wav.h"
#include "worker/speech/code2wav_weights.h"
#include "worker/thinker/rope.h"

typedef struct code2wav_stream {
    int64_t n_frames;                  /* before the chunk under way */
    int64_t n_in[CODE2WAV_STAGES_MAX]; /* rows that each stage has taken */
} code2wav_stream;

struct code2wav {
    code2wav_config c;
    code2wav_shape shape;
    code2wav_weights w;
    thread_pool *pool;
    arena memory; /* the work, then each stream's state */
    rope rope;
    code2wav_stream streams[SPEAKERS_MAX];

    /* the chunk under way */
    int32_t stream;
    int32_t n_frames;                     /* 0: none */
    int32_t front;                        /* layers done; -1: not embedded yet */
    int32_t waiting[CODE2WAV_STAGES_MAX]; /* rows at the input of each stage, */
    int32_t taken[CODE2WAV_STAGES_MAX];   /* and how many of them it has taken */
    int32_t slab; /* rows of the input that a block is working on; 0: none */
    int32_t unit; /* the block's residual unit that comes next */
    int32_t n_samples;
    code2wav_watch watch;
};

/* A buffer of the work, and of the stream's state under way, by its offset. */
static inline float *code2wav_buffer(const code2wav *v, uint64_t offset)
{
    return (float *)(void *)(v->memory.base + offset);
}

static inline float *code2wav_state(const code2wav *v, uint64_t offset)
{
    return code2wav_buffer(v, v->shape.work_bytes + (uint64_t)v->stream * v->shape.state_bytes +
                                  offset);
}

/* Tells the watch of rows [first, first + n). */
void code2wav_tell(const code2wav *v, const char *name, int64_t first, int32_t n, int32_t columns,
                   const float *data);

/* Calls task(arg, begin, end) on every thread, for its share of n rows. */
typedef void code2wav_rows_task(const void *arg, int32_t begin, int32_t end);
void code2wav_each_row(const code2wav *v, int32_t n, code2wav_rows_task *task, const void *arg);

/* Frames to rows before the first stage: the embedding, a layer, the last norm. Returns
 * multiply-adds, times two. */
double code2wav_front_step(code2wav *v);

/* Computes some of the rows that wait before a stage: the deepest one that has any. */
double code2wav_stage_step(code2wav *v, int32_t stage);

/* n rows have been put before a stage that had none: at code2wav_input. */
float *code2wav_input(const code2wav *v, int32_t stage);
void code2wav_offer(code2wav *v, int32_t stage, int32_t n);

/* Multiply-adds, times two. */
double code2wav_front_flops(const code2wav_config *c);
double code2wav_stage_flops(const code2wav_stage *s); /* of one row of input */

#endif

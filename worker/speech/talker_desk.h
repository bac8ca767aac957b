/*
 * talker_desk.h - the spoken answers at the talker's home: from text and hidden states as they come
 * to frames of codes as they are made.
 *
 * A session's prompt is computed as its rows become known, in chunks; then every frame is a first
 * code drawn from the talker's logits, the predictor's codes for it, and one more row through the
 * talker, made of both and of the text that the frame carries. A frame whose text has not come
 * waits. All sessions that are ready share a step; what a session says does not depend on which do,
 * nor on how its rows were cut into chunks.
 *
 * The desk knows no messages: its caller brings what arrives, asks for steps, carries frames to the
 * predictor and back, and is told what leaves (desk_hooks). Takes its memory once: of every session
 * its input rows, in blocks of KV_BLOCK that the sessions share. Source: shared specification,
 * sections 2.4 to 2.6 and 6.
 */
#ifndef FLOTILLA_WORKER_SPEECH_TALKER_DESK_H
#define FLOTILLA_WORKER_SPEECH_TALKER_DESK_H

#include "common/sampler.h"
#include "worker/speech/predictor.h"
#include "worker/speech/talker.h"

typedef struct talker_desk talker_desk;

typedef struct desk_start { /* of a session */
    uint64_t session;
    int32_t rows;        /* of its prompt */
    int32_t media_rows;  /* of them, those that hidden states make */
    float next_position; /* of the first frame, on all axes */
    sampling how;        /* of first codes; temperature 0: greedy, the predictor too */
    int32_t max_draws;   /* first codes, the end code included */
    bool exact, dump;
} desk_start;

typedef struct desk_frame { /* a finished frame, or (codes NULL) that there are no more */
    uint64_t session;
    int32_t index;        /* frames before it */
    const int32_t *codes; /* [groups] */
    bool last, cancelled; /* cancelled: what waits in the vocoder is not wanted either */
    bool exact, dump;
} desk_frame;

typedef struct desk_hooks {
    void *arg;
    void (*frame)(void *arg, const desk_frame *frame);
    /* Rows [n][columns] of a tensor of a session that is dumped; last (no rows): it has no more. */
    void (*rows)(void *arg, uint64_t session, const char *name, int32_t first, int32_t n,
                 int32_t columns, bool is_ids, const void *data, bool last);
    /* Those of stage_hooks for the talker's experts elsewhere; step counts the talker's. */
    void (*step_begins)(void *arg, uint64_t step);
    void (*expert_send)(void *arg, int32_t layer, int32_t place, const expert_batch *batch);
    void (*expert_gather)(void *arg, int32_t layer, int32_t n_places, float *const *results,
                          const size_t *n_floats);
    void (*progress)(void *arg);
} desk_hooks;

typedef struct desk_job { /* one frame of some sessions, for the predictor */
    int32_t n;
    const float *hidden, *firsts; /* [n][H] */
    const predictor_choice *how;  /* [n] */
    const uint64_t *sessions;     /* [n] */
} desk_job;

/* Memory of the desk (see plan_talker_region_bytes, which covers it). */
size_t talker_desk_bytes(const model_config *m, int64_t talker_tokens);

/* t and m stay the caller's and are read until talker_desk_close. */
flo_code talker_desk_open(talker_desk **out, talker *t, const model_config *m,
                          int64_t talker_tokens, const desk_hooks *hooks, flo_err *err);
void talker_desk_close(talker_desk *d); /* NULL is allowed */

/* What arrives. FLO_FAIL: numbers out of bounds, or not what was announced. Other than for _start,
 * a session that is over is passed by. */
flo_code talker_desk_start(talker_desk *d, const desk_start *start, flo_err *err);

/* The next n rows of a prompt: codes [n] (-1: none), media [n], positions [3][n]. */
flo_code talker_desk_prompt(talker_desk *d, uint64_t session, int32_t n, const int32_t *codes,
                            const int *media, const float *positions, flo_err *err);

/* rows [n][H of the thinker], n at most STEP_ROWS_MAX; first: how many came before. */
flo_code talker_desk_text(talker_desk *d, uint64_t session, int64_t first, int32_t n,
                          const float *rows, bool last, flo_err *err);
flo_code talker_desk_hidden(talker_desk *d, uint64_t session, int64_t first, int32_t n,
                            const float *rows, flo_err *err);

/* Nobody listens any more. A frame that is out for prediction must still come back. */
void talker_desk_cancel(talker_desk *d, uint64_t session);

/* A place [STEP_ROWS_MAX][H of the thinker] to gather rows in; talker_desk_text and _hidden may
 * read from it. */
float *talker_desk_gather(talker_desk *d);

/* True where talker_desk_step has something to do. Part of a prompt that is still growing waits a
 * while for more. */
bool talker_desk_ready(const talker_desk *d, int64_t now_us);

/* One step of the talker for all sessions that are ready. FLO_FAIL: logits that are not numbers. */
flo_code talker_desk_step(talker_desk *d, int64_t now_us, flo_err *err);

/* True where a frame waits for the predictor and none is out. */
bool talker_desk_wants_codes(const talker_desk *d);

/* Takes the frames that wait: they are out until talker_desk_codes brings codes [n][groups - 1] and
 * sums [n][H] of them (predictor.h). FLO_FAIL: none is out; a code out of range. */
desk_job talker_desk_take(talker_desk *d);
int32_t talker_desk_out(const talker_desk *d); /* frames that are out */
flo_code talker_desk_codes(talker_desk *d, const int32_t *codes, const float *sums, flo_err *err);

/* Sessions that are open. */
int32_t talker_desk_sessions(const talker_desk *d);

#endif

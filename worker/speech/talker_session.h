/*
 * talker_session.h - the sessions of the talker's desk: between talker_desk.c, which takes what
 * arrives, and talker_steps.c, which computes.
 */
#ifndef FLOTILLA_WORKER_SPEECH_TALKER_SESSION_H
#define FLOTILLA_WORKER_SPEECH_TALKER_SESSION_H

#include "worker/speech/input_rows.h"
#include "worker/speech/talker_desk.h"

typedef enum session_state {
    SESSION_FREE,
    SESSION_PROMPT, /* not all of its prompt is computed */
    SESSION_DRAWN,  /* a first code waits for the predictor */
    SESSION_OUT,    /* and is there */
    SESSION_MADE,   /* a frame is made, its row is to be computed */
    SESSION_TOLD,   /* over but for text that its dump is to have */
} session_state;

typedef struct session {
    session_state state;
    desk_start start;
    bool cancelled; /* while its frame is out */
    row_list rows;
    int32_t n_prompt, n_prompt_media; /* rows of the prompt that are known */
    int32_t n_ready;                  /* of them, in order, those whose input has come, */
    int32_t n_done;                   /* and those that are computed */
    int64_t grown_us;                 /* when n_ready last grew */
    int64_t n_text_seen;              /* tts_pad and what is dropped included */
    int32_t n_text, n_hidden;         /* rows that are kept */
    bool text_complete;
    int32_t n_draws, n_frames;
    int32_t first_code;
    float *pad, *hidden, *first, *sums; /* [H] each: tts_pad; and of the frame being made the
                                           talker's state, the first code's row, the codes' sum */
    uint8_t *is_drawn;                  /* [vocab] */
    int32_t *drawn;                     /* [vocab] first codes so far, each once; n_drawn of them */
    int32_t n_drawn;
} session;

typedef struct member { /* of a step */
    session *s;
    int32_t row, n_rows; /* of the step */
} member;

struct talker_desk {
    talker *talker;
    const model_config *m;
    desk_hooks hooks;
    arena memory;
    input_rows rows;
    sampler *sampler;
    int32_t n_allowed;
    int32_t *allowed;   /* first codes that may be drawn, rising */
    float *candidates;  /* their logits */
    float *gathered;    /* [STEP_ROWS_MAX][H of the thinker] */
    float *projected;   /* [STEP_ROWS_MAX][H] */
    float *x;           /* [STEP_ROWS_MAX][H] of the step */
    float *axes[3];     /* [STEP_ROWS_MAX] */
    step_row *places;   /* [STEP_ROWS_MAX] */
    float *last_hidden; /* [SPEAKERS_MAX][H] */
    float *logits;      /* [SPEAKERS_MAX][vocab] */
    int32_t n_rows;     /* of the step */
    int32_t n_members;
    member members[SPEAKERS_MAX];
    int32_t turn; /* session whose prompt comes first */
    uint64_t n_steps;
    session sessions[SPEAKERS_MAX];
    int32_t n_out; /* frames that are out for prediction */
    session *out[SPEAKERS_MAX];
    float *out_hidden, *out_firsts; /* [SPEAKERS_MAX][H] */
    predictor_choice out_how[SPEAKERS_MAX];
    uint64_t out_sessions[SPEAKERS_MAX];
};

/* Rows of the prompt that are text; those of the frames stand behind them. */
static inline int32_t session_prompt_text(const session *s)
{
    return s->start.rows - s->start.media_rows;
}

static inline float *session_row(const talker_desk *d, const session *s, int32_t row)
{
    return row_list_row(&s->rows, &d->rows, row);
}

/* Of one row [H]. */
static inline size_t session_row_bytes(const talker_desk *d)
{
    return (size_t)d->m->talker.hidden_size * sizeof(float);
}

/* Tells rows [n][H] of a session that is dumped; of another nothing. */
void session_tell(const talker_desk *d, const session *s, const char *name, int32_t first,
                  int32_t n, const float *data);

/* There are no more frames: says so, and forgets the session. */
void session_end(talker_desk *d, session *s);

#endif

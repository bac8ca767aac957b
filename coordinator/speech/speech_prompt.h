/*
 * speech_prompt.h - what the talker is given of a conversation: its prompt, and the text that its
 * frames carry as the answer grows (the specification's sections 2.4 and 2.5).
 *
 * All user turns, then nine rows for the last assistant turn. A row is made of a text (an id of the
 * thinker's vocabulary) or of a medium's hidden state, and some rows add a code. Behind the prompt
 * each frame carries one more id of the answer, then tts_eos, then tts_pad.
 */
#ifndef FLOTILLA_COORDINATOR_SPEECH_SPEECH_PROMPT_H
#define FLOTILLA_COORDINATOR_SPEECH_SPEECH_PROMPT_H

#include "coordinator/prompt.h"

typedef struct speech_prompt { /* all owned; all zero: nothing yet */
    bool silent; /* there is no user turn, or no assistant turn: nothing can be said */
    int32_t n_rows;
    int32_t *ids; /* [n_rows] that stand for the rows where positions are made: the user turns' ids,
                     then nine times tts_pad */
    bool *media;  /* [n_rows] from a hidden state */
    int32_t *codes;      /* [n_rows] row of the codec embedding that is added; -1: none */
    float *axes;         /* [3][n_rows] */
    float next_position; /* of the first frame, on all axes */
    int32_t
        *hidden_rows; /* [n_hidden] rising: rows of the thinker's prompt that the media rows take */
    int32_t n_hidden;
    /* the text stream: see SpeechText */
    const int32_t *prompt; /* borrowed from the thinker's prompt: [n_prompt] */
    int32_t n_prompt;
    int32_t assistant;   /* index of the last assistant turn's im_start in the prompt */
    int32_t *user_texts; /* [n_user_texts] ids of the non-media rows of the user turns */
    int32_t n_user_texts;
    int32_t tts_pad, tts_bos, tts_eos;
} speech_prompt;

/* From the thinker's prompt as laid out (p->ids, p->rows) and its media (NULL: none). speaker_code:
 * the speaker's row of the codec embedding. FLO_FAIL: out of memory; FLO_USAGE: a prompt whose
 * placeholders do not fit its media. */
flo_code speech_prompt_make(speech_prompt *out, const prompt *p, const media_set *media,
                            const model_config *m, int32_t speaker_code, flo_err *err);
void speech_prompt_free(speech_prompt *s);

typedef struct speech_text { /* what of the text stream is settled */
    int64_t n;               /* ids, from its start */
    bool last;               /* there are no more */
    bool silent;             /* the answer is over and has nothing to say */
} speech_text;

/* How much of the text stream an answer settles that has n_ids ids so far, or is known to get so
 * many (the last need not be at hand); done: it is over. is_end: its last id is the stop id that
 * ended it. An id is settled only once a later one, or none, can change what the talker hears in
 * its place. */
speech_text speech_prompt_settled(const speech_prompt *s, int32_t n_ids, bool done, bool is_end);

/* Id at place `at` (below settled.n) of the text stream. */
int32_t speech_prompt_text(const speech_prompt *s, const int32_t *answer, int32_t n_ids, bool done,
                           bool is_end, int64_t at);

#endif

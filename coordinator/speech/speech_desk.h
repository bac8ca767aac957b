/*
 * speech_desk.h - the sessions of the talker, as the coordinator sees them.
 *
 * A spoken answer opens a session, waits until the talker has room for it (KV tokens,
 * SPEAKERS_MAX), and hands its text on as it grows; codes and sound come back as they are made. All
 * calls are the main thread's.
 */
#ifndef FLOTILLA_COORDINATOR_SPEECH_SPEECH_DESK_H
#define FLOTILLA_COORDINATOR_SPEECH_SPEECH_DESK_H

#include "common/plan.h"
#include "coordinator/generation.h"
#include "coordinator/speech/speech_prompt.h"
#include "proto/transport.h"

typedef struct speech_desk speech_desk;

typedef struct speech_how { /* as asked */
    int32_t speaker_code;
    bool exact;  /* else seamless */
    bool greedy; /* first codes and code predictor */
    double temperature, top_p, repetition_penalty;
    int32_t top_k, max_new_tokens;
    uint64_t seed;
} speech_how;

typedef struct speech_order { /* one spoken answer; in the owner's memory */
    const speech_prompt *prompt;
    speech_how how;
    const dump_sink *dump; /* NULL: none. Takes talker_prefill_embeds, trailing_text_hidden, and the
                              other names of SpeechRows */
    void *owner;
    /* The talker listens: the generation may be submitted, with this session (0 where there is
     * nothing to be said, and nobody listens). From speech_desk_pump. */
    void (*on_opened)(struct speech_order *o);
    /* The next n samples. */
    void (*on_sound)(struct speech_order *o, const float *samples, int32_t n);
    /* All samples have come, or (cancelled) none will any more. The last call. */
    void (*on_done)(struct speech_order *o);

    /* made */
    uint64_t session;
    int32_t *codes; /* [n_frames][code groups] so far, owned: speech_order_clear */
    int32_t n_frames;
    int64_t n_samples;
    double first_sound_s; /* CLOCK_MONOTONIC; 0: none yet */

    /* the desk's own */
    struct speech_order *next;
    int32_t state, codes_room;
    int64_t n_texts_sent;
    bool told_last;
    int64_t tokens;             /* of the talker's KV cache */
    bool sound_over, rows_over; /* nothing more comes of the session's sound, and of its dump */
    bool cancelled;
} speech_order;

flo_code speech_desk_new(speech_desk **out, transport *t, const plan *p, const model_config *m,
                         uint64_t epoch, flo_err *err);
void speech_desk_free(speech_desk *d);

/* Takes an order. FLO_USAGE: this job has no talker; a prompt with its frames is over the talker's
 * KV capacity. on_done follows in any other case. */
flo_code speech_desk_open(speech_desk *d, speech_order *o, flo_err *err);

/* The same for frames that are at hand: the vocoder alone hears of them, and on_opened is not
 * called. codes [n][code groups], in range. FLO_USAGE: this job has no vocoder, or no room for a
 * session. */
flo_code speech_desk_decode(speech_desk *d, speech_order *o, const int32_t *codes, int32_t n,
                            flo_err *err);

/* The answer has grown to n_ids ids, or is known to get so many: all but the last are at hand
 * (done: it is over; is_end: its last id is the stop id that ended it). Sends what is new and
 * settled; to be called from within on_opened at the earliest. An answer that has nothing to say
 * ends the session; on_done may be called within. */
void speech_desk_text(speech_desk *d, speech_order *o, const int32_t *answer, int32_t n_ids,
                      bool done, bool is_end);

/* Nobody listens any more; on_done follows, at the latest when the vocoder's last sound has come.
 */
void speech_desk_cancel(speech_desk *d, speech_order *o);

/* Opens sessions for which there is room now. *busy is set where something happened. */
void speech_desk_pump(speech_desk *d, bool *busy);

/* SpeechOpened, Sound, SpeechRows. FLO_FAIL: one that does not belong here. */
flo_code speech_desk_on_message(speech_desk *d, const incoming *in, flo_err *err);

/* True while a session is open or waits. */
bool speech_desk_busy(const speech_desk *d);

void speech_order_clear(speech_order *o);

#endif

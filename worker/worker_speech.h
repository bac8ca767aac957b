/*
 * worker_speech.h - the parts of speech on a worker: their weights, their memory, and their
 * messages.
 *
 * Talker, code predictor and vocoder may each be here or elsewhere; what is here is called, what is
 * elsewhere is sent to. Nothing waits for an answer: a frame that is out for prediction comes back
 * as a message. When slices run is decided by the message loop (worker.c).
 */
#ifndef FLOTILLA_WORKER_WORKER_SPEECH_H
#define FLOTILLA_WORKER_WORKER_SPEECH_H

#include "proto/transport.h"
#include "worker/speech/predictor.h"
#include "worker/speech/talker_desk.h"
#include "worker/speech/vocoder.h"
#include "worker/worker_experts.h"

#include <stdbool.h>

typedef struct worker worker;

typedef enum frame_state { FRAME_NONE, FRAME_BEGUN, FRAME_DONE } frame_state;

typedef struct listener { /* a session that the vocoder has frames of */
    worker *w;
    uint64_t session; /* 0: free */
    bool exact;
    int64_t n_frames; /* decoded */
    code2wav_watch watch;
} listener;

typedef struct worker_speech {
    int talker_rank, predictor_rank, code2wav_rank; /* 0: nowhere */
    int32_t n_owners;
    int owners[PLAN_WORKERS_MAX]; /* ranks with experts of the talker, its home first */
    int32_t n_gone; /* at the talker's home: homes that will hand no more rows to it */

    talker *talker; /* NULL: no part of it here */
    talker_desk *desk;
    expert_round experts; /* of the talker's step */
    uint64_t job;         /* the frame that is out, or was last */

    predictor *predictor;
    frame_state frame; /* of the predictor here */
    uint64_t frame_job;
    int32_t frame_rows;

    code2wav *code2wav;
    vocoder *vocoder;
    listener listeners[SPEAKERS_MAX];
    bool has_sound; /* a chunk's, told as far as sound_told */
    vocoder_sound sound;
    int32_t sound_told;
    bool sound_next; /* codes and sound take turns */

    uint64_t talker_us, predictor_us, code2wav_us;
    uint64_t talker_steps, predictor_frames, code2wav_frames;
} worker_speech;

/* Takes the memory that the plan gives the parts of speech of this worker; reads their weights. */
flo_code worker_speech_open(worker *w, flo_err *err);
flo_code worker_speech_load(worker *w, const weights_source *source, const load_watch *watch,
                            flo_err *err);
void worker_speech_close(worker *w);

/* Packed bytes of the weights of the parts that are here. */
uint64_t worker_speech_bytes(const worker *w);

/* One of the kinds MSG_SPEECH_START to MSG_CODE_FRAMES that a worker takes; false: none of them. */
bool worker_on_speech(worker *w, const incoming *in);

/* True while there is something to compute or to send, and (for what has a payload) room to. */
bool worker_speech_busy(const worker *w);

/* Computes a slice, or sends a piece of a result. */
void worker_speak(worker *w);

/* Takes a Shutdown; true where this worker may leave: the talker's home stays until those that hand
 * rows to it have left. */
bool worker_speech_leaves(worker *w, const incoming *in);

#endif

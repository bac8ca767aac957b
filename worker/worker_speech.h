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
#include "worker/speech/talker.h"
#include "worker/speech/vocoder.h"

#include <stdbool.h>

typedef struct worker worker;
typedef struct talker_desk talker_desk; /* the sessions of the talker's home */

typedef struct worker_speech {
    talker *talker; /* NULL: no part of it here */
    talker_desk *desk;
    predictor *predictor;
    code2wav *code2wav;
    vocoder *vocoder;
    uint64_t talker_us, predictor_us, code2wav_us;
    uint64_t talker_steps, predictor_frames, code2wav_frames;
} worker_speech;

/* Takes the memory that the plan gives the parts of speech of this worker; reads their weights. */
flo_code worker_speech_open(worker *w, flo_err *err);
flo_code worker_speech_load(worker *w, const weights_source *source, const load_watch *watch,
                            flo_err *err);
void worker_speech_close(worker *w);

/* One of the kinds MSG_SPEECH_START to MSG_CODE_FRAMES that a worker takes; false: none of them. */
bool worker_on_speech(worker *w, const incoming *in);

/* True while there is something to compute or to send. */
bool worker_speech_busy(const worker *w);

/* Computes a slice, or sends a piece of a result. */
void worker_speak(worker *w);

#endif

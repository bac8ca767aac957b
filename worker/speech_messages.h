/*
 * speech_messages.h - what the parts of speech of a worker say to the other ranks: between
 * worker_speech.c, which computes, and speech_messages.c.
 */
#ifndef FLOTILLA_WORKER_SPEECH_MESSAGES_H
#define FLOTILLA_WORKER_SPEECH_MESSAGES_H

#include "worker/worker_speech.h"

/* The desk's way out: frames to the vocoder, rows to the coordinator, rows to experts. */
desk_hooks speech_desk_hooks(worker *w);

/* Of the talker's home: its frames to the predictor, elsewhere. Needs a slot. */
void speech_send_job(worker *w, const desk_job *job);

/* Of the predictor: the logits of the pass made last to the coordinator, where a dump asks for
 * them. */
void speech_tell_logits(worker *w);

/* Of the predictor: its finished frame to the talker, elsewhere. Needs a slot. */
void speech_send_prediction(worker *w);

/* Of the vocoder: the next piece of the chunk that has become sound; clears has_sound behind the
 * last. Needs a slot. */
void speech_send_sound(worker *w);

#endif

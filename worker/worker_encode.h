/*
 * worker_encode.h - the encoders of a worker: their weights, their memory, and their messages.
 */
#ifndef FLOTILLA_WORKER_WORKER_ENCODE_H
#define FLOTILLA_WORKER_WORKER_ENCODE_H

#include "proto/transport.h"
#include "worker/encoders/encode_queue.h"

#include <stdbool.h>

typedef struct worker worker;

typedef struct worker_encoders {
    audio_weights audio_weights;
    vision_weights vision_weights;
    encode_queue audio, vision; /* region NULL: not held here */
    bool sight_next;            /* the two take turns */
} worker_encoders;

/* Takes the memory that the plan gives the encoders of this worker. */
flo_code worker_encoders_open(worker *w, flo_err *err);

/* Reads the weights of the encoders that the plan gives this worker. */
flo_code worker_encoders_load(worker *w, const weights_source *source, const load_watch *watch,
                              flo_err *err);
void worker_encoders_close(worker *w);

void worker_on_encode_job(worker *w, const incoming *in);
void worker_on_encode_input(worker *w, const incoming *in);
void worker_on_encode_cancel(worker *w, const incoming *in);

/* True while there is something to compute or to send. */
bool worker_encode_busy(const worker *w);

/* Computes a slice, or sends a piece of a result. */
void worker_encode(worker *w);

#endif

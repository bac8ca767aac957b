/*
 * media_desk.h - where requests hand in their media: threads that prepare them, the queue to the
 * encoders' ranks, and the cache of what the encoders made.
 *
 * Preparing (files, decoding, transforms) runs on threads of the coordinator beside its loop;
 * messages go in and out on the main thread alone. Jobs of different requests take turns, so a
 * short sound does not wait behind a long one; equal content is encoded once, however many ask for
 * it. All calls are the main thread's.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_MEDIA_DESK_H
#define FLOTILLA_COORDINATOR_MEDIA_MEDIA_DESK_H

#include "common/plan.h"
#include "coordinator/media/media_prepare.h"
#include "proto/transport.h"

typedef struct media_desk media_desk;

typedef struct media_order { /* one request's way over the desk; in the owner's memory */
    media_set *set;
    media_rules rules;
    void *owner;
    /* Preparing waits while the sets that are prepared and not dropped yet have more tokens than
     * the KV cache: they could not be computed earlier, and would only take memory. Such an order
     * is to be dropped as soon as its rows are used. */
    bool waits_for_room;
    /* set is prepared, or code says why not. Called from media_desk_pump. */
    void (*on_prepared)(struct media_order *o, flo_code code, const flo_err *err);
    /* every part has its result. Called from media_desk_encode or media_desk_pump. */
    void (*on_encoded)(struct media_order *o);
    /* how far the encoding is, 0 to 1, now and then; may be NULL */
    void (*on_progress)(struct media_order *o, double share);

    struct media_order *next; /* the desk's own */
    void *preparation;
    double told_share;
} media_order;

typedef struct media_desk_setup {
    transport *transport;
    const plan *plan;
    const model_config *model;
    const preprocessor *preprocessor;
    uint64_t epoch;
    uint64_t cache_bytes;
    uint64_t pixels_max;
} media_desk_setup;

flo_code media_desk_new(media_desk **out, const media_desk_setup *setup, flo_err *err);

/* Waits for the threads (they are told to stop). */
void media_desk_free(media_desk *d);

/* Hands the set to a thread; on_prepared follows. */
flo_code media_desk_prepare(media_desk *d, media_order *o, flo_err *err);

/* Looks the parts up, sends the rest to the encoders; on_encoded follows, at once where all are
 * known. FLO_USAGE: this job has no encoder for one of them; after a fault no call follows. */
flo_code media_desk_encode(media_desk *d, media_order *o, flo_err *err);

/* Forgets the order: no call follows. The set is the desk's from now on. */
void media_desk_drop(media_desk *d, media_order *o);

/* Takes what threads have finished, sends what can be sent. *busy is set where something happened.
 */
void media_desk_pump(media_desk *d, bool *busy);

/* Messages of the encoders. FLO_FAIL: one that does not belong here. */
flo_code media_desk_on_embeddings(media_desk *d, const incoming *in, flo_err *err);
flo_code media_desk_on_progress(media_desk *d, const incoming *in, flo_err *err);

/* True while an encoder has, or is to get, a job. */
bool media_desk_has_jobs(const media_desk *d);

#endif

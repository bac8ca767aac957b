/*
 * request.h - one request from its JSON body to its JSON answer.
 *
 * The body has the keys of an OpenAI chat completion, and ours beside them:
 *     messages | prompt (with raw: true) | prompt_ids;  tools, template_options
 *     media, media_options
 *     max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, ignore_eos, logprobs
 *     speech (request_voice.h); speak: a text that is spoken as the answer it would be
 * A key that is not known, or asks for what is not built, is refused by name. Text leaves in whole
 * characters as tokens come.
 *
 * A request with media goes over the media desk first: prepared, laid out, encoded, and only then
 * handed to the scheduler; what goes wrong there ends it as a failed generation does.
 */
#ifndef FLOTILLA_COORDINATOR_REQUEST_H
#define FLOTILLA_COORDINATOR_REQUEST_H

#include "common/buffer.h"
#include "coordinator/dump_file.h"
#include "coordinator/generation.h"
#include "coordinator/job.h"
#include "coordinator/media/media_desk.h"
#include "coordinator/prompt.h"
#include "coordinator/request_voice.h"

typedef struct request request;

typedef struct request_ends { /* where a request's words go */
    void *arg;
    void (*delta)(void *arg, request *r, const char *text, size_t n_bytes); /* may be NULL */
    void (*done)(void *arg, request *r); /* the last call; frees r with request_free */
    /* the next sound of a spoken answer; may be NULL */
    void (*sound)(void *arg, request *r, const float *samples, int32_t n);
    /* how far reading or encoding its media is, 0 to 1; may be NULL */
    void (*stage)(void *arg, request *r, const char *what, double share);
} request_ends;

typedef struct request_from { /* what a request may do, by where it comes from */
    bool local_files;         /* its media may be paths */
    const char *dump_path;    /* file for the prompt pass's tensors; NULL or "": none */
} request_from;

struct request {
    job *job;
    uint64_t id;
    char custom_id[256]; /* of a batch line; "" else */
    generation generation;
    prompt prompt;
    media_order media;                       /* its set is NULL without media */
    char *dump_path;                         /* until the dump is opened; NULL: none */
    double started_s, prepared_s, encoded_s; /* CLOCK_MONOTONIC */
    buffer text;                             /* all of the answer so far, special tokens left out */
    buffer sound;                            /* the owner's, for what `sound` brings */
    request_voice voice;
    bool text_over; /* all text has been made; the voice may still speak */
    detokenizer *detokenizer;
    dump_file *dump; /* NULL: none */
    request_ends ends;
    request *next; /* the owner's list */
};

/* Takes the body apart and sets the request going. On success done will be called once, from
 * job_poll. */
flo_code request_start(request **out, job *j, uint64_t id, const char *body, size_t n_bytes,
                       const request_from *from, const request_ends *ends, flo_err *err);

/* Ends the request with what it has; done follows, at the latest when its steps are back. */
void request_cancel(request *r);
void request_free(request *r);

/* The answer of `flotilla generate --json` (the caller frees *json). Asks the workers' sizes, so it
 * may poll the job. FLO_FAIL where the generation or the dump failed. */
flo_code request_answer(request *r, char **json, size_t *n_bytes, flo_err *err);

#endif

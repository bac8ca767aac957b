/*
 * request.h - one request from its JSON body to its JSON answer.
 *
 * The body has the keys of an OpenAI chat completion, and ours beside them:
 *     messages | prompt (with raw: true) | prompt_ids;  tools, template_options
 *     max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, ignore_eos, logprobs
 * A key that is not known, or asks for what is not built, is refused by name. Text leaves in whole
 * characters as tokens come.
 */
#ifndef FLOTILLA_COORDINATOR_REQUEST_H
#define FLOTILLA_COORDINATOR_REQUEST_H

#include "common/buffer.h"
#include "coordinator/dump_file.h"
#include "coordinator/generation.h"
#include "coordinator/job.h"

typedef struct request request;

typedef struct request_ends { /* where a request's words go */
    void *arg;
    void (*delta)(void *arg, request *r, const char *text, size_t n_bytes); /* may be NULL */
    void (*done)(void *arg, request *r); /* the last call; frees r with request_free */
} request_ends;

struct request {
    job *job;
    uint64_t id;
    char custom_id[256]; /* of a batch line; "" else */
    generation generation;
    int32_t *prompt;
    buffer text; /* all of the answer so far, special tokens left out */
    detokenizer *detokenizer;
    dump_file *dump; /* NULL: none */
    request_ends ends;
    request *next; /* the owner's list */
};

/* Takes the body apart, makes the prompt's ids, and hands the generation to the scheduler.
 * dump_path: file for the prompt pass's tensors, NULL or "" for none. On success done will be
 * called once. */
flo_code request_start(request **out, job *j, uint64_t id, const char *body, size_t n_bytes,
                       const char *dump_path, const request_ends *ends, flo_err *err);
void request_free(request *r);

/* The answer of `flotilla generate --json` (the caller frees *json). Asks the workers' sizes, so it
 * may poll the job. FLO_FAIL where the generation or the dump failed. */
flo_code request_answer(request *r, char **json, size_t *n_bytes, flo_err *err);

#endif

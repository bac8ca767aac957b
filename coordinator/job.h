/*
 * job.h - rank 0's side of a job: who the workers are, what they hold, and the loop that serves
 * them.
 *
 * Start: every worker says hello; the coordinator tells it how to sit down on its node, hears what
 * the node has, checks the checkpoint's headers, makes the plan, hands out the parts, and waits
 * until all are loaded. Nothing is loaded when the plan does not fit or a tensor is missing.
 */
#ifndef FLOTILLA_COORDINATOR_JOB_H
#define FLOTILLA_COORDINATOR_JOB_H

#include "common/options.h"
#include "common/plan.h"
#include "coordinator/gateway_link.h"
#include "coordinator/media/media_desk.h"
#include "coordinator/scheduler.h"
#include "coordinator/speech/speech_desk.h"
#include "coordinator/text/chat_template.h"
#include "coordinator/text/tokenizer.h"
#include "proto/transport.h"

#include <limits.h>

typedef struct job_peak { /* of a worker's threads */
    double gflop_per_s, read_gb_per_s;
} job_peak;

typedef struct job_speech_work { /* what a worker has done for speech since the start: Stats */
    uint64_t talker_us, predictor_us, code2wav_us;
    uint64_t talker_steps, predictor_frames, code2wav_frames;
} job_speech_work;

typedef struct job_node { /* what a worker told of its node, by rank - 1 */
    char host[256];
    char isa[32];
    char binding[256];
    int32_t numa;
    int32_t n_threads;
    uint64_t memory_bytes;
    double read_gb_per_s;
    uint64_t loaded_bytes, total_bytes;
    bool ready;
    uint64_t rss_bytes; /* of the last Stats, as is `speech` */
    job_speech_work speech;
} job_node;

typedef struct sampling_defaults { /* generation_config.json */
    bool do_sample;
    double temperature, top_p, min_p, repetition_penalty; /* negative: not said */
    int32_t top_k;                                        /* negative: not said */
    int32_t n_stop;
    int32_t stop_ids[STOP_IDS_MAX];
} sampling_defaults;

typedef struct job {
    run_options options;
    char model_folder[PATH_MAX];
    transport *transport;
    gateway_link *link; /* NULL in the plain mpirun form */
    model_config model;
    sampling_defaults defaults;
    tokenizer *tokenizer; /* NULL with dummy weights where the folder has none */
    chat_template *chat_template;
    uint64_t weights_fingerprint; /* 0 with dummy weights */
    plan plan;
    uint64_t epoch;
    int32_t n_workers;
    job_node nodes[PLAN_WORKERS_MAX];
    scheduler *scheduler;
    preprocessor preprocessor;
    media_desk *desk;
    speech_desk *speech_desk;
    double load_s;
    int32_t stats_due; /* answers to StatsAsk that have not come yet */
    job_peak peak;     /* the last that came; all 0: it has not come yet */
    flo_code broken;   /* why the job cannot go on, once it cannot */
    flo_err cause;
} job;

/* Everything up to the point where requests can be served. Rank 0, while the workers run. */
flo_code job_start(job *j, flo_err *err);

/* One round: takes what has come from workers, sends steps. *busy tells whether anything happened.
 * FLO_FAIL: the job cannot go on (the sentence says what a worker said). */
flo_code job_poll(job *j, bool *busy, flo_err *err);

/* Serves the job until *done, which some callback sets. */
flo_code job_wait(job *j, const bool *done, flo_err *err);

/* Asks all workers for their resident size and waits for it (bounded). */
flo_code job_ask_stats(job *j, flo_err *err);

/* What a worker's threads can do at best, measured now. Not while its answers are waited for. */
flo_code job_ask_peak(job *j, int rank, job_peak *out, flo_err *err);

/* Waits until no step and no message of a worker is under way, for a few seconds at most; the
 * answers must have ended or been cancelled. Before job_stop: a worker told to leave would leave
 * the others of its stage waiting for its part of a step. FLO_FAIL: they did not come to rest. */
flo_code job_settle(job *j, flo_err *err);

/* Tells the workers to leave; the job is over. */
void job_stop(job *j);

#endif

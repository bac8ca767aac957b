/*
 * plan.h - which worker holds which parts of the model, and what that costs in bytes and time.
 *
 * N workers are dealt to S stages in order; the first N mod S stages get one more. A stage owns a
 * range of thinker layers; its first worker is its home: attention, KV cache, router and norms live
 * there; the layers' experts are divided over the stage's workers by owner, in rising ranges, and so
 * are the rows of the LM head in the last stage. Layer ranges are balanced by time (bytes read per
 * token over read bandwidth) under each worker's memory limit. The same inputs give the same plan on
 * every rank and in `flotilla plan`.
 */
#ifndef FLOTILLA_COMMON_PLAN_H
#define FLOTILLA_COMMON_PLAN_H

#include "common/error.h"
#include "common/layout.h"
#include "common/model_config.h"

#include <stdbool.h>
#include <stdint.h>

enum { PLAN_WORKERS_MAX = 1024 };

typedef struct plan_worker_facts { /* input: one for each worker, in rank order (rank 1 first) */
    char host[256];
    int32_t numa;             /* NUMA node, -1 where unknown */
    uint64_t memory_bytes;    /* what it may hold; 0: no limit known */
    double read_gb_per_s;     /* 0: unknown, taken as equal */
    int32_t n_threads;
} plan_worker_facts;

typedef struct plan_request {
    const model_config *model;
    int32_t n_workers;
    const plan_worker_facts *workers;
    int32_t n_stages;   /* 0: n_workers */
    int64_t kv_tokens;  /* 0: what fits, 4,096 to 65,536 */
    bool deterministic; /* expert workers send one row per expert: larger buffers */
} plan_request;

typedef struct plan_worker {
    int32_t rank; /* 1.. */
    int32_t stage;
    int32_t place;                  /* 0: the stage's home */
    int32_t first_layer, n_layers;  /* of the stage */
    int32_t first_expert, n_experts; /* owned, of each sparse layer of the stage */
    int32_t first_kv_head, n_kv_heads; /* all at home, none elsewhere, for now */
    int32_t first_vocab_row, n_vocab_rows; /* of the LM head; 0 rows outside the last stage */
    bool has_embedding;             /* home of the first stage */
    bool has_final_norm;            /* home of the last stage */
    uint64_t weight_bytes;          /* packed */
    uint64_t kv_bytes;
    uint64_t work_bytes;            /* activations, messages, load buffers */
    uint64_t memory_bytes;          /* the limit that held */
    double time_share;              /* of one token's time, in [0,1] */
} plan_worker;

typedef struct plan {
    int32_t n_workers, n_stages;
    int64_t kv_tokens; /* a multiple of KV_BLOCK */
    bool deterministic;
    plan_worker workers[PLAN_WORKERS_MAX]; /* rank order */
} plan;

typedef struct plan_misfit { /* filled when nothing fits */
    uint64_t missing_bytes;
    int32_t rank;
    char host[256];
    char advice[512];
} plan_misfit;

/* FLO_USAGE: the request cannot be met by any memory (more workers than the model can feed, stages
 * over layers or workers). FLO_DIFFERS: it does not fit; *misfit says by how much and where. */
flo_code plan_make(plan *p, const plan_request *request, plan_misfit *misfit, flo_err *err);

/* True where every layer, expert, vocabulary row and KV head has exactly one owner. */
bool plan_is_valid(const plan *p, const model_config *m);

/* First rank and number of workers of a stage. */
int32_t plan_stage_home(const plan *p, int32_t stage);
int32_t plan_stage_size(const plan *p, int32_t stage);

/* Packed bytes of one [rows][columns] bf16 matrix (see worker/kernels/matmul.h: panels of 64 rows,
 * columns in pairs). */
uint64_t plan_matrix_bytes(int64_t rows, int64_t columns);

#endif

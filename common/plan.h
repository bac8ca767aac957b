/*
 * plan.h - which worker holds which parts of the model, and what that costs in bytes and time.
 *
 * N workers are dealt to S stages in order; the first N mod S stages get one more. A stage owns a
 * range of thinker layers; its first worker is its home: attention, KV cache, router and norms live
 * there; the layers' experts are divided over the stage's workers by owner, in rising ranges, and
 * so are the rows of the LM head in the last stage. Layer ranges are balanced by time (bytes read
 * per token over read bandwidth) under each worker's memory limit. Each encoder is whole on one
 * worker: where the cluster file pins it, else where it fits without moving layers and least time
 * is spent on tokens, the two on different workers if they can be, so that they run side by side.
 * So are the three parts of speech. Only the talker may be divided: its home has its layers but for
 * the experts, which are dealt to one worker or, where that has no room or it is asked for, to
 * several, in rising ranges, the home's first.
 * The same inputs give the same plan on every rank and in `flotilla plan`.
 */
#ifndef FLOTILLA_COMMON_PLAN_H
#define FLOTILLA_COMMON_PLAN_H

#include "common/error.h"
#include "common/layout.h"
#include "common/model_config.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PLAN_WORKERS_MAX = 1024,
    PLAN_KV_TOKENS_MIN = 4096, /* what --kv-tokens takes by itself: between these two */
    PLAN_KV_TOKENS_MAX = 65536,
    PLAN_LOGIT_ROWS = 16,         /* rows whose whole logits a worker holds at a time */
    PLAN_STAGING_BYTES = 8 << 20, /* weights on their way from a file into their packed place */
    PLAN_WORK_TERMS_MAX = 48,
    PLAN_PICTURE_PIXELS = 12845056,     /* the processor's largest picture */
    PLAN_MEGAPIXEL = 1 << 20,           /* beside the largest, another of so many fits */
    PLAN_ENCODER_CACHE_BYTES = 1 << 30, /* kept results of encoders, at most */
};

typedef struct plan_worker_facts { /* input: one for each worker, in rank order (rank 1 first) */
    char host[256];
    int32_t numa;          /* NUMA node, -1 where unknown */
    uint64_t memory_bytes; /* what it may hold; 0: no limit known */
    double read_gb_per_s;  /* 0: unknown, taken as the mean of the known ones */
    int32_t n_threads;     /* 0: unknown */
} plan_worker_facts;

typedef struct plan_request {
    const model_config *model;
    int32_t n_workers;
    const plan_worker_facts *workers;
    int32_t n_stages;   /* 0: n_workers, or the number of layers where that is less */
    int64_t kv_tokens;  /* 0: what fits, 4,096 to 65,536; else rounded up to whole KV blocks */
    bool deterministic; /* expert workers send one row per expert: larger buffers */
    bool no_media;      /* leave the encoders out */
    bool no_speech;     /* leave talker, code predictor and vocoder out */
    const char *audio_host, *vision_host; /* pinned to a worker of this host; NULL: by room */
    const char *talker_host, *predictor_host, *code2wav_host; /* likewise */
    int32_t talker_workers;     /* that divide the talker's experts; 0: as few as have room */
    int64_t vision_patches_max; /* of a picture; 0: PLAN_PICTURE_PIXELS. What the KV cache cannot
                                   hold is never encoded, so few KV tokens make it less */
    int64_t media_pixels_max;   /* of a picture as it comes; 0: MEDIA_PIXELS_MAX */
} plan_request;

typedef struct plan_worker {
    int32_t rank; /* 1.. */
    int32_t stage;
    int32_t place;                 /* 0: the stage's home */
    int32_t first_layer, n_layers; /* of the stage */
    int32_t first_expert,
        n_experts; /* owned, of each sparse layer of the stage; 0 in a dense model */
    int32_t first_kv_head, n_kv_heads;          /* all at home, none elsewhere, for now */
    int32_t first_vocab_row, n_vocab_rows;      /* of the LM head; 0 rows outside the last stage */
    bool has_embedding;                         /* home of the first stage */
    bool has_final_norm;                        /* home of the last stage */
    bool has_audio_encoder, has_vision_encoder; /* each on one worker; none with no_media */
    bool has_talker;                            /* its home: all but the experts of others */
    int32_t first_talker_expert, n_talker_experts; /* of each of the talker's layers */
    bool has_code_predictor, has_code2wav;         /* each on one worker */
    uint64_t weight_bytes;                         /* packed */
    uint64_t kv_bytes;
    uint64_t work_bytes;   /* activations, messages, load buffers */
    uint64_t memory_bytes; /* the limit that held; 0: none known */
    double time_share;     /* of the reading that one token costs; all workers add up to 1 */
} plan_worker;

typedef struct plan {
    int32_t n_workers, n_stages;
    int64_t kv_tokens; /* a multiple of KV_BLOCK */
    bool deterministic;
    int64_t vision_patches_max; /* of one job; 0 without a vision encoder */
    int64_t talker_tokens;      /* KV capacity of the talker over all speakers; 0 without speech */
    plan_worker workers[PLAN_WORKERS_MAX]; /* rank order */
} plan;

typedef struct plan_misfit { /* filled when nothing fits */
    uint64_t missing_bytes;  /* on that rank, in the plan that comes closest */
    int32_t rank;
    char host[256];
    char advice[512];
} plan_misfit;

/* FLO_USAGE: the request cannot be met by any memory (more workers than the model can feed, stages
 * over layers or workers). FLO_DIFFERS: it does not fit; *misfit says by how much and where, and
 * *err says it in words. Cost: well under a second for 512 layers; some MiB of heap, freed on
 * return. */
flo_code plan_make(plan *p, const plan_request *request, plan_misfit *misfit, flo_err *err);

/* True where every layer, expert, vocabulary row and KV head has exactly one owner, and so has each
 * encoder of the model, unless there is none at all; and so have the parts of speech with every
 * expert of the talker, its home's first. Safe on any contents: an arriving plan is held against
 * it.
 */
bool plan_is_valid(const plan *p, const model_config *m);

/* First rank and number of workers of a stage. */
int32_t plan_stage_home(const plan *p, int32_t stage);
int32_t plan_stage_size(const plan *p, int32_t stage);

/* Packed bytes of one [rows][columns] bf16 matrix (see worker/kernels/matmul.h: panels of 64 rows,
 * columns in pairs). All sizes here saturate at 2^62 instead of wrapping. */
uint64_t plan_matrix_bytes(int64_t rows, int64_t columns);

/* Bytes of one position's keys and values (f32) in n_layers layers. */
uint64_t plan_kv_token_bytes(const model_config *m, int32_t n_layers);

/* The worker that holds an encoder; NULL: none. */
const plan_worker *plan_audio_worker(const plan *p);
const plan_worker *plan_vision_worker(const plan *p);

/* The talker's home, the code predictor's worker and the vocoder's; NULL: none. */
const plan_worker *plan_talker_worker(const plan *p);
const plan_worker *plan_predictor_worker(const plan *p);
const plan_worker *plan_code2wav_worker(const plan *p);

/* The workers that own experts of the talker: its home first, then by rank. Returns their number;
 * 0 without speech. */
int32_t plan_talker_owners(const plan *p, const plan_worker *owners[PLAN_WORKERS_MAX]);

/* KV tokens of the talker where the thinker has so many: any prompt that fits the one fits the
 * other, with the default 4,096 frames behind it. */
int64_t plan_talker_tokens(int64_t kv_tokens);

/* Keys and values (f32) of one position of the talker. */
uint64_t plan_talker_kv_token_bytes(const model_config *m);

/* Memory of talker (beside weights and KV cache), code predictor and vocoder, whatever is spoken:
 * the regions that their workers take. The talker's holds the input rows of all speakers. */
uint64_t plan_talker_region_bytes(const model_config *m, int64_t talker_tokens);
uint64_t plan_predictor_region_bytes(const code_predictor_config *c);
uint64_t plan_code2wav_region_bytes(const code2wav_config *c);

/* Memory of an encoder's jobs with their inputs and results: of the largest sound job; of a picture
 * of so many patches; and the region that its worker takes: two sound jobs, or the largest picture
 * and another of one megapixel. Jobs lie at both ends of it, so two fit side by side wherever their
 * sum does. */
uint64_t plan_audio_job_bytes(const audio_config *a);
uint64_t plan_vision_job_bytes(const vision_config *v, int64_t n_patches);
uint64_t plan_audio_region_bytes(const audio_config *a);
uint64_t plan_vision_region_bytes(const vision_config *v, int64_t patches_max);

/* Patches of the largest picture that can be encoded and fed to a model with this many tokens of KV
 * cache. */
int64_t plan_vision_patches_max(const plan_request *request, int64_t kv_tokens);

/* What a worker holds beside weights and KV cache, term by term: the one place that knows. The
 * terms read w's stage, place, n_experts, n_vocab_rows and has_ fields, and of the request also
 * kv_tokens, which must be the plan's. */
typedef struct plan_work_term {
    const char *name;
    uint64_t n_bytes;
} plan_work_term;

int32_t plan_work_terms(plan_work_term terms[PLAN_WORK_TERMS_MAX], const plan_request *request,
                        const plan_worker *w);
uint64_t plan_work_bytes(const plan_request *request, const plan_worker *w);

/* Bytes that the coordinator may keep of what encoders made: as much as the KV cache can take, and
 * not over PLAN_ENCODER_CACHE_BYTES; 0 without encoders. */
uint64_t plan_encoder_cache_bytes(const model_config *m, const plan *p);

/* What the coordinator holds: vocabulary, requests, message slots, kept results of encoders and a
 * medium in preparation; no weights. */
uint64_t plan_coordinator_bytes(const plan *p, const plan_request *request);

#endif

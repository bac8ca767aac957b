/*
 * plan_search.h - what the files that make a plan share: what is asked, what has been settled so
 * far, and the price of the best cut of the layers then. plan_cut.c cuts, plan_places.c seats the
 * parts that are not cut, plan.c asks both and says what does not fit.
 */
#ifndef FLOTILLA_COMMON_PLAN_SEARCH_H
#define FLOTILLA_COMMON_PLAN_SEARCH_H

#include "common/plan.h"
#include "common/plan_parts.h"

/* Where the parts sit that are whole on a worker (the talker: but for its experts). */
typedef struct plan_places {
    int32_t rank[PART_COUNT];                 /* 0: not placed */
    int32_t talker_experts[PLAN_WORKERS_MAX]; /* by rank - 1 */
} plan_places;

typedef struct planner {
    const plan_request *request; /* as asked */
    plan_request settled;        /* with the KV tokens that are being tried */
    const model_config *model;
    plan_parts parts;
    int32_t n_workers, n_stages, n_layers;
    bool has_experts; /* some layer is sparse */
    double speed[PLAN_WORKERS_MAX];
    int32_t n_sparse_before[MODEL_LAYERS_MAX + 1]; /* sparse layers under this one */
    uint64_t expert_rows, grain_logits; /* what an expert or a grain costs beside its weights */
    int64_t kv_tokens;
    plan_places places;
    int64_t n_priced; /* workers of all stages priced so far: how much has been searched */
    uint64_t
        extra_bytes; /* granted to every worker beyond its limit, to learn how much is missing */
    double *best;    /* [n_stages + 1][n_layers + 1] price of the first s stages over j layers */
    int32_t *cut;    /* the same shape: where the last of them begins */
    int32_t experts[PLAN_WORKERS_MAX]; /* of the stage priced last, by place */
    int32_t grains[PLAN_WORKERS_MAX];
} planner;

/* Fills in expert_rows and grain_logits; once all but best and cut is there. */
void planner_price_items(planner *pl);

/* Time of a token in the slowest stage at best, in bytes at the fastest worker's speed, with this
 * many KV tokens and the parts where pl->places has them; infinite where they do not fit. */
double planner_time(planner *pl, int64_t kv_tokens);

/* The even cut among those whose slowest stage takes `time`, as planner_time has returned it last,
 * as a plan. */
void planner_fill(planner *pl, plan *p, double time);

/* The memory of a rank with what is granted to it. */
uint64_t planner_limit(const planner *pl, int32_t rank);

/* Weights, keys and values of the parts in `places` that w holds. */
uint64_t planner_part_bytes(const planner *pl, const plan_worker *w);

/* Seats what is wanted and returns the time of a token then in *time, infinite where nothing fits;
 * pl->places is then what comes close. n_priced_max bounds the search. With the KV tokens that the
 * request asks for at least. FLO_FAIL: no memory for it. */
flo_code planner_seat_parts(planner *pl, int64_t n_priced_max, double *time, flo_err *err);

/* Sets extra_bytes to the least that every worker would have to get more for a plan to exist, to a
 * part in a thousand (and a MiB). */
void planner_least_extra(planner *pl);

/* The tokens that the request asks for at least. */
int64_t planner_kv_tokens_wanted(const plan_request *r);

#endif

/*
 * plan.c - cut the layers into stages and each stage over its workers, so that the slowest stage is
 * as fast as memory allows.
 *
 * A stage of given layers has one price: its home reads attention and router, then all its workers
 * read their experts side by side, then (last stage) their rows of the LM head. The price grows
 * with the range of layers, so the best cut is a small dynamic programme over (stage, end of
 * range); a second one takes, among the cuts that are as fast, the most even one. What remains is
 * one-dimensional and monotone, and bisected around the first: how many KV tokens fit, and by how
 * much a plan that does not fit misses. Costs about L^2 log S stage prices for each of some dozen
 * bisection steps: under a millisecond for 48 layers on 3 workers.
 *
 * The encoders are placed before that: their time is not a token's, so only their memory matters to
 * the cut. A plan without them tells who has room and who is idle; the first pair of workers in
 * that order with which the cut stays (nearly) as fast is taken, else the fastest that was found.
 */
#include "common/plan.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/plan_parts.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* KV capacity may cost this much time, by moving layers or experts off a full worker, not more. */
static const double kv_slack = 1.10;

/* Layers or experts may be moved for an encoder to have a worker of its own where that costs no
 * more. */
static const double encoder_slack = 1.10;

/* Pairs of workers that are tried for the encoders: all of them for 16 workers. */
enum { PLACES_TRIED_MAX = 320, PLACES_TRIED_FEW = 8 };

typedef struct planner {
    const plan_request *request; /* as asked */
    plan_request settled;        /* with the KV tokens that are being tried */
    const model_config *model;
    plan_parts parts;
    int32_t n_workers, n_stages, n_layers;
    bool has_experts; /* some layer is sparse */
    double speed[PLAN_WORKERS_MAX];
    int32_t n_sparse_before[MODEL_LAYERS_MAX + 1]; /* sparse layers under this one */
    int64_t kv_tokens;
    int32_t audio_rank, vision_rank; /* of the encoders; 0: not placed */
    int32_t places_left;             /* to be tried for them */
    uint64_t
        extra_bytes; /* granted to every worker beyond its limit, to learn how much is missing */
    double *best;    /* [n_stages + 1][n_layers + 1] price of the first s stages over j layers */
    int32_t *cut;    /* the same shape: where the last of them begins */
    int32_t experts[PLAN_WORKERS_MAX]; /* of the stage priced last, by place */
    int32_t grains[PLAN_WORKERS_MAX];
} planner;

typedef struct layer_range {
    int32_t first, end;
} layer_range;

static size_t cell(const planner *pl, int32_t stage, int32_t layer)
{
    return (size_t)stage * (size_t)(pl->n_layers + 1) + (size_t)layer;
}

static int32_t n_sparse_in(const planner *pl, layer_range r)
{
    return pl->n_sparse_before[r.end] - pl->n_sparse_before[r.first];
}

/* Bytes and time of one worker */

/* A worker as far as its rank decides; ranges of layers, experts and rows come later. */
static plan_worker worker_begin(const planner *pl, int32_t stage, int32_t place)
{
    bool is_home = place == 0;
    int32_t rank = plan_dealt_first(pl->n_workers, pl->n_stages, stage) + place + 1;
    return (plan_worker){
        .rank = rank,
        .stage = stage,
        .place = place,
        .n_kv_heads = is_home ? pl->model->text.n_kv_heads : 0,
        .has_embedding = is_home && stage == 0,
        .has_final_norm = is_home && stage == pl->n_stages - 1,
        .has_audio_encoder = rank == pl->audio_rank,
        .has_vision_encoder = rank == pl->vision_rank,
    };
}

/* What the home reads for every token of these layers. */
static uint64_t home_layer_bytes(const planner *pl, layer_range r)
{
    int32_t n = r.end - r.first;
    int32_t n_sparse = n_sparse_in(pl, r);
    uint64_t mlp = plan_add(plan_times(pl->parts.router, (uint64_t)n_sparse),
                            plan_times(pl->parts.dense, (uint64_t)(n - n_sparse)));
    return plan_add(plan_times(pl->parts.attention, (uint64_t)n), mlp);
}

/* One expert of each sparse layer in the range. */
static uint64_t expert_bytes(const planner *pl, layer_range r)
{
    return plan_times(pl->parts.expert, (uint64_t)n_sparse_in(pl, r));
}

static uint64_t limit_of(const planner *pl, int32_t rank)
{
    uint64_t memory = pl->request->workers[rank - 1].memory_bytes;
    return plan_add(memory > 0 ? memory : UINT64_MAX, pl->extra_bytes);
}

static uint64_t encoder_bytes(const planner *pl, const plan_worker *w)
{
    return plan_add(w->has_audio_encoder ? plan_audio_bytes(pl->model) : 0,
                    w->has_vision_encoder ? plan_vision_bytes(pl->model) : 0);
}

/* Weights and cache that a worker has whatever its share of experts and rows. */
static uint64_t fixed_bytes(const planner *pl, const plan_worker *w, layer_range r)
{
    uint64_t n = encoder_bytes(pl, w);
    if (w->place == 0) {
        uint64_t kv = plan_kv_token_bytes(pl->model, r.end - r.first);
        n = plan_add(n, plan_add(home_layer_bytes(pl, r), plan_times(kv, (uint64_t)pl->kv_tokens)));
    }
    n = plan_add(n, w->has_embedding ? pl->parts.embedding : 0);
    return plan_add(n, w->has_final_norm ? pl->parts.final_norm : 0);
}

/* What one of several equal items costs, and what the first few of them cost beside it. */
typedef struct item_cost {
    uint64_t each, of_first;
    int32_t n_first;
} item_cost;

static uint64_t cost_of(const item_cost *c, int32_t n)
{
    int32_t n_first = n < c->n_first ? n : c->n_first;
    return plan_add(plan_times(c->each, (uint64_t)n), plan_times(c->of_first, (uint64_t)n_first));
}

/* The most items, at most n_items, that cost no more than room. */
static int32_t items_for(const item_cost *c, uint64_t room, int32_t n_items)
{
    uint64_t all_first = cost_of(c, c->n_first);
    uint64_t each = plan_add(c->each, room < all_first ? c->of_first : 0);
    uint64_t beside = room < all_first ? 0 : plan_times(c->of_first, (uint64_t)c->n_first);
    uint64_t n = each > 0 ? (room - beside) / each : (uint64_t)n_items;
    return n < (uint64_t)n_items ? (int32_t)n : n_items;
}

/* An expert costs its weights in all layers; and the first of them, as many as a token takes, rows
 * that are grouped for them. */
static item_cost expert_cost(const planner *pl, layer_range r)
{
    plan_worker none = {.place = 1};
    plan_worker one = {.place = 1, .n_experts = 1};
    uint64_t rows = plan_work_bytes(&pl->settled, &one) - plan_work_bytes(&pl->settled, &none);
    return (item_cost){expert_bytes(pl, r), rows, pl->model->text.n_experts_per_token};
}

/* A grain of the LM head costs its weights and its logits. */
static item_cost grain_cost(const planner *pl, int32_t stage)
{
    plan_worker none = worker_begin(pl, stage, 0);
    plan_worker one = none;
    one.n_vocab_rows = plan_grain_rows(pl->model, 0, 1);
    uint64_t logits = plan_work_bytes(&pl->settled, &one) - plan_work_bytes(&pl->settled, &none);
    return (item_cost){.each = plan_add(pl->parts.grain, logits)};
}

/* Bytes left for experts and LM-head rows; false where not even the rest fits. */
static bool room_of(const planner *pl, int32_t stage, int32_t place, layer_range r, uint64_t *room)
{
    plan_worker w = worker_begin(pl, stage, place);
    uint64_t taken = plan_add(fixed_bytes(pl, &w, r), plan_work_bytes(&pl->settled, &w));
    uint64_t limit = limit_of(pl, w.rank);
    *room = limit - taken;
    return taken <= limit;
}

/* Dividing a stage */

/* One of the two things that a stage's workers divide. */
typedef struct dividend {
    int32_t *out; /* by place */
    int32_t n_items, least;
    item_cost cost;
    bool last_first; /* the home takes the smaller half */
} dividend;

/* Beside n_other items of the other dividend on each worker. */
static bool divide(const planner *pl, int32_t stage, const uint64_t *room, const dividend *d,
                   const item_cost *other, const int32_t *n_other)
{
    int32_t most[PLAN_WORKERS_MAX];
    int32_t size = plan_dealt_size(pl->n_workers, pl->n_stages, stage);
    int32_t first = plan_dealt_first(pl->n_workers, pl->n_stages, stage);
    for (int32_t i = 0; i < size; i++) {
        uint64_t taken = cost_of(other, n_other[i]);
        most[i] = taken <= room[i] ? items_for(&d->cost, room[i] - taken, d->n_items) : -1;
    }
    return plan_deal(d->out, size, d->n_items, d->least, most, pl->speed + first, d->last_first);
}

/* Experts and LM-head rows over the workers of a stage. Rows first, evenly by speed, which leaves
 * the experts the rest; where that does not fit, experts first. Every byte is either's, so the
 * second way finds room wherever there is any, but for less than one grain on each worker. */
static bool divide_stage(planner *pl, int32_t stage, layer_range r)
{
    uint64_t room[PLAN_WORKERS_MAX];
    int32_t size = plan_dealt_size(pl->n_workers, pl->n_stages, stage);
    for (int32_t i = 0; i < size; i++) {
        if (!room_of(pl, stage, i, r, &room[i])) {
            return false;
        }
    }
    int32_t least = pl->has_experts ? 1 : 0;
    dividend experts = {.out = pl->experts,
                        .n_items = pl->has_experts ? pl->model->text.n_experts : 0,
                        .least = least,
                        .cost = expert_cost(pl, r),
                        .last_first = true};
    dividend rows = {.out = pl->grains,
                     .n_items = stage == pl->n_stages - 1 ? pl->parts.n_grains : 0,
                     .cost = grain_cost(pl, stage)};
    int32_t reserved[PLAN_WORKERS_MAX];
    for (int32_t i = 0; i < size; i++) {
        reserved[i] = least;
    }
    int32_t none[PLAN_WORKERS_MAX] = {0};
    return (divide(pl, stage, room, &rows, &experts.cost, reserved) &&
            divide(pl, stage, room, &experts, &rows.cost, pl->grains)) ||
           (divide(pl, stage, room, &experts, &rows.cost, none) &&
            divide(pl, stage, room, &rows, &experts.cost, pl->experts));
}

/* Bytes that n experts of each sparse layer cost a token, on the average. */
static double active_bytes(const planner *pl, layer_range r, int32_t n_experts)
{
    return (double)expert_bytes(pl, r) * n_experts * pl->parts.active_share;
}

/* Time of one token in a stage of these layers, in bytes at the fastest worker's speed; infinite
 * where they do not fit. Leaves the division in pl->experts and pl->grains. */
static double stage_price(planner *pl, int32_t stage, layer_range r)
{
    if (!divide_stage(pl, stage, r)) {
        return INFINITY;
    }
    const double *speed = pl->speed + plan_dealt_first(pl->n_workers, pl->n_stages, stage);
    int32_t size = plan_dealt_size(pl->n_workers, pl->n_stages, stage);
    double expert_time = 0.0;
    double head_time = 0.0;
    for (int32_t i = 0; i < size; i++) {
        expert_time = fmax(expert_time, active_bytes(pl, r, pl->experts[i]) / speed[i]);
        head_time = fmax(head_time, (double)pl->parts.grain * pl->grains[i] / speed[i]);
    }
    return (double)home_layer_bytes(pl, r) / speed[0] + expert_time + head_time;
}

/* Cutting the layers */

/* Where `even`, sums of squares of stages no slower than `most` are minimised; else the slowest
 * stage. */
static double price_so_far(bool even, double before, double price)
{
    return even ? before + price * price : fmax(before, price);
}

/* Fills best and cut for all ends of stage `stage`. Ranges grow backwards from their end, and so
 * does the price: the first that is too high ends the search. */
static void cut_stage(planner *pl, int32_t stage, bool even, double most)
{
    int32_t last_end = pl->n_layers - (pl->n_stages - 1 - stage);
    int32_t first_end = stage == pl->n_stages - 1 ? pl->n_layers : stage + 1;
    for (int32_t end = first_end; end <= last_end; end++) {
        double *best = &pl->best[cell(pl, stage + 1, end)];
        int32_t lowest = stage == 0 ? 0 : stage;
        for (int32_t first = stage == 0 ? 0 : end - 1; first >= lowest; first--) {
            double price = stage_price(pl, stage, (layer_range){first, end});
            if (price > most || (!even && price >= *best)) {
                break;
            }
            double total = price_so_far(even, pl->best[cell(pl, stage, first)], price);
            if (total < *best) {
                *best = total;
                pl->cut[cell(pl, stage + 1, end)] = first;
            }
        }
    }
}

/* The price of the best cut, infinite where none fits; the cut itself is in pl->cut. */
static double cut_layers(planner *pl, bool even, double most)
{
    size_t n_cells = (size_t)(pl->n_stages + 1) * (size_t)(pl->n_layers + 1);
    for (size_t i = 0; i < n_cells; i++) {
        pl->best[i] = INFINITY;
    }
    pl->best[cell(pl, 0, 0)] = 0.0;
    for (int32_t stage = 0; stage < pl->n_stages; stage++) {
        cut_stage(pl, stage, even, most);
    }
    return pl->best[cell(pl, pl->n_stages, pl->n_layers)];
}

/* Time of the slowest stage at best with this many KV tokens; infinite where they do not fit. */
static double time_with(planner *pl, int64_t kv_tokens)
{
    pl->kv_tokens = pl->settled.kv_tokens = kv_tokens;
    return cut_layers(pl, false, DBL_MAX);
}

/* KV tokens */

/* The most whole blocks in [least, most] tokens that keep the slowest stage within `time`; least is
 * known to. */
static int64_t most_kv_tokens(planner *pl, int64_t least, int64_t most, double time)
{
    if (time_with(pl, most) <= time) {
        return most;
    }
    int64_t fits = least / KV_BLOCK;
    int64_t fails = most / KV_BLOCK;
    while (fails - fits > 1) {
        int64_t middle = fits + (fails - fits) / 2;
        if (time_with(pl, middle * KV_BLOCK) <= time) {
            fits = middle;
        } else {
            fails = middle;
        }
    }
    return fits * KV_BLOCK;
}

/* The tokens that the request asks for at least. */
static int64_t kv_tokens_wanted(const plan_request *r)
{
    int64_t asked = r->kv_tokens;
    if (asked == 0) {
        return PLAN_KV_TOKENS_MIN;
    }
    return (asked - 1) / KV_BLOCK * KV_BLOCK + KV_BLOCK;
}

/* Filling in the plan */

static void fill_worker(const planner *pl, plan_worker *w, layer_range r, int32_t first_expert,
                        int32_t first_grain)
{
    *w = worker_begin(pl, w->stage, w->place);
    w->first_layer = r.first;
    w->n_layers = r.end - r.first;
    w->first_expert = first_expert;
    w->n_experts = pl->experts[w->place];
    int32_t n_grains = pl->grains[w->place];
    w->first_vocab_row = n_grains > 0 ? first_grain * LM_HEAD_GRAIN : 0;
    w->n_vocab_rows = plan_grain_rows(pl->model, first_grain, n_grains);

    if (w->place == 0) {
        w->kv_bytes =
            plan_times(plan_kv_token_bytes(pl->model, w->n_layers), (uint64_t)pl->kv_tokens);
    }
    w->weight_bytes = plan_add(plan_thinker_bytes(pl->model, w), encoder_bytes(pl, w));
    w->work_bytes = plan_work_bytes(&pl->settled, w);
    w->memory_bytes = pl->request->workers[w->rank - 1].memory_bytes;

    double read = active_bytes(pl, r, w->n_experts);
    read += (double)plan_matrix_bytes(w->n_vocab_rows, pl->model->text.hidden_size);
    read += w->place == 0 ? (double)home_layer_bytes(pl, r) : 0.0;
    w->time_share = read / pl->speed[w->rank - 1];
}

static void fill_stage(planner *pl, plan *p, int32_t stage, layer_range r)
{
    double price = stage_price(pl, stage, r); /* for its division */
    CHECK(price < INFINITY);
    int32_t first = plan_dealt_first(pl->n_workers, pl->n_stages, stage);
    int32_t size = plan_dealt_size(pl->n_workers, pl->n_stages, stage);
    int32_t expert = 0;
    int32_t grain = 0;
    for (int32_t i = 0; i < size; i++) {
        plan_worker *w = &p->workers[first + i];
        w->stage = stage;
        w->place = i;
        fill_worker(pl, w, r, expert, grain);
        expert += pl->experts[i];
        grain += pl->grains[i];
    }
}

/* Makes time shares of times. */
static void normalise_times(plan *p)
{
    double sum = 0.0;
    for (int32_t i = 0; i < p->n_workers; i++) {
        sum += p->workers[i].time_share;
    }
    for (int32_t i = 0; i < p->n_workers; i++) {
        p->workers[i].time_share = sum > 0.0 ? p->workers[i].time_share / sum : 0.0;
    }
}

/* The even cut among those whose slowest stage takes `time`, as a plan. */
static void fill_plan(planner *pl, plan *p, double time)
{
    double total = cut_layers(pl, true, time * (1 + 1e-12));
    CHECK(total < INFINITY);
    memset(p, 0, sizeof *p);
    p->n_workers = pl->n_workers;
    p->n_stages = pl->n_stages;
    p->kv_tokens = pl->kv_tokens;
    p->deterministic = pl->request->deterministic;
    p->vision_patches_max =
        pl->vision_rank > 0 ? plan_vision_patches_max(pl->request, pl->kv_tokens) : 0;
    int32_t end = pl->n_layers;
    for (int32_t stage = pl->n_stages - 1; stage >= 0; stage--) {
        int32_t first = pl->cut[cell(pl, stage + 1, end)];
        fill_stage(pl, p, stage, (layer_range){first, end});
        end = first;
    }
    normalise_times(p);
}

/* What the request asks for, in numbers */

static bool wants_audio(const plan_request *r)
{
    return r->model->has_audio && !r->no_media;
}

static bool wants_vision(const plan_request *r)
{
    return r->model->has_vision && !r->no_media;
}

/* An encoder that is wanted and pinned has a worker on that host. */
static flo_code check_pin(const plan_request *r, bool wanted, const char *part, const char *host,
                          flo_err *err)
{
    bool found = !wanted || host == NULL;
    for (int32_t i = 0; i < r->n_workers && !found; i++) {
        found = strcmp(r->workers[i].host, host) == 0;
    }
    return found ? FLO_OK
                 : flo_fail(err, FLO_USAGE,
                            "pins: the %s is pinned to host \"%s\", which has no worker in this "
                            "job",
                            part, host);
}

static flo_code check_pins(const plan_request *r, flo_err *err)
{
    flo_code code = check_pin(r, wants_audio(r), "audio_encoder", r->audio_host, err);
    return code != FLO_OK ? code
                          : check_pin(r, wants_vision(r), "vision_encoder", r->vision_host, err);
}

static flo_code check_request(const planner *pl, flo_err *err)
{
    const plan_request *r = pl->request;
    int32_t n_experts = pl->has_experts ? pl->model->text.n_experts : 1;
    int32_t n_stages = plan_request_stages(r);
    if (r->n_workers < 1 || r->n_workers > PLAN_WORKERS_MAX) {
        return flo_fail(err, FLO_USAGE, "%d workers: there can be 1 to %d", r->n_workers,
                        PLAN_WORKERS_MAX);
    }
    if (n_stages < 1 || n_stages > r->n_workers) {
        return flo_fail(err, FLO_USAGE,
                        "%d stages for %d workers: every stage needs a worker of its own", n_stages,
                        r->n_workers);
    }
    if (n_stages > pl->n_layers) {
        return flo_fail(err, FLO_USAGE,
                        "%d stages for a model of %d layers: at most one stage a layer", n_stages,
                        pl->n_layers);
    }
    if (r->kv_tokens < 0 || r->kv_tokens > INT32_MAX) {
        return flo_fail(err, FLO_USAGE, "%lld KV tokens: there can be 1 to %d",
                        (long long)r->kv_tokens, INT32_MAX);
    }
    int32_t size = plan_dealt_size(r->n_workers, n_stages, 0);
    if (size > n_experts) {
        return flo_fail(err, FLO_USAGE,
                        "%d workers in %d stages are %d to a stage, and %s: at most %lld workers%s",
                        r->n_workers, n_stages, size,
                        pl->has_experts ? "the model has fewer experts in a layer"
                                        : "a model without experts takes one",
                        (long long)n_stages * n_experts,
                        n_stages < pl->n_layers ? ", or more stages" : "");
    }
    return check_pins(r, err);
}

/* Below this all sums of bytes are exact: the arithmetic saturates far above it. */
static const uint64_t model_bytes_limit = (uint64_t)1 << 56;

/* One worker with everything, as if every layer were both dense and sparse. */
static flo_code check_total(const planner *pl, flo_err *err)
{
    plan_worker w = worker_begin(pl, pl->n_stages - 1, 0);
    w.n_experts = pl->model->text.n_experts;
    w.n_vocab_rows = pl->model->text.vocab_size;
    w.has_audio_encoder = wants_audio(pl->request);
    w.has_vision_encoder = wants_vision(pl->request);
    uint64_t experts = plan_times(pl->parts.expert, (uint64_t)pl->model->text.n_experts);
    uint64_t layer = plan_add(plan_add(pl->parts.attention, pl->parts.router),
                              plan_add(pl->parts.dense, experts));
    uint64_t kv = plan_times(plan_kv_token_bytes(pl->model, pl->n_layers), (uint64_t)pl->kv_tokens);
    uint64_t head = plan_times(pl->parts.grain, (uint64_t)pl->parts.n_grains);
    uint64_t sum = plan_add(plan_times(layer, (uint64_t)pl->n_layers), plan_add(kv, head));
    sum = plan_add(sum, encoder_bytes(pl, &w));
    sum = plan_add(sum, plan_add(pl->parts.embedding, plan_work_bytes(&pl->settled, &w)));
    if (sum >= model_bytes_limit) {
        return flo_fail(err, FLO_USAGE, "the model with %lld KV tokens would take over %llu bytes",
                        (long long)pl->kv_tokens, (unsigned long long)model_bytes_limit);
    }
    return FLO_OK;
}

/* When it does not fit */

/* The least that every worker would have to get more for a plan to exist, to a part in a thousand
 * (and a MiB). */
static uint64_t least_extra(planner *pl)
{
    uint64_t fails = 0;
    uint64_t fits = (uint64_t)1 << 20;
    for (pl->extra_bytes = fits; time_with(pl, pl->kv_tokens) == INFINITY; pl->extra_bytes = fits) {
        fails = fits;
        fits = plan_times(fits, 2);
        CHECK(fits > fails);
    }
    while (fits - fails > (1 << 20) && fits - fails > fits / 1024) {
        uint64_t middle = fails + (fits - fails) / 2;
        pl->extra_bytes = middle;
        if (time_with(pl, pl->kv_tokens) < INFINITY) {
            fits = middle;
        } else {
            fails = middle;
        }
    }
    return fits;
}

/* Placing the encoders */

static uint64_t worker_bytes(const plan_worker *w)
{
    return plan_add(plan_add(w->weight_bytes, w->kv_bytes), w->work_bytes);
}

/* A worker as a place for an encoder, in the plan without encoders. */
typedef struct seat {
    int32_t rank; /* 0: none, of an encoder that is not wanted */
    bool has_room;
    uint64_t room;
    double time;
} seat;

/* Room first, then the least time; where there is no room, the most of it. */
static int seats_compare(const void *one, const void *other)
{
    const seat *a = one, *b = other;
    if (a->has_room != b->has_room) {
        return a->has_room ? -1 : 1;
    }
    if (a->has_room && a->time != b->time) {
        return a->time < b->time ? -1 : 1;
    }
    if (a->room != b->room) {
        return a->room > b->room ? -1 : 1;
    }
    return a->rank - b->rank;
}

/* The seats for an encoder, best first, from the plan without them. needed_bytes: on any worker.
 * Returns their number. */
static int32_t seats_sort(seat *seats, const planner *pl, const plan *without, const char *host,
                          uint64_t needed_bytes)
{
    int32_t n = 0;
    for (int32_t i = 0; i < without->n_workers; i++) {
        const plan_worker *w = &without->workers[i];
        uint64_t limit = limit_of(pl, w->rank), taken = worker_bytes(w);
        uint64_t room = limit > taken ? limit - taken : 0;
        if (host == NULL || strcmp(pl->request->workers[i].host, host) == 0) {
            seats[n++] = (seat){w->rank, room >= needed_bytes, room, w->time_share};
        }
    }
    qsort(seats, (size_t)n, sizeof *seats, seats_compare);
    return n;
}

/* Weights and buffers of encoders on a worker that has nothing else. */
static uint64_t bytes_with(const planner *pl, bool audio, bool vision)
{
    plan_worker none = {.place = 1};
    plan_worker w = {.place = 1, .has_audio_encoder = audio, .has_vision_encoder = vision};
    uint64_t work = plan_work_bytes(&pl->settled, &w) - plan_work_bytes(&pl->settled, &none);
    return plan_add(encoder_bytes(pl, &w), work);
}

typedef struct search {   /* for places of the encoders */
    seat *audio, *vision; /* a single seat of rank 0 where one is not wanted */
    int32_t n_audio, n_vision;
    double good_time; /* ends the search */
    double best_time;
    int32_t best_audio, best_vision;
} search;

/* Time with the encoders there; true where the search has ended. */
static bool try_places(planner *pl, search *s, int32_t audio_rank, int32_t vision_rank)
{
    if (pl->places_left-- <= 0) {
        return true;
    }
    pl->audio_rank = audio_rank;
    pl->vision_rank = vision_rank;
    double time = time_with(pl, pl->kv_tokens);
    if (time < s->best_time) {
        s->best_time = time;
        s->best_audio = audio_rank;
        s->best_vision = vision_rank;
    }
    return time <= s->good_time;
}

/* Whether the thinker fits beside the vision encoder alone: if not, no seat of the other helps. */
static bool vision_fits(planner *pl, const search *s, int32_t vision_rank)
{
    pl->places_left--;
    pl->audio_rank = 0;
    pl->vision_rank = vision_rank;
    return s->n_audio == 1 || time_with(pl, pl->kv_tokens) < INFINITY;
}

/* On two workers, in the order of the seats, then both on one. */
static void search_places(planner *pl, search *s)
{
    for (int32_t v = 0; v < s->n_vision && pl->places_left > 0; v++) {
        int32_t vision_rank = s->vision[v].rank;
        if (!vision_fits(pl, s, vision_rank)) {
            continue;
        }
        for (int32_t a = 0; a < s->n_audio; a++) {
            int32_t audio_rank = s->audio[a].rank;
            bool apart = audio_rank != vision_rank;
            if (apart && try_places(pl, s, audio_rank, vision_rank)) {
                return;
            }
        }
    }
    for (int32_t v = 0; v < s->n_vision; v++) {
        for (int32_t a = 0; a < s->n_audio; a++) {
            int32_t rank = s->vision[v].rank;
            if (rank == s->audio[a].rank && try_places(pl, s, rank, rank)) {
                return;
            }
        }
    }
}

/* The best seats where no place was found: a plan that does not fit needs places, too. */
static void take_first_seats(search *s)
{
    s->best_vision = s->vision[0].rank;
    s->best_audio = s->audio[0].rank;
    if (s->n_audio > 1 && s->best_audio == s->best_vision) {
        s->best_audio = s->audio[1].rank;
    }
}

/* Finds the seats' order from a plan without encoders, and goes through them. */
static void place_among(planner *pl, search *s, plan *without, double time)
{
    const plan_request *r = pl->request;
    if (time == INFINITY) {
        pl->extra_bytes = least_extra(pl);
    }
    fill_plan(pl, without, time_with(pl, pl->kv_tokens));
    if (wants_vision(r)) {
        s->n_vision =
            seats_sort(s->vision, pl, without, r->vision_host, bytes_with(pl, false, true));
    }
    if (wants_audio(r)) {
        s->n_audio = seats_sort(s->audio, pl, without, r->audio_host, bytes_with(pl, true, false));
    }
    pl->extra_bytes = 0;
    if (time < INFINITY) {
        search_places(pl, s);
    }
    if (s->best_time == INFINITY) {
        take_first_seats(s);
    }
}

/* Places the encoders that are wanted and returns the time of a token then, with the KV tokens that
 * are asked for; infinite where nothing fits. FLO_FAIL: no memory for it. */
static flo_code place_encoders(planner *pl, int32_t places_tried_max, double *time, flo_err *err)
{
    const plan_request *r = pl->request;
    *time = time_with(pl, kv_tokens_wanted(r));
    if (!wants_audio(r) && !wants_vision(r)) {
        return FLO_OK;
    }
    plan *without = calloc(1, sizeof *without);
    seat *seats = calloc(2 * (size_t)r->n_workers, sizeof *seats);
    flo_code code = FLO_OK;
    if (without == NULL || seats == NULL) {
        code = flo_fail(err, FLO_FAIL, "out of memory while planning");
    } else {
        search s = {.audio = seats,
                    .vision = seats + r->n_workers,
                    .n_audio = 1,
                    .n_vision = 1,
                    .good_time = *time * encoder_slack,
                    .best_time = INFINITY};
        pl->places_left = places_tried_max;
        place_among(pl, &s, without, *time);
        pl->audio_rank = s.best_audio;
        pl->vision_rank = s.best_vision;
        *time = s.best_time;
    }
    free(seats);
    free(without);
    return code;
}

/* The worker that is over its limit by most. */
static const plan_worker *fullest(const plan *p, uint64_t *missing)
{
    const plan_worker *worst = &p->workers[0];
    *missing = 0;
    for (int32_t i = 0; i < p->n_workers; i++) {
        const plan_worker *w = &p->workers[i];
        uint64_t needs = worker_bytes(w);
        if (w->memory_bytes > 0 && needs > w->memory_bytes && needs - w->memory_bytes > *missing) {
            *missing = needs - w->memory_bytes;
            worst = w;
        }
    }
    return worst;
}

static flo_code planner_open(planner **out, const plan_request *r, flo_err *err);
static void planner_close(planner *pl);

static bool request_fits(const plan_request *r)
{
    planner *pl = NULL;
    flo_err ignored;
    if (planner_open(&pl, r, &ignored) != FLO_OK) {
        return false;
    }
    double time = INFINITY;
    place_encoders(pl, PLACES_TRIED_FEW, &time, &ignored);
    planner_close(pl);
    return time < INFINITY;
}

/* How many workers would hold the model, those beyond the ones asked for like the last of them: the
 * fewest for a small cluster, near it for a large one. 0: none up to four times as many. */
static int32_t workers_that_fit(const plan_request *r)
{
    int32_t most = r->n_workers < PLAN_WORKERS_MAX / 4 ? r->n_workers * 4 + 4 : PLAN_WORKERS_MAX;
    int32_t step = 1 + r->n_workers / 16;
    plan_worker_facts *facts = calloc((size_t)most, sizeof *facts);
    if (facts == NULL) {
        return 0;
    }
    for (int32_t i = 0; i < most; i++) {
        facts[i] = r->workers[i < r->n_workers ? i : r->n_workers - 1];
    }
    int32_t found = 0;
    for (int32_t n = r->n_workers + 1; n <= most && found == 0; n += step) {
        plan_request more = *r;
        more.n_workers = n;
        more.workers = facts;
        found = request_fits(&more) ? n : 0;
    }
    free(facts);
    return found;
}

/* The missing bytes are what the worst worker lacks, so every worker having as many more is enough.
 */
static void advise(planner *pl, plan_misfit *misfit)
{
    char text[BYTES_TEXT_MAX];
    char more[64] = "";
    char fewer[64] = "";
    const char *blind = "";
    int32_t n = workers_that_fit(pl->request);
    if (n > 0) {
        snprintf(more, sizeof more, ", or take %d workers with as much each", n);
    }
    int64_t wanted = kv_tokens_wanted(pl->request);
    pl->extra_bytes = 0;
    if (wanted > KV_BLOCK && time_with(pl, KV_BLOCK) < INFINITY) {
        snprintf(fewer, sizeof fewer, ", or ask for --kv-tokens %lld",
                 (long long)most_kv_tokens(pl, KV_BLOCK, wanted, DBL_MAX));
    }
    if (pl->audio_rank > 0 || pl->vision_rank > 0) {
        pl->audio_rank = pl->vision_rank = 0;
        bool fits = time_with(pl, wanted) < INFINITY;
        blind = fits ? ", or leave the encoders out with --no-media" : "";
    }
    uint64_t rounded_up =
        misfit->missing_bytes + misfit->missing_bytes / 128; /* over three digits */
    snprintf(misfit->advice, sizeof misfit->advice, "give each worker %s more memory%s%s%s",
             bytes_print(text, rounded_up), more, fewer, blind);
}

static flo_code say_misfit(planner *pl, const plan_worker *w, plan_misfit *misfit, flo_err *err)
{
    misfit->rank = w->rank;
    snprintf(misfit->host, sizeof misfit->host, "%.255s", pl->request->workers[w->rank - 1].host);
    long long kv_tokens = (long long)pl->kv_tokens;
    advise(pl, misfit);

    char needs[BYTES_TEXT_MAX], has[BYTES_TEXT_MAX], missing[BYTES_TEXT_MAX];
    return flo_fail(
        err, FLO_DIFFERS,
        "the model does not fit with %lld KV tokens: rank %d on %s needs %s and may hold "
        "%s, %llu bytes (%s) are missing; %s",
        kv_tokens, misfit->rank, misfit->host, bytes_print(needs, worker_bytes(w)),
        bytes_print(has, w->memory_bytes), (unsigned long long)misfit->missing_bytes,
        bytes_print(missing, misfit->missing_bytes), misfit->advice);
}

/* Plans with the least extra memory and says who would need it. Grains were reckoned as whole ones;
 * where the last, shorter one leaves the plan within the limits after all, it stands. */
static flo_code plan_closest(planner *pl, plan *p, plan_misfit *misfit, flo_err *err)
{
    pl->kv_tokens = kv_tokens_wanted(pl->request);
    pl->extra_bytes = least_extra(pl);
    fill_plan(pl, p, time_with(pl, pl->kv_tokens));
    memset(misfit, 0, sizeof *misfit);
    const plan_worker *w = fullest(p, &misfit->missing_bytes);
    return misfit->missing_bytes == 0 ? FLO_OK : say_misfit(pl, w, misfit, err);
}

/* The whole */

static flo_code planner_open(planner **out, const plan_request *r, flo_err *err)
{
    planner *pl = calloc(1, sizeof *pl);
    if (pl == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory while planning");
    }
    pl->request = r;
    pl->settled = *r;
    pl->model = r->model;
    pl->n_workers = r->n_workers;
    pl->n_layers = r->model->text.n_layers;
    plan_parts_of(&pl->parts, r->model);
    for (int32_t i = 0; i < pl->n_layers; i++) {
        bool sparse = r->model->text.layer_is_sparse[i] && r->model->text.n_experts > 0;
        pl->n_sparse_before[i + 1] = pl->n_sparse_before[i] + sparse;
    }
    pl->has_experts = pl->n_sparse_before[pl->n_layers] > 0;

    flo_code code = check_request(pl, err);
    if (code != FLO_OK) {
        goto free_planner;
    }
    pl->n_stages = plan_request_stages(r);
    pl->kv_tokens = pl->settled.kv_tokens = kv_tokens_wanted(r);
    code = check_total(pl, err);
    if (code != FLO_OK) {
        goto free_planner;
    }
    plan_speeds(pl->speed, r->workers, r->n_workers);
    size_t n_cells = (size_t)(pl->n_stages + 1) * (size_t)(pl->n_layers + 1);
    pl->best = calloc(n_cells, sizeof *pl->best);
    pl->cut = calloc(n_cells, sizeof *pl->cut);
    if (pl->best == NULL || pl->cut == NULL) {
        code = flo_fail(err, FLO_FAIL, "out of memory while planning");
        goto free_planner;
    }
    *out = pl;
    return FLO_OK;

free_planner:
    planner_close(pl);
    return code;
}

static void planner_close(planner *pl)
{
    if (pl != NULL) {
        free(pl->best);
        free(pl->cut);
        free(pl);
    }
}

flo_code plan_make(plan *p, const plan_request *request, plan_misfit *misfit, flo_err *err)
{
    planner *pl = NULL;
    flo_code code = planner_open(&pl, request, err);
    if (code != FLO_OK) {
        return code;
    }
    int64_t kv_tokens = kv_tokens_wanted(request);
    double time;
    code = place_encoders(pl, PLACES_TRIED_MAX, &time, err);
    if (code != FLO_OK) {
        planner_close(pl);
        return code;
    }
    if (time == INFINITY) {
        code = plan_closest(pl, p, misfit, err);
    } else {
        if (request->kv_tokens == 0) {
            kv_tokens = most_kv_tokens(pl, kv_tokens, PLAN_KV_TOKENS_MAX, time * kv_slack);
        }
        fill_plan(pl, p, time_with(pl, kv_tokens));
    }
    CHECK(code != FLO_OK || plan_is_valid(p, request->model));
    planner_close(pl);
    return code;
}

int32_t plan_stage_home(const plan *p, int32_t stage)
{
    return plan_dealt_first(p->n_workers, p->n_stages, stage) + 1;
}

int32_t plan_stage_size(const plan *p, int32_t stage)
{
    return plan_dealt_size(p->n_workers, p->n_stages, stage);
}

const plan_worker *plan_audio_worker(const plan *p)
{
    for (int32_t i = 0; i < p->n_workers; i++) {
        if (p->workers[i].has_audio_encoder) {
            return &p->workers[i];
        }
    }
    return NULL;
}

const plan_worker *plan_vision_worker(const plan *p)
{
    for (int32_t i = 0; i < p->n_workers; i++) {
        if (p->workers[i].has_vision_encoder) {
            return &p->workers[i];
        }
    }
    return NULL;
}

/* Validity */

/* Takes [first, first + n) behind *end; false unless it begins there and stays within `limit`. */
static bool takes_next(int64_t *end, int32_t first, int32_t n, int64_t limit)
{
    if (n == 0) {
        return true;
    }
    bool follows = n > 0 && first == *end && (int64_t)first + n <= limit;
    *end += n;
    return follows;
}

/* The workers of one stage: the same layers, and everything in them owned once, in rising ranges.
 */
static bool stage_is_valid(const plan *p, const model_config *m, int32_t stage, bool has_experts)
{
    const text_config *t = &m->text;
    const plan_worker *home = &p->workers[plan_stage_home(p, stage) - 1];
    int32_t size = plan_stage_size(p, stage);
    bool is_last = stage == p->n_stages - 1;
    int64_t expert = 0;
    int64_t kv_head = 0;
    int64_t row = 0;
    for (int32_t i = 0; i < size; i++) {
        const plan_worker *w = &home[i];
        bool sits = w->rank == plan_stage_home(p, stage) + i && w->stage == stage &&
                    w->place == i && w->first_layer == home->first_layer &&
                    w->n_layers == home->n_layers && w->has_embedding == (stage == 0 && i == 0) &&
                    w->has_final_norm == (is_last && i == 0);
        bool owns = takes_next(&expert, w->first_expert, w->n_experts, t->n_experts) &&
                    takes_next(&kv_head, w->first_kv_head, w->n_kv_heads, t->n_kv_heads) &&
                    takes_next(&row, w->first_vocab_row, w->n_vocab_rows, t->vocab_size);
        bool whole_grains = w->n_vocab_rows == 0 || w->first_vocab_row % LM_HEAD_GRAIN == 0;
        if (!sits || !owns || !whole_grains || (has_experts && w->n_experts < 1)) {
            return false;
        }
    }
    return expert == (has_experts ? t->n_experts : 0) && kv_head == t->n_kv_heads &&
           row == (is_last ? t->vocab_size : 0);
}

/* Each encoder of the model on one worker, or none at all. */
static bool encoders_are_valid(const plan *p, const model_config *m)
{
    int32_t n_audio = 0;
    int32_t n_vision = 0;
    for (int32_t i = 0; i < p->n_workers; i++) {
        n_audio += p->workers[i].has_audio_encoder;
        n_vision += p->workers[i].has_vision_encoder;
    }
    bool left_out = n_audio == 0 && n_vision == 0;
    bool owned = n_audio == m->has_audio && n_vision == m->has_vision;
    int64_t merge2 = (int64_t)m->vision.spatial_merge_size * m->vision.spatial_merge_size;
    int64_t most = p->vision_patches_max;
    bool bounded = n_vision == 0 ? most == 0
                                 : most >= merge2 && most <= INT32_MAX &&
                                       most / merge2 <= p->kv_tokens && most % merge2 == 0;
    return (left_out || owned) && bounded;
}

bool plan_is_valid(const plan *p, const model_config *m)
{
    const text_config *t = &m->text;
    if (p->n_workers < 1 || p->n_workers > PLAN_WORKERS_MAX || p->n_stages < 1 ||
        p->n_stages > p->n_workers || p->kv_tokens < KV_BLOCK || p->kv_tokens % KV_BLOCK != 0) {
        return false;
    }
    bool has_experts = false;
    for (int32_t i = 0; i < t->n_layers; i++) {
        has_experts = has_experts || (t->layer_is_sparse[i] && t->n_experts > 0);
    }
    int64_t layer = 0;
    for (int32_t stage = 0; stage < p->n_stages; stage++) {
        const plan_worker *home = &p->workers[plan_stage_home(p, stage) - 1];
        if (home->n_layers < 1 ||
            !takes_next(&layer, home->first_layer, home->n_layers, t->n_layers) ||
            !stage_is_valid(p, m, stage, has_experts)) {
            return false;
        }
    }
    return layer == t->n_layers && encoders_are_valid(p, m);
}

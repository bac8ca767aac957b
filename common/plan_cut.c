/*
 * plan_cut.c - cut the layers into stages and each stage over its workers, so that the slowest
 * stage is as fast as memory allows.
 *
 * A stage of given layers has one price: its home reads attention and router, then all its workers
 * read their experts side by side, then (last stage) their rows of the LM head. The price grows
 * with the range of layers, so the best cut is a small dynamic programme over (stage, end of
 * range); a second one takes, among the cuts that are as fast, the most even one. Costs about
 * L^2 log S stage prices: under a millisecond for 48 layers on 3 workers.
 */
#include "common/check.h"
#include "common/plan_search.h"

#include <float.h>
#include <math.h>
#include <string.h>

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
    plan_worker w = {
        .rank = rank,
        .stage = stage,
        .place = place,
        .n_kv_heads = is_home ? pl->model->text.n_kv_heads : 0,
        .has_embedding = is_home && stage == 0,
        .has_final_norm = is_home && stage == pl->n_stages - 1,
        .n_talker_experts = pl->places.talker_experts[rank - 1],
    };
    for (int part = 0; part < PART_COUNT; part++) {
        *plan_part_flag(&w, (plan_part)part) = pl->places.rank[part] == rank;
    }
    return w;
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

uint64_t planner_limit(const planner *pl, int32_t rank)
{
    uint64_t memory = pl->request->workers[rank - 1].memory_bytes;
    return plan_add(memory > 0 ? memory : UINT64_MAX, pl->extra_bytes);
}

static uint64_t part_weight_bytes(const planner *pl, const plan_worker *w)
{
    uint64_t media = plan_add(w->has_audio_encoder ? plan_audio_bytes(pl->model) : 0,
                              w->has_vision_encoder ? plan_vision_bytes(pl->model) : 0);
    uint64_t sound = plan_add(w->has_code_predictor ? plan_predictor_bytes(pl->model) : 0,
                              w->has_code2wav ? plan_code2wav_bytes(pl->model) : 0);
    uint64_t talker =
        w->has_talker || w->n_talker_experts > 0 ? plan_talker_bytes(pl->model, w) : 0;
    return plan_add(media, plan_add(sound, talker));
}

static uint64_t talker_kv_bytes(const planner *pl, const plan_worker *w)
{
    return w->has_talker ? plan_times(plan_talker_kv_token_bytes(pl->model),
                                      (uint64_t)plan_talker_tokens(pl->kv_tokens))
                         : 0;
}

uint64_t planner_part_bytes(const planner *pl, const plan_worker *w)
{
    return plan_add(part_weight_bytes(pl, w), talker_kv_bytes(pl, w));
}

/* Weights and cache that a worker has whatever its share of experts and rows. */
static uint64_t fixed_bytes(const planner *pl, const plan_worker *w, layer_range r)
{
    uint64_t n = planner_part_bytes(pl, w);
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
    return (item_cost){expert_bytes(pl, r), pl->expert_rows, pl->model->text.n_experts_per_token};
}

/* A grain of the LM head costs its weights and, in the last stage, its logits. */
static item_cost grain_cost(const planner *pl, int32_t stage)
{
    uint64_t logits = stage == pl->n_stages - 1 ? pl->grain_logits : 0;
    return (item_cost){.each = plan_add(pl->parts.grain, logits)};
}

void planner_price_items(planner *pl)
{
    plan_worker none = {.place = 1}, expert = {.place = 1, .n_experts = 1};
    pl->expert_rows = plan_work_bytes(&pl->settled, &expert) - plan_work_bytes(&pl->settled, &none);
    none = worker_begin(pl, pl->n_stages - 1, 0);
    plan_worker grain = none;
    grain.n_vocab_rows = plan_grain_rows(pl->model, 0, 1);
    pl->grain_logits = plan_work_bytes(&pl->settled, &grain) - plan_work_bytes(&pl->settled, &none);
}

/* Bytes left for experts and LM-head rows; false where not even the rest fits. */
static bool room_of(const planner *pl, int32_t stage, int32_t place, layer_range r, uint64_t *room)
{
    plan_worker w = worker_begin(pl, stage, place);
    uint64_t taken = plan_add(fixed_bytes(pl, &w, r), plan_work_bytes(&pl->settled, &w));
    uint64_t limit = planner_limit(pl, w.rank);
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
    int32_t size = plan_dealt_size(pl->n_workers, pl->n_stages, stage);
    pl->n_priced += size;
    if (!divide_stage(pl, stage, r)) {
        return INFINITY;
    }
    const double *speed = pl->speed + plan_dealt_first(pl->n_workers, pl->n_stages, stage);
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

/* Prices of one stage that were asked for already. They depend on numbers of layers alone, and a
 * model has few different layers: the one priced last of each length is remembered. */
typedef struct price_list {
    int32_t n_sparse[MODEL_LAYERS_MAX + 1]; /* by length; -1: not priced yet */
    double price[MODEL_LAYERS_MAX + 1];
} price_list;

static double price_of(planner *pl, int32_t stage, layer_range r, price_list *known)
{
    int32_t n = r.end - r.first, n_sparse = n_sparse_in(pl, r);
    if (known->n_sparse[n] != n_sparse) {
        known->n_sparse[n] = n_sparse;
        known->price[n] = stage_price(pl, stage, r);
    }
    return known->price[n];
}

/* Fills best and cut for all ends of stage `stage`. Ranges grow backwards from their end, and so
 * does the price: the first that is too high ends the search. */
static void cut_stage(planner *pl, int32_t stage, bool even, double most)
{
    price_list known;
    memset(known.n_sparse, -1, sizeof known.n_sparse);
    int32_t last_end = pl->n_layers - (pl->n_stages - 1 - stage);
    int32_t first_end = stage == pl->n_stages - 1 ? pl->n_layers : stage + 1;
    for (int32_t end = first_end; end <= last_end; end++) {
        double *best = &pl->best[cell(pl, stage + 1, end)];
        int32_t lowest = stage == 0 ? 0 : stage;
        for (int32_t first = stage == 0 ? 0 : end - 1; first >= lowest; first--) {
            double price = price_of(pl, stage, (layer_range){first, end}, &known);
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

double planner_time(planner *pl, int64_t kv_tokens)
{
    pl->kv_tokens = pl->settled.kv_tokens = kv_tokens;
    return cut_layers(pl, false, DBL_MAX);
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

    w->kv_bytes = talker_kv_bytes(pl, w);
    if (w->place == 0) {
        uint64_t each = plan_kv_token_bytes(pl->model, w->n_layers);
        w->kv_bytes = plan_add(w->kv_bytes, plan_times(each, (uint64_t)pl->kv_tokens));
    }
    w->weight_bytes = plan_add(plan_thinker_bytes(pl->model, w), part_weight_bytes(pl, w));
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

/* Ranges of the talker's experts: its home has the first, the others follow by rank. */
static void number_talker_experts(plan *p, int32_t home)
{
    if (home == 0) {
        return;
    }
    int32_t first = p->workers[home - 1].n_talker_experts;
    for (int32_t i = 0; i < p->n_workers; i++) {
        plan_worker *w = &p->workers[i];
        if (w->rank != home && w->n_talker_experts > 0) {
            w->first_talker_expert = first;
            first += w->n_talker_experts;
        }
    }
}

void planner_fill(planner *pl, plan *p, double time)
{
    double total = cut_layers(pl, true, time * (1 + 1e-12));
    CHECK(total < INFINITY);
    memset(p, 0, sizeof *p);
    p->n_workers = pl->n_workers;
    p->n_stages = pl->n_stages;
    p->kv_tokens = pl->kv_tokens;
    p->deterministic = pl->request->deterministic;
    p->vision_patches_max =
        pl->places.rank[PART_VISION] > 0 ? plan_vision_patches_max(pl->request, pl->kv_tokens) : 0;
    p->talker_tokens = pl->places.rank[PART_TALKER] > 0 ? plan_talker_tokens(pl->kv_tokens) : 0;
    int32_t end = pl->n_layers;
    for (int32_t stage = pl->n_stages - 1; stage >= 0; stage--) {
        int32_t first = pl->cut[cell(pl, stage + 1, end)];
        fill_stage(pl, p, stage, (layer_range){first, end});
        end = first;
    }
    number_talker_experts(p, pl->places.rank[PART_TALKER]);
    normalise_times(p);
}

/* When it does not fit */

void planner_least_extra(planner *pl)
{
    uint64_t fails = 0;
    uint64_t fits = (uint64_t)1 << 20;
    for (pl->extra_bytes = fits; planner_time(pl, pl->kv_tokens) == INFINITY;
         pl->extra_bytes = fits) {
        fails = fits;
        fits = plan_times(fits, 2);
        CHECK(fits > fails);
    }
    while (fits - fails > (1 << 20) && fits - fails > fits / 1024) {
        uint64_t middle = fails + (fits - fails) / 2;
        pl->extra_bytes = middle;
        if (planner_time(pl, pl->kv_tokens) < INFINITY) {
            fits = middle;
        } else {
            fails = middle;
        }
    }
    pl->extra_bytes = fits;
}

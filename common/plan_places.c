/*
 * plan_places.c - seat the parts that are not cut: encoders, talker, code predictor, vocoder.
 *
 * Their time is not a token's, so only their memory matters to the cut of the layers. A plan
 * without them tells who has room and who is idle, and so each part's seats, best first; of those
 * the ones with the fewest other parts come first, so that parts run side by side. The largest part
 * is seated first, and moved on where the layers can no longer be cut (nearly) as fast. What keeps
 * the layers fast is tried first, with no more parts on a worker than need be; then any number;
 * then with the talker's experts dealt out, the other parts being seated before; at last whatever
 * is fastest. Each of these searches ends after so many prices of stages.
 */
#include "common/check.h"
#include "common/plan_search.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Layers or experts may be moved for a part to have a better seat where that costs no more. */
static const double places_slack = 1.10;

/* A worker as a place for a part, in the plan without parts. */
typedef struct seat {
    int32_t rank;
    bool has_room;
    uint64_t room;
    double time;
} seat;

typedef struct search {
    seat *seats[PART_COUNT];
    int32_t n_seats[PART_COUNT];
    plan *scratch;                 /* the plan without parts, then without talker's experts */
    plan_part by_size[PART_COUNT]; /* those that are wanted, the largest first */
    plan_part order[PART_COUNT];   /* in which they are seated */
    int32_t n_parts;
    bool spread;          /* the talker's experts are dealt out */
    int32_t crowd_max;    /* parts on a worker */
    double most_time;     /* of a token: slower places are passed by */
    double good_time;     /* ends the search */
    int64_t n_priced_max; /* and so does this */
    double best_time;
    plan_places best;
} search;

/* --- seats ------------------------------------------------------------------------------------
 */

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

static uint64_t room_on(const planner *pl, const plan_worker *w)
{
    uint64_t taken = plan_add(plan_add(w->weight_bytes, w->kv_bytes), w->work_bytes);
    uint64_t limit = planner_limit(pl, w->rank);
    return limit > taken ? limit - taken : 0;
}

/* The seats of a part, best first, from the plan without parts. needed_bytes: on any worker.
 * Returns their number. */
static int32_t seats_sort(seat *seats, const planner *pl, const plan *without, const char *host,
                          uint64_t needed_bytes)
{
    int32_t n = 0;
    for (int32_t i = 0; i < without->n_workers; i++) {
        const plan_worker *w = &without->workers[i];
        uint64_t room = room_on(pl, w);
        if (host == NULL || strcmp(pl->request->workers[i].host, host) == 0) {
            seats[n++] = (seat){w->rank, room >= needed_bytes, room, w->time_share};
        }
    }
    qsort(seats, (size_t)n, sizeof *seats, seats_compare);
    return n;
}

/* What a worker that has nothing else takes more with these parts. */
static uint64_t bytes_with(const planner *pl, const plan_worker *w)
{
    plan_worker none = {.place = 1};
    uint64_t work = plan_work_bytes(&pl->settled, w) - plan_work_bytes(&pl->settled, &none);
    return plan_add(planner_part_bytes(pl, w), work);
}

static uint64_t part_bytes(const planner *pl, plan_part part)
{
    plan_worker w = {.place = 1};
    *plan_part_flag(&w, part) = true;
    w.n_talker_experts = part == PART_TALKER ? pl->model->talker.n_experts : 0;
    return bytes_with(pl, &w);
}

/* --- the talker's experts ---------------------------------------------------------------------
 */

typedef struct owner { /* of experts of the talker */
    int32_t rank;
    int32_t most; /* that it has room for */
    double time;
} owner;

static int owners_compare(const void *one, const void *other)
{
    const owner *a = one, *b = other;
    if (a->most != b->most) {
        return a->most > b->most ? -1 : 1;
    }
    return a->time != b->time ? (a->time < b->time ? -1 : 1) : a->rank - b->rank;
}

/* All workers as owners, the home first, then those with the most room. */
static void owners_sort(owner *owners, const planner *pl, const plan *without, int32_t home)
{
    int32_t n_experts = pl->model->talker.n_experts;
    plan_worker none = {.place = 1}, all = {.place = 1, .n_talker_experts = n_experts};
    uint64_t weights = planner_part_bytes(pl, &all);
    uint64_t rows = bytes_with(pl, &all) - bytes_with(pl, &none) - weights;
    uint64_t each = weights / (uint64_t)n_experts + 1;
    int32_t n = 1;
    for (int32_t i = 0; i < without->n_workers; i++) {
        const plan_worker *w = &without->workers[i];
        uint64_t room = room_on(pl, w), beside = w->rank == home ? 0 : rows;
        uint64_t most = room > beside ? (room - beside) / each : 0;
        most = most < (uint64_t)n_experts ? most : (uint64_t)n_experts;
        owners[w->rank == home ? 0 : n++] = (owner){w->rank, (int32_t)most, w->time_share};
    }
    qsort(owners + 1, (size_t)(n - 1), sizeof *owners, owners_compare);
}

/* The first of the owners that have room for all experts together; all of them where not even they
 * have. */
static int32_t fewest_owners(const owner *owners, int32_t n_workers, int32_t n_experts)
{
    int64_t room = 0;
    for (int32_t n = 1; n <= n_workers; n++) {
        room += owners[n - 1].most;
        if (room >= n_experts) {
            return n;
        }
    }
    return n_workers < n_experts ? n_workers : n_experts;
}

/* Deals the experts by speed as far as there is room; by speed alone where it does not suffice: the
 * layers may make more. */
static void deal_experts(planner *pl, const owner *owners, int32_t n_owners)
{
    int32_t n_experts = pl->model->talker.n_experts;
    int32_t most[PLAN_WORKERS_MAX] = {0}, all[PLAN_WORKERS_MAX] = {0}, out[PLAN_WORKERS_MAX];
    double speed[PLAN_WORKERS_MAX] = {0};
    for (int32_t i = 0; i < n_owners; i++) {
        most[i] = owners[i].most;
        all[i] = n_experts;
        speed[i] = pl->speed[owners[i].rank - 1];
    }
    if (!plan_deal(out, n_owners, n_experts, 1, most, speed, true)) {
        CHECK(plan_deal(out, n_owners, n_experts, 1, all, speed, true));
    }
    for (int32_t i = 0; i < n_owners; i++) {
        pl->places.talker_experts[owners[i].rank - 1] = out[i];
    }
}

/* Deals the talker's experts, whose home is seated: to as many workers as are asked for, or to as
 * few as have room. */
static void spread_talker(planner *pl, const plan *without)
{
    owner owners[PLAN_WORKERS_MAX];
    int32_t asked = pl->request->talker_workers;
    owners_sort(owners, pl, without, pl->places.rank[PART_TALKER]);
    deal_experts(pl, owners,
                 asked > 0 ? asked
                           : fewest_owners(owners, pl->n_workers, pl->model->talker.n_experts));
}

/* --- the search -------------------------------------------------------------------------------
 */

static double time_now(planner *pl)
{
    return planner_time(pl, pl->kv_tokens);
}

static void unseat(planner *pl, plan_part part)
{
    pl->places.rank[part] = 0;
    if (part == PART_TALKER) {
        memset(pl->places.talker_experts, 0, sizeof pl->places.talker_experts);
    }
}

/* Puts a part on a worker and returns the time of a token then. */
static double seat_on(planner *pl, const search *s, plan_part part, int32_t rank)
{
    pl->places.rank[part] = rank;
    if (part != PART_TALKER) {
        return time_now(pl);
    }
    if (!s->spread) {
        pl->places.talker_experts[rank - 1] = pl->model->talker.n_experts;
        return time_now(pl);
    }
    double time = time_now(pl);
    if (time == INFINITY) {
        return time;
    }
    planner_fill(pl, s->scratch, time);
    spread_talker(pl, s->scratch);
    return time_now(pl);
}

/* Parts that a worker has already, those that would run together with this one above all: the
 * encoders before an answer, the parts of speech during it. */
static int32_t crowd_on(const planner *pl, int32_t rank, plan_part part, int32_t *n_parts)
{
    int32_t crowd = 0;
    *n_parts = 0;
    for (int i = 0; i < PART_COUNT; i++) {
        if (pl->places.rank[i] == rank) {
            bool together = plan_part_is_speech((plan_part)i) == plan_part_is_speech(part);
            crowd += together ? PART_COUNT : 1;
            ++*n_parts;
        }
    }
    return crowd;
}

static bool seat_from(planner *pl, search *s, int32_t depth, double time);

/* The part on a worker, and all that follow; true where the search has ended. */
static bool try_seat(planner *pl, search *s, int32_t depth, int32_t rank)
{
    if (pl->n_priced >= s->n_priced_max) {
        return true;
    }
    double time = seat_on(pl, s, s->order[depth], rank);
    bool ended = time < INFINITY && time <= s->most_time && seat_from(pl, s, depth + 1, time);
    unseat(pl, s->order[depth]);
    return ended;
}

/* Seats the parts from order[depth] on, workers with fewer parts first; true where the search has
 * ended. */
static bool seat_from(planner *pl, search *s, int32_t depth, double time)
{
    if (depth == s->n_parts) {
        s->best_time = time;
        s->best = pl->places;
        s->most_time = time * (1 - 1e-9);
        return time <= s->good_time;
    }
    plan_part part = s->order[depth];
    for (int32_t crowd = 0; crowd < PART_COUNT * PART_COUNT; crowd++) {
        for (int32_t i = 0; i < s->n_seats[part]; i++) {
            int32_t rank = s->seats[part][i].rank, n_parts;
            if (crowd_on(pl, rank, part, &n_parts) == crowd && n_parts < s->crowd_max &&
                try_seat(pl, s, depth, rank)) {
                return true;
            }
        }
    }
    return false;
}

/* The parts by their size; where the talker is dealt out, it fills what the others leave. */
static void set_order(search *s, bool spread)
{
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_parts; i++) {
        if (!spread || s->by_size[i] != PART_TALKER) {
            s->order[n++] = s->by_size[i];
        }
    }
    if (n < s->n_parts) {
        s->order[n] = PART_TALKER;
    }
    s->spread = spread;
}

/* The searches in the order in which their results are wanted. */
static void search_places(planner *pl, search *s, int64_t n_priced_max)
{
    const plan_request *r = pl->request;
    bool has_talker = plan_wants_part(r, PART_TALKER);
    bool may_be_whole = !has_talker || r->talker_workers <= 1;
    bool may_spread = has_talker && r->talker_workers != 1 && r->n_workers > 1;
    int32_t even = (s->n_parts + r->n_workers - 1) / r->n_workers;
    const struct {
        bool spread;
        int32_t crowd_max;
        double most_time;
    } tries[] = {{false, even, s->good_time},  {false, PART_COUNT, s->good_time},
                 {true, even, s->good_time},   {true, PART_COUNT, s->good_time},
                 {false, PART_COUNT, DBL_MAX}, {true, PART_COUNT, DBL_MAX}};
    for (size_t i = 0; i < sizeof tries / sizeof tries[0] && s->best_time == INFINITY; i++) {
        if (tries[i].spread ? may_spread : may_be_whole) {
            set_order(s, tries[i].spread);
            s->crowd_max = tries[i].crowd_max;
            s->most_time = tries[i].most_time;
            s->n_priced_max = pl->n_priced + n_priced_max;
            seat_from(pl, s, 0, INFINITY);
        }
    }
}

/* The least crowded of the best seats where none was found to do: a plan that does not fit needs
 * places, too. The talker is dealt to all workers then, unless it was asked for otherwise. */
static void take_first_seats(planner *pl, search *s)
{
    set_order(s, true);
    for (int32_t i = 0; i < s->n_parts; i++) {
        plan_part part = s->order[i];
        int32_t best = 0, fewest = INT32_MAX;
        for (int32_t k = 0; k < s->n_seats[part]; k++) {
            int32_t n_parts, crowd = crowd_on(pl, s->seats[part][k].rank, part, &n_parts);
            best = crowd < fewest ? s->seats[part][k].rank : best;
            fewest = crowd < fewest ? crowd : fewest;
        }
        pl->places.rank[part] = best;
    }
    if (plan_wants_part(pl->request, PART_TALKER)) {
        owner owners[PLAN_WORKERS_MAX];
        int32_t asked = pl->request->talker_workers, n_experts = pl->model->talker.n_experts;
        int32_t most = pl->n_workers < n_experts ? pl->n_workers : n_experts;
        owners_sort(owners, pl, s->scratch, pl->places.rank[PART_TALKER]);
        deal_experts(pl, owners, asked > 0 ? asked : most);
    }
}

static void sort_by_size(planner *pl, search *s)
{
    uint64_t size[PART_COUNT];
    for (int i = 0; i < PART_COUNT; i++) {
        plan_part part = (plan_part)i;
        if (plan_wants_part(pl->request, part)) {
            size[part] = part_bytes(pl, part);
            int32_t at = s->n_parts++;
            for (; at > 0 && size[s->by_size[at - 1]] < size[part]; at--) {
                s->by_size[at] = s->by_size[at - 1];
            }
            s->by_size[at] = part;
        }
    }
}

/* Finds the seats' order from a plan without parts, and goes through them. */
static void seat_all(planner *pl, search *s, double time, int64_t n_priced_max)
{
    if (time == INFINITY) {
        planner_least_extra(pl);
    }
    planner_fill(pl, s->scratch, time_now(pl));
    sort_by_size(pl, s);
    for (int32_t i = 0; i < s->n_parts; i++) {
        plan_part part = s->by_size[i];
        s->n_seats[part] = seats_sort(s->seats[part], pl, s->scratch,
                                      plan_part_host(pl->request, part), part_bytes(pl, part));
    }
    pl->extra_bytes = 0;
    if (time < INFINITY) {
        search_places(pl, s, n_priced_max);
    }
    if (s->best_time < INFINITY) {
        pl->places = s->best;
    } else {
        take_first_seats(pl, s);
    }
}

static bool wants_any(const plan_request *r)
{
    for (int part = 0; part < PART_COUNT; part++) {
        if (plan_wants_part(r, (plan_part)part)) {
            return true;
        }
    }
    return false;
}

flo_code planner_seat_parts(planner *pl, int64_t n_priced_max, double *time, flo_err *err)
{
    size_t n = (size_t)pl->n_workers;
    *time = planner_time(pl, planner_kv_tokens_wanted(pl->request));
    if (!wants_any(pl->request)) {
        return FLO_OK;
    }
    search s = {.good_time = *time * places_slack, .best_time = INFINITY};
    seat *seats = calloc(PART_COUNT * n, sizeof *seats);
    flo_code code = FLO_OK;
    s.scratch = calloc(1, sizeof *s.scratch);
    if (seats == NULL || s.scratch == NULL) {
        code = flo_fail(err, FLO_FAIL, "out of memory while planning");
    } else {
        for (size_t part = 0; part < PART_COUNT; part++) {
            s.seats[part] = seats + part * n;
        }
        seat_all(pl, &s, *time, n_priced_max);
        *time = s.best_time;
    }
    free(seats);
    free(s.scratch);
    return code;
}

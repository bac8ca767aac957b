/*
 * plan.c - the plan of a request: the parts seated, the layers cut, the KV cache as large as fits;
 * or where and by how much it does not fit, and what would help.
 *
 * plan_cut.c prices a cut of the layers for given places and KV tokens. What remains is
 * one-dimensional and monotone, and bisected around it: how many KV tokens fit, and by how much a
 * plan that does not fit misses.
 */
#include "common/plan.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/plan_parts.h"
#include "common/plan_search.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* KV capacity may cost this much time, by moving layers or experts off a full worker, not more. */
static const double kv_slack = 1.10;

/* Workers priced in each of the few searches for places: some tenths of a second; and where many
 * such plans are only asked whether they fit. */
enum { PRICED_MAX = 250000, PRICED_FEW = 20000 };

/* KV tokens */

/* The most whole blocks in [least, most] tokens that keep the slowest stage within `time`; least is
 * known to. */
static int64_t most_kv_tokens(planner *pl, int64_t least, int64_t most, double time)
{
    if (planner_time(pl, most) <= time) {
        return most;
    }
    int64_t fits = least / KV_BLOCK;
    int64_t fails = most / KV_BLOCK;
    while (fails - fits > 1) {
        int64_t middle = fits + (fails - fits) / 2;
        if (planner_time(pl, middle * KV_BLOCK) <= time) {
            fits = middle;
        } else {
            fails = middle;
        }
    }
    return fits * KV_BLOCK;
}

int64_t planner_kv_tokens_wanted(const plan_request *r)
{
    int64_t asked = r->kv_tokens;
    if (asked == 0) {
        return PLAN_KV_TOKENS_MIN;
    }
    return (asked - 1) / KV_BLOCK * KV_BLOCK + KV_BLOCK;
}
/* What the request asks for, in numbers */

/* A part that is wanted and pinned has a worker on that host. */
static flo_code check_pin(const plan_request *r, plan_part part, flo_err *err)
{
    const char *host = plan_part_host(r, part);
    bool found = !plan_wants_part(r, part) || host == NULL;
    for (int32_t i = 0; i < r->n_workers && !found; i++) {
        found = strcmp(r->workers[i].host, host) == 0;
    }
    return found ? FLO_OK
                 : flo_fail(err, FLO_USAGE,
                            "pins: the %s is pinned to host \"%s\", which has no worker in this "
                            "job",
                            plan_part_name(part), host);
}

static flo_code check_talker_workers(const plan_request *r, flo_err *err)
{
    if (!plan_wants_part(r, PART_TALKER)) {
        return FLO_OK;
    }
    if (r->talker_workers < 0 || r->talker_workers > r->n_workers) {
        return flo_fail(err, FLO_USAGE,
                        "pins: the talker's experts are to be dealt to %d workers, of %d in this "
                        "job",
                        r->talker_workers, r->n_workers);
    }
    if (r->talker_workers > r->model->talker.n_experts) {
        return flo_fail(err, FLO_USAGE,
                        "pins: the talker's experts are to be dealt to %d workers, and it has %d "
                        "in a layer",
                        r->talker_workers, r->model->talker.n_experts);
    }
    return FLO_OK;
}

static flo_code check_pins(const plan_request *r, flo_err *err)
{
    flo_code code = check_talker_workers(r, err);
    for (int part = 0; part < PART_COUNT && code == FLO_OK; part++) {
        code = check_pin(r, (plan_part)part, err);
    }
    return code;
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
    plan_worker w = {.rank = plan_dealt_first(pl->n_workers, pl->n_stages, pl->n_stages - 1) + 1,
                     .stage = pl->n_stages - 1,
                     .n_experts = pl->model->text.n_experts,
                     .n_vocab_rows = pl->model->text.vocab_size};
    for (int part = 0; part < PART_COUNT; part++) {
        *plan_part_flag(&w, (plan_part)part) = plan_wants_part(pl->request, (plan_part)part);
    }
    w.n_talker_experts = w.has_talker ? pl->model->talker.n_experts : 0;
    uint64_t experts = plan_times(pl->parts.expert, (uint64_t)pl->model->text.n_experts);
    uint64_t layer = plan_add(plan_add(pl->parts.attention, pl->parts.router),
                              plan_add(pl->parts.dense, experts));
    uint64_t kv = plan_times(plan_kv_token_bytes(pl->model, pl->n_layers), (uint64_t)pl->kv_tokens);
    uint64_t head = plan_times(pl->parts.grain, (uint64_t)pl->parts.n_grains);
    uint64_t sum = plan_add(plan_times(layer, (uint64_t)pl->n_layers), plan_add(kv, head));
    sum = plan_add(sum, planner_part_bytes(pl, &w));
    sum = plan_add(sum, plan_add(pl->parts.embedding, plan_work_bytes(&pl->settled, &w)));
    if (sum >= model_bytes_limit) {
        return flo_fail(err, FLO_USAGE, "the model with %lld KV tokens would take over %llu bytes",
                        (long long)pl->kv_tokens, (unsigned long long)model_bytes_limit);
    }
    return FLO_OK;
}

/* When it does not fit */

static uint64_t worker_bytes(const plan_worker *w)
{
    return plan_add(plan_add(w->weight_bytes, w->kv_bytes), w->work_bytes);
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
    planner_seat_parts(pl, PRICED_FEW, &time, &ignored);
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

/* The parts without which it would fit, as an advice; "" for none. */
static void say_left_out(char *advice, size_t n_bytes, const plan_request *r)
{
    plan_request no_speech = *r, no_media = *r, neither = *r;
    no_speech.no_speech = neither.no_speech = true;
    no_media.no_media = neither.no_media = true;
    bool speaks = plan_wants_part(r, PART_TALKER);
    bool sees = plan_wants_part(r, PART_AUDIO) || plan_wants_part(r, PART_VISION);
    const char *mute =
        speaks && request_fits(&no_speech) ? ", or leave speech out with --no-speech" : "";
    const char *blind =
        sees && request_fits(&no_media) ? ", or leave the encoders out with --no-media" : "";
    const char *both = "";
    if (speaks && sees && mute[0] == '\0' && blind[0] == '\0' && request_fits(&neither)) {
        both = ", or leave speech and the encoders out with --no-speech --no-media";
    }
    snprintf(advice, n_bytes, "%s%s%s", mute, blind, both);
}

/* The missing bytes are what the worst worker lacks, so every worker having as many more is enough.
 */
static void advise(planner *pl, plan_misfit *misfit)
{
    char text[BYTES_TEXT_MAX];
    char more[64] = "";
    char fewer[64] = "";
    char left_out[192];
    int32_t n = workers_that_fit(pl->request);
    if (n > 0) {
        snprintf(more, sizeof more, ", or take %d workers with as much each", n);
    }
    int64_t wanted = planner_kv_tokens_wanted(pl->request);
    pl->extra_bytes = 0;
    if (wanted > KV_BLOCK && planner_time(pl, KV_BLOCK) < INFINITY) {
        snprintf(fewer, sizeof fewer, ", or ask for --kv-tokens %lld",
                 (long long)most_kv_tokens(pl, KV_BLOCK, wanted, DBL_MAX));
    }
    say_left_out(left_out, sizeof left_out, pl->request);
    uint64_t rounded_up =
        misfit->missing_bytes + misfit->missing_bytes / 128; /* over three digits */
    snprintf(misfit->advice, sizeof misfit->advice, "give each worker %s more memory%s%s%s",
             bytes_print(text, rounded_up), more, fewer, left_out);
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
    pl->kv_tokens = planner_kv_tokens_wanted(pl->request);
    planner_least_extra(pl);
    planner_fill(pl, p, planner_time(pl, pl->kv_tokens));
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
    pl->kv_tokens = pl->settled.kv_tokens = planner_kv_tokens_wanted(r);
    code = check_total(pl, err);
    if (code != FLO_OK) {
        goto free_planner;
    }
    planner_price_items(pl);
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
    int64_t kv_tokens = planner_kv_tokens_wanted(request);
    double time;
    code = planner_seat_parts(pl, PRICED_MAX, &time, err);
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
        planner_fill(pl, p, planner_time(pl, kv_tokens));
    }
    CHECK(code != FLO_OK || plan_is_valid(p, request->model));
    planner_close(pl);
    return code;
}

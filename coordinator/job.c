/*
 * job.c - see job.h. Each phase of the start is a function that waits for one answer of every
 * worker; a Fault in between ends the start with the worker's own sentence.
 */
#include "coordinator/job.h"

#include "common/checkpoint.h"
#include "common/clock.h"
#include "common/cluster.h"
#include "common/log.h"
#include "common/model_folder.h"
#include "common/model_tensors.h"
#include "common/plan_parts.h"
#include "common/plan_pins.h"
#include "coordinator/defaults.h"
#include "proto/plan_message.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FAULTS_SHOWN_MAX = 20, STATS_WAIT_S = 5, SETTLE_WAIT_S = 5 };

static job_node *node_of(job *j, int rank)
{
    return &j->nodes[rank - 1];
}

static flo_code worker_fault(job *j, const incoming *in, flo_err *err)
{
    const Flo__Fault *f = in->as.fault;
    flo_code code = f->code == FLO_USAGE || f->code == FLO_DIFFERS ? (flo_code)f->code : FLO_FAIL;
    const char *host = node_of(j, in->source)->host;
    return flo_fail(err, code, "worker rank %d on %s: %s", in->source, host[0] != '\0' ? host : "?",
                    f->text);
}

/* --- the phases of the start -------------------------------------------------------------------
 */

/* Waits until every worker has sent one message of `kind`, giving each to take. */
static flo_code gather(job *j, message_kind kind,
                       flo_code (*take)(job *, const incoming *, flo_err *), flo_err *err)
{
    for (int32_t due = j->n_workers; due > 0;) {
        incoming in;
        flo_code code = transport_wait(j->transport, LANE_MAIN, &in, err);
        if (code != FLO_OK) {
            return code;
        }
        if (in.kind == MSG_FAULT) {
            return worker_fault(j, &in, err);
        }
        if (in.kind == kind) {
            due--;
        } else if (in.kind != MSG_LOAD_PROGRESS || kind != MSG_READY) {
            return flo_fail(err, FLO_FAIL, "rank %d sent a %s while a %s was due", in.source,
                            message_kind_name(in.kind), message_kind_name(kind));
        }
        code = take(j, &in, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

static flo_code take_hello(job *j, const incoming *in, flo_err *err)
{
    const Flo__Hello *hello = in->as.hello;
    snprintf(node_of(j, in->source)->host, sizeof j->nodes[0].host, "%s", hello->host);
    if (strcmp(hello->version, FLOTILLA_VERSION) != 0) {
        return flo_fail(err, FLO_FAIL,
                        "rank %d on %s runs Flotilla %s, the coordinator runs %s; install the "
                        "same version on every host",
                        in->source, hello->host, hello->version, FLOTILLA_VERSION);
    }
    return FLO_OK;
}

/* The hosts as the command line or a file describes them. In a job of somebody's own script there
 * may be no description: then workers sit where they say they do. */
static flo_code describe_cluster(job *j, cluster *c, flo_err *err)
{
    run_options o = j->options;
    o.n_workers = j->n_workers;
    return cluster_from_options(c, &o, 1, err);
}

static cluster_seat seat_of(job *j, const cluster *c, int32_t rank)
{
    cluster_seat seat = cluster_seat_of(c, rank);
    if (j->options.cluster != NULL || j->options.hosts != NULL) {
        return seat;
    }
    seat.place = seat.places = 0;
    for (int32_t other = 1; other <= j->n_workers; other++) {
        if (strcmp(node_of(j, other)->host, node_of(j, rank)->host) == 0) {
            seat.places++;
            seat.place += other < rank;
        }
    }
    return seat;
}

static void send_setup(job *j, const cluster *c, int32_t rank)
{
    cluster_seat seat = seat_of(j, c, rank);
    Flo__Setup setup = FLO__SETUP__INIT;
    setup.threads = (uint32_t)(c->n_threads > 0 ? c->n_threads : seat.n_cores);
    setup.numa = seat.numa;
    setup.place = (uint32_t)seat.place;
    setup.places = (uint32_t)seat.places;
    setup.memory_bytes = seat.memory_bytes;
    setup.read_gb_per_s = seat.read_gb_per_s;
    setup.log_level = (int32_t)log_get_level();
    transport_send(j->transport, rank, LANE_MAIN, MSG_SETUP, &setup.base);
}

static flo_code take_report(job *j, const incoming *in, flo_err *err)
{
    const Flo__NodeReport *r = in->as.node_report;
    job_node *node = node_of(j, in->source);
    snprintf(node->isa, sizeof node->isa, "%s", r->isa);
    snprintf(node->binding, sizeof node->binding, "%s", r->binding);
    node->numa = r->numa;
    node->n_threads = (int32_t)r->threads;
    node->memory_bytes = r->memory_bytes;
    node->read_gb_per_s = r->read_gb_per_s;
    (void)err;
    return FLO_OK;
}

static flo_code make_plan(job *j, const cluster *c, flo_err *err)
{
    plan_worker_facts *facts = calloc((size_t)j->n_workers, sizeof *facts);
    plan_misfit misfit;
    if (facts == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the plan");
    }
    for (int32_t i = 0; i < j->n_workers; i++) {
        const job_node *node = &j->nodes[i];
        bool is_described = j->options.cluster != NULL || j->options.hosts != NULL;
        const char *host = is_described ? seat_of(j, c, i + 1).host->name : node->host;
        snprintf(facts[i].host, sizeof facts[i].host, "%s", host); /* as pins name it */
        facts[i].numa = node->numa;
        facts[i].memory_bytes = node->memory_bytes;
        facts[i].read_gb_per_s = node->read_gb_per_s;
        facts[i].n_threads = node->n_threads;
    }
    plan_request request = {.model = &j->model,
                            .n_workers = j->n_workers,
                            .workers = facts,
                            .n_stages = c->n_stages,
                            .kv_tokens = j->options.kv_tokens,
                            .deterministic = j->options.deterministic,
                            .no_media = j->options.no_media,
                            .no_speech = j->options.no_speech,
                            .media_pixels_max = j->options.max_media_pixels};
    plan_pin_parts(&request, c);
    char saved[PLAN_SAVED_TEXT_MAX];
    flo_code code = plan_make(&j->plan, &request, &misfit, err);
    if (code == FLO_OK && plan_saved_print(saved, &request)[0] != '\0') {
        log_info("%s", saved);
    }
    free(facts);
    return code;
}

static flo_code send_assignments(job *j, const cluster *c, flo_err *err)
{
    arena a;
    flo_code code = arena_open(&a, (size_t)j->n_workers * 512 + (1 << 16), err);
    if (code != FLO_OK) {
        return code;
    }
    Flo__Assignment assignment = FLO__ASSIGNMENT__INIT;
    plan_to_message(&assignment, &j->plan, &a);
    assignment.epoch = j->epoch;
    assignment.dummy = j->options.load_format == LOAD_DUMMY;
    assignment.layers = (int32_t)j->options.n_layers;
    assignment.config_fingerprint = model_config_fingerprint(&j->model);
    assignment.weights_fingerprint = j->weights_fingerprint;
    for (int32_t rank = 1; rank <= j->n_workers; rank++) {
        const char *other = seat_of(j, c, rank).model;
        assignment.model = (char *)(other[0] != '\0' ? other : j->model_folder);
        transport_send(j->transport, rank, LANE_MAIN, MSG_ASSIGNMENT, &assignment.base);
    }
    arena_close(&a);
    return FLO_OK;
}

static flo_code take_loading(job *j, const incoming *in, flo_err *err)
{
    job_node *node = node_of(j, in->source);
    (void)err;
    if (in->kind == MSG_READY) {
        node->ready = true;
        node->loaded_bytes = node->total_bytes;
    } else {
        node->loaded_bytes = in->as.load_progress->bytes_done;
        node->total_bytes = in->as.load_progress->bytes_total;
    }
    if (j->link != NULL) {
        gateway_link_progress(j->link, in->source, node->host, node->loaded_bytes,
                              node->total_bytes);
    }
    return FLO_OK;
}

/* --- the checkpoint, before anything is loaded -------------------------------------------------
 */

static void log_defect(void *arg, const char *name, const char *sentence)
{
    int *n = arg;
    (void)name;
    if ((*n)++ < FAULTS_SHOWN_MAX) {
        log_debug("%s", sentence);
    }
}

typedef struct first_defect {
    char sentence[FLO_ERR_BYTES / 2];
    int n;
} first_defect;

static void note_defect(void *arg, const char *name, const char *sentence)
{
    first_defect *d = arg;
    if (d->n == 0) {
        snprintf(d->sentence, sizeof d->sentence, "%s", sentence);
    }
    log_defect(&d->n, name, sentence);
}

static void pass_by(void *arg, const char *name, const char *sentence)
{
    (void)arg;
    (void)name;
    (void)sentence;
}

/* What would help where only parts of speech are at fault; "" where others are, too. */
static const char *without_speech(const job *j, const checkpoint *c)
{
    bool whole =
        model_parts_check(c, &j->model, !j->options.no_media, false, 0, pass_by, NULL) == 0;
    return whole ? "; --no-speech does without them" : "";
}

static flo_code check_checkpoint(job *j, flo_err *err)
{
    if (j->options.load_format == LOAD_DUMMY) {
        return FLO_OK;
    }
    checkpoint *c;
    first_defect defect = {.n = 0};
    flo_code code = checkpoint_open(&c, j->model_folder, err);
    if (code != FLO_OK) {
        return code;
    }
    size_t n = model_parts_check(c, &j->model, !j->options.no_media, !j->options.no_speech,
                                 SIZE_MAX, note_defect, &defect);
    const char *advice = n > 0 ? without_speech(j, c) : "";
    code = checkpoint_fingerprint(c, &j->weights_fingerprint, err);
    checkpoint_close(c);
    if (code != FLO_OK) {
        return code;
    }
    if (n > 0) {
        return flo_fail(err, FLO_FAIL,
                        "%s (%zu tensor%s in all; `flotilla inspect --model %s` lists them%s)",
                        defect.sentence, n, n == 1 ? "" : "s", j->model_folder, advice);
    }
    return FLO_OK;
}

static flo_code open_text(job *j, flo_err *err)
{
    flo_code code = sampling_defaults_read(&j->defaults, j->model_folder, err);
    if (code != FLO_OK) {
        return code;
    }
    code = preprocessor_read(&j->preprocessor, j->model_folder, &j->model, err);
    if (code != FLO_OK) {
        return code;
    }
    code = tokenizer_open(&j->tokenizer, j->model_folder, err);
    if (code == FLO_OK) {
        code = chat_template_open(&j->chat_template, j->model_folder, err);
    }
    if (code != FLO_OK && j->options.load_format == LOAD_DUMMY) {
        log_debug("no tokenizer: %s", err->text); /* prompts are ids then */
        return FLO_OK;
    }
    return code;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static flo_code meet_workers(job *j, const cluster *c, flo_err *err)
{
    flo_code code = gather(j, MSG_HELLO, take_hello, err);
    for (int32_t rank = 1; rank <= j->n_workers && code == FLO_OK; rank++) {
        send_setup(j, c, rank);
    }
    if (code == FLO_OK) {
        code = gather(j, MSG_NODE_REPORT, take_report, err);
    }
    if (code == FLO_OK) {
        code = make_plan(j, c, err);
    }
    if (code == FLO_OK) {
        code = send_assignments(j, c, err);
    }
    return code;
}

static void log_plan(const job *j)
{
    log_info("%d worker%s in %d stage%s, %lld KV tokens", j->plan.n_workers,
             j->plan.n_workers == 1 ? "" : "s", j->plan.n_stages, j->plan.n_stages == 1 ? "" : "s",
             (long long)j->plan.kv_tokens);
    for (int32_t i = 0; i < j->n_workers; i++) {
        const plan_worker *w = &j->plan.workers[i];
        const job_node *n = &j->nodes[i];
        log_debug("worker rank %d on %s: %s, %s; layers %d..%d, experts %d..%d, %.1f MB planned",
                  w->rank, n->host, n->binding, n->isa, w->first_layer,
                  w->first_layer + w->n_layers - 1, w->first_expert,
                  w->first_expert + w->n_experts - 1,
                  (double)(w->weight_bytes + w->kv_bytes + w->work_bytes) * 1e-6);
    }
}

/* The checkpoint that the command line or the cluster file names, as a path that other hosts can
 * use. */
static flo_code find_model(job *j, const cluster *c, flo_err *err)
{
    char found[PATH_MAX], whole[PATH_MAX];
    flo_code code = model_folder_find(found, c->model[0] != '\0' ? c->model : NULL, err);
    if (code == FLO_OK && realpath(found, whole) == NULL) {
        code = flo_fail(err, FLO_USAGE, "%s: %s", found, strerror(errno));
    }
    if (code == FLO_OK) {
        memcpy(j->model_folder, whole, sizeof j->model_folder);
    }
    return code;
}

static flo_code read_model(job *j, flo_err *err)
{
    flo_code code = j->options.load_format == LOAD_DUMMY
                        ? model_config_read_shapes(&j->model, j->model_folder, err)
                        : model_config_read(&j->model, j->model_folder, err);
    if (code == FLO_OK) {
        model_config_keep_layers(&j->model, (int32_t)j->options.n_layers);
    }
    if (code == FLO_OK && j->model.defaulted[0] != '\0') {
        log_warn("config.json does not say %s; the reference's defaults hold", j->model.defaulted);
    }
    if (code == FLO_OK) {
        code = check_checkpoint(j, err);
    }
    return code == FLO_OK ? open_text(j, err) : code;
}

static flo_code open_desk(job *j, flo_err *err)
{
    media_desk_setup setup = {.transport = j->transport,
                              .plan = &j->plan,
                              .model = &j->model,
                              .preprocessor = &j->preprocessor,
                              .epoch = j->epoch,
                              .cache_bytes = plan_encoder_cache_bytes(&j->model, &j->plan),
                              .pixels_max = j->options.max_media_pixels > 0
                                                ? (uint64_t)j->options.max_media_pixels
                                                : MEDIA_PIXELS_MAX};
    return media_desk_new(&j->desk, &setup, err);
}

static flo_code start_on(job *j, const cluster *c, flo_err *err)
{
    flo_code code = find_model(j, c, err);
    if (code == FLO_OK) {
        code = read_model(j, err);
    }
    if (code == FLO_OK) {
        code = meet_workers(j, c, err);
    }
    if (code == FLO_OK) {
        code = transport_resize(j->transport, plan_payload_bytes_max(&j->model, &j->plan), err);
    }
    if (code == FLO_OK) {
        code = gather(j, MSG_READY, take_loading, err);
    }
    if (code == FLO_OK) {
        code = scheduler_new(&j->scheduler, j->transport, &j->plan, &j->model, j->epoch, err);
    }
    code = code == FLO_OK ? open_desk(j, err) : code;
    return code == FLO_OK
               ? speech_desk_new(&j->speech_desk, j->transport, &j->plan, &j->model, j->epoch, err)
               : code;
}

flo_code job_start(job *j, flo_err *err)
{
    double start = clock_s();
    cluster c;
    j->n_workers = transport_size(j->transport) - 1;
    j->epoch = ((uint64_t)time(NULL) << 16) | 1; /* tells this plan from that of an earlier job */
    if (j->n_workers < 1 || j->n_workers > PLAN_WORKERS_MAX) {
        return flo_fail(
            err, FLO_USAGE,
            "%d workers: start 1 to %d of them beside the coordinator, as in `mpirun -np 1 "
            "flotilla-coordinator ... : -np 2 flotilla-worker`",
            j->n_workers, PLAN_WORKERS_MAX);
    }
    flo_code code = describe_cluster(j, &c, err);
    if (code != FLO_OK) {
        return code;
    }
    code = start_on(j, &c, err);
    cluster_free(&c);
    j->load_s = clock_s() - start;
    if (code == FLO_OK) {
        log_plan(j);
    }
    return code;
}

/* --- serving -----------------------------------------------------------------------------------
 */

static flo_code take_stats(job *j, const incoming *in, flo_err *err)
{
    if (in->as.stats->epoch != j->epoch) {
        return flo_fail(err, FLO_FAIL, "rank %d sent figures of another job", in->source);
    }
    const Flo__Stats *s = in->as.stats;
    job_node *node = node_of(j, in->source);
    node->rss_bytes = s->rss_bytes;
    node->speech = (job_speech_work){.talker_us = s->talker_us,
                                     .predictor_us = s->predictor_us,
                                     .code2wav_us = s->code2wav_us,
                                     .talker_steps = s->talker_steps,
                                     .predictor_frames = s->predictor_frames,
                                     .code2wav_frames = s->code2wav_frames};
    j->stats_due -= j->stats_due > 0;
    return FLO_OK;
}

static flo_code take_message(job *j, const incoming *in, flo_err *err)
{
    switch (in->kind) {
    case MSG_LOGITS:
        return scheduler_on_logits(j->scheduler, in, err);
    case MSG_DUMP_ROWS:
        return scheduler_on_dump(j->scheduler, in, err);
    case MSG_EMBEDDINGS:
        return media_desk_on_embeddings(j->desk, in, err);
    case MSG_ENCODE_PROGRESS:
        return media_desk_on_progress(j->desk, in, err);
    case MSG_SPEECH_OPENED:
    case MSG_SOUND:
    case MSG_SPEECH_ROWS:
        return speech_desk_on_message(j->speech_desk, in, err);
    case MSG_STATS:
        return take_stats(j, in, err);
    case MSG_PEAK:
        j->peak = (job_peak){in->as.peak->gflop_per_s, in->as.peak->read_gb_per_s};
        return FLO_OK;
    case MSG_FAULT:
        return worker_fault(j, in, err);
    default:
        return flo_fail(err, FLO_FAIL, "rank %d sent a %s, which the coordinator does not take now",
                        in->source, message_kind_name(in->kind));
    }
}

flo_code job_poll(job *j, bool *busy, flo_err *err)
{
    incoming in;
    *busy = false;
    bool found = false;
    if (j->broken == FLO_OK) {
        media_desk_pump(j->desk, busy);
        speech_desk_pump(j->speech_desk, busy);
        scheduler_pump(j->scheduler);
        j->broken = transport_poll(j->transport, LANE_MAIN, &found, &in, &j->cause);
    }
    if (j->broken == FLO_OK && found) {
        j->broken = take_message(j, &in, &j->cause);
        *busy = true;
    }
    if (j->broken != FLO_OK) {
        *err = j->cause;
    }
    return j->broken;
}

flo_code job_wait(job *j, const bool *done, flo_err *err)
{
    while (!*done) {
        bool busy;
        flo_code code = job_poll(j, &busy, err);
        if (code != FLO_OK) {
            return code;
        }
        transport_pause(j->transport, busy);
    }
    return FLO_OK;
}

flo_code job_ask_stats(job *j, flo_err *err)
{
    Flo__StatsAsk ask = FLO__STATS_ASK__INIT;
    ask.epoch = j->epoch;
    for (int32_t rank = 1; rank <= j->n_workers; rank++) {
        transport_send(j->transport, rank, LANE_MAIN, MSG_STATS_ASK, &ask.base);
    }
    j->stats_due = j->n_workers;
    double end = clock_s() + STATS_WAIT_S;
    while (j->stats_due > 0 && clock_s() < end) {
        bool busy;
        flo_code code = job_poll(j, &busy, err);
        if (code != FLO_OK) {
            return code;
        }
        transport_pause(j->transport, busy);
    }
    return FLO_OK;
}

flo_code job_ask_peak(job *j, int rank, job_peak *out, flo_err *err)
{
    Flo__PeakAsk ask = FLO__PEAK_ASK__INIT;
    ask.epoch = j->epoch;
    j->peak = (job_peak){0};
    transport_send(j->transport, rank, LANE_MAIN, MSG_PEAK_ASK, &ask.base);
    while (!(j->peak.gflop_per_s > 0)) {
        bool busy;
        flo_code code = job_poll(j, &busy, err);
        if (code != FLO_OK) {
            return code;
        }
        transport_pause(j->transport, busy);
    }
    *out = j->peak;
    return FLO_OK;
}

/* Steps or encoder jobs are with the workers. */
static bool has_work(const job *j)
{
    return scheduler_busy(j->scheduler) || media_desk_has_jobs(j->desk) ||
           speech_desk_busy(j->speech_desk);
}

flo_code job_settle(job *j, flo_err *err)
{
    double end = clock_s() + SETTLE_WAIT_S;
    while (has_work(j) && clock_s() < end) {
        bool busy;
        flo_code code = job_poll(j, &busy, err);
        if (code != FLO_OK) {
            return code;
        }
        transport_pause(j->transport, busy);
    }
    /* A worker's answer comes behind all it sent before (rows of a cancelled dump). */
    if (!has_work(j)) {
        flo_code code = job_ask_stats(j, err);
        if (code != FLO_OK || j->stats_due == 0) {
            return code;
        }
    }
    return flo_fail(err, FLO_FAIL, "the workers did not come to rest within %d s", SETTLE_WAIT_S);
}

void job_stop(job *j)
{
    Flo__Shutdown m = FLO__SHUTDOWN__INIT;
    m.epoch = j->epoch;
    for (int32_t rank = 1; rank <= j->n_workers; rank++) {
        transport_send(j->transport, rank, LANE_MAIN, MSG_SHUTDOWN, &m.base);
    }
    speech_desk_free(j->speech_desk);
    media_desk_free(j->desk);
    scheduler_free(j->scheduler);
    tokenizer_close(j->tokenizer);
    chat_template_free(j->chat_template);
}

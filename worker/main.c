/*
 * main.c - a worker rank: sits down on its node, takes its parts, serves.
 *
 *     mpirun -np 1 flotilla-coordinator [options] : -np N flotilla-worker
 *
 * All options come from the coordinator. Nothing is loaded before it has made a plan that fits.
 */
#include "common/clock.h"
#include "common/log.h"
#include "common/plan_parts.h"
#include "proto/plan_message.h"
#include "worker/buffers.h"
#include "worker/node.h"
#include "worker/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FIRST_PAYLOAD_BYTES = 1 << 16, PROGRESS_MS = 200 };

static void say_hello(worker *w)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    Flo__Hello hello = FLO__HELLO__INIT;
    hello.host = host;
    hello.version = (char *)FLOTILLA_VERSION;
    transport_send(w->transport, 0, LANE_MAIN, MSG_HELLO, &hello.base);
}

/* The next message, which must be of this kind. False: the job ends before it began. */
static bool expect(worker *w, message_kind kind, incoming *in)
{
    flo_err err;
    worker_require(w, transport_wait(w->transport, LANE_MAIN, in, &err), &err);
    if (in->kind == MSG_SHUTDOWN) {
        return false;
    }
    if (in->kind != kind) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL, "the coordinator sent a %s while a %s was due",
                             message_kind_name(in->kind), message_kind_name(kind)),
                    &err);
    }
    return true;
}

static void sit_down(worker *w, const Flo__Setup *setup, node_seat *seat)
{
    flo_err err;
    log_set_level((log_level)setup->log_level);
    node_wish wish = {.place = (int32_t)setup->place,
                      .places = (int32_t)setup->places,
                      .numa = setup->numa,
                      .n_threads = (int32_t)setup->threads,
                      .memory_bytes = setup->memory_bytes,
                      .read_gb_per_s = setup->read_gb_per_s};
    worker_require(w, kernels_init(&err), &err);
    worker_require(w, node_sit_down(seat, &wish, &err), &err);
    worker_require(w, thread_pool_new(&w->stage.pool, seat->n_threads, seat->cores, &err), &err);
    log_info("%s, %d thread%s, kernels %s", seat->binding, seat->n_threads,
             seat->n_threads == 1 ? "" : "s", kernels()->isa);

    Flo__NodeReport report = FLO__NODE_REPORT__INIT;
    report.host = seat->host;
    report.numa = seat->numa;
    report.numa_nodes = (uint32_t)seat->n_nodes;
    report.threads = (uint32_t)seat->n_threads;
    report.isa = (char *)kernels()->isa;
    report.memory_bytes = seat->memory_bytes;
    report.read_gb_per_s = seat->read_gb_per_s;
    report.binding = seat->binding;
    transport_send(w->transport, 0, LANE_MAIN, MSG_NODE_REPORT, &report.base);
}

/* --- loading -----------------------------------------------------------------------------------
 */

typedef struct load_report {
    worker *w;
    int64_t last_ms;
    uint64_t before, part; /* of the plan's bytes: loaded before this part, and of it */
} load_report;

static void tell_progress(void *arg, uint64_t done, uint64_t total)
{
    load_report *r = arg;
    int64_t now_ms = clock_ms();
    transport_progress(r->w->transport);
    bool last = done == total && r->before + r->part == r->w->me->weight_bytes;
    if (done > 0 && !last && now_ms - r->last_ms < PROGRESS_MS) {
        return;
    }
    r->last_ms = now_ms;
    Flo__LoadProgress p = FLO__LOAD_PROGRESS__INIT;
    double share = total > 0 ? (double)done / (double)total : 1;
    p.bytes_done = r->before + (uint64_t)(share * (double)r->part);
    p.bytes_total = r->w->me->weight_bytes;
    transport_send(r->w->transport, 0, LANE_MAIN, MSG_LOAD_PROGRESS, &p.base);
}

/* Ends the job where this host sees another checkpoint than the coordinator's: it would be computed
 * with in silence. */
static void require_same(worker *w, const char *folder, uint64_t here, uint64_t there)
{
    flo_err err;
    if (here != there) {
        worker_fail(
            w,
            flo_fail(&err, FLO_FAIL,
                     "%s is another checkpoint here than on the coordinator's host; put the "
                     "same files on every host",
                     folder),
            &err);
    }
}

/* fingerprint: of the coordinator's checkpoint, 0 with dummy weights. */
static void load_weights(worker *w, const char *folder, bool dummy, uint64_t fingerprint)
{
    flo_err err;
    weights_source source = {.checkpoint = NULL, .seed = 1};
    checkpoint *c = NULL;
    uint64_t encoders = (w->me->has_audio_encoder ? plan_audio_bytes(&w->model) : 0) +
                        (w->me->has_vision_encoder ? plan_vision_bytes(&w->model) : 0);
    uint64_t speech = worker_speech_bytes(w);
    load_report report = {.w = w, .part = w->me->weight_bytes - encoders - speech};
    load_watch watch = {tell_progress, &report};
    if (!dummy) {
        uint64_t here;
        worker_require(w, checkpoint_open(&c, folder, &err), &err);
        worker_require(w, checkpoint_fingerprint(c, &here, &err), &err);
        require_same(w, folder, here, fingerprint);
        source.checkpoint = c;
    }
    worker_require(w,
                   stage_weights_load(&w->stage.weights, &w->model, w->me, &source, w->stage.pool,
                                      tell_progress, &report, &err),
                   &err);
    report.before = report.part;
    report.part = encoders;
    worker_require(w, worker_encoders_load(w, &source, &watch, &err), &err);
    report.before += report.part;
    report.part = speech;
    worker_require(w, worker_speech_load(w, &source, &watch, &err), &err);
    checkpoint_close(c);
}

/* Buffers of the message loop: rows of a step at home, logits in the last stage, lists of messages.
 */
static void take_memory(worker *w)
{
    flo_err err;
    worker_buffers sizes = worker_buffers_of(&w->model, &w->plan, w->me);
    worker_require(w, arena_open(&w->messages, sizes.messages, &err), &err);
    worker_require(w, arena_open(&w->head, sizes.head, &err), &err);
    worker_require(w, arena_open(&w->stage.arena, sizes.step, &err), &err);
    worker_require(w, worker_encoders_open(w, &err), &err);
    worker_require(w, worker_speech_open(w, &err), &err);
    if (w->me->place == 0) {
        arena rows;
        w->x_bytes = sizes.rows;
        worker_require(w, arena_open(&rows, w->x_bytes, &err), &err);
        w->x = (float *)(void *)rows.base; /* kept until the process ends */
        kv_shape shape = stage_kv_shape(&w->stage.part, w->plan.kv_tokens);
        worker_require(w, kv_cache_new(&w->stage.cache, &shape, &err), &err);
    }
}

static void take_parts(worker *w, const Flo__Assignment *a)
{
    flo_err err;
    w->epoch = a->epoch;
    char *folder = strdup(a->model);
    bool dummy = a->dummy;
    uint64_t fingerprint = a->weights_fingerprint; /* the message goes with its buffer below */
    worker_require(w,
                   dummy ? model_config_read_shapes(&w->model, folder, &err)
                         : model_config_read(&w->model, folder, &err),
                   &err);
    model_config_keep_layers(&w->model, a->layers);
    require_same(w, folder, model_config_fingerprint(&w->model), a->config_fingerprint);
    worker_require(w, plan_from_message(&w->plan, a, &w->model, &err), &err);
    if (w->plan.n_workers != transport_size(w->transport) - 1) {
        worker_fail(w,
                    flo_fail(&err, FLO_FAIL, "the plan has %d workers, the job has %d",
                             w->plan.n_workers, transport_size(w->transport) - 1),
                    &err);
    }
    w->me = &w->plan.workers[transport_rank(w->transport) - 1];
    stage_init_thinker(&w->stage, &w->model, &w->plan, w->me, w->stage.pool);
    worker_require(
        w, transport_resize(w->transport, plan_payload_bytes_max(&w->model, &w->plan), &err), &err);
    take_memory(w);
    load_weights(w, folder, dummy, fingerprint);
    free(folder);

    Flo__Ready ready = FLO__READY__INIT;
    ready.epoch = w->epoch;
    ready.weight_bytes = w->stage.weights.region_bytes + w->encoders.audio_weights.region_bytes +
                         w->encoders.vision_weights.region_bytes + worker_speech_bytes(w);
    transport_send(w->transport, 0, LANE_MAIN, MSG_READY, &ready.base);
}

static void serve(worker *w)
{
    incoming in;
    node_seat seat;
    say_hello(w);
    if (!expect(w, MSG_SETUP, &in)) {
        return;
    }
    sit_down(w, in.as.setup, &seat);
    if (!expect(w, MSG_ASSIGNMENT, &in)) {
        return;
    }
    take_parts(w, in.as.assignment);
    worker_serve(w);
}

static void free_worker(worker *w)
{
    worker_speech_close(w);
    worker_encoders_close(w);
    stage_weights_free(&w->stage.weights);
    kv_cache_free(w->stage.cache);
    thread_pool_free(w->stage.pool);
    arena_close(&w->stage.arena);
    arena_close(&w->messages);
    arena_close(&w->head);
    if (w->x != NULL) {
        munmap(w->x, arena_rounded(w->x_bytes));
    }
    transport_free(w->transport);
    free(w);
}

int main(int argc, char **argv)
{
    int granted, rank, size;
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "--version") == 0)) {
        printf("flotilla-worker %s: a rank of `mpirun -np 1 flotilla-coordinator ... : -np N "
               "flotilla-worker`; takes no options\n",
               FLOTILLA_VERSION);
        return FLO_OK;
    }
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &granted);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (rank == 0 || size < 2) {
        log_error(
            "flotilla-worker runs beside a coordinator: mpirun -np 1 flotilla-coordinator ... : "
            "-np N flotilla-worker");
        MPI_Abort(MPI_COMM_WORLD, FLO_USAGE);
    }
    log_set_rank(rank);
    worker *w = calloc(1, sizeof *w);
    flo_err err;
    if (w == NULL ||
        transport_new(&w->transport, MPI_COMM_WORLD, FIRST_PAYLOAD_BYTES, &err) != FLO_OK) {
        log_error("out of memory at the start");
        MPI_Abort(MPI_COMM_WORLD, FLO_FAIL);
        return FLO_FAIL;
    }
    serve(w);
    free_worker(w);
    MPI_Finalize();
    return FLO_OK;
}

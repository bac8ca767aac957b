/*
 * command_plan.c - `flotilla plan`: the plan that a job would make, from config.json and what is
 * known of the hosts. Starts nothing, reads no weights, needs no MPI.
 *
 * Of this machine everything is known; of other hosts only what the cluster file says. What is not
 * known does not limit: a worker without a memory limit holds whatever falls to it.
 */
#include "launch/commands.h"

#include "common/cluster.h"
#include "common/machine.h"
#include "common/model_folder.h"
#include "common/options.h"
#include "common/plan_json.h"
#include "common/plan_pins.h"
#include "launch/plan_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help_text[] =
    "flotilla plan [--model DIR|NAME] [--cluster FILE | --hosts a:2,b:2] [--workers N] [--stages "
    "S]\n"
    "              [--memory BYTES] [--threads T] [--kv-tokens N] [--no-speech] [--no-media]\n"
    "              [--deterministic] [--json]\n"
    "\n"
    "Shows which worker would hold which layers, experts and other parts, and how full each would "
    "be.\n"
    "Needs config.json only: no weights, no MPI. What is not said of another host (memory, cores,\n"
    "read_gb_per_s in the cluster file) counts as no limit. Exit status 3 where the model does not "
    "fit.\n";

static flo_code read_options(run_options *o, bool *help, int argc, char **argv, flo_err *err)
{
    const argument table[] = {{.name = "--help", .kind = ARGUMENT_FLAG, .out = help}};
    flo_code code = options_read(o, table, 1, help, argc, argv, err);
    if (code != FLO_OK || *help) {
        return code;
    }
    options_set_log(o);
    return options_check(o, err);
}

/* What is known of one worker: what was said of it first, then (on this machine) what there is. */
static flo_code facts_of(plan_worker_facts *f, const cluster *c, const machine *m, int32_t rank,
                         flo_err *err)
{
    cluster_seat seat = cluster_seat_of(c, rank);
    *f = (plan_worker_facts){.numa = seat.numa,
                             .memory_bytes = seat.memory_bytes,
                             .read_gb_per_s = seat.read_gb_per_s,
                             .n_threads = c->n_threads > 0 ? c->n_threads : seat.n_cores};
    memcpy(f->host, seat.host->name, sizeof f->host);
    if (!cluster_host_is_local(seat.host->name)) {
        return FLO_OK;
    }
    machine_share share;
    flo_code code =
        machine_share_of(&share, m, seat.numa, seat.place, seat.places, c->n_threads, err);
    if (code != FLO_OK) {
        flo_context(err, "host %s", seat.host->name);
        return code;
    }
    f->numa = m->nodes[share.node].numa;
    f->memory_bytes = f->memory_bytes > 0 ? f->memory_bytes : share.memory_bytes;
    f->n_threads = f->n_threads > 0 ? f->n_threads : share.n_threads;
    return FLO_OK;
}

static flo_code all_facts(plan_worker_facts **out, const cluster *c, const machine *m, flo_err *err)
{
    int32_t n = cluster_workers(c);
    plan_worker_facts *facts = calloc((size_t)n, sizeof *facts);
    if (facts == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory for %d workers", n);
    }
    for (int32_t i = 0; i < n; i++) {
        flo_code code = facts_of(&facts[i], c, m, i + 1, err);
        if (code != FLO_OK) {
            free(facts);
            return code;
        }
    }
    *out = facts;
    return FLO_OK;
}

static flo_code print_json(cJSON *json, flo_err *err)
{
    char *text = json != NULL ? cJSON_PrintUnformatted(json) : NULL;
    cJSON_Delete(json);
    if (text == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory for the document");
    }
    puts(text);
    cJSON_free(text);
    return FLO_OK;
}

/* Prints the plan, or (as a document only: the sentence goes to standard error) why there is none.
 */
static flo_code print_result(flo_code planned, const plan *p, const plan_misfit *misfit,
                             const plan_request *r, bool as_json, flo_err *err)
{
    flo_code code = FLO_OK;
    if (planned == FLO_OK && !as_json) {
        plan_table_print(stdout, p, r);
    } else if (as_json) {
        code =
            print_json(planned == FLO_OK ? plan_to_json(p, r) : plan_misfit_to_json(misfit), err);
    }
    if (code == FLO_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        code = flo_fail(err, FLO_FAIL, "standard output cannot be written");
    }
    return code != FLO_OK ? code : planned;
}

static flo_code plan_and_print(const cluster *c, const machine *m, const model_config *model,
                               const run_options *o, flo_err *err)
{
    plan_worker_facts *facts = NULL;
    flo_code code = all_facts(&facts, c, m, err);
    if (code != FLO_OK) {
        return code;
    }
    plan_request request = {.model = model,
                            .n_workers = cluster_workers(c),
                            .workers = facts,
                            .n_stages = c->n_stages,
                            .kv_tokens = o->kv_tokens,
                            .deterministic = o->deterministic,
                            .no_media = o->no_media,
                            .no_speech = o->no_speech,
                            .media_pixels_max = o->max_media_pixels};
    plan_pin_parts(&request, c);
    plan_misfit misfit;
    plan *p = calloc(1, sizeof *p);
    if (p == NULL) {
        code = flo_fail(err, FLO_FAIL, "no memory for the plan");
    } else {
        code = plan_make(p, &request, &misfit, err);
    }
    if (code == FLO_OK || code == FLO_DIFFERS) {
        code = print_result(code, p, &misfit, &request, o->json, err);
    }
    free(p);
    free(facts);
    return code;
}

static flo_code read_model(model_config *model, const cluster *c, flo_err *err)
{
    char folder[PATH_MAX];
    flo_code code = model_folder_find(folder, c->model[0] != '\0' ? c->model : NULL, err);
    return code == FLO_OK ? model_config_read(model, folder, err) : code;
}

static flo_code with_machine(const run_options *o, machine *m, flo_err *err)
{
    cluster c;
    flo_code code = cluster_from_options(&c, o, m->n_nodes, err);
    if (code != FLO_OK) {
        return code;
    }
    model_config *model = calloc(1, sizeof *model);
    if (model == NULL) {
        code = flo_fail(err, FLO_FAIL, "no memory for the configuration");
    } else {
        code = read_model(model, &c, err);
    }
    if (code == FLO_OK) {
        code = plan_and_print(&c, m, model, o, err);
    }
    free(model);
    cluster_free(&c);
    return code;
}

flo_code command_plan(int argc, char **argv, flo_err *err)
{
    run_options options;
    bool help = false;
    flo_code code = read_options(&options, &help, argc, argv, err);
    if (code != FLO_OK) {
        return code;
    }
    if (help) {
        fputs(help_text, stdout);
        return FLO_OK;
    }
    machine m;
    code = machine_open(&m, err);
    if (code != FLO_OK) {
        return code;
    }
    code = with_machine(&options, &m, err);
    machine_close(&m);
    return code;
}

/*
 * front.c - the session's events on standard error, one request at a time.
 */
#include "launch/front.h"

#include "common/check.h"
#include "common/log.h"
#include "common/model_config.h"
#include "common/model_folder.h"
#include "common/plan.h"
#include "launch/output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void on_progress(void *arg, int32_t rank, const char *host, uint64_t bytes_done,
                        uint64_t bytes_total)
{
    front *f = arg;
    progress_update(f->progress, rank, host, bytes_done, bytes_total);
}

static void on_ready(void *arg, const char *plan_json, double load_s)
{
    front *f = arg;
    (void)plan_json;
    progress_end(f->progress);
    log_debug("ready after %.2f s of loading", load_s);
}

/* Encoding takes seconds before the first token; between tokens nothing may be drawn. */
static void on_stage(void *arg, uint64_t request, const char *what, double share)
{
    front *f = arg;
    if (request == f->request && !f->answered && !f->speaking) {
        progress_stage(f->progress, what, share);
    }
}

static void on_delta(void *arg, uint64_t request, const char *text, size_t n_bytes)
{
    front *f = arg;
    if (request != f->request) {
        return;
    }
    if (!f->speaking || f->on_text != NULL) {
        progress_stage_end(f->progress);
    }
    f->speaking = true;
    if (f->on_text != NULL && f->text_code == FLO_OK) {
        f->text_code = f->on_text(f->arg, text, n_bytes, &f->cause);
    }
}

/* Whether anything else on standard error would stand in the middle of the answer's text. */
static bool answer_is_in_the_way(const front *f)
{
    return f->request != 0 && !f->answered && f->on_text != NULL &&
           (f->text_fd == STDERR_FILENO || isatty(f->text_fd) == 1);
}

static void on_sound(void *arg, uint64_t request, int32_t sample_rate, const unsigned char *samples,
                     size_t n_samples)
{
    front *f = arg;
    if (request != f->request || f->answered || f->sound == NULL || f->sound_code != FLO_OK) {
        return;
    }
    f->sound_code = speech_file_write(f->sound, samples, n_samples, sample_rate, &f->sound_cause);
    progress_sound(f->progress, speech_file_seconds(f->sound), answer_is_in_the_way(f));
}

static void on_done(void *arg, uint64_t request, flo_code code, const char *error,
                    const char *result, size_t n_bytes)
{
    front *f = arg;
    if (request != f->request) {
        return;
    }
    f->answered = true;
    progress_stage_end(f->progress);
    f->code = code;
    if (code != FLO_OK) {
        flo_fail(&f->cause, code, "%s", error);
    }
    buffer_append(&f->result, result, n_bytes);
}

/* An answer is not interrupted by the log. */
static void on_log(void *arg, const char *line)
{
    front *f = arg;
    if (answer_is_in_the_way(f)) {
        buffer_append_text(&f->held, line);
        buffer_append_byte(&f->held, '\n');
        return;
    }
    progress_log(f->progress, line);
}

void front_show_held(front *f)
{
    if (f->held.n > 0) {
        buffer_append_byte(&f->held, '\0');
        fputs(f->held.at, stderr);
        f->held.n = 0;
    }
}

static flo_code read_model(model_config *model, const front *f, flo_err *err)
{
    return f->options.load_format == LOAD_DUMMY ? model_config_read_shapes(model, f->model, err)
                                                : model_config_read(model, f->model, err);
}

/* What config.json alone can refuse is refused before a thousand ranks are started for it. */
static flo_code check_plan(const front *f, flo_err *err)
{
    model_config *model = calloc(1, sizeof *model);
    plan *p = calloc(1, sizeof *p);
    int32_t n = cluster_workers(&f->hosts.cluster);
    plan_worker_facts *workers = calloc((size_t)n, sizeof *workers);
    CHECK(model != NULL && p != NULL && workers != NULL);
    flo_code code = read_model(model, f, err);
    if (code == FLO_OK) {
        plan_misfit unused;
        for (int32_t i = 0; i < n; i++) {
            workers[i] = (plan_worker_facts){.numa = -1, .n_threads = 1};
        }
        const plan_request request = {.model = model,
                                      .n_workers = n,
                                      .workers = workers,
                                      .n_stages = f->hosts.cluster.n_stages,
                                      .kv_tokens = f->options.kv_tokens,
                                      .no_media = f->options.no_media,
                                      .no_speech = f->options.no_speech,
                                      .deterministic = f->options.deterministic};
        code = plan_make(p, &request, &unused, err);
        code = code == FLO_USAGE ? code : FLO_OK; /* whether it fits is the ranks' to say */
    }
    free(workers);
    free(p);
    free(model);
    return code;
}

flo_code front_check_speech(const front *f, const speech_given *speech, flo_err *err)
{
    model_config *model = calloc(1, sizeof *model);
    CHECK(model != NULL);
    flo_code code = read_model(model, f, err);
    if (code == FLO_OK) {
        code = speech_model_check(speech, model, f->model, err);
    }
    free(model);
    return code;
}

static flo_code find_model(front *f, flo_err *err)
{
    /* a model named by the cluster file counts where the command line names none */
    const char *name =
        f->hosts.cluster.model[0] != '\0' ? f->hosts.cluster.model : f->options.model;
    flo_code code = model_folder_find(f->model, name, err);
    if (code != FLO_OK) {
        return code;
    }
    char whole[PATH_MAX];
    if (realpath(f->model, whole) == NULL) {
        return flo_fail(err, FLO_USAGE, "%s: %s", f->model, strerror(errno));
    }
    memcpy(f->model, whole, sizeof whole);
    if (f->options.model != NULL || f->options.cluster == NULL) {
        f->options.model = f->model;
    } /* else the ranks read the cluster file themselves: its hosts may have places of their own */
    return FLO_OK;
}

flo_code front_open(front *f, const run_options *options, const speech_given *speech, flo_err *err)
{
    *f = (front){.options = *options, .text_fd = STDOUT_FILENO};
    flo_code code = run_hosts_find(&f->hosts, options, err);
    f->has_hosts = code == FLO_OK;
    if (code == FLO_OK) {
        code = find_model(f, err);
    }
    if (code == FLO_OK && speech != NULL && speech->file != NULL) {
        code = front_check_speech(f, speech, err);
    }
    if (code == FLO_OK) {
        code = check_plan(f, err);
    }
    if (code == FLO_OK) {
        const session_handlers handlers = {.arg = f,
                                           .progress = on_progress,
                                           .ready = on_ready,
                                           .stage = on_stage,
                                           .delta = on_delta,
                                           .sound = on_sound,
                                           .done = on_done,
                                           .log = on_log};
        f->progress = progress_new(STDERR_FILENO, options->quiet);
        code = session_open(&f->session, &f->options, &f->hosts, &handlers, err);
    }
    if (code != FLO_OK) {
        front_close(f);
    }
    return code;
}

flo_code front_submit(front *f, const char *kind, const buffer *body, const char *dump,
                      flo_err *err)
{
    CHECK(!body->failed);
    f->answered = f->speaking = false;
    f->sound_s = 0;
    f->text_code = f->sound_code = FLO_OK;
    f->result.n = 0;
    const bool local_files = true; /* who started the job may read them anyway */
    return session_submit(f->session, kind, body->at, body->n, dump, local_files, &f->request, err);
}

flo_code front_step(front *f, int wait_ms, int other_fd, bool *other_ready, flo_err *err)
{
    if (progress_has_stage(f->progress) && (wait_ms < 0 || wait_ms > PROGRESS_DRAW_MS)) {
        wait_ms = PROGRESS_DRAW_MS; /* its bar moves while nothing else happens */
    }
    flo_code code = session_step(f->session, wait_ms, other_fd, other_ready, err);
    progress_stage_draw(f->progress);
    if (code == FLO_OK && f->text_code != FLO_OK) {
        *err = f->cause;
        code = f->text_code;
    }
    if (code == FLO_OK && f->sound_code != FLO_OK) {
        *err = f->sound_cause;
        code = f->sound_code;
    }
    return code;
}

flo_code front_ask(front *f, const char *kind, const buffer *body, const char *dump, flo_err *err)
{
    flo_code code = front_submit(f, kind, body, dump, err);
    while (code == FLO_OK && !f->answered) {
        code = front_step(f, -1, -1, NULL, err);
    }
    if (code == FLO_OK && f->code != FLO_OK) {
        *err = f->cause;
        code = f->code;
    }
    return code;
}

flo_code front_keep_sound(front *f, flo_err *err)
{
    if (f->sound == NULL) {
        return FLO_OK;
    }
    speech_file *sound = f->sound;
    f->sound = NULL;
    f->sound_s = speech_file_seconds(sound);
    return speech_file_finish(sound, err);
}

void front_log_sound(const front *f, const char *path)
{
    const char *name = strcmp(path, "-") == 0 ? "standard output" : path;
    if (f->sound_s > 0) {
        log_info("%s: %.1f s of sound", name, f->sound_s);
    } else {
        log_warn("%s: no sound, there was nothing to say", name);
    }
    if (speech_was_cut(&f->result)) {
        log_warn("%s: the speech ends at the most frames it may have; --talker-max-new-tokens "
                 "gives it more",
                 name);
    }
}

flo_code front_show_document(const front *f, const char *sound_file, flo_err *err)
{
    buffer out = {0};
    if (sound_file != NULL) {
        speech_answer_put(&out, &f->result, sound_file);
    } else {
        buffer_append(&out, f->result.at, f->result.n);
    }
    flo_code code =
        out.failed ? flo_fail(err, FLO_FAIL, "out of memory") : output_write(out.at, out.n, err);
    buffer_free(&out);
    return code;
}

void front_close(front *f)
{
    speech_file_discard(f->sound);
    f->sound = NULL;
    if (f->progress != NULL) {
        progress_end(f->progress);
    }
    session_close(f->session);
    front_show_held(f);
    buffer_free(&f->held);
    progress_free(f->progress);
    if (f->has_hosts) {
        run_hosts_free(&f->hosts);
    }
    buffer_free(&f->result);
    f->session = NULL;
    f->progress = NULL;
    f->has_hosts = false;
}

char *absolute_path(const char *path)
{
    char here[PATH_MAX], *whole = NULL;
    if (path[0] == '/' || getcwd(here, sizeof here) == NULL) {
        whole = strdup(path);
        CHECK(whole != NULL);
        return whole;
    }
    size_t n = strlen(here) + strlen(path) + 2;
    whole = malloc(n);
    CHECK(whole != NULL);
    strcpy(whole, here);
    strcat(whole, "/");
    return strcat(whole, path);
}

/*
 * front.c - the session's events on standard error, one request at a time.
 */
#include "launch/front.h"

#include "common/check.h"
#include "common/log.h"
#include "common/model_folder.h"
#include "gateway/interrupts.h"

#include <errno.h>
#include <poll.h>
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

static void on_delta(void *arg, uint64_t request, const char *text, size_t n_bytes)
{
    front *f = arg;
    if (request == f->request && f->on_text != NULL && f->text_code == FLO_OK) {
        f->text_code = f->on_text(f->arg, text, n_bytes, &f->cause);
    }
}

static void on_done(void *arg, uint64_t request, flo_code code, const char *error,
                    const char *result, size_t n_bytes)
{
    front *f = arg;
    if (request != f->request) {
        return;
    }
    f->answered = true;
    f->code = code;
    if (code != FLO_OK) {
        flo_fail(&f->cause, code, "%s", error);
    }
    buffer_append(&f->result, result, n_bytes);
}

static void on_log(void *arg, const char *line)
{
    front *f = arg;
    progress_log(f->progress, line);
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
    f->options.model = f->model;
    return FLO_OK;
}

flo_code front_open(front *f, const run_options *options, flo_err *err)
{
    *f = (front){.options = *options};
    flo_code code = run_hosts_find(&f->hosts, options, err);
    f->has_hosts = code == FLO_OK;
    if (code == FLO_OK) {
        code = find_model(f, err);
    }
    if (code == FLO_OK) {
        const session_handlers handlers = {f, on_progress, on_ready, on_delta, on_done, on_log};
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
    f->answered = false;
    f->text_code = FLO_OK;
    f->result.n = 0;
    return session_submit(f->session, kind, body->at, body->n, dump, &f->request, err);
}

flo_code front_step(front *f, int wait_ms, int other_fd, bool *other_ready, flo_err *err)
{
    flo_code code = session_step(f->session, wait_ms, other_fd, other_ready, err);
    if (code == FLO_OK && f->text_code != FLO_OK) {
        *err = f->cause;
        return f->text_code;
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

void front_close(front *f)
{
    if (f->progress != NULL) {
        progress_end(f->progress);
    }
    session_close(f->session);
    progress_free(f->progress);
    if (f->has_hosts) {
        run_hosts_free(&f->hosts);
    }
    buffer_free(&f->result);
    f->session = NULL;
    f->progress = NULL;
    f->has_hosts = false;
}

flo_code output_write(const char *text, size_t n_bytes, flo_err *err)
{
    while (n_bytes > 0) {
        struct pollfd p[2] = {{.fd = STDOUT_FILENO, .events = POLLOUT},
                              {.fd = interrupts_fd(), .events = POLLIN}};
        poll(p, 2, -1);
        if (p[1].revents != 0 && interrupts_take() != 0) {
            return flo_fail(err, FLO_INTERRUPTED, "interrupted");
        }
        if (p[0].revents == 0) {
            continue;
        }
        /* a pipe that polls as writable takes this much without blocking */
        ssize_t n = write(STDOUT_FILENO, text, n_bytes < 4096 ? n_bytes : 4096);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
            continue;
        }
        if (n < 0) {
            return flo_fail(err, FLO_FAIL, "standard output cannot be written: %s",
                            strerror(errno));
        }
        text += n;
        n_bytes -= (size_t)n;
    }
    return FLO_OK;
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

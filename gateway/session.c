/*
 * session.c - a loop around poll(): the socket, the job's output, its end, and signals to us.
 *
 * Every wait here is woken by the launcher's end and by signals; the wait for the greeting has a
 * bound of its own (START_MS). The order at an unexpected end matters: the ranks' sentence
 * (JobFault, or an error line on standard error) goes before the launcher's notice, which goes
 * before its exit status; so when the socket closes first, the launcher gets FAREWELL_MS to say
 * what it knows.
 */
#include "gateway/session.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "gateway/interrupts.h"
#include "gateway/job.h"
#include "gateway/run_folder.h"
#include "proto/frame.h"
#include "proto/gateway.pb-c.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    START_MS = 120000,   /* launcher's start to greeting */
    FAREWELL_MS = 4000,  /* socket's end to the launcher's */
    END_MS = 10000,      /* a job that was asked to stop in peace */
    STOP_MS = 300,       /* the same after a signal */
    START_LOOK_MS = 500, /* between looks at a job whose coordinator has not come yet */
    TOKEN_BYTES = 16,
    SAMPLE_BYTES = 2,
    SAMPLE_RATE_MAX = 1000000,
};

struct session {
    session_handlers handlers;
    run_folder folder;
    char socket[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char token[2 * TOKEN_BYTES + 1];
    const char *launcher;
    int listener;
    frame_channel *channel; /* NULL before the coordinator has come */
    bool greeted, ready;
    job_output output;
    job *job;
    uint64_t next_request;
    bool interrupted;
    flo_code lost; /* FLO_OK while the job lives */
    flo_err cause;
};

/* -- the door ---------------------------------------------------------------------------------- */

static flo_code make_token(char token[2 * TOKEN_BYTES + 1], flo_err *err)
{
    unsigned char bytes[TOKEN_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
        return flo_fail(err, FLO_FAIL, "no random numbers from the system: %s", strerror(errno));
    }
    for (int i = 0; i < TOKEN_BYTES; i++) {
        snprintf(token + 2 * i, 3, "%02x", bytes[i]);
    }
    return FLO_OK;
}

static flo_code open_door(session *s, flo_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(s->socket, sizeof s->socket, "%s/socket", s->folder.path);
    CHECK(n > 0 && (size_t)n < sizeof s->socket);
    memcpy(address.sun_path, s->socket, sizeof s->socket);
    s->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listener < 0 || bind(s->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(s->listener, 4) != 0) {
        return flo_fail(err, FLO_FAIL, "%s: cannot listen: %s", s->socket, strerror(errno));
    }
    return make_token(s->token, err);
}

/* A visitor of the same user gets a channel; whether it is the coordinator, its greeting will say.
 */
static void answer_door(session *s)
{
    int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
    struct ucred peer;
    socklen_t n = sizeof peer;
    if (fd < 0) {
        return;
    }
    if (s->channel != NULL || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0 ||
        peer.uid != geteuid()) {
        close(fd);
        return;
    }
    frame_channel_new(&s->channel, fd);
}

/* -- how a session is lost --------------------------------------------------------------------- */

static flo_code lose(session *s, flo_code code, const char *cause, flo_err *err)
{
    if (s->lost == FLO_OK) {
        s->lost = code;
        flo_fail(&s->cause, code, "%s", cause);
    }
    *err = s->cause;
    return s->lost;
}

/* The job has ended, or the coordinator has gone: what happened? */
static flo_code lose_job(session *s, flo_err *err)
{
    int status;
    bool ended = job_wait(s->job, FAREWELL_MS, true);
    if (!ended && interrupts_take() != 0) {
        return lose(s, FLO_INTERRUPTED, "interrupted", err);
    }
    if (!ended) {
        return lose(s, FLO_FAIL, "the coordinator closed its connection and the job does not end",
                    err);
    }
    flo_err cause = {""};
    CHECK(job_has_ended(s->job, &status));
    flo_code code = job_output_explain(&s->output, s->launcher, status, &cause);
    if (s->output.sanitizer && !s->output.verbose) {
        job_output_show_talk(&s->output);
    }
    return lose(s, code, cause.text, err);
}

/* -- what the coordinator says ------------------------------------------------------------------
 */

static flo_code take_greeting(session *s, const Flo__Greeting *g, flo_err *err)
{
    if (strlen(g->token) != strlen(s->token) || strcmp(g->token, s->token) != 0) {
        frame_channel_free(s->channel); /* somebody else's: the door stays open */
        s->channel = NULL;
        return FLO_OK;
    }
    if (strcmp(g->version, FLOTILLA_VERSION) != 0) {
        char text[256];
        snprintf(text, sizeof text,
                 "flotilla-coordinator has version %.64s, flotilla has %s; build both anew",
                 g->version, FLOTILLA_VERSION);
        return lose(s, FLO_FAIL, text, err);
    }
    s->greeted = true;
    return FLO_OK;
}

static flo_code code_of(int32_t code)
{
    return code == FLO_OK || code == FLO_USAGE || code == FLO_DIFFERS ? (flo_code)code : FLO_FAIL;
}

static void hand_on(session *s, const Flo__ToGateway *m)
{
    const session_handlers *h = &s->handlers;
    switch (m->body_case) {
    case FLO__TO_GATEWAY__BODY_PROGRESS:
        if (h->progress != NULL) {
            h->progress(h->arg, m->progress->rank, m->progress->host, m->progress->bytes_done,
                        m->progress->bytes_total);
        }
        break;
    case FLO__TO_GATEWAY__BODY_READY:
        s->ready = true;
        if (h->ready != NULL) {
            h->ready(h->arg, m->ready->plan, m->ready->load_s);
        }
        break;
    case FLO__TO_GATEWAY__BODY_DELTA:
        if (h->delta != NULL) {
            h->delta(h->arg, m->delta->request, (const char *)m->delta->text.data,
                     m->delta->text.len);
        }
        break;
    case FLO__TO_GATEWAY__BODY_SOUND:
        if (h->sound != NULL) {
            h->sound(h->arg, m->sound->request, (int32_t)m->sound->sample_rate,
                     m->sound->samples.data, m->sound->samples.len / SAMPLE_BYTES);
        }
        break;
    case FLO__TO_GATEWAY__BODY_STAGE:
        if (h->stage != NULL) {
            h->stage(h->arg, m->stage->request, m->stage->what, m->stage->share);
        }
        break;
    case FLO__TO_GATEWAY__BODY_DONE:
        if (h->done != NULL) {
            h->done(h->arg, m->done->request, code_of(m->done->code), m->done->error,
                    (const char *)m->done->result.data, m->done->result.len);
        }
        break;
    case FLO__TO_GATEWAY__BODY_GREETING:
    case FLO__TO_GATEWAY__BODY_FAULT:
    case FLO__TO_GATEWAY__BODY__NOT_SET:
    default:
        break; /* a message of a later version */
    }
}

/* Half a sample would turn all that follows into noise. */
static bool is_whole(const Flo__ToGateway *m)
{
    return m->body_case != FLO__TO_GATEWAY__BODY_SOUND ||
           (m->sound->samples.len % SAMPLE_BYTES == 0 && m->sound->sample_rate >= 1 &&
            m->sound->sample_rate <= SAMPLE_RATE_MAX);
}

static flo_code take_message(session *s, const frame *f, flo_err *err)
{
    Flo__ToGateway *m = flo__to_gateway__unpack(NULL, f->n_bytes, f->body);
    if (m == NULL) {
        return lose(s, FLO_FAIL, "the coordinator sent a message that cannot be read", err);
    }
    flo_code code = FLO_OK;
    if (!is_whole(m)) {
        code = lose(s, FLO_FAIL, "the coordinator sent sound that cannot be read", err);
    } else if (m->body_case == FLO__TO_GATEWAY__BODY_GREETING) {
        code = take_greeting(s, m->greeting, err);
    } else if (!s->greeted) {
        frame_channel_free(s->channel);
        s->channel = NULL;
    } else if (m->body_case == FLO__TO_GATEWAY__BODY_FAULT) {
        code = lose(s, m->fault->code == FLO_OK ? FLO_FAIL : code_of(m->fault->code),
                    m->fault->text, err);
    } else {
        hand_on(s, m);
    }
    flo__to_gateway__free_unpacked(m, NULL);
    return code;
}

/* All frames that have come. */
static flo_code read_channel(session *s, flo_err *err)
{
    while (s->channel != NULL) {
        frame f;
        flo_code code = frame_receive(s->channel, 0, &f, err);
        if (code != FLO_OK && s->greeted) {
            return lose_job(s, err);
        }
        if (code != FLO_OK || (f.state == FRAME_CLOSED && !s->greeted)) {
            frame_channel_free(s->channel);
            s->channel = NULL;
            return FLO_OK;
        }
        if (f.state == FRAME_NONE) {
            return FLO_OK;
        }
        code = f.state == FRAME_CLOSED ? lose_job(s, err) : take_message(s, &f, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

/* -- the loop ---------------------------------------------------------------------------------- */

enum { AT_SIGNAL, AT_OUTPUT, AT_END, AT_DOOR, AT_CHANNEL, AT_OTHER, N_PLACES };

static void watch(const session *s, int other_fd, struct pollfd p[N_PLACES])
{
    p[AT_SIGNAL] = (struct pollfd){.fd = interrupts_fd(), .events = POLLIN};
    p[AT_OUTPUT] = (struct pollfd){.fd = job_output_fd(s->job), .events = POLLIN};
    p[AT_END] = (struct pollfd){.fd = job_exit_fd(s->job), .events = POLLIN};
    p[AT_DOOR] = (struct pollfd){.fd = s->channel == NULL ? s->listener : -1, .events = POLLIN};
    p[AT_CHANNEL] = (struct pollfd){.fd = -1, .events = POLLIN};
    if (s->channel != NULL) {
        p[AT_CHANNEL].fd = frame_fd(s->channel);
        p[AT_CHANNEL].events = frame_is_sending(s->channel) ? POLLIN | POLLOUT : POLLIN;
    }
    p[AT_OTHER] = (struct pollfd){.fd = other_fd, .events = POLLIN};
}

flo_code session_step(session *s, int wait_ms, int other_fd, bool *other_ready, flo_err *err)
{
    struct pollfd p[N_PLACES];
    int status;
    if (other_ready != NULL) {
        *other_ready = false;
    }
    if (s->lost != FLO_OK) {
        return lose(s, s->lost, "", err);
    }
    if (!s->greeted) {
        if (job_is_stuck(s->job)) {
            return lose(
                s, FLO_FAIL,
                "a rank was lost while the job was starting, and the launcher does not end by "
                "itself; start again",
                err);
        }
        wait_ms = wait_ms < 0 || wait_ms > START_LOOK_MS ? START_LOOK_MS : wait_ms;
    }
    watch(s, other_fd, p);
    if (poll(p, N_PLACES, wait_ms) <= 0) {
        return FLO_OK; /* time is up, or a signal: the next call sees it */
    }
    if (p[AT_SIGNAL].revents != 0 && interrupts_take() != 0) {
        return flo_fail(err, FLO_INTERRUPTED, "interrupted");
    }
    if (p[AT_OUTPUT].revents != 0) {
        job_read(s->job);
    }
    if (p[AT_DOOR].revents != 0) {
        answer_door(s);
    }
    flo_code code = read_channel(s, err);
    if (code != FLO_OK) {
        return code;
    }
    if (p[AT_END].revents != 0 && job_has_ended(s->job, &status)) {
        return lose_job(s, err);
    }
    if (other_ready != NULL) {
        *other_ready = p[AT_OTHER].revents != 0;
    }
    return FLO_OK;
}

static void show_log(void *arg, const char *line)
{
    session *s = arg;
    if (s->handlers.log != NULL) {
        s->handlers.log(s->handlers.arg, line);
    }
}

/* -- start ------------------------------------------------------------------------------------- */

flo_code session_programs(char *out, size_t n_bytes, flo_err *err)
{
    const char *given = getenv("FLOTILLA_PROGRAMS");
    if (given != NULL && given[0] != '\0') {
        snprintf(out, n_bytes, "%s", given);
        return FLO_OK;
    }
    ssize_t n = readlink("/proc/self/exe", out, n_bytes - 1);
    if (n <= 0) {
        return flo_fail(err, FLO_FAIL, "cannot find out where this program lies: %s",
                        strerror(errno));
    }
    out[n] = '\0';
    *strrchr(out, '/') = '\0';
    return FLO_OK;
}

static flo_code check_programs(const char *folder, flo_err *err)
{
    static const char *const names[] = {"flotilla-coordinator", "flotilla-worker"};
    for (int i = 0; i < 2; i++) {
        char path[PATH_MAX + 32];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (access(path, X_OK) != 0) {
            return flo_fail(
                err, FLO_FAIL,
                "%s: %s; flotilla needs it beside itself, build or install all programs", path,
                strerror(errno));
        }
    }
    return FLO_OK;
}

static flo_code write_file(const char *folder, const char *name, const char *text, flo_err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = text != NULL ? fopen(path, "we") : NULL;
    if (text == NULL) {
        return FLO_OK;
    }
    if (f == NULL || fputs(text, f) < 0 || fclose(f) != 0) {
        return flo_fail(err, FLO_FAIL, "%s: cannot write: %s", path, strerror(errno));
    }
    return FLO_OK;
}

static flo_code start_job(session *s, const run_options *options, const run_hosts *hosts,
                          flo_err *err)
{
    char programs[PATH_MAX];
    flo_code code = session_programs(programs, sizeof programs, err);
    if (code == FLO_OK) {
        code = check_programs(programs, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    s->launcher = hosts->launcher;
    word_list words = {0};
    options_to_words(options, &words);
    const job_request request = {.launcher = hosts->launcher,
                                 .programs = programs,
                                 .hosts = &hosts->cluster,
                                 .hosts_given = hosts->given,
                                 .options = &words,
                                 .interface = hosts->cluster.interface,
                                 .run_folder = s->folder.path,
                                 .memory_folder = s->folder.memory,
                                 .socket = s->socket,
                                 .token = s->token};
    job_command command;
    job_command_make(&command, &request);
    code = write_file(s->folder.path, "ranks.conf", command.multi_prog, err);
    if (code == FLO_OK) {
        code = write_file(s->folder.path, "coordinator.sh", command.coordinator_script, err);
    }
    if (code == FLO_OK) {
        code = write_file(s->folder.path, "hosts", command.host_list, err);
    }
    if (code == FLO_OK) {
        code = job_start(&s->job, &command, &s->output, err);
    }
    job_command_free(&command);
    word_list_free(&words);
    return code;
}

static flo_code wait_until_ready(session *s, flo_err *err)
{
    int64_t until = clock_ms() + START_MS;
    while (!s->ready) {
        int64_t left = s->greeted ? -1 : until - clock_ms();
        if (!s->greeted && left <= 0) {
            char text[128];
            snprintf(text, sizeof text,
                     "the ranks did not start within %d seconds (--verbose shows what %s says)",
                     START_MS / 1000, s->launcher);
            return lose(s, FLO_FAIL, text, err);
        }
        flo_code code = session_step(s, (int)left, -1, NULL, err);
        if (code != FLO_OK) {
            s->interrupted = code == FLO_INTERRUPTED;
            return code;
        }
    }
    return FLO_OK;
}

flo_code session_open(session **out, const run_options *options, const run_hosts *hosts,
                      const session_handlers *handlers, flo_err *err)
{
    session *s = calloc(1, sizeof *s);
    CHECK(s != NULL);
    s->handlers = *handlers;
    s->listener = -1;
    s->next_request = 1;
    s->output.verbose = options->verbose;
    s->output.show = show_log;
    s->output.arg = s;
    flo_code code = run_folder_open(&s->folder, err);
    if (code != FLO_OK) {
        free(s);
        return code;
    }
    interrupts_open();
    code = open_door(s, err);
    if (code == FLO_OK) {
        code = start_job(s, options, hosts, err);
    }
    if (code == FLO_OK) {
        code = wait_until_ready(s, err);
    }
    if (code != FLO_OK) {
        session_close(s);
        return code;
    }
    *out = s;
    return FLO_OK;
}

/* -- requests ---------------------------------------------------------------------------------- */

static flo_code send_to_coordinator(session *s, const Flo__ToCoordinator *m, flo_err *err)
{
    if (s->lost != FLO_OK) {
        return lose(s, s->lost, "", err);
    }
    flo_code code = frame_send(s->channel, &m->base, err);
    if (code != FLO_OK && protobuf_c_message_get_packed_size(&m->base) <= FRAME_BYTES_MAX) {
        return lose_job(s, err);
    }
    return code == FLO_OK ? FLO_OK : FLO_USAGE; /* a request over the limit of a message */
}

flo_code session_submit(session *s, const char *kind, const char *body, size_t n_bytes,
                        const char *dump, bool local_files, uint64_t *request, flo_err *err)
{
    Flo__Submit submit = FLO__SUBMIT__INIT;
    submit.request = s->next_request++;
    submit.kind = (char *)(uintptr_t)kind;
    submit.body.data = (uint8_t *)(uintptr_t)body;
    submit.body.len = n_bytes;
    submit.local_files = local_files;
    if (dump != NULL) {
        submit.dump = (char *)(uintptr_t)dump;
    }
    Flo__ToCoordinator m = FLO__TO_COORDINATOR__INIT;
    m.body_case = FLO__TO_COORDINATOR__BODY_SUBMIT;
    m.submit = &submit;
    *request = submit.request;
    return send_to_coordinator(s, &m, err);
}

flo_code session_cancel(session *s, uint64_t request, flo_err *err)
{
    Flo__Cancel cancel = FLO__CANCEL__INIT;
    cancel.request = request;
    Flo__ToCoordinator m = FLO__TO_COORDINATOR__INIT;
    m.body_case = FLO__TO_COORDINATOR__BODY_CANCEL;
    m.cancel = &cancel;
    return send_to_coordinator(s, &m, err);
}

/* -- end --------------------------------------------------------------------------------------- */

/* Asks the ranks to stop and gives them time: much in peace, little when somebody waits for the
 * end. */
static void stop_in_order(session *s)
{
    flo_err ignored = {""};
    Flo__Stop stop = FLO__STOP__INIT;
    Flo__ToCoordinator m = FLO__TO_COORDINATOR__INIT;
    m.body_case = FLO__TO_COORDINATOR__BODY_STOP;
    m.stop = &stop;
    if (s->channel == NULL || frame_send(s->channel, &m.base, &ignored) != FLO_OK) {
        return;
    }
    bool hurried = s->interrupted || interrupts_last() != 0;
    frame_flush(s->channel, STOP_MS, &ignored);
    if (!job_wait(s->job, hurried ? STOP_MS : END_MS, !hurried) && !hurried) {
        job_wait(s->job, STOP_MS, false);
    }
}

void session_close(session *s)
{
    if (s == NULL) {
        return;
    }
    if (s->job != NULL) {
        if (s->lost == FLO_OK) {
            stop_in_order(s);
        }
        job_end(s->job, NULL);
    }
    frame_channel_free(s->channel);
    if (s->listener >= 0) {
        close(s->listener);
    }
    run_folder_close(&s->folder);
    free(s);
}

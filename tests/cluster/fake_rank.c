/*
 * fake_rank.c - stands in for flotilla-coordinator and flotilla-worker where the front is tested:
 * speaks the gateway's protocol, computes nothing, and misbehaves as it is told.
 *
 * FLOTILLA_FAKE names the behaviour (words separated by commas):
 *   no-connect     never connects and sleeps        usage      an error line, exit 2, no connection
 *   fault          JobFault with code 2             vanish     closes the socket after "ready",
 * exit 0 garbage        sends bytes that are no frame    stranger   greets with a wrong token old
 * greets as another version        load-slow  reports progress for ever worker-dies    rank 2 kills
 * itself after 0.3 s  deaf       ignores TERM and the gateway's end talk           log lines of all
 * levels A prompt with "SLOW" is answered word by word until it is cancelled, with "REFUSE" by an
 * error; "LONG" by 4 MiB of text; "ENCODE" reports a stage for 3.5 s first, "BRISK" for 0.3 s, and
 * both once more when the text has begun; "ECHO" by the body. The answer's "echo" is the request's
 * body, "arguments" the command line. A request for speech is answered by half a second of sound as
 * well, in five pieces; with "SLOW" by sound until it is cancelled, with "MUTE" by none, with
 * "PAUSE" by 1.5 s of silence before the last piece, with "HALF" by a piece that ends within a
 * sample, with "LOST" by an error behind the first piece. FLOTILLA_FAKE_PIDS: a folder that gets a
 * file for each rank, named by its pid.
 */
#include "proto/frame.h"
#include "proto/gateway.pb-c.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static frame_channel *channel;
static flo_err fault;

static int is_told(const char *word)
{
    const char *all = getenv("FLOTILLA_FAKE");
    return all != NULL && strstr(all, word) != NULL;
}

static void tell(int body_case, void *body)
{
    Flo__ToGateway m = FLO__TO_GATEWAY__INIT;
    m.body_case = (Flo__ToGateway__BodyCase)body_case;
    m.greeting = body; /* the union's members are all pointers */
    if (frame_send(channel, &m.base, &fault) != FLO_OK ||
        frame_flush(channel, -1, &fault) != FLO_OK) {
        exit(0);
    }
}

static void tell_delta(uint64_t request, const char *text, size_t n)
{
    Flo__Delta d = FLO__DELTA__INIT;
    d.request = request;
    d.text.data = (uint8_t *)(uintptr_t)text;
    d.text.len = n;
    tell(FLO__TO_GATEWAY__BODY_DELTA, &d);
}

enum { PIECE_SAMPLES = 2400, PIECES = 5 };

/* Sample i of an answer is i, so that a test sees whether all have come and in order. */
static void tell_sound(uint64_t request, int piece, size_t n_bytes)
{
    uint8_t bytes[2 * PIECE_SAMPLES];
    for (int i = 0; i < PIECE_SAMPLES; i++) {
        int value = piece * PIECE_SAMPLES + i;
        bytes[2 * i] = (uint8_t)(value & 0xff);
        bytes[2 * i + 1] = (uint8_t)(value >> 8 & 0xff);
    }
    Flo__SoundDelta s = FLO__SOUND_DELTA__INIT;
    s.request = request;
    s.sample_rate = 24000;
    s.samples.data = bytes;
    s.samples.len = n_bytes;
    tell(FLO__TO_GATEWAY__BODY_SOUND, &s);
}

static void tell_done(uint64_t request, int code, const char *error, const char *json)
{
    Flo__Done d = FLO__DONE__INIT;
    d.request = request;
    d.code = code;
    d.error = (char *)(uintptr_t)error;
    d.result.data = (uint8_t *)(uintptr_t)json;
    d.result.len = strlen(json);
    tell(FLO__TO_GATEWAY__BODY_DONE, &d);
}

static int contains(const ProtobufCBinaryData *b, const char *word)
{
    return memmem(b->data, b->len, word, strlen(word)) != NULL;
}

static int speech_is_asked(const Flo__Submit *s)
{
    return contains(&s->body, "\"speech\":{");
}

static void answer(const Flo__Submit *s, int argc, char **argv, const char *reason)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    fprintf(f,
            "{\"text\": \"Paris.\", \"finish_reason\": \"%s\", \"kind\": \"%s\", \"dump\": \"%s\", "
            "\"local_files\": %s, \"echo\": %.*s, ",
            reason, s->kind, s->dump, s->local_files ? "true" : "false", (int)s->body.len,
            (char *)s->body.data);
    if (speech_is_asked(s)) {
        fprintf(f, "\"speech\": {\"sample_rate\": 24000, \"samples\": %d, \"codes\": [[1.50]]}, ",
                PIECES * PIECE_SAMPLES);
    }
    fprintf(f, "\"timing\": {\"generated_tokens\": 2, \"generate_s\": 0.5}, \"arguments\": [");
    for (int i = 1; i < argc; i++) {
        fprintf(f, "%s\"%s\"", i > 1 ? ", " : "", argv[i]);
    }
    fprintf(f, "]}");
    fclose(f);
    tell_done(s->request, 0, "", text);
    free(text);
}

static void tell_stage(uint64_t request, double share)
{
    Flo__Stage s = FLO__STAGE__INIT;
    s.request = request;
    s.what = (char[]){"encoding a\033[2Jphoto.png"}; /* as a hostile name would have it */
    s.share = share;
    tell(FLO__TO_GATEWAY__BODY_STAGE, &s);
}

/* News at the beginning and half way: what is shown between is the front's own doing. */
static void encode(uint64_t request, useconds_t microseconds)
{
    tell_stage(request, 0);
    usleep(microseconds / 2);
    tell_stage(request, 0.5);
    usleep(microseconds / 2);
}

/* Text and sound; false: the request has ended already. */
static int speak(const Flo__Submit *s)
{
    int pieces = contains(&s->body, "MUTE") ? 0 : PIECES;
    tell_delta(s->request, "Par", 3);
    for (int i = 0; i < pieces; i++) {
        if (i + 1 == pieces && contains(&s->body, "PAUSE")) {
            usleep(1500000);
        }
        tell_sound(s->request, i, 2 * PIECE_SAMPLES - (size_t)contains(&s->body, "HALF"));
        if (contains(&s->body, "LOST")) {
            tell_done(s->request, 1, "the vocoder is lost", "");
            return 0;
        }
    }
    tell_delta(s->request, "is.", 3);
    return 1;
}

static const char bench_result[] =
    "\"speech\": {\"frames_per_s\": {\"min\": 14, \"median\": 15.5, \"max\": 16}, "
    "\"real_time_factor\": 1.24, \"first_sound_frames\": 3, \"parts\": [{\"name\": \"talker\", "
    "\"rank\": 1, \"time_share\": 0.25, \"ms_per_frame\": 4, \"limit_ms_per_frame\": 3, "
    "\"limit_fraction\": 0.75, \"bytes_per_frame\": 6e8, \"measured_read_gb_per_s\": 20}, "
    "{\"name\": \"code2wav\", \"rank\": 2, \"time_share\": 0.75, \"ms_per_frame\": 12, "
    "\"limit_ms_per_frame\": 9, \"limit_fraction\": 0.75, \"gflop_per_frame\": 1.5, "
    "\"measured_peak_gflop_per_s\": 60}]}}";

static void answer_bench(const Flo__Submit *s)
{
    char *json = NULL;
    if (asprintf(&json, "{\"echo\": %.*s, %s", (int)s->body.len, (char *)s->body.data,
                 bench_result) < 0) {
        exit(1);
    }
    tell_done(s->request, 0, "", json);
    free(json);
}

static void take_submit(const Flo__Submit *s, int argc, char **argv, uint64_t *slow,
                        int *slow_speaks)
{
    if (contains(&s->body, "REFUSE")) {
        tell_done(s->request, 2, "the prompt has 9 tokens, the KV cache holds 8", "");
    } else if (contains(&s->body, "SLOW")) {
        *slow = s->request;
        *slow_speaks = speech_is_asked(s);
    } else if (contains(&s->body, "LONG")) {
        char *text = malloc(65536);
        memset(text, 'x', 65536);
        for (int i = 0; i < 64; i++) {
            tell_delta(s->request, text, 65536);
        }
        free(text);
        answer(s, argc, argv, "stop");
    } else if (contains(&s->body, "ECHO")) {
        tell_delta(s->request, (const char *)s->body.data, s->body.len);
        answer(s, argc, argv, "stop");
    } else if (strcmp(s->kind, "bench") == 0) {
        answer_bench(s);
    } else if (speech_is_asked(s)) {
        if (speak(s)) {
            answer(s, argc, argv, "stop");
        }
    } else if (strcmp(s->kind, "verify") == 0) {
        tell_delta(s->request, "thinker/a ok\n", 13);
        tell_done(s->request, 3, "1 of 2 cases differs", "");
    } else {
        int long_one = contains(&s->body, "ENCODE"), brisk = contains(&s->body, "BRISK");
        if (long_one || brisk) {
            encode(s->request, long_one ? 3500000 : 300000);
        }
        tell_delta(s->request, "Par", 3);
        if (long_one || brisk) {
            tell_stage(s->request, 0.9); /* too late to be shown */
        }
        tell_delta(s->request, "is.", 3);
        answer(s, argc, argv, "stop");
    }
}

static void report_progress(void)
{
    for (int rank = 1; rank <= 3; rank++) {
        Flo__Progress p = FLO__PROGRESS__INIT;
        p.rank = rank;
        p.host = (char[]){"here"};
        p.bytes_done = 1u << 20;
        p.bytes_total = 4u << 20;
        tell(FLO__TO_GATEWAY__BODY_PROGRESS, &p);
    }
}

static void greet(void)
{
    Flo__Greeting g = FLO__GREETING__INIT;
    const char *token = getenv("FLOTILLA_GATEWAY_TOKEN");
    g.token = is_told("stranger") ? (char[]){"0123456789abcdef0123456789abcdef"}
                                  : (char *)(uintptr_t)token;
    g.version = is_told("old") ? (char[]){"0.0.1"} : (char[]){FLOTILLA_VERSION};
    tell(FLO__TO_GATEWAY__BODY_GREETING, &g);
}

static void start(void)
{
    if (is_told("usage")) {
        fprintf(stderr, "flotilla: error: --stages 9: more stages than layers\n");
        exit(2);
    }
    if (is_told("no-connect")) {
        pause();
    }
    if (frame_connect(&channel, getenv("FLOTILLA_GATEWAY"), &fault) != FLO_OK) {
        fprintf(stderr, "flotilla: error: %s\n", fault.text);
        exit(1);
    }
    if (is_told("garbage")) {
        greet();
        if (write(frame_fd(channel), "\377\377\377\377garbage", 11) != 11) {
            exit(1);
        }
        pause();
    }
    greet();
    if (is_told("talk")) {
        fprintf(
            stderr,
            "flotilla: some news\nflotilla: rank 1: warn: a warning\nflotilla: debug: a detail\n"
            "a stray line\n");
    }
    report_progress();
    while (is_told("load-slow")) {
        report_progress();
        usleep(50000);
    }
    if (is_told("fault")) {
        Flo__JobFault j = FLO__JOB_FAULT__INIT;
        j.code = 2;
        j.text = (char[]){"config.json: num_hidden_layers 0 must be at least 1"};
        tell(FLO__TO_GATEWAY__BODY_FAULT, &j);
        exit(2);
    }
    Flo__JobReady r = FLO__JOB_READY__INIT;
    r.plan = (char[]){"{}"};
    r.load_s = 0.25;
    tell(FLO__TO_GATEWAY__BODY_READY, &r);
    if (is_told("vanish")) {
        exit(0);
    }
}

/* Tells the workers that it is over. */
static void leave(void)
{
    char path[600];
    snprintf(path, sizeof path, "%s.done", getenv("FLOTILLA_GATEWAY"));
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    if (fd >= 0) {
        close(fd);
    }
}

static void serve(int argc, char **argv)
{
    uint64_t slow = 0;
    int slow_speaks = 0;
    for (int piece = 0;;) {
        frame f;
        if (frame_receive(channel, slow != 0 ? 20 : -1, &f, &fault) != FLO_OK ||
            f.state == FRAME_CLOSED) {
            if (is_told("deaf")) {
                pause();
            }
            return;
        }
        if (f.state == FRAME_NONE) {
            tell_delta(slow, "word ", 5);
            if (slow_speaks) {
                tell_sound(slow, piece++, 2 * PIECE_SAMPLES);
            }
            continue;
        }
        Flo__ToCoordinator *m = flo__to_coordinator__unpack(NULL, f.n_bytes, f.body);
        if (m == NULL || (m->body_case == FLO__TO_COORDINATOR__BODY_STOP && !is_told("deaf"))) {
            return;
        }
        if (m->body_case == FLO__TO_COORDINATOR__BODY_SUBMIT) {
            take_submit(m->submit, argc, argv, &slow, &slow_speaks);
        } else if (m->body_case == FLO__TO_COORDINATOR__BODY_CANCEL && m->cancel->request == slow) {
            tell_done(slow, 0, "", "{\"finish_reason\": \"cancelled\"}");
            slow = 0;
        }
        flo__to_coordinator__free_unpacked(m, NULL);
    }
}

static int rank_of(void)
{
    const char *names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"};
    for (int i = 0; i < 3; i++) {
        if (getenv(names[i]) != NULL) {
            return atoi(getenv(names[i]));
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    int rank = rank_of();
    if (getenv("FLOTILLA_FAKE_PIDS") != NULL) {
        char path[512];
        snprintf(path, sizeof path, "%s/%d", getenv("FLOTILLA_FAKE_PIDS"), (int)getpid());
        close(open(path, O_CREAT | O_WRONLY, 0600));
    }
    if (is_told("deaf")) {
        signal(SIGTERM, SIG_IGN);
    }
    if (rank == 0 && strstr(argv[0], "coordinator") != NULL) {
        start();
        serve(argc, argv);
        leave();
        return 0;
    }
    if (rank == 2 && is_told("worker-dies")) {
        usleep(300000);
        raise(SIGKILL);
    }
    /* a worker ends when the job does: the fake has no messages, so it looks for its coordinator */
    const char *socket = getenv("FLOTILLA_GATEWAY");
    while (socket != NULL &&
           (is_told("deaf") || is_told("worker-dies") || access(socket, F_OK) == 0)) {
        usleep(20000);
        char path[600];
        snprintf(path, sizeof path, "%s.done", socket);
        if (access(path, F_OK) == 0) {
            break;
        }
    }
    return 0;
}

/*
 * gateway_link.c - gateway.proto over a frame channel.
 */
#include "coordinator/gateway_link.h"

#include "common/log.h"
#include "common/wav.h"
#include "proto/frame.h"

#include <stdlib.h>

enum { CLOSE_WAIT_MS = 2000, SOUND_SAMPLES_MAX = 4096 };

struct gateway_link {
    frame_channel *channel;
};

static flo_code tell(gateway_link *l, Flo__ToGateway *m, flo_err *err)
{
    flo_code code = frame_send(l->channel, &m->base, err);
    if (code != FLO_OK) {
        log_debug("gateway: %s", err->text);
    }
    return code;
}

/* Of an answer nothing may be lost on the way: while a paused listener has the queue full, all
 * waits for him, as at a pipe. */
static flo_code tell_all(gateway_link *l, Flo__ToGateway *m, flo_err *err)
{
    flo_code code = tell(l, m, err);
    if (code != FLO_OK && frame_is_sending(l->channel)) {
        code = frame_flush(l->channel, -1, err);
        code = code == FLO_OK ? tell(l, m, err) : code;
    }
    return code;
}

flo_code gateway_link_open(gateway_link **out, flo_err *err)
{
    const char *path = getenv("FLOTILLA_GATEWAY"), *token = getenv("FLOTILLA_GATEWAY_TOKEN");
    *out = NULL;
    if (path == NULL || path[0] == '\0') {
        return FLO_OK;
    }
    gateway_link *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the gateway's link");
    }
    flo_code code = frame_connect(&l->channel, path, err);
    if (code != FLO_OK) {
        free(l);
        return code;
    }
    Flo__Greeting greeting = FLO__GREETING__INIT;
    Flo__ToGateway m = FLO__TO_GATEWAY__INIT;
    greeting.token = (char *)(token != NULL ? token : "");
    greeting.version = (char *)FLOTILLA_VERSION;
    m.body_case = FLO__TO_GATEWAY__BODY_GREETING;
    m.greeting = &greeting;
    tell(l, &m, err);
    *out = l;
    return FLO_OK;
}

void gateway_link_close(gateway_link *l)
{
    if (l == NULL) {
        return;
    }
    flo_err err;
    if (frame_flush(l->channel, CLOSE_WAIT_MS, &err) != FLO_OK) {
        log_debug("gateway: %s", err.text);
    }
    frame_channel_free(l->channel);
    free(l);
}

flo_code gateway_link_take(gateway_link *l, Flo__ToCoordinator **message, bool *closed,
                           flo_err *err)
{
    frame f;
    *message = NULL;
    *closed = false;
    flo_code code = frame_receive(l->channel, 0, &f, err);
    if (code != FLO_OK) {
        *closed = true; /* a broken link and a closed one come to the same */
        return FLO_OK;
    }
    *closed = f.state == FRAME_CLOSED;
    if (f.state != FRAME_READY) {
        return FLO_OK;
    }
    *message = flo__to_coordinator__unpack(NULL, f.n_bytes, f.body);
    return *message != NULL ? FLO_OK
                            : flo_fail(err, FLO_FAIL, "the gateway sent a damaged message");
}

void gateway_link_progress(gateway_link *l, int32_t rank, const char *host, uint64_t done,
                           uint64_t total)
{
    Flo__Progress p = FLO__PROGRESS__INIT;
    Flo__ToGateway m = FLO__TO_GATEWAY__INIT;
    p.rank = rank;
    p.host = (char *)host;
    p.bytes_done = done;
    p.bytes_total = total;
    m.body_case = FLO__TO_GATEWAY__BODY_PROGRESS;
    m.progress = &p;
    flo_err ignored;
    tell(l, &m, &ignored);
}

void gateway_link_ready(gateway_link *l, const char *plan_json, double load_s)
{
    Flo__JobReady r = FLO__JOB_READY__INIT;
    Flo__ToGateway m = FLO__TO_GATEWAY__INIT;
    r.plan = (char *)plan_json;
    r.load_s = load_s;
    m.body_case = FLO__TO_GATEWAY__BODY_READY;
    m.ready = &r;
    flo_err ignored;
    tell(l, &m, &ignored);
}

void gateway_link_fault(gateway_link *l, flo_code code, const char *text)
{
    Flo__JobFault f = FLO__JOB_FAULT__INIT;
    Flo__ToGateway m = FLO__TO_GATEWAY__INIT;
    f.code = code;
    f.text = (char *)text;
    m.body_case = FLO__TO_GATEWAY__BODY_FAULT;
    m.fault = &f;
    flo_err ignored;
    tell(l, &m, &ignored);
}

void gateway_link_delta(gateway_link *l, uint64_t request, const char *text, size_t n_bytes)
{
    Flo__Delta d = FLO__DELTA__INIT;
    Flo__ToGateway m = FLO__TO_GATEWAY__INIT;
    d.request = request;
    d.text = (ProtobufCBinaryData){n_bytes, (uint8_t *)text};
    m.body_case = FLO__TO_GATEWAY__BODY_DELTA;
    m.delta = &d;
    flo_err ignored;
    tell_all(l, &m, &ignored);
}

void gateway_link_sound(gateway_link *l, uint64_t request, const float *samples, int32_t n)
{
    unsigned char bytes[2 * SOUND_SAMPLES_MAX];
    Flo__SoundDelta d = FLO__SOUND_DELTA__INIT;
    Flo__ToGateway m = FLO__TO_GATEWAY__INIT;
    d.request = request;
    d.sample_rate = SPEECH_SAMPLE_RATE;
    m.body_case = FLO__TO_GATEWAY__BODY_SOUND;
    m.sound = &d;
    for (int32_t first = 0; first < n; first += SOUND_SAMPLES_MAX) {
        size_t part = (size_t)(n - first < SOUND_SAMPLES_MAX ? n - first : SOUND_SAMPLES_MAX);
        flo_err ignored;
        wav_samples(bytes, samples + first, part);
        d.samples = (ProtobufCBinaryData){2 * part, bytes};
        tell_all(l, &m, &ignored);
    }
}

void gateway_link_stage(gateway_link *l, uint64_t request, const char *what, double share)
{
    Flo__Stage s = FLO__STAGE__INIT;
    Flo__ToGateway m = FLO__TO_GATEWAY__INIT;
    s.request = request;
    s.what = (char *)what;
    s.share = share;
    m.body_case = FLO__TO_GATEWAY__BODY_STAGE;
    m.stage = &s;
    flo_err ignored;
    tell(l, &m, &ignored);
}

void gateway_link_done(gateway_link *l, uint64_t request, flo_code code, const char *error,
                       const char *result, size_t n_bytes)
{
    Flo__Done d = FLO__DONE__INIT;
    Flo__ToGateway m = FLO__TO_GATEWAY__INIT;
    d.request = request;
    d.code = code;
    d.error = (char *)error;
    d.result = (ProtobufCBinaryData){n_bytes, (uint8_t *)result};
    m.body_case = FLO__TO_GATEWAY__BODY_DONE;
    m.done = &d;
    flo_err err;
    if (tell_all(l, &m, &err) != FLO_OK &&
        n_bytes > 0) { /* an answer over a frame's size: say so */
        d.code = FLO_FAIL;
        d.error = err.text;
        d.result.len = 0;
        flo_err ignored;
        tell_all(l, &m, &ignored);
    }
}

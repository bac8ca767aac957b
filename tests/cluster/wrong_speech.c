/*
 * wrong_speech.c - a coordinator that says one wrong thing about speech to the only worker, and
 * prints what the worker has to say to that. Run by test_speech_faults.py:
 *
 *     mpirun -np 1 wrong_speech FOLDER CASE : -np 1 flotilla-worker
 */
#include "common/checkpoint.h"
#include "common/options.h"
#include "proto/plan_message.h"
#include "proto/transport.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EPOCH = 3, WORKER = 1, PAYLOAD_BYTES = 32 << 20, LISTS_BYTES = 1 << 20 };

static transport *t;
static flo_err err;
static model_config model;
static plan the_plan;

static void must(flo_code code)
{
    if (code != FLO_OK) {
        fprintf(stderr, "wrong_speech: %s\n", err.text);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

/* --- a job that is ready -----------------------------------------------------------------------
 */

static void wait_for(message_kind kind)
{
    incoming in;
    do {
        must(transport_wait(t, LANE_MAIN, &in, &err));
    } while (in.kind != kind);
}

static void assign(const char *folder)
{
    arena lists;
    checkpoint *c;
    plan_misfit misfit;
    plan_worker_facts facts = {.host = "here", .n_threads = 1};
    plan_request request = {.model = &model,
                            .n_workers = 1,
                            .workers = &facts,
                            .kv_tokens = 4096,
                            .media_pixels_max = MEDIA_PIXELS_MAX};
    Flo__Assignment a = FLO__ASSIGNMENT__INIT;
    must(model_config_read(&model, folder, &err));
    must(plan_make(&the_plan, &request, &misfit, &err));
    must(checkpoint_open(&c, folder, &err));
    must(checkpoint_fingerprint(c, &a.weights_fingerprint, &err));
    checkpoint_close(c);
    must(arena_open(&lists, LISTS_BYTES, &err));
    plan_to_message(&a, &the_plan, &lists);
    a.epoch = EPOCH;
    a.model = (char *)folder;
    a.config_fingerprint = model_config_fingerprint(&model);
    transport_send(t, WORKER, LANE_MAIN, MSG_ASSIGNMENT, &a.base);
    arena_close(&lists);
}

static void begin_job(const char *folder)
{
    Flo__Setup setup = FLO__SETUP__INIT;
    setup.threads = 1;
    setup.numa = -1;
    setup.places = 1;
    setup.read_gb_per_s = 1;
    setup.memory_bytes = (uint64_t)4 << 30;
    wait_for(MSG_HELLO);
    transport_send(t, WORKER, LANE_MAIN, MSG_SETUP, &setup.base);
    wait_for(MSG_NODE_REPORT);
    assign(folder);
    wait_for(MSG_READY);
}

/* --- what can be said --------------------------------------------------------------------------
 */

/* A session of 3 rows, one of them of a medium; `wrong` changes the message. */
static void start(uint64_t session, void (*wrong)(Flo__SpeechStart *m))
{
    Flo__SpeechStart m = FLO__SPEECH_START__INIT;
    Flo__SpeechChoice choice = FLO__SPEECH_CHOICE__INIT;
    choice.temperature = 0.9;
    choice.top_p = 1;
    choice.repetition_penalty = 1.05;
    m.epoch = EPOCH;
    m.session = session;
    m.rows = 3;
    m.media_rows = 1;
    m.choice = &choice;
    m.max_draws = 4;
    if (wrong != NULL) {
        wrong(&m);
    }
    transport_send(t, WORKER, LANE_MAIN, MSG_SPEECH_START, &m.base);
}

static void no_rows(Flo__SpeechStart *m)
{
    m->rows = 0;
}

static void many_rows(Flo__SpeechStart *m)
{
    m->rows = UINT32_MAX;
}

static void no_choice(Flo__SpeechStart *m)
{
    m->choice = NULL;
}

static void other_epoch(Flo__SpeechStart *m)
{
    m->epoch++;
}

static void prompt(size_t n, size_t n_positions, int32_t code)
{
    int32_t codes[STEP_ROWS_MAX + 1];
    protobuf_c_boolean media[STEP_ROWS_MAX + 1] = {0};
    float positions[3 * STEP_ROWS_MAX + 3] = {0};
    Flo__SpeechPrompt m = FLO__SPEECH_PROMPT__INIT;
    for (size_t i = 0; i < n; i++) {
        codes[i] = code;
    }
    m.epoch = EPOCH;
    m.session = 1;
    m.n_codes = m.n_media = n;
    m.codes = codes;
    m.media = media;
    m.n_positions = n_positions;
    m.positions = positions;
    transport_send(t, WORKER, LANE_MAIN, MSG_SPEECH_PROMPT, &m.base);
}

static void text(uint32_t first, int32_t id)
{
    Flo__SpeechText m = FLO__SPEECH_TEXT__INIT;
    m.epoch = EPOCH;
    m.session = 1;
    m.first = first;
    m.n_ids = 1;
    m.ids = &id;
    transport_send(t, WORKER, LANE_MAIN, MSG_SPEECH_TEXT, &m.base);
}

static void hidden(void)
{
    Flo__SpeechHidden m = FLO__SPEECH_HIDDEN__INIT;
    m.epoch = EPOCH;
    m.session = 1;
    transport_send(t, WORKER, LANE_MAIN, MSG_SPEECH_HIDDEN, &m.base);
}

static void frames(uint32_t first, size_t n, uint32_t code)
{
    uint32_t codes[2 * CODE_GROUPS_MAX];
    Flo__CodeFrames m = FLO__CODE_FRAMES__INIT;
    for (size_t i = 0; i < n; i++) {
        codes[i] = code;
    }
    m.epoch = EPOCH;
    m.session = 9;
    m.first = first;
    m.n_codes = n;
    m.codes = codes;
    transport_send(t, WORKER, LANE_MAIN, MSG_CODE_FRAMES, &m.base);
}

static void prediction(void)
{
    Flo__Prediction m = FLO__PREDICTION__INIT;
    m.epoch = EPOCH;
    transport_send(t, WORKER, LANE_MAIN, MSG_PREDICTION, &m.base);
}

static void predict_job(void)
{
    Flo__PredictJob m = FLO__PREDICT_JOB__INIT;
    m.epoch = EPOCH;
    transport_send(t, WORKER, LANE_MAIN, MSG_PREDICT_JOB, &m.base);
}

static void dispatch(bool of_talker)
{
    uint32_t count = 1, expert = 0;
    float weight = 1;
    Flo__ExpertDispatch m = FLO__EXPERT_DISPATCH__INIT;
    m.epoch = EPOCH;
    m.rows = 1;
    m.n_expert_counts = m.n_expert_ids = m.n_weights = 1;
    m.expert_counts = &count;
    m.expert_ids = &expert;
    m.weights = &weight;
    m.talker = of_talker;
    transport_send(t, WORKER, LANE_EXPERTS, MSG_EXPERT_DISPATCH, &m.base);
}

static void stray_on_the_lane_of_experts(void)
{
    Flo__StatsAsk m = FLO__STATS_ASK__INIT;
    m.epoch = EPOCH;
    transport_send(t, WORKER, LANE_EXPERTS, MSG_STATS_ASK, &m.base);
}

/* A step of two rows in a span, of which n are said to be the talker's. */
static void step(uint64_t session, const uint32_t *rows, size_t n)
{
    Flo__Step m = FLO__STEP__INIT;
    Flo__StepHeader h = FLO__STEP_HEADER__INIT;
    Flo__Span span = FLO__SPAN__INIT, *spans = &span;
    float positions[6] = {0, 1, 0, 1, 0, 1};
    int32_t ids[2] = {1, 2};
    span.sequence = 1;
    span.rows = 2;
    span.speech = session;
    h.epoch = EPOCH;
    h.rows = 2;
    h.n_spans = 1;
    h.spans = &spans;
    h.n_positions = 6;
    h.positions = positions;
    h.n_speech_rows = n;
    h.speech_rows = (uint32_t *)rows;
    m.header = &h;
    m.n_token_ids = 2;
    m.token_ids = ids;
    transport_send(t, WORKER, LANE_MAIN, MSG_STEP, &m.base);
}

static void too_many_sessions(void)
{
    for (uint64_t i = 1; i <= SPEAKERS_MAX + 1; i++) {
        start(i, NULL);
    }
}

/* --- by name -----------------------------------------------------------------------------------
 */

static void say(const char *name)
{
    static const uint32_t falling[] = {1, 0}, far[] = {2}, twice[] = {0, 1};
#define IS(what) (strcmp(name, what) == 0)
    if (IS("session 0")) {
        start(0, NULL);
    } else if (IS("no rows")) {
        start(1, no_rows);
    } else if (IS("many rows")) {
        start(1, many_rows);
    } else if (IS("no choice")) {
        start(1, no_choice);
    } else if (IS("other epoch")) {
        start(1, other_epoch);
    } else if (IS("too many sessions")) {
        too_many_sessions();
    } else if (IS("twice")) {
        start(1, NULL);
        start(1, NULL);
    } else if (IS("positions")) {
        start(1, NULL);
        prompt(1, 2, -1);
    } else if (IS("long prompt")) {
        start(1, NULL);
        prompt(STEP_ROWS_MAX + 1, 3 * STEP_ROWS_MAX + 3, -1);
    } else if (IS("code of a prompt")) {
        start(1, NULL);
        prompt(1, 3, model.talker.vocab_size);
    } else if (IS("text gap")) {
        start(1, NULL);
        text(1, 0);
    } else if (IS("text id")) {
        start(1, NULL);
        text(0, model.text.vocab_size);
    } else if (IS("hidden from the coordinator")) {
        hidden();
    } else if (IS("part of a frame")) {
        frames(0, 3, 0);
    } else if (IS("code of a frame")) {
        frames(0, (size_t)model.talker.n_code_groups, UINT32_MAX);
    } else if (IS("gap of frames")) {
        frames(1, (size_t)model.talker.n_code_groups, 0);
    } else if (IS("prediction")) {
        prediction();
    } else if (IS("predict job")) {
        predict_job();
    } else if (IS("experts")) {
        dispatch(false);
    } else if (IS("experts of the talker")) {
        dispatch(true);
    } else if (IS("lane")) {
        stray_on_the_lane_of_experts();
    } else if (IS("rows falling")) {
        step(1, falling, 2);
    } else if (IS("rows far")) {
        step(1, far, 1);
    } else if (IS("rows of nobody")) {
        step(0, twice, 2);
    } else if (IS("rows not announced")) {
        start(1, NULL);
        step(1, twice, 2);
    } else {
        fprintf(stderr, "wrong_speech: no case '%s'\n", name);
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
}

int main(int argc, char **argv)
{
    int granted;
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &granted);
    must(transport_new(&t, MPI_COMM_WORLD, PAYLOAD_BYTES, &err));
    begin_job(argv[1]);
    say(argv[2]);
    incoming in;
    do {
        must(transport_wait(t, LANE_MAIN, &in, &err));
    } while (in.kind != MSG_FAULT);
    printf("%s\n", in.as.fault->text);
    fflush(stdout);
    MPI_Abort(MPI_COMM_WORLD, 7);
    return 7;
}

/*
 * check_speech_desk.c - sessions open in order as there is room, text leaves once, sound is taken
 * in order and never another's, and an order can be ended at any time.
 *
 * The ranks are played: what would be sent is noted, what they would answer is made here.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/layout.h"
#include "coordinator/speech/speech_desk.h"
#include "tests/unit/common/temp_folder.h"

#include <stdlib.h>
#include <string.h>

enum { SENT_MAX = 4096, ORDERS = SPEAKERS_MAX + 2, ROWS = 20, FRAMES = 10, EPOCH = 5 };

/* --- the transport, played ---------------------------------------------------------------------
 */

typedef struct sent_message {
    message_kind kind;
    int rank;
    uint64_t session;
    int32_t n, first; /* rows, ids or codes */
    bool last;
} sent_message;

static sent_message sent[SENT_MAX];
static int n_sent;
static int32_t text_sent[SENT_MAX];
static int n_text_sent;
static const void *payload_coming;

const char *message_kind_name(message_kind kind)
{
    (void)kind;
    return "message";
}

void transport_send(transport *t, int rank, message_lane lane, message_kind kind,
                    const ProtobufCMessage *message)
{
    (void)t;
    assert_int_equal(lane, LANE_MAIN);
    assert_true(n_sent < SENT_MAX);
    sent_message *s = &sent[n_sent++];
    *s = (sent_message){.kind = kind, .rank = rank};
    if (kind == MSG_SPEECH_START) {
        const Flo__SpeechStart *m = (const Flo__SpeechStart *)message;
        s->session = m->session;
        s->n = (int32_t)m->rows;
        assert_int_equal(m->epoch, EPOCH);
    } else if (kind == MSG_SPEECH_PROMPT) {
        const Flo__SpeechPrompt *m = (const Flo__SpeechPrompt *)message;
        s->session = m->session;
        s->n = (int32_t)m->n_codes;
        assert_int_equal(m->n_media, m->n_codes);
        assert_int_equal(m->n_positions, 3 * m->n_codes);
    } else if (kind == MSG_SPEECH_TEXT) {
        const Flo__SpeechText *m = (const Flo__SpeechText *)message;
        s->session = m->session;
        s->n = (int32_t)m->n_ids;
        s->first = (int32_t)m->first;
        s->last = m->last;
        for (size_t i = 0; i < m->n_ids; i++) {
            text_sent[n_text_sent++ % SENT_MAX] = m->ids[i];
        }
    } else if (kind == MSG_CODE_FRAMES) {
        const Flo__CodeFrames *m = (const Flo__CodeFrames *)message;
        s->session = m->session;
        s->n = (int32_t)m->n_codes;
        s->first = (int32_t)m->first;
        s->last = m->last;
    } else {
        s->session = ((const Flo__SpeechCancel *)message)->session;
    }
}

void *transport_take_payload(transport *t, const incoming *in, void *destination)
{
    (void)t;
    (void)in;
    (void)destination;
    return (void *)(uintptr_t)payload_coming;
}

flo_code transport_tensor(const Flo__Tensor *tensor, Flo__Dtype dtype, size_t n_elements,
                          const void *payload, size_t payload_bytes, const char *what,
                          const void **out, flo_err *err)
{
    (void)what;
    bool sound = tensor->dtype == dtype && n_elements * sizeof(float) == payload_bytes;
    *out = payload;
    return sound ? FLO_OK : flo_fail(err, FLO_FAIL, "a tensor of another size");
}

/* --- a desk and its customers ------------------------------------------------------------------
 */

typedef struct customer {
    speech_order order;
    int n_opened, n_done;
    float samples[64];
    int n_samples;
} customer;

static model_config model;
static plan the_plan;
static speech_desk *desk;
static customer customers[ORDERS];
static speech_prompt talks; /* ROWS rows, the first ROWS - 9 of a user turn of text */
static int32_t ids_of_prompt[ROWS];
static flo_err err;

static void on_opened(speech_order *o)
{
    ((customer *)o->owner)->n_opened++;
}

static void on_sound(speech_order *o, const float *samples, int32_t n)
{
    customer *c = o->owner;
    memcpy(c->samples + c->n_samples, samples, (size_t)n * sizeof *samples);
    c->n_samples += n;
}

static void on_done(speech_order *o)
{
    ((customer *)o->owner)->n_done++;
}

/* A prompt of one user turn and the head of an answer. */
static void make_prompt(void)
{
    prompt p = {.ids = ids_of_prompt, .n = 0};
    const model_tokens *t = &model.tokens;
    ids_of_prompt[p.n++] = t->im_start;
    ids_of_prompt[p.n++] = t->user;
    while (p.n < ROWS - 9 - 2) {
        ids_of_prompt[p.n] = 40 + p.n;
        p.n++;
    }
    ids_of_prompt[p.n++] = t->im_end;
    ids_of_prompt[p.n++] = 10;
    ids_of_prompt[p.n++] = t->im_start;
    ids_of_prompt[p.n++] = t->assistant;
    ids_of_prompt[p.n++] = 10;
    prompt laid = {.n = p.n};
    laid.ids = malloc(sizeof ids_of_prompt);
    assert_non_null(laid.ids);
    memcpy(laid.ids, ids_of_prompt, sizeof ids_of_prompt);
    assert_int_equal(prompt_lay_out(&laid, &model, NULL, NULL, &err), FLO_OK);
    assert_int_equal(speech_prompt_make(&talks, &laid, NULL, &model, 300, &err), FLO_OK);
    talks.prompt = ids_of_prompt; /* it borrows */
    prompt_free(&laid);
    assert_int_equal(talks.n_rows, ROWS);
}

static int open_desk(void **state)
{
    (void)state;
    assert_int_equal(model_config_read(&model, source_path("tests/golden/tiny-omni"), &err),
                     FLO_OK);
    the_plan = (plan){.n_workers = 3, .n_stages = 1, .talker_tokens = 3 * KV_BLOCK};
    for (int32_t i = 0; i < 3; i++) {
        the_plan.workers[i].rank = i + 1;
        the_plan.workers[i].place = i;
    }
    the_plan.workers[1].has_talker = true;
    the_plan.workers[1].n_talker_experts = model.talker.n_experts;
    the_plan.workers[1].has_code_predictor = true;
    the_plan.workers[2].has_code2wav = true;
    n_sent = n_text_sent = 0;
    memset(customers, 0, sizeof customers);
    make_prompt();
    return speech_desk_new(&desk, NULL, &the_plan, &model, EPOCH, &err) == FLO_OK ? 0 : 1;
}

static int close_desk(void **state)
{
    (void)state;
    for (int i = 0; i < ORDERS; i++) {
        speech_order_clear(&customers[i].order);
    }
    speech_prompt_free(&talks);
    speech_desk_free(desk);
    return 0;
}

static flo_code come_in(int i, int32_t frames)
{
    customers[i].order = (speech_order){.prompt = &talks,
                                        .how = {.max_new_tokens = frames, .top_p = 1},
                                        .owner = &customers[i],
                                        .on_opened = on_opened,
                                        .on_sound = on_sound,
                                        .on_done = on_done};
    return speech_desk_open(desk, &customers[i].order, &err);
}

static bool pump(void)
{
    bool busy = false;
    speech_desk_pump(desk, &busy);
    return busy;
}

static flo_code say_opened(uint64_t session)
{
    Flo__SpeechOpened m = FLO__SPEECH_OPENED__INIT;
    m.epoch = EPOCH;
    m.session = session;
    incoming in = {.source = 2, .kind = MSG_SPEECH_OPENED, .as.speech_opened = &m};
    return speech_desk_on_message(desk, &in, &err);
}

/* n samples that follow on `first`, of one frame whose codes are all `code`. */
static flo_code say_sound(uint64_t session, uint64_t first, const float *samples, uint64_t n,
                          uint32_t code, bool last)
{
    uint32_t codes[CODE_GROUPS_MAX];
    uint64_t shape[1] = {n};
    Flo__Tensor t = FLO__TENSOR__INIT;
    Flo__Sound m = FLO__SOUND__INIT;
    for (int32_t g = 0; g < model.code2wav.n_quantizers; g++) {
        codes[g] = code;
    }
    t.n_shape = 1;
    t.shape = shape;
    m.epoch = EPOCH;
    m.session = session;
    m.first = first;
    m.samples = n > 0 ? &t : NULL;
    m.n_codes = n > 0 ? (size_t)model.code2wav.n_quantizers : 0;
    m.codes = codes;
    m.last = last;
    payload_coming = samples;
    incoming in = {
        .source = 3, .kind = MSG_SOUND, .payload_bytes = n * sizeof(float), .as.sound = &m};
    return speech_desk_on_message(desk, &in, &err);
}

static int count(message_kind kind)
{
    int n = 0;
    for (int i = 0; i < n_sent; i++) {
        n += sent[i].kind == kind;
    }
    return n;
}

/* --- the tests ---------------------------------------------------------------------------------
 */

static void an_order_asks_the_talker_and_waits_for_its_word(void **state)
{
    (void)state;
    customer *c = &customers[0];
    assert_int_equal(come_in(0, FRAMES), FLO_OK);
    assert_int_equal(n_sent, 0); /* from the round on */
    assert_true(pump());
    assert_int_equal(sent[0].kind, MSG_SPEECH_START);
    assert_int_equal(sent[0].rank, 2);
    assert_int_equal(sent[0].n, ROWS);
    assert_int_equal(sent[1].kind, MSG_SPEECH_PROMPT);
    assert_int_equal(sent[1].n, ROWS);
    assert_int_equal(c->n_opened, 0);
    assert_int_equal(say_opened(c->order.session), FLO_OK);
    assert_int_equal(c->n_opened, 1);
    assert_false(pump());
    assert_int_equal(say_opened(c->order.session), FLO_FAIL); /* twice */
    assert_int_equal(say_opened(77), FLO_FAIL);
}

static void orders_wait_in_line_for_room(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(come_in(i, i == 3 ? KV_BLOCK : FRAMES), FLO_OK);
    }
    pump();
    assert_int_equal(count(MSG_SPEECH_START), 3); /* the fourth has no room, and the fifth waits */
    uint64_t first = customers[0].order.session;
    assert_int_equal(say_opened(first), FLO_OK);
    assert_int_equal(say_sound(first, 0, NULL, 0, 0, true), FLO_OK);
    assert_int_equal(customers[0].n_done, 1);
    pump();
    assert_int_equal(count(MSG_SPEECH_START), 3); /* still too long */
    assert_int_equal(say_opened(customers[1].order.session), FLO_OK);
    assert_int_equal(say_sound(customers[1].order.session, 0, NULL, 0, 0, true), FLO_OK);
    pump();
    assert_int_equal(count(MSG_SPEECH_START), 4);
    assert_true(customers[3].order.session != 0);
}

static void no_more_speak_than_there_are_streams(void **state)
{
    (void)state;
    the_plan.talker_tokens = 1 << 20;
    for (int i = 0; i < SPEAKERS_MAX + 2; i++) {
        assert_int_equal(come_in(i, FRAMES), FLO_OK);
    }
    pump();
    assert_int_equal(count(MSG_SPEECH_START), SPEAKERS_MAX);
}

static void what_can_never_fit_is_refused(void **state)
{
    (void)state;
    assert_int_equal(come_in(0, 1 << 20), FLO_USAGE);
    assert_non_null(strstr(err.text, "--talker-max-new-tokens"));
    assert_false(speech_desk_busy(desk));
    the_plan.workers[1].has_talker = false;
    speech_desk_free(desk);
    assert_int_equal(speech_desk_new(&desk, NULL, &the_plan, &model, EPOCH, &err), FLO_OK);
    assert_int_equal(come_in(0, 1), FLO_USAGE);
    assert_non_null(strstr(err.text, "--no-speech"));
}

static void text_leaves_once_and_ends_once(void **state)
{
    (void)state;
    static int32_t answer[2000];
    int32_t n = 1500;
    customer *c = &customers[0];
    the_plan.talker_tokens = 1 << 20;
    for (int32_t i = 0; i < n; i++) {
        answer[i] = 100 + i;
    }
    answer[n] = model.tokens.im_end;
    assert_int_equal(come_in(0, 4000), FLO_OK);
    pump();
    speech_desk_text(desk, &c->order, answer, 1, false, false);
    assert_int_equal(n_text_sent, 0); /* not open yet */
    assert_int_equal(say_opened(c->order.session), FLO_OK);
    int32_t before = 0;
    for (int32_t i = 1; i <= n; i += i < 5 ? 1 : 700) {
        speech_desk_text(desk, &c->order, answer, i, false, false);
        assert_true(n_text_sent >= before);
        before = n_text_sent;
    }
    speech_desk_text(desk, &c->order, answer, n + 1, true, true);
    int all = n_text_sent, n_last = 0, at = 0;
    speech_desk_text(desk, &c->order, answer, n + 1, true, true);
    assert_int_equal(n_text_sent, all);
    for (int i = 0; i < n_sent; i++) {
        if (sent[i].kind == MSG_SPEECH_TEXT) {
            assert_int_equal(sent[i].rank, 1); /* home of the first stage */
            assert_int_equal(sent[i].first, at);
            assert_true(sent[i].n <= STEP_ROWS_MAX);
            at += sent[i].n;
            n_last += sent[i].last;
        }
    }
    assert_int_equal(n_last, 1);
    assert_int_equal(text_sent[0], model.tokens.tts_pad);
    assert_int_equal(text_sent[all - 1], model.tokens.tts_eos);
    assert_int_equal(text_sent[all - 2], answer[n - 1]);
    assert_int_equal(all, 1 + ROWS + n); /* pad, the prompt with g_0, g_1 .., tts_eos */
}

static void sound_is_taken_in_order_and_to_its_own(void **state)
{
    (void)state;
    static const float first[] = {0.1f, 0.2f, 0.3f}, other[] = {-0.5f}, more[] = {0.4f};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(come_in(i, FRAMES), FLO_OK);
    }
    pump();
    uint64_t a = customers[0].order.session, b = customers[1].order.session;
    assert_int_equal(say_opened(a), FLO_OK);
    assert_int_equal(say_opened(b), FLO_OK);
    assert_int_equal(say_sound(a, 0, first, 3, 7, false), FLO_OK);
    assert_int_equal(say_sound(b, 0, other, 1, 9, true), FLO_OK);
    assert_int_equal(say_sound(a, 3, more, 1, 8, true), FLO_OK);
    assert_int_equal(customers[0].n_samples, 4);
    assert_true(customers[0].samples[3] == 0.4f && customers[1].samples[0] == -0.5f);
    assert_int_equal(customers[0].order.n_frames, 2);
    assert_int_equal(customers[0].order.codes[model.code2wav.n_quantizers], 8);
    assert_int_equal(customers[1].order.codes[0], 9);
    assert_int_equal(customers[0].n_done + customers[1].n_done, 2);
    assert_false(speech_desk_busy(desk));
}

static flo_code no_rows(void *arg, const char *name, int32_t first, int32_t n_rows, int32_t columns,
                        bool is_ids, const void *data, flo_err *e)
{
    (void)arg;
    (void)name;
    (void)first;
    (void)n_rows;
    (void)columns;
    (void)is_ids;
    (void)data;
    return flo_fail(e, FLO_FAIL, "a row where none was told");
}

static flo_code say_rows_over(uint64_t session)
{
    Flo__SpeechRows m = FLO__SPEECH_ROWS__INIT;
    m.epoch = EPOCH;
    m.session = session;
    m.last = true;
    incoming in = {.source = 2, .kind = MSG_SPEECH_ROWS, .as.speech_rows = &m};
    return speech_desk_on_message(desk, &in, &err);
}

static void a_dumped_session_is_over_with_its_sound_and_its_rows(void **state)
{
    (void)state;
    dump_sink sink = {.rows = no_rows};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(come_in(i, FRAMES), FLO_OK);
        customers[i].order.dump = &sink;
    }
    pump();
    uint64_t a = customers[0].order.session, b = customers[1].order.session;
    assert_int_equal(say_opened(a), FLO_OK);
    assert_int_equal(say_opened(b), FLO_OK);
    assert_int_equal(say_sound(a, 0, NULL, 0, 0, true), FLO_OK);
    assert_int_equal(customers[0].n_done, 0);
    assert_int_equal(say_rows_over(a), FLO_OK);
    assert_int_equal(customers[0].n_done, 1);
    assert_int_equal(say_rows_over(b), FLO_OK);
    assert_int_equal(customers[1].n_done, 0);
    assert_int_equal(say_sound(b, 0, NULL, 0, 0, true), FLO_OK);
    assert_int_equal(customers[1].n_done, 1);
    assert_int_equal(say_rows_over(a), FLO_OK); /* over: passed by */
}

static void sound_that_does_not_belong_is_a_fault(void **state)
{
    (void)state;
    static const float x[] = {0.1f, 0.2f};
    assert_int_equal(come_in(0, FRAMES), FLO_OK);
    pump();
    uint64_t a = customers[0].order.session;
    assert_int_equal(say_opened(a), FLO_OK);
    assert_int_equal(say_sound(a, 1, x, 2, 0, false), FLO_FAIL); /* a gap */
    assert_int_equal(say_sound(a + 1, 0, x, 2, 0, false), FLO_FAIL);
    assert_int_equal(say_sound(a, 0, x, 2, (uint32_t)model.code2wav.codebook_size, false),
                     FLO_FAIL);
    assert_int_equal(customers[0].n_samples, 0);
}

static void an_order_can_be_ended_at_any_time(void **state)
{
    (void)state;
    static const float x[] = {0.1f};
    the_plan.talker_tokens = 2 * KV_BLOCK;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(come_in(i, FRAMES), FLO_OK);
    }
    pump(); /* two are being opened, one waits */
    assert_int_equal(say_opened(customers[0].order.session), FLO_OK);
    for (int i = 0; i < 3; i++) {
        speech_desk_cancel(desk, &customers[i].order);
        speech_desk_cancel(desk, &customers[i].order);
    }
    assert_int_equal(count(MSG_SPEECH_CANCEL), 2);
    pump();
    assert_int_equal(customers[2].n_done, 1);
    assert_int_equal(say_opened(customers[1].order.session), FLO_OK);
    assert_int_equal(customers[1].n_opened, 0); /* nobody waits for it */
    assert_int_equal(say_sound(customers[0].order.session, 0, x, 1, 0, false), FLO_OK);
    assert_int_equal(customers[0].n_samples, 0);
    for (int i = 0; i < 2; i++) {
        uint64_t first = i == 0 ? 1 : 0;
        assert_int_equal(say_sound(customers[i].order.session, first, NULL, 0, 0, true), FLO_OK);
        assert_int_equal(customers[i].n_done, 1);
    }
    assert_false(speech_desk_busy(desk));
}

static void an_answer_that_has_nothing_to_say_ends(void **state)
{
    (void)state;
    int32_t end[] = {model.tokens.im_end};
    assert_int_equal(come_in(0, FRAMES), FLO_OK);
    pump();
    assert_int_equal(say_opened(customers[0].order.session), FLO_OK);
    speech_desk_text(desk, &customers[0].order, end, 1, true, true);
    assert_int_equal(count(MSG_SPEECH_CANCEL), 1);
    assert_int_equal(say_sound(customers[0].order.session, 0, NULL, 0, 0, true), FLO_OK);
    assert_int_equal(customers[0].n_done, 1);
    assert_int_equal(customers[0].order.n_frames, 0);
}

static void a_prompt_without_a_user_needs_no_talker(void **state)
{
    (void)state;
    int32_t ids[] = {50, model.tokens.im_end};
    talks.silent = true;
    assert_int_equal(come_in(0, FRAMES), FLO_OK);
    pump();
    assert_int_equal(customers[0].n_opened, 1);
    assert_int_equal(customers[0].order.session, 0);
    assert_false(pump());
    speech_desk_text(desk, &customers[0].order, ids, 1, false, false);
    assert_int_equal(customers[0].n_done, 0);
    speech_desk_text(desk, &customers[0].order, ids, 2, true, true);
    assert_int_equal(customers[0].n_done, 1);
    assert_int_equal(n_sent, 0);
}

static void frames_at_hand_go_to_the_vocoder_alone(void **state)
{
    (void)state;
    enum { N = 1100 };
    int32_t *codes = calloc((size_t)N * (size_t)model.code2wav.n_quantizers, sizeof *codes);
    customer *c = &customers[0];
    c->order = (speech_order){.owner = c, .on_sound = on_sound, .on_done = on_done};
    assert_int_equal(speech_desk_decode(desk, &c->order, codes, N, &err), FLO_OK);
    int32_t at = 0;
    for (int i = 0; i < n_sent; i++) {
        assert_int_equal(sent[i].kind, MSG_CODE_FRAMES);
        assert_int_equal(sent[i].rank, 3);
        assert_int_equal(sent[i].first, at);
        at += sent[i].n / model.code2wav.n_quantizers;
        assert_int_equal(sent[i].last, at == N);
    }
    assert_int_equal(at, N);
    assert_int_equal(say_sound(c->order.session, 0, NULL, 0, 0, true), FLO_OK);
    assert_int_equal(c->n_done, 1);
    free(codes);
}

int main(void)
{
#define AT_A_DESK(test) cmocka_unit_test_setup_teardown(test, open_desk, close_desk)
    const struct CMUnitTest tests[] = {
        AT_A_DESK(an_order_asks_the_talker_and_waits_for_its_word),
        AT_A_DESK(orders_wait_in_line_for_room),
        AT_A_DESK(no_more_speak_than_there_are_streams),
        AT_A_DESK(what_can_never_fit_is_refused),
        AT_A_DESK(text_leaves_once_and_ends_once),
        AT_A_DESK(sound_is_taken_in_order_and_to_its_own),
        AT_A_DESK(a_dumped_session_is_over_with_its_sound_and_its_rows),
        AT_A_DESK(sound_that_does_not_belong_is_a_fault),
        AT_A_DESK(an_order_can_be_ended_at_any_time),
        AT_A_DESK(an_answer_that_has_nothing_to_say_ends),
        AT_A_DESK(a_prompt_without_a_user_needs_no_talker),
        AT_A_DESK(frames_at_hand_go_to_the_vocoder_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

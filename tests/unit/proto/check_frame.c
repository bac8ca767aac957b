/*
 * check_frame.c - what is sent through a channel arrives whole, in order and only then; what no
 * channel sends is refused without taking memory for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proto/frame.h"
#include "proto/gateway.pb-c.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void pair(frame_channel **c, int *raw)
{
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    frame_channel_new(c, fds[0]);
    *raw = fds[1];
}

static void send_delta(frame_channel *c, uint64_t request, uint8_t *text, size_t n)
{
    flo_err err = {""};
    Flo__Delta delta = FLO__DELTA__INIT;
    delta.request = request;
    delta.text.data = text;
    delta.text.len = n;
    Flo__ToGateway message = FLO__TO_GATEWAY__INIT;
    message.body_case = FLO__TO_GATEWAY__BODY_DELTA;
    message.delta = &delta;
    assert_int_equal(frame_send(c, &message.base, &err), FLO_OK);
}

static void messages_of_any_size_arrive_in_order(void **state)
{
    (void)state;
    frame_channel *a, *b;
    int raw;
    flo_err err = {""};
    pair(&a, &raw);
    frame_channel_new(&b, raw);
    const size_t sizes[] = {0, 1, 100, 65536, 3000000, 7};
    uint8_t *text = malloc(3000000);
    memset(text, 'x', 3000000);
    for (size_t i = 0; i < 6;
         i++) { /* far more than the socket takes: the rest waits in the queue */
        send_delta(a, i, text, sizes[i]);
    }
    assert_true(frame_is_sending(a));
    for (size_t i = 0; i < 6;) {
        frame f;
        assert_int_equal(frame_receive(b, 0, &f, &err), FLO_OK);
        if (f.state == FRAME_NONE) {
            frame none;
            assert_int_equal(frame_receive(a, 0, &none, &err), FLO_OK); /* sends on */
            continue;
        }
        Flo__ToGateway *m = flo__to_gateway__unpack(NULL, f.n_bytes, f.body);
        assert_non_null(m);
        assert_int_equal(m->delta->request, i);
        assert_int_equal(m->delta->text.len, sizes[i]);
        assert_memory_equal(m->delta->text.data, text, sizes[i]);
        flo__to_gateway__free_unpacked(m, NULL);
        i++;
    }
    free(text);
    frame_channel_free(a);
    frame f;
    assert_int_equal(frame_receive(b, 1000, &f, &err), FLO_OK);
    assert_int_equal(f.state, FRAME_CLOSED);
    frame_channel_free(b);
}

static void a_frame_in_single_bytes_is_put_together(void **state)
{
    (void)state;
    frame_channel *c;
    int raw;
    flo_err err = {""};
    pair(&c, &raw);
    const uint8_t bytes[] = {3, 0, 0, 0, 'a', 'b', 'c', 0, 0, 0, 0};
    for (size_t i = 0; i < sizeof bytes; i++) {
        assert_int_equal(write(raw, bytes + i, 1), 1);
        frame f;
        assert_int_equal(frame_receive(c, 0, &f, &err), FLO_OK);
        assert_int_equal(f.state, i == 6 || i == 10 ? FRAME_READY : FRAME_NONE);
        assert_true(i != 6 || (f.n_bytes == 3 && memcmp(f.body, "abc", 3) == 0));
        assert_true(i != 10 || f.n_bytes == 0);
    }
    close(raw);
    frame_channel_free(c);
}

static void a_length_over_the_limit_is_refused(void **state)
{
    (void)state;
    frame_channel *c;
    int raw;
    flo_err err = {""};
    pair(&c, &raw);
    const uint8_t bytes[] = {1, 0, 0, 4};
    assert_int_equal(write(raw, bytes, 4), 4);
    frame f;
    assert_int_equal(frame_receive(c, 0, &f, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "over the limit"));
    close(raw);
    frame_channel_free(c);
}

static void an_end_inside_a_frame_is_refused(void **state)
{
    (void)state;
    frame_channel *c;
    int raw;
    flo_err err = {""};
    pair(&c, &raw);
    const uint8_t bytes[] = {9, 0, 0, 0, 'a'};
    assert_int_equal(write(raw, bytes, 5), 5);
    close(raw);
    frame f;
    assert_int_equal(frame_receive(c, 1000, &f, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "inside a message"));
    frame_channel_free(c);
}

static void what_was_sent_before_the_end_is_still_received(void **state)
{
    (void)state;
    frame_channel *a, *b;
    int raw;
    flo_err err = {""};
    pair(&a, &raw);
    frame_channel_new(&b, raw);
    uint8_t text[] = "last words";
    send_delta(a, 1, text, 10);
    frame_channel_free(a);
    Flo__ToCoordinator nothing = FLO__TO_COORDINATOR__INIT;
    assert_int_equal(frame_send(b, &nothing.base, &err), FLO_FAIL); /* must not hide what came */
    frame f;
    assert_int_equal(frame_receive(b, 1000, &f, &err), FLO_OK);
    assert_int_equal(f.state, FRAME_READY);
    assert_int_equal(frame_receive(b, 1000, &f, &err), FLO_OK);
    assert_int_equal(f.state, FRAME_CLOSED);
    frame_channel_free(b);
}

static void a_side_that_never_reads_fills_the_queue_to_its_bound(void **state)
{
    (void)state;
    frame_channel *c;
    int raw;
    flo_err err = {""};
    pair(&c, &raw);
    const size_t n = 30u << 20;
    Flo__Delta delta = FLO__DELTA__INIT;
    delta.text.data = calloc(1, n);
    delta.text.len = n;
    Flo__ToGateway message = FLO__TO_GATEWAY__INIT;
    message.body_case = FLO__TO_GATEWAY__BODY_DELTA;
    message.delta = &delta;
    flo_code code = FLO_OK;
    int sent = 0;
    while (code == FLO_OK && sent < 10) {
        code = frame_send(c, &message.base, &err);
        sent += code == FLO_OK;
    }
    assert_int_equal(sent, 4); /* 4 x 30 MiB is under 128 MiB, 5 are not */
    assert_non_null(strstr(err.text, "does not read"));
    assert_int_equal(frame_flush(c, 10, &err), FLO_FAIL);
    free(delta.text.data);
    close(raw);
    frame_channel_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_of_any_size_arrive_in_order),
        cmocka_unit_test(a_frame_in_single_bytes_is_put_together),
        cmocka_unit_test(a_length_over_the_limit_is_refused),
        cmocka_unit_test(an_end_inside_a_frame_is_refused),
        cmocka_unit_test(what_was_sent_before_the_end_is_still_received),
        cmocka_unit_test(a_side_that_never_reads_fills_the_queue_to_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

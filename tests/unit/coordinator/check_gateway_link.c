/*
 * check_gateway_link.c - an answer reaches a gateway that reads late as it reaches one that reads
 * at once: nothing of it is lost, however much there is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/gateway_link.h"
#include "proto/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PART = 1 << 18,                 /* samples told at once */
    PARTS = (160 << 20) / PART / 2, /* 160 MiB in all: more than a channel's queue takes */
    READS_AFTER_MS = 300
};

static int listen_at(char *path, size_t n_bytes)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(path, n_bytes, "/tmp/flotilla-link-%d", (int)getpid());
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

/* In a process of its own, which may have to wait. */
static void speak(const char *path)
{
    flo_err err;
    gateway_link *l;
    float *samples = calloc(PART, sizeof *samples);
    setenv("FLOTILLA_GATEWAY", path, 1);
    if (samples == NULL || gateway_link_open(&l, &err) != FLO_OK) {
        _exit(1);
    }
    for (int i = 0; i < PARTS; i++) {
        gateway_link_sound(l, 1, samples, PART);
    }
    gateway_link_done(l, 1, FLO_OK, "", "{}", 2);
    gateway_link_close(l);
    _exit(0);
}

static void sound_and_the_end_reach_a_gateway_that_reads_late(void **state)
{
    (void)state;
    char path[64];
    int listener = listen_at(path, sizeof path), status;
    pid_t speaker = fork();
    assert_true(speaker >= 0);
    if (speaker == 0) {
        speak(path);
    }
    frame_channel *c;
    frame_channel_new(&c, accept(listener, NULL, NULL));
    usleep(1000 * READS_AFTER_MS);
    int64_t n_samples = 0;
    bool ended = false;
    for (frame f = {0}; f.state != FRAME_CLOSED;) {
        flo_err err;
        assert_int_equal(frame_receive(c, -1, &f, &err), FLO_OK);
        Flo__ToGateway *m =
            f.state == FRAME_READY ? flo__to_gateway__unpack(NULL, f.n_bytes, f.body) : NULL;
        if (m != NULL && m->body_case == FLO__TO_GATEWAY__BODY_SOUND) {
            assert_false(ended);
            n_samples += (int64_t)m->sound->samples.len / 2;
        }
        ended = ended || (m != NULL && m->body_case == FLO__TO_GATEWAY__BODY_DONE);
        if (m != NULL) {
            flo__to_gateway__free_unpacked(m, NULL);
        }
    }
    assert_int_equal(n_samples, (int64_t)PART * PARTS);
    assert_true(ended);
    assert_int_equal(waitpid(speaker, &status, 0), speaker);
    assert_int_equal(status, 0);
    frame_channel_free(c);
    close(listener);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sound_and_the_end_reach_a_gateway_that_reads_late),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * interrupts.c - a pipe to ourselves: the handler writes the signal's number, the loop reads it.
 */
#include "gateway/interrupts.h"

#include "common/check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static int ends[2] = {-1, -1}; /* written by interrupts_open only */
static int last_taken;

static void note(int signal_number)
{
    int kept = errno;
    unsigned char byte = (unsigned char)signal_number;
    if (write(ends[1], &byte, 1) < 0) {
        /* full of signals already */
    }
    errno = kept;
}

void interrupts_open(void)
{
    if (ends[0] >= 0) {
        return;
    }
    CHECK(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    static const int asked[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < sizeof asked / sizeof asked[0]; i++) {
        struct sigaction old, now = {.sa_handler = note};
        sigaction(asked[i], NULL, &old);
        if (asked[i] != SIGHUP || old.sa_handler != SIG_IGN) {
            sigaction(asked[i], &now, NULL); /* no SA_RESTART: a blocked write is to end */
        }
    }
    signal(SIGPIPE, SIG_IGN);
}

int interrupts_fd(void)
{
    return ends[0];
}

int interrupts_take(void)
{
    unsigned char byte;
    int taken = 0;
    while (ends[0] >= 0 && read(ends[0], &byte, 1) == 1) {
        taken = byte;
    }
    if (taken != 0) {
        last_taken = taken;
    }
    return taken;
}

int interrupts_last(void)
{
    return last_taken;
}

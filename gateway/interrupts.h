/*
 * interrupts.h - signals that ask the program to end, as something poll() can wait for.
 *
 * INT, TERM and HUP are noted and wake whoever polls; what to do about them is decided in the loop,
 * never in the handler. HUP stays ignored where it was at the start (nohup); INT does not, though a
 * script's `&` ignores it: who sends it to this very process means it. PIPE is ignored: a write then
 * fails, and says so.
 */
#ifndef FLOTILLA_GATEWAY_INTERRUPTS_H
#define FLOTILLA_GATEWAY_INTERRUPTS_H

/* Once, before the first job. */
void interrupts_open(void);

/* Readable while a signal waits to be taken; -1 before interrupts_open. */
int interrupts_fd(void);

/* The last signal that came since the last call, 0 for none. */
int interrupts_take(void);

/* The last signal ever taken, 0 for none: the exit status is 128 more. */
int interrupts_last(void);

#endif

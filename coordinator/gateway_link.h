/*
 * gateway_link.h - the coordinator's end of the socket to the gateway.
 *
 * The gateway starts the job with FLOTILLA_GATEWAY (the socket's path) and FLOTILLA_GATEWAY_TOKEN
 * in its environment; the coordinator connects, greets with the token, and from then on takes
 * requests and tells what becomes of them. When the gateway goes, the job ends.
 */
#ifndef FLOTILLA_COORDINATOR_GATEWAY_LINK_H
#define FLOTILLA_COORDINATOR_GATEWAY_LINK_H

#include "common/error.h"
#include "proto/gateway.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gateway_link gateway_link;

/* *out is NULL where the environment names no gateway. */
flo_code gateway_link_open(gateway_link **out, flo_err *err);
void gateway_link_close(gateway_link *l); /* sends what is queued first */

/* The next message, or NULL where none has come; freed by the caller with
 * flo__to_coordinator__free_unpacked. *closed: the gateway has gone. */
flo_code gateway_link_take(gateway_link *l, Flo__ToCoordinator **message, bool *closed,
                           flo_err *err);

/* Each tells one thing. A gateway that has gone is noticed by the next take, so these do not fail.
 * Text, sound and the end of an answer wait for one that has not read for long. */
void gateway_link_progress(gateway_link *l, int32_t rank, const char *host, uint64_t done,
                           uint64_t total);
void gateway_link_ready(gateway_link *l, const char *plan_json, double load_s);
void gateway_link_fault(gateway_link *l, flo_code code, const char *text);
void gateway_link_delta(gateway_link *l, uint64_t request, const char *text, size_t n_bytes);
void gateway_link_sound(gateway_link *l, uint64_t request, const float *samples, int32_t n);
void gateway_link_stage(gateway_link *l, uint64_t request, const char *what, double share);
void gateway_link_done(gateway_link *l, uint64_t request, flo_code code, const char *error,
                       const char *result, size_t n_bytes);

#endif

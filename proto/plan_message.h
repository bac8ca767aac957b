/*
 * plan_message.h - the plan as it travels in an Assignment.
 */
#ifndef FLOTILLA_PROTO_PLAN_MESSAGE_H
#define FLOTILLA_PROTO_PLAN_MESSAGE_H

#include "common/arena.h"
#include "common/plan.h"
#include "proto/flotilla.pb-c.h"

/* Fills the plan's fields of *a; the list of workers lies in `memory`. */
void plan_to_message(Flo__Assignment *a, const plan *p, arena *memory);

/* FLO_FAIL where the message is no valid plan for the model. */
flo_code plan_from_message(plan *p, const Flo__Assignment *a, const model_config *m, flo_err *err);

/* The largest payload that any two ranks of the job exchange: rows of hidden states with their
 * deep-stack features, whole rows of logits, with --deterministic one row for each (row, expert),
 * or with speech what its parts send. */
size_t plan_payload_bytes_max(const model_config *m, const plan *p);

/* Bytes of an encoder's input that one EncodeInput carries at most, a multiple of 4:
 * ENCODE_PART_BYTES, or the largest payload where that is less. */
size_t plan_encode_part_bytes(const model_config *m, const plan *p);

#endif

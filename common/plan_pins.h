/*
 * plan_pins.h - what a cluster file says of the places of parts, as a plan's request takes it.
 */
#ifndef FLOTILLA_COMMON_PLAN_PINS_H
#define FLOTILLA_COMMON_PLAN_PINS_H

#include "common/cluster.h"
#include "common/plan.h"

/* Fills in the hosts of pinned parts, and the workers of the talker. The names stay the cluster's.
 */
void plan_pin_parts(plan_request *r, const cluster *c);

#endif

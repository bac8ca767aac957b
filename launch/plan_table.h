/*
 * plan_table.h - a plan for people: who holds what, and how full each worker is.
 */
#ifndef FLOTILLA_LAUNCH_PLAN_TABLE_H
#define FLOTILLA_LAUNCH_PLAN_TABLE_H

#include "common/plan.h"

#include <stdio.h>

/* A line for each worker under a headline, with a bar of its memory; then what the bars mean. */
void plan_table_print(FILE *out, const plan *p, const plan_request *request);

#endif

/*
 * plan_json.h - a plan as `flotilla plan --json` shows it; the same document travels in JobReady.
 */
#ifndef FLOTILLA_COMMON_PLAN_JSON_H
#define FLOTILLA_COMMON_PLAN_JSON_H

#include "common/plan.h"

#include <cjson/cJSON.h>

/* {"fits": true, "workers": [...], "coordinator": {...}, "kv_tokens": ...}. Ranges name first and
 * last and are empty lists where there is nothing. The caller deletes it; NULL: out of memory. */
cJSON *plan_to_json(const plan *p, const plan_request *request);

/* {"fits": false, "missing_bytes": ..., "rank": ..., "host": ..., "advice": ...} */
cJSON *plan_misfit_to_json(const plan_misfit *misfit);

#endif

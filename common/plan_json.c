/*
 * plan_json.c - one object for each worker, ranges as [first, last].
 */
#include "common/plan_json.h"

#include "common/plan_parts.h"

/* cJSON's calls take NULL for a document that could not be made and pass it on, so a lack of memory
 * shows at the end, as one missing member. */
static bool add(cJSON *object, const char *name, cJSON *value)
{
    if (cJSON_AddItemToObject(object, name, value)) {
        return true;
    }
    cJSON_Delete(value);
    return false;
}

static bool add_number(cJSON *object, const char *name, double value)
{
    return cJSON_AddNumberToObject(object, name, value) != NULL;
}

static cJSON *range(int32_t first, int32_t n)
{
    const int ends[2] = {first, first + n - 1};
    return cJSON_CreateIntArray(ends, n > 0 ? 2 : 0);
}

static cJSON *parts_of(const plan_worker *w)
{
    const char *parts[3 + PART_COUNT];
    int n = 0;
    if (w->has_embedding) {
        parts[n++] = "embedding";
    }
    if (w->has_final_norm) {
        parts[n++] = "final_norm";
    }
    if (w->n_vocab_rows > 0) {
        parts[n++] = "lm_head";
    }
    for (int part = 0; part < PART_COUNT; part++) {
        if (plan_has_part(w, (plan_part)part)) {
            parts[n++] = plan_part_name((plan_part)part);
        }
    }
    return cJSON_CreateStringArray(parts, n);
}

static cJSON *worker_to_json(const plan_worker *w, const plan_worker_facts *facts)
{
    cJSON *o = cJSON_CreateObject();
    bool whole =
        add_number(o, "rank", w->rank) && cJSON_AddStringToObject(o, "host", facts->host) &&
        add_number(o, "numa", facts->numa) && add_number(o, "stage", w->stage) &&
        add_number(o, "place", w->place) && add(o, "layers", range(w->first_layer, w->n_layers)) &&
        add(o, "experts", range(w->first_expert, w->n_experts)) &&
        add(o, "kv_heads", range(w->first_kv_head, w->n_kv_heads)) &&
        add(o, "lm_head_rows", range(w->first_vocab_row, w->n_vocab_rows)) &&
        add(o, "talker_experts", range(w->first_talker_expert, w->n_talker_experts)) &&
        add(o, "parts", parts_of(w)) && add_number(o, "weight_bytes", (double)w->weight_bytes) &&
        add_number(o, "kv_bytes", (double)w->kv_bytes) &&
        add_number(o, "work_bytes", (double)w->work_bytes) &&
        add_number(o, "memory_bytes", (double)w->memory_bytes) &&
        add_number(o, "time_share", w->time_share);
    if (!whole) {
        cJSON_Delete(o);
        return NULL;
    }
    return o;
}

static bool add_coordinator(cJSON *o, const plan *p, const plan_request *request)
{
    cJSON *c = cJSON_AddObjectToObject(o, "coordinator");
    return c != NULL && add_number(c, "rank", 0) &&
           add_number(c, "work_bytes", (double)plan_coordinator_bytes(p, request));
}

static bool add_workers(cJSON *o, const plan *p, const plan_request *request)
{
    cJSON *list = cJSON_AddArrayToObject(o, "workers");
    for (int32_t i = 0; i < p->n_workers; i++) {
        cJSON *w = worker_to_json(&p->workers[i], &request->workers[i]);
        if (!cJSON_AddItemToArray(list, w)) {
            cJSON_Delete(w);
            return false;
        }
    }
    return list != NULL;
}

/* What the parts that were left out would weigh. */
static bool add_saved(cJSON *o, const plan_request *request)
{
    uint64_t media = plan_media_saved_bytes(request), speech = plan_speech_saved_bytes(request);
    if (media == 0 && speech == 0) {
        return true;
    }
    cJSON *saved = cJSON_AddObjectToObject(o, "saved_bytes");
    return saved != NULL && (media == 0 || add_number(saved, "media", (double)media)) &&
           (speech == 0 || add_number(saved, "speech", (double)speech));
}

cJSON *plan_to_json(const plan *p, const plan_request *request)
{
    cJSON *o = cJSON_CreateObject();
    bool whole =
        cJSON_AddTrueToObject(o, "fits") != NULL && add_workers(o, p, request) &&
        add_coordinator(o, p, request) && add_number(o, "kv_tokens", (double)p->kv_tokens) &&
        add_number(o, "talker_tokens", (double)p->talker_tokens) && add_saved(o, request) &&
        add_number(o, "stages", p->n_stages) && cJSON_AddStringToObject(o, "weights", "bf16") &&
        cJSON_AddBoolToObject(o, "deterministic", p->deterministic);
    if (!whole) {
        cJSON_Delete(o);
        return NULL;
    }
    return o;
}

cJSON *plan_misfit_to_json(const plan_misfit *misfit)
{
    cJSON *o = cJSON_CreateObject();
    bool whole = cJSON_AddFalseToObject(o, "fits") != NULL &&
                 add_number(o, "missing_bytes", (double)misfit->missing_bytes) &&
                 add_number(o, "rank", misfit->rank) &&
                 cJSON_AddStringToObject(o, "host", misfit->host) &&
                 cJSON_AddStringToObject(o, "advice", misfit->advice);
    if (!whole) {
        cJSON_Delete(o);
        return NULL;
    }
    return o;
}

/*
 * defaults.c - the few keys of generation_config.json that concern the thinker.
 */
#include "coordinator/defaults.h"

#include "common/json.h"

#include <stdio.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 1 << 20 };

static flo_code number(const cJSON *root, const char *name, double min, double max, double *out,
                       flo_err *err)
{
    const cJSON *item = json_member(root, name);
    *out = -1;
    if (item == NULL || cJSON_IsNull(item)) {
        return FLO_OK;
    }
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= min && item->valuedouble <= max)) {
        return flo_fail(err, FLO_FAIL, "%s is no number from %g to %g", name, min, max);
    }
    *out = item->valuedouble;
    return FLO_OK;
}

static flo_code add_stop_id(sampling_defaults *d, const cJSON *item, flo_err *err)
{
    int64_t id;
    if (!json_integer(item, 0, INT32_MAX, &id) || d->n_stop == STOP_IDS_MAX - 1) {
        return flo_fail(err, FLO_FAIL, "eos_token_id is no token id, or there are over %d of them",
                        STOP_IDS_MAX - 1);
    }
    d->stop_ids[d->n_stop++] = (int32_t)id;
    return FLO_OK;
}

static flo_code stop_ids(sampling_defaults *d, const cJSON *root, flo_err *err)
{
    const cJSON *eos = json_member(root, "eos_token_id"), *item;
    flo_code code = FLO_OK;
    if (eos == NULL || cJSON_IsNull(eos)) {
        return FLO_OK;
    }
    if (!cJSON_IsArray(eos)) {
        return add_stop_id(d, eos, err);
    }
    cJSON_ArrayForEach(item, eos)
    {
        code = code == FLO_OK ? add_stop_id(d, item, err) : code;
    }
    return code;
}

static flo_code read_keys(sampling_defaults *d, const cJSON *root, flo_err *err)
{
    int64_t top_k = -1;
    const cJSON *k = json_member(root, "top_k"), *do_sample = json_member(root, "do_sample");
    if (!cJSON_IsObject(root)) {
        return flo_fail(err, FLO_FAIL, "it is no JSON object");
    }
    if (do_sample != NULL && !cJSON_IsBool(do_sample) && !cJSON_IsNull(do_sample)) {
        return flo_fail(err, FLO_FAIL, "do_sample is not true or false");
    }
    if (k != NULL && !cJSON_IsNull(k) && !json_integer(k, 0, INT32_MAX, &top_k)) {
        return flo_fail(err, FLO_FAIL, "top_k is no whole number from 0 to %d", INT32_MAX);
    }
    d->do_sample = cJSON_IsTrue(do_sample);
    flo_code code = number(root, "temperature", 0, 1e6, &d->temperature, err);
    code = code == FLO_OK ? number(root, "top_p", 0, 1, &d->top_p, err) : code;
    code = code == FLO_OK ? number(root, "min_p", 0, 1, &d->min_p, err) : code;
    code = code == FLO_OK
               ? number(root, "repetition_penalty", 1e-6, 1e6, &d->repetition_penalty, err)
               : code;
    if (code == FLO_OK) {
        d->top_k = (int32_t)top_k;
        code = stop_ids(d, root, err);
    }
    return code;
}

flo_code sampling_defaults_read(sampling_defaults *d, const char *folder, flo_err *err)
{
    char path[4352];
    cJSON *root;
    *d = (sampling_defaults){
        .temperature = -1, .top_p = -1, .min_p = -1, .repetition_penalty = -1, .top_k = -1};
    snprintf(path, sizeof path, "%s/generation_config.json", folder);
    if (access(path, F_OK) != 0) {
        return FLO_OK;
    }
    flo_code code = json_read(&root, path, FILE_BYTES_MAX, err);
    if (code != FLO_OK) {
        return code;
    }
    code = read_keys(d, root, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", path);
    }
    cJSON_Delete(root);
    return code;
}

/*
 * request_options.c - a body's keys, and the numbers among their values.
 */
#include "coordinator/request_options.h"

#include "common/json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { MAX_NEW_DEFAULT = 1024, TOP_K_DEFAULT = 50 };

/* --- numbers of the body -----------------------------------------------------------------------
 */

flo_code request_number(const cJSON *body, const char *name, double min, double max, double *out,
                        flo_err *err)
{
    const cJSON *item = json_member(body, name);
    if (item == NULL || cJSON_IsNull(item)) {
        return FLO_OK;
    }
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= min && item->valuedouble <= max)) {
        return flo_fail(err, FLO_USAGE, "%s must be a number from %g to %g", name, min, max);
    }
    *out = item->valuedouble;
    return FLO_OK;
}

flo_code request_integer(const cJSON *body, const char *name, int64_t min, int64_t max,
                         int64_t *out, flo_err *err)
{
    const cJSON *item = json_member(body, name);
    if (item == NULL || cJSON_IsNull(item)) {
        return FLO_OK;
    }
    if (!json_integer(item, min, max, out)) {
        return flo_fail(err, FLO_USAGE, "%s must be a whole number from %lld to %lld", name,
                        (long long)min, (long long)max);
    }
    return FLO_OK;
}

/* A seed may use all 64 bits, more than a double of JSON holds: it may come as a string. */
static flo_code take_seed(const cJSON *body, uint64_t *seed, flo_err *err)
{
    const cJSON *item = json_member(body, "seed");
    if (item != NULL && cJSON_IsString(item)) {
        char *end;
        errno = 0;
        unsigned long long value = strtoull(item->valuestring, &end, 10);
        if (item->valuestring[0] < '0' || item->valuestring[0] > '9' || *end != '\0' ||
            errno != 0) {
            return flo_fail(err, FLO_USAGE, "seed must be a whole number of at most 64 bits");
        }
        *seed = value;
        return FLO_OK;
    }
    int64_t number = -1;
    flo_code code = request_integer(body, "seed", 0, (int64_t)1 << 53, &number, err);
    if (code == FLO_OK && number >= 0) {
        *seed = (uint64_t)number;
    } else if (code == FLO_OK && getrandom(seed, sizeof *seed, 0) != sizeof *seed) {
        return flo_fail(err, FLO_FAIL, "the system gives no random seed; give one with --seed");
    }
    return code;
}

/* As in the reference: greedy unless the checkpoint says do_sample or a temperature over 0 is
 * asked, and then top-k is 50 unless said otherwise. */
static flo_code take_sampling(const job *j, const cJSON *body, sampling *s, flo_err *err)
{
    const sampling_defaults *d = &j->defaults;
    double temperature = -1, top_p = -1, min_p = -1, penalty = -1;
    int64_t top_k = -1;
    flo_code code = request_number(body, "temperature", 0, 1e6, &temperature, err);
    code = code == FLO_OK ? request_number(body, "top_p", 0, 1, &top_p, err) : code;
    code = code == FLO_OK ? request_number(body, "min_p", 0, 1, &min_p, err) : code;
    code = code == FLO_OK ? request_number(body, "repetition_penalty", 1e-6, 1e6, &penalty, err)
                          : code;
    code = code == FLO_OK ? request_integer(body, "top_k", 0, INT32_MAX, &top_k, err) : code;
    code = code == FLO_OK ? take_seed(body, &s->seed, err) : code;
    if (code != FLO_OK) {
        return code;
    }
    if (temperature < 0) {
        temperature = !d->do_sample ? 0 : d->temperature >= 0 ? d->temperature : 1;
    }
    s->temperature = temperature;
    s->top_k = top_k >= 0 ? (int32_t)top_k : d->top_k >= 0 ? d->top_k : TOP_K_DEFAULT;
    s->top_p = top_p >= 0 ? top_p : d->top_p >= 0 ? d->top_p : 1;
    s->min_p = min_p >= 0 ? min_p : d->min_p >= 0 ? d->min_p : 0;
    s->repetition_penalty = penalty >= 0                 ? penalty
                            : d->repetition_penalty >= 0 ? d->repetition_penalty
                                                         : 1;
    return FLO_OK;
}

/* `logprobs: K` is ours; `logprobs: true` with `top_logprobs: K` is OpenAI's. */
static flo_code take_logprobs(const cJSON *body, int32_t *out, flo_err *err)
{
    const cJSON *item = json_member(body, "logprobs");
    int64_t k = -1;
    flo_code code = FLO_OK;
    if (item != NULL && cJSON_IsBool(item)) {
        k = cJSON_IsTrue(item) ? 0 : -1;
        code = k == 0 ? request_integer(body, "top_logprobs", 0, LOGPROBS_MAX, &k, err) : FLO_OK;
    } else {
        code = request_integer(body, "logprobs", 0, LOGPROBS_MAX, &k, err);
    }
    if (code == FLO_OK && !cJSON_IsTrue(item) && json_given(body, "top_logprobs") != NULL) {
        code = flo_fail(err, FLO_USAGE, "top_logprobs needs \"logprobs\": true beside it");
    }
    *out = (int32_t)k;
    return code;
}

static void take_stop_ids(const job *j, generation *g)
{
    memcpy(g->stop_ids, j->defaults.stop_ids, sizeof g->stop_ids);
    g->n_stop = j->defaults.n_stop;
    if (j->model.tokens.im_end >= 0) {
        g->stop_ids[g->n_stop++] = j->model.tokens.im_end;
    }
}

static flo_code take_ignore_eos(const cJSON *body, bool *ignore, flo_err *err)
{
    const cJSON *item = json_given(body, "ignore_eos");
    if (item != NULL && !cJSON_IsBool(item)) {
        return flo_fail(err, FLO_USAGE, "ignore_eos must be true or false");
    }
    *ignore = item != NULL && cJSON_IsTrue(item);
    return FLO_OK;
}

/* --- keys --------------------------------------------------------------------------------------
 */

flo_code request_keys_check(const cJSON *body, flo_err *err)
{
    static const char *const known[] = {"messages", "prompt", "raw", "prompt_ids", "tools",
                                        "template_options", "max_tokens", "max_completion_tokens",
                                        "temperature", "top_k", "top_p", "min_p",
                                        "repetition_penalty", "seed", "ignore_eos", "logprobs",
                                        "top_logprobs", "media", "media_options", "speech", "speak",
                                        /* said by clients, without effect here */
                                        "model", "user", "metadata", "store"};
    const cJSON *item;
    if (!cJSON_IsObject(body)) {
        return flo_fail(err, FLO_USAGE, "a request's body must be a JSON object");
    }
    cJSON_ArrayForEach(item, body)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            found = found || strcmp(item->string, known[i]) == 0;
        }
        bool neutral = (strcmp(item->string, "stream") == 0 && cJSON_IsFalse(item)) ||
                       (strcmp(item->string, "n") == 0 && item->valuedouble == 1) ||
                       cJSON_IsNull(item);
        if (!found && !neutral) {
            return flo_fail(err, FLO_USAGE,
                            "the request's key \"%s\" is not known, or asks for what is not "
                            "built yet",
                            item->string);
        }
    }
    return FLO_OK;
}

flo_code request_options_take(generation *g, const job *j, const cJSON *body, flo_err *err)
{
    int64_t max_new = MAX_NEW_DEFAULT;
    bool ignore_eos = false;
    flo_code code = request_integer(body, "max_tokens", 1, INT32_MAX, &max_new, err);
    code = code == FLO_OK
               ? request_integer(body, "max_completion_tokens", 1, INT32_MAX, &max_new, err)
               : code;
    code = code == FLO_OK ? take_sampling(j, body, &g->sampling, err) : code;
    code = code == FLO_OK ? take_logprobs(body, &g->logprobs, err) : code;
    code = code == FLO_OK ? take_ignore_eos(body, &ignore_eos, err) : code;
    if (code == FLO_OK && !ignore_eos) {
        take_stop_ids(j, g);
    }
    g->max_new = (int32_t)max_new;
    return code;
}

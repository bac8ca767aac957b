/*
 * verify_sampling.c - one step of sampling from recorded logits: the probabilities, what is kept,
 * and the greedy choice.
 *
 * Suppressed ids are the talker's business and no part of the sampler. A suppressed id has a logit
 * of minus infinity after the repetition penalty and before every other step, which is what leaving
 * it out of the row of candidates does; so that is how it is done here.
 */
#include "coordinator/verify_sections.h"

#include "common/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct sampling_case {
    sampling how;
    int32_t vocab; /* ids of the recorded row */
    float *logits; /* [n] of the candidates */
    int32_t *ids;  /* [n] */
    int32_t n;
    int32_t *history;
    int32_t n_history;
} sampling_case;

static void free_case(sampling_case *s)
{
    free(s->logits);
    free(s->ids);
    free(s->history);
}

/* Absent and null are the neutral value. */
static flo_code take_number(double *out, const cJSON *inputs, const char *name, double neutral,
                            double max, flo_err *err)
{
    const cJSON *item = json_member(inputs, name);
    *out = neutral;
    if (item == NULL || cJSON_IsNull(item)) {
        return FLO_OK;
    }
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= max)) {
        return flo_fail(err, FLO_FAIL, "the input %s is no number from 0 to %g", name, max);
    }
    *out = item->valuedouble;
    return FLO_OK;
}

static flo_code read_settings(sampling *how, const cJSON *inputs, flo_err *err)
{
    double top_k;
    flo_code code = take_number(&how->temperature, inputs, "temperature", 1, 1e6, err);
    code = code == FLO_OK ? take_number(&top_k, inputs, "top_k", 0, INT32_MAX, err) : code;
    code = code == FLO_OK ? take_number(&how->top_p, inputs, "top_p", 1, 1, err) : code;
    code = code == FLO_OK ? take_number(&how->min_p, inputs, "min_p", 0, 1, err) : code;
    code = code == FLO_OK
               ? take_number(&how->repetition_penalty, inputs, "repetition_penalty", 1, 1e6, err)
               : code;
    if (code == FLO_OK) {
        how->top_k = (int32_t)top_k;
    }
    return code;
}

static bool is_suppressed(const cJSON *list, int32_t id)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (item->valuedouble == id) {
            return true;
        }
    }
    return false;
}

/* The row of candidates: all ids but the suppressed ones. */
static flo_code read_row(sampling_case *s, const verify_case *c, flo_err *err)
{
    owned_view row;
    flo_code code = verify_case_read(&row, c, "logits", err);
    if (code != FLO_OK) {
        return code;
    }
    uint64_t n = tensor_elements(&row.view);
    if (row.view.dtype != DTYPE_F32 || row.view.n_dims != 1 || n < 1 || n > INT32_MAX) {
        owned_view_free(&row);
        return flo_fail(err, FLO_FAIL, "logits is no row of f32 numbers");
    }
    s->vocab = (int32_t)n;
    s->logits = malloc(n * sizeof *s->logits);
    s->ids = malloc(n * sizeof *s->ids);
    if (s->logits == NULL || s->ids == NULL) {
        owned_view_free(&row);
        return flo_fail(err, FLO_FAIL, "out of memory for a row of logits");
    }
    const cJSON *suppressed = json_member(c->inputs, "suppress_tokens");
    for (int32_t id = 0; id < s->vocab; id++) {
        if (!is_suppressed(suppressed, id)) {
            s->ids[s->n] = id;
            s->logits[s->n++] = ((const float *)row.data)[id];
        }
    }
    owned_view_free(&row);
    return FLO_OK;
}

static flo_code read_history(sampling_case *s, const verify_case *c, flo_err *err)
{
    if (!verify_case_has(c, "history")) {
        return FLO_OK;
    }
    flo_code code = verify_case_ids(&s->history, &s->n_history, c, "history", err);
    for (int32_t i = 0; code == FLO_OK && i < s->n_history; i++) {
        if (s->history[i] < 0 || s->history[i] >= s->vocab) {
            code = flo_fail(err, FLO_FAIL, "history[%d] is %d, the row has %d ids", i,
                            s->history[i], s->vocab);
        }
    }
    return code;
}

static flo_code compare_probabilities(verify_report *r, const verify_case *c,
                                      const sampling_case *s, sampler *tool, flo_err *err)
{
    size_t n = (size_t)s->vocab;
    float *left = calloc(n, sizeof *left), *all = calloc(n, sizeof *all);
    uint8_t *kept = calloc(n, 1);
    logit_row row = {.n = s->n, .ids = s->ids, .logits = s->logits};
    flo_code code =
        left != NULL && all != NULL && kept != NULL
            ? sampler_probabilities(tool, &s->how, &row, s->history, s->n_history, left, err)
            : flo_fail(err, FLO_FAIL, "out of memory for probabilities");
    for (int32_t i = 0; code == FLO_OK && i < s->n; i++) {
        all[s->ids[i]] = left[i];
        kept[s->ids[i]] = left[i] > 0;
    }
    tensor_view probs = {.dtype = DTYPE_F32, .n_dims = 1, .shape = {s->vocab}, .data = all};
    tensor_view kept_view = {.dtype = DTYPE_U8, .n_dims = 1, .shape = {s->vocab}, .data = kept};
    if (code == FLO_OK && verify_case_has(c, "probs")) {
        code = verify_case_compare(r, c, "probs", &probs, err);
    }
    if (code == FLO_OK && verify_case_has(c, "kept")) {
        code = verify_case_compare(r, c, "kept", &kept_view, err);
    }
    free(left);
    free(all);
    free(kept);
    return code;
}

/* The recorded fact greedy_after_penalty: the largest logit after penalty and suppression. */
static flo_code compare_greedy(verify_report *r, const verify_case *c, const sampling_case *s,
                               sampler *tool, flo_err *err)
{
    int64_t wanted;
    int32_t got, want;
    comparison result;
    sampling how = s->how;
    logit_row row = {.n = s->n, .ids = s->ids, .logits = s->logits};
    if (!json_integer(json_member(c->facts, "greedy_after_penalty"), 0, INT32_MAX, &wanted)) {
        return FLO_OK;
    }
    how.temperature = 0;
    flo_code code = sampler_choose(tool, &how, &row, s->history, s->n_history, 0, &got, err);
    if (code != FLO_OK) {
        return code;
    }
    want = (int32_t)wanted;
    tensor_view a = {.dtype = DTYPE_I32, .n_dims = 1, .shape = {1}, .data = &got}, b = a;
    b.data = &want;
    tensor_compare(&result, &a, &b, 0, 0);
    report_tensor(r, c->name, "greedy_after_penalty", &a, &b, &result, 0, 0);
    return FLO_OK;
}

static void note_unknown(verify_report *r, const verify_case *c)
{
    static const char *const known[] = {"logits", "history", "probs", "kept"};
    const cJSON *spec;
    cJSON_ArrayForEach(spec, c->tensors)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            found = found || strcmp(spec->string, known[i]) == 0;
        }
        if (!found) {
            report_alone(r, spec->string, 1);
        }
    }
}

static flo_code run_case(void *arg, verify_case *c, bool *fatal, flo_err *err)
{
    verify *v = arg;
    sampling_case s = {0};
    sampler *tool = NULL;
    (void)fatal;
    flo_code code = read_settings(&s.how, c->inputs, err);
    code = code == FLO_OK ? read_row(&s, c, err) : code;
    code = code == FLO_OK ? read_history(&s, c, err) : code;
    code = code == FLO_OK ? sampler_new(&tool, s.vocab, err) : code;
    code = code == FLO_OK ? compare_probabilities(&v->report, c, &s, tool, err) : code;
    code = code == FLO_OK ? compare_greedy(&v->report, c, &s, tool, err) : code;
    if (code == FLO_OK) {
        note_unknown(&v->report, c);
    }
    sampler_free(tool);
    free_case(&s);
    return code;
}

flo_code verify_sampling(verify *v, flo_err *err)
{
    char folder[VERIFY_PATH_MAX];
    flo_code code = verify_path(folder, v->golden, "sampling", err);
    if (code == FLO_OK) {
        report_tensor_columns(&v->report);
        code = verify_cases(&v->report, folder, run_case, v, err);
    }
    return code;
}

/*
 * inspect.c - one walk over the expected tensors, one over the present ones.
 *
 * Both are sorted out against each other by name: 28,010 lookups each way for the published model,
 * some tens of milliseconds.
 */
#include "common/inspect.h"

#include "common/check.h"

#include <stdlib.h>
#include <string.h>

enum { LIST_SHOWN = 20 }; /* names of a list on a terminal */

static flo_code list_add(inspect_list *l, const char *text, flo_err *err)
{
    if ((l->n & (l->n + 1)) == 0) { /* room for 1, 3, 7, .. has just run out */
        char **grown = realloc(l->items, (2 * l->n + 1) * sizeof *grown);
        if (grown == NULL) {
            return flo_fail(err, FLO_FAIL, "no memory for a list of %zu names", l->n);
        }
        l->items = grown;
    }
    l->items[l->n] = strdup(text);
    if (l->items[l->n] == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory");
    }
    l->n++;
    return FLO_OK;
}

static void list_free(inspect_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->items[i]);
    }
    free(l->items);
    *l = (inspect_list){0};
}

/* ---- the walk ---- */

typedef struct inspection {
    inspect_report *report;
    const checkpoint *c;
    bool *is_known; /* one for each tensor of c: it was expected */
    flo_code code;
    flo_err *err;
} inspection;

static void count_found(inspection *in, const expected_tensor *t, const checkpoint_tensor *found)
{
    inspect_component *component = &in->report->components[t->component];
    component->n_tensors++;
    component->n_bytes += found->n_bytes;
    component->n_parameters += found->n_elements;
    in->is_known[found - checkpoint_at(in->c, 0)] = true;
}

static void inspect_expected(void *arg, const expected_tensor *t)
{
    inspection *in = arg;
    if (in->code != FLO_OK) {
        return;
    }
    in->report->components[t->component].is_expected = true;
    const checkpoint_tensor *found = checkpoint_find(in->c, t->name);
    if (found == NULL) {
        in->code = t->may_be_absent ? FLO_OK : list_add(&in->report->missing, t->name, in->err);
        return;
    }
    count_found(in, t, found);
    flo_err fault;
    if (model_tensor_check(in->c, t, &fault) != FLO_OK) {
        in->code = list_add(&in->report->wrong, fault.text, in->err);
    }
}

static flo_code inspect_present(inspection *in)
{
    for (size_t i = 0; i < checkpoint_count(in->c); i++) {
        const checkpoint_tensor *t = checkpoint_at(in->c, i);
        in->report->total_bytes += t->n_bytes;
        if (t->file >= in->report->n_files) {
            in->report->n_files = t->file + 1;
        }
        if (!in->is_known[i]) {
            flo_code code = list_add(&in->report->unexpected, t->name, in->err);
            if (code != FLO_OK) {
                return code;
            }
        }
    }
    return FLO_OK;
}

static flo_code inspect_tensors(inspect_report *r, const checkpoint *c, flo_err *err)
{
    inspection in = {.report = r, .c = c, .code = FLO_OK, .err = err};
    in.is_known = calloc(checkpoint_count(c) + 1, sizeof *in.is_known);
    if (in.is_known == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory");
    }
    model_tensors_each(&r->config, c, inspect_expected, &in);
    if (in.code == FLO_OK) {
        in.code = inspect_present(&in);
    }
    free(in.is_known);
    return in.code;
}

flo_code inspect_folder(inspect_report *r, const char *folder, flo_err *err)
{
    memset(r, 0, sizeof *r);
    flo_code code = model_config_read(&r->config, folder, err);
    if (code != FLO_OK) {
        return code;
    }
    checkpoint *c = NULL;
    code = checkpoint_open(&c, folder, err);
    if (code != FLO_OK) {
        return code;
    }
    code = inspect_tensors(r, c, err);
    checkpoint_close(c);
    return code;
}

void inspect_free(inspect_report *r)
{
    list_free(&r->missing);
    list_free(&r->wrong);
    list_free(&r->unexpected);
}

flo_code inspect_verdict(const inspect_report *r, flo_err *err)
{
    if (r->missing.n > 0) {
        return flo_fail(err, FLO_DIFFERS, "%zu tensors are missing, the first is %s", r->missing.n,
                        r->missing.items[0]);
    }
    if (r->wrong.n > 0) {
        return flo_fail(err, FLO_DIFFERS, "%zu tensors are not as config.json asks: %s", r->wrong.n,
                        r->wrong.items[0]);
    }
    return FLO_OK;
}

/* ---- JSON ---- */

static cJSON *list_json(const inspect_list *l)
{
    cJSON *json = cJSON_CreateArray();
    for (size_t i = 0; i < l->n; i++) {
        cJSON_AddItemToArray(json, cJSON_CreateString(l->items[i]));
    }
    return json;
}

static cJSON *components_json(const inspect_report *r)
{
    cJSON *json = cJSON_CreateArray();
    for (int i = 0; i < COMPONENT_COUNT; i++) {
        const inspect_component *component = &r->components[i];
        if (!component->is_expected) {
            continue;
        }
        cJSON *entry = cJSON_CreateObject();
        cJSON_AddStringToObject(entry, "name", model_component_name((model_component)i));
        cJSON_AddNumberToObject(entry, "tensors", (double)component->n_tensors);
        cJSON_AddNumberToObject(entry, "bytes", (double)component->n_bytes);
        cJSON_AddNumberToObject(entry, "parameters", (double)component->n_parameters);
        cJSON_AddItemToArray(json, entry);
    }
    return json;
}

static cJSON *speakers_json(const model_config *c)
{
    cJSON *json = cJSON_CreateArray();
    for (int32_t i = 0; i < c->n_speakers; i++) {
        cJSON_AddItemToArray(json, cJSON_CreateString(c->speakers[i].name));
    }
    return json;
}

cJSON *inspect_json(const inspect_report *r)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "architecture", r->config.architecture);
    cJSON_AddStringToObject(json, "variant", model_variant_name(r->config.variant));
    cJSON_AddItemToObject(json, "components", components_json(r));
    cJSON_AddItemToObject(json, "missing", list_json(&r->missing));
    cJSON_AddItemToObject(json, "wrong", list_json(&r->wrong));
    cJSON_AddItemToObject(json, "unexpected", list_json(&r->unexpected));
    cJSON_AddItemToObject(json, "speakers", speakers_json(&r->config));
    cJSON_AddStringToObject(json, "defaulted", r->config.defaulted);
    cJSON_AddNumberToObject(json, "total_bytes", (double)r->total_bytes);
    return json;
}

/* ---- the table ---- */

static void print_list(const inspect_list *l, const char *what, FILE *out)
{
    if (l->n == 0) {
        return;
    }
    fprintf(out, "%s: %zu\n", what, l->n);
    for (size_t i = 0; i < l->n && i < LIST_SHOWN; i++) {
        flo_err line; /* names come from files: control characters go */
        flo_fail(&line, FLO_OK, "%s", l->items[i]);
        fprintf(out, "  %s\n", line.text);
    }
    if (l->n > LIST_SHOWN) {
        fprintf(out, "  .. and %zu more (--json lists them all)\n", l->n - LIST_SHOWN);
    }
}

static void print_row(FILE *out, const char *name, size_t n_tensors, uint64_t n_bytes,
                      uint64_t n_parameters)
{
    fprintf(out, "%-16s %8zu %16llu %16llu\n", name, n_tensors, (unsigned long long)n_parameters,
            (unsigned long long)n_bytes);
}

static void print_components(const inspect_report *r, FILE *out)
{
    inspect_component all = {0};
    fprintf(out, "%-16s %8s %16s %16s\n", "part", "tensors", "parameters", "bytes");
    for (int i = 0; i < COMPONENT_COUNT; i++) {
        const inspect_component *component = &r->components[i];
        if (component->is_expected) {
            print_row(out, model_component_name((model_component)i), component->n_tensors,
                      component->n_bytes, component->n_parameters);
            all.n_tensors += component->n_tensors;
            all.n_bytes += component->n_bytes;
            all.n_parameters += component->n_parameters;
        }
    }
    print_row(out, "all", all.n_tensors, all.n_bytes, all.n_parameters);
}

void inspect_print(const inspect_report *r, FILE *out)
{
    flo_err line;
    flo_fail(&line, FLO_OK, "%s", r->config.architecture);
    fprintf(out, "%s, %s; %d file%s, %llu bytes of tensors\n", line.text,
            model_variant_name(r->config.variant), r->n_files, r->n_files == 1 ? "" : "s",
            (unsigned long long)r->total_bytes);
    print_components(r, out);
    for (int32_t i = 0; i < r->config.n_speakers; i++) {
        flo_fail(&line, FLO_OK, "%s", r->config.speakers[i].name);
        fprintf(out, "%s%s%s", i == 0 ? "speakers: " : ", ", line.text,
                i + 1 == r->config.n_speakers ? "\n" : "");
    }
    if (r->config.defaulted[0] != '\0') {
        fprintf(out, "absent from config.json, taken as in the reference: %s\n",
                r->config.defaulted);
    }
    print_list(&r->missing, "missing", out);
    print_list(&r->wrong, "not as config.json asks", out);
    print_list(&r->unexpected, "not asked for by config.json", out);
}

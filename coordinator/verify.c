/*
 * verify.c - which sections are run, and what is said about those that are not.
 */
#include "coordinator/verify.h"

#include "common/json.h"
#include "coordinator/verify_sections.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct section {
    const char *name;
    flo_code (*run)(verify *v, flo_err *err);
} section;

static const section sections[] = {
    {"tokenization", verify_tokenization},
    {"template", verify_template},
    {"chat", verify_chat},
    {"thinker", verify_thinker},
    {"sampling", verify_sampling},
    {"audio", verify_audio},
    {"image", verify_image},
    {"video", verify_video},
    {"speech", verify_speech},
    {"code2wav", verify_code2wav},
};

enum { N_SECTIONS = sizeof sections / sizeof sections[0] };

/* --- what was asked ----------------------------------------------------------------------------
 */

static const section *section_find(const char *name)
{
    for (int i = 0; i < N_SECTIONS; i++) {
        if (strcmp(sections[i].name, name) == 0) {
            return &sections[i];
        }
    }
    return NULL;
}

static flo_code unknown_section(const char *name, flo_err *err)
{
    char known[256] = "";
    size_t n = 0;
    for (int i = 0; i < N_SECTIONS; i++) {
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "",
                              sections[i].name);
    }
    return flo_fail(err, FLO_USAGE, "--only %.60s: no such section; there are %s", name, known);
}

/* chosen[i]: section i is to be run. Without a choice those are chosen that the folder has. */
static flo_code choose(bool chosen[N_SECTIONS], const cJSON *only, const char *golden, flo_err *err)
{
    const cJSON *item;
    bool any = only != NULL && !cJSON_IsNull(only) && cJSON_GetArraySize(only) > 0;
    if (only != NULL && !cJSON_IsNull(only) && !cJSON_IsArray(only)) {
        return flo_fail(err, FLO_USAGE, "\"only\" must be a list of section names");
    }
    for (int i = 0; i < N_SECTIONS; i++) {
        chosen[i] = !any && verify_is_folder(golden, sections[i].name);
    }
    cJSON_ArrayForEach(item, only)
    {
        const section *s = cJSON_IsString(item) ? section_find(item->valuestring) : NULL;
        if (s == NULL) {
            return unknown_section(cJSON_IsString(item) ? item->valuestring : "?", err);
        }
        if (!verify_is_folder(golden, s->name)) {
            return flo_fail(err, FLO_USAGE, "--only %s: %s has no such folder", s->name, golden);
        }
        chosen[s - sections] = true;
    }
    return FLO_OK;
}

static flo_code read_body(verify *v, bool chosen[N_SECTIONS], const char *body, size_t n_bytes,
                          flo_err *err)
{
    cJSON *root;
    flo_code code = json_parse_request(&root, body, n_bytes, err);
    if (code != FLO_OK) {
        return code;
    }
    const cJSON *golden = json_member(root, "golden");
    if (!cJSON_IsString(golden) || golden->valuestring[0] == '\0' ||
        strlen(golden->valuestring) >= sizeof v->golden) {
        code = flo_fail(err, FLO_USAGE, "verification needs a folder of reference data (--golden)");
    } else {
        snprintf(v->golden, sizeof v->golden, "%s", golden->valuestring);
        if (!verify_is_folder(v->golden, ".")) {
            code = flo_fail(err, FLO_USAGE, "--golden %s: no such folder", v->golden);
        } else {
            code = choose(chosen, json_member(root, "only"), v->golden, err);
        }
    }
    cJSON_Delete(root);
    return code;
}

/* --- folders without a section -----------------------------------------------------------------
 */

/* Folders that cases point to, or that stand for a model. */
static bool holds_cases(const char *golden, const char *name)
{
    char folder[VERIFY_PATH_MAX], inner[VERIFY_PATH_MAX];
    name_list names = {0};
    flo_err err;
    bool found = false;
    if (verify_path(folder, golden, name, &err) != FLO_OK ||
        name_list_read(&names, folder, &err) != FLO_OK) {
        return false;
    }
    for (size_t i = 0; i < names.n && !found; i++) {
        found = strcmp(names.at[i], "cases.json") == 0 ||
                (verify_is_folder(folder, names.at[i]) &&
                 verify_path(inner, folder, names.at[i], &err) == FLO_OK &&
                 verify_is_file(inner, "case.json"));
    }
    name_list_free(&names);
    return found;
}

/* Folders that are no section are named; one that holds cases counts as not run. */
static flo_code name_others(verify *v, flo_err *err)
{
    name_list names;
    buffer others = {0};
    flo_code code = name_list_read(&names, v->golden, err);
    for (size_t i = 0; code == FLO_OK && i < names.n; i++) {
        const char *name = names.at[i];
        if (!verify_is_folder(v->golden, name) || section_find(name) != NULL) {
            continue;
        }
        if (holds_cases(v->golden, name)) {
            report_section_begin(&v->report, name);
            report_not_run(&v->report, "this program knows no section of that name");
            report_section_end(&v->report);
        } else {
            buffer_append_text(&others, others.n > 0 ? ", " : "");
            buffer_append_text(&others, name);
        }
    }
    if (others.n > 0) {
        report_line(&v->report, "folders without cases: %.*s", (int)others.n, others.at);
    }
    buffer_free(&others);
    name_list_free(&names);
    return code;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static flo_code run_section(verify *v, const section *s, flo_err *err)
{
    report_section_begin(&v->report, s->name);
    flo_code code = s->run(v, err);
    report_section_end(&v->report);
    return code;
}

flo_code verify_run(job *j, const char *body, size_t n_bytes,
                    void (*say)(void *arg, const char *text, size_t n_bytes), void *arg,
                    flo_err *err)
{
    bool chosen[N_SECTIONS] = {false};
    int n = 0;
    verify *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for verification");
    }
    v->job = j;
    report_init(&v->report, say, arg);
    flo_code code = read_body(v, chosen, body, n_bytes, err);
    bool all = code == FLO_OK;
    for (int i = 0; i < N_SECTIONS && code == FLO_OK; i++) {
        if (chosen[i]) {
            n++;
            code = run_section(v, &sections[i], err);
        }
        all = all && (chosen[i] || !verify_is_folder(v->golden, sections[i].name));
    }
    if (code == FLO_OK && all) {
        code = name_others(v, err);
    }
    if (code == FLO_OK && n == 0 && v->report.n_not_run == 0) {
        code =
            flo_fail(err, FLO_USAGE, "--golden %s: the folder has none of the sections", v->golden);
    }
    if (code == FLO_OK) {
        code = report_end(&v->report, err);
    }
    report_free(&v->report);
    free(v);
    return code;
}

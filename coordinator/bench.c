/*
 * bench.c - what was asked, and the document around the figures.
 */
#include "coordinator/bench.h"

#include "common/json.h"
#include "coordinator/bench_figures.h"

#include <stdlib.h>
#include <string.h>

enum {
    AUDIO_SECONDS_MAX = 3600,
    PICTURE_SIDE_MAX = 16384,
    FRAMES_DEFAULT = 64,
    FRAMES_MAX = 4000,
};

static void put_machine(cJSON *to, const job *j)
{
    cJSON *workers = cJSON_AddArrayToObject(cJSON_AddObjectToObject(to, "machine"), "workers");
    cJSON *rss = cJSON_AddArrayToObject(to, "rss_bytes");
    for (int32_t i = 0; i < j->n_workers; i++) {
        const job_node *n = &j->nodes[i];
        cJSON *w = cJSON_CreateObject();
        cJSON_AddNumberToObject(w, "rank", i + 1);
        cJSON_AddStringToObject(w, "host", n->host);
        cJSON_AddStringToObject(w, "isa", n->isa);
        cJSON_AddNumberToObject(w, "threads", n->n_threads);
        cJSON_AddItemToArray(workers, w);
        cJSON_AddItemToArray(rss, cJSON_CreateNumber((double)n->rss_bytes));
    }
    cJSON *shape = cJSON_AddObjectToObject(to, "plan");
    cJSON_AddNumberToObject(shape, "workers", j->plan.n_workers);
    cJSON_AddNumberToObject(shape, "stages", j->plan.n_stages);
    cJSON_AddStringToObject(shape, "weights", "bf16");
    cJSON_AddNumberToObject(to, "load_s", j->load_s);
}

static bool is_asked(const cJSON *root, const char *name)
{
    return cJSON_IsTrue(json_member(root, name));
}

static flo_code take_request(bench_request *r, const char *body, size_t n_bytes, flo_err *err)
{
    struct {
        const char *name;
        int64_t most, otherwise, *out; /* otherwise: where it is not said; 0: it must be */
    } fields[] = {{"repeat", BENCH_REPEAT_MAX, 0, &r->repeat},
                  {"image_width", PICTURE_SIDE_MAX, 1024, &r->image_width},
                  {"image_height", PICTURE_SIDE_MAX, 1024, &r->image_height},
                  {"audio_seconds", AUDIO_SECONDS_MAX, 40, &r->audio_seconds},
                  {"frames", FRAMES_MAX, FRAMES_DEFAULT, &r->frames},
                  {"speakers", SPEAKERS_MAX, 1, &r->speakers}};
    cJSON *root;
    flo_code code = json_parse_request(&root, body, n_bytes, err);
    if (code != FLO_OK) {
        return code;
    }
    r->encoders = is_asked(root, "encoders");
    r->speech = is_asked(root, "speech");
    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && code == FLO_OK; i++) {
        const cJSON *item = json_given(root, fields[i].name);
        *fields[i].out = fields[i].otherwise;
        if ((item != NULL || fields[i].otherwise == 0) &&
            !json_integer(item, 1, fields[i].most, fields[i].out)) {
            code = flo_fail(err, FLO_USAGE, "%s must be a whole number from 1 to %lld",
                            fields[i].name, (long long)fields[i].most);
        }
    }
    if (code == FLO_OK && !r->encoders && !r->speech) {
        code = flo_fail(err, FLO_USAGE, "say what is to be measured: encoders, speech");
    }
    cJSON_Delete(root);
    return code;
}

flo_code bench_run(job *j, const char *body, size_t n_bytes, char **json, size_t *json_bytes,
                   flo_err *err)
{
    bench_request r = {0};
    cJSON *root = cJSON_CreateObject();
    flo_code code = root != NULL ? take_request(&r, body, n_bytes, err)
                                 : flo_fail(err, FLO_FAIL, "out of memory");
    if (code == FLO_OK) {
        cJSON_AddArrayToObject(root, "results");
        code = r.encoders ? bench_encoders(j, &r, root, err) : FLO_OK;
    }
    code = code == FLO_OK && r.speech ? bench_speech(j, &r, root, err) : code;
    code = code == FLO_OK ? job_ask_stats(j, err) : code;
    if (code == FLO_OK) {
        put_machine(root, j);
        *json = cJSON_Print(root);
        code = *json != NULL ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory for the figures");
    }
    *json_bytes = code == FLO_OK ? strlen(*json) : 0;
    cJSON_Delete(root);
    return code;
}

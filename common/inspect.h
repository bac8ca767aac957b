/*
 * inspect.h - what a checkpoint folder holds, part by part, and what it lacks.
 */
#ifndef FLOTILLA_COMMON_INSPECT_H
#define FLOTILLA_COMMON_INSPECT_H

#include "common/error.h"
#include "common/model_config.h"
#include "common/model_tensors.h"

#include <cjson/cJSON.h>
#include <stdio.h>

typedef struct inspect_component {
    bool is_expected; /* the configuration has this part */
    size_t n_tensors; /* found, of those expected */
    uint64_t n_bytes, n_parameters;
} inspect_component;

typedef struct inspect_list {
    size_t n;
    char **items; /* each on the heap */
} inspect_list;

typedef struct inspect_report {
    model_config config;
    inspect_component components[COMPONENT_COUNT];
    inspect_list missing;    /* names */
    inspect_list wrong;      /* sentences: another shape, or no floats */
    inspect_list unexpected; /* names that the configuration does not ask for */
    uint64_t total_bytes;    /* of all tensors in the folder */
    int32_t n_files;
} inspect_report;

/* Reads headers only. FLO_OK also where tensors are missing or wrong: the report says it. FLO_USAGE
 * and FLO_FAIL as model_config_read and checkpoint_open. The report is freed with inspect_free,
 * also after a failure. */
flo_code inspect_folder(inspect_report *r, const char *folder, flo_err *err);
void inspect_free(inspect_report *r);

/* FLO_OK, or FLO_DIFFERS with the first missing or wrong tensor in the sentence. */
flo_code inspect_verdict(const inspect_report *r, flo_err *err);

/* The document of `flotilla inspect --json`; NULL without memory. */
cJSON *inspect_json(const inspect_report *r);

/* The table for people; long lists are cut. */
void inspect_print(const inspect_report *r, FILE *out);

#endif

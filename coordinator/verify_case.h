/*
 * verify_case.h - reference data on disk: a folder for each case, case.json beside
 * tensors.safetensors; and JSON files with many small cases.
 *
 * case.json says for each tensor its shape and tolerance; it is held against the safetensors file
 * when a case is opened, so what is compared later is there and has the shape that is said.
 * Tensors are read when they are asked for. Every fault is FLO_FAIL with the file's name.
 */
#ifndef FLOTILLA_COORDINATOR_VERIFY_CASE_H
#define FLOTILLA_COORDINATOR_VERIFY_CASE_H

#include "common/checkpoint.h"
#include "common/error.h"
#include "coordinator/row_store.h"
#include "coordinator/verify_compare.h"
#include "coordinator/verify_report.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VERIFY_PATH_MAX = 4096, CASE_NAME_MAX = 256 };

/* Joins folder and name; FLO_FAIL where that is too long. */
flo_code verify_path(char out[VERIFY_PATH_MAX], const char *folder, const char *name, flo_err *err);
bool verify_is_folder(const char *folder, const char *name);
bool verify_is_file(const char *folder, const char *name);

/* Names in a folder, sorted by byte; those with a leading dot are left out. */
typedef struct name_list {
    char **at; /* [n] */
    size_t n;
} name_list; /* all zero: empty */
flo_code name_list_read(name_list *l, const char *folder, flo_err *err);
void name_list_free(name_list *l);

/* A JSON file, U+0000 as C0 80 (common/json.h). The caller frees *root and, where text is not NULL,
 * *text. */
flo_code verify_json_read(cJSON **root, char **text, size_t *n_bytes, const char *path,
                          flo_err *err);

typedef struct verify_case {
    char name[CASE_NAME_MAX]; /* of its folder */
    cJSON *root;
    const cJSON *inputs, *facts; /* objects; NULL where case.json has none */
    const cJSON *tensors;        /* name -> {shape, atol, rtol, ...}, in the order of the file */
    checkpoint *file;
} verify_case;

flo_code verify_case_open(verify_case *c, const char *section_folder, const char *name,
                          flo_err *err);
void verify_case_close(verify_case *c); /* of a struct that is all zero, too */

bool verify_case_has(const verify_case *c, const char *tensor);

/* The reference's numbers; free view.data with free_view. */
typedef struct owned_view {
    tensor_view view;
    void *data;
} owned_view; /* all zero: empty */
flo_code verify_case_read(owned_view *out, const verify_case *c, const char *tensor, flo_err *err);
void owned_view_free(owned_view *v);

/* The same for a tensor of integers, as i32; FLO_FAIL where a number is larger. */
flo_code verify_case_ids(int32_t **ids, int32_t *n, const verify_case *c, const char *tensor,
                         flo_err *err);

/* A tensor's name without "_every8" and the like, and that number (1 without): the case has every
 * 8th of its rows, columns or samples. */
int64_t verify_case_thinning(char base[CASE_NAME_MAX], const char *tensor);

/* Rows as a tensor [n_rows][columns]; flat: one dimension where there is one row, or one column. */
tensor_view named_rows_view(const named_rows *r, bool flat);

/* Compares and reports. FLO_FAIL: the reference's tensor could not be read. */
flo_code verify_case_compare(verify_report *r, const verify_case *c, const char *tensor,
                             const tensor_view *got, flo_err *err);

/* Runs one for each case folder of a section: run gets an open case and reports what it finds; a
 * FLO_FAIL of it with `*fatal` false is a fault of the case, and the next follows. A case that
 * cannot be opened is reported. A section without cases is a fault, too. */
typedef flo_code verify_case_run(void *arg, verify_case *c, bool *fatal, flo_err *err);
flo_code verify_cases(verify_report *r, const char *section_folder, verify_case_run *run, void *arg,
                      flo_err *err);

#endif

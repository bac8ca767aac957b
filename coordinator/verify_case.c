/*
 * verify_case.c - folders listed, case.json held against its tensors, numbers read and compared.
 */
#include "coordinator/verify_case.h"

#include "common/file.h"
#include "common/json.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { JSON_BYTES_MAX = 256 << 20 };

/* --- folders -----------------------------------------------------------------------------------
 */

flo_code verify_path(char out[VERIFY_PATH_MAX], const char *folder, const char *name, flo_err *err)
{
    int n = snprintf(out, VERIFY_PATH_MAX, "%s/%s", folder, name);
    if (n >= VERIFY_PATH_MAX) {
        return flo_fail(err, FLO_FAIL, "%.200s...: the path is longer than %d bytes", folder,
                        VERIFY_PATH_MAX - 1);
    }
    return FLO_OK;
}

static bool has_mode(const char *folder, const char *name, mode_t mode)
{
    char path[VERIFY_PATH_MAX];
    flo_err err;
    struct stat s;
    return verify_path(path, folder, name, &err) == FLO_OK && stat(path, &s) == 0 &&
           (s.st_mode & S_IFMT) == mode;
}

bool verify_is_folder(const char *folder, const char *name)
{
    return has_mode(folder, name, S_IFDIR);
}

bool verify_is_file(const char *folder, const char *name)
{
    return has_mode(folder, name, S_IFREG);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool add_name(name_list *l, const char *name)
{
    if ((l->n & (l->n - 1)) == 0) { /* capacity is the next power of two */
        char **more = realloc(l->at, (l->n > 0 ? 2 * l->n : 1) * sizeof *more);
        if (more == NULL) {
            return false;
        }
        l->at = more;
    }
    l->at[l->n] = strdup(name);
    return l->at[l->n] != NULL && ++l->n > 0;
}

flo_code name_list_read(name_list *l, const char *folder, flo_err *err)
{
    DIR *d = opendir(folder);
    flo_code code = FLO_OK;
    *l = (name_list){0};
    if (d == NULL) {
        return flo_fail(err, FLO_FAIL, "could not list %s: %s", folder, strerror(errno));
    }
    errno = 0;
    for (struct dirent *e = readdir(d); e != NULL && code == FLO_OK; e = readdir(d)) {
        if (e->d_name[0] != '.' && !add_name(l, e->d_name)) {
            code = flo_fail(err, FLO_FAIL, "out of memory for the names in %s", folder);
        }
        errno = 0;
    }
    if (code == FLO_OK && errno != 0) {
        code = flo_fail(err, FLO_FAIL, "could not list %s: %s", folder, strerror(errno));
    }
    closedir(d);
    if (code != FLO_OK) {
        name_list_free(l);
    } else if (l->n > 0) {
        qsort(l->at, l->n, sizeof *l->at, by_name);
    }
    return code;
}

void name_list_free(name_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->at[i]);
    }
    free(l->at);
    *l = (name_list){0};
}

/* --- JSON --------------------------------------------------------------------------------------
 */

flo_code verify_json_read(cJSON **root, char **text, size_t *n_bytes, const char *path,
                          flo_err *err)
{
    char *read;
    size_t n;
    flo_code code = file_read_text(&read, &n, path, JSON_BYTES_MAX, err);
    if (code != FLO_OK) {
        return FLO_FAIL;
    }
    code = json_parse_request(root, read, n, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", path);
        free(read);
        return FLO_FAIL;
    }
    if (text != NULL) {
        *text = read;
        *n_bytes = n;
    } else {
        free(read);
    }
    return FLO_OK;
}

/* --- a case ------------------------------------------------------------------------------------
 */

static bool tolerance_of(const cJSON *spec, const char *name, double *out)
{
    const cJSON *item = json_member(spec, name);
    *out = item != NULL ? item->valuedouble : 0;
    return item == NULL || (cJSON_IsNumber(item) && isfinite(*out) && *out >= 0);
}

static bool shape_is(const cJSON *shape, const checkpoint_tensor *t)
{
    if (!cJSON_IsArray(shape) || cJSON_GetArraySize(shape) != t->n_dims) {
        return false;
    }
    const cJSON *item = shape->child;
    for (int32_t i = 0; i < t->n_dims; i++, item = item->next) {
        int64_t n;
        if (!json_integer(item, 0, INT64_C(1) << 53, &n) || n != t->shape[i]) {
            return false;
        }
    }
    return true;
}

static flo_code check_tensors(const verify_case *c, flo_err *err)
{
    const cJSON *spec;
    double tolerance;
    size_t n = 0;
    cJSON_ArrayForEach(spec, c->tensors)
    {
        const checkpoint_tensor *t = checkpoint_find(c->file, spec->string);
        if (t == NULL) {
            return flo_fail(err, FLO_FAIL,
                            "case.json lists the tensor %s, tensors.safetensors has none of that "
                            "name",
                            spec->string);
        }
        if (!shape_is(json_member(spec, "shape"), t)) {
            return flo_fail(err, FLO_FAIL,
                            "the shape of %s in case.json is not that in tensors.safetensors",
                            spec->string);
        }
        if (!tolerance_of(spec, "atol", &tolerance) || !tolerance_of(spec, "rtol", &tolerance)) {
            return flo_fail(err, FLO_FAIL, "case.json has no proper tolerance for %s",
                            spec->string);
        }
        n++;
    }
    for (size_t i = 0; i < checkpoint_count(c->file); i++) {
        const char *name = checkpoint_at(c->file, i)->name;
        if (json_member(c->tensors, name) == NULL) {
            return flo_fail(err, FLO_FAIL, "case.json says nothing about the tensor %s", name);
        }
    }
    return n == checkpoint_count(c->file)
               ? FLO_OK
               : flo_fail(err, FLO_FAIL, "case.json lists a tensor twice");
}

static flo_code read_case(verify_case *c, const char *folder, flo_err *err)
{
    char path[VERIFY_PATH_MAX];
    flo_code code = verify_path(path, folder, "case.json", err);
    if (code == FLO_OK) {
        code = verify_json_read(&c->root, NULL, NULL, path, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    c->inputs = json_member(c->root, "inputs");
    c->facts = json_member(c->root, "facts");
    c->tensors = json_member(c->root, "tensors");
    if (!cJSON_IsObject(c->root) || !cJSON_IsObject(c->tensors)) {
        return flo_fail(err, FLO_FAIL, "%s: no object with the key tensors", path);
    }
    code = verify_path(path, folder, "tensors.safetensors", err);
    if (code == FLO_OK) {
        code = checkpoint_open_file(&c->file, path, err);
    }
    return code == FLO_OK ? check_tensors(c, err) : FLO_FAIL;
}

flo_code verify_case_open(verify_case *c, const char *section_folder, const char *name,
                          flo_err *err)
{
    char folder[VERIFY_PATH_MAX];
    *c = (verify_case){0};
    snprintf(c->name, sizeof c->name, "%s", name);
    flo_code code = verify_path(folder, section_folder, name, err);
    if (code == FLO_OK) {
        code = read_case(c, folder, err);
    }
    if (code != FLO_OK) {
        verify_case_close(c);
    }
    return code;
}

void verify_case_close(verify_case *c)
{
    cJSON_Delete(c->root);
    if (c->file != NULL) {
        checkpoint_close(c->file);
    }
    c->root = NULL;
    c->file = NULL;
}

bool verify_case_has(const verify_case *c, const char *tensor)
{
    return checkpoint_find(c->file, tensor) != NULL;
}

/* --- its tensors -------------------------------------------------------------------------------
 */

flo_code verify_case_read(owned_view *out, const verify_case *c, const char *tensor, flo_err *err)
{
    const checkpoint_tensor *t = checkpoint_find(c->file, tensor);
    *out = (owned_view){0};
    if (t == NULL) {
        return flo_fail(err, FLO_FAIL, "the case has no tensor %s", tensor);
    }
    if (t->dtype != DTYPE_F32 && t->dtype != DTYPE_F64 && !tensor_is_integer(t->dtype)) {
        return flo_fail(err, FLO_FAIL, "%s is stored as %s; cases use F32, I32, I64 and U8", tensor,
                        tensor_dtype_name(t->dtype));
    }
    out->data = malloc((size_t)t->n_bytes + 1);
    if (out->data == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the reference's %s", tensor);
    }
    out->view = (tensor_view){.dtype = t->dtype, .n_dims = t->n_dims, .data = out->data};
    memcpy(out->view.shape, t->shape, sizeof t->shape);
    flo_code code = checkpoint_read(c->file, t, 0, out->data, (size_t)t->n_bytes, err);
    if (code != FLO_OK) {
        owned_view_free(out);
        return FLO_FAIL;
    }
    return FLO_OK;
}

void owned_view_free(owned_view *v)
{
    free(v->data);
    *v = (owned_view){0};
}

static bool narrow(int32_t *out, const tensor_view *v, uint64_t i)
{
    int64_t value = v->dtype == DTYPE_I64   ? ((const int64_t *)v->data)[i]
                    : v->dtype == DTYPE_I32 ? ((const int32_t *)v->data)[i]
                                            : ((const uint8_t *)v->data)[i];
    *out = (int32_t)value;
    return value >= INT32_MIN && value <= INT32_MAX;
}

flo_code verify_case_ids(int32_t **ids, int32_t *n, const verify_case *c, const char *tensor,
                         flo_err *err)
{
    owned_view v;
    flo_code code = verify_case_read(&v, c, tensor, err);
    if (code != FLO_OK) {
        return code;
    }
    uint64_t count = tensor_elements(&v.view);
    bool good = tensor_is_integer(v.view.dtype) && count <= INT32_MAX;
    int32_t *out = good ? malloc((size_t)count * sizeof *out + 1) : NULL;
    for (uint64_t i = 0; out != NULL && good && i < count; i++) {
        good = narrow(&out[i], &v.view, i);
    }
    owned_view_free(&v);
    if (!good || out == NULL) {
        free(out);
        return flo_fail(err, FLO_FAIL, good ? "out of memory for %s" : "%s is no list of ids",
                        tensor);
    }
    *ids = out;
    *n = (int32_t)count;
    return FLO_OK;
}

int64_t verify_case_thinning(char base[CASE_NAME_MAX], const char *tensor)
{
    snprintf(base, CASE_NAME_MAX, "%s", tensor);
    char *every = strstr(base, "_every");
    long step = every != NULL ? strtol(every + strlen("_every"), NULL, 10) : 1;
    if (every != NULL) {
        *every = '\0';
    }
    return step > 0 ? step : 1;
}

tensor_view named_rows_view(const named_rows *r, bool flat)
{
    bool one = flat && (r->columns == 1 || r->n_rows == 1);
    return (tensor_view){.dtype = r->is_ids ? DTYPE_I32 : DTYPE_F32,
                         .n_dims = one ? 1 : 2,
                         .shape = {one ? r->n_rows * r->columns : r->n_rows, r->columns},
                         .data = r->data};
}

flo_code verify_case_compare(verify_report *r, const verify_case *c, const char *tensor,
                             const tensor_view *got, flo_err *err)
{
    owned_view want;
    comparison result;
    double atol, rtol;
    const cJSON *spec = json_member(c->tensors, tensor);
    flo_code code = verify_case_read(&want, c, tensor, err);
    if (code != FLO_OK) {
        return code;
    }
    tolerance_of(spec, "atol", &atol);
    tolerance_of(spec, "rtol", &rtol);
    tensor_compare(&result, got, &want.view, atol, rtol);
    report_tensor(r, c->name, tensor, got, &want.view, &result, atol, rtol);
    owned_view_free(&want);
    return FLO_OK;
}

/* --- all of a section --------------------------------------------------------------------------
 */

static flo_code run_one(verify_report *r, const char *section_folder, const char *name,
                        verify_case_run *run, void *arg, flo_err *err)
{
    verify_case c;
    bool fatal = false;
    flo_err sentence = {""};
    r->here.n_cases++;
    flo_code code = verify_case_open(&c, section_folder, name, &sentence);
    if (code == FLO_OK) {
        code = run(arg, &c, &fatal, &sentence);
        verify_case_close(&c);
    }
    if (code != FLO_OK && fatal) {
        *err = sentence;
        return code;
    }
    if (code != FLO_OK) {
        report_fault(r, name, sentence.text);
    }
    return FLO_OK;
}

flo_code verify_cases(verify_report *r, const char *section_folder, verify_case_run *run, void *arg,
                      flo_err *err)
{
    name_list names;
    flo_code code = name_list_read(&names, section_folder, err);
    for (size_t i = 0; code == FLO_OK && i < names.n && r->section_ran; i++) {
        if (verify_is_folder(section_folder, names.at[i])) {
            code = run_one(r, section_folder, names.at[i], run, arg, err);
        }
    }
    if (code == FLO_OK && r->here.n_cases == 0) {
        report_fault(r, r->section, "the folder has no cases");
    }
    name_list_free(&names);
    return code;
}

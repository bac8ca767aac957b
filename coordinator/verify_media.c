/*
 * verify_media.c - inputs of a case into a set of media, and the set's numbers under the names of
 * the reference data.
 */
#include "coordinator/verify_media.h"

#include "common/json.h"
#include "common/patches.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- reading a case's inputs -------------------------------------------------------------------
 */

static media_set *set_of(case_media *m)
{
    if (m->order.set == NULL) {
        m->order.set = calloc(1, sizeof *m->order.set);
    }
    return m->order.set;
}

static media_item *add_item(case_media *m, media_kind kind, flo_err *err)
{
    media_set *s = set_of(m);
    if (s != NULL && s->n == MEDIA_ITEMS_MAX) {
        flo_fail(err, FLO_FAIL, "the case has over %d media", MEDIA_ITEMS_MAX);
        return NULL;
    }
    media_item *item = s != NULL ? media_set_add(s, kind) : NULL;
    if (item == NULL) {
        flo_fail(err, FLO_FAIL, "out of memory for a case's media");
    }
    return item;
}

static flo_code add_file(case_media *m, media_kind kind, const char *folder, const cJSON *name,
                         flo_err *err)
{
    char path[VERIFY_PATH_MAX];
    if (!cJSON_IsString(name)) {
        return flo_fail(err, FLO_FAIL, "the case names a medium by something that is no string");
    }
    flo_code code = verify_path(path, folder, name->valuestring, err);
    media_item *item = code == FLO_OK ? add_item(m, kind, err) : NULL;
    if (item == NULL) {
        return FLO_FAIL;
    }
    item->reference = strdup(path);
    item->reference_bytes = strlen(path);
    return item->reference != NULL ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory");
}

/* One file under `one`, or a list of them under `many`. */
static flo_code add_files(case_media *m, media_kind kind, const char *folder, const cJSON *inputs,
                          const char *one, const char *many, flo_err *err)
{
    const cJSON *list = json_given(inputs, many), *name;
    if (json_given(inputs, one) != NULL) {
        return add_file(m, kind, folder, json_given(inputs, one), err);
    }
    cJSON_ArrayForEach(name, list)
    {
        flo_code code = add_file(m, kind, folder, name, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = json_given(object, name);
    bool fits = cJSON_IsNumber(item) && item->valuedouble > -1e15 && item->valuedouble < 1e15;
    return fits ? item->valuedouble : 0;
}

static flo_code read_frames(case_media *m, const checkpoint_tensor *t, int64_t n, flo_err *err)
{
    size_t n_bytes = (size_t)(t->n_bytes / (uint64_t)t->shape[0]) * (size_t)n;
    m->frames = malloc(n_bytes + 1);
    return m->frames != NULL ? checkpoint_read(m->clip, t, 0, m->frames, n_bytes, err)
                             : flo_fail(err, FLO_FAIL, "out of memory for a case's frames");
}

/* "clip": "clip.safetensors (what is in it)", the first `frames` of its frames. */
static flo_code add_clip(case_media *m, const char *folder, const cJSON *inputs, flo_err *err)
{
    char path[VERIFY_PATH_MAX], file[CASE_NAME_MAX];
    const cJSON *name = json_given(inputs, "clip");
    if (name == NULL) {
        return FLO_OK;
    }
    snprintf(file, sizeof file, "%.*s",
             (int)strcspn(cJSON_IsString(name) ? name->valuestring : "", " "),
             cJSON_IsString(name) ? name->valuestring : "");
    flo_code code = verify_path(path, folder, file, err);
    code = code == FLO_OK ? checkpoint_open_file(&m->clip, path, err) : code;
    const checkpoint_tensor *t = code == FLO_OK ? checkpoint_find(m->clip, "frames") : NULL;
    if (code == FLO_OK && (t == NULL || t->dtype != DTYPE_U8 || t->n_dims != 4 ||
                           t->shape[3] != 3 || t->shape[0] < 1)) {
        code = flo_fail(err, FLO_FAIL, "%s has no frames [n][height][width][3] of bytes", path);
    }
    if (code != FLO_OK) {
        return code;
    }
    double wanted = number(inputs, "frames");
    int64_t n = wanted >= 1 && wanted < (double)t->shape[0] ? (int64_t)wanted : t->shape[0];
    code = read_frames(m, t, n, err);
    media_item *item = code == FLO_OK ? add_item(m, MEDIA_VIDEO, err) : NULL;
    if (item == NULL) {
        return FLO_FAIL;
    }
    item->raw = (raw_clip){
        .frames = m->frames, .n = n, .width = (int32_t)t->shape[2], .height = (int32_t)t->shape[1]};
    return FLO_OK;
}

static void take_options(media_options *o, const cJSON *inputs)
{
    const cJSON *size = json_given(inputs, "size");
    o->video_pixels_min = (int64_t)number(size, "shortest_edge");
    o->video_pixels_max = (int64_t)number(size, "longest_edge");
    o->video_fps = number(inputs, "fps");
    o->recorded_fps = number(inputs, "recorded_fps");
    o->video_all_frames = !cJSON_IsTrue(json_given(inputs, "do_sample_frames"));
    o->use_audio_in_video = cJSON_IsTrue(json_given(inputs, "use_audio_in_video"));
}

/* --- through the desk --------------------------------------------------------------------------
 */

static void on_prepared(media_order *o, flo_code code, const flo_err *err)
{
    case_media *m = o->owner;
    m->done = true;
    m->code = code;
    m->err = *err;
}

static void on_encoded(media_order *o)
{
    case_media *m = o->owner;
    m->done = true;
    m->code = FLO_OK;
}

static flo_code wait_for_desk(case_media *m, flo_err *err)
{
    flo_code code = job_wait(m->job, &m->done, err);
    if (code != FLO_OK) {
        return code;
    }
    if (m->code != FLO_OK) {
        *err = m->err;
        return FLO_FAIL;
    }
    return FLO_OK;
}

flo_code case_media_prepare(case_media *m, job *j, const verify_case *c, const char *folder,
                            flo_err *err)
{
    *m = (case_media){.job = j};
    flo_code code = add_files(m, MEDIA_AUDIO, folder, c->inputs, "wav", "wavs", err);
    code = code == FLO_OK ? add_files(m, MEDIA_IMAGE, folder, c->inputs, "image", "images", err)
                          : code;
    code = code == FLO_OK ? add_clip(m, folder, c->inputs, err) : code;
    if (code != FLO_OK || m->order.set == NULL) {
        return code;
    }
    take_options(&m->order.set->options, c->inputs);
    m->order.owner = m;
    m->order.rules.files = true;
    m->order.on_prepared = on_prepared;
    m->order.on_encoded = on_encoded;
    code = media_desk_prepare(j->desk, &m->order, err);
    return code == FLO_OK ? wait_for_desk(m, err) : code;
}

flo_code case_media_encode(case_media *m, flo_err *err)
{
    if (m->order.set == NULL) {
        return FLO_OK;
    }
    m->done = false;
    flo_code code = media_desk_encode(m->job->desk, &m->order, err);
    return code == FLO_OK ? wait_for_desk(m, err) : code;
}

void case_media_free(case_media *m)
{
    if (m->order.set != NULL) {
        media_desk_drop(m->job->desk, &m->order);
    }
    checkpoint_close(m->clip);
    free(m->frames);
    *m = (case_media){0};
}

/* --- the numbers -------------------------------------------------------------------------------
 */

typedef struct matrix { /* [rows][columns] f32, owned */
    float *at;
    int64_t rows, columns;
} matrix;

static flo_code take_matrix(matrix *out, int64_t rows, int64_t columns, flo_err *err)
{
    *out = (matrix){malloc((size_t)(rows * columns) * sizeof(float) + 1), rows, columns};
    return out->at != NULL ? FLO_OK
                           : flo_fail(err, FLO_FAIL, "out of memory for a tensor of media");
}

/* Rows of one set of the results of all media of a kind (0: the merged ones). */
static flo_code take_results(matrix *out, const case_media *m, media_kind kind, int32_t which,
                             flo_err *err)
{
    const media_set *s = m->order.set;
    int64_t rows = 0;
    for (int32_t i = 0; i < s->n; i++) {
        rows += s->items[i].kind == kind ? s->items[i].layout.n_tokens : 0;
    }
    flo_code code = take_matrix(out, rows, m->job->model.text.hidden_size, err);
    float *to = out->at;
    for (int32_t i = 0; i < s->n && code == FLO_OK; i++) {
        const media_item *item = &s->items[i];
        for (int32_t k = 0; k < item->n_parts && item->kind == kind; k++) {
            const encoded *e = item->parts[k].result;
            size_t n = (size_t)e->n_rows * (size_t)e->n_columns;
            memcpy(to, e->rows + (size_t)which * n, n * sizeof *to);
            to += n;
        }
    }
    return code;
}

static flo_code take_pixels(matrix *out, const case_media *m, flo_err *err)
{
    const media_set *s = m->order.set;
    const vision_config *v = &m->job->model.vision;
    media_kind kind = media_set_sight(s);
    int64_t patches = 0;
    float levels[3][256];
    preprocessor_levels(levels, &m->job->preprocessor);
    for (int32_t i = 0; i < s->n; i++) {
        const int32_t *g = s->items[i].layout.grid;
        patches += s->items[i].kind == kind ? (int64_t)g[0] * g[1] * g[2] : 0;
    }
    flo_code code = take_matrix(
        out, patches,
        (int64_t)v->in_channels * v->temporal_patch_size * v->patch_size * v->patch_size, err);
    float *to = out->at;
    for (int32_t i = 0; i < s->n && code == FLO_OK; i++) {
        const media_item *item = &s->items[i];
        for (int32_t k = 0; k < item->n_parts && item->kind == kind; k++) {
            const media_part *p = &item->parts[k];
            patch_source source = {p->input, p->n_frames, p->grid_h, p->grid_w, levels};
            patches_fill(to, &source, v, 0, p->grid_h * p->grid_w);
            to += (int64_t)p->grid_h * p->grid_w * out->columns;
        }
    }
    return code;
}

static flo_code take_features(matrix *out, const case_media *m, flo_err *err)
{
    const media_set *s = m->order.set;
    for (int32_t i = 0; i < s->n; i++) {
        const media_item *item = &s->items[i];
        if (item->kind == MEDIA_AUDIO) {
            flo_code code =
                take_matrix(out, m->job->model.audio.n_mel_bins, item->n_mel_frames, err);
            if (code == FLO_OK) {
                memcpy(out->at, item->features,
                       (size_t)(out->rows * out->columns) * sizeof *out->at);
            }
            return code;
        }
    }
    return flo_fail(err, FLO_FAIL, "the case has no sound");
}

/* Keeps every step-th row, or column. */
static void thin_rows(matrix *x, int64_t step)
{
    int64_t n = 0;
    for (int64_t r = 0; r < x->rows; r += step, n++) {
        memmove(x->at + n * x->columns, x->at + r * x->columns, (size_t)x->columns * sizeof *x->at);
    }
    x->rows = n;
}

static void thin_columns(matrix *x, int64_t step)
{
    int64_t n = (x->columns + step - 1) / step;
    for (int64_t r = 0; r < x->rows; r++) {
        for (int64_t c = 0; c < n; c++) {
            x->at[r * n + c] = x->at[r * x->columns + c * step];
        }
    }
    x->columns = n;
}

/* Means over one dimension: the mean of each row, or (of_columns) of each column. */
static void take_means(matrix *x, bool of_columns)
{
    int64_t n = of_columns ? x->columns : x->rows, m = of_columns ? x->rows : x->columns;
    float *means = malloc((size_t)n * sizeof *means + 1);
    for (int64_t i = 0; i < n && means != NULL; i++) {
        double sum = 0;
        for (int64_t k = 0; k < m; k++) {
            sum += (double)(of_columns ? x->at[k * x->columns + i] : x->at[i * x->columns + k]);
        }
        means[i] = (float)(sum / (double)m);
    }
    free(x->at);
    *x = (matrix){means, 1, means != NULL ? n : 0};
}

/* Rows whose numbers another tensor of the case lists. */
static flo_code pick_rows(matrix *x, const verify_case *c, const char *index, flo_err *err)
{
    int32_t *rows, n;
    flo_code code = verify_case_ids(&rows, &n, c, index, err);
    if (code != FLO_OK) {
        return code;
    }
    float *picked = malloc((size_t)n * (size_t)x->columns * sizeof *picked + 1);
    for (int32_t i = 0; i < n && code == FLO_OK; i++) {
        if (picked == NULL || rows[i] < 0 || rows[i] >= x->rows) {
            code = flo_fail(err, FLO_FAIL, "%s[%d] is %d, and there are %lld rows", index, i,
                            rows[i], (long long)x->rows);
        } else {
            memcpy(picked + (int64_t)i * x->columns, x->at + (int64_t)rows[i] * x->columns,
                   (size_t)x->columns * sizeof *picked);
        }
    }
    free(rows);
    free(x->at);
    *x = (matrix){picked, n, x->columns};
    return code;
}

/* --- by name -----------------------------------------------------------------------------------
 */

static flo_code make_tensor(matrix *x, const verify_case *c, const case_media *m,
                            const char *tensor, bool *known, flo_err *err)
{
    char base[CASE_NAME_MAX];
    int64_t step = verify_case_thinning(base, tensor);
    flo_code code;
    *known = true;
    if (strncmp(base, "input_features", strlen("input_features")) == 0) {
        code = take_features(x, m, err);
        if (code == FLO_OK && strcmp(base, "input_features_frame_mean") == 0) {
            take_means(x, true);
        } else if (code == FLO_OK) {
            thin_columns(x, step);
        }
        return code;
    }
    if (strncmp(base, "pixel_", strlen("pixel_")) == 0) {
        code = take_pixels(x, m, err);
        if (code == FLO_OK && strcmp(base, "pixel_rows") == 0) {
            code = pick_rows(x, c, "pixel_rows_index", err);
        } else if (code == FLO_OK && strcmp(base, "pixel_patch_mean") == 0) {
            take_means(x, false);
        }
        return code;
    }
    media_kind kind =
        strcmp(base, "audio_embeds") == 0 ? MEDIA_AUDIO : media_set_sight(m->order.set);
    long deep = strncmp(base, "deepstack.", 10) == 0 ? strtol(base + 10, NULL, 10) : -1;
    int32_t which = deep < -1 || deep > MODEL_DEEPSTACK_MAX ? -1 : 1 + (int32_t)deep;
    if (kind != MEDIA_AUDIO && which == 0 && strcmp(base, "vision_embeds") != 0) {
        *known = false;
        return FLO_OK;
    }
    if (which < 0 || which > m->job->model.vision.n_deepstack) {
        return flo_fail(err, FLO_FAIL, "the case has %s, the model no such features", tensor);
    }
    code = take_results(x, m, kind, which, err);
    if (code == FLO_OK) {
        thin_rows(x, step);
    }
    return code;
}

static flo_code compare_grids(verify_report *r, const verify_case *c, const case_media *m,
                              const char *tensor, flo_err *err)
{
    const media_set *s = m->order.set;
    media_kind kind = media_set_sight(s);
    int32_t grids[3 * MEDIA_ITEMS_MAX], n = 0;
    for (int32_t i = 0; i < s->n; i++) {
        if (s->items[i].kind == kind) {
            memcpy(&grids[3 * n++], s->items[i].layout.grid, 3 * sizeof grids[0]);
        }
    }
    tensor_view got = {.dtype = DTYPE_I32, .n_dims = 2, .shape = {n, 3}, .data = grids};
    return verify_case_compare(r, c, tensor, &got, err);
}

static flo_code compare_rates(verify_report *r, const verify_case *c, const case_media *m,
                              const char *tensor, flo_err *err)
{
    const media_set *s = m->order.set;
    float rates[MEDIA_ITEMS_MAX];
    int32_t n = 0;
    for (int32_t i = 0; i < s->n; i++) {
        if (s->items[i].kind == MEDIA_VIDEO) {
            rates[n++] = (float)s->items[i].layout.second_per_grid;
        }
    }
    tensor_view got = {.dtype = DTYPE_F32, .n_dims = 1, .shape = {n}, .data = rates};
    return verify_case_compare(r, c, tensor, &got, err);
}

flo_code case_media_compare(verify_report *r, const verify_case *c, const case_media *m,
                            const char *tensor, bool *known, flo_err *err)
{
    matrix x = {0};
    *known = m->order.set != NULL;
    if (!*known || strcmp(tensor, "pixel_rows_index") == 0) {
        return FLO_OK; /* says which rows are kept */
    }
    if (strcmp(tensor, "grid_thw") == 0) {
        return compare_grids(r, c, m, tensor, err);
    }
    if (strcmp(tensor, "second_per_grid") == 0) {
        return compare_rates(r, c, m, tensor, err);
    }
    flo_code code = make_tensor(&x, c, m, tensor, known, err);
    if (code == FLO_OK && *known) {
        bool flat = x.rows == 1 && strstr(tensor, "_mean") != NULL;
        tensor_view got = {.dtype = DTYPE_F32,
                           .n_dims = flat ? 1 : 2,
                           .shape = {flat ? x.columns : x.rows, x.columns},
                           .data = x.at};
        code = verify_case_compare(r, c, tensor, &got, err);
    }
    free(x.at);
    return code;
}

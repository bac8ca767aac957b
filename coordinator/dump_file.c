/*
 * dump_file.c - a table of the file's tensors, and rows converted to its types: f32 and i64.
 */
#include "coordinator/dump_file.h"

#include "common/patches.h"
#include "common/safetensors_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOGITS_BYTES_MAX ((uint64_t)4 << 30)

enum { SPEECH_TENSORS = 5 };

struct dump_file {
    dump_sink sink;
    safetensors_writer *writer;
    safetensors_entry *entries;
    char (*names)[32];
    size_t n;
    int32_t logits_first; /* position of the first row of logits in the file */
};

static void add(dump_file *d, const char *name, int layer, tensor_dtype dtype, int64_t rows,
                int64_t columns)
{
    char *at = d->names[d->n];
    if (layer >= 0) {
        snprintf(at, sizeof d->names[0], "%s.%d", name, layer);
    } else {
        snprintf(at, sizeof d->names[0], "%s", name);
    }
    safetensors_entry *e = &d->entries[d->n++];
    *e = (safetensors_entry){.name = at, .dtype = dtype, .n_dims = columns > 0 ? 2 : 1};
    e->shape[0] = rows;
    e->shape[1] = columns;
}

static void declare(dump_file *d, const model_config *m, int32_t n_prompt)
{
    const text_config *t = &m->text;
    add(d, "input_ids", -1, DTYPE_I64, n_prompt, 0);
    add(d, "position_ids", -1, DTYPE_F32, 3, n_prompt);
    for (int32_t i = 0; i <= t->n_layers; i++) {
        add(d, "hidden", i, DTYPE_F32, n_prompt, t->hidden_size);
    }
    add(d, "hidden.norm", -1, DTYPE_F32, n_prompt, t->hidden_size);
    for (int32_t i = 0; i < t->n_layers; i++) {
        if (t->layer_is_sparse[i]) {
            add(d, "router_logits", i, DTYPE_F32, n_prompt, t->n_experts);
            add(d, "router_ids", i, DTYPE_I64, n_prompt, t->n_experts_per_token);
            add(d, "router_weights", i, DTYPE_F32, n_prompt, t->n_experts_per_token);
        }
    }
    bool whole = (uint64_t)n_prompt * (uint64_t)t->vocab_size * sizeof(float) <= LOGITS_BYTES_MAX;
    d->sink.logits = whole;
    d->logits_first = whole ? 0 : n_prompt - 1;
    add(d, "logits", -1, DTYPE_F32, whole ? n_prompt : 1, t->vocab_size);
}

static flo_code write_ids(dump_file *d, size_t entry, uint64_t first_byte, const int32_t *ids,
                          size_t n, flo_err *err)
{
    int64_t *wide = malloc(n * sizeof *wide + 1);
    if (wide == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the dump");
    }
    for (size_t i = 0; i < n; i++) {
        wide[i] = ids[i];
    }
    flo_code code = safetensors_write(d->writer, entry, first_byte, wide, n * sizeof *wide, err);
    free(wide);
    return code;
}

static size_t entry_of(const dump_file *d, const char *name)
{
    size_t i = 0;
    while (i < d->n && strcmp(d->names[i], name) != 0) {
        i++;
    }
    return i;
}

static flo_code take_rows(void *arg, const char *name, int32_t first, int32_t n_rows,
                          int32_t columns, bool is_ids, const void *data, flo_err *err)
{
    dump_file *d = arg;
    size_t i = entry_of(d, name);
    if (i == d->n || d->entries[i].shape[1] != columns) {
        return flo_fail(err, FLO_FAIL,
                        "a worker sent rows of %s with %d columns, which the dump has no "
                        "place for",
                        name, columns);
    }
    int32_t row = strcmp(name, "logits") == 0 ? first - d->logits_first : first;
    uint64_t cell = (uint64_t)row * (uint64_t)columns;
    size_t n = (size_t)n_rows * (size_t)columns;
    if (is_ids) {
        return write_ids(d, i, cell * sizeof(int64_t), data, n, err);
    }
    return safetensors_write(d->writer, i, cell * sizeof(float), data, n * sizeof(float), err);
}

static flo_code write_prompt(dump_file *d, const prompt *p, flo_err *err)
{
    flo_code code = write_ids(d, 0, 0, p->ids, (size_t)p->n, err);
    return code == FLO_OK ? safetensors_write(d->writer, 1, 0, p->axes,
                                              3 * (size_t)p->n * sizeof *p->axes, err)
                          : code;
}

/* --- what the encoders took and made -----------------------------------------------------------
 */

typedef struct media_dump {
    dump_file *file;
    const model_config *model;
    const media_set *set;
    const float (*levels)[256];
    media_kind sight; /* the kind whose pixels are shown: as the reference has one set of them */
} media_dump;

static bool is_shown(const media_dump *m, const media_item *item, bool sound)
{
    return sound ? item->kind == MEDIA_AUDIO : item->kind == m->sight;
}

/* Number of media of that sense, and of their rows. */
static int32_t count_shown(const media_dump *m, bool sound, int64_t *rows)
{
    int32_t n = 0;
    *rows = 0;
    for (int32_t i = 0; i < m->set->n; i++) {
        if (is_shown(m, &m->set->items[i], sound)) {
            *rows += m->set->items[i].layout.n_tokens;
            n++;
        }
    }
    return n;
}

static int64_t patch_floats(const vision_config *v)
{
    return (int64_t)v->in_channels * v->temporal_patch_size * v->patch_size * v->patch_size;
}

static const media_item *first_sound(const media_set *s)
{
    for (int32_t i = 0; i < s->n; i++) {
        if (s->items[i].kind == MEDIA_AUDIO) {
            return &s->items[i];
        }
    }
    return NULL;
}

static void declare_media(media_dump *m)
{
    const vision_config *v = &m->model->vision;
    int64_t rows, hidden = m->model->text.hidden_size;
    if (count_shown(m, true, &rows) > 0) {
        add(m->file, "input_features", -1, DTYPE_F32, m->model->audio.n_mel_bins,
            first_sound(m->set)->n_mel_frames);
        add(m->file, "audio_embeds", -1, DTYPE_F32, rows, hidden);
    }
    int32_t n = count_shown(m, false, &rows);
    if (n > 0) {
        int64_t merged = (int64_t)v->spatial_merge_size * v->spatial_merge_size;
        add(m->file, "pixel_values", -1, DTYPE_F32, rows * merged, patch_floats(v));
        add(m->file, "grid_thw", -1, DTYPE_I64, n, 3);
        add(m->file, "vision_embeds", -1, DTYPE_F32, rows, hidden);
        for (int32_t k = 0; k < v->n_deepstack; k++) {
            add(m->file, "deepstack", k, DTYPE_F32, rows, hidden);
        }
    }
}

/* One set of the results' rows (0: the merged ones, k: deep-stack set k - 1), part after part. */
static flo_code write_results(const media_dump *m, const char *name, bool sound, int32_t which,
                              flo_err *err)
{
    size_t entry = entry_of(m->file, name);
    uint64_t at = 0;
    flo_code code = FLO_OK;
    for (int32_t i = 0; i < m->set->n; i++) {
        const media_item *item = &m->set->items[i];
        for (int32_t k = 0; k < item->n_parts && is_shown(m, item, sound) && code == FLO_OK; k++) {
            const encoded *e = item->parts[k].result;
            size_t set = (size_t)e->n_rows * (size_t)e->n_columns;
            code = safetensors_write(m->file->writer, entry, at, e->rows + (size_t)which * set,
                                     set * sizeof *e->rows, err);
            at += set * sizeof *e->rows;
        }
    }
    return code;
}

/* A part's patches, one row of blocks at a time. */
static flo_code write_patches(const media_dump *m, const media_part *p, size_t entry, uint64_t *at,
                              flo_err *err)
{
    const vision_config *v = &m->model->vision;
    patch_source source = {.frames = p->input,
                           .n_frames = p->n_frames,
                           .grid_h = p->grid_h,
                           .grid_w = p->grid_w,
                           .levels = m->levels};
    int32_t step = p->grid_w * v->spatial_merge_size;
    size_t n_bytes = (size_t)step * (size_t)patch_floats(v) * sizeof(float);
    float *rows = malloc(n_bytes);
    flo_code code = rows != NULL ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory for the dump");
    for (int32_t i = 0; i < p->grid_h * p->grid_w && code == FLO_OK; i += step) {
        patches_fill(rows, &source, v, i, step);
        code = safetensors_write(m->file->writer, entry, *at, rows, n_bytes, err);
        *at += n_bytes;
    }
    free(rows);
    return code;
}

static flo_code write_sights(const media_dump *m, flo_err *err)
{
    size_t pixels = entry_of(m->file, "pixel_values"), grids = entry_of(m->file, "grid_thw");
    uint64_t pixels_at = 0, grids_at = 0;
    flo_code code = FLO_OK;
    for (int32_t i = 0; i < m->set->n && code == FLO_OK; i++) {
        const media_item *item = &m->set->items[i];
        if (!is_shown(m, item, false)) {
            continue;
        }
        code = write_ids(m->file, grids, grids_at, item->layout.grid, 3, err);
        grids_at += 3 * sizeof(int64_t);
        for (int32_t k = 0; k < item->n_parts && code == FLO_OK; k++) {
            code = write_patches(m, &item->parts[k], pixels, &pixels_at, err);
        }
    }
    code = code == FLO_OK ? write_results(m, "vision_embeds", false, 0, err) : code;
    for (int32_t k = 0; k < m->model->vision.n_deepstack && code == FLO_OK; k++) {
        char name[32];
        snprintf(name, sizeof name, "deepstack.%d", k);
        code = write_results(m, name, false, 1 + k, err);
    }
    return code;
}

static flo_code write_media(const media_dump *m, flo_err *err)
{
    int64_t rows;
    flo_code code = FLO_OK;
    const media_item *sound = first_sound(m->set);
    if (sound != NULL) {
        size_t n = (size_t)m->model->audio.n_mel_bins * (size_t)sound->n_mel_frames;
        code = safetensors_write(m->file->writer, entry_of(m->file, "input_features"), 0,
                                 sound->features, n * sizeof(float), err);
        code = code == FLO_OK ? write_results(m, "audio_embeds", true, 0, err) : code;
    }
    if (code == FLO_OK && count_shown(m, false, &rows) > 0) {
        code = write_sights(m, err);
    }
    return code;
}

/* --- what was said -----------------------------------------------------------------------------
 */

/* The rows' numbers as [rows][columns], or (flat) as one list; none at all where nothing was told.
 */
static flo_code add_floats(dump_file *d, const char *name, const named_rows *from, int64_t columns,
                           bool flat, flo_err *err)
{
    safetensors_entry e = {.name = name, .dtype = DTYPE_F32, .n_dims = flat ? 1 : 2};
    e.shape[0] = from != NULL ? from->n_rows : 0;
    e.shape[1] = columns;
    return safetensors_add(d->writer, &e, from != NULL ? from->data : NULL, err);
}

/* ids [columns][rows] as [rows][columns]; a list is [1][rows], told as [rows]. */
static flo_code add_ids(dump_file *d, const char *name, const int32_t *ids, int64_t rows,
                        int64_t columns, bool flat, flo_err *err)
{
    safetensors_entry e = {.name = name, .dtype = DTYPE_I64, .n_dims = flat ? 1 : 2};
    int64_t *wide = malloc((size_t)(rows * columns) * sizeof *wide + 1);
    if (wide == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the dump");
    }
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < columns; c++) {
            wide[r * columns + c] = ids[c * rows + r];
        }
    }
    e.shape[0] = rows;
    e.shape[1] = columns;
    flo_code code = safetensors_add(d->writer, &e, wide, err);
    free(wide);
    return code;
}

flo_code dump_file_speech(dump_file *d, const request_voice *v, const model_config *m, flo_err *err)
{
    int64_t hidden = m->talker.hidden_size;
    flo_code code = add_ids(d, "talker_prefill_ids", v->prompt.ids, v->prompt.n_rows, 1, true, err);
    code = code == FLO_OK ? add_ids(d, "codes", v->order.codes, m->talker.n_code_groups,
                                    v->order.n_frames, false, err)
                          : code;
    code = code == FLO_OK
               ? add_floats(d, "talker_prefill_embeds",
                            row_store_find(&v->rows, "talker_prefill_embeds"), hidden, false, err)
               : code;
    code = code == FLO_OK
               ? add_floats(d, "trailing_text_hidden",
                            row_store_find(&v->rows, "trailing_text_hidden"), hidden, false, err)
               : code;
    return code == FLO_OK ? add_floats(d, "wav", row_store_find(&v->rows, "wav"), 1, true, err)
                          : code;
}

/* --- the file ----------------------------------------------------------------------------------
 */

flo_code dump_file_new(dump_file **out, const char *path, const model_config *m, const prompt *p,
                       const media_set *media, const float levels[3][256], bool spoken,
                       flo_err *err)
{
    size_t most = 16 + MODEL_DEEPSTACK_MAX + 4 * (size_t)m->text.n_layers;
    dump_file *d = calloc(1, sizeof *d);
    if (d != NULL) {
        d->entries = calloc(most, sizeof *d->entries);
        d->names = calloc(most, sizeof *d->names);
    }
    if (d == NULL || d->entries == NULL || d->names == NULL) {
        dump_file_abandon(d);
        return flo_fail(err, FLO_FAIL, "out of memory for the dump");
    }
    media_dump shown = {.file = d, .model = m, .set = media, .levels = levels};
    declare(d, m, p->n);
    if (media != NULL) {
        shown.sight = media_set_sight(media);
        declare_media(&shown);
    }
    d->sink.arg = d;
    d->sink.rows = take_rows;
    flo_code code = safetensors_create_open(&d->writer, path, d->entries, d->n,
                                            spoken ? SPEECH_TENSORS : 0, err);
    code = code == FLO_OK ? write_prompt(d, p, err) : code;
    code = code == FLO_OK && media != NULL ? write_media(&shown, err) : code;
    if (code != FLO_OK) {
        dump_file_abandon(d);
        return code;
    }
    *out = d;
    return FLO_OK;
}

const dump_sink *dump_file_sink(const dump_file *d)
{
    return &d->sink;
}

static void free_dump(dump_file *d)
{
    free(d->entries);
    free(d->names);
    free(d);
}

flo_code dump_file_finish(dump_file *d, flo_err *err)
{
    flo_code code = safetensors_finish(d->writer, err);
    free_dump(d);
    return code;
}

void dump_file_abandon(dump_file *d)
{
    if (d != NULL) {
        safetensors_abandon(d->writer);
        free_dump(d);
    }
}

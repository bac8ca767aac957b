/*
 * dump_file.c - a table of the file's tensors, and rows converted to its types: f32 and i64.
 */
#include "coordinator/dump_file.h"

#include "common/safetensors_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOGITS_BYTES_MAX ((uint64_t)4 << 30)

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

static flo_code take_rows(void *arg, const char *name, int32_t first, int32_t n_rows,
                          int32_t columns, bool is_ids, const void *data, flo_err *err)
{
    dump_file *d = arg;
    size_t i = 0;
    while (i < d->n && strcmp(d->names[i], name) != 0) {
        i++;
    }
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

/* Text has the same position on all three axes. */
static flo_code write_prompt(dump_file *d, const int32_t *prompt, int32_t n_prompt, flo_err *err)
{
    float *positions = malloc((size_t)n_prompt * 3 * sizeof *positions);
    if (positions == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the dump");
    }
    for (int32_t i = 0; i < 3 * n_prompt; i++) {
        positions[i] = (float)(i % n_prompt);
    }
    flo_code code = write_ids(d, 0, 0, prompt, (size_t)n_prompt, err);
    if (code == FLO_OK) {
        code = safetensors_write(d->writer, 1, 0, positions,
                                 (size_t)n_prompt * 3 * sizeof *positions, err);
    }
    free(positions);
    return code;
}

flo_code dump_file_new(dump_file **out, const char *path, const model_config *m,
                       const int32_t *prompt, int32_t n_prompt, flo_err *err)
{
    size_t most = 8 + 4 * (size_t)m->text.n_layers;
    dump_file *d = calloc(1, sizeof *d);
    if (d != NULL) {
        d->entries = calloc(most, sizeof *d->entries);
        d->names = calloc(most, sizeof *d->names);
    }
    if (d == NULL || d->entries == NULL || d->names == NULL) {
        dump_file_abandon(d);
        return flo_fail(err, FLO_FAIL, "out of memory for the dump");
    }
    declare(d, m, n_prompt);
    d->sink.arg = d;
    d->sink.rows = take_rows;
    flo_code code = safetensors_create(&d->writer, path, d->entries, d->n, err);
    if (code == FLO_OK) {
        code = write_prompt(d, prompt, n_prompt, err);
    }
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

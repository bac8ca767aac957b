/*
 * prompt.c - see prompt.h.
 */
#include "coordinator/prompt.h"

#include "common/check.h"
#include "common/hash.h"

#include <stdlib.h>
#include <string.h>

void prompt_free(prompt *p)
{
    free(p->text);
    free(p->ids);
    free(p->axes);
    free(p->rows);
    free(p->media);
    *p = (prompt){0};
}

void prompt_give(const prompt *p, generation *g)
{
    g->prompt = p->ids;
    g->n_prompt = p->n;
    g->axes = p->axes;
    memcpy(g->next_position, p->next_position, sizeof g->next_position);
    g->media = p->media;
}

static flo_code tokenize(prompt *p, const model_config *m, const tokenizer *t,
                         const prompt_media *media, flo_err *err)
{
    buffer expanded = {0};
    size_t n = 0;
    flo_code code = prompt_expand(&expanded, p->text, p->text_bytes, media,
                                  m->has_vision ? m->vision.spatial_merge_size : 1, err);
    if (code == FLO_OK && expanded.failed) {
        code = flo_fail(err, FLO_FAIL, "out of memory for the prompt");
    }
    if (code == FLO_OK) {
        code = tokenizer_encode(t, expanded.at, expanded.n, false, &p->ids, &n, err);
    }
    buffer_free(&expanded);
    if (code == FLO_OK && n > INT32_MAX) {
        code =
            flo_fail(err, FLO_USAGE, "the prompt has %zu tokens, more than any context holds", n);
    }
    p->n = code == FLO_OK ? (int32_t)n : 0;
    return code;
}

flo_code prompt_lay_out(prompt *p, const model_config *m, const tokenizer *t,
                        const media_set *media, flo_err *err)
{
    prompt_media list = media != NULL ? media_set_layout(media) : (prompt_media){NULL, 0};
    if (p->text != NULL && p->text_bytes == 0) {
        return flo_fail(err, FLO_USAGE, "the prompt is empty; give at least one character");
    }
    flo_code code = p->text != NULL ? tokenize(p, m, t, &list, err) : FLO_OK;
    if (code != FLO_OK) {
        return code;
    }
    size_t n = (size_t)p->n;
    p->axes = malloc(3 * n * sizeof *p->axes + 1);
    p->rows = media != NULL ? malloc(n * sizeof *p->rows + 1) : NULL;
    if (p->axes == NULL || (media != NULL && p->rows == NULL)) {
        return flo_fail(err, FLO_FAIL, "out of memory for the prompt");
    }
    /* Ids without media are taken as they are, placeholders too, as the reference does. */
    code = media != NULL ? prompt_rows(p->rows, p->ids, p->n, &m->tokens, &list, err) : FLO_OK;
    if (code == FLO_OK) {
        code = prompt_positions(p->axes, p->next_position, p->ids, p->n, m, &list, err);
    }
    return code;
}

/* Of what stands at position i, for the KV ledger: content, row, and the place on the axes, which
 * for videos depends on more than what came before. */
static uint64_t key_of(const prompt *p, int32_t i, const encoded *e, int32_t row)
{
    uint64_t key = hash_bytes(HASH_START, e->key.digest, sizeof e->key.digest);
    key = hash_bytes(key, &row, sizeof row);
    for (size_t axis = 0; axis < 3; axis++) {
        key = hash_bytes(key, &p->axes[axis * (size_t)p->n + (size_t)i], sizeof(float));
    }
    return key | (uint64_t)1 << 63; /* no token's id */
}

flo_code prompt_take_rows(prompt *p, const media_set *media, flo_err *err)
{
    p->media = calloc((size_t)p->n + 1, sizeof *p->media);
    if (p->media == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the prompt");
    }
    for (int32_t i = 0; i < p->n; i++) {
        prompt_row at = p->rows[i];
        if (at.medium < 0) {
            continue;
        }
        const media_item *item = &media->items[at.medium];
        int32_t k = at.row / item->parts[0].n_rows; /* all but the last have as many */
        const encoded *e = item->parts[k].result;
        int32_t row = at.row - k * item->parts[0].n_rows;
        CHECK(k < item->n_parts && e != NULL && row < e->n_rows);
        size_t columns = (size_t)e->n_columns, set = (size_t)e->n_rows * columns;
        p->media[i] =
            (media_row){.row = e->rows + (size_t)row * columns,
                        .deep = e->n_deep > 0 ? e->rows + set + (size_t)row * columns : NULL,
                        .deep_stride = set,
                        .key = key_of(p, i, e, row)};
    }
    return FLO_OK;
}

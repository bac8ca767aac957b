/*
 * plan_table.c - columns as wide as their widest entry, and a bar a worker:
 *
 *     rank  host  stage  layers  experts  also holds            holds    of  memory
 *        1  a         0  0-23    0-127    embedding             28.1G   34G
 * [################==--....] 83 %
 */
#include "launch/plan_table.h"

#include "common/bytes.h"
#include "common/check.h"
#include "common/plan_parts.h"

#include <stdlib.h>
#include <string.h>

enum { N_COLUMNS = 10, CELL_BYTES = 256, BAR_WIDTH = 24 };

typedef struct table {
    int32_t n_rows; /* the headline is row 0 */
    char (*cells)[N_COLUMNS][CELL_BYTES];
} table;

static const char *const headline[N_COLUMNS] = {"rank",   "host",     "numa",       "stage",
                                                "layers", "experts",  "also holds", "time",
                                                "bytes",  "of memory"};
static const bool to_the_right[N_COLUMNS] = {true,  false, true, true, false,
                                             false, false, true, true, false};

static void range_print(char cell[CELL_BYTES], int32_t first, int32_t n)
{
    if (n > 1) {
        snprintf(cell, CELL_BYTES, "%d-%d", first, first + n - 1);
    } else {
        snprintf(cell, CELL_BYTES, "%.*d", n > 0 ? 1 : 0, n > 0 ? first : 0);
    }
}

/* "talker", or which of its experts where they are on several workers. */
static void talker_print(char *text, size_t n_bytes, const plan_worker *w, const model_config *m)
{
    int32_t last = w->first_talker_expert + w->n_talker_experts - 1;
    text[0] = '\0';
    if (w->has_talker && w->n_talker_experts == m->talker.n_experts) {
        snprintf(text, n_bytes, "talker");
    } else if (w->n_talker_experts > 0) {
        snprintf(text, n_bytes, w->has_talker ? "talker (experts %d-%d)" : "talker experts %d-%d",
                 w->first_talker_expert, last);
    }
}

static void parts_print(char cell[CELL_BYTES], const plan_worker *w, const model_config *m)
{
    char rows[64] = "";
    if (w->n_vocab_rows > 0) {
        snprintf(rows, sizeof rows, "LM head %d-%d", w->first_vocab_row,
                 w->first_vocab_row + w->n_vocab_rows - 1);
    }
    char talker[64];
    talker_print(talker, sizeof talker, w, m);
    const char *parts[] = {w->has_embedding ? "embedding" : "",
                           rows,
                           w->has_audio_encoder ? "audio encoder" : "",
                           w->has_vision_encoder ? "vision encoder" : "",
                           talker,
                           w->has_code_predictor ? "code predictor" : "",
                           w->has_code2wav ? "vocoder" : ""};
    cell[0] = '\0';
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        size_t used = strlen(cell);
        snprintf(cell + used, CELL_BYTES - used, "%s%s",
                 used > 0 && parts[i][0] != '\0' ? ", " : "", parts[i]);
    }
}

static uint64_t bytes_of(const plan_worker *w)
{
    return w->weight_bytes + w->kv_bytes + w->work_bytes;
}

/* Where a bar of `whole` has its border after `part`, to the nearest place. */
static int border(uint64_t part, uint64_t whole)
{
    double place = (double)part / (double)whole * BAR_WIDTH + 0.5;
    return place < BAR_WIDTH ? (int)place : BAR_WIDTH;
}

static void bar_print(char cell[CELL_BYTES], const plan_worker *w)
{
    char bar[BAR_WIDTH + 1];
    char memory[BYTES_TEXT_MAX];
    uint64_t whole = w->memory_bytes > 0 ? w->memory_bytes : bytes_of(w);
    int weights = border(w->weight_bytes, whole);
    int kv = border(w->weight_bytes + w->kv_bytes, whole);
    int work = border(bytes_of(w), whole);
    for (int i = 0; i < BAR_WIDTH; i++) {
        bar[i] = i < weights ? '#' : i < kv ? '=' : i < work ? '-' : '.';
    }
    bar[BAR_WIDTH] = '\0';
    if (w->memory_bytes > 0) {
        snprintf(cell, CELL_BYTES, "[%s] %.0f %% of %s", bar,
                 100.0 * (double)bytes_of(w) / (double)whole, bytes_print(memory, w->memory_bytes));
    } else {
        snprintf(cell, CELL_BYTES, "[%s] limit unknown", bar);
    }
}

static void row_fill(char row[N_COLUMNS][CELL_BYTES], const plan_worker *w,
                     const plan_worker_facts *f, const model_config *m)
{
    char bytes[BYTES_TEXT_MAX];
    snprintf(row[0], CELL_BYTES, "%d", w->rank);
    snprintf(row[1], CELL_BYTES, "%s", f->host);
    snprintf(row[2], CELL_BYTES, "%s", "-");
    if (f->numa >= 0) {
        snprintf(row[2], CELL_BYTES, "%d", f->numa);
    }
    snprintf(row[3], CELL_BYTES, "%d%s", w->stage, w->place == 0 ? "" : "+");
    range_print(row[4], w->first_layer, w->n_layers);
    range_print(row[5], w->first_expert, w->n_experts);
    parts_print(row[6], w, m);
    snprintf(row[7], CELL_BYTES, "%.0f %%", 100.0 * w->time_share);
    snprintf(row[8], CELL_BYTES, "%s", bytes_print(bytes, bytes_of(w)));
    bar_print(row[9], w);
}

static void table_print(FILE *out, const table *t)
{
    int widths[N_COLUMNS] = {0};
    for (int32_t i = 0; i < t->n_rows; i++) {
        for (int k = 0; k < N_COLUMNS; k++) {
            int n = (int)strlen(t->cells[i][k]);
            widths[k] = n > widths[k] ? n : widths[k];
        }
    }
    for (int32_t i = 0; i < t->n_rows; i++) {
        for (int k = 0; k < N_COLUMNS - 1; k++) {
            fprintf(out, "%*s  ", to_the_right[k] ? widths[k] : -widths[k], t->cells[i][k]);
        }
        fprintf(out, "%s\n", t->cells[i][N_COLUMNS - 1]);
    }
}

void plan_table_print(FILE *out, const plan *p, const plan_request *request)
{
    table t = {.n_rows = p->n_workers + 1};
    t.cells = calloc((size_t)t.n_rows, sizeof *t.cells);
    CHECK(t.cells != NULL);
    for (int k = 0; k < N_COLUMNS; k++) {
        snprintf(t.cells[0][k], CELL_BYTES, "%s", headline[k]);
    }
    for (int32_t i = 0; i < p->n_workers; i++) {
        row_fill(t.cells[i + 1], &p->workers[i], &request->workers[i], request->model);
    }
    char coordinator[BYTES_TEXT_MAX];
    fprintf(out, "%d worker%s in %d stage%s, bf16 weights, %lld tokens of KV cache\n\n",
            p->n_workers, p->n_workers > 1 ? "s" : "", p->n_stages, p->n_stages > 1 ? "s" : "",
            (long long)p->kv_tokens);
    table_print(out, &t);
    fprintf(
        out,
        "\nmemory: # weights, = KV cache, - buffers, . free; time: share of the reading that one "
        "token costs;\nstage n+: holds experts for the home of stage n. The coordinator (rank 0) "
        "needs %s.\n",
        bytes_print(coordinator, plan_coordinator_bytes(p, request)));
    free(t.cells);
    char saved[PLAN_SAVED_TEXT_MAX];
    if (plan_saved_print(saved, request)[0] != '\0') {
        fprintf(out, "%s\n", saved);
    }
}

/*
 * predictor.c - passes of all speakers' rows through the layers, each followed by a choice.
 *
 * The layers run on worker/thinker/stage.h. A speaker's place in the frame is a sequence of the KV
 * cache, whose positions are taken once and written anew by every frame: a row sees the positions
 * up to its own, all of this frame. The first pass has two rows a speaker, the later ones one; only
 * the last row's logits are asked for.
 */
#include "worker/speech/predictor.h"

#include "common/arena.h"
#include "common/check.h"
#include "common/plan.h"
#include "common/plan_parts.h"
#include "common/sampler.h"
#include "worker/thinker/stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS_MAX = 2 * SPEAKERS_MAX, NAME_BYTES = 96 };

typedef struct code_group { /* of codes 1, 2, ... of a frame */
    packed_matrix head;     /* [vocab][H]: logits of this code */
    const bf16 *table;      /* [vocab][H]: its embedding */
} code_group;

struct predictor {
    code_predictor_config config;
    text_config layers; /* the same in the layers' terms */
    stage stage;
    code_group *groups; /* [n_code_groups - 1] */
    sampler *sampler;
    int32_t slots[SPEAKERS_MAX]; /* in the KV cache */
    arena rows;                  /* of what follows */
    float *x;                    /* [ROWS_MAX][H] */
    float *normed;               /* [SPEAKERS_MAX][H]: last rows after the final norm */
    float *logits;               /* [SPEAKERS_MAX][vocab] */
    float *sums;                 /* [SPEAKERS_MAX][H] */
    int32_t *codes;              /* [SPEAKERS_MAX][n_code_groups - 1] */
    step_row *step;              /* [ROWS_MAX] */
    float *positions;            /* [ROWS_MAX] */
    predictor_choice how[SPEAKERS_MAX];
    int32_t n;    /* speakers of the frame */
    int32_t pass; /* the next one */
};

/* --- memory ------------------------------------------------------------------------------------
 */

static kv_shape frame_kv_shape(const code_predictor_config *c, const decoder_part *part)
{
    int32_t blocks = (c->n_code_groups + KV_BLOCK - 1) / KV_BLOCK;
    return stage_kv_shape(part, (int64_t)SPEAKERS_MAX * blocks * KV_BLOCK);
}

static size_t rows_arena_bytes(const code_predictor_config *c)
{
    size_t h = (size_t)c->hidden_size, groups = (size_t)c->n_code_groups - 1;
    return arena_rounded(ROWS_MAX * h * sizeof(float)) +
           2 * arena_rounded(SPEAKERS_MAX * h * sizeof(float)) +
           arena_rounded(SPEAKERS_MAX * (size_t)c->vocab_size * sizeof(float)) +
           arena_rounded(SPEAKERS_MAX * groups * sizeof(int32_t)) +
           arena_rounded(ROWS_MAX * sizeof(step_row)) + arena_rounded(ROWS_MAX * sizeof(float));
}

uint64_t predictor_open_bytes(const code_predictor_config *c)
{
    text_config t;
    model_predictor_layers(&t, c);
    decoder_part part = decoder_part_whole(&t, "");
    kv_shape shape = frame_kv_shape(c, &part);
    return sizeof(predictor) + (size_t)c->n_code_groups * sizeof(code_group) +
           sampler_bytes(c->vocab_size) + rows_arena_bytes(c) +
           stage_arena_bytes(&part, 1, ROWS_MAX) + kv_cache_bytes(&shape);
}

static void take_rows(predictor *p)
{
    const code_predictor_config *c = &p->config;
    size_t row = (size_t)c->hidden_size * sizeof(float);
    p->x = arena_take(&p->rows, ROWS_MAX * row);
    p->normed = arena_take(&p->rows, SPEAKERS_MAX * row);
    p->sums = arena_take(&p->rows, SPEAKERS_MAX * row);
    p->logits = arena_take(&p->rows, SPEAKERS_MAX * (size_t)c->vocab_size * sizeof(float));
    p->codes =
        arena_take(&p->rows, SPEAKERS_MAX * ((size_t)c->n_code_groups - 1) * sizeof(int32_t));
    p->step = arena_take(&p->rows, ROWS_MAX * sizeof(step_row));
    p->positions = arena_take(&p->rows, ROWS_MAX * sizeof(float));
}

/* A sequence for each speaker, with all positions of a frame. */
static flo_code take_sequences(predictor *p, flo_err *err)
{
    flo_code code = FLO_OK;
    for (int32_t i = 0; i < SPEAKERS_MAX && code == FLO_OK; i++) {
        code = kv_cache_extend(p->stage.cache, (uint64_t)i, 0, p->config.n_code_groups,
                               &p->slots[i], err);
    }
    return code;
}

static flo_code take_memory(predictor *p, flo_err *err)
{
    const code_predictor_config *c = &p->config;
    kv_shape shape = frame_kv_shape(c, &p->stage.part);
    p->groups = calloc((size_t)c->n_code_groups, sizeof *p->groups);
    flo_code code = p->groups != NULL
                        ? FLO_OK
                        : flo_fail(err, FLO_FAIL, "out of memory for the list of code groups");
    code = code == FLO_OK ? sampler_new(&p->sampler, c->vocab_size, err) : code;
    code = code == FLO_OK ? arena_open(&p->rows, rows_arena_bytes(c), err) : code;
    if (code == FLO_OK) {
        take_rows(p);
        size_t bytes = stage_arena_bytes(&p->stage.part, 1, ROWS_MAX);
        code = arena_open(&p->stage.arena, bytes, err);
    }
    code = code == FLO_OK ? kv_cache_new(&p->stage.cache, &shape, err) : code;
    return code == FLO_OK ? take_sequences(p, err) : code;
}

flo_code predictor_open(predictor **out, const code_predictor_config *c, thread_pool *pool,
                        flo_err *err)
{
    predictor *p = calloc(1, sizeof *p);
    if (p == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the code predictor");
    }
    p->config = *c;
    model_predictor_layers(&p->layers, c);
    decoder_part part = decoder_part_whole(&p->layers, "talker.code_predictor.model.");
    stage_init(&p->stage, &part, pool);
    flo_code code = take_memory(p, err);
    if (code != FLO_OK) {
        flo_context(err, "code predictor");
        predictor_close(p);
        return code;
    }
    *out = p;
    return FLO_OK;
}

void predictor_close(predictor *p)
{
    if (p == NULL) {
        return;
    }
    stage_weights_free(&p->stage.weights);
    kv_cache_free(p->stage.cache);
    arena_close(&p->stage.arena);
    arena_close(&p->rows);
    sampler_free(p->sampler);
    free(p->groups);
    free(p);
}

/* --- weights -----------------------------------------------------------------------------------
 */

/* In the order in which plan_predictor_bytes adds them up. */
static void declare(predictor *p, weight_loader *l, const checkpoint *c)
{
    int32_t vocab = p->config.vocab_size, h = p->config.hidden_size;
    char name[NAME_BYTES];
    stage_layers_declare(&p->stage.weights, &p->stage.part, l, c);
    p->stage.weights.final_norm = weight_vector(l, "talker.code_predictor.model.norm.weight", h);
    for (int32_t g = 0; g < p->config.n_code_groups - 1; g++) {
        p->groups[g].head = weight_matrix(l, vocab, h);
        snprintf(name, sizeof name, "talker.code_predictor.lm_head.%d.weight", g);
        weight_rows(l, &p->groups[g].head, name, 0, vocab, 2, NULL, NULL);
        snprintf(name, sizeof name, "talker.code_predictor.model.codec_embedding.%d.weight", g);
        p->groups[g].table = weight_table(l, name, vocab, h);
    }
}

static void tell_nobody(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    (void)done;
    (void)total;
}

flo_code predictor_load(predictor *p, const weights_source *source, const load_watch *watch,
                        flo_err *err)
{
    const model_config model = {.has_talker = true, .code_predictor = p->config};
    const load_watch told = watch != NULL ? *watch : (load_watch){.tell = tell_nobody};
    stage_weights *w = &p->stage.weights;
    weight_loader *l;
    w->region_bytes = plan_predictor_bytes(&model);
    flo_code code = weight_loader_new(&l, w->region_bytes, source, err);
    if (code == FLO_OK) {
        declare(p, l, source->checkpoint);
        code = weight_loader_run(l, &w->region, p->stage.pool, told.tell, told.arg, err);
    }
    if (code != FLO_OK) {
        stage_weights_free(w);
    }
    return code;
}

/* --- a frame -----------------------------------------------------------------------------------
 */

void predictor_begin(predictor *p, const float *hidden, const float *firsts,
                     const predictor_choice *how, int32_t n)
{
    CHECK(n >= 1 && n <= SPEAKERS_MAX);
    size_t h = (size_t)p->config.hidden_size;
    p->n = n;
    p->pass = 0;
    memcpy(p->how, how, (size_t)n * sizeof *how);
    memcpy(p->sums, firsts, (size_t)n * h * sizeof *firsts);
    for (size_t i = 0; i < (size_t)n; i++) {
        memcpy(p->x + 2 * i * h, hidden + i * h, h * sizeof *hidden);
        memcpy(p->x + (2 * i + 1) * h, firsts + i * h, h * sizeof *firsts);
    }
}

/* Where the pass's rows stand: positions 0 and 1 of each speaker, then one after another. */
static step_rows place_rows(const predictor *p)
{
    int32_t each = p->pass == 0 ? 2 : 1;
    for (int32_t r = 0; r < p->n * each; r++) {
        int32_t position = p->pass == 0 ? r % 2 : p->pass + 1;
        p->step[r] = (step_row){.slot = p->slots[r / each], .position = position};
        p->positions[r] = (float)position;
    }
    return (step_rows){
        .n_rows = p->n * each, .rows = p->step, .axes = {p->positions, p->positions, p->positions}};
}

static void head_task(void *arg, int32_t panel, int32_t thread)
{
    (void)thread;
    const predictor *p = arg;
    kernels()->matmul_bf16(p->logits, (size_t)p->config.vocab_size, p->normed,
                           (size_t)p->config.hidden_size, p->n, &p->groups[p->pass].head, panel,
                           panel + 1);
}

/* Logits of each speaker's last row. */
static void make_logits(predictor *p)
{
    size_t h = (size_t)p->config.hidden_size, each = p->pass == 0 ? 2 : 1;
    for (size_t i = 0; i < (size_t)p->n; i++) {
        kernels()->rms_norm(p->normed + i * h, p->x + ((i + 1) * each - 1) * h,
                            p->stage.weights.final_norm, p->config.hidden_size,
                            p->config.rms_norm_eps);
    }
    thread_pool_each(p->stage.pool, packed_panels(p->config.vocab_size), head_task, p);
}

/* The settings are fixed in the reference (its predictor's generate call). */
static flo_code choose(predictor *p, int32_t place, int32_t *code, flo_err *err)
{
    int32_t vocab = p->config.vocab_size;
    const predictor_choice *how = &p->how[place];
    const sampling settings = {.temperature = how->greedy ? 0.0 : 1.0,
                               .top_k = 50,
                               .top_p = 0.8,
                               .repetition_penalty = 1.0,
                               .seed = how->seed};
    const logit_row row = {.n = vocab, .logits = p->logits + (size_t)place * (size_t)vocab};
    return sampler_choose(p->sampler, &settings, &row, NULL, 0, how->draw + (uint64_t)p->pass, code,
                          err);
}

/* The code's embedding is the speaker's next input, and a part of its sum. */
static void take_code(predictor *p, int32_t place, int32_t code)
{
    int32_t h = p->config.hidden_size;
    float *next = p->x + (size_t)place * (size_t)h;
    p->codes[place * (p->config.n_code_groups - 1) + p->pass] = code;
    kernels()->bf16_widen(next, p->groups[p->pass].table + (size_t)code * (size_t)h, h);
    kernels()->add(p->sums + (size_t)place * (size_t)h, next, h);
}

flo_code predictor_advance(predictor *p, bool *done, flo_err *err)
{
    static const stage_hooks none;
    CHECK(p->pass < p->config.n_code_groups - 1);
    step_rows step = place_rows(p);
    stage_forward(&p->stage, p->x, &step, &none);
    make_logits(p);
    for (int32_t i = 0; i < p->n; i++) {
        int32_t chosen;
        flo_code code = choose(p, i, &chosen, err);
        if (code != FLO_OK) {
            flo_context(err, "code predictor, code %d", p->pass + 1);
            return code;
        }
        take_code(p, i, chosen);
    }
    p->pass++;
    *done = p->pass == p->config.n_code_groups - 1;
    return FLO_OK;
}

const int32_t *predictor_codes(const predictor *p)
{
    return p->codes;
}

const float *predictor_sums(const predictor *p)
{
    return p->sums;
}

const float *predictor_logits(const predictor *p, int32_t place, int32_t *pass, uint64_t *listener)
{
    *pass = p->pass - 1;
    *listener = place < p->n ? p->how[place].listener : 0;
    return *listener != 0 ? p->logits + (size_t)place * (size_t)p->config.vocab_size : NULL;
}

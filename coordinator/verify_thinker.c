/*
 * verify_thinker.c - prompts computed by this job's workers, held against the reference layer by
 * layer.
 *
 * A case takes one greedy answer, whose prompt pass gives hidden states, routers and logits, and
 * whose tokens give greedy_*. The logits of the last step come from a second prompt pass over
 * prompt and answer: what is decoded token by token and what is computed at once must be the same.
 * Cases named batch-* are computed once more all together, and must come out with the same bits.
 */
#include "coordinator/verify_sections.h"

#include "common/json.h"
#include "coordinator/verify_answer.h"
#include "coordinator/verify_media.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOP_DEFAULT = 8, BATCH_MAX = 64 };

#define BATCH_PREFIX "batch-"

typedef struct thinker_case {
    verify_case files; /* of a kept case only its name is good */
    prompt prompt;
    case_media media;
    int32_t *greedy; /* [n_greedy] the reference's answer */
    int32_t n_greedy, n_top;
    answer_run run;
} thinker_case;

typedef struct thinker_section {
    verify *v;
    char folder[VERIFY_PATH_MAX];
    thinker_case *batch[BATCH_MAX]; /* computed one by one already */
    size_t n_batch;
} thinker_section;

static void free_case(thinker_case *c)
{
    answer_run_free(&c->run);
    prompt_free(&c->prompt);
    case_media_free(&c->media);
    free(c->greedy);
    free(c);
}

/* --- is it this model? -------------------------------------------------------------------------
 */

static int64_t columns_of(const verify_case *c, const char *tensor)
{
    const checkpoint_tensor *t = checkpoint_find(c->file, tensor);
    return t != NULL && t->n_dims > 0 ? t->shape[t->n_dims - 1] : -1;
}

static bool ids_fit(const int32_t *ids, int32_t n, int32_t vocab_size)
{
    for (int32_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= vocab_size) {
            return false;
        }
    }
    return true;
}

/* True, and a sentence, where the case was made with a model of another shape: comparing would say
 * the same about every tensor. */
static bool other_model(const thinker_case *t, const text_config *m, flo_err *err)
{
    char past_last[32];
    const verify_case *c = &t->files;
    int64_t vocab = columns_of(c, "logits"), hidden = columns_of(c, "hidden.0");
    snprintf(past_last, sizeof past_last, "hidden.%d", m->n_layers + 1);
    const char *what = NULL;
    if (!ids_fit(t->prompt.ids, t->prompt.n, m->vocab_size) ||
        !ids_fit(t->greedy, t->n_greedy, m->vocab_size)) {
        what = "has ids outside the vocabulary";
    } else if (vocab >= 0 && vocab != m->vocab_size) {
        what = "has logits of another vocabulary than that";
    } else if (hidden >= 0 && hidden != m->hidden_size) {
        what = "has hidden states of another width than that";
    } else if (verify_case_has(c, past_last)) {
        what = "has more layers than those";
    }
    if (what != NULL) {
        flo_fail(err, FLO_DIFFERS,
                 "%s %s of this job's model (%d tokens, width %d, %d layers); the reference data "
                 "are of another checkpoint, name that with --model",
                 c->name, what, m->vocab_size, m->hidden_size, m->n_layers);
    }
    return what != NULL;
}

/* --- computing ---------------------------------------------------------------------------------
 */

/* The end token ends an answer, unless the reference went on past it. */
static bool reference_stops(const thinker_case *t, const job *j)
{
    for (int32_t i = 0; i + 1 < t->n_greedy; i++) {
        for (int32_t k = 0; k < j->defaults.n_stop; k++) {
            if (t->greedy[i] == j->defaults.stop_ids[k]) {
                return false;
            }
        }
        if (t->greedy[i] == j->model.tokens.im_end) {
            return false;
        }
    }
    return true;
}

static void prepare(thinker_case *t, answer_run *run, const job *j)
{
    int32_t max_new = t->n_greedy > 0 ? t->n_greedy : 1;
    answer_run_init(run, j, &t->prompt, max_new, t->n_top, reference_stops(t, j));
}

/* Computes one answer; what the job refuses or fails to make is a fault of the case. */
static flo_code compute(job *j, answer_run *run, bool *fatal, flo_err *err)
{
    flo_code code = answer_run_all(j, &run, 1, err);
    *fatal = code != FLO_OK;
    if (code == FLO_OK && run->generation.finish == FINISH_FAILED) {
        code = run->generation.code;
        *err = run->generation.err;
    }
    return code;
}

/* --- comparing ---------------------------------------------------------------------------------
 */

typedef flo_code compare_one(verify *v, thinker_case *t, const char *name, bool *fatal,
                             flo_err *err);

static flo_code compare_ids(verify *v, thinker_case *t, const char *name, bool *fatal, flo_err *err)
{
    const cJSON *text = json_member(t->files.inputs, "text");
    prompt p = {0};
    (void)fatal;
    if (text == NULL) {
        return FLO_OK; /* the ids are the case's input */
    }
    if (!cJSON_IsString(text) || v->job->tokenizer == NULL) {
        return flo_fail(err, FLO_FAIL,
                        "the case's text cannot be made into ids: this job has no tokenizer, or "
                        "the text is no string");
    }
    p.text = json_string_copy(text, &p.text_bytes);
    if (p.text == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the case's text");
    }
    flo_code code = prompt_lay_out(&p, &v->job->model, v->job->tokenizer, t->media.order.set, err);
    if (code == FLO_OK) {
        tensor_view got = {.dtype = DTYPE_I32, .n_dims = 1, .shape = {p.n}, .data = p.ids};
        code = verify_case_compare(&v->report, &t->files, name, &got, err);
    }
    prompt_free(&p);
    return code;
}

/* rope_delta is what the positions of an answer are ahead of its token count. */
static flo_code compare_positions(verify *v, thinker_case *t, const char *name, bool *fatal,
                                  flo_err *err)
{
    const prompt *p = &t->prompt;
    float most = 0;
    (void)fatal;
    for (int32_t i = 0; i < 3 * p->n; i++) {
        most = p->axes[i] > most ? p->axes[i] : most;
    }
    float delta = most + 1.0f - (float)p->n;
    tensor_view all = {.dtype = DTYPE_F32, .n_dims = 2, .shape = {3, p->n}, .data = p->axes};
    tensor_view one = {.dtype = DTYPE_F32, .n_dims = 1, .shape = {1}, .data = &delta};
    return verify_case_compare(&v->report, &t->files, name,
                               strcmp(name, "rope_delta") == 0 ? &one : &all, err);
}

static flo_code compare_greedy_ids(verify *v, thinker_case *t, const char *name, bool *fatal,
                                   flo_err *err)
{
    const generation *g = &t->run.generation;
    tensor_view got = {.dtype = DTYPE_I32, .n_dims = 1, .shape = {g->n_ids}, .data = g->ids};
    (void)fatal;
    return verify_case_compare(&v->report, &t->files, name, &got, err);
}

/* greedy_top_ids or greedy_top_logprobs, [tokens][n_top]. */
static flo_code compare_tops(verify *v, thinker_case *t, const char *name, bool *fatal,
                             flo_err *err)
{
    const generation *g = &t->run.generation;
    bool ids = strcmp(name, "greedy_top_ids") == 0;
    size_t k = (size_t)t->n_top, n = (size_t)g->n_ids * k;
    int32_t *top_ids = malloc(n * sizeof *top_ids + 1);
    float *top = malloc(n * sizeof *top + 1);
    (void)fatal;
    if (top_ids == NULL || top == NULL) {
        free(top_ids);
        free(top);
        return flo_fail(err, FLO_FAIL, "out of memory for log-probabilities");
    }
    for (size_t i = 0; i < (size_t)g->n_ids; i++) {
        memcpy(top_ids + i * k, g->tokens[i].top_ids, k * sizeof *top_ids);
        memcpy(top + i * k, g->tokens[i].top_logprobs, k * sizeof *top);
    }
    tensor_view got = {.dtype = ids ? DTYPE_I32 : DTYPE_F32,
                       .n_dims = 2,
                       .shape = {g->n_ids, t->n_top},
                       .data = ids ? (const void *)top_ids : top};
    flo_code code = verify_case_compare(&v->report, &t->files, name, &got, err);
    free(top_ids);
    free(top);
    return code;
}

/* The logits before the answer's last token, from prompt and answer as one prompt. */
static flo_code compare_last_logits(verify *v, thinker_case *t, const char *name, bool *fatal,
                                    flo_err *err)
{
    answer_run run;
    if (t->n_greedy < 1) {
        return flo_fail(err, FLO_FAIL, "the case has %s, but no greedy_ids", name);
    }
    prompt longer = {.n = t->prompt.n + t->n_greedy - 1};
    longer.ids = malloc((size_t)longer.n * sizeof *longer.ids + 1);
    if (longer.ids == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for a prompt");
    }
    memcpy(longer.ids, t->prompt.ids, (size_t)t->prompt.n * sizeof *longer.ids);
    memcpy(longer.ids + t->prompt.n, t->greedy, (size_t)(t->n_greedy - 1) * sizeof *longer.ids);
    const media_set *media = t->media.order.set;
    flo_code code = prompt_lay_out(&longer, &v->job->model, v->job->tokenizer, media, err);
    if (code == FLO_OK && media != NULL) {
        code = prompt_take_rows(&longer, media, err);
    }
    answer_run_init(&run, v->job, &longer, 1, -1, false);
    run.last_logits = true;
    code = code == FLO_OK ? compute(v->job, &run, fatal, err) : code;
    const named_rows *kept = row_store_find(&run.kept, "logits");
    if (code == FLO_OK && kept == NULL) {
        code = flo_fail(err, FLO_FAIL, "the workers sent no logits");
    }
    if (code == FLO_OK) {
        tensor_view row = named_rows_view(kept, true);
        code = verify_case_compare(&v->report, &t->files, name, &row, err);
    }
    answer_run_free(&run);
    prompt_free(&longer);
    return code;
}

/* Rows of the logits at the positions that the case kept. */
static flo_code compare_logit_rows(verify *v, thinker_case *t, const tensor_view *all, flo_err *err)
{
    int32_t *at, n;
    flo_code code = verify_case_ids(&at, &n, &t->files, "logits_at", err);
    if (code != FLO_OK) {
        return code;
    }
    size_t columns = (size_t)all->shape[1];
    float *rows = malloc((size_t)n * columns * sizeof *rows + 1);
    if (rows == NULL) {
        code = flo_fail(err, FLO_FAIL, "out of memory for rows of logits");
    }
    for (int32_t i = 0; code == FLO_OK && i < n; i++) {
        if (at[i] < 0 || at[i] >= t->prompt.n) {
            code = flo_fail(err, FLO_FAIL, "logits_at[%d] is %d, the prompt has %d tokens", i,
                            at[i], t->prompt.n);
            break;
        }
        memcpy(rows + (size_t)i * columns, (const float *)all->data + (size_t)at[i] * columns,
               columns * sizeof *rows);
    }
    if (code == FLO_OK) {
        tensor_view got = *all;
        got.shape[0] = n;
        got.data = rows;
        code = verify_case_compare(&v->report, &t->files, "logits", &got, err);
    }
    free(rows);
    free(at);
    return code;
}

/* A tensor of the prompt pass. */
static flo_code compare_dumped(verify *v, thinker_case *t, const char *name, bool *fatal,
                               flo_err *err)
{
    const named_rows *kept = row_store_find(&t->run.kept, name);
    (void)fatal;
    if (kept == NULL) {
        return flo_fail(err, FLO_FAIL, "this job's prompt pass made no %s", name);
    }
    tensor_view got = named_rows_view(kept, false);
    if (strcmp(name, "logits") == 0 && verify_case_has(&t->files, "logits_at")) {
        return compare_logit_rows(v, t, &got, err);
    }
    return verify_case_compare(&v->report, &t->files, name, &got, err);
}

static flo_code skip_input(verify *v, thinker_case *t, const char *name, bool *fatal, flo_err *err)
{
    (void)v;
    (void)t;
    (void)name;
    (void)fatal;
    (void)err;
    return FLO_OK;
}

static compare_one *comparison_for(const char *name)
{
    static const struct {
        const char *name;
        compare_one *compare;
    } named[] = {{"input_ids", compare_ids},
                 {"logits_at", skip_input},
                 {"position_ids", compare_positions},
                 {"rope_delta", compare_positions},
                 {"logits", compare_dumped},
                 {"greedy_ids", compare_greedy_ids},
                 {"greedy_top_ids", compare_tops},
                 {"greedy_top_logprobs", compare_tops},
                 {"greedy_last_logits", compare_last_logits}};
    static const char *const dumped[] = {"hidden.", "router_logits.", "router_ids.",
                                         "router_weights."};
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++) {
        if (strcmp(name, named[i].name) == 0) {
            return named[i].compare;
        }
    }
    for (size_t i = 0; i < sizeof dumped / sizeof dumped[0]; i++) {
        if (strncmp(name, dumped[i], strlen(dumped[i])) == 0) {
            return compare_dumped;
        }
    }
    return NULL;
}

static flo_code compare_all(verify *v, thinker_case *t, bool *fatal, flo_err *err)
{
    const cJSON *spec;
    cJSON_ArrayForEach(spec, t->files.tensors)
    {
        compare_one *compare = comparison_for(spec->string);
        bool known = compare != NULL;
        flo_code code =
            known ? compare(v, t, spec->string, fatal, err)
                  : case_media_compare(&v->report, &t->files, &t->media, spec->string, &known, err);
        if (!known) {
            report_alone(&v->report, spec->string, 1);
        }
        if (code != FLO_OK && *fatal) {
            return code;
        }
        if (code != FLO_OK) {
            report_fault(&v->report, t->files.name, err->text);
        }
    }
    return FLO_OK;
}

/* --- a case ------------------------------------------------------------------------------------
 */

static flo_code read_inputs(thinker_case *t, flo_err *err)
{
    const verify_case *c = &t->files;
    flo_code code = verify_case_ids(&t->prompt.ids, &t->prompt.n, c, "input_ids", err);
    if (code == FLO_OK && verify_case_has(c, "greedy_ids")) {
        code = verify_case_ids(&t->greedy, &t->n_greedy, c, "greedy_ids", err);
    }
    if (code == FLO_OK && t->prompt.n < 1) {
        code = flo_fail(err, FLO_FAIL, "the case has an empty prompt");
    }
    if (code != FLO_OK) {
        return code;
    }
    int64_t k = columns_of(c, "greedy_top_logprobs");
    t->n_top = TOP_DEFAULT;
    if (k > LOGPROBS_MAX) {
        return flo_fail(err, FLO_FAIL,
                        "the case has %lld log-probabilities a token, at most %d "
                        "can be asked for",
                        (long long)k, LOGPROBS_MAX);
    }
    if (k > 0) {
        t->n_top = (int32_t)k;
    }
    return FLO_OK;
}

/* Positions of ids that are there, and the rows that media make. */
static flo_code make_prompt(thinker_case *t, const thinker_section *s, prompt *p, flo_err *err)
{
    const job *j = s->v->job;
    flo_code code = case_media_prepare(&t->media, s->v->job, &t->files, s->folder, err);
    if (code == FLO_OK) {
        code = prompt_lay_out(p, &j->model, j->tokenizer, t->media.order.set, err);
    }
    if (code == FLO_OK) {
        code = case_media_encode(&t->media, err);
    }
    return code == FLO_OK && t->media.order.set != NULL
               ? prompt_take_rows(p, t->media.order.set, err)
               : code;
}

static bool keep_for_batch(thinker_section *s, thinker_case *t)
{
    bool kept =
        s->n_batch < BATCH_MAX && strncmp(t->files.name, BATCH_PREFIX, strlen(BATCH_PREFIX)) == 0;
    if (kept) {
        s->batch[s->n_batch++] = t;
    }
    return kept;
}

static flo_code run_case(void *arg, verify_case *c, bool *fatal, flo_err *err)
{
    thinker_section *s = arg;
    verify *v = s->v;
    thinker_case *t = calloc(1, sizeof *t);
    if (t == NULL) {
        *fatal = true;
        return flo_fail(err, FLO_FAIL, "out of memory for a case");
    }
    t->files = *c; /* its files stay open for this call alone */
    flo_code code = read_inputs(t, err);
    if (code == FLO_OK && other_model(t, &v->job->model.text, err)) {
        report_not_run(&v->report, err->text);
        free_case(t);
        return FLO_OK;
    }
    if (code == FLO_OK) {
        code = make_prompt(t, s, &t->prompt, err);
        *fatal = v->job->broken != FLO_OK;
    }
    if (code == FLO_OK) {
        prepare(t, &t->run, v->job);
        code = compute(v->job, &t->run, fatal, err);
    }
    if (code == FLO_OK) {
        code = compare_all(v, t, fatal, err);
    }
    if (code != FLO_OK || !keep_for_batch(s, t)) {
        free_case(t);
    }
    return code;
}

/* --- all at once -------------------------------------------------------------------------------
 */

static bool same_tokens(const generation *a, const generation *b)
{
    size_t n = (size_t)a->n_ids;
    bool same = a->n_ids == b->n_ids && memcmp(a->ids, b->ids, n * sizeof *a->ids) == 0;
    for (size_t i = 0; same && i < n; i++) {
        same = memcmp(&a->tokens[i], &b->tokens[i], sizeof a->tokens[i]) == 0;
    }
    return same;
}

/* Counts what the two runs have in common bit by bit; *first names what they have not. */
static int64_t count_differences(const answer_run *alone, const answer_run *batch, int64_t *n,
                                 char first[256])
{
    int64_t n_differ = 0;
    first[0] = '\0';
    *n = 1;
    if (!same_tokens(&alone->generation, &batch->generation)) {
        n_differ++;
        snprintf(first, 256, "the answer's tokens and log-probabilities");
    }
    for (size_t i = 0; i < alone->kept.n; i++) {
        const named_rows *a = &alone->kept.at[i], *b = row_store_find(&batch->kept, a->name);
        size_t n_bytes = (size_t)a->n_rows * (size_t)a->columns * sizeof(float);
        ++*n;
        if (b == NULL || b->columns != a->columns || b->n_rows != a->n_rows ||
            memcmp(a->data, b->data, n_bytes) != 0) {
            n_differ += 1;
            snprintf(first, 256, "%s (and perhaps more) differs from the case by itself", a->name);
        }
    }
    return n_differ;
}

static void report_batch(verify_report *r, const thinker_case *t, const answer_run *together)
{
    char first[256];
    int64_t n;
    if (together->generation.finish == FINISH_FAILED) {
        report_fault(r, t->files.name, together->generation.err.text);
        return;
    }
    int64_t n_differ = count_differences(&t->run, together, &n, first);
    report_texts(r, t->files.name, "same bits in a batch", n, n_differ, first);
}

static flo_code run_batch(thinker_section *s, flo_err *err)
{
    answer_run *runs = calloc(s->n_batch, sizeof *runs);
    answer_run *list[BATCH_MAX];
    if (runs == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for a batch");
    }
    for (size_t i = 0; i < s->n_batch; i++) {
        list[i] = &runs[i];
        prepare(s->batch[i], &runs[i], s->v->job);
    }
    flo_code code = answer_run_all(s->v->job, list, s->n_batch, err);
    report_line(&s->v->report, "  %zu cases as one batch against each by itself", s->n_batch);
    report_text_columns(&s->v->report);
    for (size_t i = 0; i < s->n_batch; i++) {
        if (code == FLO_OK) {
            report_batch(&s->v->report, s->batch[i], &runs[i]);
        }
        answer_run_free(&runs[i]);
    }
    free(runs);
    return code;
}

static flo_code run_section(verify *v, const char *name, flo_err *err)
{
    thinker_section s = {.v = v};
    flo_code code = verify_path(s.folder, v->golden, name, err);
    if (code == FLO_OK) {
        report_tensor_columns(&v->report);
        code = verify_cases(&v->report, s.folder, run_case, &s, err);
    }
    if (code == FLO_OK && s.n_batch > 1) {
        code = run_batch(&s, err);
    }
    for (size_t i = 0; i < s.n_batch; i++) {
        free_case(s.batch[i]);
    }
    return code;
}

flo_code verify_thinker(verify *v, flo_err *err)
{
    return run_section(v, "thinker", err);
}

flo_code verify_audio(verify *v, flo_err *err)
{
    return run_section(v, "audio", err);
}

flo_code verify_image(verify *v, flo_err *err)
{
    return run_section(v, "image", err);
}

flo_code verify_video(verify *v, flo_err *err)
{
    return run_section(v, "video", err);
}

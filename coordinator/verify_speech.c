/*
 * verify_speech.c - spoken answers, from the prompt to the samples, held against the reference.
 *
 * A case is one answer as a request has it: greedy text, greedy talker, greedy code predictor,
 * sound in the reference's cuts. Its session tells what the talker computes on the way.
 */
#include "coordinator/verify_sections.h"

#include "common/json.h"
#include "common/wav.h"
#include "coordinator/request_options.h"
#include "coordinator/row_store.h"
#include "coordinator/speech/speech_desk.h"
#include "coordinator/verify_answer.h"
#include "coordinator/verify_media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct speech_case {
    verify *v;
    const verify_case *files;
    case_media media;
    prompt prompt;
    speech_prompt talker;
    speech_order order;
    answer_run text; /* the thinker's side */
    int64_t text_max;
    row_store rows; /* what the session told, and "wav" */
    dump_sink sink;
    bool opened, spoken;
    flo_code code; /* of keeping its sound */
    flo_err err;
} speech_case;

typedef struct speech_section {
    verify *v;
    char folder[VERIFY_PATH_MAX];
} speech_section;

/* --- what is asked -----------------------------------------------------------------------------
 */

static flo_code read_numbers(speech_case *s, flo_err *err)
{
    const cJSON *inputs = s->files->inputs;
    speech_how *how = &s->order.how;
    int64_t cut = CUT_FRAMES, context = CUT_CONTEXT_FRAMES, frames = 4096;
    s->text_max = 1024;
    how->repetition_penalty = 1.05;
    flo_code code = request_number(inputs, "talker_repetition_penalty", 1e-6, 1e6,
                                   &how->repetition_penalty, err);
    code = code == FLO_OK
               ? request_integer(inputs, "talker_max_new_tokens", 1, 1 << 20, &frames, err)
               : code;
    code = code == FLO_OK
               ? request_integer(inputs, "thinker_max_new_tokens", 1, INT32_MAX, &s->text_max, err)
               : code;
    code = code == FLO_OK ? request_integer(inputs, "chunk_size", 1, INT32_MAX, &cut, err) : code;
    code = code == FLO_OK
               ? request_integer(inputs, "left_context_size", 0, INT32_MAX, &context, err)
               : code;
    if (code == FLO_OK && (cut != CUT_FRAMES || context != CUT_CONTEXT_FRAMES)) {
        code = flo_fail(err, FLO_FAIL,
                        "only cases in cuts of %d frames with %d before them can be run",
                        CUT_FRAMES, CUT_CONTEXT_FRAMES);
    }
    how->max_new_tokens = (int32_t)frames;
    return code;
}

static flo_code read_how(speech_case *s, flo_err *err)
{
    const cJSON *name = json_given(s->files->inputs, "speaker");
    const speaker *who =
        cJSON_IsString(name) ? model_speaker(&s->v->job->model, name->valuestring) : NULL;
    if (who == NULL) {
        return flo_fail(err, FLO_FAIL, "the case names no speaker that this job's model has");
    }
    if (!cJSON_IsFalse(json_given(s->files->inputs, "talker_do_sample"))) {
        return flo_fail(err, FLO_FAIL, "only greedy cases can be run");
    }
    s->order.how = (speech_how){.speaker_code = who->id, .exact = true, .greedy = true, .top_p = 1};
    return read_numbers(s, err);
}

static flo_code make_prompts(speech_case *s, const char *folder, flo_err *err)
{
    job *j = s->v->job;
    const cJSON *text = json_given(s->files->inputs, "text");
    flo_code code = case_media_prepare(&s->media, j, s->files, folder, err);
    if (code != FLO_OK) {
        return code;
    }
    if (cJSON_IsString(text) && j->tokenizer != NULL) {
        s->prompt.text = json_string_copy(text, &s->prompt.text_bytes);
    } else {
        code = verify_case_ids(&s->prompt.ids, &s->prompt.n, s->files, "input_ids", err);
    }
    code = code == FLO_OK
               ? prompt_lay_out(&s->prompt, &j->model, j->tokenizer, s->media.order.set, err)
               : code;
    code = code == FLO_OK ? case_media_encode(&s->media, err) : code;
    if (code == FLO_OK && s->media.order.set != NULL) {
        code = prompt_take_rows(&s->prompt, s->media.order.set, err);
    }
    return code == FLO_OK ? speech_prompt_make(&s->talker, &s->prompt, s->media.order.set,
                                               &j->model, s->order.how.speaker_code, err)
                          : code;
}

/* --- the answer --------------------------------------------------------------------------------
 */

static void on_opened(speech_order *o)
{
    ((speech_case *)o->owner)->opened = true;
}

static void on_sound(speech_order *o, const float *samples, int32_t n)
{
    speech_case *s = o->owner;
    flo_err err;
    flo_code code = row_store_append(&s->rows, "wav", n, samples, &err);
    if (code != FLO_OK && s->code == FLO_OK) {
        s->code = code;
        s->err = err;
    }
}

static void on_spoken(speech_order *o)
{
    ((speech_case *)o->owner)->spoken = true;
}

/* Hands on what has been written since. */
static void hand_on(speech_case *s)
{
    const generation *g = &s->text.generation;
    bool done = s->text.done;
    if (!s->spoken) {
        speech_desk_text(s->v->job->speech_desk, &s->order, g->ids, g->n_ids, done,
                         done && g->finish == FINISH_STOP);
    }
}

static flo_code wait_for(speech_case *s, const bool *first, const bool *second, flo_err *err)
{
    int32_t n_handed = 0;
    bool told_end = false;
    while (!*first || !*second) {
        bool busy;
        flo_code code = job_poll(s->v->job, &busy, err);
        if (code != FLO_OK) {
            return code;
        }
        if (s->opened && (s->text.generation.n_ids > n_handed || (s->text.done && !told_end))) {
            n_handed = s->text.generation.n_ids;
            told_end = s->text.done;
            hand_on(s);
        }
        transport_pause(s->v->job->transport, busy);
    }
    return FLO_OK;
}

static flo_code speak(speech_case *s, bool *fatal, flo_err *err)
{
    job *j = s->v->job;
    s->sink = row_store_sink(&s->rows);
    s->order.prompt = &s->talker;
    s->order.dump = &s->sink;
    s->order.owner = s;
    s->order.on_opened = on_opened;
    s->order.on_sound = on_sound;
    s->order.on_done = on_spoken;
    answer_run_init(&s->text, j, &s->prompt, (int32_t)s->text_max, 1, true);
    flo_code code = speech_desk_open(j->speech_desk, &s->order, err);
    if (code != FLO_OK) {
        return code;
    }
    code = wait_for(s, &s->opened, &s->opened, err);
    if (code == FLO_OK) {
        s->text.generation.speech = s->order.session;
        s->text.generation.speech_rows = s->talker.hidden_rows;
        s->text.generation.n_speech_rows = s->talker.n_hidden;
        answer_run_submit(j, &s->text);
        code = wait_for(s, &s->text.done, &s->spoken, err);
    }
    *fatal = code != FLO_OK;
    if (code == FLO_OK && s->text.generation.finish == FINISH_FAILED) {
        *err = s->text.generation.err;
        return s->text.generation.code;
    }
    if (code == FLO_OK && s->code != FLO_OK) {
        *err = s->err;
        return s->code;
    }
    return code;
}

/* --- comparing ---------------------------------------------------------------------------------
 */

static flo_code compare_list(speech_case *s, const char *name, const int32_t *ids, int32_t n,
                             flo_err *err)
{
    tensor_view got = {.dtype = DTYPE_I32, .n_dims = 1, .shape = {n}, .data = ids};
    return verify_case_compare(&s->v->report, s->files, name, &got, err);
}

static flo_code compare_codes(speech_case *s, const char *name, flo_err *err)
{
    int32_t groups = s->v->job->model.talker.n_code_groups, n = s->order.n_frames;
    int32_t *across = malloc((size_t)groups * (size_t)n * sizeof *across + 1);
    if (across == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for codes");
    }
    for (int32_t f = 0; f < n; f++) {
        for (int32_t g = 0; g < groups; g++) {
            across[(int64_t)g * n + f] = s->order.codes[(int64_t)f * groups + g];
        }
    }
    tensor_view got = {.dtype = DTYPE_I32, .n_dims = 2, .shape = {groups, n}, .data = across};
    flo_code code = verify_case_compare(&s->v->report, s->files, name, &got, err);
    free(across);
    return code;
}

static flo_code compare_positions(speech_case *s, const char *name, flo_err *err)
{
    const speech_prompt *p = &s->talker;
    float next[3] = {p->next_position, p->next_position, p->next_position};
    bool all = strcmp(name, "talker_position_ids") == 0;
    tensor_view got = {.dtype = DTYPE_F32,
                       .n_dims = 2,
                       .shape = {3, all ? p->n_rows : 1},
                       .data = all ? p->axes : next};
    return verify_case_compare(&s->v->report, s->files, name, &got, err);
}

/* States of the accept layer (behind the final norm, where that is the last) at the media's rows.
 */
static flo_code compare_hidden(speech_case *s, const char *name, flo_err *err)
{
    const model_config *m = &s->v->job->model;
    char layer[32] = "hidden.norm";
    if (m->talker.accept_hidden_layer < m->text.n_layers) {
        snprintf(layer, sizeof layer, "hidden.%d", m->talker.accept_hidden_layer);
    }
    const named_rows *all = row_store_find(&s->text.kept, layer);
    if (all == NULL) {
        return flo_fail(err, FLO_FAIL, "this job's prompt pass made no %s", layer);
    }
    size_t columns = (size_t)all->columns, n = (size_t)s->talker.n_hidden;
    float *rows = malloc(n * columns * sizeof *rows + 1);
    if (rows == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for hidden states");
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(rows + i * columns,
               (const float *)all->data + (size_t)s->talker.hidden_rows[i] * columns,
               columns * sizeof *rows);
    }
    tensor_view got = {
        .dtype = DTYPE_F32, .n_dims = 2, .shape = {(int64_t)n, (int64_t)columns}, .data = rows};
    flo_code code = verify_case_compare(&s->v->report, s->files, name, &got, err);
    free(rows);
    return code;
}

static bool is_flat(const char *name)
{
    return strstr(name, ".last_hidden") != NULL || strstr(name, ".logits") != NULL ||
           strcmp(name, "tts_pad_embed") == 0 || strcmp(name, "first_codes") == 0 ||
           strcmp(name, "wav") == 0;
}

/* What the session told, under the reference's names. */
static flo_code compare_told(speech_case *s, const char *name, bool *known, flo_err *err)
{
    const named_rows *rows = row_store_find(&s->rows, name);
    *known = rows != NULL;
    if (!*known) {
        return FLO_OK;
    }
    tensor_view got = named_rows_view(rows, is_flat(name));
    return verify_case_compare(&s->v->report, s->files, name, &got, err);
}

static flo_code compare_one(speech_case *s, const char *name, bool *known, flo_err *err)
{
    const generation *g = &s->text.generation;
    *known = true;
    if (strcmp(name, "input_ids") == 0) {
        return compare_list(s, name, s->prompt.ids, s->prompt.n, err);
    }
    if (strcmp(name, "thinker_new_ids") == 0) {
        return compare_list(s, name, g->ids, g->n_ids, err);
    }
    if (strcmp(name, "talker_prefill_ids") == 0) {
        return compare_list(s, name, s->talker.ids, s->talker.n_rows, err);
    }
    if (strcmp(name, "talker_position_ids") == 0 || strcmp(name, "talker_step1_position") == 0) {
        return compare_positions(s, name, err);
    }
    if (strcmp(name, "codes") == 0) {
        return compare_codes(s, name, err);
    }
    if (strcmp(name, "media_hidden") == 0) {
        return compare_hidden(s, name, err);
    }
    return compare_told(s, name, known, err);
}

static void compare_all(speech_case *s)
{
    const cJSON *spec;
    cJSON_ArrayForEach(spec, s->files->tensors)
    {
        bool known;
        flo_err err;
        flo_code code = compare_one(s, spec->string, &known, &err);
        if (!known) {
            report_alone(&s->v->report, spec->string, 1);
        }
        if (code != FLO_OK) {
            report_fault(&s->v->report, s->files->name, err.text);
        }
    }
}

/* --- is it this model? -------------------------------------------------------------------------
 */

/* True, and a sentence, where the case was made with a talker of another shape. */
static bool other_model(const speech_case *s, flo_err *err)
{
    const checkpoint_tensor *codes = checkpoint_find(s->files->file, "codes");
    const checkpoint_tensor *rows = checkpoint_find(s->files->file, "talker_prefill_embeds");
    const talker_config *t = &s->v->job->model.talker;
    bool other = (codes != NULL && codes->n_dims == 2 && codes->shape[0] != t->n_code_groups) ||
                 (rows != NULL && rows->n_dims == 2 && rows->shape[1] != t->hidden_size);
    if (other) {
        flo_fail(err, FLO_DIFFERS,
                 "%s was made by a talker of another width or of other groups of codes than this "
                 "job's; the reference data are of another checkpoint, name that with --model",
                 s->files->name);
    }
    return other;
}

/* --- a case ------------------------------------------------------------------------------------
 */

static void free_case(speech_case *s)
{
    answer_run_free(&s->text);
    speech_order_clear(&s->order);
    speech_prompt_free(&s->talker);
    prompt_free(&s->prompt);
    case_media_free(&s->media);
    row_store_free(&s->rows);
    free(s);
}

static flo_code run_case(void *arg, verify_case *c, bool *fatal, flo_err *err)
{
    speech_section *section = arg;
    speech_case *s = calloc(1, sizeof *s);
    if (s == NULL) {
        *fatal = true;
        return flo_fail(err, FLO_FAIL, "out of memory for a case");
    }
    s->v = section->v;
    s->files = c;
    if (other_model(s, err)) {
        report_not_run(&s->v->report, err->text);
        free_case(s);
        return FLO_OK;
    }
    flo_code code = read_how(s, err);
    if (code == FLO_OK) {
        code = make_prompts(s, section->folder, err);
        *fatal = s->v->job->broken != FLO_OK;
    }
    if (code == FLO_OK) {
        code = speak(s, fatal, err);
    }
    if (code == FLO_OK) {
        compare_all(s);
    }
    free_case(s);
    return code;
}

flo_code verify_speech(verify *v, flo_err *err)
{
    speech_section s = {.v = v};
    if (plan_talker_worker(&v->job->plan) == NULL) {
        report_not_run(&v->report, "this job does not speak: --no-speech, or a checkpoint without "
                                   "a talker");
        return FLO_OK;
    }
    flo_code code = verify_path(s.folder, v->golden, "speech", err);
    if (code == FLO_OK) {
        report_tensor_columns(&v->report);
        code = verify_cases(&v->report, s.folder, run_case, &s, err);
    }
    return code;
}

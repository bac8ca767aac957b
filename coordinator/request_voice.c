/*
 * request_voice.c - the numbers of "speech", and the order at the speech desk.
 */
#include "coordinator/request_voice.h"

#include "common/json.h"
#include "common/wav.h"
#include "coordinator/request_options.h"

#include <stdio.h>
#include <string.h>

enum { MAX_NEW_DEFAULT = 4096, MAX_NEW_MOST = 1 << 20, TOP_K_DEFAULT = 50 };

/* Of a request's seed: speech must not draw what the text has drawn. */
static const uint64_t seed_salt = 0x5be4c4a1d7f03e29u;

/* --- what is asked -----------------------------------------------------------------------------
 */

static flo_code check_keys(const cJSON *speech, flo_err *err)
{
    static const char *const known[] = {
        "speaker", "mode",   "temperature",        "top_k",
        "top_p",   "greedy", "repetition_penalty", "max_new_tokens"};
    const cJSON *item;
    if (!cJSON_IsObject(speech)) {
        return flo_fail(err, FLO_USAGE, "\"speech\" must be an object");
    }
    cJSON_ArrayForEach(item, speech)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            found = found || strcmp(item->string, known[i]) == 0;
        }
        if (!found) {
            return flo_fail(err, FLO_USAGE, "\"speech\" has the key \"%s\", which is not known",
                            item->string);
        }
    }
    return FLO_OK;
}

static flo_code unknown_speaker(const model_config *m, const char *name, flo_err *err)
{
    char known[MODEL_SPEAKERS_MAX * (sizeof m->speakers[0].name + 2)];
    size_t n = 0;
    known[0] = '\0';
    for (int32_t i = 0; i < m->n_speakers; i++) {
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i > 0 ? ", " : "",
                              m->speakers[i].name);
    }
    return flo_fail(err, FLO_USAGE, "the model has no speaker \"%.60s\"; it has %s", name,
                    m->n_speakers > 0 ? known : "none");
}

static flo_code take_speaker(speech_how *how, const model_config *m, const cJSON *speech,
                             flo_err *err)
{
    const cJSON *item = json_given(speech, "speaker");
    if (item != NULL && !cJSON_IsString(item)) {
        return flo_fail(err, FLO_USAGE, "speaker must be a name");
    }
    const char *name = item != NULL ? item->valuestring : SPEAKER_DEFAULT;
    const speaker *who = model_speaker(m, name);
    if (who == NULL) {
        return unknown_speaker(m, name, err);
    }
    how->speaker_code = who->id;
    return FLO_OK;
}

static flo_code take_mode(speech_how *how, const cJSON *speech, flo_err *err)
{
    const cJSON *mode = json_given(speech, "mode"), *greedy = json_given(speech, "greedy");
    const char *name = cJSON_IsString(mode) ? mode->valuestring : mode == NULL ? "seamless" : "";
    how->exact = strcmp(name, "exact") == 0;
    if (!how->exact && strcmp(name, "seamless") != 0) {
        return flo_fail(err, FLO_USAGE, "mode of \"speech\" must be \"exact\" or \"seamless\"");
    }
    if (greedy != NULL && !cJSON_IsBool(greedy)) {
        return flo_fail(err, FLO_USAGE, "greedy of \"speech\" must be true or false");
    }
    how->greedy = cJSON_IsTrue(greedy);
    return FLO_OK;
}

static flo_code take_numbers(speech_how *how, const cJSON *speech, flo_err *err)
{
    int64_t top_k = TOP_K_DEFAULT, max_new = MAX_NEW_DEFAULT;
    how->temperature = 0.9;
    how->top_p = 1;
    how->repetition_penalty = 1.05;
    flo_code code = request_number(speech, "temperature", 0, 1e6, &how->temperature, err);
    code = code == FLO_OK ? request_number(speech, "top_p", 0, 1, &how->top_p, err) : code;
    code = code == FLO_OK ? request_number(speech, "repetition_penalty", 1e-6, 1e6,
                                           &how->repetition_penalty, err)
                          : code;
    code = code == FLO_OK ? request_integer(speech, "top_k", 0, INT32_MAX, &top_k, err) : code;
    code = code == FLO_OK
               ? request_integer(speech, "max_new_tokens", 1, MAX_NEW_MOST, &max_new, err)
               : code;
    if (code != FLO_OK) {
        flo_context(err, "\"speech\""); /* the text has numbers of the same names */
    }
    how->top_k = (int32_t)top_k;
    how->max_new_tokens = (int32_t)max_new;
    return code;
}

flo_code request_voice_take(request_voice *v, const job *j, const cJSON *body, uint64_t seed,
                            flo_err *err)
{
    const cJSON *speech = json_given(body, "speech");
    if (speech == NULL) {
        return FLO_OK;
    }
    flo_code code = check_keys(speech, err);
    if (code == FLO_OK && !j->model.has_talker) {
        code = flo_fail(err, FLO_USAGE, "the model has no talker: it writes, but does not speak");
    }
    if (code == FLO_OK && plan_talker_worker(&j->plan) == NULL) {
        code = flo_fail(err, FLO_USAGE,
                        "the request asks for speech, and this job was started with --no-speech");
    }
    code = code == FLO_OK ? take_speaker(&v->how, &j->model, speech, err) : code;
    code = code == FLO_OK ? take_mode(&v->how, speech, err) : code;
    code = code == FLO_OK ? take_numbers(&v->how, speech, err) : code;
    v->how.seed = seed ^ seed_salt;
    v->wanted = code == FLO_OK;
    return code;
}

/* --- the session -------------------------------------------------------------------------------
 */

/* A session tells all that verification asks for; a dump has this much of it. */
static flo_code keep_rows(void *arg, const char *name, int32_t first, int32_t n_rows,
                          int32_t columns, bool is_ids, const void *data, flo_err *err)
{
    bool kept =
        strcmp(name, "talker_prefill_embeds") == 0 || strcmp(name, "trailing_text_hidden") == 0;
    return kept ? row_store_take(arg, name, first, n_rows, columns, is_ids, data, err) : FLO_OK;
}

flo_code request_voice_open(request_voice *v, job *j, const prompt *p, const media_set *media,
                            bool with_dump, flo_err *err)
{
    flo_code code = speech_prompt_make(&v->prompt, p, media, &j->model, v->how.speaker_code, err);
    if (code != FLO_OK) {
        return code;
    }
    v->sink = (dump_sink){.arg = &v->rows, .rows = keep_rows};
    v->order.prompt = &v->prompt;
    v->order.how = v->how;
    v->order.dump = with_dump ? &v->sink : NULL;
    code = speech_desk_open(j->speech_desk, &v->order, err);
    v->is_open = code == FLO_OK;
    return code;
}

/* The last id is not the end of the answer: another will follow. */
static bool goes_on(const generation *g)
{
    for (int32_t i = 0; i < g->n_stop; i++) {
        if (g->ids[g->n_ids - 1] == g->stop_ids[i]) {
            return false;
        }
    }
    return g->n_ids < g->max_new;
}

/* What follows is settled by its coming, not by what it is: the talker need not wait for it. */
void request_voice_text(request_voice *v, job *j, const generation *g, bool done)
{
    if (v->is_open) {
        int32_t n = g->n_ids + (!done && goes_on(g) ? 1 : 0);
        speech_desk_text(j->speech_desk, &v->order, g->ids, n, done,
                         done && g->finish == FINISH_STOP);
    }
}

/* --- what is told ------------------------------------------------------------------------------
 */

static void put_integer(buffer *b, const char *before, int64_t n)
{
    buffer_append_text(b, before);
    json_put_integer(b, n);
}

/* "length": the talker has had all its draws, and was not done, or just so. */
static finish_reason end_of(const speech_order *o, bool cancelled)
{
    bool all = o->session != 0 && o->n_frames + 1 >= o->how.max_new_tokens;
    return cancelled ? FINISH_CANCELLED : all ? FINISH_LENGTH : FINISH_STOP;
}

void request_voice_put(const request_voice *v, const job *j, bool cancelled, buffer *b)
{
    const speech_order *o = &v->order;
    int32_t groups = j->model.talker.n_code_groups;
    put_integer(b, ", \"speech\": {\"sample_rate\": ", SPEECH_SAMPLE_RATE);
    put_integer(b, ", \"samples\": ", o->n_samples);
    put_integer(b, ", \"frames\": ", o->n_frames);
    buffer_append_text(b, ", \"finish_reason\": \"");
    buffer_append_text(b, finish_reason_name(end_of(o, cancelled)));
    buffer_append_text(b, "\", \"codes\": [");
    for (int32_t f = 0; f < o->n_frames; f++) {
        for (int32_t g = 0; g < groups; g++) {
            put_integer(b, g > 0 ? ", " : f > 0 ? ", [" : "[", o->codes[(int64_t)f * groups + g]);
        }
        buffer_append_text(b, "]");
    }
    buffer_append_text(b, "]}");
}

void request_voice_free(request_voice *v)
{
    speech_order_clear(&v->order);
    speech_prompt_free(&v->prompt);
    row_store_free(&v->rows);
}

/*
 * request.c - the life of a request: body, media, prompt, answer.
 */
#include "coordinator/request.h"

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "coordinator/request_media.h"
#include "coordinator/request_options.h"
#include "coordinator/request_prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- while it runs -----------------------------------------------------------------------------
 */

static void put_text(request *r, const char *text, size_t n_bytes)
{
    if (n_bytes == 0) {
        return;
    }
    buffer_append(&r->text, text, n_bytes);
    if (r->ends.delta != NULL) {
        r->ends.delta(r->ends.arg, r, text, n_bytes);
    }
}

static void on_token(generation *g, int32_t id)
{
    request *r = g->owner;
    const char *text;
    size_t n_bytes;
    flo_err err;
    request_voice_text(&r->voice, r->job, g, false);
    if (r->detokenizer == NULL) {
        return;
    }
    /* Ids past the tokenizer's have rows in the head but no text. */
    if (detokenizer_push(r->detokenizer, id, &text, &n_bytes, &err) == FLO_OK) {
        put_text(r, text, n_bytes);
    } else {
        log_debug("%s", err.text);
    }
}

/* The request is over when its text is and its voice, whichever comes last. */
static void end_if_over(request *r)
{
    if (r->text_over && !r->voice.is_open) {
        r->ends.done(r->ends.arg, r);
    }
}

static void on_done(generation *g)
{
    request *r = g->owner;
    const char *text;
    size_t n_bytes;
    flo_err err;
    if (r->detokenizer != NULL &&
        detokenizer_flush(r->detokenizer, &text, &n_bytes, &err) == FLO_OK) {
        put_text(r, text, n_bytes);
    }
    bool spoken = r->voice.is_open;
    bool said = g->finish == FINISH_STOP || g->finish == FINISH_LENGTH;
    r->text_over = true;
    if (!spoken) {
        end_if_over(r);
    } else if (said) {
        request_voice_text(&r->voice, r->job, g, true); /* may end the request */
    } else {
        speech_desk_cancel(r->job->speech_desk, &r->voice.order);
    }
}

/* --- its media ---------------------------------------------------------------------------------
 */

/* Ends a request that the scheduler does not have. */
static void end(request *r, finish_reason reason, flo_code code, const flo_err *err)
{
    generation *g = &r->generation;
    g->state = GEN_DONE;
    g->finish = reason;
    g->code = code;
    if (err != NULL) {
        g->err = *err;
    }
    g->done_s = clock_s();
    on_done(g);
}

static flo_code open_dump(request *r, flo_err *err)
{
    const prompt *p = &r->prompt;
    if (r->dump_path == NULL || p->n == 0 || p->n > r->job->plan.kv_tokens) {
        return FLO_OK; /* the scheduler refuses such prompts with the right words */
    }
    float levels[3][256];
    preprocessor_levels(levels, &r->job->preprocessor);
    flo_code code = dump_file_new(&r->dump, r->dump_path, &r->job->model, p, r->media.set, levels,
                                  r->voice.wanted, err);
    if (code == FLO_OK) {
        r->generation.dump = dump_file_sink(r->dump);
    }
    return code;
}

static flo_code submit_text(request *r, flo_err *err)
{
    flo_code code = scheduler_submit(r->job->scheduler, &r->generation, err);
    if (code == FLO_OK && r->media.set != NULL) {
        media_set_free_inputs(r->media.set);
    }
    return code;
}

/* --- its voice ---------------------------------------------------------------------------------
 */

/* The talker listens: now the text may be made. One that is at hand already is all handed on. */
static void on_voice_opened(speech_order *o)
{
    request *r = o->owner;
    generation *g = &r->generation;
    flo_err err;
    if (r->text_over) {
        request_voice_text(&r->voice, r->job, g, true);
        return;
    }
    g->speech = o->session;
    g->speech_rows = r->voice.prompt.hidden_rows;
    g->n_speech_rows = o->session != 0 ? r->voice.prompt.n_hidden : 0;
    flo_code code = submit_text(r, &err);
    if (code != FLO_OK) {
        end(r, FINISH_FAILED, code, &err);
    }
}

static void on_voice_sound(speech_order *o, const float *samples, int32_t n)
{
    request *r = o->owner;
    flo_err err;
    if (r->ends.sound != NULL) {
        r->ends.sound(r->ends.arg, r, samples, n);
    }
    if (r->dump != NULL && row_store_append(&r->voice.rows, "wav", n, samples, &err) != FLO_OK) {
        log_warn("%s", err.text); /* the dump will be refused for it */
    }
}

static void on_voice_done(speech_order *o)
{
    request *r = o->owner;
    generation *g = &r->generation;
    r->voice.is_open = false;
    r->voice.over = true;
    r->voice.done_s = clock_s();
    if (!r->text_over && g->state == GEN_NEW) { /* cancelled before its text was begun */
        end(r, FINISH_CANCELLED, FLO_OK, NULL);
        return;
    }
    end_if_over(r);
}

static flo_code open_voice(request *r, flo_err *err)
{
    r->voice.order.owner = r;
    r->voice.order.on_opened = on_voice_opened;
    r->voice.order.on_sound = on_voice_sound;
    r->voice.order.on_done = on_voice_done;
    return request_voice_open(&r->voice, r->job, &r->prompt, r->media.set, r->dump != NULL, err);
}

/* The prompt is whole: to the talker first, where the answer is spoken, else to the scheduler. */
static flo_code submit(request *r, flo_err *err)
{
    flo_code code = r->media.set != NULL ? prompt_take_rows(&r->prompt, r->media.set, err) : FLO_OK;
    if (code == FLO_OK) {
        code = open_dump(r, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    prompt_give(&r->prompt, &r->generation);
    return r->voice.wanted ? open_voice(r, err) : submit_text(r, err);
}

/* A text that is at hand is an answer that is over: its ids, and the stop id behind them. */
static flo_code take_given_text(request *r, const char *text, size_t n_bytes, flo_err *err)
{
    generation *g = &r->generation;
    size_t n;
    flo_code code = tokenizer_encode(r->job->tokenizer, text, n_bytes, true, &g->ids, &n, err);
    if (code != FLO_OK) {
        return code;
    }
    int32_t *more = realloc(g->ids, (n + 1) * sizeof *more);
    if (more == NULL || n >= INT32_MAX) {
        return flo_fail(err, FLO_FAIL, "out of memory for the text");
    }
    buffer_append(&r->text, text, n_bytes);
    g->ids = more;
    g->ids[n] = r->job->model.tokens.im_end;
    g->n_ids = (int32_t)n + 1;
    g->max_new = g->n_ids;
    g->logprobs = -1;
    g->finish = FINISH_STOP;
    g->state = GEN_DONE;
    g->submitted_s = g->prompt_s = g->first_token_s = g->done_s = clock_s();
    r->text_over = true;
    return FLO_OK;
}

static void on_progress(media_order *o, double share)
{
    request *r = o->owner;
    const media_set *s = o->set;
    const char *folders = strrchr(s->items[0].name, '/');
    const char *name = folders != NULL ? folders + 1 : s->items[0].name;
    char what[sizeof s->items[0].name + 64];
    if (r->ends.stage != NULL) {
        snprintf(what, sizeof what, s->n == 1 ? "encoding %s" : "encoding %s and %d more", name,
                 s->n - 1);
        r->ends.stage(r->ends.arg, r, what, share);
    }
}

static void on_encoded(media_order *o)
{
    request *r = o->owner;
    flo_err err;
    r->encoded_s = clock_s();
    if (o->told_share > 0) {
        on_progress(o, 1); /* takes the bar away */
    }
    flo_code code = submit(r, &err);
    if (code != FLO_OK) {
        end(r, FINISH_FAILED, code, &err);
    }
}

static flo_code check_room(const request *r, flo_err *err)
{
    int64_t room = r->job->plan.kv_tokens;
    return r->prompt.n <= room
               ? FLO_OK
               : flo_fail(err, FLO_USAGE,
                          "the prompt has %d tokens with its media, the KV cache holds %lld; give "
                          "fewer or smaller media, or start with a larger --kv-tokens",
                          r->prompt.n, (long long)room);
}

static void on_prepared(media_order *o, flo_code code, const flo_err *why)
{
    request *r = o->owner;
    flo_err err = *why;
    r->prepared_s = clock_s();
    if (code == FLO_OK) {
        code = prompt_lay_out(&r->prompt, &r->job->model, r->job->tokenizer, o->set, &err);
    }
    if (code == FLO_OK) {
        code = check_room(r, &err);
    }
    if (code == FLO_OK) {
        code = media_desk_encode(r->job->desk, o, &err); /* may be done within the call */
    }
    if (code != FLO_OK) {
        end(r, FINISH_FAILED, code, &err);
    }
}

static flo_code start_media(request *r, media_set *s, bool local_files, flo_err *err)
{
    if (r->job->options.no_media) {
        media_set_free(s);
        return flo_fail(err, FLO_USAGE,
                        "the request has a medium, and this job was started with --no-media");
    }
    r->media =
        (media_order){.set = s,
                      .rules = {.files = local_files, .urls = r->job->options.allow_media_urls},
                      .owner = r,
                      .waits_for_room = true,
                      .on_prepared = on_prepared,
                      .on_encoded = on_encoded,
                      .on_progress = on_progress};
    return media_desk_prepare(r->job->desk, &r->media, err);
}

/* --- starting ----------------------------------------------------------------------------------
 */

static flo_code parse_body(cJSON **out, const char *body, size_t n_bytes, flo_err *err)
{
    flo_code code = json_parse_request(out, body, n_bytes, err);
    if (code != FLO_OK) {
        flo_context(err, "the request");
        return code;
    }
    code = request_keys_check(*out, err);
    const cJSON *options = json_given(*out, "template_options"), *tools = json_given(*out, "tools");
    if (code == FLO_OK && options != NULL && !cJSON_IsObject(options)) {
        code = flo_fail(err, FLO_USAGE, "template_options must be an object");
    }
    if (code == FLO_OK && tools != NULL && !cJSON_IsArray(tools)) {
        code = flo_fail(err, FLO_USAGE, "tools must be a list");
    }
    if (code != FLO_OK) {
        cJSON_Delete(*out);
    }
    return code;
}

/* A prompt of text goes to the scheduler at once, one with media to the desk. */
static flo_code set_going(request *r, const cJSON *root, const request_from *from, flo_err *err)
{
    media_set *s;
    flo_code code = request_media_take(&s, root, err);
    if (code != FLO_OK) {
        return code;
    }
    if (s != NULL) {
        return start_media(r, s, from->local_files, err);
    }
    code = prompt_lay_out(&r->prompt, &r->job->model, r->job->tokenizer, NULL, err);
    return code == FLO_OK ? submit(r, err) : code;
}

/* "speak": the talker says a text as the assistant's answer; the thinker makes nothing. */
static flo_code set_speaking(request *r, const cJSON *speak, flo_err *err)
{
    size_t n_bytes;
    char *text = json_string_copy(speak, &n_bytes);
    if (text == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the text");
    }
    flo_code code = take_given_text(r, text, n_bytes, err);
    free(text);
    code = code == FLO_OK ? prompt_lay_out(&r->prompt, &r->job->model, r->job->tokenizer, NULL, err)
                          : code;
    if (code == FLO_OK) {
        prompt_give(&r->prompt, &r->generation);
        code = open_voice(r, err);
    }
    return code;
}

static flo_code fill(request *r, const cJSON *root, const char *body, size_t n_bytes,
                     const request_from *from, flo_err *err)
{
    generation *g = &r->generation;
    g->owner = r;
    g->on_token = on_token;
    g->on_done = on_done;
    const cJSON *speak = json_given(root, "speak");
    flo_code code = request_options_take(g, r->job, root, err);
    if (code == FLO_OK) {
        code = request_voice_take(&r->voice, r->job, root, g->sampling.seed, err);
    }
    if (code == FLO_OK && speak != NULL) {
        code = request_prompt_take_spoken(&r->prompt, r->job, root, body, n_bytes, err);
        return code == FLO_OK ? set_speaking(r, speak, err) : code;
    }
    if (code == FLO_OK) {
        code = request_prompt_take(&r->prompt, r->job, root, body, n_bytes, err);
    }
    if (code == FLO_OK && r->job->tokenizer != NULL) {
        code = detokenizer_new(&r->detokenizer, r->job->tokenizer, true, err);
    }
    if (code == FLO_OK && from->dump_path != NULL && from->dump_path[0] != '\0') {
        r->dump_path = strdup(from->dump_path);
        code = r->dump_path != NULL ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory");
    }
    return code == FLO_OK ? set_going(r, root, from, err) : code;
}

flo_code request_start(request **out, job *j, uint64_t id, const char *body, size_t n_bytes,
                       const request_from *from, const request_ends *ends, flo_err *err)
{
    cJSON *root;
    flo_code code = parse_body(&root, body, n_bytes, err);
    if (code != FLO_OK) {
        return code;
    }
    request *r = calloc(1, sizeof *r);
    if (r == NULL) {
        cJSON_Delete(root);
        return flo_fail(err, FLO_FAIL, "out of memory for a request");
    }
    r->job = j;
    r->id = id;
    r->ends = *ends;
    r->started_s = clock_s();
    code = fill(r, root, body, n_bytes, from, err);
    cJSON_Delete(root);
    if (code != FLO_OK) {
        request_free(r);
        return code;
    }
    *out = r;
    return FLO_OK;
}

void request_cancel(request *r)
{
    if (r->generation.state != GEN_NEW && !r->text_over) {
        scheduler_cancel(r->job->scheduler, &r->generation); /* its voice ends with it */
        return;
    }
    if (r->voice.is_open) {
        r->generation.finish = FINISH_CANCELLED;
        speech_desk_cancel(r->job->speech_desk, &r->voice.order);
        return;
    }
    media_desk_drop(r->job->desk, &r->media);
    end(r, FINISH_CANCELLED, FLO_OK, NULL);
}

void request_free(request *r)
{
    if (r == NULL) {
        return;
    }
    if (r->media.set != NULL) {
        media_desk_drop(r->job->desk, &r->media);
    }
    dump_file_abandon(r->dump);
    detokenizer_free(r->detokenizer);
    generation_clear(&r->generation);
    request_voice_free(&r->voice);
    buffer_free(&r->text);
    buffer_free(&r->sound);
    prompt_free(&r->prompt);
    free(r->dump_path);
    free(r);
}

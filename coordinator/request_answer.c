/*
 * request_answer.c - the JSON document of an answer.
 */
#include "coordinator/request.h"

#include "common/json.h"
#include "common/process.h"

#include <stdio.h>
#include <string.h>

static void put_ids(buffer *b, const char *name, const int32_t *ids, int32_t n)
{
    buffer_append_text(b, "\"");
    buffer_append_text(b, name);
    buffer_append_text(b, "\": [");
    for (int32_t i = 0; i < n; i++) {
        buffer_append_text(b, i > 0 ? ", " : "");
        json_put_integer(b, ids[i]);
    }
    buffer_append_text(b, "]");
}

static void put_real(buffer *b, const char *format, double value)
{
    char text[64];
    snprintf(text, sizeof text, format, value);
    buffer_append_text(b, text);
}

static void put_logprobs(buffer *b, const generation *g)
{
    buffer_append_text(b, ", \"logprobs\": [");
    for (int32_t i = 0; i < g->n_ids; i++) {
        const token_logprob *t = &g->tokens[i];
        buffer_append_text(b, i > 0 ? ", {\"id\": " : "{\"id\": ");
        json_put_integer(b, g->ids[i]);
        put_real(b, ", \"logprob\": %.9g, \"top\": [", (double)t->logprob);
        for (int32_t k = 0; k < t->n_top; k++) {
            buffer_append_text(b, k > 0 ? ", {\"id\": " : "{\"id\": ");
            json_put_integer(b, t->top_ids[k]);
            put_real(b, ", \"logprob\": %.9g}", (double)t->top_logprobs[k]);
        }
        buffer_append_text(b, "]}");
    }
    buffer_append_text(b, "]");
}

static void put_timing(buffer *b, const request *r)
{
    const generation *g = &r->generation;
    double first = g->n_ids > 0 ? g->first_token_s - r->started_s : 0;
    put_real(b, ", \"timing\": {\"load_s\": %.6f", r->job->load_s);
    put_real(b, ", \"first_token_s\": %.6f", first);
    if (r->media.set != NULL) {
        put_real(b, ", \"media_read_s\": %.6f", r->prepared_s - r->started_s);
        put_real(b, ", \"media_encode_s\": %.6f", r->encoded_s - r->prepared_s);
    }
    put_real(b, ", \"prompt_tokens\": %.0f", (double)g->n_prompt);
    put_real(b, ", \"reused_tokens\": %.0f", (double)g->n_reused);
    put_real(b, ", \"prompt_s\": %.6f", g->n_ids > 0 ? g->prompt_s - g->submitted_s : 0);
    if (r->voice.wanted) {
        double sound = r->voice.order.first_sound_s;
        put_real(b, ", \"first_sound_s\": %.6f", sound > 0 ? sound - r->started_s : 0);
        put_real(b, ", \"speech_s\": %.6f", g->n_ids > 0 ? r->voice.done_s - g->first_token_s : 0);
    }
    put_real(b, ", \"generated_tokens\": %.0f", (double)g->n_ids);
    put_real(b, ", \"generate_s\": %.6f}", g->n_ids > 0 ? g->done_s - g->first_token_s : 0);
}

/* What each medium became. */
static void put_media(buffer *b, const media_set *s)
{
    static const char *const kinds[] = {"image", "audio", "video"};
    buffer_append_text(b, ", \"media\": [");
    for (int32_t i = 0; i < s->n; i++) {
        const media_item *item = &s->items[i];
        buffer_append_text(b, i > 0 ? ", {\"type\": \"" : "{\"type\": \"");
        buffer_append_text(b, kinds[item->kind]);
        buffer_append_text(b, "\", \"name\": ");
        json_put_string(b, item->name, strlen(item->name));
        put_real(b, ", \"tokens\": %.0f}", (double)item->layout.n_tokens);
    }
    put_real(b, "], \"media_jobs\": %.0f", (double)s->n_parts);
    put_real(b, ", \"media_jobs_known\": %.0f", (double)s->n_from_cache);
}

static void put_memory(buffer *b, const job *j)
{
    put_real(b, ", \"memory\": {\"coordinator_rss_bytes\": %.0f, \"workers\": [",
             (double)process_resident_bytes());
    for (int32_t i = 0; i < j->n_workers; i++) {
        const plan_worker *w = &j->plan.workers[i];
        put_real(b, i > 0 ? ", {\"rank\": %.0f" : "{\"rank\": %.0f", (double)w->rank);
        put_real(b, ", \"planned_bytes\": %.0f",
                 (double)(w->weight_bytes + w->kv_bytes + w->work_bytes));
        put_real(b, ", \"rss_bytes\": %.0f}", (double)j->nodes[i].rss_bytes);
    }
    buffer_append_text(b, "]}");
}

flo_code request_answer(request *r, char **json, size_t *n_bytes, flo_err *err)
{
    generation *g = &r->generation;
    flo_code code = FLO_OK;
    if (g->finish == FINISH_FAILED) {
        *err = g->err;
        return g->code;
    }
    if (r->dump != NULL && g->finish != FINISH_CANCELLED) {
        code = r->voice.wanted ? dump_file_speech(r->dump, &r->voice, &r->job->model, err) : FLO_OK;
        if (code == FLO_OK) {
            code = dump_file_finish(r->dump, err);
            r->dump = NULL;
        }
    }
    if (code == FLO_OK) {
        code = job_ask_stats(r->job, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    buffer b = {0};
    buffer_append_text(&b, "{");
    put_ids(&b, "prompt_ids", g->prompt, g->n_prompt);
    buffer_append_text(&b, ", ");
    put_ids(&b, "ids", g->ids, g->n_ids);
    buffer_append_text(&b, ", \"text\": ");
    json_put_string(&b, r->text.at != NULL ? r->text.at : "", r->text.n);
    buffer_append_text(&b, ", \"finish_reason\": \"");
    buffer_append_text(&b, finish_reason_name(g->finish));
    buffer_append_text(&b, "\"");
    if (g->logprobs >= 0) {
        put_logprobs(&b, g);
    }
    if (r->media.set != NULL) {
        put_media(&b, r->media.set);
    }
    if (r->voice.wanted) {
        request_voice_put(&r->voice, r->job, g->finish == FINISH_CANCELLED, &b);
    }
    put_timing(&b, r);
    put_memory(&b, r->job);
    put_real(&b, ", \"plan\": {\"workers\": %.0f", (double)r->job->plan.n_workers);
    put_real(&b, ", \"stages\": %.0f, \"weights\": \"bf16\"}}", (double)r->job->plan.n_stages);
    if (b.failed || r->text.failed) {
        buffer_free(&b);
        return flo_fail(err, FLO_FAIL, "out of memory for the answer");
    }
    *json = buffer_take(&b, n_bytes);
    return *json != NULL ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory for the answer");
}

/*
 * request.c - a body taken apart key by key, the prompt made, the answer written.
 */
#include "coordinator/request.h"

#include "common/json.h"
#include "common/log.h"
#include "common/process.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { MAX_NEW_DEFAULT = 1024, TOP_K_DEFAULT = 50 };

/* A key with null is a key left out, as in OpenAI's clients. */
static const cJSON *given(const cJSON *body, const char *name)
{
    const cJSON *item = json_member(body, name);
    return item == NULL || cJSON_IsNull(item) ? NULL : item;
}

/* --- numbers of the body -----------------------------------------------------------------------
 */

static flo_code take_number(const cJSON *body, const char *name, double min, double max,
                            double *out, flo_err *err)
{
    const cJSON *item = json_member(body, name);
    if (item == NULL || cJSON_IsNull(item)) {
        return FLO_OK;
    }
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= min && item->valuedouble <= max)) {
        return flo_fail(err, FLO_USAGE, "%s must be a number from %g to %g", name, min, max);
    }
    *out = item->valuedouble;
    return FLO_OK;
}

static flo_code take_integer(const cJSON *body, const char *name, int64_t min, int64_t max,
                             int64_t *out, flo_err *err)
{
    const cJSON *item = json_member(body, name);
    if (item == NULL || cJSON_IsNull(item)) {
        return FLO_OK;
    }
    if (!json_integer(item, min, max, out)) {
        return flo_fail(err, FLO_USAGE, "%s must be a whole number from %lld to %lld", name,
                        (long long)min, (long long)max);
    }
    return FLO_OK;
}

/* A seed may use all 64 bits, more than a double of JSON holds: it may come as a string. */
static flo_code take_seed(const cJSON *body, uint64_t *seed, flo_err *err)
{
    const cJSON *item = json_member(body, "seed");
    if (item != NULL && cJSON_IsString(item)) {
        char *end;
        errno = 0;
        unsigned long long value = strtoull(item->valuestring, &end, 10);
        if (item->valuestring[0] < '0' || item->valuestring[0] > '9' || *end != '\0' ||
            errno != 0) {
            return flo_fail(err, FLO_USAGE, "seed must be a whole number of at most 64 bits");
        }
        *seed = value;
        return FLO_OK;
    }
    int64_t number = -1;
    flo_code code = take_integer(body, "seed", 0, (int64_t)1 << 53, &number, err);
    if (code == FLO_OK && number >= 0) {
        *seed = (uint64_t)number;
    } else if (code == FLO_OK && getrandom(seed, sizeof *seed, 0) != sizeof *seed) {
        return flo_fail(err, FLO_FAIL, "the system gives no random seed; give one with --seed");
    }
    return code;
}

/* As in the reference: greedy unless the checkpoint says do_sample or a temperature over 0 is
 * asked, and then top-k is 50 unless said otherwise. */
static flo_code take_sampling(const job *j, const cJSON *body, sampling *s, flo_err *err)
{
    const sampling_defaults *d = &j->defaults;
    double temperature = -1, top_p = -1, min_p = -1, penalty = -1;
    int64_t top_k = -1;
    flo_code code = take_number(body, "temperature", 0, 1e6, &temperature, err);
    code = code == FLO_OK ? take_number(body, "top_p", 0, 1, &top_p, err) : code;
    code = code == FLO_OK ? take_number(body, "min_p", 0, 1, &min_p, err) : code;
    code =
        code == FLO_OK ? take_number(body, "repetition_penalty", 1e-6, 1e6, &penalty, err) : code;
    code = code == FLO_OK ? take_integer(body, "top_k", 0, INT32_MAX, &top_k, err) : code;
    code = code == FLO_OK ? take_seed(body, &s->seed, err) : code;
    if (code != FLO_OK) {
        return code;
    }
    if (temperature < 0) {
        temperature = !d->do_sample ? 0 : d->temperature >= 0 ? d->temperature : 1;
    }
    s->temperature = temperature;
    s->top_k = top_k >= 0 ? (int32_t)top_k : d->top_k >= 0 ? d->top_k : TOP_K_DEFAULT;
    s->top_p = top_p >= 0 ? top_p : d->top_p >= 0 ? d->top_p : 1;
    s->min_p = min_p >= 0 ? min_p : d->min_p >= 0 ? d->min_p : 0;
    s->repetition_penalty = penalty >= 0                 ? penalty
                            : d->repetition_penalty >= 0 ? d->repetition_penalty
                                                         : 1;
    return FLO_OK;
}

/* `logprobs: K` is ours; `logprobs: true` with `top_logprobs: K` is OpenAI's. */
static flo_code take_logprobs(const cJSON *body, int32_t *out, flo_err *err)
{
    const cJSON *item = json_member(body, "logprobs");
    int64_t k = -1;
    flo_code code = FLO_OK;
    if (item != NULL && cJSON_IsBool(item)) {
        k = cJSON_IsTrue(item) ? 0 : -1;
        code = k == 0 ? take_integer(body, "top_logprobs", 0, LOGPROBS_MAX, &k, err) : FLO_OK;
    } else {
        code = take_integer(body, "logprobs", 0, LOGPROBS_MAX, &k, err);
    }
    if (code == FLO_OK && !cJSON_IsTrue(item) && given(body, "top_logprobs") != NULL) {
        code = flo_fail(err, FLO_USAGE, "top_logprobs needs \"logprobs\": true beside it");
    }
    *out = (int32_t)k;
    return code;
}

static void take_stop_ids(const job *j, generation *g)
{
    memcpy(g->stop_ids, j->defaults.stop_ids, sizeof g->stop_ids);
    g->n_stop = j->defaults.n_stop;
    if (j->model.tokens.im_end >= 0) {
        g->stop_ids[g->n_stop++] = j->model.tokens.im_end;
    }
}

static flo_code take_ignore_eos(const cJSON *body, bool *ignore, flo_err *err)
{
    const cJSON *item = given(body, "ignore_eos");
    if (item != NULL && !cJSON_IsBool(item)) {
        return flo_fail(err, FLO_USAGE, "ignore_eos must be true or false");
    }
    *ignore = item != NULL && cJSON_IsTrue(item);
    return FLO_OK;
}

/* --- keys --------------------------------------------------------------------------------------
 */

static flo_code check_keys(const cJSON *body, flo_err *err)
{
    static const char *const known[] = {
        "messages", "prompt", "raw", "prompt_ids", "tools", "template_options", "max_tokens",
        "max_completion_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
        "seed", "ignore_eos", "logprobs", "top_logprobs",
        /* said by clients, without effect here */
        "model", "user", "metadata", "store"};
    const cJSON *item;
    if (!cJSON_IsObject(body)) {
        return flo_fail(err, FLO_USAGE, "a request's body must be a JSON object");
    }
    cJSON_ArrayForEach(item, body)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            found = found || strcmp(item->string, known[i]) == 0;
        }
        bool neutral = (strcmp(item->string, "stream") == 0 && cJSON_IsFalse(item)) ||
                       (strcmp(item->string, "n") == 0 && item->valuedouble == 1) ||
                       cJSON_IsNull(item);
        if (!found && !neutral) {
            return flo_fail(err, FLO_USAGE,
                            "the request's key \"%s\" is not known, or asks for what is not "
                            "built yet",
                            item->string);
        }
    }
    return FLO_OK;
}

/* --- the prompt --------------------------------------------------------------------------------
 */

static flo_code check_parts(const cJSON *messages, flo_err *err)
{
    const cJSON *message, *part;
    if (!cJSON_IsArray(messages) || cJSON_GetArraySize(messages) == 0) {
        return flo_fail(err, FLO_USAGE, "messages must be a list with at least one message");
    }
    cJSON_ArrayForEach(message, messages)
    {
        if (!cJSON_IsObject(message) || !cJSON_IsString(json_member(message, "role"))) {
            return flo_fail(err, FLO_USAGE, "each message must be an object with a role");
        }
        const cJSON *content = given(message, "content");
        if (content == NULL || cJSON_IsString(content)) {
            continue;
        }
        if (!cJSON_IsArray(content)) {
            return flo_fail(err, FLO_USAGE,
                            "a message's content must be a string or a list of parts");
        }
        cJSON_ArrayForEach(part, content)
        {
            const cJSON *type = json_member(part, "type");
            if (!cJSON_IsObject(part) ||
                (type != NULL &&
                 (!cJSON_IsString(type) || strcmp(type->valuestring, "text") != 0)) ||
                !cJSON_IsString(json_member(part, "text"))) {
                return flo_fail(err, FLO_USAGE,
                                "a message has a part that is no text; pictures, sound and "
                                "video are not built yet");
            }
        }
    }
    return FLO_OK;
}

/* messages, tools and the template's options as the template's context: borrowed from body, which
 * must outlive it. */
static cJSON *context_of(const cJSON *body)
{
    const cJSON *options = json_member(body, "template_options"), *item;
    const cJSON *tools = given(body, "tools");
    cJSON *context = cJSON_CreateObject();
    cJSON_ArrayForEach(item, options)
    {
        cJSON_AddItemReferenceToObject(context, item->string, (cJSON *)item);
    }
    if (tools != NULL) {
        cJSON_AddItemReferenceToObject(context, "tools", (cJSON *)tools);
    }
    cJSON_AddItemReferenceToObject(context, "messages", (cJSON *)json_member(body, "messages"));
    cJSON_AddItemToObject(context, "add_generation_prompt", cJSON_CreateTrue());
    return context;
}

static flo_code encode(request *r, const char *text, size_t n_bytes, flo_err *err)
{
    size_t n;
    if (n_bytes == 0) {
        return flo_fail(err, FLO_USAGE, "the prompt is empty; give at least one character");
    }
    flo_code code = tokenizer_encode(r->job->tokenizer, text, n_bytes, false, &r->prompt, &n, err);
    if (code != FLO_OK) {
        return code;
    }
    if (n > INT32_MAX) {
        return flo_fail(err, FLO_USAGE, "the prompt has %zu tokens, more than any context holds",
                        n);
    }
    r->generation.n_prompt = (int32_t)n;
    const model_tokens *t = &r->job->model.tokens;
    for (size_t i = 0; i < n; i++) {
        int32_t id = r->prompt[i];
        if (id == t->image || id == t->audio || id == t->video) {
            return flo_fail(err, FLO_USAGE,
                            "the prompt has a place for a picture, a sound or a video (%s), "
                            "and none is given",
                            tokenizer_piece(r->job->tokenizer, id));
        }
    }
    return FLO_OK;
}

/* Renders the messages from a tree of their own, in which numbers stand as they were written: to
 * the template 1 and 1.0 are not the same. */
static flo_code render(request *r, const char *body, size_t n_bytes, char **text,
                       size_t *text_bytes, flo_err *err)
{
    cJSON *tree;
    flo_code code = json_parse_request(&tree, body, n_bytes, err);
    if (code != FLO_OK) {
        return code;
    }
    code = chat_template_numbers_keep(tree, body, n_bytes, err);
    if (code == FLO_OK) {
        cJSON *context = context_of(tree);
        /* What a template refuses (roles, their order) is in the request. */
        code = chat_template_render(r->job->chat_template, context, text, text_bytes, err) == FLO_OK
                   ? FLO_OK
                   : FLO_USAGE;
        cJSON_Delete(context);
    }
    cJSON_Delete(tree);
    return code;
}

static flo_code prompt_from_messages(request *r, const cJSON *root, const char *body,
                                     size_t n_bytes, flo_err *err)
{
    char *text;
    size_t text_bytes;
    flo_code code = check_parts(json_member(root, "messages"), err);
    if (code == FLO_OK) {
        code = render(r, body, n_bytes, &text, &text_bytes, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    code = encode(r, text, text_bytes, err);
    free(text);
    return code;
}

static flo_code prompt_from_text(request *r, const cJSON *body, flo_err *err)
{
    const cJSON *prompt = json_member(body, "prompt");
    size_t n_bytes;
    if (!cJSON_IsString(prompt) || !cJSON_IsTrue(json_member(body, "raw"))) {
        return flo_fail(err, FLO_USAGE,
                        "prompt must be a string with \"raw\": true beside it; what goes through "
                        "the chat template stands in messages");
    }
    char *text = json_string_copy(prompt, &n_bytes);
    if (text == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the prompt");
    }
    flo_code code = encode(r, text, n_bytes, err);
    free(text);
    return code;
}

static flo_code prompt_from_ids(request *r, const cJSON *body, flo_err *err)
{
    const cJSON *ids = json_member(body, "prompt_ids"), *item;
    int32_t n = 0;
    if (!cJSON_IsArray(ids)) {
        return flo_fail(err, FLO_USAGE, "prompt_ids must be a list of token ids");
    }
    r->prompt = calloc((size_t)cJSON_GetArraySize(ids) + 1, sizeof *r->prompt);
    if (r->prompt == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the prompt");
    }
    cJSON_ArrayForEach(item, ids)
    {
        int64_t id;
        if (!json_integer(item, 0, r->job->model.text.vocab_size - 1, &id)) {
            return flo_fail(err, FLO_USAGE, "prompt_ids[%d] is no token id from 0 to %d", n,
                            r->job->model.text.vocab_size - 1);
        }
        r->prompt[n++] = (int32_t)id;
    }
    r->generation.n_prompt = n;
    return FLO_OK;
}

static flo_code make_prompt(request *r, const cJSON *root, const char *body, size_t n_bytes,
                            flo_err *err)
{
    int kinds = (given(root, "messages") != NULL) + (given(root, "prompt") != NULL) +
                (given(root, "prompt_ids") != NULL);
    if (kinds != 1) {
        return flo_fail(err, FLO_USAGE,
                        "a request has exactly one of messages, prompt and prompt_ids");
    }
    if (given(root, "prompt_ids") != NULL) {
        return prompt_from_ids(r, root, err);
    }
    if (r->job->tokenizer == NULL) {
        return flo_fail(err, FLO_USAGE, "%s has no tokenizer; give the prompt as token ids",
                        r->job->model_folder);
    }
    return given(root, "messages") != NULL ? prompt_from_messages(r, root, body, n_bytes, err)
                                           : prompt_from_text(r, root, err);
}

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
    r->ends.done(r->ends.arg, r);
}

static flo_code fill_generation(request *r, const cJSON *root, const char *body, size_t n_bytes,
                                flo_err *err)
{
    generation *g = &r->generation;
    int64_t max_new = MAX_NEW_DEFAULT;
    flo_code code = take_integer(root, "max_tokens", 1, INT32_MAX, &max_new, err);
    code = code == FLO_OK ? take_integer(root, "max_completion_tokens", 1, INT32_MAX, &max_new, err)
                          : code;
    code = code == FLO_OK ? take_sampling(r->job, root, &g->sampling, err) : code;
    code = code == FLO_OK ? take_logprobs(root, &g->logprobs, err) : code;
    bool ignore_eos = false;
    code = code == FLO_OK ? take_ignore_eos(root, &ignore_eos, err) : code;
    code = code == FLO_OK ? make_prompt(r, root, body, n_bytes, err) : code;
    if (code != FLO_OK) {
        return code;
    }
    if (!ignore_eos) {
        take_stop_ids(r->job, g);
    }
    g->max_new = (int32_t)max_new;
    g->prompt = r->prompt;
    g->owner = r;
    g->on_token = on_token;
    g->on_done = on_done;
    return FLO_OK;
}

static flo_code open_dump(request *r, const char *path, flo_err *err)
{
    if (path == NULL || path[0] == '\0' || r->generation.n_prompt == 0 ||
        r->generation.n_prompt > r->job->plan.kv_tokens) {
        return FLO_OK; /* the scheduler refuses such prompts with the right words */
    }
    flo_code code =
        dump_file_new(&r->dump, path, &r->job->model, r->prompt, r->generation.n_prompt, err);
    if (code == FLO_OK) {
        r->generation.dump = dump_file_sink(r->dump);
    }
    return code;
}

static flo_code parse_body(cJSON **out, const char *body, size_t n_bytes, flo_err *err)
{
    flo_code code = json_parse_request(out, body, n_bytes, err);
    if (code != FLO_OK) {
        flo_context(err, "the request");
        return code;
    }
    code = check_keys(*out, err);
    const cJSON *options = given(*out, "template_options"), *tools = given(*out, "tools");
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

flo_code request_start(request **out, job *j, uint64_t id, const char *body, size_t n_bytes,
                       const char *dump_path, const request_ends *ends, flo_err *err)
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
    code = fill_generation(r, root, body, n_bytes, err);
    cJSON_Delete(root);
    if (code == FLO_OK && j->tokenizer != NULL) {
        code = detokenizer_new(&r->detokenizer, j->tokenizer, true, err);
    }
    if (code == FLO_OK) {
        code = open_dump(r, dump_path, err);
    }
    if (code == FLO_OK) {
        code = scheduler_submit(j->scheduler, &r->generation, err);
    }
    if (code != FLO_OK) {
        request_free(r);
        return code;
    }
    *out = r;
    return FLO_OK;
}

void request_free(request *r)
{
    if (r == NULL) {
        return;
    }
    dump_file_abandon(r->dump);
    detokenizer_free(r->detokenizer);
    generation_clear(&r->generation);
    buffer_free(&r->text);
    free(r->prompt);
    free(r);
}

/* --- the answer --------------------------------------------------------------------------------
 */

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
    double first = g->n_ids > 0 ? g->first_token_s - g->submitted_s : 0;
    put_real(b, ", \"timing\": {\"load_s\": %.6f", r->job->load_s);
    put_real(b, ", \"first_token_s\": %.6f", first);
    put_real(b, ", \"prompt_tokens\": %.0f", (double)g->n_prompt);
    put_real(b, ", \"reused_tokens\": %.0f", (double)g->n_reused);
    put_real(b, ", \"prompt_s\": %.6f", g->n_ids > 0 ? g->prompt_s - g->submitted_s : 0);
    put_real(b, ", \"generated_tokens\": %.0f", (double)g->n_ids);
    put_real(b, ", \"generate_s\": %.6f}", g->n_ids > 0 ? g->done_s - g->first_token_s : 0);
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
        code = dump_file_finish(r->dump, err);
        r->dump = NULL;
    }
    if (code == FLO_OK) {
        code = job_ask_stats(r->job, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    buffer b = {0};
    buffer_append_text(&b, "{");
    put_ids(&b, "prompt_ids", r->prompt, g->n_prompt);
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

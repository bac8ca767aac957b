/*
 * request_prompt.c - messages checked and rendered, or a prompt as it was given.
 */
#include "coordinator/request_prompt.h"

#include "common/json.h"
#include "coordinator/request_media.h"

#include <stdlib.h>
#include <string.h>

static flo_code check_part(const cJSON *part, flo_err *err)
{
    const cJSON *type = json_given(part, "type"), *text = json_given(part, "text");
    if (!cJSON_IsObject(part) || (type != NULL && !cJSON_IsString(type))) {
        return flo_fail(err, FLO_USAGE, "a part of a message must be an object with a type");
    }
    if (request_part_is_medium(part)) {
        return FLO_OK;
    }
    if (type != NULL && strcmp(type->valuestring, "text") != 0) {
        return flo_fail(err, FLO_USAGE,
                        "a message has a part of type \"%s\"; known are text, image, image_url, "
                        "audio, audio_url, input_audio, video and video_url",
                        type->valuestring);
    }
    return cJSON_IsString(text)
               ? FLO_OK
               : flo_fail(err, FLO_USAGE, "a message has a part without text or medium");
}

static flo_code check_message(const cJSON *message, flo_err *err)
{
    if (!cJSON_IsObject(message) || !cJSON_IsString(json_member(message, "role"))) {
        return flo_fail(err, FLO_USAGE, "each message must be an object with a role");
    }
    const cJSON *content = json_given(message, "content"), *part;
    if (content == NULL || cJSON_IsString(content)) {
        return FLO_OK;
    }
    if (!cJSON_IsArray(content)) {
        return flo_fail(err, FLO_USAGE, "a message's content must be a string or a list of parts");
    }
    cJSON_ArrayForEach(part, content)
    {
        flo_code code = check_part(part, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

static flo_code check_messages(const cJSON *messages, flo_err *err)
{
    const cJSON *message;
    if (!cJSON_IsArray(messages) || cJSON_GetArraySize(messages) == 0) {
        return flo_fail(err, FLO_USAGE, "messages must be a list with at least one message");
    }
    cJSON_ArrayForEach(message, messages)
    {
        flo_code code = check_message(message, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

/* messages, tools and the template's options as the template's context: borrowed from body, which
 * must outlive it. */
static cJSON *context_of(const cJSON *body)
{
    const cJSON *options = json_member(body, "template_options"), *item;
    const cJSON *tools = json_given(body, "tools");
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

/* Renders the messages from a tree of their own, in which numbers stand as they were written: to
 * the template 1 and 1.0 are not the same. */
static flo_code render(prompt *p, const job *j, const char *body, size_t n_bytes, flo_err *err)
{
    cJSON *tree;
    flo_code code = json_parse_request(&tree, body, n_bytes, err);
    if (code != FLO_OK) {
        return code;
    }
    code = chat_template_numbers_keep(tree, body, n_bytes, err);
    if (code == FLO_OK) {
        code = request_media_plain((cJSON *)(uintptr_t)json_member(tree, "messages"), err);
    }
    if (code == FLO_OK) {
        cJSON *context = context_of(tree);
        /* What a template refuses (roles, their order) is in the request. */
        code =
            chat_template_render(j->chat_template, context, &p->text, &p->text_bytes, err) == FLO_OK
                ? FLO_OK
                : FLO_USAGE;
        cJSON_Delete(context);
    }
    cJSON_Delete(tree);
    return code;
}

static flo_code from_messages(prompt *p, const job *j, const cJSON *root, const char *body,
                              size_t n_bytes, flo_err *err)
{
    flo_code code = check_messages(json_member(root, "messages"), err);
    return code == FLO_OK ? render(p, j, body, n_bytes, err) : code;
}

static flo_code from_text(prompt *p, const cJSON *body, flo_err *err)
{
    const cJSON *text = json_member(body, "prompt");
    if (!cJSON_IsString(text) || !cJSON_IsTrue(json_member(body, "raw"))) {
        return flo_fail(err, FLO_USAGE,
                        "prompt must be a string with \"raw\": true beside it; what goes through "
                        "the chat template stands in messages");
    }
    p->text = json_string_copy(text, &p->text_bytes);
    return p->text != NULL ? FLO_OK : flo_fail(err, FLO_FAIL, "out of memory for the prompt");
}

static flo_code from_ids(prompt *p, const job *j, const cJSON *body, flo_err *err)
{
    const cJSON *ids = json_member(body, "prompt_ids"), *item;
    int32_t n = 0;
    if (!cJSON_IsArray(ids)) {
        return flo_fail(err, FLO_USAGE, "prompt_ids must be a list of token ids");
    }
    p->ids = calloc((size_t)cJSON_GetArraySize(ids) + 1, sizeof *p->ids);
    if (p->ids == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the prompt");
    }
    cJSON_ArrayForEach(item, ids)
    {
        int64_t id;
        if (!json_integer(item, 0, j->model.text.vocab_size - 1, &id)) {
            return flo_fail(err, FLO_USAGE, "prompt_ids[%d] is no token id from 0 to %d", n,
                            j->model.text.vocab_size - 1);
        }
        p->ids[n++] = (int32_t)id;
    }
    p->n = n;
    return FLO_OK;
}

flo_code request_prompt_take(prompt *p, const job *j, const cJSON *root, const char *body,
                             size_t n_bytes, flo_err *err)
{
    int kinds = (json_given(root, "messages") != NULL) + (json_given(root, "prompt") != NULL) +
                (json_given(root, "prompt_ids") != NULL);
    if (kinds != 1) {
        return flo_fail(err, FLO_USAGE,
                        "a request has exactly one of messages, prompt and prompt_ids");
    }
    if (json_given(root, "prompt_ids") != NULL) {
        return from_ids(p, j, root, err);
    }
    if (j->tokenizer == NULL) {
        return flo_fail(err, FLO_USAGE, "%s has no tokenizer; give the prompt as token ids",
                        j->model_folder);
    }
    return json_given(root, "messages") != NULL ? from_messages(p, j, root, body, n_bytes, err)
                                                : from_text(p, root, err);
}

/* --- what a given text answers -----------------------------------------------------------------
 */

static const char asks_aloud[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Please read the text aloud.\"}]}";

static flo_code check_spoken(const cJSON *root, const job *j, flo_err *err)
{
    const cJSON *speak = json_given(root, "speak");
    media_set *media;
    if (!cJSON_IsString(speak) || speak->valuestring[0] == '\0') {
        return flo_fail(err, FLO_USAGE, "speak must be a text of at least one character");
    }
    if (json_given(root, "speech") == NULL) {
        return flo_fail(err, FLO_USAGE, "speak needs \"speech\" beside it");
    }
    if (json_given(root, "prompt") != NULL || json_given(root, "prompt_ids") != NULL) {
        return flo_fail(err, FLO_USAGE,
                        "with speak a conversation is given as messages, or not at all");
    }
    if (j->tokenizer == NULL) {
        return flo_fail(err, FLO_USAGE, "%s has no tokenizer, which speak needs", j->model_folder);
    }
    flo_code code = request_media_take(&media, root, err);
    if (code == FLO_OK && media != NULL) {
        media_set_free(media);
        code = flo_fail(err, FLO_USAGE, "the conversation of speak may have no media");
    }
    return code;
}

flo_code request_prompt_take_spoken(prompt *p, const job *j, const cJSON *root, const char *body,
                                    size_t n_bytes, flo_err *err)
{
    flo_code code = check_spoken(root, j, err);
    if (code != FLO_OK) {
        return code;
    }
    return json_given(root, "messages") != NULL ? from_messages(p, j, root, body, n_bytes, err)
                                                : render(p, j, asks_aloud, strlen(asks_aloud), err);
}

/*
 * conversation.c - JSON text put together and cut apart; nothing in it is read but its messages'
 * list.
 */
#include "launch/conversation.h"

#include "common/file.h"
#include "launch/messages.h"
#include "launch/request_body.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void conversation_begin(conversation *c, const char *system)
{
    c->messages.n = c->template_options.n = 0;
    c->has_media = false;
    if (system != NULL) {
        conversation_add(c, "system", NULL, system, strlen(system));
    }
}

void conversation_free(conversation *c)
{
    buffer_free(&c->messages);
    buffer_free(&c->template_options);
}

void conversation_add(conversation *c, const char *role, const buffer *parts, const char *text,
                      size_t n_bytes)
{
    if (c->messages.n > 0) {
        buffer_append_byte(&c->messages, ',');
    }
    message_put(&c->messages, role, parts, text, n_bytes);
    c->has_media = c->has_media || (parts != NULL && parts->n > 0);
}

static void put_messages(buffer *out, const conversation *c)
{
    buffer_append_text(out, "\"messages\":[");
    buffer_append(out, c->messages.at, c->messages.n);
    buffer_append_byte(out, ']');
}

void conversation_put(buffer *body, const conversation *c)
{
    put_messages(body, c);
    template_options_put(body, &c->template_options);
}

static void put_file(buffer *out, const conversation *c)
{
    buffer_append_byte(out, '{');
    put_messages(out, c);
    if (c->template_options.n > 2) { /* its members without its braces */
        buffer_append_byte(out, ',');
        buffer_append(out, c->template_options.at + 1, c->template_options.n - 2);
    }
    buffer_append_text(out, "}\n");
}

static flo_code write_all(int fd, const buffer *b)
{
    size_t done = 0;
    while (done < b->n) {
        ssize_t n = write(fd, b->at + done, b->n - done);
        if (n < 0 && errno != EINTR) {
            return FLO_FAIL;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return fsync(fd) == 0 || errno == EINVAL ? FLO_OK : FLO_FAIL;
}

/* Written beside, then renamed. */
flo_code conversation_save(const conversation *c, const char *path, flo_err *err)
{
    buffer text = {0};
    char *beside = NULL;
    flo_code target = file_check_target(path, err);
    if (target != FLO_OK) {
        return target;
    }
    put_file(&text, c);
    if (text.failed || asprintf(&beside, "%s.XXXXXX", path) < 0) {
        buffer_free(&text);
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    int fd = mkostemp(beside, O_CLOEXEC);
    flo_code code = fd >= 0 ? write_all(fd, &text) : FLO_FAIL;
    int cause = errno;
    if (fd >= 0 && close(fd) != 0 && code == FLO_OK) {
        code = FLO_FAIL;
        cause = errno;
    }
    if (code == FLO_OK && rename(beside, path) != 0) {
        code = FLO_FAIL;
        cause = errno;
    }
    if (code != FLO_OK) {
        flo_fail(err, FLO_FAIL, "%s: cannot save: %s", path, strerror(cause));
        if (fd >= 0) {
            unlink(beside);
        }
    }
    free(beside);
    buffer_free(&text);
    return code;
}

flo_code conversation_load(conversation *c, const char *path, flo_err *err)
{
    buffer file = {0}, options = {0}, list = {0};
    json_slice messages;
    flo_code code = file_read(&file, path, PROMPT_BYTES_MAX, err);
    if (code == FLO_OK) {
        code = messages_take(file.at, file.n, path, &messages, &options, err);
    }
    if (code == FLO_OK) {
        c->has_media = messages_put(&list, messages);
        code = list.failed ? flo_fail(err, FLO_FAIL, "%s: out of memory", path) : FLO_OK;
    }
    if (code == FLO_OK) {
        c->messages.n = c->template_options.n = 0;
        buffer_append(&c->messages, list.at + 1, list.n - 2); /* without its brackets */
        buffer_append(&c->template_options, options.at, options.n);
    }
    buffer_free(&list);
    buffer_free(&file);
    buffer_free(&options);
    return code;
}

/*
 * serve_file.c - requests without a gateway: a JSONL file, or one from the command line.
 *
 * Lines are read one by one and submitted while there is room, so a file of any length takes the
 * memory of REQUESTS_AT_ONCE requests. Input is read only where some has come: a pipe whose writer
 * waits for an answer gets it. An answer line is written as soon as it is done.
 */
#include "common/json.h"
#include "common/log.h"
#include "common/wav.h"
#include "coordinator/request.h"
#include "coordinator/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REQUESTS_AT_ONCE = 64, LINE_BYTES_MAX = 64 << 20, READ_BYTES = 64 << 10 };

typedef struct line_source {
    int fd;
    buffer bytes;   /* read and not yet taken, from `taken` on */
    size_t taken;   /* of bytes, by lines */
    size_t scanned; /* of bytes, without a newline behind `taken` */
    bool ended;     /* the file, or it could not be read */
    bool over_long; /* the line under way is over the limit, and is being skipped */
} line_source;

typedef struct batch {
    job *job;
    line_source in;
    FILE *out;
    int n_running, line;
    request *ended;
    flo_code code; /* of writing */
    flo_err err;
} batch;

/* --- the OpenAI batch form ---------------------------------------------------------------------
 */

static void put_head(buffer *b, const char *custom_id, int line)
{
    char number[32];
    snprintf(number, sizeof number, "%d", line);
    buffer_append_text(b, "{\"id\": \"batch_req_");
    buffer_append_text(b, number);
    buffer_append_text(b, "\", \"custom_id\": ");
    json_put_string(b, custom_id, strlen(custom_id));
}

static void write_line(batch *b, buffer *line)
{
    buffer_append_text(line, "\n");
    if (line->failed || fwrite(line->at, 1, line->n, b->out) != line->n || fflush(b->out) != 0) {
        b->code = flo_fail(&b->err, FLO_FAIL, "could not write an answer: %s", strerror(errno));
    }
    buffer_free(line);
}

static void write_error(batch *b, const char *custom_id, int number, flo_code code,
                        const char *sentence)
{
    buffer line = {0};
    put_head(&line, custom_id, number);
    buffer_append_text(&line,
                       code == FLO_USAGE
                           ? ", \"response\": null, \"error\": {\"code\": \"invalid_request\", "
                             "\"message\": "
                           : ", \"response\": null, \"error\": {\"code\": \"failed\", "
                             "\"message\": ");
    json_put_string(&line, sentence, strlen(sentence));
    buffer_append_text(&line, "}}");
    write_line(b, &line);
}

static void put_usage(buffer *b, const generation *g)
{
    buffer_append_text(b, "\"usage\": {\"prompt_tokens\": ");
    json_put_integer(b, g->n_prompt);
    buffer_append_text(b, ", \"completion_tokens\": ");
    json_put_integer(b, g->n_ids);
    buffer_append_text(b, ", \"total_tokens\": ");
    json_put_integer(b, g->n_prompt + g->n_ids);
    buffer_append_text(b, "}");
}

/* "audio" of a message: a whole WAV file. */
static void put_sound(buffer *line, const request *r)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    buffer wav = {0};
    unsigned char head[WAV_HEAD_BYTES];
    wav_head(head, SPEECH_SAMPLE_RATE, (int64_t)(r->sound.n / 2));
    buffer_append(&wav, head, sizeof head);
    buffer_append(&wav, r->sound.at, r->sound.n);
    buffer_append_text(line, ", \"audio\": {\"format\": \"wav\", \"data\": \"");
    for (size_t i = 0; i < wav.n; i += 3) {
        uint32_t bits = 0;
        size_t n = wav.n - i < 3 ? wav.n - i : 3;
        for (size_t k = 0; k < 3; k++) {
            bits = bits << 8 | (k < n ? (unsigned char)wav.at[i + k] : 0);
        }
        for (size_t k = 0; k < 4; k++) {
            buffer_append_byte(line, k <= n ? digits[bits >> (18 - 6 * k) & 63] : '=');
        }
    }
    buffer_append_text(line, "\"}");
    line->failed = line->failed || wav.failed || r->sound.failed;
    buffer_free(&wav);
}

static void write_answer(batch *b, const request *r)
{
    const generation *g = &r->generation;
    buffer line = {0};
    put_head(&line, r->custom_id, (int)r->id);
    buffer_append_text(&line, ", \"response\": {\"status_code\": 200, \"request_id\": \"");
    json_put_integer(&line, (int64_t)r->id);
    buffer_append_text(&line, "\", \"body\": {\"id\": \"chatcmpl-");
    json_put_integer(&line, (int64_t)r->id);
    buffer_append_text(&line, "\", \"object\": \"chat.completion\", \"created\": ");
    json_put_integer(&line, (int64_t)time(NULL));
    buffer_append_text(&line, ", \"model\": ");
    json_put_string(&line, r->job->model_folder, strlen(r->job->model_folder));
    buffer_append_text(
        &line,
        ", \"choices\": [{\"index\": 0, \"message\": {\"role\": \"assistant\", \"content\": ");
    json_put_string(&line, r->text.at != NULL ? r->text.at : "", r->text.n);
    if (r->voice.wanted) {
        put_sound(&line, r);
    }
    buffer_append_text(&line, "}, \"finish_reason\": \"");
    buffer_append_text(&line, finish_reason_name(g->finish));
    buffer_append_text(&line, "\"}], ");
    put_usage(&line, g);
    buffer_append_text(&line, "}}, \"error\": null}");
    write_line(b, &line);
}

/* --- lines in, lines out -----------------------------------------------------------------------
 */

static void on_done(void *arg, request *r)
{
    batch *b = arg;
    r->next = b->ended;
    b->ended = r;
}

/* As 16 bits, for the answer's WAV file. */
static void keep_sound(void *arg, request *r, const float *samples, int32_t n)
{
    (void)arg;
    if (buffer_reserve(&r->sound, 2 * (size_t)n)) {
        wav_samples((unsigned char *)r->sound.at + r->sound.n, samples, (size_t)n);
        r->sound.n += 2 * (size_t)n;
    }
}

static void answer_ended(batch *b)
{
    while (b->ended != NULL) {
        request *r = b->ended;
        b->ended = r->next;
        b->n_running--;
        if (r->generation.finish == FINISH_FAILED) {
            write_error(b, r->custom_id, (int)r->id, r->generation.code, r->generation.err.text);
        } else {
            write_answer(b, r);
        }
        request_free(r);
    }
}

static void start_line(batch *b, const char *text, size_t n_bytes)
{
    cJSON *root = NULL;
    flo_err err;
    request *r;
    request_ends ends = {.arg = b, .done = on_done, .sound = keep_sound};
    request_from from = {.local_files = true}; /* the file is of the person who started the job */
    char custom_id[256] = "";
    flo_code code = json_parse_request(&root, text, n_bytes, &err);
    if (code == FLO_OK) {
        code = chat_template_numbers_keep(root, text, n_bytes,
                                          &err); /* the body is written out again */
    }
    const cJSON *id = code == FLO_OK ? json_member(root, "custom_id") : NULL;
    const cJSON *body = code == FLO_OK ? json_member(root, "body") : NULL;
    if (id != NULL && cJSON_IsString(id)) {
        snprintf(custom_id, sizeof custom_id, "%s", id->valuestring);
    }
    if (code == FLO_OK && (custom_id[0] == '\0' || body == NULL)) {
        code = flo_fail(&err, FLO_USAGE, "line %d is no object with custom_id and body", b->line);
    }
    if (code == FLO_OK && strlen(id->valuestring) >= sizeof custom_id) {
        code = flo_fail(&err, FLO_USAGE, "line %d has a custom_id of over %zu bytes", b->line,
                        sizeof custom_id - 1);
    }
    if (code == FLO_OK) {
        char *body_text = cJSON_PrintUnformatted(body);
        code = body_text != NULL ? request_start(&r, b->job, (uint64_t)b->line, body_text,
                                                 strlen(body_text), &from, &ends, &err)
                                 : flo_fail(&err, FLO_FAIL, "out of memory for line %d", b->line);
        free(body_text);
    }
    cJSON_Delete(root);
    if (code != FLO_OK) {
        write_error(b, custom_id, b->line, code, err.text);
        return;
    }
    snprintf(r->custom_id, sizeof r->custom_id, "%s", custom_id);
    b->n_running++;
}

static void take_line(batch *b, const char *text, size_t n_bytes)
{
    size_t blank = 0;
    while (blank < n_bytes && strchr(" \t\r", text[blank]) != NULL && text[blank] != '\0') {
        blank++;
    }
    b->line++;
    if (b->in.over_long) {
        write_error(b, "", b->line, FLO_USAGE, "the line is over 64 MiB");
    } else if (blank < n_bytes) {
        start_line(b, text, n_bytes);
    }
    b->in.over_long = false;
}

/* Reads what has come, without waiting. False: nothing new. */
static bool read_some(batch *b)
{
    line_source *in = &b->in;
    struct pollfd p = {.fd = in->fd, .events = POLLIN};
    if (in->ended || poll(&p, 1, 0) <= 0) {
        return false;
    }
    if (in->taken > 0) {
        memmove(in->bytes.at, in->bytes.at + in->taken, in->bytes.n - in->taken);
        in->bytes.n -= in->taken;
        in->scanned -= in->taken;
        in->taken = 0;
    }
    if (in->bytes.n > LINE_BYTES_MAX) {
        in->over_long = true;
        in->bytes.n = in->scanned = 0;
    }
    if (!buffer_reserve(&in->bytes, READ_BYTES)) {
        b->code = flo_fail(&b->err, FLO_FAIL, "out of memory for line %d", b->line + 1);
        return false;
    }
    ssize_t n = read(in->fd, in->bytes.at + in->bytes.n, READ_BYTES);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return false;
    }
    if (n < 0) {
        b->code = flo_fail(&b->err, FLO_FAIL, "could not read the requests: %s", strerror(errno));
        return false;
    }
    in->ended = n == 0;
    in->bytes.n += (size_t)n;
    return true;
}

/* Starts the next line, if a whole one is there. False: nothing happened. */
static bool start_next(batch *b)
{
    line_source *in = &b->in;
    if (in->scanned == in->bytes.n && !read_some(b)) {
        return false;
    }
    const char *text = in->bytes.at + in->taken;
    size_t left = in->bytes.n - in->scanned;
    const char *end = left > 0 ? memchr(in->bytes.at + in->scanned, '\n', left) : NULL;
    if (end != NULL) {
        size_t n_bytes = (size_t)(end - text);
        take_line(b, text, n_bytes);
        in->taken += n_bytes + 1;
        in->scanned = in->taken;
    } else if (in->ended && (in->bytes.n > in->taken || in->over_long)) {
        take_line(b, text, in->bytes.n - in->taken); /* the last line has no newline */
        in->taken = in->scanned = in->bytes.n;
    } else {
        in->scanned = in->bytes.n;
    }
    return true;
}

/* False once every line of the file was started. */
static bool has_more(const batch *b)
{
    return !b->in.ended || b->in.taken < b->in.bytes.n;
}

static flo_code run_batch(batch *b, flo_err *err)
{
    while (has_more(b) || b->n_running > 0) {
        bool busy, started = b->n_running < REQUESTS_AT_ONCE && start_next(b);
        flo_code code = job_poll(b->job, &busy, err);
        if (code != FLO_OK) {
            return code;
        }
        answer_ended(b);
        if (b->code != FLO_OK) {
            *err = b->err;
            return b->code;
        }
        transport_pause(b->job->transport, busy || started);
    }
    return FLO_OK;
}

flo_code batch_files_open(batch_files *f, const char *requests_path, const char *output_path,
                          flo_err *err)
{
    bool to_stdout = output_path == NULL || strcmp(output_path, "-") == 0;
    f->requests =
        strcmp(requests_path, "-") == 0 ? STDIN_FILENO : open(requests_path, O_RDONLY | O_CLOEXEC);
    if (f->requests < 0) {
        return flo_fail(err, FLO_USAGE, "could not open %s: %s", requests_path, strerror(errno));
    }
    f->output_path = to_stdout ? "standard output" : output_path;
    f->output = to_stdout ? stdout : fopen(output_path, "we");
    if (f->output == NULL) {
        return flo_fail(err, FLO_USAGE, "could not make %s: %s", output_path, strerror(errno));
    }
    return FLO_OK;
}

flo_code serve_file(job *j, const batch_files *f, flo_err *err)
{
    batch b = {.job = j, .in = {.fd = f->requests}, .out = f->output};
    flo_code code = run_batch(&b, err);
    buffer_free(&b.in.bytes);
    if (f->requests != STDIN_FILENO) {
        close(f->requests);
    }
    if (f->output != stdout && fclose(f->output) != 0 && code == FLO_OK) {
        code = flo_fail(err, FLO_FAIL, "could not write %s: %s", f->output_path, strerror(errno));
    }
    return code;
}

/* --- one from the command line -----------------------------------------------------------------
 */

static void print_delta(void *arg, request *r, const char *text, size_t n_bytes)
{
    (void)arg;
    (void)r;
    fwrite(text, 1, n_bytes, stdout);
    fflush(stdout);
}

static void note_done(void *arg, request *r)
{
    *(request **)arg = r;
}

flo_code serve_one(job *j, const char *body, size_t n_bytes, bool json, flo_err *err)
{
    request *r, *ended = NULL;
    request_ends ends = {.arg = &ended, .delta = json ? NULL : print_delta, .done = note_done};
    request_from from = {.local_files = true};
    flo_code code = request_start(&r, j, 1, body, n_bytes, &from, &ends, err);
    while (code == FLO_OK && ended == NULL) {
        bool busy;
        code = job_poll(j, &busy, err);
        transport_pause(j->transport, busy);
    }
    char *answer = NULL;
    if (code == FLO_OK) {
        code = request_answer(ended, &answer, &n_bytes, err);
    }
    if (code == FLO_OK && json) {
        fwrite(answer, 1, n_bytes, stdout);
    }
    if (code == FLO_OK) {
        printf("\n");
        code = fflush(stdout) == 0 ? FLO_OK
                                   : flo_fail(err, FLO_FAIL, "could not write to standard output");
    }
    free(answer);
    request_free(ended);
    return code;
}

/*
 * command_generate.c - `flotilla generate`: one prompt in, one answer out.
 *
 * Everything that can be found wrong without the model is found before the job is started. Text
 * goes to standard output as it is made, or to standard error where the sound takes that place;
 * with --json only the coordinator's document goes there, as it is but for the sound file's name.
 */
#include "launch/commands.h"

#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "launch/front.h"
#include "launch/media_given.h"
#include "launch/messages.h"
#include "launch/output.h"
#include "launch/request_body.h"
#include "launch/speech_given.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OWN_ARGUMENTS = SAMPLING_ARGUMENTS + MEDIA_ARGUMENTS + SPEECH_ARGUMENTS + 9 };

typedef struct generate_options {
    run_options run;
    const char *prompt, *prompt_file, *prompt_ids, *messages, *system, *dump;
    bool raw, help;
    sampling_options sampling;
    media_given media;
    speech_given speech;
} generate_options;

static size_t table_of(generate_options *o, argument table[OWN_ARGUMENTS])
{
    const argument own[] = {
        {.name = "--prompt", .kind = ARGUMENT_TEXT, .out = &o->prompt},
        {.name = "--prompt-file", .kind = ARGUMENT_TEXT, .out = &o->prompt_file},
        {.name = "--prompt-ids", .kind = ARGUMENT_TEXT, .out = &o->prompt_ids},
        {.name = "--messages", .kind = ARGUMENT_TEXT, .out = &o->messages},
        {.name = "--system", .kind = ARGUMENT_TEXT, .out = &o->system},
        {.name = "--dump", .kind = ARGUMENT_TEXT, .out = &o->dump},
        {.name = "--raw", .kind = ARGUMENT_FLAG, .out = &o->raw},
        {.name = "--help", .kind = ARGUMENT_FLAG, .out = &o->help},
        {.name = "--speech", .kind = ARGUMENT_TEXT, .out = &o->speech.file},
    };
    size_t n = sizeof own / sizeof own[0];
    memcpy(table, own, sizeof own);
    sampling_arguments(&o->sampling, table + n);
    n += SAMPLING_ARGUMENTS;
    media_arguments(&o->media, table + n);
    n += MEDIA_ARGUMENTS;
    speech_arguments(&o->speech, table + n);
    return n + SPEECH_ARGUMENTS;
}

static flo_code check_together(const generate_options *o, flo_err *err)
{
    int prompts = (o->prompt != NULL) + (o->prompt_file != NULL) + (o->prompt_ids != NULL) +
                  (o->messages != NULL);
    if (prompts != 1) {
        return flo_fail(
            err, FLO_USAGE,
            "generate takes one of --prompt, --prompt-file, --prompt-ids and --messages%s",
            prompts == 0 ? "; none was given" : ", not several");
    }
    bool text = o->prompt != NULL || o->prompt_file != NULL;
    if (o->raw && !text) {
        return flo_fail(err, FLO_USAGE, "--raw goes with --prompt or --prompt-file only");
    }
    if (o->system != NULL && (!text || o->raw)) {
        return flo_fail(err, FLO_USAGE,
                        "--system goes with --prompt or --prompt-file only, and not with --raw");
    }
    flo_code code = options_check(&o->run, err);
    if (code == FLO_OK) {
        code = media_given_check(&o->media, &o->run, o->messages != NULL, err);
    }
    if (code == FLO_OK) {
        code = speech_given_check(&o->speech, &o->run, false, err);
    }
    if (code == FLO_OK && o->dump != NULL && o->speech.file != NULL &&
        file_same_target(o->dump, o->speech.file)) {
        code = flo_fail(err, FLO_USAGE, "--dump and --speech both write to %s; name two files",
                        o->dump);
    }
    return code;
}

static flo_code read_options(generate_options *o, int argc, char **argv, flo_err *err)
{
    argument table[OWN_ARGUMENTS];
    size_t n = table_of(o, table);
    flo_code code = options_read(&o->run, table, n, &o->help, argc, argv, err);
    if (code != FLO_OK || o->help) {
        return code;
    }
    return check_together(o, err);
}

/* Beside a prompt that is not made of messages, or whose messages have places for media. */
static void put_media(buffer *body, const buffer *media)
{
    if (media->n > 0) {
        buffer_append_text(body, ",\"media\":[");
        buffer_append(body, media->at, media->n);
        buffer_append_byte(body, ']');
    }
}

/* A prompt given as text or in a file. */
static flo_code put_text_prompt(buffer *body, const generate_options *o, const buffer *media,
                                flo_err *err)
{
    buffer file = {0};
    const char *text = o->prompt, *name = "--prompt";
    size_t n_bytes = text != NULL ? strlen(text) : 0;
    flo_code code = FLO_OK;
    if (o->prompt_file != NULL) {
        code = file_read(&file, o->prompt_file, PROMPT_BYTES_MAX, err);
        text = file.at;
        n_bytes = file.n;
        name = strcmp(o->prompt_file, "-") == 0 ? "standard input" : o->prompt_file;
    }
    if (code == FLO_OK) {
        code = prompt_check(text, n_bytes, name, err);
    }
    if (code == FLO_OK && o->system != NULL) {
        code = prompt_check(o->system, strlen(o->system), "--system", err);
    }
    if (code == FLO_OK && o->raw) {
        buffer_append_text(body, "\"raw\":true,\"prompt\":");
        json_put_string(body, text, n_bytes);
        put_media(body, media);
    } else if (code == FLO_OK) {
        buffer_append_text(body, "\"messages\":[");
        if (o->system != NULL) {
            message_put(body, "system", NULL, o->system, strlen(o->system));
            buffer_append_byte(body, ',');
        }
        message_put(body, "user", media, text, n_bytes);
        buffer_append_byte(body, ']');
    }
    buffer_free(&file);
    return code;
}

static flo_code put_messages(buffer *body, const char *path, const buffer *media, flo_err *err)
{
    buffer file = {0}, options = {0};
    json_slice messages = {0};
    const char *name = strcmp(path, "-") == 0 ? "standard input" : path;
    flo_code code = file_read(&file, path, PROMPT_BYTES_MAX, err);
    if (code == FLO_OK) {
        code = messages_take(file.at, file.n, name, &messages, &options, err);
    }
    if (code == FLO_OK) {
        buffer_append_text(body, "\"messages\":");
        messages_put(body, messages);
        template_options_put(body, &options);
        put_media(body, media);
    }
    buffer_free(&file);
    buffer_free(&options);
    return code;
}

static flo_code make_body(buffer *body, const generate_options *o, flo_err *err)
{
    flo_code code;
    buffer media = {0};
    media_parts_put(&media, &o->media);
    buffer_append_byte(body, '{');
    if (o->prompt_ids != NULL) {
        buffer_append_text(body, "\"prompt_ids\":");
        code = ids_put(body, o->prompt_ids, err);
        put_media(body, &media);
    } else if (o->messages != NULL) {
        code = put_messages(body, o->messages, &media, err);
    } else {
        code = put_text_prompt(body, o, &media, err);
    }
    sampling_put(body, &o->sampling);
    media_options_put(body, &o->media, NULL);
    if (o->speech.file != NULL) {
        speech_put(body, &o->speech, speech_file_is_stream(o->speech.file));
    }
    buffer_append_byte(body, '}');
    bool complete = !body->failed && !media.failed;
    buffer_free(&media);
    return code == FLO_OK && !complete ? flo_fail(err, FLO_FAIL, "out of memory") : code;
}

static flo_code show_text(void *arg, const char *text, size_t n_bytes, flo_err *err)
{
    const front *f = arg;
    bool to_errors = f->text_fd == STDERR_FILENO;
    return output_write_to(f->text_fd, to_errors ? "standard error" : "standard output", text,
                           n_bytes, err);
}

/* One line about speed, from the document's timing. */
static void log_timing(const buffer *result)
{
    flo_err ignored;
    cJSON *json;
    if (json_parse_request(&json, result->at, result->n, &ignored) != FLO_OK) {
        return;
    }
    const cJSON *t = json_member(json, "timing"), *reason = json_member(json, "finish_reason");
    double generated = json_number(t, "generated_tokens"), seconds = json_number(t, "generate_s");
    log_info("%.0f prompt tokens in %.2f s, %.0f tokens in %.2f s (%.1f tokens/s), ended by %s",
             json_number(t, "prompt_tokens"), json_number(t, "prompt_s"), generated, seconds,
             seconds > 0 ? generated / seconds : 0,
             cJSON_IsString(reason) ? reason->valuestring : "nothing");
    cJSON_Delete(json);
}

static flo_code show_answer(front *f, const generate_options *o, flo_err *err)
{
    flo_code code = o->run.json ? front_show_document(f, o->speech.file, err) : FLO_OK;
    if (code == FLO_OK) {
        code = show_text(f, "\n", 1, err);
    }
    front_show_held(f);
    if (code == FLO_OK && o->speech.file != NULL) {
        front_log_sound(f, o->speech.file);
    }
    if (code == FLO_OK && f->result.n > 0) {
        log_timing(&f->result);
    }
    return code;
}

static flo_code ask(front *f, const generate_options *o, const buffer *body, const char *dump,
                    flo_err *err)
{
    bool sound_takes_output = o->speech.file != NULL && strcmp(o->speech.file, "-") == 0;
    f->on_text = o->run.json ? NULL : show_text;
    f->arg = f;
    f->text_fd = sound_takes_output ? STDERR_FILENO : STDOUT_FILENO;
    flo_code code = front_ask(f, "completion", body, dump, err);
    if (code == FLO_OK) {
        code = front_keep_sound(f, err);
    }
    if (code != FLO_OK && f->speaking && sound_takes_output) {
        fputc('\n', stderr); /* the error stands on a line of its own */
    }
    return code == FLO_OK ? show_answer(f, o, err) : code;
}

static flo_code generate(const generate_options *o, const buffer *body, flo_err *err)
{
    front f;
    speech_file *sound = NULL;
    run_options run = o->run;
    run.no_speech = o->speech.file == NULL; /* one answer: who does not listen needs no talker */
    char *dump = o->dump != NULL ? absolute_path(o->dump) : NULL;
    flo_code code = o->speech.file != NULL ? speech_file_open(&sound, o->speech.file, err) : FLO_OK;
    if (code == FLO_OK) {
        code = front_open(&f, &run, &o->speech, err);
        if (code == FLO_OK) {
            f.sound = sound;
            code = ask(&f, o, body, dump, err);
            front_close(&f);
        } else {
            speech_file_discard(sound);
        }
    }
    free(dump);
    return code;
}

static flo_code run_generate(const generate_options *o, flo_err *err)
{
    options_set_log(&o->run);
    buffer body = {0};
    flo_code code = o->dump != NULL ? file_check_target(o->dump, err) : FLO_OK;
    if (code == FLO_OK) {
        code = make_body(&body, o, err);
    }
    if (code == FLO_OK) {
        code = generate(o, &body, err);
    }
    buffer_free(&body);
    return code;
}

flo_code command_generate(int argc, char **argv, flo_err *err)
{
    generate_options o = {0};
    flo_code code = read_options(&o, argc, argv, err);
    if (code == FLO_OK) {
        code = o.help ? command_help("generate", err) : run_generate(&o, err);
    }
    media_given_free(&o.media);
    return code;
}

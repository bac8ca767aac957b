/*
 * command_chat.c - `flotilla chat`: a conversation, line by line.
 *
 * A line is a message, or a command with a slash in front. What goes wrong with one is shown, and
 * the chat goes on as if it had not been said.
 */
#include "launch/commands.h"

#include "common/json.h"
#include "common/log.h"
#include "gateway/interrupts.h"
#include "launch/conversation.h"
#include "launch/front.h"
#include "launch/line_reader.h"
#include "launch/media_given.h"
#include "launch/output.h"
#include "launch/request_body.h"
#include "launch/speech_given.h"
#include "launch/spoken_answers.h"
#include "launch/typed_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OWN_ARGUMENTS = SAMPLING_ARGUMENTS + MEDIA_ARGUMENTS + SPEECH_ARGUMENTS + 3 };

typedef struct chat_options {
    run_options run;
    const char *system;
    bool help;
    sampling_options sampling;
    media_given media;
    speech_given speech; /* file: where the answers' files go */
} chat_options;

typedef struct chat {
    const chat_options *options;
    front front;
    line_reader *lines;
    conversation conversation;
    buffer attached;       /* parts for the next message, with commas between */
    buffer attached_names; /* "photo.png, speech.wav" */
    buffer answer;         /* text of the turn under way */
    bool speaks;           /* answers are to be spoken */
    char *spoken_stem;     /* see spoken_answers.h; NULL: no answer was to be spoken yet */
    char *spoken_name;     /* file of the turn under way; NULL: it is not spoken */
    flo_err spoken_fault;  /* why that file could not be written; "": it can */
    flo_code worst;        /* of the turns, for input that is not typed */
    bool over;
} chat;

static flo_code read_options(chat_options *o, int argc, char **argv, flo_err *err)
{
    argument table[OWN_ARGUMENTS] = {
        {.name = "--system", .kind = ARGUMENT_TEXT, .out = &o->system},
        {.name = "--help", .kind = ARGUMENT_FLAG, .out = &o->help},
        {.name = "--speech", .kind = ARGUMENT_TEXT_OR_NOT, .out = &o->speech.file},
    };
    size_t n = 3;
    sampling_arguments(&o->sampling, table + n);
    n += SAMPLING_ARGUMENTS;
    media_arguments(&o->media, table + n);
    n += MEDIA_ARGUMENTS;
    speech_arguments(&o->speech, table + n);
    n += SPEECH_ARGUMENTS;
    flo_code code = options_read(&o->run, table, n, &o->help, argc, argv, err);
    if (code != FLO_OK || o->help) {
        return code;
    }
    if (o->run.json) {
        return flo_fail(err, FLO_USAGE,
                        "--json: a chat is not one document; use generate --messages");
    }
    if (o->system != NULL) {
        code = prompt_check(o->system, strlen(o->system), "--system", err);
        if (code != FLO_OK) {
            return code;
        }
    }
    code = options_check(&o->run, err);
    if (code == FLO_OK) {
        code = media_given_check(&o->media, &o->run, true, err);
    }
    return code == FLO_OK ? speech_given_check(&o->speech, &o->run, true, err) : code;
}

/* -- media for the next message ---------------------------------------------------------------- */

static void attach(chat *c, const char *option, const char *reference)
{
    char name[64];
    medium_name(name, reference);
    medium_put(&c->attached, option, reference);
    buffer_append_text(&c->attached_names, c->attached_names.n > 0 ? ", " : "");
    buffer_append_text(&c->attached_names, name);
    log_info("%s goes with the next message", name);
}

/* `/image F` and its like. */
static flo_code attach_typed(chat *c, const char *command, const char *typed, flo_err *err)
{
    const run_options *run = &c->options->run;
    if (run->no_media) {
        return flo_fail(err, FLO_USAGE, "%s: this chat was started with --no-media", command);
    }
    char *path = typed_path(typed);
    flo_code code = path[0] != '\0'
                        ? medium_check(command, path, run->allow_media_urls, err)
                        : flo_fail(err, FLO_USAGE, "%s needs the name of a file", command);
    if (code == FLO_OK) {
        attach(c, command, path);
    }
    free(path);
    return code;
}

/* What was attached is not any more; said where it would be missed. */
static void detach(chat *c, bool said)
{
    if (said && c->attached_names.n > 0) {
        log_info("%.*s: not attached any more", (int)c->attached_names.n, c->attached_names.at);
    }
    c->attached.n = c->attached_names.n = 0;
}

/* -- its text ---------------------------------------------------------------------------------- */

static flo_code take_text(void *arg, const char *text, size_t n_bytes, flo_err *err)
{
    chat *c = arg;
    buffer_append(&c->answer, text, n_bytes);
    return output_write(text, n_bytes, err);
}

static void show_speed(const chat *c)
{
    flo_err ignored;
    cJSON *json;
    if (json_parse_request(&json, c->front.result.at, c->front.result.n, &ignored) != FLO_OK) {
        return;
    }
    const cJSON *t = json_member(json, "timing");
    double n = json_number(t, "generated_tokens"), seconds = json_number(t, "generate_s");
    if (seconds > 0) {
        log_info("%.0f tokens, %.1f tokens/s; %.0f of %.0f prompt tokens were in the KV cache", n,
                 n / seconds, json_number(t, "reused_tokens"), json_number(t, "prompt_tokens"));
    }
    cJSON_Delete(json);
}

/* -- its sound --------------------------------------------------------------------------------- */

static void begin_sound(chat *c)
{
    c->spoken_fault.text[0] = '\0';
    if (c->speaks) {
        c->spoken_name = spoken_answers_next(c->spoken_stem);
        speech_file_open(&c->front.sound, c->spoken_name, &c->spoken_fault); /* told at the end */
    }
}

/* The file could not be written (a full disk): the text goes on without it. */
static void give_up_sound(chat *c, const flo_err *why)
{
    speech_file_discard(c->front.sound);
    c->front.sound = NULL;
    c->front.sound_code = FLO_OK;
    c->spoken_fault = *why;
}

/* What there is of the sound is all there will be; a file of none is not made. */
static void keep_sound(chat *c)
{
    const speech_file *sound = c->front.sound;
    if (sound != NULL && speech_file_seconds(sound) > 0) {
        front_keep_sound(&c->front, &c->spoken_fault);
    }
}

static void forget_sound(chat *c)
{
    speech_file_discard(c->front.sound);
    c->front.sound = NULL;
    free(c->spoken_name);
    c->spoken_name = NULL;
}

/* After the answer's last line. */
static void show_sound(chat *c)
{
    if (c->spoken_name == NULL) {
        return;
    }
    if (c->spoken_fault.text[0] != '\0') {
        log_error("%s; answers are not spoken any more, /speak on begins again",
                  c->spoken_fault.text);
        c->speaks = false;
        c->worst = c->worst == FLO_OK ? FLO_FAIL : c->worst;
    } else if (c->front.sound_s > 0) {
        front_log_sound(&c->front, c->spoken_name);
    } else {
        log_info("no sound: there was nothing to say");
    }
}

/* -- one turn ---------------------------------------------------------------------------------- */

/* The first signal ends the answer, a second one the chat. */
static flo_code wait_for_answer(chat *c, flo_err *err)
{
    bool cancelled = false;
    while (!c->front.answered) {
        flo_code code = front_step(&c->front, -1, -1, NULL, err);
        if (code == FLO_INTERRUPTED && !cancelled) {
            cancelled = true;
            c->front.text_code = c->front.sound_code = FLO_OK;
            c->front.on_text = NULL;
            keep_sound(c);
            code = session_cancel(c->front.session, c->front.request, err);
        } else if (code == FLO_FAIL && c->front.sound_code == FLO_FAIL) {
            give_up_sound(c, &c->front.sound_cause);
            code = FLO_OK;
        }
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

/* The request of a turn. A sound keeps the features that it had in the turn that brought it: were
 * it padded to the longest of all turns, a longer one would change what the KV cache holds. */
static void put_request(buffer *body, const chat *c)
{
    buffer_append_byte(body, '{');
    conversation_put(body, &c->conversation);
    sampling_put(body, &c->options->sampling);
    if (c->conversation.has_media) {
        media_options_put(body, &c->options->media, "turn");
    }
    if (c->front.sound != NULL) {
        speech_put(body, &c->options->speech, false);
    }
    buffer_append_byte(body, '}');
}

static flo_code ask(chat *c, flo_err *err)
{
    buffer body = {0};
    put_request(&body, c);
    c->answer.n = 0;
    c->front.on_text = take_text;
    c->front.arg = c;
    flo_code code = front_submit(&c->front, "completion", &body, NULL, err);
    buffer_free(&body);
    return code == FLO_OK ? wait_for_answer(c, err) : code;
}

static flo_code end_turn(chat *c, flo_err *err)
{
    keep_sound(c);
    conversation_add(&c->conversation, "assistant", NULL, c->answer.at, c->answer.n);
    flo_code code = output_write("\n", 1, err);
    front_show_held(&c->front);
    show_sound(c);
    show_speed(c);
    return code;
}

/* A turn that was refused (too long a conversation, a damaged picture) is taken back with what it
 * brought; the chat goes on. */
static flo_code take_turn(chat *c, const char *text, size_t n_bytes, flo_err *err)
{
    size_t before = c->conversation.messages.n;
    conversation_add(&c->conversation, "user", &c->attached, text, n_bytes);
    begin_sound(c);
    flo_code code = ask(c, err);
    bool refused = code == FLO_OK && c->front.code != FLO_OK;
    if (refused) {
        c->conversation.messages.n = before;
        log_error("%s", c->front.cause.text);
        c->worst = c->worst == FLO_OK ? c->front.code : c->worst;
    }
    if (code == FLO_OK) {
        detach(c, refused);
        code = refused ? FLO_OK : end_turn(c, err);
    }
    forget_sound(c);
    return code;
}

/* -- commands ---------------------------------------------------------------------------------- */

static const char help_lines[] =
    "/image F     a picture for the next message; several may be given\n"
    "/audio F     a sound, /video F a video, likewise\n"
    "/reset       forget the conversation, and what is attached\n"
    "/save F      write the conversation to a file\n"
    "/load F      go on with the conversation of a file\n"
    "/speak on    say the answers aloud, each into a file; /speak off\n"
    "/help        these lines\n"
    "/quit        end (or Ctrl-D)\n"
    "Ctrl-C       end the answer; at the prompt: end the chat\n"
    "//TEXT       say TEXT with one slash in front\n";

static flo_code save_or_load(chat *c, const char *name, const char *typed, flo_err *err)
{
    char *path = typed_path(typed);
    flo_code code = path[0] == '\0' ? flo_fail(err, FLO_USAGE, "%s needs the name of a file", name)
                    : strcmp(name, "/save") == 0 ? conversation_save(&c->conversation, path, err)
                                                 : conversation_load(&c->conversation, path, err);
    free(path);
    return code;
}

/* `/speak on`, `/speak off`, or the state. */
static flo_code turn_speech(chat *c, const char *word, flo_err *err)
{
    const speech_given *how = &c->options->speech;
    flo_code code = FLO_OK;
    if (strcmp(word, "on") == 0) {
        code = c->options->run.no_speech
                   ? flo_fail(err, FLO_USAGE, "/speak: this chat was started with --no-speech")
                   : front_check_speech(&c->front, how, err);
        if (code == FLO_OK && c->spoken_stem == NULL) {
            code = spoken_answers_find(&c->spoken_stem, "", err);
        }
        c->speaks = c->speaks || code == FLO_OK;
    } else if (strcmp(word, "off") == 0) {
        c->speaks = false;
    } else if (word[0] != '\0') {
        return flo_fail(err, FLO_USAGE, "/speak %s: say on or off", word);
    }
    if (code == FLO_OK && c->speaks) {
        char *next = spoken_answers_next(c->spoken_stem);
        log_info("answers are spoken; the next one into %s", next);
        free(next);
    } else if (code == FLO_OK) {
        log_info("answers are not spoken");
    }
    return code;
}

/* A line with a slash in front. Faults are shown and the chat goes on. */
static void obey(chat *c, const char *line)
{
    static const char *const names[] = {"/reset", "/save",  "/load",  "/help", "/quit",
                                        "/image", "/audio", "/video", "/speak"};
    char name[32];
    size_t n = strcspn(line, " \t");
    snprintf(name, sizeof name, "%.*s", (int)n, line);
    const char *rest = line + n + strspn(line + n, " \t");
    flo_err err = {""};
    flo_code code = FLO_OK;
    if (strcmp(name, "/quit") == 0) {
        c->over = true;
    } else if (strcmp(name, "/reset") == 0) {
        conversation_begin(&c->conversation, c->options->system);
        detach(c, true);
    } else if (strcmp(name, "/help") == 0) {
        fputs(help_lines, stderr);
    } else if (strcmp(name, "/save") == 0 || strcmp(name, "/load") == 0) {
        code = save_or_load(c, name, rest, &err);
    } else if (strcmp(name, "/image") == 0 || strcmp(name, "/audio") == 0 ||
               strcmp(name, "/video") == 0) {
        code = attach_typed(c, name, rest, &err);
    } else if (strcmp(name, "/speak") == 0) {
        char *word = typed_path(rest); /* without the spaces around it */
        code = turn_speech(c, word, &err);
        free(word);
    } else {
        const char *near = nearest_name(name, names, sizeof names / sizeof names[0]);
        code = flo_fail(&err, FLO_USAGE, "unknown command %s%s%s%s", name,
                        near != NULL ? "; did you mean " : "",
                        near != NULL ? near : "; /help shows all", near != NULL ? "?" : "");
    }
    if (code != FLO_OK) {
        log_error("%s", err.text);
        c->worst = c->worst == FLO_OK ? code : c->worst;
    }
}

static flo_code take_line(chat *c, const char *line, size_t n_bytes, flo_err *err)
{
    if (strspn(line, " \t\r") == n_bytes) {
        return FLO_OK;
    }
    if (line[0] == '/' && line[1] != '/') {
        obey(c, line);
        return FLO_OK;
    }
    size_t skipped = line[0] == '/';
    flo_err fault;
    if (prompt_check(line, n_bytes, "the line", &fault) != FLO_OK) {
        log_error("%s", fault.text);
        c->worst = c->worst == FLO_OK ? FLO_USAGE : c->worst;
        return FLO_OK;
    }
    return take_turn(c, line + skipped, n_bytes - skipped, err);
}

static flo_code wait_for_input(void *arg, int fd, flo_err *err)
{
    chat *c = arg;
    bool ready = false;
    flo_code code = FLO_OK;
    while (code == FLO_OK && !ready) {
        code = front_step(&c->front, -1, fd, &ready, err);
    }
    return code;
}

static flo_code converse(chat *c, flo_err *err)
{
    flo_code code = FLO_OK;
    if (line_reader_is_terminal(c->lines)) {
        log_info("ready; /help shows the commands");
    }
    const word_list *named = &c->options->media.named;
    for (size_t i = 0; i < named->n; i += 2) {
        attach(c, named->words[i], named->words[i + 1]);
    }
    while (code == FLO_OK && !c->over) {
        const char *line;
        size_t n_bytes = 0;
        code = line_reader_next(c->lines, "> ", &line, &n_bytes, err);
        if (code == FLO_OK && line == NULL) {
            c->over = true;
        } else if (code == FLO_OK) {
            code = take_line(c, line, n_bytes, err);
        }
    }
    return code;
}

static flo_code run_chat(const chat_options *o, flo_err *err)
{
    chat c = {.options = o, .speaks = o->speech.file != NULL};
    flo_code code = c.speaks ? spoken_answers_find(&c.spoken_stem, o->speech.file, err) : FLO_OK;
    conversation_begin(&c.conversation, o->system);
    if (code == FLO_OK) {
        code = front_open(&c.front, &o->run, &o->speech, err);
    }
    if (code == FLO_OK) {
        line_reader_new(&c.lines, wait_for_input, &c);
        code = converse(&c, err);
        if (code == FLO_OK && !line_reader_is_terminal(c.lines)) {
            code = c.worst; /* a script wants to know; its sentence was shown when it happened */
            err->text[0] = '\0';
        }
        if (line_reader_is_terminal(c.lines)) {
            fputc('\n', stderr);
        }
        line_reader_free(c.lines);
        front_close(&c.front);
    }
    conversation_free(&c.conversation);
    buffer_free(&c.attached);
    buffer_free(&c.attached_names);
    buffer_free(&c.answer);
    free(c.spoken_stem);
    return code;
}

flo_code command_chat(int argc, char **argv, flo_err *err)
{
    chat_options o = {0};
    flo_code code = read_options(&o, argc, argv, err);
    if (code == FLO_OK && o.help) {
        code = command_help("chat", err);
    } else if (code == FLO_OK) {
        options_set_log(&o.run);
        code = run_chat(&o, err);
    }
    media_given_free(&o.media);
    return code;
}

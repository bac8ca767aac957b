/*
 * command_speak.c - `flotilla speak`: a given text, said aloud.
 *
 * The talker takes the text as an answer that the model has given; no token is generated. So the
 * job needs of the thinker its embedding table alone: encoders are left out, and all layers but the
 * first, which a plan must have.
 */
#include "launch/commands.h"

#include "common/file.h"
#include "common/json.h"
#include "launch/front.h"
#include "launch/output.h"
#include "launch/request_body.h"
#include "launch/speech_given.h"

#include <string.h>
#include <unistd.h>

enum { OWN_ARGUMENTS = SPEECH_ARGUMENTS + 5 };

typedef struct speak_options {
    run_options run;
    const char *text, *text_file;
    argument seed;
    int64_t seed_value;
    bool seed_given, help;
    speech_given speech;
} speak_options;

static size_t table_of(speak_options *o, argument table[OWN_ARGUMENTS])
{
    const argument own[] = {
        {.name = "--text", .kind = ARGUMENT_TEXT, .out = &o->text},
        {.name = "--text-file", .kind = ARGUMENT_TEXT, .out = &o->text_file},
        {.name = "--speech", .kind = ARGUMENT_TEXT, .out = &o->speech.file},
        {.name = "--help", .kind = ARGUMENT_FLAG, .out = &o->help},
    };
    size_t n = sizeof own / sizeof own[0];
    memcpy(table, own, sizeof own);
    speech_arguments(&o->speech, table + n);
    n += SPEECH_ARGUMENTS;
    o->seed = (argument){.name = "--seed",
                         .kind = ARGUMENT_INTEGER,
                         .out = &o->seed_value,
                         .min = 0,
                         .max = SEED_MAX,
                         .given = &o->seed_given};
    table[n] = o->seed;
    return n + 1;
}

/* Where nobody says: into the pipe or file that standard output is, else (a terminal, a document) a
 * file in this folder. */
static const char *default_file(const run_options *run)
{
    return run->json || isatty(STDOUT_FILENO) == 1 ? "speech.wav" : "-";
}

static flo_code read_options(speak_options *o, int argc, char **argv, flo_err *err)
{
    argument table[OWN_ARGUMENTS];
    size_t n = table_of(o, table);
    flo_code code = options_read(&o->run, table, n, &o->help, argc, argv, err);
    if (code != FLO_OK || o->help) {
        return code;
    }
    if ((o->text == NULL) == (o->text_file == NULL)) {
        return flo_fail(err, FLO_USAGE, "speak takes one of --text and --text-file%s",
                        o->text == NULL ? "; none was given" : ", not both");
    }
    if (o->run.no_speech) {
        return flo_fail(err, FLO_USAGE, "--no-speech: there is nothing to speak with then");
    }
    if (o->speech.file == NULL) {
        o->speech.file = default_file(&o->run);
    }
    code = options_check(&o->run, err);
    return code == FLO_OK ? speech_given_check(&o->speech, &o->run, false, err) : code;
}

static flo_code make_body(buffer *body, const speak_options *o, flo_err *err)
{
    buffer file = {0};
    const char *text = o->text, *name = "--text";
    size_t n_bytes = text != NULL ? strlen(text) : 0;
    flo_code code = FLO_OK;
    if (o->text_file != NULL) {
        code = file_read(&file, o->text_file, PROMPT_BYTES_MAX, err);
        text = file.at;
        n_bytes = file.n;
        name = strcmp(o->text_file, "-") == 0 ? "standard input" : o->text_file;
    }
    if (code == FLO_OK) {
        code = text_check(text, n_bytes, "text", name, err);
    }
    if (code == FLO_OK) {
        buffer_append_text(body, "{\"speak\":");
        json_put_string(body, text, n_bytes);
        if (o->seed_given) {
            buffer_append_byte(body, ',');
            argument_put(body, "seed", &o->seed);
        }
        speech_put(body, &o->speech, speech_file_is_stream(o->speech.file));
        buffer_append_byte(body, '}');
        code = body->failed ? flo_fail(err, FLO_FAIL, "out of memory") : FLO_OK;
    }
    buffer_free(&file);
    return code;
}

static flo_code ask(front *f, const speak_options *o, const buffer *body, flo_err *err)
{
    flo_code code = front_ask(f, "completion", body, NULL, err);
    if (code == FLO_OK) {
        code = front_keep_sound(f, err);
    }
    if (code == FLO_OK && o->run.json) {
        code = front_show_document(f, o->speech.file, err);
        code = code == FLO_OK ? output_write("\n", 1, err) : code;
    }
    if (code == FLO_OK) {
        front_log_sound(f, o->speech.file);
    }
    return code;
}

static flo_code speak(const speak_options *o, flo_err *err)
{
    front f;
    buffer body = {0};
    speech_file *sound = NULL;
    run_options run = o->run;
    run.no_media = true;
    if (run.n_layers == 0 && run.n_stages <= 1 && run.cluster == NULL) {
        run.n_layers = 1;
    }
    flo_code code = make_body(&body, o, err);
    if (code == FLO_OK) {
        code = speech_file_open(&sound, o->speech.file, err);
    }
    if (code == FLO_OK) {
        code = front_open(&f, &run, &o->speech, err);
        if (code == FLO_OK) {
            f.sound = sound;
            code = ask(&f, o, &body, err);
            front_close(&f);
        } else {
            speech_file_discard(sound);
        }
    }
    buffer_free(&body);
    return code;
}

flo_code command_speak(int argc, char **argv, flo_err *err)
{
    speak_options o = {0};
    flo_code code = read_options(&o, argc, argv, err);
    if (code != FLO_OK) {
        return code;
    }
    if (o.help) {
        return command_help("speak", err);
    }
    options_set_log(&o.run);
    return speak(&o, err);
}

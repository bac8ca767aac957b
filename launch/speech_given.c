/*
 * speech_given.c - options into one member of a request, and the name of the file into its answer.
 */
#include "launch/speech_given.h"

#include "common/json.h"
#include "launch/json_slice.h"
#include "launch/request_body.h"

#include <stdio.h>
#include <string.h>

typedef enum speech_mode { SPEECH_EXACT, SPEECH_SEAMLESS } speech_mode;

static const char *const mode_names[] = {"exact", "seamless", NULL};

/* In the order of the table; the first two are written by hand. */
enum { AT_SPEAKER, AT_MODE, AT_NUMBERS };
static const char *const keys[SPEECH_ARGUMENTS] = {"speaker", "mode",          "temperature",
                                                   "top_k",   "top_p",         "repetition_penalty",
                                                   "greedy",  "max_new_tokens"};

/* The limits are those of the answer's own sampling (request_body.c). */
void speech_arguments(speech_given *s, argument table[SPEECH_ARGUMENTS])
{
    *s = (speech_given){0};
    const argument all[SPEECH_ARGUMENTS] = {
        {.name = "--speaker", .kind = ARGUMENT_TEXT, .out = &s->speaker},
        {.name = "--speech-mode", .kind = ARGUMENT_CHOICE, .out = &s->mode, .choices = mode_names},
        {.name = "--talker-temperature",
         .kind = ARGUMENT_NUMBER,
         .out = &s->temperature,
         .min = 0,
         .max = 1000},
        {.name = "--talker-top-k",
         .kind = ARGUMENT_INTEGER,
         .out = &s->top_k,
         .min = 0,
         .max = 1 << 30},
        {.name = "--talker-top-p", .kind = ARGUMENT_NUMBER, .out = &s->top_p, .min = 0, .max = 1},
        {.name = "--talker-repetition-penalty",
         .kind = ARGUMENT_NUMBER,
         .out = &s->repetition_penalty,
         .min = 0.01,
         .max = 100},
        {.name = "--talker-greedy", .kind = ARGUMENT_FLAG, .out = &s->greedy},
        {.name = "--talker-max-new-tokens",
         .kind = ARGUMENT_INTEGER,
         .out = &s->max_new_tokens,
         .min = 1,
         .max = 1 << 20},
    };
    for (int i = 0; i < SPEECH_ARGUMENTS; i++) {
        table[i] = all[i];
        table[i].given = &s->given[i];
    }
}

/* The first option that says how to speak; NULL: none. */
static const char *first_given(const speech_given *s)
{
    speech_given scratch;
    argument table[SPEECH_ARGUMENTS];
    speech_arguments(&scratch, table);
    for (int i = 0; i < SPEECH_ARGUMENTS; i++) {
        if (s->given[i]) {
            return table[i].name;
        }
    }
    return NULL;
}

flo_code speech_given_check(const speech_given *s, const run_options *run, bool later, flo_err *err)
{
    const char *how = first_given(s);
    if (s->file == NULL && how != NULL && !later) {
        return flo_fail(err, FLO_USAGE,
                        "%s says how to speak, and nothing is to be spoken; add --speech FILE.wav",
                        how);
    }
    if (run->no_speech && (s->file != NULL || how != NULL)) {
        return flo_fail(err, FLO_USAGE, "%s: --no-speech leaves the talker out; give one of them",
                        s->file != NULL ? "--speech" : how);
    }
    if (s->file != NULL && s->file[0] == '\0' && !later) {
        return flo_fail(err, FLO_USAGE, "--speech: the name of the file is empty");
    }
    if (s->file != NULL && strcmp(s->file, "-") == 0 && run->json) {
        return flo_fail(err, FLO_USAGE,
                        "--speech - and --json both write to standard output; give --speech the "
                        "name of a file");
    }
    return FLO_OK;
}

static void put_speakers(char *out, size_t n_bytes, const model_config *model)
{
    size_t used = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < model->n_speakers && used < n_bytes; i++) {
        const char *between = i == 0 ? "" : i + 1 == model->n_speakers ? " and " : ", ";
        used +=
            (size_t)snprintf(out + used, n_bytes - used, "%s%s", between, model->speakers[i].name);
    }
}

flo_code speech_model_check(const speech_given *s, const model_config *model, const char *folder,
                            flo_err *err)
{
    if (!model->has_talker || !model->has_code2wav) {
        return flo_fail(err, FLO_USAGE,
                        "%s: this model (%s) has no talker; speech needs an Instruct checkpoint",
                        folder, model_variant_name(model->variant));
    }
    if (model->n_speakers == 0) {
        return flo_fail(err, FLO_USAGE,
                        "%s: this model's talker has no speakers (speaker_id in "
                        "config.json is empty)",
                        folder);
    }
    const char *name = s->speaker != NULL ? s->speaker : SPEAKER_DEFAULT;
    if (model_speaker(model, name) == NULL) {
        char all[FLO_ERR_BYTES / 2];
        put_speakers(all, sizeof all, model);
        return flo_fail(err, FLO_USAGE, "--speaker %.60s: unknown; this model's speakers are %s",
                        name, all);
    }
    return FLO_OK;
}

void speech_put(buffer *body, const speech_given *s, bool stream)
{
    speech_given copy;
    argument table[SPEECH_ARGUMENTS];
    speech_arguments(&copy, table);
    copy = *s; /* the table points into the copy */
    int mode = s->given[AT_MODE] ? s->mode : stream ? SPEECH_SEAMLESS : SPEECH_EXACT;
    buffer_append_text(body, ",\"speech\":{\"mode\":\"");
    buffer_append_text(body, mode_names[mode]);
    buffer_append_byte(body, '"');
    if (s->given[AT_SPEAKER]) {
        buffer_append_text(body, ",\"speaker\":");
        json_put_string(body, s->speaker, strlen(s->speaker));
    }
    for (int i = AT_NUMBERS; i < SPEECH_ARGUMENTS; i++) {
        if (s->given[i]) {
            buffer_append_byte(body, ',');
            argument_put(body, keys[i], &table[i]);
        }
    }
    buffer_append_byte(body, '}');
}

/* The value of the answer's "speech", where it is an object. */
static bool find_speech(json_slice answer, json_slice *speech)
{
    json_rest rest = json_rest_of(answer);
    json_slice key, value;
    bool found = false;
    while (json_next_member(&rest, &key, &value)) {
        if (json_key_is(key, "speech") && value.n >= 2 && value.at[0] == '{') {
            *speech = value;
            found = true;
        }
    }
    return found;
}

bool speech_was_cut(const buffer *answer)
{
    static const char length[] = "\"length\"";
    json_slice speech, key, value;
    if (answer->n == 0 || !find_speech((json_slice){answer->at, answer->n}, &speech)) {
        return false;
    }
    json_rest members = json_rest_of(speech);
    while (json_next_member(&members, &key, &value)) {
        if (json_key_is(key, "finish_reason")) {
            return value.n == sizeof length - 1 && memcmp(value.at, length, value.n) == 0;
        }
    }
    return false;
}

void speech_answer_put(buffer *out, const buffer *answer, const char *file)
{
    json_slice speech, key, value;
    if (answer->n == 0 || !find_speech((json_slice){answer->at, answer->n}, &speech)) {
        buffer_append(out, answer->at, answer->n);
        return;
    }
    json_rest members = json_rest_of(speech);
    const char *end = speech.at + 1; /* behind its last member */
    bool any = false;
    while (json_next_member(&members, &key, &value)) {
        end = value.at + value.n;
        any = true;
    }
    buffer_append(out, answer->at, (size_t)(end - answer->at));
    buffer_append_text(out, any ? ", \"file\": " : "\"file\": ");
    json_put_string(out, file, strlen(file));
    buffer_append(out, end, (size_t)(answer->at + answer->n - end));
}

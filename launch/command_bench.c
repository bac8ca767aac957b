/*
 * command_bench.c - `flotilla bench`: rates of encoders and speech beside what the machine can do.
 */
#include "launch/commands.h"

#include "common/json.h"
#include "common/layout.h"
#include "launch/front.h"
#include "launch/output.h"
#include "launch/request_body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PICTURE_SIDE_MAX = 16384, FRAMES_MAX = 4000 };

typedef struct bench_options {
    run_options run;
    bool encoders, speech, help;
    int64_t repeat, audio_seconds, frames, speakers; /* the last two 0: as the coordinator likes */
    const char *image_size;
    int64_t width, height;
} bench_options;

static flo_code take_size(bench_options *o, flo_err *err)
{
    char *end;
    long width = strtol(o->image_size, &end, 10);
    long height = *end == 'x' ? strtol(end + 1, &end, 10) : 0;
    if (width < 1 || height < 1 || *end != '\0') {
        return flo_fail(err, FLO_USAGE, "--image-size %s: give it as WIDTHxHEIGHT, like 1024x1024",
                        o->image_size);
    }
    if (width > PICTURE_SIDE_MAX || height > PICTURE_SIDE_MAX) {
        return flo_fail(err, FLO_USAGE, "--image-size %s: a side may have up to %d pixels",
                        o->image_size, PICTURE_SIDE_MAX);
    }
    o->width = width;
    o->height = height;
    return FLO_OK;
}

static flo_code read_options(bench_options *o, int argc, char **argv, flo_err *err)
{
    const argument table[] = {
        {.name = "--encoders", .kind = ARGUMENT_FLAG, .out = &o->encoders},
        {.name = "--speech", .kind = ARGUMENT_FLAG, .out = &o->speech},
        {.name = "--repeat", .kind = ARGUMENT_INTEGER, .out = &o->repeat, .min = 1, .max = 100},
        {.name = "--image-size", .kind = ARGUMENT_TEXT, .out = &o->image_size},
        {.name = "--audio-seconds",
         .kind = ARGUMENT_INTEGER,
         .out = &o->audio_seconds,
         .min = 1,
         .max = 3600},
        {.name = "--frames",
         .kind = ARGUMENT_INTEGER,
         .out = &o->frames,
         .min = 1,
         .max = FRAMES_MAX},
        {.name = "--speakers",
         .kind = ARGUMENT_INTEGER,
         .out = &o->speakers,
         .min = 1,
         .max = SPEAKERS_MAX},
        {.name = "--help", .kind = ARGUMENT_FLAG, .out = &o->help},
    };
    size_t n = sizeof table / sizeof table[0];
    o->repeat = 3;
    o->audio_seconds = 40;
    o->image_size = "1024x1024";
    flo_code code = options_read(&o->run, table, n, &o->help, argc, argv, err);
    if (code != FLO_OK || o->help) {
        return code;
    }
    if (!o->encoders && !o->speech) {
        return flo_fail(err, FLO_USAGE,
                        "bench measures encoders and speech so far: say --encoders or --speech; "
                        "rates of text stand in the timing of generate --json");
    }
    if (o->speech && o->run.no_speech) {
        return flo_fail(err, FLO_USAGE,
                        "--speech: --no-speech leaves the talker out; give one of them");
    }
    if (!o->speech && (o->frames > 0 || o->speakers > 0)) {
        return flo_fail(err, FLO_USAGE, "%s goes with --speech only",
                        o->frames > 0 ? "--frames" : "--speakers");
    }
    code = take_size(o, err);
    return code == FLO_OK ? options_check(&o->run, err) : code;
}

static void put_number(buffer *body, const char *key, int64_t value)
{
    buffer_append_text(body, ",\"");
    buffer_append_text(body, key);
    buffer_append_text(body, "\":");
    json_put_integer(body, value);
}

static void make_body(buffer *body, const bench_options *o)
{
    buffer_append_text(body, "{\"repeat\":");
    json_put_integer(body, o->repeat);
    if (o->encoders) {
        buffer_append_text(body, ",\"encoders\":true");
        put_number(body, "image_width", o->width);
        put_number(body, "image_height", o->height);
        put_number(body, "audio_seconds", o->audio_seconds);
    }
    if (o->speech) {
        buffer_append_text(body, ",\"speech\":true");
    }
    if (o->frames > 0) {
        put_number(body, "frames", o->frames);
    }
    if (o->speakers > 0) {
        put_number(body, "speakers", o->speakers);
    }
    buffer_append_byte(body, '}');
}

static void put_row(buffer *out, const char *what, const cJSON *figures)
{
    char line[256];
    const cJSON *seconds = json_member(figures, "seconds");
    snprintf(line, sizeof line, "%-28s %9.3f %9.3f %9.3f %10.1f %10.1f %7.0f %%\n", what,
             json_number(seconds, "min"), json_number(seconds, "median"),
             json_number(seconds, "max"), json_number(figures, "gflop_per_s"),
             json_number(figures, "measured_peak_gflop_per_s"),
             100 * json_number(figures, "peak_fraction"));
    buffer_append_text(out, line);
}

static void put_encoders(buffer *out, const cJSON *encoders)
{
    char what[64];
    const cJSON *image = json_member(encoders, "image"), *audio = json_member(encoders, "audio");
    buffer_append_text(out,
                       "encoder                          s min    median       max  GFLOP/s   of "
                       "peak     share\n");
    if (image != NULL) {
        snprintf(what, sizeof what, "picture of %.0f x %.0f", json_number(image, "width"),
                 json_number(image, "height"));
        put_row(out, what, image);
    }
    if (audio != NULL) {
        snprintf(what, sizeof what, "%.0f s of sound", json_number(audio, "audio_seconds"));
        put_row(out, what, audio);
    }
}

/* What a frame takes of a part: bytes that it reads, or arithmetic. */
static void put_part(buffer *out, const cJSON *part)
{
    char line[256], work[64];
    const cJSON *name = json_member(part, "name");
    if (json_member(part, "bytes_per_frame") != NULL) {
        snprintf(work, sizeof work, "%.1f MB at %.1f GB/s",
                 json_number(part, "bytes_per_frame") * 1e-6,
                 json_number(part, "measured_read_gb_per_s"));
    } else {
        snprintf(work, sizeof work, "%.2f GFLOP at %.1f GFLOP/s",
                 json_number(part, "gflop_per_frame"),
                 json_number(part, "measured_peak_gflop_per_s"));
    }
    snprintf(line, sizeof line, "%-16s %4.0f %7.0f %% %12.2f %12.2f %7.0f %%   %s\n",
             cJSON_IsString(name) ? name->valuestring : "?", json_number(part, "rank"),
             100 * json_number(part, "time_share"), json_number(part, "ms_per_frame"),
             json_number(part, "limit_ms_per_frame"), 100 * json_number(part, "limit_fraction"),
             work);
    buffer_append_text(out, line);
}

static void put_speech(buffer *out, const cJSON *speech)
{
    char line[256];
    const cJSON *rate = json_member(speech, "frames_per_s"), *part;
    snprintf(line, sizeof line,
             "speech: %.2f frames/s (%.2f to %.2f), real-time factor %.2f; first sound after %.0f "
             "frames\n",
             json_number(rate, "median"), json_number(rate, "min"), json_number(rate, "max"),
             json_number(speech, "real_time_factor"), json_number(speech, "first_sound_frames"));
    buffer_append_text(out, line);
    buffer_append_text(out, "part             rank    share   ms a frame     limit ms   share of "
                            "limit   a frame's work\n");
    cJSON_ArrayForEach(part, json_member(speech, "parts"))
    {
        put_part(out, part);
    }
}

static void make_table(buffer *out, const cJSON *root)
{
    const cJSON *encoders = json_member(root, "encoders"), *speech = json_member(root, "speech");
    if (encoders != NULL) {
        put_encoders(out, encoders);
    }
    if (speech != NULL) {
        buffer_append_text(out, encoders != NULL ? "\n" : "");
        put_speech(out, speech);
    }
}

static flo_code show(const front *f, bool json, flo_err *err)
{
    buffer out = {0};
    cJSON *root = NULL;
    flo_code code = FLO_OK;
    if (json) {
        buffer_append(&out, f->result.at, f->result.n);
        buffer_append_byte(&out, '\n');
    } else {
        code = json_parse_request(&root, f->result.at, f->result.n, err);
        if (code == FLO_OK) {
            make_table(&out, root);
        }
    }
    if (code == FLO_OK) {
        code = out.failed ? flo_fail(err, FLO_FAIL, "out of memory")
                          : output_write(out.at, out.n, err);
    }
    cJSON_Delete(root);
    buffer_free(&out);
    return code;
}

flo_code command_bench(int argc, char **argv, flo_err *err)
{
    bench_options o = {0};
    flo_code code = read_options(&o, argc, argv, err);
    if (code != FLO_OK) {
        return code;
    }
    if (o.help) {
        return command_help("bench", err);
    }
    options_set_log(&o.run);
    buffer body = {0};
    front f;
    const speech_given how = {.file = o.speech ? "" : NULL}; /* the model must have a talker */
    run_options run = o.run;
    run.no_speech = !o.speech; /* what is not measured is not loaded */
    run.no_media = run.no_media || !o.encoders;
    make_body(&body, &o);
    code = front_open(&f, &run, &how, err);
    if (code == FLO_OK) {
        code = front_ask(&f, "bench", &body, NULL, err);
        if (code == FLO_OK) {
            code = show(&f, o.run.json, err);
        }
        front_close(&f);
    }
    buffer_free(&body);
    return code;
}

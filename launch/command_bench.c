/*
 * command_bench.c - `flotilla bench --encoders`: rates beside what the machine can do.
 */
#include "launch/commands.h"

#include "common/json.h"
#include "launch/front.h"
#include "launch/request_body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PICTURE_SIDE_MAX = 16384 };

typedef struct bench_options {
    run_options run;
    bool encoders, help;
    int64_t repeat, audio_seconds;
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
        {.name = "--repeat", .kind = ARGUMENT_INTEGER, .out = &o->repeat, .min = 1, .max = 100},
        {.name = "--image-size", .kind = ARGUMENT_TEXT, .out = &o->image_size},
        {.name = "--audio-seconds",
         .kind = ARGUMENT_INTEGER,
         .out = &o->audio_seconds,
         .min = 1,
         .max = 3600},
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
    if (!o->encoders) {
        return flo_fail(err, FLO_USAGE,
                        "bench measures the encoders so far: say --encoders; rates of text stand "
                        "in the timing of generate --json");
    }
    code = take_size(o, err);
    return code == FLO_OK ? options_check(&o->run, err) : code;
}

static void make_body(buffer *body, const bench_options *o)
{
    char text[256];
    snprintf(text, sizeof text,
             "{\"encoders\":true,\"repeat\":%lld,\"image_width\":%lld,\"image_height\":%lld,\"audio_seconds\":%lld}",
             (long long)o->repeat, (long long)o->width, (long long)o->height,
             (long long)o->audio_seconds);
    buffer_append_text(body, text);
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

static void make_table(buffer *out, const cJSON *root)
{
    char what[64];
    const cJSON *encoders = json_member(root, "encoders");
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
    make_body(&body, &o);
    code = front_open(&f, &o.run, err);
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

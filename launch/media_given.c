/*
 * media_given.c - one table for reading, checking and writing.
 */
#include "launch/media_given.h"

#include "common/json.h"
#include "common/utf8.h"
#include "launch/front.h"
#include "launch/request_body.h"

#include <errno.h>
#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIXELS_MAX ((double)((int64_t)1 << 40))

enum { NAMED_BY = 3 }; /* the first entries of the table name media, the others say how */

static const char *const keys[MEDIA_ARGUMENTS] = {NULL,
                                                  NULL,
                                                  NULL,
                                                  "image_min_pixels",
                                                  "image_max_pixels",
                                                  "video_min_pixels",
                                                  "video_max_pixels",
                                                  "video_fps",
                                                  "recorded_fps",
                                                  "video_all_frames",
                                                  "use_audio_in_video"};

/* Entries that point into *m. */
static void fill_table(media_given *m, argument table[MEDIA_ARGUMENTS])
{
    const argument all[MEDIA_ARGUMENTS] = {
        {.name = "--image", .kind = ARGUMENT_NAMED_TEXTS, .out = &m->named},
        {.name = "--audio", .kind = ARGUMENT_NAMED_TEXTS, .out = &m->named},
        {.name = "--video", .kind = ARGUMENT_NAMED_TEXTS, .out = &m->named},
        {.name = "--image-min-pixels", .kind = ARGUMENT_INTEGER, .out = &m->image_min_pixels},
        {.name = "--image-max-pixels", .kind = ARGUMENT_INTEGER, .out = &m->image_max_pixels},
        {.name = "--video-min-pixels", .kind = ARGUMENT_INTEGER, .out = &m->video_min_pixels},
        {.name = "--video-max-pixels", .kind = ARGUMENT_INTEGER, .out = &m->video_max_pixels},
        {.name = "--video-fps", .kind = ARGUMENT_NUMBER, .out = &m->video_fps},
        {.name = "--recorded-fps", .kind = ARGUMENT_NUMBER, .out = &m->recorded_fps},
        {.name = "--video-all-frames", .kind = ARGUMENT_FLAG, .out = &m->video_all_frames},
        {.name = "--use-audio-in-video", .kind = ARGUMENT_FLAG, .out = &m->use_audio_in_video},
    };
    for (int i = 0; i < MEDIA_ARGUMENTS; i++) {
        table[i] = all[i];
        table[i].given = &m->given[i];
        bool pixels = all[i].kind == ARGUMENT_INTEGER;
        table[i].min = pixels ? 1 : -DBL_MAX; /* rates are looked at afterwards: over 0 */
        table[i].max = pixels ? PIXELS_MAX : DBL_MAX;
    }
}

void media_arguments(media_given *m, argument table[MEDIA_ARGUMENTS])
{
    *m = (media_given){0};
    fill_table(m, table);
}

void media_given_free(media_given *m)
{
    word_list_free(&m->named);
}

/* -- one medium -------------------------------------------------------------------------------- */

bool medium_is_path(const char *reference, size_t n_bytes)
{
    static const char *const schemes[] = {"data:", "file:", "http:", "https:"};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t n = strlen(schemes[i]);
        if (n_bytes >= n && strncasecmp(reference, schemes[i], n) == 0) {
            return false;
        }
    }
    return true;
}

static const char *kind_of(const char *option)
{
    return option + strspn(option, "-/");
}

static bool is_network(const char *reference)
{
    return strncasecmp(reference, "http://", 7) == 0 || strncasecmp(reference, "https://", 8) == 0;
}

static flo_code check_file(const char *option, const char *path, flo_err *err)
{
    struct stat s;
    bool video = strcmp(kind_of(option), "video") == 0;
    if (stat(path, &s) != 0) {
        return flo_fail(err, FLO_USAGE, "%s %s: %s", option, path, strerror(errno));
    }
    if (S_ISDIR(s.st_mode) && !video) {
        return flo_fail(err, FLO_USAGE, "%s %s: is a folder; give the name of a file", option,
                        path);
    }
    if (!S_ISDIR(s.st_mode) && !S_ISREG(s.st_mode)) {
        return flo_fail(err, FLO_USAGE, "%s %s: is no regular file; write it to one first", option,
                        path);
    }
    if (S_ISREG(s.st_mode) && s.st_size == 0) {
        return flo_fail(err, FLO_USAGE, "%s %s: the file is empty", option, path);
    }
    if (access(path, S_ISDIR(s.st_mode) ? R_OK | X_OK : R_OK) != 0) {
        return flo_fail(err, FLO_USAGE, "%s %s: %s", option, path, strerror(errno));
    }
    char *whole = absolute_path(path); /* it travels as JSON */
    bool good = utf8_good_bytes(whole, strlen(whole)) == strlen(whole);
    free(whole);
    return good ? FLO_OK
                : flo_fail(err, FLO_USAGE, "%s %s: its path is not UTF-8; give it another name",
                           option, path);
}

flo_code medium_check(const char *option, const char *reference, bool urls, flo_err *err)
{
    if (reference[0] == '\0') {
        return flo_fail(err, FLO_USAGE, "%s: the name of the file is empty", option);
    }
    if (strcmp(reference, "-") == 0) {
        return flo_fail(err, FLO_USAGE,
                        "%s -: media are not read from standard input; give the name of a file",
                        option);
    }
    if (is_network(reference) && !urls) {
        return flo_fail(err, FLO_USAGE,
                        "%s %.200s: media are fetched from the network only with "
                        "--allow-media-urls",
                        option, reference);
    }
    return medium_is_path(reference, strlen(reference)) ? check_file(option, reference, err)
                                                        : FLO_OK;
}

void medium_put(buffer *parts, const char *option, const char *reference)
{
    const char *kind = kind_of(option);
    char *whole = medium_is_path(reference, strlen(reference)) ? absolute_path(reference) : NULL;
    const char *where = whole != NULL ? whole : reference;
    buffer_append_text(parts, parts->n > 0 ? ",{\"type\":" : "{\"type\":");
    json_put_string(parts, kind, strlen(kind));
    buffer_append_byte(parts, ',');
    json_put_string(parts, kind, strlen(kind));
    buffer_append_byte(parts, ':');
    json_put_string(parts, where, strlen(where));
    buffer_append_byte(parts, '}');
    free(whole);
}

void medium_name(char out[64], const char *reference)
{
    flo_err name; /* has the control characters replaced */
    size_t n = strlen(reference);
    while (n > 1 && reference[n - 1] == '/') {
        n--;
    }
    size_t first = n;
    while (first > 0 && reference[first - 1] != '/') {
        first--;
    }
    bool data = strncasecmp(reference, "data:", 5) == 0;
    flo_fail(&name, FLO_OK, "%.*s", data ? 11 : (int)(n - first),
             data ? "a data: URL" : reference + first);
    size_t good = strnlen(name.text, 63);
    good = utf8_good_bytes(name.text, good);
    memcpy(out, name.text, good);
    out[good] = '\0';
}

/* -- all of them ------------------------------------------------------------------------------- */

static bool anything_given(const media_given *m)
{
    bool any = false;
    for (int i = 0; i < MEDIA_ARGUMENTS; i++) {
        any = any || m->given[i];
    }
    return any;
}

static flo_code check_bounds(const char *kind, int64_t min, int64_t max, flo_err *err)
{
    return min == 0 || max == 0 || min <= max
               ? FLO_OK
               : flo_fail(err, FLO_USAGE,
                          "--%s-min-pixels %lld: must not be over --%s-max-pixels %lld", kind,
                          (long long)min, kind, (long long)max);
}

static flo_code check_rate(const char *option, bool given, double rate, flo_err *err)
{
    return !given || rate > 0
               ? FLO_OK
               : flo_fail(err, FLO_USAGE, "%s %g: must be a number of frames per second over 0",
                          option, rate);
}

static flo_code check_numbers(const media_given *m, flo_err *err)
{
    media_given copy = *m;
    argument table[MEDIA_ARGUMENTS];
    fill_table(&copy, table);
    flo_code code = check_bounds("image", m->image_min_pixels, m->image_max_pixels, err);
    if (code == FLO_OK) {
        code = check_bounds("video", m->video_min_pixels, m->video_max_pixels, err);
    }
    for (int i = NAMED_BY; i < MEDIA_ARGUMENTS && code == FLO_OK; i++) {
        if (table[i].kind == ARGUMENT_NUMBER) {
            code = check_rate(table[i].name, m->given[i], *(double *)table[i].out, err);
        }
    }
    return code;
}

flo_code media_given_check(const media_given *m, const run_options *run, bool others, flo_err *err)
{
    enum { VIDEO = 2 };
    if (run->no_media && anything_given(m)) {
        return flo_fail(err, FLO_USAGE,
                        "--no-media leaves pictures, sound and video out; give it without options "
                        "for them");
    }
    flo_code code = check_numbers(m, err);
    if (code == FLO_OK && m->use_audio_in_video && !m->given[VIDEO] && !others) {
        code = flo_fail(err, FLO_USAGE, "--use-audio-in-video needs a --video");
    }
    for (size_t i = 0; i < m->named.n && code == FLO_OK; i += 2) {
        code = medium_check(m->named.words[i], m->named.words[i + 1], run->allow_media_urls, err);
    }
    return code;
}

void media_parts_put(buffer *parts, const media_given *m)
{
    for (size_t i = 0; i < m->named.n; i += 2) {
        medium_put(parts, m->named.words[i], m->named.words[i + 1]);
    }
}

void media_options_put(buffer *body, const media_given *m, const char *sound_padding)
{
    media_given copy = *m;
    argument table[MEDIA_ARGUMENTS];
    size_t before = body->n;
    fill_table(&copy, table);
    for (int i = NAMED_BY; i < MEDIA_ARGUMENTS; i++) {
        if (m->given[i]) {
            buffer_append_text(body, body->n == before ? ",\"media_options\":{" : ",");
            argument_put(body, keys[i], &table[i]);
        }
    }
    if (sound_padding != NULL) {
        buffer_append_text(body, body->n == before ? ",\"media_options\":{" : ",");
        buffer_append_text(body, "\"sound_padding\":");
        json_put_string(body, sound_padding, strlen(sound_padding));
    }
    if (body->n > before) {
        buffer_append_byte(body, '}');
    }
}

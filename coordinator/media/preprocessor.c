/*
 * preprocessor.c - what a checkpoint's processor files say of pictures, videos and sounds.
 *
 * Published checkpoints have one flat preprocessor_config.json; newer libraries write
 * processor_config.json with a section for each. A section there goes before the flat file. A field
 * that is absent or null takes the reference's default, where that can work with config.json; what
 * would have to be ignored to go on stops the start, with its name.
 * Source: image_processing_base.py, image_processing_qwen2_vl.py, feature_extraction_whisper.py,
 * processing_qwen3_omni_moe.py (which sets the limits of video frames itself, at each call).
 */
#include "coordinator/media/preprocessor.h"

#include "common/json.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FILE_BYTES_MAX = 1 << 20, BICUBIC = 3, SAMPLING_RATE = 16000, FFT_MAX = 2048 };

static const int64_t pixels_limit = (int64_t)1 << 28; /* 21 times the published maximum */

/* Of a folder without any of the files: the published values. */
static const preprocessor published = {
    .image_pixels_min = 3136,
    .image_pixels_max = 12845056,
    .video_pixels_min = 128 * 32 * 32,
    .video_pixels_max = 768 * 32 * 32,
    .mean = {0.5f, 0.5f, 0.5f},
    .std = {0.5f, 0.5f, 0.5f},
    .n_fft = 400,
    .hop = 160,
};

/* Of a file that does not say: the reference's classes. */
static const int64_t class_pixels_min = 56 * 56, class_pixels_max = 28 * 28 * 1280;
static const double class_mean[3] = {0.48145466, 0.4578275, 0.40821073};
static const double class_std[3] = {0.26862954, 0.26130258, 0.27577711};

/* ---- fields ---- */

/* An object of a file. The first refusal is kept, later ones change nothing. */
typedef struct section {
    const cJSON *json; /* NULL: nobody said anything */
    const char *path;  /* of its file */
    flo_code code;
    flo_err *err;
} section;

static void refuse(section *s, const char *field, const char *what)
{
    if (s->code == FLO_OK) {
        const cJSON *item = json_member(s->json, field);
        char value[64] = "";
        if (cJSON_IsNumber(item)) {
            snprintf(value, sizeof value, " is %g,", item->valuedouble);
        } else if (cJSON_IsBool(item)) {
            snprintf(value, sizeof value, " is %s,", cJSON_IsTrue(item) ? "true" : "false");
        }
        s->code = flo_fail(s->err, FLO_FAIL, "%s: %s%s must be %s", s->path, field, value, what);
    }
}

static const cJSON *field_of(const section *s, const char *field)
{
    const cJSON *item = json_member(s->json, field);
    return cJSON_IsNull(item) ? NULL : item;
}

/* A whole number, or `otherwise` where the field is absent. */
static int64_t whole_or(section *s, const char *field, int64_t otherwise, int64_t low, int64_t high)
{
    const cJSON *item = field_of(s, field);
    int64_t value = otherwise;
    if (item != NULL && !json_integer(item, low, high, &value)) {
        char what[96];
        snprintf(what, sizeof what, "a whole number from %" PRId64 " to %" PRId64, low, high);
        refuse(s, field, what);
        return otherwise;
    }
    return value;
}

/* Refuses a number that is there and is another one. */
static void must_be(section *s, const char *field, double value, const char *because)
{
    const cJSON *item = field_of(s, field);
    if (item != NULL &&
        !(cJSON_IsNumber(item) && fabs(item->valuedouble - value) <= 1e-12 * fabs(value))) {
        char what[96];
        snprintf(what, sizeof what, "%.9g%s", value, because);
        refuse(s, field, what);
    }
}

static void must_be_on(section *s, const char *field)
{
    const cJSON *item = field_of(s, field);
    if (item != NULL && !cJSON_IsTrue(item)) {
        refuse(s, field, "true: Flotilla knows no other way");
    }
}

/* Three numbers, or one for all channels. */
static void read_channels(section *s, const char *field, float out[3], const double otherwise[3],
                          double low)
{
    const cJSON *item = field_of(s, field);
    bool is_list = cJSON_IsArray(item) && cJSON_GetArraySize(item) == 3;
    for (int c = 0; c < 3; c++) {
        const cJSON *one = is_list ? cJSON_GetArrayItem(item, c) : item;
        double value = cJSON_IsNumber(one) ? one->valuedouble : NAN;
        value = item == NULL ? otherwise[c] : value;
        if (!(value >= low && value <= 1e4)) {
            char what[96];
            snprintf(what, sizeof what, "three numbers from %g to 10000, or one", low);
            refuse(s, field, what);
            return;
        }
        out[c] = (float)value;
    }
}

/* ---- sections ---- */

static void read_levels(section *s, preprocessor *p)
{
    read_channels(s, "image_mean", p->mean, class_mean, -1e4);
    read_channels(s, "image_std", p->std, class_std, 1e-4);
}

static void check_vision(section *s, const vision_config *v)
{
    static const char as_config[] = " as in config.json";
    must_be(s, "patch_size", v->patch_size, as_config);
    must_be(s, "merge_size", v->spatial_merge_size, as_config);
    must_be(s, "temporal_patch_size", v->temporal_patch_size, as_config);
    must_be(s, "resample", BICUBIC, " (bicubic)");
    must_be(s, "rescale_factor", 1.0 / 255, " (1/255)");
    must_be_on(s, "do_resize");
    must_be_on(s, "do_rescale");
    must_be_on(s, "do_normalize");
}

/* An edge of `size` counts pixels; min_pixels and max_pixels go before it, each by itself. */
static int64_t read_pixels(section *s, const char *field, const char *edge, int64_t otherwise)
{
    const cJSON *size = field_of(s, "size");
    if (field_of(s, field) != NULL) {
        return whole_or(s, field, otherwise, 1, pixels_limit);
    }
    if (size == NULL) {
        return otherwise;
    }
    section inner = {size, s->path, s->code, s->err};
    int64_t pixels = whole_or(&inner, edge, 0, 1, pixels_limit);
    if (inner.code == FLO_OK && pixels == 0) {
        refuse(s, "size", "shortest_edge and longest_edge, numbers of pixels");
    } else {
        s->code = inner.code;
    }
    return pixels;
}

static void read_image(section *s, preprocessor *p, const vision_config *v)
{
    check_vision(s, v);
    read_levels(s, p);
    p->image_pixels_min = read_pixels(s, "min_pixels", "shortest_edge", class_pixels_min);
    p->image_pixels_max = read_pixels(s, "max_pixels", "longest_edge", class_pixels_max);
    if (s->code == FLO_OK && p->image_pixels_min > p->image_pixels_max) {
        s->code = flo_fail(s->err, FLO_FAIL,
                           "%s: at least %" PRId64 " pixels and at most %" PRId64
                           " leave no picture, set min_pixels and max_pixels",
                           s->path, p->image_pixels_min, p->image_pixels_max);
    }
}

/* Frames are prepared as pictures are, but for the limits, which come with each call. */
static void check_video(section *s, const preprocessor *p, const vision_config *v)
{
    preprocessor of_video;
    check_vision(s, v);
    read_levels(s, &of_video);
    if (s->code == FLO_OK && (memcmp(of_video.mean, p->mean, sizeof p->mean) != 0 ||
                              memcmp(of_video.std, p->std, sizeof p->std) != 0)) {
        s->code =
            flo_fail(s->err, FLO_FAIL,
                     "%s: image_mean and image_std of videos must be those of pictures", s->path);
    }
}

static void read_sound(section *s, preprocessor *p, const audio_config *a)
{
    const cJSON *side = field_of(s, "padding_side");
    must_be(s, "feature_size", a->n_mel_bins, ", config.json's num_mel_bins");
    must_be(s, "sampling_rate", SAMPLING_RATE, "");
    must_be(s, "padding_value", 0, "");
    must_be(s, "dither", 0, "");
    if (side != NULL && !(cJSON_IsString(side) && strcmp(side->valuestring, "right") == 0)) {
        refuse(s, "padding_side", "\"right\"");
    }
    p->n_fft = (int32_t)whole_or(s, "n_fft", published.n_fft, 2, FFT_MAX);
    if (p->n_fft % 2 != 0) {
        refuse(s, "n_fft", "even");
    }
    p->hop = (int32_t)whole_or(s, "hop_length", published.hop, 1, p->n_fft);
}

/* ---- files ---- */

enum { NESTED, FLAT, VIDEO, N_FILES };

static const char *const file_names[N_FILES] = {"processor_config.json", "preprocessor_config.json",
                                                "video_preprocessor_config.json"};

typedef struct processor_file {
    char path[PATH_MAX];
    cJSON *json; /* NULL: no such file */
} processor_file;

static flo_code open_file(processor_file *f, const char *folder, const char *name, flo_err *err)
{
    f->json = NULL;
    int n = snprintf(f->path, sizeof f->path, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= sizeof f->path) {
        return flo_fail(err, FLO_USAGE, "%s: the name is too long", folder);
    }
    flo_code code = json_read(&f->json, f->path, FILE_BYTES_MAX, err);
    if (code == FLO_USAGE) { /* no such file */
        err->text[0] = '\0';
        return FLO_OK;
    }
    if (code == FLO_OK && !cJSON_IsObject(f->json)) {
        code = flo_fail(err, FLO_FAIL, "%s: not a JSON object", f->path);
    }
    return code;
}

/* The section of that name, else the whole of another file, where there is one. */
static section find_section(const processor_file *files, const char *name, int whole, flo_err *err)
{
    const cJSON *nested = json_member(files[NESTED].json, name);
    if (cJSON_IsObject(nested)) {
        return (section){nested, files[NESTED].path, FLO_OK, err};
    }
    return (section){files[whole].json, files[whole].path, FLO_OK, err};
}

static flo_code read_sections(preprocessor *p, const processor_file *files, const model_config *m,
                              flo_err *err)
{
    section image = find_section(files, "image_processor", FLAT, err);
    section video = find_section(files, "video_processor", VIDEO, err);
    section sound = find_section(files, "feature_extractor", FLAT, err);
    if (m->has_vision && image.json != NULL) {
        read_image(&image, p, &m->vision);
    }
    if (image.code == FLO_OK && m->has_vision && video.json != NULL) {
        check_video(&video, p, &m->vision);
    }
    if (image.code == FLO_OK && video.code == FLO_OK && m->has_audio && sound.json != NULL) {
        read_sound(&sound, p, &m->audio);
    }
    return image.code != FLO_OK ? image.code : video.code != FLO_OK ? video.code : sound.code;
}

flo_code preprocessor_read(preprocessor *p, const char *folder, const model_config *m, flo_err *err)
{
    processor_file files[N_FILES] = {0};
    preprocessor read = published;
    flo_code code = FLO_OK;
    for (int i = 0; code == FLO_OK && i < N_FILES; i++) {
        code = open_file(&files[i], folder, file_names[i], err);
    }
    if (code == FLO_OK) {
        code = read_sections(&read, files, m, err);
    }
    if (code == FLO_OK) {
        *p = read;
    }
    for (int i = 0; i < N_FILES; i++) {
        cJSON_Delete(files[i].json);
    }
    return code;
}

void preprocessor_levels(float values[3][256], const preprocessor *p)
{
    for (int c = 0; c < 3; c++) {
        float mean = p->mean[c] * 255.0f, std = p->std[c] * 255.0f;
        for (int b = 0; b < 256; b++) {
            values[c][b] = ((float)b - mean) / std;
        }
    }
}

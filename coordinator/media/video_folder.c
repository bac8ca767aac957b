/*
 * video_folder.c - pictures of a folder, one after the other.
 */
#include "coordinator/media/video_folder.h"

#include "common/cancel.h"
#include "common/file.h"
#include "coordinator/media/picture.h"
#include "coordinator/media/resize.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct video_folder {
    const media_source *source;
    uint64_t pixels_max;
    struct dirent **names;
    int32_t n;
    int32_t width, height; /* of every picture */
};

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* A picture's file in memory, and its name for sentences. */
static flo_code read_picture(buffer *bytes, char name[512], const video_folder *v, int64_t index,
                             flo_err *err)
{
    const char *leaf = v->names[index]->d_name;
    char path[PATH_MAX + 256];
    struct stat facts;
    (void)snprintf(name, 512, "%s/%s", v->source->name, leaf);
    (void)snprintf(path, sizeof path, "%s/%s", v->source->folder, leaf);
    if (stat(path, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        return flo_fail(err, FLO_USAGE, "%s: is not a file; a video's folder holds pictures alone",
                        name);
    }
    flo_code code = file_read(bytes, path, MEDIA_BYTES_MAX, err);
    if (code == FLO_OK && bytes->n == 0) {
        code = flo_fail(err, FLO_USAGE, "%s: is empty", name);
    }
    return code;
}

static flo_code check_picture(video_folder *v, int64_t index, flo_err *err)
{
    buffer bytes = {0};
    char name[512];
    int32_t width = 0, height = 0;
    flo_code code = read_picture(&bytes, name, v, index, err);
    if (code == FLO_OK) {
        code = picture_size(&width, &height, (const uint8_t *)bytes.at, bytes.n, name, err);
    }
    buffer_free(&bytes);
    if (code != FLO_OK) {
        return code;
    }
    if ((uint64_t)width * (uint64_t)height > v->pixels_max) {
        return flo_fail(err, FLO_USAGE,
                        "%s: has %" PRId32 "x%" PRId32 " pixels, more than the limit of %" PRIu64
                        " (--max-media-pixels)",
                        name, width, height, v->pixels_max);
    }
    if (index == 0) {
        v->width = width;
        v->height = height;
    } else if (width != v->width || height != v->height) {
        return flo_fail(err, FLO_USAGE,
                        "%s: has %" PRId32 "x%" PRId32 " pixels, the pictures before it %" PRId32
                        "x%" PRId32,
                        name, width, height, v->width, v->height);
    }
    return FLO_OK;
}

static flo_code list_pictures(video_folder *v, flo_err *err)
{
    int n = scandir(v->source->folder, &v->names, is_visible, by_bytes);
    if (n < 0) {
        v->names = NULL;
        return flo_fail(err, FLO_USAGE, "%s: cannot be read: %s", v->source->name, strerror(errno));
    }
    v->n = n;
    if (n == 0) {
        return flo_fail(err, FLO_USAGE, "%s: has no pictures in it", v->source->name);
    }
    for (int64_t i = 0; i < n; i++) {
        flo_code code = check_picture(v, i, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

flo_code video_folder_open(video_folder **out, video_facts *facts, const media_source *s,
                           uint64_t pixels_max, flo_err *err)
{
    video_folder *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return flo_fail(err, FLO_FAIL, "%s: not enough memory", s->name);
    }
    v->source = s;
    v->pixels_max = pixels_max;
    flo_code code = list_pictures(v, err);
    if (code != FLO_OK) {
        video_folder_close(v);
        return code;
    }
    facts->width = v->width;
    facts->height = v->height;
    facts->n_frames = v->n;
    *out = v;
    return FLO_OK;
}

void video_folder_close(video_folder *v)
{
    if (v == NULL) {
        return;
    }
    for (int32_t i = 0; i < v->n; i++) {
        free(v->names[i]);
    }
    free(v->names);
    free(v);
}

static flo_code read_frame(const video_folder *v, uint8_t *out, int64_t index, resizer *resize,
                           flo_err *err)
{
    buffer bytes = {0};
    char name[512];
    picture p;
    flo_code code = read_picture(&bytes, name, v, index, err);
    if (code == FLO_OK) {
        code = picture_decode(&p, (const uint8_t *)bytes.at, bytes.n, name, v->pixels_max, err);
    }
    buffer_free(&bytes);
    if (code != FLO_OK) {
        return code;
    }
    if (p.width != v->width || p.height != v->height) {
        code = flo_fail(err, FLO_USAGE, "%s: changed while it was read", name);
    } else {
        resizer_run(resize, out, p.rgb, (size_t)p.width * 3);
    }
    picture_free(&p);
    return code;
}

flo_code video_folder_read(video_folder *v, uint8_t *out, const int64_t *indices, int32_t n,
                           int32_t to_width, int32_t to_height, const volatile bool *cancel,
                           flo_err *err)
{
    resizer *resize = NULL;
    flo_code code = resizer_new(&resize, v->width, v->height, to_width, to_height, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", v->source->name);
        return code;
    }
    size_t frame_bytes = (size_t)to_width * (size_t)to_height * 3;
    for (int32_t i = 0; i < n && code == FLO_OK; i++) {
        if (cancel_is_set(cancel)) {
            code = flo_fail(err, FLO_INTERRUPTED, "%s: interrupted", v->source->name);
        } else {
            code = read_frame(v, out + (size_t)i * frame_bytes, indices[i], resize, err);
        }
    }
    resizer_free(resize);
    return code;
}

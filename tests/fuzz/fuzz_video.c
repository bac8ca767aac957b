/*
 * fuzz_video.c - whatever a file holds, it is refused with a sentence or becomes a video; its
 * frames are read or refused with a sentence.
 */
#include "common/check.h"
#include "coordinator/media/video.h"

#include <stdlib.h>
#include <string.h>

enum { PIXELS_MAX = 1 << 16, FRAMES_READ = 6, WIDTH = 40, HEIGHT = 24 };

static void read_some(video *v)
{
    static uint8_t out[FRAMES_READ * WIDTH * HEIGHT * 3];
    static int64_t chosen[1 << 16];
    const video_facts *facts = video_facts_of(v);
    const video_sampling sampling = {.fps = 2};
    int64_t indices[FRAMES_READ];
    int32_t n = 0, n_chosen = 0;
    flo_err err = {""};
    CHECK(facts->n_frames > 0 && facts->width > 0 && facts->height > 0);
    CHECK((uint64_t)facts->width * (uint64_t)facts->height <= PIXELS_MAX);
    flo_code code = video_choose(chosen, &n_chosen, 1 << 16, facts, &sampling, &err);
    CHECK(code == FLO_OK
              ? n_chosen >= 2 && n_chosen <= 769 && chosen[n_chosen - 1] < facts->n_frames
              : err.text[0] != '\0');
    for (; n < FRAMES_READ && n < facts->n_frames; n++) {
        indices[n] = n * (facts->n_frames / FRAMES_READ + (facts->n_frames < FRAMES_READ));
    }
    err.text[0] = '\0';
    code = video_read(v, out, indices, n, WIDTH, HEIGHT, 1, NULL, &err);
    CHECK(code == FLO_OK || strncmp(err.text, "fuzz: ", 6) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    video *v = NULL;
    flo_err err = {""};
    uint8_t *bytes = malloc(n > 0 ? n : 1); /* of the exact size, so that reading past it is seen */
    CHECK(bytes != NULL);
    memcpy(bytes, data, n);
    media_source s = {.name = "fuzz", .bytes = bytes, .n_bytes = n};
    flo_code code = video_open(&v, &s, 0, PIXELS_MAX, &err);
    CHECK(code == FLO_OK || strncmp(err.text, "fuzz: ", 6) == 0);
    if (code == FLO_OK) {
        read_some(v);
        video_close(v);
    }
    free(bytes);
    return 0;
}

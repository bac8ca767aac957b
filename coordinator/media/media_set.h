/*
 * media_set.h - all media of one request, from what was written to what the encoders take.
 *
 * A request names media; preparing opens and decodes them and makes the encoders' inputs, cut into
 * parts that are encoded as one job each; encoding fills in the parts' results. The request owns
 * the set all the while, but for the time of preparing, when a thread of the desk works on it.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_MEDIA_SET_H
#define FLOTILLA_COORDINATOR_MEDIA_MEDIA_SET_H

#include "coordinator/media/encoder_cache.h"
#include "coordinator/media/prompt_layout.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MEDIA_ITEMS_MAX = 1024 };

typedef struct media_options { /* of a request; 0: not said */
    int64_t image_pixels_min, image_pixels_max, video_pixels_min, video_pixels_max;
    double video_fps, recorded_fps;
    bool video_all_frames, use_audio_in_video;
    bool pad_by_turn; /* sounds are padded to the longest of their message, not of the request */
} media_options;

/* One job of an encoder: some whole windows of a sound, a picture, a temporal patch of a video. */
typedef struct media_part {
    media_kind kind;   /* MEDIA_AUDIO, or MEDIA_IMAGE for both sights */
    encoder_key key;   /* of input and parameters */
    const void *input; /* borrowed from the item: f32 [n_mel_bins][n_frames], or u8 frames */
    size_t row_floats; /* sound: floats from one mel bin's row to the next */
    int32_t n_frames;  /* mel frames, or pictures */
    int32_t canvas;    /* sound: frames of the longest chunk it is padded with */
    int32_t grid_h, grid_w;
    int32_t n_rows;  /* of the result */
    encoded *result; /* a reference; NULL until it is there */
} media_part;

typedef struct raw_clip {  /* a video whose frames are at hand already */
    const uint8_t *frames; /* [n][height][width][3], borrowed; NULL: none */
    int64_t n;
    int32_t width, height;
} raw_clip;

typedef struct media_item {
    media_kind kind;
    char *reference; /* [reference_bytes] what was written, owned */
    size_t reference_bytes;
    bool is_base64; /* the reference is the content itself */
    raw_clip raw;   /* in place of a reference */
    int32_t turn;   /* index of the message that brought it */
    char name[256]; /* for sentences; "" until it is opened */

    layout_medium layout; /* with its place in the set's list */
    uint8_t *frames;      /* sight: [n_frames][grid_h * patch][grid_w * patch][3], owned */
    int32_t n_frames;
    float *samples; /* sound, until its features are made; owned */
    int64_t n_samples;
    float *features; /* sound: [n_mel_bins][n_mel_frames], owned */
    int32_t n_mel_frames, canvas;
    media_part *parts; /* owned; their results are references */
    int32_t n_parts;
} media_item;

typedef struct media_set {
    media_options options;
    media_item *items; /* owned; of each kind in the order in which the prompt has them */
    int32_t n;
    layout_medium *layouts; /* [n] owned: the items' layouts side by side, once prepared */
    int32_t n_parts, n_ready;
    int32_t n_from_cache;
    int64_t n_held;          /* tokens that count against what the desk holds; the desk's own */
    volatile bool cancelled; /* nobody waits for it any more; common/cancel.h */
} media_set;

/* A place for one more medium; NULL: no memory. */
media_item *media_set_add(media_set *s, media_kind kind);

/* The list for prompt_layout.h; borrowed. */
prompt_media media_set_layout(const media_set *s);

/* Frees the encoders' inputs: nothing asks for them once every part has its result. */
void media_set_free_inputs(media_set *s);

/* Gives back results to the cache's care and frees all. NULL is allowed. */
void media_set_free(media_set *s);

/* The kind of sight that a dump and reference data show: videos, or pictures where there are none.
 */
media_kind media_set_sight(const media_set *s);

const char *media_kind_name(media_kind k); /* "picture", "sound", "video" */

#endif

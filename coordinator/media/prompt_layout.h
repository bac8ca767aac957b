/*
 * prompt_layout.h - where the media of a prompt stand: placeholders into runs of ids, rows of
 * features to positions, and the three position axes (the specification's sections 4 and 7.4).
 *
 * This is the one place that makes positions, for text too.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_PROMPT_LAYOUT_H
#define FLOTILLA_COORDINATOR_MEDIA_PROMPT_LAYOUT_H

#include "common/buffer.h"
#include "common/error.h"
#include "common/model_config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum media_kind { MEDIA_IMAGE, MEDIA_AUDIO, MEDIA_VIDEO } media_kind;

/* What the layout must know of a medium. A video with its sound in it (use_audio_in_video) names
 * that sound: an entry of kind MEDIA_AUDIO of the same list. */
typedef struct layout_medium {
    media_kind kind;
    int32_t n_tokens;       /* rows of features */
    int32_t grid[3];        /* pictures and videos: time, height, width, in patches */
    double second_per_grid; /* videos */
    int32_t sound;          /* videos: index of its own sound, -1 for none */
    bool in_video;          /* sounds: it belongs to a video, no placeholder of its own */
    int32_t given_as; /* sounds in a video: the how-manieth sound that was given by itself, from
                         1; 0: the video's own track */
} layout_medium;

/* The list of a prompt's media, each kind in the order in which its placeholders come. */
typedef struct prompt_media {
    const layout_medium *media;
    int32_t n;
} prompt_media;

/* Text with one placeholder (<|image_pad|>, <|audio_pad|>, <|video_pad|>) for each medium, into
 * text with one for each row; with sound in a video also the pair of audio marks around the
 * interleaved run. Sounds given by themselves that videos take may all have their placeholder too,
 * as a chat template makes it for each part: it vanishes, with its pair of marks. FLO_USAGE: more
 * or fewer placeholders of a kind than media of it (the sentence counts both); a video that takes
 * its sound whose placeholder does not stand between
 * <|vision_start|> and <|vision_end|>.
 * FLO_FAIL: out of memory. Appends to out; what it appended before an error is of no use. */
flo_code prompt_expand(buffer *out, const char *text, size_t n_bytes, const prompt_media *media,
                       int32_t spatial_merge, flo_err *err);

/* One row of a prompt that comes from a medium. */
typedef struct prompt_row {
    int32_t medium; /* index into the list; -1: text, comes from the embedding table */
    int32_t row;    /* of its features */
} prompt_row;

/* rows [n] for ids [n]. Each kind's rows go in the order of the list; audio placeholders behind
 * <|vision_start|><|audio_start|> of a video that takes its sound are that sound's. FLO_USAGE:
 * another number of placeholder ids of a kind than rows of its media. Used for text alone too (a
 * placeholder without a medium is refused). */
flo_code prompt_rows(prompt_row *rows, const int32_t *ids, int32_t n, const model_tokens *tokens,
                     const prompt_media *media, flo_err *err);

/* axes [3][n] (time, height, width), f32, may be fractional; next [3]: the position after the last
 * in each row, where generated tokens go on (section 4.3). Without pictures and videos 0, 1, 2, ...
 *
 * The marks decide: rows behind <|vision_start|> get their grid's positions. Where none of a kind
 * has its mark they are positions of text, and marks that no placeholder follows are text as well.
 * FLO_USAGE: some of a kind have their mark and some have not, or the rows behind one are not
 * exactly those of the next medium. */
flo_code prompt_positions(float *axes, float next[3], const int32_t *ids, int32_t n,
                          const model_config *m, const prompt_media *media, flo_err *err);

#endif

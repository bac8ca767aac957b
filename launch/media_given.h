/*
 * media_given.h - the pictures, sounds and videos that a command line or a line of a chat names,
 * and how they are to be taken.
 *
 * A medium is named by a path, a file: or data: URL, or (where the operator allows it) an http or
 * https URL. What can be found wrong without decoding is found here, before ranks are started;
 * paths become absolute. Only options that were given are written; defaults are the coordinator's,
 * who knows the checkpoint.
 */
#ifndef FLOTILLA_LAUNCH_MEDIA_GIVEN_H
#define FLOTILLA_LAUNCH_MEDIA_GIVEN_H

#include "common/arguments.h"
#include "common/buffer.h"
#include "common/error.h"
#include "common/options.h"

#include <stdbool.h>
#include <stdint.h>

enum { MEDIA_ARGUMENTS = 11 };

typedef struct media_given {
    word_list named; /* option and reference by turns: "--image", "a.png", "--audio", "b.wav" */
    int64_t image_min_pixels, image_max_pixels, video_min_pixels, video_max_pixels;
    double video_fps, recorded_fps;
    bool video_all_frames, use_audio_in_video;
    bool given[MEDIA_ARGUMENTS]; /* in the order of the table */
} media_given;

/* The table's entries, pointing into *m, which is cleared first; named is freed with
 * media_given_free. */
void media_arguments(media_given *m, argument table[MEDIA_ARGUMENTS]);
void media_given_free(media_given *m);

/* All that was given, against each other, against the job's options, and the files themselves.
 * others: media may come from elsewhere too (messages, a chat). FLO_USAGE names option and value.
 */
flo_code media_given_check(const media_given *m, const run_options *run, bool others, flo_err *err);

/* Whether a medium's name is a path, and not a URL. */
bool medium_is_path(const char *reference, size_t n_bytes);

/* One medium. option: "--image" or "/image", and so on, which says the kind; urls: http is allowed.
 * FLO_USAGE: not there, a folder (only videos may be one), empty, not to be read. */
flo_code medium_check(const char *option, const char *reference, bool urls, flo_err *err);

/* {"type":"image","image":"/home/me/photo.png"} and a comma before it unless parts is empty. */
void medium_put(buffer *parts, const char *option, const char *reference);

/* What to call it in a sentence: the last part of a path or URL. out: [64]. */
void medium_name(char out[64], const char *reference);

/* All named media, in the order given. */
void media_parts_put(buffer *parts, const media_given *m);

/* `,"media_options":{...}` with what was given; sound_padding: NULL, or its value. Nothing where
 * there is nothing to say. */
void media_options_put(buffer *body, const media_given *m, const char *sound_padding);

#endif

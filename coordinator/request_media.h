/*
 * request_media.h - the media that a request's JSON names.
 *
 * A part of a message's content is a picture, a sound or a video by its type or by its key, as in
 * the chat template:
 *     {"type": "image", "image": REF}   {"type": "image_url", "image_url": {"url": REF}}
 *     {"type": "audio", "audio": REF}   {"type": "input_audio", "input_audio": {"data": BASE64}}
 *     {"type": "video", "video": REF}   {"type": "video_url", "video_url": {"url": REF}}
 * A part without a reference takes the next of its kind from the request's list "media", which also
 * serves a raw prompt's placeholders.
 */
#ifndef FLOTILLA_COORDINATOR_REQUEST_MEDIA_H
#define FLOTILLA_COORDINATOR_REQUEST_MEDIA_H

#include "common/error.h"
#include "coordinator/media/media_set.h"

#include <cjson/cJSON.h>
#include <stdbool.h>

/* Whether a part of a message is a medium. */
bool request_part_is_medium(const cJSON *part);

/* All media of a body, in the order in which the prompt comes to them, with the options of
 * "media_options"; *out is NULL where there is none. FLO_USAGE names the part. */
flo_code request_media_take(media_set **out, const cJSON *body, flo_err *err);

/* Turns each part that is a medium into the form that the template knows and a reference of one
 * letter, so that no data: URL goes through the template. */
flo_code request_media_plain(cJSON *messages, flo_err *err);

#endif

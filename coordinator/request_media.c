/*
 * request_media.c - parts told apart, references taken, options checked.
 */
#include "coordinator/request_media.h"

#include "common/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Where a medium may stand in a part, in the template's order of tests. */
static const struct {
    const char *key;
    media_kind kind;
} media_keys[] = {
    {"image", MEDIA_IMAGE}, {"image_url", MEDIA_IMAGE}, {"input_image", MEDIA_IMAGE},
    {"audio", MEDIA_AUDIO}, {"audio_url", MEDIA_AUDIO}, {"input_audio", MEDIA_AUDIO},
    {"video", MEDIA_VIDEO}, {"video_url", MEDIA_VIDEO},
};

enum { MEDIA_KEYS = sizeof media_keys / sizeof media_keys[0] };

/* Index into media_keys of what a part is; -1: no medium. */
static int part_key(const cJSON *part)
{
    const cJSON *type = json_given(part, "type");
    for (int i = 0; i < MEDIA_KEYS; i++) {
        if (cJSON_IsString(type) ? strcmp(type->valuestring, media_keys[i].key) == 0
                                 : type == NULL && json_given(part, media_keys[i].key) != NULL) {
            return i;
        }
    }
    return -1;
}

bool request_part_is_medium(const cJSON *part)
{
    return part_key(part) >= 0;
}

/* --- one part ----------------------------------------------------------------------------------
 */

/* Index into media_keys of a key; -1: none. */
static int key_index(const char *key)
{
    int i = 0;
    while (i < MEDIA_KEYS && strcmp(key, media_keys[i].key) != 0) {
        i++;
    }
    return i < MEDIA_KEYS ? i : -1;
}

/* At most one medium, of the kind that the part says it is; nothing is passed over in silence. */
static flo_code check_part_keys(const cJSON *part, flo_err *err)
{
    const cJSON *item;
    media_kind kind = media_keys[part_key(part)].kind;
    int n = 0;
    cJSON_ArrayForEach(item, part)
    {
        int key = cJSON_IsNull(item) ? -1 : key_index(item->string);
        n += key >= 0;
        if (n > 1 || (key >= 0 && media_keys[key].kind != kind)) {
            return flo_fail(err, FLO_USAGE,
                            "a part of type %s has the key \"%s\" as well; give each medium a part "
                            "of its own",
                            media_keys[part_key(part)].key, item->string);
        }
        if (key < 0 && !cJSON_IsNull(item) && strcmp(item->string, "type") != 0 &&
            strcmp(item->string, "detail") != 0) {
            return flo_fail(err, FLO_USAGE,
                            "a part with a picture, sound or video has the key \"%s\", which is "
                            "not known; sizes and rates stand in the request's media_options",
                            item->string);
        }
    }
    return FLO_OK;
}

/* The string that says where a part's medium is; NULL: it says nothing. */
static const cJSON *reference_of(const cJSON *part, media_kind kind, bool *is_base64)
{
    for (int i = 0; i < MEDIA_KEYS; i++) {
        const cJSON *value =
            media_keys[i].kind == kind ? json_given(part, media_keys[i].key) : NULL;
        if (value == NULL) {
            continue;
        }
        *is_base64 = cJSON_IsObject(value) && json_given(value, "data") != NULL;
        const cJSON *inside = json_given(value, *is_base64 ? "data" : "url");
        return inside != NULL ? inside : value; /* an object with neither is refused later on */
    }
    return NULL;
}

static flo_code add_medium(media_set *s, media_kind kind, int32_t turn, const cJSON *reference,
                           bool is_base64, flo_err *err)
{
    if (s->n == MEDIA_ITEMS_MAX) {
        return flo_fail(err, FLO_USAGE, "a request may have at most %d media", MEDIA_ITEMS_MAX);
    }
    if (!cJSON_IsString(reference) || reference->valuestring[0] == '\0') {
        return flo_fail(err, FLO_USAGE,
                        "a %s says where it is by a string: a path, a data: URL or an http URL",
                        media_kind_name(kind));
    }
    media_item *item = media_set_add(s, kind);
    if (item == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the media of a request");
    }
    item->turn = turn;
    item->is_base64 = is_base64;
    item->reference = json_string_copy(reference, &item->reference_bytes);
    return item->reference != NULL
               ? FLO_OK
               : flo_fail(err, FLO_FAIL, "out of memory for the media of a request");
}

/* --- the request's list ------------------------------------------------------------------------
 */

typedef struct given_media { /* "media", taken one by one for each kind */
    const cJSON *next[3];
} given_media;

static const cJSON *first_of(const cJSON *item, media_kind kind)
{
    int key;
    while (item != NULL && ((key = part_key(item)) < 0 || media_keys[key].kind != kind)) {
        item = item->next;
    }
    return item;
}

static flo_code open_given(given_media *g, const cJSON *body, flo_err *err)
{
    const cJSON *list = json_given(body, "media"), *part;
    *g = (given_media){{NULL, NULL, NULL}};
    if (list == NULL) {
        return FLO_OK;
    }
    if (!cJSON_IsArray(list)) {
        return flo_fail(err, FLO_USAGE, "media must be a list of parts");
    }
    cJSON_ArrayForEach(part, list)
    {
        if (!cJSON_IsObject(part) || part_key(part) < 0) {
            return flo_fail(err, FLO_USAGE, "an entry of media is no picture, sound or video");
        }
        flo_code code = check_part_keys(part, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    for (int kind = 0; kind < 3; kind++) {
        g->next[kind] = first_of(list->child, (media_kind)kind);
    }
    return FLO_OK;
}

static const cJSON *take_given(given_media *g, media_kind kind)
{
    const cJSON *part = g->next[kind];
    g->next[kind] = part != NULL ? first_of(part->next, kind) : NULL;
    return part;
}

static flo_code all_taken(const given_media *g, flo_err *err)
{
    for (int kind = 0; kind < 3; kind++) {
        if (g->next[kind] != NULL) {
            return flo_fail(err, FLO_USAGE,
                            "more %ss are given than the messages have places for; add a part "
                            "like {\"type\": \"%s\"} where it is to stand",
                            media_kind_name((media_kind)kind),
                            kind == MEDIA_IMAGE   ? "image"
                            : kind == MEDIA_AUDIO ? "audio"
                                                  : "video");
        }
    }
    return FLO_OK;
}

static flo_code take_part(media_set *s, given_media *g, const cJSON *part, int32_t turn,
                          flo_err *err)
{
    int key = part_key(part);
    media_kind kind = media_keys[key].kind;
    bool is_base64 = false;
    const cJSON *reference = reference_of(part, kind, &is_base64);
    flo_code code = check_part_keys(part, err);
    if (code != FLO_OK) {
        return code;
    }
    if (reference == NULL) {
        const cJSON *other = take_given(g, kind);
        reference = other != NULL ? reference_of(other, kind, &is_base64) : NULL;
    }
    return reference != NULL
               ? add_medium(s, kind, turn, reference, is_base64, err)
               : flo_fail(err, FLO_USAGE, "a message has a place for a %s, and none is given",
                          media_kind_name(kind));
}

/* --- all of a body -----------------------------------------------------------------------------
 */

static flo_code take_messages(media_set *s, given_media *g, const cJSON *messages, flo_err *err)
{
    const cJSON *message, *part;
    int32_t turn = 0;
    cJSON_ArrayForEach(message, messages)
    {
        const cJSON *content = json_given(message, "content");
        if (cJSON_IsArray(content)) {
            cJSON_ArrayForEach(part, content)
            {
                flo_code code = part_key(part) >= 0 ? take_part(s, g, part, turn, err) : FLO_OK;
                if (code != FLO_OK) {
                    return code;
                }
            }
        }
        turn++;
    }
    return all_taken(g, err);
}

/* Placeholders of a raw prompt, or of ids, take each kind in the order given. */
static flo_code take_list(media_set *s, const cJSON *list, flo_err *err)
{
    const cJSON *part;
    given_media none = {{NULL, NULL, NULL}};
    cJSON_ArrayForEach(part, list)
    {
        flo_code code = take_part(s, &none, part, 0, err);
        if (code != FLO_OK) {
            return code;
        }
    }
    return FLO_OK;
}

static flo_code take_pixels(const cJSON *options, const char *name, int64_t *out, flo_err *err)
{
    const cJSON *item = json_given(options, name);
    return item == NULL || json_integer(item, 1, (int64_t)1 << 40, out)
               ? FLO_OK
               : flo_fail(err, FLO_USAGE, "%s must be a number of pixels, at least 1", name);
}

static flo_code take_rate(const cJSON *options, const char *name, double *out, flo_err *err)
{
    const cJSON *item = json_given(options, name);
    if (item == NULL) {
        return FLO_OK;
    }
    if (!cJSON_IsNumber(item) || !(item->valuedouble > 0) || !isfinite(item->valuedouble)) {
        return flo_fail(err, FLO_USAGE, "%s must be a number of frames per second over 0", name);
    }
    *out = item->valuedouble;
    return FLO_OK;
}

static flo_code take_flag(const cJSON *options, const char *name, bool *out, flo_err *err)
{
    const cJSON *item = json_given(options, name);
    *out = item != NULL && cJSON_IsTrue(item);
    return item == NULL || cJSON_IsBool(item)
               ? FLO_OK
               : flo_fail(err, FLO_USAGE, "%s must be true or false", name);
}

static flo_code take_padding(const cJSON *options, bool *by_turn, flo_err *err)
{
    const cJSON *item = json_given(options, "sound_padding");
    *by_turn = cJSON_IsString(item) && strcmp(item->valuestring, "turn") == 0;
    return item == NULL || *by_turn ||
                   (cJSON_IsString(item) && strcmp(item->valuestring, "request") == 0)
               ? FLO_OK
               : flo_fail(err, FLO_USAGE, "sound_padding must be \"turn\" or \"request\"");
}

static flo_code check_option_keys(const cJSON *options, flo_err *err)
{
    static const char *const known[] = {
        "image_min_pixels", "image_max_pixels",   "video_min_pixels",
        "video_max_pixels", "video_fps",          "recorded_fps",
        "video_all_frames", "use_audio_in_video", "sound_padding"};
    const cJSON *item;
    cJSON_ArrayForEach(item, options)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
            found = found || strcmp(item->string, known[i]) == 0;
        }
        if (!found) {
            return flo_fail(err, FLO_USAGE, "media_options has the key \"%s\", which is not known",
                            item->string);
        }
    }
    return FLO_OK;
}

static flo_code take_options(media_options *o, const cJSON *body, flo_err *err)
{
    const cJSON *j = json_given(body, "media_options");
    if (j == NULL) {
        return FLO_OK;
    }
    if (!cJSON_IsObject(j)) {
        return flo_fail(err, FLO_USAGE, "media_options must be an object");
    }
    flo_code code = check_option_keys(j, err);
    code = code == FLO_OK ? take_pixels(j, "image_min_pixels", &o->image_pixels_min, err) : code;
    code = code == FLO_OK ? take_pixels(j, "image_max_pixels", &o->image_pixels_max, err) : code;
    code = code == FLO_OK ? take_pixels(j, "video_min_pixels", &o->video_pixels_min, err) : code;
    code = code == FLO_OK ? take_pixels(j, "video_max_pixels", &o->video_pixels_max, err) : code;
    code = code == FLO_OK ? take_rate(j, "video_fps", &o->video_fps, err) : code;
    code = code == FLO_OK ? take_rate(j, "recorded_fps", &o->recorded_fps, err) : code;
    code = code == FLO_OK ? take_flag(j, "video_all_frames", &o->video_all_frames, err) : code;
    code = code == FLO_OK ? take_flag(j, "use_audio_in_video", &o->use_audio_in_video, err) : code;
    return code == FLO_OK ? take_padding(j, &o->pad_by_turn, err) : code;
}

flo_code request_media_take(media_set **out, const cJSON *body, flo_err *err)
{
    given_media given_list;
    const cJSON *messages = json_given(body, "messages");
    *out = NULL;
    flo_code code = open_given(&given_list, body, err);
    if (code != FLO_OK) {
        return code;
    }
    media_set *s = calloc(1, sizeof *s);
    if (s == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the media of a request");
    }
    code = take_options(&s->options, body, err);
    if (code == FLO_OK) {
        code = messages != NULL ? take_messages(s, &given_list, messages, err)
                                : take_list(s, json_given(body, "media"), err);
    }
    if (code != FLO_OK || s->n == 0) {
        media_set_free(s);
        return code;
    }
    *out = s;
    return FLO_OK;
}

static bool make_plain(cJSON *part)
{
    static const char *const names[] = {"image", "audio", "video"};
    const char *name = names[media_keys[part_key(part)].kind];
    while (part->child != NULL) {
        cJSON_Delete(cJSON_DetachItemViaPointer(part, part->child));
    }
    return cJSON_AddStringToObject(part, "type", name) != NULL &&
           cJSON_AddStringToObject(part, name, "x") != NULL;
}

flo_code request_media_plain(cJSON *messages, flo_err *err)
{
    cJSON *message, *part;
    cJSON_ArrayForEach(message, messages)
    {
        cJSON *content = (cJSON *)(uintptr_t)json_given(message, "content");
        if (!cJSON_IsArray(content)) {
            continue;
        }
        cJSON_ArrayForEach(part, content)
        {
            if (part_key(part) >= 0 && !make_plain(part)) {
                return flo_fail(err, FLO_FAIL, "out of memory for the messages");
            }
        }
    }
    return FLO_OK;
}

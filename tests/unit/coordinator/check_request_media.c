/*
 * check_request_media.c - the media that a request's JSON names come out in the order of the
 * prompt, with what was said of them, and a request that would be half understood is refused with
 * the name of what is wrong.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/request_media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static flo_err err;

static cJSON *parsed(const char *body)
{
    cJSON *root = cJSON_Parse(body);
    if (root == NULL) {
        fail_msg("the test's own JSON is wrong: %s", body);
    }
    return root;
}

static media_set *taken(const char *body)
{
    media_set *s;
    cJSON *root = parsed(body);
    if (request_media_take(&s, root, &err) != FLO_OK) {
        fail_msg("%s\n  refused: %s", body, err.text);
    }
    cJSON_Delete(root);
    return s;
}

static void refused(const char *body, const char *name)
{
    media_set *s;
    cJSON *root = parsed(body);
    assert_int_equal(request_media_take(&s, root, &err), FLO_USAGE);
    assert_null(s);
    if (strstr(err.text, name) == NULL) {
        fail_msg("%s: no \"%s\" in: %s", body, name, err.text);
    }
    cJSON_Delete(root);
}

/* A body of one message with these parts, and this beside its messages. */
static const char *body_of(const char *parts, const char *rest)
{
    static char body[4096];
    snprintf(body, sizeof body, "{\"messages\": [{\"role\": \"user\", \"content\": [%s]}]%s}",
             parts, rest);
    return body;
}

static void assert_item(const media_set *s, int32_t i, media_kind kind, const char *reference,
                        int32_t turn)
{
    assert_true(i < s->n);
    assert_int_equal(s->items[i].kind, kind);
    assert_string_equal(s->items[i].reference, reference);
    assert_int_equal(s->items[i].reference_bytes, strlen(reference));
    assert_int_equal(s->items[i].turn, turn);
}

static void every_form_of_a_part_is_its_medium(void **state)
{
    (void)state;
    static const struct {
        const char *part;
        media_kind kind;
        bool is_base64;
    } forms[] = {
        {"{\"type\": \"image\", \"image\": \"r\"}", MEDIA_IMAGE, false},
        {"{\"image\": \"r\"}", MEDIA_IMAGE, false},
        {"{\"type\": null, \"image\": \"r\", \"audio\": null}", MEDIA_IMAGE, false},
        {"{\"type\": \"image_url\", \"image_url\": {\"url\": \"r\", \"detail\": \"low\"}}",
         MEDIA_IMAGE, false},
        {"{\"type\": \"image_url\", \"image_url\": \"r\", \"detail\": \"low\"}", MEDIA_IMAGE,
         false},
        {"{\"type\": \"audio\", \"audio\": \"r\"}", MEDIA_AUDIO, false},
        {"{\"type\": \"audio_url\", \"audio_url\": {\"url\": \"r\"}}", MEDIA_AUDIO, false},
        {"{\"type\": \"input_audio\", \"input_audio\": {\"data\": \"r\", \"format\": \"wav\"}}",
         MEDIA_AUDIO, true},
        {"{\"type\": \"video\", \"video\": \"r\"}", MEDIA_VIDEO, false},
        {"{\"type\": \"video_url\", \"video_url\": {\"url\": \"r\"}}", MEDIA_VIDEO, false},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        media_set *s = taken(body_of(forms[i].part, ""));
        assert_int_equal(s->n, 1);
        assert_item(s, 0, forms[i].kind, "r", 0);
        assert_int_equal(s->items[0].is_base64, forms[i].is_base64);
        media_set_free(s);
    }
}

static void a_request_without_media_has_none(void **state)
{
    (void)state;
    assert_null(taken("{\"messages\": [{\"role\": \"user\", \"content\": \"a picture\"}]}"));
    assert_null(taken(body_of("{\"type\": \"text\", \"text\": \"x\"}", "")));
    assert_null(taken("{\"prompt_ids\": [1], \"media\": null}"));
    assert_null(taken("{\"prompt_ids\": [1], \"media\": []}"));
}

static void turns_are_counted_by_messages_of_any_role(void **state)
{
    (void)state;
    media_set *s = taken("{\"messages\": ["
                         "{\"role\": \"system\", \"content\": \"s\"},"
                         "{\"role\": \"user\", \"content\": [{\"audio\": \"a\"}, {\"text\": \"x\"},"
                         " {\"image\": \"b\"}]},"
                         "{\"role\": \"assistant\", \"content\": null},"
                         "{\"role\": \"tool\", \"content\": [{\"video\": \"c\"}]}]}");
    assert_int_equal(s->n, 3);
    assert_item(s, 0, MEDIA_AUDIO, "a", 1);
    assert_item(s, 1, MEDIA_IMAGE, "b", 1);
    assert_item(s, 2, MEDIA_VIDEO, "c", 3);
    media_set_free(s);
}

static void open_parts_take_the_next_of_their_kind(void **state)
{
    (void)state;
    media_set *s = taken(body_of("{\"type\": \"image\"}, {\"type\": \"audio\"}, "
                                 "{\"type\": \"image\", \"image\": \"own\"}, {\"type\": \"image\"}",
                                 ", \"media\": [{\"audio\": \"a\"}, {\"image\": \"1\"}, "
                                 "{\"image_url\": {\"url\": \"2\"}}]"));
    assert_int_equal(s->n, 4);
    assert_item(s, 0, MEDIA_IMAGE, "1", 0);
    assert_item(s, 1, MEDIA_AUDIO, "a", 0);
    assert_item(s, 2, MEDIA_IMAGE, "own", 0);
    assert_item(s, 3, MEDIA_IMAGE, "2", 0);
    media_set_free(s);
}

static void a_raw_prompt_takes_the_list_as_it_stands(void **state)
{
    (void)state;
    media_set *s = taken("{\"prompt\": \"x\", \"raw\": true, \"media\": [{\"image\": \"1\"}, "
                         "{\"type\": \"audio\", \"audio\": \"2\"}]}");
    assert_int_equal(s->n, 2);
    assert_item(s, 0, MEDIA_IMAGE, "1", 0);
    assert_item(s, 1, MEDIA_AUDIO, "2", 0);
    media_set_free(s);
}

static void places_and_media_must_match(void **state)
{
    (void)state;
    refused(body_of("{\"type\": \"image\"}", ""), "a place for a picture");
    refused(body_of("{\"type\": \"audio\"}", ", \"media\": [{\"image\": \"1\"}]"),
            "a place for a sound");
    refused(body_of("{\"image\": \"1\"}", ", \"media\": [{\"image\": \"2\"}]"), "more pictures");
    refused(body_of("{\"text\": \"1\"}", ", \"media\": [{\"video\": \"2\"}]"), "more videos");
    refused("{\"prompt_ids\": [1], \"media\": [{\"type\": \"image\"}]}", "a place for a picture");
}

static void no_medium_is_passed_over(void **state)
{
    (void)state;
    refused(body_of("{\"image\": \"1\", \"audio\": \"2\"}", ""), "\"audio\"");
    refused(body_of("{\"type\": \"audio\", \"image\": \"1\"}", ", \"media\": [{\"audio\": \"2\"}]"),
            "\"image\"");
    refused(body_of("{\"image\": \"1\", \"image_url\": {\"url\": \"2\"}}", ""), "\"image_url\"");
    refused(body_of("{\"image\": \"1\", \"text\": \"what is it?\"}", ""), "\"text\"");
    refused(body_of("{\"image\": \"1\", \"min_pixels\": 5}", ""), "\"min_pixels\"");
    refused(
        body_of("{\"type\": \"image\"}", ", \"media\": [{\"image\": \"1\", \"resized_width\": 5}]"),
        "\"resized_width\"");
    refused(body_of("{\"type\": \"image\"}", ", \"media\": [{\"image\": \"1\", \"audio\": \"2\"}]"),
            "\"audio\"");
}

static void references_are_strings(void **state)
{
    (void)state;
    static const char *const bad[] = {"\"\"",
                                      "5",
                                      "true",
                                      "[\"x\"]",
                                      "{}",
                                      "{\"uri\": \"x\"}",
                                      "{\"url\": 5}",
                                      "{\"data\": 5}",
                                      "{\"data\": \"\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char part[128];
        snprintf(part, sizeof part, "{\"type\": \"image\", \"image\": %s}", bad[i]);
        /* not even where the list has one that it could take */
        refused(body_of(part, ", \"media\": [{\"image\": \"1\"}]"), "by a string");
    }
}

static void the_list_is_a_list_of_media(void **state)
{
    (void)state;
    refused("{\"prompt_ids\": [1], \"media\": {\"image\": \"1\"}}", "must be a list");
    refused("{\"prompt_ids\": [1], \"media\": \"a.png\"}", "must be a list");
    refused("{\"prompt_ids\": [1], \"media\": [\"a.png\"]}", "no picture, sound or video");
    refused("{\"prompt_ids\": [1], \"media\": [null]}", "no picture, sound or video");
    refused("{\"prompt_ids\": [1], \"media\": [{\"text\": \"1\"}]}", "no picture, sound or video");
}

static void there_is_a_bound_on_media(void **state)
{
    (void)state;
    for (int extra = 0; extra < 2; extra++) {
        cJSON *root = cJSON_CreateObject(), *list = cJSON_AddArrayToObject(root, "media");
        for (int i = 0; i < MEDIA_ITEMS_MAX + extra; i++) {
            cJSON *part = cJSON_CreateObject();
            cJSON_AddStringToObject(part, "image", "x");
            cJSON_AddItemToArray(list, part);
        }
        media_set *s;
        flo_code code = request_media_take(&s, root, &err);
        assert_int_equal(code, extra == 0 ? FLO_OK : FLO_USAGE);
        assert_int_equal(s != NULL ? s->n : 0, extra == 0 ? MEDIA_ITEMS_MAX : 0);
        media_set_free(s);
        cJSON_Delete(root);
    }
    assert_non_null(strstr(err.text, "1024"));
}

static const char *with_options(const char *options)
{
    static char body[1024];
    snprintf(body, sizeof body,
             "{\"prompt_ids\": [1], \"media\": [{\"image\": \"x\"}], "
             "\"media_options\": %s}",
             options);
    return body;
}

static void options_arrive(void **state)
{
    (void)state;
    media_set *s = taken(with_options(
        "{\"image_min_pixels\": 1, \"image_max_pixels\": 2, \"video_min_pixels\": 3, "
        "\"video_max_pixels\": 4, \"video_fps\": 0.5, \"recorded_fps\": 29.97, "
        "\"video_all_frames\": true, \"use_audio_in_video\": true, \"sound_padding\": \"turn\"}"));
    const media_options *o = &s->options;
    assert_true(o->image_pixels_min == 1 && o->image_pixels_max == 2);
    assert_true(o->video_pixels_min == 3 && o->video_pixels_max == 4);
    assert_true(o->video_fps == 0.5 && o->recorded_fps == 29.97);
    assert_true(o->video_all_frames && o->use_audio_in_video && o->pad_by_turn);
    media_set_free(s);
    s = taken(with_options("{\"sound_padding\": \"request\", \"video_fps\": null}"));
    assert_false(s->options.pad_by_turn || s->options.video_all_frames);
    assert_true(s->options.video_fps == 0 && s->options.image_pixels_max == 0);
    media_set_free(s);
}

static void options_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *options, *name;
    } bad[] = {{"[]", "media_options must"},
               {"5", "media_options must"},
               {"{\"image_pixels\": 1}", "\"image_pixels\""},
               {"{\"image_min_pixels\": 0}", "image_min_pixels"},
               {"{\"image_max_pixels\": -1}", "image_max_pixels"},
               {"{\"image_max_pixels\": 1.5}", "image_max_pixels"},
               {"{\"video_min_pixels\": \"9\"}", "video_min_pixels"},
               {"{\"video_max_pixels\": 1e300}", "video_max_pixels"},
               {"{\"video_fps\": 0}", "video_fps"},
               {"{\"video_fps\": 1e999}", "video_fps"},
               {"{\"recorded_fps\": -2}", "recorded_fps"},
               {"{\"video_all_frames\": 1}", "video_all_frames"},
               {"{\"use_audio_in_video\": \"yes\"}", "use_audio_in_video"},
               {"{\"sound_padding\": \"chat\"}", "sound_padding"},
               {"{\"sound_padding\": true}", "sound_padding"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        refused(with_options(bad[i].options), bad[i].name);
    }
}

static void the_template_sees_kinds_and_no_contents(void **state)
{
    (void)state;
    cJSON *messages = parsed(
        "[{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": {\"url\": "
        "\"data:image/png;base64,AAAA\"}}, {\"type\": \"text\", \"text\": \"image\"}, "
        "{\"type\": \"input_audio\", \"input_audio\": {\"data\": \"AAAA\"}}]}, "
        "{\"role\": \"assistant\", \"content\": \"x\"}]");
    assert_int_equal(request_media_plain(messages, &err), FLO_OK);
    char *text = cJSON_PrintUnformatted(messages);
    assert_string_equal(text,
                        "[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"image\":\"x\"},"
                        "{\"type\":\"text\",\"text\":\"image\"},"
                        "{\"type\":\"audio\",\"audio\":\"x\"}]},"
                        "{\"role\":\"assistant\",\"content\":\"x\"}]");
    cJSON_free(text);
    cJSON_Delete(messages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_a_part_is_its_medium),
        cmocka_unit_test(a_request_without_media_has_none),
        cmocka_unit_test(turns_are_counted_by_messages_of_any_role),
        cmocka_unit_test(open_parts_take_the_next_of_their_kind),
        cmocka_unit_test(a_raw_prompt_takes_the_list_as_it_stands),
        cmocka_unit_test(places_and_media_must_match),
        cmocka_unit_test(no_medium_is_passed_over),
        cmocka_unit_test(references_are_strings),
        cmocka_unit_test(the_list_is_a_list_of_media),
        cmocka_unit_test(there_is_a_bound_on_media),
        cmocka_unit_test(options_arrive),
        cmocka_unit_test(options_that_cannot_be_are_refused),
        cmocka_unit_test(the_template_sees_kinds_and_no_contents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

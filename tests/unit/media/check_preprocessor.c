/*
 * check_preprocessor.c - a checkpoint's processor files are understood as the reference does it,
 * and what cannot be done as they say stops with the field's name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/media/preprocessor.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static model_config config;
static char folder[PATH_MAX];
static flo_err err;

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(folder);
    return model_config_read(&config, source_path("tests/golden/tiny-omni"), &err) == FLO_OK ? 0
                                                                                             : -1;
}

static int tear_down(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

static void write_file(const char *name, const char *text)
{
    temp_file_write(folder, name, text, strlen(text));
}

static flo_code read_flat(preprocessor *p, const char *text)
{
    write_file("preprocessor_config.json", text);
    err.text[0] = '\0';
    return preprocessor_read(p, folder, &config, &err);
}

static preprocessor must_read(const char *text)
{
    preprocessor p;
    if (read_flat(&p, text) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return p;
}

static void expect_published(const preprocessor *p)
{
    assert_int_equal(p->image_pixels_min, 3136);
    assert_int_equal(p->image_pixels_max, 12845056);
    assert_int_equal(p->video_pixels_min, 131072);
    assert_int_equal(p->video_pixels_max, 786432);
    for (int c = 0; c < 3; c++) {
        assert_float_equal(p->mean[c], 0.5f, 0);
        assert_float_equal(p->std[c], 0.5f, 0);
    }
    assert_int_equal(p->n_fft, 400);
    assert_int_equal(p->hop, 160);
}

static void published_files_and_no_file_say_the_same(void **state)
{
    (void)state;
    preprocessor p = {0};
    assert_int_equal(preprocessor_read(&p, folder, &config, &err), FLO_OK);
    expect_published(&p);
    assert_int_equal(preprocessor_read(&p, source_path("tests/golden/tiny-omni"), &config, &err),
                     FLO_OK);
    expect_published(&p);
    assert_int_equal(
        preprocessor_read(&p, source_path("tests/golden/tokenizer-qwen3-omni"), &config, &err),
        FLO_OK);
    expect_published(&p);
}

static void expect_pixels(const char *text, int64_t min, int64_t max)
{
    preprocessor p = must_read(text);
    assert_int_equal(p.image_pixels_min, min);
    assert_int_equal(p.image_pixels_max, max);
    assert_int_equal(p.video_pixels_min, 131072);
    assert_int_equal(p.video_pixels_max, 786432);
}

/* Each line was tried with the reference's class. */
static void limits_of_pixels_go_before_edges(void **state)
{
    (void)state;
    expect_pixels("{}", 3136, 1003520);
    expect_pixels("{\"size\": {\"shortest_edge\": 100, \"longest_edge\": 200}}", 100, 200);
    expect_pixels("{\"size\": {\"shortest_edge\": 100, \"longest_edge\": 200},"
                  " \"min_pixels\": 5000, \"max_pixels\": 6000}",
                  5000, 6000);
    expect_pixels(
        "{\"size\": {\"shortest_edge\": 100, \"longest_edge\": 200}, \"min_pixels\": 150}", 150,
        200);
    expect_pixels("{\"size\": {\"shortest_edge\": 100}, \"max_pixels\": 777}", 100, 777);
    expect_pixels("{\"min_pixels\": 4000}", 4000, 1003520);
    expect_pixels("{\"size\": null, \"min_pixels\": null, \"max_pixels\": 9000}", 3136, 9000);
}

static void levels_are_the_references(void **state)
{
    (void)state;
    float levels[3][256];
    preprocessor p = must_read("{\"image_mean\": [0.5, 0.5, 0.48145466], \"image_std\": [0.5, 0.25,"
                               " 0.26862954]}");
    preprocessor_levels(levels, &p);
    assert_float_equal(levels[0][0], -1, 0);
    assert_float_equal(levels[0][255], 1, 0);
    assert_float_equal(levels[1][255], 2, 0);
    assert_float_equal(levels[0][128], 0.003921568859368563f, 0);
    assert_float_equal(levels[2][0], -1.7922625541687012f, 0); /* as torch computes them */
    assert_float_equal(levels[2][7], -1.6900736093521118f, 0);
    p = must_read("{\"image_mean\": 0.25, \"image_std\": 1}");
    preprocessor_levels(levels, &p);
    assert_float_equal(levels[2][255], 0.75f, 0);
    p = must_read("{}"); /* the class's own */
    assert_float_equal(p.mean[1], 0.4578275f, 0);
    assert_float_equal(p.std[2], 0.27577711f, 0);
}

static void sections_of_newer_libraries_go_before_the_flat_file(void **state)
{
    (void)state;
    write_file("processor_config.json",
               "{\"image_processor\": {\"size\": {\"shortest_edge\": 1024, \"longest_edge\": 4096},"
               " \"image_mean\": [0.1, 0.2, 0.3], \"image_std\": [1, 1, 1]},"
               " \"video_processor\": {\"image_mean\": [0.1, 0.2, 0.3], \"image_std\": [1, 1, 1],"
               " \"size\": {\"shortest_edge\": 1, \"longest_edge\": 2}}}");
    preprocessor p = must_read("{\"min_pixels\": 5, \"n_fft\": 512, \"hop_length\": 128}");
    assert_int_equal(p.image_pixels_min, 1024);
    assert_int_equal(p.image_pixels_max, 4096);
    assert_float_equal(p.mean[2], 0.3f, 0);
    assert_int_equal(p.video_pixels_max, 786432);
    assert_int_equal(p.n_fft, 512); /* it has no section for sounds */
    assert_int_equal(p.hop, 128);
    write_file("processor_config.json", "{\"feature_extractor\": {\"hop_length\": 80}}");
    p = must_read("{\"min_pixels\": 5, \"hop_length\": 128}");
    assert_int_equal(p.image_pixels_min, 5);
    assert_int_equal(p.hop, 80);
}

static void what_a_model_has_no_encoder_for_is_not_looked_at(void **state)
{
    (void)state;
    config.has_vision = false;
    must_read("{\"patch_size\": 14, \"image_std\": [0, 0, 0]}");
    config.has_vision = true;
    config.has_audio = false;
    must_read("{\"feature_size\": 80}");
    config.has_audio = true;
}

static void expect_refused(const char *text, const char *sentence)
{
    preprocessor p = {.n_fft = -7};
    char expected[PATH_MAX + 512];
    assert_int_equal(read_flat(&p, text), FLO_FAIL);
    snprintf(expected, sizeof expected, "%s: %s", temp_path(folder, "preprocessor_config.json"),
             sentence);
    assert_string_equal(err.text, expected);
    assert_int_equal(p.n_fft, -7);
}

static void what_cannot_be_done_is_refused_by_name(void **state)
{
    (void)state;
    expect_refused("{\"patch_size\": 14}", "patch_size is 14, must be 16 as in config.json");
    expect_refused("{\"merge_size\": 4}", "merge_size is 4, must be 2 as in config.json");
    expect_refused("{\"temporal_patch_size\": 1}",
                   "temporal_patch_size is 1, must be 2 as in config.json");
    expect_refused("{\"resample\": 2}", "resample is 2, must be 3 (bicubic)");
    expect_refused("{\"rescale_factor\": 1}", "rescale_factor is 1, must be 0.00392156863 (1/255)");
    expect_refused("{\"do_rescale\": false}",
                   "do_rescale is false, must be true: Flotilla knows no other way");
    expect_refused("{\"feature_size\": 80}",
                   "feature_size is 80, must be 128, config.json's num_mel_bins");
    expect_refused("{\"sampling_rate\": 24000}", "sampling_rate is 24000, must be 16000");
    expect_refused("{\"dither\": 0.1}", "dither is 0.1, must be 0");
    expect_refused("{\"padding_side\": \"left\"}", "padding_side must be \"right\"");
    expect_refused("{\"n_fft\": 0}", "n_fft is 0, must be a whole number from 2 to 2048");
    expect_refused("{\"n_fft\": 401}", "n_fft is 401, must be even");
    expect_refused("{\"hop_length\": 401}",
                   "hop_length is 401, must be a whole number from 1 to 400");
    expect_refused("{\"min_pixels\": 1e18}",
                   "min_pixels is 1e+18, must be a whole number from 1 to 268435456");
    expect_refused("{\"max_pixels\": 100}",
                   "at least 3136 pixels and at most 100 leave no picture, "
                   "set min_pixels and max_pixels");
    expect_refused("{\"size\": {\"shortest_edge\": 100}}",
                   "size must be shortest_edge and longest_edge, numbers of pixels");
    expect_refused("{\"size\": [100, 200]}",
                   "size must be shortest_edge and longest_edge, numbers of pixels");
    expect_refused("{\"size\": {\"shortest_edge\": 0}}",
                   "shortest_edge is 0, must be a whole number from 1 to 268435456");
    expect_refused("{\"image_std\": [1, 0, 1]}",
                   "image_std must be three numbers from 0.0001 to 10000, or one");
    expect_refused("{\"image_mean\": [0.5, 0.5]}",
                   "image_mean must be three numbers from -10000 to 10000, or one");
    expect_refused("{\"image_mean\": \"0.5\"}",
                   "image_mean must be three numbers from -10000 to 10000, or one");
    expect_refused("[]", "not a JSON object");
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    preprocessor p;
    static const char *const texts[] = {"", "{", "{\"n_fft\": 1e999}", "{\"n_fft\": 400}}", "\xff"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(read_flat(&p, texts[i]), FLO_FAIL);
        assert_non_null(strstr(err.text, "preprocessor_config.json"));
    }
}

static void frames_with_other_levels_than_pictures_are_refused(void **state)
{
    (void)state;
    preprocessor p;
    write_file("video_preprocessor_config.json", "{\"image_mean\": 0.5, \"image_std\": 0.5}");
    must_read("{\"image_mean\": 0.5, \"image_std\": 0.5}");
    assert_int_equal(read_flat(&p, "{\"image_mean\": 0.4, \"image_std\": 0.5}"), FLO_FAIL);
    assert_non_null(strstr(err.text, "video_preprocessor_config.json: image_mean"));
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(published_files_and_no_file_say_the_same),
        IN_FOLDER(limits_of_pixels_go_before_edges),
        IN_FOLDER(levels_are_the_references),
        IN_FOLDER(sections_of_newer_libraries_go_before_the_flat_file),
        IN_FOLDER(what_a_model_has_no_encoder_for_is_not_looked_at),
        IN_FOLDER(what_cannot_be_done_is_refused_by_name),
        IN_FOLDER(damaged_files_are_refused),
        IN_FOLDER(frames_with_other_levels_than_pictures_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

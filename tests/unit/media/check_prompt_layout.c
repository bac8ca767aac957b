/*
 * check_prompt_layout.c - placeholders, rows and positions are the reference's, number for number;
 * prompts that it has no sensible answer for are refused with a sentence or taken as text.
 *
 * The recorded cases were made by tests/golden/make/prompt_layout.py. A file with more of them can
 * be named on the command line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json.h"
#include "coordinator/media/prompt_layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MEDIA_MAX = 64, CASES_BYTES_MAX = 512 << 20 };

static const char *cases_path;
static model_config config;
static flo_err err;

static const char *source_path(const char *below)
{
    static char path[4096];
    const char *root = getenv("FLOTILLA_SOURCE_DIR");
    snprintf(path, sizeof path, "%s/%s", root != NULL ? root : ".", below);
    return path;
}

static void must(flo_code code)
{
    if (code != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

static int read_config(void **state)
{
    (void)state;
    return model_config_read(&config, source_path("tests/golden/tiny-omni"), &err) == FLO_OK ? 0
                                                                                             : -1;
}

/* ---- prompts of tests ---- */

static const struct {
    const char *text;
    const int32_t *id;
} marks[] = {
    {"<|image_pad|>", &config.tokens.image},
    {"<|audio_pad|>", &config.tokens.audio},
    {"<|video_pad|>", &config.tokens.video},
    {"<|vision_start|>", &config.tokens.vision_start},
    {"<|vision_end|>", &config.tokens.vision_end},
    {"<|audio_start|>", &config.tokens.audio_start},
    {"<|audio_end|>", &config.tokens.audio_end},
};

/* Marks become their ids, every other byte itself. The caller frees. */
static int32_t *ids_of(int32_t *n, const char *text, size_t n_bytes)
{
    int32_t *ids = malloc((n_bytes + 1) * sizeof *ids);
    assert_non_null(ids);
    *n = 0;
    for (size_t at = 0; at < n_bytes;) {
        int32_t id = (uint8_t)text[at];
        size_t step = 1;
        for (size_t m = 0; m < sizeof marks / sizeof marks[0]; m++) {
            size_t length = strlen(marks[m].text);
            if (n_bytes - at >= length && memcmp(text + at, marks[m].text, length) == 0) {
                id = *marks[m].id;
                step = length;
            }
        }
        ids[(*n)++] = id;
        at += step;
    }
    return ids;
}

static layout_medium picture_of(int32_t height, int32_t width)
{
    return (layout_medium){.kind = MEDIA_IMAGE,
                           .n_tokens = height * width / 4,
                           .grid = {1, height, width},
                           .sound = -1};
}

static layout_medium video_of(int32_t frames, int32_t height, int32_t width, double seconds,
                              int32_t sound)
{
    return (layout_medium){.kind = MEDIA_VIDEO,
                           .n_tokens = frames * height * width / 4,
                           .grid = {frames, height, width},
                           .second_per_grid = seconds,
                           .sound = sound};
}

static layout_medium sound_of(int32_t n_tokens, bool in_video)
{
    return (layout_medium){
        .kind = MEDIA_AUDIO, .n_tokens = n_tokens, .sound = -1, .in_video = in_video};
}

#define LIST(...)                                                                                  \
    (prompt_media)                                                                                 \
    {                                                                                              \
        (layout_medium[]){__VA_ARGS__},                                                            \
            (int32_t)(sizeof((layout_medium[]){__VA_ARGS__}) / sizeof(layout_medium))              \
    }

static const prompt_media nothing = {NULL, 0};

typedef struct laid_out {
    int32_t n;
    int32_t *ids;
    prompt_row *rows;
    float *axes;
    float next[3];
} laid_out;

static void laid_out_free(laid_out *l)
{
    free(l->ids);
    free(l->rows);
    free(l->axes);
}

static void take_memory(laid_out *l)
{
    l->rows = malloc(((size_t)l->n + 1) * sizeof *l->rows);
    l->axes = malloc(((size_t)l->n + 1) * 3 * sizeof *l->axes);
    assert_non_null(l->rows);
    assert_non_null(l->axes);
}

static laid_out lay_out(const char *text, const prompt_media *media)
{
    buffer expanded = {0};
    laid_out l = {0};
    must(prompt_expand(&expanded, text, strlen(text), media, 2, &err));
    l.ids = ids_of(&l.n, expanded.at, expanded.n);
    buffer_free(&expanded);
    take_memory(&l);
    must(prompt_rows(l.rows, l.ids, l.n, &config.tokens, media, &err));
    must(prompt_positions(l.axes, l.next, l.ids, l.n, &config, media, &err));
    return l;
}

static void expect_times(const laid_out *l, int32_t n, const float *times)
{
    assert_int_equal(l->n, n);
    for (int32_t i = 0; i < n; i++) {
        if (l->axes[i] != times[i]) {
            fail_msg("token %d: time %.9g, not %.9g", i, (double)l->axes[i], (double)times[i]);
        }
    }
}

#define TIMES(l, ...)                                                                              \
    expect_times(l, (int32_t)(sizeof((float[]){__VA_ARGS__}) / sizeof(float)),                     \
                 (float[]){__VA_ARGS__})

/* ---- recorded cases ---- */

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = json_member(object, name);
    return item != NULL ? item->valuedouble : -1;
}

static layout_medium medium_from_json(const cJSON *item)
{
    const char *kind = json_member(item, "kind")->valuestring;
    layout_medium m = {.kind = strcmp(kind, "image") == 0   ? MEDIA_IMAGE
                               : strcmp(kind, "audio") == 0 ? MEDIA_AUDIO
                                                            : MEDIA_VIDEO,
                       .n_tokens = (int32_t)number(item, "n_tokens"),
                       .second_per_grid = number(item, "second_per_grid"),
                       .sound = (int32_t)number(item, "sound"),
                       .in_video = cJSON_IsTrue(json_member(item, "in_video"))};
    const cJSON *grid = json_member(item, "grid");
    for (int i = 0; grid != NULL && i < 3; i++) {
        m.grid[i] = cJSON_GetArrayItem(grid, i)->valueint;
    }
    return m;
}

static int32_t media_from_json(layout_medium *media, const cJSON *list)
{
    int32_t n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        assert_true(n < MEDIA_MAX);
        media[n++] = medium_from_json(item);
    }
    return n;
}

/* Rows of each kind are taken in the order of the list. */
static void expect_rows_in_order(const laid_out *l, const prompt_media *media)
{
    int32_t medium[3] = {-1, -1, -1}, row[3] = {0};
    for (int32_t i = 0; i < l->n; i++) {
        int32_t id = l->ids[i];
        media_kind kind = id == config.tokens.image ? MEDIA_IMAGE : MEDIA_VIDEO;
        kind = id == config.tokens.audio ? MEDIA_AUDIO : kind;
        if (kind == MEDIA_VIDEO && id != config.tokens.video) {
            assert_int_equal(l->rows[i].medium, -1);
            continue;
        }
        while (medium[kind] < 0 || row[kind] == media->media[medium[kind]].n_tokens) {
            do {
                medium[kind]++;
            } while (media->media[medium[kind]].kind != kind);
            row[kind] = 0;
        }
        assert_int_equal(l->rows[i].medium, medium[kind]);
        assert_int_equal(l->rows[i].row, row[kind]);
        row[kind]++;
    }
}

static void expect_ids(const laid_out *l, const cJSON *ids)
{
    int32_t n = 0;
    const cJSON *id;
    assert_int_equal(l->n, cJSON_GetArraySize(ids));
    cJSON_ArrayForEach(id, ids)
    {
        assert_int_equal(l->ids[n++], id->valueint);
    }
}

static void expect_axes(const laid_out *l, const cJSON *c, int32_t which)
{
    const cJSON *axis, *value, *next = json_member(c, "next");
    int32_t a = 0;
    cJSON_ArrayForEach(axis, json_member(c, "axes"))
    {
        int32_t i = 0;
        cJSON_ArrayForEach(value, axis)
        {
            float got = l->axes[a * l->n + i];
            if (got != (float)value->valuedouble) {
                fail_msg("case %d, axis %d, token %d: %.9g, not %.9g", which, a, i, (double)got,
                         value->valuedouble);
            }
            i++;
        }
        assert_int_equal(i, l->n);
        assert_float_equal(l->next[a], cJSON_GetArrayItem(next, a)->valuedouble, 0);
        a++;
    }
    assert_int_equal(a, 3);
}

static void recorded_prompts_are_laid_out_as_the_reference_does_it(void **state)
{
    (void)state;
    cJSON *root = NULL;
    layout_medium media[MEDIA_MAX];
    double per_second = config.position_id_per_seconds;
    int32_t n = 0;
    must(json_read(&root, cases_path, CASES_BYTES_MAX, &err));
    const cJSON *c;
    cJSON_ArrayForEach(c, root)
    {
        prompt_media list = {media, media_from_json(media, json_member(c, "media"))};
        config.position_id_per_seconds = number(c, "per_second");
        laid_out l = lay_out(json_member(c, "text")->valuestring, &list);
        expect_ids(&l, json_member(c, "ids"));
        expect_axes(&l, c, n);
        expect_rows_in_order(&l, &list);
        laid_out_free(&l);
        n++;
    }
    config.position_id_per_seconds = per_second;
    assert_true(n >= 50);
    cJSON_Delete(root);
}

/* ---- single rules ---- */

static void a_video_before_its_sound_on_a_tie(void **state)
{
    (void)state;
    prompt_media media = LIST(video_of(2, 2, 2, 1.0, 1), sound_of(15, true));
    buffer out = {0};
    const char *text = "<|vision_start|><|video_pad|><|vision_end|>";
    must(prompt_expand(&out, text, strlen(text), &media, 2, &err));
    int32_t n;
    int32_t *ids = ids_of(&n, out.at, out.n);
    assert_int_equal(n, 2 + 1 + 13 + 1 + 2 + 2);
    assert_int_equal(ids[2], config.tokens.video);
    assert_int_equal(ids[15], config.tokens.audio);
    assert_int_equal(ids[16], config.tokens.video); /* times 13 and 13 */
    assert_int_equal(ids[17], config.tokens.audio);
    free(ids);
    buffer_free(&out);
}

static void positions_after_a_tall_video_follow_its_sound(void **state)
{
    (void)state;
    prompt_media media = LIST(video_of(1, 20, 2, 1.0, 1), sound_of(5, true));
    laid_out l = lay_out("<|vision_start|><|video_pad|><|vision_end|>b", &media);
    assert_float_equal(l.axes[l.n + 11], 11, 0);       /* the last height */
    assert_float_equal(l.axes[l.n - 1], 6 + 1 + 2, 0); /* behind the last sound and two marks */
    assert_float_equal(l.next[1], 10, 0);
    laid_out_free(&l);
}

static void generation_goes_on_in_each_row_by_itself(void **state)
{
    (void)state;
    /* A prompt that ends with a picture: three different ends. */
    prompt_media media = LIST(picture_of(4, 8));
    laid_out l = lay_out("<|vision_start|><|image_pad|>", &media);
    assert_float_equal(l.next[0], 2, 0);
    assert_float_equal(l.next[1], 3, 0);
    assert_float_equal(l.next[2], 5, 0);
    laid_out_free(&l);
}

static void text_and_sounds_count_tokens(void **state)
{
    (void)state;
    prompt_media media = LIST(sound_of(3, false));
    laid_out l = lay_out("ab<|audio_start|><|audio_pad|><|audio_end|>c<|vision_start|>", &media);
    TIMES(&l, 0, 1, 2, 3, 4, 5, 6, 7, 8);
    assert_float_equal(l.next[2], 9, 0);
    laid_out_free(&l);
    l = lay_out("<|vision_start|><|audio_start|>", &nothing);
    TIMES(&l, 0, 1);
    laid_out_free(&l);
    l = lay_out("", &nothing);
    assert_int_equal(l.n, 0);
    assert_float_equal(l.next[0], 0, 0);
    laid_out_free(&l);
}

static void marks_that_open_nothing_are_text(void **state)
{
    (void)state;
    prompt_media media = LIST(picture_of(2, 4));
    laid_out l = lay_out("<|vision_start|>a<|audio_start|><|vision_start|><|image_pad|>"
                         "<|vision_end|><|vision_start|>",
                         &media);
    TIMES(&l, 0, 1, 2, 3, 4, 4, 6, 7);
    laid_out_free(&l);
}

static void a_picture_may_stand_at_the_end_or_before_another(void **state)
{
    (void)state;
    prompt_media media = LIST(picture_of(2, 4), picture_of(2, 2));
    laid_out l = lay_out("<|vision_start|><|image_pad|><|vision_start|><|image_pad|>", &media);
    TIMES(&l, 0, 1, 1, 3, 4);
    laid_out_free(&l);
}

static void a_sound_belongs_to_its_video_wherever_it_stands_in_the_list(void **state)
{
    (void)state;
    prompt_media media = LIST(sound_of(2, true), video_of(1, 2, 2, 2.0, 0), sound_of(3, false),
                              video_of(1, 2, 4, 2.0, -1));
    laid_out l = lay_out("<|audio_start|><|audio_pad|><|audio_end|>"
                         "<|vision_start|><|video_pad|><|vision_end|>"
                         "<|vision_start|><|video_pad|><|vision_end|>",
                         &media);
    assert_int_equal(l.rows[1].medium, 2);
    assert_int_equal(l.rows[3].row, 2);
    assert_int_equal(l.rows[7].medium, 1);
    assert_int_equal(l.rows[8].medium, 0);
    assert_int_equal(l.rows[9].row, 1);
    assert_int_equal(l.rows[13].medium, 3);
    TIMES(&l, 0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10, 11, 12, 12, 14);
    laid_out_free(&l);
}

static void expect_expand_refused(const char *text, const prompt_media *media, const char *sentence)
{
    buffer out = {0};
    err.text[0] = '\0';
    assert_int_equal(prompt_expand(&out, text, strlen(text), media, 2, &err), FLO_USAGE);
    assert_string_equal(err.text, sentence);
    buffer_free(&out);
}

/* A chat template makes a place for each part; the sound that a video takes has it there. Here the
 * first of three sounds belongs to the second video, whose entry stands last in the list. */
static void a_given_sound_that_a_video_takes_leaves_its_own_place(void **state)
{
    (void)state;
    layout_medium taken = sound_of(3, true);
    taken.given_as = 1;
    prompt_media media =
        LIST(sound_of(2, false), sound_of(4, false), video_of(1, 2, 2, 1.0, 3), taken);
    static const char places[] = "<|audio_start|><|audio_pad|><|audio_end|>"
                                 "<|audio_start|><|audio_pad|><|audio_end|>"
                                 "<|audio_pad|>";
    static const char video[] = "<|vision_start|><|video_pad|><|vision_end|>";
    char text[512];
    snprintf(text, sizeof text, "a%s%sb", places, video);
    laid_out with = lay_out(text, &media);
    /* without the first sound's place, as a raw prompt has it */
    snprintf(text, sizeof text, "a%s%sb", places + 41, video);
    laid_out without = lay_out(text, &media);
    assert_int_equal(with.n, without.n);
    assert_memory_equal(with.ids, without.ids, (size_t)with.n * sizeof *with.ids);
    assert_int_equal(with.n, 1 + (2 + 2) + 4 + (2 + 2 + 1 + 3) + 1);
    laid_out_free(&with);
    laid_out_free(&without);
    snprintf(text, sizeof text, "%s%s%s", places, places, video);
    expect_expand_refused(text, &media,
                          "the text has 6 <|audio_pad|> for 2 sounds; it needs one for each");
}

/* ---- refusals ---- */

static void placeholders_and_media_are_counted(void **state)
{
    (void)state;
    prompt_media one = LIST(picture_of(2, 2));
    expect_expand_refused("<|image_pad|>", &nothing,
                          "the text has 1 <|image_pad|> for 0 pictures; it needs one for each");
    expect_expand_refused("a", &one,
                          "the text has 0 <|image_pad|> for 1 picture; it needs one for each");
    expect_expand_refused("<|image_pad|><|video_pad|>", &one,
                          "the text has 1 <|video_pad|> for 0 videos; it needs one for each");
}

static void a_video_with_sound_needs_its_marks(void **state)
{
    (void)state;
    prompt_media media = LIST(video_of(1, 2, 2, 2.0, 1), sound_of(2, true));
    const char *sentence = "a video that takes its sound needs <|vision_start|> before and "
                           "<|vision_end|> behind its <|video_pad|>";
    expect_expand_refused("<|video_pad|>", &media, sentence);
    expect_expand_refused("<|vision_start|><|video_pad|> <|vision_end|>", &media, sentence);
    expect_expand_refused("<|vision_start|><|video_pad|><|vision_end|", &media, sentence);
}

static void expect_refused(const char *expanded, const prompt_media *media, const char *rows,
                           const char *positions)
{
    laid_out l = {0};
    l.ids = ids_of(&l.n, expanded, strlen(expanded));
    take_memory(&l);
    err.text[0] = '\0';
    flo_code code = prompt_rows(l.rows, l.ids, l.n, &config.tokens, media, &err);
    assert_int_equal(code, rows != NULL ? FLO_USAGE : FLO_OK);
    assert_string_equal(err.text, rows != NULL ? rows : "");
    err.text[0] = '\0';
    code = prompt_positions(l.axes, l.next, l.ids, l.n, &config, media, &err);
    assert_int_equal(code, positions != NULL ? FLO_USAGE : FLO_OK);
    assert_string_equal(err.text, positions != NULL ? positions : "");
    laid_out_free(&l);
}

static void ids_that_do_not_match_the_media_are_refused(void **state)
{
    (void)state;
    prompt_media one = LIST(picture_of(4, 2)), two = LIST(picture_of(4, 2), picture_of(2, 2));
    expect_refused("a<|image_pad|>", &nothing,
                   "the prompt has 1 <|image_pad|> where 0 are needed, for 0 pictures", NULL);
    expect_refused(
        "<|vision_start|><|image_pad|><|vision_end|>", &one,
        "the prompt has 1 <|image_pad|> where 2 are needed, for 1 picture",
        "the picture behind the <|vision_start|> at token 0 needs 2 <|image_pad|> tokens "
        "together");
    expect_refused(
        "a<|vision_start|><|image_pad|>b<|image_pad|>", &one, NULL,
        "the picture behind the <|vision_start|> at token 1 needs 2 <|image_pad|> tokens "
        "together");
    expect_refused(
        "<|vision_start|><|image_pad|><|image_pad|>b<|image_pad|>", &two, NULL,
        "1 <|vision_start|> marks open a picture in the prompt, which has 2 pictures; it "
        "needs one for each");
    expect_refused("<|vision_start|><|image_pad|><|image_pad|><|vision_start|><|image_pad|>", &one,
                   "the prompt has 3 <|image_pad|> where 2 are needed, for 1 picture",
                   "2 <|vision_start|> marks open a picture in the prompt, which has 1 picture; it "
                   "needs one for each");
}

static void a_video_keeps_its_sound_to_itself(void **state)
{
    (void)state;
    prompt_media media = LIST(video_of(1, 2, 2, 2.0, 1), sound_of(2, true));
    expect_refused(
        "<|vision_start|><|video_pad|><|vision_end|><|audio_pad|><|audio_pad|>", &media,
        "token 3 of the prompt stands for a sound, but the sound that is left belongs to "
        "a video, between <|vision_start|><|audio_start|> and <|audio_end|><|vision_end|>",
        NULL);
    expect_refused("<|vision_start|><|audio_start|><|audio_pad|><|audio_pad|>b<|video_pad|>",
                   &media, NULL,
                   "the video behind the <|vision_start|> at token 0 needs 1 <|video_pad|> tokens "
                   "together, mixed with those of its sound alone");
}

static void hostile_text_takes_linear_time(void **state)
{
    (void)state;
    enum { N = 48 << 20 };
    char *text = malloc(N);
    assert_non_null(text);
    static const char *patterns[] = {"<|image_pad|>", "<", "<|image_pad<|vision_start|>"};
    prompt_media media = LIST(picture_of(2, 2));
    buffer out = {0};
    clock_t before = clock();
    for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
        size_t length = strlen(patterns[p]);
        for (size_t i = 0; i < N; i++) {
            text[i] = patterns[p][i % length];
        }
        assert_int_equal(prompt_expand(&out, text, N, &media, 2, &err), FLO_USAGE);
        assert_int_equal(out.n, 0);
    }
    assert_true(clock() - before < 20 * CLOCKS_PER_SEC);
    free(text);
}

static void hostile_ids_take_linear_time(void **state)
{
    (void)state;
    enum { N = 4 << 20 };
    laid_out l = {.n = N, .ids = malloc(N * sizeof(int32_t))};
    assert_non_null(l.ids);
    take_memory(&l);
    prompt_media media = LIST(picture_of(2, 2), video_of(1, 2, 2, 1.0, 2), sound_of(1, true));
    const int32_t pairs[][2] = {{config.tokens.vision_start, config.tokens.image},
                                {config.tokens.vision_start, config.tokens.audio_start},
                                {config.tokens.audio_start, config.tokens.audio},
                                {config.tokens.vision_start, config.tokens.vision_start}};
    clock_t before = clock();
    for (size_t p = 0; p < sizeof pairs / sizeof pairs[0]; p++) {
        for (int32_t i = 0; i < N; i++) {
            l.ids[i] = pairs[p][i % 2];
        }
        assert_int_equal(prompt_rows(l.rows, l.ids, N, &config.tokens, &media, &err), FLO_USAGE);
        flo_code code = prompt_positions(l.axes, l.next, l.ids, N, &config, &media, &err);
        assert_int_equal(code, p < 2 ? FLO_USAGE : FLO_OK);
    }
    assert_true(clock() - before < 20 * CLOCKS_PER_SEC);
    laid_out_free(&l);
}

int main(int argc, char **argv)
{
    static char recorded[4096];
    snprintf(recorded, sizeof recorded, "%s", source_path("tests/golden/prompt-layout/cases.json"));
    cases_path = argc > 1 ? argv[1] : recorded;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_prompts_are_laid_out_as_the_reference_does_it),
        cmocka_unit_test(a_video_before_its_sound_on_a_tie),
        cmocka_unit_test(positions_after_a_tall_video_follow_its_sound),
        cmocka_unit_test(generation_goes_on_in_each_row_by_itself),
        cmocka_unit_test(text_and_sounds_count_tokens),
        cmocka_unit_test(marks_that_open_nothing_are_text),
        cmocka_unit_test(a_picture_may_stand_at_the_end_or_before_another),
        cmocka_unit_test(a_sound_belongs_to_its_video_wherever_it_stands_in_the_list),
        cmocka_unit_test(a_given_sound_that_a_video_takes_leaves_its_own_place),
        cmocka_unit_test(placeholders_and_media_are_counted),
        cmocka_unit_test(a_video_with_sound_needs_its_marks),
        cmocka_unit_test(ids_that_do_not_match_the_media_are_refused),
        cmocka_unit_test(a_video_keeps_its_sound_to_itself),
        cmocka_unit_test(hostile_text_takes_linear_time),
        cmocka_unit_test(hostile_ids_take_linear_time),
    };
    return cmocka_run_group_tests(tests, read_config, NULL);
}

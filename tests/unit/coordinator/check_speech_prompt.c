/*
 * check_speech_prompt.c - the talker's prompt and the text of its frames are the reference's, id
 * for id and position for position; what is settled while the answer grows never changes, however
 * the answer ends, and nothing is held back that no end can change.
 *
 * The recorded cases were made by tests/golden/make/speech_prompt.py and
 * speech_prompt_recorded.py. A file with more of them can be named on the command line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/json.h"
#include "coordinator/speech/speech_prompt.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IDS_MAX = 1 << 16, MEDIA_MAX = 64, CASES_BYTES_MAX = 512 << 20, SPEAKER_CODE = 1000 };

static const char *cases_path;
static model_config model;
static flo_err err;

static void must(flo_code code)
{
    if (code != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

static int read_config(void **state)
{
    (void)state;
    return model_config_read(&model, source_path("tests/golden/tiny-omni"), &err) == FLO_OK ? 0
                                                                                            : -1;
}

/* --- recorded cases ----------------------------------------------------------------------------
 */

typedef struct recorded_case {
    const cJSON *json;
    prompt p;
    media_set *media; /* NULL: none */
    speech_prompt s;
    int32_t *answer, n_answer;
    bool is_end;
} recorded_case;

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = json_member(object, name);
    return item != NULL ? item->valuedouble : -1;
}

static int32_t *ids_from_json(int32_t *n, const cJSON *list)
{
    const cJSON *item;
    int32_t *ids = malloc(((size_t)cJSON_GetArraySize(list) + 1) * sizeof *ids);
    *n = 0;
    cJSON_ArrayForEach(item, list)
    {
        ids[(*n)++] = item->valueint;
    }
    return ids;
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

static media_set *media_from_json(const cJSON *list)
{
    if (cJSON_GetArraySize(list) == 0) {
        return NULL;
    }
    media_set *s = calloc(1, sizeof *s);
    s->layouts = calloc((size_t)cJSON_GetArraySize(list), sizeof *s->layouts);
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        layout_medium m = medium_from_json(item);
        media_set_add(s, m.kind)->layout = m;
        s->layouts[s->n - 1] = m;
    }
    return s;
}

static void open_case(recorded_case *c, const cJSON *json)
{
    const cJSON *voice = json_member(json, "speaker");
    *c = (recorded_case){.json = json, .is_end = cJSON_IsTrue(json_member(json, "is_end"))};
    c->media = media_from_json(json_member(json, "media"));
    c->p.ids = ids_from_json(&c->p.n, json_member(json, "ids"));
    c->answer = ids_from_json(&c->n_answer, json_member(json, "answer"));
    must(prompt_lay_out(&c->p, &model, NULL, c->media, &err));
    int32_t code = model_speaker(&model, voice != NULL ? voice->valuestring : "ethan")->id;
    model.talker.position_id_per_seconds = number(json, "per_second");
    must(speech_prompt_make(&c->s, &c->p, c->media, &model, code, &err));
    model.talker.position_id_per_seconds = 13;
}

static void close_case(recorded_case *c)
{
    speech_prompt_free(&c->s);
    prompt_free(&c->p);
    media_set_free(c->media);
    free(c->answer);
}

static int32_t for_each_case(const char *path, void (*expect)(const recorded_case *c, int32_t i))
{
    cJSON *root = NULL;
    const cJSON *json;
    int32_t n = 0;
    must(json_read(&root, path, CASES_BYTES_MAX, &err));
    cJSON_ArrayForEach(json, root)
    {
        recorded_case c;
        open_case(&c, json);
        expect(&c, n++);
        close_case(&c);
    }
    cJSON_Delete(root);
    return n;
}

static void expect_list(const cJSON *list, const int32_t *got, int32_t n, int32_t which,
                        const char *name)
{
    if (n != cJSON_GetArraySize(list)) {
        fail_msg("case %d: %d %s, not %d", which, n, name, cJSON_GetArraySize(list));
    }
    for (int32_t i = 0; i < n; i++) {
        int32_t wanted = cJSON_GetArrayItem(list, i)->valueint;
        if (got[i] != wanted) {
            fail_msg("case %d, %s %d: %d, not %d", which, name, i, got[i], wanted);
        }
    }
}

static void expect_axes(const recorded_case *c, int32_t which)
{
    const cJSON *axes = json_member(c->json, "axes"), *value = NULL;
    for (int32_t a = 0; a < 3; a++) {
        value = axes != NULL ? cJSON_GetArrayItem(axes, a)->child : NULL;
        for (int32_t i = 0; i < c->s.n_rows; i++, value = axes != NULL ? value->next : NULL) {
            float got = c->s.axes[a * c->s.n_rows + i];
            float wanted = axes != NULL ? (float)value->valuedouble : (float)i;
            if (got != wanted) {
                fail_msg("case %d, axis %d, row %d: %.9g, not %.9g", which, a, i, (double)got,
                         (double)wanted);
            }
        }
        assert_null(value);
    }
    if (c->s.next_position != (float)number(c->json, "next")) {
        fail_msg("case %d: next %.9g, not %.9g", which, (double)c->s.next_position,
                 number(c->json, "next"));
    }
}

static void expect_rows(const recorded_case *c, int32_t which)
{
    const speech_prompt *s = &c->s;
    assert_int_equal(s->silent, json_member(c->json, "text") == NULL && s->n_rows == 0);
    if (json_member(c->json, "text") == NULL) {
        return;
    }
    const cJSON *text = json_member(c->json, "text")->child;
    assert_int_equal(s->n_rows, cJSON_GetArraySize(json_member(c->json, "text")));
    int32_t n_media = 0;
    for (int32_t r = 0; r < s->n_rows; r++, text = text->next) {
        assert_int_equal(s->media[r], text->valueint < 0);
        int32_t id = s->media[r]         ? c->p.ids[s->hidden_rows[n_media]]
                     : r < s->n_rows - 9 ? text->valueint
                                         : model.tokens.tts_pad;
        assert_int_equal(s->ids[r], id);
        n_media += s->media[r];
    }
    assert_int_equal(n_media, s->n_hidden);
    expect_list(json_member(c->json, "hidden"), s->hidden_rows, s->n_hidden, which, "hidden row");
    expect_list(json_member(c->json, "codes"), s->codes, s->n_rows, which, "code");
    expect_axes(c, which);
}

/* The whole text stream of an answer that is over; its length. */
static int64_t stream_of(int32_t *out, const speech_prompt *s, const int32_t *answer, int32_t n_ids,
                         bool done, bool is_end)
{
    speech_text t = speech_prompt_settled(s, n_ids, done, is_end);
    assert_true(t.n <= IDS_MAX);
    for (int64_t i = 0; i < t.n; i++) {
        out[i] = speech_prompt_text(s, answer, n_ids, done, is_end, i);
    }
    return t.n;
}

static void expect_stream(const recorded_case *c, int32_t which)
{
    static int32_t got[IDS_MAX];
    speech_text t = speech_prompt_settled(&c->s, c->n_answer, true, c->is_end);
    bool silent = json_member(c->json, "text") == NULL;
    if (t.silent != silent || t.last == silent) {
        fail_msg("case %d: silent %d, last %d", which, t.silent, t.last);
    }
    if (silent) {
        return;
    }
    int64_t n = stream_of(got, &c->s, c->answer, c->n_answer, true, c->is_end), at = 0;
    assert_int_equal(got[at++], model.tokens.tts_pad);
    const cJSON *item;
    cJSON_ArrayForEach(item, json_member(c->json, "text"))
    {
        if (item->valueint >= 0 && got[at++] != item->valueint) {
            fail_msg("case %d: text %d is %d, not %d", which, (int)at - 1, got[at - 1],
                     item->valueint);
        }
    }
    const cJSON *trail = json_member(c->json, "trail");
    int32_t n_trail = cJSON_GetArraySize(trail);
    assert_true(n_trail <= n - at);
    expect_list(trail, got + at, n_trail, which, "trailing id");
    for (at += n_trail; at < n; at++) {
        assert_int_equal(got[at], model.tokens.tts_pad);
    }
}

static void expect_case(const recorded_case *c, int32_t which)
{
    expect_rows(c, which);
    expect_stream(c, which);
}

static void the_talker_is_given_what_the_reference_gives_it(void **state)
{
    (void)state;
    assert_true(for_each_case(cases_path, expect_case) >= 100);
}

static void recorded_answers_were_made_of_the_same_rows_and_texts(void **state)
{
    (void)state;
    const char *path = source_path("tests/golden/speech-prompt/recorded.json");
    assert_int_equal(for_each_case(path, expect_case), 4);
}

/* --- while the answer grows --------------------------------------------------------------------
 */

/* What is settled at n ids is how every stream from there on begins. */
static void expect_begins(const speech_prompt *s, const int32_t *answer, int32_t n_now, int32_t n,
                          bool done, bool is_end)
{
    static int32_t now[IDS_MAX], later[IDS_MAX];
    int64_t n_settled = stream_of(now, s, answer, n_now, false, false);
    int64_t n_later = stream_of(later, s, answer, n, done, is_end);
    assert_true(n_settled <= n_later);
    assert_memory_equal(now, later, (size_t)n_settled * sizeof now[0]);
    assert_false(speech_prompt_settled(s, n_now, false, false).last);
    assert_false(speech_prompt_settled(s, n_now, false, false).silent);
}

static void expect_settled_stays(const recorded_case *c, int32_t which)
{
    (void)which;
    for (int32_t now = 0; now <= c->n_answer; now++) {
        for (int32_t n = now; n <= c->n_answer; n++) {
            expect_begins(&c->s, c->answer, now, n, false, false);
            expect_begins(&c->s, c->answer, now, n, true, false);
            expect_begins(&c->s, c->answer, now, n, true, n > 0);
        }
    }
}

static void what_is_settled_never_changes(void **state)
{
    (void)state;
    assert_true(for_each_case(cases_path, expect_settled_stays) >= 100);
}

/* A user turn, then an assistant turn of n_header ids of which all but two are text. */
static prompt prompt_of(int32_t n_header)
{
    const model_tokens *t = &model.tokens;
    const int32_t user[] = {t->im_start, t->user, 10, 50, t->im_end, 10};
    prompt p = {.n = 6 + n_header, .ids = malloc(((size_t)n_header + 6) * sizeof *p.ids)};
    memcpy(p.ids, user, sizeof user);
    p.ids[6] = t->im_start;
    p.ids[7] = t->assistant;
    for (int32_t i = 8; i < p.n; i++) {
        p.ids[i] = 100 + i;
    }
    must(prompt_lay_out(&p, &model, NULL, NULL, &err));
    return p;
}

static int64_t common_beginning(const int32_t *a, int64_t n_a, const int32_t *b, int64_t n_b)
{
    int64_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) {
        n++;
    }
    return n;
}

/* The ids differ, so where two endings agree they agree for a reason. */
static void nothing_is_held_back_that_no_end_changes(void **state)
{
    (void)state;
    static int32_t first[IDS_MAX], other[IDS_MAX];
    const int32_t answer[] = {201, 202, 203, 204, 205, 206, 207, 208, 209, 210};
    for (int32_t n_header = 2; n_header < 9; n_header++) {
        prompt p = prompt_of(n_header);
        speech_prompt s = {0};
        must(speech_prompt_make(&s, &p, NULL, &model, SPEAKER_CODE, &err));
        for (int32_t now = 2; now < 7; now++) {
            int64_t n = stream_of(first, &s, answer, now, true, true), n_common = n;
            for (int32_t later = now; later < 10; later++) {
                for (int is_end = 0; is_end < 2; is_end++) {
                    int64_t n_other = stream_of(other, &s, answer, later, true, is_end != 0);
                    int64_t both = common_beginning(first, n, other, n_other);
                    n_common = both < n_common ? both : n_common;
                }
            }
            assert_int_equal(speech_prompt_settled(&s, now, false, false).n, n_common);
        }
        speech_prompt_free(&s);
        prompt_free(&p);
    }
}

static void the_prompt_s_own_text_is_settled_before_the_answer(void **state)
{
    (void)state;
    prompt p = prompt_of(3);
    speech_prompt s = {0};
    must(speech_prompt_make(&s, &p, NULL, &model, SPEAKER_CODE, &err));
    /* all rows but the last, which takes the answer's first id */
    assert_int_equal(speech_prompt_settled(&s, 0, false, false).n, 1 + 6 + 8);
    assert_int_equal(speech_prompt_text(&s, NULL, 0, false, false, 1 + 6 + 7),
                     model.tokens.tts_bos);
    assert_int_equal(s.codes[s.n_rows - 3], SPEAKER_CODE);
    speech_prompt_free(&s);
    prompt_free(&p);
}

static void an_answer_that_never_began_is_silent(void **state)
{
    (void)state;
    for (int32_t n_header = 2; n_header < 6; n_header++) {
        prompt p = prompt_of(n_header);
        speech_prompt s = {0};
        must(speech_prompt_make(&s, &p, NULL, &model, SPEAKER_CODE, &err));
        int64_t n_before = speech_prompt_settled(&s, 0, false, false).n;
        speech_text t = speech_prompt_settled(&s, 0, true, false);
        assert_true(t.silent && !t.last && t.n == n_before);
        speech_prompt_free(&s);
        prompt_free(&p);
    }
}

/* --- prompts without sense ---------------------------------------------------------------------
 */

static void placeholders_without_media_are_hidden_states_all_the_same(void **state)
{
    (void)state;
    prompt p = prompt_of(3);
    p.ids[3] = model.tokens.image;
    speech_prompt s = {0};
    must(speech_prompt_make(&s, &p, NULL, &model, SPEAKER_CODE, &err));
    assert_int_equal(s.n_hidden, 1);
    assert_int_equal(s.hidden_rows[0], 3);
    assert_true(s.media[3] && s.axes[3] == 3);
    assert_int_equal(s.n_user_texts, 5);
    speech_prompt_free(&s);
    prompt_free(&p);
}

/* The reference's talker knows nothing of sounds in videos: the marks decide. */
static void a_video_is_silent_where_its_sound_has_no_rows(void **state)
{
    (void)state;
    const model_tokens *t = &model.tokens;
    const int32_t ids[] = {t->im_start,   t->user,   10, t->vision_start, t->video,     t->video,
                           t->vision_end, t->im_end, 10, t->im_start,     t->assistant, 10};
    layout_medium list[] = {
        {.kind = MEDIA_VIDEO, .n_tokens = 2, .grid = {2, 2, 2}, .second_per_grid = 0.5, .sound = 1},
        {.kind = MEDIA_AUDIO, .n_tokens = 0, .sound = -1, .in_video = true}};
    media_item items[2] = {{.kind = MEDIA_VIDEO}, {.kind = MEDIA_AUDIO}};
    media_set media = {.items = items, .layouts = list, .n = 2};
    prompt p = {.n = sizeof ids / sizeof ids[0], .ids = malloc(sizeof ids)};
    memcpy(p.ids, ids, sizeof ids);
    must(prompt_lay_out(&p, &model, NULL, &media, &err));
    speech_prompt s = {0};
    must(speech_prompt_make(&s, &p, &media, &model, SPEAKER_CODE, &err));
    const float times[] = {0, 1, 2, 3, 4, 10.5f, 11.5f, 12.5f, 13.5f};
    for (int32_t r = 0; r < 9; r++) {
        assert_float_equal(s.axes[r], times[r], 0);
    }
    speech_prompt_free(&s);
    prompt_free(&p);
}

static void an_empty_prompt_is_silent(void **state)
{
    (void)state;
    prompt p = {0};
    speech_prompt s = {0};
    must(speech_prompt_make(&s, &p, NULL, &model, SPEAKER_CODE, &err));
    assert_true(s.silent && s.n_rows == 0);
    assert_true(speech_prompt_settled(&s, 0, true, false).silent);
    assert_false(speech_prompt_settled(&s, 0, false, false).silent);
    speech_prompt_free(&s);
}

int main(int argc, char **argv)
{
    static char recorded[4096];
    snprintf(recorded, sizeof recorded, "%s", source_path("tests/golden/speech-prompt/cases.json"));
    cases_path = argc > 1 ? argv[1] : recorded;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_talker_is_given_what_the_reference_gives_it),
        cmocka_unit_test(recorded_answers_were_made_of_the_same_rows_and_texts),
        cmocka_unit_test(what_is_settled_never_changes),
        cmocka_unit_test(nothing_is_held_back_that_no_end_changes),
        cmocka_unit_test(the_prompt_s_own_text_is_settled_before_the_answer),
        cmocka_unit_test(an_answer_that_never_began_is_silent),
        cmocka_unit_test(placeholders_without_media_are_hidden_states_all_the_same),
        cmocka_unit_test(a_video_is_silent_where_its_sound_has_no_rows),
        cmocka_unit_test(an_empty_prompt_is_silent),
    };
    return cmocka_run_group_tests(tests, read_config, NULL);
}

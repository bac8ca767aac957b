/*
 * check_prompt.c - rows of media stand where their placeholders are and point at what the encoders
 * made; their keys are equal where the keys and values in the KV cache are, and only there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/prompt.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 3, N_DEEP = 2, PART_ROWS = 5, LAST_ROWS = 2 };

#define IMAGE "<|vision_start|><|image_pad|><|vision_end|>"
#define VIDEO "<|vision_start|><|video_pad|><|vision_end|>"
#define SOUND "<|audio_start|><|audio_pad|><|audio_end|>"

static model_config model;
static tokenizer *words;
static flo_err err;

static int open_model(void **state)
{
    (void)state;
    const char *folder = source_path("tests/golden/tiny-omni");
    bool sound = model_config_read(&model, folder, &err) == FLO_OK &&
                 tokenizer_open(&words, folder, &err) == FLO_OK;
    if (!sound) {
        print_error("%s\n", err.text);
    }
    return sound ? 0 : 1;
}

static int close_model(void **state)
{
    (void)state;
    tokenizer_close(words);
    return 0;
}

/* --- media that are prepared and encoded -------------------------------------------------------
 */

/* A medium of some parts; content says what its key is. */
static media_item *add(media_set *s, media_kind kind, int32_t n_parts, int32_t part_rows,
                       int32_t last_rows, int content)
{
    media_item *item = media_set_add(s, kind);
    item->parts = calloc((size_t)n_parts, sizeof *item->parts);
    item->n_parts = n_parts;
    for (int32_t k = 0; k < n_parts; k++) {
        encoder_key key;
        int32_t rows = k + 1 < n_parts ? part_rows : last_rows;
        const int numbers[] = {content, k};
        encoder_key_part part = {numbers, sizeof numbers};
        assert_int_equal(encoder_key_make(&key, &part, 1, &err), FLO_OK);
        item->parts[k] = (media_part){.key = key, .n_rows = rows};
        item->parts[k].result = encoded_new(&key, rows, COLUMNS, kind == MEDIA_AUDIO ? 0 : N_DEEP);
        item->layout.n_tokens += rows;
    }
    item->layout.kind = kind;
    item->layout.sound = -1;
    return item;
}

static void add_picture(media_set *s, int content)
{
    media_item *item = add(s, MEDIA_IMAGE, 1, 0, 4, content);
    item->layout.grid[0] = 1;
    item->layout.grid[1] = item->layout.grid[2] = 2 * model.vision.spatial_merge_size;
}

static void add_video(media_set *s, int content, double second_per_grid)
{
    media_item *item = add(s, MEDIA_VIDEO, 2, 4, 4, content);
    item->layout.grid[0] = 2;
    item->layout.grid[1] = item->layout.grid[2] = 2 * model.vision.spatial_merge_size;
    item->layout.second_per_grid = second_per_grid;
}

static void add_sound(media_set *s, int content)
{
    add(s, MEDIA_AUDIO, 2, PART_ROWS, LAST_ROWS, content);
}

static void close_set(media_set *s)
{
    s->layouts = calloc((size_t)s->n, sizeof *s->layouts);
    for (int32_t i = 0; i < s->n; i++) {
        s->layouts[i] = s->items[i].layout;
    }
}

static prompt laid_out(const char *text, const media_set *s)
{
    prompt p = {.text = strdup(text), .text_bytes = strlen(text)};
    if (prompt_lay_out(&p, &model, words, s, &err) != FLO_OK ||
        prompt_take_rows(&p, s, &err) != FLO_OK) {
        fail_msg("%s: %s", text, err.text);
    }
    return p;
}

/* What the scheduler tells positions apart by. */
static uint64_t key_at(const prompt *p, int32_t i)
{
    return p->media[i].row != NULL ? p->media[i].key : (uint64_t)p->ids[i];
}

static int32_t shared(const prompt *a, const prompt *b)
{
    int32_t n = 0;
    while (n < a->n && n < b->n && key_at(a, n) == key_at(b, n)) {
        n++;
    }
    return n;
}

/* The prompt of one kind of medium in front of a text. */
static prompt prompt_with(media_set **set, void (*add_medium)(media_set *, int), int content,
                          const char *text)
{
    *set = calloc(1, sizeof **set);
    add_medium(*set, content);
    close_set(*set);
    return laid_out(text, *set);
}

static void release(prompt *p, media_set *s)
{
    prompt_free(p);
    media_set_free(s);
}

/* --- rows --------------------------------------------------------------------------------------
 */

static void rows_point_at_the_results(void **state)
{
    (void)state;
    media_set *s = calloc(1, sizeof *s);
    add_sound(s, 1);
    add_picture(s, 2);
    close_set(s);
    prompt p = laid_out("a" SOUND "b" IMAGE "c", s);
    int32_t n_sound = 0, n_picture = 0;
    for (int32_t i = 0; i < p.n; i++) {
        const media_row *m = &p.media[i];
        if (p.ids[i] == model.tokens.audio) {
            const encoded *e = s->items[0].parts[n_sound / PART_ROWS].result;
            assert_ptr_equal(m->row, e->rows + (size_t)(n_sound % PART_ROWS) * COLUMNS);
            assert_null(m->deep);
            n_sound++;
        } else if (p.ids[i] == model.tokens.image) {
            const encoded *e = s->items[1].parts[0].result;
            assert_ptr_equal(m->row, e->rows + (size_t)n_picture * COLUMNS);
            assert_ptr_equal(m->deep, e->rows + (size_t)(4 + n_picture) * COLUMNS);
            assert_int_equal(m->deep_stride, 4 * COLUMNS);
            n_picture++;
        } else {
            assert_null(m->row);
        }
    }
    assert_int_equal(n_sound, PART_ROWS + LAST_ROWS);
    assert_int_equal(n_picture, 4);
    release(&p, s);
}

static void ids_that_are_expanded_give_the_same_rows(void **state)
{
    (void)state;
    media_set *s;
    prompt a = prompt_with(&s, add_picture, 1, "x" IMAGE "y");
    prompt b = {.n = a.n, .ids = malloc((size_t)a.n * sizeof *b.ids)};
    memcpy(b.ids, a.ids, (size_t)a.n * sizeof *b.ids);
    assert_int_equal(prompt_lay_out(&b, &model, NULL, s, &err), FLO_OK);
    assert_int_equal(prompt_take_rows(&b, s, &err), FLO_OK);
    assert_int_equal(shared(&a, &b), a.n);
    assert_memory_equal(a.axes, b.axes, 3 * (size_t)a.n * sizeof *a.axes);
    assert_memory_equal(a.next_position, b.next_position, sizeof a.next_position);
    prompt_free(&b);
    release(&a, s);
}

/* --- keys --------------------------------------------------------------------------------------
 */

static void no_key_is_an_id_or_another_row_s(void **state)
{
    (void)state;
    media_set *s = calloc(1, sizeof *s);
    add_picture(s, 1);
    add_picture(s, 1); /* the same once more: its keys and values are of another place */
    add_sound(s, 2);
    close_set(s);
    prompt p = laid_out(IMAGE IMAGE SOUND, s);
    for (int32_t i = 0; i < p.n; i++) {
        for (int32_t k = 0; k < i && p.media[i].row != NULL; k++) {
            assert_true(p.media[i].key != key_at(&p, k));
        }
        assert_true(p.media[i].row == NULL || p.media[i].key > INT32_MAX);
    }
    release(&p, s);
}

static void a_later_turn_begins_with_the_keys_of_the_first(void **state)
{
    (void)state;
    media_set *one, *two = calloc(1, sizeof *two);
    prompt first = prompt_with(&one, add_picture, 1, "a" IMAGE "what?");
    add_picture(two, 1);
    add_picture(two, 2);
    close_set(two);
    prompt later = laid_out("a" IMAGE "what?" IMAGE "and that?", two);
    assert_int_equal(shared(&first, &later), first.n);
    release(&first, one);
    release(&later, two);
}

static void another_medium_is_told_apart_at_its_first_row(void **state)
{
    (void)state;
    static const struct {
        void (*add)(media_set *, int);
        const char *text;
    } kinds[] = {{add_picture, IMAGE "what?"}, {add_sound, SOUND "what?"}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        media_set *one, *two;
        prompt a = prompt_with(&one, kinds[i].add, 1, kinds[i].text);
        prompt b = prompt_with(&two, kinds[i].add, 2, kinds[i].text);
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.ids, b.ids, (size_t)a.n * sizeof *a.ids);
        assert_int_equal(shared(&a, &b), 1); /* the mark in front */
        release(&a, one);
        release(&b, two);
    }
}

static void a_video_at_another_rate_is_another_one(void **state)
{
    (void)state;
    media_set *sets[2];
    prompt p[2];
    for (int i = 0; i < 2; i++) {
        sets[i] = calloc(1, sizeof *sets[i]);
        add_video(sets[i], 1, i == 0 ? 1.0 : 2.0);
        close_set(sets[i]);
        p[i] = laid_out(VIDEO "what?", sets[i]);
    }
    /* what stands before the second temporal patch is at the same place */
    assert_int_equal(shared(&p[0], &p[1]), 1 + 4);
    release(&p[0], sets[0]);
    release(&p[1], sets[1]);
}

/* --- refusals ----------------------------------------------------------------------------------
 */

static void refused(const char *text, const media_set *s)
{
    prompt p = {.text = strdup(text), .text_bytes = strlen(text)};
    flo_code code = prompt_lay_out(&p, &model, words, s, &err);
    if (code != FLO_USAGE) {
        fail_msg("'%s' gives %d", text, code);
    }
    prompt_free(&p);
}

static void prompts_and_media_must_match(void **state)
{
    (void)state;
    media_set *s = calloc(1, sizeof *s);
    add_picture(s, 1);
    close_set(s);
    refused("", NULL);
    refused(IMAGE, NULL);
    refused("x", s);
    refused(IMAGE IMAGE, s);
    refused(SOUND, s);
    prompt few = {.n = 3, .ids = calloc(3, sizeof *few.ids)};
    few.ids[0] = few.ids[1] = few.ids[2] = model.tokens.image; /* the picture has four rows */
    assert_int_equal(prompt_lay_out(&few, &model, NULL, s, &err), FLO_USAGE);
    prompt_free(&few);
    media_set_free(s);
}

static void ids_without_media_are_taken_as_they_are(void **state)
{
    (void)state;
    prompt p = {.n = 2, .ids = calloc(2, sizeof *p.ids)};
    p.ids[1] = model.tokens.image;
    assert_int_equal(prompt_lay_out(&p, &model, NULL, NULL, &err), FLO_OK);
    assert_null(p.media);
    assert_true(p.axes[1] == 1 && p.next_position[0] == 2);
    prompt_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_point_at_the_results),
        cmocka_unit_test(ids_that_are_expanded_give_the_same_rows),
        cmocka_unit_test(no_key_is_an_id_or_another_row_s),
        cmocka_unit_test(a_later_turn_begins_with_the_keys_of_the_first),
        cmocka_unit_test(another_medium_is_told_apart_at_its_first_row),
        cmocka_unit_test(a_video_at_another_rate_is_another_one),
        cmocka_unit_test(prompts_and_media_must_match),
        cmocka_unit_test(ids_without_media_are_taken_as_they_are),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}

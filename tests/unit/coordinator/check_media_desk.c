/*
 * check_media_desk.c - a set comes back from the desk's threads prepared, or with why not; an order
 * can be dropped at any time; and preparing stops while what is prepared fills the KV cache.
 *
 * The job has no encoder, so nothing is sent: jobs as a whole are tests/cluster/test_media.py's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/clock.h"
#include "coordinator/media/media_desk.h"
#include "tests/unit/common/temp_folder.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum { ORDERS = 6, WAIT_S = 60, QUIET_MS = 300, PICTURE_TOKENS = 4 };

typedef struct shop {
    model_config model;
    preprocessor preprocessor;
    plan plan;
    media_desk *desk;
    media_order orders[ORDERS];
    flo_code codes[ORDERS];
    flo_err errs[ORDERS];
    int n_prepared;
} shop;

static flo_err err;

static void on_prepared(media_order *o, flo_code code, const flo_err *why)
{
    shop *s = o->owner;
    ptrdiff_t i = o - s->orders;
    s->codes[i] = code;
    s->errs[i] = *why;
    s->n_prepared++;
}

static void on_encoded(media_order *o)
{
    (void)o;
    fail_msg("nothing can be encoded here");
}

static int open_shop(void **state)
{
    shop *s = calloc(1, sizeof *s);
    const char *folder = source_path("tests/golden/tiny-omni");
    bool sound = model_config_read(&s->model, folder, &err) == FLO_OK &&
                 preprocessor_read(&s->preprocessor, folder, &s->model, &err) == FLO_OK;
    s->plan.kv_tokens = 2 * PICTURE_TOKENS;
    *state = s;
    media_desk_setup setup = {.plan = &s->plan,
                              .model = &s->model,
                              .preprocessor = &s->preprocessor,
                              .epoch = 1,
                              .pixels_max = 1 << 20};
    if (!sound || media_desk_new(&s->desk, &setup, &err) != FLO_OK) {
        print_error("%s\n", err.text);
        return 1;
    }
    return 0;
}

static int close_shop(void **state)
{
    shop *s = *state;
    media_desk_free(s->desk);
    free(s);
    return 0;
}

static void add_picture(media_set *set, const char *name)
{
    media_item *item = media_set_add(set, MEDIA_IMAGE);
    item->reference = strdup(source_path(name));
    item->reference_bytes = strlen(item->reference);
}

static void order_picture(shop *s, int i, const char *name, bool waits_for_room)
{
    media_set *set = calloc(1, sizeof *set);
    add_picture(set, name);
    set->options.image_pixels_min = 1;
    set->options.image_pixels_max = PICTURE_TOKENS * 32 * 32 + 31; /* 100 x 37 becomes 96 x 32 */
    s->codes[i] = FLO_INTERRUPTED;
    s->orders[i] = (media_order){.set = set,
                                 .rules = {.files = true},
                                 .owner = s,
                                 .waits_for_room = waits_for_room,
                                 .on_prepared = on_prepared,
                                 .on_encoded = on_encoded};
    assert_int_equal(media_desk_prepare(s->desk, &s->orders[i], &err), FLO_OK);
}

/* Pumps until so many are prepared. */
static void wait_for(shop *s, int n_prepared)
{
    double end = clock_s() + WAIT_S;
    while (s->n_prepared < n_prepared) {
        bool busy = false;
        media_desk_pump(s->desk, &busy);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
        assert_true(clock_s() < end);
    }
}

static void pump_a_while(shop *s)
{
    for (int i = 0; i < QUIET_MS; i++) {
        bool busy = false;
        media_desk_pump(s->desk, &busy);
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

static const char picture[] = "tests/golden/image/b_100x37.png";

static void a_picture_comes_back_with_its_parts(void **state)
{
    shop *s = *state;
    order_picture(s, 0, picture, true);
    wait_for(s, 1);
    const media_set *set = s->orders[0].set;
    assert_int_equal(s->codes[0], FLO_OK);
    assert_int_equal(set->n_parts, 1);
    assert_int_equal(set->items[0].layout.n_tokens, 3); /* of 32 x 32 pixels */
    assert_non_null(set->items[0].parts[0].input);
    assert_null(set->items[0].reference); /* not read again */
    /* without an encoder it goes no further, and the desk forgets it */
    assert_int_equal(media_desk_encode(s->desk, &s->orders[0], &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "--no-media"));
    assert_false(media_desk_has_jobs(s->desk));
    media_desk_drop(s->desk, &s->orders[0]);
    assert_null(s->orders[0].set);
}

static void what_cannot_be_read_comes_back_with_its_name(void **state)
{
    shop *s = *state;
    order_picture(s, 0, "tests/golden/image/none.png", true);
    order_picture(s, 1, picture, true);
    wait_for(s, 2);
    assert_int_equal(s->codes[0], FLO_USAGE);
    assert_non_null(strstr(s->errs[0].text, "none.png"));
    assert_int_equal(s->codes[1], FLO_OK);
    media_desk_drop(s->desk, &s->orders[0]);
    media_desk_drop(s->desk, &s->orders[1]);
}

static void all_media_of_a_request_share_one_bound_of_bytes(void **state)
{
    shop *s = *state;
    struct stat file;
    assert_int_equal(stat(source_path(picture), &file), 0);
    for (int less = 0; less < 2; less++) {
        order_picture(s, less, picture, true);
        media_desk_drop(s->desk, &s->orders[less]);
        media_set *set = calloc(1, sizeof *set);
        add_picture(set, picture);
        add_picture(set, picture);
        set->options.image_pixels_min = set->options.image_pixels_max = 32 * 96;
        s->orders[less].set = set;
        s->orders[less].rules.bytes_max = 2 * (uint64_t)file.st_size - (uint64_t)less;
        assert_int_equal(media_desk_prepare(s->desk, &s->orders[less], &err), FLO_OK);
        wait_for(s, less + 1);
        assert_int_equal(s->codes[less], less == 0 ? FLO_OK : FLO_USAGE);
        media_desk_drop(s->desk, &s->orders[less]);
    }
}

static void preparing_waits_while_the_cache_is_full(void **state)
{
    shop *s = *state;
    for (int i = 0; i < ORDERS; i++) {
        order_picture(s, i, picture, true);
    }
    wait_for(s, 3); /* three of three tokens fill the eight that there are */
    pump_a_while(s);
    int held = s->n_prepared; /* each of two threads may have had one under way */
    assert_in_range(held, 3, 4);
    for (int i = 0; i < ORDERS; i++) {
        wait_for(s, i + 1); /* whatever ends makes room for the next */
        for (int k = 0; k < ORDERS; k++) {
            if (s->codes[k] == FLO_OK && s->orders[k].set != NULL) {
                media_desk_drop(s->desk, &s->orders[k]);
                break;
            }
        }
    }
    assert_int_equal(s->n_prepared, ORDERS);
}

static void who_does_not_wait_for_room_needs_none(void **state)
{
    shop *s = *state;
    for (int i = 0; i < ORDERS; i++) {
        order_picture(s, i, picture, false);
    }
    wait_for(s, ORDERS);
    for (int i = 0; i < ORDERS; i++) {
        media_desk_drop(s->desk, &s->orders[i]);
    }
}

static void an_order_can_be_dropped_at_any_time(void **state)
{
    shop *s = *state;
    for (int round = 0; round < 40; round++) {
        for (int i = 0; i < ORDERS; i++) {
            order_picture(s, i, picture, true);
        }
        nanosleep(&(struct timespec){0, round * 50000}, NULL);
        bool busy = false;
        if (round % 2 == 1) {
            media_desk_pump(s->desk, &busy);
        }
        int before = s->n_prepared;
        for (int i = 0; i < ORDERS; i++) {
            media_desk_drop(s->desk, &s->orders[i]);
        }
        media_desk_pump(s->desk, &busy);
        assert_int_equal(s->n_prepared, before); /* no call follows */
    }
    order_picture(s, 0, picture, true); /* nothing of them takes room any more */
    wait_for(s, s->n_prepared + 1);
    media_desk_drop(s->desk, &s->orders[0]);
}

static void the_desk_can_close_with_orders_under_way(void **state)
{
    shop *s = *state;
    media_set *sets[ORDERS];
    for (int i = 0; i < ORDERS; i++) {
        order_picture(s, i, picture, i % 2 == 0);
        sets[i] = s->orders[i].set;
    }
    media_desk_drop(s->desk, &s->orders[1]); /* the desk's from now on */
    media_desk_free(s->desk);
    s->desk = NULL;
    for (int i = 0; i < ORDERS; i++) {
        if (i != 1) {
            media_set_free(sets[i]);
        }
    }
    assert_int_equal(s->n_prepared, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_picture_comes_back_with_its_parts, open_shop, close_shop),
        cmocka_unit_test_setup_teardown(what_cannot_be_read_comes_back_with_its_name, open_shop,
                                        close_shop),
        cmocka_unit_test_setup_teardown(all_media_of_a_request_share_one_bound_of_bytes, open_shop,
                                        close_shop),
        cmocka_unit_test_setup_teardown(preparing_waits_while_the_cache_is_full, open_shop,
                                        close_shop),
        cmocka_unit_test_setup_teardown(who_does_not_wait_for_room_needs_none, open_shop,
                                        close_shop),
        cmocka_unit_test_setup_teardown(an_order_can_be_dropped_at_any_time, open_shop, close_shop),
        cmocka_unit_test_setup_teardown(the_desk_can_close_with_orders_under_way, open_shop,
                                        close_shop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

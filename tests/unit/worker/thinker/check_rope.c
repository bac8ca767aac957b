/*
 * check_rope.c - frequencies and their axes are those of the reference: recorded cosines and sines
 * at positions 4 (time), 5 (height), 6 (width), computed with the reference's functions for the
 * published shapes; and the rule of the axes for other sections.
 */
#include "rig.h"

#include "worker/thinker/rope.h"

#include <math.h>

static rope rope_of(int32_t head_dim, double theta, int32_t h, int32_t w)
{
    rope r;
    text_config t = {.head_dim = head_dim, .rope_theta = theta};
    t.mrope_section[0] = head_dim / 2 - h - w;
    t.mrope_section[1] = h;
    t.mrope_section[2] = w;
    rope_init(&r, &t);
    return r;
}

static void published_angles_are_the_recorded_ones(void **state)
{
    (void)state;
    static const double want[4][2] = {{-0.653644, -0.756802},
                                      {-0.631261, -0.775571},
                                      {-0.728479, -0.685068},
                                      {-0.498962, 0.866624}};
    rope r = rope_of(128, 1e6, 20, 20);
    float c[64], s[64];
    rope_angles(&r, 4, 5, 6, c, s);
    for (int32_t j = 0; j < 4; j++) {
        assert_true(fabs((double)c[j] - want[j][0]) < 1e-6);
        assert_true(fabs((double)s[j] - want[j][1]) < 1e-6);
    }
}

static void axes_are_interleaved_and_time_takes_the_rest(void **state)
{
    (void)state;
    rope r = rope_of(128, 1e6, 20, 20);
    for (int32_t j = 0; j < 64; j++) {
        int32_t axis = j >= 60 ? 0 : j % 3;
        assert_int_equal(r.axis[j], axis);
    }
    r = rope_of(20, 1e4, 3, 1); /* width takes less than height */
    static const int8_t want[10] = {0, 1, 2, 0, 1, 0, 0, 1, 0, 0};
    for (int32_t j = 0; j < 10; j++) {
        assert_int_equal(r.axis[j], want[j]);
    }
}

static void without_sections_all_follow_the_first_axis(void **state)
{
    (void)state;
    rope r = {.half = 0};
    text_config t = {.head_dim = 32, .rope_theta = 1e6};
    float c[16], s[16], want_c[16], want_s[16];
    rope_init(&r, &t);
    rope_angles(&r, 7, 900, 33, c, s);
    rope_angles(&r, 7, 7, 7, want_c, want_s);
    assert_memory_equal(c, want_c, sizeof c);
    assert_memory_equal(s, want_s, sizeof s);
    assert_true(fabs((double)c[0] - cos(7.0)) < 1e-6);
}

static void equal_positions_are_plain_rope(void **state)
{
    (void)state;
    rope r = rope_of(128, 1e6, 20, 20);
    float c[64], s[64];
    for (float position = 0; position < 60000; position = position * 3 + 1) {
        rope_angles(&r, position, position, position, c, s);
        for (int32_t j = 0; j < 64; j++) {
            /* the frequency is off by 3 roundings (power, quotient, product): 3 u of the angle */
            double angle = (double)position * pow(1e6, -2.0 * j / 128);
            double bound = 2.4e-7 * angle * 1.5 + 2e-7;
            assert_true(fabs((double)c[j] - cos(angle)) <= bound);
            assert_true(fabs((double)s[j] - sin(angle)) <= bound);
        }
    }
}

static void positions_may_lie_between_whole_numbers(void **state)
{
    (void)state;
    rope r = rope_of(128, 1e6, 20, 20);
    float c[64], s[64];
    rope_angles(&r, 0.5f, 1.25f, 2.75f, c, s);
    assert_true(fabs((double)c[0] - cos(0.5)) < 1e-6);
    assert_true(fabs((double)s[1] - sin(1.25 * pow(1e6, -2.0 / 128))) < 1e-6);
    assert_true(fabs((double)s[2] - sin(2.75 * pow(1e6, -4.0 / 128))) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_angles_are_the_recorded_ones),
        cmocka_unit_test(axes_are_interleaved_and_time_takes_the_rest),
        cmocka_unit_test(without_sections_all_follow_the_first_axis),
        cmocka_unit_test(equal_positions_are_plain_rope),
        cmocka_unit_test(positions_may_lie_between_whole_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

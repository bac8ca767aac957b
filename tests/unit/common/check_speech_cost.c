/*
 * check_speech_cost.c - figures of the published shapes, as the specification's sections 5.6 and 7
 * have them.
 */
#include "common/speech_cost.h"
#include "tests/unit/common/temp_folder.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static model_config published(void)
{
    model_config m;
    flo_err err;
    assert_int_equal(model_config_read(&m, source_path("tests/golden/published-config"), &err),
                     FLO_OK);
    return m;
}

static void a_stream_is_so_many_samples_short(void **state)
{
    (void)state;
    model_config m = published();
    assert_int_equal(code2wav_rate(&m.code2wav), 1920);
    assert_int_equal(code2wav_samples(&m.code2wav, 0), 0);
    assert_int_equal(code2wav_samples(&m.code2wav, 1), 1365);
    assert_int_equal(code2wav_samples(&m.code2wav, 300), 1920 * 300 - 555);
}

static bool near(double got, double want, double share)
{
    return fabs(got - want) < share * want;
}

static void costs_are_those_of_the_specification(void **state)
{
    (void)state;
    model_config m = published();
    assert_true(near(code2wav_flops(&m.code2wav, 10), 10 * 5.115e9, 0.001));
    assert_true(near(talker_step_bytes(&m.talker), 2 * 288951296.0, 0.001));
    assert_true(near(predictor_frame_bytes(&m.code_predictor), 2 * 1211293440.0, 0.001));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_is_so_many_samples_short),
        cmocka_unit_test(costs_are_those_of_the_specification),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

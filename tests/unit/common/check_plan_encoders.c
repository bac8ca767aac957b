/*
 * check_plan_encoders.c - each encoder is whole on one worker: where it is pinned, else wherever it
 * fits and the layers stay fast; what does not fit is said in numbers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plan_fixture.h"

#include "common/model_tensors.h"
#include "common/plan_parts.h"

#include <string.h>

static int32_t audio_rank(void)
{
    return rank_of(plan_audio_worker(&p));
}

static int32_t vision_rank(void)
{
    return rank_of(plan_vision_worker(&p));
}

static void encoders_sit_on_two_workers_where_there_are_two(void **state)
{
    (void)state;
    model_config m = published_model();
    for (int32_t n = 1; n <= 9; n++) {
        for (int32_t s = 1; s <= n; s += 2) {
            plan_request r = with_media(equal_workers(&m, n, s, 0));
            assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
            check_within_limits(&r);
            assert_true(audio_rank() > 0 && vision_rank() > 0);
            assert_int_equal(audio_rank() == vision_rank(), n == 1);
            assert_int_equal(p.vision_patches_max, 50176);
            r.no_media = true;
            again = p;
            assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
            assert_true(audio_rank() == 0 && vision_rank() == 0);
            assert_int_equal(p.vision_patches_max, 0);
            for (int32_t i = 0; i < n; i++) { /* no layer moves for them where memory is plenty */
                assert_int_equal(p.workers[i].n_layers, again.workers[i].n_layers);
                assert_int_equal(p.workers[i].n_experts, again.workers[i].n_experts);
            }
        }
    }
}

static void a_model_without_an_encoder_plans_none(void **state)
{
    (void)state;
    for (int32_t which = 0; which < 4; which++) {
        model_config m = published_model();
        m.has_audio = which % 2 == 1;
        m.has_vision = which / 2 == 1;
        plan_request r = with_media(equal_workers(&m, 3, 3, 0));
        assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
        check_within_limits(&r);
        assert_int_equal(audio_rank() > 0, m.has_audio);
        assert_int_equal(vision_rank() > 0, m.has_vision);
    }
}

static void an_encoder_goes_where_room_and_time_are(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = with_media(equal_workers(&m, 3, 3, (uint64_t)24 << 30));
    facts[1].memory_bytes = (uint64_t)64 << 30;
    r.kv_tokens = 4096;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    check_within_limits(&r);
    assert_true(vision_rank() == 2 || audio_rank() == 2);
    r = with_media(equal_workers(&m, 3, 1, 0)); /* the homes of stages have more to do */
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_true(vision_rank() > 1 && audio_rank() > 1);
}

static void pins_are_kept(void **state)
{
    (void)state;
    model_config m = published_model();
    for (int32_t a = 0; a < 4; a++) {
        for (int32_t v = 0; v < 4; v++) {
            plan_request r = with_media(equal_workers(&m, 4, 2, 0));
            r.audio_host = facts[a].host;
            r.vision_host = facts[v].host;
            assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
            assert_true(audio_rank() == a + 1 && vision_rank() == v + 1);
        }
    }
    plan_request r = with_media(equal_workers(&m, 4, 2, 0));
    r.vision_host = "h4";
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "\"h4\""));
    assert_non_null(strstr(err.text, "vision_encoder"));
    r.no_media = true; /* what is left out need not sit anywhere */
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
}

/* Whether any placement of the encoders fits, tried by pins. */
static bool some_place_fits(plan_request r)
{
    for (int32_t a = 0; a < r.n_workers; a++) {
        for (int32_t v = 0; v < r.n_workers; v++) {
            r.audio_host = facts[a].host;
            r.vision_host = facts[v].host;
            if (plan_make(&again, &r, &misfit, &err) == FLO_OK) {
                return true;
            }
        }
    }
    return false;
}

static void a_fit_is_found_where_there_is_one(void **state)
{
    (void)state;
    model_config m = published_model();
    m.text.n_layers = 16;
    m.text.n_experts = 16;
    m.text.vocab_size = 4096;
    int32_t n_fit = 0, n_misfit = 0;
    for (int32_t n = 1; n <= 4; n++) {
        for (int32_t s = 1; s <= n; s++) {
            for (uint64_t mib = 1024; mib <= 8192; mib += 512) {
                plan_request r = with_media(equal_workers(&m, n, s, mib << 20));
                facts[n / 2].memory_bytes = (mib << 20) * 2 / 3;
                r.kv_tokens = 4096;
                bool expected = some_place_fits(r);
                flo_code code = plan_make(&p, &r, &misfit, &err);
                assert_int_equal(code, expected ? FLO_OK : FLO_DIFFERS);
                if (expected) {
                    check_within_limits(&r);
                }
                n_fit += expected;
                n_misfit += !expected;
            }
        }
    }
    assert_true(n_fit > 30 && n_misfit > 30);
}

static void the_advised_memory_is_enough_for_the_encoders_too(void **state)
{
    (void)state;
    model_config m = published_model();
    for (int32_t s = 1; s <= 8; s += 3) {
        for (uint64_t gib = 2; gib <= 12; gib += 2) {
            plan_request r = with_media(equal_workers(&m, 8, s, gib << 30));
            if (plan_make(&p, &r, &misfit, &err) != FLO_OK) {
                r = with_media(equal_workers(&m, 8, s, (gib << 30) + misfit.missing_bytes));
                assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
                check_within_limits(&r);
            }
        }
    }
}

static void a_misfit_advises_no_media_where_that_is_enough(void **state)
{
    (void)state;
    model_config m = published_model();
    int32_t n_advised = 0;
    for (uint64_t mib = 28 << 10; mib < 36 << 10; mib += 256) {
        plan_request r = with_media(equal_workers(&m, 2, 2, mib << 20));
        r.kv_tokens = 4096;
        if (plan_make(&p, &r, &misfit, &err) == FLO_OK) {
            continue;
        }
        bool advised = strstr(err.text, "--no-media") != NULL;
        r.no_media = true;
        flo_code code = plan_make(&p, &r, &misfit, &err);
        assert_int_equal(code == FLO_OK, advised);
        assert_true(code == FLO_OK || strstr(err.text, "--no-media") == NULL);
        n_advised += advised;
    }
    assert_true(n_advised > 2);
}

static void few_tokens_make_the_largest_picture_smaller(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = with_media(equal_workers(&m, 2, 2, 0));
    uint64_t work[2];
    for (int i = 0; i < 2; i++) {
        r.kv_tokens = i == 0 ? 64 : 65536;
        assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
        assert_int_equal(p.vision_patches_max, i == 0 ? 4 * 64 : 50176);
        work[i] = plan_vision_worker(&p)->work_bytes;
    }
    assert_true(work[1] - work[0] > (uint64_t)512 << 20);
    r.vision_patches_max = 100000;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_int_equal(p.vision_patches_max, 100000);
    r.vision_patches_max = INT64_MAX;
    r.kv_tokens = INT32_MAX;
    plan_make(&p, &r, &misfit, &err);
    r = with_media(equal_workers(&m, 2, 2, 0));
    r.vision_patches_max = 1;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_int_equal(p.vision_patches_max, 4);
}

static void a_plan_with_half_the_encoders_is_invalid(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = with_media(equal_workers(&m, 5, 2, 0));
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    for (int32_t i = 0; i < 5; i++) {
        again = p;
        again.workers[i].has_audio_encoder = !again.workers[i].has_audio_encoder;
        assert_false(plan_is_valid(&again, &m));
        again = p;
        again.workers[i].has_vision_encoder = !again.workers[i].has_vision_encoder;
        assert_false(plan_is_valid(&again, &m));
    }
    static const int64_t wrong[] = {-4, 0, 3, 50177, 4 * (int64_t)INT32_MAX, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        again = p;
        again.vision_patches_max = wrong[i];
        assert_false(plan_is_valid(&again, &m));
    }
    again = p;
    m.has_audio = false; /* another checkpoint */
    assert_false(plan_is_valid(&again, &m));
}

static void encoders_weigh_what_their_tensors_do(void **state)
{
    (void)state;
    model_config m = published_model();
    /* in bf16; padding, and norms and biases in f32, are a hundredth */
    uint64_t audio = 2 * parameters_of(&m, COMPONENT_AUDIO);
    uint64_t vision = 2 * parameters_of(&m, COMPONENT_VISION);
    assert_true(plan_audio_bytes(&m) > audio && plan_audio_bytes(&m) < audio / 100 * 101);
    assert_true(plan_vision_bytes(&m) > vision && plan_vision_bytes(&m) < vision / 100 * 101);
    m.has_audio = m.has_vision = false;
    assert_true(plan_audio_bytes(&m) == 0 && plan_vision_bytes(&m) == 0);
}

static void the_encoder_cache_is_bounded(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = with_media(equal_workers(&m, 2, 2, 0));
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_true(plan_encoder_cache_bytes(&m, &p) == PLAN_ENCODER_CACHE_BYTES);
    assert_true(plan_coordinator_bytes(&p, &r) > PLAN_ENCODER_CACHE_BYTES);
    r.kv_tokens = 1024;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_true(plan_encoder_cache_bytes(&m, &p) == (uint64_t)1024 * 2048 * 4 * 4);
    r.no_media = true;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_true(plan_encoder_cache_bytes(&m, &p) == 0);
    assert_true(plan_coordinator_bytes(&p, &r) < (uint64_t)100 << 20);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encoders_sit_on_two_workers_where_there_are_two),
        cmocka_unit_test(a_model_without_an_encoder_plans_none),
        cmocka_unit_test(an_encoder_goes_where_room_and_time_are),
        cmocka_unit_test(pins_are_kept),
        cmocka_unit_test(a_fit_is_found_where_there_is_one),
        cmocka_unit_test(the_advised_memory_is_enough_for_the_encoders_too),
        cmocka_unit_test(a_misfit_advises_no_media_where_that_is_enough),
        cmocka_unit_test(few_tokens_make_the_largest_picture_smaller),
        cmocka_unit_test(a_plan_with_half_the_encoders_is_invalid),
        cmocka_unit_test(encoders_weigh_what_their_tensors_do),
        cmocka_unit_test(the_encoder_cache_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

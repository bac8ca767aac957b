/*
 * check_plan_speech.c - talker, code predictor and vocoder are each owned once, the talker's
 * experts by as many workers as are asked for or needed; they run side by side where there are
 * workers, are found to fit wherever some places do, and cost what their tensors weigh.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plan_fixture.h"

#include "common/plan_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must_plan(const plan_request *r)
{
    if (plan_make(&p, r, &misfit, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    check_within_limits(r);
}

/* How many workers hold some part that is whole on one. */
static int32_t n_seats(void)
{
    int32_t n = 0;
    for (int32_t i = 0; i < p.n_workers; i++) {
        const plan_worker *w = &p.workers[i];
        n += w->has_audio_encoder || w->has_vision_encoder || w->has_talker ||
             w->has_code_predictor || w->has_code2wav;
    }
    return n;
}

static int32_t n_owners(void)
{
    const plan_worker *owners[PLAN_WORKERS_MAX];
    return plan_talker_owners(&p, owners);
}

static void parts_run_side_by_side_where_there_are_workers(void **state)
{
    (void)state;
    model_config m = published_model();
    for (int32_t n = 1; n <= 9; n++) {
        for (int32_t s = 1; s <= n; s += 2) {
            plan_request r = with_all(equal_workers(&m, n, s, 0));
            must_plan(&r);
            int32_t talker = rank_of(plan_talker_worker(&p));
            int32_t predictor = rank_of(plan_predictor_worker(&p));
            int32_t vocoder = rank_of(plan_code2wav_worker(&p));
            assert_true(talker > 0 && predictor > 0 && vocoder > 0);
            assert_int_equal(n_seats(), n < PART_COUNT ? n : PART_COUNT);
            assert_true(n < 2 || talker != predictor || talker != vocoder);
            assert_true(n < 3 ||
                        (talker != predictor && talker != vocoder && predictor != vocoder));
            assert_int_equal(n_owners(), 1);
            again = p;
            r = equal_workers(&m, n, s, 0);
            must_plan(&r);
            assert_int_equal(n_seats(), 0);
            assert_int_equal(p.talker_tokens, 0);
            for (int32_t i = 0; i < n; i++) { /* no layer moves where memory is plenty */
                assert_int_equal(p.workers[i].n_layers, again.workers[i].n_layers);
                assert_int_equal(p.workers[i].n_experts, again.workers[i].n_experts);
                assert_true(p.workers[i].time_share == again.workers[i].time_share);
            }
        }
    }
}

static void a_model_that_cannot_speak_plans_no_speech(void **state)
{
    (void)state;
    for (int32_t which = 0; which < 3; which++) {
        model_config m = published_model();
        m.has_talker = which == 1;
        m.has_code2wav = which == 2;
        plan_request r = with_speech(equal_workers(&m, 3, 3, 0));
        must_plan(&r);
        assert_int_equal(n_seats(), 0);
        assert_int_equal(n_owners(), 0);
    }
}

/* The owners' ranges: the home's first, the others' by rank, all of them together. */
static void check_ranges(int32_t n_expected)
{
    const plan_worker *owners[PLAN_WORKERS_MAX];
    int32_t n = plan_talker_owners(&p, owners), next = 0;
    assert_int_equal(n, n_expected);
    assert_true(owners[0]->has_talker);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(owners[i]->first_talker_expert, next);
        assert_true(i < 2 || owners[i]->rank > owners[i - 1]->rank);
        next += owners[i]->n_talker_experts;
    }
    assert_int_equal(next, 128);
}

static void the_talker_is_divided_as_asked(void **state)
{
    (void)state;
    model_config m = published_model();
    for (int32_t n = 1; n <= 7; n++) {
        for (int32_t asked = 1; asked <= n; asked++) {
            plan_request r = with_all(equal_workers(&m, n, 1, 0));
            r.talker_workers = asked;
            r.talker_host = facts[n / 2].host;
            must_plan(&r);
            assert_int_equal(rank_of(plan_talker_worker(&p)), n / 2 + 1);
            check_ranges(asked);
            for (int32_t i = 0; i < n; i++) {
                int32_t owned = p.workers[i].n_talker_experts;
                assert_true(owned == 0 || owned == 128 / asked || owned == 128 / asked + 1);
            }
        }
    }
}

static void a_talker_without_room_is_dealt_to_as_few_as_have_it(void **state)
{
    (void)state;
    model_config m = published_model();
    int32_t fewer = 0, before = 16;
    for (uint64_t mib = 5300; mib <= 12000; mib += 300) {
        plan_request r = with_all(equal_workers(&m, 16, 4, mib << 20));
        r.kv_tokens = 4096;
        must_plan(&r);
        check_ranges(n_owners());
        assert_true(n_owners() <= before + 1);
        fewer += n_owners() < before;
        before = n_owners();
    }
    assert_int_equal(before, 1);
    assert_true(fewer >= 2);
}

static void a_model_that_fits_only_divided_is_found(void **state)
{
    (void)state;
    model_config m = published_model();
    m.text.n_layers = 8;
    m.talker.expert_size = 4 * 384; /* some 24 GB of experts, more than any worker may hold */
    for (int32_t n = 3; n <= 6; n++) {
        plan_request r = with_all(equal_workers(&m, n, n, ((uint64_t)54 << 30) / (uint64_t)n));
        r.kv_tokens = 4096;
        must_plan(&r);
        assert_true(n_owners() > 1);
        check_ranges(n_owners());
        r.talker_workers = 1;
        assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_DIFFERS);
    }
}

static void pins_of_speech_are_kept(void **state)
{
    (void)state;
    model_config m = published_model();
    for (int32_t i = 0; i < 27; i++) {
        plan_request r = with_all(equal_workers(&m, 3, 2, 0));
        r.talker_host = facts[i % 3].host;
        r.predictor_host = facts[i / 3 % 3].host;
        r.code2wav_host = facts[i / 9].host;
        must_plan(&r);
        assert_int_equal(rank_of(plan_talker_worker(&p)), i % 3 + 1);
        assert_int_equal(rank_of(plan_predictor_worker(&p)), i / 3 % 3 + 1);
        assert_int_equal(rank_of(plan_code2wav_worker(&p)), i / 9 + 1);
    }
    plan_request r = with_all(equal_workers(&m, 3, 2, 0));
    r.predictor_host = "h3";
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "code_predictor"));
    assert_non_null(strstr(err.text, "\"h3\""));
    r.no_speech = true; /* what is left out need not sit anywhere */
    r.talker_workers = 50;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    r = with_all(equal_workers(&m, 3, 2, 0));
    r.talker_workers = 4;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "4 workers, of 3"));
    r = with_all(equal_workers(&m, 200, 48, 0));
    r.talker_workers = 129;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "128"));
}

/* Whether any places fit with a whole talker, tried by pins. */
static bool some_places_fit(plan_request r)
{
    int32_t n = r.n_workers;
    for (int32_t i = 0; i < n * n * n * n * n; i++) {
        r.audio_host = facts[i % n].host;
        r.vision_host = facts[i / n % n].host;
        r.talker_host = facts[i / n / n % n].host;
        r.predictor_host = facts[i / n / n / n % n].host;
        r.code2wav_host = facts[i / n / n / n / n].host;
        if (plan_make(&again, &r, &misfit, &err) == FLO_OK) {
            return true;
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
    m.talker.n_experts = 16;
    int32_t n_fit = 0, n_misfit = 0;
    for (int32_t n = 1; n <= 3; n++) { /* every misfit is tried in n^5 places: a second for three */
        for (int32_t s = n < 3 ? 1 : 2; s <= n && s <= 2; s++) {
            for (uint64_t mib = 1024; mib <= 10240; mib += n < 3 ? 256 : 1024) {
                plan_request r = with_all(equal_workers(&m, n, s, mib << 20));
                facts[n / 2].memory_bytes = (mib << 20) * 2 / 3;
                r.kv_tokens = 4096;
                r.talker_workers = 1;
                bool expected = some_places_fit(r);
                assert_int_equal(plan_make(&p, &r, &misfit, &err), expected ? FLO_OK : FLO_DIFFERS);
                r.talker_workers = 0; /* divided it fits wherever it does whole */
                flo_code code = plan_make(&p, &r, &misfit, &err);
                assert_true(code == FLO_OK || !expected);
                if (code == FLO_OK) {
                    check_within_limits(&r);
                }
                n_fit += expected;
                n_misfit += !expected;
            }
        }
    }
    assert_true(n_fit > 10 && n_misfit > 10);
}

static void the_advised_memory_is_enough_for_all_parts(void **state)
{
    (void)state;
    model_config m = published_model();
    int32_t n_misfit = 0;
    for (int32_t n = 1; n <= 8; n *= 2) {
        for (int32_t s = 1; s <= n; s += 3) {
            for (uint64_t gib = 2; gib <= 96 / (uint64_t)n; gib += 1 + 12 / (uint64_t)n) {
                plan_request r = with_all(equal_workers(&m, n, s, gib << 30));
                if (plan_make(&p, &r, &misfit, &err) != FLO_OK) {
                    r = with_all(equal_workers(&m, n, s, (gib << 30) + misfit.missing_bytes));
                    must_plan(&r);
                    n_misfit++;
                }
            }
        }
    }
    assert_true(n_misfit > 20);
}

static void a_misfit_advises_to_leave_out_what_is_enough(void **state)
{
    (void)state;
    model_config m = published_model();
    int32_t n_alone = 0, n_both = 0;
    for (uint64_t mib = 28 << 10; mib < 42 << 10; mib += 256) {
        plan_request r = with_all(equal_workers(&m, 2, 2, mib << 20));
        r.kv_tokens = 4096;
        if (plan_make(&p, &r, &misfit, &err) == FLO_OK) {
            continue;
        }
        bool mute = strstr(err.text, "leave speech out with --no-speech") != NULL;
        bool blind = strstr(err.text, "leave the encoders out with --no-media") != NULL;
        bool both = strstr(err.text, "--no-speech --no-media") != NULL;
        r.no_speech = true;
        assert_int_equal(plan_make(&p, &r, &misfit, &err) == FLO_OK, mute);
        r.no_media = true;
        assert_int_equal(plan_make(&p, &r, &misfit, &err) == FLO_OK, mute || blind || both);
        r.no_speech = false;
        assert_int_equal(plan_make(&p, &r, &misfit, &err) == FLO_OK, blind);
        n_alone += mute;
        n_both += both;
    }
    assert_true(n_alone > 2 && n_both > 2);
}

static void keys_and_values_of_the_talker_count(void **state)
{
    (void)state;
    model_config m = published_model();
    uint64_t each = 20 * 2 * 2 * 128 * sizeof(float);
    assert_true(plan_talker_kv_token_bytes(&m) == each);
    plan_request r = with_speech(equal_workers(&m, 1, 1, 0));
    must_plan(&r);
    assert_true(p.talker_tokens == plan_talker_tokens(p.kv_tokens));
    assert_true(p.talker_tokens >= p.kv_tokens + 4096);
    uint64_t thinker = (uint64_t)p.kv_tokens * 48 * 2 * 4 * 128 * sizeof(float);
    assert_true(p.workers[0].kv_bytes == thinker + (uint64_t)p.talker_tokens * each);
    /* and so fewer tokens fit */
    uint64_t room = p.workers[0].kv_bytes / 3;
    uint64_t others = p.workers[0].weight_bytes + p.workers[0].work_bytes;
    r = with_speech(equal_workers(&m, 1, 1, others + room));
    must_plan(&r);
    assert_true(p.kv_tokens >= PLAN_KV_TOKENS_MIN && p.kv_tokens < PLAN_KV_TOKENS_MAX / 2);
    assert_true(p.talker_tokens == plan_talker_tokens(p.kv_tokens));
}

static void speech_weighs_what_its_tensors_do(void **state)
{
    (void)state;
    model_config m = published_model();
    uint64_t predictor = parameters_of(&m, COMPONENT_CODE_PREDICTOR);
    uint64_t talker = parameters_of(&m, COMPONENT_TALKER);
    uint64_t vocoder = parameters_of(&m, COMPONENT_CODE2WAV);
    assert_true(talker + predictor == 3324596480u); /* as published */
    assert_true(vocoder == 216016577u);
    plan_worker all = {.has_talker = true, .n_talker_experts = 128};
    /* in bf16; padding, and norms and biases in f32, are a hundredth */
    assert_true(plan_talker_bytes(&m, &all) >= 2 * talker);
    assert_true(plan_talker_bytes(&m, &all) < 2 * talker / 100 * 101);
    assert_true(plan_predictor_bytes(&m) >= 2 * predictor);
    assert_true(plan_predictor_bytes(&m) < 2 * predictor / 100 * 101);
    assert_true(plan_code2wav_bytes(&m) >= 2 * vocoder); /* bf16, or f32 */
    assert_true(plan_code2wav_bytes(&m) < 4 * vocoder / 100 * 101);
    plan_worker home = {.has_talker = true, .n_talker_experts = 28};
    plan_worker other = {.n_talker_experts = 100};
    assert_true(plan_talker_bytes(&m, &home) + plan_talker_bytes(&m, &other) ==
                plan_talker_bytes(&m, &all));
    plan_request r = with_speech(equal_workers(&m, 1, 1, 0));
    must_plan(&r);
    uint64_t with = p.workers[0].weight_bytes;
    assert_true(plan_speech_saved_bytes(&r) == 0);
    r.no_speech = true;
    must_plan(&r);
    assert_true(with - p.workers[0].weight_bytes == plan_speech_saved_bytes(&r));
    m.has_code2wav = false;
    assert_true(plan_speech_saved_bytes(&r) == 0);
}

static void the_coordinator_has_room_for_sound(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = with_speech(equal_workers(&m, 2, 2, 0));
    must_plan(&r);
    uint64_t with = plan_coordinator_bytes(&p, &r);
    r.no_speech = true;
    must_plan(&r);
    uint64_t frame = 1920 * sizeof(int16_t) + 16 * sizeof(int32_t);
    assert_true(with - plan_coordinator_bytes(&p, &r) >= 4096 * frame);
    assert_true(with - plan_coordinator_bytes(&p, &r) <= SPEAKERS_MAX * 4096 * frame);
}

static void refuse(const model_config *m)
{
    assert_false(plan_is_valid(&again, m));
    again = p;
}

static void a_plan_with_half_of_speech_is_invalid(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = with_speech(equal_workers(&m, 5, 2, 0));
    r.talker_workers = 3;
    must_plan(&r);
    again = p;
    for (int32_t i = 0; i < 5; i++) {
        plan_worker *w = &again.workers[i];
        w->has_talker = !w->has_talker;
        refuse(&m);
        w->has_code_predictor = !w->has_code_predictor;
        refuse(&m);
        w->has_code2wav = !w->has_code2wav;
        refuse(&m);
        static const int32_t wrong[] = {-1, 1, 129, INT32_MAX, INT32_MIN};
        for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
            w->n_talker_experts = wrong[k];
            refuse(&m);
            if (w->n_talker_experts > 0) {
                w->first_talker_expert = wrong[k];
                refuse(&m);
            }
        }
    }
    static const int64_t wrong[] = {0, -64, 65, INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        again.talker_tokens = wrong[i];
        refuse(&m);
    }
    m.talker.n_experts = 127; /* another checkpoint */
    refuse(&m);
    m.talker.n_experts = 128;
    assert_true(plan_is_valid(&p, &m));
    m.has_code2wav = false;
    refuse(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_run_side_by_side_where_there_are_workers),
        cmocka_unit_test(a_model_that_cannot_speak_plans_no_speech),
        cmocka_unit_test(the_talker_is_divided_as_asked),
        cmocka_unit_test(a_talker_without_room_is_dealt_to_as_few_as_have_it),
        cmocka_unit_test(a_model_that_fits_only_divided_is_found),
        cmocka_unit_test(pins_of_speech_are_kept),
        cmocka_unit_test(a_fit_is_found_where_there_is_one),
        cmocka_unit_test(the_advised_memory_is_enough_for_all_parts),
        cmocka_unit_test(a_misfit_advises_to_leave_out_what_is_enough),
        cmocka_unit_test(keys_and_values_of_the_talker_count),
        cmocka_unit_test(speech_weighs_what_its_tensors_do),
        cmocka_unit_test(the_coordinator_has_room_for_sound),
        cmocka_unit_test(a_plan_with_half_of_speech_is_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

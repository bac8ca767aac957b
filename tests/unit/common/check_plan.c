/*
 * check_plan.c - every plan that is made owns each part once, keeps every limit and is as fast as
 * any; what cannot be planned is refused in numbers.
 *
 * Small models are searched exhaustively: workers 1..12, stages 1..N, memories from too little to
 * plenty. The division of items and the cut of layers are held against brute force.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plan_fixture.h"

#include "common/plan_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void every_split_of_small_models_owns_each_part_once(void **state)
{
    (void)state;
    for (int32_t n_layers = 1; n_layers <= 7; n_layers++) {
        for (int32_t n_experts = 0; n_experts <= 5; n_experts++) {
            model_config m = small_model(n_layers, n_experts);
            for (int32_t n = 1; n <= 12; n++) {
                for (int32_t s = 1; s <= n; s++) {
                    plan_request r = equal_workers(&m, n, s, 0);
                    flo_code code = plan_make(&p, &r, &misfit, &err);
                    int32_t largest = n / s + (n % s != 0);
                    bool feeds = s <= n_layers && largest <= (n_experts > 0 ? n_experts : 1);
                    assert_int_equal(code, feeds ? FLO_OK : FLO_USAGE);
                    if (feeds) {
                        check_within_limits(&r);
                        assert_int_equal(p.kv_tokens, PLAN_KV_TOKENS_MAX);
                    } else {
                        char number[16];
                        snprintf(number, sizeof number, "%d", s);
                        assert_non_null(strstr(err.text, number));
                    }
                }
            }
        }
    }
}

static void plans_under_tight_memory_keep_every_limit(void **state)
{
    (void)state;
    int32_t n_fit = 0;
    int32_t n_misfit = 0;
    for (int32_t n = 1; n <= 12; n++) {
        for (int32_t s = 1; s <= n; s++) {
            model_config m = small_model(9, 8);
            m.text.expert_size = 4096; /* experts weigh 1.5 MiB, a layer 12 MiB */
            m.text.layer_is_sparse[3] = false;
            if (s > 9 || n / s + (n % s != 0) > 8) {
                continue;
            }
            for (uint64_t mib = 16; mib <= 256; mib += 8) {
                plan_request r = equal_workers(&m, n, s, mib << 20);
                facts[n / 2].memory_bytes = (mib << 20) * 3 / 4; /* one is smaller */
                r.n_stages = s;
                flo_code code = plan_make(&p, &r, &misfit, &err);
                if (code == FLO_OK) {
                    check_within_limits(&r);
                    assert_true(p.kv_tokens >= PLAN_KV_TOKENS_MIN);
                    n_fit++;
                } else {
                    assert_int_equal(code, FLO_DIFFERS);
                    assert_true(misfit.missing_bytes > 0);
                    assert_true(misfit.rank >= 1 && misfit.rank <= n);
                    assert_string_equal(misfit.host, facts[misfit.rank - 1].host);
                    assert_non_null(strstr(err.text, misfit.host));
                    assert_non_null(strstr(misfit.advice, "more memory"));
                    n_misfit++;
                }
            }
        }
    }
    assert_true(n_fit > 100 && n_misfit > 100);
}

static void what_misses_is_enough_when_added(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = equal_workers(&m, 4, 4, (uint64_t)12 << 30);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_DIFFERS);
    uint64_t missing = misfit.missing_bytes;
    assert_true(missing > ((uint64_t)1 << 30) && missing < ((uint64_t)8 << 30));
    r = equal_workers(&m, 4, 4, ((uint64_t)12 << 30) + missing + (64 << 20));
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    r = equal_workers(&m, 4, 4, ((uint64_t)12 << 30) + missing / 2);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_DIFFERS);
}

static void the_advised_memory_is_enough(void **state)
{
    (void)state;
    model_config m = published_model();
    for (int32_t s = 1; s <= 8; s += 3) {
        for (uint64_t gib = 1; gib <= 12; gib += 3) {
            plan_request r = equal_workers(&m, 8, s, gib << 30);
            if (plan_make(&p, &r, &misfit, &err) != FLO_OK) {
                r = equal_workers(&m, 8, s, (gib << 30) + misfit.missing_bytes);
                assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
                check_within_limits(&r);
            }
        }
    }
}

static void a_misfit_advises_workers_and_tokens_that_do_fit(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = equal_workers(&m, 3, 3, (uint64_t)21 << 30);
    r.kv_tokens = 65536;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_DIFFERS);
    const char *workers = strstr(misfit.advice, "take ");
    const char *tokens = strstr(misfit.advice, "--kv-tokens ");
    assert_non_null(workers);
    assert_non_null(tokens);
    int32_t n = atoi(workers + strlen("take "));
    long kv = atol(tokens + strlen("--kv-tokens "));
    assert_true(n > 3 && kv >= KV_BLOCK && kv < 65536);
    r.kv_tokens = kv;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    r.kv_tokens = kv + 2048;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_DIFFERS);
    r.kv_tokens = 65536;
    r.n_workers = n;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
}

static void an_asked_capacity_is_rounded_up_to_a_block(void **state)
{
    (void)state;
    model_config m = small_model(4, 4);
    plan_request r = equal_workers(&m, 2, 2, 0);
    for (int64_t asked = 1; asked <= 4 * KV_BLOCK + 1; asked++) {
        r.kv_tokens = asked;
        assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
        assert_true(p.kv_tokens >= asked && p.kv_tokens < asked + KV_BLOCK);
        assert_int_equal(p.kv_tokens % KV_BLOCK, 0);
    }
    r.kv_tokens = -1;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
    r.kv_tokens = (int64_t)1 << 40;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
}

static void kv_takes_the_memory_that_weights_leave(void **state)
{
    (void)state;
    model_config m = published_model();
    int64_t before = 0;
    for (uint64_t gib = 16; gib <= 24; gib++) {
        plan_request r = equal_workers(&m, 4, 4, gib << 30);
        if (plan_make(&p, &r, &misfit, &err) == FLO_OK) {
            assert_true(p.kv_tokens >= before);
            before = p.kv_tokens;
        }
    }
    assert_int_equal(before, PLAN_KV_TOKENS_MAX);
    plan_request r = equal_workers(&m, 4, 4, (uint64_t)16 << 30);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_true(p.kv_tokens > PLAN_KV_TOKENS_MIN && p.kv_tokens < PLAN_KV_TOKENS_MAX);
}

/* The reading of one token in layers [first, first + n) of a model without LM head: as in plan.c.
 */
static double stage_time(const plan_parts *parts, int32_t n, int32_t n_experts, double speed)
{
    double home = (double)(parts->attention + parts->router) * n;
    return (home + (double)parts->expert * n * n_experts * parts->active_share) / speed;
}

static double slowest_cut(const plan_parts *parts, const double *speed, int32_t n_stages,
                          int32_t n_layers, int32_t n_experts, int32_t stage)
{
    double head = stage == n_stages - 1 ? (double)parts->grain * parts->n_grains / speed[stage] : 0;
    if (stage == n_stages - 1) {
        return stage_time(parts, n_layers, n_experts, speed[stage]) + head;
    }
    double best = INFINITY;
    for (int32_t n = 1; n <= n_layers - (n_stages - 1 - stage); n++) {
        double rest = slowest_cut(parts, speed, n_stages, n_layers - n, n_experts, stage + 1);
        best = fmin(best, fmax(stage_time(parts, n, n_experts, speed[stage]), rest));
    }
    return best;
}

static void no_cut_of_the_layers_is_faster(void **state)
{
    (void)state;
    srand(7);
    for (int32_t round = 0; round < 200; round++) {
        int32_t n_layers = 1 + rand() % 9;
        int32_t n_stages = 1 + rand() % (n_layers < 5 ? n_layers : 5);
        model_config m = small_model(n_layers, 6);
        plan_request r = equal_workers(&m, n_stages, n_stages, 0);
        for (int32_t i = 0; i < n_stages; i++) {
            facts[i].read_gb_per_s = 10.0 * (1 << rand() % 4);
        }
        assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
        plan_parts parts;
        plan_parts_of(&parts, &m);
        double speed[8];
        plan_speeds(speed, facts, n_stages);
        double slowest = 0.0;
        for (int32_t i = 0; i < n_stages; i++) {
            double time = stage_time(&parts, p.workers[i].n_layers, 6, speed[i]);
            time += i == n_stages - 1 ? (double)parts.grain * parts.n_grains / speed[i] : 0.0;
            slowest = fmax(slowest, time);
        }
        double best = slowest_cut(&parts, speed, n_stages, n_layers, 6, 0);
        assert_true(slowest <= best * (1 + 1e-9));
    }
}

/* Brute force over all divisions: the earliest end. */
static double earliest_end(int32_t n_workers, int32_t n_items, int32_t least, const int32_t *most,
                           const double *speed)
{
    if (n_workers == 0) {
        return n_items == 0 ? 0.0 : INFINITY;
    }
    double best = INFINITY;
    for (int32_t n = least; n <= most[0] && n <= n_items; n++) {
        double rest = earliest_end(n_workers - 1, n_items - n, least, most + 1, speed + 1);
        best = fmin(best, fmax(n / speed[0], rest));
    }
    return best;
}

static void no_division_of_items_ends_earlier(void **state)
{
    (void)state;
    srand(3);
    static const double speeds[] = {1.0, 1.0, 0.5, 0.25, 0.7, 0.01};
    for (int32_t round = 0; round < 3000; round++) {
        int32_t n_workers = 1 + rand() % 4;
        int32_t n_items = rand() % 14;
        int32_t least = rand() % 2;
        int32_t most[4], out[4];
        double speed[4];
        for (int32_t w = 0; w < n_workers; w++) {
            most[w] = rand() % 9;
            speed[w] = speeds[rand() % 6];
        }
        double best = earliest_end(n_workers, n_items, least, most, speed);
        bool dealt = plan_deal(out, n_workers, n_items, least, most, speed, rand() % 2 == 0);
        assert_int_equal(dealt, best < INFINITY);
        if (dealt) {
            int32_t sum = 0;
            double end = 0.0;
            for (int32_t w = 0; w < n_workers; w++) {
                assert_true(out[w] >= least && out[w] <= most[w]);
                sum += out[w];
                end = fmax(end, out[w] / speed[w]);
            }
            assert_int_equal(sum, n_items);
            assert_true(end <= best * (1 + 1e-9));
        }
    }
}

static void many_items_are_dealt_quickly_and_evenly(void **state)
{
    (void)state;
    static int32_t most[PLAN_WORKERS_MAX], out[PLAN_WORKERS_MAX];
    static double speed[PLAN_WORKERS_MAX];
    for (int32_t w = 0; w < PLAN_WORKERS_MAX; w++) {
        most[w] = INT32_MAX;
        speed[w] = 1.0;
    }
    int32_t n_items = 2 * 1000 * 1000 + 5;
    assert_true(plan_deal(out, PLAN_WORKERS_MAX, n_items, 0, most, speed, false));
    for (int32_t w = 0; w < PLAN_WORKERS_MAX; w++) {
        assert_true(out[w] == n_items / PLAN_WORKERS_MAX ||
                    out[w] == n_items / PLAN_WORKERS_MAX + 1);
    }
}

static void equal_workers_get_even_ranges(void **state)
{
    (void)state;
    model_config m = published_model();
    m.text.vocab_size = 1024; /* so that the LM head does not tip the scale */
    plan_request r = equal_workers(&m, 5, 5, 0);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    static const int32_t layers[] = {10, 10, 10, 9, 9};
    for (int32_t i = 0; i < 5; i++) {
        assert_int_equal(p.workers[i].n_layers, layers[i]);
    }
    r = equal_workers(&m, 3, 1, 0);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    static const int32_t experts[] = {42, 43, 43};
    for (int32_t i = 0; i < 3; i++) {
        assert_int_equal(p.workers[i].n_experts, experts[i]);
    }
}

static void noise_in_measured_bandwidth_does_not_move_the_plan(void **state)
{
    (void)state;
    model_config m = published_model();
    srand(11);
    for (int32_t round = 0; round < 30; round++) {
        plan_request r = equal_workers(&m, 6, 3, 0);
        assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
        for (int32_t i = 0; i < 6; i++) {
            facts[i].read_gb_per_s = 100.0 * (1.0 + 0.13 * rand() / RAND_MAX);
        }
        assert_int_equal(plan_make(&again, &r, &misfit, &err), FLO_OK);
        assert_memory_equal(&p, &again, sizeof p);
    }
}

static void workers_of_one_host_that_disturb_each_other_count_as_equal(void **state)
{
    (void)state;
    plan_worker_facts f[4] = {{.host = "a", .read_gb_per_s = 20.0},
                              {.host = "a", .read_gb_per_s = 60.0},
                              {.host = "b", .read_gb_per_s = 42.0},
                              {.host = "c"}};
    double speed[4];
    plan_speeds(speed, f, 4);
    for (int32_t i = 0; i < 4; i++) {
        assert_true(speed[i] == 1.0);
    }
    f[2].read_gb_per_s = 80.0;
    plan_speeds(speed, f, 4);
    assert_true(speed[0] == 0.5 && speed[1] == 0.5 && speed[2] == 1.0);
}

static void a_faster_worker_gets_more_layers(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = equal_workers(&m, 2, 2, 0);
    facts[0].read_gb_per_s = 90.0;
    facts[1].read_gb_per_s = 30.0;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_true(p.workers[0].n_layers > 2 * p.workers[1].n_layers);
    r = equal_workers(&m, 2, 1, 0);
    facts[0].read_gb_per_s = 30.0;
    facts[1].read_gb_per_s = 90.0;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_int_equal(p.workers[0].n_experts, 32);
    assert_int_equal(p.workers[1].n_experts, 96);
}

static void a_small_home_gives_experts_away(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = equal_workers(&m, 3, 1, (uint64_t)30 << 30);
    facts[0].memory_bytes = (uint64_t)16 << 30;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    check_within_limits(&r);
    assert_true(p.workers[0].n_experts < p.workers[1].n_experts);
}

static void too_many_workers_are_refused_in_numbers(void **state)
{
    (void)state;
    model_config m = small_model(4, 3);
    plan_request r = equal_workers(&m, 13, 0, 0);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "13 workers"));
    assert_non_null(strstr(err.text, "12 workers"));
    r.n_workers = 12;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    assert_int_equal(p.n_stages, 4);
    r.n_workers = 3;
    r.n_stages = 4;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "4 stages for 3 workers"));
    r.n_workers = 6;
    r.n_stages = 5;
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "4 layers"));
    static const int32_t absurd[] = {0, -1, PLAN_WORKERS_MAX + 1, INT32_MAX};
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        r.n_workers = absurd[i];
        r.n_stages = 1;
        assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
    }
}

static void a_plan_that_loses_or_doubles_a_part_is_invalid(void **state)
{
    (void)state;
    model_config m = small_model(6, 4);
    plan_request r = equal_workers(&m, 5, 2, 0);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    /* Every number of every worker that says who owns what, off by one and far off. */
    static const int32_t wrong[] = {1, -1, 1000, INT32_MAX / 2, -100000};
    for (int32_t i = 0; i < p.n_workers; i++) {
        for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
            for (int32_t field = 0; field < 9; field++) {
                again = p;
                plan_worker *w = &again.workers[i];
                int32_t *fields[] = {&w->rank,         &w->stage,       &w->place,
                                     &w->n_layers,     &w->n_experts,   &w->n_kv_heads,
                                     &w->n_vocab_rows, &w->first_layer, &w->first_expert};
                *fields[field] += wrong[k];
                assert_false(plan_is_valid(&again, &m));
            }
        }
        again = p;
        again.workers[i].has_embedding = !again.workers[i].has_embedding;
        assert_false(plan_is_valid(&again, &m));
        again = p;
        again.workers[i].has_final_norm = !again.workers[i].has_final_norm;
        assert_false(plan_is_valid(&again, &m));
    }
    again = p;
    again.kv_tokens += 1;
    assert_false(plan_is_valid(&again, &m));
    again = p;
    again.n_stages = INT32_MAX;
    assert_false(plan_is_valid(&again, &m));
    again = p;
    again.n_workers = -4;
    assert_false(plan_is_valid(&again, &m));
    assert_true(plan_is_valid(&p, &m));
}

static void the_published_model_weighs_what_its_tensors_do(void **state)
{
    (void)state;
    model_config m = published_model();
    plan_request r = equal_workers(&m, 1, 1, 0);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    /* 61,065,293,824 bytes of tensors; norms are kept in f32, twice their published size:
     * 48 * (2 * 2048 + 2 * 128) + 2048 of them. Rows are whole panels, so nothing is padded. */
    uint64_t norms = 48 * (2 * 2048 + 2 * 128) + 2048;
    assert_true(p.workers[0].weight_bytes == 61065293824u + 2 * norms);
    assert_true(p.workers[0].kv_bytes == (uint64_t)65536 * 48 * 2 * 4 * 128 * 4);
    assert_true(p.workers[0].work_bytes < (uint64_t)1 << 30);
}

static void padding_of_odd_shapes_is_counted(void **state)
{
    (void)state;
    assert_true(plan_matrix_bytes(64, 2) == 64 * 2 * 2);
    assert_true(plan_matrix_bytes(65, 3) == 128 * 4 * 2);
    assert_true(plan_matrix_bytes(1, 1) == 64 * 2 * 2);
    assert_true(plan_matrix_bytes(0, 5) == 0);
    assert_true(plan_matrix_bytes(INT64_MAX, INT64_MAX) == (uint64_t)1 << 62);
}

static void absurd_sizes_are_refused(void **state)
{
    (void)state;
    model_config m = small_model(MODEL_LAYERS_MAX, MODEL_EXPERTS_MAX);
    m.text.hidden_size = INT32_MAX;
    m.text.vocab_size = INT32_MAX;
    m.text.expert_size = INT32_MAX;
    plan_request r = equal_workers(&m, 2, 2, (uint64_t)1 << 30);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_USAGE);
}

static void a_thousand_workers_are_planned(void **state)
{
    (void)state;
    model_config m = published_model();
    m.text.n_layers = MODEL_LAYERS_MAX;
    for (int32_t i = 0; i < m.text.n_layers; i++) {
        m.text.layer_is_sparse[i] = true;
    }
    plan_request r = with_all(equal_workers(&m, PLAN_WORKERS_MAX, 300, (uint64_t)8 << 30));
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    check_within_limits(&r);
    r = equal_workers(&m, MODEL_LAYERS_MAX, MODEL_LAYERS_MAX, 0);
    assert_int_equal(plan_make(&p, &r, &misfit, &err), FLO_OK);
    check_within_limits(&r);
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_split_of_small_models_owns_each_part_once),
        cmocka_unit_test(plans_under_tight_memory_keep_every_limit),
        cmocka_unit_test(what_misses_is_enough_when_added),
        cmocka_unit_test(the_advised_memory_is_enough),
        cmocka_unit_test(a_misfit_advises_workers_and_tokens_that_do_fit),
        cmocka_unit_test(an_asked_capacity_is_rounded_up_to_a_block),
        cmocka_unit_test(kv_takes_the_memory_that_weights_leave),
        cmocka_unit_test(no_cut_of_the_layers_is_faster),
        cmocka_unit_test(no_division_of_items_ends_earlier),
        cmocka_unit_test(many_items_are_dealt_quickly_and_evenly),
        cmocka_unit_test(equal_workers_get_even_ranges),
        cmocka_unit_test(noise_in_measured_bandwidth_does_not_move_the_plan),
        cmocka_unit_test(workers_of_one_host_that_disturb_each_other_count_as_equal),
        cmocka_unit_test(a_faster_worker_gets_more_layers),
        cmocka_unit_test(a_small_home_gives_experts_away),
        cmocka_unit_test(too_many_workers_are_refused_in_numbers),
        cmocka_unit_test(a_plan_that_loses_or_doubles_a_part_is_invalid),
        cmocka_unit_test(the_published_model_weighs_what_its_tensors_do),
        cmocka_unit_test(padding_of_odd_shapes_is_counted),
        cmocka_unit_test(absurd_sizes_are_refused),
        cmocka_unit_test(a_thousand_workers_are_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

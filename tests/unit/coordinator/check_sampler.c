/*
 * check_sampler.c - one step of sampling gives the reference's probabilities
 * (tests/golden/sampling), the draw follows its rule and its distribution, neutral values change
 * nothing, and no setting or logit makes a choice that is none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/checkpoint.h"
#include "common/json.h"
#include "common/sampler.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB_MAX = 4096 };

static flo_err err;
static const sampling neutral = {
    .temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .repetition_penalty = 1, .seed = 1};

static sampler *sampler_of(int32_t vocab)
{
    sampler *s;
    assert_int_equal(sampler_new(&s, vocab, &err), FLO_OK);
    return s;
}

static float uniform(uint64_t *seed)
{
    return (float)(sampler_uniform(77, (*seed)++) * 6 - 3);
}

/* --- recorded steps ----------------------------------------------------------------------------
 */

static void *tensor_of(const checkpoint *c, const char *name, size_t *n)
{
    const checkpoint_tensor *t = checkpoint_find(c, name);
    assert_non_null(t);
    void *data = malloc(t->n_bytes + 1);
    assert_non_null(data);
    assert_int_equal(checkpoint_read(c, t, 0, data, t->n_bytes, &err), FLO_OK);
    *n = t->n_elements;
    return data;
}

static double number_in(const cJSON *inputs, const char *name, double otherwise)
{
    const cJSON *item = json_member(inputs, name);
    return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

static bool holds_id(const cJSON *list, int32_t id)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        if (item->valuedouble == id) {
            return true;
        }
    }
    return false;
}

static void hold_to_case(int number)
{
    char path[4096];
    cJSON *root;
    checkpoint *c;
    const char *folder = getenv("FLOTILLA_SOURCE_DIR");
    assert_non_null(folder);
    snprintf(path, sizeof path, "%s/tests/golden/sampling/case-%d/case.json", folder, number);
    assert_int_equal(json_read(&root, path, 1 << 20, &err), FLO_OK);
    snprintf(path, sizeof path, "%s/tests/golden/sampling/case-%d/tensors.safetensors", folder,
             number);
    assert_int_equal(checkpoint_open_file(&c, path, &err), FLO_OK);
    const cJSON *inputs = json_member(root, "inputs");
    sampling how = {.temperature = number_in(inputs, "temperature", 1),
                    .top_k = (int32_t)number_in(inputs, "top_k", 0),
                    .top_p = number_in(inputs, "top_p", 1),
                    .min_p = number_in(inputs, "min_p", 0),
                    .repetition_penalty = number_in(inputs, "repetition_penalty", 1)};
    size_t vocab, n_history, n;
    float *logits = tensor_of(c, "logits", &vocab), *probs = tensor_of(c, "probs", &n);
    int32_t *history = tensor_of(c, "history", &n_history);
    uint8_t *kept = tensor_of(c, "kept", &n);
    static float row_logits[VOCAB_MAX], got[VOCAB_MAX];
    static int32_t ids[VOCAB_MAX];
    logit_row row = {.ids = ids, .logits = row_logits};
    for (size_t i = 0; i < vocab; i++) {
        if (!holds_id(json_member(inputs, "suppress_tokens"), (int32_t)i)) {
            ids[row.n] = (int32_t)i;
            row_logits[row.n++] = logits[i];
        }
    }
    sampler *s = sampler_of((int32_t)vocab);
    assert_int_equal(sampler_probabilities(s, &how, &row, history, (int32_t)n_history, got, &err),
                     FLO_OK);
    for (int32_t i = 0; i < row.n; i++) {
        assert_int_equal(got[i] > 0, kept[ids[i]]);
        assert_true(fabsf(got[i] - probs[ids[i]]) <= 1e-6f + 1e-3f * probs[ids[i]]);
    }
    int32_t id;
    how.temperature = 0;
    assert_int_equal(sampler_choose(s, &how, &row, history, (int32_t)n_history, 0, &id, &err),
                     FLO_OK);
    const cJSON *facts = json_member(root, "facts");
    assert_int_equal(id, (int32_t)number_in(facts, "greedy_after_penalty", -1));
    sampler_free(s);
    free(logits);
    free(probs);
    free(history);
    free(kept);
    checkpoint_close(c);
    cJSON_Delete(root);
}

static void recorded_steps_give_the_reference_probabilities(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++) {
        hold_to_case(i);
    }
}

/* --- the draw ----------------------------------------------------------------------------------
 */

/* The rule in the header, over the probabilities in order of their ids. */
static int32_t drawn_by_rule(const float *p, int32_t n, double u)
{
    double total = 0, sum = 0;
    for (int32_t i = 0; i < n; i++) {
        total += (double)p[i];
    }
    for (int32_t i = 0; i < n; i++) {
        sum += (double)p[i];
        if (sum > u * total) {
            return i;
        }
    }
    return -1;
}

static void the_draw_follows_its_rule(void **state)
{
    (void)state;
    enum { VOCAB = 60 };
    float logits[VOCAB], p[VOCAB], shuffled[VOCAB];
    int32_t ids[VOCAB], id, other;
    uint64_t random = 0;
    sampler *s = sampler_of(VOCAB);
    for (uint64_t again = 0; again < 400; again++) {
        sampling how = neutral;
        how.seed = again / 7;
        how.temperature = 0.3 + (double)(again % 5);
        how.top_k = (int32_t)(again % 4) * 9;
        how.top_p = again % 3 == 0 ? 0.8 : 1;
        how.min_p = again % 6 == 0 ? 0.02 : 0;
        for (int32_t i = 0; i < VOCAB; i++) {
            logits[i] = uniform(&random);
        }
        logit_row row = {VOCAB, NULL, logits};
        assert_int_equal(sampler_probabilities(s, &how, &row, NULL, 0, p, &err), FLO_OK);
        assert_int_equal(sampler_choose(s, &how, &row, NULL, 0, again, &id, &err), FLO_OK);
        assert_int_equal(id, drawn_by_rule(p, VOCAB, sampler_uniform(how.seed, again)));
        for (int32_t i = 0; i < VOCAB; i++) { /* a row in another order is the same row */
            ids[i] = (i * 7 + (int32_t)again) % VOCAB;
            shuffled[i] = logits[ids[i]];
        }
        logit_row as_list = {VOCAB, ids, shuffled};
        assert_int_equal(sampler_choose(s, &how, &as_list, NULL, 0, again, &other, &err), FLO_OK);
        assert_int_equal(other, id);
    }
    sampler_free(s);
}

static void draws_have_their_distribution(void **state)
{
    (void)state;
    enum { VOCAB = 8, DRAWS = 40000 };
    static const float logits[VOCAB] = {0, 1, 2, -1, 0.5f, 3, -2, 1.5f};
    float p[VOCAB];
    double square = 0;
    int32_t seen[VOCAB] = {0}, id;
    sampler *s = sampler_of(VOCAB);
    logit_row row = {VOCAB, NULL, logits};
    sampling how = neutral;
    assert_int_equal(sampler_probabilities(s, &how, &row, NULL, 0, p, &err), FLO_OK);
    for (uint64_t i = 0; i < DRAWS; i++) {
        how.seed = i / 4; /* seeds side by side, and indexes */
        assert_int_equal(sampler_choose(s, &how, &row, NULL, 0, i % 4, &id, &err), FLO_OK);
        seen[id]++;
    }
    for (int32_t i = 0; i < VOCAB; i++) {
        double want = DRAWS * (double)p[i];
        square += (seen[i] - want) * (seen[i] - want) / want;
    }
    assert_true(square < 24.3); /* chi-square, 7 degrees of freedom: 0.1 % */
    sampler_free(s);
}

static void uniforms_are_a_function_of_seed_and_index(void **state)
{
    (void)state;
    double sum = 0;
    for (uint64_t i = 0; i < 10000; i++) {
        double u = sampler_uniform(UINT64_MAX - i % 3, i);
        assert_true(u >= 0 && u < 1);
        assert_true(u == sampler_uniform(UINT64_MAX - i % 3, i));
        assert_true(u != sampler_uniform(UINT64_MAX - i % 3, i + 1));
        sum += u;
    }
    assert_true(fabs(sum / 10000 - 0.5) < 0.02); /* 7 standard deviations */
}

/* --- settings ----------------------------------------------------------------------------------
 */

static void neutral_settings_change_nothing(void **state)
{
    (void)state;
    enum { VOCAB = 50 };
    float logits[VOCAB], want[VOCAB], got[VOCAB];
    uint64_t random = 0;
    int32_t history[3] = {1, 2, 49};
    sampler *s = sampler_of(VOCAB);
    for (int32_t i = 0; i < VOCAB; i++) {
        logits[i] = uniform(&random);
    }
    logit_row row = {VOCAB, NULL, logits};
    assert_int_equal(sampler_probabilities(s, &neutral, &row, history, 3, want, &err), FLO_OK);
    sampling how = neutral;
    how.top_k = VOCAB;
    assert_int_equal(sampler_probabilities(s, &how, &row, history, 3, got, &err), FLO_OK);
    assert_memory_equal(got, want, sizeof got);
    how.top_k = INT32_MAX;
    assert_int_equal(sampler_probabilities(s, &how, &row, history, 3, got, &err), FLO_OK);
    assert_memory_equal(got, want, sizeof got);
    sampler_free(s);
}

static void one_candidate_is_always_left(void **state)
{
    (void)state;
    static const double smallest[] = {0, 1e-9, 1e-40, 1e-300};
    static const float logits[5] = {1, 4, 3.9f, -2, 4};
    float p[5];
    int32_t id;
    sampler *s = sampler_of(5);
    logit_row row = {5, NULL, logits};
    for (int i = 0; i < 4; i++) {
        sampling how = neutral;
        how.top_p = smallest[i];
        assert_int_equal(sampler_probabilities(s, &how, &row, NULL, 0, p, &err), FLO_OK);
        assert_true(p[1] + p[4] == 1.0f);
        how = neutral;
        how.min_p = 1;
        assert_int_equal(sampler_probabilities(s, &how, &row, NULL, 0, p, &err), FLO_OK);
        assert_true(p[1] == 0.5f && p[4] == 0.5f);
        how = neutral;
        how.temperature = smallest[i]; /* 0 is greedy; the others overflow f32 */
        for (uint64_t k = 0; k < 20; k++) {
            assert_int_equal(sampler_choose(s, &how, &row, NULL, 0, k, &id, &err), FLO_OK);
            assert_true(id == 1 || id == 4);
        }
    }
    static const float low[3] = {-3e38f, -2e38f, -3e38f};
    logit_row lows = {3, NULL, low};
    sampling cold = neutral;
    cold.temperature = 1e-3;
    assert_int_equal(sampler_choose(s, &cold, &lows, NULL, 0, 3, &id, &err), FLO_OK);
    assert_int_equal(id, 1);
    sampler_free(s);
}

static void a_strong_penalty_stays_a_number(void **state)
{
    (void)state;
    static const float logits[3] = {2e38f, -2e38f, 1};
    static const int32_t history[2] = {0, 1};
    float p[3];
    sampler *s = sampler_of(3);
    logit_row row = {3, NULL, logits};
    static const double penalties[] = {1e-6, 1e6};
    for (int i = 0; i < 2; i++) {
        sampling how = neutral;
        how.repetition_penalty = penalties[i];
        assert_int_equal(sampler_probabilities(s, &how, &row, history, 2, p, &err), FLO_OK);
        assert_true(p[0] == 1.0f && p[1] == 0.0f && p[2] == 0.0f);
    }
    sampler_free(s);
}

static void greedy_takes_the_lowest_id_among_the_largest(void **state)
{
    (void)state;
    static const float logits[4] = {1, 3, 2, 3};
    static const int32_t ids[4] = {30, 9, 2, 5}, history[1] = {5};
    int32_t id;
    sampler *s = sampler_of(40);
    sampling how = neutral;
    how.temperature = 0;
    logit_row row = {4, ids, logits};
    assert_int_equal(sampler_choose(s, &how, &row, history, 1, 0, &id, &err), FLO_OK);
    assert_int_equal(id, 5);
    how.repetition_penalty = 2;
    assert_int_equal(sampler_choose(s, &how, &row, history, 1, 0, &id, &err), FLO_OK);
    assert_int_equal(id, 9);
    sampler_free(s);
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    int32_t id;
    sampler *s = sampler_of(3);
    for (int i = 0; i < 3; i++) {
        for (int at = 0; at < 3; at++) {
            float logits[3] = {1, 2, 3};
            logits[at] = bad[i];
            logit_row row = {3, NULL, logits};
            assert_int_equal(sampler_choose(s, &neutral, &row, NULL, 0, 0, &id, &err), FLO_FAIL);
            assert_non_null(strstr(err.text, "not finite"));
        }
    }
    logit_row none = {0, NULL, NULL};
    assert_int_equal(sampler_choose(s, &neutral, &none, NULL, 0, 0, &id, &err), FLO_FAIL);
    sampler_free(s);
}

static void a_shortlist_is_asked_for_where_it_is_exact(void **state)
{
    (void)state;
    sampling how = neutral;
    assert_int_equal(sampling_top(&how, -1), 0); /* no top-k: the whole row */
    how.top_k = 50;
    assert_int_equal(sampling_top(&how, -1), 50);
    assert_int_equal(sampling_top(&how, 20), 50);
    how.top_k = 5;
    assert_int_equal(sampling_top(&how, 20), 20);
    how.temperature = 0;
    assert_int_equal(sampling_top(&how, -1), 1);
    assert_int_equal(sampling_top(&how, 7), 7);
    how.repetition_penalty = 1.1; /* may lift what a shortlist lacks */
    assert_int_equal(sampling_top(&how, 7), 0);
    how = neutral;
    how.top_k = SHORTLIST_TOP_MAX + 1;
    assert_int_equal(sampling_top(&how, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_steps_give_the_reference_probabilities),
        cmocka_unit_test(the_draw_follows_its_rule),
        cmocka_unit_test(draws_have_their_distribution),
        cmocka_unit_test(uniforms_are_a_function_of_seed_and_index),
        cmocka_unit_test(neutral_settings_change_nothing),
        cmocka_unit_test(one_candidate_is_always_left),
        cmocka_unit_test(a_strong_penalty_stays_a_number),
        cmocka_unit_test(greedy_takes_the_lowest_id_among_the_largest),
        cmocka_unit_test(what_is_no_number_is_refused),
        cmocka_unit_test(a_shortlist_is_asked_for_where_it_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

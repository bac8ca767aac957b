/*
 * check_speech_buffers.c - what a worker takes for its parts of speech, all together, is within
 * what the plan adds for them, for the published shapes and for hundreds of drawn ones, however the
 * talker's experts are dealt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/arena.h"
#include "common/sampler.h"
#include "tests/unit/common/plan_fixture.h"
#include "worker/speech/predictor.h"
#include "worker/speech/talker_desk.h"
#include "worker/thinker/stage.h"

static int32_t below(uint64_t *seed, int32_t n)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((*seed >> 33) % (uint64_t)n);
}

/* What worker/speech takes on w, beside weights and KV cache. */
static uint64_t taken_on(const model_config *m, const plan_worker *w)
{
    static text_config t;
    const plan_worker *owners[PLAN_WORKERS_MAX];
    uint64_t taken = 0;
    model_talker_layers(&t, &m->talker);
    decoder_part part = decoder_part_whole(&t, "talker.model.");
    part.home = w->has_talker;
    part.experts = (expert_range){w->first_talker_expert, w->n_talker_experts};
    if (w->n_talker_experts > 0) {
        taken += stage_arena_bytes(&part, plan_talker_owners(&p, owners), STEP_ROWS_MAX);
    }
    if (w->has_talker) {
        size_t inner = (size_t)m->talker.projection_size * sizeof(float);
        taken += arena_rounded(STEP_ROWS_MAX * inner) + arena_rounded(inner);
        taken += talker_desk_bytes(m, p.talker_tokens) + sampler_bytes(m->talker.vocab_size);
    }
    taken += w->has_code_predictor ? predictor_open_bytes(&m->code_predictor) : 0;
    return taken + (w->has_code2wav ? plan_code2wav_region_bytes(&m->code2wav) : 0);
}

/* On every worker of one plan: what is taken is within the terms that speech adds. */
static void hold(const model_config *m, int32_t n_workers, int32_t talker_workers)
{
    plan_request r = with_speech(equal_workers(m, n_workers, 0, 0));
    r.kv_tokens = 4096;
    r.talker_workers = talker_workers;
    if (plan_make(&p, &r, &misfit, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    for (int32_t i = 0; i < n_workers; i++) {
        const plan_worker *w = &p.workers[i];
        plan_worker without = *w;
        without.has_talker = without.has_code_predictor = without.has_code2wav = false;
        without.n_talker_experts = 0;
        uint64_t planned = plan_work_bytes(&r, w) - plan_work_bytes(&r, &without);
        if (taken_on(m, w) > planned) {
            fail_msg(
                "rank %d of %d, talker on %d: hidden %d, vocabulary %d, experts %d of %d: takes "
                "%llu, planned are %llu",
                w->rank, n_workers, talker_workers, m->talker.hidden_size, m->talker.vocab_size,
                m->talker.n_experts_per_token, m->talker.n_experts,
                (unsigned long long)taken_on(m, w), (unsigned long long)planned);
        }
    }
}

static void hold_all(const model_config *m)
{
    for (int32_t n = 1; n <= 4; n++) {
        for (int32_t owners = 1; owners <= n && owners <= m->talker.n_experts; owners++) {
            hold(m, n, owners);
        }
    }
}

static void the_published_shapes_are_covered(void **state)
{
    (void)state;
    model_config m = published_model();
    hold_all(&m);
}

static void drawn_shapes_are_covered(void **state)
{
    (void)state;
    static const int32_t sizes[] = {1, 8, 33, 64, 100, 129, 300, 1000};
    model_config m = published_model();
    talker_config *t = &m.talker;
    uint64_t seed = 5;
    for (int32_t round = 0; round < 300; round++) {
        int32_t *const drawn[] = {&t->hidden_size,
                                  &t->expert_size,
                                  &t->shared_expert_size,
                                  &t->projection_size,
                                  &t->vocab_size,
                                  &t->thinker_hidden_size,
                                  &m.code_predictor.hidden_size,
                                  &m.code_predictor.vocab_size};
        for (size_t i = 0; i < sizeof drawn / sizeof drawn[0]; i++) {
            *drawn[i] = sizes[below(&seed, 8)];
        }
        t->n_experts = 1 + below(&seed, 40);
        t->n_experts_per_token = 1 + below(&seed, t->n_experts);
        hold_all(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_shapes_are_covered),
        cmocka_unit_test(drawn_shapes_are_covered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

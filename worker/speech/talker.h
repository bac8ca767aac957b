/*
 * talker.h - the decoder that turns text and hidden states into first codes of speech.
 *
 * The layers are the thinker's with a shared expert beside the routed ones:
 *     moe(n) = sum_e w_e expert_e(n) + sigmoid(g . n) shared(n)
 * and run on worker/thinker/stage.h; what is the talker's own are two projections in front, a table
 * of codes, and a head behind. Experts may live on other workers, as the thinker's.
 * Source: modeling_qwen3_omni_moe.py, Qwen3OmniMoeTalker*; shared specification, sections 2.3
 * and 3.
 */
#ifndef FLOTILLA_WORKER_SPEECH_TALKER_H
#define FLOTILLA_WORKER_SPEECH_TALKER_H

#include "common/error.h"
#include "common/plan.h"
#include "worker/encoders/encoder_weights.h"
#include "worker/thinker/stage.h"

typedef struct talker talker;

typedef enum talker_side { TALKER_TEXT, TALKER_HIDDEN } talker_side;

/* Takes the memory that the plan gives this worker's part of the talker (its home, or an owner of
 * experts alone); all arguments stay the caller's and are read until talker_close. */
flo_code talker_open(talker **out, const model_config *m, const plan *p, const plan_worker *w,
                     thread_pool *pool, flo_err *err);
flo_code talker_load(talker *t, const weights_source *source, const load_watch *watch,
                     flo_err *err);
void talker_close(talker *t); /* NULL is allowed */

/* --- at home ----------------------------------------------------------------------------------
 */

/* out [n][H] = fc2 silu(fc1 x + b1) + b2 for x [n][H of the thinker]: the text's projection, or
 * that of hidden states. n at most STEP_ROWS_MAX. */
void talker_project(talker *t, float *out, const float *x, int32_t n, talker_side side);

/* Row of the codec embedding, as f32 [H]; code in range. */
void talker_code_row(const talker *t, float *out, int32_t code);

/* Keys and values of the sessions (a session's number is its sequence). */
kv_cache *talker_cache(talker *t);

/* x [n][H] through the layers and the final norm, in place; n at most STEP_ROWS_MAX. Positions of
 * the rows must have been made room for in the cache. */
void talker_forward(talker *t, float *x, const step_rows *step, const stage_hooks *hooks);

/* logits [n][vocab] of rows x [n][H] that talker_forward has made; n at most SPEAKERS_MAX. */
void talker_logits(talker *t, float *logits, const float *x, int32_t n);

/* --- at any owner of experts ------------------------------------------------------------------
 */

/* A batch that came from the home, as stage_experts. */
void talker_experts(talker *t, int32_t layer, float *out, const expert_batch *batch);

#endif

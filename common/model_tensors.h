/*
 * model_tensors.h - every tensor that a configuration asks for, by name and shape.
 *
 * This list is what "nothing is missing" means: a checkpoint is held against it before a rank loads
 * anything. Fused experts (mlp.experts.gate_up_proj, mlp.experts.down_proj) are accepted in place
 * of the per-expert tensors, layer by layer. A layer that has a fused tensor is read as fused.
 */
#ifndef FLOTILLA_COMMON_MODEL_TENSORS_H
#define FLOTILLA_COMMON_MODEL_TENSORS_H

#include "common/checkpoint.h"
#include "common/model_config.h"

typedef enum model_component {
    COMPONENT_EMBED,
    COMPONENT_LAYERS,
    COMPONENT_NORM,
    COMPONENT_LM_HEAD,
    COMPONENT_AUDIO,
    COMPONENT_VISION,
    COMPONENT_TALKER,
    COMPONENT_CODE_PREDICTOR,
    COMPONENT_CODE2WAV,
    COMPONENT_COUNT
} model_component;

const char *model_component_name(model_component p); /* "thinker.embed" .. "code2wav" */

typedef struct expected_tensor {
    const char *name; /* valid during the visit */
    model_component component;
    int32_t n_dims;
    int64_t shape[TENSOR_DIMS_MAX];
    bool may_be_absent; /* lm_head where the embedding can take its place */
} expected_tensor;

/* Visits every tensor of every part that the configuration has, in the model's order. Experts are
 * visited as c holds them, layer by layer, one by one or fused; c NULL: one by one, as published.
 */
void model_tensors_each(const model_config *m, const checkpoint *c,
                        void (*visit)(void *arg, const expected_tensor *t), void *arg);

/* Holds one expectation against a checkpoint; FLO_OK for an absent tensor that may be absent. */
flo_code model_tensor_check(const checkpoint *c, const expected_tensor *t, flo_err *err);

/* Finds a tensor and checks its shape and that it holds floats (BF16 as published, F16 or F32: what
 * a rank does with those is its own decision). FLO_FAIL names the tensor, the shape found and the
 * one expected, or says that it is missing. */
flo_code model_tensor_find(const checkpoint *c, const char *name, int32_t n_dims,
                           const int64_t *shape, const checkpoint_tensor **out, flo_err *err);

/* The LM head [vocab_size][H]: thinker.lm_head.weight, or the embedding where it is absent and
 * tied. */
flo_code model_lm_head_find(const checkpoint *c, const model_config *m,
                            const checkpoint_tensor **out, flo_err *err);

/* Which half or member of an expert: rows of the SwiGLU. */
typedef enum expert_matrix { EXPERT_GATE, EXPERT_UP, EXPERT_DOWN } expert_matrix;

/* Where one expert's matrix lies, be it a tensor of its own or a slice of a fused one:
 * gate and up [expert_size][H], down [H][expert_size]. */
typedef struct tensor_range {
    const checkpoint_tensor *tensor;
    uint64_t first_byte; /* within the tensor */
    int64_t rows, columns;
} tensor_range;

/* prefix: of the decoder t, "thinker.model." or "talker.model.". layer is one of its sparse ones.
 */
flo_code model_expert_find(const checkpoint *c, const text_config *t, const char *prefix,
                           int32_t layer, int32_t expert, expert_matrix which, tensor_range *out,
                           flo_err *err);

/* Names of what the thinker (embedding, layers, norm, LM head; with_encoders, with_speech: also the
 * audio and vision encoders, or talker, code predictor and vocoder, as far as the configuration has
 * them) lacks or has with another shape. Calls seen(arg, name, sentence) for each fault, at most
 * faults_max times; returns the number of all faults. */
size_t model_parts_check(const checkpoint *c, const model_config *m, bool with_encoders,
                         bool with_speech, size_t faults_max,
                         void (*seen)(void *arg, const char *name, const char *sentence),
                         void *arg);

#endif

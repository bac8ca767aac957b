/*
 * model_tensors.h - every tensor that a configuration asks for, by name and shape.
 *
 * This list is what "nothing is missing" means: a checkpoint is held against it before a rank loads
 * anything. Fused experts (mlp.experts.gate_up_proj, mlp.experts.down_proj) are accepted in place of
 * the per-expert tensors, layer by layer. Source: shared spec, section 2.
 */
#ifndef FLOTILLA_COMMON_MODEL_TENSORS_H
#define FLOTILLA_COMMON_MODEL_TENSORS_H

#include "common/checkpoint.h"
#include "common/model_config.h"

/* Finds a tensor and checks its shape. FLO_FAIL names the tensor, the shape found and the one
 * expected, or says that it is missing. */
flo_code model_tensor_find(const checkpoint *c, const char *name, int32_t n_dims,
                           const int64_t *shape, const checkpoint_tensor **out, flo_err *err);

/* Which half or member of an expert: rows of the SwiGLU. */
typedef enum expert_matrix { EXPERT_GATE, EXPERT_UP, EXPERT_DOWN } expert_matrix;

/* Where one expert's matrix lies, be it a tensor of its own or a slice of a fused one:
 * gate and up [expert_size][H], down [H][expert_size]. */
typedef struct tensor_range {
    const checkpoint_tensor *tensor;
    uint64_t first_byte; /* within the tensor */
    int64_t rows, columns;
} tensor_range;

flo_code model_expert_find(const checkpoint *c, const model_config *m, int32_t layer, int32_t expert,
                           expert_matrix which, tensor_range *out, flo_err *err);

/* Names of what the thinker's text part (embedding, layers, norm, LM head) lacks or has with another
 * shape. Calls seen(arg, sentence) for each fault, at most faults_max times; returns their number. */
size_t model_thinker_check(const checkpoint *c, const model_config *m, size_t faults_max,
                           void (*seen)(void *arg, const char *name, const char *sentence), void *arg);

#endif

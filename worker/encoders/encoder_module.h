/*
 * encoder_module.h - tensors of one module of an encoder, declared by the short names they have in
 * it (inside worker/encoders/ only).
 */
#ifndef FLOTILLA_WORKER_ENCODERS_ENCODER_MODULE_H
#define FLOTILLA_WORKER_ENCODERS_ENCODER_MODULE_H

#include "worker/encoders/encoder_weights.h"

enum { MODULE_NAME_BYTES = 160 };

typedef struct module {
    weight_loader *loader;
    char prefix[MODULE_NAME_BYTES / 2]; /* "thinker.visual.blocks.3." */
} module;

/* PREFIX PART . KIND, as in "thinker.visual.blocks.3.norm1.weight" */
void module_name(char out[MODULE_NAME_BYTES], const module *m, const char *part, const char *kind);

norm_weights module_norm(const module *m, const char *part, int32_t n);
const float *module_bias(const module *m, const char *part, int32_t n);

/* shape: of the stored tensor, n_dims long; NULL where it is [rows][columns]. */
affine module_affine(const module *m, const char *part, int32_t rows, int32_t columns,
                     int32_t n_dims, const int64_t *shape);
affine module_linear(const module *m, const char *part, int32_t rows, int32_t columns);

#endif

/*
 * encoder_module.c - names put together, tensors declared.
 */
#include "worker/encoders/encoder_module.h"

#include <stdio.h>

void module_name(char out[MODULE_NAME_BYTES], const module *m, const char *part, const char *kind)
{
    snprintf(out, MODULE_NAME_BYTES, "%s%s.%s", m->prefix, part, kind);
}

const float *module_bias(const module *m, const char *part, int32_t n)
{
    char name[MODULE_NAME_BYTES];
    module_name(name, m, part, "bias");
    return weight_vector(m->loader, name, n);
}

norm_weights module_norm(const module *m, const char *part, int32_t n)
{
    char name[MODULE_NAME_BYTES];
    norm_weights norm;
    module_name(name, m, part, "weight");
    norm.weight = weight_vector(m->loader, name, n);
    norm.bias = module_bias(m, part, n);
    return norm;
}

affine module_affine(const module *m, const char *part, int32_t rows, int32_t columns,
                     int32_t n_dims, const int64_t *shape)
{
    char name[MODULE_NAME_BYTES];
    affine a = {.w = weight_matrix(m->loader, rows, columns)};
    module_name(name, m, part, "weight");
    weight_rows(m->loader, &a.w, name, 0, rows, n_dims, shape, NULL);
    a.bias = module_bias(m, part, rows);
    return a;
}

affine module_linear(const module *m, const char *part, int32_t rows, int32_t columns)
{
    return module_affine(m, part, rows, columns, 2, NULL);
}

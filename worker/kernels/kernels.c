/*
 * kernels.c - the table of kernels, one rung for each instruction set.
 */
#include "worker/kernels/kernels.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define RUNG(suffix)                                                                               \
    {                                                                                              \
        .isa = #suffix, .matmul_bf16 = matmul_bf16_##suffix,                                       \
        .matmul_runs_bf16 = matmul_runs_bf16_##suffix, .rms_norm = rms_norm_##suffix,              \
        .layer_norm = layer_norm_##suffix, .gelu_erf = gelu_erf_##suffix,                          \
        .gelu_tanh = gelu_tanh_##suffix, .silu_mul = silu_mul_##suffix,                            \
        .softmax = softmax_##suffix, .axpy = axpy_##suffix, .add = add_##suffix,                   \
        .rope_rotate = rope_rotate_##suffix, .bf16_widen = bf16_widen_##suffix,                    \
        .attend_block = attend_block_##suffix, .attend_heads = attend_heads_##suffix,              \
        .snake = snake_##suffix, .channel_taps = channel_taps_##suffix,                            \
        .scaled_add = scaled_add_##suffix, .dot_rows = dot_rows_##suffix, .clamp = clamp_##suffix, \
        .fma_work = fma_work_##suffix,                                                             \
    }

/* From the definitions upwards; a rung that the CPU has implies those below it. */
static const kernel_table ladder[] = {
    RUNG(ref),
#ifdef FLOTILLA_KERNELS_X86
    RUNG(avx2),
    RUNG(avx512),
#endif
};

enum { N_RUNGS = sizeof ladder / sizeof ladder[0] };

static const char *const known_isas[] = {"ref", "avx2", "avx512"};

static const kernel_table *chosen = &ladder[0];

static bool cpu_has(const char *isa)
{
#ifdef FLOTILLA_KERNELS_X86
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (strcmp(isa, "avx2") == 0) {
        return avx2;
    }
    if (strcmp(isa, "avx512") == 0) {
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    }
#endif
    return strcmp(isa, "ref") == 0;
}

const kernel_table *kernels_variant(const char *isa)
{
    for (int32_t i = 0; i < N_RUNGS; i++) {
        if (strcmp(ladder[i].isa, isa) == 0) {
            return cpu_has(isa) ? &ladder[i] : NULL;
        }
    }
    return NULL;
}

static bool is_known(const char *isa)
{
    for (size_t i = 0; i < sizeof known_isas / sizeof known_isas[0]; i++) {
        if (strcmp(known_isas[i], isa) == 0) {
            return true;
        }
    }
    return false;
}

static const kernel_table *highest(void)
{
    int32_t i = N_RUNGS - 1;
    while (i > 0 && !cpu_has(ladder[i].isa)) {
        i--;
    }
    return &ladder[i];
}

flo_code kernels_init(flo_err *err)
{
    const char *wish = getenv("FLOTILLA_ISA");
    if (wish == NULL || wish[0] == '\0') {
        chosen = highest();
        return FLO_OK;
    }
    if (!is_known(wish)) {
        return flo_fail(err, FLO_USAGE, "FLOTILLA_ISA is %s: it must be ref, avx2 or avx512", wish);
    }
    const kernel_table *found = kernels_variant(wish);
    if (found == NULL) {
        return flo_fail(err, FLO_USAGE,
                        "FLOTILLA_ISA is %s, which this CPU does not have: its highest is %s", wish,
                        highest()->isa);
    }
    chosen = found;
    return FLO_OK;
}

const kernel_table *kernels(void)
{
    return chosen;
}

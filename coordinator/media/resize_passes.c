/*
 * resize_passes.c - the table of variants.
 */
#include "coordinator/media/resize_passes.h"

#include <string.h>

const resize_passes *resize_passes_variant(const char *isa)
{
    static const resize_passes ref = {"ref", resize_row_ref, resize_column_ref};
    if (strcmp(isa, ref.isa) == 0) {
        return &ref;
    }
#ifdef FLOTILLA_PICTURES_X86
    static const resize_passes avx2 = {"avx2", resize_row_avx2, resize_column_avx2};
    __builtin_cpu_init();
    if (strcmp(isa, avx2.isa) == 0 && __builtin_cpu_supports("avx2")) {
        return &avx2;
    }
#endif
    return NULL;
}

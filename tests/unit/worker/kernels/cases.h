/*
 * cases.h - what the kernel tests share: seeded numbers, the variants this CPU has, comparison by
 * bits.
 */
#ifndef FLOTILLA_TESTS_KERNELS_CASES_H
#define FLOTILLA_TESTS_KERNELS_CASES_H

#include "worker/kernels/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const char *const case_isas[] = {"ref", "avx2", "avx512"};
enum { CASE_ISAS = 3 };

/* Unit roundoff of f32. */
static const double case_u = 0x1p-24;

static inline uint64_t case_next(uint64_t *seed)
{
    *seed += 0x9e3779b97f4a7c15u;
    uint64_t z = *seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Even in [-1, 1). */
static inline float case_uniform(uint64_t *seed)
{
    return (float)((double)(case_next(seed) >> 11) * 0x1p-52 - 1.0);
}

/* Of many magnitudes, now and then zero, subnormal or huge. */
static inline float case_wild(uint64_t *seed)
{
    uint64_t kind = case_next(seed) % 64;
    float f = case_uniform(seed);
    if (kind == 0) {
        return f < 0 ? -0.0f : 0.0f;
    }
    if (kind == 1) {
        return f * 0x1p-130f;
    }
    return ldexpf(f, (int)(case_next(seed) % 40) - 30);
}

/* Of exactly that many entries, so that the address sanitizer sees a step too far. */
static inline float *case_floats(int32_t n)
{
    float *f = malloc((size_t)(n > 0 ? n : 1) * sizeof *f);
    assert_non_null(f);
    return f;
}

static inline float *case_uniforms(int32_t n, uint64_t *seed)
{
    float *f = case_floats(n);
    for (int32_t i = 0; i < n; i++) {
        f[i] = case_uniform(seed);
    }
    return f;
}

static inline float *case_copy(const float *from, int32_t n)
{
    float *f = case_floats(n);
    memcpy(f, from, (size_t)n * sizeof *f);
    return f;
}

/* NaN equals NaN; all else bit for bit. */
static inline void case_same_bits(const char *what, const char *isa, const float *got,
                                  const float *want, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (memcmp(&got[i], &want[i], sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i]))) {
            fail_msg("%s: entry %d of %d is %a in %s, %a by definition", what, i, n, (double)got[i],
                     isa, (double)want[i]);
        }
    }
}

static inline double case_now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif

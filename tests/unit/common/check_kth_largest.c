/*
 * check_kth_largest.c - the k-th largest is what sorting gives, for every k of short lists with
 * ties and infinities, and for some of long ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/kth_largest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_MAX = 5000 };

static uint64_t seed = 1;

static int32_t below(int32_t n)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int32_t)((seed >> 33) % (uint64_t)n);
}

static int falling(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void hold(const float *values, int32_t n, int32_t k)
{
    static float sorted[N_MAX], heap[N_MAX];
    memcpy(sorted, values, (size_t)n * sizeof *values);
    qsort(sorted, (size_t)n, sizeof *sorted, falling);
    assert_true(kth_largest(values, n, k, heap) == sorted[k - 1]);
}

static void short_lists_with_ties_agree_with_sorting(void **state)
{
    (void)state;
    static const float of[] = {-INFINITY, -1.5f, 0.0f, 1.0f, 2.0f, INFINITY};
    for (int32_t round = 0; round < 2000; round++) {
        float values[12];
        int32_t n = 1 + below(12);
        for (int32_t i = 0; i < n; i++) {
            values[i] = of[below(6)];
        }
        for (int32_t k = 1; k <= n; k++) {
            hold(values, n, k);
        }
    }
}

static void long_lists_agree_with_sorting_in_any_order(void **state)
{
    (void)state;
    static float values[N_MAX];
    for (int32_t order = 0; order < 3; order++) { /* rising, falling, mixed */
        for (int32_t i = 0; i < N_MAX; i++) {
            values[i] = (float)(order == 0 ? i : order == 1 ? -i : below(1 << 20));
        }
        for (int32_t k = 1; k <= N_MAX; k += 1 + below(700)) {
            hold(values, N_MAX, k);
        }
        hold(values, N_MAX, N_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_lists_with_ties_agree_with_sorting),
        cmocka_unit_test(long_lists_agree_with_sorting_in_any_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

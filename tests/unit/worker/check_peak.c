/*
 * check_peak.c - what a machine can do at best, measured: figures that cannot be nonsense.
 */
#include "worker/kernels/kernels.h"
#include "worker/peak.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void reading_is_measured_over_any_piece_of_memory(void **state)
{
    (void)state;
    thread_pool *pool;
    flo_err err;
    assert_int_equal(thread_pool_new(&pool, 2, NULL, &err), FLO_OK);
    size_t n = 8 << 20;
    unsigned char *memory = malloc(n);
    assert_non_null(memory);
    memset(memory, 7, n);
    double gb = read_peak(pool, memory + 1, n - 1); /* need not be aligned */
    assert_true(gb > 0.05 && gb < 20000);
    assert_true(read_peak(pool, memory, 2 << 18) > 0.01); /* fewer pieces than threads */
    assert_true(read_peak(pool, memory, 1000) == 0.0);    /* too little to say anything */
    assert_true(read_peak(pool, NULL, 0) == 0.0);
    free(memory);
    thread_pool_free(pool);
}

static void multiplying_is_measured(void **state)
{
    (void)state;
    thread_pool *pool;
    flo_err err;
    assert_int_equal(kernels_init(&err), FLO_OK);
    assert_int_equal(thread_pool_new(&pool, 1, NULL, &err), FLO_OK);
    double gflop = fma_peak(pool);
    assert_true(gflop > 0.1 && gflop < 100000);
    thread_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reading_is_measured_over_any_piece_of_memory),
        cmocka_unit_test(multiplying_is_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

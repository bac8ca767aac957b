/*
 * check_weight_loader.c - tensors of any shape and order of columns end where kernels look for
 * them, as bf16, f16 or f32; the first fault is the one that is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/plan_parts.h"
#include "common/safetensors_write.h"
#include "tests/unit/common/temp_folder.h"
#include "worker/weight_loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 70, IN = 5, TAPS = 9, COLUMNS = IN * TAPS, TABLE_ROWS = 7 };

static char folder[PATH_MAX];
static thread_pool *pool;
static flo_err err;
static int32_t order[COLUMNS];
static const int64_t kernel_shape[4] = {CHANNELS, IN, 3, 3};

/* Entry i of any tensor: exact in bf16, f16 and f32. */
static float value_of(uint64_t i)
{
    return (float)((int32_t)(i * 37 % 255) - 127) / 64.0f;
}

static size_t put(unsigned char *at, tensor_dtype dtype, float value)
{
    uint32_t bits;
    uint16_t half;
    memcpy(&bits, &value, 4);
    if (dtype == DTYPE_F32) {
        memcpy(at, &value, 4);
        return 4;
    }
    uint32_t exponent = bits >> 23 & 255, fraction = bits & 0x7fffff;
    uint32_t f16 =
        (bits >> 16 & 0x8000) | (value == 0 ? 0 : (exponent - 112) << 10 | fraction >> 13);
    half = (uint16_t)(dtype == DTYPE_F16 ? f16 : bits >> 16);
    memcpy(at, &half, 2);
    return 2;
}

/* conv.weight [CHANNELS][IN][3][3], conv.bias, table [TABLE_ROWS][COLUMNS] */
static void write_checkpoint(tensor_dtype dtype)
{
    safetensors_entry entries[3] = {
        {.name = "thinker.conv.weight", .dtype = dtype, .n_dims = 4},
        {.name = "thinker.conv.bias", .dtype = dtype, .n_dims = 1, .shape = {CHANNELS}},
        {.name = "thinker.table", .dtype = dtype, .n_dims = 2, .shape = {TABLE_ROWS, COLUMNS}}};
    static const uint64_t n_entries[3] = {CHANNELS * COLUMNS, CHANNELS, TABLE_ROWS * COLUMNS};
    static unsigned char data[CHANNELS * COLUMNS * 4];
    safetensors_writer *w;
    memcpy(entries[0].shape, kernel_shape, sizeof kernel_shape);
    assert_int_equal(
        safetensors_create(&w, temp_path(folder, "model.safetensors"), entries, 3, &err), FLO_OK);
    for (size_t t = 0; t < 3; t++) {
        size_t at = 0;
        for (uint64_t i = 0; i < n_entries[t]; i++) {
            at += put(data + at, dtype, value_of(i));
        }
        assert_int_equal(safetensors_write(w, t, 0, data, at, &err), FLO_OK);
    }
    assert_int_equal(safetensors_finish(w, &err), FLO_OK);
}

/* kernels [CHANNELS][IN][TAPS], taps [CHANNELS][1][COLUMNS] */
static void write_kernels(void)
{
    static const safetensors_entry entries[2] = {{.name = "thinker.kernels",
                                                  .dtype = DTYPE_BF16,
                                                  .n_dims = 3,
                                                  .shape = {CHANNELS, IN, TAPS}},
                                                 {.name = "thinker.taps",
                                                  .dtype = DTYPE_BF16,
                                                  .n_dims = 3,
                                                  .shape = {CHANNELS, 1, COLUMNS}}};
    static unsigned char data[CHANNELS * COLUMNS * 2];
    safetensors_writer *w;
    size_t n_bytes = 0;
    for (uint64_t i = 0; i < CHANNELS * COLUMNS; i++) {
        n_bytes += put(data + n_bytes, DTYPE_BF16, value_of(i));
    }
    assert_int_equal(
        safetensors_create(&w, temp_path(folder, "model.safetensors"), entries, 2, &err), FLO_OK);
    assert_int_equal(safetensors_write(w, 0, 0, data, n_bytes, &err), FLO_OK);
    assert_int_equal(safetensors_write(w, 1, 0, data, n_bytes, &err), FLO_OK);
    assert_int_equal(safetensors_finish(w, &err), FLO_OK);
}

static uint64_t told_done, told_total;

static void note_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    told_done = done;
    told_total = total;
}

typedef struct loaded {
    packed_matrix plain, ordered;
    const float *bias;
    const bf16 *table;
    void *region;
    uint64_t region_bytes;
} loaded;

static flo_code load(loaded *w, const weights_source *source, const char *weight_name)
{
    weight_loader *l;
    uint64_t bias = CHANNELS * sizeof(float), table = TABLE_ROWS * COLUMNS * sizeof(bf16);
    w->region_bytes =
        2 * plan_matrix_bytes(CHANNELS, COLUMNS) + (bias + 63) / 64 * 64 + (table + 63) / 64 * 64;
    assert_int_equal(weight_loader_new(&l, w->region_bytes, source, &err), FLO_OK);
    w->plain = weight_matrix(l, CHANNELS, COLUMNS);
    weight_rows(l, &w->plain, weight_name, 0, CHANNELS, 4, kernel_shape, NULL);
    w->ordered = weight_matrix(l, CHANNELS, COLUMNS);
    weight_rows(l, &w->ordered, weight_name, 0, CHANNELS, 4, kernel_shape, order);
    w->bias = weight_vector(l, "thinker.conv.bias", CHANNELS);
    w->table = weight_table(l, "thinker.table", TABLE_ROWS, COLUMNS);
    return weight_loader_run(l, &w->region, pool, note_progress, NULL, &err);
}

static flo_code load_file(loaded *w, const char *weight_name)
{
    checkpoint *c;
    assert_int_equal(checkpoint_open(&c, folder, &err), FLO_OK);
    flo_code code = load(w, &(weights_source){.checkpoint = c}, weight_name);
    checkpoint_close(c);
    return code;
}

static void columns_come_in_the_order_asked_for(void **state)
{
    (void)state;
    static const tensor_dtype dtypes[] = {DTYPE_BF16, DTYPE_F16, DTYPE_F32};
    for (int d = 0; d < 3; d++) {
        loaded w;
        write_checkpoint(dtypes[d]);
        if (load_file(&w, "thinker.conv.weight") != FLO_OK) {
            fail_msg("%s", err.text);
        }
        assert_true(told_done == told_total && told_total > 0);
        for (int32_t row = 0; row < CHANNELS; row++) {
            float plain[COLUMNS], ordered[COLUMNS];
            matrix_unpack_row(plain, &w.plain, row);
            matrix_unpack_row(ordered, &w.ordered, row);
            for (int32_t c = 0; c < COLUMNS; c++) {
                assert_true(plain[c] == value_of((uint64_t)(row * COLUMNS + c)));
                assert_true(ordered[c] == value_of((uint64_t)(row * COLUMNS + order[c])));
            }
            assert_true(w.bias[row] == value_of((uint64_t)row));
        }
        for (uint64_t i = 0; i < TABLE_ROWS * COLUMNS; i++) {
            assert_true(bf16_to_f32(w.table[i]) == value_of(i));
        }
        weight_region_free(w.region, w.region_bytes);
    }
}

static void made_up_biases_are_zero_and_columns_follow_the_order(void **state)
{
    (void)state;
    loaded w;
    assert_int_equal(load(&w, &(weights_source){.seed = 5}, "thinker.conv.weight"), FLO_OK);
    for (int32_t row = 0; row < CHANNELS; row++) {
        float plain[COLUMNS], ordered[COLUMNS];
        matrix_unpack_row(plain, &w.plain, row);
        matrix_unpack_row(ordered, &w.ordered, row);
        for (int32_t c = 0; c < COLUMNS; c++) {
            assert_true(ordered[c] == plain[order[c]]);
        }
        assert_true(w.bias[row] == 0.0f);
    }
    weight_region_free(w.region, w.region_bytes);
}

/* The tensor [CHANNELS][IN][9] as a transposed convolution of stride 3 from CHANNELS to IN. */
static void a_transposed_convolution_makes_its_time_steps_together(void **state)
{
    (void)state;
    enum { STRIDE = 3, SEEN = TAPS / STRIDE };
    static const int64_t as_taps[3] = {CHANNELS, 1, COLUMNS};
    checkpoint *c;
    weight_loader *l;
    void *region;
    write_kernels();
    assert_int_equal(checkpoint_open(&c, folder, &err), FLO_OK);
    uint64_t bytes = plan_matrix_bytes(STRIDE * IN, SEEN * CHANNELS) +
                     plan_array_bytes(COLUMNS, CHANNELS, sizeof(float));
    weights_source source = {.checkpoint = c};
    assert_int_equal(weight_loader_new(&l, bytes, &source, &err), FLO_OK);
    packed_matrix w = weight_matrix(l, STRIDE * IN, SEEN * CHANNELS);
    weight_transposed(l, &w, "thinker.kernels", CHANNELS, IN, TAPS, STRIDE);
    const float *taps = weight_taps(l, "thinker.taps", CHANNELS, COLUMNS, as_taps);
    assert_int_equal(weight_loader_run(l, &region, pool, note_progress, NULL, &err), FLO_OK);
    for (int32_t row = 0; row < STRIDE * IN; row++) {
        float out[SEEN * CHANNELS];
        matrix_unpack_row(out, &w, row);
        for (int32_t k = 0; k < SEEN * CHANNELS; k++) {
            int32_t place = (SEEN - 1 - k / CHANNELS) * STRIDE + row / IN; /* of the kernel */
            int32_t at = (k % CHANNELS * IN + row % IN) * TAPS + place;
            assert_true(out[k] == value_of((uint64_t)at));
        }
    }
    for (int32_t i = 0; i < CHANNELS * COLUMNS; i++) {
        int32_t at = i % CHANNELS * COLUMNS + i / CHANNELS;
        assert_true(taps[i] == value_of((uint64_t)at));
    }
    weight_region_free(region, bytes);
    checkpoint_close(c);
}

static void the_first_fault_is_told(void **state)
{
    (void)state;
    loaded w;
    write_checkpoint(DTYPE_BF16);
    assert_int_equal(load_file(&w, "thinker.absent.weight"), FLO_FAIL);
    assert_non_null(strstr(err.text, "thinker.absent.weight"));
    assert_int_equal(load_file(&w, "thinker.table"), FLO_FAIL);
    assert_non_null(strstr(err.text, "[70, 5, 3, 3]"));
}

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(folder);
    for (int32_t c = 0; c < COLUMNS; c++) { /* [tap][in] of [in][tap] */
        order[c] = c % IN * TAPS + c / IN;
    }
    return thread_pool_new(&pool, 2, NULL, &err) != FLO_OK;
}

static int clean_up(void **state)
{
    (void)state;
    thread_pool_free(pool);
    temp_folder_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_come_in_the_order_asked_for),
        cmocka_unit_test(made_up_biases_are_zero_and_columns_follow_the_order),
        cmocka_unit_test(a_transposed_convolution_makes_its_time_steps_together),
        cmocka_unit_test(the_first_fault_is_told),
    };
    return cmocka_run_group_tests(tests, set_up, clean_up);
}

/*
 * check_matmul.c - packed weights come back as they went in; every variant of y = x W^T gives the
 * definition's bits on any shape; the definition is within its bound of the sum in f64; and no
 * result depends on how many rows, panels or threads share the call.
 *
 * Bound. y is a sum of n products, each term entering by one fused step with a relative error of at
 * most u of the partial sum; to first order |error| <= n u sum |w x|. Twice that covers the higher
 * orders for n u < 1/2.
 *
 * FLOTILLA_BENCH=1 prints rates beside what the same threads read from memory in the same run.
 */
#include "cases.h"

#include "worker/thread_pool.h"

#include <sys/mman.h>

static bf16 narrowed(float f) /* cut, not rounded: any bf16 will do */
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (bf16)(bits >> 16);
}

typedef struct matrix_case {
    int32_t rows, columns;
    bf16 *plain;  /* [rows][columns] */
    bf16 *packed; /* exactly as long as it must be */
    packed_matrix w;
} matrix_case;

static matrix_case matrix_new(int32_t rows, int32_t columns, bool wild, uint64_t *seed)
{
    matrix_case c = {.rows = rows, .columns = columns};
    size_t n = (size_t)rows * (size_t)columns;
    c.plain = malloc(n > 0 ? n * sizeof *c.plain : 1);
    assert_non_null(c.plain);
    for (size_t i = 0; i < n; i++) {
        c.plain[i] = narrowed(wild ? case_wild(seed) : case_uniform(seed));
    }
    size_t bytes = packed_matrix_elements(rows, columns) * sizeof *c.packed;
    c.packed = aligned_alloc(64, bytes > 0 ? bytes : 64);
    assert_non_null(c.packed);
    memset(c.packed, 0xa5, bytes);
    matrix_pack_rows(c.packed, rows, columns, c.plain, 0, rows);
    c.w = (packed_matrix){c.packed, rows, columns};
    return c;
}

static void matrix_free(matrix_case *c)
{
    free(c->plain);
    free(c->packed);
}

static const int32_t odd_rows[] = {1, 3, 16, 17, 63, 64, 65, 130, 192};
static const int32_t odd_columns[] = {0, 1, 2, 3, 17, 31, 64, 127, 130, 1025};
enum { N_ROWS = 9, N_COLUMNS = 10 };

static void a_line_holds_sixteen_rows_of_two_columns(void **state)
{
    (void)state;
    uint64_t seed = 1;
    matrix_case c = matrix_new(100, 7, false, &seed);
    for (int32_t row = 0; row < 128; row++) {
        for (int32_t k = 0; k < 8; k++) {
            size_t at = (size_t)(row / 64) * (4 * 4 * 16 * 2) + (size_t)(k / 2) * (4 * 16 * 2) +
                        (size_t)(row % 64 / 16) * (16 * 2) + (size_t)(row % 16) * 2 +
                        (size_t)(k % 2);
            bf16 want = row < 100 && k < 7 ? c.plain[row * 7 + k] : 0;
            assert_int_equal(c.packed[at], want);
        }
    }
    matrix_free(&c);
}

static void packed_rows_come_back(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (int32_t r = 0; r < N_ROWS; r++) {
        for (int32_t k = 0; k < N_COLUMNS; k++) {
            matrix_case c = matrix_new(odd_rows[r], odd_columns[k], true, &seed);
            float *row = case_floats(c.columns);
            for (int32_t i = 0; i < c.rows; i++) {
                matrix_unpack_row(row, &c.w, i);
                for (int32_t j = 0; j < c.columns; j++) {
                    assert_int_equal(narrowed(row[j]), c.plain[i * c.columns + j]);
                }
            }
            free(row);
            matrix_free(&c);
        }
    }
}

static void slabs_of_any_height_pack_to_the_same_bytes(void **state)
{
    (void)state;
    uint64_t seed = 3;
    static const int32_t heights[] = {1, 5, 64, 100};
    matrix_case c = matrix_new(150, 33, true, &seed);
    size_t bytes = packed_matrix_elements(150, 33) * sizeof(bf16);
    bf16 *again = malloc(bytes);
    char *shifted = malloc(150 * 33 * sizeof(bf16) + 1); /* a source at an odd address */
    assert_non_null(again);
    assert_non_null(shifted);
    memcpy(shifted + 1, c.plain, 150 * 33 * sizeof(bf16));
    for (int32_t h = 0; h < 4; h++) {
        memset(again, 0x5a, bytes);
        for (int32_t first = 0; first < 150; first += heights[h]) {
            int32_t n = 150 - first < heights[h] ? 150 - first : heights[h];
            const void *source = shifted + 1 + (size_t)first * 33 * sizeof(bf16);
            matrix_pack_rows(again, 150, 33, source, first, n);
        }
        assert_memory_equal(again, c.packed, bytes);
    }
    free(shifted);
    free(again);
    matrix_free(&c);
}

/* One case of every variant against the definition; rows of x and y lie apart, with canaries
 * between. */
static void hold_variants_to_the_definition(const matrix_case *c, int32_t n_rows, bool wild,
                                            uint64_t *seed)
{
    int32_t x_stride = c->columns + 3;
    int32_t y_stride = c->rows + 2;
    float *x = case_uniforms((n_rows + 1) * x_stride, seed);
    for (int32_t i = 0; wild && i < n_rows * x_stride; i++) {
        x[i] = case_wild(seed);
    }
    float *want = case_uniforms(n_rows * y_stride, seed);
    float *before = case_copy(want, n_rows * y_stride);
    int32_t n_panels = packed_panels(c->rows);
    matmul_bf16_ref(want, (size_t)y_stride, x, (size_t)x_stride, n_rows, &c->w, 0, n_panels);
    for (int32_t m = 0; m < n_rows; m++) {
        assert_memory_equal(want + m * y_stride + c->rows, before + m * y_stride + c->rows,
                            2 * sizeof(float));
    }
    for (int32_t v = 1; v < CASE_ISAS; v++) {
        const kernel_table *t = kernels_variant(case_isas[v]);
        if (t == NULL) {
            continue;
        }
        char what[96];
        snprintf(what, sizeof what, "%d rows x [%d][%d]", n_rows, c->rows, c->columns);
        float *got = case_copy(before, n_rows * y_stride);
        t->matmul_bf16(got, (size_t)y_stride, x, (size_t)x_stride, n_rows, &c->w, 0, n_panels);
        case_same_bits(what, t->isa, got, want, n_rows * y_stride);
        free(got);
    }
    free(before);
    free(want);
    free(x);
}

static void every_variant_gives_the_bits_of_the_definition(void **state)
{
    (void)state;
    uint64_t seed = 4;
    static const int32_t few[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 13};
    for (int32_t r = 0; r < N_ROWS; r++) {
        for (int32_t k = 0; k < N_COLUMNS; k++) {
            bool wild = (r + k) % 2 != 0;
            matrix_case c = matrix_new(odd_rows[r], odd_columns[k], wild, &seed);
            for (int32_t n = 0; n < 10; n++) {
                if (c.columns > 1000 && n % 3 != 1) {
                    continue; /* the definition is slow */
                }
                hold_variants_to_the_definition(&c, few[n], wild, &seed);
            }
            matrix_free(&c);
        }
    }
}

static void columns_in_pieces_give_the_bits_of_one_stream(void **state)
{
    (void)state;
    uint64_t seed = 5;
    matrix_case c = matrix_new(70, 2309, false, &seed);
    hold_variants_to_the_definition(&c, 17, false, &seed);
    matrix_free(&c);
}

static void nan_and_infinity_pass_through_as_in_the_definition(void **state)
{
    (void)state;
    uint64_t seed = 6;
    matrix_case c = matrix_new(66, 9, false, &seed);
    c.plain[3 * 9 + 2] = 0x7fc1;  /* NaN */
    c.plain[65 * 9 + 8] = 0x7f80; /* inf */
    c.plain[17 * 9 + 1] = 0xff80; /* -inf */
    c.plain[18 * 9 + 1] = 0x0001; /* the smallest subnormal */
    matrix_pack_rows(c.packed, 66, 9, c.plain, 0, 66);
    hold_variants_to_the_definition(&c, 7, true, &seed);
    matrix_free(&c);
}

static void the_definition_is_within_its_bound_of_the_exact_sum(void **state)
{
    (void)state;
    uint64_t seed = 7;
    static const int32_t columns[] = {1, 17, 768, 2048};
    for (int32_t j = 0; j < 4; j++) {
        int32_t n = columns[j];
        matrix_case c = matrix_new(20, n, false, &seed);
        float *x = case_uniforms(n, &seed);
        float y[20];
        matmul_bf16_ref(y, 20, x, (size_t)n, 1, &c.w, 0, 1);
        for (int32_t i = 0; i < 20; i++) {
            double exact = 0.0;
            double magnitude = 0.0;
            for (int32_t k = 0; k < n; k++) {
                double term = (double)x[k] * (double)bf16_to_f32(c.plain[i * n + k]);
                exact += term;
                magnitude += fabs(term);
            }
            assert_true(fabs((double)y[i] - exact) <= 2.0 * n * case_u * magnitude);
        }
        free(x);
        matrix_free(&c);
    }
}

typedef struct shared_matmul {
    const kernel_table *t;
    const packed_matrix *w;
    float *y;
    const float *x;
    int32_t n_rows;
} shared_matmul;

static void multiply_part(void *arg, int32_t thread, int32_t n_threads)
{
    const shared_matmul *s = arg;
    int32_t n = packed_panels(s->w->rows);
    s->t->matmul_bf16(s->y, (size_t)s->w->rows, s->x, (size_t)s->w->columns, s->n_rows, s->w,
                      partition_begin(n, thread, n_threads),
                      partition_begin(n, thread + 1, n_threads));
}

static void multiply_panel(void *arg, int32_t item, int32_t thread)
{
    (void)thread;
    const shared_matmul *s = arg;
    s->t->matmul_bf16(s->y, (size_t)s->w->rows, s->x, (size_t)s->w->columns, s->n_rows, s->w, item,
                      item + 1);
}

static void results_do_not_depend_on_rows_panels_or_threads(void **state)
{
    (void)state;
    enum { ROWS = 300, COLUMNS = 129, N = 20 };
    uint64_t seed = 8;
    matrix_case c = matrix_new(ROWS, COLUMNS, false, &seed);
    float *x = case_uniforms(N * COLUMNS, &seed);
    float *whole = case_floats(N * ROWS);
    float *parts = case_floats(N * ROWS);
    for (int32_t v = 0; v < CASE_ISAS; v++) {
        const kernel_table *t = kernels_variant(case_isas[v]);
        if (t == NULL) {
            continue;
        }
        t->matmul_bf16(whole, ROWS, x, COLUMNS, N, &c.w, 0, packed_panels(ROWS));
        for (int32_t height = 1; height <= 9; height++) {
            memset(parts, 0xff, N * ROWS * sizeof *parts);
            for (int32_t m = 0; m < N; m += height) {
                int32_t n = N - m < height ? N - m : height;
                for (int32_t p = 0; p < packed_panels(ROWS); p++) {
                    t->matmul_bf16(parts + m * ROWS, ROWS, x + m * COLUMNS, COLUMNS, n, &c.w, p,
                                   p + 1);
                }
            }
            case_same_bits("rows and panels apart", t->isa, parts, whole, N * ROWS);
        }
        shared_matmul s = {t, &c.w, parts, x, N};
        for (int32_t n_threads = 1; n_threads <= 8; n_threads++) {
            thread_pool *pool = NULL;
            flo_err err = {""};
            assert_int_equal(thread_pool_new(&pool, n_threads, NULL, &err), FLO_OK);
            memset(parts, 0xff, N * ROWS * sizeof *parts);
            thread_pool_run(pool, multiply_part, &s);
            case_same_bits("threads", t->isa, parts, whole, N * ROWS);
            memset(parts, 0xff, N * ROWS * sizeof *parts);
            thread_pool_each(pool, packed_panels(ROWS), multiply_panel, &s);
            case_same_bits("panels by threads", t->isa, parts, whole, N * ROWS);
            thread_pool_free(pool);
        }
    }
    free(parts);
    free(whole);
    free(x);
    matrix_free(&c);
}

/* ---- rates ---- */

typedef struct bench {
    const kernel_table *t;
    bf16 *weights;
    size_t n_elements;
    packed_matrix *w; /* [n_matrices] */
    int32_t n_matrices;
    float *x, *y;
    int32_t n_rows;
    uint64_t seen[8]; /* keeps what was read from being dropped */
} bench;

typedef uint64_t vector512 __attribute__((vector_size(64)));

#if defined(__x86_64__)
#define WIDE_TARGET __attribute__((target("avx512f")))
#else
#define WIDE_TARGET
#endif

WIDE_TARGET static void read_part(void *arg, int32_t thread, int32_t n_threads)
{
    bench *b = arg;
    const vector512 *lines = (const vector512 *)(const void *)b->weights;
    int32_t n = (int32_t)(b->n_elements / 128);
    vector512 a = {0};
    vector512 c = {0};
    for (int32_t i = partition_begin(n, thread, n_threads);
         i < partition_begin(n, thread + 1, n_threads); i++) {
        a ^= lines[(size_t)i * 4];
        c ^= lines[(size_t)i * 4 + 1];
        a ^= lines[(size_t)i * 4 + 2];
        c ^= lines[(size_t)i * 4 + 3];
    }
    a ^= c;
    b->seen[thread % 8] += a[0] + a[3] + a[7];
}

static void stream_part(void *arg, int32_t thread, int32_t n_threads)
{
    bench *b = arg;
    for (int32_t i = 0; i < b->n_matrices; i++) {
        const packed_matrix *w = &b->w[i];
        int32_t n = packed_panels(w->rows);
        b->t->matmul_bf16(b->y, (size_t)w->rows, b->x, (size_t)w->columns, b->n_rows, w,
                          partition_begin(n, thread, n_threads),
                          partition_begin(n, thread + 1, n_threads));
    }
}

/* Median seconds of nine runs of a task. */
static double median_s(thread_pool *pool, void (*task)(void *, int32_t, int32_t), bench *b)
{
    double took[9];
    for (int32_t i = 0; i < 9; i++) {
        double began = case_now_s();
        thread_pool_run(pool, task, b);
        double t = case_now_s() - began;
        int32_t j = i;
        for (; j > 0 && took[j - 1] > t; j--) {
            took[j] = took[j - 1];
        }
        took[j] = t;
    }
    return took[4];
}

static void bench_shape(bench *b, thread_pool *pool, int32_t rows, int32_t columns, int32_t n_rows)
{
    b->n_matrices = (int32_t)(b->n_elements / packed_matrix_elements(rows, columns));
    if (n_rows > 6) {
        b->n_matrices = b->n_matrices < 4 ? b->n_matrices : 4;
    }
    for (int32_t i = 0; i < b->n_matrices; i++) {
        b->w[i] = (packed_matrix){b->weights + (size_t)i * packed_matrix_elements(rows, columns),
                                  rows, columns};
    }
    b->n_rows = n_rows;
    double s = median_s(pool, stream_part, b);
    double weights = (double)b->n_matrices * rows * columns;
    print_message("  %-6s %d threads, %3d rows x [%d][%d]: %6.1f GB/s of weights, %6.1f GFLOP/s\n",
                  b->t->isa, thread_pool_size(pool), n_rows, rows, columns, 2e-9 * weights / s,
                  2e-9 * weights * n_rows / s);
}

static void rates(void **state)
{
    (void)state;
    if (getenv("FLOTILLA_BENCH") == NULL || kernels_variant("avx512") == NULL) {
        skip();
    }
    bench b = {.n_elements = (size_t)1 << 28};
    b.weights = mmap(NULL, b.n_elements * 2 + (2 << 20), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(b.weights != MAP_FAILED);
    madvise(b.weights, b.n_elements * 2, MADV_HUGEPAGE);
    uint64_t seed = 9;
    for (size_t i = 0; i < b.n_elements; i++) {
        b.weights[i] = (bf16)(0x3c00 | (i * 2654435761u >> 7 & 0x80ff));
    }
    b.w = calloc(100000, sizeof *b.w);
    b.x = case_uniforms(512 * 8192, &seed);
    b.y = case_uniforms(512 * 8192, &seed);
    for (int32_t n_threads = 1; n_threads <= 2; n_threads++) {
        thread_pool *pool = NULL;
        flo_err err = {""};
        assert_int_equal(thread_pool_new(&pool, n_threads, (const int32_t[]){0, 1}, &err), FLO_OK);
        for (int32_t v = 2; v > 0; v--) {
            b.t = kernels_variant(case_isas[v]);
            double s = median_s(pool, read_part, &b);
            print_message("  plain read, %d threads: %.1f GB/s\n", n_threads,
                          2e-9 * (double)b.n_elements / s);
            for (int32_t n_rows = 1; n_rows <= 8; n_rows++) {
                bench_shape(&b, pool, 2048, 768, n_rows);
            }
            bench_shape(&b, pool, 768, 2048, 1);
            bench_shape(&b, pool, 2048, 768, 32);
            bench_shape(&b, pool, 2048, 768, 512);
            bench_shape(&b, pool, 2048, 2048, 512);
            bench_shape(&b, pool, 2048, 4096, 512);
            bench_shape(&b, pool, 1280, 7680, 512);
        }
        thread_pool_free(pool);
    }
    free(b.y);
    free(b.x);
    free(b.w);
    munmap(b.weights, b.n_elements * 2 + (2 << 20));
}

/* Seven taps of rows [time][run], jump apart: the same as the rows that they make when gathered. */
static void hold_runs(int32_t run, int32_t dilation, int32_t rows, int32_t n_rows, uint64_t *seed)
{
    enum { TAPS = 7 };
    int32_t columns = TAPS * run, n = (n_rows + (TAPS - 1) * dilation) * run;
    matrix_case c = matrix_new(rows, columns, false, seed);
    float *x = case_uniforms(n, seed), *gathered = case_floats(n_rows * columns);
    float *want = case_floats(n_rows * rows), *got = case_floats(n_rows * rows);
    for (int32_t i = 0; i < n_rows * columns; i++) {
        int32_t time = i / columns + i % columns / run * dilation;
        gathered[i] = x[time * run + i % run];
    }
    int32_t n_panels = packed_panels(rows);
    matmul_runs in = {x, (size_t)run, run, (size_t)(dilation * run)};
    matmul_bf16_ref(want, (size_t)rows, gathered, (size_t)columns, n_rows, &c.w, 0, n_panels);
    for (int32_t v = 0; v < CASE_ISAS; v++) {
        const kernel_table *t = kernels_variant(case_isas[v]);
        if (t != NULL) {
            memset(got, 0xff, (size_t)(n_rows * rows) * sizeof *got);
            t->matmul_runs_bf16(got, (size_t)rows, &in, n_rows, &c.w, 0, n_panels);
            case_same_bits("matmul_runs_bf16", t->isa, got, want, n_rows * rows);
        }
    }
    free(got);
    free(want);
    free(gathered);
    free(x);
    matrix_free(&c);
}

static void columns_in_runs_are_as_if_they_lay_together(void **state)
{
    (void)state;
    uint64_t seed = 9;
    static const int32_t runs[] = {1, 2, 3, 9, 64, 129, 150}, heights[] = {1, 2, 6, 7, 12, 13, 31};
    static const int32_t rows[] = {1, 32, 33, 64, 96, 130};
    for (int32_t r = 0; r < 7; r++) {
        for (int32_t h = 0; h < 7; h++) {
            for (int32_t o = 0; o < 6; o++) {
                hold_runs(runs[r], 1 + 2 * (h % 3), rows[o], heights[h], &seed);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_in_runs_are_as_if_they_lay_together),
        cmocka_unit_test(a_line_holds_sixteen_rows_of_two_columns),
        cmocka_unit_test(packed_rows_come_back),
        cmocka_unit_test(slabs_of_any_height_pack_to_the_same_bytes),
        cmocka_unit_test(every_variant_gives_the_bits_of_the_definition),
        cmocka_unit_test(columns_in_pieces_give_the_bits_of_one_stream),
        cmocka_unit_test(nan_and_infinity_pass_through_as_in_the_definition),
        cmocka_unit_test(the_definition_is_within_its_bound_of_the_exact_sum),
        cmocka_unit_test(results_do_not_depend_on_rows_panels_or_threads),
        cmocka_unit_test(rates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

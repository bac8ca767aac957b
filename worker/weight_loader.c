/*
 * weight_loader.c - declarations become a list of fills; a round of fills is shared by the threads.
 *
 * Staging is two slabs of SLAB_BYTES for each thread (as read, and converted or reordered); a
 * tensor's rows go through them in turn, so loading needs no memory beside the region but those.
 */
#include "worker/weight_loader.h"

#include "common/arena.h"
#include "common/check.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SLAB_BYTES = 1 << 20, JOBS_PER_ROUND_MIN = 16, NAME_BYTES = 160 };

typedef enum fill_kind {
    FILL_F32,        /* destination f32, as it is */
    FILL_PLAIN,      /* destination bf16 rows, as they are */
    FILL_PACK,       /* rows of a packed matrix, from first_row on */
    FILL_PANELS,     /* every second panel of a packed matrix, from panel first_row (0 or 1) on */
    FILL_TRANSPOSED, /* rows of inputs to columns of a packed matrix */
    FILL_TAPS        /* destination f32, columns as rows */
} fill_kind;

typedef struct fill_job {
    char name[NAME_BYTES]; /* of the tensor, for faults and as the seed of dummies */
    tensor_range range;    /* a vector is one row */
    fill_kind kind;
    void *destination;
    int32_t matrix_rows; /* FILL_PACK: of the whole packed matrix */
    int32_t first_row;
    const int32_t *order;   /* of the columns; NULL: as stored */
    int32_t kernel, stride; /* FILL_TRANSPOSED */
} fill_job;

struct weight_loader {
    weights_source source;
    unsigned char *region;
    uint64_t region_bytes, used_bytes;
    fill_job *jobs;
    size_t n_jobs, jobs_max;
    flo_code code; /* the first fault; nothing is done after it */
    flo_err err;
};

/* --- declaring ---------------------------------------------------------------------------------
 */

static void *region_map(uint64_t n_bytes)
{
    void *region = mmap(NULL, n_bytes > 0 ? n_bytes : 1, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) {
        return NULL;
    }
    madvise(region, n_bytes, MADV_HUGEPAGE); /* best effort; absence costs speed only */
    return region;
}

void weight_region_free(void *region, uint64_t region_bytes)
{
    if (region != NULL) {
        munmap(region, region_bytes > 0 ? region_bytes : 1);
    }
}

flo_code weight_loader_new(weight_loader **out, uint64_t region_bytes, const weights_source *source,
                           flo_err *err)
{
    weight_loader *l = calloc(1, sizeof *l);
    if (l == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for the list of tensors");
    }
    l->source = *source;
    l->region_bytes = region_bytes;
    l->region = region_map(region_bytes);
    if (l->region == NULL) {
        free(l);
        return flo_fail(err, FLO_FAIL,
                        "out of memory: could not reserve %llu bytes for the weights",
                        (unsigned long long)region_bytes);
    }
    *out = l;
    return FLO_OK;
}

void weight_fault(weight_loader *l, flo_code code, const flo_err *err)
{
    if (l->code == FLO_OK && code != FLO_OK) {
        l->code = code;
        l->err = *err;
    }
}

static void *place(weight_loader *l, uint64_t n_bytes)
{
    uint64_t rounded = (n_bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    CHECK(rounded <= l->region_bytes - l->used_bytes); /* the plan knows what is placed here */
    void *at = l->region + l->used_bytes;
    l->used_bytes += rounded;
    return at;
}

/* One more fill, NULL where there was a fault. */
static fill_job *add_job(weight_loader *l, const char *name, fill_kind kind, void *destination)
{
    if (l->code != FLO_OK) {
        return NULL;
    }
    if (l->n_jobs == l->jobs_max) {
        size_t more = l->jobs_max > 0 ? 2 * l->jobs_max : 256;
        fill_job *jobs = realloc(l->jobs, more * sizeof *jobs);
        if (jobs == NULL) {
            l->code = flo_fail(&l->err, FLO_FAIL, "out of memory for the list of tensors");
            return NULL;
        }
        l->jobs = jobs;
        l->jobs_max = more;
    }
    fill_job *job = &l->jobs[l->n_jobs++];
    *job = (fill_job){.kind = kind, .destination = destination};
    snprintf(job->name, sizeof job->name, "%s", name);
    return job;
}

/* The whole tensor of this shape is the job's range, as rows x columns. */
static void find_tensor(weight_loader *l, fill_job *job, int32_t n_dims, const int64_t *shape,
                        int64_t rows, int64_t columns)
{
    job->range = (tensor_range){.rows = rows, .columns = columns};
    if (l->source.checkpoint != NULL) {
        l->code = model_tensor_find(l->source.checkpoint, job->name, n_dims, shape,
                                    &job->range.tensor, &l->err);
    }
}

const float *weight_vectors(weight_loader *l, const char *const *names, int32_t n_names, int32_t n)
{
    float *at = place(l, (uint64_t)n_names * (uint64_t)n * sizeof *at);
    for (int32_t i = 0; i < n_names; i++) {
        fill_job *job = add_job(l, names[i], FILL_F32, at + (size_t)i * (size_t)n);
        if (job != NULL) {
            find_tensor(l, job, 1, (int64_t[]){n}, 1, n);
        }
    }
    return at;
}

const float *weight_vector(weight_loader *l, const char *name, int32_t n)
{
    return weight_vectors(l, &name, 1, n);
}

const bf16 *weight_table(weight_loader *l, const char *name, int32_t rows, int32_t columns)
{
    bf16 *at = place(l, (uint64_t)rows * (uint64_t)columns * sizeof *at);
    fill_job *job = add_job(l, name, FILL_PLAIN, at);
    if (job != NULL) {
        find_tensor(l, job, 2, (int64_t[]){rows, columns}, rows, columns);
    }
    return at;
}

packed_matrix weight_matrix(weight_loader *l, int32_t rows, int32_t columns)
{
    void *at = place(l, packed_matrix_elements(rows, columns) * sizeof(bf16));
    return (packed_matrix){.data = at, .rows = rows, .columns = columns};
}

static int64_t entries_of_row(int32_t n_dims, const int64_t *shape)
{
    int64_t n = 1;
    for (int32_t i = 1; i < n_dims; i++) {
        n *= shape[i];
    }
    return n;
}

void weight_rows(weight_loader *l, const packed_matrix *w, const char *name, int32_t first_row,
                 int32_t n_rows, int32_t n_dims, const int64_t *shape, const int32_t *order)
{
    const int64_t as_it_is[2] = {n_rows, w->columns};
    if (shape == NULL) {
        shape = as_it_is;
        n_dims = 2;
    }
    CHECK(shape[0] == n_rows && entries_of_row(n_dims, shape) == w->columns);
    fill_job *job = add_job(l, name, FILL_PACK, (void *)w->data);
    if (job != NULL) {
        job->matrix_rows = w->rows;
        job->first_row = first_row;
        job->order = order;
        find_tensor(l, job, n_dims, shape, n_rows, w->columns);
    }
}

void weight_range(weight_loader *l, const packed_matrix *w, const char *name, int32_t first_row,
                  const tensor_range *range)
{
    CHECK(range->columns == w->columns);
    fill_job *job = add_job(l, name, FILL_PACK, (void *)w->data);
    if (job != NULL) {
        job->matrix_rows = w->rows;
        job->first_row = first_row;
        job->range = *range;
    }
}

void weight_panels(weight_loader *l, const packed_matrix *w, const char *name, int32_t which,
                   const tensor_range *range)
{
    CHECK(range->columns == w->columns && (which == 0 || which == 1));
    CHECK(2 * packed_panels((int32_t)range->rows) == packed_panels(w->rows));
    fill_job *job = add_job(l, name, FILL_PANELS, (void *)w->data);
    if (job != NULL) {
        job->first_row = which;
        job->range = *range;
    }
}

void weight_transposed(weight_loader *l, const packed_matrix *w, const char *name, int32_t n_in,
                       int32_t n_out, int32_t kernel, int32_t stride)
{
    CHECK(kernel % stride == 0 && w->rows == stride * n_out &&
          w->columns == kernel / stride * n_in);
    fill_job *job = add_job(l, name, FILL_TRANSPOSED, (void *)w->data);
    if (job != NULL) {
        job->kernel = kernel;
        job->stride = stride;
        find_tensor(l, job, 3, (int64_t[]){n_in, n_out, kernel}, n_in, (int64_t)n_out * kernel);
    }
}

const float *weight_taps(weight_loader *l, const char *name, int32_t n_channels, int32_t n_taps,
                         const int64_t shape[3])
{
    CHECK(shape[0] * shape[1] * shape[2] == (int64_t)n_channels * n_taps);
    float *at = place(l, (uint64_t)n_channels * (uint64_t)n_taps * sizeof *at);
    fill_job *job = add_job(l, name, FILL_TAPS, at);
    if (job != NULL) {
        find_tensor(l, job, 3, shape, n_channels, n_taps);
    }
    return at;
}

/* --- checking ----------------------------------------------------------------------------------
 */

static size_t element_bytes(const fill_job *job)
{
    return job->range.tensor != NULL ? tensor_dtype_bytes(job->range.tensor->dtype) : sizeof(bf16);
}

static uint64_t job_bytes(const fill_job *job)
{
    return (uint64_t)job->range.rows * (uint64_t)job->range.columns * element_bytes(job);
}

/* What the filling below cannot take, said before anything is read. */
static void check_job(weight_loader *l, const fill_job *job)
{
    const checkpoint_tensor *t = job->range.tensor;
    if ((uint64_t)job->range.columns * element_bytes(job) > SLAB_BYTES) {
        l->code = flo_fail(&l->err, FLO_FAIL,
                           "tensor %s has rows of %lld entries, over the limit of %d bytes",
                           job->name, (long long)job->range.columns, SLAB_BYTES);
    } else if (t != NULL && t->dtype != DTYPE_BF16 && t->dtype != DTYPE_F16 &&
               t->dtype != DTYPE_F32) {
        l->code = flo_fail(&l->err, FLO_FAIL,
                           "tensor %s is %s, weights must be BF16 (F16 and F32 where exact)",
                           t->name, tensor_dtype_name(t->dtype));
    }
}

/* --- values ------------------------------------------------------------------------------------
 */

static float f32_of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float f32_of_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 1023;
    if (exponent == 31) {
        return f32_of_bits(sign | 0x7f800000 | fraction << 13);
    }
    if (exponent == 0) {
        float value = (float)fraction * 0x1p-24f;
        return sign != 0 ? -value : value;
    }
    return f32_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

/* Element i of raw data as f32. */
static float element(const void *raw, tensor_dtype dtype, size_t i)
{
    uint16_t half;
    float f;
    switch (dtype) {
    case DTYPE_F32:
        memcpy(&f, (const char *)raw + 4 * i, 4);
        return f;
    case DTYPE_F16:
        memcpy(&half, (const char *)raw + 2 * i, 2);
        return f32_of_f16(half);
    default:
        memcpy(&half, (const char *)raw + 2 * i, 2);
        return f32_of_bits((uint32_t)half << 16);
    }
}

static flo_code to_bf16(bf16 *out, const void *raw, tensor_dtype dtype, size_t n, const char *name,
                        flo_err *err)
{
    for (size_t i = 0; i < n; i++) {
        float value = element(raw, dtype, i);
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        if ((bits & 0xffff) != 0) {
            return flo_fail(err, FLO_FAIL,
                            "tensor %s is %s and has a value (%.9g) that bf16 cannot hold exactly; "
                            "convert the checkpoint to bfloat16 first",
                            name, tensor_dtype_name(dtype), (double)value);
        }
        out[i] = (bf16)(bits >> 16);
    }
    return FLO_OK;
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Dummy values: uniform in +-sqrt(3/columns), so that activations keep their size through the
 * layers; a pure function of seed, name and place. */
static void dummy_rows(bf16 *out, const fill_job *job, uint64_t seed, int64_t first_row,
                       int64_t rows)
{
    for (const char *p = job->name; *p != '\0'; p++) {
        seed = mix(seed + (unsigned char)*p);
    }
    float scale = 1.0f;
    while (scale * scale * (float)job->range.columns > 3.0f) {
        scale *= 0.5f;
    }
    for (int64_t i = 0; i < rows * job->range.columns; i++) {
        uint64_t at =
            job->range.first_byte / sizeof *out + (uint64_t)(first_row * job->range.columns + i);
        float value =
            ((float)(mix(seed + at * 0x9e3779b97f4a7c15u) >> 40) * 0x1p-23f - 1.0f) * scale;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        out[i] = (bf16)(bits >> 16);
    }
}

/* out: the rows of w with their columns in the order given. */
static void reorder_columns(bf16 *out, const bf16 *rows, const int32_t *order, int64_t n_rows,
                            int64_t columns)
{
    for (int64_t r = 0; r < n_rows; r++) {
        for (int64_t c = 0; c < columns; c++) {
            out[r * columns + c] = rows[r * columns + order[c]];
        }
    }
}

/* --- filling -----------------------------------------------------------------------------------
 */

/* Rows [first, first + n) of one of two matrices to its panels. */
static void pack_panels(const fill_job *job, const bf16 *rows, int32_t first, int32_t n)
{
    int32_t columns = (int32_t)job->range.columns, size = (int32_t)job->range.rows;
    size_t panel_elements = packed_panel_elements(columns);
    while (n > 0) {
        int32_t panel = first / PANEL_ROWS, row = first % PANEL_ROWS;
        int32_t in_panel =
            size - panel * PANEL_ROWS < PANEL_ROWS ? size - panel * PANEL_ROWS : PANEL_ROWS;
        int32_t here = in_panel - row < n ? in_panel - row : n;
        bf16 *at = (bf16 *)job->destination + (size_t)(2 * panel + job->first_row) * panel_elements;
        matrix_pack_rows(at, in_panel, columns, rows, row, here);
        rows += (size_t)here * (size_t)columns;
        first += here;
        n -= here;
    }
}

/* Input channels [first, first + n) to their columns. A panel's line holds two columns of 16 rows:
 * entries of one column are two elements apart. */
static void pack_transposed(const fill_job *job, const bf16 *rows, int32_t first, int32_t n)
{
    int32_t n_in = (int32_t)job->range.rows, n_out = (int32_t)job->range.columns / job->kernel;
    int32_t n_taps = job->kernel / job->stride;
    size_t panel_elements = packed_panel_elements(n_taps * n_in);
    for (int32_t i = first; i < first + n; i++, rows += job->range.columns) {
        for (int32_t k = 0; k < job->kernel; k++) {
            int32_t column = (n_taps - 1 - k / job->stride) * n_in + i;
            size_t in_panel = (size_t)(column / 2) * 2 * PANEL_ROWS + (size_t)(column % 2);
            int32_t row = k % job->stride * n_out;
            for (int32_t o = 0; o < n_out; o++, row++) {
                bf16 *panel =
                    (bf16 *)job->destination + (size_t)(row / PANEL_ROWS) * panel_elements;
                panel[in_panel + (size_t)(row % PANEL_ROWS) * 2] =
                    rows[(size_t)o * (size_t)job->kernel + (size_t)k];
            }
        }
    }
}

static void put_taps(const fill_job *job, const bf16 *rows, int32_t first, int32_t n)
{
    float *out = job->destination;
    int64_t n_channels = job->range.rows, n_taps = job->range.columns;
    for (int64_t r = 0; r < n; r++) {
        for (int64_t j = 0; j < n_taps; j++) {
            out[j * n_channels + first + r] = bf16_to_f32(rows[r * n_taps + j]);
        }
    }
}

static void put_rows(const fill_job *job, const bf16 *rows, int32_t first, int32_t n)
{
    size_t columns = (size_t)job->range.columns;
    switch (job->kind) {
    case FILL_PLAIN:
        memcpy((bf16 *)job->destination + (size_t)first * columns, rows,
               (size_t)n * columns * sizeof *rows);
        break;
    case FILL_PACK:
        matrix_pack_rows(job->destination, job->matrix_rows, (int32_t)columns, rows,
                         job->first_row + first, n);
        break;
    case FILL_PANELS:
        pack_panels(job, rows, first, n);
        break;
    case FILL_TRANSPOSED:
        pack_transposed(job, rows, first, n);
        break;
    case FILL_TAPS:
        put_taps(job, rows, first, n);
        break;
    case FILL_F32: /* fill_vector */
        break;
    }
}

typedef struct filler {
    const weight_loader *l;
    unsigned char *slabs; /* 2 * SLAB_BYTES for each thread */
    size_t first_job;
    _Atomic uint64_t bytes_done;
    _Atomic int failed; /* set by the first thread that meets a fault; *err is its */
    flo_err *err;
} filler;

static void dummy_vector(float *out, const fill_job *job)
{
    const char *end = strrchr(job->name, '.');
    float value = end != NULL && strcmp(end, ".bias") == 0 ? 0.0f : 1.0f;
    for (int64_t i = 0; i < job->range.columns; i++) {
        out[i] = value;
    }
}

static flo_code fill_vector(const filler *f, const fill_job *job, void *slab, flo_err *err)
{
    float *out = job->destination;
    int64_t n = job->range.columns;
    const checkpoint_tensor *t = job->range.tensor;
    if (t == NULL) {
        dummy_vector(out, job);
        return FLO_OK;
    }
    size_t size = tensor_dtype_bytes(t->dtype);
    CHECK((size_t)n * size <= SLAB_BYTES);
    flo_code code = checkpoint_read(f->l->source.checkpoint, t, 0, slab, (size_t)n * size, err);
    for (int64_t i = 0; i < n && code == FLO_OK; i++) {
        out[i] = element(slab, t->dtype, (size_t)i);
    }
    return code;
}

/* Rows [row, row + n) as bf16, in one of the two slabs; *other is the free one. */
static flo_code read_rows(const filler *f, const fill_job *job, int64_t row, int64_t n,
                          unsigned char *slab, bf16 **rows, bf16 **other, flo_err *err)
{
    const checkpoint_tensor *t = job->range.tensor;
    *rows = (bf16 *)(void *)slab;
    *other = (bf16 *)(void *)(slab + SLAB_BYTES);
    if (t == NULL) {
        dummy_rows(*rows, job, f->l->source.seed, row, n);
        return FLO_OK;
    }
    size_t row_bytes = (size_t)job->range.columns * element_bytes(job);
    flo_code code = checkpoint_read(f->l->source.checkpoint, t,
                                    job->range.first_byte + (uint64_t)row * row_bytes, slab,
                                    (size_t)n * row_bytes, err);
    if (code != FLO_OK || t->dtype == DTYPE_BF16) {
        return code;
    }
    *rows = *other;
    *other = (bf16 *)(void *)slab;
    return to_bf16(*rows, slab, t->dtype, (size_t)(n * job->range.columns), job->name, err);
}

static flo_code fill_matrix(filler *f, const fill_job *job, unsigned char *slab, flo_err *err)
{
    size_t row_bytes = (size_t)job->range.columns * element_bytes(job);
    CHECK(row_bytes <= SLAB_BYTES);
    int64_t rows_per_slab = (int64_t)(SLAB_BYTES / row_bytes);
    for (int64_t row = 0; row < job->range.rows; row += rows_per_slab) {
        int64_t n = job->range.rows - row < rows_per_slab ? job->range.rows - row : rows_per_slab;
        bf16 *rows, *other;
        flo_code code = read_rows(f, job, row, n, slab, &rows, &other, err);
        if (code != FLO_OK) {
            return code;
        }
        if (job->order != NULL) {
            reorder_columns(other, rows, job->order, n, job->range.columns);
            rows = other;
        }
        put_rows(job, rows, (int32_t)row, (int32_t)n);
        atomic_fetch_add(&f->bytes_done, (uint64_t)n * row_bytes);
    }
    return FLO_OK;
}

static void fill_one(void *arg, int32_t item, int32_t thread)
{
    filler *f = arg;
    if (atomic_load(&f->failed) != 0) {
        return;
    }
    const fill_job *job = &f->l->jobs[f->first_job + (size_t)item];
    unsigned char *slab = f->slabs + (size_t)thread * 2 * SLAB_BYTES;
    flo_err err;
    flo_code code =
        job->kind == FILL_F32 ? fill_vector(f, job, slab, &err) : fill_matrix(f, job, slab, &err);
    if (code != FLO_OK && atomic_exchange(&f->failed, 1) == 0) {
        *f->err = err;
    }
}

/* The end of a round that begins with job `first`: enough to be worth one. */
static size_t round_end(const weight_loader *l, size_t first)
{
    const uint64_t round_bytes_min = 64u << 20;
    uint64_t round_bytes = 0;
    size_t end = first;
    while (end < l->n_jobs && (round_bytes < round_bytes_min || end - first < JOBS_PER_ROUND_MIN)) {
        round_bytes += job_bytes(&l->jobs[end++]);
    }
    return end;
}

/* Rounds of jobs, so that progress can be told between them from the thread that owns MPI. */
static flo_code fill_all(weight_loader *l, thread_pool *pool,
                         void (*progress)(void *, uint64_t, uint64_t), void *arg, flo_err *err)
{
    uint64_t total = 0;
    for (size_t i = 0; i < l->n_jobs; i++) {
        total += l->jobs[i].kind == FILL_F32 ? 0 : job_bytes(&l->jobs[i]);
    }
    filler f = {.l = l, .err = err};
    arena slabs;
    flo_code code = arena_open(&slabs, (size_t)thread_pool_size(pool) * 2 * SLAB_BYTES, err);
    if (code != FLO_OK) {
        return code;
    }
    f.slabs = slabs.base;
    progress(arg, 0, total);
    while (f.first_job < l->n_jobs && code == FLO_OK) {
        size_t end = round_end(l, f.first_job);
        thread_pool_each(pool, (int32_t)(end - f.first_job), fill_one, &f);
        f.first_job = end;
        progress(arg, atomic_load(&f.bytes_done), total);
        code = atomic_load(&f.failed) != 0 ? FLO_FAIL : FLO_OK;
    }
    arena_close(&slabs);
    return code;
}

flo_code weight_loader_run(weight_loader *l, void **region, thread_pool *pool,
                           void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                           flo_err *err)
{
    for (size_t i = 0; i < l->n_jobs && l->code == FLO_OK; i++) {
        check_job(l, &l->jobs[i]);
    }
    CHECK(l->code != FLO_OK || l->used_bytes == l->region_bytes);
    flo_code code = l->code;
    if (code == FLO_OK) {
        code = fill_all(l, pool, progress, arg, err);
    } else {
        *err = l->err;
    }
    if (code == FLO_OK) {
        *region = l->region;
    } else {
        weight_region_free(l->region, l->region_bytes);
    }
    free(l->jobs);
    free(l);
    return code;
}

/*
 * weights.c - a walk over the worker's parts that places each tensor and notes how to fill it, then
 * the filling, many at a time.
 *
 * Staging is one slab of SLAB_BYTES for each thread; a tensor's rows go through it in turn, so
 * loading needs no memory beside the region but those slabs.
 */
#include "worker/thinker/weights.h"

#include "common/arena.h"
#include "common/check.h"
#include "common/model_tensors.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { SLAB_BYTES = 1 << 20, JOBS_PER_ROUND_MIN = 16 };

typedef enum fill_kind {
    FILL_F32,   /* destination f32, as it is */
    FILL_PLAIN, /* destination bf16 rows, as they are */
    FILL_PACK,  /* rows of a packed matrix, from first_row on */
    FILL_PANELS /* every second panel of a gate_up matrix, from panel first_row (0 or 1) on */
} fill_kind;

typedef struct fill_job {
    char name[160]; /* of the tensor, for faults and as the seed of dummies */
    tensor_range range;
    fill_kind kind;
    void *destination;
    int32_t matrix_rows; /* FILL_PACK: of the whole packed matrix */
    int32_t first_row;
} fill_job;

typedef struct builder {
    stage_weights *w;
    const model_config *m;
    const plan_worker *p;
    const weights_source *source;
    fill_job *jobs;
    size_t n_jobs, jobs_max;
    flo_code code; /* the first fault; nothing is done after it */
    flo_err *err;
} builder;

/* --- placing -----------------------------------------------------------------------------------
 */

static void *place(builder *b, uint64_t n_bytes)
{
    uint64_t rounded = (n_bytes + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    CHECK(rounded <=
          b->w->region_bytes - b->w->used_bytes); /* the plan knows what is placed here */
    void *at = (unsigned char *)b->w->region + b->w->used_bytes;
    b->w->used_bytes += rounded;
    return at;
}

static fill_job *add_job(builder *b, const char *name, fill_kind kind, void *destination)
{
    if (b->n_jobs == b->jobs_max) {
        size_t more = b->jobs_max > 0 ? 2 * b->jobs_max : 256;
        fill_job *jobs = realloc(b->jobs, more * sizeof *jobs);
        if (jobs == NULL) {
            b->code = flo_fail(b->err, FLO_FAIL, "out of memory for the list of tensors");
            return NULL;
        }
        b->jobs = jobs;
        b->jobs_max = more;
    }
    fill_job *job = &b->jobs[b->n_jobs++];
    *job = (fill_job){.kind = kind, .destination = destination};
    snprintf(job->name, sizeof job->name, "%s", name);
    return job;
}

static size_t element_bytes(const fill_job *job)
{
    return job->range.tensor != NULL ? tensor_dtype_bytes(job->range.tensor->dtype) : sizeof(bf16);
}

/* A whole tensor [rows][columns], or [columns] where rows is 0. */
static void find_tensor(builder *b, fill_job *job, int64_t rows, int64_t columns)
{
    job->range = (tensor_range){.rows = rows > 0 ? rows : 1, .columns = columns};
    if (b->source->checkpoint == NULL) {
        return;
    }
    int64_t shape[2] = {rows, columns};
    b->code = model_tensor_find(b->source->checkpoint, job->name, rows > 0 ? 2 : 1,
                                rows > 0 ? shape : shape + 1, &job->range.tensor, b->err);
}

static const float *place_vector(builder *b, const char *name, int32_t n)
{
    if (b->code != FLO_OK) {
        return NULL;
    }
    float *at = place(b, (uint64_t)n * sizeof *at);
    fill_job *job = add_job(b, name, FILL_F32, at);
    if (job != NULL) {
        find_tensor(b, job, 0, n);
    }
    return at;
}

static packed_matrix place_matrix(builder *b, int32_t rows, int32_t columns)
{
    void *at = place(b, packed_matrix_elements(rows, columns) * sizeof(bf16));
    return (packed_matrix){.data = at, .rows = rows, .columns = columns};
}

/* Tensor `name` [rows][columns] becomes rows [first_row, ...) of w. */
static void fill_rows(builder *b, const packed_matrix *w, const char *name, int32_t first_row,
                      int32_t rows)
{
    if (b->code != FLO_OK) {
        return;
    }
    fill_job *job = add_job(b, name, FILL_PACK, (void *)w->data);
    if (job != NULL) {
        job->matrix_rows = w->rows;
        job->first_row = first_row;
        find_tensor(b, job, rows, w->columns);
    }
}

static void layer_name(char out[160], int32_t layer, const char *rest)
{
    snprintf(out, 160, "thinker.model.layers.%d.%s", layer, rest);
}

static void place_attention(builder *b, layer_weights *l, int32_t layer)
{
    const text_config *t = &b->m->text;
    int32_t q_rows = t->n_heads * t->head_dim, kv_rows = t->n_kv_heads * t->head_dim;
    char name[160];
    layer_name(name, layer, "input_layernorm.weight");
    l->input_norm = place_vector(b, name, t->hidden_size);
    layer_name(name, layer, "post_attention_layernorm.weight");
    l->post_norm = place_vector(b, name, t->hidden_size);
    layer_name(name, layer, "self_attn.q_norm.weight");
    l->q_norm = place_vector(b, name, t->head_dim);
    layer_name(name, layer, "self_attn.k_norm.weight");
    l->k_norm = place_vector(b, name, t->head_dim);

    l->qkv = place_matrix(b, q_rows + 2 * kv_rows, t->hidden_size);
    layer_name(name, layer, "self_attn.q_proj.weight");
    fill_rows(b, &l->qkv, name, 0, q_rows);
    layer_name(name, layer, "self_attn.k_proj.weight");
    fill_rows(b, &l->qkv, name, q_rows, kv_rows);
    layer_name(name, layer, "self_attn.v_proj.weight");
    fill_rows(b, &l->qkv, name, q_rows + kv_rows, kv_rows);

    l->o = place_matrix(b, t->hidden_size, q_rows);
    layer_name(name, layer, "self_attn.o_proj.weight");
    fill_rows(b, &l->o, name, 0, t->hidden_size);
}

static swiglu_weights place_swiglu(builder *b, int32_t size)
{
    int32_t hidden = b->m->text.hidden_size;
    swiglu_weights s;
    s.gate_up = place_matrix(b, 2 * packed_panels(size) * PANEL_ROWS, hidden);
    s.down = place_matrix(b, hidden, size);
    return s;
}

static void place_dense(builder *b, layer_weights *l, int32_t layer)
{
    const text_config *t = &b->m->text;
    static const char *const halves[2] = {"mlp.gate_proj.weight", "mlp.up_proj.weight"};
    char name[160];
    l->dense = place_swiglu(b, t->dense_size);
    for (int half = 0; half < 2 && b->code == FLO_OK; half++) {
        layer_name(name, layer, halves[half]);
        fill_job *job = add_job(b, name, FILL_PANELS, (void *)l->dense.gate_up.data);
        if (job != NULL) {
            job->first_row = half;
            find_tensor(b, job, t->dense_size, t->hidden_size);
        }
    }
    layer_name(name, layer, "mlp.down_proj.weight");
    fill_rows(b, &l->dense.down, name, 0, t->hidden_size);
}

static void place_expert(builder *b, swiglu_weights *s, int32_t layer, int32_t expert)
{
    const text_config *t = &b->m->text;
    *s = place_swiglu(b, t->expert_size);
    for (int which = EXPERT_GATE; which <= EXPERT_DOWN && b->code == FLO_OK; which++) {
        bool down = which == EXPERT_DOWN;
        char name[160];
        snprintf(name, sizeof name, "thinker.model.layers.%d.mlp.experts.%d.%s_proj.weight", layer,
                 expert,
                 down                   ? "down"
                 : which == EXPERT_GATE ? "gate"
                                        : "up");
        fill_job *job = add_job(b, name, down ? FILL_PACK : FILL_PANELS,
                                (void *)(down ? s->down.data : s->gate_up.data));
        if (job == NULL) {
            return;
        }
        job->matrix_rows = s->down.rows;
        job->first_row = which == EXPERT_UP ? 1 : 0;
        if (b->source->checkpoint != NULL) {
            b->code = model_expert_find(b->source->checkpoint, b->m, layer, expert,
                                        (expert_matrix)which, &job->range, b->err);
        } else {
            job->range.rows = down ? t->hidden_size : t->expert_size;
            job->range.columns = down ? t->expert_size : t->hidden_size;
        }
    }
}

static void place_layer(builder *b, layer_weights *l, int32_t layer)
{
    const text_config *t = &b->m->text;
    bool home = b->p->place == 0;
    l->sparse = t->layer_is_sparse[layer];
    if (home) {
        place_attention(b, l, layer);
    }
    if (!l->sparse) {
        if (home) {
            place_dense(b, l, layer);
        }
        return;
    }
    if (home) {
        char name[160];
        layer_name(name, layer, "mlp.gate.weight");
        l->router = place_matrix(b, t->n_experts, t->hidden_size);
        fill_rows(b, &l->router, name, 0, t->n_experts);
    }
    l->experts = calloc((size_t)b->p->n_experts + 1, sizeof *l->experts);
    if (l->experts == NULL) {
        b->code = flo_fail(b->err, FLO_FAIL, "out of memory for the list of experts");
    }
    for (int32_t e = 0; e < b->p->n_experts && b->code == FLO_OK; e++) {
        place_expert(b, &l->experts[e], layer, b->p->first_expert + e);
    }
}

static void place_head(builder *b)
{
    const text_config *t = &b->m->text;
    stage_weights *w = b->w;
    if (b->p->has_final_norm) {
        w->final_norm = place_vector(b, "thinker.model.norm.weight", t->hidden_size);
    }
    if (b->p->n_vocab_rows > 0 && b->code == FLO_OK) {
        w->lm_head = place_matrix(b, b->p->n_vocab_rows, t->hidden_size);
        const char *name =
            t->tie_word_embeddings ? "thinker.model.embed_tokens.weight" : "thinker.lm_head.weight";
        fill_job *job = add_job(b, name, FILL_PACK, (void *)w->lm_head.data);
        if (job != NULL) {
            job->range.columns = t->hidden_size;
            if (b->source->checkpoint != NULL) {
                b->code =
                    model_lm_head_find(b->source->checkpoint, b->m, &job->range.tensor, b->err);
            }
            job->matrix_rows = b->p->n_vocab_rows;
            job->range.first_byte =
                (uint64_t)b->p->first_vocab_row * (uint64_t)t->hidden_size * element_bytes(job);
            job->range.rows = b->p->n_vocab_rows;
        }
    }
    if (b->p->has_embedding && b->code == FLO_OK) {
        void *at = place(b, (uint64_t)t->vocab_size * (uint64_t)t->hidden_size * sizeof(bf16));
        w->embedding = at;
        fill_job *job = add_job(b, "thinker.model.embed_tokens.weight", FILL_PLAIN, at);
        if (job != NULL) {
            find_tensor(b, job, t->vocab_size, t->hidden_size);
        }
    }
}

/* --- filling -----------------------------------------------------------------------------------
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

/* Rows [first, first + n) of gate or up to their panels of a gate_up matrix. */
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
    case FILL_F32:
        for (size_t i = 0; i < columns; i++) {
            ((float *)job->destination)[i] = f32_of_bits((uint32_t)rows[i] << 16);
        }
        break;
    }
}

typedef struct filler {
    const builder *b;
    unsigned char *slabs; /* one of 2 * SLAB_BYTES for each thread: raw and converted */
    size_t first_job;
    _Atomic uint64_t bytes_done;
    _Atomic int failed; /* set by the first thread that meets a fault; *err is its */
    flo_err *err;
} filler;

static flo_code fill_vector(const filler *f, const fill_job *job, void *slab, flo_err *err)
{
    float *out = job->destination;
    int64_t n = job->range.columns;
    const checkpoint_tensor *t = job->range.tensor;
    if (t == NULL) {
        for (int64_t i = 0; i < n; i++) {
            out[i] = 1.0f;
        }
        return FLO_OK;
    }
    size_t size = tensor_dtype_bytes(t->dtype);
    CHECK((size_t)n * size <= SLAB_BYTES);
    flo_code code = checkpoint_read(f->b->source->checkpoint, t, 0, slab, (size_t)n * size, err);
    for (int64_t i = 0; i < n && code == FLO_OK; i++) {
        out[i] = element(slab, t->dtype, (size_t)i);
    }
    return code;
}

static flo_code fill_matrix(filler *f, const fill_job *job, unsigned char *slab, flo_err *err)
{
    const checkpoint_tensor *t = job->range.tensor;
    size_t row_bytes = (size_t)job->range.columns * element_bytes(job);
    CHECK(row_bytes <= SLAB_BYTES);
    int64_t rows_per_slab = (int64_t)(SLAB_BYTES / row_bytes);
    bf16 *converted = (bf16 *)(void *)(slab + SLAB_BYTES);
    for (int64_t row = 0; row < job->range.rows; row += rows_per_slab) {
        int64_t n = job->range.rows - row < rows_per_slab ? job->range.rows - row : rows_per_slab;
        const bf16 *rows = (const bf16 *)(const void *)slab;
        flo_code code = FLO_OK;
        if (t == NULL) {
            dummy_rows((bf16 *)(void *)slab, job, f->b->source->seed, row, n);
        } else {
            code = checkpoint_read(f->b->source->checkpoint, t,
                                   job->range.first_byte + (uint64_t)row * row_bytes, slab,
                                   (size_t)n * row_bytes, err);
        }
        if (code == FLO_OK && t != NULL && t->dtype != DTYPE_BF16) {
            code = to_bf16(converted, slab, t->dtype, (size_t)(n * job->range.columns), job->name,
                           err);
            rows = converted;
        }
        if (code != FLO_OK) {
            return code;
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
    const fill_job *job = &f->b->jobs[f->first_job + (size_t)item];
    unsigned char *slab = f->slabs + (size_t)thread * 2 * SLAB_BYTES;
    flo_err err;
    flo_code code =
        job->kind == FILL_F32 ? fill_vector(f, job, slab, &err) : fill_matrix(f, job, slab, &err);
    if (code != FLO_OK && atomic_exchange(&f->failed, 1) == 0) {
        *f->err = err;
    }
}

/* What the filling below cannot take, said before anything is read. */
static flo_code check_jobs(const builder *b, flo_err *err)
{
    for (size_t i = 0; i < b->n_jobs; i++) {
        const fill_job *job = &b->jobs[i];
        const checkpoint_tensor *t = job->range.tensor;
        if ((uint64_t)job->range.columns * element_bytes(job) > SLAB_BYTES) {
            return flo_fail(err, FLO_FAIL,
                            "tensor %s has rows of %lld entries, over the limit of %d bytes",
                            job->name, (long long)job->range.columns, SLAB_BYTES);
        }
        if (t != NULL && t->dtype != DTYPE_BF16 && t->dtype != DTYPE_F16 && t->dtype != DTYPE_F32) {
            return flo_fail(err, FLO_FAIL,
                            "tensor %s is %s, weights must be BF16 (F16 and F32 where exact)",
                            t->name, tensor_dtype_name(t->dtype));
        }
    }
    return FLO_OK;
}

static uint64_t job_bytes(const fill_job *job)
{
    return (uint64_t)job->range.rows * (uint64_t)job->range.columns * element_bytes(job);
}

/* Rounds of jobs, so that progress can be told between them from the thread that owns MPI. */
static flo_code fill_all(builder *b, thread_pool *pool,
                         void (*progress)(void *, uint64_t, uint64_t), void *arg, flo_err *err)
{
    int32_t n_threads = thread_pool_size(pool);
    uint64_t total = 0, round_bytes_min = 64u << 20;
    for (size_t i = 0; i < b->n_jobs; i++) {
        total += b->jobs[i].kind == FILL_F32 ? 0 : job_bytes(&b->jobs[i]);
    }
    filler f = {.b = b, .err = err};
    arena slabs;
    flo_code code = arena_open(&slabs, (size_t)n_threads * 2 * SLAB_BYTES, err);
    if (code != FLO_OK) {
        return code;
    }
    f.slabs = slabs.base;
    progress(arg, 0, total);
    while (f.first_job < b->n_jobs && code == FLO_OK) {
        size_t end = f.first_job;
        uint64_t round_bytes = 0;
        while (end < b->n_jobs &&
               (round_bytes < round_bytes_min || end - f.first_job < JOBS_PER_ROUND_MIN)) {
            round_bytes += job_bytes(&b->jobs[end++]);
        }
        thread_pool_each(pool, (int32_t)(end - f.first_job), fill_one, &f);
        f.first_job = end;
        progress(arg, atomic_load(&f.bytes_done), total);
        code = atomic_load(&f.failed) != 0 ? FLO_FAIL : FLO_OK;
    }
    arena_close(&slabs);
    return code;
}

/* --- the whole ---------------------------------------------------------------------------------
 */

static flo_code take_region(stage_weights *w, uint64_t n_bytes, flo_err *err)
{
    void *region = mmap(NULL, n_bytes > 0 ? n_bytes : 1, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) {
        return flo_fail(err, FLO_FAIL,
                        "out of memory: could not reserve %llu bytes for the weights",
                        (unsigned long long)n_bytes);
    }
    madvise(region, n_bytes, MADV_HUGEPAGE); /* best effort; absence costs speed only */
    w->region = region;
    w->region_bytes = n_bytes;
    return FLO_OK;
}

flo_code stage_weights_load(stage_weights *w, const model_config *m, const plan_worker *p,
                            const weights_source *source, thread_pool *pool,
                            void (*progress)(void *arg, uint64_t done, uint64_t total), void *arg,
                            flo_err *err)
{
    memset(w, 0, sizeof *w);
    flo_code code = take_region(w, p->weight_bytes, err);
    if (code != FLO_OK) {
        return code;
    }
    builder b = {.w = w, .m = m, .p = p, .source = source, .err = err};
    w->n_layers = p->n_layers;
    w->layers = calloc((size_t)p->n_layers + 1, sizeof *w->layers);
    if (w->layers == NULL) {
        b.code = flo_fail(err, FLO_FAIL, "out of memory for the list of layers");
    }
    for (int32_t i = 0; i < p->n_layers && b.code == FLO_OK; i++) {
        place_layer(&b, &w->layers[i], p->first_layer + i);
    }
    if (b.code == FLO_OK) {
        place_head(&b);
    }
    if (b.code == FLO_OK) {
        b.code = check_jobs(&b, err);
    }
    if (b.code == FLO_OK) {
        b.code = fill_all(&b, pool, progress, arg, err);
    }
    free(b.jobs);
    if (b.code != FLO_OK) {
        stage_weights_free(w);
    }
    return b.code;
}

void stage_weights_free(stage_weights *w)
{
    if (w->region != NULL) {
        munmap(w->region, w->region_bytes > 0 ? w->region_bytes : 1);
    }
    for (int32_t i = 0; w->layers != NULL && i < w->n_layers; i++) {
        free(w->layers[i].experts);
    }
    free(w->layers);
    memset(w, 0, sizeof *w);
}

/*
 * check_weights.c - a checkpoint gives the same region of bytes however it is written down (one
 * tensor for each expert or fused, with or without the prefix, as bf16, f16 or f32), the region has
 * room in the plan, and what cannot be taken as it is is refused by name.
 */
#include "rig.h"

#include "common/model_tensors.h"
#include "common/safetensors_write.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TENSORS_MAX = 512 };

typedef struct written { /* how a checkpoint is written down */
    tensor_dtype dtype;
    bool fused, without_prefix, with_head;
    const char *spoilt;   /* a tensor with one value that bf16 does not hold */
    const char *left_out; /* a tensor that is missing */
    const char *reshaped; /* a tensor with a row more */
} written;

typedef struct tensor_list {
    const written *how;
    safetensors_entry entries[TENSORS_MAX];
    char names[TENSORS_MAX][160]; /* as published */
    char told[TENSORS_MAX][160];  /* as written */
    size_t n;
} tensor_list;

static tensor_list list;
static char folder[PATH_MAX];

/* Element i of a tensor: a multiple of 1/64 below 2, which all three types hold. */
static float value_of(const char *name, uint64_t i)
{
    uint64_t seed = i * 31;
    for (const char *p = name; *p != '\0'; p++) {
        seed = seed * 131 + (unsigned char)*p;
    }
    return (float)(rig_below(&seed, 255) - 127) / 64.0f;
}

static void note(const char *name, int32_t n_dims, const int64_t *shape)
{
    const written *how = list.how;
    if (how->left_out != NULL && strcmp(name, how->left_out) == 0) {
        return;
    }
    assert_true(list.n < TENSORS_MAX);
    snprintf(list.names[list.n], sizeof list.names[0], "%s", name);
    snprintf(list.told[list.n], sizeof list.told[0], "%s",
             how->without_prefix ? name + strlen("thinker.") : name);
    safetensors_entry *e = &list.entries[list.n];
    *e = (safetensors_entry){.name = list.told[list.n], .dtype = how->dtype, .n_dims = n_dims};
    memcpy(e->shape, shape, (size_t)n_dims * sizeof *shape);
    if (how->reshaped != NULL && strcmp(name, how->reshaped) == 0) {
        e->shape[0]++;
    }
    list.n++;
}

static void visit(void *arg, const expected_tensor *t)
{
    const model_config *m = arg;
    const char *expert = strstr(t->name, ".experts.");
    if (strcmp(t->name, "thinker.lm_head.weight") == 0 && !list.how->with_head) {
        return;
    }
    if (expert == NULL || !list.how->fused) {
        note(t->name, t->n_dims, t->shape);
    } else if (strstr(expert, ".experts.0.gate_proj") == expert) {
        char name[160];
        int stem = (int)(expert - t->name) + (int)strlen(".experts.");
        int64_t h = m->text.hidden_size, size = m->text.expert_size;
        snprintf(name, sizeof name, "%.*sgate_up_proj", stem, t->name);
        note(name, 3, (int64_t[]){m->text.n_experts, 2 * size, h});
        snprintf(name, sizeof name, "%.*sdown_proj", stem, t->name);
        note(name, 3, (int64_t[]){m->text.n_experts, h, size});
    }
}

/* Value i of tensor `name`, which may be a fused one. */
static float fused_value(const model_config *m, const char *name, uint64_t i)
{
    const char *expert = strstr(name, ".experts.");
    bool gate_up = strstr(name, "gate_up_proj") != NULL;
    if (expert == NULL || strstr(expert, ".weight") != NULL) {
        return value_of(name, i);
    }
    uint64_t one = (uint64_t)m->text.hidden_size * (uint64_t)m->text.expert_size;
    uint64_t each = gate_up ? 2 * one : one, in = i % each;
    const char *which = !gate_up ? "down" : in < one ? "gate" : "up";
    char published[200];
    snprintf(published, sizeof published, "%.*s%d.%s_proj.weight",
             (int)(expert - name) + (int)strlen(".experts."), name, (int)(i / each), which);
    return value_of(published, in % one);
}

static size_t put(unsigned char *at, tensor_dtype dtype, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint16_t half = (uint16_t)(bits >> 16);
    if (dtype == DTYPE_F32) {
        memcpy(at, &value, 4);
        return 4;
    }
    if (dtype == DTYPE_F16) {
        uint32_t exponent = bits >> 23 & 255, fraction = bits & 0x7fffff;
        half = (uint16_t)((bits >> 16 & 0x8000) |
                          (value == 0 ? 0 : (exponent - 112) << 10 | fraction >> 13));
    }
    memcpy(at, &half, 2);
    return 2;
}

static void write_checkpoint(const model_config *m, const written *how)
{
    flo_err err = {""};
    safetensors_writer *w;
    list.how = how;
    list.n = 0;
    model_tensors_each(m, NULL, visit, (void *)m);
    assert_int_equal(
        safetensors_create(&w, temp_path(folder, "model.safetensors"), list.entries, list.n, &err),
        FLO_OK);
    for (size_t t = 0; t < list.n; t++) {
        const safetensors_entry *e = &list.entries[t];
        uint64_t n = 1;
        for (int32_t d = 0; d < e->n_dims; d++) {
            n *= (uint64_t)e->shape[d];
        }
        unsigned char *data = malloc(n * 4 + 4);
        assert_non_null(data);
        size_t at = 0;
        for (uint64_t i = 0; i < n; i++) {
            float v = fused_value(m, list.names[t], i);
            bool spoilt = how->spoilt != NULL && strcmp(list.names[t], how->spoilt) == 0;
            at += put(data + at, e->dtype, spoilt && i == n - 1 ? 1.0009765625f : v);
        }
        assert_int_equal(safetensors_write(w, t, 0, data, at, &err), FLO_OK);
        free(data);
    }
    assert_int_equal(safetensors_finish(w, &err), FLO_OK);
}

/* --- loading -----------------------------------------------------------------------------------
 */

static uint64_t told_done, told_total;

static void note_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    assert_true(done >= told_done || done == 0);
    told_done = done;
    told_total = total;
}

static plan the_plan;

static void make_plan(const model_config *m, int32_t n_workers, int32_t n_stages)
{
    static plan_worker_facts facts[RIG_WORKERS_MAX];
    plan_misfit misfit;
    flo_err err;
    plan_request request = {.model = m,
                            .n_workers = n_workers,
                            .workers = facts,
                            .n_stages = n_stages,
                            .kv_tokens = 64,
                            .no_media = true};
    if (plan_make(&the_plan, &request, &misfit, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

static flo_code load(stage_weights *w, const model_config *m, int32_t worker, flo_err *err)
{
    checkpoint *c;
    thread_pool *pool;
    assert_int_equal(checkpoint_open(&c, folder, err), FLO_OK);
    assert_int_equal(thread_pool_new(&pool, 2, NULL, err), FLO_OK);
    weights_source source = {.checkpoint = c};
    told_done = told_total = 0;
    flo_code code = stage_weights_load(w, m, &the_plan.workers[worker], &source, pool,
                                       note_progress, NULL, err);
    thread_pool_free(pool);
    checkpoint_close(c);
    return code;
}

static void every_way_to_write_it_down_gives_the_same_bytes(void **state)
{
    (void)state;
    static const written ways[] = {
        {.dtype = DTYPE_BF16, .with_head = true},
        {.dtype = DTYPE_BF16, .with_head = true, .without_prefix = true},
        {.dtype = DTYPE_BF16, .with_head = true, .fused = true},
        {.dtype = DTYPE_F32, .with_head = true},
        {.dtype = DTYPE_F16, .with_head = true, .fused = true, .without_prefix = true},
        {.dtype = DTYPE_F32, .with_head = true, .fused = true},
    };
    model_config m = rig_model();
    m.has_vision = false;
    make_plan(&m, 5, 2);
    stage_weights first[5], again;
    flo_err err = {""};
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        write_checkpoint(&m, &ways[i]);
        for (int32_t w = 0; w < 5; w++) {
            stage_weights *into = i == 0 ? &first[w] : &again;
            if (load(into, &m, w, &err) != FLO_OK) {
                fail_msg("%s", err.text);
            }
            assert_true(told_done == told_total && told_total > 0);
            if (i > 0) {
                assert_int_equal(again.region_bytes, first[w].region_bytes);
                assert_memory_equal(again.region, first[w].region, again.region_bytes);
                stage_weights_free(&again);
            }
        }
    }
    for (int32_t w = 0; w < 5; w++) {
        stage_weights_free(&first[w]);
    }
}

static void hold_row(const packed_matrix *w, int32_t row, const char *name, int32_t source_row)
{
    float got[256];
    matrix_unpack_row(got, w, row);
    for (int32_t k = 0; k < w->columns; k++) {
        uint64_t at = (uint64_t)source_row * (uint64_t)w->columns + (uint64_t)k;
        assert_true(got[k] == value_of(name, at));
    }
}

static void rows_are_where_the_kernels_look_for_them(void **state)
{
    (void)state;
    model_config m = rig_model();
    m.has_vision = false;
    const text_config *t = &m.text;
    written how = {.dtype = DTYPE_BF16, .with_head = true};
    stage_weights w;
    flo_err err;
    write_checkpoint(&m, &how);
    make_plan(&m, 3, 1);
    assert_int_equal(load(&w, &m, 0, &err), FLO_OK);
    assert_true(the_plan.workers[0].n_experts > 1);
    const layer_weights *l = &w.layers[1];
    int32_t q = t->n_heads * t->head_dim, kv = t->n_kv_heads * t->head_dim;
    for (int32_t i = 0; i < kv; i++) {
        hold_row(&l->qkv, i, "thinker.model.layers.1.self_attn.q_proj.weight", i);
        hold_row(&l->qkv, q + i, "thinker.model.layers.1.self_attn.k_proj.weight", i);
        hold_row(&l->qkv, q + kv + i, "thinker.model.layers.1.self_attn.v_proj.weight", i);
    }
    for (int32_t i = 0; i < t->expert_size; i++) { /* below 64: one gate panel, one up panel */
        hold_row(&l->experts[1].gate_up, i, "thinker.model.layers.1.mlp.experts.1.gate_proj.weight",
                 i);
        hold_row(&l->experts[1].gate_up, 64 + i,
                 "thinker.model.layers.1.mlp.experts.1.up_proj.weight", i);
    }
    for (int32_t i = 0; i < t->dense_size; i++) { /* 70: two panels each */
        hold_row(&w.layers[2].dense.gate_up, i / 64 * 128 + i % 64,
                 "thinker.model.layers.2.mlp.gate_proj.weight", i);
        hold_row(&w.layers[2].dense.gate_up, i / 64 * 128 + 64 + i % 64,
                 "thinker.model.layers.2.mlp.up_proj.weight", i);
    }
    for (int32_t i = 0; i < t->head_dim; i++) {
        assert_true(l->k_norm[i] ==
                    value_of("thinker.model.layers.1.self_attn.k_norm.weight", (uint64_t)i));
    }
    stage_weights_free(&w);
    for (int32_t at = 1; at < 3; at++) { /* the others' rows of the head */
        const plan_worker *p = &the_plan.workers[at];
        assert_int_equal(load(&w, &m, at, &err), FLO_OK);
        for (int32_t i = 0; i < p->n_vocab_rows; i += 37) {
            hold_row(&w.lm_head, i, "thinker.lm_head.weight", p->first_vocab_row + i);
        }
        char name[160];
        snprintf(name, sizeof name, "thinker.model.layers.0.mlp.experts.%d.down_proj.weight",
                 p->first_expert);
        hold_row(&w.layers[0].experts[0].down, 3, name, 3);
        stage_weights_free(&w);
    }
}

static void a_tied_head_is_the_embedding_where_it_has_no_tensor(void **state)
{
    (void)state;
    model_config m = rig_model();
    m.has_vision = false;
    m.text.tie_word_embeddings = true;
    make_plan(&m, 2, 2);
    for (int with_head = 0; with_head <= 1; with_head++) {
        written how = {.dtype = DTYPE_BF16, .with_head = with_head == 1};
        stage_weights w;
        flo_err err;
        write_checkpoint(&m, &how);
        assert_int_equal(load(&w, &m, 1, &err), FLO_OK);
        hold_row(&w.lm_head, 1234,
                 with_head ? "thinker.lm_head.weight" : "thinker.model.embed_tokens.weight", 1234);
        stage_weights_free(&w);
    }
    m.text.tie_word_embeddings = false;
    written how = {.dtype = DTYPE_BF16};
    stage_weights w;
    flo_err err;
    write_checkpoint(&m, &how);
    assert_int_equal(load(&w, &m, 1, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "thinker.lm_head.weight"));
}

static void refused(const written *how, const char *name)
{
    model_config m = rig_model();
    stage_weights w;
    flo_err err = {""};
    m.has_vision = false;
    make_plan(&m, 1, 1);
    write_checkpoint(&m, how);
    assert_int_equal(load(&w, &m, 0, &err), FLO_FAIL);
    if (strstr(err.text, name) == NULL) {
        fail_msg("no %s in: %s", name, err.text);
    }
}

static void what_cannot_be_taken_is_refused_by_name(void **state)
{
    (void)state;
    static const char *const names[] = {"thinker.model.layers.3.mlp.gate.weight",
                                        "thinker.model.layers.0.mlp.experts.6.up_proj.weight",
                                        "thinker.model.layers.4.self_attn.q_norm.weight",
                                        "thinker.model.embed_tokens.weight"};
    for (int i = 0; i < 4; i++) {
        refused(&(written){.dtype = DTYPE_BF16, .with_head = true, .left_out = names[i]}, names[i]);
        refused(&(written){.dtype = DTYPE_BF16, .with_head = true, .reshaped = names[i]}, names[i]);
        if (i != 2) { /* norms are kept as f32 */
            refused(&(written){.dtype = DTYPE_F32, .with_head = true, .spoilt = names[i]},
                    names[i]);
        }
        refused(&(written){.dtype = DTYPE_I16, .with_head = true}, "I16");
    }
}

/* --- made-up weights ---------------------------------------------------------------------------
 */

static void made_up_weights_do_not_depend_on_the_split(void **state)
{
    (void)state;
    static rig whole, split;
    model_config m = rig_model();
    weights_source source = {.seed = 9};
    float a[256], b[256];
    rig_open(&whole, &m, &(rig_shape){1, 1, 1, false}, &source);
    rig_open(&split, &m, &(rig_shape){6, 2, 2, false}, &source);
    for (int32_t i = 0; i < 6; i++) {
        const plan_worker *p = &split.plan.workers[i];
        const stage_weights *w = &split.stages[i].weights;
        for (int32_t l = 0; l < p->n_layers; l++) {
            const layer_weights *all = &whole.stages[0].weights.layers[p->first_layer + l];
            for (int32_t e = 0; w->layers[l].sparse && e < p->n_experts; e++) {
                matrix_unpack_row(a, &w->layers[l].experts[e].gate_up, 65);
                matrix_unpack_row(b, &all->experts[p->first_expert + e].gate_up, 65);
                assert_memory_equal(a, b, (size_t)m.text.hidden_size * sizeof *a);
                assert_true(a[0] != 0.0f);
            }
        }
        for (int32_t v = 0; v < p->n_vocab_rows; v += 99) {
            matrix_unpack_row(a, &w->lm_head, v);
            matrix_unpack_row(b, &whole.stages[0].weights.lm_head, p->first_vocab_row + v);
            assert_memory_equal(a, b, (size_t)m.text.hidden_size * sizeof *a);
        }
    }
    rig_close(&whole);
    rig_close(&split);
}

/* Shapes drawn so that sizes lie on and beside whole panels and lines. */
static model_config random_model(uint64_t *seed)
{
    static const int32_t dims[] = {2, 4, 8, 16, 18, 30, 64};
    static const int32_t sizes[] = {1, 7, 16, 33, 63, 64, 65, 100, 128};
    model_config m = rig_model();
    text_config *t = &m.text;
    t->hidden_size = sizes[rig_below(seed, 9)];
    t->head_dim = dims[rig_below(seed, 7)];
    t->n_kv_heads = 1 + rig_below(seed, 4);
    t->n_heads = t->n_kv_heads * (1 + rig_below(seed, 3));
    t->n_layers = 1 + rig_below(seed, 5);
    t->n_experts = 1 + rig_below(seed, 9);
    t->n_experts_per_token = 1 + rig_below(seed, t->n_experts);
    t->expert_size = sizes[rig_below(seed, 9)];
    t->dense_size = sizes[rig_below(seed, 9)];
    t->vocab_size = 1 + rig_below(seed, 4000);
    for (int32_t i = 0; i < t->n_layers; i++) {
        t->layer_is_sparse[i] = rig_below(seed, 4) != 0;
    }
    t->layer_is_sparse[0] = true;
    return m;
}

static void what_is_loaded_is_what_is_planned(void **state)
{
    (void)state;
    uint64_t seed = 11;
    weights_source source = {.seed = 1};
    thread_pool *pool;
    flo_err err;
    assert_int_equal(thread_pool_new(&pool, 1, NULL, &err), FLO_OK);
    for (int32_t again = 0; again < 200; again++) {
        model_config m = random_model(&seed);
        int32_t stages = 1 + rig_below(&seed, m.text.n_layers);
        int32_t most = m.text.n_experts < 3 ? m.text.n_experts : 3;
        make_plan(&m, stages * (1 + rig_below(&seed, most)), stages);
        for (int32_t i = 0; i < the_plan.n_workers; i++) {
            const plan_worker *p = &the_plan.workers[i];
            stage_weights w;
            told_done = 0;
            assert_int_equal(
                stage_weights_load(&w, &m, p, &source, pool, note_progress, NULL, &err), FLO_OK);
            assert_int_equal(w.region_bytes, p->weight_bytes); /* all of them used: CHECKed */
            stage_weights_free(&w);
        }
    }
    thread_pool_free(pool);
}

static int set_up(void **state)
{
    (void)state;
    temp_folder_make(folder);
    return 0;
}

static int clean_up(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_to_write_it_down_gives_the_same_bytes),
        cmocka_unit_test(rows_are_where_the_kernels_look_for_them),
        cmocka_unit_test(a_tied_head_is_the_embedding_where_it_has_no_tensor),
        cmocka_unit_test(what_cannot_be_taken_is_refused_by_name),
        cmocka_unit_test(made_up_weights_do_not_depend_on_the_split),
        cmocka_unit_test(what_is_loaded_is_what_is_planned),
    };
    return cmocka_run_group_tests(tests, set_up, clean_up);
}

/*
 * check_model_tensors.c - the list of expected tensors is the published model's, and a checkpoint
 * that departs from it in any tensor is told so by name.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/inspect.h"
#include "common/model_tensors.h"
#include "common/safetensors_write.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char folder[PATH_MAX];
static model_config config;

static int make_folder(void **state)
{
    (void)state;
    temp_folder_make(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

/* ---- the published counts ---- */

typedef struct part_count {
    size_t n_tensors;
    uint64_t n_parameters;
} part_count;

static void count(void *arg, const expected_tensor *t)
{
    part_count *c = (part_count *)arg + t->component;
    uint64_t n = 1;
    for (int32_t i = 0; i < t->n_dims; i++) {
        n *= (uint64_t)t->shape[i];
    }
    c->n_tensors++;
    c->n_parameters += n;
}

static void read_config(const char *name)
{
    flo_err err = {{0}};
    if (model_config_read(&config, source_path(name), &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
}

static void the_list_has_the_published_counts(void **state)
{
    (void)state;
    part_count c[COMPONENT_COUNT] = {0}, text = {0}, all = {0};
    read_config("tests/golden/published-config");
    model_tensors_each(&config, NULL, count, c);
    for (int i = 0; i < COMPONENT_COUNT; i++) {
        part_count *sums[] = {&all, i <= COMPONENT_LM_HEAD ? &text : NULL};
        for (int k = 0; k < 2 && sums[k] != NULL; k++) {
            sums[k]->n_tensors += c[i].n_tensors;
            sums[k]->n_parameters += c[i].n_parameters;
        }
    }
    assert_int_equal(text.n_tensors, 18867);
    assert_int_equal(2 * text.n_parameters, 61065293824);
    assert_int_equal(c[COMPONENT_AUDIO].n_tensors, 525);
    assert_int_equal(2 * c[COMPONENT_AUDIO].n_parameters, 1295854336);
    assert_int_equal(c[COMPONENT_VISION].n_tensors, 351);
    assert_int_equal(2 * c[COMPONENT_VISION].n_parameters, 1077262816);
    assert_int_equal(all.n_tensors, 28010);
    assert_int_equal(all.n_parameters, 35259818545);
}

/* ---- checkpoints made from a list of entries ---- */

typedef struct entry_list {
    size_t n, capacity;
    safetensors_entry *items; /* names on the heap */
} entry_list;

static safetensors_entry *entry_add(entry_list *l, const char *name, int32_t n_dims,
                                    const int64_t *shape)
{
    if (l->n == l->capacity) {
        l->capacity = 2 * l->capacity + 1;
        l->items = realloc(l->items, l->capacity * sizeof *l->items);
        assert_non_null(l->items);
    }
    safetensors_entry *e = &l->items[l->n++];
    *e = (safetensors_entry){.name = strdup(name), .dtype = DTYPE_BF16, .n_dims = n_dims};
    memcpy(e->shape, shape, (size_t)n_dims * sizeof *shape);
    return e;
}

static void collect(void *arg, const expected_tensor *t)
{
    entry_add(arg, t->name, t->n_dims, t->shape);
}

static void entries_free(entry_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free((char *)l->items[i].name);
    }
    free(l->items);
    *l = (entry_list){0};
}

static size_t entry_find(const entry_list *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++) {
        if (strcmp(l->items[i].name, name) == 0) {
            return i;
        }
    }
    fail_msg("%s is not in the list", name);
    return 0;
}

static void entry_remove(entry_list *l, const char *name)
{
    size_t i = entry_find(l, name);
    free((char *)l->items[i].name);
    l->items[i] = l->items[--l->n];
}

static uint64_t entry_bytes(const safetensors_entry *e)
{
    uint64_t n = tensor_dtype_bytes(e->dtype);
    for (int32_t i = 0; i < e->n_dims; i++) {
        n *= (uint64_t)e->shape[i];
    }
    return n;
}

/* A header for entries [first, end) and a file of the right length behind it, with holes for data.
 */
static void write_sparse(const char *name, const entry_list *l, size_t first, size_t end)
{
    size_t capacity = 64 + (end - first) * 320, used = 8;
    char *text = malloc(capacity);
    assert_non_null(text);
    uint64_t at = 0;
    used += (size_t)sprintf(text + used, "{");
    for (size_t i = first; i < end; i++) {
        const safetensors_entry *e = &l->items[i];
        used += (size_t)sprintf(text + used, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[",
                                i > first ? "," : "", e->name, tensor_dtype_name(e->dtype));
        for (int32_t k = 0; k < e->n_dims; k++) {
            used +=
                (size_t)sprintf(text + used, "%s%lld", k > 0 ? "," : "", (long long)e->shape[k]);
        }
        used += (size_t)sprintf(text + used, "],\"data_offsets\":[%llu,%llu]}",
                                (unsigned long long)at, (unsigned long long)(at + entry_bytes(e)));
        at += entry_bytes(e);
    }
    used += (size_t)sprintf(text + used, "}");
    for (int i = 0; i < 8; i++) {
        text[i] = (char)((uint64_t)(used - 8) >> (8 * i));
    }
    temp_file_write(folder, name, text, used);
    free(text);
    assert_int_equal(truncate(temp_path(folder, name), (off_t)(used + at)), 0);
}

static checkpoint *open_entries(const entry_list *l)
{
    checkpoint *c = NULL;
    flo_err err = {{0}};
    write_sparse("model.safetensors", l, 0, l->n);
    if (checkpoint_open(&c, folder, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return c;
}

typedef struct faults_seen {
    size_t n;
    char name[160], sentence[FLO_ERR_BYTES]; /* the last one */
} faults_seen;

static void see(void *arg, const char *name, const char *sentence)
{
    faults_seen *f = arg;
    f->n++;
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->sentence, sizeof f->sentence, "%s", sentence);
}

static size_t faults_of(const entry_list *l, faults_seen *f)
{
    *f = (faults_seen){0};
    checkpoint *c = open_entries(l);
    size_t n = model_parts_check(c, &config, true, false, 1000, see, f);
    checkpoint_close(c);
    return n;
}

static void each_missing_tensor_is_found_by_name(void **state)
{
    (void)state;
    read_config("tests/golden/tiny-omni");
    entry_list l = {0};
    model_tensors_each(&config, NULL, collect, &l);
    static const char *const names[] = {
        "thinker.model.embed_tokens.weight",
        "thinker.model.layers.0.input_layernorm.weight",
        "thinker.model.layers.5.self_attn.q_norm.weight",
        "thinker.model.layers.3.mlp.gate.weight",
        "thinker.model.layers.2.mlp.experts.15.down_proj.weight",
        "thinker.model.norm.weight",
        "thinker.lm_head.weight",
        "thinker.audio_tower.conv2d2.bias",
        "thinker.audio_tower.proj2.weight",
        "thinker.visual.pos_embed.weight",
        "thinker.visual.merger_list.0.mlp.2.bias",
    };
    faults_seen f;
    assert_int_equal(faults_of(&l, &f), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        entry_list less = {0};
        model_tensors_each(&config, NULL, collect, &less);
        entry_remove(&less, names[i]);
        assert_int_equal(faults_of(&less, &f), 1);
        assert_int_equal(f.n, 1);
        assert_string_equal(f.name, names[i]);
        assert_non_null(strstr(f.sentence, names[i]));
        assert_non_null(strstr(f.sentence, "missing"));
        entries_free(&less);
    }
    entries_free(&l);
}

static void encoders_may_be_left_out(void **state)
{
    (void)state;
    read_config("tests/golden/tiny-omni");
    entry_list l = {0};
    faults_seen f = {0};
    model_tensors_each(&config, NULL, collect, &l);
    entry_remove(&l, "thinker.visual.merger.ln_q.weight");
    entry_remove(&l, "thinker.audio_tower.ln_post.bias");
    checkpoint *c = open_entries(&l);
    assert_int_equal(model_parts_check(c, &config, false, false, 1000, see, &f), 0);
    assert_int_equal(model_parts_check(c, &config, true, false, 1000, see, &f), 2);
    checkpoint_close(c);
    entries_free(&l);
}

static void speech_may_be_left_out(void **state)
{
    (void)state;
    static const char *const names[] = {
        "talker.text_projection.linear_fc1.bias",
        "talker.model.layers.1.mlp.shared_expert_gate.weight",
        "talker.code_predictor.lm_head.3.weight",
        "code2wav.decoder.1.block.0.alpha",
    };
    read_config("tests/golden/tiny-omni");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        entry_list l = {0};
        faults_seen f = {0};
        model_tensors_each(&config, NULL, collect, &l);
        entry_remove(&l, names[i]);
        checkpoint *c = open_entries(&l);
        assert_int_equal(model_parts_check(c, &config, true, false, 1000, see, &f), 0);
        assert_int_equal(model_parts_check(c, &config, true, true, 1000, see, &f), 1);
        assert_string_equal(f.name, names[i]);
        checkpoint_close(c);
        entries_free(&l);
    }
}

static void another_shape_or_type_is_found_with_both(void **state)
{
    (void)state;
    read_config("tests/golden/tiny-omni");
    entry_list l = {0};
    faults_seen f;
    model_tensors_each(&config, NULL, collect, &l);
    safetensors_entry *gate =
        &l.items[entry_find(&l, "thinker.model.layers.1.mlp.experts.0.gate_proj.weight")];
    gate->shape[0] = 128; /* transposed: as many bytes */
    gate->shape[1] = 64;
    assert_int_equal(faults_of(&l, &f), 1);
    assert_non_null(strstr(f.sentence, "[128, 64]"));
    assert_non_null(strstr(f.sentence, "[64, 128]"));
    gate->shape[0] = 64;
    gate->shape[1] = 128;
    gate->dtype = DTYPE_I16;
    assert_int_equal(faults_of(&l, &f), 1);
    assert_non_null(strstr(f.sentence, "I16"));
    gate->dtype = DTYPE_F32;
    assert_int_equal(faults_of(&l, &f), 0);
    safetensors_entry *norm = &l.items[entry_find(&l, "thinker.model.norm.weight")];
    norm->n_dims = 2;
    norm->shape[1] = 1;
    assert_int_equal(faults_of(&l, &f), 1);
    assert_non_null(strstr(f.sentence, "[128, 1]"));
    entries_free(&l);
}

static void only_so_many_faults_are_told_but_all_are_counted(void **state)
{
    (void)state;
    read_config("tests/golden/tiny-omni");
    const int64_t one = 1;
    entry_list l = {0};
    entry_add(&l, "thinker.model.other", 1, &one);
    checkpoint *c = open_entries(&l);
    faults_seen f = {0};
    assert_int_equal(model_parts_check(c, &config, false, false, 3, see, &f), 345);
    assert_int_equal(f.n, 3);
    checkpoint_close(c);
    entries_free(&l);
}

static void a_tied_head_may_be_absent(void **state)
{
    (void)state;
    read_config("tests/golden/tiny-omni");
    entry_list l = {0};
    faults_seen f;
    flo_err err = {{0}};
    const checkpoint_tensor *head = NULL;
    model_tensors_each(&config, NULL, collect, &l);
    config.text.tie_word_embeddings = true;
    checkpoint *c = open_entries(&l);
    assert_int_equal(model_lm_head_find(c, &config, &head, &err), FLO_OK);
    assert_string_equal(head->name, "thinker.lm_head.weight"); /* a stored one goes first */
    checkpoint_close(c);
    entry_remove(&l, "thinker.lm_head.weight");
    assert_int_equal(faults_of(&l, &f), 0);
    c = open_entries(&l);
    assert_int_equal(model_lm_head_find(c, &config, &head, &err), FLO_OK);
    assert_string_equal(head->name, "thinker.model.embed_tokens.weight");
    config.text.tie_word_embeddings = false;
    assert_int_equal(model_lm_head_find(c, &config, &head, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "thinker.lm_head.weight"));
    checkpoint_close(c);
    entries_free(&l);
}

/* ---- fused experts ---- */

typedef struct decoder {
    const text_config *text;
    const char *prefix, *stored; /* of its names: as they are found, and on disk */
} decoder;

static flo_code find_expert(const checkpoint *c, const decoder *d, int32_t layer, int32_t expert,
                            int which, tensor_range *out, flo_err *err)
{
    return model_expert_find(c, d->text, d->prefix, layer, expert, (expert_matrix)which, out, err);
}

/* Layer 1 of a decoder of the tiny model fused as the reference fuses: experts stacked, gate rows
 * before up rows. */
static void write_fused(const checkpoint *single, const decoder *d)
{
    const text_config *t = d->text;
    char gate_up[96], down[96];
    snprintf(gate_up, sizeof gate_up, "%slayers.1.mlp.experts.gate_up_proj", d->stored);
    snprintf(down, sizeof down, "%slayers.1.mlp.experts.down_proj", d->stored);
    int64_t e = t->n_experts, n = t->expert_size, h = t->hidden_size;
    const safetensors_entry entries[] = {
        {.name = gate_up, .n_dims = 3, .shape = {e, 2 * n, h}},
        {.name = down, .n_dims = 3, .shape = {e, h, n}},
    };
    safetensors_writer *w = NULL;
    flo_err err = {{0}};
    assert_int_equal(
        safetensors_create(&w, temp_path(folder, "model.safetensors"), entries, 2, &err), FLO_OK);
    size_t matrix = (size_t)(n * h) * 2;
    void *bytes = malloc(matrix);
    assert_non_null(bytes);
    for (int32_t i = 0; i < t->n_experts; i++) {
        for (int k = EXPERT_GATE; k <= EXPERT_DOWN; k++) {
            tensor_range r;
            assert_int_equal(find_expert(single, d, 1, i, k, &r, &err), FLO_OK);
            assert_int_equal(checkpoint_read(single, r.tensor, r.first_byte, bytes, matrix, &err),
                             FLO_OK);
            size_t place = k == EXPERT_DOWN ? (size_t)i : 2 * (size_t)i + (size_t)k;
            assert_int_equal(
                safetensors_write(w, k == EXPERT_DOWN, place * matrix, bytes, matrix, &err),
                FLO_OK);
        }
    }
    free(bytes);
    assert_int_equal(safetensors_finish(w, &err), FLO_OK);
}

static void hold_fused_to_single(const decoder *d)
{
    checkpoint *single = NULL, *fused = NULL;
    flo_err err = {{0}};
    assert_int_equal(checkpoint_open(&single, source_path("tests/golden/tiny-omni"), &err), FLO_OK);
    write_fused(single, d);
    assert_int_equal(checkpoint_open(&fused, folder, &err), FLO_OK);
    unsigned char a[64 * 128 * 2], b[64 * 128 * 2];
    size_t n = (size_t)d->text->expert_size * (size_t)d->text->hidden_size * 2;
    assert_true(n <= sizeof a);
    for (int32_t i = 0; i < d->text->n_experts; i++) {
        for (int k = EXPERT_GATE; k <= EXPERT_DOWN; k++) {
            tensor_range x, y;
            assert_int_equal(find_expert(single, d, 1, i, k, &x, &err), FLO_OK);
            assert_int_equal(find_expert(fused, d, 1, i, k, &y, &err), FLO_OK);
            assert_int_equal(x.rows, y.rows);
            assert_int_equal(x.columns, y.columns);
            assert_int_equal(x.rows * x.columns * 2, n);
            assert_int_equal(checkpoint_read(single, x.tensor, x.first_byte, a, n, &err), FLO_OK);
            assert_int_equal(checkpoint_read(fused, y.tensor, y.first_byte, b, n, &err), FLO_OK);
            assert_memory_equal(a, b, n);
        }
    }
    tensor_range none;
    assert_int_equal(find_expert(fused, d, 0, 0, EXPERT_UP, &none, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "layers.0.mlp.experts.0.up_proj.weight is missing"));
    checkpoint_close(fused);
    checkpoint_close(single);
}

static void a_fused_expert_has_the_bytes_of_the_single_one(void **state)
{
    (void)state;
    text_config talker;
    read_config("tests/golden/tiny-omni");
    model_talker_layers(&talker, &config.talker);
    hold_fused_to_single(&(decoder){&config.text, "thinker.model.", "model."});
    hold_fused_to_single(&(decoder){&talker, "talker.model.", "talker.model."});
}

static void one_layer_may_be_fused_and_the_others_not(void **state)
{
    (void)state;
    read_config("tests/golden/tiny-omni");
    entry_list l = {0};
    faults_seen f;
    model_tensors_each(&config, NULL, collect, &l);
    for (int i = 0; i < 16; i++) {
        static const char *const parts[] = {"gate", "up", "down"};
        for (int k = 0; k < 3; k++) {
            char name[128];
            snprintf(name, sizeof name, "thinker.model.layers.4.mlp.experts.%d.%s_proj.weight", i,
                     parts[k]);
            entry_remove(&l, name);
        }
    }
    assert_int_equal(faults_of(&l, &f), 48);
    entry_add(&l, "thinker.model.layers.4.mlp.experts.gate_up_proj", 3,
              (const int64_t[]){16, 128, 128});
    assert_int_equal(faults_of(&l, &f), 1); /* half fused: the other half is missing as such */
    assert_string_equal(f.name, "thinker.model.layers.4.mlp.experts.down_proj");
    entry_add(&l, "thinker.model.layers.4.mlp.experts.down_proj", 3,
              (const int64_t[]){16, 128, 64});
    assert_int_equal(faults_of(&l, &f), 0);
    entries_free(&l);
}

/* ---- inspect ---- */

static void write_config(const char *name)
{
    char *text = read_text(source_path(name));
    temp_file_write(folder, "config.json", text, strlen(text));
    free(text);
}

static void inspect_lists_what_lacks_and_what_is_too_much(void **state)
{
    (void)state;
    static inspect_report report;
    flo_err err = {{0}};
    const int64_t shape[] = {3, 5};
    entry_list l = {0};
    read_config("tests/golden/tiny-omni");
    write_config("tests/golden/tiny-omni/config.json");
    model_tensors_each(&config, NULL, collect, &l);
    entry_remove(&l, "talker.codec_head.weight");
    entry_add(&l, "thinker.model.layers.99.mlp.gate.weight", 2, shape);
    l.items[entry_find(&l, "code2wav.decoder.0.conv.bias")].shape[0] = 7;
    checkpoint_close(open_entries(&l));
    entries_free(&l);
    assert_int_equal(inspect_folder(&report, folder, &err), FLO_OK);
    assert_int_equal(report.missing.n, 1);
    assert_string_equal(report.missing.items[0], "talker.codec_head.weight");
    assert_int_equal(report.wrong.n, 1);
    assert_non_null(strstr(report.wrong.items[0], "code2wav.decoder.0.conv.bias"));
    assert_int_equal(report.unexpected.n, 1);
    assert_string_equal(report.unexpected.items[0], "thinker.model.layers.99.mlp.gate.weight");
    assert_int_equal(report.components[COMPONENT_TALKER].n_tensors, 158);
    assert_int_equal(inspect_verdict(&report, &err), FLO_DIFFERS);
    assert_non_null(strstr(err.text, "talker.codec_head.weight"));

    cJSON *json = inspect_json(&report);
    const cJSON *missing = cJSON_GetObjectItemCaseSensitive(json, "missing");
    assert_string_equal(cJSON_GetArrayItem(missing, 0)->valuestring, "talker.codec_head.weight");
    cJSON_Delete(json);
    inspect_free(&report);
}

static void inspect_of_a_whole_checkpoint_finds_nothing_wrong(void **state)
{
    (void)state;
    static inspect_report report;
    flo_err err = {{0}};
    assert_int_equal(inspect_folder(&report, source_path("models/tiny"), &err), FLO_OK);
    assert_int_equal(inspect_verdict(&report, &err), FLO_OK);
    assert_int_equal(report.missing.n + report.wrong.n + report.unexpected.n, 0);
    assert_int_equal(report.total_bytes, 12691170);
    cJSON *json = inspect_json(&report);
    static const char *const keys[] = {"architecture", "variant",  "components", "missing",
                                       "unexpected",   "speakers", "total_bytes"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_non_null(cJSON_GetObjectItemCaseSensitive(json, keys[i]));
    }
    const cJSON *components = cJSON_GetObjectItemCaseSensitive(json, "components");
    assert_int_equal(cJSON_GetArraySize(components), 9);
    const cJSON *layers = cJSON_GetArrayItem(components, COMPONENT_LAYERS);
    assert_string_equal(cJSON_GetObjectItem(layers, "name")->valuestring, "thinker.layers");
    assert_int_equal(cJSON_GetObjectItem(layers, "tensors")->valueint, 165);
    cJSON_Delete(json);
    inspect_free(&report);
}

/* The whole published layout, 70.5 GB of it as holes, in 15 shards with an index. */
static void the_published_layout_opens_in_a_moment(void **state)
{
    (void)state;
    enum { SHARDS = 15 };
    static inspect_report report;
    flo_err err = {{0}};
    entry_list l = {0};
    read_config("tests/golden/published-config");
    write_config("tests/golden/published-config/config.json");
    model_tensors_each(&config, NULL, collect, &l);
    FILE *index = fopen(temp_path(folder, "model.safetensors.index.json"), "w");
    assert_non_null(index);
    fprintf(index, "{\"weight_map\":{");
    for (size_t s = 0; s < SHARDS; s++) {
        char name[64];
        size_t first = l.n * s / SHARDS, end = l.n * (s + 1) / SHARDS;
        snprintf(name, sizeof name, "model-%05zu-of-00015.safetensors", s + 1);
        write_sparse(name, &l, first, end);
        for (size_t i = first; i < end; i++) {
            fprintf(index, "%s\"%s\":\"%s\"", i > 0 ? "," : "", l.items[i].name, name);
        }
    }
    fprintf(index, "}}");
    assert_int_equal(fclose(index), 0);
    entries_free(&l);

    clock_t before = clock();
    assert_int_equal(inspect_folder(&report, folder, &err), FLO_OK);
    double seconds = (double)(clock() - before) / CLOCKS_PER_SEC;
    print_message("28,010 tensors inspected in %.3f s of one core\n", seconds);
    assert_true(seconds < 5.0); /* 0.1 s where nothing else slows it, a sanitizer for instance */
    assert_int_equal(inspect_verdict(&report, &err), FLO_OK);
    assert_int_equal(report.unexpected.n, 0);
    assert_int_equal(report.total_bytes, 70519637090);
    assert_int_equal(report.n_files, SHARDS);
    inspect_free(&report);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_list_has_the_published_counts),
        IN_FOLDER(each_missing_tensor_is_found_by_name),
        IN_FOLDER(encoders_may_be_left_out),
        IN_FOLDER(speech_may_be_left_out),
        IN_FOLDER(another_shape_or_type_is_found_with_both),
        IN_FOLDER(only_so_many_faults_are_told_but_all_are_counted),
        IN_FOLDER(a_tied_head_may_be_absent),
        IN_FOLDER(a_fused_expert_has_the_bytes_of_the_single_one),
        IN_FOLDER(one_layer_may_be_fused_and_the_others_not),
        IN_FOLDER(inspect_lists_what_lacks_and_what_is_too_much),
        cmocka_unit_test(inspect_of_a_whole_checkpoint_finds_nothing_wrong),
        IN_FOLDER(the_published_layout_opens_in_a_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

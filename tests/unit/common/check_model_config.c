/*
 * check_model_config.c - config.json is read as the reference reads it, in both spellings, and a
 * value that cannot be is refused with its field and what it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/model_config.h"
#include "tests/unit/common/temp_folder.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static model_config config, other;
static char *tiny_text;

static int read_tiny(void **state)
{
    (void)state;
    tiny_text = read_text(source_path("tests/golden/tiny-omni/config.json"));
    return 0;
}

static int free_tiny(void **state)
{
    (void)state;
    free(tiny_text);
    return 0;
}

/* Sets the member that a path like "a.b.c" names to a JSON value; NULL deletes it. */
static void edit(cJSON *root, const char *path, const char *value)
{
    char copy[128];
    snprintf(copy, sizeof copy, "%s", path);
    char *leaf = strrchr(copy, '.');
    cJSON *object = root;
    if (leaf != NULL) {
        *leaf++ = '\0';
        for (char *part = strtok(copy, "."); part != NULL; part = strtok(NULL, ".")) {
            object = cJSON_GetObjectItemCaseSensitive(object, part);
            assert_non_null(object);
        }
    } else {
        leaf = copy;
    }
    cJSON_DeleteItemFromObjectCaseSensitive(object, leaf);
    if (value != NULL) {
        cJSON *item =
            strcmp(value, "INFINITY") == 0 ? cJSON_CreateRaw("1e999") : cJSON_Parse(value);
        assert_non_null(item);
        cJSON_AddItemToObject(object, leaf, item);
    }
}

/* The tiny configuration with up to two edits. */
static flo_code parse_edited(const char *path, const char *value, const char *path2,
                             const char *value2, flo_err *err)
{
    cJSON *root = cJSON_Parse(tiny_text);
    edit(root, path, value);
    if (path2 != NULL) {
        edit(root, path2, value2);
    }
    char *text = cJSON_Print(root);
    flo_code code = model_config_parse(&config, text, "config.json", err);
    cJSON_free(text);
    cJSON_Delete(root);
    return code;
}

static void assert_names(const char *path, const char *sentence, const char *words)
{
    char copy[256];
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok(copy, "|"); word != NULL; word = strtok(NULL, "|")) {
        if (strstr(sentence, word) == NULL) {
            fail_msg("%s: '%s' is not in: %s", path, word, sentence);
        }
    }
}

#define TEXT "thinker_config.text_config."
#define AUDIO "thinker_config.audio_config."
#define VISION "thinker_config.vision_config."
#define TALKER "talker_config.text_config."
#define PREDICTOR "talker_config.code_predictor_config."

static void values_that_cannot_be_are_refused_by_field(void **state)
{
    (void)state;
    static const struct {
        const char *path, *value, *words; /* words: of the sentence beside the path's last part */
    } cases[] = {
        {TEXT "num_attention_heads", "0", "text_config.num_attention_heads is 0"},
        {TEXT "num_attention_heads", "7", "7|num_key_value_heads"},
        {TEXT "num_attention_heads", "-8", "-8"},
        {TEXT "num_attention_heads", "8.5", "8.5"},
        {TEXT "num_attention_heads", "\"8\"", "\"8\""},
        {TEXT "num_attention_heads", "true", "true"},
        {TEXT "num_attention_heads", "null", "null"},
        {TEXT "num_attention_heads", NULL, "missing"},
        {TEXT "num_key_value_heads", "0", "0"},
        {TEXT "head_dim", "33", "33|even"},
        {TEXT "head_dim", "1e9", "1000000000"},
        {TEXT "head_dim", "16", "mrope_section"},
        {TEXT "hidden_size", "0", "0"},
        {TEXT "hidden_size", "99999999999", "99999999999"},
        {TEXT "vocab_size", NULL, "missing"},
        {TEXT "vocab_size", "0", "0"},
        {TEXT "vocab_size", "2000", "token_id|2000"},
        {TEXT "num_hidden_layers", "513", "513"},
        {TEXT "num_hidden_layers", NULL, "missing"},
        {TEXT "num_experts", "5000", "5000"},
        {TEXT "num_experts", "-1", "-1"},
        {TEXT "num_experts_per_tok", "17", "17|num_experts, 16"},
        {TEXT "num_experts_per_tok", "0", "0"},
        {TEXT "moe_intermediate_size", "0.5", "0.5"},
        {TEXT "decoder_sparse_step", "0", "0"},
        {TEXT "mlp_only_layers", "[-1]", "-1"},
        {TEXT "mlp_only_layers", "\"x\"", "x"},
        {TEXT "rms_norm_eps", "0", "0"},
        {TEXT "rms_norm_eps", "-1e-6", "-1e-06"},
        {TEXT "rms_norm_eps", "INFINITY", "rms_norm_eps"},
        {TEXT "rms_norm_eps", "\"nan\"", "nan"},
        {TEXT "rms_norm_eps", "1e-60", "rms_norm_eps"},
        {TEXT "rope_theta", "0", "0"},
        {TEXT "rope_theta", "\"x\"", "x"},
        {TEXT "rope_scaling.mrope_section", "[24,20,20]", "24, 20, 20|32"},
        {TEXT "rope_scaling.mrope_section", "[6,5]", "three"},
        {TEXT "rope_scaling.mrope_section", "[6,5,-5]", "mrope_section"},
        {TEXT "rope_scaling.rope_type", "\"yarn\"", "yarn"},
        {TEXT "rope_scaling.partial_rotary_factor", "0.5", "0.5"},
        {TEXT "partial_rotary_factor", "0.25", "0.25"},
        {TEXT "rope_scaling", "7", "7"},
        {TEXT "hidden_act", "\"gelu\"", "gelu"},
        {TEXT "attention_bias", "true", "true"},
        {TEXT "use_sliding_window", "true", "true"},
        {TEXT "use_qk_norm", "false", "false"},
        {TEXT "shared_expert_intermediate_size", "64", "64"},
        {TEXT "norm_topk_prob", "3", "3"},
        {TEXT "norm_topk_prob", "null", "null"},
        {TEXT "max_position_embeddings", "0", "0"},
        {"thinker_config.text_config", NULL, "missing"},
        {"thinker_config.text_config", "[]", "text_config"},
        {"thinker_config", NULL, "missing"},
        {"thinker_config.audio_token_id", "3904", "3904"},
        {"thinker_config.image_token_id", "-1", "-1"},
        {"thinker_config.position_id_per_seconds", "0", "0"},
        {"thinker_config.position_id_per_seconds", "-13", "-13"},
        {"talker_config.position_id_per_seconds", "0", "0"},
        {"im_end_token_id", "5000", "5000|3904"},
        {"tts_eos_token_id", "1e10", "10000000000"},
        {"enable_audio_output", "\"yes\"", "yes"},
        {AUDIO "d_model", "63", "63"},
        {AUDIO "encoder_layers", "0", "0"},
        {AUDIO "num_hidden_layers", "9", "9|encoder_layers"},
        {AUDIO "output_dim", "64", "64|hidden_size, 128"},
        {AUDIO "output_dim", NULL, "missing"},
        {AUDIO "activation_function", "\"relu\"", "relu"},
        {AUDIO "n_window_infer", "99", "at least twice"},
        {AUDIO "d_model", "4096", "1024|512"},
        {AUDIO "max_source_positions", "12", "13 positions|12"},
        {AUDIO "num_mel_bins", "200000", "200000|20000000"},
        {AUDIO "downsample_hidden_size", "1048577", "16777232"},
        {VISION "hidden_act", "\"silu\"", "silu"},
        {VISION "out_hidden_size", "4096", "4096"},
        {VISION "num_heads", "5", "5"},
        {VISION "num_heads", "64", "is 1; it must be a multiple of 4"},
        {VISION "hidden_size", "4096", "1024|512"},
        {VISION "in_channels", "4", "4|red, green and blue"},
        {VISION "spatial_merge_size", "17", "17|no picture"},
        {VISION "num_position_embeddings", "2300", "2300|square"},
        {VISION "deepstack_visual_indexes", "[0, 99]", "99"},
        {VISION "deepstack_visual_indexes", "[2, 1]", "rising"},
        {VISION "deepstack_visual_indexes", "[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]", "16"},
        {VISION "patch_size", "0", "0"},
        {"talker_config", NULL, "missing|enable_audio_output"},
        {"code2wav_config", NULL, "missing|enable_audio_output"},
        {TALKER "num_experts_per_tok", "9", "9|8"},
        {TALKER "head_dim", NULL, "missing"},
        {TALKER "rope_theta", NULL, "missing"},
        {
            TALKER "vocab_size",
            "200",
            "outside the talker's vocabulary of 200",
        },
        {"talker_config.accept_hidden_layer", "7", "7|6 layers"},
        {"talker_config.thinker_hidden_size", "64", "64|128"},
        {"talker_config.num_code_groups", "1", "1"},
        {"talker_config.codec_eos_token_id", "4198", "4198|1152"},
        {"talker_config.speaker_id.ethan", "9999", "ethan|9999"},
        {"talker_config.speaker_id.ethan", "\"x\"", "ethan"},
        {PREDICTOR "num_code_groups", "15", "15|16"},
        {PREDICTOR "hidden_size", "32", "32|64"},
        {PREDICTOR "layer_types", "[\"sliding_attention\"]", "sliding_attention"},
        {TALKER "vocab_size", "1153", "1153|129 codes|128"},
        {PREDICTOR "vocab_size", "129", "129 codes|128"},
        {"code2wav_config.codebook_size", "127", "128 codes|127"},
        {"code2wav_config.num_quantizers", "8", "8|16"},
        {"code2wav_config.upsample_rates", "[]", "[]"},
        {"code2wav_config.upsample_rates", "[1,1,1,1,1,1,1,1,1]", "upsample_rates"},
        {"code2wav_config.upsample_rates", "[256,256,1,1]", "65536 samples"},
        {"code2wav_config.decoder_dim", "97", "97"},
        {"code2wav_config.hidden_act", "\"gelu\"", "gelu"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        flo_err err = {{0}};
        if (parse_edited(cases[i].path, cases[i].value, NULL, NULL, &err) != FLO_FAIL) {
            fail_msg("%s = %s was accepted", cases[i].path, cases[i].value);
        }
        const char *leaf = strrchr(cases[i].path, '.');
        assert_names(cases[i].path, err.text, "config.json");
        assert_names(cases[i].path, err.text, cases[i].words);
        if (strcmp(cases[i].words, "mrope_section") != 0 &&
            strstr(cases[i].words, "vocabulary") == NULL &&
            strstr(cases[i].words, "token_id") == NULL) {
            assert_names(cases[i].path, err.text, leaf != NULL ? leaf + 1 : cases[i].path);
        }
    }
}

static void a_nan_is_refused_with_its_line(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model_type\": \"qwen3_omni_moe\",\n \"thinker_config\": {\"text_config\": {\n"
        "  \"rms_norm_eps\": NaN }}}";
    flo_err err = {{0}};
    assert_int_equal(model_config_parse(&config, text, "config.json", &err), FLO_FAIL);
    assert_names("NaN", err.text, "line 3|rms_norm_eps|NaN");
}

static void sizes_whose_product_is_no_model_are_refused(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(parse_edited(TEXT "moe_intermediate_size", "16777216", TEXT "hidden_size",
                                  "16777216", &err),
                     FLO_FAIL);
    assert_names("product", err.text, "hidden_size 16777216|no model");
    assert_int_equal(
        parse_edited(TEXT "head_dim", "16777216", TEXT "num_attention_heads", "16384", &err),
        FLO_FAIL);
    assert_names("product", err.text, "num_attention_heads|head_dim");
}

static void what_is_no_such_checkpoint_is_wrong_use(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(model_config_parse(&config, "[]", "c", &err), FLO_USAGE);
    assert_int_equal(model_config_parse(&config, "{}", "c", &err), FLO_USAGE);
    assert_int_equal(model_config_parse(&config, "{\"model_type\":\"llama\"}", "c", &err),
                     FLO_USAGE);
    assert_names("llama", err.text, "llama|not a Qwen3-Omni checkpoint");
    assert_int_equal(model_config_parse(&config, "", "c", &err), FLO_FAIL);
    assert_int_equal(model_config_read(&config, "/no/such/folder", &err), FLO_USAGE);
    assert_int_equal(model_config_read(&config, source_path("tests"), &err), FLO_USAGE);
    assert_names("tests", err.text, "no config.json");
}

static void both_spellings_give_the_same_configuration(void **state)
{
    (void)state;
    flo_err err = {{0}};
    char *v5 = read_text(source_path("tests/golden/tiny-omni/config.v5.json"));
    assert_int_equal(model_config_parse(&config, tiny_text, "config.json", &err), FLO_OK);
    assert_int_equal(model_config_parse(&other, v5, "config.v5.json", &err), FLO_OK);
    free(v5);
    /* Structs were cleared as a whole before they were filled, padding included. */
    assert_memory_equal(&config, &other, sizeof config);
    assert_string_equal(config.defaulted, "");
}

static void the_tiny_configuration_is_what_its_file_says(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(model_config_read(&config, source_path("tests/golden/tiny-omni"), &err),
                     FLO_OK);
    const text_config *t = &config.text;
    assert_int_equal(t->vocab_size, 3904);
    assert_int_equal(t->hidden_size, 128);
    assert_int_equal(t->n_layers, 6);
    assert_int_equal(t->n_heads, 8);
    assert_int_equal(t->n_kv_heads, 2);
    assert_int_equal(t->head_dim, 32);
    assert_int_equal(t->n_experts, 16);
    assert_int_equal(t->expert_size, 64);
    assert_int_equal(t->dense_size, 0);
    assert_true(t->norm_topk_prob);
    assert_false(t->tie_word_embeddings);
    assert_true(t->rms_norm_eps == 1e-6f);
    assert_true(t->rope_theta == 1e6);
    assert_int_equal(t->mrope_section[0] + t->mrope_section[1] + t->mrope_section[2], 16);
    assert_int_equal(config.n_speakers, 3);
    assert_string_equal(config.speakers[1].name, "chelsie");
    assert_int_equal(config.talker.n_experts, 8);
    assert_int_equal(config.variant, MODEL_INSTRUCT);
    assert_int_equal(config.tokens.image, 3815);
}

static void the_fingerprint_knows_the_numbers_of_speech(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(model_config_read(&other, source_path("tests/golden/tiny-omni"), &err),
                     FLO_OK);
    int32_t *const numbers[] = {&config.talker.hidden_size,
                                &config.talker.shared_expert_size,
                                &config.talker.mrope_section[1],
                                &config.talker.accept_hidden_layer,
                                &config.talker.codec_think_eos,
                                &config.code_predictor.n_layers,
                                &config.code_predictor.intermediate_size,
                                &config.code2wav.sliding_window,
                                &config.code2wav.upsample_rates[3],
                                &config.code2wav.upsampling_ratios[1]};
    uint64_t as_read = model_config_fingerprint(&other);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        config = other;
        assert_true(model_config_fingerprint(&config) == as_read);
        ++*numbers[i];
        assert_true(model_config_fingerprint(&config) != as_read);
    }
    config = other;
    config.talker.norm_topk_prob = !config.talker.norm_topk_prob;
    assert_true(model_config_fingerprint(&config) != as_read);
    config = other;
    config.code2wav.rms_norm_eps *= 2;
    assert_true(model_config_fingerprint(&config) != as_read);
    config = other;
    config.code_predictor.rope_theta *= 2;
    assert_true(model_config_fingerprint(&config) != as_read);
}

static void the_talker_listens_to_a_layer_that_is_left(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(model_config_read(&config, source_path("tests/golden/tiny-omni"), &err),
                     FLO_OK);
    int32_t n_layers = config.text.n_layers, accepts = config.talker.accept_hidden_layer;
    model_config_keep_layers(&config, n_layers + 1);
    model_config_keep_layers(&config, 0);
    model_config_keep_layers(&config, accepts + 1);
    assert_int_equal(config.text.n_layers, accepts + 1);
    assert_int_equal(config.talker.accept_hidden_layer, accepts);
    model_config_keep_layers(&config, accepts);
    assert_int_equal(config.talker.accept_hidden_layer, accepts - 1);
    model_config_keep_layers(&config, 1);
    assert_int_equal(config.talker.accept_hidden_layer, 0);
}

static void the_published_configurations_are_read(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(model_config_read(&config, source_path("tests/golden/published-config"), &err),
                     FLO_OK);
    assert_int_equal(config.text.n_layers, 48);
    assert_int_equal(config.text.n_experts_per_token, 8);
    assert_int_equal(config.talker.accept_hidden_layer, 24);
    assert_int_equal(config.code2wav.upsample_rates[1], 5);
    assert_true(config.code2wav.rms_norm_eps == 1e-5f);
    assert_true(config.code_predictor.rope_theta == 1e6);
    assert_true(config.position_id_per_seconds == 13);
    assert_true(config.talker.position_id_per_seconds == 13);
    assert_string_equal(config.defaulted, "");
    assert_int_equal(model_config_read(&config, source_path("tests/golden/slice8-config"), &err),
                     FLO_OK);
    assert_int_equal(config.text.n_layers, 8);
    assert_int_equal(model_config_read(&config, source_path("models/tiny"), &err), FLO_OK);
    assert_true(config.text.rope_theta == 10000);
}

/* As the reference: the dictionary's theta goes before the one beside it. */
static void the_rope_fields_keep_their_precedence(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(parse_edited(TEXT "rope_scaling.rope_theta", "5000", NULL, NULL, &err),
                     FLO_OK);
    assert_true(config.text.rope_theta == 5000);
    assert_int_equal(parse_edited(TEXT "rope_parameters",
                                  "{\"rope_theta\":7,\"mrope_section\":[2,2,2]}", NULL, NULL, &err),
                     FLO_OK);
    assert_true(config.text.rope_theta == 1e6); /* rope_scaling is there too and goes first */
    assert_int_equal(config.text.mrope_section[0], 6);
    assert_int_equal(parse_edited(TEXT "rope_parameters", "{\"mrope_section\":[2,2,2]}",
                                  TEXT "rope_scaling", "null", &err),
                     FLO_OK);
    assert_true(config.text.rope_theta == 1e6);
    assert_int_equal(config.text.mrope_section[0], 2);
    assert_int_equal(parse_edited(TEXT "rope_theta", NULL, NULL, NULL, &err), FLO_OK);
    assert_true(config.text.rope_theta == 1e6);
    assert_names("theta", config.defaulted, "text_config.rope_theta");
}

static void absent_fields_take_the_published_default_and_are_named(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(
        parse_edited(TEXT "rms_norm_eps", NULL, TEXT "num_experts_per_tok", NULL, &err), FLO_OK);
    assert_int_equal(config.text.n_experts_per_token, 8);
    assert_true(config.text.rms_norm_eps == 1e-6f);
    assert_names("defaulted", config.defaulted, "text_config.rms_norm_eps|num_experts_per_tok");
    assert_int_equal(parse_edited(TEXT "head_dim", NULL, TEXT "num_attention_heads", "4", &err),
                     FLO_OK);
    assert_int_equal(config.text.head_dim, 32); /* hidden_size / heads */
}

static void dense_layers_are_those_listed_or_off_the_step(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(
        parse_edited(TEXT "mlp_only_layers", "[3]", TEXT "decoder_sparse_step", "2", &err), FLO_OK);
    const bool expected[] = {false, true, false, false, false, true};
    assert_memory_equal(config.text.layer_is_sparse, expected, sizeof expected);
    assert_int_equal(config.text.dense_size, 192);
    assert_int_equal(parse_edited(TEXT "num_experts", "0", NULL, NULL, &err), FLO_OK);
    assert_false(config.text.layer_is_sparse[0]);
    assert_int_equal(config.text.n_experts_per_token, 0);
    /* A listed layer beyond the last is no fault in the reference either. */
    assert_int_equal(parse_edited(TEXT "mlp_only_layers", "[100]", NULL, NULL, &err), FLO_OK);
    assert_int_equal(
        parse_edited(TEXT "mlp_only_layers", "[0]", TEXT "intermediate_size", NULL, &err),
        FLO_FAIL);
    assert_names("dense", err.text, "intermediate_size is missing");
}

/* Measured on the reference: thinker_config's flag decides, the ones above and below it do not. */
static void the_thinkers_own_flag_ties_the_embedding(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(parse_edited("thinker_config.tie_word_embeddings", "true", NULL, NULL, &err),
                     FLO_OK);
    assert_true(config.text.tie_word_embeddings);
    assert_int_equal(
        parse_edited(TEXT "tie_word_embeddings", "true", "tie_word_embeddings", "true", &err),
        FLO_OK);
    assert_false(config.text.tie_word_embeddings);
}

static void variants_without_speech_are_told_apart_by_name(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(parse_edited("enable_audio_output", "false", "talker_config", NULL, &err),
                     FLO_OK);
    assert_int_equal(config.variant, MODEL_THINKING);
    assert_false(config.has_talker);
    assert_int_equal(parse_edited("enable_audio_output", "false", "_name_or_path",
                                  "\"Qwen/Qwen3-Omni-30B-A3B-Captioner\"", &err),
                     FLO_OK);
    assert_int_equal(config.variant, MODEL_CAPTIONER);

    char folder[PATH_MAX];
    temp_folder_make(folder);
    const char *named = temp_path(folder, "Qwen3-Omni-Captioner");
    assert_int_equal(mkdir(named, 0700), 0);
    cJSON *root = cJSON_Parse(tiny_text);
    edit(root, "enable_audio_output", "false");
    char *text = cJSON_Print(root);
    temp_file_write(named, "config.json", text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(root);
    assert_int_equal(model_config_read(&config, named, &err), FLO_OK);
    assert_int_equal(config.variant, MODEL_CAPTIONER);
    assert_string_equal(model_variant_name(config.variant), "captioner");
    temp_folder_remove(folder);
}

static void the_thinker_alone_is_a_model(void **state)
{
    (void)state;
    flo_err err = {{0}};
    cJSON *root = cJSON_Parse(tiny_text);
    cJSON *thinker = cJSON_GetObjectItemCaseSensitive(root, "thinker_config");
    char *text = cJSON_Print(thinker);
    assert_int_equal(model_config_parse(&config, text, "config.json", &err), FLO_OK);
    cJSON_free(text);
    cJSON_Delete(root);
    assert_string_equal(config.architecture, "Qwen3OmniMoeThinkerForConditionalGeneration");
    assert_false(config.has_talker);
    assert_true(config.has_audio);
    assert_int_equal(config.tokens.im_start, -1);
    assert_int_equal(config.text.n_layers, 6);
}

static void ids_beyond_the_vocabulary_are_fine_where_weights_are_made_up(void **state)
{
    (void)state;
    char folder[PATH_MAX];
    flo_err err = {{0}};
    temp_folder_make(folder);
    cJSON *root = cJSON_Parse(tiny_text);
    edit(root, TEXT "vocab_size", "512");
    char *text = cJSON_Print(root);
    temp_file_write(folder, "config.json", text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(root);
    assert_int_equal(model_config_read(&config, folder, &err), FLO_FAIL);
    assert_int_equal(model_config_read_shapes(&config, folder, &err), FLO_OK);
    temp_folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_that_cannot_be_are_refused_by_field),
        cmocka_unit_test(a_nan_is_refused_with_its_line),
        cmocka_unit_test(sizes_whose_product_is_no_model_are_refused),
        cmocka_unit_test(what_is_no_such_checkpoint_is_wrong_use),
        cmocka_unit_test(both_spellings_give_the_same_configuration),
        cmocka_unit_test(the_tiny_configuration_is_what_its_file_says),
        cmocka_unit_test(the_fingerprint_knows_the_numbers_of_speech),
        cmocka_unit_test(the_talker_listens_to_a_layer_that_is_left),
        cmocka_unit_test(the_published_configurations_are_read),
        cmocka_unit_test(the_rope_fields_keep_their_precedence),
        cmocka_unit_test(absent_fields_take_the_published_default_and_are_named),
        cmocka_unit_test(dense_layers_are_those_listed_or_off_the_step),
        cmocka_unit_test(the_thinkers_own_flag_ties_the_embedding),
        cmocka_unit_test(variants_without_speech_are_told_apart_by_name),
        cmocka_unit_test(the_thinker_alone_is_a_model),
        cmocka_unit_test(ids_beyond_the_vocabulary_are_fine_where_weights_are_made_up),
    };
    return cmocka_run_group_tests(tests, read_tiny, free_tiny);
}

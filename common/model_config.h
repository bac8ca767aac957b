/*
 * model_config.h - config.json of a Qwen3-Omni checkpoint as one struct.
 *
 * Reads the Instruct, Thinking and Captioner variants, in the published spelling (rope_theta beside
 * rope_scaling) and in that of newer libraries (rope_parameters). Every number is checked against
 * what the model can be; a field that this program would have to ignore to go on (an activation it
 * does not know, biases, a sliding window) stops the start.
 *
 * A field that is absent: where the published value is the reference's own default, the reference
 * leaves it out when it saves, so that default is taken and the field is named in `defaulted`;
 * where the published value is another one, the start stops with the field's name.
 * Source: configuration_qwen3_omni_moe.py; the rope fields' precedence from modeling_rope_utils.py.
 */
#ifndef FLOTILLA_COMMON_MODEL_CONFIG_H
#define FLOTILLA_COMMON_MODEL_CONFIG_H

#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    MODEL_LAYERS_MAX = 512,
    MODEL_EXPERTS_MAX = 4096,
    MODEL_DEEPSTACK_MAX = 16,
    MODEL_SPEAKERS_MAX = 64,
    MODEL_UPSAMPLES_MAX = 8,
    TALKER_SPECIAL_CODES = 1024 /* of its vocabulary's end; fixed in the reference */
};

/* Without speech (enable_audio_output false, or the thinker alone) the files of Thinking and
 * Captioner have the same shape: the name decides (_name_or_path or the folder, links resolved),
 * and without a hint in it the answer is thinking. For display: prompts come from the chat
 * template. */
typedef enum model_variant { MODEL_INSTRUCT, MODEL_THINKING, MODEL_CAPTIONER } model_variant;

typedef struct text_config {
    int32_t vocab_size;
    int32_t hidden_size; /* H */
    int32_t n_layers;
    int32_t n_heads;    /* query heads */
    int32_t n_kv_heads; /* divides n_heads */
    int32_t head_dim;   /* even; n_heads * head_dim need not be H */
    int32_t n_experts;  /* 0: every layer dense, and the next two are 0 */
    int32_t n_experts_per_token;
    int32_t expert_size; /* moe_intermediate_size */
    int32_t
        shared_expert_size; /* of the expert that every row goes through; 0: none (the thinker) */
    int32_t dense_size;     /* intermediate_size; 0 where no layer is dense */
    bool layer_is_sparse[MODEL_LAYERS_MAX]; /* from mlp_only_layers and decoder_sparse_step */
    bool norm_topk_prob;
    bool tie_word_embeddings; /* without a lm_head tensor, embed_tokens takes its place */
    float rms_norm_eps;
    double rope_theta;
    int32_t
        mrope_section[3]; /* T, H, W; together at most head_dim / 2 frequencies, T takes the rest */
    int32_t max_position_embeddings; /* what the model was made for; not used in the arithmetic */
} text_config;

typedef struct audio_config {
    int32_t n_mel_bins, d_model, n_layers, n_heads, ffn_dim, max_source_positions;
    int32_t n_window, n_window_infer, downsample_hidden_size, output_dim;
} audio_config;

typedef struct vision_config {
    int32_t depth, hidden_size, n_heads, intermediate_size, in_channels, patch_size;
    int32_t temporal_patch_size, spatial_merge_size, out_hidden_size, n_position_embeddings;
    int32_t n_deepstack;
    int32_t
        deepstack_layers[MODEL_DEEPSTACK_MAX]; /* blocks whose outputs go to thinker layers 0.. */
} vision_config;

typedef struct talker_config {
    int32_t vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, head_dim;
    int32_t n_experts, n_experts_per_token, expert_size, shared_expert_size;
    int32_t projection_size;     /* inner width of text_projection and hidden_projection */
    int32_t thinker_hidden_size; /* equals text.hidden_size */
    bool norm_topk_prob;
    float rms_norm_eps;
    double rope_theta;
    int32_t mrope_section[3];
    int32_t accept_hidden_layer; /* of the thinker: 0 the embeddings, i the output of layer i - 1 */
    int32_t n_code_groups;
    int32_t codec_pad, codec_bos, codec_eos, codec_nothink, codec_think_bos, codec_think_eos;
    double position_id_per_seconds; /* of videos in the talker's prompt */
} talker_config;

typedef struct code_predictor_config {
    int32_t vocab_size, hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size;
    int32_t n_code_groups; /* equals the talker's; n_code_groups - 1 embeddings and heads */
    float rms_norm_eps;
    double rope_theta;
} code_predictor_config;

typedef struct code2wav_config {
    int32_t codebook_size, n_quantizers;
    int32_t hidden_size, n_layers, n_heads, n_kv_heads, head_dim, intermediate_size;
    int32_t sliding_window; /* positions that see each other, the own one included */
    int32_t decoder_dim;    /* halves with each of the upsample_rates */
    int32_t n_upsample_rates, n_upsampling_ratios;
    int32_t upsample_rates[MODEL_UPSAMPLES_MAX];
    int32_t upsampling_ratios[MODEL_UPSAMPLES_MAX];
    float rms_norm_eps;
    double rope_theta;
} code2wav_config;

typedef struct model_tokens { /* ids; -1 where the file has none */
    int32_t im_start, im_end, system, user, assistant;
    int32_t audio, image, video, audio_start, audio_end, vision_start, vision_end;
    int32_t tts_pad, tts_bos, tts_eos;
} model_tokens;

typedef struct speaker {
    char name[64];
    int32_t id;
} speaker;

typedef struct model_config {
    char architecture[96]; /* "Qwen3OmniMoeForConditionalGeneration" */
    model_variant variant;
    text_config text;
    bool has_audio, has_vision, has_talker, has_code2wav;
    audio_config audio;                   /* where has_audio */
    vision_config vision;                 /* where has_vision */
    talker_config talker;                 /* where has_talker */
    code_predictor_config code_predictor; /* where has_talker */
    code2wav_config code2wav;             /* where has_code2wav */
    double position_id_per_seconds;
    model_tokens tokens;
    int32_t n_speakers;
    speaker speakers[MODEL_SPEAKERS_MAX];
    char defaulted[512]; /* absent fields that took the reference's default, "a.b, c.d"; "" for none
                          */
} model_config;

/* Reads FOLDER/config.json. FLO_USAGE: no such folder, no config.json, not a Qwen3-Omni checkpoint.
 * FLO_FAIL: it is one, but a value cannot be (the sentence names the field and the value). */
flo_code model_config_read(model_config *c, const char *folder, flo_err *err);

/* The same without holding token ids against the vocabularies: for weights that are made up. */
flo_code model_config_read_shapes(model_config *c, const char *folder, flo_err *err);

/* The same as model_config_read from the text of a file; name leads the sentence. */
flo_code model_config_parse(model_config *c, const char *json, const char *name, flo_err *err);

/* Leaves the first n thinker layers of a configuration (n from 1; 0, or more than there are: all):
 * for measurements on machines that cannot hold all of them. The talker listens to the input of the
 * last of them where its own is gone. */
void model_config_keep_layers(model_config *c, int32_t n);

/* The decoder layers of the talker and of the code predictor, in the thinker's terms: what
 * worker/thinker computes with. The talker's are all sparse, with a shared expert and three axes of
 * positions; the predictor's are all dense, with one axis (mrope_section {0, 0, 0}). */
void model_talker_layers(text_config *t, const talker_config *c);
void model_predictor_layers(text_config *t, const code_predictor_config *c);

/* Codes 0, 1, ... that a frame may begin with: all but the last TALKER_SPECIAL_CODES of the
 * talker's vocabulary (of which its end code may be drawn as well). */
int32_t model_first_codes(const talker_config *c);

#define SPEAKER_DEFAULT "Ethan" /* the reference's */

/* The speaker of that name in any case; NULL: unknown. */
const speaker *model_speaker(const model_config *c, const char *name);

/* A hash of the numbers that thinker, encoders and speech compute with; equal configurations give
 * equal hashes. */
uint64_t model_config_fingerprint(const model_config *c);

const char *model_variant_name(model_variant v); /* "instruct", "thinking", "captioner" */

#endif

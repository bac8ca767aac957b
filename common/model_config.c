/*
 * model_config.c - config.json, field by field, each held to what it can be.
 *
 * A `reader` walks the sections and keeps the first fault only, so that a section reads as the list
 * of its fields. Costs one parse of a file of a few kilobytes.
 */
#include "common/model_config.h"

#include "common/check.h"
#include "common/hash.h"
#include "common/json.h"
#include "common/layout.h"
#include "common/speech_cost.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum {
    CONFIG_BYTES_MAX = 4 << 20,
    SIZE_MAX_FIELD = 1 << 24, /* of one dimension: a hundred times any known model */
    HEADS_MAX = 1 << 14,
    ABSENT_ID = -1
};

typedef struct reader {
    model_config *config;
    flo_err *err;
    flo_code code; /* FLO_OK until the first fault */
} reader;

/* One object of the file and how to call it in a sentence. */
typedef struct section {
    reader *r;
    const cJSON *json;
    char path[96]; /* "thinker_config.text_config." */
} section;

/* ---- faults ---- */

__attribute__((format(printf, 2, 3))) static void refuse(reader *r, const char *format, ...)
{
    if (r->code != FLO_OK) {
        return;
    }
    char text[FLO_ERR_BYTES];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    r->code = flo_fail(r->err, FLO_FAIL, "%s", text);
}

/* The value as it stands in the file, cut to what a sentence can hold. */
static void show(const cJSON *json, char out[64])
{
    char *text = json == NULL ? NULL : cJSON_PrintUnformatted(json);
    snprintf(out, 64, "%s", text == NULL ? "absent" : text);
    if (text != NULL && strlen(text) > 63) {
        memcpy(out + 60, "...", 4);
    }
    cJSON_free(text);
}

static void refuse_field(const section *s, const char *field, const char *what)
{
    char value[64];
    show(json_member(s->json, field), value);
    refuse(s->r, "%s%s is %s; it must be %s", s->path, field, value, what);
}

/* Notes that a field took the reference's default. */
static void note_default(const section *s, const char *field)
{
    char *list = s->r->config->defaulted;
    size_t used = strlen(list);
    snprintf(list + used, sizeof s->r->config->defaulted - used, "%s%s%s", used > 0 ? ", " : "",
             s->path, field);
}

/* ---- fields ---- */

static section open_section(const section *parent, const char *name, const cJSON *json)
{
    section s = {.r = parent->r, .json = json};
    int n = snprintf(s.path, sizeof s.path, "%s%s.", parent->path, name);
    CHECK(n >= 0 && (size_t)n < sizeof s.path); /* names are this file's own */
    return s;
}

/* The section of that name; a section without members where it is absent or null. */
static section subsection(const section *parent, const char *name)
{
    const cJSON *json = json_member(parent->json, name);
    if (json != NULL && !cJSON_IsNull(json) && !cJSON_IsObject(json)) {
        refuse_field(parent, name, "an object");
    }
    return open_section(parent, name, cJSON_IsObject(json) ? json : NULL);
}

static bool is_present(const section *s, const char *field)
{
    const cJSON *json = json_member(s->json, field);
    return json != NULL && !cJSON_IsNull(json);
}

/* A whole number in [min, max]; 0 after a fault. */
static int32_t whole(const section *s, const char *field, int32_t min, int32_t max)
{
    const cJSON *json = json_member(s->json, field);
    if (json == NULL) {
        refuse(s->r, "%s%s is missing", s->path, field);
        return 0;
    }
    double value = cJSON_IsNumber(json) ? json->valuedouble : NAN;
    if (!(value >= min && value <= max) || value != floor(value)) {
        char what[64];
        snprintf(what, sizeof what, "a whole number from %d to %d", min, max);
        refuse_field(s, field, what);
        return 0;
    }
    return (int32_t)value;
}

static int32_t size_of(const section *s, const char *field)
{
    return whole(s, field, 1, SIZE_MAX_FIELD);
}

static int32_t size_or(const section *s, const char *field, int32_t otherwise)
{
    if (json_member(s->json, field) == NULL) {
        note_default(s, field);
        return otherwise;
    }
    return size_of(s, field);
}

/* A token id or ABSENT_ID; whether it lies in a vocabulary is asked later. */
static int32_t id_of(const section *s, const char *field)
{
    return is_present(s, field) ? whole(s, field, 0, INT32_MAX) : ABSENT_ID;
}

static double number_or(const section *s, const char *field, double otherwise, double max)
{
    const cJSON *json = json_member(s->json, field);
    if (json == NULL) {
        note_default(s, field);
        return otherwise;
    }
    double value = cJSON_IsNumber(json) ? json->valuedouble : NAN;
    if (!(value > 0 && value <= max)) {
        char what[64];
        snprintf(what, sizeof what, "a number over 0, at most %g", max);
        refuse_field(s, field, what);
        return otherwise;
    }
    return value;
}

static float epsilon_or(const section *s, double otherwise)
{
    float eps = (float)number_or(s, "rms_norm_eps", otherwise, 1.0);
    if (!(eps > 0)) {
        refuse_field(s, "rms_norm_eps", "a number over 0, at most 1, in 32-bit floats too");
    }
    return eps;
}

/* Absent is the reference's default, which every published file states or implies. */
static bool flag_or(const section *s, const char *field, bool otherwise)
{
    const cJSON *json = json_member(s->json, field);
    if (json == NULL) {
        return otherwise;
    }
    if (!cJSON_IsBool(json)) {
        refuse_field(s, field, "true or false");
    }
    return cJSON_IsTrue(json);
}

/* What this program computes in one way only. */
static void require_flag(const section *s, const char *field, bool value)
{
    if (flag_or(s, field, value) != value) {
        refuse_field(s, field,
                     value ? "true, all that is supported" : "false, all that is supported");
    }
}

static void require_text(const section *s, const char *field, const char *value)
{
    const cJSON *json = json_member(s->json, field);
    if (json != NULL && (!cJSON_IsString(json) || strcmp(json->valuestring, value) != 0)) {
        char what[80];
        snprintf(what, sizeof what, "\"%s\", all that is supported", value);
        refuse_field(s, field, what);
    }
}

/* A list of whole numbers in [min, max]; absent or null is an empty one. Returns their number. */
static int32_t list_of(const section *s, const char *field, int32_t min, int32_t max, int32_t *out,
                       int32_t n_max)
{
    const cJSON *json = json_member(s->json, field);
    if (json == NULL || cJSON_IsNull(json)) {
        return 0;
    }
    bool ok = cJSON_IsArray(json) && cJSON_GetArraySize(json) <= n_max;
    int32_t n = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, json)
    {
        double value = cJSON_IsNumber(item) ? item->valuedouble : NAN;
        ok = ok && value >= min && value <= max && value == floor(value);
        if (!ok) {
            break;
        }
        out[n++] = (int32_t)value;
    }
    if (!ok) {
        char what[96];
        snprintf(what, sizeof what, "a list of at most %d whole numbers from %d to %d", n_max, min,
                 max);
        refuse_field(s, field, what);
        return 0;
    }
    return n;
}

/* ---- heads, rope: what every decoder has ---- */

typedef struct heads {
    int32_t n_heads, n_kv_heads, head_dim;
} heads;

static void check_heads(const section *s, const heads *h)
{
    if (s->r->code != FLO_OK) {
        return;
    }
    if (h->n_heads % h->n_kv_heads != 0) {
        refuse(s->r, "%snum_attention_heads is %d, not a multiple of num_key_value_heads, %d",
               s->path, h->n_heads, h->n_kv_heads);
    }
    if (h->head_dim % 2 != 0) {
        refuse(s->r, "%shead_dim is %d; it must be even", s->path, h->head_dim);
    }
    if ((int64_t)h->n_heads * h->head_dim > SIZE_MAX_FIELD) {
        refuse(s->r, "%snum_attention_heads times head_dim is %lld; at most %d is possible",
               s->path, (long long)h->n_heads * h->head_dim, SIZE_MAX_FIELD);
    }
    if (h->head_dim > HEAD_DIM_MAX) {
        refuse(s->r, "%shead_dim is %d; at most %d is possible", s->path, h->head_dim,
               HEAD_DIM_MAX);
    }
}

/* head_dim of the code2wav and of a text model that does not state it: hidden_size over heads. */
static int32_t head_dim_from_hidden(const section *s, int32_t hidden_size, int32_t n_heads)
{
    if (s->r->code == FLO_OK && hidden_size % n_heads != 0) {
        refuse(s->r,
               "%shidden_size is %d, not a multiple of num_attention_heads, %d, and head_dim is "
               "absent",
               s->path, hidden_size, n_heads);
    }
    return n_heads > 0 ? hidden_size / n_heads : 0;
}

/* The dictionary that holds the rope's fields: rope_scaling goes before rope_parameters unless it
 * is empty, as in the reference. */
static section rope_section(const section *s)
{
    section old = subsection(s, "rope_scaling");
    if (old.json != NULL && old.json->child != NULL) {
        return old;
    }
    section new = subsection(s, "rope_parameters");
    return new.json != NULL ? new : old;
}

/* Its type is `default` and nothing stretches or shortens it. */
static void check_rope_kind(const section *s, const section *rope)
{
    require_text(rope, json_member(rope->json, "rope_type") != NULL ? "rope_type" : "type",
                 "default");
    const section *holders[] = {rope, s};
    for (int i = 0; i < 2; i++) {
        const cJSON *json = json_member(holders[i]->json, "partial_rotary_factor");
        if (json != NULL && !cJSON_IsNull(json) && json->valuedouble != 1.0) {
            refuse_field(holders[i], "partial_rotary_factor", "1, all that is supported");
        }
    }
}

/* rope_theta: in the dictionary, else beside it, else `otherwise` (0: it must be there). */
static double rope_theta(const section *s, const section *rope, double otherwise)
{
    const section *holder = json_member(rope->json, "rope_theta") != NULL ? rope : s;
    if (otherwise <= 0 && json_member(holder->json, "rope_theta") == NULL) {
        refuse(s->r, "%srope_theta is missing", s->path);
        return 1;
    }
    return number_or(holder, "rope_theta", otherwise, 1e30);
}

static double read_rope(const section *s, double theta_otherwise)
{
    section rope = rope_section(s);
    check_rope_kind(s, &rope);
    return rope_theta(s, &rope, theta_otherwise);
}

static void read_mrope_section(const section *s, int32_t head_dim, int32_t out[3])
{
    section rope = rope_section(s);
    const int32_t of_reference[3] = {24, 20, 20};
    memcpy(out, of_reference, sizeof of_reference);
    if (is_present(&rope, "mrope_section")) {
        int32_t n = list_of(&rope, "mrope_section", 0, SIZE_MAX_FIELD, out, 3);
        if (n != 3) {
            refuse_field(&rope, "mrope_section", "a list of three sizes");
        }
    } else {
        note_default(&rope, "mrope_section");
    }
    int64_t sum = (int64_t)out[0] + out[1] + out[2];
    if (sum > head_dim / 2) {
        refuse(s->r, "%smrope_section is [%d, %d, %d], which is more than half of head_dim, %d / 2",
               rope.path, out[0], out[1], out[2], head_dim);
    }
}

/* Biases, activations and windows: one way is known. */
static void check_decoder_kind(const section *s)
{
    require_text(s, "hidden_act", "silu");
    require_flag(s, "attention_bias", false);
    require_flag(s, "use_sliding_window", false);
}

static void refuse_window(const section *s)
{
    bool switched_off = cJSON_IsFalse(json_member(s->json, "use_sliding_window"));
    if (is_present(s, "sliding_window") && !switched_off) {
        refuse_field(s, "sliding_window", "null, all that is supported");
    }
}

/* ---- thinker: text ---- */

static void read_experts(const section *s, text_config *t)
{
    t->n_experts = json_member(s->json, "num_experts") == NULL
                       ? size_or(s, "num_experts", 128)
                       : whole(s, "num_experts", 0, MODEL_EXPERTS_MAX);
    if (t->n_experts == 0) {
        return;
    }
    t->n_experts_per_token = size_or(s, "num_experts_per_tok", 8);
    t->expert_size = size_or(s, "moe_intermediate_size", 768);
    t->norm_topk_prob = flag_or(s, "norm_topk_prob", true);
    if (t->n_experts_per_token > t->n_experts) {
        refuse(s->r, "%snum_experts_per_tok is %d, more than num_experts, %d", s->path,
               t->n_experts_per_token, t->n_experts);
    }
}

/* Layer i is sparse unless it is listed, there are no experts, or (i + 1) is no multiple of the
 * step. */
static void read_sparsity(const section *s, text_config *t)
{
    int32_t step = json_member(s->json, "decoder_sparse_step") == NULL
                       ? 1
                       : whole(s, "decoder_sparse_step", 1, SIZE_MAX_FIELD);
    int32_t listed[MODEL_LAYERS_MAX];
    int32_t n_listed =
        list_of(s, "mlp_only_layers", 0, MODEL_LAYERS_MAX - 1, listed, MODEL_LAYERS_MAX);
    if (s->r->code != FLO_OK) {
        return;
    }
    for (int32_t i = 0; i < t->n_layers; i++) {
        t->layer_is_sparse[i] = t->n_experts > 0 && (i + 1) % step == 0;
    }
    for (int32_t i = 0; i < n_listed; i++) {
        t->layer_is_sparse[listed[i]] = false;
    }
    bool some_dense = false, some_sparse = false;
    for (int32_t i = 0; i < t->n_layers; i++) {
        some_dense |= !t->layer_is_sparse[i];
        some_sparse |= t->layer_is_sparse[i];
    }
    if (some_dense) {
        t->dense_size = size_of(s, "intermediate_size");
    }
    if (!some_sparse) {
        t->n_experts = t->n_experts_per_token = t->expert_size = 0;
    }
}

/* Elements of the text part, as a float: exact enough to see that a product cannot be a model. */
static void check_text_volume(const section *s, const text_config *t)
{
    double h = t->hidden_size;
    double attention = 2.0 * h * t->head_dim * (t->n_heads + t->n_kv_heads);
    double experts = 3.0 * h * t->expert_size * t->n_experts;
    double all =
        2.0 * h * t->vocab_size + t->n_layers * (attention + experts + 3.0 * h * t->dense_size);
    if (all > 0x1p50) {
        refuse(
            s->r,
            "%shidden_size %d, num_hidden_layers %d, num_experts %d, moe_intermediate_size %d and "
            "vocab_size %d make %.3g weights; that is no model",
            s->path, t->hidden_size, t->n_layers, t->n_experts, t->expert_size, t->vocab_size, all);
    }
}

static void read_text(const section *thinker, text_config *t)
{
    section s = subsection(thinker, "text_config");
    if (s.json == NULL) {
        refuse(s.r, "%stext_config is missing", thinker->path);
        return;
    }
    check_decoder_kind(&s);
    refuse_window(&s);
    require_flag(&s, "use_qk_norm", true);
    if (is_present(&s, "shared_expert_intermediate_size")) {
        whole(&s, "shared_expert_intermediate_size", 0, 0);
    }
    t->vocab_size = size_of(&s, "vocab_size");
    t->hidden_size = size_or(&s, "hidden_size", 2048);
    t->n_layers = whole(&s, "num_hidden_layers", 1, MODEL_LAYERS_MAX);
    heads h = {.n_heads = whole(&s, "num_attention_heads", 1, HEADS_MAX),
               .n_kv_heads = size_or(&s, "num_key_value_heads", 4)};
    h.head_dim = json_member(s.json, "head_dim") != NULL
                     ? size_of(&s, "head_dim")
                     : head_dim_from_hidden(&s, t->hidden_size, h.n_heads);
    check_heads(&s, &h);
    t->n_heads = h.n_heads;
    t->n_kv_heads = h.n_kv_heads;
    t->head_dim = h.head_dim;
    read_experts(&s, t);
    read_sparsity(&s, t);
    t->tie_word_embeddings = flag_or(thinker, "tie_word_embeddings", false);
    t->rms_norm_eps = epsilon_or(&s, 1e-6);
    t->rope_theta = read_rope(&s, 1e6);
    read_mrope_section(&s, t->head_dim, t->mrope_section);
    t->max_position_embeddings = json_member(s.json, "max_position_embeddings") == NULL
                                     ? 32768
                                     : whole(&s, "max_position_embeddings", 1, INT32_MAX);
    check_text_volume(&s, t);
}

/* ---- thinker: encoders ---- */

static void check_output_width(const section *s, const char *field, int32_t width,
                               const text_config *t)
{
    if (width != t->hidden_size) {
        refuse(s->r, "%s%s is %d; it must be the text model's hidden_size, %d", s->path, field,
               width, t->hidden_size);
    }
}

static void check_divides(const section *s, const char *whole_field, int32_t value,
                          const char *part_field, int32_t part)
{
    if (s->r->code == FLO_OK && value % part != 0) {
        refuse(s->r, "%s%s is %d, not a multiple of %s, %d", s->path, whole_field, value,
               part_field, part);
    }
}

/* What three halvings, rounded up, leave of n. */
static int32_t after_convolutions(int32_t n)
{
    return (n + 7) / 8;
}

/* A head, a chunk of sound and a row of conv_out are of a size that can be computed with. */
static void check_audio_sizes(const section *s, const audio_config *a)
{
    int32_t chunk = 2 * a->n_window;
    int64_t chunk_size = (int64_t)chunk * a->n_mel_bins;
    int64_t columns = (int64_t)after_convolutions(a->n_mel_bins) * a->downsample_hidden_size;
    if (a->d_model / a->n_heads > HEAD_DIM_MAX) {
        refuse(s->r, "%sd_model / encoder_attention_heads is %d, over the limit of %d", s->path,
               a->d_model / a->n_heads, HEAD_DIM_MAX);
    } else if (after_convolutions(chunk) > a->max_source_positions) {
        refuse(s->r,
               "%sn_window %d makes chunks of %d positions, max_source_positions has room for %d",
               s->path, a->n_window, after_convolutions(chunk), a->max_source_positions);
    } else if (chunk_size > SIZE_MAX_FIELD) {
        refuse(s->r, "%sn_window %d and num_mel_bins %d make chunks of %lld numbers, over %d",
               s->path, a->n_window, a->n_mel_bins, (long long)chunk_size, SIZE_MAX_FIELD);
    } else if (columns > SIZE_MAX_FIELD) {
        refuse(s->r,
               "%snum_mel_bins %d and downsample_hidden_size %d make rows of %lld numbers, over %d",
               s->path, a->n_mel_bins, a->downsample_hidden_size, (long long)columns,
               SIZE_MAX_FIELD);
    }
}

static void read_audio(const section *s, const text_config *t, audio_config *a)
{
    require_text(s, "activation_function", "gelu");
    a->n_mel_bins = size_or(s, "num_mel_bins", 128);
    a->d_model = size_or(s, "d_model", 1280);
    a->n_layers = json_member(s->json, "encoder_layers") == NULL
                      ? size_or(s, "encoder_layers", 32)
                      : whole(s, "encoder_layers", 1, MODEL_LAYERS_MAX);
    if (is_present(s, "num_hidden_layers") &&
        whole(s, "num_hidden_layers", 1, MODEL_LAYERS_MAX) != a->n_layers) {
        refuse_field(s, "num_hidden_layers", "the same as encoder_layers");
    }
    a->n_heads = size_or(s, "encoder_attention_heads", 20);
    a->ffn_dim = size_or(s, "encoder_ffn_dim", 5120);
    a->max_source_positions = size_or(s, "max_source_positions", 1500);
    a->n_window = size_or(s, "n_window", 50);
    a->n_window_infer = size_or(s, "n_window_infer", 800);
    a->downsample_hidden_size = size_or(s, "downsample_hidden_size", 480);
    a->output_dim = size_of(s, "output_dim");
    check_divides(s, "d_model", a->d_model, "encoder_attention_heads", a->n_heads);
    check_divides(s, "d_model", a->d_model, "2 (sines and cosines)", 2);
    if (s->r->code == FLO_OK && a->n_window_infer / 2 < a->n_window) {
        refuse_field(s, "n_window_infer", "at least twice n_window");
    }
    if (s->r->code == FLO_OK) {
        a->n_window_infer -= a->n_window_infer % (2 * a->n_window); /* whole chunks, as there */
        check_audio_sizes(s, a);
    }
    check_output_width(s, "output_dim", a->output_dim, t);
}

/* The vision rope is axial with base 10000, named or not. */
static void check_vision_rope(const section *s)
{
    section rope = rope_section(s);
    const cJSON *type = json_member(rope.json, "rope_type");
    if (type != NULL && !(cJSON_IsString(type) && strcmp(type->valuestring, "default") == 0)) {
        require_text(&rope, "rope_type", "axial");
    }
    if (rope.json != NULL && rope_theta(s, &rope, 10000) != 10000) {
        refuse(s->r, "%srope_theta is not 10000, all that is supported", s->path);
    }
}

static void read_deepstack(const section *s, vision_config *v)
{
    if (!is_present(s, "deepstack_visual_indexes")) {
        const int32_t of_reference[3] = {8, 16, 24};
        note_default(s, "deepstack_visual_indexes");
        memcpy(v->deepstack_layers, of_reference, sizeof of_reference);
        v->n_deepstack = 3;
    } else {
        v->n_deepstack = list_of(s, "deepstack_visual_indexes", 0, MODEL_LAYERS_MAX - 1,
                                 v->deepstack_layers, MODEL_DEEPSTACK_MAX);
    }
    for (int32_t i = 0; i < v->n_deepstack; i++) {
        if (v->deepstack_layers[i] >= v->depth) {
            refuse(s->r, "%sdeepstack_visual_indexes names block %d, depth is %d", s->path,
                   v->deepstack_layers[i], v->depth);
        }
        if (i > 0 && v->deepstack_layers[i] <= v->deepstack_layers[i - 1]) {
            refuse_field(s, "deepstack_visual_indexes", "in rising order");
        }
    }
}

static void read_vision(const section *s, const text_config *t, vision_config *v)
{
    require_text(s, "hidden_act", "gelu_pytorch_tanh");
    v->depth = json_member(s->json, "depth") == NULL ? size_or(s, "depth", 27)
                                                     : whole(s, "depth", 1, MODEL_LAYERS_MAX);
    v->hidden_size = size_or(s, "hidden_size", 1152);
    v->n_heads = size_or(s, "num_heads", 16);
    v->intermediate_size = size_or(s, "intermediate_size", 4304);
    v->in_channels = size_or(s, "in_channels", 3);
    v->patch_size = size_or(s, "patch_size", 16);
    v->temporal_patch_size = size_or(s, "temporal_patch_size", 2);
    v->spatial_merge_size = size_or(s, "spatial_merge_size", 2);
    v->out_hidden_size = size_of(s, "out_hidden_size");
    v->n_position_embeddings = size_or(s, "num_position_embeddings", 2304);
    check_divides(s, "hidden_size", v->hidden_size, "num_heads", v->n_heads);
    if (s->r->code == FLO_OK && v->hidden_size / v->n_heads % 4 != 0) {
        refuse(s->r,
               "%shidden_size / num_heads is %d; it must be a multiple of 4 (pairs for two axes)",
               s->path, v->hidden_size / v->n_heads);
    }
    if (s->r->code == FLO_OK && v->hidden_size / v->n_heads > HEAD_DIM_MAX) {
        refuse(s->r, "%shidden_size / num_heads is %d, over the limit of %d", s->path,
               v->hidden_size / v->n_heads, HEAD_DIM_MAX);
    }
    int32_t side = (int32_t)lround(sqrt((double)v->n_position_embeddings));
    if ((int64_t)side * side != v->n_position_embeddings) {
        refuse_field(s, "num_position_embeddings", "a square number");
    }
    if (v->patch_size > 1024 || v->temporal_patch_size > 64 || v->spatial_merge_size > 16) {
        refuse(s->r,
               "%spatch_size %d, temporal_patch_size %d, spatial_merge_size %d: no picture is cut "
               "like that",
               s->path, v->patch_size, v->temporal_patch_size, v->spatial_merge_size);
    }
    if (v->in_channels != 3) {
        refuse_field(s, "in_channels", "3: red, green and blue");
    }
    int64_t joined = (int64_t)v->hidden_size * v->spatial_merge_size * v->spatial_merge_size;
    if (joined > SIZE_MAX_FIELD) {
        refuse(s->r, "%shidden_size times spatial_merge_size squared is %lld, over the limit of %d",
               s->path, (long long)joined, SIZE_MAX_FIELD);
    }
    if (s->r->code == FLO_OK && v->in_channels != 3) {
        refuse_field(s, "in_channels", "3: pictures are RGB");
    }
    check_output_width(s, "out_hidden_size", v->out_hidden_size, t);
    check_vision_rope(s);
    read_deepstack(s, v);
}

/* ---- speech ---- */

static void read_talker_text(const section *talker, talker_config *t)
{
    section s = subsection(talker, "text_config");
    if (s.json == NULL) {
        refuse(s.r, "%stext_config is missing", talker->path);
        return;
    }
    check_decoder_kind(&s);
    refuse_window(&s);
    t->vocab_size = size_or(&s, "vocab_size", 3072);
    t->hidden_size = size_or(&s, "hidden_size", 1024);
    t->n_layers = json_member(s.json, "num_hidden_layers") == NULL
                      ? size_or(&s, "num_hidden_layers", 20)
                      : whole(&s, "num_hidden_layers", 1, MODEL_LAYERS_MAX);
    heads h = {.n_heads = size_or(&s, "num_attention_heads", 16),
               .n_kv_heads = size_or(&s, "num_key_value_heads", 2),
               .head_dim = size_of(&s, "head_dim")};
    check_heads(&s, &h);
    t->n_heads = h.n_heads;
    t->n_kv_heads = h.n_kv_heads;
    t->head_dim = h.head_dim;
    /* Newer libraries save the count under another name. */
    const char *count =
        json_member(s.json, "num_local_experts") != NULL ? "num_local_experts" : "num_experts";
    t->n_experts = json_member(s.json, count) == NULL ? size_or(&s, count, 128)
                                                      : whole(&s, count, 1, MODEL_EXPERTS_MAX);
    t->n_experts_per_token = size_of(&s, "num_experts_per_tok");
    if (t->n_experts_per_token > t->n_experts) {
        refuse(s.r, "%snum_experts_per_tok is %d, more than %s, %d", s.path, t->n_experts_per_token,
               count, t->n_experts);
    }
    t->expert_size = size_or(&s, "moe_intermediate_size", 384);
    t->shared_expert_size = size_of(&s, "shared_expert_intermediate_size");
    t->projection_size = size_or(&s, "intermediate_size", 2048);
    t->norm_topk_prob = flag_or(&s, "norm_topk_prob", false);
    t->rms_norm_eps = epsilon_or(&s, 1e-6);
    t->rope_theta = read_rope(&s, 0);
    read_mrope_section(&s, t->head_dim, t->mrope_section);
}

static void read_speakers(const section *s, model_config *c)
{
    section ids = subsection(s, "speaker_id");
    const cJSON *entry;
    cJSON_ArrayForEach(entry, ids.json)
    {
        if (c->n_speakers == MODEL_SPEAKERS_MAX ||
            strlen(entry->string) >= sizeof c->speakers[0].name) {
            refuse(s->r, "%sspeaker_id has more than %d speakers, or a name over %zu bytes",
                   s->path, MODEL_SPEAKERS_MAX, sizeof c->speakers[0].name - 1);
            return;
        }
        speaker *to = &c->speakers[c->n_speakers++];
        snprintf(to->name, sizeof to->name, "%s", entry->string);
        to->id = whole(&ids, entry->string, 0, INT32_MAX);
    }
}

static int by_speaker_name(const void *a, const void *b)
{
    return strcmp(((const speaker *)a)->name, ((const speaker *)b)->name);
}

static void read_codec_ids(const section *s, talker_config *t)
{
    t->codec_pad = whole(s, "codec_pad_id", 0, INT32_MAX);
    t->codec_bos = whole(s, "codec_bos_id", 0, INT32_MAX);
    t->codec_eos = whole(s, "codec_eos_token_id", 0, INT32_MAX);
    t->codec_nothink = whole(s, "codec_nothink_id", 0, INT32_MAX);
    t->codec_think_bos = whole(s, "codec_think_bos_id", 0, INT32_MAX);
    t->codec_think_eos = whole(s, "codec_think_eos_id", 0, INT32_MAX);
}

static void read_talker(const section *s, model_config *c)
{
    talker_config *t = &c->talker;
    read_talker_text(s, t);
    t->n_code_groups = whole(s, "num_code_groups", 2, CODE_GROUPS_MAX);
    t->thinker_hidden_size = size_or(s, "thinker_hidden_size", 2048);
    check_output_width(s, "thinker_hidden_size", t->thinker_hidden_size, &c->text);
    t->accept_hidden_layer = whole(s, "accept_hidden_layer", 0, MODEL_LAYERS_MAX);
    if (t->accept_hidden_layer > c->text.n_layers) {
        refuse(s->r, "%saccept_hidden_layer is %d, the thinker has %d layers", s->path,
               t->accept_hidden_layer, c->text.n_layers);
    }
    t->position_id_per_seconds = number_or(s, "position_id_per_seconds", 25, 1e6);
    read_codec_ids(s, t);
    read_speakers(s, c);
    qsort(c->speakers, (size_t)c->n_speakers, sizeof c->speakers[0], by_speaker_name);
}

static void read_code_predictor(const section *talker, model_config *c)
{
    section s = subsection(talker, "code_predictor_config");
    code_predictor_config *p = &c->code_predictor;
    if (s.json == NULL) {
        refuse(s.r, "%scode_predictor_config is missing", talker->path);
        return;
    }
    check_decoder_kind(&s);
    refuse_window(&s);
    p->vocab_size = size_or(&s, "vocab_size", 2048);
    p->hidden_size = size_or(&s, "hidden_size", 1024);
    p->intermediate_size = size_or(&s, "intermediate_size", 3072);
    p->n_layers = json_member(s.json, "num_hidden_layers") == NULL
                      ? size_or(&s, "num_hidden_layers", 5)
                      : whole(&s, "num_hidden_layers", 1, MODEL_LAYERS_MAX);
    heads h = {.n_heads = size_or(&s, "num_attention_heads", 16),
               .n_kv_heads = size_or(&s, "num_key_value_heads", 8),
               .head_dim = size_or(&s, "head_dim", 128)};
    check_heads(&s, &h);
    p->n_heads = h.n_heads;
    p->n_kv_heads = h.n_kv_heads;
    p->head_dim = h.head_dim;
    p->n_code_groups = whole(&s, "num_code_groups", 2, 1024);
    if (p->n_code_groups != c->talker.n_code_groups) {
        refuse(s.r, "%snum_code_groups is %d, the talker's is %d", s.path, p->n_code_groups,
               c->talker.n_code_groups);
    }
    if (p->hidden_size != c->talker.hidden_size) {
        refuse(s.r, "%shidden_size is %d, the talker's is %d", s.path, p->hidden_size,
               c->talker.hidden_size);
    }
    const cJSON *kind;
    cJSON_ArrayForEach(kind, json_member(s.json, "layer_types"))
    {
        if (!cJSON_IsString(kind) || strcmp(kind->valuestring, "full_attention") != 0) {
            refuse_field(&s, "layer_types",
                         "\"full_attention\" for every layer, all that is supported");
        }
    }
    p->rms_norm_eps = epsilon_or(&s, 1e-6);
    p->rope_theta = read_rope(&s, 0);
}

static int32_t read_rates(const section *s, const char *field, int32_t *out, int32_t n_default,
                          const int32_t *of_reference)
{
    if (json_member(s->json, field) == NULL) {
        note_default(s, field);
        memcpy(out, of_reference, (size_t)n_default * sizeof *out);
        return n_default;
    }
    int32_t n = list_of(s, field, 1, 256, out, MODEL_UPSAMPLES_MAX);
    if (n == 0) {
        refuse_field(s, field, "a list of rates");
    }
    return n;
}

/* Samples of a frame, at 12.5 frames a second. */
static void check_rates(const section *s, const code2wav_config *w)
{
    if (code2wav_rate(w) > FRAME_SAMPLES_MAX) {
        refuse(s->r, "%supsample_rates and upsampling_ratios make over %d samples of a frame",
               s->path, FRAME_SAMPLES_MAX);
    }
}

static void read_code2wav(const section *s, model_config *c)
{
    static const int32_t rates[] = {8, 5, 4, 3}, ratios[] = {2, 2};
    code2wav_config *w = &c->code2wav;
    require_text(s, "hidden_act", "silu");
    require_flag(s, "attention_bias", false);
    w->codebook_size = size_or(s, "codebook_size", 2048);
    w->n_quantizers = size_or(s, "num_quantizers", 16);
    w->hidden_size = size_or(s, "hidden_size", 1024);
    w->intermediate_size = size_or(s, "intermediate_size", 3072);
    w->n_layers = json_member(s->json, "num_hidden_layers") == NULL
                      ? size_or(s, "num_hidden_layers", 8)
                      : whole(s, "num_hidden_layers", 1, MODEL_LAYERS_MAX);
    heads h = {.n_heads = size_or(s, "num_attention_heads", 16),
               .n_kv_heads = size_or(s, "num_key_value_heads", 16)};
    h.head_dim = json_member(s->json, "head_dim") != NULL
                     ? size_of(s, "head_dim")
                     : head_dim_from_hidden(s, w->hidden_size, h.n_heads);
    check_heads(s, &h);
    w->n_heads = h.n_heads;
    w->n_kv_heads = h.n_kv_heads;
    w->head_dim = h.head_dim;
    w->sliding_window = size_or(s, "sliding_window", 72);
    w->decoder_dim = size_or(s, "decoder_dim", 1536);
    w->n_upsample_rates = read_rates(s, "upsample_rates", w->upsample_rates, 4, rates);
    w->n_upsampling_ratios = read_rates(s, "upsampling_ratios", w->upsampling_ratios, 2, ratios);
    check_divides(s, "decoder_dim", w->decoder_dim, "2 to the number of upsample_rates",
                  1 << w->n_upsample_rates);
    check_rates(s, w);
    w->rms_norm_eps = epsilon_or(s, 1e-5);
    w->rope_theta = read_rope(s, 10000);
    if (w->n_quantizers != c->talker.n_code_groups) {
        refuse(s->r, "%snum_quantizers is %d, the talker has %d code groups", s->path,
               w->n_quantizers, c->talker.n_code_groups);
    }
}

/* ---- the whole ---- */

static void read_thinker_tokens(const section *s, model_tokens *t)
{
    t->user = id_of(s, "user_token_id");
    t->audio = id_of(s, "audio_token_id");
    t->image = id_of(s, "image_token_id");
    t->video = id_of(s, "video_token_id");
    t->audio_start = id_of(s, "audio_start_token_id");
    t->audio_end = id_of(s, "audio_end_token_id");
    t->vision_start = id_of(s, "vision_start_token_id");
    t->vision_end = id_of(s, "vision_end_token_id");
}

static void read_top_tokens(const section *s, model_tokens *t)
{
    t->im_start = id_of(s, "im_start_token_id");
    t->im_end = id_of(s, "im_end_token_id");
    t->system = id_of(s, "system_token_id");
    t->assistant = id_of(s, "assistant_token_id");
    t->tts_pad = id_of(s, "tts_pad_token_id");
    t->tts_bos = id_of(s, "tts_bos_token_id");
    t->tts_eos = id_of(s, "tts_eos_token_id");
    if (is_present(s, "user_token_id")) {
        t->user = id_of(s, "user_token_id");
    }
}

static void read_thinker(const section *s, model_config *c)
{
    read_text(s, &c->text);
    section audio = subsection(s, "audio_config");
    section vision = subsection(s, "vision_config");
    c->has_audio = audio.json != NULL;
    c->has_vision = vision.json != NULL;
    if (c->has_audio) {
        read_audio(&audio, &c->text, &c->audio);
    }
    if (c->has_vision) {
        read_vision(&vision, &c->text, &c->vision);
    }
    c->position_id_per_seconds = number_or(s, "position_id_per_seconds", 25, 1e6);
    read_thinker_tokens(s, &c->tokens);
}

static void read_speech(const section *top, model_config *c)
{
    section talker = subsection(top, "talker_config");
    section code2wav = subsection(top, "code2wav_config");
    if (talker.json == NULL || code2wav.json == NULL) {
        refuse(top->r, "%s is missing although enable_audio_output is not false",
               talker.json == NULL ? "talker_config" : "code2wav_config");
        return;
    }
    c->has_talker = c->has_code2wav = true;
    read_talker(&talker, c);
    read_code_predictor(&talker, c);
    read_code2wav(&code2wav, c);
}

static bool text_contains(const char *text, const char *word)
{
    return strcasestr(text, word) != NULL;
}

/* A name that says which of the variants without speech this is; false where it says nothing. */
static bool variant_from_name(const char *name, model_variant *out)
{
    if (text_contains(name, "captioner")) {
        *out = MODEL_CAPTIONER;
    } else if (text_contains(name, "thinking")) {
        *out = MODEL_THINKING;
    } else if (text_contains(name, "instruct")) {
        *out = MODEL_INSTRUCT; /* the thinker cut out of it */
    } else {
        return false;
    }
    return true;
}

static const char *text_or(const cJSON *object, const char *field, const char *otherwise)
{
    const cJSON *json = json_member(object, field);
    return cJSON_IsString(json) ? json->valuestring : otherwise;
}

static void read_variant(const section *top, model_config *c)
{
    c->variant = c->has_talker ? MODEL_INSTRUCT : MODEL_THINKING;
    if (!c->has_talker) {
        variant_from_name(text_or(top->json, "_name_or_path", ""), &c->variant);
    }
}

/* Which class saved it: the whole model, or the thinker alone. FLO_USAGE: neither. */
static flo_code find_class(const cJSON *json, bool *is_thinker_alone, char architecture[96],
                           flo_err *err)
{
    if (!cJSON_IsObject(json)) {
        return flo_fail(err, FLO_USAGE, "not a JSON object, so not a Qwen3-Omni checkpoint");
    }
    const char *type = text_or(json, "model_type", "");
    const cJSON *names = json_member(json, "architectures");
    const cJSON *first = cJSON_IsArray(names) ? names->child : NULL;
    const char *saved_as = cJSON_IsString(first) ? first->valuestring : "";
    if (strcmp(type, "qwen3_omni_moe") == 0) {
        *is_thinker_alone = false;
    } else if (strcmp(type, "qwen3_omni_moe_thinker") == 0) {
        *is_thinker_alone = true;
    } else {
        return flo_fail(
            err, FLO_USAGE,
            "not a Qwen3-Omni checkpoint: model_type is '%.60s', expected qwen3_omni_moe or "
            "qwen3_omni_moe_thinker",
            type);
    }
    const char *class_name = *is_thinker_alone ? "Qwen3OmniMoeThinkerForConditionalGeneration"
                                               : "Qwen3OmniMoeForConditionalGeneration";
    snprintf(architecture, 96, "%s", saved_as[0] != '\0' ? saved_as : class_name);
    return FLO_OK;
}

static void read_whole(const section *top, bool is_thinker_alone, model_config *c)
{
    memset(&c->tokens, 0xff, sizeof c->tokens); /* ABSENT_ID everywhere */
    if (is_thinker_alone) {
        read_thinker(top, c);
        read_variant(top, c);
        return;
    }
    section thinker = subsection(top, "thinker_config");
    if (thinker.json == NULL) {
        refuse(top->r, "thinker_config is missing");
        return;
    }
    read_thinker(&thinker, c);
    read_top_tokens(top, &c->tokens);
    if (flag_or(top, "enable_audio_output", true)) {
        read_speech(top, c);
    }
    read_variant(top, c);
}

/* ---- ids against vocabularies ---- */

typedef struct named_id {
    const char *name;
    int32_t id;
} named_id;

static flo_code check_ids(const named_id *ids, size_t n, int32_t vocab_size, const char *vocabulary,
                          flo_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i].id >= vocab_size) {
            return flo_fail(err, FLO_FAIL, "%s is %d, outside the %s of %d ids", ids[i].name,
                            ids[i].id, vocabulary, vocab_size);
        }
    }
    return FLO_OK;
}

static flo_code check_text_ids(const model_config *c, flo_err *err)
{
    const model_tokens *t = &c->tokens;
    const named_id ids[] = {
        {"im_start_token_id", t->im_start},
        {"im_end_token_id", t->im_end},
        {"system_token_id", t->system},
        {"user_token_id", t->user},
        {"assistant_token_id", t->assistant},
        {"audio_token_id", t->audio},
        {"image_token_id", t->image},
        {"video_token_id", t->video},
        {"audio_start_token_id", t->audio_start},
        {"audio_end_token_id", t->audio_end},
        {"vision_start_token_id", t->vision_start},
        {"vision_end_token_id", t->vision_end},
        {"tts_pad_token_id", t->tts_pad},
        {"tts_bos_token_id", t->tts_bos},
        {"tts_eos_token_id", t->tts_eos},
    };
    return check_ids(ids, sizeof ids / sizeof ids[0], c->text.vocab_size, "vocabulary", err);
}

static flo_code check_codec_ids(const model_config *c, flo_err *err)
{
    const talker_config *t = &c->talker;
    const named_id ids[] = {
        {"talker_config.codec_pad_id", t->codec_pad},
        {"talker_config.codec_bos_id", t->codec_bos},
        {"talker_config.codec_eos_token_id", t->codec_eos},
        {"talker_config.codec_nothink_id", t->codec_nothink},
        {"talker_config.codec_think_bos_id", t->codec_think_bos},
        {"talker_config.codec_think_eos_id", t->codec_think_eos},
    };
    flo_code code =
        check_ids(ids, sizeof ids / sizeof ids[0], t->vocab_size, "talker's vocabulary", err);
    for (int32_t i = 0; code == FLO_OK && i < c->n_speakers; i++) {
        const speaker *s = &c->speakers[i];
        if (s->id >= t->vocab_size) {
            code = flo_fail(err, FLO_FAIL,
                            "talker_config.speaker_id.%s is %d, outside the talker's "
                            "vocabulary of %d ids",
                            s->name, s->id, t->vocab_size);
        }
    }
    return code;
}

/* Each code that is chosen has a row in the vocoder's tables. */
static flo_code check_codebook(const model_config *c, flo_err *err)
{
    const struct {
        const char *path;
        int32_t vocab_size, n_codes;
    } makers[] = {
        {"talker_config.text_config", c->talker.vocab_size, model_first_codes(&c->talker)},
        {"talker_config.code_predictor_config", c->code_predictor.vocab_size,
         c->code_predictor.vocab_size},
    };
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        if (makers[i].n_codes > c->code2wav.codebook_size) {
            return flo_fail(err, FLO_FAIL,
                            "%s.vocab_size is %d, which makes %d codes of speech; "
                            "code2wav_config.codebook_size is %d",
                            makers[i].path, makers[i].vocab_size, makers[i].n_codes,
                            c->code2wav.codebook_size);
        }
    }
    return FLO_OK;
}

/* ---- entrances ---- */

static flo_code parse_shapes(model_config *c, const char *json, size_t n_bytes, const char *name,
                             flo_err *err)
{
    memset(c, 0, sizeof *c);
    cJSON *root = NULL;
    flo_code code = json_parse(&root, json, n_bytes, err);
    bool is_thinker_alone = false;
    if (code == FLO_OK) {
        code = find_class(root, &is_thinker_alone, c->architecture, err);
        if (code == FLO_OK) {
            reader r = {.config = c, .err = err, .code = FLO_OK};
            section top = {.r = &r, .json = root};
            read_whole(&top, is_thinker_alone, c);
            code = r.code;
        }
        cJSON_Delete(root);
    }
    if (code != FLO_OK) {
        flo_context(err, "%s", name);
    }
    return code;
}

static flo_code check_all_ids(const model_config *c, const char *name, flo_err *err)
{
    flo_code code = check_text_ids(c, err);
    if (code == FLO_OK && c->has_talker) {
        code = check_codec_ids(c, err);
    }
    if (code == FLO_OK && c->has_talker && c->has_code2wav) {
        code = check_codebook(c, err);
    }
    if (code != FLO_OK) {
        flo_context(err, "%s", name);
    }
    return code;
}

flo_code model_config_parse(model_config *c, const char *json, const char *name, flo_err *err)
{
    flo_code code = parse_shapes(c, json, strlen(json), name, err);
    return code == FLO_OK ? check_all_ids(c, name, err) : code;
}

static flo_code read_folder(model_config *c, const char *folder, bool with_ids, flo_err *err)
{
    struct stat st;
    if (stat(folder, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return flo_fail(err, FLO_USAGE, "%s: no such folder", folder);
    }
    char *path = NULL, *text = NULL;
    size_t n_bytes = 0;
    if (asprintf(&path, "%s/config.json", folder) < 0) {
        return flo_fail(err, FLO_FAIL, "no memory");
    }
    flo_code code = file_read_text(&text, &n_bytes, path, CONFIG_BYTES_MAX, err);
    if (code == FLO_OK) {
        code = parse_shapes(c, text, n_bytes, path, err);
        free(text);
    } else if (code == FLO_USAGE) {
        flo_fail(err, FLO_USAGE, "%s: no config.json in it, so not a Qwen3-Omni checkpoint",
                 folder);
    }
    if (code == FLO_OK && with_ids) {
        code = check_all_ids(c, path, err);
    }
    free(path);
    if (code == FLO_OK && !c->has_talker) {
        char *real = realpath(folder, NULL);
        variant_from_name(real != NULL ? real : folder, &c->variant);
        free(real);
    }
    return code;
}

flo_code model_config_read(model_config *c, const char *folder, flo_err *err)
{
    return read_folder(c, folder, true, err);
}

flo_code model_config_read_shapes(model_config *c, const char *folder, flo_err *err)
{
    return read_folder(c, folder, false, err);
}

const char *model_variant_name(model_variant v)
{
    static const char *const names[] = {[MODEL_INSTRUCT] = "instruct",
                                        [MODEL_THINKING] = "thinking",
                                        [MODEL_CAPTIONER] = "captioner"};
    CHECK((size_t)v < sizeof names / sizeof names[0]);
    return names[v];
}

void model_config_keep_layers(model_config *c, int32_t n)
{
    if (n <= 0 || n >= c->text.n_layers) {
        return;
    }
    c->text.n_layers = n;
    if (c->has_talker && c->talker.accept_hidden_layer >= n) {
        c->talker.accept_hidden_layer = n - 1;
    }
}

void model_talker_layers(text_config *t, const talker_config *c)
{
    *t = (text_config){.vocab_size = c->vocab_size,
                       .hidden_size = c->hidden_size,
                       .n_layers = c->n_layers,
                       .n_heads = c->n_heads,
                       .n_kv_heads = c->n_kv_heads,
                       .head_dim = c->head_dim,
                       .n_experts = c->n_experts,
                       .n_experts_per_token = c->n_experts_per_token,
                       .expert_size = c->expert_size,
                       .shared_expert_size = c->shared_expert_size,
                       .norm_topk_prob = c->norm_topk_prob,
                       .rms_norm_eps = c->rms_norm_eps,
                       .rope_theta = c->rope_theta};
    for (int32_t i = 0; i < c->n_layers; i++) {
        t->layer_is_sparse[i] = true;
    }
    memcpy(t->mrope_section, c->mrope_section, sizeof t->mrope_section);
}

int32_t model_first_codes(const talker_config *c)
{
    return c->vocab_size > TALKER_SPECIAL_CODES ? c->vocab_size - TALKER_SPECIAL_CODES : 0;
}

void model_predictor_layers(text_config *t, const code_predictor_config *c)
{
    *t = (text_config){.vocab_size = c->vocab_size,
                       .hidden_size = c->hidden_size,
                       .n_layers = c->n_layers,
                       .n_heads = c->n_heads,
                       .n_kv_heads = c->n_kv_heads,
                       .head_dim = c->head_dim,
                       .dense_size = c->intermediate_size,
                       .rms_norm_eps = c->rms_norm_eps,
                       .rope_theta = c->rope_theta};
}

const speaker *model_speaker(const model_config *c, const char *name)
{
    for (int32_t i = 0; i < c->n_speakers; i++) {
        if (strcasecmp(c->speakers[i].name, name) == 0) {
            return &c->speakers[i];
        }
    }
    return NULL;
}

/* The encoders' numbers, all of type int32_t. */
static uint64_t encoders_fingerprint(uint64_t hash, const model_config *c)
{
    static const audio_config no_audio;
    static const vision_config no_vision;
    const audio_config *a = c->has_audio ? &c->audio : &no_audio;
    const vision_config *v = c->has_vision ? &c->vision : &no_vision;
    const int32_t values[] = {
        c->has_audio,          a->n_mel_bins,      a->d_model,
        a->n_layers,           a->n_heads,         a->ffn_dim,
        a->n_window,           a->n_window_infer,  a->downsample_hidden_size,
        a->output_dim,         c->has_vision,      v->depth,
        v->hidden_size,        v->n_heads,         v->intermediate_size,
        v->in_channels,        v->patch_size,      v->temporal_patch_size,
        v->spatial_merge_size, v->out_hidden_size, v->n_position_embeddings,
        v->n_deepstack,
    };
    hash = hash_bytes(hash, values, sizeof values);
    return hash_bytes(hash, v->deepstack_layers,
                      (size_t)v->n_deepstack * sizeof v->deepstack_layers[0]);
}

/* Numbers that talker, code predictor and vocoder share the names of. */
static uint64_t hash_reals(uint64_t hash, float eps, double theta)
{
    const double reals[] = {(double)eps, theta};
    return hash_bytes(hash, reals, sizeof reals);
}

static uint64_t talker_fingerprint(uint64_t hash, const talker_config *t)
{
    const int32_t values[] = {
        t->vocab_size,          t->hidden_size,        t->n_layers,         t->n_heads,
        t->n_kv_heads,          t->head_dim,           t->n_experts,        t->n_experts_per_token,
        t->expert_size,         t->shared_expert_size, t->projection_size,  t->thinker_hidden_size,
        t->norm_topk_prob,      t->mrope_section[0],   t->mrope_section[1], t->mrope_section[2],
        t->accept_hidden_layer, t->n_code_groups,      t->codec_pad,        t->codec_bos,
        t->codec_eos,           t->codec_nothink,      t->codec_think_bos,  t->codec_think_eos,
    };
    return hash_reals(hash_bytes(hash, values, sizeof values), t->rms_norm_eps, t->rope_theta);
}

static uint64_t predictor_fingerprint(uint64_t hash, const code_predictor_config *p)
{
    const int32_t values[] = {
        p->vocab_size, p->hidden_size, p->n_layers,          p->n_heads,
        p->n_kv_heads, p->head_dim,    p->intermediate_size, p->n_code_groups,
    };
    return hash_reals(hash_bytes(hash, values, sizeof values), p->rms_norm_eps, p->rope_theta);
}

static uint64_t code2wav_fingerprint(uint64_t hash, const code2wav_config *v)
{
    const int32_t values[] = {
        v->codebook_size,  v->n_quantizers, v->hidden_size,      v->n_layers,
        v->n_heads,        v->n_kv_heads,   v->head_dim,         v->intermediate_size,
        v->sliding_window, v->decoder_dim,  v->n_upsample_rates, v->n_upsampling_ratios,
    };
    hash = hash_bytes(hash, values, sizeof values);
    hash = hash_bytes(hash, v->upsample_rates,
                      (size_t)v->n_upsample_rates * sizeof v->upsample_rates[0]);
    hash = hash_bytes(hash, v->upsampling_ratios,
                      (size_t)v->n_upsampling_ratios * sizeof v->upsampling_ratios[0]);
    return hash_reals(hash, v->rms_norm_eps, v->rope_theta);
}

static uint64_t speech_fingerprint(uint64_t hash, const model_config *c)
{
    const int32_t has[] = {c->has_talker, c->has_code2wav};
    hash = hash_bytes(hash, has, sizeof has);
    if (c->has_talker) {
        hash = talker_fingerprint(hash, &c->talker);
        hash = predictor_fingerprint(hash, &c->code_predictor);
    }
    return c->has_code2wav ? code2wav_fingerprint(hash, &c->code2wav) : hash;
}

uint64_t model_config_fingerprint(const model_config *c)
{
    const text_config *t = &c->text;
    double values[16 + MODEL_LAYERS_MAX] = {
        t->vocab_size,  t->hidden_size,      t->n_layers,         t->n_heads,
        t->n_kv_heads,  t->head_dim,         t->n_experts,        t->n_experts_per_token,
        t->expert_size, t->dense_size,       t->norm_topk_prob,   (double)t->rms_norm_eps,
        t->rope_theta,  t->mrope_section[0], t->mrope_section[1], t->mrope_section[2],
    };
    size_t n = 16;
    for (int32_t i = 0; i < t->n_layers; i++) {
        values[n++] = t->layer_is_sparse[i];
    }
    uint64_t hash = hash_bytes(HASH_START, values, n * sizeof values[0]);
    return speech_fingerprint(encoders_fingerprint(hash, c), c);
}

/*
 * speech_case.c - the text stream of a case: tts_pad; the ids of the prompt's rows that are no
 * media; what follows of the answer, and tts_eos.
 */
#include "tests/unit/worker/speech/speech_case.h"

#include "tests/unit/worker/encoders/encoder_cases.h"

#include "common/json.h"
#include "worker/kernels/kernels.h"

#include <math.h>
#include <string.h>

enum { TAIL = 9 }; /* rows of the assistant's part */

int32_t speech_case_below(uint64_t *seed, int32_t n)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return (int32_t)((x ^ (x >> 31)) % (uint64_t)n);
}

static void *recorded(const speech_case *c, const char *name, int32_t *n)
{
    const checkpoint_tensor *t = NULL;
    void *data = tensor_data(c->tensors, name, &t);
    if (data == NULL) {
        fail_msg("no tensor %s", name);
    }
    if (n != NULL) {
        *n = (int32_t)t->shape[t->n_dims - 1];
    }
    return data;
}

static const cJSON *input_of(const speech_case *c, const char *name)
{
    const cJSON *value = json_member(json_member(c->info, "inputs"), name);
    assert_non_null(value);
    return value;
}

static bool is_media(const model_config *m, int32_t id)
{
    return id == m->tokens.audio || id == m->tokens.image || id == m->tokens.video;
}

/* The assistant's rows: three ids of the prompt, pads and the first of the answer with codes. */
static void fill_tail(speech_case *c, const model_config *m, const int32_t *prompt_end,
                      int32_t first)
{
    const talker_config *t = &m->talker;
    const model_tokens *k = &m->tokens;
    int32_t voice = model_speaker(m, cJSON_GetStringValue(input_of(c, "speaker")))->id;
    int32_t codes[TAIL] = {
        -1,    -1,           -1,          t->codec_nothink, t->codec_think_bos, t->codec_think_eos,
        voice, t->codec_pad, t->codec_bos};
    int32_t ids[TAIL] = {prompt_end[-3], prompt_end[-2], prompt_end[-1], k->tts_pad, k->tts_pad,
                         k->tts_pad,     k->tts_pad,     k->tts_bos,     first};
    memcpy(c->codes + c->n_rows - TAIL, codes, sizeof codes);
    memcpy(c->texts + c->n_texts, ids, sizeof ids);
    c->n_texts += TAIL;
}

/* Codes are recorded by group, [groups][n_frames]. */
static void read_frames(speech_case *c, int32_t groups)
{
    int32_t *by_group = recorded(c, "codes", &c->n_frames);
    c->frames = memory_of((size_t)(c->n_frames * groups) * sizeof *c->frames);
    for (int32_t f = 0; f < c->n_frames; f++) {
        for (int32_t i = 0; i < groups; i++) {
            c->frames[f * groups + i] = by_group[i * c->n_frames + f];
        }
    }
    free(by_group);
}

static void take_lists(speech_case *c, int32_t n_texts)
{
    size_t n = (size_t)c->n_rows;
    c->codes = memory_of(n * sizeof *c->codes);
    c->media = memory_of(n * sizeof *c->media);
    c->texts = memory_of((size_t)n_texts * sizeof *c->texts);
    for (size_t i = 0; i < n; i++) {
        c->codes[i] = -1;
        c->media[i] = 0;
    }
}

void speech_case_open(speech_case *c, const model_config *m, const char *name)
{
    char path[256];
    int32_t n_answer, n_prompt;
    *c = (speech_case){0};
    snprintf(path, sizeof path, "speech/%s/tensors.safetensors", name);
    c->tensors = open_file(golden_path(path));
    snprintf(path, sizeof path, "speech/%s/case.json", name);
    assert_int_equal(json_read(&c->info, golden_path(path), 1 << 20, &err), FLO_OK);
    int32_t *ids = recorded(c, "talker_prefill_ids", &c->n_rows);
    int32_t *answer = recorded(c, "thinker_new_ids", &n_answer);
    int32_t *prompt = recorded(c, "input_ids", &n_prompt);
    float *next = recorded(c, "talker_step1_position", NULL);
    take_lists(c, c->n_rows + n_answer + 1);
    c->texts[c->n_texts++] = m->tokens.tts_pad;
    for (int32_t i = 0; i < c->n_rows - TAIL; i++) {
        if (is_media(m, ids[i])) {
            c->media[i] = 1;
            c->n_media++;
        } else {
            c->texts[c->n_texts++] = ids[i];
        }
    }
    fill_tail(c, m, prompt + n_prompt, answer[0]);
    for (int32_t i = 1; i < n_answer - 1; i++) {
        c->texts[c->n_texts++] = answer[i];
    }
    c->texts[c->n_texts++] = m->tokens.tts_eos;
    c->positions = recorded(c, "talker_position_ids", NULL);
    c->next_position = next[0];
    c->hidden = c->n_media > 0 ? recorded(c, "media_hidden", NULL) : NULL;
    c->max_draws = (int32_t)input_of(c, "talker_max_new_tokens")->valuedouble;
    read_frames(c, m->talker.n_code_groups);
    free(ids);
    free(answer);
    free(prompt);
    free(next);
}

void speech_case_draw(speech_case *c, const model_config *m, int32_t n_text, int32_t n_media,
                      int32_t n_trail, uint64_t seed)
{
    size_t hidden = (size_t)(n_media * m->text.hidden_size);
    *c = (speech_case){.n_rows = n_text + n_media, .n_media = n_media};
    take_lists(c, n_text + n_trail + 1);
    while (c->n_texts < n_text + n_trail + 1) {
        c->texts[c->n_texts++] = speech_case_below(&seed, m->text.vocab_size);
    }
    for (int32_t left = n_media; left > 0;) {
        int32_t i = speech_case_below(&seed, c->n_rows);
        left -= !c->media[i];
        c->media[i] = 1;
    }
    c->positions = memory_of(3 * (size_t)c->n_rows * sizeof(float));
    for (int32_t i = 0; i < 3 * c->n_rows; i++) {
        c->positions[i] = (float)(i % c->n_rows);
    }
    for (int32_t i = 0; i < c->n_rows; i++) {
        c->codes[i] =
            speech_case_below(&seed, 3) > 0 ? -1 : speech_case_below(&seed, m->talker.vocab_size);
    }
    c->next_position = (float)c->n_rows;
    c->hidden = n_media > 0 ? memory_of(hidden * sizeof(float)) : NULL;
    for (size_t i = 0; i < hidden; i++) {
        c->hidden[i] = (float)speech_case_below(&seed, 2001) * 1e-3f - 1.0f;
    }
}

void speech_case_close(speech_case *c)
{
    free(c->codes);
    free(c->media);
    free(c->positions);
    free(c->hidden);
    free(c->texts);
    free(c->frames);
    cJSON_Delete(c->info);
    if (c->tensors != NULL) {
        checkpoint_close(c->tensors);
    }
}

void speech_case_embed(float *out, const checkpoint *weights, const model_config *m,
                       const int32_t *ids, int32_t n)
{
    const checkpoint_tensor *t = checkpoint_find(weights, "thinker.model.embed_tokens.weight");
    size_t h = (size_t)m->text.hidden_size;
    bf16 row[1024];
    assert_true(t != NULL && h <= 1024);
    for (int32_t i = 0; i < n; i++) {
        assert_int_equal(checkpoint_read(weights, t, (uint64_t)ids[i] * h * sizeof(bf16), row,
                                         h * sizeof(bf16), &err),
                         FLO_OK);
        kernels()->bf16_widen(out + (size_t)i * h, row, (int32_t)h);
    }
}

static double tolerance(const speech_case *c, const char *name, const char *which)
{
    const cJSON *value = json_member(json_member(json_member(c->info, "tensors"), name), which);
    assert_true(cJSON_IsNumber(value));
    return value->valuedouble;
}

bool speech_case_holds(const speech_case *c, const char *name, int32_t first, int32_t n,
                       int32_t columns, bool is_ids, const void *data)
{
    const checkpoint_tensor *t = NULL;
    void *want = c->tensors != NULL ? tensor_data(c->tensors, name, &t) : NULL;
    if (want == NULL) {
        return false;
    }
    size_t from = (size_t)first * (size_t)columns, count = (size_t)n * (size_t)columns;
    assert_true((from + count) * 4 <= t->n_bytes);
    if (is_ids) {
        assert_memory_equal(data, (int32_t *)want + from, count * sizeof(int32_t));
        free(want);
        return true;
    }
    double atol = tolerance(c, name, "atol"), rtol = tolerance(c, name, "rtol");
    const float *got = data, *target = (float *)want + from;
    for (size_t i = 0; i < count; i++) {
        double off = fabs((double)got[i] - (double)target[i]);
        if (!(off <= atol + rtol * fabs((double)target[i]))) {
            fail_msg("%s: row %zu, entry %zu is %.9g, the reference has %.9g", name,
                     (size_t)first + i / (size_t)columns, i % (size_t)columns, (double)got[i],
                     (double)target[i]);
        }
    }
    free(want);
    return true;
}

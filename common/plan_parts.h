/*
 * plan_parts.h - what each part of the model weighs, and dealing equal items to unequal workers:
 * the arithmetic under plan.c.
 */
#ifndef FLOTILLA_COMMON_PLAN_PARTS_H
#define FLOTILLA_COMMON_PLAN_PARTS_H

#include "common/plan.h"

/* The parts that are whole on one worker; the talker but for its experts. */
typedef enum plan_part {
    PART_AUDIO,
    PART_VISION,
    PART_TALKER,
    PART_PREDICTOR,
    PART_CODE2WAV,
    PART_COUNT
} plan_part;

const char *plan_part_name(plan_part part); /* "audio_encoder" .. "code2wav", as in pins */
bool plan_part_is_speech(plan_part part);
bool plan_has_part(const plan_worker *w, plan_part part);
bool *plan_part_flag(plan_worker *w, plan_part part);
bool plan_model_has_part(const model_config *m, plan_part part);
bool plan_wants_part(const plan_request *r, plan_part part);

/* The host that a part is pinned to; NULL: none. */
const char *plan_part_host(const plan_request *r, plan_part part);

/* Bytes in memory, from the configuration alone. */
typedef struct plan_parts {
    uint64_t attention; /* one layer: q, k, v, o and the norms */
    uint64_t router;    /* of a sparse layer */
    uint64_t expert;    /* one expert of one layer: gate, up, down */
    uint64_t dense;     /* the MLP of a dense layer */
    uint64_t embedding; /* plain bf16 rows */
    uint64_t final_norm;
    uint64_t grain; /* LM_HEAD_GRAIN rows of the LM head */
    int32_t n_grains;
    double active_share; /* of a sparse layer's experts, those that one token reads */
} plan_parts;

void plan_parts_of(plan_parts *parts, const model_config *m);

/* Packed bytes of layers [first_layer, first_layer + n_layers) of a decoder, in the order of
 * worker/thinker/weights.h: all but the routed experts for its home, and n_experts experts of each
 * sparse layer. */
uint64_t plan_layers_bytes(const text_config *t, int32_t first_layer, int32_t n_layers, bool home,
                           int32_t n_experts);

/* Packed bytes of the thinker's weights that w holds, in the order of worker/thinker/weights.h:
 * from its place and its ranges of layers, experts and LM-head rows. */
uint64_t plan_thinker_bytes(const model_config *m, const plan_worker *w);

/* Packed bytes of an encoder's weights, in the order of worker/encoders/encoder_weights.h: matrices
 * in panels, vectors in f32, each rounded to a cache line; 0 where the model has none. */
uint64_t plan_audio_bytes(const model_config *m);
uint64_t plan_vision_bytes(const model_config *m);

/* Packed bytes of the speech parts that w holds, in the order of worker/speech: the talker's home
 * part and its experts there; 0 where w or the model has none. */
uint64_t plan_talker_bytes(const model_config *m, const plan_worker *w);
uint64_t plan_predictor_bytes(const model_config *m);
uint64_t plan_code2wav_bytes(const model_config *m);

/* Weights of the encoders, and of the parts of speech, that the request leaves out of the model; 0
 * where nothing is. */
uint64_t plan_media_saved_bytes(const plan_request *r);
uint64_t plan_speech_saved_bytes(const plan_request *r);

/* The same for people: "without speech: 7.1 GB less", "" for nothing left out. Returns text. */
enum { PLAN_SAVED_TEXT_MAX = 128 };
const char *plan_saved_print(char text[PLAN_SAVED_TEXT_MAX], const plan_request *r);

/* An array [a][b] of n_bytes each; 0 where a or b is not over 0. */
uint64_t plan_buffer_bytes(int64_t a, int64_t b, uint64_t n_bytes);

/* The same as loaders place it: on lines of its own (rounded up to 64). */
uint64_t plan_array_bytes(int64_t a, int64_t b, uint64_t n_bytes);

/* Rows of the LM head in grains [first, first + n); the last grain may be short. */
int32_t plan_grain_rows(const model_config *m, int32_t first, int32_t n);

/* a + b and a * b, stopping at 2^62. */
uint64_t plan_add(uint64_t a, uint64_t b);
uint64_t plan_times(uint64_t a, uint64_t b);

/* The stages of a request: its own number, or as many as workers and layers allow. */
int32_t plan_request_stages(const plan_request *r);

/* Workers of a stage when n_workers are dealt to n_stages, and the index of its first. */
int32_t plan_dealt_size(int32_t n_workers, int32_t n_stages, int32_t stage);
int32_t plan_dealt_first(int32_t n_workers, int32_t n_stages, int32_t stage);

/* Deals n_items equal items so that the last to finish finishes as early as can be: worker w does
 * speed[w] items in a unit of time, takes at least `least` and at most most[w]. Between equals the
 * first (or, with last_first, the last) worker takes more. False where there is not room for all.
 */
bool plan_deal(int32_t *out, int32_t n_workers, int32_t n_items, int32_t least, const int32_t *most,
               const double *speed, bool last_first);

/* Speeds to plan with, from measured bandwidths: workers alike on one host take their mean, values
 * within 15 % of each other count as equal, unknown ones as the mean. All 1 on equal machines, so
 * that measuring twice gives the same plan. */
void plan_speeds(double *speed, const plan_worker_facts *workers, int32_t n_workers);

#endif

/*
 * speech_cost.h - what speech costs by its formulas: samples of a frame, bytes that a frame reads,
 * multiplications and additions; what measured rates are rates of.
 */
#ifndef FLOTILLA_COMMON_SPEECH_COST_H
#define FLOTILLA_COMMON_SPEECH_COST_H

#include "common/model_config.h"

#include <stdint.h>

/* Samples of one frame: the product of all rates, INT32_MAX where it is more. */
int32_t code2wav_rate(const code2wav_config *c);

/* Samples that are final after n frames of a stream: each transposed convolution of the decoder
 * looks one step ahead. 0 for none. (shared specification, section 5.6) */
int64_t code2wav_samples(const code2wav_config *c, int64_t n_frames);

/* Products, convolutions and attention over a full window, two for each multiply-add. */
double code2wav_flops(const code2wav_config *c, int64_t n_frames);

/* Weights, in bytes of bf16, that one pass of the talker over one row reads, its head included; and
 * that the code predictor reads for one frame in n_code_groups - 1 passes. */
double talker_step_bytes(const talker_config *t);
double predictor_frame_bytes(const code_predictor_config *c);

#endif

/*
 * encoder_flops.h - multiplications and additions that the encoders' formulas ask for: what a
 * measured rate is a rate of. Products, convolutions and attention count; norms and activations,
 * well under a hundredth of the whole, do not.
 */
#ifndef FLOTILLA_COMMON_ENCODER_FLOPS_H
#define FLOTILLA_COMMON_ENCODER_FLOPS_H

#include "common/model_config.h"

#include <stdint.h>

/* A sound of n_frames mel frames by itself. */
double audio_flops(const audio_config *a, int64_t n_frames);

/* A picture, or one temporal patch of a video, of n_patches patches. */
double vision_flops(const vision_config *v, int64_t n_patches);

#endif

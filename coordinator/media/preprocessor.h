/*
 * preprocessor.h - preprocessor_config.json: how a checkpoint wants sounds and pictures prepared.
 *
 * Sections of processor_config.json, which newer libraries write, go before it.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_PREPROCESSOR_H
#define FLOTILLA_COORDINATOR_MEDIA_PREPROCESSOR_H

#include "common/error.h"
#include "common/model_config.h"

#include <stdint.h>

typedef struct preprocessor {
    int64_t image_pixels_min, image_pixels_max; /* of a picture; 3136, 12845056 */
    int64_t video_pixels_min, video_pixels_max; /* of a frame; 131072, 786432 */
    float mean[3], std[3];                      /* 0.5 each */
    int32_t n_fft, hop;                         /* 400, 160 */
} preprocessor;

/* A folder without the files takes the published values; a field that a file leaves out takes the
 * reference's class default (min_pixels and max_pixels go before the edges of `size`, each by
 * itself). The limits of video frames are the reference's processor's, whatever the files say.
 * FLO_FAIL: a file that is not sound, or that says what this program does not do (another patch or
 * merge size than config.json's, another number of mel bins, another sampling rate, a resampling
 * that is not bicubic, no rescaling). *p is set on success. Local. */
flo_code preprocessor_read(preprocessor *p, const char *folder, const model_config *m,
                           flo_err *err);

/* values[c][b] = (b - 255 mean) / (255 std): what a byte b of channel c becomes, in f32, bit for
 * bit as the reference has it (subtract, then divide). */
void preprocessor_levels(float values[3][256], const preprocessor *p);

#endif

/*
 * preprocessor.h - preprocessor_config.json: how a checkpoint wants sounds and pictures prepared.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_PREPROCESSOR_H
#define FLOTILLA_COORDINATOR_MEDIA_PREPROCESSOR_H

#include "common/error.h"
#include "common/model_config.h"

#include <stdint.h>

typedef struct preprocessor {
    int64_t image_pixels_min, image_pixels_max; /* 3136, 12845056; or size.shortest/longest_edge */
    int64_t video_pixels_min, video_pixels_max; /* of a frame; 131072, 786432 as the reference has it */
    float mean[3], std[3];                      /* 0.5 each */
    int32_t n_fft, hop;                         /* 400, 160 */
} preprocessor;

/* A folder without the file takes the reference's defaults. FLO_FAIL: a file that is not sound, or
 * that says what this program does not do (another patch or merge size than config.json's, another
 * number of mel bins, another sampling rate, a resampling that is not bicubic, no rescaling). */
flo_code preprocessor_read(preprocessor *p, const char *folder, const model_config *m,
                           flo_err *err);

/* values[c][b] = (b - 255 mean) / (255 std): what a byte b of channel c becomes, in f32, in the
 * reference's order of operations (subtract, then divide). */
void preprocessor_levels(float values[3][256], const preprocessor *p);

#endif

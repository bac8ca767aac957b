/*
 * dump_file.h - the tensors of a prompt pass as a safetensors file, under the names of the
 * reference data.
 *
 * hidden.0 .. hidden.L, hidden.norm, router_{logits,ids,weights}.i, logits, input_ids,
 * position_ids; with media input_features (of the first sound), audio_embeds, and pixel_values,
 * grid_thw, vision_embeds, deepstack.k (of the videos, or else of the pictures); with speech
 * talker_prefill_embeds, talker_prefill_ids, trailing_text_hidden, codes, wav. Rows come from the
 * stages in any order; the file's size is known from the prompt and the model. Whole logits are
 * left out for all but the last row where they would take over 4 GiB.
 */
#ifndef FLOTILLA_COORDINATOR_DUMP_FILE_H
#define FLOTILLA_COORDINATOR_DUMP_FILE_H

#include "common/model_config.h"
#include "coordinator/generation.h"
#include "coordinator/prompt.h"
#include "coordinator/request_voice.h"

typedef struct dump_file dump_file;

/* media: encoded, or NULL; read now and never again. levels: what the bytes of pictures become.
 * spoken: dump_file_speech will follow. */
flo_code dump_file_new(dump_file **out, const char *path, const model_config *m, const prompt *p,
                       const media_set *media, const float levels[3][256], bool spoken,
                       flo_err *err);
const dump_sink *dump_file_sink(const dump_file *d);

/* Adds what was said, once it is over. */
flo_code dump_file_speech(dump_file *d, const request_voice *v, const model_config *m,
                          flo_err *err);

/* Puts the file in its place. FLO_FAIL where a row never came. Frees d. */
flo_code dump_file_finish(dump_file *d, flo_err *err);
void dump_file_abandon(dump_file *d); /* removes what was written; NULL is allowed */

#endif

/*
 * model_folder.h - what `--model` means: a folder, a name in the hub's cache, or the embedded
 * model.
 */
#ifndef FLOTILLA_COMMON_MODEL_FOLDER_H
#define FLOTILLA_COMMON_MODEL_FOLDER_H

#include "common/error.h"

#include <limits.h>

/* out [PATH_MAX]: the folder that `model` names, in this order:
 *   NULL or "": the environment's FLOTILLA_MODEL, else the embedded model
 * (share/flotilla/models/tiny of an installation, models/tiny of the source tree); an existing
 * folder; ORG/NAME in the hub's cache (HF_HUB_CACHE, HF_HOME/hub, XDG_CACHE_HOME/huggingface/hub,
 *     ~/.cache/huggingface/hub): the snapshot that refs/main points to.
 * FLO_USAGE says what was looked for and, for a name, the command that downloads it. Nothing in the
 * folder is read. */
flo_code model_folder_find(char out[PATH_MAX], const char *model, flo_err *err);

#endif

/*
 * options.h - the options that every command and the plain mpirun form share.
 *
 * `flotilla` reads them and hands them on to `flotilla-coordinator`, which reads them again with
 * the same code: options_to_words writes what options_take reads. Values are checked here
 * (FLO_USAGE); whether the model or the files exist is found out by those who open them.
 */
#ifndef FLOTILLA_COMMON_OPTIONS_H
#define FLOTILLA_COMMON_OPTIONS_H

#include "common/arguments.h"
#include "common/error.h"

#include <stdbool.h>
#include <stdint.h>

typedef enum weight_format { WEIGHTS_BF16, WEIGHTS_Q8, WEIGHTS_Q4 } weight_format;
typedef enum activation_format { ACTIVATIONS_F32, ACTIVATIONS_BF16 } activation_format;
typedef enum load_format { LOAD_SAFETENSORS, LOAD_DUMMY } load_format;

enum { MEDIA_PIXELS_MAX = 67108864 }; /* --max-media-pixels where it is not given: 8192 x 8192 */

/* Strings are borrowed from argv; 0 and NULL mean "not given" (the default is the user's of the
 * value). */
typedef struct run_options {
    const char *model;     /* folder or name as given */
    const char *cluster;   /* cluster file */
    const char *hosts;     /* "a:2,b:2" or an MPI hostfile */
    const char *interface; /* network interface or CIDR for MPI between hosts */
    int64_t n_workers;
    int64_t n_stages;
    int64_t n_threads;
    uint64_t memory_bytes;
    int weights;     /* weight_format */
    int activations; /* activation_format */
    int load_format; /* load_format */
    int64_t kv_tokens;
    int64_t max_media_pixels; /* a picture or frame of more is not decoded; 0: MEDIA_PIXELS_MAX */
    bool allow_media_urls;    /* http and https may be what a medium is named by */
    int64_t n_layers; /* the first of the thinker's, for measurements; 0: all */
    bool no_speech, no_media, deterministic;
    bool json, quiet, verbose;
} run_options;

void options_init(run_options *o);

/* Takes argv[*i] (and its value) if it is one of these options; see arguments_take. FLO_USAGE names
 * option and value, also for formats that are not built yet. */
flo_code options_take(run_options *o, int argc, char **argv, int *i, bool *taken, flo_err *err);

/* Checks that need several options at once (stages over workers, cluster and hosts together). */
flo_code options_check(const run_options *o, flo_err *err);

/* arguments_unknown over these options and a command's own table (NULL: none). */
flo_code options_unknown(const char *word, const argument *own, size_t n_own, flo_err *err);

/* A whole command line from argv[1]: the shared options into *o, and a command's own table (NULL:
 * none). Ends early, with FLO_OK, once *help is set (one of the table's flags; NULL: none). */
flo_code options_read(run_options *o, const argument *own, size_t n_own, const bool *help, int argc,
                      char **argv, flo_err *err);

/* Appends what options_take would read into an equal struct: given options only. */
void options_to_words(const run_options *o, word_list *words);

/* Log level as --quiet (warnings and errors) and --verbose (debug) ask. */
void options_set_log(const run_options *o);

#endif

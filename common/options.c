/*
 * options.c - the shared options: one table that both reads them and writes them again.
 */
#include "common/options.h"

#include "common/check.h"
#include "common/layout.h"
#include "common/log.h"
#include "common/plan.h"

#include <stdint.h>

enum { OPTIONS_MAX = 32 };

static const char *const weight_names[] = {"bf16", "q8", "q4", NULL};
static const char *const activation_names[] = {"f32", "bf16", NULL};
static const char *const load_names[] = {"safetensors", "dummy", NULL};

/* Fills the table with pointers into *o; returns its length. */
static size_t table_of(run_options *o, argument table[OPTIONS_MAX])
{
    const argument all[] = {
        {.name = "--model", .kind = ARGUMENT_TEXT, .out = &o->model},
        {.name = "--cluster", .kind = ARGUMENT_TEXT, .out = &o->cluster},
        {.name = "--hosts", .kind = ARGUMENT_TEXT, .out = &o->hosts},
        {.name = "--interface", .kind = ARGUMENT_TEXT, .out = &o->interface},
        {.name = "--workers",
         .kind = ARGUMENT_INTEGER,
         .out = &o->n_workers,
         .min = 1,
         .max = PLAN_WORKERS_MAX},
        {.name = "--stages",
         .kind = ARGUMENT_INTEGER,
         .out = &o->n_stages,
         .min = 1,
         .max = PLAN_WORKERS_MAX},
        {.name = "--threads",
         .kind = ARGUMENT_INTEGER,
         .out = &o->n_threads,
         .min = 1,
         .max = WORKER_THREADS_MAX},
        {.name = "--memory", .kind = ARGUMENT_BYTES, .out = &o->memory_bytes, .min = 1},
        {.name = "--weights", .kind = ARGUMENT_CHOICE, .out = &o->weights, .choices = weight_names},
        {.name = "--activations",
         .kind = ARGUMENT_CHOICE,
         .out = &o->activations,
         .choices = activation_names},
        {.name = "--load-format",
         .kind = ARGUMENT_CHOICE,
         .out = &o->load_format,
         .choices = load_names},
        {.name = "--kv-tokens",
         .kind = ARGUMENT_INTEGER,
         .out = &o->kv_tokens,
         .min = 1,
         .max = 1 << 30},
        {.name = "--layers",
         .kind = ARGUMENT_INTEGER,
         .out = &o->n_layers,
         .min = 1,
         .max = MODEL_LAYERS_MAX},
        {.name = "--cache-dir",
         .kind = ARGUMENT_REFUSED,
         .note = "the cache of packed weights is not built yet"},
        {.name = "--no-speech", .kind = ARGUMENT_FLAG, .out = &o->no_speech},
        {.name = "--no-media", .kind = ARGUMENT_FLAG, .out = &o->no_media},
        {.name = "--max-media-pixels",
         .kind = ARGUMENT_INTEGER,
         .out = &o->max_media_pixels,
         .min = 1,
         .max = INT32_MAX},
        {.name = "--allow-media-urls", .kind = ARGUMENT_FLAG, .out = &o->allow_media_urls},
        {.name = "--deterministic", .kind = ARGUMENT_FLAG, .out = &o->deterministic},
        {.name = "--json", .kind = ARGUMENT_FLAG, .out = &o->json},
        {.name = "--quiet", .kind = ARGUMENT_FLAG, .out = &o->quiet},
        {.name = "--verbose", .kind = ARGUMENT_FLAG, .out = &o->verbose},
    };
    size_t n = sizeof all / sizeof all[0];
    CHECK(n <= OPTIONS_MAX);
    for (size_t i = 0; i < n; i++) {
        table[i] = all[i];
    }
    return n;
}

void options_init(run_options *o)
{
    *o = (run_options){0};
}

flo_code options_take(run_options *o, int argc, char **argv, int *i, bool *taken, flo_err *err)
{
    argument table[OPTIONS_MAX];
    size_t n = table_of(o, table);
    flo_code code = arguments_take(table, n, argc, argv, i, taken, err);
    if (code != FLO_OK || !*taken) {
        return code;
    }
    if (o->weights != WEIGHTS_BF16) {
        return flo_fail(err, FLO_USAGE,
                        "--weights %s: not built yet, bf16 is the only weight format",
                        weight_names[o->weights]);
    }
    if (o->activations != ACTIVATIONS_F32) {
        return flo_fail(err, FLO_USAGE, "--activations %s: not built yet, f32 is the only one",
                        activation_names[o->activations]);
    }
    return FLO_OK;
}

flo_code options_check(const run_options *o, flo_err *err)
{
    if (o->cluster != NULL && o->hosts != NULL) {
        return flo_fail(err, FLO_USAGE,
                        "--cluster and --hosts both name the hosts; give one of them");
    }
    if (o->n_workers > 0 && o->n_stages > o->n_workers) {
        return flo_fail(err, FLO_USAGE, "--stages %lld: more stages than the %lld workers",
                        (long long)o->n_stages, (long long)o->n_workers);
    }
    if (o->model != NULL &&
        o->model[0] == '\0') { /* "$UNSET" in a script is not the embedded model */
        return flo_fail(err, FLO_USAGE,
                        "--model is empty; give a folder or a name, or leave it out");
    }
    if (o->quiet && o->verbose) {
        return flo_fail(err, FLO_USAGE, "--quiet and --verbose contradict each other");
    }
    return FLO_OK;
}

flo_code options_unknown(const char *word, const argument *own, size_t n_own, flo_err *err)
{
    run_options unused;
    argument shared[OPTIONS_MAX];
    const size_t counts[] = {table_of(&unused, shared), n_own};
    const argument *const tables[] = {shared, own};
    return arguments_unknown(word, tables, counts, 2, err);
}

flo_code options_read(run_options *o, const argument *own, size_t n_own, const bool *help, int argc,
                      char **argv, flo_err *err)
{
    options_init(o);
    for (int i = 1; i < argc;) {
        bool taken;
        flo_code code = arguments_take(own, n_own, argc, argv, &i, &taken, err);
        if (code == FLO_OK && !taken) {
            code = options_take(o, argc, argv, &i, &taken, err);
        }
        if (code == FLO_OK && !taken) {
            code = options_unknown(argv[i], own, n_own, err);
        }
        if (code != FLO_OK || (help != NULL && *help)) {
            return code;
        }
    }
    return FLO_OK;
}

/* One option as words, if it was given. */
static void add_option(const argument *a, word_list *words)
{
    switch (a->kind) {
    case ARGUMENT_FLAG:
        if (*(const bool *)a->out) {
            word_list_add(words, a->name);
        }
        break;
    case ARGUMENT_TEXT:
        if (*(const char *const *)a->out != NULL) {
            word_list_addf(words, "%s=%s", a->name, *(const char *const *)a->out);
        }
        break;
    case ARGUMENT_INTEGER:
        if (*(const int64_t *)a->out != 0) {
            word_list_addf(words, "%s=%lld", a->name, (long long)*(const int64_t *)a->out);
        }
        break;
    case ARGUMENT_BYTES:
        if (*(const uint64_t *)a->out != 0) {
            word_list_addf(words, "%s=%llu", a->name,
                           (unsigned long long)*(const uint64_t *)a->out);
        }
        break;
    case ARGUMENT_CHOICE:
        if (*(const int *)a->out != 0) {
            word_list_addf(words, "%s=%s", a->name, a->choices[*(const int *)a->out]);
        }
        break;
    case ARGUMENT_TEXT_OR_NOT:
    case ARGUMENT_TEXTS:
    case ARGUMENT_NAMED_TEXTS:
    case ARGUMENT_NUMBER:
    case ARGUMENT_REFUSED:
    default:
        break; /* not among the shared options */
    }
}

void options_to_words(const run_options *o, word_list *words)
{
    run_options copy = *o;
    argument table[OPTIONS_MAX];
    size_t n = table_of(&copy, table);
    for (size_t i = 0; i < n; i++) {
        add_option(&table[i], words);
    }
}

void options_set_log(const run_options *o)
{
    log_set_level(o->quiet ? LOG_WARN : o->verbose ? LOG_DEBUG : LOG_INFO);
}

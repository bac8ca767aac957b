/*
 * verify_code2wav.c - recorded codes through this job's vocoder, module by module and sample by
 * sample.
 *
 * "wav_oneshot" is one stream over all frames; "wav_chunked" the reference's cuts, which the
 * vocoder makes itself; "wav_chunked_40_10" cuts of 40 frames with 10 before them, made here: each
 * is a stream of its own, whose samples of the context are left out.
 */
#include "coordinator/verify_sections.h"

#include "common/json.h"
#include "common/speech_cost.h"
#include "coordinator/row_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct decoding { /* one stream */
    speech_order order;
    dump_sink sink;
    row_store rows; /* of modules, and "wav" */
    bool done;
    flo_code code;
    flo_err err;
} decoding;

typedef struct code_case {
    verify *v;
    const verify_case *files;
    int32_t *codes; /* [n_frames][groups] */
    int32_t n_frames;
    decoding whole; /* one stream, with its modules */
} code_case;

/* --- one stream --------------------------------------------------------------------------------
 */

static void on_sound(speech_order *o, const float *samples, int32_t n)
{
    decoding *d = o->owner;
    flo_err err;
    flo_code code = row_store_append(&d->rows, "wav", n, samples, &err);
    if (code != FLO_OK) {
        d->code = code;
        d->err = err;
    }
}

static void on_done(speech_order *o)
{
    ((decoding *)o->owner)->done = true;
}

static void close_decoding(decoding *d)
{
    speech_order_clear(&d->order);
    row_store_free(&d->rows);
    *d = (decoding){0};
}

/* Frames [first, end) of the case as one stream. FLO_FAIL is the job's, or the stream's. */
static flo_code decode(const code_case *c, decoding *d, int32_t first, int32_t end, bool exact,
                       bool modules, flo_err *err)
{
    job *j = c->v->job;
    size_t groups = (size_t)j->model.code2wav.n_quantizers;
    *d = (decoding){.order = {.owner = d, .on_sound = on_sound, .on_done = on_done}};
    d->sink = row_store_sink(&d->rows);
    d->order.how.exact = exact;
    d->order.dump = modules ? &d->sink : NULL;
    flo_code code = speech_desk_decode(j->speech_desk, &d->order, c->codes + (size_t)first * groups,
                                       end - first, err);
    code = code == FLO_OK ? job_wait(j, &d->done, err) : code;
    if (code == FLO_OK && d->code != FLO_OK) {
        *err = d->err;
        code = d->code;
    }
    return code;
}

/* --- comparing ---------------------------------------------------------------------------------
 */

/* Every step-th of some samples. */
static flo_code compare_samples(const code_case *c, const char *tensor, const named_rows *wav,
                                int64_t step, flo_err *err)
{
    int64_t all = wav != NULL ? wav->n_rows : 0, n = (all + step - 1) / step;
    float *thin = malloc((size_t)n * sizeof *thin + 1);
    if (thin == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for samples");
    }
    for (int64_t i = 0; i < n; i++) {
        thin[i] = ((const float *)wav->data)[i * step];
    }
    tensor_view got = {.dtype = DTYPE_F32, .n_dims = 1, .shape = {n}, .data = thin};
    flo_code code = verify_case_compare(&c->v->report, c->files, tensor, &got, err);
    free(thin);
    return code;
}

/* A module's rows [steps][columns]; the reference has modules of the decoder and of the upsampling
 * as [columns][steps]. */
static flo_code compare_module(const code_case *c, const char *tensor, const named_rows *rows,
                               int64_t step, flo_err *err)
{
    bool across = strncmp(tensor, "decoder.", 8) == 0 || strncmp(tensor, "upsample.", 9) == 0;
    int64_t n = (rows->n_rows + step - 1) / step, columns = rows->columns;
    float *out = malloc((size_t)(n * columns) * sizeof *out + 1);
    if (out == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory for %s", tensor);
    }
    for (int64_t r = 0; r < n; r++) {
        for (int64_t k = 0; k < columns; k++) {
            out[across ? k * n + r : r * columns + k] =
                ((const float *)rows->data)[r * step * columns + k];
        }
    }
    tensor_view got = {.dtype = DTYPE_F32,
                       .n_dims = 2,
                       .shape = {across ? columns : n, across ? n : columns},
                       .data = out};
    flo_code code = verify_case_compare(&c->v->report, c->files, tensor, &got, err);
    free(out);
    return code;
}

/* Cuts of `cut` frames with `context` before them, put together. */
static flo_code decode_cuts(const code_case *c, row_store *out, int32_t cut, int32_t context,
                            flo_err *err)
{
    int32_t rate = code2wav_rate(&c->v->job->model.code2wav);
    flo_code code = FLO_OK;
    for (int32_t s = 0; s < c->n_frames && code == FLO_OK; s += cut) {
        int32_t before = s < context ? s : context;
        int32_t end = c->n_frames - s < cut ? c->n_frames : s + cut;
        decoding d;
        code = decode(c, &d, s - before, end, false, false, err);
        const named_rows *wav = row_store_find(&d.rows, "wav");
        int64_t skip = (int64_t)before * rate, n = wav != NULL ? wav->n_rows - skip : 0;
        if (code == FLO_OK && n > 0) {
            code = row_store_append(out, "wav", n, (const float *)wav->data + skip, err);
        }
        close_decoding(&d);
    }
    return code;
}

static flo_code compare_wav(const code_case *c, const char *tensor, const char *base, int64_t step,
                            bool *known, flo_err *err)
{
    int cut, context;
    *known = true;
    if (strcmp(base, "wav_oneshot") == 0) {
        return compare_samples(c, tensor, row_store_find(&c->whole.rows, "wav"), step, err);
    }
    if (strcmp(base, "wav_chunked") == 0) {
        decoding d;
        flo_code code = decode(c, &d, 0, c->n_frames, true, false, err);
        code = code == FLO_OK
                   ? compare_samples(c, tensor, row_store_find(&d.rows, "wav"), step, err)
                   : code;
        close_decoding(&d);
        return code;
    }
    *known = sscanf(base, "wav_chunked_%d_%d", &cut, &context) == 2 && cut > 0 && context >= 0;
    if (!*known) {
        return FLO_OK;
    }
    row_store together = {0};
    flo_code code = decode_cuts(c, &together, cut, context, err);
    code = code == FLO_OK ? compare_samples(c, tensor, row_store_find(&together, "wav"), step, err)
                          : code;
    row_store_free(&together);
    return code;
}

static flo_code compare_one(const code_case *c, const char *tensor, bool *known, flo_err *err)
{
    char base[CASE_NAME_MAX];
    int64_t step = verify_case_thinning(base, tensor);
    *known = true;
    if (strcmp(base, "codes") == 0) {
        return FLO_OK; /* the input */
    }
    if (strncmp(base, "wav_", 4) == 0) {
        return compare_wav(c, tensor, base, step, known, err);
    }
    const named_rows *rows = row_store_find(&c->whole.rows, base);
    *known = rows != NULL;
    return *known ? compare_module(c, tensor, rows, step, err) : FLO_OK;
}

/* --- a case ------------------------------------------------------------------------------------
 */

/* codes [groups][frames] of the case as frames. */
static flo_code read_codes(code_case *c, flo_err *err)
{
    const code2wav_config *w = &c->v->job->model.code2wav;
    const checkpoint_tensor *t = checkpoint_find(c->files->file, "codes");
    int32_t *across, n;
    if (t == NULL || t->n_dims != 2 || t->shape[0] != w->n_quantizers) {
        return flo_fail(err, FLO_FAIL,
                        "the case has no codes of %d groups, as this job's model has",
                        w->n_quantizers);
    }
    flo_code code = verify_case_ids(&across, &n, c->files, "codes", err);
    if (code != FLO_OK) {
        return code;
    }
    c->n_frames = n / w->n_quantizers;
    c->codes = malloc((size_t)n * sizeof *c->codes + 1);
    if (c->codes == NULL) {
        code = flo_fail(err, FLO_FAIL, "out of memory for codes");
    }
    for (int32_t i = 0; i < n && code == FLO_OK; i++) {
        if (across[i] < 0 || across[i] >= w->codebook_size) {
            code = flo_fail(err, FLO_FAIL,
                            "the case has code %d, the codebook of this job's model "
                            "has %d",
                            across[i], w->codebook_size);
        }
        c->codes[i % c->n_frames * w->n_quantizers + i / c->n_frames] = across[i];
    }
    free(across);
    return code;
}

static flo_code run_case(void *arg, verify_case *files, bool *fatal, flo_err *err)
{
    code_case c = {.v = arg, .files = files};
    const cJSON *spec;
    flo_code code = read_codes(&c, err);
    if (code == FLO_OK) {
        code = decode(&c, &c.whole, 0, c.n_frames, false, true, err);
        *fatal = c.v->job->broken != FLO_OK;
    }
    cJSON_ArrayForEach(spec, files->tensors)
    {
        bool known = true;
        if (code != FLO_OK) {
            break;
        }
        flo_code found = compare_one(&c, spec->string, &known, err);
        if (!known) {
            report_alone(&c.v->report, spec->string, 1);
        }
        if (found != FLO_OK) {
            report_fault(&c.v->report, files->name, err->text);
        }
        *fatal = c.v->job->broken != FLO_OK;
        code = *fatal ? found : FLO_OK;
    }
    close_decoding(&c.whole);
    free(c.codes);
    return code;
}

flo_code verify_code2wav(verify *v, flo_err *err)
{
    char folder[VERIFY_PATH_MAX];
    if (plan_code2wav_worker(&v->job->plan) == NULL) {
        report_not_run(&v->report, "this job has no vocoder: --no-speech, or a checkpoint without "
                                   "one");
        return FLO_OK;
    }
    flo_code code = verify_path(folder, v->golden, "code2wav", err);
    if (code == FLO_OK) {
        report_tensor_columns(&v->report);
        code = verify_cases(&v->report, folder, run_case, v, err);
    }
    return code;
}

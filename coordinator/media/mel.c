/*
 * mel.c - windowed frames, a direct transform, mel bands, logarithm.
 *
 * The transform of a frame is a product with tables of cosines and sines over the frame's even and
 * odd halves, in f64: n_fft^2 / 4 multiply-adds each, 80,000 together at 400. That is a hundredth
 * of what the encoder then takes, it needs no library for a length of 2^4 5^2, and it is exact to
 * f32: bands 80 dB under the loudest one still count here. Frames are divided over threads; none
 * depends on another but through the maximum, which has no order.
 */
#include "coordinator/media/mel.h"

#include "common/check.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { MEL_THREADS_MAX = 16, SAMPLE_RATE = 16000 };

#define MEL_TOP_HZ 8000.0
#define POWER_FLOOR 1e-10 /* of a band */
#define LOG_RANGE 8.0     /* below the loudest band of the sound, in powers of ten */

int64_t mel_frames(int64_t n, int64_t longest, int32_t hop)
{
    int64_t all = longest / hop, frames = n == longest ? n / hop : (n + hop - 1) / hop;
    return frames < all ? frames : all;
}

int64_t mel_tokens(int64_t n_frames, int32_t chunk_frames)
{
    int64_t whole = n_frames / chunk_frames, rest = n_frames % chunk_frames, full = chunk_frames;
    for (int i = 0; i < 3; i++) { /* three convolutions of stride 2 */
        rest = (rest + 1) / 2;
        full = (full + 1) / 2;
    }
    return whole * full + rest;
}

/* --- tables ------------------------------------------------------------------------------------
 */

typedef struct band { /* of one mel bin */
    int32_t first, n; /* frequencies with weight */
    float *weights;   /* [n], within the tables' block */
} band;

typedef struct tables {
    int32_t n_fft, n_bins, n_frequencies;
    double *window;        /* [n_fft] */
    double *cosine, *sine; /* [n_fft / 2 + 1][n_frequencies] */
    band *bands;           /* [n_bins] */
    float *weights;
} tables;

/* The Slaney scale: linear below 1 kHz, logarithmic above. */
static double hz_to_mel(double hz)
{
    return hz < 1000.0 ? 3.0 * hz / 200.0 : 15.0 + log(hz / 1000.0) * 27.0 / log(6.4);
}

static double mel_to_hz(double mel)
{
    return mel < 15.0 ? 200.0 * mel / 3.0 : 1000.0 * exp((mel - 15.0) * log(6.4) / 27.0);
}

/* Weight of frequency number k in the triangle low, middle, high (Hz), with unit area. */
static double triangle(const tables *t, int32_t k, double low, double middle, double high)
{
    double hz = (double)k * SAMPLE_RATE / t->n_fft;
    double rising = (hz - low) / (middle - low), falling = (high - hz) / (high - middle);
    double height = rising < falling ? rising : falling;
    return height > 0 ? height * 2.0 / (high - low) : 0;
}

static void fill_bands(tables *t)
{
    double top = hz_to_mel(MEL_TOP_HZ), step = top / (t->n_bins + 1);
    float *next = t->weights;
    for (int32_t j = 0; j < t->n_bins; j++) {
        double low = mel_to_hz(j * step), middle = mel_to_hz((j + 1) * step);
        double high = j + 2 == t->n_bins + 1 ? MEL_TOP_HZ : mel_to_hz((j + 2) * step);
        band *b = &t->bands[j];
        *b = (band){.weights = next};
        for (int32_t k = 0; k < t->n_frequencies; k++) {
            float weight = (float)triangle(t, k, low, middle, high);
            if (weight > 0) {
                b->first = b->n == 0 ? k : b->first;
                b->weights[b->n++] = weight;
            }
        }
        next += b->n;
    }
}

static void fill_transform(tables *t)
{
    const double turn = 2.0 * M_PI / t->n_fft;
    for (int32_t i = 0; i < t->n_fft; i++) {
        t->window[i] = 0.5 - 0.5 * cos(turn * i);
    }
    for (int64_t i = 0; i <= t->n_fft / 2; i++) {
        for (int64_t k = 0; k < t->n_frequencies; k++) {
            double angle = turn * (double)(i * k % t->n_fft);
            t->cosine[i * t->n_frequencies + k] = cos(angle);
            t->sine[i * t->n_frequencies + k] = sin(angle);
        }
    }
}

static void free_tables(tables *t)
{
    free(t->window);
    free(t->cosine);
    free(t->sine);
    free(t->bands);
    free(t->weights);
}

static flo_code make_tables(tables *t, int32_t n_bins, int32_t n_fft, flo_err *err)
{
    *t = (tables){.n_fft = n_fft, .n_bins = n_bins, .n_frequencies = n_fft / 2 + 1};
    size_t n = (size_t)t->n_frequencies;
    t->window = malloc((size_t)n_fft * sizeof *t->window);
    t->cosine = malloc(n * n * sizeof *t->cosine);
    t->sine = malloc(n * n * sizeof *t->sine);
    t->bands = malloc((size_t)n_bins * sizeof *t->bands);
    t->weights = malloc(n * (size_t)n_bins * sizeof *t->weights);
    if (t->window == NULL || t->cosine == NULL || t->sine == NULL || t->bands == NULL ||
        t->weights == NULL) {
        free_tables(t);
        return flo_fail(err, FLO_FAIL, "out of memory for the features of a sound");
    }
    fill_bands(t);
    fill_transform(t);
    return FLO_OK;
}

/* --- one frame ---------------------------------------------------------------------------------
 */

typedef struct part { /* of the frames, for one thread */
    const tables *tables;
    const float *samples;
    int64_t n, longest;
    int32_t hop;
    int64_t first, end; /* frames */
    int64_t n_out;      /* frames that are kept; later ones count for the maximum alone */
    float *out;         /* [n_bins][n_out], logarithms */
    double max;
    double *frame; /* scratch: n_fft, then real and imaginary sums, even and odd */
} part;

/* The signal reflected at both ends, with zeros between the sound's end and the longest one's. */
static double sample_at(const part *p, int64_t i)
{
    i = i < 0 ? -i : i;
    i = i >= p->longest ? 2 * (p->longest - 1) - i : i;
    return i < p->n ? (double)p->samples[i] : 0.0;
}

/* re, im [n_frequencies] of the windowed frame x: with e[i] = x[i] + x[N - i] and o[i] = x[i] -
 * x[N - i], re[k] = sum e[i] cos(2 pi i k / N), im[k] = sum o[i] sin(...) for i = 0..N/2. */
static void transform(const tables *t, const double *x, double *restrict re, double *restrict im)
{
    int32_t half = t->n_fft / 2, n = t->n_frequencies;
    memset(re, 0, (size_t)n * sizeof *re);
    memset(im, 0, (size_t)n * sizeof *im);
    for (int32_t i = 0; i <= half; i++) {
        bool alone = i == 0 || 2 * i == t->n_fft; /* has no mirror image */
        double even = alone ? x[i] : x[i] + x[t->n_fft - i];
        double odd = alone ? 0.0 : x[i] - x[t->n_fft - i];
        const double *restrict c = t->cosine + (size_t)i * (size_t)n;
        const double *restrict s = t->sine + (size_t)i * (size_t)n;
        for (int32_t k = 0; k < n; k++) {
            re[k] += even * c[k];
            im[k] += odd * s[k];
        }
    }
}

static void run_frame(part *p, int64_t frame)
{
    const tables *t = p->tables;
    double *x = p->frame, *re = x + t->n_fft, *im = re + t->n_frequencies;
    int64_t start = frame * p->hop - t->n_fft / 2;
    for (int32_t i = 0; i < t->n_fft; i++) {
        x[i] = sample_at(p, start + i) * t->window[i];
    }
    transform(t, x, re, im);
    for (int32_t k = 0; k < t->n_frequencies; k++) {
        re[k] = re[k] * re[k] + im[k] * im[k];
    }
    for (int32_t j = 0; j < t->n_bins; j++) {
        const band *b = &t->bands[j];
        double power = 0;
        for (int32_t k = 0; k < b->n; k++) {
            power += (double)b->weights[k] * re[b->first + k];
        }
        double y = log10(power > POWER_FLOOR ? power : POWER_FLOOR);
        p->max = y > p->max ? y : p->max;
        if (frame < p->n_out) {
            p->out[(int64_t)j * p->n_out + frame] = (float)y;
        }
    }
}

static void *run_part(void *arg)
{
    part *p = arg;
    for (int64_t i = p->first; i < p->end; i++) {
        run_frame(p, i);
    }
    return NULL;
}

/* --- all of them -------------------------------------------------------------------------------
 */

static flo_code run_parts(part *parts, int32_t n, flo_err *err)
{
    pthread_t threads[MEL_THREADS_MAX];
    bool started[MEL_THREADS_MAX] = {false};
    for (int32_t i = 0; i < n; i++) {
        const tables *t = parts[i].tables;
        parts[i].frame = malloc((size_t)(t->n_fft + 2 * t->n_frequencies) * sizeof *parts[i].frame);
        if (parts[i].frame == NULL) {
            return flo_fail(err, FLO_FAIL, "out of memory for the features of a sound");
        }
    }
    for (int32_t i = 1; i < n; i++) {
        started[i] = pthread_create(&threads[i], NULL, run_part, &parts[i]) == 0;
    }
    for (int32_t i = 0; i < n; i++) {
        if (!started[i]) {
            run_part(&parts[i]); /* the first, and any the system gave no thread for */
        }
    }
    for (int32_t i = 1; i < n; i++) {
        if (started[i]) {
            pthread_join(threads[i], NULL);
        }
    }
    return FLO_OK;
}

/* (max(y, loudest - 8) + 4) / 4 */
static void scale(float *out, int64_t n, double loudest)
{
    float least = (float)(loudest - LOG_RANGE);
    for (int64_t i = 0; i < n; i++) {
        float y = out[i] > least ? out[i] : least;
        out[i] = (y + 4.0f) / 4.0f;
    }
}

flo_code mel_features(float *out, int32_t n_bins, const float *samples, int64_t n, int64_t longest,
                      int32_t n_fft, int32_t hop, int32_t threads, flo_err *err)
{
    tables t;
    part parts[MEL_THREADS_MAX];
    CHECK(n <= longest && n_fft % 2 == 0);
    if (longest <= n_fft / 2 || mel_frames(n, longest, hop) == 0) {
        return flo_fail(err, FLO_USAGE,
                        "a sound of %" PRId64 " samples is too short, the checkpoint's features "
                        "need at least %d",
                        n, n_fft / 2 + 1 > hop ? n_fft / 2 + 1 : hop);
    }
    flo_code code = make_tables(&t, n_bins, n_fft, err);
    if (code != FLO_OK) {
        return code;
    }
    /* Frames past these hold zeros alone: every band of theirs is at the floor. */
    int64_t touched = (n + n_fft / 2 + hop - 1) / hop, all = longest / hop;
    int64_t n_frames = touched < all ? touched : all;
    double loudest = log10(POWER_FLOOR);
    threads = threads < 1 ? 1 : threads > MEL_THREADS_MAX ? MEL_THREADS_MAX : threads;
    for (int32_t i = 0; i < threads; i++) {
        parts[i] = (part){.tables = &t,
                          .samples = samples,
                          .n = n,
                          .longest = longest,
                          .hop = hop,
                          .first = n_frames * i / threads,
                          .end = n_frames * (i + 1) / threads,
                          .n_out = mel_frames(n, longest, hop),
                          .out = out,
                          .max = loudest};
    }
    code = run_parts(parts, threads, err);
    for (int32_t i = 0; i < threads; i++) {
        loudest = parts[i].max > loudest ? parts[i].max : loudest;
        free(parts[i].frame);
    }
    if (code == FLO_OK) {
        scale(out, mel_frames(n, longest, hop) * n_bins, loudest);
    }
    free_tables(&t);
    return code;
}

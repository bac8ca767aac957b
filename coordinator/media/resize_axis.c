/*
 * resize_axis.c - cubic weights in f64, then in as many bits as 16 hold.
 *
 * Costs 8 bytes a weight while it is made and 2 afterwards; windows are as wide as the widest.
 */
#include "coordinator/media/resize_axis.h"

#include "common/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHIFT_MAX = 22 };

/* Keys' cubic convolution kernel with a = -0.5. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) {
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    }
    if (x < 2.0) {
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
    }
    return 0.0;
}

typedef struct window_rule {
    double scale, support, inverse; /* in pixels of the source; a kernel's unit is 1 / inverse */
    int32_t n_in, count_max;
} window_rule;

static window_rule window_rule_of(int32_t n_in, int32_t n_out)
{
    double scale = (double)n_in / n_out;
    double support = scale >= 1.0 ? 2.0 * scale : 2.0;
    return (window_rule){.scale = scale,
                         .support = support,
                         .inverse = scale >= 1.0 ? 1.0 / scale : 1.0,
                         .n_in = n_in,
                         .count_max = 2 * (int32_t)ceil(support) + 1};
}

/* The window of new pixel i: *first, and its number of pixels. */
static int32_t window_of(const window_rule *r, int32_t i, int32_t *first)
{
    double centre = r->scale * (i + 0.5);
    int64_t from = (int64_t)(centre - r->support + 0.5);
    int64_t end = (int64_t)(centre + r->support + 0.5);
    from = from < 0 ? 0 : from;
    end = end > r->n_in ? r->n_in : end;
    int64_t count = end - from > r->count_max ? r->count_max : end - from;
    CHECK(count >= 1);
    *first = (int32_t)from;
    return (int32_t)count;
}

/* w [count], adding up to 1. */
static void window_weights(double *w, const window_rule *r, int32_t i, int32_t first, int32_t count)
{
    double centre = r->scale * (i + 0.5);
    double sum = 0.0;
    for (int32_t j = 0; j < count; j++) {
        w[j] = cubic((j + first - centre + 0.5) * r->inverse);
        sum += w[j];
    }
    for (int32_t j = 0; j < count && sum != 0.0; j++) {
        w[j] /= sum;
    }
}

/* The largest shift at which the largest weight stays within 16 bits. */
static int32_t shift_for(double weight_max)
{
    int32_t shift = 0;
    while (shift < SHIFT_MAX && (int64_t)(0.5 + weight_max * (1 << (shift + 1))) < 1 << 15) {
        shift++;
    }
    return shift;
}

static int16_t quantise(double w, int32_t shift)
{
    double scaled = w * (1 << shift);
    return (int16_t)(scaled + (w < 0.0 ? -0.5 : 0.5));
}

/* Windows first, so that the widest is known; returns its width, filled up to whole steps. */
static int32_t place_windows(resize_axis *a, const window_rule *r)
{
    int32_t widest = 0;
    for (int32_t i = 0; i < a->n_out; i++) {
        a->count[i] = window_of(r, i, &a->first[i]);
        widest = a->count[i] > widest ? a->count[i] : widest;
    }
    return (widest + RESIZE_TAPS_STEP - 1) / RESIZE_TAPS_STEP * RESIZE_TAPS_STEP;
}

/* real [n_out][n_taps] takes the weights in f64. */
static void fill_weights(resize_axis *a, const window_rule *r, double *real)
{
    double weight_max = 0.0;
    for (int32_t i = 0; i < a->n_out; i++) {
        double *w = real + (size_t)i * (size_t)a->n_taps;
        window_weights(w, r, i, a->first[i], a->count[i]);
        for (int32_t j = 0; j < a->count[i]; j++) {
            weight_max = w[j] > weight_max ? w[j] : weight_max;
        }
    }
    a->shift = shift_for(weight_max);
    for (size_t k = 0; k < (size_t)a->n_out * (size_t)a->n_taps; k++) {
        a->weights[k] = quantise(real[k], a->shift);
    }
}

bool resize_axis_init(resize_axis *a, int32_t n_in, int32_t n_out)
{
    *a = (resize_axis){.n_in = n_in, .n_out = n_out};
    window_rule rule = window_rule_of(n_in, n_out);
    a->first = malloc((size_t)n_out * sizeof *a->first);
    a->count = malloc((size_t)n_out * sizeof *a->count);
    if (a->first == NULL || a->count == NULL) {
        resize_axis_free(a);
        return false;
    }
    a->n_taps = place_windows(a, &rule);

    size_t n_weights = (size_t)n_out * (size_t)a->n_taps;
    double *real = calloc(n_weights, sizeof *real);
    a->weights = malloc(n_weights * sizeof *a->weights);
    if (real == NULL || a->weights == NULL) {
        free(real);
        resize_axis_free(a);
        return false;
    }
    fill_weights(a, &rule, real);
    free(real);
    return true;
}

void resize_axis_free(resize_axis *a)
{
    free(a->first);
    free(a->count);
    free(a->weights);
    *a = (resize_axis){0};
}

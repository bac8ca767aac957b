/*
 * verify_compare.c - one pass over both tensors; the largest error and the worst share of what is
 * allowed are kept apart, as they may lie at different elements.
 */
#include "coordinator/verify_compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

bool tensor_is_integer(tensor_dtype d)
{
    return d == DTYPE_I32 || d == DTYPE_I64 || d == DTYPE_U8 || d == DTYPE_BOOL;
}

static bool is_real(tensor_dtype d)
{
    return d == DTYPE_F32 || d == DTYPE_F64;
}

uint64_t tensor_elements(const tensor_view *t)
{
    uint64_t n = 1;
    for (int32_t i = 0; i < t->n_dims; i++) {
        n *= (uint64_t)t->shape[i];
    }
    return n;
}

static bool same_shape(const tensor_view *a, const tensor_view *b)
{
    return a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof a->shape[0]) == 0;
}

static int64_t integer_at(const tensor_view *t, uint64_t i)
{
    switch (t->dtype) {
    case DTYPE_I32:
        return ((const int32_t *)t->data)[i];
    case DTYPE_I64:
        return ((const int64_t *)t->data)[i];
    default:
        return ((const uint8_t *)t->data)[i];
    }
}

static double real_at(const tensor_view *t, uint64_t i)
{
    return t->dtype == DTYPE_F64 ? ((const double *)t->data)[i]
                                 : (double)((const float *)t->data)[i];
}

static void note(comparison *out, uint64_t i, double got, double want, double error, double used)
{
    out->largest = error > out->largest ? error : out->largest;
    out->n_over += used > 1;
    if (used > out->used) {
        out->used = used;
        out->worst = i;
        out->got_at = got;
        out->want_at = want;
    }
}

static void compare_integers(comparison *out, const tensor_view *got, const tensor_view *want)
{
    out->exact = true;
    for (uint64_t i = 0; i < out->n_elements; i++) {
        int64_t a = integer_at(got, i), b = integer_at(want, i);
        if (a != b) {
            note(out, i, (double)a, (double)b, fabs((double)a - (double)b), INFINITY);
        }
    }
}

static void compare_reals(comparison *out, const tensor_view *got, const tensor_view *want,
                          double atol, double rtol)
{
    double squares = 0;
    for (uint64_t i = 0; i < out->n_elements; i++) {
        double a = real_at(got, i), b = real_at(want, i);
        squares += b * b;
        if (a == b) {
            continue;
        }
        double error = fabs(a - b), room = atol + rtol * fabs(b);
        if (!isfinite(a) || !isfinite(b)) {
            note(out, i, a, b, INFINITY, INFINITY);
        } else {
            note(out, i, a, b, error, room > 0 ? error / room : INFINITY);
        }
    }
    if (out->largest > 0) {
        out->relative = out->largest / sqrt(squares / (double)out->n_elements);
    }
}

void tensor_compare(comparison *out, const tensor_view *got, const tensor_view *want, double atol,
                    double rtol)
{
    *out = (comparison){.n_elements = tensor_elements(want)};
    bool integers = tensor_is_integer(got->dtype) && tensor_is_integer(want->dtype);
    bool reals = is_real(got->dtype) && is_real(want->dtype);
    out->comparable = (integers || reals) && same_shape(got, want);
    if (out->comparable && integers) {
        compare_integers(out, got, want);
    } else if (out->comparable) {
        compare_reals(out, got, want, atol, rtol);
    }
    out->over = !out->comparable || out->n_over > 0;
}

/* --- words -------------------------------------------------------------------------------------
 */

static const char *print_list(char text[SHAPE_TEXT_MAX], const int64_t *numbers, int32_t n)
{
    int at = snprintf(text, SHAPE_TEXT_MAX, "[");
    for (int32_t i = 0; i < n; i++) {
        at += snprintf(text + at, (size_t)(SHAPE_TEXT_MAX - at), "%s%" PRId64, i > 0 ? ", " : "",
                       numbers[i]);
    }
    snprintf(text + at, (size_t)(SHAPE_TEXT_MAX - at), "]");
    return text;
}

const char *tensor_shape_print(char text[SHAPE_TEXT_MAX], const tensor_view *t)
{
    return print_list(text, t->shape, t->n_dims);
}

const char *tensor_place_print(char text[SHAPE_TEXT_MAX], const tensor_view *t, uint64_t element)
{
    int64_t place[TENSOR_DIMS_MAX] = {0};
    for (int32_t i = t->n_dims - 1; i >= 0; i--) {
        uint64_t n = (uint64_t)t->shape[i];
        place[i] = (int64_t)(n > 0 ? element % n : 0);
        element = n > 0 ? element / n : 0;
    }
    return print_list(text, place, t->n_dims);
}

/*
 * verify_compare.h - numbers held against reference numbers: how far off, and whether that is
 * allowed.
 */
#ifndef FLOTILLA_COORDINATOR_VERIFY_COMPARE_H
#define FLOTILLA_COORDINATOR_VERIFY_COMPARE_H

#include "common/checkpoint.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct tensor_view {
    tensor_dtype dtype; /* F32, F64: real numbers; I32, I64, U8, BOOL: integers */
    int32_t n_dims;
    int64_t shape[TENSOR_DIMS_MAX];
    const void *data; /* row-major, aligned for its type; borrowed */
} tensor_view;

typedef struct comparison {
    bool comparable; /* false: kinds of numbers or shapes differ, and the rest says nothing */
    bool exact;      /* integers: no difference is allowed */
    bool over;       /* also where not comparable */
    uint64_t n_elements, n_over;
    double largest;  /* largest |got - want|; infinite where one of the two is no number */
    double relative; /* largest over the root mean square of want */
    double used;     /* largest |got - want| / (atol + rtol * |want|); over 1 is over */
    uint64_t worst;  /* index of the element with the largest `used` (0 where all is equal) */
    double got_at, want_at; /* the two numbers there */
} comparison;

/* Real numbers: |got - want| <= atol + rtol * |want| for each element; a NaN on either side is
 * over, an infinity is over unless the other side is the same. Integers are equal or over, whatever
 * atol and rtol say. Shapes must be the same, dimension by dimension. Cannot fail. */
void tensor_compare(comparison *out, const tensor_view *got, const tensor_view *want, double atol,
                    double rtol);

bool tensor_is_integer(tensor_dtype d);
uint64_t tensor_elements(const tensor_view *t);

/* "[3, 17]", for sentences; returns text. */
enum { SHAPE_TEXT_MAX = 160 };
const char *tensor_shape_print(char text[SHAPE_TEXT_MAX], const tensor_view *t);

/* "[3, 17]": the place of an element of t; returns text. */
const char *tensor_place_print(char text[SHAPE_TEXT_MAX], const tensor_view *t, uint64_t element);

#endif

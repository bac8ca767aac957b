/*
 * kth_largest.h - the bound that the k largest of many numbers reach.
 */
#ifndef FLOTILLA_COMMON_KTH_LARGEST_H
#define FLOTILLA_COMMON_KTH_LARGEST_H

#include <stdint.h>

/* The k-th largest of n numbers, 1 <= k <= n, none of them not-a-number. heap [k] is scratch. One
 * read of the numbers, and log k for each that is among the k largest so far: few, where n is much
 * larger than k. */
float kth_largest(const float *values, int32_t n, int32_t k, float *heap);

#endif

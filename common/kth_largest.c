/*
 * kth_largest.c - a heap of the k largest so far, the least of them on top.
 */
#include "common/kth_largest.h"

static void sift_down(float *heap, int32_t n, int32_t i)
{
    for (;;) {
        int32_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < n && heap[left] < heap[least]) {
            least = left;
        }
        if (right < n && heap[right] < heap[least]) {
            least = right;
        }
        if (least == i) {
            return;
        }
        float swap = heap[i];
        heap[i] = heap[least];
        heap[least] = swap;
        i = least;
    }
}

float kth_largest(const float *values, int32_t n, int32_t k, float *heap)
{
    for (int32_t i = 0; i < k; i++) {
        heap[i] = values[i];
    }
    for (int32_t i = k / 2 - 1; i >= 0; i--) {
        sift_down(heap, k, i);
    }
    for (int32_t i = k; i < n; i++) {
        if (values[i] > heap[0]) {
            heap[0] = values[i];
            sift_down(heap, k, 0);
        }
    }
    return heap[0];
}

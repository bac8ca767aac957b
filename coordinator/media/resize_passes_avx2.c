/*
 * resize_passes_avx2.c - the passes with 16-bit multiply-adds over pairs of taps.
 *
 * Along a row, one load brings four pixels; a shuffle makes pairs of neighbours of each colour of
 * them, two taps in each half of the vector. Down a column, bytes of two rows are interleaved and
 * widened, so that a pair stands under each of the columns' sums.
 */
#include "coordinator/media/resize_passes.h"

#include <immintrin.h>
#include <string.h>

/* Four pixels r g b r g b ... become [r0 r1 g0 g1 b0 b1 . .] and [r2 r3 g2 g3 b2 b3 . .], 16 bits
 * each, from a copy of the bytes in both halves. */
static __m256i pairs_of_colours(void)
{
    return _mm256_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1, /* 0, 1 */
                            6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
}

/* Four weights, copied into every quarter, become [w0 w1] x 4 and [w2 w3] x 4. */
static __m256i pairs_of_weights(void)
{
    return _mm256_setr_epi8(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, /* 0, 1 */
                            4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7, 4, 5, 6, 7);
}

static inline int64_t four_weights(const int16_t *w)
{
    int64_t four;
    memcpy(&four, w, sizeof four);
    return four;
}

/* The three colours' sums of one window, without rounding; the fourth is 0. */
static inline __m128i window_sums(const uint8_t *p, const int16_t *w, int32_t n_taps)
{
    __m256i sums = _mm256_setzero_si256();
    for (int32_t j = 0; j < n_taps; j += 4) {
        __m128i four = _mm_loadu_si128((const __m128i *)(const void *)(p + 3 * (int64_t)j));
        __m256i pixels = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(four), pairs_of_colours());
        __m256i weights =
            _mm256_shuffle_epi8(_mm256_set1_epi64x(four_weights(w + j)), pairs_of_weights());
        sums = _mm256_add_epi32(sums, _mm256_madd_epi16(pixels, weights));
    }
    return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

/* Writes one byte more than its pixel: the next one's, or slack. */
void resize_row_avx2(uint8_t *out, const uint8_t *in, const resize_axis *a)
{
    const int16_t *w = a->weights;
    __m128i half = _mm_set1_epi32(1 << (a->shift - 1));
    __m128i shift = _mm_cvtsi32_si128(a->shift);
    for (int32_t i = 0; i < a->n_out; i++, w += a->n_taps, out += 3) {
        __m128i sums = window_sums(in + 3 * (int64_t)a->first[i], w, a->n_taps);
        __m128i values = _mm_sra_epi32(_mm_add_epi32(sums, half), shift);
        values = _mm_packs_epi32(values, values);
        values = _mm_packus_epi16(values, values);
        int32_t pixel = _mm_cvtsi128_si32(values);
        memcpy(out, &pixel, sizeof pixel);
    }
}

static inline __m256i add_pairs(__m256i sums, __m128i pairs, __m256i weights)
{
    return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_cvtepu8_epi16(pairs), weights));
}

/* Two weights, copied into every eighth. */
static inline __m256i two_weights(const int16_t *w)
{
    int32_t two;
    memcpy(&two, w, sizeof two);
    return _mm256_set1_epi32(two);
}

/* 16 bytes of a column pass; sums are of columns 0..7 and 8..15. */
static inline __m128i sixteen_columns(const uint8_t *const *rows, const int16_t *weights,
                                      int32_t n_rows, int64_t x, __m256i half, __m128i shift)
{
    __m256i low = half, high = half;
    for (int32_t j = 0; j < n_rows; j += 2) {
        __m128i a = _mm_loadu_si128((const __m128i *)(const void *)(rows[j] + x));
        __m128i b = _mm_loadu_si128((const __m128i *)(const void *)(rows[j + 1] + x));
        __m256i w = two_weights(weights + j);
        low = add_pairs(low, _mm_unpacklo_epi8(a, b), w);
        high = add_pairs(high, _mm_unpackhi_epi8(a, b), w);
    }
    low = _mm256_sra_epi32(low, shift);
    high = _mm256_sra_epi32(high, shift);
    /* packs works within halves: [low 0..3, high 0..3, low 4..7, high 4..7] */
    __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
    return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

void resize_column_avx2(uint8_t *out, const uint8_t *const *rows, const int16_t *weights,
                        int32_t n_rows, int32_t shift, int64_t n)
{
    if (n < 16) {
        resize_column_ref(out, rows, weights, n_rows, shift, n);
        return;
    }
    __m256i half = _mm256_set1_epi32(1 << (shift - 1));
    __m128i shifts = _mm_cvtsi32_si128(shift);
    for (int64_t x = 0; x < n; x += 16) {
        int64_t at = x + 16 <= n ? x : n - 16; /* the last ones again rather than past the end */
        __m128i bytes = sixteen_columns(rows, weights, n_rows, at, half, shifts);
        _mm_storeu_si128((__m128i *)(void *)(out + at), bytes);
    }
}

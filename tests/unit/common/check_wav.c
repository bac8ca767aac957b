/*
 * check_wav.c - the head of a WAV file byte by byte, and samples rounded to 16 bits: nearest, both
 * ends clipped, nothing undefined for what is no number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/wav.h"

#include <float.h>
#include <math.h>
#include <string.h>

static uint32_t number_at(const unsigned char *from, int n_bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < n_bytes; i++) {
        value |= (uint32_t)from[i] << (8 * i);
    }
    return value;
}

static int16_t sample_of(float x)
{
    unsigned char bytes[2];
    wav_samples(bytes, &x, 1);
    return (int16_t)number_at(bytes, 2);
}

static void a_head_says_one_channel_of_16_bits(void **state)
{
    (void)state;
    static const unsigned char want[WAV_HEAD_BYTES] = {
        'R', 'I', 'F', 'F', 0x2a, 0, 0,   0,   'W', 'A',  'V',  'E', 'f', 'm',  't',
        ' ', 16,  0,   0,   0,    1, 0,   1,   0,   0xc0, 0x5d, 0,   0,   0x80, 0xbb,
        0,   0,   2,   0,   16,   0, 'd', 'a', 't', 'a',  6,    0,   0,   0};
    unsigned char head[WAV_HEAD_BYTES];
    wav_head(head, SPEECH_SAMPLE_RATE, 3);
    assert_memory_equal(head, want, sizeof want);
}

static void sizes_count_what_follows_them(void **state)
{
    (void)state;
    unsigned char head[WAV_HEAD_BYTES];
    for (int64_t n = 0; n < 2000000000; n = 3 * n + 1) {
        wav_head(head, 48000, n);
        assert_int_equal(number_at(head + 40, 4), 2 * n);
        assert_int_equal(number_at(head + 4, 4), 2 * n + WAV_HEAD_BYTES - 8);
        assert_int_equal(number_at(head + 24, 4), 48000);
        assert_int_equal(number_at(head + 28, 4), 2 * 48000);
    }
}

static void a_stream_or_too_long_a_sound_has_no_length(void **state)
{
    (void)state;
    static const int64_t lengths[] = {-1, (int64_t)UINT32_MAX / 2, INT64_MAX / 2};
    unsigned char head[WAV_HEAD_BYTES];
    for (int32_t i = 0; i < 3; i++) {
        wav_head(head, SPEECH_SAMPLE_RATE, lengths[i]);
        assert_int_equal(number_at(head + 4, 4), UINT32_MAX);
        assert_int_equal(number_at(head + 40, 4), UINT32_MAX);
    }
    /* the longest that fits, and one sample more */
    int64_t most = ((int64_t)UINT32_MAX - WAV_HEAD_BYTES) / 2;
    wav_head(head, SPEECH_SAMPLE_RATE, most);
    assert_int_equal(number_at(head + 40, 4), 2 * most);
    wav_head(head, SPEECH_SAMPLE_RATE, most + 1);
    assert_int_equal(number_at(head + 40, 4), UINT32_MAX);
}

static void samples_are_rounded_to_the_nearest_step(void **state)
{
    (void)state;
    for (int32_t step = -32767; step <= 32767; step++) {
        float exact = (float)step / 32767.0f;
        assert_int_equal(sample_of(exact), step);
        float off = (float)(((double)step + 0.49) / 32767.0);
        assert_int_equal(sample_of(off), step);
        off = (float)(((double)step - 0.49) / 32767.0);
        assert_int_equal(sample_of(off), step);
    }
}

static void samples_out_of_range_are_clipped(void **state)
{
    (void)state;
    assert_int_equal(sample_of(1.0f), 32767);
    assert_int_equal(sample_of(1.5f), 32767);
    assert_int_equal(sample_of(FLT_MAX), 32767);
    assert_int_equal(sample_of(INFINITY), 32767);
    assert_int_equal(sample_of(-1.0f), -32767);
    assert_int_equal(sample_of(-1.5f), -32768);
    assert_int_equal(sample_of(-FLT_MAX), -32768);
    assert_int_equal(sample_of(-INFINITY), -32768);
}

static void what_is_no_number_is_silence(void **state)
{
    (void)state;
    assert_int_equal(sample_of(NAN), 0);
    assert_int_equal(sample_of(-NAN), 0);
    assert_int_equal(sample_of(-0.0f), 0);
}

static void samples_follow_each_other_and_nothing_else_is_written(void **state)
{
    (void)state;
    static const float samples[3] = {0.5f, -0.5f, 1.0f};
    unsigned char out[8];
    memset(out, 0xaa, sizeof out);
    wav_samples(out, samples, 3);
    assert_int_equal((int16_t)number_at(out, 2), 16384); /* 16383.5, ties to even */
    assert_int_equal((int16_t)number_at(out + 2, 2), -16384);
    assert_int_equal((int16_t)number_at(out + 4, 2), 32767);
    assert_int_equal(number_at(out + 6, 2), 0xaaaa);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_says_one_channel_of_16_bits),
        cmocka_unit_test(sizes_count_what_follows_them),
        cmocka_unit_test(a_stream_or_too_long_a_sound_has_no_length),
        cmocka_unit_test(samples_are_rounded_to_the_nearest_step),
        cmocka_unit_test(samples_out_of_range_are_clipped),
        cmocka_unit_test(what_is_no_number_is_silence),
        cmocka_unit_test(samples_follow_each_other_and_nothing_else_is_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

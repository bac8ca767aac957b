/*
 * check_sound.c - a sound in whatever file it comes has the samples that its maker put in, and a
 * file that is damaged, cut short or no sound is refused in a sentence.
 *
 * WAV files are written here, byte by byte, and compared exactly. Other formats are made by ffmpeg,
 * sox and espeak-ng from one of them; the lossless ones hold the same samples, the others are
 * compared with what the ffmpeg program decodes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/media/extent.h"
#include "coordinator/media/sound.h"
#include "tests/unit/media/made_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FFMPEG "ffmpeg -nostdin -v error -y "

enum { N = 4000, PCM = 1, FLOAT = 3 };

static flo_err err;

static void put(uint8_t **at, uint64_t value, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) {
        *(*at)++ = (uint8_t)(value >> (8 * i));
    }
}

static void put_tag(uint8_t **at, const char *tag)
{
    memcpy(*at, tag, 4);
    *at += 4;
}

/* The header of a WAV file of n frames; space for them follows. */
static made_file wav_new(int kind, int bits, int channels, int rate, int n, uint8_t **samples)
{
    size_t n_bytes = (size_t)(n * channels * bits / 8);
    made_file f = {calloc(1, 44 + n_bytes), 44 + n_bytes};
    uint8_t *at = f.bytes;
    assert_non_null(at);
    put_tag(&at, "RIFF");
    put(&at, 36 + n_bytes, 4);
    put_tag(&at, "WAVE");
    put_tag(&at, "fmt ");
    put(&at, 16, 4);
    put(&at, (uint64_t)kind, 2);
    put(&at, (uint64_t)channels, 2);
    put(&at, (uint64_t)rate, 4);
    put(&at, (uint64_t)(rate * channels * bits / 8), 4);
    put(&at, (uint64_t)(channels * bits / 8), 2);
    put(&at, (uint64_t)bits, 2);
    put_tag(&at, "data");
    put(&at, n_bytes, 4);
    *samples = at;
    return f;
}

/* A tone with an overtone and a slow swell, within [-0.9, 0.9]. */
static double tone(int i, int rate)
{
    double t = (double)i / rate;
    return (0.6 * sin(2 * M_PI * 440 * t) + 0.3 * sin(2 * M_PI * 1234 * t)) * sin(M_PI * t);
}

static made_file tone_wav(int rate, int channels, int n)
{
    uint8_t *at;
    made_file f = wav_new(PCM, 16, channels, rate, n, &at);
    for (int i = 0; i < n * channels; i++) {
        double scale = i % channels == 0 ? 32767.0 : -9000.0;
        put(&at, (uint64_t)(int64_t)lrint(scale * tone(i / channels, rate)), 2);
    }
    return f;
}

static sound decode(const made_file *f)
{
    sound s = {NULL, 0};
    if (sound_decode(&s, f->bytes, f->n, "test", NULL, NULL, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return s;
}

static void expect_refusal(const made_file *f, const char *what)
{
    sound s = {NULL, 0};
    bool none = true;
    err.text[0] = '\0';
    assert_int_equal(sound_decode(&s, f->bytes, f->n, "the.file", &none, NULL, &err), FLO_USAGE);
    assert_null(s.samples);
    assert_false(none);
    assert_memory_equal(err.text, "the.file: ", 10);
    if (strstr(err.text, what) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, what);
    }
}

static void expect_refusal_and_free(made_file f, const char *what)
{
    expect_refusal(&f, what);
    made_free(&f);
}

static void expect_same(const sound *a, const sound *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->samples, b->samples, (size_t)a->n * sizeof(float));
}

/* ---- samples ---- */

static void sixteen_bit_samples_are_divided_by_32768(void **state)
{
    (void)state;
    uint8_t *at;
    made_file f = wav_new(PCM, 16, 1, SOUND_RATE, 65536, &at);
    for (int i = 0; i < 65536; i++) {
        put(&at, (uint64_t)(i - 32768), 2);
    }
    sound s = decode(&f);
    assert_int_equal(s.n, 65536);
    for (int i = 0; i < 65536; i++) {
        assert_true(s.samples[i] == (float)(i - 32768) / 32768.0f);
    }
    sound_free(&s);
    made_free(&f);
}

static void other_widths_are_divided_by_their_range(void **state)
{
    static const int bits[] = {8, 24, 32};
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        uint8_t *at;
        made_file f = wav_new(PCM, bits[k], 1, SOUND_RATE, 256, &at);
        for (int i = 0; i < 256; i++) {
            /* eight bits are unsigned, the others two's complement with i in the highest byte */
            uint64_t value =
                bits[k] == 8 ? (uint64_t)i : (uint64_t)(uint8_t)(i - 128) << (bits[k] - 8);
            put(&at, value, bits[k] / 8);
        }
        sound s = decode(&f);
        assert_int_equal(s.n, 256);
        for (int i = 0; i < 256; i++) {
            assert_true(s.samples[i] == (float)(i - 128) / 128.0f);
        }
        sound_free(&s);
        made_free(&f);
    }
}

static void floating_point_samples_pass_untouched(void **state)
{
    (void)state;
    for (int bits = 32; bits <= 64; bits += 32) {
        uint8_t *at;
        made_file f = wav_new(FLOAT, bits, 1, SOUND_RATE, N, &at);
        for (int i = 0; i < N; i++) {
            double wide = 3 * tone(i, SOUND_RATE); /* over 1: not clipped */
            float narrow = (float)wide;
            memcpy(at + i * bits / 8, bits == 32 ? (void *)&narrow : (void *)&wide,
                   (size_t)bits / 8);
        }
        sound s = decode(&f);
        assert_int_equal(s.n, N);
        for (int i = 0; i < N; i++) {
            assert_true(s.samples[i] == (float)(3 * tone(i, SOUND_RATE)));
        }
        sound_free(&s);
        made_free(&f);
    }
}

static void channels_are_averaged(void **state)
{
    (void)state;
    for (int channels = 2; channels <= 6; channels++) {
        uint8_t *at;
        made_file f = wav_new(PCM, 16, channels, SOUND_RATE, N, &at);
        for (int i = 0; i < N * channels; i++) {
            put(&at, (uint64_t)(i * 7919 % 65536 - 32768), 2);
        }
        sound s = decode(&f);
        assert_int_equal(s.n, N);
        for (int i = 0; i < N; i++) {
            float sum = 0;
            for (int c = 0; c < channels; c++) {
                sum += (float)((i * channels + c) * 7919 % 65536 - 32768) / 32768.0f;
            }
            assert_true(s.samples[i] == sum / (float)channels);
        }
        sound_free(&s);
        made_free(&f);
    }
}

static void a_sample_that_is_no_number_is_refused(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        uint8_t *at;
        made_file f = wav_new(FLOAT, 32, 1, SOUND_RATE, N, &at);
        memcpy(at + 4 * (N - 1), &bad[k], 4);
        expect_refusal_and_free(f, "sample 3999 is not a finite number");
    }
}

/* ---- rates ---- */

/* Lengths are those of the ideal resampling rounded up or down; in its middle a tone is the same
 * tone. */
static void any_rate_becomes_16_khz(void **state)
{
    static const int rates[] = {1000,  8000,  11025, 22050,  32000,
                                44100, 48000, 96000, 192000, 768000};
    (void)state;
    for (size_t k = 0; k < sizeof rates / sizeof *rates; k++) {
        int n = rates[k] / 2;
        made_file f = tone_wav(rates[k], 1, n);
        sound s = decode(&f);
        assert_true(llabs(s.n - SOUND_RATE / 2) <= 1);
        for (int i = 1000; i < 7000 && rates[k] >= 8000; i++) {
            assert_true(fabs((double)s.samples[i] - tone(i, SOUND_RATE)) < 1e-3);
        }
        sound_free(&s);
        made_free(&f);
    }
}

static void a_rate_of_one_hertz_is_bounded(void **state)
{
    (void)state;
    made_file f = tone_wav(1, 1, 20);
    sound s = decode(&f);
    assert_true(llabs(s.n - 20 * SOUND_RATE) <= 1);
    sound_free(&s);
    made_free(&f);
    f = tone_wav(1, 1, SOUND_SECONDS_MAX + 60);
    expect_refusal_and_free(f, "longer than 4 hours");
}

/* ---- formats ---- */

static void lossless_formats_hold_the_same_samples(void **state)
{
    static const char *const formats[] = {
        "-f wav",
        "-f flac",
        "-f aiff",
        "-f au",
        "-f caf",
        "-f w64",
        "-f wv",
        "-f tta",
        "-f matroska -c:a flac",
        "-f ogg -c:a flac",
        "-f avi -c:a pcm_s16le",
        "-f mov -c:a alac -movflags frag_keyframe+empty_moov",
    };
    (void)state;
    made_file wav = tone_wav(SOUND_RATE, 1, 3 * SOUND_RATE);
    made_put("tone.wav", wav.bytes, wav.n);
    sound truth = decode(&wav);
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        made_file f = made_by("lossless", FFMPEG "-i tone.wav %s lossless", formats[k]);
        sound s = decode(&f);
        expect_same(&s, &truth);
        sound_free(&s);
        made_free(&f);
    }
    sound_free(&truth);
    made_free(&wav);
}

/* The ffmpeg program decodes and mixes, our own floats resample: equal but for the rounding of the
 * mix. */
static void lossy_formats_are_decoded_as_the_ffmpeg_program_does(void **state)
{
    static const char *const formats[] = {
        "-f ogg -c:a libvorbis",
        "-f opus",
        "-f mp3",
        "-f ipod -c:a aac",
        "-f adts -c:a aac",
        "-f webm -c:a libopus",
        "-f mp2",
        "-f ac3",
        "-f mp3 -write_xing 0",
        "-f mpegts -c:a aac",
        "-f wav -c:a adpcm_ima_wav",
        "-f asf -c:a wmav2",
    };
    (void)state;
    made_file wav = tone_wav(44100, 2, 2 * 44100);
    made_put("stereo.wav", wav.bytes, wav.n);
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        made_file f = made_by("lossy", FFMPEG "-i stereo.wav %s lossy", formats[k]);
        made_file expected = made_output(
            FFMPEG "-i lossy -af aformat=flt,pan='mono|c0=0.5*c0+0.5*c1' -f wav -c:a pcm_f32le -");
        sound s = decode(&f), truth = decode(&expected);
        assert_int_equal(s.n, truth.n);
        assert_true(llabs(s.n - 2 * SOUND_RATE) < SOUND_RATE / 10);
        for (int64_t i = 0; i < s.n; i++) {
            assert_true(fabsf(s.samples[i] - truth.samples[i]) < 1e-6f);
        }
        sound_free(&s);
        sound_free(&truth);
        made_free(&f);
        made_free(&expected);
    }
    made_free(&wav);
}

/* What the encoder puts in front is left out: the tone stands where it stood. */
static void a_lossy_sound_is_not_shifted(void **state)
{
    static const char *const formats[] = {"-f ogg -c:a libvorbis", "-f opus", "-f mp3",
                                          "-f ipod -c:a aac"};
    (void)state;
    made_file wav = tone_wav(48000, 1, 48000);
    made_put("mono.wav", wav.bytes, wav.n);
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        made_file f = made_by("shifted", FFMPEG "-i mono.wav %s -b:a 96k shifted", formats[k]);
        sound s = decode(&f);
        double error = 0, power = 0;
        for (int i = 1000; i < 15000; i++) {
            double want = tone(i, SOUND_RATE), got = (double)s.samples[i];
            error += (got - want) * (got - want);
            power += want * want;
        }
        assert_true(error <
                    0.01 * power); /* one sample off at 48 kHz: 0.03 of the overtone's power */
        sound_free(&s);
        made_free(&f);
    }
    made_free(&wav);
}

static void other_programs_files_are_heard(void **state)
{
    static const char *const commands[] = {
        "espeak-ng --stdout 'one two three'",
        "sox -n -r 44100 -c 2 -t wav - synth 1 sine 300",
        "sox -n -r 22050 -t aiff - synth 1 sine 300",
        "sox -n -r 8000 -t au - synth 1 sine 300",
        "sox -n -r 16000 -t flac - synth 1 sine 300",
        "sox -n -r 16000 -t ogg - synth 1 sine 300",
        FFMPEG "-f lavfi -i sine=d=1 -f wav -",
        FFMPEG "-f lavfi -i sine=d=1 -f mp3 -",
    };
    (void)state;
    for (size_t k = 0; k < sizeof commands / sizeof *commands; k++) {
        made_file f = made_output("%s", commands[k]);
        sound s = decode(&f);
        double power = 0;
        for (int64_t i = 0; i < s.n; i++) {
            power += (double)s.samples[i] * (double)s.samples[i];
        }
        assert_true(s.n > 12000 && s.n < 40000);
        assert_true(power > 1);
        sound_free(&s);
        made_free(&f);
    }
}

static void the_sound_of_a_video_is_found(void **state)
{
    static const char *const kinds[] = {"mp4", "webm", "mkv", "avi", "mov"};
    (void)state;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        char name[16];
        (void)snprintf(name, sizeof name, "v.%s", kinds[k]);
        made_file f = made_by(
            name, FFMPEG "-f lavfi -i testsrc2=s=64x48:d=2 -f lavfi -i sine=d=2 -shortest %s",
            name);
        sound s = decode(&f);
        assert_true(llabs(s.n - 2 * SOUND_RATE) < SOUND_RATE / 10);
        sound_free(&s);
        made_free(&f);
    }
}

static void a_video_without_sound_has_none(void **state)
{
    (void)state;
    sound s = {NULL, 0};
    bool none = false;
    made_file f = made_by("mute.mp4", FFMPEG "-f lavfi -i testsrc2=s=64x48:d=1 mute.mp4");
    assert_int_equal(sound_decode(&s, f.bytes, f.n, "mute.mp4", &none, NULL, &err), FLO_USAGE);
    assert_true(none);
    assert_string_equal(err.text, "mute.mp4: has no sound in it");
    made_free(&f);
}

/* ---- MP3 and what surrounds it ---- */

static made_file joined(const void *a, size_t n_a, const void *b, size_t n_b)
{
    made_file f = {malloc(n_a + n_b), n_a + n_b};
    assert_non_null(f.bytes);
    memcpy(f.bytes, a, n_a);
    memcpy(f.bytes + n_a, b, n_b);
    return f;
}

static void titles_around_an_mp3_are_no_damage(void **state)
{
    uint8_t junk[900];
    (void)state;
    for (size_t i = 0; i < sizeof junk; i++) {
        junk[i] = (uint8_t)(1 + i % 200);
    }
    made_file mp3 = made_output(FFMPEG "-f lavfi -i sine=d=2 -metadata title=x -f mp3 -");
    sound plain = decode(&mp3);
    made_file both[] = {
        joined(mp3.bytes, mp3.n, "TAGa title", 10),
        joined(mp3.bytes, mp3.n, "APETAGEX and so on", 18),
        joined(mp3.bytes, mp3.n, junk, sizeof junk),
        joined(junk, sizeof junk, mp3.bytes, mp3.n),
        joined(mp3.bytes, mp3.n, mp3.bytes, mp3.n),
    };
    for (size_t k = 0; k < 5; k++) {
        sound s = decode(&both[k]);
        assert_true(llabs(s.n - plain.n * (k == 4 ? 2 : 1)) < SOUND_RATE / 10);
        sound_free(&s);
        made_free(&both[k]);
    }
    sound_free(&plain);
    made_free(&mp3);
}

static void a_hole_in_an_mp3_is_damage(void **state)
{
    (void)state;
    made_file f = made_output(FFMPEG "-f lavfi -i sine=d=4 -write_xing 0 -f mp3 -");
    memset(f.bytes + f.n / 2, 0, 3000);
    expect_refusal_and_free(f, "is damaged");
}

/* ---- bad files ---- */

static void a_file_that_was_cut_short_is_refused(void **state)
{
    static const char *const formats[] = {
        "-f wav",
        "-f aiff",
        "-f flac",
        "-f ogg -c:a libvorbis",
        "-f opus",
        "-f mp3",
        "-f wv",
        "-f mp3 -write_xing 0",
        "-f ipod -c:a aac",
        "-f webm -c:a libopus",
        "-f matroska",
        "-f caf",
        "-f avi -c:a pcm_s16le",
        "-f mp4 -c:a aac -movflags frag_keyframe+empty_moov",
        "-f mp4 -c:a aac -movflags faststart",
        "-f wav -c:a pcm_f32le",
        "-f tta",
    };
    static const int percent[] = {15, 50, 77, 95};
    (void)state;
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        made_file f = made_by("whole", FFMPEG "-f lavfi -i anoisesrc=seed=7:d=3:r=44100 %s whole",
                              formats[k]);
        sound s = decode(&f);
        sound_free(&s);
        for (size_t p = 0; p < 4; p++) {
            made_file part = joined(f.bytes, f.n * (size_t)percent[p] / 100, "", 0);
            if (sound_decode(&s, part.bytes, part.n, "cut", NULL, NULL, &err) == FLO_OK) {
                fail_msg("%s: %d %% of it was taken", formats[k], percent[p]);
            }
            made_free(&part);
        }
        made_free(&f);
    }
}

static void a_wav_whose_header_promises_more_is_refused(void **state)
{
    (void)state;
    made_file f = tone_wav(SOUND_RATE, 1, N);
    f.bytes[40]++;
    expect_refusal(&f, "it has 8044 of at least 8045 bytes");
    memcpy(f.bytes + 40, "\x00\x00\x00\x70", 4); /* a day and more */
    expect_refusal(&f, "cut short");
    memcpy(f.bytes + 40, "\xff\xff\xff\xff", 4); /* FFmpeg into a pipe */
    sound s = decode(&f);
    assert_int_equal(s.n, N);
    sound_free(&s);
    made_free(&f);
}

/* The first block of a Matroska file says that it is longer than its cluster; FFmpeg would go on
 * behind the cluster. */
static void a_block_that_leaves_its_cluster_is_refused(void **state)
{
    (void)state;
    made_file f = made_by("whole", FFMPEG "-f lavfi -i anoisesrc=seed=7:d=3:r=16000 -f matroska "
                                          "whole");
    sound s = decode(&f);
    sound_free(&s);
    uint8_t *cluster = memmem(f.bytes, f.n, "\x1f\x43\xb6\x75", 4);
    assert_non_null(cluster);
    uint8_t *block = memchr(cluster + 8, 0xa3, 16);
    assert_non_null(block);
    block[1] = 0x08; /* a size of five bytes */
    block[2] = 0x7f;
    expect_refusal_and_free(f, "is not whole");
}

static void damage_in_the_middle_is_refused(void **state)
{
    static const char *const formats[] = {"-f flac", "-f ogg -c:a libvorbis", "-f wv", "-f tta"};
    (void)state;
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        made_file f = made_by("whole", FFMPEG "-f lavfi -i anoisesrc=seed=7:d=3:r=16000 %s whole",
                              formats[k]);
        for (size_t i = 0; i < 64; i++) {
            f.bytes[f.n / 2 + i] ^= (uint8_t)(37 * i + 1);
        }
        expect_refusal_and_free(f, ""); /* damage, or samples that are no numbers */
    }
}

static void what_is_no_sound_is_refused(void **state)
{
    static const char playlist[] = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n"
                                   "file:///etc/passwd\n#EXT-X-ENDLIST\n";
    static const char list[] = "ffconcat version 1.0\nfile tone.wav\n";
    static const char sdp[] = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                              "m=audio 5004 RTP/AVP 0\n";
    (void)state;
    expect_refusal_and_free(joined("plain words, no music", 21, "", 0),
                            "is not a sound or a video");
    expect_refusal_and_free(joined("", 0, "\0", 1), "is not a sound or a video");
    expect_refusal_and_free(joined(playlist, sizeof playlist, "", 0), "is not a sound or a video");
    expect_refusal_and_free(joined(list, sizeof list, "", 0), "is not a sound or a video");
    expect_refusal_and_free(joined(sdp, sizeof sdp, "", 0), "is not a sound or a video");
    expect_refusal_and_free(made_output(FFMPEG "-f lavfi -i testsrc2=s=64x48 -frames:v 1 -c:v png "
                                               "-f image2pipe -"),
                            "is not a sound or a video");
}

static void a_sound_that_is_too_short_is_refused(void **state)
{
    (void)state;
    expect_refusal_and_free(tone_wav(SOUND_RATE, 1, 200), "200 samples at 16000 Hz are too short");
    expect_refusal_and_free(tone_wav(SOUND_RATE, 1, 0), "0 samples");
    made_file f = tone_wav(SOUND_RATE, 1, 201);
    sound s = decode(&f);
    assert_int_equal(s.n, 201);
    sound_free(&s);
    made_free(&f);
}

static void a_cancelled_request_stops(void **state)
{
    (void)state;
    const volatile bool cancel = true;
    sound s = {NULL, 0};
    made_file f = tone_wav(SOUND_RATE, 1, N);
    assert_int_equal(sound_decode(&s, f.bytes, f.n, "x", NULL, &cancel, &err), FLO_INTERRUPTED);
    made_free(&f);
}

/* Whatever the first bytes of a format are followed by, the walk ends within it. */
static void an_extent_is_found_in_any_bytes(void **state)
{
    static const char *const heads[] = {"RIFF....WAVE",
                                        "RIFF....AVI ",
                                        "FORM....AIFF",
                                        "....ftypisom",
                                        "\x1a\x45\xdf\xa3\x93\x42\x86\x81\x01\x42\xf7\x81",
                                        "OggS",
                                        "caff\1\0\0\0data"};
    uint32_t seed = 1;
    (void)state;
    for (int round = 0; round < 6000; round++) {
        uint8_t bytes[64];
        size_t n = (size_t)(round % 64);
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525u + 1013904223u;
            bytes[i] = (uint8_t)(seed >> 24 & (round % 3 == 0 ? 255u : 3u));
        }
        const char *head = heads[round % 7];
        memcpy(bytes, head, round % 7 == 6 ? 12 : strlen(head));
        made_file f = joined(bytes, n, "", 0);
        uint64_t extent = media_extent(f.bytes, f.n);
        assert_true(extent == 0 || n >= 12);
        made_free(&f);
    }
}

static int remove_files(void **state)
{
    (void)state;
    made_files_remove();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sixteen_bit_samples_are_divided_by_32768),
        cmocka_unit_test(other_widths_are_divided_by_their_range),
        cmocka_unit_test(floating_point_samples_pass_untouched),
        cmocka_unit_test(channels_are_averaged),
        cmocka_unit_test(a_sample_that_is_no_number_is_refused),
        cmocka_unit_test(any_rate_becomes_16_khz),
        cmocka_unit_test(a_rate_of_one_hertz_is_bounded),
        cmocka_unit_test(lossless_formats_hold_the_same_samples),
        cmocka_unit_test(lossy_formats_are_decoded_as_the_ffmpeg_program_does),
        cmocka_unit_test(a_lossy_sound_is_not_shifted),
        cmocka_unit_test(other_programs_files_are_heard),
        cmocka_unit_test(the_sound_of_a_video_is_found),
        cmocka_unit_test(a_video_without_sound_has_none),
        cmocka_unit_test(titles_around_an_mp3_are_no_damage),
        cmocka_unit_test(a_hole_in_an_mp3_is_damage),
        cmocka_unit_test(a_file_that_was_cut_short_is_refused),
        cmocka_unit_test(a_wav_whose_header_promises_more_is_refused),
        cmocka_unit_test(a_block_that_leaves_its_cluster_is_refused),
        cmocka_unit_test(damage_in_the_middle_is_refused),
        cmocka_unit_test(what_is_no_sound_is_refused),
        cmocka_unit_test(a_sound_that_is_too_short_is_refused),
        cmocka_unit_test(a_cancelled_request_stops),
        cmocka_unit_test(an_extent_is_found_in_any_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, remove_files);
}

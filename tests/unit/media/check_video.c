/*
 * check_video.c - frames are found by their number whatever is skipped on the way to them, in the
 * colours and the position in which they were recorded; and the frames that are taken are those
 * that the reference takes.
 *
 * Videos are made by ffmpeg. What is decoded is compared, byte by byte, with what the ffmpeg
 * program makes of the same file; tests/golden/video-sampling has the reference's choices of
 * frames.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "coordinator/media/frame_scaler.h"
#include "coordinator/media/video.h"
#include "tests/unit/common/temp_folder.h"
#include "tests/unit/media/made_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FFMPEG "ffmpeg -nostdin -v error -y "
#define CONVERT "-sws_flags bilinear+full_chroma_int+accurate_rnd -f rawvideo -pix_fmt rgb24 -"

enum {
    WIDTH = 96,
    HEIGHT = 64,
    FRAMES = 60,
    FRAME_BYTES = WIDTH * HEIGHT * 3,
    PIXELS_MAX = 1 << 24
};

static flo_err err;

/* ---- helpers ---- */

static media_source source_of(const made_file *f)
{
    media_source s = {.name = "the.video", .bytes = f->bytes, .n_bytes = f->n};
    return s;
}

static media_source source_of_folder(const char *name)
{
    media_source s = {.name = "the.folder"};
    (void)snprintf(s.folder, sizeof s.folder, "%s/%s", made_folder(), name);
    return s;
}

static video *open_video(const media_source *s)
{
    video *v = NULL;
    if (video_open(&v, s, 0, PIXELS_MAX, &err) != FLO_OK) {
        fail_msg("%s", err.text);
    }
    return v;
}

/* Frames in their own size. */
static uint8_t *read_frames(video *v, const int64_t *indices, int32_t n, int32_t threads)
{
    const video_facts *facts = video_facts_of(v);
    uint8_t *out = malloc((size_t)n * (size_t)facts->width * (size_t)facts->height * 3);
    assert_non_null(out);
    if (video_read(v, out, indices, n, facts->width, facts->height, threads, NULL, &err) !=
        FLO_OK) {
        fail_msg("%s", err.text);
    }
    return out;
}

static uint8_t *read_all(video *v)
{
    int64_t indices[1024];
    int32_t n;
    const video_sampling all = {.all_frames = true};
    assert_int_equal(video_choose(indices, &n, 1024, video_facts_of(v), &all, &err), FLO_OK);
    assert_int_equal(n, video_facts_of(v)->n_frames);
    return read_frames(v, indices, n, 2);
}

static void expect_refusal(const media_source *s, uint64_t pixels_max, const char *what)
{
    video *v = NULL;
    err.text[0] = '\0';
    flo_code code = video_open(&v, s, 0, pixels_max, &err);
    if (code == FLO_OK) { /* damage between the packets' headers shows when they are decoded */
        const video_facts *facts = video_facts_of(v);
        int64_t last = facts->n_frames - 1;
        uint8_t *out = malloc((size_t)facts->width * (size_t)facts->height * 3);
        assert_non_null(out);
        code = video_read(v, out, &last, 1, facts->width, facts->height, 1, NULL, &err);
        free(out);
        video_close(v);
    }
    assert_int_equal(code, FLO_USAGE);
    if (strncmp(err.text, s->name, strlen(s->name)) != 0 || strstr(err.text, what) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", err.text, what);
    }
}

static void expect_refusal_and_free(made_file f, const char *what)
{
    media_source s = source_of(&f);
    expect_refusal(&s, PIXELS_MAX, what);
    made_free(&f);
}

/* ---- which frames ---- */

static int read_index(FILE *from, int64_t *index)
{
    long long value = 0;
    int n = fscanf(from, " %lld", &value);
    *index = value;
    return n;
}

static void the_frames_taken_are_the_references(void **state)
{
    (void)state;
    long long total;
    double recorded, wanted;
    int n_expected, n_cases = 0;
    FILE *from = fopen(source_path("tests/golden/video-sampling/cases.txt"), "r");
    assert_non_null(from);
    while (fscanf(from, "%lld %lf %lf %d", &total, &recorded, &wanted, &n_expected) == 4) {
        int64_t indices[1024], expected;
        int32_t n = 0;
        const video_facts facts = {WIDTH, HEIGHT, total, recorded};
        const video_sampling sampling = {.fps = wanted};
        flo_code code = video_choose(indices, &n, 1024, &facts, &sampling, &err);
        assert_int_equal(code, n_expected == 0 ? FLO_USAGE : FLO_OK);
        assert_int_equal(n, n_expected);
        for (int i = 0; i < n_expected; i++) {
            assert_int_equal(read_index(from, &expected), 1);
            assert_int_equal(indices[i], expected);
        }
        (void)fscanf(from, " %*[a-z]"); /* "fails", "past" */
        n_cases++;
    }
    (void)fclose(from);
    assert_int_equal(n_cases, 225);
}

static void a_rule_without_an_answer_says_so(void **state)
{
    (void)state;
    int64_t indices[4];
    int32_t n;
    const video_sampling two = {.fps = 2}, none = {.fps = 0}, all = {.all_frames = true};
    const video_facts unknown = {8, 8, 100, 0}, single = {8, 8, 1, 25}, many = {8, 8, 100, 25};
    assert_int_equal(video_choose(indices, &n, 4, &unknown, &two, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "--recorded-fps"));
    assert_int_equal(video_choose(indices, &n, 4, &single, &two, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "--video-all-frames"));
    assert_int_equal(video_choose(indices, &n, 4, &many, &none, &err), FLO_USAGE);
    assert_int_equal(video_choose(indices, &n, 4, &unknown, &all, &err), FLO_OK);
    assert_int_equal(n, 100); /* four of them are written */
    assert_int_equal(indices[3], 3);
}

/* ---- the same frames in every format ---- */

static const char *const formats[] = {
    "-c:v libx264 -g 12 -f mp4",
    "-c:v libx264 -g 20 -x264-params open-gop=1 -f matroska",
    "-c:v libx264 -x264-params intra-refresh=1:keyint=20 -f mp4",
    "-c:v libx264 -bf 3 -f mp4 -movflags frag_keyframe+empty_moov",
    "-c:v libx265 -x265-params log-level=error:keyint=15 -f mp4",
    "-c:v libvpx -g 20 -auto-alt-ref 1 -lag-in-frames 16 -f webm",
    "-c:v libvpx-vp9 -g 20 -f webm",
    "-c:v libaom-av1 -cpu-used 8 -g 20 -f mp4",
    "-c:v mpeg4 -bf 2 -g 15 -f avi",
    "-c:v mpeg2video -bf 2 -f mpeg",
    "-c:v libx264 -f mpegts",
    "-c:v libx264 -f h264",
    "-c:v mjpeg -f mov",
    "-f gif",
    "-f apng",
    "-c:v libtheora -f ogg",
    "-c:v flv -f flv",
    "-c:v wmv2 -f asf",
    "-pix_fmt yuv420p -f yuv4mpegpipe",
    "-c:v libx264 -pix_fmt yuv444p10le -f matroska",
};

enum { N_FORMATS = sizeof formats / sizeof *formats };

static made_file make_video(const char *format)
{
    return made_by("made", FFMPEG "-f lavfi -i testsrc2=s=%dx%d:r=30:d=2 %s made", WIDTH, HEIGHT,
                   format);
}

static void frames_are_what_the_ffmpeg_program_decodes(void **state)
{
    (void)state;
    for (int k = 0; k < N_FORMATS; k++) {
        made_file f = make_video(formats[k]);
        made_file expected = made_output(FFMPEG "-i made -vsync 0 " CONVERT);
        media_source s = source_of(&f);
        video *v = open_video(&s);
        const video_facts *facts = video_facts_of(v);
        assert_int_equal(facts->width, WIDTH);
        assert_int_equal(facts->height, HEIGHT);
        assert_int_equal(facts->n_frames, FRAMES);
        assert_true(fabs(facts->fps - 30) < 0.1);
        assert_int_equal(expected.n, FRAMES * FRAME_BYTES);
        uint8_t *got = read_all(v);
        assert_memory_equal(got, expected.bytes, expected.n);
        free(got);
        video_close(v);
        made_free(&f);
        made_free(&expected);
    }
}

static uint32_t random_number(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void what_is_skipped_changes_no_frame(void **state)
{
    uint32_t seed = 4;
    (void)state;
    for (int k = 0; k < N_FORMATS; k++) {
        made_file f = make_video(formats[k]);
        media_source s = source_of(&f);
        video *v = open_video(&s);
        uint8_t *all = read_all(v);
        for (int round = 0; round < 12; round++) {
            int64_t indices[FRAMES];
            int32_t n = 0;
            uint32_t one_of = 1 + random_number(&seed) % 20;
            for (int64_t i = 0; i < FRAMES; i++) {
                if (random_number(&seed) % one_of == 0 || (n == 0 && i == FRAMES - 1)) {
                    indices[n++] = i;
                }
            }
            uint8_t *some = read_frames(v, indices, n, 1 + round % 3);
            for (int32_t i = 0; i < n; i++) {
                assert_memory_equal(some + (size_t)i * FRAME_BYTES,
                                    all + (size_t)indices[i] * FRAME_BYTES, FRAME_BYTES);
            }
            free(some);
        }
        free(all);
        video_close(v);
        made_free(&f);
    }
}

static void a_cut_by_an_edit_list_is_kept(void **state)
{
    (void)state;
    made_file whole = make_video("-c:v libx264 -g 25 -f mp4");
    made_file f = made_by("cut.mp4", FFMPEG "-ss 0.6 -i made -c copy cut.mp4");
    made_file expected = made_output(FFMPEG "-i cut.mp4 -vsync 0 " CONVERT);
    media_source s = source_of(&f);
    video *v = open_video(&s);
    assert_int_equal(video_facts_of(v)->n_frames, FRAMES - 18);
    uint8_t *got = read_all(v);
    assert_int_equal(expected.n, (FRAMES - 18) * FRAME_BYTES);
    assert_memory_equal(got, expected.bytes, expected.n);
    free(got);
    video_close(v);
    made_free(&whole);
    made_free(&f);
    made_free(&expected);
}

static void a_rate_that_is_no_whole_number_is_read(void **state)
{
    (void)state;
    made_file f =
        made_by("ntsc.mp4", FFMPEG "-f lavfi -i testsrc2=s=64x64:r=30000/1001:d=2 ntsc.mp4");
    media_source s = source_of(&f);
    video *v = open_video(&s);
    assert_true(video_facts_of(v)->fps == 30000.0 / 1001.0);
    video_close(v);
    made_free(&f);
}

static void frames_are_resized_to_what_is_asked(void **state)
{
    (void)state;
    const int64_t first = 0;
    uint8_t small[32 * 32 * 3];
    made_file f = made_by("red.mp4", FFMPEG "-f lavfi -i color=red:s=200x100:d=0.2 red.mp4");
    media_source s = source_of(&f);
    video *v = open_video(&s);
    assert_int_equal(video_read(v, small, &first, 1, 32, 32, 1, NULL, &err), FLO_OK);
    for (size_t i = 0; i < sizeof small; i++) {
        assert_true(abs(small[i] - (i % 3 == 0 ? 255 : 0)) <= 3);
    }
    video_close(v);
    made_free(&f);
}

/* ---- colours, position, alpha ---- */

/* A video of one colour that comes back as it went in. */
static void check_colour(const char *size, const char *colour, const int rgb[3], const char *format)
{
    int64_t first = 0;
    made_file f =
        made_by("colour.mkv", FFMPEG "-f lavfi -i color=%s:s=%s:d=0.1,format=gbrp %s colour.mkv",
                colour, size, format);
    media_source s = source_of(&f);
    video *v = open_video(&s);
    uint8_t *got = read_frames(v, &first, 1, 1);
    size_t n = (size_t)video_facts_of(v)->width * (size_t)video_facts_of(v)->height * 3;
    for (size_t i = 0; i < n; i++) {
        if (abs(got[i] - rgb[i % 3]) > 2) {
            fail_msg("%s, %s: channel %d is %d", colour, format, (int)(i % 3), got[i]);
        }
    }
    free(got);
    video_close(v);
    made_free(&f);
}

static void colours_come_back_by_their_matrix_and_range(void **state)
{
    static const struct {
        const char *name;
        int rgb[3];
    } colours[] = {{"0xff0000", {255, 0, 0}},
                   {"0x20c040", {0x20, 0xc0, 0x40}},
                   {"0x000000", {0, 0, 0}},
                   {"0xffffff", {255, 255, 255}}};
    (void)state;
    for (size_t k = 0; k < 4; k++) {
        const char *name = colours[k].name;
        const int *rgb = colours[k].rgb;
        check_colour("64x48", name, rgb,
                     "-vf scale=out_color_matrix=bt601,format=yuv444p -c:v ffv1");
        check_colour("1280x720", name, rgb,
                     "-vf scale=out_color_matrix=bt709,format=yuv444p -c:v libx264 -qp 0");
        check_colour(
            "64x48", name, rgb,
            "-vf scale=out_color_matrix=bt709,format=yuv444p -colorspace bt709 -c:v libx264 -qp 0");
        check_colour("64x48", name, rgb,
                     "-vf scale=out_color_matrix=bt601:out_range=pc,format=yuv444p -color_range pc "
                     "-colorspace smpte170m -c:v libx264 -qp 0");
        check_colour("64x48", name, rgb, "-vf format=yuvj444p -c:v mjpeg -q:v 1");
        check_colour("64x48", name, rgb, "-c:v ffv1");
        check_colour("64x48", name, rgb, "-pix_fmt gbrp -c:v libx264rgb -qp 0");
    }
}

static void grey_becomes_three_equal_channels(void **state)
{
    (void)state;
    const int rgb[3] = {128, 128, 128};
    check_colour("64x48", "0x808080", rgb, "-pix_fmt gray -c:v ffv1");
}

static void alpha_lies_over_white(void **state)
{
    (void)state;
    const int rgb[3] = {255, 127, 127};
    check_colour("64x48", "0xff0000", rgb, "-vf format=rgba,colorchannelmixer=aa=0.5 -c:v png");
    check_colour("64x48", "0xff0000", rgb, "-vf format=gbrap,colorchannelmixer=aa=0.5 -c:v ffv1");
}

static void a_rotation_that_the_file_asks_for_is_applied(void **state)
{
    (void)state;
    made_file whole = make_video("-c:v libx264 -f mp4");
    for (int degrees = 90; degrees < 360; degrees += 90) {
        made_file f = made_by(
            "turned.mp4", FFMPEG "-i made -c copy -metadata:s:v:0 rotate=%d turned.mp4", degrees);
        made_file expected = made_output(FFMPEG "-i turned.mp4 -vsync 0 -vf format=rgb24 " CONVERT);
        made_file plain = made_output(FFMPEG "-noautorotate -i turned.mp4 -vsync 0 " CONVERT);
        media_source s = source_of(&f);
        video *v = open_video(&s);
        const video_facts *facts = video_facts_of(v);
        assert_int_equal(facts->width, degrees == 180 ? WIDTH : HEIGHT);
        assert_int_equal(facts->height, degrees == 180 ? HEIGHT : WIDTH);
        uint8_t *got = read_all(v);
        assert_int_equal(expected.n, FRAMES * FRAME_BYTES);
        /* The program turns before it converts, which moves the chroma of odd rows. */
        int64_t difference = 0, moved = 0;
        for (size_t i = 0; i < expected.n; i++) {
            difference += abs(got[i] - expected.bytes[i]);
            moved += abs(plain.bytes[i] - expected.bytes[i]);
        }
        assert_true(difference * 10 < moved);
        assert_true(difference < (int64_t)expected.n * 3);
        free(got);
        video_close(v);
        made_free(&f);
        made_free(&expected);
        made_free(&plain);
    }
    made_free(&whole);
}

/* The frame 1 2 3 / 4 5 6 (in its red channel), by each of the eight ways to turn it. */
static void every_turn_puts_each_pixel_in_its_place(void **state)
{
    static const struct {
        int32_t a, b, c, d; /* x' = a x + c y, y' = b x + d y */
        int width;
        char rows[7];
    } turns[] = {
        {1, 0, 0, 1, 3, "123456"},   {-1, 0, 0, 1, 3, "321654"},  {1, 0, 0, -1, 3, "456123"},
        {-1, 0, 0, -1, 3, "654321"}, {0, 1, 1, 0, 2, "142536"},   {0, 1, -1, 0, 2, "415263"},
        {0, -1, 1, 0, 2, "362514"},  {0, -1, -1, 0, 2, "635241"},
    };
    (void)state;
    AVFrame *frame = av_frame_alloc();
    assert_non_null(frame);
    frame->format = AV_PIX_FMT_RGB24;
    frame->width = 3;
    frame->height = 2;
    assert_int_equal(av_frame_get_buffer(frame, 0), 0);
    for (int i = 0; i < 6; i++) {
        memset(frame->data[0] + i / 3 * frame->linesize[0] + i % 3 * 3, '1' + i, 3);
    }
    for (size_t k = 0; k < 8; k++) {
        const int32_t one = 1 << 16;
        const int32_t matrix[9] = {
            turns[k].a * one, turns[k].b * one, 0, turns[k].c * one, turns[k].d * one, 0, 0, 0,
            1 << 30};
        uint8_t out[18];
        frame_scaler *scaler;
        assert_int_equal(frame_scaler_new(&scaler, frame_turn_from_matrix(matrix), turns[k].width,
                                          6 / turns[k].width, 100, &err),
                         FLO_OK);
        assert_int_equal(frame_scaler_run(scaler, out, frame, &err), FLO_OK);
        for (int i = 0; i < 6; i++) {
            assert_int_equal(out[3 * i], turns[k].rows[i]);
        }
        frame_scaler_free(scaler);
    }
    av_frame_free(&frame);
}

/* ---- folders ---- */

static void numbered_pictures_are_frames(void **state)
{
    (void)state;
    made_file truth = made_output(
        "mkdir -p pictures && " FFMPEG "-f lavfi -i testsrc2=s=%dx%d:r=30:d=0.5 -f rawvideo "
        "-pix_fmt rgb24 raw && cat raw && " FFMPEG
        "-f rawvideo -pix_fmt rgb24 -s %dx%d -r 30 -i raw pictures/%%05d.png && "
        "echo no picture > pictures/.hidden",
        WIDTH, HEIGHT, WIDTH, HEIGHT);
    media_source s = source_of_folder("pictures");
    video *v = NULL;
    assert_int_equal(video_open(&v, &s, 6, PIXELS_MAX, &err), FLO_OK);
    assert_int_equal(video_facts_of(v)->n_frames, 15);
    assert_int_equal(video_facts_of(v)->width, WIDTH);
    assert_int_equal(video_facts_of(v)->height, HEIGHT);
    assert_true(video_facts_of(v)->fps == 6);
    uint8_t *got = read_all(v);
    assert_memory_equal(got, truth.bytes, truth.n);
    free(got);
    video_close(v);
    made_free(&truth);
}

static void a_folder_with_something_else_is_refused(void **state)
{
    (void)state;
    made_file done =
        made_output("mkdir -p empty words/x sizes && echo words > words/00001.png && " FFMPEG
                    "-f lavfi -i testsrc2=s=32x32:d=0.1 sizes/1%%d.png && " FFMPEG
                    "-f lavfi -i testsrc2=s=32x48:d=0.1 sizes/2%%d.png");
    media_source s = source_of_folder("empty");
    expect_refusal(&s, PIXELS_MAX, "has no pictures");
    s = source_of_folder("nowhere");
    expect_refusal(&s, PIXELS_MAX, "cannot be read");
    s = source_of_folder("words");
    expect_refusal(&s, PIXELS_MAX, "the.folder/00001.png: ");
    s = source_of_folder("sizes");
    expect_refusal(&s, PIXELS_MAX,
                   "the.folder/21.png: has 32x48 pixels, the pictures before it 32x32");
    expect_refusal(&s, 1000, "the.folder/11.png: has 32x32 pixels, more than the limit of 1000");
    made_free(&done);
    done = made_output("rm words/00001.png");
    s = source_of_folder("words");
    expect_refusal(&s, PIXELS_MAX, "the.folder/x: is not a file");
    made_free(&done);
}

/* ---- bad files ---- */

static void a_video_that_was_cut_short_is_refused(void **state)
{
    static const int percent[] = {3, 40, 75, 97};
    static const int cut[] = {0, 1, 3, 4, 5, 6, 7, 8, 12, 13, 15, 16};
    (void)state;
    for (size_t k = 0; k < sizeof cut / sizeof *cut; k++) {
        made_file f = make_video(formats[cut[k]]);
        for (size_t p = 0; p < 4; p++) {
            made_file part = {malloc(f.n), f.n * (size_t)percent[p] / 100};
            assert_non_null(part.bytes);
            memcpy(part.bytes, f.bytes, part.n);
            expect_refusal_and_free(part, "");
        }
        made_free(&f);
    }
}

static void damage_in_the_middle_is_refused(void **state)
{
    static const int damaged[] = {0, 1, 8, 9, 15}; /* of formats; codecs that notice */
    (void)state;
    for (size_t k = 0; k < sizeof damaged / sizeof *damaged; k++) {
        made_file f = make_video(formats[damaged[k]]);
        memset(f.bytes + f.n / 3, 0x5a, 3000);
        media_source s = source_of(&f);
        video *v = NULL;
        flo_code code = video_open(&v, &s, 0, PIXELS_MAX, &err);
        if (code == FLO_OK) {
            int64_t indices[FRAMES];
            uint8_t *out = malloc((size_t)FRAMES * FRAME_BYTES);
            int32_t n = (int32_t)video_facts_of(v)->n_frames;
            assert_non_null(out);
            assert_true(n <= FRAMES);
            for (int32_t i = 0; i < n; i++) {
                indices[i] = i;
            }
            code = video_read(v, out, indices, n, WIDTH, HEIGHT, 2, NULL, &err);
            free(out);
            video_close(v);
        }
        assert_int_equal(code, FLO_USAGE);
        assert_non_null(strstr(err.text, "damaged"));
        made_free(&f);
    }
}

static void frames_over_the_limit_are_refused_undecoded(void **state)
{
    static const int big[] = {0, 1, 4, 6, 12, 13};
    (void)state;
    for (size_t k = 0; k < sizeof big / sizeof *big; k++) {
        made_file f = make_video(formats[big[k]]);
        media_source s = source_of(&f);
        expect_refusal(&s, WIDTH * HEIGHT - 1,
                       "has frames of 96x64 pixels, more than the limit of 6143");
        video *v = NULL;
        assert_int_equal(video_open(&v, &s, 0, WIDTH * HEIGHT, &err), FLO_OK);
        video_close(v);
        made_free(&f);
    }
}

static void what_has_no_video_is_refused(void **state)
{
    (void)state;
    expect_refusal_and_free(made_output(FFMPEG "-f lavfi -i sine=d=1 -f wav -"),
                            "has no video in it");
    expect_refusal_and_free(made_output(FFMPEG "-f lavfi -i sine=d=1 -f mp3 -"),
                            "has no video in it");
    expect_refusal_and_free(made_output("echo some words"), "is not a sound or a video");
    expect_refusal_and_free(made_output(FFMPEG
                                        "-f lavfi -i testsrc2=s=64x48 -frames:v 1 -f image2pipe "
                                        "-c:v png -"),
                            "is not a sound or a video");
    made_file cover =
        made_by("cover.mp3", FFMPEG "-f lavfi -i testsrc2=s=64x64 -frames:v 1 cover.png && " FFMPEG
                                    "-f lavfi -i sine=d=1 -i cover.png -map 0 -map 1 cover.mp3");
    expect_refusal_and_free(cover, "has no video in it");
}

static void a_cancelled_request_stops(void **state)
{
    (void)state;
    const volatile bool cancel = true;
    int64_t indices[2] = {3, 9};
    static uint8_t out[2 * FRAME_BYTES];
    made_file f = make_video(formats[0]);
    media_source s = source_of(&f);
    video *v = open_video(&s);
    assert_int_equal(video_read(v, out, indices, 2, WIDTH, HEIGHT, 2, &cancel, &err),
                     FLO_INTERRUPTED);
    video_close(v);
    made_free(&f);
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
        cmocka_unit_test(the_frames_taken_are_the_references),
        cmocka_unit_test(a_rule_without_an_answer_says_so),
        cmocka_unit_test(frames_are_what_the_ffmpeg_program_decodes),
        cmocka_unit_test(what_is_skipped_changes_no_frame),
        cmocka_unit_test(a_cut_by_an_edit_list_is_kept),
        cmocka_unit_test(a_rate_that_is_no_whole_number_is_read),
        cmocka_unit_test(frames_are_resized_to_what_is_asked),
        cmocka_unit_test(colours_come_back_by_their_matrix_and_range),
        cmocka_unit_test(grey_becomes_three_equal_channels),
        cmocka_unit_test(alpha_lies_over_white),
        cmocka_unit_test(a_rotation_that_the_file_asks_for_is_applied),
        cmocka_unit_test(every_turn_puts_each_pixel_in_its_place),
        cmocka_unit_test(numbered_pictures_are_frames),
        cmocka_unit_test(a_folder_with_something_else_is_refused),
        cmocka_unit_test(a_video_that_was_cut_short_is_refused),
        cmocka_unit_test(damage_in_the_middle_is_refused),
        cmocka_unit_test(frames_over_the_limit_are_refused_undecoded),
        cmocka_unit_test(what_has_no_video_is_refused),
        cmocka_unit_test(a_cancelled_request_stops),
    };
    return cmocka_run_group_tests(tests, NULL, remove_files);
}

/*
 * check_speech_file.c - a sound file is there when it is whole, or not at all; a stream has each
 * sample at once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "launch/speech_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD = 44, PIECE = 3000 };

static char folder[64];
static unsigned char piece[2 * PIECE];
static flo_err err;

static int enter_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/flotilla-check-XXXXXX");
    for (size_t i = 0; i < sizeof piece; i++) {
        piece[i] = (unsigned char)(i * 7);
    }
    return mkdtemp(folder) != NULL && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    (void)state;
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

static int files_here(void)
{
    int n = 0;
    DIR *d = opendir(".");
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        n += e->d_name[0] != '.';
    }
    closedir(d);
    return n;
}

static uint32_t number_at(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The file's bytes, and that its head tells of n_samples. */
static void check_wav(const char *path, size_t n_samples, unsigned char *bytes, size_t room)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, room, f);
    fclose(f);
    assert_int_equal(n, HEAD + 2 * n_samples);
    assert_memory_equal(bytes, "RIFF", 4);
    assert_int_equal(number_at(bytes + 4), 36 + 2 * n_samples);
    assert_int_equal(number_at(bytes + 24), 24000);
    assert_int_equal(number_at(bytes + 40), 2 * n_samples);
}

static void a_file_is_whole_and_has_the_right_length(void **state)
{
    (void)state;
    static unsigned char bytes[HEAD + 2 * sizeof piece + 1];
    speech_file *f;
    struct stat s;
    assert_int_equal(speech_file_open(&f, "a.wav", &err), FLO_OK);
    assert_int_equal(files_here(), 0); /* nothing before the first sound */
    assert_int_equal(speech_file_write(f, piece, PIECE, 24000, &err), FLO_OK);
    assert_int_equal(access("a.wav", F_OK), -1);
    assert_int_equal(speech_file_write(f, piece, PIECE - 1, 24000, &err), FLO_OK);
    assert_true(speech_file_seconds(f) == (2 * PIECE - 1) / 24000.0);
    umask(022);
    assert_int_equal(speech_file_finish(f, &err), FLO_OK);
    check_wav("a.wav", 2 * PIECE - 1, bytes, sizeof bytes);
    assert_memory_equal(bytes + HEAD, piece, sizeof piece);
    assert_memory_equal(bytes + HEAD + sizeof piece, piece, sizeof piece - 2);
    assert_int_equal(stat("a.wav", &s), 0);
    assert_int_equal(s.st_mode & 0777, 0644);
    assert_int_equal(files_here(), 1);
    unlink("a.wav");
}

static void an_answer_without_sound_is_a_file_without_samples(void **state)
{
    (void)state;
    unsigned char bytes[HEAD + 1];
    speech_file *f;
    assert_int_equal(speech_file_open(&f, "a.wav", &err), FLO_OK);
    assert_int_equal(speech_file_finish(f, &err), FLO_OK);
    check_wav("a.wav", 0, bytes, sizeof bytes);
    unlink("a.wav");
}

static void what_fails_leaves_what_was_there(void **state)
{
    (void)state;
    speech_file *f;
    struct stat s;
    FILE *old = fopen("a.wav", "w");
    assert_non_null(old);
    fputs("old", old);
    fclose(old);
    assert_int_equal(speech_file_open(&f, "a.wav", &err), FLO_OK);
    assert_int_equal(speech_file_write(f, piece, PIECE, 24000, &err), FLO_OK);
    assert_int_equal(files_here(), 2);
    speech_file_discard(f);
    assert_int_equal(files_here(), 1);
    assert_int_equal(stat("a.wav", &s), 0);
    assert_int_equal(s.st_size, 3);
    unlink("a.wav");
    speech_file_discard(NULL);
}

static void a_full_disk_is_a_sentence_and_leaves_nothing(void **state)
{
    (void)state;
    speech_file *f;
    struct rlimit before, small = {.rlim_cur = 10000};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(speech_file_open(&f, "a.wav", &err), FLO_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    flo_code first = speech_file_write(f, piece, PIECE, 24000, &err);
    flo_code second = speech_file_write(f, piece, PIECE, 24000, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(first, FLO_OK);
    assert_int_equal(second, FLO_FAIL);
    assert_non_null(strstr(err.text, "a.wav cannot be written: "));
    speech_file_discard(f);
    assert_int_equal(files_here(), 0);
    assert_int_equal(speech_file_open(&f, "/dev/full", &err), FLO_OK);
    assert_int_equal(speech_file_write(f, piece, PIECE, 24000, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "/dev/full cannot be written: No space left on device"));
    speech_file_discard(f);
}

static void a_place_where_nothing_can_be_made_is_refused_at_once(void **state)
{
    (void)state;
    speech_file *f;
    assert_int_equal(speech_file_open(&f, "/tmp", &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "/tmp: is a folder"));
    assert_int_equal(speech_file_open(&f, "no/such/a.wav", &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "no/such/a.wav: cannot be made: "));
    assert_int_equal(files_here(), 0);
}

static void a_pipe_has_each_sample_at_once(void **state)
{
    (void)state;
    static unsigned char bytes[HEAD + sizeof piece];
    speech_file *f;
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_true(speech_file_is_stream("pipe"));
    assert_true(speech_file_is_stream("-"));
    assert_false(speech_file_is_stream("a.wav"));
    int reader = open("pipe", O_RDONLY | O_NONBLOCK);
    assert_true(reader >= 0);
    assert_int_equal(speech_file_open(&f, "pipe", &err), FLO_OK);
    assert_int_equal(speech_file_write(f, piece, PIECE, 24000, &err), FLO_OK);
    assert_int_equal(read(reader, bytes, sizeof bytes), sizeof bytes);
    assert_int_equal(number_at(bytes + 40), UINT32_MAX); /* until the end */
    assert_memory_equal(bytes + HEAD, piece, sizeof piece);
    assert_int_equal(speech_file_finish(f, &err), FLO_OK);
    assert_int_equal(read(reader, bytes, 1), 0); /* and no more */
    close(reader);
    unlink("pipe");
}

static void a_reader_that_has_gone_is_a_sentence(void **state)
{
    (void)state;
    speech_file *f;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    int reader = open("pipe", O_RDONLY | O_NONBLOCK);
    assert_int_equal(speech_file_open(&f, "pipe", &err), FLO_OK);
    close(reader);
    assert_int_equal(speech_file_write(f, piece, PIECE, 24000, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "pipe cannot be written: Broken pipe"));
    speech_file_discard(f);
    unlink("pipe");
}

/* As `> a.wav` and `>> a.wav` of a shell; what was written before stays. */
static void redirect(const char *path, int flags, bool mended)
{
    unsigned char bytes[8 + HEAD + 2];
    speech_file *f;
    int kept = dup(STDOUT_FILENO), fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | flags, 0600);
    assert_true(kept >= 0 && fd >= 0);
    assert_int_equal(write(fd, "8 bytes.", 8), 8);
    fflush(stdout);
    dup2(fd, STDOUT_FILENO);
    close(fd);
    flo_code opened = speech_file_open(&f, "-", &err);
    flo_code written = opened == FLO_OK ? speech_file_write(f, piece, 1, 24000, &err) : opened;
    flo_code finished = written == FLO_OK ? speech_file_finish(f, &err) : written;
    dup2(kept, STDOUT_FILENO);
    close(kept);
    assert_int_equal(finished, FLO_OK);
    fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, bytes, sizeof bytes), sizeof bytes);
    close(fd);
    unlink(path);
    assert_memory_equal(bytes, "8 bytes.RIFF", 12);
    assert_int_equal(number_at(bytes + 8 + 40), mended ? 2 : UINT32_MAX);
}

static void standard_output_that_is_a_file_gets_its_length(void **state)
{
    (void)state;
    redirect("a.wav", 0, true);
    redirect("a.wav", O_APPEND, false);
}

static void another_rate_is_refused(void **state)
{
    (void)state;
    speech_file *f;
    assert_int_equal(speech_file_open(&f, "a.wav", &err), FLO_OK);
    assert_int_equal(speech_file_write(f, piece, PIECE, 24000, &err), FLO_OK);
    assert_int_equal(speech_file_write(f, piece, PIECE, 16000, &err), FLO_FAIL);
    speech_file_discard(f);
    assert_int_equal(files_here(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_whole_and_has_the_right_length),
        cmocka_unit_test(an_answer_without_sound_is_a_file_without_samples),
        cmocka_unit_test(what_fails_leaves_what_was_there),
        cmocka_unit_test(a_full_disk_is_a_sentence_and_leaves_nothing),
        cmocka_unit_test(a_place_where_nothing_can_be_made_is_refused_at_once),
        cmocka_unit_test(a_pipe_has_each_sample_at_once),
        cmocka_unit_test(a_reader_that_has_gone_is_a_sentence),
        cmocka_unit_test(standard_output_that_is_a_file_gets_its_length),
        cmocka_unit_test(another_rate_is_refused),
    };
    return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}

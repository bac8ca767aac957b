/*
 * check_safetensors_write.c - what is written is read back, whatever the order; what is not
 * finished leaves nothing behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/safetensors_write.h"
#include "tests/unit/common/temp_folder.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];

static int make_folder(void **state)
{
    (void)state;
    temp_folder_make(folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

static int files_in_folder(void)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        n += e->d_name[0] != '.';
    }
    closedir(dir);
    return n;
}

static const safetensors_entry entries[] = {
    {.name = "hidden.0", .dtype = DTYPE_F32, .n_dims = 2, .shape = {3, 2}},
    {.name = "input_ids", .dtype = DTYPE_I64, .n_dims = 1, .shape = {3}},
    {.name = "empty \"name\"", .dtype = DTYPE_F32, .n_dims = 2, .shape = {0, 5}},
    {.name = "scalar", .dtype = DTYPE_F32, .n_dims = 0},
};
enum { N_ENTRIES = sizeof entries / sizeof entries[0] };

static const float rows[3][2] = {{1, 2}, {3, 4}, {5, 6}};
static const int64_t ids[3] = {7, -8, INT64_C(1) << 40};

static void write_entry_data(safetensors_writer *w)
{
    flo_err err = {{0}};
    const float scalar = 0.5f;
    static const size_t order[] = {2, 0, 1};
    assert_int_equal(safetensors_write(w, 1, 0, ids, sizeof ids, &err), FLO_OK);
    for (size_t i = 0; i < 3; i++) {
        size_t row = order[i];
        assert_int_equal(
            safetensors_write(w, 0, row * sizeof rows[0], rows[row], sizeof rows[0], &err), FLO_OK);
    }
    assert_int_equal(safetensors_write(w, 3, 0, &scalar, sizeof scalar, &err), FLO_OK);
}

static void rows_written_in_any_order_are_read_back(void **state)
{
    (void)state;
    const char *path = temp_path(folder, "out.safetensors");
    safetensors_writer *w = NULL;
    checkpoint *c = NULL;
    flo_err err = {{0}};
    temp_file_write(folder, "out.safetensors", "old", 3); /* is replaced */
    assert_int_equal(safetensors_create(&w, path, entries, N_ENTRIES, &err), FLO_OK);
    write_entry_data(w);
    assert_int_equal(safetensors_finish(w, &err), FLO_OK);
    assert_int_equal(files_in_folder(), 1);
    assert_int_equal(checkpoint_open_file(&c, path, &err), FLO_OK);
    assert_int_equal(checkpoint_count(c), N_ENTRIES);

    float got_rows[3][2];
    int64_t got_ids[3];
    const checkpoint_tensor *t = checkpoint_find(c, "hidden.0");
    assert_int_equal(t->shape[0], 3);
    assert_int_equal(t->offset % 8, 0);
    assert_int_equal(checkpoint_read(c, t, 0, got_rows, sizeof got_rows, &err), FLO_OK);
    assert_memory_equal(got_rows, rows, sizeof rows);
    t = checkpoint_find(c, "input_ids");
    assert_int_equal(t->dtype, DTYPE_I64);
    assert_int_equal(checkpoint_read(c, t, 0, got_ids, sizeof got_ids, &err), FLO_OK);
    assert_memory_equal(got_ids, ids, sizeof ids);
    assert_int_equal(checkpoint_find(c, "empty \"name\"")->n_bytes, 0);
    assert_int_equal(checkpoint_find(c, "scalar")->n_dims, 0);
    checkpoint_close(c);
}

static void tensors_whose_sizes_come_late_are_read_back_with_the_others(void **state)
{
    (void)state;
    const char *path = temp_path(folder, "out.safetensors");
    const safetensors_entry later[] = {
        {.name = "codes", .dtype = DTYPE_I64, .n_dims = 1, .shape = {3}},
        {.name = "a name of exactly forty-eight bytes: \"\"\"\"\"\"\"\"\"\"\"",
         .dtype = DTYPE_F32,
         .n_dims = TENSOR_DIMS_MAX,
         .shape = {1, 1, 1, 1, 1, 1}},
        {.name = "none", .dtype = DTYPE_F32, .n_dims = 2, .shape = {0, 7}}};
    const float one = 0.25f;
    const void *data[] = {ids, &one, NULL};
    safetensors_writer *w = NULL;
    checkpoint *c = NULL;
    flo_err err = {{0}};
    int64_t got_ids[3];
    float got_rows[3][2];
    assert_int_equal(safetensors_create_open(&w, path, entries, N_ENTRIES, 3, &err), FLO_OK);
    assert_int_equal(safetensors_add(w, &later[0], data[0], &err), FLO_OK);
    write_entry_data(w);
    for (size_t i = 1; i < 3; i++) {
        assert_int_equal(safetensors_add(w, &later[i], data[i], &err), FLO_OK);
    }
    assert_int_equal(safetensors_finish(w, &err), FLO_OK);
    assert_int_equal(checkpoint_open_file(&c, path, &err), FLO_OK);
    assert_int_equal(checkpoint_count(c), N_ENTRIES + 3);
    assert_int_equal(
        checkpoint_read(c, checkpoint_find(c, "codes"), 0, got_ids, sizeof got_ids, &err), FLO_OK);
    assert_memory_equal(got_ids, ids, sizeof ids);
    assert_int_equal(
        checkpoint_read(c, checkpoint_find(c, "hidden.0"), 0, got_rows, sizeof got_rows, &err),
        FLO_OK);
    assert_memory_equal(got_rows, rows, sizeof rows);
    assert_non_null(checkpoint_find(c, later[1].name));
    assert_int_equal(checkpoint_find(c, "none")->n_bytes, 0);
    checkpoint_close(c);
}

static void a_row_never_written_is_a_failure_that_leaves_nothing(void **state)
{
    (void)state;
    safetensors_writer *w = NULL;
    flo_err err = {{0}};
    const char *path = temp_path(folder, "out.safetensors");
    assert_int_equal(safetensors_create(&w, path, entries, N_ENTRIES, &err), FLO_OK);
    assert_int_equal(safetensors_write(w, 0, 0, rows, sizeof rows, &err), FLO_OK);
    assert_int_equal(safetensors_finish(w, &err), FLO_FAIL);
    assert_non_null(strstr(err.text, "input_ids"));
    assert_int_equal(files_in_folder(), 0);
}

static void an_abandoned_file_leaves_the_old_one(void **state)
{
    (void)state;
    safetensors_writer *w = NULL;
    flo_err err = {{0}};
    temp_file_write(folder, "out.safetensors", "old", 3);
    const char *path = temp_path(folder, "out.safetensors");
    assert_int_equal(safetensors_create(&w, path, entries, N_ENTRIES, &err), FLO_OK);
    assert_int_equal(files_in_folder(), 2);
    safetensors_abandon(w);
    assert_int_equal(files_in_folder(), 1);
    safetensors_abandon(NULL);
}

/* A limit on file sizes stands for the full disk: the same calls fail at the same place. */
static void no_room_is_a_failure_that_leaves_nothing(void **state)
{
    (void)state;
    const safetensors_entry large = {
        .name = "logits", .dtype = DTYPE_F32, .n_dims = 1, .shape = {1 << 20}};
    safetensors_writer *w = NULL;
    flo_err err = {{0}};
    struct rlimit before, limit;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 1 << 20;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    flo_code code = safetensors_create(&w, temp_path(folder, "out.safetensors"), &large, 1, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(code, FLO_FAIL);
    assert_null(w);
    assert_non_null(strstr(err.text, "no room for"));
    assert_int_equal(files_in_folder(), 0);
}

static void a_place_that_cannot_be_written_is_refused(void **state)
{
    (void)state;
    safetensors_writer *w = NULL;
    flo_err err = {{0}};
    assert_int_equal(
        safetensors_create(&w, temp_path(folder, "none/out.safetensors"), entries, N_ENTRIES, &err),
        FLO_USAGE);
    assert_non_null(strstr(err.text, "none/out.safetensors"));
    assert_int_equal(safetensors_create(&w, folder, NULL, 0, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "is a folder"));
}

/* Renaming would put a file in the place of a pipe, or as root of /dev/null. */
static void what_is_no_regular_file_is_not_replaced(void **state)
{
    (void)state;
    safetensors_writer *w = NULL;
    flo_err err = {{0}};
    struct stat s;
    char pipe_path[PATH_MAX];
    snprintf(pipe_path, sizeof pipe_path, "%s", temp_path(folder, "pipe"));
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(safetensors_create(&w, pipe_path, entries, N_ENTRIES, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "no regular file"));
    assert_int_equal(stat(pipe_path, &s), 0);
    assert_true(S_ISFIFO(s.st_mode));
    assert_int_equal(unlink(pipe_path), 0);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(rows_written_in_any_order_are_read_back),
        IN_FOLDER(tensors_whose_sizes_come_late_are_read_back_with_the_others),
        IN_FOLDER(a_row_never_written_is_a_failure_that_leaves_nothing),
        IN_FOLDER(an_abandoned_file_leaves_the_old_one),
        IN_FOLDER(no_room_is_a_failure_that_leaves_nothing),
        IN_FOLDER(a_place_that_cannot_be_written_is_refused),
        IN_FOLDER(what_is_no_regular_file_is_not_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

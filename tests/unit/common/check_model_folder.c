/*
 * check_model_folder.c - a model's name leads to the folder that the hub's own library would take,
 * or to a sentence that says what to do.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/model_folder.h"
#include "tests/unit/common/temp_folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[PATH_MAX];
static char found[PATH_MAX];

static int make_folder(void **state)
{
    (void)state;
    temp_folder_make(folder);
    unsetenv("HF_HUB_CACHE");
    unsetenv("HF_HOME");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("FLOTILLA_MODEL");
    setenv("HOME", folder, 1);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    temp_folder_remove(folder);
    return 0;
}

static void make_folders(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", temp_path(folder, path));
    for (char *p = copy + strlen(folder) + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        mkdir(copy, 0700);
        *p = '/';
    }
    mkdir(copy, 0700);
}

/* A finished copy of Org/Name-1.5 in the cache. */
static const char *make_cached(const char *cache)
{
    static char snapshot[PATH_MAX];
    char path[256];
    snprintf(path, sizeof path, "%s/models--Org--Name-1.5/snapshots/abc123", cache);
    make_folders(path);
    snprintf(snapshot, sizeof snapshot, "%s", temp_path(folder, path));
    snprintf(path, sizeof path, "%s/models--Org--Name-1.5/refs", cache);
    make_folders(path);
    snprintf(path, sizeof path, "%s/models--Org--Name-1.5/refs/main", cache);
    temp_file_write(folder, path, "abc123\n", 7);
    return snapshot;
}

static void assert_refused(const char *model, const char *word)
{
    flo_err err = {{0}};
    assert_int_equal(model_folder_find(found, model, &err), FLO_USAGE);
    if (strstr(err.text, word) == NULL) {
        fail_msg("'%s' is not in: %s", word, err.text);
    }
}

static void a_folder_is_taken_as_it_is(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(model_folder_find(found, folder, &err), FLO_OK);
    assert_string_equal(found, folder);
    temp_file_write(folder, "file", "", 0);
    assert_refused(temp_path(folder, "file"), "not a folder");
    assert_refused("/no/such/folder", "no such folder");
    assert_refused("nothing", "no such folder");
    assert_refused("../a/b", "no such folder");
    assert_refused(".hidden/name", "no such folder");
}

static void a_name_is_looked_up_in_the_hubs_cache(void **state)
{
    (void)state;
    flo_err err = {{0}};
    static const struct {
        const char *variable, *value, *cache;
    } places[] = {
        {"UNUSED", "", ".cache/huggingface/hub"},
        {"XDG_CACHE_HOME", "xdg", "xdg/huggingface/hub"},
        {"HF_HOME", "hf", "hf/hub"},
        {"HF_HUB_CACHE", "hub-cache", "hub-cache"},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        setenv(places[i].variable, temp_path(folder, places[i].value), 1); /* the later go first */
        assert_refused("Org/Name-1.5", "hf download Org/Name-1.5");
        const char *snapshot = make_cached(places[i].cache);
        assert_int_equal(model_folder_find(found, "Org/Name-1.5", &err), FLO_OK);
        assert_string_equal(found, snapshot);
    }
}

static void an_unfinished_download_is_said_to_be_one(void **state)
{
    (void)state;
    setenv("HF_HUB_CACHE", folder, 1);
    make_folders("models--Org--Name/snapshots/abc");
    assert_refused("Org/Name", "no finished snapshot");
    make_folders("models--Org--Name/refs");
    temp_file_write(folder, "models--Org--Name/refs/main", "../../..", 8);
    assert_refused("Org/Name", "no finished snapshot");
    temp_file_write(folder, "models--Org--Name/refs/main", "", 0);
    assert_refused("Org/Name", "no finished snapshot");
    temp_file_write(folder, "models--Org--Name/refs/main", "fff", 3);
    assert_refused("Org/Name", "no finished snapshot");
}

static void without_a_name_the_environment_and_then_the_embedded_model_are_taken(void **state)
{
    (void)state;
    flo_err err = {{0}};
    assert_int_equal(model_folder_find(found, NULL, &err), FLO_OK);
    assert_int_equal(access(temp_path(found, "config.json"), R_OK), 0);
    assert_non_null(strstr(found, "models/tiny"));
    setenv("FLOTILLA_MODEL", folder, 1);
    assert_int_equal(model_folder_find(found, NULL, &err), FLO_OK);
    assert_string_equal(found, folder);
    setenv("FLOTILLA_MODEL", "/no/such", 1);
    assert_refused("", "/no/such");
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(a_folder_is_taken_as_it_is),
        IN_FOLDER(a_name_is_looked_up_in_the_hubs_cache),
        IN_FOLDER(an_unfinished_download_is_said_to_be_one),
        IN_FOLDER(without_a_name_the_environment_and_then_the_embedded_model_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * check_command.c - `flotilla template`: the text byte for byte, or nothing and one sentence.
 */
#include "coordinator/commands.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/flotilla-command-XXXXXX";

static const char *path_of(const char *name)
{
    static char path[4][256];
    static int n;
    n = (n + 1) % 4;
    snprintf(path[n], sizeof path[n], "%s/%s", folder, name);
    return path[n];
}

static void file_write(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static int folder_make(void **state)
{
    (void)state;
    return mkdtemp(folder) == NULL;
}

static int folder_remove(void **state)
{
    (void)state;
    unlink(path_of("t.jinja"));
    unlink(path_of("c.json"));
    unlink(path_of("out"));
    return rmdir(folder);
}

/* Runs the command with standard output in a file; *n_out is what it wrote to out[256]. */
static flo_code command_run(int argc, const char *const *argv, char out[256], size_t *n_out,
                            flo_err *err)
{
    char *words[8];
    for (int i = 0; i < argc; i++) {
        words[i] = strdup(argv[i]);
    }
    fflush(stdout);
    int kept = dup(STDOUT_FILENO);
    FILE *to = freopen(path_of("out"), "w", stdout);
    assert_non_null(to);
    flo_code code = command_template(argc, words, err);
    fflush(stdout);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    FILE *f = fopen(path_of("out"), "r");
    *n_out = fread(out, 1, 255, f);
    out[*n_out] = '\0';
    fclose(f);
    for (int i = 0; i < argc; i++) {
        free(words[i]);
    }
    return code;
}

static flo_code both_run(const char *file, const char *context, char out[256], size_t *n,
                         flo_err *err)
{
    return command_run(5, (const char *const[]){"template", "--file", file, "--context", context},
                       out, n, err);
}

static void the_text_is_written_byte_for_byte(void **state)
{
    (void)state;
    char out[256];
    size_t n;
    flo_err err = {0};
    file_write("t.jinja", "{{ s }}|{{ n }}\r\n\n");
    file_write("c.json", "{\"s\": \"\xc3\xbc\\u0000b\", \"n\": 1.0}");
    assert_int_equal(both_run(path_of("t.jinja"), path_of("c.json"), out, &n, &err), FLO_OK);
    assert_int_equal(n, 9);
    assert_memory_equal(out, "\xc3\xbc\0b|1.0\n", 9);
}

static void a_fault_in_the_template_writes_nothing(void **state)
{
    (void)state;
    char out[256];
    size_t n;
    flo_err err = {0};
    file_write("t.jinja", "text\n{{ x.y }}");
    file_write("c.json", "{}");
    assert_int_equal(both_run(path_of("t.jinja"), path_of("c.json"), out, &n, &err), FLO_FAIL);
    assert_int_equal(n, 0);
    assert_non_null(strstr(err.text, "t.jinja line 2: 'x' is undefined"));
}

static void files_that_are_missing_or_no_json_are_wrong_use(void **state)
{
    (void)state;
    char out[256];
    size_t n;
    flo_err err = {0};
    file_write("t.jinja", "a");
    file_write("c.json", "{\"a\": }");
    assert_int_equal(both_run(path_of("t.jinja"), path_of("c.json"), out, &n, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "c.json"));
    file_write("c.json", "[1]");
    assert_int_equal(both_run(path_of("t.jinja"), path_of("c.json"), out, &n, &err), FLO_USAGE);
    file_write("c.json", "{}");
    assert_int_equal(both_run(path_of("none.jinja"), path_of("c.json"), out, &n, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "none.jinja"));
    assert_int_equal(both_run(path_of("t.jinja"), path_of("none.json"), out, &n, &err), FLO_USAGE);
    assert_int_equal(n, 0);
}

static void wrong_options_are_named(void **state)
{
    (void)state;
    char out[256];
    size_t n;
    flo_err err = {0};
    assert_int_equal(command_run(1, (const char *const[]){"template"}, out, &n, &err), FLO_USAGE);
    assert_non_null(strstr(err.text, "--context"));
    assert_int_equal(command_run(2, (const char *const[]){"template", "--fil"}, out, &n, &err),
                     FLO_USAGE);
    assert_non_null(strstr(err.text, "--fil"));
    assert_int_equal(command_run(2, (const char *const[]){"template", "--help"}, out, &n, &err),
                     FLO_OK);
    assert_true(n > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_is_written_byte_for_byte),
        cmocka_unit_test(a_fault_in_the_template_writes_nothing),
        cmocka_unit_test(files_that_are_missing_or_no_json_are_wrong_use),
        cmocka_unit_test(wrong_options_are_named),
    };
    return cmocka_run_group_tests(tests, folder_make, folder_remove);
}

/*
 * made_file.c - runs other programs and takes what they made.
 */
#include "tests/unit/media/made_file.h"

#include "common/buffer.h"
#include "tests/unit/common/temp_folder.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char folder[PATH_MAX];

const char *made_folder(void)
{
    if (folder[0] == '\0') {
        temp_folder_make(folder);
    }
    return folder;
}

static made_file run(const char *command)
{
    char line[4096], part[65536];
    size_t n;
    buffer out = {0};
    assert_true(snprintf(line, sizeof line, "cd '%s' && %s", made_folder(), command) < 4096);
    FILE *from = popen(line, "r");
    assert_non_null(from);
    while ((n = fread(part, 1, sizeof part, from)) > 0) {
        buffer_append(&out, part, n);
    }
    if (pclose(from) != 0) {
        fail_msg("failed: %s", command);
    }
    made_file f = {malloc(out.n + (out.n == 0)), out.n};
    assert_non_null(f.bytes);
    if (out.n > 0) {
        memcpy(f.bytes, out.at, out.n);
    }
    buffer_free(&out);
    return f;
}

made_file made_output(const char *format, ...)
{
    char command[2048];
    va_list arguments;
    va_start(arguments, format);
    assert_true(vsnprintf(command, sizeof command, format, arguments) < (int)sizeof command);
    va_end(arguments);
    return run(command);
}

made_file made_by(const char *name, const char *format, ...)
{
    char command[2048], both[2304];
    va_list arguments;
    va_start(arguments, format);
    assert_true(vsnprintf(command, sizeof command, format, arguments) < (int)sizeof command);
    va_end(arguments);
    (void)snprintf(both, sizeof both, "{ %s ; } >/dev/null </dev/null && cat %s", command, name);
    return run(both);
}

void made_put(const char *name, const void *bytes, size_t n)
{
    temp_file_write(made_folder(), name, bytes, n);
}

void made_free(made_file *f)
{
    free(f->bytes);
    *f = (made_file){NULL, 0};
}

void made_files_remove(void)
{
    if (folder[0] != '\0') {
        temp_folder_remove(folder);
        folder[0] = '\0';
    }
}

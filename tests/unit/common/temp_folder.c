/*
 * temp_folder.c - see temp_folder.h.
 */
#include "tests/unit/common/temp_folder.h"

#include "common/check.h"

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void temp_folder_make(char out[PATH_MAX])
{
    const char *base = getenv("TMPDIR");
    snprintf(out, PATH_MAX, "%s/flotilla-test-XXXXXX", base != NULL ? base : "/tmp");
    CHECK(mkdtemp(out) != NULL);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    (void)st;
    (void)kind;
    (void)where;
    return remove(path);
}

void temp_folder_remove(const char *folder)
{
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *temp_path(const char *folder, const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *path = paths[next++ % 4];
    int n = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    CHECK(n > 0 && n < PATH_MAX);
    return path;
}

const char *source_path(const char *name)
{
    const char *source = getenv("FLOTILLA_SOURCE_DIR");
    CHECK(source != NULL);
    return temp_path(source, name);
}

void temp_file_write(const char *folder, const char *name, const void *data, size_t n_bytes)
{
    FILE *file = fopen(temp_path(folder, name), "wb");
    CHECK(file != NULL);
    CHECK(fwrite(data, 1, n_bytes, file) == n_bytes);
    CHECK(fclose(file) == 0);
}

void temp_tensors_write(const char *folder, const char *name, const char *header, size_t n_data)
{
    size_t length = strlen(header);
    unsigned char *bytes = malloc(8 + length + n_data);
    CHECK(bytes != NULL);
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)((uint64_t)length >> (8 * i));
    }
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < n_data; i++) {
        bytes[8 + length + i] = (unsigned char)i;
    }
    temp_file_write(folder, name, bytes, 8 + length + n_data);
    free(bytes);
}

char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    CHECK(fseek(file, 0, SEEK_END) == 0);
    long n = ftell(file);
    CHECK(n >= 0);
    rewind(file);
    char *text = malloc((size_t)n + 1);
    CHECK(text != NULL && fread(text, 1, (size_t)n, file) == (size_t)n);
    text[n] = '\0';
    fclose(file);
    return text;
}

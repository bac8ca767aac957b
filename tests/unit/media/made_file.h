/*
 * made_file.h - media files that other programs make while a test runs.
 */
#ifndef FLOTILLA_TESTS_UNIT_MEDIA_MADE_FILE_H
#define FLOTILLA_TESTS_UNIT_MEDIA_MADE_FILE_H

#include <stddef.h>
#include <stdint.h>

typedef struct made_file {
    uint8_t *bytes; /* of exactly this size, so that a sanitizer sees what is read past it */
    size_t n;
} made_file;

/* What a shell command writes to its standard output. It runs in the folder of the other files
 * ("." of the commands), which made_files_remove() takes away. A command that fails fails the test.
 */
made_file made_output(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a command that writes the file name, which it leaves there for further commands. */
made_file made_by(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Leaves bytes as a file for further commands. */
void made_put(const char *name, const void *bytes, size_t n);

void made_free(made_file *f);
const char *made_folder(void);
void made_files_remove(void);

#endif

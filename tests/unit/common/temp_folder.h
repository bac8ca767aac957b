/*
 * temp_folder.h - a folder that a test fills and that goes away with it; small tensor files in it.
 */
#ifndef FLOTILLA_TESTS_UNIT_COMMON_TEMP_FOLDER_H
#define FLOTILLA_TESTS_UNIT_COMMON_TEMP_FOLDER_H

#include <limits.h>
#include <stddef.h>

/* Makes a fresh folder and writes its path; aborts the test where it cannot. */
void temp_folder_make(char out[PATH_MAX]);
void temp_folder_remove(const char *folder);

/* FOLDER/NAME with these bytes. */
void temp_file_write(const char *folder, const char *name, const void *data, size_t n_bytes);

/* FOLDER/NAME as a safetensors file: the header's length, its text, n_data bytes 0, 1, 2, .. */
void temp_tensors_write(const char *folder, const char *name, const char *header, size_t n_data);

/* FOLDER/NAME/LEAF joined; a static buffer for each of the last 4 calls. */
const char *temp_path(const char *folder, const char *name);

/* A file of the source tree (FLOTILLA_SOURCE_DIR), as temp_path. */
const char *source_path(const char *name);

/* A whole text file; freed by the caller. */
char *read_text(const char *path);

#endif

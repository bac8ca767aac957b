/*
 * file.h - a whole file in memory, with a limit; and where a file may be put.
 */
#ifndef FLOTILLA_COMMON_FILE_H
#define FLOTILLA_COMMON_FILE_H

#include "common/buffer.h"
#include "common/error.h"

#include <stdbool.h>

/* Appends the content of path ("-": standard input) to *out, and a NUL that is not counted.
 * FLO_USAGE: no such file, or it is over bytes_max. FLO_FAIL: reading failed, no memory. */
flo_code file_read(buffer *out, const char *path, size_t bytes_max, flo_err *err);

/* For files that are written beside and then renamed: the folder is there and can be written to,
 * and what path names now, if anything, is a regular file. (Renaming would put a file in the place
 * of /dev/null, where root may.) FLO_USAGE: the sentence names path. */
flo_code file_check_target(const char *path, flo_err *err);

/* True if files put at a and b would take each other's place: one name in one folder, however it is
 * written. */
bool file_same_target(const char *a, const char *b);

#endif

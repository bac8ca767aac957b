/*
 * file.h - a whole file in memory, with a limit.
 */
#ifndef FLOTILLA_COMMON_FILE_H
#define FLOTILLA_COMMON_FILE_H

#include "common/buffer.h"
#include "common/error.h"

/* Appends the content of path ("-": standard input) to *out, and a NUL that is not counted.
 * FLO_USAGE: no such file, or it is over bytes_max. FLO_FAIL: reading failed, no memory. */
flo_code file_read(buffer *out, const char *path, size_t bytes_max, flo_err *err);

#endif

/*
 * output.h - results on their way out: all of it, or a sentence that says why not.
 */
#ifndef FLOTILLA_LAUNCH_OUTPUT_H
#define FLOTILLA_LAUNCH_OUTPUT_H

#include "common/error.h"

#include <stddef.h>

/* All bytes to fd, called name in a sentence. FLO_FAIL where they cannot be written (closed pipe,
 * full disk), FLO_INTERRUPTED where a signal came while the reader kept us waiting. */
flo_code output_write_to(int fd, const char *name, const void *bytes, size_t n_bytes, flo_err *err);

/* The same to standard output. */
flo_code output_write(const char *text, size_t n_bytes, flo_err *err);

#endif

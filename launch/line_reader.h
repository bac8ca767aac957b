/*
 * line_reader.h - lines from a person (edited, with history, on a terminal) or from a pipe.
 *
 * Waiting for a line must not hide that the job has died or that a signal came: whoever reads gives
 * a function that waits for standard input together with everything else.
 */
#ifndef FLOTILLA_LAUNCH_LINE_READER_H
#define FLOTILLA_LAUNCH_LINE_READER_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>

typedef struct line_reader line_reader;

/* wait returns FLO_OK once fd can be read; any other code ends the line that is being read. */
void line_reader_new(line_reader **out, flo_code (*wait)(void *arg, int fd, flo_err *err),
                     void *arg);
void line_reader_free(line_reader *l);

bool line_reader_is_terminal(const line_reader *l);

/* The next line without its newline; *line is good until the next call. *line is NULL at the end of
 * the input. Codes are those of wait; FLO_USAGE: a line of over 16 MiB. */
flo_code line_reader_next(line_reader *l, const char *prompt, const char **line, size_t *n_bytes,
                          flo_err *err);

#endif

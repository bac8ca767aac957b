/*
 * speech_file.h - the sound of one answer on its way into a WAV file, or to a player.
 *
 * A file is written beside its name as the sound comes, and takes the name when it is whole: what
 * stood there before stays until then, and a command that fails leaves nothing. Who wants to listen
 * while it is made takes a stream: "-" (standard output), a named pipe or a device. A stream begins
 * with a head of unknown length and gets each sample at once; where it turns out to be a file that
 * a shell has opened, its head gets the length at the end.
 */
#ifndef FLOTILLA_LAUNCH_SPEECH_FILE_H
#define FLOTILLA_LAUNCH_SPEECH_FILE_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct speech_file speech_file;

/* Whether the sound at path is listened to while it is made. */
bool speech_file_is_stream(const char *path);

/* Makes ready to write to path, and nothing in it yet. A named pipe waits here for its reader.
 * FLO_USAGE: a folder, a place where nothing can be made, standard output that is a terminal. */
flo_code speech_file_open(speech_file **out, const char *path, flo_err *err);

/* The next samples [n_samples]: 16 bits, signed, little-endian, one channel. FLO_FAIL names the
 * file (disk full, closed pipe, another rate than before); FLO_INTERRUPTED: a signal came while a
 * player kept us waiting. */
flo_code speech_file_write(speech_file *f, const unsigned char *samples, size_t n_samples,
                           int32_t sample_rate, flo_err *err);

double speech_file_seconds(const speech_file *f); /* of sound so far */

/* The sound is whole (without any: a file of no samples). Frees f whatever is returned; FLO_FAIL:
 * it could not be kept, and nothing is left. */
flo_code speech_file_finish(speech_file *f, flo_err *err);

/* Nothing is left, but for what a stream has had already. NULL is allowed. */
void speech_file_discard(speech_file *f);

#endif

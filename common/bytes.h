/*
 * bytes.h - sizes as people write them: "24G", "1.5G", "512M", "4096". K, M, G, T are powers of
 * 1024.
 */
#ifndef FLOTILLA_COMMON_BYTES_H
#define FLOTILLA_COMMON_BYTES_H

#include "common/error.h"

#include <stdint.h>

enum { BYTES_TEXT_MAX = 32 };

/* FLO_USAGE where text is not a number of bytes or is over 8 EiB; *out is set on success. A part of
 * a byte is dropped. Small letters count as capitals. */
flo_code bytes_parse(uint64_t *out, const char *text, flo_err *err);

/* Three digits and a unit: "999", "1.50G", "23.4M", "512K". Returns text. */
const char *bytes_print(char text[BYTES_TEXT_MAX], uint64_t n_bytes);

#endif

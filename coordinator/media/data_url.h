/*
 * data_url.h - bytes written as text: data: URLs (RFC 2397), base64 (RFC 4648), percent-encoding.
 *
 * Such text comes in requests and may be tens of megabytes long: one pass, one allocation, and no
 * sentence quotes it. Everything here is local and runs on any thread. Every text is n_bytes long
 * and need not end in a NUL.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_DATA_URL_H
#define FLOTILLA_COORDINATOR_MEDIA_DATA_URL_H

#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool data_url_is(const char *text, size_t n_bytes); /* begins with "data:", in any case */

/* The bytes of a data: URL in *out (malloc'd; never NULL on success, also for none). The media type
 * is optional and not looked at: what the bytes are, they say themselves. A fragment ("#...") does
 * not belong to them. FLO_USAGE: no comma, a '%' that two hexadecimal digits do not follow, not
 * base64. FLO_FAIL: out of memory. Sentences do not say where the text came from. */
flo_code data_url_decode(uint8_t **out, size_t *n_out, const char *text, size_t n_bytes,
                         flo_err *err);

/* base64 of the standard alphabet; white space anywhere and missing padding are accepted. out has
 * room for n_bytes / 4 * 3 + 3 bytes, or is text itself. FLO_USAGE: another character, padding in
 * the middle, a lone last digit. */
flo_code base64_decode(uint8_t *out, size_t *n_out, const char *text, size_t n_bytes, flo_err *err);

/* out has room for n_bytes, or is text itself. FLO_USAGE: a '%' as above. */
flo_code percent_decode(uint8_t *out, size_t *n_out, const char *text, size_t n_bytes,
                        flo_err *err);

#endif

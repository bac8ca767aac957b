/*
 * source.h - where a medium's bytes come from: a file, a folder of pictures, a data: URL, or the
 * network.
 *
 * A reference is what a person or a client wrote. Files and folders are taken only where the
 * request comes from the person who started the job; http(s) URLs only where the operator allows
 * them, and then with a size and a time limit and never to an address that is not public: every
 * address of every redirect is held against the list after it is resolved and before it is
 * connected to.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_SOURCE_H
#define FLOTILLA_COORDINATOR_MEDIA_SOURCE_H

#include "common/error.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct media_rules { /* what the operator allows */
    bool files;              /* paths, and file: URLs */
    bool urls;               /* http: and https: */
    uint64_t bytes_max;      /* of one medium as it is stored; 0: MEDIA_BYTES_MAX */
    int32_t url_seconds;     /* for one download; 0: MEDIA_URL_SECONDS */
    bool private_addresses;  /* for tests alone: loopback and private networks are reached too */
} media_rules;

#define MEDIA_BYTES_MAX ((uint64_t)4 << 30)
enum { MEDIA_URL_SECONDS = 30 };

typedef struct media_source {
    char name[256];        /* for sentences: the path or its end, "a data: URL", scheme and host of
                              a URL; whole UTF-8 without control characters */
    const uint8_t *bytes;  /* NULL for a folder */
    size_t n_bytes;        /* never 0 with bytes: an empty medium is refused */
    char folder[PATH_MAX]; /* absolute; "" unless it is a folder of pictures */
    void *owned;           /* what bytes lie in (malloc) */
} media_source;

/* Whether a reference is a URL of any scheme (data: and file: too), rather than a path. */
bool media_reference_is_url(const char *reference, size_t n_bytes);

/* Opens what `reference` (n_bytes, not necessarily NUL-terminated) names:
 *
 *   data:[TYPE][;base64],BYTES   always taken
 *   PATH, file:///PATH, file://localhost/PATH   with rules->files; percent-encoding of the URL is
 *                 undone and nothing in it counts as a query; a folder sets s->folder alone
 *   http://..., https://...      with rules->urls
 *
 * A file is read whole, at most half of the memory that is free; pipes and devices are refused.
 * FLO_USAGE: not there, not allowed, empty, too large, not base64, unreachable. FLO_FAIL: reading
 * failed, out of memory. FLO_INTERRUPTED: *cancel (cancel.h; may be NULL) was set while a file was
 * read or the network waited for. The sentence begins with the name. s is closed where it fails.
 * Any thread. */
flo_code media_source_open(media_source *s, const char *reference, size_t n_bytes,
                           const media_rules *rules, const volatile bool *cancel, flo_err *err);

/* Takes base64 text (white space and missing padding are accepted) as OpenAI's input_audio has it,
 * or a data: URL, which some clients write there; name is for sentences. */
flo_code media_source_from_base64(media_source *s, const char *text, size_t n_bytes,
                                  const char *name, const media_rules *rules, flo_err *err);

/* Frees what it holds; a zeroed or closed source is allowed. */
void media_source_close(media_source *s);

#endif

/*
 * download.h - the body of an http(s) URL that somebody else wrote, within bounds.
 *
 * Nothing of this machine goes along: no cookies, no .netrc, no credentials (a URL that has some is
 * refused), no environment. Proxies of the environment are not used either: a proxy would resolve
 * names and connect in our stead, where no address can be checked. Compressed transfer is not asked
 * for, so a body is as large in memory as on the wire.
 */
#ifndef FLOTILLA_COORDINATOR_MEDIA_DOWNLOAD_H
#define FLOTILLA_COORDINATOR_MEDIA_DOWNLOAD_H

#include "common/buffer.h"
#include "common/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum {
    DOWNLOAD_URL_BYTES_MAX = 8192,
    DOWNLOAD_REDIRECTS_MAX = 5,
    DOWNLOAD_CONNECT_SECONDS_MAX = 10,
};

typedef struct download_limits {
    uint64_t bytes_max; /* of the body */
    int32_t seconds;    /* for all of it: names, connections, redirects, body; >= 1 */

    /* Asked for each address before it is connected to, after names are resolved and redirects
     * followed. */
    bool (*may_connect)(const struct sockaddr *address, socklen_t n_bytes);
} download_limits;

/* "https://HOST" of a URL, cut at n_name - 1 bytes: what sentences say of it, since its path, query
 * and credentials are its author's business. FLO_USAGE: no http(s) URL, with a user's name in it,
 * over DOWNLOAD_URL_BYTES_MAX; the sentence quotes nothing of it. */
flo_code download_name(char *name, size_t n_name, const char *url, flo_err *err);

/* Appends the body to out. FLO_USAGE: the URL is refused, its address may not be connected to, not
 * reached, another status than 200, too many redirects (or one that leaves http(s), or https for
 * http), over a limit, ended early. FLO_INTERRUPTED: *cancel was set (cancel.h; looked at each
 * second; may be NULL). FLO_FAIL: out of memory. Sentences do not name the URL. Any thread; waits.
 */
flo_code download(buffer *out, const char *url, const download_limits *limits,
                  const volatile bool *cancel, flo_err *err);

#endif

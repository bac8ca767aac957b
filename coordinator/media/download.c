/*
 * download.c - http(s) through libcurl, with everything that it could do besides turned off.
 *
 * One handle for one download: no connection, name or cookie is left for the next. libcurl follows
 * the redirects; every socket that it wants goes through open_socket, where the address that it
 * will really connect to is seen, whatever the URL called it, so neither an odd spelling nor a name
 * that resolves differently the second time gets past.
 */
#include "coordinator/media/download.h"

#include "common/bytes.h"
#include "common/cancel.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum {
    SLOW_BYTES_PER_SECOND = 1024, /* slower than this, */
    SLOW_SECONDS = 15,            /* for so long, counts as dead */
    HEADERS_BYTES_MAX = 1 << 18,  /* of all answers together; libcurl keeps them */
};

typedef struct transfer {
    CURL *curl;
    buffer *out;
    size_t first; /* where the body begins in out */
    size_t n_header_bytes;
    const download_limits *limits;
    const volatile bool *cancel;
    bool refused_address, refused_status, too_large, headers_too_large; /* why it was given up */
} transfer;

/* ---- the URL ---- */

/* Parses a URL into *out (curl_url_cleanup). */
static flo_code url_parse(CURLU **out, const char *url, flo_err *err)
{
    if (strlen(url) > DOWNLOAD_URL_BYTES_MAX) {
        return flo_fail(err, FLO_USAGE, "the URL is longer than %d bytes", DOWNLOAD_URL_BYTES_MAX);
    }
    if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0) {
        return flo_fail(err, FLO_USAGE, "the URL does not begin with http:// or https://");
    }
    CURLU *parsed = curl_url();
    if (parsed == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    CURLUcode rc = curl_url_set(parsed, CURLUPART_URL, url, CURLU_DISALLOW_USER);
    if (rc == CURLUE_OK) {
        *out = parsed;
        return FLO_OK;
    }
    curl_url_cleanup(parsed);
    return rc == CURLUE_OUT_OF_MEMORY ? flo_fail(err, FLO_FAIL, "out of memory")
           : rc == CURLUE_USER_NOT_ALLOWED
               ? flo_fail(err, FLO_USAGE, "the URL has a user's name in it; leave it out")
               : flo_fail(err, FLO_USAGE, "the URL is not well formed: %s", curl_url_strerror(rc));
}

flo_code download_name(char *name, size_t n_name, const char *url, flo_err *err)
{
    CURLU *parsed = NULL;
    flo_code code = url_parse(&parsed, url, err);
    if (code != FLO_OK) {
        return code;
    }
    char *scheme = NULL, *host = NULL;
    if (curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        snprintf(name, n_name, "%s://%s", scheme, host);
    } else {
        code = flo_fail(err, FLO_USAGE, "the URL names no host");
    }
    curl_free(host);
    curl_free(scheme);
    curl_url_cleanup(parsed);
    return code;
}

/* ---- what libcurl calls ---- */

static curl_socket_t open_socket(void *user, curlsocktype purpose, struct curl_sockaddr *address)
{
    transfer *t = user;
    if (purpose != CURLSOCKTYPE_IPCXN ||
        !t->limits->may_connect(&address->addr, (socklen_t)address->addrlen)) {
        t->refused_address = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t take_header(char *line, size_t size, size_t n, void *user)
{
    transfer *t = user;
    (void)line;
    t->n_header_bytes += size * n;
    t->headers_too_large = t->n_header_bytes > HEADERS_BYTES_MAX;
    return t->headers_too_large ? 0 : size * n;
}

static size_t take_body(char *bytes, size_t size, size_t n, void *user)
{
    transfer *t = user;
    long status = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    t->refused_status = status != 200;
    t->too_large = size * n > t->limits->bytes_max - (t->out->n - t->first);
    if (t->refused_status || t->too_large) {
        return 0;
    }
    buffer_append(t->out, bytes, size * n);
    return t->out->failed ? 0 : size * n;
}

static int look_at_cancel(void *user, curl_off_t to_come, curl_off_t come, curl_off_t to_go,
                          curl_off_t gone)
{
    const transfer *t = user;
    (void)to_come;
    (void)come;
    (void)to_go;
    (void)gone;
    return cancel_is_set(t->cancel);
}

/* ---- one download ---- */

typedef struct number_option {
    CURLoption option;
    long value;
} number_option;

typedef struct text_option {
    CURLoption option;
    const char *value;
} text_option;

static CURLcode set_policy(CURL *curl, bool tls)
{
    const number_option numbers[] = {
        {CURLOPT_NOSIGNAL, 1}, /* threads: no alarm() for time limits */
        {CURLOPT_NETRC, CURL_NETRC_IGNORED},
        {CURLOPT_HTTPAUTH, CURLAUTH_NONE}, /* not even what a redirect's URL brings along */
        {CURLOPT_FOLLOWLOCATION, 1},
        {CURLOPT_MAXREDIRS, DOWNLOAD_REDIRECTS_MAX},
        {CURLOPT_SSL_VERIFYPEER, 1},
        {CURLOPT_SSL_VERIFYHOST, 2},
        {CURLOPT_LOW_SPEED_LIMIT, SLOW_BYTES_PER_SECOND},
        {CURLOPT_LOW_SPEED_TIME, SLOW_SECONDS},
        {CURLOPT_NOPROGRESS, 0},
    };
    const text_option texts[] = {
        {CURLOPT_PROTOCOLS_STR, "http,https"},
        {CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https"},
        {CURLOPT_PROXY, ""}, /* not even the environment's */
        {CURLOPT_USERAGENT, "flotilla/" FLOTILLA_VERSION},
    };
    CURLcode rc = CURLE_OK;
    for (size_t i = 0; rc == CURLE_OK && i < sizeof numbers / sizeof numbers[0]; i++) {
        rc = curl_easy_setopt(curl, numbers[i].option, numbers[i].value);
    }
    for (size_t i = 0; rc == CURLE_OK && i < sizeof texts / sizeof texts[0]; i++) {
        rc = curl_easy_setopt(curl, texts[i].option, texts[i].value);
    }
    return rc;
}

static CURLcode set_limits(CURL *curl, const download_limits *limits)
{
    long seconds = limits->seconds, connect_seconds = DOWNLOAD_CONNECT_SECONDS_MAX;
    CURLcode rc = curl_easy_setopt(curl, CURLOPT_TIMEOUT, seconds);
    if (rc == CURLE_OK) {
        connect_seconds = seconds < connect_seconds ? seconds : connect_seconds;
        rc = curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, connect_seconds);
    }
    if (rc == CURLE_OK) { /* by Content-Length; take_body counts what comes */
        rc = curl_easy_setopt(curl, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)limits->bytes_max);
    }
    return rc;
}

static CURLcode set_callbacks(transfer *t)
{
    CURLcode rc[] = {
        curl_easy_setopt(t->curl, CURLOPT_OPENSOCKETFUNCTION, open_socket),
        curl_easy_setopt(t->curl, CURLOPT_OPENSOCKETDATA, t),
        curl_easy_setopt(t->curl, CURLOPT_HEADERFUNCTION, take_header),
        curl_easy_setopt(t->curl, CURLOPT_HEADERDATA, t),
        curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, take_body),
        curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t),
        curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, look_at_cancel),
        curl_easy_setopt(t->curl, CURLOPT_XFERINFODATA, t),
    };
    for (size_t i = 0; i < sizeof rc / sizeof rc[0]; i++) {
        if (rc[i] != CURLE_OK) {
            return rc[i];
        }
    }
    return CURLE_OK;
}

static flo_code fail_early_end(const transfer *t, flo_err *err)
{
    curl_off_t promised = -1;
    curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &promised);
    size_t n = t->out->n - t->first;
    return promised < 0 ? flo_fail(err, FLO_USAGE, "the connection ended after %zu bytes", n)
                        : flo_fail(err, FLO_USAGE, "the connection ended after %zu of %lld bytes",
                                   n, (long long)promised);
}

/* Which of the three limits of time it was is not said by libcurl. */
static flo_code fail_late(const transfer *t, flo_err *err)
{
    curl_off_t connected_us = 0, total_us = 0;
    curl_easy_getinfo(t->curl, CURLINFO_CONNECT_TIME_T, &connected_us);
    curl_easy_getinfo(t->curl, CURLINFO_TOTAL_TIME_T, &total_us);
    size_t n = t->out->n - t->first;
    if (connected_us == 0) {
        return flo_fail(err, FLO_USAGE, "no connection within %.0f s", (double)total_us / 1e6);
    }
    if (total_us / 1000000 >= t->limits->seconds) {
        return flo_fail(err, FLO_USAGE,
                        "not received within %d s, the most that a download may "
                        "take here (%zu bytes came)",
                        t->limits->seconds, n);
    }
    return flo_fail(err, FLO_USAGE, "slower than %d bytes/s for %d s (%zu bytes came)",
                    SLOW_BYTES_PER_SECOND, SLOW_SECONDS, n);
}

/* The sentence for a transfer that we gave up ourselves; FLO_OK where we did not. */
static flo_code given_up(const transfer *t, CURLcode rc, flo_err *err)
{
    char limit[BYTES_TEXT_MAX];
    long status = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    if (rc == CURLE_ABORTED_BY_CALLBACK) {
        return flo_fail(err, FLO_INTERRUPTED, "interrupted");
    }
    if (t->refused_status || ((rc == CURLE_OK || rc == CURLE_FILESIZE_EXCEEDED) && status != 200)) {
        return flo_fail(err, FLO_USAGE, "the server answered with status %ld", status);
    }
    if (t->too_large || rc == CURLE_FILESIZE_EXCEEDED) {
        return flo_fail(err, FLO_USAGE, "larger than %s, the most that is taken here",
                        bytes_print(limit, t->limits->bytes_max));
    }
    if (t->refused_address && rc == CURLE_COULDNT_CONNECT) {
        return flo_fail(err, FLO_USAGE,
                        "leads to an address that is not public; no such address "
                        "is connected to");
    }
    if (t->headers_too_large) {
        return flo_fail(err, FLO_USAGE, "the server's answer has too large a header");
    }
    return t->out->failed ? flo_fail(err, FLO_FAIL, "out of memory") : FLO_OK;
}

/* The sentence for what happened outside. */
static flo_code failed(const transfer *t, CURLcode rc, flo_err *err)
{
    switch (rc) {
    case CURLE_OUT_OF_MEMORY:
        return flo_fail(err, FLO_FAIL, "out of memory");
    case CURLE_OPERATION_TIMEDOUT:
        return fail_late(t, err);
    case CURLE_COULDNT_RESOLVE_HOST:
        return flo_fail(err, FLO_USAGE, "no address is known for this host");
    case CURLE_COULDNT_CONNECT:
        return flo_fail(err, FLO_USAGE, "no connection");
    case CURLE_TOO_MANY_REDIRECTS:
        return flo_fail(err, FLO_USAGE, "more than %d redirects", DOWNLOAD_REDIRECTS_MAX);
    case CURLE_UNSUPPORTED_PROTOCOL: /* libcurl has one code for all of these */
        return flo_fail(err, FLO_USAGE,
                        "the server does not answer in HTTP, or redirects to another scheme than "
                        "http and https, or from https to http");
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
        return fail_early_end(t, err);
    case CURLE_PEER_FAILED_VERIFICATION:
        return flo_fail(err, FLO_USAGE, "its certificate is not valid, or its issuer not known");
    default: /* libcurl's general sentence: its detailed one may quote the URL */
        return flo_fail(err, FLO_USAGE, "not received: %s", curl_easy_strerror(rc));
    }
}

static void initialise(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

flo_code download(buffer *out, const char *url, const download_limits *limits,
                  const volatile bool *cancel, flo_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, initialise);

    CURLU *parsed = NULL;
    flo_code code = url_parse(&parsed, url, err);
    if (code != FLO_OK) {
        return code;
    }
    transfer t = {
        .curl = curl_easy_init(), .out = out, .first = out->n, .limits = limits, .cancel = cancel};
    if (t.curl == NULL) {
        code = flo_fail(err, FLO_FAIL, "out of memory");
        goto free_url;
    }
    CURLcode rc = curl_easy_setopt(t.curl, CURLOPT_CURLU, parsed);
    rc = rc != CURLE_OK ? rc : set_policy(t.curl, strncasecmp(url, "https", 5) == 0);
    rc = rc != CURLE_OK ? rc : set_limits(t.curl, limits);
    rc = rc != CURLE_OK ? rc : set_callbacks(&t);
    if (rc != CURLE_OK) {
        code = flo_fail(err, FLO_FAIL, "libcurl cannot do what is asked of it: %s",
                        curl_easy_strerror(rc));
        goto free_curl;
    }
    rc = curl_easy_perform(t.curl);
    code = given_up(&t, rc, err);
    if (code == FLO_OK && rc != CURLE_OK) {
        code = failed(&t, rc, err);
    }

free_curl:
    curl_easy_cleanup(t.curl);
free_url:
    curl_url_cleanup(parsed);
    return code;
}

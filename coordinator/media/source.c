/*
 * source.c - a medium's bytes into memory, wherever they come from.
 *
 * Files are read into heap and not mapped: a mapped file that is cut short by whoever owns it, or
 * that lies on a network folder that fails, ends the process by a signal, and with it a job that
 * serves others. Costs the file's size in memory, which is why half of what is free is a limit, and
 * one pass over it, which its decoder would have made anyway.
 */
#include "coordinator/media/source.h"

#include "common/buffer.h"
#include "common/bytes.h"
#include "common/cancel.h"
#include "common/machine.h"
#include "common/utf8.h"
#include "coordinator/media/data_url.h"
#include "coordinator/media/download.h"
#include "coordinator/media/network_address.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NAME_PATH_MAX = 160,   /* longer paths are named by their end */
    READ_PIECE = 16 << 20, /* between two looks at cancel */
    SMALL_FILE = 64 << 20, /* up to here nobody asks how much memory is free */
};

typedef enum reference_kind {
    A_PATH,
    A_FILE_URL,
    A_DATA_URL,
    A_WEB_URL,
    ANOTHER_URL
} reference_kind;

static bool begins(const char *text, size_t n_bytes, const char *with)
{
    size_t n = strlen(with);
    return n_bytes >= n && strncasecmp(text, with, n) == 0;
}

/* SCHEME:// of RFC 3986. */
static bool has_scheme(const char *text, size_t n_bytes)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char more[] = "0123456789+-.";
    size_t n = 0;
    while (n < n_bytes && text[n] != '\0' &&
           (strchr(letters, text[n]) != NULL || (n > 0 && strchr(more, text[n]) != NULL))) {
        n++;
    }
    return n > 0 && begins(text + n, n_bytes - n, "://");
}

static reference_kind kind_of(const char *reference, size_t n_bytes)
{
    if (data_url_is(reference, n_bytes)) {
        return A_DATA_URL;
    }
    if (begins(reference, n_bytes, "file:")) {
        return A_FILE_URL;
    }
    if (begins(reference, n_bytes, "http:") || begins(reference, n_bytes, "https:")) {
        return A_WEB_URL;
    }
    return has_scheme(reference, n_bytes) ? ANOTHER_URL : A_PATH;
}

bool media_reference_is_url(const char *reference, size_t n_bytes)
{
    return kind_of(reference, n_bytes) != A_PATH;
}

/* ---- names ---- */

/* Text that somebody else wrote, safe to print: whole UTF-8, '?' for what is not and for control
 * characters (the C1 ones too, which terminals obey), cut before the end of s->name. */
static void set_name(media_source *s, const char *text)
{
    size_t n = 0, n_text = strlen(text);
    for (size_t i = 0; i < n_text;) {
        utf8_part part = utf8_next(text + i, n_text - i);
        bool shown = part.kind == UTF8_GOOD && part.code_point >= 0x20 &&
                     !(part.code_point >= 0x7f && part.code_point < 0xa0);
        size_t n_bytes = shown ? part.n_bytes : 1;
        if (n + n_bytes >= sizeof s->name) {
            break;
        }
        memcpy(s->name + n, shown ? text + i : "?", n_bytes);
        n += n_bytes;
        i += part.n_bytes;
    }
    s->name[n] = '\0';
}

/* A path as it was written, or its last parts. */
static void set_name_of_path(media_source *s, const char *path)
{
    char shorter[NAME_PATH_MAX + 4];
    size_t n = strlen(path);
    if (n <= NAME_PATH_MAX) {
        set_name(s, path);
        return;
    }
    const char *end = path + n - NAME_PATH_MAX;
    const char *part = strchr(end, '/');
    snprintf(shorter, sizeof shorter, "...%s", part != NULL ? part : end);
    set_name(s, shorter);
}

/* ---- sizes ---- */

static uint64_t bytes_max_of(const media_rules *rules)
{
    return rules->bytes_max > 0 ? rules->bytes_max : MEDIA_BYTES_MAX;
}

/* What may be taken into memory now. */
static uint64_t memory_max_of(const media_rules *rules)
{
    uint64_t most = bytes_max_of(rules), free_bytes = machine_free_memory("");
    return free_bytes > 0 && free_bytes / 2 < most ? free_bytes / 2 : most;
}

static flo_code too_large(const media_source *s, uint64_t n_bytes, uint64_t most, flo_err *err)
{
    char has[BYTES_TEXT_MAX], limit[BYTES_TEXT_MAX];
    return flo_fail(err, FLO_USAGE, "%s: has %s bytes, more than %s, the most that is taken here",
                    s->name, bytes_print(has, n_bytes), bytes_print(limit, most));
}

/* Bytes that are in memory already become the source's own; freed where they are refused. */
static flo_code take_bytes(media_source *s, void *bytes, size_t n_bytes, const media_rules *rules,
                           flo_err *err)
{
    flo_code code = n_bytes == 0 ? flo_fail(err, FLO_USAGE, "%s: is empty", s->name)
                    : n_bytes > bytes_max_of(rules)
                        ? too_large(s, n_bytes, bytes_max_of(rules), err)
                        : FLO_OK;
    if (code != FLO_OK) {
        free(bytes);
        return code;
    }
    s->owned = bytes;
    s->bytes = bytes;
    s->n_bytes = n_bytes;
    return FLO_OK;
}

/* ---- files ---- */

static flo_code read_all(const media_source *s, int fd, uint8_t *bytes, size_t n_bytes,
                         const volatile bool *cancel, flo_err *err)
{
    for (size_t n = 0; n < n_bytes;) {
        if (cancel_is_set(cancel)) {
            return flo_fail(err, FLO_INTERRUPTED, "%s: interrupted", s->name);
        }
        ssize_t got = read(fd, bytes + n, n_bytes - n < READ_PIECE ? n_bytes - n : READ_PIECE);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return flo_fail(err, FLO_FAIL, "%s: cannot be read: %s", s->name, strerror(errno));
        }
        if (got == 0) {
            return flo_fail(err, FLO_FAIL, "%s: became shorter while it was read", s->name);
        }
        n += (size_t)got;
    }
    return FLO_OK;
}

/* A regular file of a size that is taken, whole. */
static flo_code read_file(media_source *s, int fd, const media_rules *rules,
                          const volatile bool *cancel, flo_err *err)
{
    struct stat facts;
    if (fstat(fd, &facts) != 0) {
        return flo_fail(err, FLO_FAIL, "%s: %s", s->name, strerror(errno));
    }
    if (!S_ISREG(facts.st_mode)) {
        return flo_fail(err, FLO_USAGE, "%s: is neither a file nor a folder", s->name);
    }
    uint64_t n = (uint64_t)facts.st_size;
    uint64_t most = n > SMALL_FILE ? memory_max_of(rules) : bytes_max_of(rules);
    if (n > most) {
        return too_large(s, n, most, err);
    }
    uint8_t *bytes = malloc(n > 0 ? n : 1);
    if (bytes == NULL) {
        return flo_fail(err, FLO_FAIL, "%s: out of memory", s->name);
    }
    flo_code code = read_all(s, fd, bytes, n, cancel, err);
    if (code != FLO_OK) {
        free(bytes);
        return code;
    }
    return take_bytes(s, bytes, n, rules, err);
}

static flo_code open_folder(media_source *s, const char *path, flo_err *err)
{
    char whole[PATH_MAX];
    if (realpath(path, whole) == NULL) {
        return flo_fail(err, FLO_USAGE, "%s: %s", s->name, strerror(errno));
    }
    memcpy(s->folder, whole, strlen(whole) + 1);
    return FLO_OK;
}

/* What it is, is asked before it is opened, since opening a device may already do something. */
static flo_code open_path(media_source *s, const char *path, const media_rules *rules,
                          const volatile bool *cancel, flo_err *err)
{
    struct stat facts;
    set_name_of_path(s, path);
    if (stat(path, &facts) != 0) {
        return flo_fail(err, FLO_USAGE, "%s: %s", s->name, strerror(errno));
    }
    if (S_ISDIR(facts.st_mode)) {
        return open_folder(s, path, err);
    }
    int fd = S_ISREG(facts.st_mode) ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) : -1;
    if (fd < 0) {
        return !S_ISREG(facts.st_mode)
                   ? flo_fail(err, FLO_USAGE, "%s: is neither a file nor a folder", s->name)
                   : flo_fail(err, FLO_USAGE, "%s: %s", s->name, strerror(errno));
    }
    flo_code code = read_file(s, fd, rules, cancel, err);
    close(fd);
    return code;
}

/* A path that is not NUL-terminated, percent-encoded or not. */
static flo_code open_path_text(media_source *s, const char *text, size_t n_bytes, bool encoded,
                               const media_rules *rules, const volatile bool *cancel, flo_err *err)
{
    char path[PATH_MAX];
    size_t n = n_bytes;
    if (n_bytes >= sizeof path) {
        return flo_fail(err, FLO_USAGE,
                        "a medium's path of %zu bytes: longer than any path; bytes are written as "
                        "a data: URL",
                        n_bytes);
    }
    if (!encoded) {
        memcpy(path, text, n_bytes);
    } else if (percent_decode((uint8_t *)path, &n, text, n_bytes, err) != FLO_OK) {
        flo_context(err, "a file: URL");
        return FLO_USAGE;
    }
    path[n] = '\0';
    if (memchr(path, '\0', n) != NULL) {
        set_name_of_path(s, path);
        return flo_fail(err, FLO_USAGE, "%s: a path with a NUL byte in it", s->name);
    }
    return open_path(s, path, rules, cancel, err);
}

/* file:/PATH, file:///PATH or file://localhost/PATH (RFC 8089). */
static flo_code open_file_url(media_source *s, const char *url, size_t n_bytes,
                              const media_rules *rules, const volatile bool *cancel, flo_err *err)
{
    const char *at = url + strlen("file:"), *end = url + n_bytes;
    if (begins(at, (size_t)(end - at), "//")) {
        at += 2;
        at += begins(at, (size_t)(end - at), "localhost/") ? strlen("localhost") : 0;
    }
    if (at == end || *at != '/') {
        return flo_fail(err, FLO_USAGE,
                        "a file: URL: does not name a path of this machine; it is "
                        "written file:///PATH");
    }
    return open_path_text(s, at, (size_t)(end - at), true, rules, cancel, err);
}

/* ---- text and network ---- */

static flo_code open_data_url(media_source *s, const char *url, size_t n_bytes,
                              const media_rules *rules, flo_err *err)
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    flo_code code = data_url_decode(&bytes, &n, url, n_bytes, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", s->name);
        return code;
    }
    return take_bytes(s, bytes, n, rules, err);
}

static bool any_address(const struct sockaddr *address, socklen_t n_bytes)
{
    (void)address;
    (void)n_bytes;
    return true;
}

static flo_code fetch(media_source *s, const char *url, const media_rules *rules,
                      const volatile bool *cancel, flo_err *err)
{
    char name[sizeof s->name];
    set_name(s, "a URL");
    flo_code code = download_name(name, sizeof name, url, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", s->name);
        return code;
    }
    set_name(s, name);
    download_limits limits = {
        .bytes_max = memory_max_of(rules),
        .seconds = rules->url_seconds > 0 ? rules->url_seconds : MEDIA_URL_SECONDS,
        .may_connect = rules->private_addresses ? any_address : network_address_is_public,
    };
    buffer body = {0};
    code = download(&body, url, &limits, cancel, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", s->name);
        buffer_free(&body);
        return code;
    }
    return take_bytes(s, body.at, body.n, rules, err);
}

static flo_code open_web_url(media_source *s, const char *url, size_t n_bytes,
                             const media_rules *rules, const volatile bool *cancel, flo_err *err)
{
    if (n_bytes > DOWNLOAD_URL_BYTES_MAX || memchr(url, '\0', n_bytes) != NULL) {
        return flo_fail(err, FLO_USAGE, "a URL: longer than %d bytes, or with a NUL byte in it",
                        DOWNLOAD_URL_BYTES_MAX);
    }
    char *text = strndup(url, n_bytes);
    if (text == NULL) {
        return flo_fail(err, FLO_FAIL, "out of memory");
    }
    flo_code code = fetch(s, text, rules, cancel, err);
    free(text);
    return code;
}

/* ---- all of them ---- */

static flo_code refuse(const char *what, const media_rules *rules, flo_err *err)
{
    if (strncmp(what, "an http", strlen("an http")) == 0) {
        return flo_fail(err, FLO_USAGE,
                        "%s is not fetched unless the job is started with --allow-media-urls; give "
                        "a data: URL%s",
                        what, rules->files ? " or a file" : "");
    }
    return flo_fail(err, FLO_USAGE, "%s is not taken here; give a data: URL%s%s", what,
                    rules->urls ? " or an http(s) URL" : "", rules->files ? " or a file" : "");
}

/* What is no URL may be anything, base64 without its "data:" too; only what is short is quoted. */
static flo_code refuse_path(media_source *s, const char *path, size_t n_bytes,
                            const media_rules *rules, flo_err *err)
{
    char text[NAME_PATH_MAX + 1] = "a medium's path";
    if (n_bytes <= NAME_PATH_MAX) {
        snprintf(text, sizeof text, "%.*s", (int)n_bytes, path);
    }
    set_name(s, text);
    refuse("a file of the server", rules, err);
    flo_context(err, "%s", s->name);
    return FLO_USAGE;
}

flo_code media_source_open(media_source *s, const char *reference, size_t n_bytes,
                           const media_rules *rules, const volatile bool *cancel, flo_err *err)
{
    *s = (media_source){0};
    if (n_bytes == 0) {
        return flo_fail(err, FLO_USAGE, "a medium is named by an empty text; give a file or a URL");
    }
    switch (kind_of(reference, n_bytes)) {
    case A_DATA_URL:
        set_name(s, "a data: URL");
        return open_data_url(s, reference, n_bytes, rules, err);
    case A_WEB_URL:
        return rules->urls ? open_web_url(s, reference, n_bytes, rules, cancel, err)
                           : refuse("an http(s) URL", rules, err);
    case A_FILE_URL:
        return rules->files ? open_file_url(s, reference, n_bytes, rules, cancel, err)
                            : refuse("a file of the server", rules, err);
    case A_PATH:
        return rules->files ? open_path_text(s, reference, n_bytes, false, rules, cancel, err)
                            : refuse_path(s, reference, n_bytes, rules, err);
    case ANOTHER_URL:
        break;
    }
    return refuse("a URL of this scheme", rules, err);
}

flo_code media_source_from_base64(media_source *s, const char *text, size_t n_bytes,
                                  const char *name, const media_rules *rules, flo_err *err)
{
    *s = (media_source){0};
    set_name(s, name);
    if (data_url_is(text, n_bytes)) {
        return open_data_url(s, text, n_bytes, rules, err);
    }
    uint8_t *bytes = malloc(n_bytes / 4 * 3 + 3);
    size_t n = 0;
    if (bytes == NULL) {
        return flo_fail(err, FLO_FAIL, "%s: out of memory", s->name);
    }
    flo_code code = base64_decode(bytes, &n, text, n_bytes, err);
    if (code != FLO_OK) {
        free(bytes);
        flo_context(err, "%s", s->name);
        return code;
    }
    return take_bytes(s, bytes, n, rules, err);
}

void media_source_close(media_source *s)
{
    free(s->owned);
    s->owned = NULL;
    s->bytes = NULL;
    s->n_bytes = 0;
    s->folder[0] = '\0';
}

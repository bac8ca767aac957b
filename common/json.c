/*
 * json.c - a bounded, strict front to cJSON.
 *
 * cJSON takes 64 bytes and more for each value, so a hostile file of a hundred megabytes could ask
 * for many gigabytes: the values are counted first, in one pass that also finds what cJSON would
 * let through (broken UTF-8, NULs that cut strings short). That pass costs about a millisecond a
 * megabyte.
 */
#include "common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utf8proc.h>

enum { VALUES_MAX = 16 << 20 }; /* seven a tensor in the tightest header of 100 MB */
enum { SHOWN_BYTES = 48 };      /* of the faulty line, in a sentence */

static flo_code open_regular(int *out, size_t *n_bytes, const char *path, flo_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not hold us up */
    if (fd < 0) {
        flo_code code = errno == ENOENT || errno == ENOTDIR ? FLO_USAGE : FLO_FAIL;
        return flo_fail(err, code, "%s: %s", path, strerror(errno));
    }
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return flo_fail(err, FLO_FAIL, "%s: not a regular file", path);
    }
    *out = fd;
    *n_bytes = (size_t)st.st_size;
    return FLO_OK;
}

/* Bytes read, fewer than n_bytes only at the end of the file; -1 on an error. */
static ssize_t read_all(int fd, char *out, size_t n_bytes)
{
    size_t done = 0;
    while (done < n_bytes) {
        ssize_t n = read(fd, out + done, n_bytes - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

flo_code file_read_text(char **out, size_t *n_bytes, const char *path, size_t bytes_max,
                        flo_err *err)
{
    int fd = -1;
    size_t size = 0;
    flo_code code = open_regular(&fd, &size, path, err);
    if (code != FLO_OK) {
        return code;
    }
    char *text = NULL;
    if (size > bytes_max) {
        code =
            flo_fail(err, FLO_FAIL, "%s: %zu bytes, at most %zu are read", path, size, bytes_max);
        goto close_file;
    }
    text = malloc(size + 1);
    if (text == NULL) {
        code = flo_fail(err, FLO_FAIL, "%s: no memory for %zu bytes", path, size);
        goto close_file;
    }
    ssize_t n = read_all(fd, text, size);
    if (n < 0) {
        code = flo_fail(err, FLO_FAIL, "%s: cannot be read: %s", path, strerror(errno));
        free(text);
        goto close_file;
    }
    text[n] = '\0';
    *out = text;
    *n_bytes = (size_t)n;

close_file:
    close(fd);
    return code;
}

/* Line of byte `at` (from 1), and that line's text around it, cut to what a sentence can hold. */
static int line_of(const char *text, size_t n_bytes, size_t at, char shown[SHOWN_BYTES + 1])
{
    int line = 1;
    size_t start = 0;
    for (size_t i = 0; i < at && i < n_bytes; i++) {
        if (text[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    while (start < n_bytes && (text[start] == ' ' || text[start] == '\t')) {
        start++;
    }
    if (at > start + SHOWN_BYTES / 2) {
        start = at - SHOWN_BYTES / 2;
    }
    size_t n = 0;
    while (n < SHOWN_BYTES && start + n < n_bytes && text[start + n] != '\n') {
        unsigned char c = (unsigned char)text[start + n];
        shown[n++] = (char)(c < 0x20 || c > 0x7e ? '?' : c);
    }
    shown[n] = '\0';
    return line;
}

static flo_code fault_at(const char *text, size_t n_bytes, size_t at, const char *what,
                         flo_err *err)
{
    char shown[SHOWN_BYTES + 1];
    int line = line_of(text, n_bytes, at, shown);
    return flo_fail(err, FLO_FAIL, "line %d: %s near '%s'", line, what, shown);
}

static flo_code check_utf8(const char *text, size_t n_bytes, flo_err *err)
{
    const utf8proc_uint8_t *bytes = (const utf8proc_uint8_t *)text;
    for (size_t i = 0; i < n_bytes;) {
        if (bytes[i] < 0x80 && bytes[i] != 0) {
            i++;
            continue;
        }
        utf8proc_int32_t point;
        utf8proc_ssize_t n = utf8proc_iterate(bytes + i, (utf8proc_ssize_t)(n_bytes - i), &point);
        if (n <= 0 || point == 0) {
            return fault_at(text, n_bytes, i, "not UTF-8 text", err);
        }
        i += (size_t)n;
    }
    return FLO_OK;
}

static flo_code check_values(const char *text, size_t n_bytes, flo_err *err)
{
    size_t n_values = 0;
    bool in_string = false;
    for (size_t i = 0; i < n_bytes; i++) {
        char c = text[i];
        if (!in_string) {
            n_values += c == ',' || c == '[' || c == '{';
            in_string = c == '"';
        } else if (c == '\\') {
            if (n_bytes - i > 5 && memcmp(text + i, "\\u0000", 6) == 0) {
                return fault_at(text, n_bytes, i, "a NUL in a string", err);
            }
            i++;
        } else if (c == '"') {
            in_string = false;
        }
    }
    if (n_values > VALUES_MAX) {
        return flo_fail(err, FLO_FAIL, "more than %d JSON values", VALUES_MAX);
    }
    return FLO_OK;
}

static size_t skip_space(const char *text, size_t n_bytes, size_t at)
{
    while (at < n_bytes && strchr(" \t\r\n", text[at]) != NULL) {
        at++;
    }
    return at;
}

flo_code json_parse(cJSON **out, const char *text, size_t n_bytes, flo_err *err)
{
    flo_code code = check_utf8(text, n_bytes, err);
    if (code == FLO_OK) {
        code = check_values(text, n_bytes, err);
    }
    if (code != FLO_OK) {
        return code;
    }
    const char *end = text;
    cJSON *json = cJSON_ParseWithLengthOpts(text, n_bytes, &end, false);
    size_t at = end >= text ? (size_t)(end - text) : 0;
    if (json == NULL) {
        return fault_at(text, n_bytes, at, "not valid JSON", err);
    }
    at = skip_space(text, n_bytes, at);
    if (at < n_bytes) {
        cJSON_Delete(json);
        return fault_at(text, n_bytes, at, "text behind the JSON value", err);
    }
    *out = json;
    return FLO_OK;
}

flo_code json_read(cJSON **out, const char *path, size_t bytes_max, flo_err *err)
{
    char *text = NULL;
    size_t n_bytes = 0;
    flo_code code = file_read_text(&text, &n_bytes, path, bytes_max, err);
    if (code != FLO_OK) {
        return code;
    }
    code = json_parse(out, text, n_bytes, err);
    if (code != FLO_OK) {
        flo_context(err, "%s", path);
    }
    free(text);
    return code;
}

const cJSON *json_member(const cJSON *object, const char *name)
{
    const cJSON *found = NULL;
    if (cJSON_IsObject(object)) {
        const cJSON *member;
        cJSON_ArrayForEach(member, object)
        {
            if (strcmp(member->string, name) == 0) {
                found = member;
            }
        }
    }
    return found;
}

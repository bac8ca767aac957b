/*
 * json.c - a bounded, strict front to cJSON, and what writes JSON.
 *
 * cJSON takes 64 bytes and more for each value, so a hostile file of a hundred megabytes could ask
 * for many gigabytes: the values are counted first, in one pass that copies the text and also finds
 * what cJSON would let through (broken UTF-8, escapes that cut strings short, raw control
 * characters, numbers such as 01). That pass costs a few milliseconds a megabyte. An escaped U+0000
 * becomes the bytes C0 80 there where it is allowed; everything else is copied as it is, so lines
 * keep their numbers.
 */
#include "common/json.h"

#include "common/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

typedef struct lexer {
    const char *at, *end;
    char *out;         /* the next byte of the copy */
    bool nul_allowed;  /* \u0000 becomes C0 80, else it is a fault */
    size_t n_values;   /* so far, at least as many as cJSON will make */
    int64_t n_open;    /* brackets without their end so far */
    const char *fault; /* what is wrong at `at`; NULL: nothing */
} lexer;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* The next byte, or a NUL at the end. */
static char peek(const lexer *l)
{
    return l->at < l->end ? *l->at : '\0';
}

static void copy(lexer *l, size_t n)
{
    memcpy(l->out, l->at, n);
    l->out += n;
    l->at += n;
}

static bool fault(lexer *l, const char *what)
{
    l->fault = what;
    return false;
}

/* At a backslash. */
static bool lex_escape(lexer *l)
{
    if (l->end - l->at < 2 || strchr("\"\\/bfnrtu", l->at[1]) == NULL || l->at[1] == '\0') {
        return fault(l, "an escape that JSON does not have");
    }
    if (l->at[1] != 'u') {
        copy(l, 2);
        return true;
    }
    for (int i = 2; i < 6; i++) {
        if (l->end - l->at <= i || !is_hex(l->at[i])) {
            return fault(l, "\\u without four hexadecimal digits");
        }
    }
    if (memcmp(l->at, "\\u0000", 6) == 0) {
        if (!l->nul_allowed) {
            return fault(l, "a NUL in a string");
        }
        *l->out++ = (char)0xc0;
        *l->out++ = (char)0x80;
        l->at += 6;
        return true;
    }
    copy(l, 6);
    return true;
}

/* At an opening quote. */
static bool lex_string(lexer *l)
{
    copy(l, 1);
    while (l->at < l->end && *l->at != '"') {
        if (*l->at == '\\') {
            if (!lex_escape(l)) {
                return false;
            }
        } else if ((unsigned char)*l->at < 0x20) {
            return fault(l, "a control character inside a string");
        } else {
            copy(l, 1);
        }
    }
    if (l->at == l->end) {
        return fault(l, "a string without its end");
    }
    copy(l, 1);
    return true;
}

static bool lex_digits(lexer *l)
{
    if (!is_digit(peek(l))) {
        return fault(l, "a number that is not written as JSON wants it");
    }
    while (is_digit(peek(l))) {
        copy(l, 1);
    }
    return true;
}

/* At a minus sign or a digit. */
static bool lex_number(lexer *l)
{
    if (peek(l) == '-') {
        copy(l, 1);
    }
    if (peek(l) == '0' && l->end - l->at > 1 && is_digit(l->at[1])) {
        return fault(l, "a number that begins with 0");
    }
    if (!lex_digits(l)) {
        return false;
    }
    if (peek(l) == '.') {
        copy(l, 1);
        if (!lex_digits(l)) {
            return false;
        }
    }
    if (peek(l) == 'e' || peek(l) == 'E') {
        copy(l, 1);
        if (peek(l) == '+' || peek(l) == '-') {
            copy(l, 1);
        }
        return lex_digits(l);
    }
    return true;
}

static bool lex_text(lexer *l)
{
    while (l->at < l->end) {
        char c = *l->at;
        bool good = true;
        if (c == '"') {
            good = lex_string(l);
        } else if (c == '-' || is_digit(c)) {
            good = lex_number(l);
        } else if (c != '\0' && strchr("{}[]:, \t\r\ntruefalsn", c) != NULL) {
            l->n_values += c == ',' || c == '[' || c == '{';
            l->n_open += (c == '[' || c == '{') - (c == ']' || c == '}');
            copy(l, 1);
        } else {
            good = fault(l, "a character that cannot stand here");
        }
        if (!good) {
            return false;
        }
    }
    return l->n_open <= 0 || fault(l, "the JSON ends too early");
}

/* Copies the text to `to` (room for n_bytes + 1) as it goes to cJSON; *n_copied without the NUL. */
static flo_code check_text(char *to, size_t *n_copied, const char *text, size_t n_bytes,
                           bool nul_allowed, flo_err *err)
{
    size_t n_good = utf8_good_bytes(text, n_bytes);
    if (n_good != n_bytes) {
        return fault_at(text, n_bytes, n_good, "not UTF-8 text", err);
    }
    lexer l = {.at = text, .end = text + n_bytes, .out = to, .nul_allowed = nul_allowed};
    bool good = lex_text(&l);
    if (l.n_values > VALUES_MAX) {
        return flo_fail(err, FLO_FAIL, "more than %d JSON values", VALUES_MAX);
    }
    if (!good) {
        return fault_at(text, n_bytes, (size_t)(l.at - text), l.fault, err);
    }
    *l.out = '\0';
    *n_copied = (size_t)(l.out - to);
    return FLO_OK;
}

/* text[n_bytes] is a NUL: some versions of cJSON look one byte past their limit. */
static flo_code parse_checked(cJSON **out, const char *text, size_t n_bytes, flo_err *err)
{
    const char *end = text;
    cJSON *json = cJSON_ParseWithLengthOpts(text, n_bytes + 1, &end, false);
    size_t at = end >= text ? (size_t)(end - text) : 0;
    if (json == NULL) {
        return fault_at(text, n_bytes, at, "not valid JSON", err);
    }
    at += strspn(text + at, " \t\r\n");
    if (at < n_bytes) {
        cJSON_Delete(json);
        return fault_at(text, n_bytes, at, "text behind the JSON value", err);
    }
    *out = json;
    return FLO_OK;
}

static flo_code parse(cJSON **out, const char *text, size_t n_bytes, bool nul_allowed, flo_err *err)
{
    char *copied = malloc(n_bytes + 1);
    if (copied == NULL) {
        return flo_fail(err, FLO_FAIL, "no memory for %zu bytes of JSON", n_bytes);
    }
    size_t n_copied = 0;
    flo_code code = check_text(copied, &n_copied, text, n_bytes, nul_allowed, err);
    if (code == FLO_OK) {
        code = parse_checked(out, copied, n_copied, err);
    }
    free(copied);
    return code;
}

flo_code json_parse(cJSON **out, const char *text, size_t n_bytes, flo_err *err)
{
    return parse(out, text, n_bytes, false, err);
}

flo_code json_parse_request(cJSON **out, const char *text, size_t n_bytes, flo_err *err)
{
    return parse(out, text, n_bytes, true, err) == FLO_OK ? FLO_OK : FLO_USAGE;
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

const cJSON *json_given(const cJSON *object, const char *name)
{
    const cJSON *item = json_member(object, name);
    return item == NULL || cJSON_IsNull(item) ? NULL : item;
}

size_t json_restore_nul(char *text, size_t n_bytes)
{
    size_t n = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        if ((unsigned char)text[i] == 0xc0 && i + 1 < n_bytes &&
            (unsigned char)text[i + 1] == 0x80) {
            text[n++] = '\0';
            i++;
        } else {
            text[n++] = text[i];
        }
    }
    return n;
}

char *json_string_copy(const cJSON *item, size_t *n_bytes)
{
    size_t n = strlen(item->valuestring);
    char *text = malloc(n + 1);
    if (text == NULL) {
        return NULL;
    }
    memcpy(text, item->valuestring, n + 1);
    n = json_restore_nul(text, n);
    text[n] = '\0';
    *n_bytes = n;
    return text;
}

bool json_integer(const cJSON *item, int64_t low, int64_t high, int64_t *value)
{
    if (!cJSON_IsNumber(item)) {
        return false;
    }
    double d = item->valuedouble;
    if (!(d >= -0x1p53 && d <= 0x1p53) || d != floor(d)) {
        return false;
    }
    int64_t whole = (int64_t)d;
    if (whole < low || whole > high) {
        return false;
    }
    *value = whole;
    return true;
}

/* One ASCII character of a string. */
static void put_escaped(buffer *out, char c)
{
    static const char short_forms[] =
        "\"\"\\\\\bb\ff\nn\rr\tt"; /* character, letter of its escape */
    for (size_t i = 0; short_forms[i] != '\0'; i += 2) {
        if (short_forms[i] == c) {
            buffer_append_byte(out, '\\');
            buffer_append_byte(out, short_forms[i + 1]);
            return;
        }
    }
    char text[8];
    snprintf(text, sizeof text, "\\u%04x", (unsigned)(unsigned char)c);
    buffer_append_text(out, text);
}

static bool is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void json_put_string(buffer *out, const char *text, size_t n_bytes)
{
    buffer_append_byte(out, '"');
    size_t i = 0;
    while (i < n_bytes) {
        size_t first = i;
        while (i < n_bytes && is_plain((unsigned char)text[i])) {
            i++;
        }
        buffer_append(out, text + first, i - first);
        if (i == n_bytes) {
            break;
        }
        utf8_part part = utf8_next(text + i, n_bytes - i);
        if (part.kind != UTF8_GOOD) {
            buffer_append_text(out, "\xef\xbf\xbd");
        } else if (part.n_bytes == 1) {
            put_escaped(out, text[i]);
        } else {
            buffer_append(out, text + i, part.n_bytes);
        }
        i += part.n_bytes;
    }
    buffer_append_byte(out, '"');
}

void json_put_integer(buffer *out, int64_t value)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, value);
    buffer_append_text(out, text);
}

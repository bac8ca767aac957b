/*
 * fuzz_data_url.c - any bytes as a reference to a medium: data: URLs and base64 become what the
 * definition says, digit by digit, or are refused; names and sentences stay printable; addresses
 * are judged the same however they are wrapped. No network, and no files but through file: URLs.
 */
#include "common/check.h"
#include "common/utf8.h"
#include "coordinator/media/data_url.h"
#include "coordinator/media/download.h"
#include "coordinator/media/network_address.h"
#include "coordinator/media/source.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* base64 by its definition, bit by bit; false where it is not base64. */
static bool defined_base64(uint8_t *out, size_t *n_out, const char *text, size_t n_bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n_digits = 0, n_padding = 0;
    uint32_t bits = 0;
    *n_out = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        const char *digit = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
        if (text[i] != '\0' && strchr(" \t\r\n\f", text[i]) != NULL) {
            continue;
        }
        if (text[i] == '=') {
            n_padding++;
            continue;
        }
        if (digit == NULL || n_padding > 0) {
            return false;
        }
        bits = bits << 6 | (uint32_t)(digit - digits);
        n_digits++;
        if (n_digits % 4 != 1) { /* each digit but the first of a group completes a byte */
            unsigned spare = (unsigned)(3 - (n_digits + 3) % 4) * 2;
            out[(*n_out)++] = (uint8_t)(bits >> spare);
        }
    }
    return n_digits % 4 != 1 && n_padding <= (4 - n_digits % 4) % 4;
}

static void check_sentence(flo_code code, const flo_err *err)
{
    if (code == FLO_OK) {
        return;
    }
    CHECK(code == FLO_USAGE || code == FLO_FAIL);
    size_t n = strlen(err->text);
    CHECK(n > 0 && n < 700);
    for (size_t i = 0; i < n; i++) {
        CHECK((unsigned char)err->text[i] >= 0x20 && err->text[i] != 0x7f);
    }
}

static void check_base64(const char *text, size_t n_bytes)
{
    uint8_t *out = malloc(n_bytes / 4 * 3 + 3), *same = malloc(n_bytes + 1);
    size_t n = 0, n_same = 0;
    flo_err err = {""};
    flo_code code = base64_decode(out, &n, text, n_bytes, &err);
    CHECK((code == FLO_OK) == defined_base64(same, &n_same, text, n_bytes));
    CHECK(code != FLO_OK || (n == n_same && memcmp(out, same, n) == 0));
    check_sentence(code, &err);
    free(same);
    free(out);
}

static void check_data_url(const char *text, size_t n_bytes)
{
    uint8_t *out = NULL;
    size_t n = 0;
    flo_err err = {""};
    flo_code code = data_url_decode(&out, &n, text, n_bytes, &err);
    CHECK((code == FLO_OK) == (out != NULL));
    CHECK(code != FLO_OK || n <= n_bytes);
    check_sentence(code, &err);
    free(out);
}

static void check_open(const char *text, size_t n_bytes)
{
    bool file = n_bytes >= 5 && strncasecmp(text, "file:", 5) == 0;
    media_rules rules = {.files = file, .bytes_max = 1 << 16};
    media_source s;
    flo_err err = {""};
    flo_code code = media_source_open(&s, text, n_bytes, &rules, NULL, &err);
    check_sentence(code, &err);
    CHECK(utf8_good_bytes(s.name, strlen(s.name)) == strlen(s.name));
    CHECK(code != FLO_OK || (s.bytes != NULL) != (s.folder[0] != '\0'));
    CHECK(code == FLO_OK || (s.bytes == NULL && s.folder[0] == '\0'));
    media_source_close(&s);
}

static void check_url_name(const char *text, size_t n_bytes)
{
    char name[64] = "", *url = strndup(text, n_bytes);
    flo_err err = {""};
    check_sentence(download_name(name, sizeof name, url, &err), &err);
    CHECK(strlen(name) < sizeof name);
    free(url);
}

/* The first bytes as an address: IPv4 mapped into IPv6 is what IPv4 is. */
static void check_addresses(const uint8_t *data, size_t n_bytes)
{
    struct sockaddr_in in4 = {.sin_family = AF_INET};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
    if (n_bytes < 16) {
        return;
    }
    memcpy(&in4.sin_addr, data, 4);
    memcpy(in6.sin6_addr.s6_addr + 12, data, 4);
    memset(in6.sin6_addr.s6_addr + 10, 0xff, 2);
    CHECK(network_address_is_public((struct sockaddr *)&in4, sizeof in4) ==
          network_address_is_public((struct sockaddr *)&in6, sizeof in6));
    memcpy(in6.sin6_addr.s6_addr, data, 16);
    bool public = network_address_is_public((struct sockaddr *)&in6, sizeof in6);
    CHECK(!public || (data[0] >= 0x20 && data[0] <= 0x3f) || data[0] == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    char *text = malloc(n > 0 ? n : 1); /* of the exact size, so that reading past it is seen */
    memcpy(text, data, n);
    check_base64(text, n);
    check_data_url(text, n);
    check_open(text, n);
    check_url_name(text, n);
    check_addresses(data, n);
    free(text);
    return 0;
}

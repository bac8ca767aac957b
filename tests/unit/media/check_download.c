/*
 * check_download.c - a URL's body comes whole or not at all, within its limits of size, time and
 * place, from a server on loopback that does everything wrong in turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cancel.h"
#include "coordinator/media/download.h"
#include "coordinator/media/network_address.h"
#include "coordinator/media/source.h"
#include "tests/unit/media/http_server.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BYTES_MAX = 999 };

static http_server *server;    /* at 127.0.0.1 */
static http_server *elsewhere; /* at 127.0.0.2 */
static _Atomic size_t n_sent;  /* by the last answer that is too long */
static char last_head[4096];   /* of the last request; read after its answer came */

/* ---- the server's answers ---- */

typedef struct fixed_answer {
    const char *path, *text;
} fixed_answer;

static const fixed_answer FIXED[] = {
    {"/sized", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
    {"/unsized", "HTTP/1.0 200 OK\r\n\r\nhello"},
    {"/chunked",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"},
    {"/empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
    {"/cookie",
     "HTTP/1.1 302 Found\r\nSet-Cookie: a=b\r\nLocation: /sized\r\nContent-Length: 6\r\n\r\n"
     "moved\n"},
    {"/404", "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nsorry"},
    {"/404-empty", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"},
    {"/404-large", "HTTP/1.1 404 Not Found\r\nContent-Length: 9999\r\n\r\nsorry"},
    {"/500", "HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nsorry"},
    {"/204", "HTTP/1.1 204 No Content\r\n\r\n"},
    {"/206", "HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\n\r\nhello"},
    {"/302-nowhere", "HTTP/1.1 302 Found\r\nContent-Length: 5\r\n\r\nhello"},
    {"/cut", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello"},
    {"/cut-chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhello"},
    {"/cut-head", "HTTP/1.1 200 OK\r\nContent-Le"},
    {"/nothing", ""},
    {"/no-http", "220 mail.example ESMTP\r\n"},
    {"/promises-too-much", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"},
    {"/loop", "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n"},
    {"/to-file", "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"},
    {"/to-ftp", "HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1/x\r\nContent-Length: 0\r\n\r\n"},
};

static void send_endless_head(int fd)
{
    http_send(fd, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 10000; i++) {
        http_send(fd, "X-Filler: 012345678901234567890123456789012345678901234567890123456789\r\n");
    }
}

/* /step-N leads to /step-(N - 1), and /step-0 to a body. */
static void send_step(int fd, int n)
{
    char text[128];
    snprintf(text, sizeof text,
             n > 0 ? "HTTP/1.1 302 Found\r\nLocation: /step-%d\r\nContent-Length: 0\r\n\r\n"
                   : "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
             n - 1);
    http_send(fd, text);
}

static void answer(http_server *from, int fd, const char *path, const char *head)
{
    char text[256];
    int step;
    snprintf(last_head, sizeof last_head, "%s", head);
    for (size_t i = 0; i < sizeof FIXED / sizeof FIXED[0]; i++) {
        size_t n = strlen(FIXED[i].path);
        if (strncmp(path, FIXED[i].path, n) == 0 && (path[n] == '\0' || path[n] == '?')) {
            http_send(fd, FIXED[i].text);
            return;
        }
    }
    if (sscanf(path, "/step-%d", &step) == 1) {
        send_step(fd, step);
    } else if (strcmp(path, "/too-long") == 0) {
        http_send(fd, "HTTP/1.0 200 OK\r\n\r\n");
        n_sent = http_send_many(fd, (size_t)1 << 30);
    } else if (strcmp(path, "/too-long-chunked") == 0) {
        http_send(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40000000\r\n");
        n_sent = http_send_many(fd, (size_t)1 << 30);
    } else if (strcmp(path, "/silent") == 0) {
        http_wait_for_peer(fd);
    } else if (strcmp(path, "/stops") == 0) {
        http_send(fd, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nhello");
        http_wait_for_peer(fd);
    } else if (strcmp(path, "/endless-head") == 0) {
        send_endless_head(fd);
    } else if (strcmp(path, "/away") == 0) {
        snprintf(text, sizeof text,
                 "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2:%d/sized\r\nContent-Length: "
                 "0\r\n\r\n",
                 http_server_port(elsewhere));
        http_send(fd, text);
    } else if (strcmp(path, "/to-user") == 0) {
        snprintf(text, sizeof text,
                 "HTTP/1.1 302 Found\r\nLocation: http://user:pass@127.0.0.1:%d/sized\r\n"
                 "Content-Length: 0\r\n\r\n",
                 http_server_port(from));
        http_send(fd, text);
    }
}

static int start_servers(void **state)
{
    (void)state;
    server = http_server_start("127.0.0.1", answer);
    elsewhere = http_server_start("127.0.0.2", answer);
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    http_server_stop(server);
    http_server_stop(elsewhere);
    return 0;
}

/* ---- how the tests ask ---- */

static bool first_server_alone(const struct sockaddr *address, socklen_t n_bytes)
{
    struct sockaddr_in in = {0};
    if (n_bytes < sizeof in || address->sa_family != AF_INET) {
        return false;
    }
    memcpy(&in, address, sizeof in);
    return in.sin_addr.s_addr == htonl(INADDR_LOOPBACK);
}

static const download_limits LIMITS = {
    .bytes_max = BYTES_MAX, .seconds = 20, .may_connect = first_server_alone};

static const char *url_of(const char *path)
{
    static char url[512];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", http_server_port(server), path);
    return url;
}

static flo_code get(buffer *body, const char *url, const download_limits *limits, flo_err *err)
{
    *body = (buffer){0};
    err->text[0] = '\0';
    return download(body, url, limits, NULL, err);
}

static void check_hello(const char *url)
{
    buffer body;
    flo_err err;
    if (get(&body, url, &LIMITS, &err) != FLO_OK) {
        fail_msg("%s: %s", url, err.text);
    }
    assert_int_equal(body.n, 5);
    assert_memory_equal(body.at, "hello", 5);
    buffer_free(&body);
}

static void check_fails(const char *path, const download_limits *limits, const char *says)
{
    buffer body;
    flo_err err;
    assert_int_equal(get(&body, url_of(path), limits, &err), FLO_USAGE);
    if (strstr(err.text, says) == NULL) {
        fail_msg("%s: \"%s\" does not say \"%s\"", path, err.text, says);
    }
    buffer_free(&body);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- claims ---- */

static void a_body_comes_whole_however_its_length_is_told(void **state)
{
    (void)state;
    check_hello(url_of("/sized"));
    check_hello(url_of("/unsized"));
    check_hello(url_of("/chunked"));
    check_hello(url_of("/sized#fragment"));
    check_hello(url_of("/sized?a=b&c"));
}

static void nothing_of_this_machine_goes_along(void **state)
{
    (void)state;
    static const char *const secrets[] = {"Cookie",  "Authorization", "Accept-Encoding",
                                          "Referer", "Proxy",         "TE:"};
    static const char *const paths[] = {"/cookie", "/to-user"};
    for (size_t p = 0; p < sizeof paths / sizeof paths[0]; p++) {
        check_hello(url_of(paths[p]));
        assert_non_null(strstr(last_head, "GET /sized"));
        for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++) {
            assert_null(strstr(last_head, secrets[i]));
        }
    }
}

static void proxies_of_the_environment_are_not_used(void **state)
{
    (void)state;
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
    check_hello(url_of("/sized"));
    unsetenv("http_proxy");
    unsetenv("ALL_PROXY");
}

static void another_status_than_200_is_told_by_its_number(void **state)
{
    (void)state;
    check_fails("/404", &LIMITS, "404");
    check_fails("/404-empty", &LIMITS, "404");
    check_fails("/404-large", &LIMITS, "404");
    check_fails("/500", &LIMITS, "500");
    check_fails("/204", &LIMITS, "204");
    check_fails("/206", &LIMITS, "206");
    check_fails("/302-nowhere", &LIMITS, "302");
}

static void what_ends_early_is_refused(void **state)
{
    (void)state;
    check_fails("/cut", &LIMITS, "ended after 5 of 500 bytes");
    check_fails("/cut-chunked", &LIMITS, "ended after 5 bytes");
    check_fails("/nothing", &LIMITS, "ended after 0 bytes");
    check_fails("/no-http", &LIMITS, "does not answer in HTTP");
}

static void a_body_over_the_limit_is_not_taken(void **state)
{
    (void)state;
    check_fails("/promises-too-much", &LIMITS, "larger than 999");
    check_fails("/too-long", &LIMITS, "larger than 999");
    check_hello(url_of("/sized")); /* one connection after the other: the long answer has ended */
    assert_true(n_sent < (size_t)64 << 20);
    check_fails("/too-long-chunked", &LIMITS, "larger than 999");
    check_hello(url_of("/sized"));
    assert_true(n_sent < (size_t)64 << 20);
    download_limits five = LIMITS;
    five.bytes_max = 4;
    check_fails("/sized", &five, "larger than 4");
    check_fails("/unsized", &five, "larger than 4");
    five.bytes_max = 5;
    buffer body;
    flo_err err;
    assert_int_equal(get(&body, url_of("/unsized"), &five, &err), FLO_OK);
    buffer_free(&body);
}

static void an_endless_head_is_given_up(void **state)
{
    (void)state;
    check_fails("/endless-head", &LIMITS, "header");
}

static void five_redirects_are_followed_and_no_more(void **state)
{
    (void)state;
    check_hello(url_of("/step-5"));
    check_fails("/step-6", &LIMITS, "more than 5 redirects");
    int before = http_server_connections(server);
    check_fails("/loop", &LIMITS, "more than 5 redirects");
    assert_int_equal(http_server_connections(server) - before, 6);
}

static void a_redirect_to_another_scheme_is_refused(void **state)
{
    (void)state;
    check_fails("/to-file", &LIMITS, "redirects to another scheme");
    check_fails("/to-ftp", &LIMITS, "redirects to another scheme");
}

static void a_redirect_to_an_address_that_is_not_allowed_is_not_connected_to(void **state)
{
    (void)state;
    int before = http_server_connections(elsewhere);
    check_fails("/away", &LIMITS, "not public");
    assert_int_equal(http_server_connections(elsewhere), before);
}

static void time_is_limited_from_the_first_name_to_the_last_byte(void **state)
{
    (void)state;
    download_limits one_second = LIMITS;
    one_second.seconds = 1;
    double begin = now();
    check_fails("/silent", &one_second, "within 1 s");
    check_fails("/stops", &one_second, "(5 bytes came)");
    assert_true(now() - begin > 1.5 && now() - begin < 10);
}

static void *set_soon(void *user)
{
    usleep(200000);
    cancel_set(user);
    return NULL;
}

static void a_set_cancel_ends_the_waiting(void **state)
{
    (void)state;
    volatile bool cancel = false;
    pthread_t thread;
    buffer body = {0};
    flo_err err = {""};
    double begin = now();
    assert_int_equal(pthread_create(&thread, NULL, set_soon, (void *)(uintptr_t)&cancel), 0);
    flo_code code = download(&body, url_of("/silent"), &LIMITS, &cancel, &err);
    pthread_join(thread, NULL);
    assert_int_equal(code, FLO_INTERRUPTED);
    assert_true(now() - begin < 10);
    buffer_free(&body);
}

static void a_port_where_nobody_listens_is_no_connection(void **state)
{
    (void)state;
    http_server *gone = http_server_start("127.0.0.1", answer);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", http_server_port(gone));
    http_server_stop(gone);
    buffer body;
    flo_err err;
    assert_int_equal(get(&body, url, &LIMITS, &err), FLO_USAGE);
    assert_string_equal(err.text, "no connection");
    buffer_free(&body);
}

/* ---- as a medium ---- */

static flo_code open_url(media_source *s, const char *url, bool private_addresses, flo_err *err)
{
    media_rules rules = {.urls = true, .private_addresses = private_addresses, .url_seconds = 20};
    err->text[0] = '\0';
    return media_source_open(s, url, strlen(url), &rules, NULL, err);
}

static void a_medium_of_a_url_is_named_by_its_host_alone(void **state)
{
    (void)state;
    media_source s;
    flo_err err;
    assert_int_equal(open_url(&s, url_of("/sized?secret=xyzzy"), true, &err), FLO_OK);
    assert_int_equal(s.n_bytes, 5);
    assert_string_equal(s.name, "http://127.0.0.1");
    media_source_close(&s);
    assert_int_equal(open_url(&s, url_of("/404?secret=xyzzy"), true, &err), FLO_USAGE);
    assert_string_equal(err.text, "http://127.0.0.1: the server answered with status 404");
    assert_null(s.owned);
    assert_int_equal(open_url(&s, url_of("/empty"), true, &err), FLO_USAGE);
    assert_string_equal(err.text, "http://127.0.0.1: is empty");
    assert_int_equal(open_url(&s, url_of("/cut-head"), true, &err), FLO_USAGE);
    assert_string_equal(err.text, "http://127.0.0.1: is empty");
}

static void loopback_is_not_connected_to_however_it_is_written(void **state)
{
    (void)state;
    static const char *const hosts[] = {"127.0.0.1",
                                        "127.1",
                                        "0x7f.1",
                                        "0177.0.0.1",
                                        "2130706433",
                                        "0x7f000001",
                                        "017700000001",
                                        "0",
                                        "0.0.0.0",
                                        "localhost",
                                        "LOCALHOST",
                                        "a.localhost",
                                        "[::1]",
                                        "[::]",
                                        "[::ffff:127.0.0.1]",
                                        "[::ffff:7f00:1]",
                                        "[::127.0.0.1]",
                                        "[64:ff9b::127.0.0.1]",
                                        "[0:0:0:0:0:0:0:1]",
                                        "%31%32%37.0.0.1"};
    int before = http_server_connections(server);
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char url[128];
        media_source s;
        flo_err err;
        snprintf(url, sizeof url, "http://%s:%d/sized", hosts[i], http_server_port(server));
        assert_int_equal(open_url(&s, url, false, &err), FLO_USAGE);
        assert_null(s.owned);
        assert_non_null(strstr(err.text, "not public"));
    }
    assert_int_equal(http_server_connections(server), before);
}

static void a_url_that_is_none_is_refused_without_being_quoted(void **state)
{
    (void)state;
    static const char *const urls[] = {"http:",
                                       "http:/xyzzy",
                                       "http://",
                                       "https:xyzzy",
                                       "http://xyzzy:pass@host/",
                                       "http://xyzzy@host/",
                                       "http://host:99999/xyzzy",
                                       "http://host/xyzzy\x01",
                                       "http://[xyzzy/",
                                       "http://host/a b xyzzy"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        media_source s;
        flo_err err;
        assert_int_equal(open_url(&s, urls[i], true, &err), FLO_USAGE);
        assert_null(strstr(err.text, "xyzzy"));
        assert_non_null(strstr(err.text, "a URL: "));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_comes_whole_however_its_length_is_told),
        cmocka_unit_test(nothing_of_this_machine_goes_along),
        cmocka_unit_test(proxies_of_the_environment_are_not_used),
        cmocka_unit_test(another_status_than_200_is_told_by_its_number),
        cmocka_unit_test(what_ends_early_is_refused),
        cmocka_unit_test(a_body_over_the_limit_is_not_taken),
        cmocka_unit_test(an_endless_head_is_given_up),
        cmocka_unit_test(five_redirects_are_followed_and_no_more),
        cmocka_unit_test(a_redirect_to_another_scheme_is_refused),
        cmocka_unit_test(a_redirect_to_an_address_that_is_not_allowed_is_not_connected_to),
        cmocka_unit_test(time_is_limited_from_the_first_name_to_the_last_byte),
        cmocka_unit_test(a_set_cancel_ends_the_waiting),
        cmocka_unit_test(a_port_where_nobody_listens_is_no_connection),
        cmocka_unit_test(a_medium_of_a_url_is_named_by_its_host_alone),
        cmocka_unit_test(loopback_is_not_connected_to_however_it_is_written),
        cmocka_unit_test(a_url_that_is_none_is_refused_without_being_quoted),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}

/*
 * http_server.c - see http_server.h.
 */
#include "tests/unit/media/http_server.h"

#include "common/check.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEAD_MAX = 1 << 14, WAIT_MS = 60000 };

struct http_server {
    int listener, port;
    http_answer *answer;
    atomic_int n_connections;
    atomic_bool stopping;
    pthread_t thread;
};

/* A request's head, NUL-terminated; false where the peer went before its end. */
static bool read_head(int fd, char head[HEAD_MAX])
{
    size_t n = 0;
    head[0] = '\0';
    while (strstr(head, "\r\n\r\n") == NULL) {
        ssize_t got = n + 1 < HEAD_MAX ? recv(fd, head + n, HEAD_MAX - 1 - n, 0) : 0;
        if (got <= 0) {
            return false;
        }
        n += (size_t)got;
        head[n] = '\0';
    }
    return true;
}

static void serve_one(http_server *server, int fd)
{
    char head[HEAD_MAX], path[256] = "";
    if (read_head(fd, head) && sscanf(head, "GET %255s HTTP/", path) == 1) {
        server->answer(server, fd, path, head);
    }
}

static void *serve(void *user)
{
    http_server *server = user;
    for (;;) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0 || server->stopping) {
            close(fd);
            return NULL;
        }
        server->n_connections++;
        serve_one(server, fd);
        shutdown(fd, SHUT_WR);
        close(fd);
    }
}

static struct sockaddr_in address_of(const char *text, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    CHECK(inet_pton(AF_INET, text, &address.sin_addr) == 1);
    return address;
}

http_server *http_server_start(const char *address, http_answer *answer)
{
    http_server *server = calloc(1, sizeof *server);
    CHECK(server != NULL);
    struct sockaddr_in at = address_of(address, 0);
    socklen_t n = sizeof at;
    server->answer = answer;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(server->listener >= 0);
    CHECK(bind(server->listener, (struct sockaddr *)&at, sizeof at) == 0);
    CHECK(listen(server->listener, 16) == 0);
    CHECK(getsockname(server->listener, (struct sockaddr *)&at, &n) == 0);
    server->port = ntohs(at.sin_port);
    CHECK(pthread_create(&server->thread, NULL, serve, server) == 0);
    return server;
}

void http_server_stop(http_server *server)
{
    server->stopping = true;
    shutdown(server->listener, SHUT_RDWR); /* accept returns */
    pthread_join(server->thread, NULL);
    close(server->listener);
    free(server);
}

int http_server_port(const http_server *server)
{
    return server->port;
}

int http_server_connections(const http_server *server)
{
    return server->n_connections;
}

void http_send_bytes(int fd, const void *bytes, size_t n_bytes)
{
    const char *at = bytes;
    while (n_bytes > 0) {
        ssize_t sent = send(fd, at, n_bytes, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        at += sent;
        n_bytes -= (size_t)sent;
    }
}

void http_send(int fd, const char *text)
{
    http_send_bytes(fd, text, strlen(text));
}

size_t http_send_many(int fd, size_t n_bytes)
{
    static const char piece[1 << 16];
    size_t n = 0;
    while (n < n_bytes) {
        size_t more = n_bytes - n < sizeof piece ? n_bytes - n : sizeof piece;
        ssize_t sent = send(fd, piece, more, MSG_NOSIGNAL);
        if (sent <= 0) {
            break;
        }
        n += (size_t)sent;
    }
    return n;
}

void http_wait_for_peer(int fd)
{
    char byte;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    while (poll(&wait, 1, WAIT_MS) > 0 && recv(fd, &byte, 1, 0) > 0) {
    }
}

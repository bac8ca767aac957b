/*
 * http_server.h - a server on loopback that answers as badly as a test wants.
 *
 * One thread, one connection at a time, one request for each; what is sent is the test's business.
 */
#ifndef FLOTILLA_TESTS_UNIT_MEDIA_HTTP_SERVER_H
#define FLOTILLA_TESTS_UNIT_MEDIA_HTTP_SERVER_H

#include <stddef.h>

typedef struct http_server http_server;

/* Called with the path of a request and its whole head; the connection is closed afterwards. */
typedef void http_answer(http_server *server, int fd, const char *path, const char *head);

/* Listens at address (127.x.y.z) on a free port; aborts the test where it cannot. */
http_server *http_server_start(const char *address, http_answer *answer);
void http_server_stop(http_server *server);

int http_server_port(const http_server *server);
int http_server_connections(const http_server *server); /* so far */

/* For answers. The peer may be gone: nothing fails. */
void http_send(int fd, const char *text);
void http_send_bytes(int fd, const void *bytes, size_t n_bytes);

/* Sends the same 64 KiB again until n_bytes are gone or the peer is; returns what was sent. */
size_t http_send_many(int fd, size_t n_bytes);

/* Says nothing until the peer has gone. */
void http_wait_for_peer(int fd);

#endif

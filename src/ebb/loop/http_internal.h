/* http_internal -- a request as http.c and http_stream.c see it. */
#ifndef EBBI_LOOP_HTTP_INTERNAL_H
#define EBBI_LOOP_HTTP_INTERNAL_H

#include <ebb/http.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <sys/queue.h>

#define HTTP_PATH_MAX        1024
#define HTTP_TIMEOUT_SECONDS 10

struct body_writer {
    struct ebb_writer writer;
    struct evbuffer *buffer;
};

struct ebb_http_request {
    struct ebb_loop *loop;
    struct evhttp_request *evhttp;
    struct body_writer body;
    struct evkeyvalq query;
    bool answered;
    char path[HTTP_PATH_MAX];
};

/* From now on the peer may be silent, for it waits for us; until evhttp_connection_set_timeout. */
void ebbi_http_may_be_silent(struct evhttp_connection *connection);
/* Until it is answered, its end is heard of and its silence is no fault. */
void ebbi_http_hear_of_end(struct evhttp_connection *connection);
/* Sends what is in the request's output buffer. */
void ebbi_http_reply(struct evhttp_request *evhttp, int status, const char *content_type);
/* The headers that every reply has. */
void ebbi_http_headers(struct evhttp_request *evhttp, const char *content_type);
/* Closes a connection whose answer was begun, when the system could not watch it. */
void ebbi_http_close_unwatched(struct evhttp_connection *connection);
/* From here to the next call of evhttp's the end of what the peer sends does not end the
 * connection: it may still read. */
void ebbi_http_outlive_end(struct evhttp_connection *connection);
/* For the close callback of a connection: lets go of the request whose answer was not complete. */
void ebbi_http_gone(struct evhttp_request *evhttp);

#endif

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
    struct evbuffer *buffer; /* NULL: nobody waits for it any more */
    char *piece;             /* that is being filled */
    size_t used, length;     /* bytes of the piece, and of all */
    bool failed;             /* there was no memory for all of it */
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
/* http_body.c: after the end all that was written is in the buffer. False: there was no memory for
 * it, and a sentence stands there instead. */
void ebbi_http_body_init(struct body_writer *body, struct evbuffer *buffer);
bool ebbi_http_body_end(struct body_writer *body);
/* Ends the connection when libevent was refused memory since that many refusals
 * (ebbi_library_refused): it goes on all the same, and sends what has no status line, or half. */
void ebbi_http_cut_if_refused(struct evhttp_connection *connection, uint64_t refused);
/* From here to the next call of evhttp's the end of what the peer sends does not end the
 * connection: it may still read. */
void ebbi_http_outlive_end(struct evhttp_connection *connection);
/* For the close callback of a connection: lets go of the request whose answer was not complete. */
void ebbi_http_gone(struct evhttp_request *evhttp);

#endif

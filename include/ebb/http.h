/* http -- a small HTTP/1.1 server for people and scrapers, on a loop; libevent's evhttp underneath.
 */
#ifndef EBB_HTTP_H
#define EBB_HTTP_H

#include <ebb/loop.h>
#include <ebb/writer.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_http;         /* OWNED; ebb_http_close */
struct ebb_http_request; /* valid during the handler */

/* host as a literal address. Fails: EBB_ERR_BUSY, EBB_ERR_SYSTEM. */
enum ebb_err ebb_http_open(struct ebb_http **http, struct ebb_loop *loop, const char *host,
                           int port) EBB_MUST_CHECK;
int ebb_http_port(const struct ebb_http *http);
void ebb_http_close(struct ebb_http *http);

/* Every request comes here; answer it before returning, once (or begin to: ebb_http_reply_from).
 * GET, HEAD and POST reach it; others get a 405. */
void ebb_http_handle(struct ebb_http *http, void (*fn)(struct ebb_http_request *request, void *arg),
                     void *arg);

const char *ebb_http_path(const struct ebb_http_request *request); /* decoded, without the query */
/* The value of a query parameter, decoded, or NULL. Valid during the handler. */
const char *ebb_http_query(const struct ebb_http_request *request, const char *name);
/* The first parameter of the query that is none of `known` (names, a blank between two; NULL: no
 * names), or NULL. Valid during the handler. */
const char *ebb_http_query_stranger(const struct ebb_http_request *request, const char *known);
/* A parameter that the query gives more than once, or NULL. Valid during the handler. */
const char *ebb_http_query_repeated(const struct ebb_http_request *request);
const char *ebb_http_header(const struct ebb_http_request *request, const char *name); /* or NULL */
bool ebb_http_is_post(const struct ebb_http_request *request);
/* What was sent with a POST, up to its first NUL; at most 64 KiB. Valid during the handler. */
const char *ebb_http_sent(const struct ebb_http_request *request);
/* The other end's address as text, or "" when it is not known. Valid during the handler. */
const char *ebb_http_peer(const struct ebb_http_request *request);

/* For an answer that takes a while: the handler returns without one, and the request is answered
 * later, on the same thread, with ebb_http_later_reply; it must be, also when the peer has gone
 * meanwhile (then nothing is sent) or the server is to be closed. gone(arg) is called, on the same
 * thread, when the peer goes first; the answer may be given up from there. */
struct ebb_http_later; /* OWNED; ebb_http_later_reply releases it */
struct ebb_http_later *ebb_http_keep(struct ebb_http_request *request, void (*gone)(void *arg),
                                     void *arg);
struct ebb_writer *ebb_http_later_body(struct ebb_http_later *later);
void ebb_http_later_reply(struct ebb_http_later *later, int status, const char *content_type);

/* One more header of the answer; before ebb_http_reply. */
void ebb_http_reply_header(struct ebb_http_request *request, const char *name, const char *value);
/* Where the body goes; send it with ebb_http_reply. */
struct ebb_writer *ebb_http_body(struct ebb_http_request *request);
void ebb_http_reply(struct ebb_http_request *request, int status, const char *content_type);
/* Instead of ebb_http_reply: sends what comes out of a pipe or socket until its end, as fast as the
 * peer takes it. from stays the caller's: ended(complete, arg) is called once, on the loop, when it
 * is not read any more; complete is false when the peer went away before the end. It returns
 * whether what came out was whole: if not the connection is cut, so that the peer knows. */
void ebb_http_reply_from(struct ebb_http_request *request, int status, const char *content_type,
                         ebb_fd from, bool (*ended)(bool complete, void *arg), void *arg);
/* The same, where it is not known yet whether there will be anything: the first byte that comes out
 * is a verdict. '+': the rest is sent with status 200. '-': the rest is a sentence (255 bytes, in
 * one piece), sent with 503 and Retry-After; an end without any verdict is a 503 as well. */
void ebb_http_reply_judged(struct ebb_http_request *request, const char *content_type, ebb_fd from,
                           bool (*ended)(bool complete, void *arg), void *arg);

__END_DECLS

#endif

/* http -- libevent's evhttp, with limits and with its sockets under the inventory's eyes.
 *
 * A request lives from evhttp's callback to its reply, all in one call, so it stands on the stack;
 * one that is answered later (ebb_http_later) is an object of its own from then on. Path and query
 * are decoded here into fixed room.
 *
 * evhttp has no limit of connections, and tells nobody when one ends. So we remember the
 * bufferevent of each, and look which of them still have an event in the loop. While
 * HTTP_CONNECTIONS_MAX are open we do not accept. Then those go that have not asked anything for a
 * while, although others wait: half a request, byte by byte, would keep everybody out for ever.
 *
 * While evhttp writes an answer it goes on reading, to hear of the connection's end, and leaves
 * what comes in the bufferevent's buffer; so that has a limit, of one request as large as may be.
 *
 * evhttp does not look whether a connection could be watched again for its answer. One that could
 * not would never end: it is closed.
 *
 * A peer may close its half once it has asked, and still read (shutdown(1), nc -N). The end of what
 * it sends is thus no end while it waits for an answer or reads one: that it has gone altogether,
 * the next write to it tells.
 *
 * 1. The listening socket is a managed resource: libevent borrows it, ebb_fd_close closes it,
 * nobody else does.
 * 2. A remembered bufferevent is used only right after count_connections found it alive. */
#include <ebb/http.h>

#include "gc/types.h"
#include "http_internal.h"
#include "loop_internal.h"
#include "telemetry/metrics.h"

#include <arpa/inet.h>
#include <ebb/assert.h>
#include <ebb/mem.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#define HTTP_BODY_MAX          (64 * 1024)
#define HTTP_HEADERS_MAX       (16 * 1024)
#define HTTP_UNREAD_MAX        (HTTP_BODY_MAX + HTTP_HEADERS_MAX)
#define HTTP_CONNECTIONS_MAX   64
#define HTTP_CONNECTIONS_FEW   8 /* while memory is short */
#define HTTP_LOOK_AGAIN_MS     50
#define HTTP_LOOK_FOR_RESET_MS 200
#define HTTP_BACKLOG           64

struct ebb_http {
    struct ebb_loop *loop;
    struct ebb_scope *scope;
    ebb_fd socket;
    struct evhttp *evhttp;
    struct evconnlistener *listener; /* evhttp frees it */
    struct ebb_timer *look_again;    /* while not accepting */
    int port, connections;
    struct {
        struct bufferevent *bufferevent;
        bool open;
        bool asked;   /* a whole request came */
        bool waiting; /* none had come when we looked last */
    } connection[HTTP_CONNECTIONS_MAX];
    void (*fn)(struct ebb_http_request *request, void *arg);
    void *arg;
};

/* Marks the remembered connection, if it is one, that this event belongs to. */
static int mark_open(const struct event_base *base, const struct event *event, void *arg) {
    (void)base;
    struct ebb_http *http = arg;
    for (int i = 0; i < http->connections; i++)
        if (http->connection[i].bufferevent == event_get_callback_arg(event))
            http->connection[i].open = true;
    return 0;
}

/* Forgets the connections that have ended. */
static void count_connections(struct ebb_http *http) {
    for (int i = 0; i < http->connections; i++)
        http->connection[i].open = false;
    event_base_foreach_event(ebbi_loop_base(http->loop), mark_open, http);
    int kept = 0;
    for (int i = 0; i < http->connections; i++)
        if (http->connection[i].open)
            http->connection[kept++] = http->connection[i];
    http->connections = kept;
}

/* Ends those that have asked nothing since the last look; evhttp finds them closed. */
static void shed(struct ebb_http *http) {
    for (int i = 0; i < http->connections; i++) {
        if (!http->connection[i].asked && http->connection[i].waiting)
            shutdown(bufferevent_getfd(http->connection[i].bufferevent), SHUT_RDWR);
        http->connection[i].waiting = true;
    }
}

/* Each takes some KiB, and the reserve is for others too. */
static bool is_full(const struct ebb_http *http) {
    bool is_short = ebb_metric_value(&ebb_metric_reserve_used) > 0;
    return http->connections >= (is_short ? HTTP_CONNECTIONS_FEW : HTTP_CONNECTIONS_MAX);
}

static void accept_again(void *arg) {
    struct ebb_http *http = arg;
    count_connections(http);
    if (is_full(http)) {
        shed(http);
        return;
    }
    if (evconnlistener_enable(http->listener) != 0)
        return; /* the system watches no more descriptors; at the next look */
    ebb_timer_close(http->look_again);
    http->look_again = NULL;
}

/* Makes the bufferevent of a connection that is being accepted. NULL: there is no memory for one,
 * and since evhttp shall not try to make one, it gets none for the connection either. */
static struct bufferevent *connection_begins(struct event_base *base, void *arg) {
    struct ebb_http *http = arg;
    count_connections(http);
    struct bufferevent *made =
        ebbi_library_set_aside() ? bufferevent_socket_new(base, -1, 0) : NULL;
    if (made == NULL) {
        ebbi_library_refuse_next();
        return NULL;
    }
    bufferevent_setwatermark(made, EV_READ, 0, HTTP_UNREAD_MAX);
    if (http->connections == HTTP_CONNECTIONS_MAX)
        return made;
    memset(&http->connection[http->connections], 0, sizeof(http->connection[0]));
    http->connection[http->connections++].bufferevent = made;
    if (is_full(http) && http->look_again == NULL) {
        evconnlistener_disable(http->listener);
        http->look_again = ebb_timer_open(http->loop, HTTP_LOOK_AGAIN_MS, true, accept_again, http);
    }
    return made;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decodes %XX. False for what is too long, cut short or holds a NUL. */
static bool decode_path(const char *from, char *to, size_t size) {
    size_t used = 0;
    for (; *from; from++) {
        int c = (unsigned char)*from;
        if (c == '%') {
            int high = hex_digit(from[1]), low = high < 0 ? -1 : hex_digit(from[2]);
            if (low < 0)
                return false;
            c = high * 16 + low;
            from += 2;
        }
        if (c == 0 || used + 1 >= size)
            return false;
        to[used++] = (char)c;
    }
    to[used] = 0;
    return true;
}

static void refuse(struct ebb_http_request *request, int status, const char *text) {
    if (status == 405)
        evhttp_add_header(evhttp_request_get_output_headers(request->evhttp), "Allow",
                          "GET, HEAD, POST");
    ebb_write(ebb_http_body(request), text);
    ebb_http_reply(request, status, "text/plain; charset=utf-8");
}

static void mark_asked(struct ebb_http *http, struct evhttp_request *evhttp) {
    struct evhttp_connection *connection = evhttp_request_get_connection(evhttp);
    const struct bufferevent *its = evhttp_connection_get_bufferevent(connection);
    for (int i = 0; i < http->connections; i++)
        if (http->connection[i].bufferevent == its)
            http->connection[i].asked = true;
}

/* RFC 9112, 3.2: HTTP/1.1 has one Host, and nobody two, or one that is no host. */
static bool host_is_told(struct evhttp_request *evhttp) {
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(evhttp);
    const struct evkeyval *at;
    int hosts = 0;
    bool readable = true;
    TAILQ_FOREACH(at, headers, next)
    if (strcasecmp(at->key, "Host") == 0) {
        hosts++;
        readable = at->value[strcspn(at->value, " \t/\\?#@,")] == 0;
    }
    bool older = evhttp->major < 1 || (evhttp->major == 1 && evhttp->minor == 0);
    return readable && (hosts == 1 || (hosts == 0 && older));
}

/* Sets path and query, still encoded, to their places in target. evhttp would take "//readyz" for a
 * host without a path. False: it is no address. */
static bool split_target(struct evhttp_request *evhttp, char target[HTTP_PATH_MAX],
                         const char **path, const char **query) {
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(evhttp);
    const char *raw = evhttp_request_get_uri(evhttp);
    if (raw == NULL || raw[0] != '/') { /* http://host/path */
        *path = uri ? evhttp_uri_get_path(uri) : NULL;
        *query = uri ? evhttp_uri_get_query(uri) : NULL;
        if (*path == NULL || (*path)[0] == 0)
            *path = "/";
        return uri && evhttp_uri_get_host(uri);
    }
    size_t length = strcspn(raw, "#");
    if (length >= HTTP_PATH_MAX)
        return false;
    memcpy(target, raw, length);
    target[length] = 0;
    char *mark = strchr(target, '?');
    if (mark)
        *mark = 0;
    *path = target;
    *query = mark ? mark + 1 : NULL;
    return true;
}

/* "verbose&&limit=5" is "verbose=&limit=5": for a part without "=" evhttp would take none at all.
 */
static bool read_query(const char *query, struct evkeyvalq *into) {
    char whole[2 * HTTP_PATH_MAX];
    size_t used = 0;
    if (strlen(query) >= HTTP_PATH_MAX || strstr(query, "%00"))
        return false;
    for (const char *part = query; *part; part += part[0] == '&') {
        size_t length = strcspn(part, "&");
        if (length > 0)
            used += (size_t)snprintf(whole + used, sizeof(whole) - used, "%s%.*s%s",
                                     used > 0 ? "&" : "", (int)length, part,
                                     memchr(part, '=', length) ? "" : "=");
        part += length;
    }
    return used == 0 || evhttp_parse_query_str(whole, into) == 0;
}

static bool read_target(struct ebb_http_request *request) {
    char target[HTTP_PATH_MAX];
    const char *path, *query;
    return split_target(request->evhttp, target, &path, &query) &&
           decode_path(path, request->path, sizeof(request->path)) &&
           (query == NULL || read_query(query, &request->query));
}

static void handle(struct evhttp_request *evhttp, void *arg) {
    struct ebb_http *http = arg;
    ebbi_pulse_busy();
    struct ebb_http_request request = {.loop = http->loop, .evhttp = evhttp};
    ebbi_http_body_init(&request.body, evhttp_request_get_output_buffer(evhttp));
    TAILQ_INIT(&request.query);
    ebb_count(&ebb_metric_http_requests, 1);
    mark_asked(http, evhttp);
    enum evhttp_cmd_type method = evhttp_request_get_command(evhttp);
    if (!host_is_told(evhttp))
        refuse(&request, 400,
               "400: HTTP/1.1 has one Host header with the name that was asked for\n");
    else if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD && method != EVHTTP_REQ_POST)
        refuse(&request, 405, "405: only GET, HEAD and POST are answered here\n");
    else if (!read_target(&request))
        refuse(&request, 400, "400: the address cannot be read\n");
    else if (http->fn == NULL)
        refuse(&request, 404, "404: nothing is here\n");
    else
        http->fn(&request, http->arg);
    evhttp_clear_headers(&request.query);
    ebb_assert(request.answered, "no answer to %s", request.path);
}

/* The literal address with its port, as bind takes it. */
static bool make_address(const char *host, int port, struct sockaddr_storage *address,
                         socklen_t *size) {
    memset(address, 0, sizeof(*address));
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        *size = sizeof(*four);
        return true;
    }
    if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        *size = sizeof(*six);
        return true;
    }
    return false;
}

static int bound_port(int fd) {
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    return ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                               : ((struct sockaddr_in *)&address)->sin_port);
}

/* Opens the socket into the scope of http. */
static enum ebb_err open_socket(struct ebb_http *http, const char *host, int port) {
    struct sockaddr_storage address;
    socklen_t size;
    if (!make_address(host, port, &address, &size))
        return ebb_err_set(EBB_ERR_SYSTEM, "\"%s\" is no IPv4 or IPv6 address", host);
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), yes = 1;
    if (fd < 0)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot open a socket: %s", strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, HTTP_BACKLOG) != 0) {
        int error = errno;
        close(fd);
        if (error == EADDRINUSE)
            return ebb_err_set(EBB_ERR_BUSY, "%s port %d is in use by another program", host, port);
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot listen on %s port %d: %s", host, port,
                           strerror(error));
    }
    http->port = bound_port(fd);
    char note[80];
    snprintf(note, sizeof(note), strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, http->port);
    return ebb_fd_adopt(&http->socket, http->scope, EBB_RESOURCE_listener, fd, note);
}

/* evhttp with its limits, on the socket. The listener is enabled by us, last, since libevent does
 * not look whether it could be. */
static enum ebb_err start_evhttp(struct ebb_http *http) {
    static const char none[] = "libevent gave no HTTP server: no memory";
    struct event_base *base = ebbi_loop_base(http->loop);
    http->evhttp = evhttp_new(base);
    if (http->evhttp == NULL)
        return ebb_err_set(EBB_ERR_SYSTEM, none);
    evhttp_set_max_body_size(http->evhttp, HTTP_BODY_MAX);
    evhttp_set_max_headers_size(http->evhttp, HTTP_HEADERS_MAX);
    evhttp_set_timeout(http->evhttp, HTTP_TIMEOUT_SECONDS);
    /* All known methods, so that a wrong one hears 405 and what is allowed, from handle(). */
    evhttp_set_allowed_methods(http->evhttp, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST |
                                                 EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
                                                 EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
                                                 EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
    evhttp_set_gencb(http->evhttp, handle, http);
    evhttp_set_bevcb(http->evhttp, connection_begins, http);
    /* Without LEV_OPT_CLOSE_ON_FREE: the scope closes the socket. */
    http->listener = evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_DISABLED,
                                        0, ebb_fd_get(http->socket));
    if (http->listener == NULL || evhttp_bind_listener(http->evhttp, http->listener) == NULL)
        return ebb_err_set(EBB_ERR_SYSTEM, none);
    errno = 0;
    return evconnlistener_enable(http->listener) == 0
               ? EBB_OK
               : ebbi_watch_refused(ebb_fd_get(http->socket), errno);
}

enum ebb_err ebb_http_open(struct ebb_http **out, struct ebb_loop *loop, const char *host,
                           int port) {
    struct ebb_http *http = ebb_new_sized(&ebbi_type_http, sizeof(*http));
    http->loop = loop;
    http->scope = ebb_scope_new("http");
    enum ebb_err error = open_socket(http, host, port);
    if (error == EBB_OK)
        error = start_evhttp(http);
    if (error) {
        ebb_http_close(http);
        return error;
    }
    *out = http;
    return EBB_OK;
}

int ebb_http_port(const struct ebb_http *http) {
    return http->port;
}

void ebb_http_close(struct ebb_http *http) {
    if (http == NULL)
        return;
    if (http->look_again)
        ebb_timer_close(http->look_again);
    if (http->evhttp)
        evhttp_free(http->evhttp);
    ebbi_library_set_aside_end();
    ebb_scope_close(http->scope);
    ebb_done(http);
}

void ebb_http_handle(struct ebb_http *http, void (*fn)(struct ebb_http_request *request, void *arg),
                     void *arg) {
    http->fn = fn;
    http->arg = arg;
}

const char *ebb_http_path(const struct ebb_http_request *request) {
    return request->path;
}

const char *ebb_http_query(const struct ebb_http_request *request, const char *name) {
    return evhttp_find_header(&request->query, name);
}

static bool is_among(const char *name, const char *names) {
    size_t length = strlen(name);
    for (const char *at = names; at && *at;) {
        size_t next = strcspn(at, " ");
        if (next == length && strncmp(at, name, length) == 0)
            return true;
        at += next + (at[next] == ' ');
    }
    return false;
}

const char *ebb_http_query_stranger(const struct ebb_http_request *request, const char *known) {
    const struct evkeyval *at;
    TAILQ_FOREACH(at, &request->query, next)
    if (!is_among(at->key, known))
        return at->key;
    return NULL;
}

const char *ebb_http_query_repeated(const struct ebb_http_request *request) {
    const struct evkeyval *at;
    TAILQ_FOREACH(at, &request->query, next)
    for (const struct evkeyval *other = TAILQ_NEXT(at, next); other;
         other = TAILQ_NEXT(other, next))
        if (strcmp(other->key, at->key) == 0)
            return at->key;
    return NULL;
}

const char *ebb_http_header(const struct ebb_http_request *request, const char *name) {
    return evhttp_find_header(evhttp_request_get_input_headers(request->evhttp), name);
}

bool ebb_http_is_post(const struct ebb_http_request *request) {
    return evhttp_request_get_command(request->evhttp) == EVHTTP_REQ_POST;
}

const char *ebb_http_sent(const struct ebb_http_request *request) {
    struct evbuffer *sent = evhttp_request_get_input_buffer(request->evhttp);
    evbuffer_add(sent, "", 1);
    return (const char *)evbuffer_pullup(sent, -1);
}

const char *ebb_http_peer(const struct ebb_http_request *request) {
    struct evhttp_connection *connection = evhttp_request_get_connection(request->evhttp);
    char *address = NULL;
    ev_uint16_t port;
    if (connection)
        evhttp_connection_get_peer(connection, &address, &port);
    return address ? address : "";
}

void ebb_http_reply_header(struct ebb_http_request *request, const char *name, const char *value) {
    evhttp_add_header(evhttp_request_get_output_headers(request->evhttp), name, value);
}

struct ebb_writer *ebb_http_body(struct ebb_http_request *request) {
    return &request->body.writer;
}

void ebbi_http_headers(struct evhttp_request *evhttp, const char *content_type) {
    struct evkeyvalq *headers = evhttp_request_get_output_headers(evhttp);
    evhttp_add_header(headers, "Content-Type", content_type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
}

static int belongs_to(const struct event_base *base, const struct event *event, void *its) {
    (void)base;
    return event_get_callback_arg(event) == its;
}

/* evhttp's own, the same for every connection. */
static _Atomic(bufferevent_event_cb) on_evhttp_event;

static void on_event_but_end(struct bufferevent *its, short what, void *arg) {
    if (what != (BEV_EVENT_READING | BEV_EVENT_EOF))
        atomic_load (&on_evhttp_event)(its, what, arg);
}

void ebbi_http_outlive_end(struct evhttp_connection *connection) {
    struct bufferevent *its = evhttp_connection_get_bufferevent(connection);
    bufferevent_data_cb on_read, on_write;
    bufferevent_event_cb on_event;
    void *arg;
    bufferevent_getcb(its, &on_read, &on_write, &on_event, &arg);
    if (on_event != on_event_but_end)
        atomic_store(&on_evhttp_event, on_event);
    bufferevent_setcb(its, on_read, on_write, on_event_but_end, arg);
}

/* The end that is read then is evhttp's to hear. */
void ebbi_http_cut_if_refused(struct evhttp_connection *connection, uint64_t refused) {
    struct bufferevent *its = evhttp_connection_get_bufferevent(connection);
    if (ebbi_library_refused() == refused)
        return;
    shutdown(bufferevent_getfd(its), SHUT_RDWR);
    bufferevent_setcb(its, NULL, NULL, atomic_load(&on_evhttp_event), connection);
    bufferevent_enable(its, EV_READ);
}

void ebbi_http_close_unwatched(struct evhttp_connection *connection) {
    struct bufferevent *its = evhttp_connection_get_bufferevent(connection);
    if (!event_base_foreach_event(bufferevent_get_base(its), belongs_to, its))
        evhttp_connection_free(connection);
}

void ebbi_http_reply(struct evhttp_request *evhttp, int status, const char *content_type) {
    struct evhttp_connection *connection = evhttp_request_get_connection(evhttp);
    struct evkeyvalq *headers = evhttp_request_get_output_headers(evhttp);
    struct evbuffer *body = evhttp_request_get_output_buffer(evhttp);
    uint64_t refused = ebbi_library_refused();
    char length[24];
    snprintf(length, sizeof(length), "%zu", evbuffer_get_length(body));
    evhttp_add_header(headers, "Content-Length", length);
    if (!ebbi_library_set_aside()) /* for the next request */
        evhttp_add_header(headers, "Connection", "close");
    ebbi_http_headers(evhttp, content_type);
    if (evhttp_request_get_command(evhttp) == EVHTTP_REQ_HEAD)
        evbuffer_drain(body, evbuffer_get_length(body)); /* the length is told, the body is not */
    evhttp_send_reply(evhttp, status, NULL, NULL);
    if (connection == NULL) /* the peer has gone */
        return;
    ebbi_http_outlive_end(connection);
    ebbi_http_cut_if_refused(connection, refused);
    ebbi_http_close_unwatched(connection);
}

static void reply_body(struct evhttp_request *evhttp, struct body_writer *body, int status,
                       const char *content_type) {
    if (ebbi_http_body_end(body))
        ebbi_http_reply(evhttp, status, content_type);
    else
        ebbi_http_reply(evhttp, 503, "text/plain; charset=utf-8");
}

void ebb_http_reply(struct ebb_http_request *request, int status, const char *content_type) {
    ebb_assert(!request->answered, "a second answer to %s", request->path);
    request->answered = true;
    reply_body(request->evhttp, &request->body, status, content_type);
}

/* --- answers that take a while --- */

/* When a peer hangs up in the middle of its answer, evhttp leaves the request to us; when evhttp
 * ends the connection for another reason, it frees the request itself. */
void ebbi_http_gone(struct evhttp_request *evhttp) {
    if (evhttp_request_get_connection(evhttp) == NULL)
        evhttp_request_free(evhttp);
}

struct ebb_http_later {
    struct evhttp_request *evhttp; /* NULL: the peer has gone */
    struct ebb_loop *loop;
    struct ebb_timer *look; /* once its end was read */
    struct body_writer body;
    void (*gone)(void *arg);
    void *arg;
};

static void later_gone(struct evhttp_connection *connection, void *arg) {
    (void)connection;
    struct ebb_http_later *later = arg;
    ebb_timer_close(later->look);
    later->look = NULL;
    ebbi_http_gone(later->evhttp);
    later->evhttp = NULL;
    later->body.buffer = NULL;
    later->gone(later->arg);
}

/* Only while the bufferevent reads: libevent forgets no timeout else. */
void ebbi_http_may_be_silent(struct evhttp_connection *connection) {
    static const struct timeval writing = {HTTP_TIMEOUT_SECONDS, 0};
    bufferevent_set_timeouts(evhttp_connection_get_bufferevent(connection), NULL, &writing);
}

/* evhttp reads on only once it answers. Until then reading, which here ends at the buffer, hears of
 * the connection's end; that nothing comes while it waits is no fault of the peer's. */
static void read_no_request(struct evhttp_connection *connection, bufferevent_event_cb on_event,
                            void *arg) {
    struct bufferevent *its = evhttp_connection_get_bufferevent(connection);
    bufferevent_setcb(its, NULL, NULL, on_event, arg);
    bufferevent_enable(its, EV_READ);
    ebbi_http_may_be_silent(connection);
}

void ebbi_http_hear_of_end(struct evhttp_connection *connection) {
    ebbi_http_outlive_end(connection);
    read_no_request(connection, on_event_but_end, connection);
}

static void look_for_reset(void *arg) {
    struct ebb_http_later *later = arg;
    struct evhttp_connection *connection = evhttp_request_get_connection(later->evhttp);
    struct bufferevent *its = evhttp_connection_get_bufferevent(connection);
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(bufferevent_getfd(its), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0)
        atomic_load (&on_evhttp_event)(its, BEV_EVENT_READING | BEV_EVENT_ERROR, connection);
}

/* Whether a peer that sends no more still reads, only what is sent to it can tell: one that has
 * gone resets the connection. So it hears that its answer is being made (RFC 9110, 15.2: any number
 * of such replies may come before the answer). */
static void on_end_while_waiting(struct bufferevent *its, short what, void *arg) {
    static const char made[] = "HTTP/1.1 102 Processing\r\n\r\n";
    struct ebb_http_later *later = arg;
    if (what != (BEV_EVENT_READING | BEV_EVENT_EOF)) {
        struct evhttp_connection *connection = evhttp_request_get_connection(later->evhttp);
        atomic_load (&on_evhttp_event)(its, what, connection);
        return;
    }
    if (later->evhttp->major == 1 && later->evhttp->minor > 0)
        (void)!send(bufferevent_getfd(its), made, sizeof(made) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    later->look = ebb_timer_try(later->loop, HTTP_LOOK_FOR_RESET_MS, true, look_for_reset, later);
}

struct ebb_http_later *ebb_http_keep(struct ebb_http_request *request, void (*gone)(void *arg),
                                     void *arg) {
    ebb_assert(!request->answered, "an answer to %s that was given already", request->path);
    request->answered = true;
    struct ebb_http_later *later = ebb_new_sized(&ebbi_type_http_later, sizeof(*later));
    *later = (struct ebb_http_later){.evhttp = request->evhttp,
                                     .loop = request->loop,
                                     .body = request->body,
                                     .gone = gone,
                                     .arg = arg};
    struct evhttp_connection *connection = evhttp_request_get_connection(later->evhttp);
    evhttp_connection_set_closecb(connection, later_gone, later);
    ebbi_http_outlive_end(connection); /* which learns evhttp's function */
    read_no_request(connection, on_end_while_waiting, later);
    return later;
}

struct ebb_writer *ebb_http_later_body(struct ebb_http_later *later) {
    return &later->body.writer;
}

void ebb_http_later_reply(struct ebb_http_later *later, int status, const char *content_type) {
    if (later->evhttp) {
        struct evhttp_connection *connection = evhttp_request_get_connection(later->evhttp);
        ebb_timer_close(later->look);
        evhttp_connection_set_closecb(connection, NULL, NULL);
        evhttp_connection_set_timeout(connection, HTTP_TIMEOUT_SECONDS);
        reply_body(later->evhttp, &later->body, status, content_type);
    }
    ebb_done(later);
}

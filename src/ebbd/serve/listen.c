/* listen -- which addresses, out of -l, -p and -s.
 *
 * With a unix socket there is no network, and with -p 0 -U PORT no TCP, as in memcached. An address
 * may bring its own port. Sockets that the service manager bound stand in for the default port. */
#include "server.h"

#include "cmd/events.h"
#include "cmd/metrics.h"

#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/inventory.h>
#include <stdlib.h>
#include <sys/socket.h>

#define ADDRESS_MAX 256 /* bytes */
#define SOCKETS_MAX 64  /* of one listener */
#define SEPARATORS  ",;"
#define CONN_BYTES  8192 /* about what a connection takes, with all that belongs to it */

/* memcached's maxconns_fast. */
static bool reject(const struct server *server, ebb_fd fd) {
    static const char sentence[] = "ERROR Too many open connections\r\n";
    const struct settings *settings = server->shared.settings;
    if (settings->waits_at_limit || atomic_load(&server->conns) < settings->connections)
        return false;
    ebb_count(&ebb_metric_rejected, 1);
    (void)!send(ebb_fd_get(fd), sentence, sizeof(sentence) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    ebb_fd_close(fd);
    return true;
}

static void on_accept(ebb_fd fd, const char *peer, void *arg) {
    struct server *server = arg;
    ebb_log_event(connected, ebb_fd_get(fd), peer);
    if (reject(server, fd))
        return;
    server_relieve(server);
    if (!ebb_charge(CONN_BYTES)) {
        ebb_count(&ebb_metric_rejected, 1);
        ebb_fd_close(fd);
        return;
    }
    ebb_count(&ebb_metric_connections_total, 1);
    uint64_t open = atomic_fetch_add(&server->conns, 1) + 1;
    ebb_gauge_set(&ebb_metric_connections, (int64_t)open);
    if (open >= server->shared.settings->connections && server->shared.settings->waits_at_limit) {
        ebb_count(&ebb_metric_listener_disabled, 1);
        listen_pause(server, true);
    }
    struct worker *worker = server->worker_list[server->worker_next];
    server->worker_next = (server->worker_next + 1) % server->workers_count;
    if (!conn_accept(worker, fd))
        server_conn_gone(server);
}

static void count_pause(struct server *server, bool paused) {
    uint64_t now_ns = ebb_clock_ns();
    if (paused)
        server->paused_ns = now_ns;
    else
        ebb_count(&ebb_metric_listener_disabled_ns, now_ns - server->paused_ns);
}

void listen_pause(struct server *server, bool paused) {
    count_pause(server, paused);
    atomic_store(&server->paused, paused);
    /* One may have closed between the count and the store, and seen no pause to end. */
    if (paused && atomic_load(&server->conns) < server->shared.settings->connections) {
        atomic_store(&server->paused, false);
        count_pause(server, false);
        paused = false;
    }
    ebb_gauge_set(&ebb_metric_accepting, paused ? 0 : 1);
    for (int i = 0; i < server->listeners_count; i++)
        ebb_listener_pause(server->listeners[i], paused);
}

void listen_close(struct server *server) {
    conn_list_forget_sockets();
    for (int i = 0; i < server->listeners_count; i++)
        ebb_listener_close(server->listeners[i]);
    server->listeners_count = 0;
}

static enum ebb_err add_slot(struct server *server) {
    if (server->listeners_count == SERVER_LISTENERS_MAX)
        return ebb_err_set(EBB_ERR_USAGE, "--listen (-l): more than %d addresses",
                           SERVER_LISTENERS_MAX);
    return EBB_OK;
}

/* As the listeners take it, for whom 0 is any. */
static int port_to_bind(uint64_t port) {
    return port == EBB_PORT_ANY ? 0 : (int)port;
}

static enum ebb_err open_tcp(struct server *server, const char *host, int port) {
    enum ebb_err error = add_slot(server);
    if (error)
        return error;
    error = ebb_listener_tcp(&server->listeners[server->listeners_count], server->loop, host, port,
                             (int)server->shared.settings->backlog, on_accept, server);
    server->listeners_count += error ? 0 : 1;
    return error;
}

static enum ebb_err open_unix(struct server *server) {
    const struct settings *settings = server->shared.settings;
    unsigned mode;
    enum ebb_err error = add_slot(server);
    if (error || !settings_unix_mode(settings, &mode))
        return error;
    error = ebb_files_as(settings->user); /* who serves owns it, not who binds */
    if (error)
        return error;
    error =
        ebb_listener_unix(&server->listeners[server->listeners_count], server->loop,
                          settings->unix_socket, mode, (int)settings->backlog, on_accept, server);
    ebb_files_as_ourselves();
    server->listeners_count += error ? 0 : 1;
    return error;
}

static enum ebb_err bad_address(const char *address) {
    return ebb_err_set(EBB_ERR_USAGE,
                       "--listen (-l): \"%s\" is not an address, address:port or [address]:port",
                       address);
}

/* One of "host", "host:port", "[host]:port", "::1"; cuts address in two. */
static enum ebb_err split_address(char *address, char **host, int *port) {
    char *colon = strrchr(address, ':');
    *host = address;
    if (colon == address || strncmp(address, "[]", 2) == 0) /* not every interface by mistake */
        return bad_address(address);
    if (address[0] == '[') {
        char *end = strchr(address, ']');
        if (end == NULL || (end[1] != '\0' && end[1] != ':'))
            return bad_address(address);
        colon = end[1] == ':' ? end + 1 : NULL;
        *end = '\0';
        *host = address + 1;
    } else if (colon && strchr(address, ':') != colon) {
        return EBB_OK; /* a bare IPv6 address */
    }
    if (colon == NULL)
        return EBB_OK;
    char *digits_end;
    long number = strtol(colon + 1, &digits_end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *digits_end || number > UINT16_MAX)
        return bad_address(address);
    *colon = '\0';
    *port = (int)number;
    return EBB_OK;
}

typedef enum ebb_err open_one(struct server *server, const char *host, int port);

/* A list with commas or semicolons, as memcached splits it; default_port for addresses that bring
 * none. */
static enum ebb_err open_list(struct server *server, const char *list, int default_port,
                              open_one *open_address) {
    enum ebb_err error = EBB_OK;
    if (list[strspn(list, SEPARATORS)] == '\0')
        return bad_address(list);
    while (error == EBB_OK && *(list += strspn(list, SEPARATORS))) {
        char address[ADDRESS_MAX], *host;
        size_t length = strcspn(list, SEPARATORS);
        int port = default_port;
        if (length >= sizeof(address))
            return bad_address(list);
        memcpy(address, list, length);
        address[length] = '\0';
        list += length;
        error = split_address(address, &host, &port);
        if (error == EBB_OK)
            error = open_address(server, strcmp(host, "*") == 0 ? NULL : host, port);
    }
    return error;
}

/* Sockets that the service manager bound for us. Those that cannot be accepted from are closed and
 * named. True: there are some. */
static bool open_handed_over(struct server *server) {
    bool any = false;
    while (ebb_inherited_count() > 0 && server->listeners_count < SERVER_LISTENERS_MAX) {
        struct ebb_listener **next = &server->listeners[server->listeners_count];
        if (ebb_listener_inherited(next, server->loop, on_accept, server) != EBB_OK) {
            ebb_log_event(handed_over_unusable, ebb_err_text());
            continue;
        }
        server->listeners_count++;
        any = true;
    }
    return any;
}

/* TCP at every address of -l, else at the default port. */
static enum ebb_err open_all_tcp(struct server *server, bool handed_over) {
    const struct settings *settings = server->shared.settings;
    enum ebb_err error = EBB_OK;
    if (settings->port == 0 && settings->udp_port > 0)
        return EBB_OK;
    for (size_t i = 0; error == EBB_OK && i < settings->listen.count; i++)
        error =
            open_list(server, settings->listen.value[i], port_to_bind(settings->port), open_tcp);
    return settings->listen.count == 0 && !handed_over
               ? open_tcp(server, NULL, port_to_bind(settings->port))
               : error;
}

static enum ebb_err open_udp(struct server *server) {
    const struct settings *settings = server->shared.settings;
    enum ebb_err error = EBB_OK;
    if (settings->udp_port == 0)
        return EBB_OK;
    for (size_t i = 0; error == EBB_OK && i < settings->listen.count; i++)
        error = open_list(server, settings->listen.value[i], port_to_bind(settings->udp_port),
                          udp_open);
    return settings->listen.count == 0 ? udp_open(server, NULL, port_to_bind(settings->udp_port))
                                       : error;
}

static void add_to_conn_list(const struct server *server) {
    int fds[SOCKETS_MAX];
    for (int i = 0; i < server->listeners_count; i++) {
        int count = ebb_listener_descriptors(server->listeners[i], fds, SOCKETS_MAX);
        for (int at = 0; at < count; at++)
            conn_list_add_socket(fds[at], NULL);
    }
    udp_add_to_conn_list(server);
}

enum ebb_err listen_open(struct server *server) {
    const struct settings *settings = server->shared.settings;
    bool handed_over = open_handed_over(server);
    enum ebb_err error =
        settings->unix_socket ? open_unix(server) : open_all_tcp(server, handed_over);
    if (error == EBB_OK && settings->unix_socket == NULL)
        error = open_udp(server);
    for (int i = 0; i < server->listeners_count; i++)
        ebb_listener_when_full(server->listeners[i], leave_one);
    if (error == EBB_OK)
        add_to_conn_list(server);
    return error ? error : ports_write(settings->user);
}

void listen_describe(const struct server *server, struct ebb_writer *writer) {
    const struct settings *settings = server->shared.settings;
    if (settings->unix_socket)
        ebb_write(writer, settings->unix_socket);
    for (int i = 0; i < server->listeners_count; i++) {
        int port = ebb_listener_port(server->listeners[i]);
        if (port > 0)
            ebb_writef(writer, "%sport %d", i > 0 ? ", " : "", port);
    }
    if (settings->unix_socket == NULL && settings->udp_port > 0)
        ebb_writef(writer, "%sUDP port %d", server->listeners_count > 0 ? ", " : "",
                   udp_port(server));
    for (size_t i = 0; i < settings->listen.count && settings->unix_socket == NULL; i++)
        ebb_writef(writer, "%s%s", i ? "," : " of ", settings->listen.value[i]);
}

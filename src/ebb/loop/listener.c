/* listener -- sockets that accept.
 *
 * A listening socket is readable when somebody waits to be accepted. Each iteration takes a bounded
 * number of them, so that those who are connected already are not kept waiting.
 *
 * Descriptors may run out. Then a peer stays in the kernel's queue and the socket stays readable,
 * and a loop that did nothing about it would spin. So: collect, in the hope of forgotten
 * descriptors; try again; else rest a moment with the socket out of the loop. The kernel keeps the
 * queue. The same when the system cannot watch the socket: who rested tries that again.
 *
 * 1. A socket is watched exactly when the listener is neither paused, nor resting, nor closed.
 * 2. The accept function may pause or close the listener: after each call both are looked at again.
 */
#include <ebb/listener.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <ebb/clock.h>
#include <ebb/inventory.h>
#include <ebb/mem.h>

#include "address.h"
#include "gc/types.h"
#include "res/res_internal.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"

#define ACCEPTS_PER_TURN 64
#define REST_MS          100
/* A full collection is costly, so resting again and again does not collect each time. */
#define MAKE_ROOM_INTERVAL_NS EBB_NS_PER_SECOND
#define TELL_INTERVAL_NS      (10 * EBB_NS_PER_SECOND)
/* With port 0 and several addresses all get the same port; somebody may hold it on one of them. */
#define PORT_TRIES 8

struct listening {
    ebb_fd handle;
    struct ebb_watch *watch;
    struct ebb_listener *listener;
};

struct ebb_listener {
    struct ebb_loop *loop;
    struct ebb_scope *scope;
    ebb_accept_fn *fn;
    void *arg;
    void (*full)(void *arg); /* or NULL */
    struct ebb_timer *rest;  /* while resting */
    uint64_t room_made_ns, rest_told_ns;
    struct ebbi_unix_file file; /* what close removes */
    int port, count;
    bool paused, closed;
    struct listening sockets[EBBI_ADDRESSES_MAX];
};

static void watches_pause(struct ebb_listener *listener) {
    for (int i = 0; i < listener->count; i++)
        ebb_watch_pause(listener->sockets[i].watch);
}

static void rest(struct ebb_listener *listener);

static void watches_update(struct ebb_listener *listener) {
    if (listener->paused || listener->rest != NULL) {
        watches_pause(listener);
        return;
    }
    for (int i = 0; i < listener->count; i++)
        if (ebb_watch_set(listener->sockets[i].watch, EBB_READ) != EBB_OK) {
            rest(listener);
            return;
        }
}

static void on_rested(void *arg) {
    struct ebb_listener *listener = arg;
    ebb_timer_close(listener->rest);
    listener->rest = NULL;
    watches_update(listener);
}

/* The reason is this thread's latest sentence (ebb_err_text). */
static void rest(struct ebb_listener *listener) {
    uint64_t now_ns = ebb_clock_ns();
    ebb_count(&ebb_metric_accept_rests, 1);
    if (listener->rest_told_ns == 0 || now_ns - listener->rest_told_ns > TELL_INTERVAL_NS) {
        ebb_log_event(accept_rests, ebb_err_text(), REST_MS);
        listener->rest_told_ns = now_ns;
    }
    if (listener->rest == NULL)
        listener->rest = ebb_timer_open(listener->loop, REST_MS, false, on_rested, listener);
    watches_pause(listener);
}

static bool make_room(struct ebb_listener *listener, int error) {
    uint64_t now_ns = ebb_clock_ns();
    if (listener->room_made_ns != 0 && now_ns - listener->room_made_ns < MAKE_ROOM_INTERVAL_NS)
        return false;
    if (!ebbi_fd_make_room(error))
        return false;
    listener->room_made_ns = ebb_clock_ns();
    return true;
}

/* Errors that concern the one peer, who is gone, or a network that was down for a moment
 * (accept(2)). */
static bool is_peers_error(int error) {
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPERM:
    case ENETDOWN:
    case EPROTO:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

/* The next peer's descriptor, or -1 with errno. */
static int accept_one(struct ebb_listener *listener, int fd, char *peer, size_t peer_size) {
    struct sockaddr_storage from = {0};
    for (int attempt = 0;; attempt++) {
        socklen_t length = sizeof from;
        int got = accept4(fd, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (got >= 0) {
            ebbi_address_text(&from, peer, peer_size);
            return got;
        }
        int error = errno;
        if (attempt > 0 || !make_room(listener, error)) {
            errno = error;
            return -1;
        }
    }
}

static void on_waiting(int events, void *arg) {
    (void)events;
    struct listening *from = arg;
    struct ebb_listener *listener = from->listener;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        if (listener->closed || listener->paused)
            return;
        char peer[EBBI_ADDRESS_TEXT];
        int fd = accept_one(listener, ebb_fd_get(from->handle), peer, sizeof peer);
        if (fd < 0 && is_peers_error(errno))
            continue;
        if (fd < 0 && errno == EAGAIN)
            return;
        if (fd < 0) {
            (void)ebbi_fd_refused(errno, "accept a connection");
            rest(listener);
            if (listener->full != NULL)
                listener->full(listener->arg);
            return;
        }
        ebb_fd connection;
        if (ebb_fd_adopt(&connection, listener->scope, EBB_RESOURCE_socket, fd, peer) != EBB_OK) {
            rest(listener);
            return;
        }
        listener->fn(connection, peer, listener->arg);
    }
}

static void sockets_close(struct ebb_listener *listener) {
    for (int i = 0; i < listener->count; i++) {
        ebb_watch_close(listener->sockets[i].watch);
        ebb_fd_close(listener->sockets[i].handle);
    }
    listener->count = 0;
}

static struct ebb_listener *listener_new(struct ebb_loop *loop, ebb_accept_fn *fn, void *arg) {
    struct ebb_listener *listener = ebb_new_sized(&ebbi_type_listener, sizeof *listener);
    listener->loop = loop;
    listener->fn = fn;
    listener->arg = arg;
    listener->scope = ebb_scope_new("listener");
    return listener;
}

/* Watches the socket that was adopted last. */
static enum ebb_err socket_watch(struct ebb_listener *listener) {
    struct listening *at = &listener->sockets[listener->count++];
    at->listener = listener;
    return ebb_watch_open(&at->watch, listener->loop, at->handle, EBB_READ, on_waiting, at);
}

/* Adopts a listening descriptor and watches it. */
static enum ebb_err socket_add(struct ebb_listener *listener, int fd, const char *name) {
    struct listening *at = &listener->sockets[listener->count];
    enum ebb_err err = ebb_fd_adopt(&at->handle, listener->scope, EBB_RESOURCE_listener, fd, name);
    return err == EBB_OK ? socket_watch(listener) : err;
}

/* Opens every address that can be had. One that this machine does not have (no IPv6, say) is
 * skipped while another works. *busy_elsewhere: the port that the system chose for the first is
 * taken on another. */
static enum ebb_err tcp_open(struct ebb_listener *listener, struct ebbi_addresses *addresses,
                             int backlog, bool *busy_elsewhere) {
    enum ebb_err err = EBB_OK;
    *busy_elsewhere = false;
    for (int i = 0; i < addresses->count; i++) {
        struct sockaddr_storage *address = &addresses->at[i];
        if (listener->port != 0)
            ebbi_address_set_port(address, listener->port);
        char name[EBBI_ADDRESS_TEXT];
        int fd = -1, error = 0;
        ebbi_address_text(address, name, sizeof name);
        err = ebbi_tcp_listen(address, name, backlog, &fd, &error);
        if (err != EBB_OK && (error == EAFNOSUPPORT || error == EADDRNOTAVAIL))
            continue;
        if (err == EBB_ERR_BUSY && i > 0)
            *busy_elsewhere = true;
        if (err != EBB_OK)
            return err;
        int port = ebbi_port_of(fd);
        ebbi_address_set_port(address, port);
        ebbi_address_text(address, name, sizeof name);
        err = socket_add(listener, fd, name);
        if (err != EBB_OK)
            return err;
        listener->port = listener->port == 0 ? port : listener->port;
    }
    return listener->count > 0 ? EBB_OK : err;
}

enum ebb_err ebb_listener_tcp(struct ebb_listener **out, struct ebb_loop *loop, const char *host,
                              int port, int backlog, ebb_accept_fn *fn, void *arg) {
    struct ebbi_addresses addresses;
    enum ebb_err err = ebbi_addresses_find(&addresses, host, port);
    if (err != EBB_OK)
        return err;
    struct ebb_listener *listener = listener_new(loop, fn, arg);
    for (int attempt = 1;; attempt++) {
        bool busy_elsewhere;
        listener->port = port;
        err = tcp_open(listener, &addresses, backlog, &busy_elsewhere);
        if (err == EBB_OK) {
            *out = listener;
            return EBB_OK;
        }
        sockets_close(listener);
        if (port != 0 || !busy_elsewhere || attempt == PORT_TRIES)
            break;
        ebbi_addresses_set_port(&addresses, 0);
    }
    ebb_listener_close(listener);
    return err;
}

enum ebb_err ebb_listener_unix(struct ebb_listener **out, struct ebb_loop *loop, const char *path,
                               unsigned mode, int backlog, ebb_accept_fn *fn, void *arg) {
    struct ebb_listener *listener = listener_new(loop, fn, arg);
    int fd = -1;
    enum ebb_err err = ebbi_unix_listen(path, mode, backlog, &fd, &listener->file);
    if (err == EBB_OK)
        err = socket_add(listener, fd, path);
    if (err != EBB_OK) {
        ebb_listener_close(listener);
        return err;
    }
    *out = listener;
    return EBB_OK;
}

/* A socket that somebody else bound and listens at: is it one that we can accept from? */
static bool is_listening_stream(int fd) {
    int listening = 0, type = 0;
    socklen_t length = sizeof listening, type_length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) == 0 && listening != 0 &&
           type == SOCK_STREAM;
}

enum ebb_err ebb_listener_inherited(struct ebb_listener **out, struct ebb_loop *loop,
                                    ebb_accept_fn *fn, void *arg) {
    struct ebb_listener *listener = listener_new(loop, fn, arg);
    struct listening *at = &listener->sockets[0];
    enum ebb_err err = ebb_inherited_adopt(&at->handle, listener->scope);
    int fd = ebb_fd_get(at->handle);
    if (err == EBB_OK && !is_listening_stream(fd))
        err = ebb_err_set(EBB_ERR_USAGE,
                          "descriptor %d from the service manager is no listening stream socket; "
                          "closed",
                          fd);
    if (err == EBB_OK)
        err = socket_watch(listener);
    if (err != EBB_OK) {
        ebb_listener_close(listener);
        return err;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    listener->port = ebbi_port_of(fd);
    *out = listener;
    return EBB_OK;
}

void ebb_listener_when_full(struct ebb_listener *listener, void (*full)(void *arg)) {
    listener->full = full;
}

int ebb_listener_port(const struct ebb_listener *listener) {
    return listener->port;
}

int ebb_listener_descriptors(const struct ebb_listener *listener, int *out, int most) {
    int count = listener->count < most ? listener->count : most;
    for (int i = 0; i < count; i++)
        out[i] = ebb_fd_get(listener->sockets[i].handle);
    return count;
}

void ebb_listener_pause(struct ebb_listener *listener, bool paused) {
    listener->paused = paused;
    watches_update(listener);
}

void ebb_listener_close(struct ebb_listener *listener) {
    if (listener == NULL)
        return;
    listener->closed = true;
    ebb_timer_close(listener->rest);
    listener->rest = NULL;
    sockets_close(listener);
    ebbi_unix_file_remove(&listener->file);
    ebb_scope_close(listener->scope);
    ebb_done(listener);
}

/* echo -- a whole daemon over libebb: it sends back what it is sent.
 *
 * A connection is an OWNED object that lives in a list. It has a scope, the scope has the socket,
 * and a watch tells when the socket is ready. Letting go is one function, conn_close. Nothing is
 * freed: the collector takes the memory when the last pointer is gone, and would name this file and
 * line if we forgot the ebb_done.
 *
 * 1. A connection is in the list from accept to conn_close; the list is what keeps it alive.
 * 2. It reads only while its buffer is empty, so a peer that never reads costs one buffer and no
 * more. It sends at once what it has read, and waits for room only when the peer is slow. */
#include <ebb/ebb.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#define BUFFER_BYTES    4096
#define BACKLOG         64
#define BUDGET_BYTES    (16u << 20)
#define STATUS_OF_USAGE 64

struct settings {
#define EBB_SETTING EBB_SETTING_MEMBER
#include "settings.def"
};

static const struct ebb_setting setting_rows[] = {
#define EBB_SETTING(...) EBB_SETTING_ROW(settings, __VA_ARGS__)
#include "settings.def"
};

struct conn {
    struct ebb_list link;
    struct ebb_scope *scope;
    struct ebb_watch *watch;
    ebb_fd socket;
    char *buffer;
    size_t used, sent;
};

#define EBB_TYPE EBB_TYPE_DEFINE
#include "types.def"

static struct ebb_type *const types[] = {
#define EBB_TYPE EBB_TYPE_ADDRESS
#include "types.def"
};

static struct settings settings;
static struct ebb_list conns = EBB_LIST_INIT(conns);
static struct ebb_listener *listener;

static void conn_close(struct conn *conn) {
    ebb_list_remove(&conn->link);
    ebb_watch_close(conn->watch);
    ebb_scope_close(conn->scope); /* closes the socket */
    ebb_done(conn);
}

/* True while the connection is good: the call worked, or has to wait. */
static bool carry_on(ssize_t moved) {
    return moved > 0 || (moved < 0 && (errno == EAGAIN || errno == EINTR));
}

static void on_ready(int events, void *arg) {
    struct conn *conn = arg;
    int fd = ebb_fd_get(conn->socket);
    if (events & EBB_READ) {
        ssize_t got = read(fd, conn->buffer, BUFFER_BYTES);
        conn->used = got > 0 ? (size_t)got : 0;
        conn->sent = 0;
        if (!carry_on(got)) {
            conn_close(conn);
            return;
        }
    }
    if (conn->sent < conn->used) {
        ssize_t put = send(fd, conn->buffer + conn->sent, conn->used - conn->sent, MSG_NOSIGNAL);
        conn->sent += put > 0 ? (size_t)put : 0;
        if (!carry_on(put)) {
            conn_close(conn);
            return;
        }
    }
    if (ebb_watch_set(conn->watch, conn->sent < conn->used ? EBB_WRITE : EBB_READ) != EBB_OK)
        conn_close(conn);
}

static void on_accept(ebb_fd socket, const char *peer, void *arg) {
    struct ebb_loop *loop = arg;
    struct conn *conn = ebb_new(conn);
    conn->scope = ebb_scope_new("conn");
    conn->socket = socket;
    conn->buffer = ebb_bytes(BUFFER_BYTES);
    ebb_fd_give(socket, conn->scope);
    ebb_list_append(&conns, &conn->link);
    ebb_log_debug("echo", "%s came", peer);
    if (ebb_watch_open(&conn->watch, loop, socket, EBB_READ, on_ready, conn) != EBB_OK)
        conn_close(conn);
}

static enum ebb_err start(struct ebb_daemon *daemon, struct ebb_loop *loop, void *arg) {
    (void)daemon;
    (void)arg;
    return ebb_listener_tcp(&listener, loop, "127.0.0.1", (int)settings.port, BACKLOG, on_accept,
                            loop);
}

static void ready(struct ebb_daemon *daemon, void *arg) {
    (void)daemon;
    (void)arg;
    printf("echo: listening on 127.0.0.1:%d\n", ebb_listener_port(listener));
    fflush(stdout);
}

static void stop(struct ebb_daemon *daemon, void *arg) {
    (void)daemon;
    (void)arg;
    ebb_listener_close(listener);
    listener = NULL;
    EBB_LIST_EACH (&conns, link)
        conn_close(EBB_LIST_ENTRY(link, struct conn, link));
}

static void print_help(void) {
    struct ebb_fd_writer out;
    ebb_fd_writer_init(&out, STDOUT_FILENO);
    ebb_settings_write_help(setting_rows, sizeof setting_rows / sizeof *setting_rows, &out.writer);
}

int main(int argc, char **argv) {
    size_t rows = sizeof setting_rows / sizeof *setting_rows;
    if (ebb_settings_parse(setting_rows, rows, &settings, argc, argv) != EBB_OK) {
        fprintf(stderr, "echo: %s\n", ebb_err_text());
        return STATUS_OF_USAGE;
    }
    if (settings.help) {
        print_help();
        return 0;
    }
    const struct ebb_daemon_plan plan = {
        .name = "echo",
        .version = "1",
        .gc_profile = settings.gc_profile,
        .admin = settings.admin,
        .budget = BUDGET_BYTES,
        .types = types,
        .types_count = sizeof types / sizeof *types,
        .start = start,
        .ready = ready,
        .stop = stop,
    };
    return ebb_daemon_run(&plan);
}

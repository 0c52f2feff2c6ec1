/* Listeners: real peers connect over TCP (both families) and unix sockets; ports are those the
 * system gives. */
#include "harness.h"
#include "refuse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <ebb/listener.h>
#include <ebb/thread.h>

#include "telemetry/metrics.h"

#define BACKLOG  128
#define PEERS    100 /* more than an iteration accepts */
#define OWN_MODE 0600

struct host {
    struct ebb_loop *loop;
    struct ebb_listener *listener;
    struct ebb_scope *scope; /* of accepted connections */
    int accepted, wanted;
    char peer[64];
    ebb_fd last;
};

static struct host host_open(void) {
    struct host host = {.wanted = 1};
    ebb_loop_library_start();
    ck_assert_msg(ebb_loop_new(&host.loop, "test") == EBB_OK, "%s", ebb_err_text());
    host.scope = ebb_scope_new("connections");
    return host;
}

static void host_close(struct host *host) {
    ebb_listener_close(host->listener);
    ebb_scope_close(host->scope);
    ebb_loop_close(host->loop);
    ck_assert_uint_eq(ebb_resources_each(NULL, NULL), 0);
}

static void on_accept(ebb_fd connection, const char *peer, void *arg) {
    struct host *host = arg;
    snprintf(host->peer, sizeof host->peer, "%s", peer);
    ebb_fd_give(connection, host->scope);
    host->last = connection;
    if (++host->accepted == host->wanted)
        ebb_loop_stop(host->loop);
}

static void listen_tcp(struct host *host, const char *name, int port) {
    enum ebb_err err =
        ebb_listener_tcp(&host->listener, host->loop, name, port, BACKLOG, on_accept, host);
    ck_assert_msg(err == EBB_OK, "%s", ebb_err_text());
}

static int connect_ipv4(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_msg(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "%s", strerror(errno));
    return fd;
}

static int connect_ipv6(int port) {
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 to = {.sin6_family = AF_INET6,
                              .sin6_port = htons((uint16_t)port),
                              .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    ck_assert_msg(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "%s", strerror(errno));
    return fd;
}

static int connect_unix(const char *path) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    ck_assert_msg(connect(fd, (struct sockaddr *)&to, sizeof to) == 0, "%s", strerror(errno));
    return fd;
}

static bool has_ipv6(void) {
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool has = fd >= 0 && bind(fd, (struct sockaddr *)&any, sizeof any) == 0;
    if (fd >= 0)
        close(fd);
    return has;
}

START_TEST(a_tcp_peer_is_accepted_and_named) {
    struct host host = host_open();
    listen_tcp(&host, "127.0.0.1", 0);
    ck_assert_int_gt(ebb_listener_port(host.listener), 0);
    int peer = connect_ipv4(ebb_listener_port(host.listener));
    ebb_loop_run(host.loop);

    struct sockaddr_in own;
    socklen_t length = sizeof own;
    getsockname(peer, (struct sockaddr *)&own, &length);
    char expected[64];
    snprintf(expected, sizeof expected, "127.0.0.1:%d", ntohs(own.sin_port));
    ck_assert_str_eq(host.peer, expected);

    int fd = ebb_fd_get(host.last), no_delay = 0;
    length = sizeof no_delay;
    ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &length), 0);
    ck_assert_int_ne(no_delay, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    close(peer);
    host_close(&host);
}
END_TEST

START_TEST(every_interface_means_both_families_on_one_port) {
    if (!has_ipv6())
        return;
    struct host host = host_open();
    host.wanted = 2;
    listen_tcp(&host, NULL, 0);
    int four = connect_ipv4(ebb_listener_port(host.listener));
    int six = connect_ipv6(ebb_listener_port(host.listener));
    ebb_loop_run(host.loop);
    ck_assert_int_eq(host.accepted, 2);
    close(four);
    close(six);
    host_close(&host);
}
END_TEST

START_TEST(an_ipv6_peer_is_named_in_brackets) {
    if (!has_ipv6())
        return;
    struct host host = host_open();
    listen_tcp(&host, "::1", 0);
    int peer = connect_ipv6(ebb_listener_port(host.listener));
    ebb_loop_run(host.loop);
    ck_assert_int_eq(strncmp(host.peer, "[::1]:", 6), 0);
    close(peer);
    host_close(&host);
}
END_TEST

START_TEST(more_peers_than_a_turn_takes_are_all_accepted) {
    struct host host = host_open();
    listen_tcp(&host, "127.0.0.1", 0);
    static int peer[PEERS];
    for (int i = 0; i < PEERS; i++)
        peer[i] = connect_ipv4(ebb_listener_port(host.listener));
    host.wanted = PEERS;
    ebb_loop_run(host.loop);
    ck_assert_int_eq(host.accepted, PEERS);
    ck_assert_uint_eq(ebb_resources_count(EBB_RESOURCE_socket), PEERS);
    for (int i = 0; i < PEERS; i++)
        close(peer[i]);
    host_close(&host);
}
END_TEST

START_TEST(a_port_in_use_is_named) {
    struct host host = host_open();
    listen_tcp(&host, "127.0.0.1", 0);
    int port = ebb_listener_port(host.listener);
    struct ebb_listener *second;
    ck_assert_int_eq(
        ebb_listener_tcp(&second, host.loop, "127.0.0.1", port, BACKLOG, on_accept, &host),
        EBB_ERR_BUSY);
    char expected[200];
    snprintf(expected, sizeof expected,
             "cannot listen on 127.0.0.1:%d: address in use by another program; choose another "
             "--port or stop it",
             port);
    ck_assert_str_eq(ebb_err_text(), expected);
    host_close(&host);
}
END_TEST

START_TEST(a_host_that_is_not_known_or_not_ours_is_named) {
    struct host host = host_open();
    struct ebb_listener *listener;
    ck_assert_int_eq(
        ebb_listener_tcp(&listener, host.loop, "no such host", 0, BACKLOG, on_accept, &host),
        EBB_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), "no such host"));
    /* 192.0.2.0/24 is for documentation (RFC 5737): no machine has it. */
    ck_assert_int_eq(
        ebb_listener_tcp(&listener, host.loop, "192.0.2.1", 0, BACKLOG, on_accept, &host),
        EBB_ERR_SYSTEM);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), "192.0.2.1:0"));
    host_close(&host);
}
END_TEST

struct folder {
    char path[64], socket[96];
};

static struct folder folder_open(void) {
    struct folder folder = {.path = "/tmp/ebb-listener-XXXXXX"};
    ck_assert_ptr_nonnull(mkdtemp(folder.path));
    snprintf(folder.socket, sizeof folder.socket, "%s/socket", folder.path);
    return folder;
}

static enum ebb_err listen_unix(struct host *host, const char *path, unsigned mode) {
    return ebb_listener_unix(&host->listener, host->loop, path, mode, BACKLOG, on_accept, host);
}

START_TEST(a_unix_peer_is_accepted_and_the_file_goes_with_the_listener) {
    struct folder folder = folder_open();
    struct host host = host_open();
    ck_assert_msg(listen_unix(&host, folder.socket, 0766) == EBB_OK, "%s", ebb_err_text());
    struct stat is;
    ck_assert_int_eq(stat(folder.socket, &is), 0);
    ck_assert_uint_eq(is.st_mode & 0777, 0766); /* whatever the umask */
    int peer = connect_unix(folder.socket);
    ebb_loop_run(host.loop);
    ck_assert_str_eq(host.peer, "unix");
    close(peer);
    host_close(&host);
    ck_assert_int_eq(rmdir(folder.path), 0); /* it is empty */
}
END_TEST

START_TEST(a_stale_socket_is_replaced_and_a_live_one_is_not) {
    struct folder folder = folder_open();
    struct host host = host_open();
    int dead = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    snprintf(at.sun_path, sizeof at.sun_path, "%s", folder.socket);
    ck_assert_int_eq(bind(dead, (struct sockaddr *)&at, sizeof at), 0);
    close(dead);
    ck_assert_msg(listen_unix(&host, folder.socket, OWN_MODE) == EBB_OK, "%s", ebb_err_text());
    struct host second = {.loop = host.loop};
    ck_assert_int_eq(listen_unix(&second, folder.socket, OWN_MODE), EBB_ERR_BUSY);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), folder.socket));
    int peer = connect_unix(folder.socket); /* the first still answers */
    close(peer);
    host_close(&host);
    rmdir(folder.path);
}
END_TEST

START_TEST(a_file_that_is_no_socket_is_left_alone) {
    struct folder folder = folder_open();
    struct host host = host_open();
    int fd = open(folder.socket, O_CREAT | O_WRONLY | O_CLOEXEC, OWN_MODE);
    ck_assert_int_eq(write(fd, "precious", 8), 8);
    close(fd);
    ck_assert_int_eq(listen_unix(&host, folder.socket, OWN_MODE), EBB_ERR_BUSY);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), "not a socket"));
    struct stat is;
    ck_assert_int_eq(stat(folder.socket, &is), 0);
    ck_assert_int_eq(is.st_size, 8);
    unlink(folder.socket);
    char path[200];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    ck_assert_int_eq(listen_unix(&host, path, OWN_MODE), EBB_ERR_USAGE);
    host_close(&host);
    rmdir(folder.path);
}
END_TEST

START_TEST(a_socket_file_of_somebody_else_is_not_removed) {
    struct folder folder = folder_open();
    struct host host = host_open();
    ck_assert_int_eq(listen_unix(&host, folder.socket, OWN_MODE), EBB_OK);
    char moved[120];
    snprintf(moved, sizeof moved, "%s.old", folder.socket);
    ck_assert_int_eq(rename(folder.socket, moved), 0);
    int fd = open(folder.socket, O_CREAT | O_WRONLY | O_CLOEXEC, OWN_MODE);
    close(fd);
    host_close(&host);
    ck_assert_int_eq(access(folder.socket, F_OK), 0);
    unlink(folder.socket);
    unlink(moved);
    rmdir(folder.path);
}
END_TEST

static void resume(void *arg) {
    struct host *host = arg;
    ck_assert_int_eq(host->accepted, 0);
    ebb_listener_pause(host->listener, false);
}

START_TEST(a_paused_listener_lets_peers_wait) {
    struct host host = host_open();
    listen_tcp(&host, "127.0.0.1", 0);
    ebb_listener_pause(host.listener, true);
    int peer = connect_ipv4(ebb_listener_port(host.listener));
    struct ebb_timer *timer = ebb_timer_open(host.loop, 30, false, resume, &host);
    ebb_loop_run(host.loop);
    ck_assert_int_eq(host.accepted, 1);
    ebb_timer_close(timer);
    close(peer);
    host_close(&host);
}
END_TEST

static void on_accept_close_listener(ebb_fd connection, const char *peer, void *arg) {
    struct host *host = arg;
    (void)peer;
    ebb_fd_close(connection);
    host->accepted++;
    ebb_listener_close(host->listener);
    host->listener = NULL;
    ebb_loop_stop(host->loop);
}

START_TEST(a_listener_may_be_closed_while_it_accepts) {
    struct host host = host_open();
    ck_assert_int_eq(ebb_listener_tcp(&host.listener, host.loop, "127.0.0.1", 0, BACKLOG,
                                      on_accept_close_listener, &host),
                     EBB_OK);
    int port = ebb_listener_port(host.listener);
    int one = connect_ipv4(port), two = connect_ipv4(port);
    ebb_loop_run(host.loop);
    ck_assert_int_eq(host.accepted, 1);
    close(one);
    close(two);
    host_close(&host);
}
END_TEST

/* Takes every descriptor that is left, so that the next one is refused. Returns how many. */
static int fill(int filler[], int room) {
    int count = 0;
    for (int fd; count < room && (fd = dup(STDIN_FILENO)) >= 0;)
        filler[count++] = fd;
    ck_assert_int_eq(errno, EMFILE);
    return count;
}

struct crowd {
    struct rlimit before;
    int filler[64], filled;
    struct ebb_timer *check;
    uint64_t rests_before;
};

/* Once the listener has rested, descriptors come back and so must the peer. */
static void relieve(void *arg) {
    struct crowd *crowd = arg;
    if (crowd->filled == 0 || ebb_metric_value(&ebb_metric_accept_rests) == crowd->rests_before)
        return;
    while (crowd->filled > 0)
        close(crowd->filler[--crowd->filled]);
}

START_TEST(a_listener_rests_while_descriptors_are_used_up_and_recovers) {
    struct host host = host_open();
    struct crowd crowd = {.rests_before = ebb_metric_value(&ebb_metric_accept_rests)};
    listen_tcp(&host, "127.0.0.1", 0);
    int peer = connect_ipv4(ebb_listener_port(host.listener));
    crowd.check = ebb_timer_open(host.loop, 5, true, relieve, &crowd);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &crowd.before), 0);
    struct rlimit low = crowd.before;
    low.rlim_cur = (rlim_t)peer + 8;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    crowd.filled = fill(crowd.filler, 64);
    ebb_loop_run(host.loop); /* ends with the accepted peer */
    ck_assert_int_eq(host.accepted, 1);
    ck_assert_uint_gt(ebb_metric_value(&ebb_metric_accept_rests), crowd.rests_before);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &crowd.before), 0);
    ebb_timer_close(crowd.check);
    close(peer);
    host_close(&host);
}
END_TEST

START_TEST(a_listener_that_cannot_be_watched_is_not_opened) {
    struct host host = host_open();
    refuse_watches(0, 1);
    ck_assert_int_eq(
        ebb_listener_tcp(&host.listener, host.loop, "127.0.0.1", 0, BACKLOG, on_accept, &host),
        EBB_ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), "fs.epoll.max_user_watches"));
    ck_assert_uint_eq(ebb_resources_count(EBB_RESOURCE_listener), 0);
    host_close(&host);
}
END_TEST

START_TEST(a_listener_that_cannot_be_watched_any_more_tries_again) {
    struct host host = host_open();
    listen_tcp(&host, "127.0.0.1", 0);
    int peer = connect_ipv4(ebb_listener_port(host.listener));
    uint64_t rests = ebb_metric_value(&ebb_metric_accept_rests);
    ebb_listener_pause(host.listener, true);
    refuse_watches(0, 2);
    ebb_listener_pause(host.listener, false);
    ebb_loop_run(host.loop); /* ends with the accepted peer */
    ck_assert_int_eq(host.accepted, 1);
    ck_assert_uint_eq(ebb_metric_value(&ebb_metric_accept_rests) - rests, 2);
    close(peer);
    host_close(&host);
}
END_TEST

void forget_descriptors(void *arg);

/* On a thread of its own, whose stack is gone when the collector looks. */
void forget_descriptors(void *arg) {
    (void)arg;
    struct ebb_scope *scope = ebb_scope_new("forgetful");
    for (int fd; (fd = dup(STDIN_FILENO)) >= 0;) {
        ebb_fd handle;
        if (ebb_fd_adopt(&handle, scope, EBB_RESOURCE_file, fd, "forgotten") != EBB_OK)
            abort();
    }
}

START_TEST(accepting_takes_back_forgotten_descriptors) {
    struct host host = host_open();
    listen_tcp(&host, "127.0.0.1", 0);
    int peer = connect_ipv4(ebb_listener_port(host.listener));
    struct rlimit before, low;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = (rlim_t)peer + 8;
    uint64_t rests = ebb_metric_value(&ebb_metric_accept_rests);
    uint64_t forgotten = ebb_resources_forgotten();
    struct ebb_thread *thread;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
    ck_assert_int_eq(ebb_thread_start(&thread, "forget", forget_descriptors, NULL), EBB_OK);
    ebb_thread_join(thread);
    ebb_loop_run(host.loop);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ck_assert_int_eq(host.accepted, 1);
    ck_assert_uint_gt(ebb_resources_forgotten(), forgotten);
    ck_assert_uint_eq(ebb_metric_value(&ebb_metric_accept_rests), rests);
    close(peer);
    host_close(&host);
}
END_TEST

HARNESS_MAIN_COLLECTED("listener", a_tcp_peer_is_accepted_and_named,
                       every_interface_means_both_families_on_one_port,
                       an_ipv6_peer_is_named_in_brackets,
                       more_peers_than_a_turn_takes_are_all_accepted, a_port_in_use_is_named,
                       a_host_that_is_not_known_or_not_ours_is_named,
                       a_unix_peer_is_accepted_and_the_file_goes_with_the_listener,
                       a_stale_socket_is_replaced_and_a_live_one_is_not,
                       a_file_that_is_no_socket_is_left_alone,
                       a_socket_file_of_somebody_else_is_not_removed,
                       a_paused_listener_lets_peers_wait, a_listener_may_be_closed_while_it_accepts,
                       a_listener_rests_while_descriptors_are_used_up_and_recovers,
                       a_listener_that_cannot_be_watched_is_not_opened,
                       a_listener_that_cannot_be_watched_any_more_tries_again,
                       accepting_takes_back_forgotten_descriptors)

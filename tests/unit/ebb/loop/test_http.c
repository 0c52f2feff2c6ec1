/* http: real requests over real sockets to a server on a worker's loop. */
#include "client.h"
#include "harness.h"
#include "refuse.h"

#include <dirent.h>
#include <ebb/fd.h>
#include <ebb/http.h>
#include <ebb/leak.h>
#include <ebb/scope.h>
#include <ebb/worker.h>
#include <poll.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>

#define MANY_CONNECTIONS 200

/* Memory as it is when the system refuses it: of the blocks that libevent asks for on the server's
 * thread, of so many bytes at least, so many pass, then so many are refused; and large pages all or
 * none. */
static _Atomic int memory_passes, memory_refusals;
static _Atomic size_t memory_least;
static _Atomic bool pages_refused;
static _Thread_local bool is_server;

void *__real_ebb_foreign_realloc(struct ebb_type *type, void *object, size_t size);
void *__wrap_ebb_foreign_realloc(struct ebb_type *type, void *object, size_t size);
void *__real_ebb_try_sized(struct ebb_type *type, size_t size);
void *__wrap_ebb_try_sized(struct ebb_type *type, size_t size);

void *__wrap_ebb_foreign_realloc(struct ebb_type *type, void *object, size_t size) {
    if (is_server && atomic_load(&memory_refusals) > 0 && size >= atomic_load(&memory_least) &&
        atomic_fetch_sub(&memory_passes, 1) <= 0) {
        atomic_fetch_sub(&memory_refusals, 1);
        return NULL;
    }
    return __real_ebb_foreign_realloc(type, object, size);
}

void *__wrap_ebb_try_sized(struct ebb_type *type, size_t size) {
    return atomic_load(&pages_refused) ? NULL : __real_ebb_try_sized(type, size);
}

static struct ebb_workers *workers;
static struct ebb_http *http;
static enum ebb_err opened;
static sem_t is_open;
static char answer[256 * 1024];

static void echo(struct ebb_http_request *request, void *arg) {
    const char *name = ebb_http_query(request, "name"),
               *color = ebb_http_header(request, "X-Color");
    ebb_writef(ebb_http_body(request), "%s|%s|%s|%s|%s\n", (const char *)arg,
               ebb_http_path(request), name ? name : "-", color ? color : "-",
               ebb_http_is_post(request) ? "post" : "get");
    ebb_http_reply(request, 200, "text/plain");
}

static void open_server(int index, struct ebb_loop *loop, void *arg) {
    (void)index;
    is_server = true;
    opened = ebb_http_open(&http, loop, "127.0.0.1", 0);
    if (opened == EBB_OK)
        ebb_http_handle(http, echo, arg);
    sem_post(&is_open);
}

static void close_server(int index, void *arg) {
    (void)index;
    (void)arg;
    ebb_http_close(http);
    http = NULL;
}

static void start_server(void) {
    signal(SIGPIPE, SIG_IGN); /* as in every daemon */
    ebb_loop_library_start();
    sem_init(&is_open, 0, 0);
    enum ebb_err error = ebb_workers_start(&workers, "http", 1, open_server, (void *)"echo");
    ck_assert_msg(error == EBB_OK, "%s", ebb_err_text());
    while (sem_wait(&is_open) != 0) /* the collector's signals interrupt it */
        ;
    ck_assert_int_eq(opened, EBB_OK);
}

static void stop_server(void) {
    ebb_workers_stop(workers, close_server, NULL);
    workers = NULL;
    ck_assert_uint_eq(ebb_resources_count(EBB_RESOURCE_listener), 0);
}

/* Sends text as it is; what comes back until the end stands in answer. Returns the status. */
static int send_raw(const char *text, size_t length) {
    int fd = client_connect(ebb_http_port(http)), status = 0;
    send(fd, text, length, MSG_NOSIGNAL);
    shutdown(fd, SHUT_WR);
    client_read_all(fd, answer, sizeof(answer));
    close(fd);
    sscanf(answer, "HTTP/1.%*d %d", &status);
    return status;
}

START_TEST(path_query_header_and_method_arrive_decoded) {
    start_server();
    int port = ebb_http_port(http);
    ck_assert_int_eq(client_request(port, "GET", "/a%20b?x=1&name=c%2fd", answer, sizeof(answer)),
                     200);
    ck_assert_str_eq(client_body(answer), "echo|/a b|c/d|-|get\n");
    ck_assert_int_eq(client_request(port, "POST", "/", answer, sizeof(answer)), 200);
    ck_assert_str_eq(client_body(answer), "echo|/|-|-|post\n");
    const char *text = "GET / HTTP/1.1\r\nHost: a\r\nx-color: red\r\nConnection: close\r\n\r\n";
    ck_assert_int_eq(send_raw(text, strlen(text)), 200);
    ck_assert_str_eq(client_body(answer), "echo|/|-|red|get\n");
    stop_server();
}
END_TEST

START_TEST(head_has_the_length_and_no_body) {
    start_server();
    ck_assert_int_eq(client_request(ebb_http_port(http), "HEAD", "/", answer, sizeof(answer)), 200);
    ck_assert_ptr_nonnull(strstr(answer, "Content-Length: 15\r\n"));
    ck_assert_str_eq(client_body(answer), "");
    stop_server();
}
END_TEST

START_TEST(other_methods_hear_405_and_what_is_allowed) {
    start_server();
    const char *methods[] = {"PUT", "DELETE", "OPTIONS", "PATCH"};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(
            client_request(ebb_http_port(http), methods[i], "/", answer, sizeof(answer)), 405);
        ck_assert_ptr_nonnull(strstr(answer, "Allow: GET, HEAD, POST\r\n"));
    }
    stop_server();
}
END_TEST

START_TEST(an_address_that_cannot_be_read_is_400) {
    start_server();
    const char *paths[] = {"/%", "/%4", "/%zz", "/a%00b"};
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(
            client_request(ebb_http_port(http), "GET", paths[i], answer, sizeof(answer)), 400);
    char path[1500];
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = 0;
    ck_assert_int_eq(client_request(ebb_http_port(http), "GET", path, answer, sizeof(answer)), 400);
    stop_server();
}
END_TEST

START_TEST(a_body_or_header_above_the_limit_is_refused_and_the_server_goes_on) {
    start_server();
    static char text[200 * 1024];
    int head = snprintf(text, sizeof(text),
                        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    memset(text + head, 'b', 100000);
    ck_assert_int_ne(send_raw(text, (size_t)head + 100000), 200);
    head = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\nX-Long: ");
    memset(text + head, 'h', 20000);
    memcpy(text + head + 20000, "\r\n\r\n", 4);
    ck_assert_int_ne(send_raw(text, (size_t)head + 20004), 200);
    ck_assert_int_eq(client_request(ebb_http_port(http), "GET", "/", answer, sizeof(answer)), 200);
    stop_server();
}
END_TEST

/* Sends a request that keeps the connection, and reads the whole answer. */
static void ask_and_stay(int fd) {
    const char *text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (int)strlen(text));
    size_t used = 0;
    do {
        ssize_t got = client_read(fd, answer + used, sizeof(answer) - 1 - used);
        ck_assert_int_gt(got, 0);
        used += (size_t)got;
        answer[used] = 0;
    } while (strcmp(client_body(answer), "echo|/|-|-|get\n") != 0);
}

START_TEST(no_more_than_64_connections_are_accepted_and_the_rest_waits_its_turn) {
    start_server();
    int port = ebb_http_port(http), fds[MANY_CONNECTIONS];
    for (int i = 0; i < 64; i++) {
        fds[i] = client_connect(port);
        ask_and_stay(fds[i]);
    }
    /* All 64 are taken: this one sits in the kernel's backlog until one of them goes. */
    int waiting = client_connect(port);
    const char *text = "GET /waited HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    ck_assert_int_gt(send(waiting, text, strlen(text), MSG_NOSIGNAL), 0);
    struct pollfd poll_waiting = {.fd = waiting, .events = POLLIN};
    for (int i = 1; i < 64; i++) { /* the server answers the others meanwhile, and not this one */
        ask_and_stay(fds[i]);
        ck_assert_int_eq(poll(&poll_waiting, 1, 0), 0);
    }
    close(fds[0]);
    client_read_all(waiting, answer, sizeof(answer));
    ck_assert_str_eq(client_body(answer), "echo|/waited|-|-|get\n");
    close(waiting);
    for (int i = 1; i < 64; i++)
        close(fds[i]);
    for (int i = 0; i < MANY_CONNECTIONS; i++)
        ck_assert_int_eq(client_request(port, "GET", "/", answer, sizeof(answer)), 200);
    stop_server();
}
END_TEST

START_TEST(a_port_in_use_is_busy_and_says_which) {
    start_server();
    int port = ebb_http_port(http);
    struct ebb_loop *loop;
    ck_assert_int_eq(ebb_loop_new(&loop, "second"), EBB_OK);
    struct ebb_http *second = NULL;
    ck_assert_int_eq(ebb_http_open(&second, loop, "127.0.0.1", port), EBB_ERR_BUSY);
    char expected[128];
    snprintf(expected, sizeof(expected), "127.0.0.1 port %d is in use", port);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), expected));
    ck_assert_int_eq(ebb_http_open(&second, loop, "not an address", 0), EBB_ERR_SYSTEM);
    ck_assert_ptr_null(second);
    ebb_loop_close(loop);
    stop_server();
}
END_TEST

START_TEST(closing_leaves_nothing_open_and_nothing_leaked) {
    for (int i = 0; i < 3; i++) {
        start_server();
        int fd = client_connect(ebb_http_port(http)); /* still connected when the server closes */
        ck_assert_int_eq(client_request(ebb_http_port(http), "GET", "/", answer, sizeof(answer)),
                         200);
        stop_server();
        ck_assert_uint_eq(client_read_all(fd, answer, sizeof(answer)), 0);
        close(fd);
    }
    ebb_collect_fully(EBB_CAUSE_demand);
    ck_assert_uint_eq(ebb_leaks_count(), 0);
    ck_assert_uint_eq(ebb_resources_forgotten(), 0);
}
END_TEST

/* Calls of epoll_ctl for one request on a connection of its own, and some more. */
enum { WATCHES = 4 };

static int descriptors_open(void) {
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (readdir(folder))
        count++;
    closedir(folder);
    return count;
}

START_TEST(a_connection_that_cannot_be_watched_is_closed_and_the_server_goes_on) {
    start_server();
    int port = ebb_http_port(http);
    ck_assert_int_eq(client_request(port, "GET", "/", answer, sizeof(answer)), 200);
    int before = descriptors_open();
    for (int after = 0; after < WATCHES; after++)
        for (int count = 1; count < 4; count++) {
            refuse_watches(after, count);
            int status = client_request(port, "GET", "/", answer, sizeof(answer));
            ck_assert_msg(status == 200 || status == 0, "status %d", status);
            refuse_watches(0, 0);
            while (descriptors_open() > before) /* its end is to come */
                sched_yield();
        }
    ck_assert_int_eq(client_request(port, "GET", "/", answer, sizeof(answer)), 200);
    stop_server();
}
END_TEST

START_TEST(a_server_that_cannot_be_watched_is_not_opened) {
    struct ebb_loop *loop;
    struct ebb_http *none = NULL;
    ebb_loop_library_start();
    ok(ebb_loop_new(&loop, "test"));
    refuse_watches(0, 1);
    ck_assert_int_eq(ebb_http_open(&none, loop, "127.0.0.1", 0), EBB_ERR_LIMIT);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), "fs.epoll.max_user_watches"));
    ebb_loop_close(loop);
    ck_assert_uint_eq(ebb_resources_count(EBB_RESOURCE_listener), 0);
}
END_TEST

/* What is still being made when its reader hangs up. */
static struct {
    struct ebb_scope *scope;
    ebb_fd ends[2];
    sem_t ended;
    bool complete;
} made;

static bool made_ended(bool complete, void *whole) {
    made.complete = complete;
    sem_post(&made.ended);
    return whole != NULL;
}

static void begin_to_answer(struct ebb_http_request *request, void *whole) {
    made.scope = ebb_scope_new("made");
    ck_assert_int_eq(ebb_fd_pipe(made.ends, made.scope, "made"), EBB_OK);
    ck_assert_int_eq(write(ebb_fd_get(made.ends[1]), "begun", 5), 5);
    ebb_http_reply_from(request, 200, "text/plain", made.ends[0], made_ended, whole);
}

START_TEST(a_reader_that_hangs_up_before_the_end_leaves_nothing_behind) {
    sem_init(&made.ended, 0, 0);
    start_server();
    stop_server(); /* libevent has now what it keeps for good */
    uint64_t held_before = ebb_foreign_each(NULL, NULL);
    start_server();
    ebb_http_handle(http, begin_to_answer, NULL);
    int fd = client_connect(ebb_http_port(http));
    const char *text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    ck_assert_int_gt(send(fd, text, strlen(text), MSG_NOSIGNAL), 0);
    ck_assert_int_gt(client_read(fd, answer, sizeof(answer)), 0);
    close(fd);
    /* It may have closed its half alone: what is sent to it tells. */
    while (sem_trywait(&made.ended) != 0)
        if (write(ebb_fd_get(made.ends[1]), "more", 4) < 0)
            sched_yield();
    ck_assert(!made.complete);
    stop_server();
    ebb_scope_close(made.scope);
    ck_assert_uint_eq(ebb_foreign_each(NULL, NULL), held_before);
}
END_TEST

/* Asks, and reads while what is made comes to its end. */
static const char *read_what_is_made(bool whole, unsigned seconds) {
    sem_init(&made.ended, 0, 0);
    start_server();
    ebb_http_handle(http, begin_to_answer, whole ? (void *)"whole" : NULL);
    int fd = client_connect(ebb_http_port(http));
    const char *text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    ck_assert_int_gt(send(fd, text, strlen(text), MSG_NOSIGNAL), 0);
    ssize_t got = client_read(fd, answer, sizeof(answer));
    ck_assert_int_gt(got, 0);
    while (seconds > 0) /* the collector's signals interrupt it */
        seconds = sleep(seconds);
    ebb_fd_close(made.ends[1]);
    client_read_all(fd, answer + got, sizeof(answer) - (size_t)got);
    close(fd);
    ck_assert(made.complete);
    stop_server();
    ebb_scope_close(made.scope);
    return client_body(answer);
}

START_TEST(an_answer_that_was_cut_short_is_no_whole_one_to_its_reader) {
    ck_assert_str_eq(read_what_is_made(true, 0), "5\r\nbegun\r\n0\r\n\r\n");
    uint64_t held_before = ebb_foreign_each(NULL, NULL);
    ck_assert_str_eq(read_what_is_made(false, 0), "5\r\nbegun\r\n");
    ck_assert_uint_eq(ebb_foreign_each(NULL, NULL), held_before);
}
END_TEST

START_TEST(an_answer_may_take_longer_to_make_than_a_peer_may_be_silent) {
    ck_assert_str_eq(read_what_is_made(true, 11), "5\r\nbegun\r\n0\r\n\r\n");
}
END_TEST

#define LARGE_BYTES (4 << 20)

static void answer_much(struct ebb_http_request *request, void *arg) {
    static char kib[1024];
    (void)arg;
    memset(kib, 'x', sizeof(kib));
    for (int i = 0; i < LARGE_BYTES; i += (int)sizeof(kib))
        ebb_http_body(request)->write(ebb_http_body(request), kib, sizeof(kib));
    ebb_http_reply(request, 200, "text/plain");
}

/* Asks, closes its half, and reads to the end; returns the bytes after the headers. */
static size_t ask_and_close_half(const char *version) {
    static char all[LARGE_BYTES + 4096];
    char text[128];
    int fd = client_connect(ebb_http_port(http));
    int length = snprintf(text, sizeof(text), "GET / HTTP/%s\r\nHost: a\r\n\r\n", version);
    ck_assert_int_eq(send(fd, text, (size_t)length, MSG_NOSIGNAL), length);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    size_t got = client_read_all(fd, all, sizeof(all));
    close(fd);
    return got - (size_t)(client_body(all) - all);
}

START_TEST(who_has_closed_its_half_gets_the_whole_answer) {
    start_server();
    ebb_http_handle(http, answer_much, NULL);
    ck_assert_uint_eq(ask_and_close_half("1.1"), LARGE_BYTES);
    ck_assert_uint_eq(ask_and_close_half("1.0"), LARGE_BYTES);
    stop_server();
}
END_TEST

static void answer_much_by_and_by(struct ebb_http_request *request, void *whole) {
    made.scope = ebb_scope_new("made");
    ck_assert_int_eq(ebb_fd_pipe(made.ends, made.scope, "made"), EBB_OK);
    ebb_http_reply_from(request, 200, "text/plain", made.ends[0], made_ended, whole);
    sem_post(&is_open);
}

START_TEST(who_has_closed_its_half_gets_all_that_is_still_being_made) {
    static const char text[] = "GET / HTTP/1.0\r\n\r\n";
    static char all[LARGE_BYTES + 4096];
    sem_init(&made.ended, 0, 0);
    start_server();
    ebb_http_handle(http, answer_much_by_and_by, (void *)"whole");
    int fd = client_connect(ebb_http_port(http));
    ck_assert_int_gt(send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL), 0);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    while (sem_wait(&is_open) != 0)
        ;
    size_t got = 0;
    for (size_t wrote = 0; wrote < LARGE_BYTES;) { /* what is made waits for its reader */
        ssize_t took = write(ebb_fd_get(made.ends[1]), answer, 1024);
        if (took > 0)
            wrote += (size_t)took;
        else
            got += (size_t)client_read(fd, all + got, sizeof(all) - got);
    }
    ebb_fd_close(made.ends[1]);
    got += client_read_all(fd, all + got, sizeof(all) - got);
    ck_assert_uint_eq(got - (size_t)(client_body(all) - all), LARGE_BYTES);
    close(fd);
    ck_assert(made.complete);
    stop_server();
    ebb_scope_close(made.scope);
}
END_TEST

/* An answer that is kept back. */
static struct ebb_http_later *kept;
static sem_t kept_gone;

static void on_kept_gone(void *arg) {
    (void)arg;
    sem_post(&kept_gone);
}

static void keep(struct ebb_http_request *request, void *arg) {
    (void)arg;
    kept = ebb_http_keep(request, on_kept_gone, NULL);
    sem_post(&is_open);
}

static void answer_kept(void *arg) {
    (void)arg;
    ebb_write(ebb_http_later_body(kept), "at last");
    ebb_http_later_reply(kept, 200, "text/plain");
    kept = NULL;
}

START_TEST(an_answer_that_was_kept_comes_to_who_closed_its_half_and_who_left_is_noticed) {
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    static const char begun[] = "HTTP/1.1 102 Processing\r\n\r\n";
    sem_init(&kept_gone, 0, 0);
    for (int leaves = 0; leaves < 2; leaves++) {
        start_server();
        ebb_http_handle(http, keep, NULL);
        int fd = client_connect(ebb_http_port(http));
        ck_assert_int_gt(send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL), 0);
        while (sem_wait(&is_open) != 0)
            ;
        if (leaves)
            close(fd);
        else
            shutdown(fd, SHUT_WR);
        while (leaves && sem_wait(&kept_gone) != 0)
            ;
        size_t got = 0;
        while (!leaves && got < sizeof(begun) - 1)
            got += (size_t)client_read(fd, answer + got, sizeof(begun) - 1 - got);
        ebb_loop_post(ebb_worker_loop(workers, 0), answer_kept, NULL);
        if (!leaves) {
            ck_assert_mem_eq(answer, begun, sizeof(begun) - 1);
            client_read_all(fd, answer, sizeof(answer));
            ck_assert_str_eq(client_body(answer), "at last");
            close(fd);
        }
        stop_server();
    }
}
END_TEST

START_TEST(a_target_that_begins_with_two_slashes_is_a_path) {
    start_server();
    static const struct {
        const char *target, *path; /* NULL: 400 */
    } cases[] = {{"//readyz", "//readyz"},
                 {"///readyz", "///readyz"},
                 {"//a/b?name=c", "//a/b"},
                 {"/a#b", "/a"},
                 {"http://x/readyz", "/readyz"},
                 {"http://x", "/"},
                 {"http://x?name=1", "/"},
                 {"?name=c", NULL},
                 {"#", NULL},
                 {"/%2freadyz", "//readyz"},
                 {"readyz", NULL},
                 {"/a?name=b#c", "/a"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char expected[64];
        int status =
            client_request(ebb_http_port(http), "GET", cases[i].target, answer, sizeof(answer));
        ck_assert_msg(status == (cases[i].path ? 200 : 400), "%s: %d", cases[i].target, status);
        snprintf(expected, sizeof(expected), "echo|%s|", cases[i].path ? cases[i].path : "");
        ck_assert_msg(cases[i].path == NULL ||
                          strncmp(client_body(answer), expected, strlen(expected)) == 0,
                      "%s: %s", cases[i].target, answer);
    }
    stop_server();
}
END_TEST

START_TEST(http_1_1_has_one_host) {
    start_server();
    static const struct {
        const char *version, *headers;
        int status;
    } cases[] = {{"1.1", "Host: a\r\n", 200},
                 {"1.1", "", 400},
                 {"1.1", "Host: a\r\nHost: a\r\n", 400},
                 {"1.1", "hOST: [::1]:80\r\n", 200},
                 {"1.1", "Host: a b\r\n", 400},
                 {"1.1", "Host: a/b\r\n", 400},
                 {"1.0", "", 200},
                 {"1.0", "Host: a\r\n", 200},
                 {"1.0", "Host: a\r\nHost: b\r\n", 400}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[256];
        int length = snprintf(text, sizeof(text), "GET / HTTP/%s\r\n%sConnection: close\r\n\r\n",
                              cases[i].version, cases[i].headers);
        int status = send_raw(text, (size_t)length);
        ck_assert_msg(status == cases[i].status, "%s: %d", text, status);
    }
    stop_server();
}
END_TEST

/* One request, whatever becomes of it: 0 when there was no answer. An answer that has begun is
 * whole. */
static int ask_in_need(const char *path) {
    static char all[LARGE_BYTES + 4096];
    char text[128];
    size_t length, got;
    int status = 0, size = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path);
    int fd = client_connect(ebb_http_port(http));
    ck_assert_int_eq(send(fd, text, (size_t)size, MSG_NOSIGNAL), size);
    shutdown(fd, SHUT_WR);
    got = client_read_all(fd, all, sizeof(all));
    close(fd);
    if (got == 0)
        return 0;
    ck_assert_msg(sscanf(all, "HTTP/1.1 %d ", &status) == 1, "%.200s", all);
    const char *told = strstr(all, "Content-Length: ");
    if (status == 200 || told) {
        ck_assert_msg(told && sscanf(told, "Content-Length: %zu", &length) == 1, "%.400s", all);
        ck_assert_uint_eq(got - (size_t)(client_body(all) - all), length);
    }
    return status;
}

START_TEST(whatever_memory_libevent_is_refused_an_answer_is_whole_or_none_and_the_server_goes_on) {
    start_server();
    ck_assert_int_eq(ask_in_need("/"), 200); /* libevent has now what it keeps for good */
    static const struct {
        int count;
        size_t least;
    } refusals[] = {{1, 0}, {3, 0}, {16, 0}, {1, 1025}, {1000000, 1025}};
    for (size_t kind = 0; kind < sizeof(refusals) / sizeof(refusals[0]); kind++) {
        bool untouched = false;
        for (int passes = 0; !untouched; passes++) {
            atomic_store(&memory_least, refusals[kind].least);
            atomic_store(&memory_passes, passes);
            atomic_store(&memory_refusals, refusals[kind].count);
            ask_in_need("/a?name=b");
            untouched = atomic_exchange(&memory_refusals, 0) == refusals[kind].count;
            ck_assert_int_eq(ask_in_need("/"), 200);
        }
    }
    stop_server();
}
END_TEST

START_TEST(a_page_that_finds_no_memory_is_503_and_a_small_one_needs_none) {
    start_server();
    ebb_http_handle(http, answer_much, NULL);
    ck_assert_int_eq(ask_in_need("/"), 200);
    atomic_store(&pages_refused, true);
    ck_assert_int_eq(ask_in_need("/"), 503);
    ebb_http_handle(http, echo, (void *)"echo");
    ck_assert_int_eq(ask_in_need("/"), 200);
    atomic_store(&pages_refused, false);
    ebb_http_handle(http, answer_much, NULL);
    ck_assert_int_eq(ask_in_need("/"), 200);
    stop_server();
}
END_TEST

HARNESS_MAIN_COLLECTED(
    "http", path_query_header_and_method_arrive_decoded, head_has_the_length_and_no_body,
    other_methods_hear_405_and_what_is_allowed, an_address_that_cannot_be_read_is_400,
    a_body_or_header_above_the_limit_is_refused_and_the_server_goes_on,
    no_more_than_64_connections_are_accepted_and_the_rest_waits_its_turn,
    a_port_in_use_is_busy_and_says_which, closing_leaves_nothing_open_and_nothing_leaked,
    a_connection_that_cannot_be_watched_is_closed_and_the_server_goes_on,
    a_server_that_cannot_be_watched_is_not_opened,
    a_reader_that_hangs_up_before_the_end_leaves_nothing_behind,
    an_answer_that_was_cut_short_is_no_whole_one_to_its_reader,
    an_answer_may_take_longer_to_make_than_a_peer_may_be_silent,
    who_has_closed_its_half_gets_the_whole_answer,
    who_has_closed_its_half_gets_all_that_is_still_being_made,
    an_answer_that_was_kept_comes_to_who_closed_its_half_and_who_left_is_noticed,
    a_target_that_begins_with_two_slashes_is_a_path, http_1_1_has_one_host,
    whatever_memory_libevent_is_refused_an_answer_is_whole_or_none_and_the_server_goes_on,
    a_page_that_finds_no_memory_is_503_and_a_small_one_needs_none)

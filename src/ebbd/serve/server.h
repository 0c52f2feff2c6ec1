/* server -- the whole of the daemon: store, workers, listeners; conn -- one client. */
#ifndef EBBD_SERVE_SERVER_H
#define EBBD_SERVE_SERVER_H

#include "cmd/cmd.h"
#include "cmd/metrics.h"
#include "timing.h"

#include <ebb/daemon.h>
#include <ebb/list.h>
#include <ebb/listener.h>
#include <ebb/mem.h>
#include <pthread.h>
#include <ebb/worker.h>

#define EBB_TYPE EBB_TYPE_DECLARE
#include "tbl/types.def"

#define SERVER_LISTENERS_MAX 64
#define STATION_READ_SIZE    (16 * 1024) /* bytes that one read takes, besides a data block */

struct server;
struct udp;

/* What a worker thread lends each of its connections for a slice. Only its thread touches it. */
struct worker {
    struct server *server;
    struct ebb_loop *loop;
    struct cmd_context cmd;
    struct reply reply; /* empty between slices */
    char *in;           /* pointer-free; empty between slices */
    size_t in_size;
    struct ebb_list conns; /* all of this thread's */
    struct ebb_list later; /* those that had to let others go first */
    bool later_posted;
    struct ebb_timer *idle_timer; /* NULL: nobody is closed for being idle */
    bool closing;                 /* the daemon stops: take no more */
    bool draining;                /* it will stop: connections go as soon as they are idle */
    struct timing timing;
    struct metrics_worker metrics;
};

struct server {
    struct cmd_shared shared;
    struct ebb_loop *loop; /* the main one */
    struct ebb_workers *workers;
    struct worker **worker_list;
    int workers_count, worker_next;
    struct ebb_listener *listeners[SERVER_LISTENERS_MAX];
    int listeners_count;
    struct udp *udp[SERVER_LISTENERS_MAX];
    int udp_count;
    struct ebb_scope *udp_scope; /* NULL: none yet */
    _Atomic uint64_t conns;      /* open or on their way to a worker */
    _Atomic bool paused;         /* the limit of connections is reached */
    _Atomic bool resuming;       /* and is not any more, which the main loop will hear */
    uint64_t paused_ns;          /* since when; the main loop's */
    bool house_is_on; /* the store has more to tidy up in coming slices; the main loop's */
    bool draining;
    /* The search for the oldest idle connection, see idle.c. */
    struct {
        pthread_mutex_t mutex;
        _Atomic int asked; /* 1 while a search runs */
        int waiting;       /* workers that have not answered */
        struct worker *worker;
        uint64_t used_ns;
    } shed;
};

/* Opens everything that settings ask for; what the system does not allow is lowered in them. On
 * failure nothing is left open. */
enum ebb_err server_open(struct settings *settings, size_t limit_bytes,
                         struct ebb_loop *loop) EBB_MUST_CHECK;
void server_close(void);
/* Takes no more connections, closes those that are idle and the others as soon as they are. True:
 * none is left. Call it again until then. */
bool server_drain(void);
/* What the cache may use, and what it uses; and to use at most target from now on. */
void server_memory_read(size_t *target, size_t *used);
bool server_memory_set(size_t target);
/* Each second, on the main loop. */
void server_tick(void);
/* Says where it listens and how to try it. */
void server_tell(const struct ebb_daemon *daemon);
/* An object, or NULL. Where the system has no memory for it, items leave first. Any thread; no room
 * of the store's may be under construction by it. */
void *server_try(struct server *server, struct ebb_type *type, size_t size);
/* Where the system gives no more memory, items leave until the reserve is whole. Cheap else. Any
 * thread. */
void server_relieve(struct server *server);
/* A connection was closed. Any thread. */
void server_conn_gone(struct server *server);

/* listen.c: opens the listeners of the settings; on failure some may be open. */
enum ebb_err listen_open(struct server *server) EBB_MUST_CHECK;
void listen_pause(struct server *server, bool paused);
void listen_close(struct server *server);
/* "127.0.0.1:11211, ..." for the log. */
void listen_describe(const struct server *server, struct ebb_writer *writer);

/* alarms.c: the daemon's rows, and what they look at. */
extern struct ebb_alarm *const alarms_rows[];
extern const size_t alarms_rows_count;
void alarms_prepare(void);

/* udp.c: sockets for datagrams, each with a worker; on failure some may be open. */
enum ebb_err udp_open(struct server *server, const char *host, int port) EBB_MUST_CHECK;
void udp_add_to_conn_list(const struct server *server);
/* That of the first socket; 0: there is none. */
int udp_port(const struct server *server);
/* Those of the worker take no more. When: its thread. */
void udp_stop(struct worker *worker);
/* When: after the workers have stopped. */
void udp_close(struct server *server);

/* conn_list.c: sockets that `stats conns` lists before the connections. used_ns, NULL for a
 * listener: when a request came last; 0: none yet. */
void conn_list_add_socket(int fd, const uint64_t *used_ns);
/* When: before they are closed. */
void conn_list_forget_sockets(void);
void conn_list_each_socket(void (*see)(int fd, void *context), void *context);

/* ports.c: writes the file that $MEMCACHED_PORT_FILENAME names, as user; without one nothing. When:
 * the conn_list has the sockets. */
enum ebb_err ports_write(const char *user) EBB_MUST_CHECK;

/* status.c: the daemon's members of /debug/status, and its page /debug/slow. */
void status_write(const struct server *server, struct ebb_writer *writer);
void status_pages_add(struct server **server);
/* The same, of the server that is open. */
void server_status(struct ebb_writer *writer);

/* idle.c: closes the connection that has been idle longest (arg: the server); closes all idle ones
 * and says whether none is left. Main loop. */
void leave_one(void *arg);
bool leave_all(struct server *server);

struct conn;

/* Takes an accepted connection to one of the workers. False: there is no memory for it, and it is
 * closed. When: main thread. */
bool conn_accept(struct worker *worker, ebb_fd fd);
/* Closes those that were idle for longer than --idle-timeout. When: its thread. */
void conn_close_idle(struct worker *worker);
/* Closes all of a worker's. When: its thread. */
void conn_close_all(struct worker *worker);

#endif

/* idle -- connections that must leave although their peers did not ask for it: the one that has
 * been idle longest, when descriptors have run out; those that were idle for longer than
 * --idle-timeout; all that are idle, when the daemon ends.
 *
 * A connection belongs to its worker, and only that thread knows how long it has been idle. So each
 * worker is asked for its oldest; the last to answer tells the winner's worker to close it.
 *
 * 1. Nobody is cut off in the middle of a request, but by --idle-timeout who stopped within a line.
 * While a block or an answer is on its way, a peer is not idle, however long it pauses.
 * 2. One search at a time. */
#include "conn.h"

#include "cmd/events.h"
#include "cmd/metrics.h"

#include <ebb/clock.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>

#define IDLE_LEAST_NS EBB_NS_PER_SECOND /* who asked something a moment ago is not idle */
#define PEER_TEXT     64

static struct conn *oldest_idle(const struct worker *worker, uint64_t now_ns) {
    struct conn *oldest = NULL;
    EBB_LIST_EACH (&worker->conns, link) {
        struct conn *conn = EBB_LIST_ENTRY(link, struct conn, link);
        if (conn_is_idle(conn) && conn->used_ns + IDLE_LEAST_NS < now_ns &&
            (oldest == NULL || conn->used_ns < oldest->used_ns))
            oldest = conn;
    }
    return oldest;
}

static void close_oldest(void *arg) {
    struct worker *worker = arg;
    struct server *server = worker->server;
    uint64_t now_ns = ebb_clock_ns();
    struct conn *conn = oldest_idle(worker, now_ns);
    if (conn) {
        char peer[PEER_TEXT];
        ebb_fd_note(conn->fd, peer, sizeof(peer));
        ebb_count(&ebb_metric_shed, 1);
        ebb_log_event(shed, peer, (now_ns - conn->used_ns) / EBB_NS_PER_SECOND);
        conn_close(conn);
    }
    atomic_store(&server->shed.asked, 0);
}

static void answer(void *arg) {
    struct worker *worker = arg;
    struct server *server = worker->server;
    struct conn *mine = oldest_idle(worker, ebb_clock_ns());
    pthread_mutex_lock(&server->shed.mutex);
    if (mine && (server->shed.worker == NULL || mine->used_ns < server->shed.used_ns)) {
        server->shed.worker = worker;
        server->shed.used_ns = mine->used_ns;
    }
    bool last = --server->shed.waiting == 0;
    struct worker *winner = server->shed.worker;
    pthread_mutex_unlock(&server->shed.mutex);
    if (!last)
        return;
    if (winner)
        ebb_loop_post(winner->loop, close_oldest, winner);
    else
        atomic_store(&server->shed.asked, 0);
}

void leave_one(void *arg) {
    struct server *server = arg;
    if (atomic_exchange(&server->shed.asked, 1) != 0)
        return;
    pthread_mutex_lock(&server->shed.mutex);
    server->shed.worker = NULL;
    server->shed.waiting = server->workers_count;
    pthread_mutex_unlock(&server->shed.mutex);
    for (int i = 0; i < server->workers_count; i++)
        ebb_loop_post(server->worker_list[i]->loop, answer, server->worker_list[i]);
}

static void drain(void *arg) {
    struct worker *worker = arg;
    worker->draining = true;
    EBB_LIST_EACH (&worker->conns, link) {
        struct conn *conn = EBB_LIST_ENTRY(link, struct conn, link);
        if (conn_is_idle(conn))
            conn_close(conn);
    }
}

bool leave_all(struct server *server) {
    if (!server->draining) {
        server->draining = true;
        listen_close(server);
        for (int i = 0; i < server->workers_count; i++)
            ebb_loop_post(server->worker_list[i]->loop, drain, server->worker_list[i]);
    }
    return atomic_load(&server->conns) == 0;
}

/* The kernel may hold megabytes that the peer has not taken, after all was sent. */
static bool takes_or_gives(const struct conn *conn) {
    int untaken = 0;
    if (conn->in_block || conn->backlog || conn->stream || conn->later.next)
        return true;
    return ioctl(ebb_fd_get(conn->fd), SIOCOUTQ, &untaken) == 0 && untaken > 0;
}

void conn_close_idle(struct worker *worker) {
    uint64_t now_ns = ebb_loop_now_ns(worker->loop);
    /* One second more, as in memcached: used_ns is when an iteration began, not when it ended, and
     * nobody is closed early. */
    uint64_t idle_ns = (worker->server->shared.settings->idle_seconds_max + 1) * EBB_NS_PER_SECOND;
    EBB_LIST_EACH (&worker->conns, link) {
        struct conn *conn = EBB_LIST_ENTRY(link, struct conn, link);
        if (now_ns < conn->used_ns + idle_ns)
            continue;
        if (takes_or_gives(conn)) {
            conn->used_ns = now_ns; /* its time begins when that is over */
            continue;
        }
        ebb_count(&ebb_metric_idle_closed, 1);
        conn->reason = WATCH_IDLE_TIMEOUT;
        conn_close(conn);
    }
}
